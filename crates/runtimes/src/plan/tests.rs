use std::sync::Arc;

use semver::Version;

use super::*;
use crate::{catalogue::embedded, definition::Definition};

const MIB: u64 = 1 << 20;

fn runtime(language: &str) -> Runtime {
    let definitions = embedded().expect("embedded definitions are right");
    let definition: Definition = definitions.into_iter().find(|definition| definition.language == language).expect("the language");
    Runtime::new(Arc::new(definition), Version::new(1, 19, 8))
}

fn limits(memory_bytes: u64) -> Limits {
    Limits {
        wall_ms: 3000,
        cpu_ms: 3000,
        memory_bytes,
        processes: 64,
        open_files: 64,
        file_size_bytes: MIB,
        output_bytes: None,
        cpu_milli: 1000,
    }
}

/// A file is its name, or `name!` for one that is not code, or `name=content`.
fn program(files: &[&str], args: &[&str]) -> Program {
    let file = |text: &&str| {
        let (name, content) = text.split_once('=').unwrap_or((text, ""));
        let (name, code) = name.strip_suffix('!').map_or((name, true), |name| (name, false));
        ProgramFile { path: RelativePath::new(name).expect("a name"), content: content.into(), code }
    };
    Program {
        id: ExecutionId::from_bits(1),
        files: files.iter().map(file).collect(),
        main: 0,
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        stdin: Stdin::Bytes(b"input".to_vec()),
        compile: limits(1024 * MIB),
        run: limits(512 * MIB),
        disk: DiskLimits { bytes: MIB, inodes: 100 },
    }
}

fn plan(language: &str, files: &[&str], args: &[&str]) -> Job {
    runtime(language).plan(program(files, args)).expect("a plan")
}

/// The commands with their programs' directories left out, one line per stage.
fn commands(job: &Job) -> Vec<String> {
    job.stages
        .iter()
        .map(|stage| stage.argv.join(" ").replace("/usr/bin/", "").replace("/usr/lib/jvm/default-java/bin/", ""))
        .collect()
}

#[test]
fn interpreters_get_the_main_file_and_the_arguments() {
    for (language, files, command) in [
        ("python", ["main.py", "lib.py"], "python3 main.py a b"),
        ("python", ["-c", "lib.py"], "python3 ./-c a b"),
        ("python", ["src/main.py", "lib.py"], "python3 src/main.py a b"),
        ("javascript", ["file0.code", "x"], "node --max-old-space-size=512 file0.code a b"),
        ("perl", ["|x", "y"], "perl ./|x a b"),
        ("awk", ["x=1", "y"], "gawk -f x a b"),
        ("bash", ["main.sh", "y"], "bash main.sh a b"),
        ("prolog", ["main.pl", "y"], "swipl -g true -t halt main.pl -- a b"),
        ("file", ["prog", "y"], "./prog a b"),
    ] {
        assert_eq!(commands(&plan(language, &files, &["a", "b"])), [command], "{language}");
    }
}

#[test]
fn translation_units_are_code_files_with_an_extension_of_the_language_or_none() {
    for (language, files, compile) in [
        (
            "c",
            &["main.c", "util.c", "util.h", "lib/x.C", "data.txt", "raw.c!"][..],
            "gcc -std=c11 -I. -o a.out main.c util.c lib/x.C -lm",
        ),
        ("c", &["file0.code", "file1.code", "Makefile"], "gcc -std=c11 -I. -o a.out file0.c file1.c Makefile.c -lm"),
        ("c", &["h.h", "main.c"], "gcc -std=c11 -I. -o a.out main.c -lm"),
        ("c", &["prog.txt"], "gcc -std=c11 -I. -o a.out prog.txt.c -lm"),
        ("c", &["-o", "@x.c"], "gcc -std=c11 -I. -o a.out ./-o.c ./@x.c -lm"),
        ("c", &["main.c", "main.c"], "gcc -std=c11 -I. -o a.out main.c -lm"),
        ("c", &["file0.code", "file0.c"], "gcc -std=c11 -I. -o a.out file0.code file0.c -lm"),
        ("c++", &["a.cc", "b.cpp", "c.hpp", "d.c"], "g++ -std=c++17 -I. -o a.out a.cc b.cpp d.c -lm"),
        ("fortran", &["main.f90=use b", "b.f90=module b", ".x"], "gfortran -o a.out b.f90 main.f90"),
        ("ocaml", &["m.ml=A.x", "a.mli", "a.ml=B.y", "b.ml"], "ocamlopt -I +unix -o a.out unix.cmxa str.cmxa a.mli b.ml a.ml m.ml"),
        ("rust", &["file0.code", "util.rs"], "rustc --edition 2021 --crate-name main -C strip=debuginfo -o a.out file0.rs"),
        ("haskell", &["Main", "Lib.hs"], "ghc -v0 -clear-package-db -package-db /opt/greenroom/haskell -o a.out Main.hs"),
        ("go", &["cmd/app/main.go", "go.mod"], "go build -o a.out ./cmd/app"),
        ("go", &["main.go"], "go build -o a.out ."),
        ("nasm64", &["a.asm", "b.asm"], "/opt/greenroom/nasm64/build a.asm b.asm"),
    ] {
        let job = plan(language, files, &["x"]);
        assert_eq!(commands(&job), [compile, "./a.out x"], "{language}");
    }
}

#[test]
fn a_virtual_machine_is_started_with_the_class_found_and_the_memory_given() {
    let main = "src/x.java=package p; public class Main { public static void main(String[] a) {} }";
    let job = plan("java", &[main, "Other.java=class Other {}"], &["a b"]);
    let commands = commands(&job);
    assert!(commands[0].ends_with("-d . -cp . src/Main.java Other.java"), "{commands:?}");
    assert!(commands[0].contains("-J-XX:MaxRAM=1024m"), "{commands:?}");
    assert!(commands[1].ends_with("-cp . p.Main a b") && commands[1].contains(" -XX:MaxRAM=512m "), "{commands:?}");
    assert_eq!(job.files[0].path.as_str(), "src/Main.java");

    for (language, file, last) in [
        ("kotlin", "app.code=fun main() {}", "AppKt"),
        ("scala", "x=object Hello extends App", "Hello"),
        ("groovy", "my-x.groovy=println 1", "my_x"),
        ("java", "file0.code=class A {}", "A"),
    ] {
        let job = plan(language, &[file], &[]);
        assert_eq!(job.stages[1].argv.last().map(String::as_str), Some(last), "{language}");
    }
}

/// Where the first file has no entry point, another may.
#[test]
fn the_entry_point_may_be_in_a_later_file() {
    let job = plan("java", &["A.java=class A {}", "B.java=class B { public static void main(String[] a) {} }"], &[]);
    assert_eq!(job.stages[1].argv.last().map(String::as_str), Some("B"));
}

#[test]
fn the_environment_is_exact() {
    let expected = |own: &[(&str, &str)], language| {
        let common = [
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("HOME", "/tmp"),
            ("PISTON_LANGUAGE", language),
            ("PWD", "/box/submission"),
            ("LANG", "C.UTF-8"),
        ];
        common.iter().chain(own).map(|(name, value)| (name.to_string(), value.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(plan("python", &["x"], &[]).stages[0].env, expected(&[], "python"));
    let erlang = [("ERL_FLAGS", "+S 1:1 +SDcpu 1:1 +SDio 1")];
    assert_eq!(plan("erlang", &["x"], &[]).stages[0].env, expected(&erlang, "erlang"));
}

#[test]
fn limits_and_input_go_to_their_stages() {
    let job = plan("c", &["main.c"], &["x"]);
    assert_eq!(job.stages.iter().map(|stage| stage.kind).collect::<Vec<_>>(), [StageKind::Compile, StageKind::Run]);
    assert_eq!(job.stages[0].limits, limits(1024 * MIB));
    assert_eq!(job.stages[1].limits, limits(512 * MIB));
    assert_eq!(job.stages[0].stdin, Stdin::Bytes(Vec::new()));
    assert_eq!(job.stages[1].stdin, Stdin::Bytes(b"input".to_vec()));
    assert_eq!(job.disk, DiskLimits { bytes: MIB, inodes: 100 });
}

#[test]
fn only_a_ready_program_is_executable() {
    let job = plan("file", &["prog", "data"], &[]);
    assert_eq!(job.files.iter().map(|file| file.executable).collect::<Vec<_>>(), [true, false]);
    assert!(plan("bash", &["main.sh"], &[]).files.iter().all(|file| !file.executable));
}

#[test]
fn a_go_program_without_a_module_gets_one() {
    let module = |files: &[&str]| {
        let job = plan("go", files, &[]);
        let file = job.files.into_iter().rev().find(|file| file.path.as_str() == "go.mod").expect("a go.mod");
        String::from_utf8(file.content).expect("text")
    };
    assert_eq!(module(&["main.go=package main"]), "module main\n\ngo 1.19\n");
    assert_eq!(module(&["main.go=import \"example.com/x/tools\"", "tools/t.go"]), "module example.com/x\n\ngo 1.19\n");
    assert_eq!(module(&["main.go=import \"tools\"", "tools/t.go"]), "module main\n\ngo 1.19\n");
    assert_eq!(module(&["main.go", "go.mod=module mine"]), "module mine");
}

#[test]
fn arguments_of_sqlite_are_a_table() {
    let job = plan("sqlite3", &["a \"b\\.sql"], &["it's", "x"]);
    let argv = &job.stages[0].argv;
    assert_eq!(
        argv[3],
        "create table argv (arg text); insert into argv (arg) values ('it''s'); insert into argv (arg) values ('x');"
    );
    assert_eq!(argv[5], ".read \"./a \\\"b\\\\.sql\"".replace("./", ""));
}

#[test]
fn an_erlang_script_keeps_its_first_line() {
    let content = |text: &str| plan("erlang", &[text], &[]).files[0].content.clone();
    assert_eq!(content("m.erl=main(_) -> ok."), b"\nmain(_) -> ok.");
    assert_eq!(content("m.erl=#!/usr/bin/escript"), b"#!/usr/bin/escript");
}

#[test]
fn a_later_file_of_the_same_name_replaces_the_earlier() {
    let job = plan("python", &["m.py=1", "x.py", "m.py=2"], &[]);
    let files: Vec<_> = job.files.iter().map(|file| (file.path.as_str(), file.content.as_slice())).collect();
    assert_eq!(files, [("m.py", &b"2"[..]), ("x.py", b"")]);
}

#[test]
fn files_that_cannot_be_are_refused_by_name() {
    let python = runtime("python");
    let error = python.plan(program(&["m/x.py", "m"], &[])).map(|_| ()).expect_err("a conflict");
    assert_eq!(error.to_string(), "the file m stands where the file m/x.py needs a directory");
    let error = python.plan(Program { main: 2, ..program(&["m.py"], &[]) }).map(|_| ()).expect_err("no main");
    assert_eq!(error, PlanError::NoMainFile { main: 2, files: 1 });
}

#[test]
fn what_is_compiled_may_be_used_again_unless_a_source_asks_the_time() {
    let reuse = |language, files: &[&str]| plan(language, files, &[]).reuse;
    let kept = reuse("c++", &["main.cpp=int main(){}", "x.h="]).expect("it may be kept");
    assert_eq!((kept.tenant.as_str(), kept.toolchain.as_str()), (Reuse::NOBODY, "c++ 1.19.8"));
    for path in ["/usr/bin/g++", "/usr/bin/ld", "/var/lib/dpkg/status"] {
        assert!(kept.made_with.contains(&PathBuf::from(path)), "{path}");
    }
    for clock in ["__DATE__", "__TIME__", "__TIMESTAMP__"] {
        assert_eq!(reuse("c++", &["main.cpp=int main(){}", &format!("x.h=// {clock}")]), None, "{clock}");
    }
    // Java has no such word, and Python no compile stage.
    assert!(reuse("java", &["Main.java=// __TIME__"]).is_some());
    assert_eq!(reuse("python", &["main.py="]), None);
}
