//! The weaker profiles, got as an operator gets them: without root, and without the right to make namespaces.
//!
//! Needs root (to give rights away) and setpriv(1). Where that cannot be had the tests say so and pass, except with
//! `GREENROOM_MUST_WORK=1`.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::PathBuf,
    process::{Command, Output},
};

/// An unprivileged user of every Debian system: nobody.
const NOBODY: u32 = 65534;

/// A copy of the binary and a data directory that anybody may use.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new(owner: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_greenroom"), dir.path().join("greenroom")).unwrap();
        fs::write(dir.path().join("main.sh"), SCRIPT).unwrap();
        fs::write(dir.path().join("main.c"), "#include <stdio.h>\nint main(void) { puts(\"compiled\"); }\n").unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        chown(dir.path().join("data"), Some(owner), Some(owner)).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `setpriv <rights> greenroom <arguments>`.
    fn run(&self, rights: &[&str], arguments: &[&str]) -> Output {
        let mut command = Command::new("setpriv");
        command.args(rights).arg(self.path("greenroom")).args(["--set", &format!("data_dir={}", self.path("data").display())]);
        command.args(arguments).current_dir(self.dir.path()).output().unwrap()
    }
}

/// Says who and where it is, tries what must not be, and leaves something running.
const SCRIPT: &str = "id -u; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t\\n'; echo
echo x > here && cat here
(echo x > /etc/x) 2>/dev/null && echo wrote-etc
(echo x > /usr/x) 2>/dev/null && echo wrote-usr
cat /etc/shadow 2>/dev/null && echo read-shadow
(exec 3<>/dev/tcp/127.0.0.1/$1) 2>/dev/null && echo reached-the-host
setsid sleep 61 >/dev/null 2>&1 &
echo end
";

fn root() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    let has = root && Command::new("setpriv").arg("--version").output().is_ok();
    if !has {
        assert!(std::env::var_os("GREENROOM_MUST_WORK").is_none(), "root and setpriv are needed");
        println!("skipped: root and setpriv are needed");
    }
    has
}

/// Processes with this command line.
fn running(command: &str) -> usize {
    let wanted = command.replace(' ', "\0") + "\0";
    let pids = fs::read_dir("/proc").unwrap().flatten();
    pids.filter(|pid| fs::read_to_string(pid.path().join("cmdline")).is_ok_and(|line| line == wanted)).count()
}

fn check(place: &Place, rights: &[&str], profile: &str, uid: &dyn Fn(u32) -> bool) {
    let doctor = place.run(rights, &["--require-isolation", "restricted", "doctor"]);
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(text.contains(&format!("isolation   {profile}")), "{text}{}", String::from_utf8_lossy(&doctor.stderr));

    let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port().to_string();
    let output = place.run(rights, &["--require-isolation", "restricted", "run", "main.sh", "--", &port]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = out.lines().collect();
    assert!(output.status.success(), "{out}{err}");
    assert!(uid(lines[0].parse().unwrap()), "{out}");
    assert_eq!(lines[1..], ["CapEff:0000000000000000NoNewPrivs:1Seccomp:2", "x", "end"], "{out}{err}");
    // The kernel ends it with its namespace, a moment later.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while running("sleep 61") > 0 {
        assert!(std::time::Instant::now() < deadline, "a process outlived its run");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }

    // Two stages: the second goes on in the first one's workspace.
    let compiled = place.run(rights, &["--require-isolation", "restricted", "run", "main.c"]);
    assert_eq!(String::from_utf8_lossy(&compiled.stdout), "compiled\n", "{}", String::from_utf8_lossy(&compiled.stderr));
    let left = fs::read_dir(place.path("data")).unwrap().map(|entry| entry.unwrap().file_name());
    // What is made once for all runs is kept.
    let left: Vec<_> = left.filter(|name| name != "precompiled").collect();
    assert!(left.is_empty(), "files are left in the data directory: {left:?}");
}

#[test]
fn without_root_programs_run_in_user_namespaces() {
    if root() {
        let place = Place::new(NOBODY);
        check(&place, &["--reuid=65534", "--regid=65534", "--clear-groups"], "rootless", &|uid| uid == NOBODY);
    }
}

#[test]
fn without_the_right_to_namespaces_a_filter_landlock_and_a_uid_are_left() {
    if root() {
        let place = Place::new(0);
        check(&place, &["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"], "restricted", &|uid| uid >= 1000);
    }
}

/// Has landlock_create_ruleset answer ENOSYS, and starts what its arguments name: a filter of classic BPF (seccomp(2)).
const WITHOUT_LANDLOCK: &str = "import ctypes, os, struct, sys
libc, rules = ctypes.CDLL(None), [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (6, 0, 0, 0x50026), (6, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *rule) for rule in rules))
program = ctypes.create_string_buffer(struct.pack('HxxxxxxP', len(rules), ctypes.addressof(code)))
for call in ((38, 1, 0, 0, 0), (22, 2, program, 0, 0)):
    if libc.prctl(*call) != 0: sys.exit('prctl')
os.execv(sys.argv[1], sys.argv[1:])";

#[test]
fn where_nothing_is_left_around_files_the_doctor_says_so() {
    if root() {
        let place = Place::new(0);
        let rights = ["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"];
        let doctor = ["--require-isolation", "restricted", "doctor"];
        let says = |output: Output| String::from_utf8_lossy(&output.stdout).contains("no wall around files");
        assert!(!says(place.run(&rights, &doctor)));
        let behind = ["/usr/bin/python3", "-c", WITHOUT_LANDLOCK];
        assert!(says(place.run(&[&rights[..], &behind[..]].concat(), &doctor)));
    }
}

#[test]
fn more_isolation_than_can_be_had_is_a_refusal_with_the_reason() {
    if root() {
        let place = Place::new(NOBODY);
        let refused =
            place.run(&["--reuid=65534", "--regid=65534", "--clear-groups"], &["--require-isolation", "full", "run", "main.sh"]);
        let err = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && err.contains("full") && err.contains("rootless"), "{err}");
    }
}
