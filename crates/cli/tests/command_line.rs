//! The real binary, as a person at a terminal meets it.
//!
//! What runs programs needs the isolation that this user has by default. Where it cannot be had these tests say so and
//! pass, except with `GREENROOM_MUST_WORK=1`.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

/// A directory with files in it, where greenroom is started, its data beside them.
struct Place(TempDir);

impl Place {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Self(directory)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom"));
        // Whatever the tests' own environment configures is not what is tested.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("GREENROOM_") || name.starts_with("PISTON_") || name == "PORT" {
                command.env_remove(&*name);
            }
        }
        let data = self.0.path().join("data");
        command.args(arguments).current_dir(self.0.path()).env("GREENROOM_DATA_DIR", data).stdin(Stdio::null());
        command
    }

    fn greenroom(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether programs of these languages can be run here.
fn can_run(languages: &[&str]) -> bool {
    let output = Place::new(&[]).greenroom(&["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let has = |name: &&str| report["languages"].as_array().unwrap().iter().any(|of| of["language"] == *name);
    let why = match languages.iter().find(|name| !has(name)) {
        Some(language) => format!("{language} is not installed"),
        None if report["ready"] == true => return true,
        None => report["advice"].to_string(),
    };
    assert_ne!(std::env::var("GREENROOM_MUST_WORK").as_deref(), Ok("1"), "{why}");
    eprintln!("skipped: {why}");
    false
}

#[test]
fn run_passes_output_and_exit_status_on() {
    if !can_run(&["bash"]) {
        return;
    }
    let place = Place::new(&[
        ("exit.sh", "echo out; echo err >&2; exit 7"),
        ("arguments.sh", "printf '%s|' \"$@\""),
        ("signal.sh", "kill -SEGV $$"),
        ("for-ever.sh", "while :; do :; done"),
        ("input.sh", "read line; echo \"got $line\""),
        ("in.txt", "a line\n"),
        ("raw.sh", "printf '\\xff\\x00\\xfe'"),
        ("main.sh", ". lib/two.sh; echo $TWO"),
        ("lib/two.sh", "TWO=2"),
    ]);
    for (arguments, stdout, code) in [
        (&["exit.sh"][..], &b"out\n"[..], 7),
        (&["arguments.sh", "--", "a b", "--c"], b"a b|--c|", 0),
        (&["signal.sh"], b"", 139),
        (&["for-ever.sh", "--limit", "wall_ms=200"], b"", 124),
        (&["input.sh", "--stdin", "in.txt"], b"got a line\n", 0),
        (&["raw.sh"], b"\xff\x00\xfe", 0),
        (&["main.sh", "lib/two.sh", "--language", "bash@5"], b"2\n", 0),
    ] {
        let output = place.greenroom(&[&["run"], arguments].concat());
        let stderr = text(&output.stderr);
        assert_eq!((&*output.stdout, output.status.code()), (stdout, Some(code)), "{arguments:?}: {stderr}");
        let summary = stderr.lines().last().unwrap();
        assert!(
            summary.starts_with("[run: ") && summary.contains("wall ") && summary.contains("memory "),
            "{arguments:?}: {stderr}"
        );
    }
}

#[test]
fn run_passes_its_own_input_on_to_the_run_stage() {
    if !can_run(&["c"]) {
        return;
    }
    let place =
        Place::new(&[("echo.c", "#include <stdio.h>\nint main(void) { int c; while ((c = getchar()) != EOF) putchar(c); }")]);
    for arguments in [&["run", "echo.c"][..], &["run", "echo.c", "--stdin", "-"]] {
        let mut child = place.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"word\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("word\n", Some(0)));
    }
}

#[test]
fn run_prints_one_object_as_json() {
    if !can_run(&["c"]) {
        return;
    }
    let place = Place::new(&[("good.c", "int main(void) { return 3; }"), ("bad.c", "int main(")]);
    for (file, stages, verdict, code) in
        [("good.c", &["compile", "run"][..], "exit_status", 3), ("bad.c", &["compile"], "exit_status", 1)]
    {
        let output = place.greenroom(&["run", "--json", file]);
        let all: Value = serde_json::from_slice(&output.stdout).unwrap();
        let names: Vec<_> = all["stages"].as_array().unwrap().iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
        assert_eq!((names.as_slice(), output.status.code()), (stages, Some(code)), "{all}");
        let last = all["stages"].as_array().unwrap().last().unwrap();
        assert_eq!((last["verdict"].as_str(), last["code"].as_i64()), (Some(verdict), Some(code.into())), "{all}");
    }
}

#[test]
fn run_that_cannot_begin_says_why_and_exits_with_125() {
    if !can_run(&["python"]) {
        return;
    }
    let place = Place::new(&[("a.py", ""), ("a.zzz", ""), ("x/a.py", "")]);
    for (arguments, says) in [
        (&["none.py"][..], "cannot read none.py"),
        (&["a.zzz"], "--language"),
        (&["a.py", "--language", "nope"], "nope"),
        (&["a.py", "--limit", "wall_ms=0"], "above 0"),
        (&["a.py", "x/../a.py"], "where another file is"),
        (&["a.py", "--set", "limits.run.wal_ms=1"], "did you mean"),
    ] {
        let output = place.greenroom(&[&["run"], arguments].concat());
        assert_eq!(output.status.code(), Some(125), "{arguments:?}");
        assert!(text(&output.stderr).contains(says), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn an_interrupt_ends_a_run() {
    if !can_run(&["bash"]) {
        return;
    }
    let place = Place::new(&[("wait.sh", "echo started; sleep 60")]);
    let arguments = ["run", "wait.sh", "--limit", "wall_ms=60000"];
    let mut run = Running(place.command(&arguments).stdout(Stdio::piped()).spawn().unwrap());
    assert_eq!(run.line(), "started\n");
    assert_eq!(run.end(Signal::INT), Some(130));
}

#[test]
fn output_that_nobody_reads_ends_the_command_quietly() {
    let place = Place::new(&[]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = place.command(&["config", "show"]).stdout(writer).output().unwrap();
    assert_eq!((text(&output.stderr).as_str(), output.status.code()), ("", Some(141)));
}

#[test]
fn two_servers_live_side_by_side_and_end_in_good_order() {
    if !can_run(&[]) {
        return;
    }
    let (one, two) = (Place::new(&[]), Place::new(&[]));
    let (mut first, address) = serve(&one);
    let (mut second, _) = serve(&two);
    let third = two.greenroom(&["serve", "--listen", &address]);
    assert_eq!(third.status.code(), Some(1));
    assert!(text(&third.stderr).contains(&format!("cannot listen on {address}")), "{}", text(&third.stderr));
    assert_eq!((first.end(Signal::TERM), second.end(Signal::INT)), (Some(0), Some(0)));
}

/// Starts a server. Gives its address, once it is ready.
fn serve(place: &Place) -> (Running, String) {
    let data = place.0.path().join("made/when/missing");
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
    let mut server = Running(place.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let line = server.line();
    let address = line.split("http://").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_else(|| panic!("{line:?}"));
    let mut connection = std::net::TcpStream::connect(address).unwrap();
    connection.write_all(b"GET /readyz HTTP/1.1\r\nHost: greenroom\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(Path::new(&data).is_dir());
    (server, address.to_owned())
}

/// A process that does not outlive its test.
struct Running(Child);

impl Running {
    fn line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line
    }

    fn end(&mut self, signal: Signal) -> Option<i32> {
        rustix::process::kill_process(Pid::from_child(&self.0), signal).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended cannot be killed, nor need it be.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn a_server_that_cannot_start_says_why_and_what_to_do() {
    let place = Place::new(&[("file", "")]);
    for (arguments, says) in [
        // An address for documentation (RFC 5737), which is no machine's.
        (&["--listen", "192.0.2.1:2000", "--set", "identity.mode=keys"][..], "no such address"),
        (&["--listen", "192.0.2.1:2000"], "everybody could run programs here"),
        (&["--listen", "127.0.0.1:0", "--data-dir", "file"], "the data directory file cannot be made or written"),
        (&["--listen", "127.0.0.1:0", "--data-dir", "/proc/none"], "--set data_dir=DIR"),
        (&["--require-isolation", "most"], "isolation.require is \"most\": expected auto, full, rootless or restricted"),
    ] {
        let output = place.greenroom(&[&["serve"], arguments].concat());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains(says), "{arguments:?}: {stderr}");
    }
}

#[test]
fn an_error_says_once_what_caused_it() {
    let place = Place::new(&[("greenroom.db", "this is a letter to nobody, and not at all what it should be")]);
    for arguments in [&["serve", "--listen", "127.0.0.1:0", "--data-dir", "."][..], &["keys", "list", "--set", "data_dir=."]] {
        let output = place.greenroom(arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert_eq!(stderr.matches("file is not a database").count(), 1, "{arguments:?}: {stderr}");
        assert!(stderr.contains("move it away"), "{stderr}");
    }
}

#[test]
fn doctor_looks_at_the_host_even_without_a_data_directory() {
    let place = Place::new(&[]);
    let output = place.greenroom(&["doctor", "--json", "--set", "data_dir=/proc/none"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["ready"], output.status.code()), (&false.into(), Some(1)));
    assert!(report["advice"].to_string().contains("the data directory /proc/none"), "{report}");
    let with_one: Value = serde_json::from_slice(&place.greenroom(&["doctor", "--json"]).stdout).unwrap();
    assert_eq!(report["isolation_met"], with_one["isolation_met"]);
}
