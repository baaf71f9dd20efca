//! Rows about several subjects at one server, and about what one can do who is none.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::scope,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use greenroom_contract::Request;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use crate::{
    Coded,
    server::{Server, check, program},
    suite::Suite,
};

pub const ROWS: &[Coded] = &[
    ("api::tenant-flood-fairness", tenant_flood_fairness),
    ("api::queue-full::subject", too_much_of_one_subject),
    ("api::debug-endpoints::keys", debug_endpoints_with_keys),
    ("api::slowloris-header::tls", slow_handshakes),
];

/// Jobs of the one who floods: fewer than one subject may have in hand.
const FLOOD: usize = 40;

fn tenant_flood_fairness(_: &Suite) -> Result<()> {
    let settings = ["--set", "identity.mode=keys", "--set", "admission.max_concurrent=1", "--set", "admission.queue=100"];
    Server::during(&settings, |server| {
        let (flooding, other) = (key(server, "flooding")?, key(server, "other")?);
        let ended = AtomicUsize::new(0);
        let ended_before = scope(|scope| {
            let flood: Vec<_> = (0..FLOOD)
                .map(|_| {
                    scope.spawn(|| {
                        let answered = run(server, &flooding, "sleep 0.1; echo done")?;
                        ended.fetch_add(1, Ordering::SeqCst);
                        ensure!(answered.contains("done"), "{answered}");
                        Ok(())
                    })
                })
                .collect();
            // When some have run, all have come: they were sent at once.
            let begun = Instant::now();
            while ended.load(Ordering::SeqCst) < 3 {
                ensure!(begun.elapsed() < Duration::from_secs(20), "the flood does not run");
                std::thread::sleep(Duration::from_millis(5));
            }
            let before = ended.load(Ordering::SeqCst);
            let answered = run(server, &other, "echo mine")?;
            let during = ended.load(Ordering::SeqCst) - before;
            ensure!(answered.contains("mine"), "{answered}");
            flood.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked"))))?;
            Ok::<_, anyhow::Error>(during)
        })?;
        // One that ran, one that was already beside it with its sandbox in hand, and a few for what goes on between the answers.
        check(ended_before <= 6, format!("one job waited for {ended_before} of another's {FLOOD}"))
    })
}

fn too_much_of_one_subject(_: &Suite) -> Result<()> {
    let settings = [
        "--set", "identity.mode=keys", "--set", "identity.limits.concurrent=2", "--set", "identity.limits.burst=30", "--set",
        "identity.limits.requests_per_second=1",
    ];
    Server::during(&settings, |server| {
        let (one, other) = (key(server, "one")?, key(server, "other")?);
        // Two in hand, the third is refused, and another subject is not.
        let refused = scope(|scope| {
            let held: Vec<_> = (0..2).map(|_| scope.spawn(|| run(server, &one, "sleep 2; echo done"))).collect();
            std::thread::sleep(Duration::from_secs(1));
            let refused = send(server, &one, "echo more")?;
            ensure!(run(server, &other, "echo mine")?.contains("mine"), "another subject was refused too");
            for job in held {
                ensure!(
                    job.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??.contains("done"),
                    "a job in hand was disturbed"
                );
            }
            Ok::<_, anyhow::Error>(refused)
        })?;
        ensure!(refused.status == 429 && refused.header("retry-after").is_some(), "{} {}", refused.status, refused.text());
        // The burst is used up at last, by requests that cost nothing.
        let listing = || server.send(&Request::new("GET", "/api/v2/runtimes").header("x-api-key", &one));
        let mut statuses = Vec::new();
        for _ in 0..40 {
            let response = listing()?;
            statuses.push(response.status);
            if response.status == 429 {
                let wait = response.header("retry-after").context("no Retry-After")?.parse::<u64>()?;
                ensure!((1..=2).contains(&wait), "Retry-After: {wait}");
                let others = server.send(&Request::new("GET", "/api/v2/runtimes").header("x-api-key", &other))?;
                return check(others.status == 200, "another subject was refused for it");
            }
        }
        check(false, format!("40 requests at once were answered {statuses:?}"))
    })
}

fn debug_endpoints_with_keys(_: &Suite) -> Result<()> {
    Server::during(&["--set", "identity.mode=keys"], |server| {
        for target in [
            "/metrics", "//metrics", "/metrics/", "/METRICS", "/debug/pprof", "/admin", "/identity/keys", "/msi/token",
            "/metadata/identity/oauth2/token",
        ] {
            let response = server.send(&Request::new("GET", target).header("Metadata", "true"))?;
            check(matches!(response.status, 401 | 404), format!("{target} was answered {}", response.status))?;
        }
        let manager = server.beside(&["keys", "create", "--name", "ops", "--scope", "manage"])?;
        let metrics = server.send(&Request::new("GET", "/metrics").header("x-api-key", &manager))?;
        check(metrics.status == 200, format!("{} with a key to manage", metrics.status))
    })
}

/// Handshakes that are begun and not finished.
const HALF: usize = 200;

fn slow_handshakes(_: &Suite) -> Result<()> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let listen = format!("tls.listen={port}");
    let settings = ["--set", &listen, "--set", "tls.self_signed=true", "--set", "http.header_timeout_ms=6000"];
    Server::during(&settings, |server| {
        let certificate = server.data_dir()?.join("tls/certificate.pem");
        ensure!(over_tls(&port, &certificate)?.starts_with("HTTP/1.1 200"), "https does not work");
        let mut half = Vec::new();
        for number in 0..HALF {
            let mut stream = TcpStream::connect(&port)?;
            // The beginning of a ClientHello; every other one says nothing at all.
            if number % 2 == 0 {
                stream.write_all(&[22, 3, 1, 0, 200, 1])?;
            }
            stream.set_read_timeout(Some(Duration::from_secs(15)))?;
            half.push(stream);
        }
        let begun = Instant::now();
        ensure!(over_tls(&port, &certificate)?.starts_with("HTTP/1.1 200"), "others are not served meanwhile");
        ensure!(begun.elapsed() < Duration::from_secs(3), "others waited {:?}", begun.elapsed());
        for stream in &mut half {
            // An alert or nothing, and the end: reset, where something was sent.
            let mut rest = Vec::new();
            let ended = stream.read_to_end(&mut rest);
            let timed_out =
                ended.is_err_and(|error| matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut));
            ensure!(!timed_out, "a handshake was still open after 15 s");
        }
        ensure!(over_tls(&port, &certificate)?.starts_with("HTTP/1.1 200"), "https does not work any more");
        // Plain http there is no way around it.
        let mut plain = TcpStream::connect(&port)?;
        plain.set_read_timeout(Some(Duration::from_secs(5)))?;
        plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let mut answer = Vec::new();
        let _ended = plain.read_to_end(&mut answer);
        check(!String::from_utf8_lossy(&answer).contains("HTTP/1.1"), "plain http was answered on the https port")
    })
}

/// The answer to `GET /healthz`, by a client that trusts this certificate alone.
fn over_tls(host: &str, certificate: &std::path::Path) -> Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?;
    let mut stream = StreamOwned::new(connection, TcpStream::connect(host)?);
    stream.sock.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn key(server: &Server, name: &str) -> Result<String> {
    server.beside(&["keys", "create", "--name", name])
}

fn send(server: &Server, key: &str, script: &str) -> Result<greenroom_contract::Response> {
    server.send(&Request::new("POST", "/api/v2/execute").header("x-api-key", key).json(&program("bash", script)))
}

fn run(server: &Server, key: &str, script: &str) -> Result<String> {
    let response = send(server, key, script)?;
    ensure!(response.status == 200, "{} {}", response.status, response.text());
    Ok(response.text())
}
