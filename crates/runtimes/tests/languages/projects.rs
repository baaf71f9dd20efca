//! Programs as people write them: several files, odd names, arguments.

use crate::host::{catalogue, program, run};

struct Project {
    language: &'static str,
    what: &'static str,
    files: &'static [(&'static str, &'static str)],
    args: &'static [&'static str],
    stdout: &'static str,
}

/// `language: what; args -> stdout; files`.
macro_rules! projects {
    ($($language:literal, $what:literal, $args:expr => $stdout:literal, { $($name:literal: $text:literal,)+ })+) => {
        &[$(Project { language: $language, what: $what, args: &$args, stdout: $stdout, files: &[$(($name, $text)),+] }),+]
    };
}

const PROJECTS: &[Project] = projects! {
    "c", "a header beside two sources, one without a name", ["x"] => "42 x\n", {
        "file0.code": "#include <stdio.h>\n#include \"answer.h\"\nint main(int c, char **v) { printf(\"%d %s\\n\", answer(), v[1]); }",
        "answer.h": "int answer(void);",
        "lib/answer.c": "#include \"answer.h\"\nint answer(void) { return 42; }",
        "notes.txt": "not C at all",
    }
    "c", "a name that looks like an option", [] => "ok\n", { "-o": "#include <stdio.h>\nint main() { puts(\"ok\"); }", }
    "c", "a name that looks like a file of options", [] => "ok\n", { "@x.c": "#include <stdio.h>\nint main() { puts(\"ok\"); }", }
    "c++", "a template in a header, a source in C", [] => "3 7\n", {
        "main.cpp": "#include <iostream>\n#include \"add.hpp\"\nint seven();\nint main() { std::cout << add(1, 2) << ' ' << seven() << '\\n'; }",
        "add.hpp": "#pragma once\ntemplate <class T> T add(T a, T b) { return a + b; }",
        "seven.c": "int seven() { return 7; }",
    }
    "java", "a public class in a file of another name", ["a b"] => "a b\n", {
        "main.java": "public class Solution { public static void main(String[] args) { System.out.println(args[0]); } }",
    }
    "java", "a file without a name, the entry point not in the first class", [] => "7\n", {
        "file0.code": "class Helper { static int seven() { return 7; } }\nclass Program { public static void main(String... a) { System.out.println(Helper.seven()); } }",
    }
    "java", "packages", [] => "deep\n", {
        "src/app/Main.java": "package app;\nimport app.parts.Part;\npublic class Main { public static void main(String[] a) { System.out.println(new Part()); } }",
        "src/app/parts/Part.java": "package app.parts;\npublic class Part { public String toString() { return \"deep\"; } }",
    }
    "python", "a package and a module beside", ["1", "2"] => "['1', '2'] deep\n", {
        "main.py": "import sys\nfrom tools.words import word\nprint(sys.argv[1:], word())",
        "tools/__init__.py": "",
        "tools/words.py": "from .depth import DEPTH\ndef word(): return DEPTH",
        "tools/depth.py": "DEPTH = 'deep'",
    }
    "python", "a name that looks like an option", [] => "ok\n", { "-c": "print('ok')", }
    "javascript", "modules of both kinds", [] => "42\n", {
        "main.mjs": "import { answer } from './lib/answer.mjs';\nconsole.log(answer + require_one());\nimport { createRequire } from 'module';\nfunction require_one() { return createRequire(import.meta.url)('./one.js'); }",
        "lib/answer.mjs": "export const answer = 41;",
        "one.js": "module.exports = 1;",
    }
    "javascript", "a file without a name", ["x"] => "x\n", { "file0.code": "console.log(process.argv[2])", }
    "typescript", "modules, Node's own among them", ["x"] => "42 x\n", {
        "file0.code": "import { readFileSync } from 'fs';\nimport { answer } from './lib/answer';\nconst n: number = answer();\nreadFileSync(__filename);\nconsole.log(n, process.argv[2]);",
        "lib/answer.ts": "export function answer(): number { return 42; }",
    }
    "typescript", "names that a browser has taken", [] => "1 Ann\n", {
        "main.ts": "class Node { constructor(public value: number) {} }\nconst name: string = 'Ann';\nsetTimeout(() => console.log(new Node(1).value, name), 1);",
    }
    "go", "a module with a package in a sub-directory", ["x"] => "42 x\n", {
        "main.go": "package main\nimport (\"fmt\"; \"os\"; \"example.com/app/answer\")\nfunc main() { fmt.Println(answer.Get(), os.Args[1]) }",
        "go.mod": "module example.com/app\n\ngo 1.19\n",
        "answer/answer.go": "package answer\nfunc Get() int { return 42 }",
    }
    "go", "no go.mod, two files, a package in a sub-directory", [] => "42\n", {
        "file0.code": "package main\nimport (\"fmt\"; \"app/answer\")\nfunc main() { fmt.Println(answer.Get() + one()) }",
        "one.go": "package main\nfunc one() int { return 1 }",
        "answer/answer.go": "package answer\nfunc Get() int { return 41 }",
    }
    "rust", "modules beside", ["x"] => "42 x\n", {
        "file0.code": "mod answer;\nfn main() { println!(\"{} {}\", answer::get(), std::env::args().nth(1).unwrap()); }",
        "answer.rs": "pub fn get() -> i32 { 42 }",
    }
    "haskell", "a module in a directory", [] => "42\n", {
        "file0.code": "import Data.Answer (answer)\nmain :: IO ()\nmain = print answer",
        "Data/Answer.hs": "module Data.Answer (answer) where\nanswer :: Int\nanswer = 42",
    }
    "ocaml", "modules and an interface in any order", [] => "42\n", {
        "main.ml": "let () = print_int (Second.answer ()); print_newline ()",
        "second.ml": "(* Main is not used here *)\nlet answer () = First.one + 41",
        "second.mli": "val answer : unit -> int",
        "first.ml": "let one = 1",
    }
    "pascal", "a unit beside, no extension", [] => "42\n", {
        "prog": "program Prog; uses Answer; begin WriteLn(TheAnswer) end.",
        "answer.pas": "unit Answer; interface function TheAnswer: Integer; implementation function TheAnswer: Integer; begin TheAnswer := 42 end; end.",
    }
    "fortran", "a module in a later file", [] => "42\n", {
        "main.f90": "program p\n use answers, only: answer\n implicit none\n print '(I0)', answer()\nend program",
        "answers.f90": "module answers\ncontains\n integer function answer()\n answer = 42\n end function\nend module",
    }
    "kotlin", "a file without a name, and another", ["x"] => "42 x\n", {
        "file0.code": "fun main(args: Array<String>) { println(\"${answer()} ${args[0]}\") }",
        "answer.kt": "fun answer() = 42",
    }
    "scala", "an object with a main in a package", ["x"] => "42 x\n", {
        "main.scala": "package app\nobject Main { def main(args: Array[String]): Unit = println(Answer.get + \" \" + args(0)) }",
        "Answer.scala": "package app\nobject Answer { def get = 42 }",
    }
    "groovy", "a script that uses a class in another file", ["x"] => "42 x\n", {
        "my-script.groovy": "println \"${new Answer().get()} ${args[0]}\"",
        "Answer.groovy": "class Answer { int get() { 42 } }",
    }
    "groovy", "a class with a main", [] => "ok\n", {
        "file0.code": "class Program { static void main(String[] args) { println 'ok' } }",
    }
    "csharp", "two files", ["x"] => "42 x\n", {
        "file0.code": "using System; class P { static void Main(string[] a) { Console.WriteLine(Answer.Get() + \" \" + a[0]); } }",
        "Answer.cs": "static class Answer { public static int Get() { return 42; } }",
    }
    "d", "a module beside", [] => "42\n", {
        "file0.code": "module main;\nimport std.stdio, answer;\nvoid main() { writeln(get()); }",
        "answer.d": "module answer;\nint get() { return 42; }",
    }
    "cobol", "a called program in another file", [] => "called\n", {
        "main.cob": "identification division.\nprogram-id. app.\nprocedure division.\n    call \"other\".\n    stop run.\n",
        "other.cob": "identification division.\nprogram-id. other.\nprocedure division.\n    display \"called\".\n    goback.\n",
    }
    "nasm64", "two sources", [] => "hi\n", {
        "main.asm": "extern text\nglobal _start\nsection .text\n_start: mov rax, 1\nmov rdi, 1\nmov rsi, text\nmov rdx, 3\nsyscall\nmov rax, 60\nxor rdi, rdi\nsyscall",
        "text.asm": "global text\nsection .data\ntext: db \"hi\", 10",
    }
    "sqlite3", "arguments are a table; an awkward name", ["it's", "2"] => "it's|2\n", {
        "my \"q\".sql": "select group_concat(arg, '|') from argv;",
    }
    "awk", "arguments are files", ["data.txt"] => "b\n", { "main.awk": "{ print $2 }", "data.txt": "a b c\n", }
    "bash", "a script beside, arguments", ["x y"] => "x y!\n", { "main.sh": ". ./lib.sh; shout \"$1\"", "lib.sh": "shout() { echo \"$1!\"; }", }
    "perl", "a module beside", [] => "42\n", {
        "main.pl": "use FindBin; use lib $FindBin::Bin; use Answer; print Answer::get(), \"\\n\";",
        "Answer.pm": "package Answer; sub get { 42 } 1;",
    }
    "ruby", "a file beside", ["x"] => "42 x\n", { "main.rb": "require_relative 'answer'\nputs \"#{answer} #{ARGV[0]}\"", "answer.rb": "def answer = 42", }
    "php", "a file beside", ["x"] => "42 x\n", { "main.php": "<?php require 'answer.php'; echo answer(), ' ', $argv[1], \"\\n\";", "answer.php": "<?php function answer() { return 42; }", }
    "lua", "a module beside", ["x"] => "42 x\n", { "main.lua": "print(require('answer').get() .. ' ' .. arg[1])", "answer.lua": "return { get = function() return 42 end }", }
    "prolog", "a goal with halt, arguments", ["x"] => "[x]\n", { "main.pl": ":- current_prolog_flag(argv, A), print(A), nl, halt.", }
    "erlang", "the first line counts; arguments", ["x"] => "x\n", { "main.erl": "main([A]) -> io:format(\"~s~n\", [A]).", }
    "erlang", "a script line", [] => "ok\n", { "main.erl": "#!/usr/bin/env escript\nmain(_) -> io:format(\"ok~n\").", }
    "elixir", "arguments", ["x"] => "x\n", { "file0.code": "IO.puts(hd(System.argv()))", }
    "lisp", "arguments", ["x"] => "x\n", { "file0.code": "(write-line (car (last sb-ext:*posix-argv*)))", }
    "octave", "arguments", ["x"] => "x\n", { "main.m": "disp(argv(){1})", }
    "octave", "a file without a name", [] => "3\n", { "file0.code": "disp(1 + 2)", }
    "rscript", "arguments and a file beside", ["x"] => "x 42\n", { "main.r": "source('answer.r'); cat(commandArgs(TRUE), answer(), '\\n', sep=c(' ', ''))", "answer.r": "answer <- function() 42", }
    "racket", "a module beside, arguments", ["x"] => "42 x\n", {
        "main.rkt": "#lang racket\n(require \"answer.rkt\")\n(printf \"~a ~a\\n\" answer (vector-ref (current-command-line-arguments) 0))",
        "answer.rkt": "#lang racket\n(provide answer)\n(define answer 42)",
    }
    "racket", "a file without a name", [] => "3\n", { "file0.code": "#lang racket\n(displayln (+ 1 2))", }
    "clojure", "arguments", ["x"] => "x\n", { "main.clj": "(println (first *command-line-args*))", }
    "tcl", "arguments", ["x"] => "x\n", { "main.tcl": "puts [lindex $argv 0]", }
};

#[test]
fn programs_as_people_write_them_compile_and_run() {
    let catalogue = catalogue();
    let mut failures = Vec::new();
    for project in PROJECTS {
        let Some(runtime) = catalogue.resolve(project.language, "*") else {
            println!("{}: not installed, skipped", project.language);
            continue;
        };
        let answer = run(&catalogue, &runtime, program(project.files, project.args));
        if !answer.success || answer.stdout != project.stdout || !answer.stderr.is_empty() {
            failures.push(format!(
                "{}, {}: stdout {:?} (expected {:?}), stderr {:?}",
                project.language, project.what, answer.stdout, project.stdout, answer.stderr
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
