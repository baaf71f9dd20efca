//! Rows that are more than one program and its answer.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use greenroom_contract::{Connection, Frame, Request, Server};
use greenroom_escape::{Host, SECRET};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::{Suite, execute, hello};

type Test = fn(&Suite) -> Result<(), Failed>;

/// Group, row, code.
const TESTS: &[(&str, &str, Test)] = &[
    ("resource", "stdin-unread-large", stdin_unread_large),
    ("resource", "nproc-shared-uid", nproc_shared_uid),
    ("resource", "wall-vs-cpu-limit-zero", zero_is_the_configured_limit),
    ("compile-time", "compiler-option-inject", compiler_option_inject),
    ("compile-time", "dash-filename", dash_filename),
    ("compile-time", "go-cgo-flags", go_cgo_flags),
    ("escape", "ld-preload-env", environment_is_not_the_clients),
    ("escape", "page-cache-integrity", page_cache_integrity),
    ("files", "upload-traversal", upload_traversal),
    ("files", "upload-absolute", upload_absolute),
    ("files", "upload-dotdot-prefix-ok", upload_dotdot_prefix_ok),
    ("files", "upload-nul-empty-dot", upload_nul_empty_dot),
    ("files", "upload-duplicate", upload_duplicate),
    ("files", "upload-reserved", upload_reserved),
    ("files", "result-dir-conflict", dir_conflict),
    ("files", "etxtbsy-copyin-exec", etxtbsy),
    ("cross-session", "result-mixup", result_mixup),
    ("cross-session", "log-metrics-leak", log_metrics_leak),
    ("cross-session", "error-message-leak", error_message_leak),
    ("network", "loopback-host-api", loopback_host_api),
    ("must-work", "exit-codes", exit_codes),
    ("must-work", "exact-limit-boundary", exact_limit_boundary),
    ("api", "body-oversize", body_oversize),
    ("api", "slowloris-header", slowloris_header),
    ("api", "slow-body", slow_body),
    ("api", "gzip-bomb", gzip_bomb),
    ("api", "json-deep", json_deep),
    ("api", "json-dup-keys", json_dup_keys),
    ("api", "json-numbers", json_numbers),
    ("api", "limits-overflow-units", limits_too_large),
    ("api", "limits-above-max", limits_too_large),
    ("api", "base64-invalid", base64_invalid),
    ("api", "args-huge", args_huge),
    ("api", "args-nul-injection", args_nul_injection),
    ("api", "websocket-flood", websocket_flood),
    ("api", "queue-full", queue_full),
    ("api", "debug-endpoints", debug_endpoints),
    ("api", "log-injection", log_injection),
];

/// The rows.
pub const NAMES: &[&str] = &{
    let mut names = [""; TESTS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = TESTS[at].1;
        at += 1;
    }
    names
};

/// A test per row, each with H0 and H1.
pub fn trials(suite: &Arc<Suite>) -> impl Iterator<Item = Trial> {
    TESTS.iter().map(|(group, name, test)| {
        let suite = Arc::clone(suite);
        Trial::test(format!("{group}::{name}"), move || {
            let before = Host::look()?;
            test(&suite)?;
            before.is_unchanged()?;
            suite.canary.is_silent()?;
            hello(&suite.server)
        })
    })
}

fn check(holds: bool, what: impl std::fmt::Display) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(what.to_string().into()) }
}

fn program(language: &str, source: &str) -> Value {
    json!({ "language": language, "version": "*", "files": [{ "content": source }] })
}

fn with_files(language: &str, files: &[(&str, &str)]) -> Value {
    let files: Vec<Value> = files.iter().map(|(name, content)| json!({ "name": name, "content": content })).collect();
    json!({ "language": language, "version": "*", "files": files })
}

/// Refused with a message, nothing run.
fn refused(server: &Server, body: &Value) -> Result<(), Failed> {
    let response = server.send(&Request::new("POST", "/api/v2/execute").json(body))?;
    let message = response.json()["message"].as_str().unwrap_or_default().to_owned();
    check(response.status == 400 && !message.is_empty(), format!("{body} was answered {}: {}", response.status, response.text()))
}

fn stdout_of(server: &Server, body: &Value) -> Result<String, Failed> {
    let answer = execute(server, body)?;
    let stdout = answer["run"]["stdout"].as_str().unwrap_or_default().trim().to_owned();
    check(answer["run"]["status"].is_null(), format!("{answer:#}"))?;
    Ok(stdout)
}

fn stdin_unread_large(suite: &Suite) -> Result<(), Failed> {
    let mut body = program("python", "pass");
    body["stdin"] = "x".repeat(8 << 20).into();
    let begun = Instant::now();
    stdout_of(&suite.server, &body)?;
    check(begun.elapsed() < Duration::from_secs(5), "a program that reads nothing waits for its input to be written")
}

fn nproc_shared_uid(suite: &Suite) -> Result<(), Failed> {
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| {
            let mut body = program("bash", "for i in $(seq 50); do sleep 1.2 & done; wait; echo held");
            body["run_timeout"] = 2500.into();
            stdout_of(&suite.server, &body)
        });
        std::thread::sleep(Duration::from_millis(300));
        let other = stdout_of(&suite.server, &program("bash", "for i in $(seq 50); do sleep 0.1 & done; wait; echo forked"))?;
        let held = holder.join().map_err(|_| Failed::from("the holder panicked"))??;
        check((other.as_str(), held.as_str()) == ("forked", "held"), format!("{other:?} {held:?}"))
    })
}

fn zero_is_the_configured_limit(suite: &Suite) -> Result<(), Failed> {
    for key in ["run_timeout", "run_cpu_time"] {
        let mut body = program("bash", if key == "run_timeout" { "sleep 60" } else { "while :; do :; done" });
        body[key] = 0.into();
        let answer = execute(&suite.server, &body)?;
        check(answer["run"]["status"] == "TO", format!("{key}: 0 lifted the limit: {answer}"))?;
    }
    Ok(())
}

fn compiler_option_inject(suite: &Suite) -> Result<(), Failed> {
    // There is no field for it: what a client invents is not seen.
    let mut body = program("c", "#include <stdio.h>\nint main(void) { puts(\"plain\"); }");
    body["compile_args"] = json!(["-fplugin=./x.so", "-wrapper", "sh,-c,id", "@/etc/passwd"]);
    check(stdout_of(&suite.server, &body)? == "plain", "compile_args had an effect")
}

fn dash_filename(suite: &Suite) -> Result<(), Failed> {
    for name in ["-o", "--help.py", "@args.py", "-c"] {
        check(stdout_of(&suite.server, &with_files("python", &[(name, "print(42)")]))? == "42", name)?;
    }
    check(stdout_of(&suite.server, &with_files("c", &[("-o.c", "#include <stdio.h>\nint main(void) { puts(\"42\"); }")]))? == "42", "-o.c")
}

fn go_cgo_flags(suite: &Suite) -> Result<(), Failed> {
    if suite.server.version_of("go").is_none() {
        return Ok(());
    }
    let source = "package main\n// #cgo LDFLAGS: -Wl,-T,/etc/passwd\nimport \"C\"\nfunc main() {}\n";
    let answer = execute(&suite.server, &program("go", source))?;
    let text = answer.to_string();
    check(answer["compile"]["code"] != 0 && !text.contains("root:x:0"), text)
}

fn environment_is_not_the_clients(suite: &Suite) -> Result<(), Failed> {
    let mut body = program("bash", "env | grep -c 'PRELOAD\\|BASH_ENV\\|GCONV'; true");
    body["env"] = json!({ "LD_PRELOAD": "/box/x.so", "BASH_ENV": "/box/p", "GCONV_PATH": "/box" });
    check(stdout_of(&suite.server, &body)? == "0", "a request set the environment")
}

fn page_cache_integrity(suite: &Suite) -> Result<(), Failed> {
    // The entry calls of Dirty Pipe, Copy Fail and Dirty Frag; whether shared files change is H0's canaries.
    let source = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
int main(void) {
    struct iovec v = {"x", 1}; int p[2]; pipe(p);
    printf("%d %d %d %d\n", socket(38, SOCK_SEQPACKET, 0) < 0, socket(33, SOCK_DGRAM, 0) < 0, unshare(CLONE_NEWUSER) < 0, vmsplice(p[1], &v, 1, 0) < 0);
}
"#;
    check(stdout_of(&suite.server, &program("c", source))? == "1 1 1 1", "an entry call is open")
}

fn upload_traversal(suite: &Suite) -> Result<(), Failed> {
    for name in ["../../etc/cron.d/x", "a/../../b", "../x", "a/../../../box/x"] {
        refused(&suite.server, &with_files("bash", &[("m.sh", "echo x"), (name, "x")]))?;
    }
    // These are names as others, and stay inside.
    for name in ["..\\x", "%2e%2e%2fx", "\u{2024}\u{2024}/x", "\u{ff0e}\u{ff0e}/x"] {
        check(stdout_of(&suite.server, &with_files("bash", &[("m.sh", "ls -A | wc -l"), (name, "x")]))? == "2", name)?;
    }
    Ok(())
}

fn upload_absolute(suite: &Suite) -> Result<(), Failed> {
    for name in ["/etc/passwd", "//x"] {
        refused(&suite.server, &with_files("bash", &[("m.sh", "echo x"), (name, "x")]))?;
    }
    Ok(())
}

fn upload_dotdot_prefix_ok(suite: &Suite) -> Result<(), Failed> {
    let files = [("m.sh", "cat ..foo a..b ...txt"), ("..foo", "1"), ("a..b", "2"), ("...txt", "3")];
    check(stdout_of(&suite.server, &with_files("bash", &files))? == "123", "a harmless name was not written")
}

fn upload_nul_empty_dot(suite: &Suite) -> Result<(), Failed> {
    for name in ["a\0b", ".", "a/", "./", "a/.."] {
        refused(&suite.server, &with_files("bash", &[("m.sh", "echo x"), (name, "x")]))?;
    }
    refused(&suite.server, &with_files("bash", &[("m.sh", "echo x"), (&"x".repeat(256), "x")]))
}

fn upload_duplicate(suite: &Suite) -> Result<(), Failed> {
    // As Piston: the last one wins.
    let files = [("m.sh", "cat d"), ("d", "first"), ("d", "last")];
    check(stdout_of(&suite.server, &with_files("bash", &files))? == "last", "which of two files of one name wins is not as documented")
}

fn upload_reserved(suite: &Suite) -> Result<(), Failed> {
    let files = [("m.sh", "echo $X$PISTON_LANGUAGE"), (".env", "X=injected"), ("run", "echo injected"), ("compile", "echo injected")];
    check(stdout_of(&suite.server, &with_files("bash", &files))? == "bash", "a file changed the command or its environment")
}

fn dir_conflict(suite: &Suite) -> Result<(), Failed> {
    refused(&suite.server, &with_files("bash", &[("m.sh", "echo x"), ("dir/t.txt", "x"), ("dir", "x")]))
}

fn etxtbsy(suite: &Suite) -> Result<(), Failed> {
    // A script that is written and exec'ed at once, many times, from several clients.
    clients(suite.server.host(), 4, 25, |_, _| with_files("file", &[("run", "#!/bin/sh\necho ran\n")]), |_, _, out| out == "ran\n")
}

fn result_mixup(suite: &Suite) -> Result<(), Failed> {
    let nonce = |client: usize, turn: usize| format!("nonce-{client}-{turn}");
    clients(
        suite.server.host(),
        4,
        25,
        |client, turn| program("bash", &format!("echo {}", nonce(client, turn))),
        |client, turn, out| out == nonce(client, turn) + "\n",
    )
}

/// Several clients, each with its own connection and many runs.
fn clients(
    host: &str,
    count: usize,
    runs: usize,
    body: impl Fn(usize, usize) -> Value + Sync,
    fits: impl Fn(usize, usize, &str) -> bool + Sync,
) -> Result<(), Failed> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..count)
            .map(|client| {
                let (body, fits) = (&body, &fits);
                scope.spawn(move || -> Result<(), Failed> {
                    for turn in 0..runs {
                        let response = Connection::open(host)?.send(&Request::new("POST", "/api/v2/execute").json(&body(client, turn)))?;
                        let answer = response.json();
                        let out = answer["run"]["stdout"].as_str().unwrap_or_default();
                        check(fits(client, turn, out), format!("client {client}, turn {turn}: {answer}"))?;
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| Failed::from("a client panicked"))?)
    })
}

fn log_metrics_leak(suite: &Suite) -> Result<(), Failed> {
    let mut body = program("bash", "echo top-secret-source; cat >/dev/null");
    body["stdin"] = "top-secret-stdin".into();
    body["args"] = json!(["top-secret-arg"]);
    stdout_of(&suite.server, &body)?;
    let metrics = suite.server.send(&Request::new("GET", "/metrics"))?.text();
    check(!metrics.contains("top-secret"), "the metrics hold a program's secret")?;
    check(!suite.server.log().contains("top-secret"), "the log holds a program's secret")?;
    check(!suite.server.log().contains(SECRET), "the log holds the server's secret")
}

fn error_message_leak(suite: &Suite) -> Result<(), Failed> {
    for body in [json!({ "language": "nope", "version": "*", "files": [] }), json!([]), with_files("bash", &[("../x", "x")])] {
        let text = suite.server.send(&Request::new("POST", "/api/v2/execute").json(&body))?.text();
        for word in ["/var/", "/usr/", "/proc/", "uid", "rustc", ".rs:", "6."] {
            check(!text.contains(word), format!("{text} names {word}"))?;
        }
    }
    Ok(())
}

fn loopback_host_api(suite: &Suite) -> Result<(), Failed> {
    let knock = |port: u16| {
        format!("import socket\ns = socket.socket()\ntry: s.connect(('127.0.0.1', {port})); print('connected')\nexcept OSError as e: print('refused')")
    };
    let own: u16 = suite.server.host().rsplit(':').next().unwrap_or_default().parse()?;
    for port in [suite.canary.port()?, own] {
        check(stdout_of(&suite.server, &program("python", &knock(port)))? == "refused", format!("the host's port {port} was reached"))?;
    }
    // With a loopback of its own a program reaches itself, and still nobody else.
    let with_loopback = Server::own(&["--set", "isolation.network=loopback"], &[])?.map_err(|none| none.0)?;
    let talk = "import socket, threading\ns = socket.create_server(('127.0.0.1', 8080))\nt = threading.Thread(target=lambda: s.accept()[0].sendall(b'self')); t.start()\nc = socket.create_connection(('127.0.0.1', 8080)); print(c.recv(9).decode()); t.join()";
    let result = stdout_of(&with_loopback, &program("python", talk)).and_then(|text| check(text == "self", text));
    let reached = stdout_of(&with_loopback, &program("python", &knock(suite.canary.port()?)));
    with_loopback.stop()?;
    result?;
    check(reached? == "refused", "the host was reached through a loopback of its own")
}

fn exit_codes(suite: &Suite) -> Result<(), Failed> {
    for code in [0, 1, 2, 127, 255] {
        let answer = execute(&suite.server, &program("bash", &format!("exit {code}")))?;
        check(answer["run"]["code"] == code && answer["run"]["signal"].is_null(), format!("{answer}"))?;
    }
    for (number, name) in [(6, "SIGABRT"), (8, "SIGFPE"), (9, "SIGKILL"), (11, "SIGSEGV")] {
        let answer = execute(&suite.server, &program("bash", &format!("kill -{number} $$")))?;
        check(answer["run"]["signal"] == name && answer["run"]["code"].is_null(), format!("{answer}"))?;
    }
    Ok(())
}

fn exact_limit_boundary(suite: &Suite) -> Result<(), Failed> {
    // 8 MiB below the limit in memory; 20 times, and not once too much.
    let source = "#include <stdlib.h>\n#include <string.h>\nint main(void) { size_t n = (64UL << 20) - (8UL << 20); char *p = malloc(n); memset(p, 1, n); return p[n - 1] - 1; }";
    for _ in 0..20 {
        let mut body = program("c", source);
        body["run_memory_limit"] = (64_u64 << 20).into();
        let answer = execute(&suite.server, &body)?;
        check(answer["run"]["status"].is_null(), format!("{answer}"))?;
    }
    Ok(())
}

fn post(host: &str, extra: &str, body: &[u8]) -> Result<String, Failed> {
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let head = format!("POST /api/v2/execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n{extra}\r\n");
    stream.write_all(head.as_bytes())?;
    // The server may answer and close before it has read everything.
    let _written = stream.write_all(body);
    let mut text = Vec::new();
    let _read = stream.read_to_end(&mut text);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn body_oversize(suite: &Suite) -> Result<(), Failed> {
    let announced = post(suite.server.host(), "Content-Length: 1073741824\r\n", b"{")?;
    check(announced.starts_with("HTTP/1.1 413"), announced)?;
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    let chunked = post(suite.server.host(), "Transfer-Encoding: chunked\r\n", &chunk.repeat(20))?;
    check(chunked.is_empty() || chunked.starts_with("HTTP/1.1 413"), chunked)
}

fn own_server(arguments: &[&str], test: impl FnOnce(&Server) -> Result<(), Failed>) -> Result<(), Failed> {
    let server = Server::own(arguments, &[])?.map_err(|none| none.0)?;
    let result = test(&server);
    server.stop()?;
    result
}

fn slowloris_header(_: &Suite) -> Result<(), Failed> {
    own_server(&["--set", "http.header_timeout_ms=500"], |server| {
        let mut slow: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(server.host())).collect::<Result<_, _>>()?;
        for stream in &mut slow {
            stream.write_all(b"POST /api/v2/execute HTTP/1.1\r\nHost:")?;
        }
        hello(server)?;
        std::thread::sleep(Duration::from_millis(1500));
        for stream in &mut slow {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut bytes = Vec::new();
            // Closed: an end, or a reset.
            check(stream.read_to_end(&mut bytes).is_ok_and(|_| true) || bytes.is_empty(), "a slow header is waited for")?;
        }
        hello(server)
    })
}

fn slow_body(_: &Suite) -> Result<(), Failed> {
    own_server(&["--set", "http.body_timeout_ms=500"], |server| {
        let mut stream = TcpStream::connect(server.host())?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"POST /api/v2/execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        check(text.starts_with("HTTP/1.1 408"), text)
    })
}

fn gzip_bomb(suite: &Suite) -> Result<(), Failed> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..256 {
        encoder.write_all(&zeros)?;
    }
    let bomb = encoder.finish()?;
    let answer = post(suite.server.host(), &format!("Content-Encoding: gzip\r\nContent-Length: {}\r\n", bomb.len()), &bomb)?;
    check(answer.starts_with("HTTP/1.1 413"), answer)
}

fn json_deep(suite: &Suite) -> Result<(), Failed> {
    for open in ["[", "{\"a\":"] {
        let body = open.repeat(1_000_000);
        let answer = post(suite.server.host(), &format!("Content-Length: {}\r\n", body.len()), body.as_bytes())?;
        check(answer.starts_with("HTTP/1.1 400"), answer)?;
    }
    Ok(())
}

fn json_dup_keys(suite: &Suite) -> Result<(), Failed> {
    // The last wins, and is checked.
    let body = r#"{"language":"bash","version":"*","files":[{"content":"sleep 9"}],"run_timeout":1,"run_timeout":99999999}"#;
    let answer = post(suite.server.host(), &format!("Content-Length: {}\r\n", body.len()), body.as_bytes())?;
    check(answer.starts_with("HTTP/1.1 400") && answer.contains("cannot exceed"), answer)
}

fn raw_limit(server: &Server, value: &str) -> Result<String, Failed> {
    let body = format!(r#"{{"language":"bash","version":"*","files":[{{"content":"echo ran"}}],"run_memory_limit":{value}}}"#);
    post(server.host(), &format!("Content-Length: {}\r\n", body.len()), body.as_bytes())
}

fn json_numbers(suite: &Suite) -> Result<(), Failed> {
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

fn limits_too_large(suite: &Suite) -> Result<(), Failed> {
    for value in ["18446744073709551615", "536870913", "99999999999999999999"] {
        let answer = raw_limit(&suite.server, value)?;
        check(answer.starts_with("HTTP/1.1 400") && answer.contains("cannot exceed"), format!("{value}: {answer}"))?;
    }
    Ok(())
}

fn base64_invalid(suite: &Suite) -> Result<(), Failed> {
    // As Piston decodes: what is no base64 is passed over.
    let files = json!([{ "name": "m.sh", "content": "wc -c < f" }, { "name": "f", "content": "!!", "encoding": "base64" }]);
    let body = json!({ "language": "bash", "version": "*", "files": files });
    check(stdout_of(&suite.server, &body)? == "0", "base64 that is none")
}

fn args_huge(suite: &Suite) -> Result<(), Failed> {
    for args in [json!(vec!["x"; 200_000]), json!(["x".repeat(1 << 20)])] {
        let mut body = program("bash", "echo ran");
        body["args"] = args;
        refused(&suite.server, &body)?;
    }
    let mut body = program("bash", "echo ${#1} $#");
    body["args"] = json!(["y".repeat(100_000), "z"]);
    check(stdout_of(&suite.server, &body)? == "100000 2", "long arguments within the limits")
}

fn args_nul_injection(suite: &Suite) -> Result<(), Failed> {
    let mut body = program("python", "import sys; print(sys.argv[1:])");
    body["args"] = json!(["a\0b"]);
    refused(&suite.server, &body)?;
    body["args"] = json!(["; rm -rf /", "$(id)", "--eval", "`id`"]);
    check(stdout_of(&suite.server, &body)? == "['; rm -rf /', '$(id)', '--eval', '`id`']", "an argument was interpreted")
}

fn websocket_flood(suite: &Suite) -> Result<(), Failed> {
    let mut socket = suite.server.connect();
    socket.send_json(&json!({ "type": "init", "language": "python", "version": "*", "files": [{ "content": "import time; time.sleep(60)" }] }))?;
    // Nobody reads them: the server must neither keep them all nor fall. It may stop reading, so a send may time out.
    let message = json!({ "type": "data", "stream": "stdin", "data": "x".repeat(1000) }).to_string();
    for _ in 0..20_000 {
        if socket.send(&message).is_err() {
            break;
        }
    }
    drop(socket);
    hello(&suite.server)?;
    let mut closed = suite.server.connect();
    let huge = closed.send(&"x".repeat(32 << 20));
    let ended = huge.is_err() || !matches!(closed.receive(), Ok(Frame::Message(_)));
    check(ended, "a message of 32 MiB was taken")
}

fn queue_full(_: &Suite) -> Result<(), Failed> {
    own_server(&["--set", "admission.max_concurrent=1", "--set", "admission.queue=2"], |server| {
        let host = server.host();
        let answers: Vec<(u16, Option<String>, String)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..12)
                .map(|_| {
                    scope.spawn(move || {
                        let body = program("bash", "sleep 0.3; echo done");
                        let response = Connection::open(host)?.send(&Request::new("POST", "/api/v2/execute").json(&body))?;
                        let retry = response.header("retry-after").map(str::to_owned);
                        Ok::<_, anyhow::Error>((response.status, retry, response.text()))
                    })
                })
                .collect();
            workers.into_iter().filter_map(|worker| worker.join().ok()?.ok()).collect()
        });
        let accepted = answers.iter().filter(|(status, _, text)| *status == 200 && text.contains("done")).count();
        let denied = answers.iter().filter(|(status, retry, _)| *status == 429 && retry.as_ref().is_some_and(|s| s.parse::<u32>().is_ok())).count();
        check(accepted >= 3 && denied >= 1 && accepted + denied == 12, format!("{answers:?}"))
    })
}

fn debug_endpoints(suite: &Suite) -> Result<(), Failed> {
    for target in ["/debug/pprof", "/admin", "//admin", "/api/v2/../../etc/passwd", "/.env", "/server-status"] {
        let response = suite.server.send(&Request::new("GET", target))?;
        check(response.status == 404, format!("{target}: {}", response.status))?;
    }
    Ok(())
}

fn log_injection(suite: &Suite) -> Result<(), Failed> {
    let mut stream = TcpStream::connect(suite.server.host())?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /%0aFAKE\x1b[31m HTTP/1.1\r\nHost: x\r\nUser-Agent: a\x1b[31mb\r\nConnection: close\r\n\r\n")?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    check(!suite.server.log().contains('\x1b'), "the log holds a raw escape")
}
