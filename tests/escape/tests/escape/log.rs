//! Rows about what the log says, and what clients can make it say.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use greenroom_contract::Request;
use greenroom_escape::{keeps_secret, within};
use serde_json::{Value, json};

use crate::{
    Coded,
    server::{Server, check, program},
    suite::Suite,
};

pub const ROWS: &[Coded] = &[("api::log-injection", log_injection), ("cross-session::log-metrics-leak", log_metrics_leak)];

/// What a terminal takes for more than text although it is legal in a path and in a header: a control character of the
/// second set (CSI), and one that turns the direction of writing.
const NASTY: &str = "\u{9b}31m\u{202e}";
/// Everything is logged, with what the libraries say; of WebSockets only what an operator who looks for a fault asks for.
const LEVELS: &str = "log.level=trace,tungstenite=debug,tokio_tungstenite=debug";

fn log_injection(_: &Suite) -> Result<()> {
    for format in ["text", "json"] {
        let arguments = ["--set", LEVELS, "--set", &format!("log.format={format}")];
        Server::during(&arguments, |server| {
            inject(server)?;
            // Each of them is to reach the log: a request that leaves no trace proves nothing.
            let reached = ["/aPi/V2/eXecute", "FORGED-path", "FORGED-close"];
            let log = within(Duration::from_secs(5), || {
                let log = server.log();
                let lacking: Vec<_> = reached.iter().filter(|mark| !log.contains(**mark)).collect();
                if lacking.is_empty() { Ok(log) } else { bail!("{lacking:?} did not reach the log:\n{log}") }
            })?;
            log.lines().filter(|line| !is_ready_line(line)).try_for_each(|line| {
                is_of_the_server(line, format).with_context(|| format!("a client wrote a line of the log: {line:?}"))
            })
        })
        .with_context(|| format!("log.format={format}"))?;
    }
    Ok(())
}

/// Puts line ends, escapes and forged lines wherever a client may put text.
fn inject(server: &Server) -> Result<()> {
    let forged = |what: &str| format!("\r\n2026-01-01T00:00:00Z ERROR FORGED-{what}\u{1b}[31m{NASTY}\n");
    // A program that runs: its path and its stages are logged. Everything in its body is as bad as it can be.
    let mut body = program("bash", "cat; echo \"$@\" >&2");
    body["files"][0]["name"] = forged("name").into();
    body["stdin"] = forged("stdin").into();
    body["args"] = json!([forged("argument")]);
    let ran = exchange(server, "POST /aPi/V2/eXecute/", "Content-Type: application/json\r\n", body.to_string().as_bytes())?;
    ensure!(ran.starts_with("HTTP/1.1 200"), "{ran}");
    // Names that are unknown.
    let mut unknown = program(&forged("language"), "");
    unknown["version"] = forged("version").into();
    let message = server.send(&Request::new("POST", "/api/v2/execute").json(&unknown))?;
    ensure!(message.status == 400, "{}", message.text());
    let message = server.send(&Request::new("POST", "/api/v2/packages").json(&unknown))?;
    ensure!(message.status == 404, "{}", message.text());
    // A path that is logged with the refusal of an upgrade; percent signs stay what they are.
    let path = format!("GET /api/v2/{NASTY}%0d%0a%1b[31mFORGED-path");
    let refused = exchange(server, &path, "Upgrade: websocket\r\n", b"")?;
    ensure!(refused.starts_with("HTTP/1.1 400"), "{refused}");
    // What HTTP forbids is refused by its parser, which must not tell the log either.
    exchange(server, "GET /\u{1b}[31mFORGED-escape", "", b"")?;
    // A WebSocket, and the reason that its client gives for closing it.
    let head = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let reason = [&1000_u16.to_be_bytes(), forged("close").as_bytes()].concat();
    // A frame of a client is masked; a mask of zeros leaves it as it is. 8: close, 0x80: final, or masked.
    let frame = [&[0x88, 0x80 | u8::try_from(reason.len())?, 0, 0, 0, 0], reason.as_slice()].concat();
    let closed = exchange(server, "GET /api/v2/connect", head, &frame)?;
    ensure!(closed.starts_with("HTTP/1.1 101"), "{closed}");
    Ok(())
}

/// Sends a request as it stands, an odd User-Agent with it, and reads to the connection's end.
fn exchange(server: &Server, line: &str, headers: &str, body: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(server.host())?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let connection = if headers.contains("Sec-WebSocket") { "Upgrade" } else { "close" };
    let length = if line.starts_with("POST") { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
    let head =
        format!("{line} HTTP/1.1\r\nHost: x\r\nUser-Agent: FORGED{NASTY}\r\nConnection: {connection}\r\n{headers}{length}\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    keeps_secret("an answer", &answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// What the server prints on standard output when it listens, which the suite's log has as well.
fn is_ready_line(line: &str) -> bool {
    line.starts_with("greenroom ") && line.contains(" listening on http://127.0.0.1:")
}

/// A line that the server began, and in which nothing is for a terminal to obey.
fn is_of_the_server(line: &str, format: &str) -> Result<()> {
    let obeyed =
        |c: char| c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if let (Some(found), "text") = (line.chars().find(|&c| obeyed(c)), format) {
        bail!("{found:?} is in it");
    }
    if format == "json" {
        // JSON has its own escapes: what a reader of the log decodes may hold what it likes, the line may not.
        ensure!(!line.chars().any(char::is_control), "a control character is in it");
        let event: Value = serde_json::from_str(line).context("it is no JSON")?;
        return check(event["level"].is_string() && event["timestamp"].is_string(), "it is no event");
    }
    // 2026-01-01T00:00:00.000000Z  INFO …; a forged one has no fraction of a second.
    let (time, rest) = line.split_once(' ').context("it has one word only")?;
    ensure!(time.len() == 27 && time.ends_with('Z') && time.as_bytes()[19] == b'.', "it does not begin with the log's time");
    let level = rest.split_whitespace().next().unwrap_or_default();
    check(["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&level), "it has no level")
}

fn log_metrics_leak(suite: &Suite) -> Result<()> {
    let mut body = program("bash", "echo top-secret-source; cat >/dev/null");
    body["stdin"] = "top-secret-stdin".into();
    body["args"] = json!(["top-secret-arg"]);
    let before = suite.server.log().len();
    suite.server.stdout_of(&body)?;
    let metrics = suite.server.send(&Request::new("GET", "/metrics"))?.text();
    check(metrics.contains("bash"), "the metrics do not know of the run")?;
    check(!metrics.contains("top-secret"), "the metrics hold a program's secret")?;
    let log = suite.server.log();
    check(log.len() > before, "the run was not logged: nothing to look through")?;
    check(!log.contains("top-secret"), "the log holds a program's secret")
}
