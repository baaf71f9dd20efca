//! Sessions: whose they are, how many there may be, and what becomes of them when something ends. Over Azure's data plane.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    thread::{JoinHandle, scope, sleep, spawn},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use greenroom_contract::{Request, Response};
use greenroom_escape::within;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{
    Coded,
    neighbour::hello,
    operations::{ANSWERED_WITHIN, footprint},
    server::{Server, send},
    suite::Suite,
};

pub const ROWS: &[Coded] = &[
    ("cross-session::session-id-guess", guess),
    ("operations::daemon-kill9-midrun::sessions", kill_with_sessions),
    ("operations::daemon-kill9-midrun::runner-with-sessions", kill_runner_with_sessions),
    ("operations::pool-exhausted", exhausted),
    ("api::delete-mid-run", delete_in_a_call),
    ("api::id-injection", strange_identifiers),
];

/// Says how an identifier's session before this one ended.
const ENDED: &str = "x-greenroom-session-ended";

/// The text as it is in a query.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        if byte.is_ascii_alphanumeric() {
            all.push(char::from(byte));
        } else {
            // To a String: cannot fail.
            write!(all, "%{byte:02x}").unwrap_or_default();
        }
        all
    })
}

/// A request to the pool `default`, on behalf of this identifier.
fn call(host: &str, method: &str, path: &str, identifier: &str, code: Option<&str>) -> Result<Response> {
    let identifier = encoded(identifier);
    let base = "/subscriptions/any/resourceGroups/any/sessionPools/default";
    let request = Request::new(method, &format!("{base}/{path}?api-version=2025-10-02-preview&identifier={identifier}"));
    send(host, &if let Some(code) = code { request.json(&json!({ "code": code })) } else { request })
}

fn execute(host: &str, identifier: &str, code: &str) -> Result<Response> {
    call(host, "POST", "executions", identifier, Some(code))
}

/// Executes what must succeed, and gives what it printed.
fn printed(host: &str, identifier: &str, code: &str) -> Result<String> {
    let response = execute(host, identifier, code)?;
    let answer = response.json();
    ensure!(response.status == 200 && answer["status"] == "Succeeded", "HTTP {}: {}", response.status, response.text());
    Ok(answer["result"]["stdout"].as_str().unwrap_or_default().trim().to_owned())
}

/// Whether a name is not known there: the session has nothing of another one.
fn is_empty(response: &Response) -> Result<()> {
    let answer = response.json();
    let stderr = answer["result"]["stderr"].as_str().unwrap_or_default();
    ensure!(answer["status"] == "Failed" && stderr.contains("NameError"), "HTTP {}: {}", response.status, response.text());
    Ok(())
}

/// Whoever does not know an identifier exactly reaches nothing of its session, and cannot tell that there is one.
fn guess(_: &Suite) -> Result<()> {
    Server::during(&["--set", "pools.default.max_sessions=12"], |server| {
        let (host, whole) = (server.host(), "4fd1c0a2-Victim-9be3");
        printed(host, whole, "secret = 'of the victim'; open('kept', 'w').write(secret)")?;
        let guesses = [
            "4fd1c0a2-Victim-9be", "4fd1c0a2-Victim-9be3 ", "4fd1c0a2-victim-9be3", "4fd1c0a2-Victim-9be4",
            "4fd1c0a2-Victim-9be3\0", "4fd1c0a2-Victim-9be3%20", "4fd1c0a2_Victim_9be3", "%34fd1c0a2-Victim-9be3",
        ];
        for guess in guesses {
            let seen = execute(host, guess, "secret")?;
            if seen.status == 200 {
                is_empty(&seen).with_context(|| format!("{guess:?}"))?;
                ensure!(printed(host, guess, "import os; print(os.listdir('.'))")? == "[]", "{guess:?} sees files");
            } else {
                ensure!((400..500).contains(&seen.status), "{guess:?}: HTTP {}", seen.status);
            }
        }
        // One that is there and is not the asker's is answered as one that is not there: by the same words.
        let looked = |identifier: &str| call(host, "GET", "session", identifier, None);
        let (near, far) = (looked("4fd1c0a2-Victim-9bff")?, looked("0000000000-Nobody-000")?);
        ensure!(near.status == far.status && near.status >= 400, "HTTP {} and {}", near.status, far.status);
        let without = |response: &Response, name: &str| response.text().replace(name, "NAME");
        let (a, b) = (without(&near, "4fd1c0a2-Victim-9bff"), without(&far, "0000000000-Nobody-000"));
        let code = |text: &str| serde_json::from_str::<serde_json::Value>(text).map(|value| value["error"]["code"].clone());
        ensure!(code(&a)? == code(&b)?, "{a} and {b}");
        // What is asked by another identifier of the same pool: an execution of the victim's.
        let running = execute(host, whole, "1")?.json()["id"].as_str().unwrap_or_default().to_owned();
        ensure!(running.len() >= 32, "an execution's id is not random: {running}");
        let theirs = call(host, "GET", &format!("executions/{running}"), "4fd1c0a2-Victim-9be4", None)?;
        ensure!(theirs.status == 404, "another's execution: HTTP {} {}", theirs.status, theirs.text());
        ensure!(printed(host, whole, "print(secret)")? == "of the victim", "the victim's session is not what it was");
        // Who knows an identifier has the session: it is in no log.
        ensure!(!server.log().contains(whole), "an identifier is in the log");
        Ok(())
    })
}

fn client(host: &str, identifier: &str, code: &'static str) -> JoinHandle<Result<Response>> {
    let (host, identifier) = (host.to_owned(), identifier.to_owned());
    spawn(move || execute(&host, &identifier, code))
}

/// `kill -9` of a server with sessions: nothing of them is left, and whoever comes back is told, once.
fn kill_with_sessions(_: &Suite) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let data = format!("data_dir={}", directory.path().display());
    let arguments = ["--set", data.as_str(), "--set", "pools.default.max_sessions=50", "--set", "pools.default.ready_sessions=2"];
    let names: Vec<String> = (0..12).map(|n| format!("session-of-{n}")).collect();

    let server = Server::own(&arguments, &[])?;
    let before = footprint(&server)?;
    for name in &names {
        printed(server.host(), name, "x = 41; import subprocess; p = subprocess.Popen(['sleep', '97'], start_new_session=True)")?;
    }
    let calls: Vec<_> = names[..4].iter().map(|name| client(server.host(), name, "import time; time.sleep(60)")).collect();
    within(Duration::from_secs(10), || {
        let programs = before.programs();
        // The interpreter and what it started, each.
        if programs.len() >= 2 * names.len() { Ok(()) } else { bail!("only {programs:?} run, nothing that could be left") }
    })?;
    sleep(Duration::from_millis(300));
    let full = footprint(&server)?;
    server.kill()?;
    full.is_gone()?;
    for call in calls {
        let answer = call.join().map_err(|_| anyhow!("a client panicked"))?;
        ensure!(answer.is_err(), "answered by a dead server: {answer:?}");
    }

    let server = Server::own(&arguments, &[])?;
    for name in &names {
        let first = execute(server.host(), name, "x")?;
        is_empty(&first).with_context(|| format!("{name}: its session outlived the server"))?;
        let told = first.header(ENDED).unwrap_or_default();
        ensure!(told == "session ended: the server was restarted", "{name} was told {told:?}");
        let second = execute(server.host(), name, "1")?;
        ensure!(second.header(ENDED).is_none(), "{name} was told twice: {:?}", second.header(ENDED));
    }
    let new = execute(server.host(), "nobody-before", "1")?;
    ensure!(new.header(ENDED).is_none(), "told of a session that never was: {:?}", new.header(ENDED));
    let after = footprint(&server)?;
    server.stop()?;
    after.is_gone()
}

/// `kill -9` of the runner: the sessions are lost, and said to be; the pool fills again by itself.
fn kill_runner_with_sessions(_: &Suite) -> Result<()> {
    let server = Server::own(&["--set", "pools.default.ready_sessions=2"], &[])?;
    let (host, names) = (server.host().to_owned(), ["lost-1", "lost-2", "lost-3"]);
    for name in names {
        printed(&host, name, "x = 41")?;
    }
    let full = footprint(&server)?;
    let running = client(&host, names[0], "import time; time.sleep(60)");
    sleep(Duration::from_millis(300));
    let runner = full.runner().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).context("no runner")?;
    kill_process(runner, Signal::KILL)?;
    let answer = running.join().map_err(|_| anyhow!("a client panicked"))??;
    ensure!(answer.status >= 400 || answer.json()["status"] == "Failed", "it succeeded: {}", answer.text());
    within(Duration::from_secs(5), || hello(&host, "again"))?;
    for name in names {
        let first = within(Duration::from_secs(10), || {
            let first = execute(&host, name, "x")?;
            is_empty(&first).map(|()| first)
        })
        .with_context(|| format!("{name} has no session again"))?;
        let told = first.header(ENDED).unwrap_or_default();
        ensure!(told.starts_with("session ended: "), "{name} was told {told:?}");
    }
    within(Duration::from_secs(10), || {
        let ready = metric(&host, "greenroom_pool_sessions{pool=\"default\",state=\"ready\"}")?;
        if ready == 2 { Ok(()) } else { bail!("{ready} sessions are ready, not 2") }
    })?;
    within(Duration::from_secs(5), || {
        let left = full.programs_of_then();
        if left.is_empty() { Ok(()) } else { bail!("programs of the dead runner are left: {left:?}") }
    })?;
    let after = footprint(&server)?;
    server.stop()?;
    after.is_gone()
}

/// A value of the metrics.
fn metric(host: &str, line: &str) -> Result<u64> {
    let text = send(host, &Request::new("GET", "/metrics"))?.text();
    let value = text.lines().find_map(|given| given.strip_prefix(line)).with_context(|| format!("no {line} in the metrics"))?;
    Ok(value.trim().parse()?)
}

/// More identifiers than sessions: who gets none is told at once, and there are never more than there may be.
fn exhausted(_: &Suite) -> Result<()> {
    const MOST: usize = 3;
    let settings = ["--set", "pools.default.max_sessions=3", "--set", "pools.default.ready_sessions=2"];
    Server::during(&settings, |server| {
        let (host, footprint) = (server.host(), footprint(server)?);
        let crowd: Vec<_> =
            (0..30).map(|n| client(host, &format!("crowd-{n}"), "import time; time.sleep(1); print('mine')")).collect();
        let begun = Instant::now();
        let (mut most, mut before) = (0, BTreeSet::new());
        while crowd.iter().any(|client| !client.is_finished()) {
            ensure!(begun.elapsed() < ANSWERED_WITHIN, "a client hangs");
            // In two looks: a child of a warm interpreter that is just being born looks like a program for a moment.
            let now: BTreeSet<u32> = footprint.programs().iter().map(|program| program.pid).collect();
            most = most.max(now.intersection(&before).count());
            before = now;
            sleep(Duration::from_millis(20));
        }
        ensure!(most <= MOST, "{most} sessions existed at once, {MOST} may");
        let mut served = 0;
        for client in crowd {
            let answer = client.join().map_err(|_| anyhow!("a client panicked"))??;
            match answer.status {
                200 => served += 1,
                429 => {
                    let after: u64 = answer.header("retry-after").context("429 without Retry-After")?.parse()?;
                    ensure!((1..=60).contains(&after), "Retry-After: {after}");
                    ensure!(answer.json()["code"] == "SessionsCountExceedsLimit", "{}", answer.text());
                }
                other => bail!("HTTP {other}: {}", answer.text()),
            }
        }
        ensure!(served == MOST, "{served} were served, there is room for {MOST}");
        ensure!(
            metric(host, "greenroom_pool_denied_total{pool=\"default\",reason=\"full\"}")? == 27,
            "the metrics count otherwise"
        );
        // One that is stopped makes room.
        let owner = (0..30)
            .map(|n| format!("crowd-{n}"))
            .find(|name| call(host, "GET", "session", name, None).is_ok_and(|r| r.status == 200));
        let stopped = call(host, "DELETE", "session", &owner.context("nobody has a session")?, None)?;
        ensure!(stopped.status == 204, "HTTP {}: {}", stopped.status, stopped.text());
        within(ANSWERED_WITHIN, || printed(host, "late-comer", "print('late')").map(drop))
    })
}

/// A session is deleted in the middle of a call, by several at once: the call is answered, and the next one begins anew.
fn delete_in_a_call(_: &Suite) -> Result<()> {
    Server::during(&[], |server| {
        let host = server.host();
        // By then the server holds what it will hold.
        printed(host, "to-delete", "x = 1")?;
        let footprint = footprint(server)?;
        let running = client(host, "to-delete", "import time; time.sleep(60); print('never')");
        // The first one has the session by then, and this one waits for it.
        sleep(Duration::from_millis(300));
        let waiting = client(host, "to-delete", "print('never either')");
        sleep(Duration::from_millis(500));
        let begun = Instant::now();
        scope(|scope| {
            let deleting: Vec<_> = (0..4).map(|_| scope.spawn(|| call(host, "DELETE", "session", "to-delete", None))).collect();
            deleting.into_iter().try_for_each(|deletion| {
                let deleted = deletion.join().map_err(|_| anyhow!("a client panicked"))??;
                ensure!(matches!(deleted.status, 204 | 404), "HTTP {}: {}", deleted.status, deleted.text());
                Ok(())
            })
        })?;
        for client in [running, waiting] {
            let answer = client.join().map_err(|_| anyhow!("a client panicked"))??;
            ensure!(!answer.text().contains("\"never"), "it went on after its session's end: {}", answer.text());
            let succeeded = answer.status == 200 && answer.json()["status"] == "Succeeded";
            ensure!(!succeeded, "a call succeeded in a session that was deleted: {}", answer.text());
        }
        ensure!(begun.elapsed() < Duration::from_secs(10), "calls of a deleted session were answered after {:?}", begun.elapsed());
        is_empty(&execute(host, "to-delete", "x")?)?;
        let deleted = call(host, "DELETE", "session", "to-delete", None)?;
        ensure!(deleted.status == 204, "HTTP {}: {}", deleted.status, deleted.text());
        footprint.is_clean()
    })
}

/// An identifier is a text and nothing else: no path, no name of a cgroup, no piece of SQL.
fn strange_identifiers(_: &Suite) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let data = format!("data_dir={}", directory.path().display());
    let arguments = ["--set", data.as_str(), "--set", "pools.default.max_sessions=20"];
    let long = "x".repeat(10 << 10);
    let strange = [
        "../..", "../../../../etc/passwd", "%2e%2e%2f", "cgroup.procs", "memory.max", "a/b/c/d", "nul\0nul",
        "line\r\nx-injected: 1", "'; DROP TABLE usage; --", "\"; DELETE FROM pools; --", &long, "....", "{{7*7}}", "$(reboot)",
    ];
    let known = Server::own(&arguments, &[])?;
    let tested = (|| {
        let host = known.host();
        for (number, name) in strange.iter().enumerate() {
            let answer = execute(host, name, &format!("n = {number}"))?;
            ensure!(matches!(answer.status, 200 | 400), "{name:?}: HTTP {} {}", answer.status, answer.text());
            ensure!(answer.header("x-injected").is_none(), "{name:?} is a header of the answer");
            if answer.status == 200 {
                ensure!(printed(host, name, "print(n)")? == number.to_string(), "{name:?} is not itself");
            }
        }
        for refused in ["", "nul\0nul", &long] {
            let answer = execute(host, refused, "1")?;
            ensure!(answer.status == 400, "{:?}: HTTP {}", &refused[..refused.len().min(20)], answer.status);
        }
        hello(host, "after strange identifiers")
    })();
    known.stop()?;
    tested?;
    // The store is whole: the pool is there, and who had a session is told.
    let again = Server::own(&arguments, &[])?;
    let told = execute(again.host(), "'; DROP TABLE usage; --", "1").and_then(|answer| match answer.status {
        // Not an identifier of this version of the API.
        400 => execute(again.host(), "cgroup.procs", "1"),
        _ => Ok(answer),
    });
    again.stop()?;
    let told = told?;
    ensure!(told.header(ENDED) == Some("session ended: the server shut down"), "{:?} {}", told.header(ENDED), told.text());
    Ok(())
}
