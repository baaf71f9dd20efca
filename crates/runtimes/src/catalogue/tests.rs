use std::{fs, path::Path};

use super::*;

/// A definition that is installed wherever it is: it needs no program.
fn define(directory: &Path, name: &str, language: &str, version: &str, aliases: &str) {
    let place = directory.join(name);
    fs::create_dir_all(&place).expect("a directory");
    let text = format!(
        "language = \"{language}\"\naliases = [{aliases}]\netc = [\"{language}\", \"shared\"]\n[find]\nversion.fixed = \"{version}\"\n\
         [debian]\npackages = [\"demo\"]\nversion = \"{version}\"\n[run]\nargv = [\"/usr/bin/demo\", \"{{main}}\"]\n"
    );
    fs::write(place.join("runtime.toml"), text).expect("a file");
    fs::write(place.join("test.demo"), "OK").expect("a file");
}

/// An empty system, so that of the embedded languages only `file` is installed.
fn discover(directory: &Path) -> Result<Catalogue, CatalogueError> {
    let system_root = Some(directory.join("empty-system"));
    Catalogue::discover(&DiscoverOptions { definitions: Some(directory.into()), system_root, elevation: Elevation::Never })
}

fn names(catalogue: &Catalogue) -> Vec<String> {
    catalogue.installed().iter().map(|runtime| runtime.language().to_owned()).collect()
}

#[test]
fn names_and_ranges_resolve_to_the_highest_version_and_the_first_of_equals() {
    let directory = tempfile::tempdir().expect("a directory");
    define(directory.path(), "a", "alpha", "3.1.0", "\"shared\", \"a\"");
    define(directory.path(), "b", "beta", "3.2.0", "\"shared\", \"tie\"");
    define(directory.path(), "c", "gamma", "3.2.0", "\"tie\"");
    let catalogue = discover(directory.path()).expect("a catalogue");
    let resolve = |name: &str, range: &str| catalogue.resolve(name, range).map(|runtime| runtime.language().to_owned());
    for (name, range, language) in [
        ("alpha", "*", Some("alpha")),
        ("a", "3.1", Some("alpha")),
        ("shared", "*", Some("beta")),
        ("shared", "3.1.x", Some("alpha")),
        ("tie", ">=3", Some("beta")),
        ("Alpha", "*", None),
        (" alpha", "*", None),
        ("alpha", "latest", None),
        ("alpha", ">3.1.0", None),
        ("none", "*", None),
        ("binary", "0.x", Some("file")),
    ] {
        assert_eq!(resolve(name, range).as_deref(), language, "{name} {range}");
    }
}

#[test]
fn languages_are_listed_by_package_and_what_is_absent_says_why() {
    let directory = tempfile::tempdir().expect("a directory");
    define(directory.path(), "z", "zeta", "1.0.0", "");
    define(directory.path(), "a", "alpha", "1.0.0", "");
    let catalogue = discover(directory.path()).expect("a catalogue");
    assert_eq!(names(&catalogue), ["alpha", "file", "zeta"]);
    assert_eq!(catalogue.etc_names(), ["alpha", "shared", "zeta"]);

    let packages = catalogue.packages();
    let order: Vec<&str> = packages.iter().map(|package| package.language.as_str()).collect();
    let place = |language| order.iter().position(|&listed| listed == language).expect("listed");
    // c, c++, d and fortran belong to gcc: they stand between forth and go.
    assert!(place("forth") < place("c") && place("c") < place("c++") && place("fortran") < place("go"), "{order:?}");
    assert!(packages.iter().any(|package| package.language == "lua" && !package.installed && package.version == "5.4.4"));

    let absent = catalogue.absent();
    let lua = absent.iter().find(|absent| absent.language == "lua").expect("lua is absent");
    assert_eq!((lua.reason.as_str(), lua.packages.join(" ")), ("/usr/bin/lua5.4 is not there", "lua5.4".to_owned()));
}

#[test]
fn a_further_definition_replaces_the_embedded_one_of_its_language() {
    let directory = tempfile::tempdir().expect("a directory");
    define(directory.path(), "mine", "lua", "9.9.9", "\"moon\"");
    let catalogue = discover(directory.path()).expect("a catalogue");
    assert_eq!(catalogue.resolve("moon", "9").map(|runtime| runtime.version().to_owned()).as_deref(), Some("9.9.9"));
    assert_eq!(catalogue.packages().iter().filter(|package| package.language == "lua").count(), 1);
}

#[test]
fn one_language_defined_twice_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    define(directory.path(), "one", "demo", "1.0.0", "");
    define(directory.path(), "two", "demo", "2.0.0", "");
    let error = discover(directory.path()).map(|_| ()).expect_err("two of them");
    assert!(error.to_string().ends_with("language \"demo\" is defined twice"), "{error}");
}

#[test]
fn a_refresh_sees_what_changed() {
    let directory = tempfile::tempdir().expect("a directory");
    let catalogue = discover(directory.path()).expect("a catalogue");
    let clone = catalogue.clone();
    assert!(clone.resolve("dash", "*").is_none());
    let root = directory.path().join("empty-system");
    for (path, text) in
        [("usr/bin/dash", ""), ("var/lib/dpkg/status", "Package: dash\nStatus: install ok installed\nVersion: 0.5.12-2\n")]
    {
        fs::create_dir_all(root.join(path).parent().expect("a parent")).expect("a directory");
        fs::write(root.join(path), text).expect("a file");
    }
    catalogue.refresh();
    assert_eq!(clone.resolve("dash", "*").map(|runtime| runtime.version().to_owned()).as_deref(), Some("0.5.12"));
}

#[test]
fn what_cannot_be_installed_or_removed_says_why() {
    let directory = tempfile::tempdir().expect("a directory");
    let foreign = discover(directory.path()).expect("a catalogue");
    let mut quiet = |_: &str| {};
    let error = foreign.install("lua", &mut quiet).map(|_| ()).expect_err("not ours");
    assert!(error.to_string().contains("install languages there with its own tools"), "{error}");

    define(directory.path(), "one", "one", "1.0.0", "");
    define(directory.path(), "two", "two", "1.0.0", "");
    let options = DiscoverOptions { definitions: Some(directory.path().into()), ..DiscoverOptions::default() };
    let catalogue = Catalogue::discover(&options).expect("a catalogue");
    for (error, text) in [
        (catalogue.install("nope", &mut quiet).map(|_| ()), "there is no language \"nope\""),
        (catalogue.install("one", &mut quiet).map(|_| ()), "one is already installed"),
        (catalogue.install("file", &mut quiet).map(|_| ()), "file needs no package, so there is none to install or remove"),
        (catalogue.remove("one", &mut quiet).map(|_| ()), "one cannot be removed alone: its packages are also those of two"),
    ] {
        assert_eq!(error.expect_err(text).to_string(), text);
    }
}

#[test]
fn the_program_of_a_session_is_among_the_files_that_stand_in_the_sandbox() {
    let mut with_sessions = Vec::new();
    for definition in embedded().expect("definitions") {
        let support: Vec<String> = definition.support.iter().map(|file| format!("/opt/greenroom/{}", file.path)).collect();
        let language = definition.language.clone();
        let runtime = Runtime::new(Arc::new(definition), semver::Version::new(1, 0, 0));
        let Some(command) = runtime.session(&limits()) else { continue };
        assert!(support.contains(command.argv.last().expect("a command")), "{language}: {:?}", command.argv);
        assert!(command.environment.contains(&("PWD".into(), "/mnt/data".into())), "{language}");
        with_sessions.push(language);
    }
    with_sessions.sort();
    assert_eq!(with_sessions, ["bash", "javascript", "python"]);
}

fn limits() -> greenroom_core::Limits {
    greenroom_core::Limits {
        wall_ms: 1000,
        cpu_ms: 1000,
        memory_bytes: 64 << 20,
        processes: 16,
        open_files: 64,
        file_size_bytes: 1 << 20,
        output_bytes: None,
        cpu_milli: 1000,
    }
}
