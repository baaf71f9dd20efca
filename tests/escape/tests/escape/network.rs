//! Sessions with network, and what they must not do with it: mail, floods, the host, its neighbours. All over addresses of this machine.

use std::{
    fs,
    io::{ErrorKind, Read},
    net::{IpAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use greenroom_contract::{Request, world};
use greenroom_escape::{NotTested, within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{
    Coded,
    neighbour::{Neighbour, hello},
    operations::footprint,
    server::{Server, send},
    suite::Suite,
};

pub const ROWS: &[Coded] = &[
    ("network::egress-smtp-flood", flood),
    ("network::egress-smtp-flood::defaults", reaches_nothing_by_default),
    ("network::egress-smtp-flood::killed", killed),
];

/// Connections that a session with the defaults may begin: a burst, and so many in each second that the flood lasts.
const MOST_BEGUN: usize = 100 + 50 * 8;
/// Descriptors of one session with the defaults: its connections, its peers, its own; and a little.
const MOST_DESCRIPTORS: usize = 64 + 64 + 40;
/// Entries that the kernel may keep of it where it tracks connections, others' included.
const MOST_TRACKED: usize = 2000;

/// What stands for the world outside.
fn own() -> Result<IpAddr> {
    world().ok_or_else(|| NotTested("the tests have no network of their own: that takes root, and iproute2".to_owned()).into())
}

/// A server whose sessions have network, where they can have it here.
fn started(settings: &[&str]) -> Result<Server> {
    let mut arguments = vec!["--set", "pools.default.network=Enabled"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    Server::own(&arguments, &[]).map_err(|error| {
        let text = format!("{error:#}");
        if text.contains("the sessions of this machine have no network") { NotTested(text).into() } else { error }
    })
}

fn during(settings: &[&str], test: impl FnOnce(&Server) -> Result<()>) -> Result<()> {
    let server = started(settings)?;
    let (tested, stopped) = (test(&server), server.stop());
    tested.and(stopped)
}

/// Executes what must succeed, and gives what it printed.
fn printed(host: &str, code: &str) -> Result<String> {
    let path = "/subscriptions/any/resourceGroups/any/sessionPools/default/executions";
    let query = "api-version=2025-10-02-preview&identifier=the-network-row";
    let response = send(host, &Request::new("POST", &format!("{path}?{query}")).json(&json!({ "code": code })))?;
    let answer = response.json();
    ensure!(response.status == 200 && answer["status"] == "Succeeded", "HTTP {}: {}", response.status, response.text());
    Ok(answer["result"]["stdout"].as_str().unwrap_or_default().trim().to_owned())
}

fn descriptors(server: &Server) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", server.pid()?))?.count())
}

/// What the kernel tracks, where it does.
fn tracked() -> usize {
    let count = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
    count.ok().and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Mail is refused, also to where everything else may be reached; floods come through as a trickle, and hurt nobody.
fn flood(_: &Suite) -> Result<()> {
    let own = own()?;
    let (listener, target) = (TcpListener::bind((own, 0))?, UdpSocket::bind((own, 0))?);
    let (tcp, udp) = (listener.local_addr()?.port(), target.local_addr()?.port());
    listener.set_nonblocking(true)?;
    target.set_nonblocking(true)?;
    // Where nobody has the port already, it listens, and must hear nothing.
    let mail = TcpListener::bind((own, 25)).ok();
    let (accepted, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let allow = format!("egress.allow={own}");
    during(&[&allow, "pools.default.ready_sessions=0"], |server| {
        let host = server.host();
        ensure!(printed(host, "print('ready')")? == "ready");
        let (footprint, before, tracked_before) = (footprint(server)?, descriptors(server)?, tracked());
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut held = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((stream, _)) => {
                            accepted.fetch_add(1, Ordering::Relaxed);
                            held.push(stream);
                        }
                        Err(_) => thread::sleep(Duration::from_millis(2)),
                    }
                }
            });
            let tested = (|| {
                let smtp = format!(
                    "import errno, socket
for address in ('{own}', '1.1.1.1'):
    try: socket.create_connection((address, 25), 10); print('connected')
    except OSError as e: print(errno.errorcode[e.errno])"
                );
                ensure!(printed(host, &smtp)? == "ECONNREFUSED\nECONNREFUSED", "mail is not refused");
                let neighbour = Neighbour::of(host);
                let flooding = scope.spawn(|| printed(host, &floods(own, tcp, udp)));
                let (mut most, mut most_tracked) = (0, 0);
                while !flooding.is_finished() {
                    most = most.max(descriptors(server)?.saturating_sub(before));
                    most_tracked = most_tracked.max(tracked().saturating_sub(tracked_before));
                    thread::sleep(Duration::from_millis(20));
                }
                let said = flooding.join().map_err(|_| anyhow!("a client panicked"))??;
                ensure!(said.starts_with("flooded"), "{said}");
                neighbour.noticed_nothing()?;
                let accepted = accepted.load(Ordering::Relaxed);
                ensure!((1..=MOST_BEGUN).contains(&accepted), "{accepted} connections came through ({said})");
                ensure!(most <= MOST_DESCRIPTORS, "the server had {most} descriptors more");
                ensure!(most_tracked <= MOST_TRACKED, "the kernel tracked {most_tracked} connections more");
                // The operator sees it.
                let metrics = send(host, &Request::new("GET", "/metrics"))?.text();
                let value = |name: &str| {
                    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
                    line.and_then(|value| value.trim().parse::<u64>().ok()).with_context(|| format!("no {name} in the metrics"))
                };
                // More where a refusal came so late that the question was asked again.
                ensure!(value("greenroom_egress_refused_total{reason=\"port\"}")? >= 2, "mail was refused twice");
                ensure!(value("greenroom_egress_postponed_total")? > 0, "nothing was postponed in a flood");
                // It goes on as if nothing had been.
                let reach = format!("import socket; socket.create_connection(('{own}', {tcp}), 20); print('again')");
                ensure!(printed(host, &reach)? == "again");
                hello(host, "after a flood")
            })();
            over.store(true, Ordering::Relaxed);
            tested
        })?;
        let heard = std::iter::from_fn(|| target.recv(&mut [0; 2000]).ok()).count();
        ensure!(heard > 0, "no datagram came through");
        if let Some(mail) = &mail {
            mail.set_nonblocking(true)?;
            ensure!(mail.accept().is_err(), "H1: the canary at port 25 was reached");
        }
        let path = "/subscriptions/any/resourceGroups/any/sessionPools/default/session";
        let query = "api-version=2025-10-02-preview&identifier=the-network-row";
        let deleted = send(host, &Request::new("DELETE", &format!("{path}?{query}")))?;
        ensure!(deleted.status == 204, "HTTP {}", deleted.status);
        within(Duration::from_secs(10), || {
            let now = descriptors(server)?;
            if now <= before + 8 { Ok(()) } else { bail!("{now} descriptors are left of {before}") }
        })?;
        footprint.is_clean()
    })
}

/// As many connections as can be begun, and as many datagrams, from as many ports, for a few seconds.
fn floods(own: IpAddr, tcp: u16, udp: u16) -> String {
    format!(
        "import socket, time
held, tried, sent, end = [], 0, 0, time.monotonic() + 5
while time.monotonic() < end:
    if len(held) > 700:
        [s.close() for s in held]; held = []
    for _ in range(20):
        s = socket.socket(); s.setblocking(False); s.connect_ex(('{own}', {tcp})); held.append(s); tried += 1
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setblocking(False)
    for _ in range(100):
        try: s.sendto(b'x' * 1400, ('{own}', {udp})); sent += 1
        except OSError: pass
    s.close()
[s.close() for s in held]
print('flooded', tried, sent)"
    )
}

/// Nothing of the host's, of its neighbours or of a cloud's is reached by a session that has network.
fn reaches_nothing_by_default(_: &Suite) -> Result<()> {
    let own = own()?;
    let (canary, deaf) = (TcpListener::bind("0.0.0.0:0")?, UdpSocket::bind("0.0.0.0:0")?);
    canary.set_nonblocking(true)?;
    deaf.set_nonblocking(true)?;
    let (tcp, udp) = (canary.local_addr()?.port(), deaf.local_addr()?.port());
    during(&[], |server| {
        let ours = server.host().rsplit(':').next().context("no port")?.to_owned();
        let program = format!(
            "import errno, socket
def tcp(address, port):
    try: socket.create_connection((address, port), 10); return 'connected'
    except OSError as e: return errno.errorcode.get(e.errno, str(e))
for address in ('127.0.0.1', '{own}', '169.254.169.254', '10.0.0.1', '172.17.0.1', '192.168.1.1', '192.0.0.1', '192.0.0.3'):
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try: u.sendto(b'x', (address, {udp}))
    except OSError: pass
    print(tcp(address, {tcp}), tcp(address, {ours}), tcp(address, 80))"
        );
        let said = printed(server.host(), &program)?;
        let refused = ["ECONNREFUSED", "ENETUNREACH", "EHOSTUNREACH"];
        ensure!(said.lines().count() == 8, "{said}");
        ensure!(said.split_whitespace().all(|word| refused.contains(&word)), "{said}");
        ensure!(canary.accept().is_err(), "H1: the canary was reached");
        ensure!(deaf.recv(&mut [0; 9]).is_err(), "H1: the canary heard a datagram");
        hello(server.host(), "hello")
    })
}

/// Takes so many connections, and keeps them.
fn taken(listener: &TcpListener, count: usize) -> Result<Vec<TcpStream>> {
    let mut taken = Vec::new();
    within(Duration::from_secs(20), || {
        while let Ok((stream, _)) = listener.accept() {
            taken.push(stream);
        }
        if taken.len() >= count { Ok(()) } else { bail!("{} connections came, not {count}", taken.len()) }
    })?;
    Ok(taken)
}

/// Whether all of them have ended.
fn have_ended(streams: &[TcpStream]) -> Result<()> {
    within(Duration::from_secs(10), || {
        for mut stream in streams {
            stream.set_nonblocking(true)?;
            match stream.read(&mut [0]) {
                Ok(0) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                other => bail!("a connection outlives its session: {other:?}"),
            }
        }
        Ok(())
    })
}

/// Whoever is killed in the middle of it, connections end with their sessions, and nothing is left.
fn killed(_: &Suite) -> Result<()> {
    let own = own()?;
    let listener = TcpListener::bind((own, 0))?;
    listener.set_nonblocking(true)?;
    let allow = format!("egress.allow={own}");
    let server = started(&[&allow, "pools.default.ready_sessions=1"])?;
    let host = server.host().to_owned();
    let port = listener.local_addr()?.port();
    let connect = format!("import socket; kept = [socket.create_connection(('{own}', {port}), 10) for _ in range(5)]; print(5)");
    ensure!(printed(&host, &connect)? == "5");
    let streams = taken(&listener, 5)?;
    let full = footprint(&server)?;
    let runner = full.runner().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).context("no runner")?;
    kill_process(runner, Signal::KILL)?;
    have_ended(&streams).context("the runner was killed")?;
    // Another session has a network, too.
    within(Duration::from_secs(20), || if printed(&host, &connect)? == "5" { Ok(()) } else { bail!("no connection") })?;
    let streams = taken(&listener, 5)?;
    let full = footprint(&server)?;
    server.kill()?;
    have_ended(&streams).context("the server was killed")?;
    full.is_gone()
}
