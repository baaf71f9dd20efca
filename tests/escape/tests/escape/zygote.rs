//! Children of one warm interpreter: what they must not share they do not, and nothing of it is in their reach.
//!
//! A program that started cold says nothing about any of this: every program here tells whether it was forked, and is run
//! again until it was.

use std::{
    collections::BTreeSet,
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use greenroom_contract::Request;
use greenroom_escape::{NotTested, descendants, within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{
    Coded,
    operations::{ANSWERED_WITHIN, footprint},
    programs::clients,
    server::{Server, program, send},
    suite::Suite,
};

pub const ROWS: &[Coded] = &[
    ("zygote-fork::python-random-instance", |suite| {
        differ(suite, "import random; print(random.Random().random(), random.random())")
    }),
    ("zygote-fork::numpy-legacy", |suite| differ(suite, "import numpy; print(numpy.random.rand())")),
    ("zygote-fork::numpy-default-rng", |suite| differ(suite, "import numpy; print(numpy.random.default_rng().random())")),
    ("zygote-fork::openssl-rand-same-pid", |suite| differ(suite, "import ssl; print(ssl.RAND_bytes(8).hex())")),
    ("zygote-fork::cryptography-keygen", |suite| differ(suite, KEY)),
    ("zygote-fork::tempfile-names", |suite| differ(suite, "import tempfile; print(next(tempfile._get_candidate_names()))")),
    ("zygote-fork::uuid1-node-clockseq", |suite| differ(suite, "import uuid; print(uuid.getnode(), uuid.uuid1().clock_seq)")),
    ("zygote-fork::uuid4-secrets-urandom", |suite| {
        differ(suite, "import os, secrets, uuid; print(uuid.uuid4(), secrets.token_hex(), os.urandom(8).hex())")
    }),
    ("zygote-fork::multiprocessing-authkey", |suite| {
        differ(suite, "import multiprocessing as m; print(bytes(m.current_process().authkey).hex())")
    }),
    ("zygote-fork::hash-seed", |suite| renewed(suite, "print(hash('x'))")),
    ("zygote-fork::stack-canary", stack_canary),
    ("zygote-fork::libc-rand", libc_rand),
    ("zygote-fork::stdio-buffers", stdio_buffers),
    ("zygote-fork::signals-inherited", signals_inherited),
    ("zygote-fork::ru-maxrss-inflated", memory_is_the_cgroups),
    ("zygote-fork::cow-charge-owner", charged_to_who_writes),
    ("zygote-fork::zygote-reach", reach),
    ("zygote-fork::zygote-bloat", bloat),
    ("operations::daemon-kill9-midrun::zygote", kill_zygote),
    ("operations::daemon-kill9-midrun::zygote-stopped", stopped_zygote),
];

const KEY: &str = "from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey as K
from cryptography.hazmat.primitives.serialization import Encoding as E, PublicFormat as F
print(K.generate().public_key().public_bytes(E.Raw, F.Raw).hex())";

/// The canary is at `fs:0x28`, and `fs:0x10` says where `fs` is: the thread's own address.
const CANARY: &str = "import ctypes
c = ctypes.CDLL(None); c.pthread_self.restype = ctypes.c_ulong
print(hex(ctypes.c_ulong.from_address(c.pthread_self() + 0x28).value))";

/// What a program says first that was not forked.
const COLD: &str = "it started cold";

/// A program that says so, and does no more, where it was not forked.
fn forked(source: &str) -> String {
    format!("import sys\nif 'zygote/python.so' not in open('/proc/self/maps').read(): print('{COLD}'); sys.exit()\n{source}")
}

/// What a program prints that is a zygote's child.
fn printed(server: &Server, source: &str) -> Result<String> {
    let body = program("python", &forked(source));
    within(Duration::from_secs(20), || {
        let printed = server.stdout_of(&body)?;
        if printed == COLD { bail!("no program ever comes from the zygote") } else { Ok(printed) }
    })
}

/// Skips what needs a module that is not installed.
fn needs_of(server: &Server, source: &str) -> Result<()> {
    let module = source.split_whitespace().nth(1).unwrap_or_default().trim_end_matches(';').split('.').next().unwrap_or_default();
    let module = module.trim_end_matches(',');
    let found = printed(server, &format!("import importlib.util as u; print(u.find_spec('{module}') is not None)"))?;
    if found == "True" { Ok(()) } else { Err(NotTested(format!("Python's module {module} is not installed")).into()) }
}

/// In several children of one zygote, and in as many sessions, this is another each time.
fn differ(suite: &Suite, source: &str) -> Result<()> {
    const TIMES: usize = 4;
    needs_of(&suite.server, source)?;
    let programs = (0..TIMES).map(|_| printed(&suite.server, source)).collect::<Result<Vec<_>>>()?;
    let sessions = (0..TIMES).map(|number| in_session(suite, number, source)).collect::<Result<Vec<_>>>()?;
    let all: Vec<_> = programs.into_iter().chain(sessions).collect();
    let different: BTreeSet<_> = all.iter().collect();
    ensure!(different.len() == all.len(), "two of one zygote have the same: {all:?}");
    Ok(())
}

/// The same in a session that was forked.
fn in_session(suite: &Suite, number: usize, source: &str) -> Result<String> {
    let mut next = 0;
    within(Duration::from_secs(20), || {
        next += 1;
        let path = "/subscriptions/any/resourceGroups/any/sessionPools/default";
        let query = format!("api-version=2025-10-02-preview&identifier=zygote-{number}-{next}");
        // `sys.exit` in a session is the end of the cell only.
        let code = json!({ "code": forked(source) });
        let answer = send(suite.host(), &Request::new("POST", &format!("{path}/executions?{query}")).json(&code))?;
        // A place in the pool for the next.
        let deleted = send(suite.host(), &Request::new("DELETE", &format!("{path}/session?{query}")))?;
        let printed = answer.json()["result"]["stdout"].as_str().unwrap_or_default().trim().to_owned();
        ensure!(answer.status == 200 && deleted.status < 500, "HTTP {}: {}", answer.status, answer.text());
        if printed == COLD { bail!("no session ever comes from the zygote") } else { Ok(printed) }
    })
}

/// Shared by the children of one zygote, as is documented (docs/isolation.md); the next zygote has another.
fn renewed(_: &Suite, source: &str) -> Result<()> {
    Server::during(&[], |server| {
        let old = printed(server, source)?;
        end_zygotes(server)?;
        // Children that were forked before are used up first.
        within(Duration::from_secs(20), || {
            let new = printed(server, source)?;
            ensure!(new != old, "the next zygote has {old} too");
            Ok(())
        })
    })
}

fn stack_canary(suite: &Suite) -> Result<()> {
    if cfg!(not(target_arch = "x86_64")) {
        return Err(NotTested("where the canary is kept is known for x86_64 only".to_owned()).into());
    }
    renewed(suite, CANARY)
}

/// What a program prints that was forked, and what the same prints in an interpreter of its own.
fn forked_and_fresh(suite: &Suite, source: &str) -> Result<(String, String)> {
    let again = "import os, sys\nif len(sys.argv) < 2: os.execv(sys.executable, [sys.executable, sys.argv[0], 'again'])";
    let fresh = suite.server.stdout_of(&program("python", &format!("{again}\n{source}")))?;
    Ok((printed(&suite.server, source)?, fresh))
}

fn libc_rand(suite: &Suite) -> Result<()> {
    // Without a seed it is the same in any process of any system; what matters is that the zygote has used none of it.
    let source = "import ctypes; c = ctypes.CDLL(None); print([c.rand() for _ in range(3)])";
    let (forked, fresh) = forked_and_fresh(suite, source)?;
    ensure!(forked == fresh, "the zygote has used up numbers: {forked}, a fresh process has {fresh}");
    Ok(())
}

fn stdio_buffers(suite: &Suite) -> Result<()> {
    let source = "import ctypes; ctypes.CDLL(None).puts(b'of C'); ctypes.CDLL(None).fflush(None); print('of Python')";
    let text = printed(&suite.server, source)?;
    ensure!(text == "of C\nof Python", "something was in a buffer before: {text:?}");
    Ok(())
}

fn signals_inherited(suite: &Suite) -> Result<()> {
    let source = "import signal
lines = open('/proc/self/status').read().splitlines()
print([l.split()[1] for l in lines if l.startswith(('SigBlk', 'SigIgn', 'SigCgt', 'SigPnd', 'ShdPnd'))])
print([signal.getitimer(n) for n in range(3)])";
    let (forked, fresh) = forked_and_fresh(suite, source)?;
    ensure!(forked == fresh, "forked {forked}, fresh {fresh}");
    Ok(())
}

fn memory_is_the_cgroups(suite: &Suite) -> Result<()> {
    // What the process is told of its own size is the zygote's too; what is judged and answered is its own.
    let told: u64 =
        printed(&suite.server, "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)")?.parse()?;
    let mut body = program("python", &forked("print(1)"));
    body["run_memory_limit"] = (told * 1024 / 2).into();
    let answer = within(Duration::from_secs(20), || {
        let answer = suite.server.execute(&body)?;
        ensure!(answer["run"]["stdout"] == "1\n", "{answer}");
        Ok(answer)
    })?;
    let own = answer["run"]["memory"].as_u64().context("no memory")?;
    ensure!(own < told * 1024, "{own} bytes, of {told} KiB that it is told");
    Ok(())
}

fn charged_to_who_writes(suite: &Suite) -> Result<()> {
    const BYTES: u64 = 40 << 20;
    let memory = |source: &str, limit: Option<u64>| {
        let mut body = program("python", &forked(source));
        if let Some(limit) = limit {
            body["run_memory_limit"] = limit.into();
        }
        within(Duration::from_secs(20), || {
            let answer = suite.server.execute(&body)?;
            ensure!(!answer["run"]["stdout"].as_str().unwrap_or_default().contains(COLD), "it never comes from the zygote");
            Ok(answer["run"].clone())
        })
    };
    let (small, large) = (memory("print(1)", None)?, memory(&format!("x = bytearray({BYTES})"), None)?);
    let of = |run: &serde_json::Value| run["memory"].as_u64().context("no memory");
    // What an earlier run's pages, not yet given back, had charged when this one began is not this one's.
    ensure!(of(&large)? >= BYTES - (1 << 20), "what a child writes is not its own: {small} {large}");
    // It goes through every object that it has from the zygote, and changes it: copies are its own, and its limit holds.
    let touched = memory("import gc; gc.unfreeze(); gc.collect(); y = [o for o in gc.get_objects()]", None)?;
    ensure!(of(&touched)? > of(&small)? + (1 << 20), "copies are not counted: {small} {touched}");
    let over = memory(&format!("x = bytearray({BYTES})"), Some(BYTES / 2))?;
    ensure!(over["message"] == "Memory limit exceeded", "{over}");
    Ok(())
}

/// Everything that a child might know of the zygote, looked for.
fn reach(suite: &Suite) -> Result<()> {
    let source = "
import os, signal, socket, sys
found = []
fds = sorted(int(fd) for fd in os.listdir('/proc/self/fd'))
if fds != [0, 1, 2, 3]: found.append(fds)
if [line for line in open('/proc/self/maps') if line.split()[1].endswith('s') and 'w' in line.split()[1]]: found.append('shared memory')
if not set(p for p in os.listdir('/proc') if p.isdigit()) <= {str(os.getpid())}: found.append('processes')
for pid in [1, 2, os.getppid()] + list(range(4, 40000, 7)):
    try: os.kill(pid, 0); found.append(('signal', pid))
    except (ProcessLookupError, PermissionError): pass
for name in ['mem', 'environ', 'fd', 'root', 'cwd', 'maps']:
    for pid in [1, 2]:
        try: os.stat('/proc/%d/%s' % (pid, name)); found.append(('proc', pid, name))
        except OSError: pass
if [line for line in open('/proc/net/unix').readlines()[1:] if len(line.split()) > 7]: found.append('sockets')
import ctypes
c = ctypes.CDLL(None, use_errno=True)
for pid in [1, 2]:
    if c.ptrace(16, pid, 0, 0) == 0: found.append('ptrace')
for kind in [0x20000000, 0x00020000, 0x40000000]:
    if c.unshare(kind) == 0: found.append(('unshare', kind))
if c.setns(0, 0) == 0: found.append('setns')
for call in [lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]), lambda: os.chroot('/')]:
    try: call(); found.append('rights')
    except PermissionError: pass
if [l for l in open('/proc/self/status') if l.startswith('Cap') and int(l.split()[1], 16)]: found.append('capabilities')
for path in ['/opt/greenroom/zygote/python.so', '/opt/greenroom/python/warm.py']:
    for act in [lambda: open(path, 'r+'), lambda: os.unlink(path), lambda: os.rename(path, path + 'x')]:
        try: act(); found.append(path)
        except OSError: pass
print(found)";
    let found = printed(&suite.server, source)?;
    ensure!(found == "[]", "within a child's reach: {found}");
    Ok(())
}

/// Many forks: the zygote is another after 2000, nothing fails meanwhile, there is one at any time, and what it and its runner hold stays
/// the same.
fn bloat(_: &Suite) -> Result<()> {
    const AT_ONCE: usize = 2;
    const TURNS: usize = 100;
    /// Some start cold where the machine is busy.
    const MOST_ROUNDS: usize = 30;
    Server::during(&[], |server| {
        printed(server, "print(1)")?;
        let begun = Instant::now();
        let runner = footprint(server)?.runner().context("no runner")?;
        let size = |pid: u32| Ok::<_, std::io::Error>(fs::read_dir(format!("/proc/{pid}/fd"))?.count());
        let (before, held) = (zygotes(server)?, size(runner)?);
        let mut rounds = 0;
        let another = loop {
            rounds += 1;
            let body = |client, turn| program("python", &format!("print({client}, {turn})"));
            let now = std::thread::scope(|scope| {
                let ran = scope.spawn(|| {
                    clients(server.host(), AT_ONCE, TURNS, body, |client, turn, run| run["stdout"] == format!("{client} {turn}\n"))
                });
                let mut now = before.clone();
                while !ran.is_finished() {
                    now = zygotes(server)?;
                    ensure!(!now.is_empty(), "there is no zygote for a moment");
                    sleep(Duration::from_millis(2));
                }
                ran.join().map_err(|_| anyhow!("a client panicked"))?.map(|()| now)
            })?;
            if now.iter().all(|pid| !before.contains(pid)) {
                break now;
            }
            ensure!(rounds < MOST_ROUNDS, "after {} runs the zygote is the same", rounds * AT_ONCE * TURNS);
        };
        ensure!(begun.elapsed() < Duration::from_secs(590), "it was its age, and not its children");
        for (pid, most) in another.into_iter().map(|pid| (pid, 8)).chain([(runner, held + 2)]) {
            // A zygote that just forks has the descriptors of a request, too.
            within(Duration::from_secs(10), || {
                let held = size(pid)?;
                ensure!(held <= most, "{held} descriptors, {most} expected");
                Ok(())
            })?;
        }
        let log = server.log();
        ensure!(!log.contains("starts cold") && !log.contains("prepared ahead"), "a fork failed: {log}");
        Ok(())
    })
}

/// `kill -9` of the zygote while its children run and others are born: every program ends as it should.
fn kill_zygote(_: &Suite) -> Result<()> {
    Server::during(&[], |server| {
        printed(server, "print(1)")?;
        std::thread::scope(|scope| {
            let programs = scope.spawn(|| {
                let body = |client, turn| program("python", &format!("import time; time.sleep(0.05); print({client}, {turn})"));
                clients(server.host(), 2, 40, body, |client, turn, run| run["stdout"] == format!("{client} {turn}\n"))
            });
            let killed = (0..3).try_for_each(|_| end_zygotes(server));
            let Ok(ran) = programs.join() else { bail!("a client panicked") };
            ran.and(killed)
        })?;
        printed(server, "print(1)").context("afterwards").map(drop)
    })
}

/// A zygote that hangs costs time, and no program; it is replaced, and nothing of it is left in the end.
fn stopped_zygote(_: &Suite) -> Result<()> {
    Server::during(&[], |server| {
        printed(server, "print(1)")?;
        let hanging = zygotes(server)?;
        for pid in hanging.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
            kill_process(pid, Signal::STOP)?;
        }
        for turn in 0..12 {
            let begun = Instant::now();
            let text = server.stdout_of(&program("python", &format!("print({turn})")))?;
            ensure!(text == turn.to_string() && begun.elapsed() < ANSWERED_WITHIN, "{text:?} after {:?}", begun.elapsed());
        }
        within(Duration::from_secs(30), || {
            // Each asks for a child.
            printed(server, "print(1)")?;
            let now = zygotes(server)?;
            ensure!(!now.is_empty() && now.iter().all(|pid| !hanging.contains(pid)), "the hanging zygote is still there: {now:?}");
            Ok(())
        })
    })
}

/// The server's zygotes of Python.
fn zygotes(server: &Server) -> Result<Vec<u32>> {
    let runner = footprint(server)?.runner().context("no runner")?;
    let is_zygote = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"greenroom: warm") && parent(*pid) == Some(runner)
    };
    Ok(descendants(runner).into_iter().filter(is_zygote).collect())
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// Kills them, as `kill -9` does, and waits for others.
fn end_zygotes(server: &Server) -> Result<()> {
    let old = within(Duration::from_secs(10), || {
        let zygotes = zygotes(server)?;
        if zygotes.is_empty() { bail!("no zygote runs") } else { Ok(zygotes) }
    })?;
    for pid in old.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
        kill_process(pid, Signal::KILL)?;
    }
    within(Duration::from_secs(10), || {
        let now = zygotes(server)?;
        ensure!(!now.is_empty() && now.iter().all(|pid| !old.contains(pid)), "no other zygote");
        Ok(())
    })
}
