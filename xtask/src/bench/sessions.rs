//! Sessions: how fast a new identifier gets one, and how many fit.

use std::{
    io::Write,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{
    load::{Samples, connect, nonce, post, read_answer},
    server::Server,
};

/// Sessions of the crowd.
const CROWD: u64 = 1000;
/// How long the crowd may take to come.
const CROWD_PATIENCE: Duration = Duration::from_secs(120);
const POOL: &str = "/subscriptions/s/resourceGroups/g/sessionPools/default";

/// Many ready sessions at once.
pub struct Crowd {
    pub sessions: u64,
    /// Proportional set size of one, with the processes that are there for it, KiB.
    pub kib_each: u64,
    pub ready_s: u64,
}

/// Calls of identifiers that nobody has used, each when a session is ready for it.
pub fn new_identifiers(server: &Server, runs: usize) -> Result<Samples> {
    let mut stream = connect(&server.address)?;
    let mut answer = Vec::new();
    let mut latencies = Vec::with_capacity(runs);
    for _ in 0..runs {
        await_ready(server, 1, Duration::from_secs(20))?;
        // The server is to be at rest, not to make the next one.
        thread::sleep(Duration::from_millis(30));
        let query = format!("api-version=2025-10-02-preview&identifier=new-{}", nonce());
        let request = post(&server.address, &format!("{POOL}/executions?{query}"), r#"{"code":"print(42)"}"#);
        let begun = Instant::now();
        stream.write_all(request.as_bytes())?;
        read_answer(&mut stream, &mut answer)?;
        latencies.push(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
        let text = String::from_utf8_lossy(&answer);
        ensure!(text.starts_with("HTTP/1.1 200") && text.contains(r#""stdout":"42\n""#), "answered {text}");
        let end = format!("DELETE {POOL}/session?{query} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", server.address);
        stream.write_all(end.as_bytes())?;
        read_answer(&mut stream, &mut answer)?;
    }
    Ok(Samples::of(latencies))
}

/// How many sessions are ready, and all that the pool says of itself.
fn ready(server: &Server) -> Result<(u64, String)> {
    let mut stream = connect(&server.address)?;
    stream.write_all(format!("GET /greenroom/pools/default HTTP/1.1\r\nHost: {}\r\n\r\n", server.address).as_bytes())?;
    let mut answer = Vec::new();
    read_answer(&mut stream, &mut answer)?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let pool: Value = serde_json::from_str(body).with_context(|| text.clone())?;
    let count = ready_in(&pool).with_context(|| format!("no count of ready sessions in {body}"))?;
    Ok((count, body.to_owned()))
}

/// The first `ready` that is a number.
fn ready_in(value: &Value) -> Option<u64> {
    let map = value.as_object()?;
    map.get("ready").and_then(Value::as_u64).or_else(|| map.values().find_map(ready_in))
}

fn await_ready(server: &Server, wanted: u64, patience: Duration) -> Result<()> {
    let begun = Instant::now();
    loop {
        let (now, pool) = ready(server)?;
        if now >= wanted {
            return Ok(());
        }
        if begun.elapsed() > patience {
            bail!("{now} of {wanted} sessions are ready after {} s: {pool}", patience.as_secs());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a server of its own, and fills it.
pub fn crowd(binary: &Path, scratch: &Path) -> Result<Crowd> {
    let sessions = CROWD.to_string();
    let config = scratch.join("crowd.toml");
    let pool =
        format!("[sandboxes]\nsessions = {sessions}\n[pools.default]\nmax_sessions = {sessions}\nready_sessions = {sessions}\n");
    std::fs::write(&config, pool)?;
    let none = scratch.join("nobody.toml");
    std::fs::write(&none, "[pools.default]\nready_sessions = 0\n")?;
    let alone = Server::start_with(binary, scratch, &none)?;
    thread::sleep(Duration::from_secs(2));
    let before = alone.memory_kib()?;
    alone.stop()?;
    let begun = Instant::now();
    let server = Server::start_with(binary, scratch, &config)?;
    await_ready(&server, CROWD, CROWD_PATIENCE)?;
    let ready_s = begun.elapsed().as_secs();
    let after = server.memory_kib()?;
    server.stop()?;
    Ok(Crowd { sessions: CROWD, kib_each: after.saturating_sub(before) / CROWD, ready_s })
}
