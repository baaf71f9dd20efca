//! The server's helpers die at every step there is, and nothing is left of them.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use greenroom_contract::Response;
use greenroom_escape::{Footprint, dead_instances, descendants, within};

use crate::{
    Coded,
    neighbour::hello,
    operations::{ANSWERED_WITHIN, client, footprint},
    server::{Server, program},
    suite::Suite,
};

pub const ROWS: &[Coded] = &[("operations::daemon-kill9-every-step", crash_at_every_step)];

/// Servers that are crashed at the same time: most of it is waiting.
const AT_ONCE: usize = 3;
/// What the log says where a helper of ours has died.
const DEATHS: [&str; 4] = ["the runner ended", "a slot is lost", "an execution failed", "cannot be prepared ahead"];

/// The log says so within this.
const SAID_WITHIN: Duration = Duration::from_secs(5);
/// What the server says where the runner died before there was a sandbox.
const NO_START: &str = "the runner process ended before it was ready";
/// A step that is taken only when a start has failed by itself.
const FAILED_START: &str = "sweep";
/// More than the template's file system takes (crates/sandbox/src/template.rs).
const TOO_LARGE: u64 = 100 << 20;

/// Whether a crash was seen that was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Crash {
    Seen,
    NotSeen,
}

/// The names that the binary gives the steps.
fn steps(suite: &Suite) -> Result<Vec<String>> {
    let binary = format!("/proc/{}/exe", suite.server.pid()?);
    let output = Command::new(binary).args(["runner", "--crash-points"]).output()?;
    let steps: Vec<_> = String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect();
    ensure!(steps.len() > 20, "the binary names {} steps", steps.len());
    Ok(steps)
}

fn crash_at_every_step(suite: &Suite) -> Result<()> {
    let steps = steps(suite)?;
    // Names are in every build, crash points only in one with debug assertions.
    let first = steps.first().context("no steps")?;
    ensure!(
        crash_at(first).with_context(|| first.clone())? == Crash::Seen,
        "this binary does not crash at {first} when told to: it was built without debug assertions (--release), so nothing \
         can be tested. Build it with `cargo build`, or leave this row out"
    );
    let left = Mutex::new(steps[1..].iter());
    let next = || left.lock().ok().and_then(|mut left| left.next());
    let (wrong, not_seen) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let note =
        |list: &Mutex<Vec<String>>, what: String| list.lock().map(|mut list| list.push(what)).map_err(|_| anyhow!("poisoned"));
    thread::scope(|scope| {
        let crashing: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let Some(step) = next() {
                        match crash_at(step) {
                            Ok(Crash::Seen) => {}
                            Ok(Crash::NotSeen) => note(&not_seen, step.clone())?,
                            Err(error) => note(&wrong, format!("{step}: {error:#}"))?,
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        crashing.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })?;
    let (wrong, not_seen) = (wrong.into_inner().unwrap_or_default(), not_seen.into_inner().unwrap_or_default());
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(not_seen.is_empty(), "no crash was seen at {not_seen:?}: these steps are not tested");
    // And from all of it a start without crashes recovers.
    let server = Server::own(&[], &[])?;
    let (footprint, well) = (footprint(&server)?, hello(server.host(), "after all crashes"));
    let dead = dead_instances();
    server.stop()?;
    ensure!(dead.is_empty(), "a start did not sweep what dead instances left: {dead:?}");
    well?;
    footprint.is_gone()
}

fn crash_at(step: &str) -> Result<Crash> {
    let begun = Instant::now();
    // Two stages, and a network: so that there is no step that is not taken.
    let small = ["sandboxes.ready=1", "sandboxes.max=2", "admission.max_concurrent=1", "isolation.network=loopback"];
    let mut settings = small.map(str::to_owned).to_vec();
    let system = tempfile::tempdir()?;
    if step == FAILED_START {
        too_large(system.path())?;
        settings.push(format!("isolation.system_root={}", system.path().display()));
    }
    let arguments: Vec<_> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let server = match Server::own(&arguments, &[("GREENROOM_CRASH_AT", step)]) {
        Ok(server) => server,
        // Some steps are taken before there is a server at all; its answer is then that it does not start.
        Err(error) => {
            ensure!(begun.elapsed() < ANSWERED_WITHIN, "a start that cannot succeed hung");
            let crashed = format!("{error:#}").contains(NO_START);
            return if crashed { Ok(Crash::Seen) } else { Err(error.context("no start, and not for the crash")) };
        }
    };
    let pid = server.pid()?;
    let footprint = Footprint::of(pid);
    let client = client(server.host(), program("c", "#include <stdio.h>\nint main(void) { puts(\"hello\"); }"));
    let answered = within(ANSWERED_WITHIN, || if client.is_finished() { Ok(()) } else { bail!("a client hangs") });
    let answer = client.is_finished().then(|| client.join().map_err(|_| anyhow!("the client panicked"))).transpose()?;
    let answer = answer.and_then(Result::ok);
    let fault = answer.as_ref().is_some_and(is_our_fault);
    // Some steps come after the answer.
    let died = fault || within(SAID_WITHIN, || has_died(&server.log())).is_ok();
    let below = descendants(pid);
    let stopped = server.stop();
    answered?;
    stopped?;
    if let Some(answer) = answer {
        ensure!(fault || answer.text().contains("hello"), "a crash of ours became a verdict: {}", answer.text());
    }
    if let Ok(footprint) = footprint {
        footprint.is_gone()?;
    }
    within(Duration::from_secs(5), || {
        let left: Vec<_> = below.iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect();
        if left.is_empty() { Ok(()) } else { bail!("processes are left: {left:?}") }
    })?;
    Ok(if died { Crash::Seen } else { Crash::NotSeen })
}

fn has_died(log: &str) -> Result<()> {
    if DEATHS.iter().any(|death| log.contains(death)) { Ok(()) } else { bail!("nothing has died") }
}

/// A system from which no template can be made: one of the files that every template copies is too large (and has holes).
fn too_large(root: &Path) -> Result<()> {
    fs::create_dir(root.join("usr"))?;
    fs::create_dir(root.join("etc"))?;
    Ok(fs::File::create(root.join("etc/services"))?.set_len(TOO_LARGE)?)
}

fn is_our_fault(answer: &Response) -> bool {
    answer.status >= 500 || answer.status == 429 || ["run", "compile"].iter().any(|stage| answer.json()[stage]["status"] == "XX")
}
