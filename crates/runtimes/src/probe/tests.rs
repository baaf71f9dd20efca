use std::{fs, os::unix::fs::symlink};

use super::*;
use crate::catalogue::embedded;

/// A system in a directory of its own.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&str, &str)], links: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let place = |path: &str| {
            let path = directory.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            path
        };
        for (path, text) in files {
            fs::write(place(path), text).expect("a file");
        }
        for (path, target) in links {
            symlink(target, place(path)).expect("a link");
        }
        Self(directory)
    }

    fn system(&self) -> System {
        System::new(Some(self.0.path()))
    }

    /// What the probe of a language says that has this program and this version.
    fn probe(&self, program: &str, version: VersionSource) -> Result<String, String> {
        let mut definition = embedded().expect("definitions").remove(0);
        definition.programs = vec![program.into()];
        definition.version = version;
        self.system().probe(&definition).map(|version| version.to_string()).map_err(|error| error.to_string())
    }
}

fn fixed() -> VersionSource {
    VersionSource::Fixed("1.2.3".into())
}

#[test]
fn programs_are_found_through_links_inside_the_tree() {
    let tree = Tree::new(
        &[("/usr/lib/x/bin/demo", ""), ("/opt/other/demo", "")],
        &[
            ("/usr/bin/demo", "/etc/alternatives/demo"),
            ("/etc/alternatives/demo", "../../usr/lib/x/bin/demo"),
            ("/usr/bin/away", "/opt/other/demo"),
            ("/usr/bin/loop", "loop"),
            ("/usr/bin/out", "../../../../../../../../etc/passwd"),
            ("/bin", "usr/bin"),
        ],
    );
    assert_eq!(tree.probe("/usr/bin/demo", fixed()), Ok("1.2.3".into()));
    assert_eq!(tree.probe("/bin/demo", fixed()), Ok("1.2.3".into()));
    assert_eq!(tree.probe("/usr/bin/none", fixed()), Err("/usr/bin/none is not there".into()));
    assert_eq!(tree.probe("/usr/bin/loop", fixed()), Err("/usr/bin/loop is not there".into()));
    // A link that climbs stays in the tree, where there is no such file.
    assert_eq!(tree.probe("/usr/bin/out", fixed()), Err("/usr/bin/out is not there".into()));
    let away = tree.probe("/usr/bin/away", fixed()).expect_err("not visible");
    assert_eq!(away, "/usr/bin/away leads to /opt/other/demo, which programs in a sandbox cannot see: only /usr is visible");
}

#[test]
fn versions_are_read_from_files_links_and_packages() {
    let status = "Package: demo\nStatus: install ok installed\nVersion: 4:12.2.0-3\n\n\
                  Package: gone\nStatus: deinstall ok config-files\nVersion: 1.0-1\n\n\
                  Package: demo-doc\nStatus: install ok installed\nVersion: 9.9-1\n";
    let tree = Tree::new(
        &[
            ("/usr/bin/demo", ""),
            ("/usr/lib/demo/release", "OS=\"Linux 5\"\nVERSION=\"17.0.1\"\n"),
            ("/usr/share/java/demo-1.3.31.jar", ""),
            ("/var/lib/dpkg/status", status),
        ],
        &[("/usr/share/java/demo.jar", "demo-1.3.31.jar")],
    );
    let file = |after: &str| VersionSource::File { path: "/usr/lib/demo/release".into(), after: after.into() };
    let package = |name: &str| VersionSource::Package(name.into());
    for (source, version) in [
        (file("VERSION="), Ok("17.0.1")),
        (file("RELEASE="), Err("its version cannot be found in /usr/lib/demo/release")),
        (VersionSource::Link("/usr/share/java/demo.jar".into()), Ok("1.3.31")),
        (VersionSource::Link("/usr/share/java/none.jar".into()), Err("/usr/share/java/none.jar is not there")),
        (package("demo"), Ok("12.2.0")),
        (package("gone"), Err("its version cannot be found in the Debian package gone")),
        (package("none"), Err("its version cannot be found in the Debian package none")),
    ] {
        let answer = tree.probe("/usr/bin/demo", source.clone());
        assert_eq!(answer, version.map(str::to_owned).map_err(str::to_owned), "{source:?}");
    }
}

#[test]
fn versions_are_read_from_what_a_command_prints_on_either_stream() {
    let system = System::new(None);
    let command = |script: &str| vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()];
    assert_eq!(system.output(&command("echo Demo 1.2; echo more >&2")).expect("output"), "Demo 1.2\nmore\n");
    let missing = system.output(&["/nowhere/demo".to_owned(), "-v".to_owned()]).map_err(|error| error.to_string());
    assert!(missing.is_err_and(|text| text.starts_with("its version cannot be read from /nowhere/demo -v: ")));
}
