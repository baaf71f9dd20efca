//! Sessions with network, and what they may reach: listeners of the test on this machine, which the test's own policy allows.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use greenroom_backends::{CellStatus, Local, LocalSessions, Session};
use greenroom_contract::world;
use greenroom_core::Profile;
use greenroom_egress::{Bounds, Egress, Policy};
use greenroom_pool::{
    Backend, Network, PoolKind,
    PoolKind::{NodeLts, PythonLts, Shell},
    PoolSpec,
};
use libtest_mimic::Failed;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    time::timeout,
};

use super::{Sessions, Tested, config, made, printed, session, sh, spec, weaker::profile};

/// What stands for the world may be reached, and nothing else that is special.
fn nearby() -> Policy {
    Policy { allow: world().map(Into::into).into_iter().collect(), ..Policy::default() }
}

async fn listen() -> Result<TcpListener, Failed> {
    Ok(TcpListener::bind((world().ok_or("no address")?, 0)).await?)
}

/// Runs a test with sessions that reach this, if sessions can have network here.
async fn with(sessions: Sessions, egress: Egress, test: impl AsyncFnOnce(Sessions) -> Tested) -> Tested {
    drop(sessions);
    let local = Local::start(config(), 2).await?;
    let tested = match &local.host().no_network {
        _ if world().is_none() => super::harness::skipped("the tests have no network of their own: that takes root, and iproute2"),
        None => test(Arc::new(LocalSessions::new(local.clone(), egress, super::program))).await,
        Some(reason) => super::harness::skipped(reason),
    };
    local.shutdown().await;
    tested
}

fn networked(kind: PoolKind) -> PoolSpec {
    PoolSpec { network: Network::Enabled, ..spec(kind) }
}

/// Gives back what it is sent, for as long as the test runs.
async fn echo() -> Result<SocketAddr, Failed> {
    let listener = listen().await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let copied = tokio::io::copy(&mut read, &mut write).await;
                copied.is_ok() && write.shutdown().await.is_ok()
            });
        }
    });
    Ok(address)
}

/// Answers every request with this page.
async fn web(page: &'static str) -> Result<SocketAddr, Failed> {
    let listener = listen().await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    request.push(byte);
                }
                let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{page}", page.len());
                // A client that has gone wants no answer.
                let _gone = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    Ok(address)
}

pub async fn sessions_of_every_kind_reach_what_they_may(sessions: Sessions) -> Tested {
    with(sessions, Egress::new(nearby(), Bounds::default(), Vec::new()), async |sessions| {
        let web = web("a page of this machine").await?;
        let python = made(&sessions, &networked(PythonLts)).await?;
        let fetch = format!("import urllib.request; print(urllib.request.urlopen('http://{web}/', timeout=10).read().decode())");
        for _ in 0..3 {
            assert_eq!(printed(&python, &fetch).await?, "a page of this machine\n");
        }
        let refused = format!(
            "import socket\ntry: socket.create_connection(('{}', {}), 5)\nexcept OSError as e: print(type(e).__name__)",
            web.ip(),
            free().await?
        );
        assert_eq!(printed(&python, &refused).await?, "ConnectionRefusedError\n");
        // Whom the host trusts, programs do.
        if std::path::Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
            let trusted = "import ssl; print(ssl.create_default_context().cert_store_stats()['x509_ca'] > 10)";
            assert_eq!(printed(&python, trusted).await?, "True\n");
        }
        let node = made(&sessions, &networked(NodeLts)).await?;
        let fetch = format!("const page = await fetch('http://{web}/'); console.log(await page.text())");
        assert_eq!(printed(&node, &fetch).await?, "a page of this machine\n");
        let shell = made(&sessions, &networked(Shell)).await?;
        let line =
            format!("exec 9<>/dev/tcp/{}/{} && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&9 && tail -n 1 <&9", web.ip(), web.port());
        let result = sh(&shell, &line).await?;
        assert_eq!((result.status, result.stdout.as_str()), (CellStatus::Succeeded, "a page of this machine"), "{result:?}");
        Ok(())
    })
    .await
}

/// A port that nobody listens at.
async fn free() -> Result<u16, Failed> {
    Ok(listen().await?.local_addr()?.port())
}

pub async fn what_is_carried_arrives_whole_in_both_directions(sessions: Sessions) -> Tested {
    with(sessions, Egress::new(nearby(), Bounds::default(), Vec::new()), async |sessions| {
        let (echo, python) = (echo().await?, made(&sessions, &networked(PythonLts)).await?);
        // Several at once, each more than all buffers on the way hold, and one end is closed before the other.
        let carry = format!(
            "import hashlib, os, socket, threading
def carry(fate):
    data, back = os.urandom(2 << 20), hashlib.sha256()
    with socket.create_connection(('{}', {}), 10) as s:
        def send():
            s.sendall(data); s.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send); sender.start()
        total = 0
        while chunk := s.recv(1 << 16):
            back.update(chunk); total += len(chunk)
        sender.join()
    fate.append(total == len(data) and back.digest() == hashlib.sha256(data).digest())
fates = []
threads = [threading.Thread(target=carry, args=(fates,)) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print(fates)",
            echo.ip(),
            echo.port()
        );
        assert_eq!(printed(&python, &carry).await?, "[True, True, True, True]\n");
        // Many short ones, one after the other: none is left in the way of the next.
        let many = format!(
            "import time
for n in range(120):
    with socket.create_connection(('{}', {}), 10) as s:
        s.sendall(b'%d' % n); s.shutdown(socket.SHUT_WR)
        assert s.recv(100) == b'%d' % n and s.recv(100) == b''
    time.sleep(0.02)
print('all')",
            echo.ip(),
            echo.port()
        );
        assert_eq!(printed(&python, &many).await?, "all\n");
        Ok(())
    })
    .await
}

pub async fn the_last_of_an_upload_arrives_where_the_far_end_has_spoken_first(sessions: Sessions) -> Tested {
    // Of all lengths: with some of them the last part is still with us when the program has ended.
    const UPLOADS: usize = 48;
    const STEP: usize = 24 << 10;
    with(sessions, Egress::new(nearby(), Bounds::default(), Vec::new()), async |sessions| {
        let (listener, python) = (listen().await?, made(&sessions, &networked(PythonLts)).await?);
        let address = listener.local_addr()?;
        let far = tokio::spawn(async move {
            let mut uploads = tokio::task::JoinSet::new();
            for _ in 0..=UPLOADS {
                let (mut stream, _) = listener.accept().await?;
                uploads.spawn(async move {
                    // It says that it has nothing to say, and is slow to listen.
                    stream.shutdown().await?;
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    let announced = stream.read_u64().await?;
                    let mut bytes = Vec::new();
                    stream.read_to_end(&mut bytes).await.map(|_| (announced, bytes.len() as u64))
                });
            }
            Ok::<_, std::io::Error>(uploads.join_all().await)
        });
        let upload = format!(
            "import socket, struct, threading
def upload(n):
    s = socket.create_connection(('{}', {}), 10)
    assert s.recv(1) == b''
    s.sendall(struct.pack('>Q', n * {STEP}) + bytes(n * {STEP}))
    # The first one is broken off.
    if n == 0: s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    s.close()
threads = [threading.Thread(target=upload, args=(n,)) for n in range({UPLOADS} + 1)]
[t.start() for t in threads]; [t.join() for t in threads]",
            address.ip(),
            address.port()
        );
        printed(&python, &upload).await?;
        let mut uploads = timeout(Duration::from_secs(60), far).await???;
        let broken = uploads.iter().filter(|upload| upload.is_err()).count();
        uploads.retain(Result::is_ok);
        assert_eq!(broken, 1, "one that breaks off looks as if it had come to its end: {uploads:?}");
        let parts: Vec<_> = uploads.iter().flatten().filter(|(announced, arrived)| announced != arrived).collect();
        assert!(parts.is_empty(), "announced and arrived: {parts:?}");
        Ok(())
    })
    .await
}

/// A server that knows one name, over UDP and TCP: its answer to a question for an address of version 4.
fn resolve(question: &[u8], address: [u8; 4]) -> Vec<u8> {
    let mut answer = question[..2].to_vec();
    // An answer, to one question, with one record; none where an address of version 6 is asked for.
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap_or(0) + 5;
    let is_four = question[end - 3] == 1;
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_four), 0, 0, 0, 0]);
    answer.extend(&question[12..end]);
    if is_four {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address);
    }
    answer
}

pub async fn names_are_asked_of_the_servers_that_are_named(sessions: Sessions) -> Tested {
    let (silent, speaks) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    let servers = vec![silent.local_addr()?, speaks.local_addr()?];
    // Another that is the first is not there any more.
    let of_gone = vec![UdpSocket::bind("127.0.0.1:0").await?.local_addr()?, servers[1]];
    let address = match world() {
        Some(IpAddr::V4(own)) => own.octets(),
        _ => [127, 0, 0, 1],
    };
    let serving = tokio::spawn(async move {
        let mut question = [0; 1500];
        while let Ok((len, from)) = speaks.recv_from(&mut question).await {
            if speaks.send_to(&resolve(&question[..len], address), from).await.is_err() {
                return;
            }
        }
    });
    let after_nobody = with(Arc::clone(&sessions), Egress::new(nearby(), Bounds::default(), of_gone), async |sessions| {
        let python = made(&sessions, &networked(PythonLts)).await?;
        let name = "import socket; print(socket.gethostbyname('page.example'))";
        assert_eq!(printed(&python, name).await?, format!("{}\n", Ipv4Addr::from(address)));
        Ok(())
    })
    .await;
    let tested = with(sessions, Egress::new(nearby(), Bounds::default(), servers), async |sessions| {
        let (web, python) = (web("by its name").await?, made(&sessions, &networked(PythonLts)).await?);
        // The first of them says nothing, and the next is asked.
        let fetch =
            format!("import urllib.request; print(urllib.request.urlopen('http://page.example:{}/').read().decode())", web.port());
        assert_eq!(printed(&python, &fetch).await?, "by its name\n");
        let mut heard = [0; 1500];
        assert!(silent.try_recv(&mut heard).is_ok_and(|len| len > 12), "the first one was not asked");
        // The gateway answers questions for names, and is otherwise nobody.
        let gateway =
            "import socket\ntry: socket.create_connection(('192.0.0.1', 80), 5)\nexcept OSError as e: print(type(e).__name__)";
        assert_eq!(printed(&python, gateway).await?, "ConnectionRefusedError\n");
        Ok(())
    })
    .await;
    serving.abort();
    after_nobody.and(tested)
}

pub async fn what_is_not_of_the_internet_is_refused_and_hears_nothing(sessions: Sessions) -> Tested {
    with(sessions, Egress::default(), async |sessions| {
        let (canary, deaf) = (TcpListener::bind("0.0.0.0:0").await?, UdpSocket::bind("0.0.0.0:0").await?);
        let (tcp, udp) = (canary.local_addr()?.port(), deaf.local_addr()?.port());
        let own = world().ok_or("no address")?;
        let python = made(&sessions, &networked(PythonLts)).await?;
        let program = format!(
            "import errno, socket
def tcp(address, port, family=socket.AF_INET):
    s = socket.socket(family); s.settimeout(10)
    try: s.connect((address, port)); return 'connected'
    except OSError as e: return errno.errorcode.get(e.errno, str(e))
def udp(address, port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10)
    try:
        s.connect((address, port)); s.send(b'x'); return s.recv(1)
    except OSError as e: return errno.errorcode.get(e.errno, str(e))
for address in ['127.0.0.1', '{own}', '169.254.169.254', '10.0.0.1', '172.17.0.1', '192.168.0.1', '100.64.0.1', '192.0.0.1', '192.0.0.3']:
    print(address, tcp(address, {tcp}), tcp(address, 80), udp(address, {udp}))
print('mail', tcp('1.1.1.1', 25), tcp('8.8.8.8', 25))
print('six', tcp('2606:4700::1111', 80, socket.AF_INET6), tcp('::ffff:169.254.169.254', 80, socket.AF_INET6), tcp('::ffff:{own}', {tcp}, socket.AF_INET6))
print('all', tcp('255.255.255.255', {tcp}), tcp('224.0.0.1', {tcp}))"
        );
        let said = printed(&python, &program).await?;
        for line in said.lines() {
            for word in line.split(' ').skip(1) {
                let refused = ["ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EACCES"];
                assert!(refused.contains(&word), "{said}");
            }
        }
        assert_eq!(said.lines().count(), 12, "{said}");
        assert!(said.contains("169.254.169.254 ECONNREFUSED ECONNREFUSED EHOSTUNREACH"), "{said}");
        assert!(timeout(Duration::from_millis(100), canary.accept()).await.is_err(), "the canary was reached");
        assert!(timeout(Duration::from_millis(100), deaf.recv(&mut [0; 9])).await.is_err(), "the canary heard something");
        Ok(())
    })
    .await
}

pub async fn a_session_without_network_reaches_nothing_beside_one_that_has_it(sessions: Sessions) -> Tested {
    with(sessions, Egress::new(nearby(), Bounds::default(), Vec::new()), async |sessions| {
        let echo = echo().await?;
        let reach = format!(
            "import errno, socket
try:
    s = socket.create_connection(('{}', {}), 5); s.sendall(b'x'); print(s.recv(1))
except OSError as e: print(errno.errorcode[e.errno])",
            echo.ip(),
            echo.port()
        );
        for _ in 0..3 {
            // In turns, so that each has the slot that the other has had.
            let with = made(&sessions, &networked(PythonLts)).await?;
            let without = session(&sessions, PythonLts).await?;
            assert_eq!(printed(&with, &reach).await?, "b'x'\n");
            assert_eq!(printed(&without, &reach).await?, "ENETUNREACH\n");
            let etc = "print(open('/etc/resolv.conf').read(), 'dns' in open('/etc/nsswitch.conf').read())";
            assert_eq!(printed(&with, etc).await?, "nameserver 192.0.0.1\n True\n");
            assert_eq!(printed(&without, etc).await?, "# no network\n False\n");
            let devices = "print(sorted(line.split(':')[0].strip() for line in open('/proc/net/dev').readlines()[2:]))";
            assert_eq!(printed(&with, devices).await?, "['lo', 'net0']\n");
            assert_eq!(printed(&without, devices).await?, "['lo']\n");
            sessions.destroy(with).await;
            sessions.destroy(without).await;
        }
        Ok(())
    })
    .await
}

pub async fn two_sessions_with_network_do_not_reach_each_other(sessions: Sessions) -> Tested {
    with(sessions, Egress::default(), async |sessions| {
        let (one, other) = (made(&sessions, &networked(PythonLts)).await?, made(&sessions, &networked(PythonLts)).await?);
        let listen = "import socket\ns = socket.create_server(('0.0.0.0', 8000)); s.settimeout(0.5)\nu = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('0.0.0.0', 8000)); u.settimeout(0.5)";
        printed(&one, listen).await?;
        let reach = "import errno, socket
def reach(address):
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try: u.sendto(b'x', (address, 8000))
    except OSError: pass
    try: socket.create_connection((address, 8000), 3); return 'connected'
    except OSError as e: return errno.errorcode[e.errno]
print(*[reach('192.0.0.%d' % n) for n in range(1, 7)], reach('127.0.0.1'))";
        assert_eq!(printed(&other, reach).await?, "ECONNREFUSED ".repeat(7).trim_end().to_owned() + "\n");
        let heard = "
for wait in (s.accept, lambda: u.recv(1)):
    try: print(wait())
    except TimeoutError: print('nobody')";
        assert_eq!(printed(&one, heard).await?, "nobody\nnobody\n");
        // It has a loopback of its own.
        assert_eq!(printed(&one, "c = socket.create_connection(('127.0.0.1', 8000), 3); print(s.accept()[1][0])").await?, "127.0.0.1\n");
        Ok(())
    })
    .await
}

pub async fn a_flood_of_connections_is_bounded_and_passes(sessions: Sessions) -> Tested {
    let bounds = Bounds { connections: 8, of_all: 64, new_per_second: 20 };
    with(sessions, Egress::new(nearby(), bounds, Vec::new()), async |sessions| {
        let listener = listen().await?;
        let (ip, port) = (listener.local_addr()?.ip(), listener.local_addr()?.port());
        let python = made(&sessions, &networked(PythonLts)).await?;
        let accepting = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok(Ok((stream, _))) = timeout(Duration::from_secs(8), listener.accept()).await {
                held.push(stream);
            }
            (held.len(), listener)
        });
        let flood = format!(
            "import socket, time
held, end = [], time.monotonic() + 3
while time.monotonic() < end:
    if len(held) == 900:
        [s.close() for s in held]; held = []
    s = socket.socket(); s.setblocking(False); held.append(s)
    s.connect_ex(('{ip}', {port}))
[s.close() for s in held]
print('done')"
        );
        assert_eq!(printed(&python, &flood).await?, "done\n");
        let (accepted, listener) = accepting.await?;
        // 40 at once and 20 in each of the seconds, at the very most.
        assert!((1..=140).contains(&accepted), "{accepted} connections came through");
        // And when it is over it goes on as before.
        let reach = format!("s = socket.create_connection(('{ip}', {port}), 10); print('connected')");
        assert_eq!(printed(&python, &reach).await?, "connected\n");
        listener.accept().await?;
        Ok(())
    })
    .await
}

pub async fn a_flood_of_datagrams_is_bounded_and_passes(sessions: Sessions) -> Tested {
    with(sessions, Egress::new(nearby(), Bounds::default(), Vec::new()), async |sessions| {
        let ip = world().ok_or("no address")?;
        let (target, echo) = (UdpSocket::bind((ip, 0)).await?, echo().await?);
        let port = target.local_addr()?.port();
        let python = made(&sessions, &networked(PythonLts)).await?;
        let answering = tokio::spawn(async move {
            let mut peers = BTreeSet::new();
            let mut room = [0; 2000];
            while let Ok((len, from)) = target.recv_from(&mut room).await {
                peers.insert(from);
                if &room[..len] == b"last" {
                    target.send_to(b"heard", from).await?;
                    break;
                }
            }
            Ok::<_, std::io::Error>(peers.len())
        });
        let before = descriptors()?;
        let flood = format!(
            "import socket, time
to, end, sent = ('{ip}', {port}), time.monotonic() + 2, 0
while time.monotonic() < end:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(50):
        try: s.sendto(b'x' * 1400, to); sent += 1
        except OSError: pass
    s.close()
print(sent > 1000)
time.sleep(2)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.5)
for _ in range(20):
    try:
        s.sendto(b'last', to); print(s.recv(10)); break
    except TimeoutError: pass
s.sendto(b'too long' * 1000, to)
c = socket.create_connection(('{ip}', {}), 10); c.sendall(b'alive'); print(c.recv(10))",
            echo.port()
        );
        assert_eq!(printed(&python, &flood).await?, "True\nb'heard'\nb'alive'\n");
        // A hundred at once and fifty a second.
        let peers = answering.await??;
        assert!(peers <= 500, "{peers} peers");
        assert!(descriptors()? <= before + 80, "{before} descriptors have become {}", descriptors()?);
        Ok(())
    })
    .await
}

fn descriptors() -> Result<usize, Failed> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}

/// Descriptors of devices that this process has.
fn devices() -> Result<usize, Failed> {
    let links = std::fs::read_dir("/proc/self/fd")?.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    Ok(links.filter(|link| link.ends_with("tun")).count())
}

/// Of these network namespaces, those that a process is in.
fn inhabited(namespaces: &BTreeSet<String>) -> Result<usize, Failed> {
    let processes = std::fs::read_dir("/proc")?.flatten();
    let links = processes.filter_map(|entry| std::fs::read_link(entry.path().join("ns/net")).ok());
    let links: BTreeSet<_> = links.map(|link| link.display().to_string()).collect();
    Ok(links.intersection(namespaces).count())
}

pub async fn nothing_is_left_of_a_session_with_network(sessions: Sessions) -> Tested {
    with(sessions, Egress::new(nearby(), Bounds::default(), Vec::new()), async |sessions| {
        let echo = echo().await?;
        // Whatever is made once is made.
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(made(&sessions, &networked(PythonLts)).await?);
        }
        for python in open {
            sessions.destroy(python).await;
        }
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let (tasks_before, descriptors_before) = (tasks(), descriptors()?);
        let connect = format!(
            "import os, socket
kept = [socket.create_connection(('{}', {}), 10) for _ in range(20)]
print(os.readlink('/proc/self/ns/net'))",
            echo.ip(),
            echo.port()
        );
        let (mut open, mut namespaces): (Vec<Arc<Session>>, _) = (Vec::new(), BTreeSet::new());
        for _ in 0..3 {
            let python = made(&sessions, &networked(PythonLts)).await?;
            namespaces.insert(printed(&python, &connect).await?.trim().to_owned());
            open.push(python);
        }
        assert_eq!((devices()?, namespaces.len(), inhabited(&namespaces)?), (6, 3, 3), "two and one each: {namespaces:?}");
        for python in open {
            sessions.destroy(python).await;
        }
        assert_eq!(devices()?, 0, "devices are left");
        for _ in 0..200 {
            // The echo's own tasks end when they see the end.
            if tasks() <= tasks_before && inhabited(&namespaces)? == 0 && descriptors()? <= descriptors_before {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (tasks, descriptors) = (tasks(), descriptors()?);
        Err(format!("{tasks} tasks of {tasks_before}, {descriptors} descriptors of {descriptors_before}, {namespaces:?}").into())
    })
    .await
}

pub async fn a_pool_with_network_is_refused_where_there_can_be_none(sessions: Sessions) -> Tested {
    let made = sessions.create(&networked(PythonLts)).await;
    match (profile(), made) {
        (Profile::Full, Ok(session)) => {
            sessions.destroy(Arc::new(session)).await;
            Ok(())
        }
        // In a container that has no such device.
        (Profile::Full, Err(error)) if error.chain().contains("/dev/net/tun") => super::harness::skipped(&error.chain()),
        (Profile::Full, Err(error)) => Err(error.chain().into()),
        (_, Ok(_)) => Err("it was made".into()),
        (_, Err(error)) => {
            assert_eq!(error.chain(), "sessions of this machine have no network: only in isolation full");
            Ok(())
        }
    }
}
