//! Rows that attack the server itself; most need raw sockets.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use greenroom_contract::{Frame, Request};
use greenroom_escape::keeps_secret;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::{
    Coded,
    neighbour::hello,
    server::{Server, check, execute, program},
    suite::Suite,
};

pub const ROWS: &[Coded] = &[
    ("api::body-oversize", body_oversize),
    ("api::slowloris-header", slowloris_header),
    ("api::slow-body", slow_body),
    ("api::gzip-bomb", gzip_bomb),
    ("api::json-deep", json_deep),
    ("api::json-dup-keys", json_dup_keys),
    ("api::json-numbers", json_numbers),
    ("api::limits-overflow-units", limits_too_large),
    ("api::limits-above-max", limits_too_large),
    ("api::base64-invalid", base64_invalid),
    ("api::args-huge", args_huge),
    ("api::args-nul-injection", args_nul_injection),
    ("api::websocket-flood", websocket_flood),
    ("api::queue-full", queue_full),
    ("api::debug-endpoints", debug_endpoints),
];

fn post(host: &str, extra: &str, body: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let head =
        format!("POST /api/v2/execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n{extra}\r\n");
    stream.write_all(head.as_bytes())?;
    // The server may answer and close before it has read everything.
    let _written = stream.write_all(body);
    let mut text = Vec::new();
    let _read = stream.read_to_end(&mut text);
    keeps_secret("an answer", &text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn body_oversize(suite: &Suite) -> Result<()> {
    let announced = post(suite.server.host(), "Content-Length: 1073741824\r\n", b"{")?;
    check(announced.starts_with("HTTP/1.1 413"), announced)?;
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    let chunked = post(suite.server.host(), "Transfer-Encoding: chunked\r\n", &chunk.repeat(20))?;
    check(chunked.is_empty() || chunked.starts_with("HTTP/1.1 413"), chunked)
}

/// The catalogue's: so many connections, each with a byte of a header now and then.
const SLOW: usize = 1000;
const HEADER_TIMEOUT: Duration = Duration::from_millis(1500);
/// So many at once: who comes while too many wait to be accepted tries again after a second, and is late here.
const BURST: usize = 50;
/// A timeout may be noticed so late, on a busy machine.
const LATE: Duration = Duration::from_secs(4);
/// A good client is answered within this, meanwhile.
const SERVED_WITHIN: Duration = Duration::from_secs(2);

fn slowloris_header(_: &Suite) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let enough = SLOW as u64 + 200;
    ensure!(limit.maximum.is_none_or(|hard| hard >= enough), "{enough} descriptors are needed, the hard limit is {limit:?}");
    // The server's are those that it is started with.
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit.current.unwrap_or(enough).max(enough)), ..limit })?;
    let setting = format!("http.header_timeout_ms={}", HEADER_TIMEOUT.as_millis());
    let tested = Server::during(&["--set", &setting], slow_headers);
    setrlimit(Resource::Nofile, limit)?;
    tested
}

fn slow_headers(server: &Server) -> Result<()> {
    let mut slow = Vec::new();
    for number in 0..SLOW {
        if number % BURST == 0 {
            sleep(Duration::from_millis(20));
        }
        let mut stream = TcpStream::connect(server.host())?;
        stream.write_all(b"POST /api/v2/execute HTTP/1.1\r\nHost: x\r\nX-Slow: ")?;
        stream.set_nonblocking(true)?;
        slow.push(stream);
    }
    let last_begun = Instant::now();
    let last = slow.last_mut().context("no connection")?;
    let early = last.read(&mut [0; 64]);
    ensure!(early.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "closed before its time: {early:?}");
    // A byte now and then must not buy more time; and others are served.
    let served = scope(|scope| {
        let good = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while last_begun.elapsed() < HEADER_TIMEOUT {
                let begun = Instant::now();
                hello(server.host(), "hello")?;
                slowest = slowest.max(begun.elapsed());
            }
            Ok::<_, anyhow::Error>(slowest)
        });
        while last_begun.elapsed() < HEADER_TIMEOUT + HEADER_TIMEOUT / 2 {
            sleep(HEADER_TIMEOUT / 10);
            for stream in &mut slow {
                // It may be closed by now, as it should be.
                let _sent = stream.write(b"x");
            }
        }
        good.join()
    });
    let Ok(slowest) = served else { bail!("the good client panicked") };
    let slowest = slowest?;
    ensure!(slowest < SERVED_WITHIN, "a good client waited {slowest:?} beside {SLOW} slow ones");
    let deadline = last_begun + HEADER_TIMEOUT + LATE;
    for (number, stream) in slow.iter_mut().enumerate() {
        is_closed_by(stream, deadline).with_context(|| format!("slow connection {number} of {SLOW}"))?;
    }
    hello(server.host(), "hello")
}

/// Reads to the end: an end, or a reset, after nothing but a 408. Silence is neither.
fn is_closed_by(stream: &mut TcpStream, deadline: Instant) -> Result<()> {
    stream.set_nonblocking(false)?;
    let left = deadline.saturating_duration_since(Instant::now());
    stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => return Err(error).context("not closed: a header is waited for without end"),
    }
    let answer = String::from_utf8_lossy(&answer);
    check(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), format!("answered {answer:?}"))
}

fn slow_body(_: &Suite) -> Result<()> {
    Server::during(&["--set", "http.body_timeout_ms=500"], |server| {
        let mut stream = TcpStream::connect(server.host())?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(
            b"POST /api/v2/execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        check(text.starts_with("HTTP/1.1 408"), text)
    })
}

fn gzip_bomb(suite: &Suite) -> Result<()> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..256 {
        encoder.write_all(&zeros)?;
    }
    let bomb = encoder.finish()?;
    let answer = post(suite.server.host(), &format!("Content-Encoding: gzip\r\nContent-Length: {}\r\n", bomb.len()), &bomb)?;
    check(answer.starts_with("HTTP/1.1 413"), answer)
}

fn json_deep(suite: &Suite) -> Result<()> {
    for open in ["[", "{\"a\":"] {
        let body = open.repeat(1_000_000);
        let answer = post(suite.server.host(), &format!("Content-Length: {}\r\n", body.len()), body.as_bytes())?;
        check(answer.starts_with("HTTP/1.1 400"), answer)?;
    }
    Ok(())
}

fn json_dup_keys(suite: &Suite) -> Result<()> {
    // The last wins, and is checked.
    let body = r#"{"language":"bash","version":"*","files":[{"content":"sleep 9"}],"run_timeout":1,"run_timeout":99999999}"#;
    let answer = post(suite.server.host(), &format!("Content-Length: {}\r\n", body.len()), body.as_bytes())?;
    check(answer.starts_with("HTTP/1.1 400") && answer.contains("cannot exceed"), answer)
}

fn raw_limit(server: &Server, value: &str) -> Result<String> {
    let body = format!(r#"{{"language":"bash","version":"*","files":[{{"content":"echo ran"}}],"run_memory_limit":{value}}}"#);
    post(server.host(), &format!("Content-Length: {}\r\n", body.len()), body.as_bytes())
}

fn json_numbers(suite: &Suite) -> Result<()> {
    for value in ["-2", "\"10\"", "true", "[]", "{}", "9223372036854775808", "1e30"] {
        let answer = raw_limit(&suite.server, value)?;
        check(answer.starts_with("HTTP/1.1 400"), format!("{value}: {answer}"))?;
    }
    for value in ["NaN", "1e309", "0x10", "01"] {
        let answer = raw_limit(&suite.server, value)?;
        check(answer.starts_with("HTTP/1.1 400"), format!("{value}: {answer}"))?;
    }
    Ok(())
}

fn limits_too_large(suite: &Suite) -> Result<()> {
    for value in ["18446744073709551615", "536870913", "99999999999999999999"] {
        let answer = raw_limit(&suite.server, value)?;
        check(answer.starts_with("HTTP/1.1 400") && answer.contains("cannot exceed"), format!("{value}: {answer}"))?;
    }
    Ok(())
}

fn base64_invalid(suite: &Suite) -> Result<()> {
    // As Piston decodes: what is no base64 is passed over.
    let files = json!([{ "name": "m.sh", "content": "wc -c < f" }, { "name": "f", "content": "!!", "encoding": "base64" }]);
    let body = json!({ "language": "bash", "version": "*", "files": files });
    check(suite.server.stdout_of(&body)? == "0", "base64 that is none")
}

fn args_huge(suite: &Suite) -> Result<()> {
    for args in [json!(vec!["x"; 200_000]), json!(["x".repeat(1 << 20)])] {
        let mut body = program("bash", "echo ran");
        body["args"] = args;
        suite.server.refuses(&body)?;
    }
    let mut body = program("bash", "echo ${#1} $#");
    body["args"] = json!(["y".repeat(100_000), "z"]);
    check(suite.server.stdout_of(&body)? == "100000 2", "long arguments within the limits")
}

fn args_nul_injection(suite: &Suite) -> Result<()> {
    let mut body = program("python", "import sys; print(sys.argv[1:])");
    body["args"] = json!(["a\0b"]);
    suite.server.refuses(&body)?;
    body["args"] = json!(["; rm -rf /", "$(id)", "--eval", "`id`"]);
    check(suite.server.stdout_of(&body)? == "['; rm -rf /', '$(id)', '--eval', '`id`']", "an argument was interpreted")
}

fn websocket_flood(suite: &Suite) -> Result<()> {
    let mut socket = suite.server.connect();
    socket.send_json(
        &json!({ "type": "init", "language": "python", "version": "*", "files": [{ "content": "import time; time.sleep(60)" }] }),
    )?;
    // Nobody reads them: the server must neither keep them all nor fall. It may stop reading, so a send may time out.
    let message = json!({ "type": "data", "stream": "stdin", "data": "x".repeat(1000) }).to_string();
    for _ in 0..20_000 {
        if socket.send(&message).is_err() {
            break;
        }
    }
    drop(socket);
    hello(suite.host(), "hello")?;
    let mut closed = suite.server.connect();
    let huge = closed.send(&"x".repeat(32 << 20));
    if huge.is_ok()
        && let Ok(Frame::Text(text)) = closed.receive()
    {
        keeps_secret("a message", text.as_bytes())?;
        bail!("a message of 32 MiB was taken");
    }
    Ok(())
}

fn queue_full(_: &Suite) -> Result<()> {
    Server::during(&["--set", "admission.max_concurrent=1", "--set", "admission.queue=2"], |server| {
        let host = server.host();
        let answers: Vec<(u16, Option<String>, String)> = scope(|scope| {
            let workers: Vec<_> = (0..12)
                .map(|_| {
                    scope.spawn(move || {
                        let body = program("bash", "sleep 0.3; echo done");
                        let response = execute(host, &body)?;
                        let retry = response.header("retry-after").map(str::to_owned);
                        Ok::<_, anyhow::Error>((response.status, retry, response.text()))
                    })
                })
                .collect();
            workers.into_iter().filter_map(|worker| worker.join().ok()?.ok()).collect()
        });
        let accepted = answers.iter().filter(|(status, _, text)| *status == 200 && text.contains("done")).count();
        let denied = answers
            .iter()
            .filter(|(status, retry, _)| *status == 429 && retry.as_ref().is_some_and(|s| s.parse::<u32>().is_ok()))
            .count();
        check(accepted >= 3 && denied >= 1 && accepted + denied == 12, format!("{answers:?}"))
    })
}

fn debug_endpoints(suite: &Suite) -> Result<()> {
    for target in ["/debug/pprof", "/admin", "//admin", "/api/v2/../../etc/passwd", "/.env", "/server-status"] {
        let response = suite.server.send(&Request::new("GET", target))?;
        check(response.status == 404, format!("{target}: {}", response.status))?;
    }
    Ok(())
}
