//! What happens to the machine, and to the clients, when something of ours dies or runs short.

use std::{
    net::TcpStream,
    process::Command,
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use greenroom_contract::{Connection, Request, Response, Server};
use greenroom_escape::{Footprint, descendants, within};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::{Value, json};

use crate::{
    Coded,
    neighbour::hello,
    suite::{Suite, own, program},
};

/// A client gets an answer, or is hung up on, within this: nobody waits for ever for something that died.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);

pub const ROWS: &[Coded] = &[
    ("operations::daemon-kill9-midrun::server", kill_server),
    ("operations::daemon-kill9-midrun::runner", kill_runner),
    ("operations::daemon-kill9-midrun::drain", drain),
    ("operations::daemon-kill9-every-step", crash_at_every_step),
    ("operations::fd-limit-daemon", few_descriptors),
];

/// A request whose answer is awaited elsewhere.
fn client(host: &str, body: Value) -> JoinHandle<Result<Response>> {
    let host = host.to_owned();
    spawn(move || Connection::open(&host)?.send(&Request::new("POST", "/api/v2/execute").json(&body)))
}

/// Programs that leave children and sleep.
fn sleepers(server: &Server, count: usize) -> Vec<JoinHandle<Result<Response>>> {
    (0..count).map(|_| client(server.host(), program("bash", "(setsid sleep 9 &); sleep 2.9 & sleep 2.9"))).collect()
}

fn footprint(server: &Server) -> Result<Footprint> {
    let pid = server.pid().context("the server is not ours")?;
    within(Duration::from_secs(5), || Footprint::of(pid))
}

fn await_programs(footprint: &Footprint, count: usize) -> Result<()> {
    within(Duration::from_secs(5), || {
        let programs = footprint.programs();
        if programs.len() >= count { Ok(()) } else { bail!("only {programs:?} run, nothing that could be left") }
    })
}

fn kill_server(_: &Suite) -> Result<()> {
    let server = own(&["--set", "admission.max_concurrent=8", "--set", "sandboxes.max=20"], &[])?;
    let footprint = footprint(&server)?;
    let clients = sleepers(&server, 8);
    await_programs(&footprint, 16)?;
    let full = self::footprint(&server)?;
    server.kill()?;
    full.is_gone()?;
    for client in clients {
        let answer = client.join().map_err(|_| anyhow!("a client panicked"))?;
        ensure!(answer.is_err(), "answered by a dead server: {answer:?}");
    }
    Ok(())
}

fn kill_runner(_: &Suite) -> Result<()> {
    let server = own(&["--set", "admission.max_concurrent=4", "--set", "sandboxes.max=12"], &[])?;
    let before = footprint(&server)?;
    let clients = sleepers(&server, 4);
    await_programs(&before, 8)?;
    let full = footprint(&server)?;
    let runner = before.runner().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).context("no runner")?;
    kill_process(runner, Signal::KILL)?;
    for client in clients {
        let answer = client.join().map_err(|_| anyhow!("a client panicked"))??;
        // Our fault, and said so; never a verdict about the program.
        ensure!(answer.status >= 500 || answer.json()["run"]["status"] == "XX", "{} {}", answer.status, answer.text());
    }
    within(Duration::from_secs(5), || hello(server.host(), "again"))?;
    within(Duration::from_secs(5), || {
        let left = full.programs_of_then();
        if left.is_empty() { Ok(()) } else { bail!("programs of the dead runner are left: {left:?}") }
    })?;
    let after = footprint(&server)?;
    server.stop()?;
    after.is_gone()?;
    full.is_gone()
}

/// The names that the binary gives the steps.
fn steps(suite: &Suite) -> Result<Vec<String>> {
    let binary = format!("/proc/{}/exe", suite.pid()?);
    let output = Command::new(binary).args(["runner", "--crash-points"]).output()?;
    let steps: Vec<_> = String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect();
    ensure!(steps.len() > 20, "the binary names {} steps", steps.len());
    Ok(steps)
}

fn crash_at_every_step(suite: &Suite) -> Result<()> {
    let mut wrong = Vec::new();
    for step in steps(suite)? {
        if let Err(error) = crash_at(&step) {
            wrong.push(format!("{step}: {error:#}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    // And from all of it a start without crashes recovers.
    let server = own(&[], &[])?;
    let (footprint, well) = (footprint(&server)?, hello(server.host(), "after all crashes"));
    server.stop()?;
    well?;
    footprint.is_gone()
}

fn crash_at(step: &str) -> Result<()> {
    let begun = Instant::now();
    let small = ["--set", "sandboxes.ready=1", "--set", "sandboxes.max=2", "--set", "admission.max_concurrent=1"];
    // Some steps are taken before there is a server at all; its answer is then that it does not start.
    let Ok(server) = own(&small, &[("GREENROOM_CRASH_AT", step)]) else {
        ensure!(begun.elapsed() < ANSWERED_WITHIN, "a start that cannot succeed hung");
        return Ok(());
    };
    let pid = server.pid().context("the server is not ours")?;
    let footprint = Footprint::of(pid);
    let client = client(server.host(), program("bash", "echo hello"));
    let answered = within(ANSWERED_WITHIN, || if client.is_finished() { Ok(()) } else { bail!("a client hangs") });
    let below = descendants(pid);
    let stopped = server.stop();
    answered?;
    stopped?;
    if let Ok(answer) = client.join().map_err(|_| anyhow!("the client panicked"))? {
        let fault = answer.status >= 500
            || answer.status == 429
            || ["run", "compile"].iter().any(|stage| answer.json()[stage]["status"] == "XX");
        ensure!(fault || answer.text().contains("hello"), "a crash of ours became a verdict: {}", answer.text());
    }
    if let Ok(footprint) = footprint {
        footprint.is_gone()?;
    }
    within(Duration::from_secs(5), || {
        let left: Vec<_> = below.iter().filter(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists()).collect();
        if left.is_empty() { Ok(()) } else { bail!("processes are left: {left:?}") }
    })
}

fn few_descriptors(_: &Suite) -> Result<()> {
    let server = own(&[], &[])?;
    let pid = server.pid().context("the server is not ours")?;
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no pid")?;
    prlimit(Some(process), Resource::Nofile, Rlimit { current: Some(256), maximum: Some(256) })?;
    // More than it may have open, not more than may wait to be accepted.
    let crowd: Vec<_> = (0..330).filter_map(|_| TcpStream::connect(server.host()).ok()).collect();
    let before = processor_time(pid)?;
    sleep(Duration::from_secs(1));
    let spent = processor_time(pid)? - before;
    drop(crowd);
    let well = within(Duration::from_secs(10), || hello(server.host(), "after the crowd"));
    let footprint = footprint(&server)?;
    server.stop()?;
    well?;
    footprint.is_gone()?;
    // Ticks of 10 ms: a loop that spins takes a hundred.
    ensure!(spent < 50, "the server spent {spent} ticks of a second on connections that it cannot accept");
    Ok(())
}

/// User and system time of a process, in ticks (proc(5), /proc/pid/stat, fields 14 and 15).
fn processor_time(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit(')').next().context("no stat")?.split_whitespace();
    fields.skip(11).take(2).map(|field| Ok(field.parse::<u64>()?)).sum()
}

/// SIGTERM: what runs may finish.
fn drain(_: &Suite) -> Result<()> {
    let server = own(&[], &[])?;
    let footprint = footprint(&server)?;
    let running =
        client(server.host(), json!({"language": "bash", "version": "*", "files": [{"content": "sleep 1; echo finished"}]}));
    await_programs(&footprint, 1)?;
    server.stop()?;
    let answer = running.join().map_err(|_| anyhow!("the client panicked"))??.text();
    ensure!(answer.contains("finished"), "{answer}");
    footprint.is_gone()
}
