use super::*;

const GOOD: &str = r#"
language = "demo"
[find]
programs = ["/usr/bin/demo"]
version.command = ["/usr/bin/demo", "--version"]
[debian]
packages = ["demo"]
version = "1.2.3"
[run]
argv = ["/usr/bin/demo", "{main}", "{args}"]
"#;

fn beside(path: &str, content: &str) -> Beside {
    Beside { path: path.to_owned(), content: content.as_bytes().to_vec() }
}

fn parse(text: &str) -> Result<Definition, DefinitionError> {
    Definition::parse("runtimes/demo/runtime.toml", text, vec![beside("test.demo", "OK")])
}

#[test]
fn every_embedded_definition_parses_and_has_a_self_test() {
    let definitions = crate::catalogue::embedded().expect("embedded definitions are right");
    let known: Vec<&str> = definitions.iter().map(|definition| definition.language.as_str()).collect();
    for language in [
        "awk", "bash", "c", "c++", "clojure", "cobol", "csharp", "d", "elixir", "erlang", "fortran", "go", "groovy", "haskell",
        "java", "javascript", "kotlin", "lisp", "lua", "nasm64", "ocaml", "octave", "pascal", "perl", "php", "prolog", "python",
        "racket", "rscript", "ruby", "rust", "scala", "sqlite3", "tcl", "typescript",
    ] {
        assert!(known.contains(&language), "{language}");
    }
    for definition in &definitions {
        assert!(!definition.self_test.source.is_empty(), "{}", definition.language);
        let shown = crate::range::version_in(&definition.debian.version).map(|version| version.to_string());
        assert_eq!(shown.as_deref(), Some(definition.debian.version.as_str()), "{}", definition.language);
    }
}

/// A name that two languages claim would mean one or the other by their versions, which change.
#[test]
fn no_name_belongs_to_two_embedded_languages() {
    let definitions = crate::catalogue::embedded().expect("embedded definitions are right");
    let mut names: Vec<&str> = Vec::new();
    for definition in &definitions {
        names.push(&definition.language);
        names.extend(definition.aliases.iter().map(String::as_str));
    }
    names.sort_unstable();
    let doubled: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(doubled.is_empty(), "{doubled:?}");
}

#[test]
fn mistakes_are_named_with_file_and_key() {
    for (change, words) in [
        (("[run]", "[runn]"), &["runtimes/demo/runtime.toml", "runn"][..]),
        (("language = \"demo\"", ""), &["missing field `language`"]),
        (("language = \"demo\"", "language = 5"), &["line 2", "language", "string"]),
        (("language = \"demo\"", "language = \"../x\""), &["language: must be usable as a file name"]),
        (("version = \"1.2.3\"", "version = \"1.2.3\"\npackage = \"x\""), &["unknown field `package`"]),
        (("\"{main}\"", "\"{man}\""), &["run.argv: unknown placeholder {man}: expected sources"]),
        (("\"{main}\"", "\"x{args}\""), &["run.argv: unknown placeholder {args}"]),
        (("\"{main}\"", "\"{main\""), &["run.argv: unknown placeholder {main}"]),
        (("argv = [\"/usr/bin/demo\"", "argv = [\"demo\""), &["run.argv: the program \"demo\" must be an absolute path"]),
        (("argv = [\"/usr/bin/demo\", \"{main}\", \"{args}\"]", "argv = []"), &["run.argv: must not be empty"]),
        (("programs = [\"/usr/bin/demo\"]", "programs = [\"demo\"]"), &["find.programs: must be absolute paths"]),
        (("version.command = [\"/usr/bin/demo\", \"--version\"]", "version = {}"), &["find.version: must have exactly one of"]),
        (("version.command", "version.link = \"/x\"\nversion.command"), &["find.version: must have exactly one of"]),
        (("[find]", "copies = [\"lib\"]\n[find]"), &["copies: must be absolute paths of files"]),
        (("[find]", "etc = [\"../passwd\"]\n[find]"), &["etc: \"../passwd\": must be a name below /etc"]),
        (("[run]", "[run]\ncache = true"), &["run.cache: only what a compile stage makes can be kept"]),
        (("[run]", "[compile]\nargv = [\"/x\"]\ncache = true\nclock = [\"\"]\n[run]"), &["compile.clock: must not have empty"]),
        (("[run]", "[precompile]\nheaders = [\"../x\"]\n[run]"), &["precompile.headers: must be names of headers"]),
        (("[run]", "[precompile]\nheaders = [\"x\"]\n[run]"), &["precompile.argv: must be an absolute path"]),
        (("[run]", "[limits]\nthreads = 5\n[run]"), &["threads", "processes"]),
        (("[run]", "[sources]\nextensions = []\n[run]"), &["sources.extensions: must name at least one"]),
        (("[run]", "[sources]\nextensions = [\"x\"]\nnaming = \"cobol\"\n[run]"), &["cobol", "java"]),
    ] {
        let text = GOOD.replacen(change.0, change.1, 1);
        assert_ne!(text, GOOD, "{change:?} changes nothing");
        let error = parse(&text).map(|_| ()).expect_err(change.1).to_string();
        assert!(error.contains("runtimes/demo/runtime.toml"), "{error}");
        for word in words {
            assert!(error.contains(word), "{error:?} should contain {word:?}");
        }
    }
    assert!(parse(GOOD).is_ok());
}

#[test]
fn a_definition_without_a_self_test_is_refused() {
    let error = Definition::parse("x/runtime.toml", GOOD, vec![beside("readme", "")]).map(|_| ()).expect_err("no test");
    assert_eq!(error.to_string(), "x/runtime.toml: self-test: a file test.<extension> must stand beside the runtime.toml");
}

#[test]
fn support_files_are_put_below_the_language_and_scripts_are_executable() {
    let files = vec![beside("test.x", "OK"), beside("support/build", "#!/bin/sh\n"), beside("support/lib.d.ts", "x")];
    let definition = Definition::parse("x", GOOD, files).expect("a definition");
    let support: Vec<_> = definition.support.iter().map(|file| (file.path.as_str(), file.executable)).collect();
    assert_eq!(support, [("demo/build", true), ("demo/lib.d.ts", false)]);
}

#[test]
fn a_directory_of_definitions_is_read_with_the_files_beside() {
    let directory = tempfile::tempdir().expect("a directory");
    let language = directory.path().join("demo");
    std::fs::create_dir_all(language.join("support")).expect("directories");
    std::fs::create_dir_all(directory.path().join("not-a-language")).expect("directories");
    for (name, text) in [("runtime.toml", GOOD), ("test.demo", "OK"), ("support/shim", "#!/bin/sh")] {
        std::fs::write(language.join(name), text).expect("a file");
    }
    let definitions = Definition::load_directory(directory.path()).expect("definitions");
    assert_eq!(definitions.len(), 1);
    assert_eq!((definitions[0].self_test.name.as_str(), definitions[0].support.len()), ("test.demo", 1));
    let missing = Definition::load_directory(&directory.path().join("nowhere")).map(|_| ()).expect_err("missing");
    assert!(missing.to_string().contains("nowhere"), "{missing}");
}
