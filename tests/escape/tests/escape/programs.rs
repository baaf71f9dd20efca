//! Rows about programs that are more than one program and its answer.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use greenroom_contract::Request;
use serde_json::{Value, json};

use crate::{
    Coded,
    server::{Server, check, execute, program, with_files},
    suite::Suite,
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
    ("cross-session::error-message-leak", error_message_leak),
    ("network::loopback-host-api", loopback_host_api),
    ("compile-time::javac-deep-nesting", javac_deep_nesting),
];

fn stdin_unread_large(suite: &Suite) -> Result<()> {
    let mut body = program("python", "pass");
    body["stdin"] = "x".repeat(8 << 20).into();
    let begun = Instant::now();
    suite.server.stdout_of(&body)?;
    check(begun.elapsed() < Duration::from_secs(5), "a program that reads nothing waits for its input to be written")
}

fn nproc_shared_uid(suite: &Suite) -> Result<()> {
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| {
            let mut body = program("bash", "for i in $(seq 50); do sleep 1.2 & done; wait; echo held");
            body["run_timeout"] = 2500.into();
            suite.server.stdout_of(&body)
        });
        std::thread::sleep(Duration::from_millis(300));
        let other = suite.server.stdout_of(&program("bash", "for i in $(seq 50); do sleep 0.1 & done; wait; echo forked"))?;
        let held = holder.join().map_err(|_| anyhow!("the holder panicked"))??;
        check((other.as_str(), held.as_str()) == ("forked", "held"), format!("{other:?} {held:?}"))
    })
}

fn zero_is_the_configured_limit(suite: &Suite) -> Result<()> {
    let zero = |key: &str, source| {
        let mut body = program("bash", source);
        body[key] = 0.into();
        let answer = suite.server.execute(&body)?;
        check(answer["run"]["status"] == "TO", format!("{key}: 0 lifted the limit: {answer}"))
    };
    std::thread::scope(|scope| {
        let wall = scope.spawn(|| zero("run_timeout", "sleep 60"));
        let cpu = zero("run_cpu_time", "while :; do :; done");
        wall.join().map_err(|_| anyhow!("a client panicked"))?.and(cpu)
    })
}

fn compiler_option_inject(suite: &Suite) -> Result<()> {
    // There is no field for it: what a client invents is not seen.
    let mut body = program("c", "#include <stdio.h>\nint main(void) { puts(\"plain\"); }");
    body["compile_args"] = json!(["-fplugin=./x.so", "-wrapper", "sh,-c,id", "@/etc/passwd"]);
    check(suite.server.stdout_of(&body)? == "plain", "compile_args had an effect")
}

fn dash_filename(suite: &Suite) -> Result<()> {
    for name in ["-o", "--help.py", "@args.py", "-c"] {
        check(suite.server.stdout_of(&with_files("python", &[(name, "print(42)")]))? == "42", name)?;
    }
    check(
        suite.server.stdout_of(&with_files("c", &[("-o.c", "#include <stdio.h>\nint main(void) { puts(\"42\"); }")]))? == "42",
        "-o.c",
    )
}

fn go_cgo_flags(suite: &Suite) -> Result<()> {
    suite.needs("go")?;
    let source = "package main\n// #cgo LDFLAGS: -Wl,-T,/etc/passwd\nimport \"C\"\nfunc main() {}\n";
    let answer = suite.server.execute(&program("go", source))?;
    let text = answer.to_string();
    check(answer["compile"]["code"] != 0 && !text.contains("root:x:0"), text)
}

fn environment_is_not_the_clients(suite: &Suite) -> Result<()> {
    let mut body = program("bash", "env | grep -c 'PRELOAD\\|BASH_ENV\\|GCONV'; true");
    body["env"] = json!({ "LD_PRELOAD": "/box/x.so", "BASH_ENV": "/box/p", "GCONV_PATH": "/box" });
    check(suite.server.stdout_of(&body)? == "0", "a request set the environment")
}

fn upload_traversal(suite: &Suite) -> Result<()> {
    for name in ["../../etc/cron.d/x", "a/../../b", "../x", "a/../../../box/x"] {
        suite.server.refuses(&with_files("bash", &[("m.sh", "echo x"), (name, "x")]))?;
    }
    // These are names as others, and stay inside.
    for name in ["..\\x", "%2e%2e%2fx", "\u{2024}\u{2024}/x", "\u{ff0e}\u{ff0e}/x"] {
        check(suite.server.stdout_of(&with_files("bash", &[("m.sh", "ls -A | wc -l"), (name, "x")]))? == "2", name)?;
    }
    Ok(())
}

fn upload_absolute(suite: &Suite) -> Result<()> {
    for name in ["/etc/passwd", "//x"] {
        suite.server.refuses(&with_files("bash", &[("m.sh", "echo x"), (name, "x")]))?;
    }
    Ok(())
}

fn upload_dotdot_prefix_ok(suite: &Suite) -> Result<()> {
    let files = [("m.sh", "cat ..foo a..b ...txt"), ("..foo", "1"), ("a..b", "2"), ("...txt", "3")];
    check(suite.server.stdout_of(&with_files("bash", &files))? == "123", "a harmless name was not written")
}

fn upload_nul_empty_dot(suite: &Suite) -> Result<()> {
    for name in ["a\0b", ".", "a/", "./", "a/.."] {
        suite.server.refuses(&with_files("bash", &[("m.sh", "echo x"), (name, "x")]))?;
    }
    suite.server.refuses(&with_files("bash", &[("m.sh", "echo x"), (&"x".repeat(256), "x")]))
}

fn upload_duplicate(suite: &Suite) -> Result<()> {
    // As Piston: the last one wins.
    let files = [("m.sh", "cat d"), ("d", "first"), ("d", "last")];
    check(
        suite.server.stdout_of(&with_files("bash", &files))? == "last",
        "which of two files of one name wins is not as documented",
    )
}

fn upload_reserved(suite: &Suite) -> Result<()> {
    let files =
        [("m.sh", "echo $X$PISTON_LANGUAGE"), (".env", "X=injected"), ("run", "echo injected"), ("compile", "echo injected")];
    check(suite.server.stdout_of(&with_files("bash", &files))? == "bash", "a file changed the command or its environment")
}

fn dir_conflict(suite: &Suite) -> Result<()> {
    suite.server.refuses(&with_files("bash", &[("m.sh", "echo x"), ("dir/t.txt", "x"), ("dir", "x")]))
}

fn etxtbsy(suite: &Suite) -> Result<()> {
    // A script that is written and exec'ed at once, many times, from several clients.
    clients(
        suite.server.host(),
        4,
        25,
        |_, _| with_files("file", &[("run", "#!/bin/sh\necho ran\n")]),
        |_, _, run| run["stdout"] == "ran\n",
    )
}

fn result_mixup(suite: &Suite) -> Result<()> {
    let nonce = |client: usize, turn: usize| format!("nonce-{client}-{turn}");
    clients(
        suite.server.host(),
        4,
        25,
        |client, turn| program("bash", &format!("echo {}", nonce(client, turn))),
        |client, turn, run| run["stdout"] == nonce(client, turn) + "\n",
    )
}

/// Several clients at once, each with many runs; `fits` sees what came of each run stage.
pub fn clients(
    host: &str,
    count: usize,
    runs: usize,
    body: impl Fn(usize, usize) -> Value + Sync,
    fits: impl Fn(usize, usize, &Value) -> bool + Sync,
) -> Result<()> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..count)
            .map(|client| {
                let (body, fits) = (&body, &fits);
                scope.spawn(move || -> Result<()> {
                    for turn in 0..runs {
                        let answer = execute(host, &body(client, turn))?.json();
                        check(fits(client, turn, &answer["run"]), format!("client {client}, turn {turn}: {answer}"))?;
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow!("a client panicked"))?)
    })
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
            suite.server.stdout_of(&program("python", &knock(port)))? == "refused",
            format!("the host's port {port} was reached"),
        )?;
    }
    // With a loopback of its own a program reaches itself, and still nobody else.
    let with_loopback = Server::own(&["--set", "isolation.network=loopback"], &[])?;
    let talk = "import socket, threading\ns = socket.create_server(('127.0.0.1', 8080))\nt = threading.Thread(target=lambda: s.accept()[0].sendall(b'self')); t.start()\nc = socket.create_connection(('127.0.0.1', 8080)); print(c.recv(9).decode()); t.join()";
    let result = with_loopback.stdout_of(&program("python", talk)).and_then(|text| check(text == "self", text));
    let reached = with_loopback.stdout_of(&program("python", &knock(suite.canary.port()?)));
    with_loopback.stop()?;
    result?;
    check(reached? == "refused", "the host was reached through a loopback of its own")
}

fn javac_deep_nesting(suite: &Suite) -> Result<()> {
    suite.needs("java")?;
    let expression = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let source = format!("public class Main {{ public static void main(String[] a) {{ int x = {expression}; }} }}");
    let answer = suite.server.execute(&program("java", &source))?;
    let status = &answer["compile"]["status"];
    // The compiler overflows its stack, or manages; either way it is the compiler's end, not ours.
    check(status.is_null() || status == "RE" || status == "TO" || status == "EL", format!("{status}"))
}
