//! What happens to the machine, and to the clients, when something of ours dies or runs short.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread::{JoinHandle, scope, sleep, spawn},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use greenroom_contract::{Connection, Request, Response};
use greenroom_escape::{Footprint, keeps_secret, within};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;

use crate::{
    Coded,
    neighbour::hello,
    server::{Server, execute, program},
    suite::Suite,
};

/// A client gets an answer, or is hung up on, within this: nobody waits for ever for something that died.
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(15);

pub const ROWS: &[Coded] = &[
    ("operations::daemon-kill9-midrun::server", kill_server),
    ("operations::daemon-kill9-midrun::runner", kill_runner),
    ("operations::daemon-kill9-midrun::drain", drain),
    ("operations::fd-limit-daemon", few_descriptors),
];

/// A request whose answer is awaited elsewhere.
pub fn client(host: &str, body: Value) -> JoinHandle<Result<Response>> {
    let host = host.to_owned();
    spawn(move || execute(&host, &body))
}

/// Programs that leave children and sleep.
fn sleepers(server: &Server, count: usize) -> Vec<JoinHandle<Result<Response>>> {
    (0..count).map(|_| client(server.host(), program("bash", "(setsid sleep 9 &); sleep 2.9 & sleep 2.9"))).collect()
}

pub fn footprint(server: &Server) -> Result<Footprint> {
    let pid = server.pid()?;
    within(Duration::from_secs(5), || Footprint::of(pid))
}

fn await_programs(footprint: &Footprint, count: usize) -> Result<()> {
    within(Duration::from_secs(5), || {
        let programs = footprint.programs();
        if programs.len() >= count { Ok(()) } else { bail!("only {programs:?} run, nothing that could be left") }
    })
}

fn kill_server(_: &Suite) -> Result<()> {
    let server = Server::own(&["--set", "admission.max_concurrent=8", "--set", "sandboxes.max=20"], &[])?;
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
    let server = Server::own(&["--set", "admission.max_concurrent=4", "--set", "sandboxes.max=12"], &[])?;
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

/// The catalogue's: so many clients, and so many descriptors.
const CROWD: usize = 500;
const DESCRIPTORS: u64 = 256;

/// More clients than it may have open, each with a request: it serves those it can take, rests, and takes the others when
/// it can.
fn few_descriptors(_: &Suite) -> Result<()> {
    Server::during(&[], |server| {
        hello(server.host(), "before the crowd")?;
        let footprint = Footprint::at_rest(server.pid()?)?;
        prlimit(Some(server.process()?), Resource::Nofile, Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) })?;
        let (served, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        scope(|scope| {
            let crowd: Vec<_> = (0..CROWD).map(|_| scope.spawn(|| stay(server.host(), &served, &over))).collect();
            // As many as it can take are answered before its rest is measured.
            sleep(Duration::from_millis(1000));
            let before = processor_time(server.pid()?);
            sleep(Duration::from_secs(1));
            let spent = before.and_then(|before| Ok(processor_time(server.pid()?)? - before));
            let at_first = served.load(Ordering::SeqCst);
            // Those who were served go, the others come in; nobody is forgotten.
            over.store(true, Ordering::SeqCst);
            crowd.into_iter().try_for_each(|client| client.join().map_err(|_| anyhow!("a client panicked"))?)?;
            let spent = spent?;
            ensure!(at_first > 100, "{at_first} of {CROWD} clients were served with {DESCRIPTORS} descriptors");
            ensure!(at_first < CROWD, "{CROWD} clients were served with {DESCRIPTORS} descriptors: the limit was not met");
            // Ticks of 10 ms: a loop that spins takes a hundred.
            ensure!(spent < 50, "the server spent {spent} ticks of a second on connections that it cannot accept");
            Ok(())
        })?;
        hello(server.host(), "after the crowd")?;
        footprint.is_clean()
    })
}

/// A client of the crowd: asks, is served, and keeps its connection until it is over.
fn stay(host: &str, served: &AtomicUsize, over: &AtomicBool) -> Result<()> {
    let mut connection = Connection::open(host)?;
    let response = connection.send(&Request::new("GET", "/healthz")).context("a client was not served")?;
    keeps_secret("an answer", &response.body)?;
    ensure!(response.status == 200, "a client was turned away: {} {}", response.status, response.text());
    served.fetch_add(1, Ordering::SeqCst);
    while !over.load(Ordering::SeqCst) {
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// User and system time of a process, in ticks (proc(5), /proc/pid/stat, fields 14 and 15).
fn processor_time(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit(')').next().context("no stat")?.split_whitespace();
    fields.skip(11).take(2).map(|field| Ok(field.parse::<u64>()?)).sum()
}

/// SIGTERM: what runs may finish, nobody new comes in, and the end is a good one ([`Server::stop`] looks at the status).
fn drain(_: &Suite) -> Result<()> {
    let server = Server::own(&[], &[])?;
    let (footprint, host) = (footprint(&server)?, server.host().to_owned());
    let running = client(&host, program("bash", "sleep 1; echo finished"));
    await_programs(&footprint, 1)?;
    let newcomer = spawn(move || {
        sleep(Duration::from_millis(300));
        execute(&host, &program("bash", "echo too late"))
    });
    server.stop()?;
    let answer = running.join().map_err(|_| anyhow!("the client panicked"))??.text();
    ensure!(answer.contains("finished"), "{answer}");
    if let Ok(late) = newcomer.join().map_err(|_| anyhow!("the client panicked"))? {
        ensure!(late.status == 503, "let in while draining: {} {}", late.status, late.text());
    }
    footprint.is_gone()
}
