//! Rows about programs that are more than one program and its answer.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use greenroom_contract::{Connection, Request};
use greenroom_escape::SECRET;
use serde_json::{Value, json};

use crate::{
    Coded,
    suite::{Suite, check, execute, own, program, refused, stdout_of, with_files},
};

pub const ROWS: &[Coded] = &[
    ("resource::stdin-unread-large", stdin_unread_large),
    ("resource::nproc-shared-uid", nproc_shared_uid),
    ("resource::wall-vs-cpu-limit-zero", zero_is_the_configured_limit),
    ("compile-time::compiler-option-inject", compiler_option_inject),
    ("compile-time::dash-filename", dash_filename),
    ("compile-time::go-cgo-flags", go_cgo_flags),
    ("escape::ld-preload-env", environment_is_not_the_clients),
    ("files::upload-traversal", upload_traversal),
    ("files::upload-absolute", upload_absolute),
    ("files::upload-dotdot-prefix-ok", upload_dotdot_prefix_ok),
    ("files::upload-nul-empty-dot", upload_nul_empty_dot),
    ("files::upload-duplicate", upload_duplicate),
    ("files::upload-reserved", upload_reserved),
    ("files::result-dir-conflict", dir_conflict),
    ("files::etxtbsy-copyin-exec", etxtbsy),
    ("cross-session::result-mixup", result_mixup),
    ("cross-session::log-metrics-leak", log_metrics_leak),
    ("cross-session::error-message-leak", error_message_leak),
    ("network::loopback-host-api", loopback_host_api),
    ("must-work::exit-codes", exit_codes),
    ("must-work::exact-limit-boundary", exact_limit_boundary),
    ("must-work::localhost-server", localhost_server),
    ("compile-time::javac-deep-nesting", javac_deep_nesting),
];

fn stdin_unread_large(suite: &Suite) -> Result<()> {
    let mut body = program("python", "pass");
    body["stdin"] = "x".repeat(8 << 20).into();
    let begun = Instant::now();
    stdout_of(&suite.server, &body)?;
    check(begun.elapsed() < Duration::from_secs(5), "a program that reads nothing waits for its input to be written")
}

fn nproc_shared_uid(suite: &Suite) -> Result<()> {
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| {
            let mut body = program("bash", "for i in $(seq 50); do sleep 1.2 & done; wait; echo held");
            body["run_timeout"] = 2500.into();
            stdout_of(&suite.server, &body)
        });
        std::thread::sleep(Duration::from_millis(300));
        let other = stdout_of(&suite.server, &program("bash", "for i in $(seq 50); do sleep 0.1 & done; wait; echo forked"))?;
        let held = holder.join().map_err(|_| anyhow!("the holder panicked"))??;
        check((other.as_str(), held.as_str()) == ("forked", "held"), format!("{other:?} {held:?}"))
    })
}

fn zero_is_the_configured_limit(suite: &Suite) -> Result<()> {
    for key in ["run_timeout", "run_cpu_time"] {
        let mut body = program("bash", if key == "run_timeout" { "sleep 60" } else { "while :; do :; done" });
        body[key] = 0.into();
        let answer = execute(&suite.server, &body)?;
        check(answer["run"]["status"] == "TO", format!("{key}: 0 lifted the limit: {answer}"))?;
    }
    Ok(())
}

fn compiler_option_inject(suite: &Suite) -> Result<()> {
    // There is no field for it: what a client invents is not seen.
    let mut body = program("c", "#include <stdio.h>\nint main(void) { puts(\"plain\"); }");
    body["compile_args"] = json!(["-fplugin=./x.so", "-wrapper", "sh,-c,id", "@/etc/passwd"]);
    check(stdout_of(&suite.server, &body)? == "plain", "compile_args had an effect")
}

fn dash_filename(suite: &Suite) -> Result<()> {
    for name in ["-o", "--help.py", "@args.py", "-c"] {
        check(stdout_of(&suite.server, &with_files("python", &[(name, "print(42)")]))? == "42", name)?;
    }
    check(
        stdout_of(&suite.server, &with_files("c", &[("-o.c", "#include <stdio.h>\nint main(void) { puts(\"42\"); }")]))? == "42",
        "-o.c",
    )
}

fn go_cgo_flags(suite: &Suite) -> Result<()> {
    if suite.server.version_of("go").is_none() {
        return Ok(());
    }
    let source = "package main\n// #cgo LDFLAGS: -Wl,-T,/etc/passwd\nimport \"C\"\nfunc main() {}\n";
    let answer = execute(&suite.server, &program("go", source))?;
    let text = answer.to_string();
    check(answer["compile"]["code"] != 0 && !text.contains("root:x:0"), text)
}

fn environment_is_not_the_clients(suite: &Suite) -> Result<()> {
    let mut body = program("bash", "env | grep -c 'PRELOAD\\|BASH_ENV\\|GCONV'; true");
    body["env"] = json!({ "LD_PRELOAD": "/box/x.so", "BASH_ENV": "/box/p", "GCONV_PATH": "/box" });
    check(stdout_of(&suite.server, &body)? == "0", "a request set the environment")
}

fn upload_traversal(suite: &Suite) -> Result<()> {
    for name in ["../../etc/cron.d/x", "a/../../b", "../x", "a/../../../box/x"] {
        refused(&suite.server, &with_files("bash", &[("m.sh", "echo x"), (name, "x")]))?;
    }
    // These are names as others, and stay inside.
    for name in ["..\\x", "%2e%2e%2fx", "\u{2024}\u{2024}/x", "\u{ff0e}\u{ff0e}/x"] {
        check(stdout_of(&suite.server, &with_files("bash", &[("m.sh", "ls -A | wc -l"), (name, "x")]))? == "2", name)?;
    }
    Ok(())
}

fn upload_absolute(suite: &Suite) -> Result<()> {
    for name in ["/etc/passwd", "//x"] {
        refused(&suite.server, &with_files("bash", &[("m.sh", "echo x"), (name, "x")]))?;
    }
    Ok(())
}

fn upload_dotdot_prefix_ok(suite: &Suite) -> Result<()> {
    let files = [("m.sh", "cat ..foo a..b ...txt"), ("..foo", "1"), ("a..b", "2"), ("...txt", "3")];
    check(stdout_of(&suite.server, &with_files("bash", &files))? == "123", "a harmless name was not written")
}

fn upload_nul_empty_dot(suite: &Suite) -> Result<()> {
    for name in ["a\0b", ".", "a/", "./", "a/.."] {
        refused(&suite.server, &with_files("bash", &[("m.sh", "echo x"), (name, "x")]))?;
    }
    refused(&suite.server, &with_files("bash", &[("m.sh", "echo x"), (&"x".repeat(256), "x")]))
}

fn upload_duplicate(suite: &Suite) -> Result<()> {
    // As Piston: the last one wins.
    let files = [("m.sh", "cat d"), ("d", "first"), ("d", "last")];
    check(
        stdout_of(&suite.server, &with_files("bash", &files))? == "last",
        "which of two files of one name wins is not as documented",
    )
}

fn upload_reserved(suite: &Suite) -> Result<()> {
    let files =
        [("m.sh", "echo $X$PISTON_LANGUAGE"), (".env", "X=injected"), ("run", "echo injected"), ("compile", "echo injected")];
    check(stdout_of(&suite.server, &with_files("bash", &files))? == "bash", "a file changed the command or its environment")
}

fn dir_conflict(suite: &Suite) -> Result<()> {
    refused(&suite.server, &with_files("bash", &[("m.sh", "echo x"), ("dir/t.txt", "x"), ("dir", "x")]))
}

fn etxtbsy(suite: &Suite) -> Result<()> {
    // A script that is written and exec'ed at once, many times, from several clients.
    clients(suite.server.host(), 4, 25, |_, _| with_files("file", &[("run", "#!/bin/sh\necho ran\n")]), |_, _, out| out == "ran\n")
}

fn result_mixup(suite: &Suite) -> Result<()> {
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
) -> Result<()> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..count)
            .map(|client| {
                let (body, fits) = (&body, &fits);
                scope.spawn(move || -> Result<()> {
                    for turn in 0..runs {
                        let response =
                            Connection::open(host)?.send(&Request::new("POST", "/api/v2/execute").json(&body(client, turn)))?;
                        let answer = response.json();
                        let out = answer["run"]["stdout"].as_str().unwrap_or_default();
                        check(fits(client, turn, out), format!("client {client}, turn {turn}: {answer}"))?;
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow!("a client panicked"))?)
    })
}

fn log_metrics_leak(suite: &Suite) -> Result<()> {
    let mut body = program("bash", "echo top-secret-source; cat >/dev/null");
    body["stdin"] = "top-secret-stdin".into();
    body["args"] = json!(["top-secret-arg"]);
    stdout_of(&suite.server, &body)?;
    let metrics = suite.server.send(&Request::new("GET", "/metrics"))?.text();
    check(!metrics.contains("top-secret"), "the metrics hold a program's secret")?;
    check(!suite.server.log().contains("top-secret"), "the log holds a program's secret")?;
    check(!suite.server.log().contains(SECRET), "the log holds the server's secret")
}

fn error_message_leak(suite: &Suite) -> Result<()> {
    for body in [json!({ "language": "nope", "version": "*", "files": [] }), json!([]), with_files("bash", &[("../x", "x")])] {
        let text = suite.server.send(&Request::new("POST", "/api/v2/execute").json(&body))?.text();
        for word in ["/var/", "/usr/", "/proc/", "uid", "rustc", ".rs:", "6."] {
            check(!text.contains(word), format!("{text} names {word}"))?;
        }
    }
    Ok(())
}

fn loopback_host_api(suite: &Suite) -> Result<()> {
    let knock = |port: u16| {
        format!(
            "import socket\ns = socket.socket()\ntry: s.connect(('127.0.0.1', {port})); print('connected')\nexcept OSError as e: print('refused')"
        )
    };
    let ours: u16 = suite.server.host().rsplit(':').next().unwrap_or_default().parse()?;
    for port in [suite.canary.port()?, ours] {
        check(
            stdout_of(&suite.server, &program("python", &knock(port)))? == "refused",
            format!("the host's port {port} was reached"),
        )?;
    }
    // With a loopback of its own a program reaches itself, and still nobody else.
    let with_loopback = own(&["--set", "isolation.network=loopback"], &[])?;
    let talk = "import socket, threading\ns = socket.create_server(('127.0.0.1', 8080))\nt = threading.Thread(target=lambda: s.accept()[0].sendall(b'self')); t.start()\nc = socket.create_connection(('127.0.0.1', 8080)); print(c.recv(9).decode()); t.join()";
    let result = stdout_of(&with_loopback, &program("python", talk)).and_then(|text| check(text == "self", text));
    let reached = stdout_of(&with_loopback, &program("python", &knock(suite.canary.port()?)));
    with_loopback.stop()?;
    result?;
    check(reached? == "refused", "the host was reached through a loopback of its own")
}

fn exit_codes(suite: &Suite) -> Result<()> {
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

fn exact_limit_boundary(suite: &Suite) -> Result<()> {
    // 8 MiB below the limit in memory; 20 times, and not once too much.
    let memory = "#include <stdlib.h>\n#include <string.h>\nint main(void) { size_t n = (64UL << 20) - (8UL << 20); char *p = malloc(n); memset(p, 1, n); return p[n - 1] - 1; }";
    for _ in 0..20 {
        let mut body = program("c", memory);
        body["run_memory_limit"] = (64_u64 << 20).into();
        let answer = execute(&suite.server, &body)?;
        check(answer["run"]["status"].is_null(), format!("{answer}"))?;
    }
    // And 150 ms below the limit of CPU time.
    let time = "#define _GNU_SOURCE\n#include <time.h>\nint main(void) { struct timespec t; do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); while (t.tv_nsec < 350000000 && !t.tv_sec); }";
    for _ in 0..5 {
        let mut body = program("c", time);
        body["run_cpu_time"] = 500.into();
        let answer = execute(&suite.server, &body)?;
        check(answer["run"]["status"].is_null(), format!("{answer}"))?;
    }
    Ok(())
}

fn localhost_server(_: &Suite) -> Result<()> {
    let server = own(&["--set", "isolation.network=loopback"], &[])?;
    let source = "import http.server, threading, urllib.request\nserver = http.server.ThreadingHTTPServer(('127.0.0.1', 8000), http.server.SimpleHTTPRequestHandler)\nthreading.Thread(target=server.serve_forever, daemon=True).start()\nprint(urllib.request.urlopen('http://localhost:8000/').status)\nserver.shutdown()";
    let printed = stdout_of(&server, &program("python", source));
    server.stop()?;
    let printed = printed?;
    check(printed == "200", printed)
}

fn javac_deep_nesting(suite: &Suite) -> Result<()> {
    if !suite.has("java") {
        return Ok(());
    }
    let expression = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let source = format!("public class Main {{ public static void main(String[] a) {{ int x = {expression}; }} }}");
    let answer = execute(&suite.server, &program("java", &source))?;
    let status = &answer["compile"]["status"];
    // The compiler overflows its stack, or manages; either way it is the compiler's end, not ours.
    check(status.is_null() || status == "RE" || status == "TO" || status == "EL", format!("{status}"))
}
