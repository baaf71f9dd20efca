//! What happens to the machine when something of ours dies.

use std::{
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use greenroom_contract::{Connection, Request, Server};
use greenroom_escape::Host;
use libtest_mimic::{Failed, Trial};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::json;

use crate::hello;

/// The promise: clean within this after anything of ours was killed.
const CLEAN_WITHIN: Duration = Duration::from_secs(5);

/// The rows.
pub const NAMES: &[&str] = &["daemon-kill9-midrun", "daemon-kill9-every-step", "fd-limit-daemon"];

/// The tests; each has servers of its own.
pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("operations::daemon-kill9-midrun::server", || kill_server()),
        Trial::test("operations::daemon-kill9-midrun::runner", || kill_runner()),
        Trial::test("operations::daemon-kill9-every-step", || crash_at_every_step()),
        Trial::test("operations::fd-limit-daemon", || few_descriptors()),
        Trial::test("operations::drain", || drain()),
    ]
}

fn own(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Server, Failed> {
    Ok(Server::own(arguments, environment)?.map_err(|none| none.0)?)
}

/// Programs that sleep, from connections that stay open.
fn sleepers(server: &Server, count: usize) -> Vec<std::thread::JoinHandle<()>> {
    let body = json!({ "language": "bash", "version": "*", "files": [{ "content": "sleep 2.9 & sleep 2.9" }] });
    let start = |_| {
        let (host, body) = (server.host().to_owned(), body.clone());
        std::thread::spawn(move || {
            // Whatever the answer is, or that there is none.
            let _answer = Connection::open(&host)
                .and_then(|mut connection| connection.send(&Request::new("POST", "/api/v2/execute").json(&body)));
        })
    };
    (0..count).map(start).collect()
}

/// Nothing of ours is left but what was there before.
fn clean(cgroups_before: &[String]) -> Result<(), Failed> {
    let deadline = Instant::now() + CLEAN_WITHIN;
    loop {
        let (programs, cgroups) = (Host::programs(), Host::cgroups());
        let new: Vec<&String> = cgroups.iter().filter(|path| !cgroups_before.contains(path)).collect();
        if programs.is_empty() && new.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("left after {CLEAN_WITHIN:?}: programs {programs:?}, cgroups {new:?}").into());
        }
        sleep(Duration::from_millis(50));
    }
}

fn kill_server() -> Result<(), Failed> {
    let (before, host) = (Host::cgroups(), Host::look()?);
    let server = own(&["--set", "admission.max_concurrent=8"], &[])?;
    let clients = sleepers(&server, 8);
    sleep(Duration::from_millis(500));
    if Host::programs().is_empty() {
        return Err("nothing runs that could be left".into());
    }
    server.kill()?;
    clean(&before)?;
    for client in clients {
        client.join().map_err(|_| "a client panicked")?;
    }
    Ok(host.is_unchanged()?)
}

/// The server's child: its runner.
fn runner_of(server: &Server) -> Result<Pid, Failed> {
    let parent = server.pid().ok_or("the server is not ours")?;
    let children = Command::new("ps").args(["-o", "pid=", "--ppid", &parent.to_string()]).output()?;
    let pid: i32 = String::from_utf8_lossy(&children.stdout).trim().lines().next().ok_or("no runner")?.trim().parse()?;
    Ok(Pid::from_raw(pid).ok_or("no pid")?)
}

fn kill_runner() -> Result<(), Failed> {
    let before = Host::cgroups();
    let server = own(&["--set", "admission.max_concurrent=4"], &[])?;
    let clients = sleepers(&server, 4);
    sleep(Duration::from_millis(500));
    kill_process(runner_of(&server)?, Signal::KILL)?;
    for client in clients {
        client.join().map_err(|_| "a client panicked")?;
    }
    let deadline = Instant::now() + CLEAN_WITHIN;
    while let Err(error) = hello(&server) {
        if Instant::now() > deadline {
            return Err(error);
        }
        sleep(Duration::from_millis(50));
    }
    server.stop()?;
    clean(&before)
}

fn crash_at_every_step() -> Result<(), Failed> {
    let before = Host::cgroups();
    let binary = std::env::var_os("GREENROOM_BIN").map(std::path::PathBuf::from).or_else(|| {
        let suite = std::env::current_exe().ok()?;
        Some(suite.parent()?.parent()?.join("greenroom"))
    });
    let steps = Command::new(binary.ok_or("no binary")?).args(["runner", "--crash-points"]).output()?;
    for step in String::from_utf8(steps.stdout)?.lines() {
        // Some crash the runner before it is ready: then there is no server, and that is its answer.
        if let Ok(Ok(server)) =
            Server::own(&["--set", "sandboxes.ready=1", "--set", "sandboxes.max=2"], &[("GREENROOM_CRASH_AT", step)])
        {
            let host = server.host().to_owned();
            let body = json!({ "language": "bash", "version": "*", "files": [{ "content": "echo hello" }] });
            let client = std::thread::spawn(move || {
                Connection::open(&host)
                    .and_then(|mut connection| connection.send(&Request::new("POST", "/api/v2/execute").json(&body)))
                    .is_ok()
            });
            let deadline = Instant::now() + Duration::from_secs(2);
            while !client.is_finished() && Instant::now() < deadline {
                sleep(Duration::from_millis(20));
            }
            server.kill()?;
            client.join().map_err(|_| "the client panicked")?;
        }
        clean_after(step, &before)?;
    }
    let server = own(&[], &[])?;
    let well = hello(&server);
    server.stop()?;
    well?;
    clean(&before)
}

/// A crash of the runner itself leaves empty directories, which the next start sweeps.
fn clean_after(step: &str, before: &[String]) -> Result<(), Failed> {
    if clean_quickly(before) {
        return Ok(());
    }
    own(&[], &[])?.stop()?;
    clean(before).map_err(|error| format!("after a crash at {step}: {error:?}").into())
}

fn clean_quickly(before: &[String]) -> bool {
    let deadline = Instant::now() + Duration::from_millis(500);
    while Instant::now() < deadline {
        if Host::programs().is_empty() && Host::cgroups().iter().all(|path| before.contains(path)) {
            return true;
        }
        sleep(Duration::from_millis(20));
    }
    false
}

fn few_descriptors() -> Result<(), Failed> {
    let server = own(&[], &[])?;
    let pid = server.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).ok_or("no pid")?;
    let open = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero()))?.count() as u64;
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(open + 20), maximum: Some(open + 20) })?;
    let crowd: Vec<_> = (0..200).filter_map(|_| std::net::TcpStream::connect(server.host()).ok()).collect();
    sleep(Duration::from_millis(300));
    drop(crowd);
    sleep(Duration::from_millis(300));
    let well = hello(&server);
    server.stop()?;
    well
}

fn drain() -> Result<(), Failed> {
    let server = own(&[], &[])?;
    let host = server.host().to_owned();
    let running = std::thread::spawn(move || {
        let body = json!({ "language": "bash", "version": "*", "files": [{ "content": "sleep 1; echo finished" }] });
        Connection::open(&host).and_then(|mut connection| connection.send(&Request::new("POST", "/api/v2/execute").json(&body)))
    });
    sleep(Duration::from_millis(300));
    server.stop()?;
    let answer = running.join().map_err(|_| "the client panicked")??.text();
    if answer.contains("finished") { Ok(()) } else { Err(answer.into()) }
}
