use std::sync::Arc;

use semver::Version;

use super::*;
use crate::{catalogue::embedded, definition::Definition};

fn cplusplus(headers: &[&str]) -> Runtime {
    let mut definitions = embedded().expect("embedded definitions are right");
    let place = definitions.iter().position(|definition| definition.language == "c++").expect("c++ is embedded");
    let mut definition: Definition = definitions.swap_remove(place);
    let precompile = definition.precompile.as_mut().expect("c++ compiles headers ahead");
    precompile.headers = headers.iter().map(|&header| header.to_owned()).collect();
    Runtime::new(Arc::new(definition), Version::new(12, 2, 0))
}

/// A place to compile in, with and without what was made ahead.
struct Bench {
    place: tempfile::TempDir,
    runtime: Runtime,
}

/// What came of a compilation: status, everything said, the program.
type Compiled = (Option<i32>, String, Option<Vec<u8>>);

impl Bench {
    fn new(headers: &[&str]) -> Self {
        Self { place: tempfile::tempdir().expect("a directory"), runtime: cplusplus(headers) }
    }

    fn directory(&self) -> PathBuf {
        self.place.path().join("data/precompiled")
    }

    /// Makes what is missing; tells what it made.
    fn make(&self) -> Vec<String> {
        let mut made = Vec::new();
        make(&[&self.runtime], &self.directory(), &|| false, &mut |header| made.push(header.to_owned())).expect("headers are made");
        made
    }

    fn own(&self) -> PathBuf {
        self.directory().join(self.runtime.precompiled().expect("a name"))
    }

    fn compile(&self, ahead: bool, files: &[(&str, &str)]) -> Compiled {
        let work = self.place.path().join("work");
        fs::create_dir_all(&work).expect("a directory");
        files.iter().for_each(|(name, text)| fs::write(work.join(name), text).expect("a source"));
        let sources = files.iter().map(|(name, _)| *name).filter(|name| name.ends_with(".cpp"));
        let mut command = Command::new("/usr/bin/g++");
        command.args(["-std=c++17", "-I.", "-o", "a.out"]).args(sources).arg("-lm").current_dir(&work).env("LANG", "C.UTF-8");
        if ahead {
            command.env("COMPILER_PATH", self.own());
        }
        let output = command.output().expect("g++ starts");
        let program = fs::read(work.join("a.out")).ok();
        fs::remove_dir_all(&work).expect("it can be removed");
        assert!(output.stdout.is_empty());
        // The linker names the compiler's temporary files.
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let said = said.split("/tmp/cc").enumerate().map(|(i, part)| if i == 0 { part } else { &part[6..] }).collect();
        (output.status.code(), said, program)
    }
}

#[test]
fn the_flags_are_those_of_the_compile_stage() {
    let runtime = cplusplus(&["iostream"]);
    let precompile = runtime.definition().precompile.as_ref().expect("c++ compiles headers ahead");
    let compile = format!("{:?}", runtime.definition().compile);
    let own = ["-x", "c++-header", "-MD", "-MF", "{depends}", "-o", "{output}", "{source}"];
    let flags: Vec<&String> = precompile.argv.iter().filter(|word| !own.contains(&word.as_str())).collect();
    assert_eq!(flags, ["/usr/bin/g++", "-std=c++17"]);
    assert!(flags.iter().all(|flag| compile.contains(&format!("{flag:?}"))), "{compile}");
}

#[test]
fn programs_and_complaints_are_the_same_with_headers_compiled_ahead() {
    let bench = Bench::new(&["bits/stdc++.h", "iostream"]);
    assert_eq!(bench.make(), ["bits/stdc++.h", "iostream"]);
    for source in [
        "#include <bits/stdc++.h>\nusing namespace std;\nint main(){ vector<int> v{3,1}; sort(v.begin(), v.end()); cout << v[0]; }\n",
        "#include <iostream>\nint main(){ std::vector<int> v; std::sort(v.begin(),v.end()); std::unique_ptr<int> p; }\n",
        "/*\n * mine\n */\n// x\n\n#include<bits/stdc++.h>\nstruct A{}; int main(){ std::set<A> s; s.insert(A()); }\n",
        "#include <iostream>\r\n#include <algorithm>\r\nint main(){ std::cout << 1 +; }\r\n",
        "#define X 1\n#  include <iostream>\nint main(){ return foo(X); }\n",
        "\t#include\t<iostream> // c\nstruct A{}; int main(){ std::cout << A(); }",
        "#include <iostream>\nint main(){ char c = 300; static_assert(sizeof(int)==2, \"no\");\n#warning \"from precompiled-header:1\"\n }\n",
        "#include <iostream>\n#include <nosuch.h>\nint main(){}\n",
        // The text is still there for who includes it a second time.
        "#include <bits/stdc++.h>\n#include <iostream>\n#include <bits/stdc++.h>\nint main(){ auto f = [](auto x){ return x+1; }; f(std::string()); }\n",
        "#include <iostream>\ntemplate<int N> struct F{ static const int v = F<N-1>::v; }; int main(){ return F<10>::v; }\n",
        "#include <bits/stdc++.h>\nint main(){ std::cout << __FILE__ << __BASE_FILE__ << __LINE__ << __COUNTER__; assert(1==1); }\n",
        "#include <iostream>\nint main(){ std::tmpnam(0); std::auto_ptr<int> p; printf(\"%s\\n\", 5); }\n",
        "#include <iostream>\n#include <functional>\nint main(){ std::auto_ptr<int> p; std::tmpnam(0); std::bind2nd(std::less<int>(),3); }\n",
        // Macros that would change the text, and some that would not.
        "#define iostream 5\n#include <iostream>\n#include <iostream>\nint main(){ std::vector<int> v; v.x(); std::cout << v;}\n",
        "#define cin long long\n#include <iostream>\nint main(){ std::cout << main; std::cin >> 5; }\n",
        "#define ostream 7\n#include <iostream>\nint main(){ std::cout << main; }\n",
        "#define int long long\n#include <bits/stdc++.h>\nusing namespace std; signed main(){ int x; cin >> x; }\n",
        "#define _GLIBCXX_DEBUG\n#include <iostream>\n#include <vector>\nint main(){ std::vector<int> v; return v[0]; }\n",
        "#define NDEBUG\n#include <iostream>\n#include <cassert>\nint main(){ assert(false); }\n",
        // Pragmas.
        "#pragma GCC optimize(\"O3\")\n#include <iostream>\nint main(){ std::string s(9, 65); return s[1]; }\n",
        "#include <iostream>\n#pragma GCC optimize(\"O3\")\n#pragma GCC target(\"avx2\")\nint main(){ std::string s(9, 65); return s[1]; }\n",
        // What is no program.
        "#include <iostream>",
        "",
        "int main(){",
        "#include <iostream>\nint main(){ std::cout << \"unterminated; }\n",
    ] {
        let files = [("main.cpp", source)];
        assert_eq!(bench.compile(true, &files), bench.compile(false, &files), "{source}");
    }
    let several = [
        ("main.cpp", "#include \"own.h\"\nint f();\nint main(){ return f(); }\n"),
        ("f.cpp", "\n\n#include <iostream>\n#include \"own.h\"\nint f(){ std::cout << own(); return std::string() + 1; }\n"),
        ("own.h", "#include <iostream>\n#include <string>\ninline std::string own(){ return \"own\"; }\n"),
    ];
    assert_eq!(bench.compile(true, &several), bench.compile(false, &several));
    // A header of the program's own name.
    let own = [("main.cpp", "#include <iostream>\nint main(){ return OWN; }\n"), ("iostream", "#define OWN 0\n")];
    assert_eq!(bench.compile(true, &own).0, Some(0));
}

#[test]
fn a_precompiled_header_is_used_and_made_again_only_when_its_text_has_changed() {
    let bench = Bench::new(&["cstdio"]);
    assert_eq!(bench.make(), ["cstdio"]);
    assert!(bench.make().is_empty());
    let place = bench.own().join("headers/cstdio");
    let precompiled = place.join("cstdio.gch");
    let source = bench.place.path().join("x.cpp");
    fs::write(&source, "#include <cstdio>\nint main(){ std::printf(\"\"); }\n").expect("a source");
    let mut seen = Command::new("/usr/bin/g++");
    seen.args(["-H", "-std=c++17", "-fsyntax-only"]).arg(&source).env("COMPILER_PATH", bench.own());
    let said = String::from_utf8_lossy(&seen.output().expect("g++ starts").stderr).into_owned();
    // The compiler marks so what it loads and does not read.
    assert!(said.starts_with("! "), "{said}");
    // What it was made from has changed since.
    let changed = bench.place.path().join("changed.h");
    fs::write(&changed, "").expect("a file");
    let depends = fs::read_to_string(place.join("depends")).expect("what it was made from");
    fs::write(place.join("depends"), format!("{depends}{}\n", changed.display())).expect("a file");
    assert_eq!(bench.make(), ["cstdio"]);
    assert!(precompiled.is_file());
    // Another version's, and what a killed one left, goes.
    fs::create_dir_all(bench.directory().join("c++-11.0.0-0000000000/headers")).expect("a directory");
    fs::create_dir_all(bench.directory().join("half.making")).expect("a directory");
    assert!(bench.make().is_empty());
    assert_eq!(fs::read_dir(bench.directory()).expect("a directory").count(), 1);
}

#[test]
fn only_one_server_makes_them_and_a_stopped_one_leaves_nothing_half_made() {
    let bench = Bench::new(&["bits/stdc++.h"]);
    make_directory(&bench.directory()).expect("a directory");
    let held = fs::File::open(bench.directory()).expect("a directory");
    held.lock().expect("nobody else has it");
    assert!(bench.make().is_empty());
    held.unlock().expect("ours");
    let asked = std::cell::Cell::new(0);
    let stopped = || {
        asked.set(asked.get() + 1);
        asked.get() > 3
    };
    make(&[&bench.runtime], &bench.directory(), &stopped, &mut |header| panic!("{header} was made")).expect("it stops");
    assert!(!bench.own().join("headers").exists());
    assert_eq!(fs::read_dir(bench.directory()).expect("a directory").count(), 1);
}

#[test]
fn a_header_that_does_not_exist_is_told_with_the_compilers_words() {
    let bench = Bench::new(&["nosuch"]);
    let error =
        make(&[&bench.runtime], &bench.directory(), &|| false, &mut |_| {}).expect_err("there is no such header").to_string();
    assert!(error.starts_with("<nosuch> cannot be compiled ahead: exit status: 1"), "{error}");
}

#[test]
fn what_stands_by_for_java_comes_from_an_archive_that_java_takes() {
    let java = "/usr/lib/jvm/default-java/bin/java";
    if !Path::new(java).exists() {
        println!("skipped: java is not installed");
        return;
    }
    let mut definitions = embedded().expect("embedded definitions are right");
    let place = definitions.iter().position(|definition| definition.language == "java").expect("java is embedded");
    let runtime = Runtime::new(Arc::new(definitions.swap_remove(place)), Version::new(17, 0, 0));
    let directory = tempfile::tempdir().expect("a directory");
    let made = || {
        let mut made = Vec::new();
        make(&[&runtime], directory.path(), &|| false, &mut |what| made.push(what.to_owned())).expect("it is made");
        made
    };
    assert_eq!(made(), ["java"]);
    assert!(made().is_empty(), "once");
    let place = directory.path().join(runtime.precompiled().expect("a name")).join("made");
    let archive = format!("-XX:SharedArchiveFile={}", place.join("classes.jsa").display());
    let mut command = Command::new(java);
    command.args(["-XX:+UseSerialGC", "-Xlog:class+load", &archive, "-cp"]).arg(place.join("classes")).arg("greenroom.Standby");
    let output = command.stdin(Stdio::null()).output().expect("java starts");
    let said = String::from_utf8_lossy(&output.stdout);
    // So java tells of classes that are in the archive on top of its own.
    assert!(said.lines().filter(|line| line.contains("shared objects file (top)")).count() > 20, "{said}");
    assert!(said.lines().any(|line| line.contains("greenroom.Standby") && line.contains("source: file:")), "{said}");
    // Without it, it is made again.
    fs::remove_dir_all(&place).expect("it is there");
    assert_eq!(made(), ["java"]);
}
