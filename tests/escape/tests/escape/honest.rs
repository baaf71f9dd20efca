//! Rows about honest programs, and about limits that are nearly reached.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{
    Coded,
    programs::clients,
    server::{Server, check, program},
    suite::Suite,
};

pub const ROWS: &[Coded] = &[
    ("must-work::exit-codes", exit_codes),
    ("must-work::exact-limit-boundary", exact_limit_boundary),
    ("must-work::localhost-server", localhost_server),
];

fn exit_codes(suite: &Suite) -> Result<()> {
    for code in [0, 1, 2, 127, 255] {
        let answer = suite.server.execute(&program("bash", &format!("exit {code}")))?;
        check(answer["run"]["code"] == code && answer["run"]["signal"].is_null(), format!("{answer}"))?;
    }
    for (number, name) in [(6, "SIGABRT"), (8, "SIGFPE"), (9, "SIGKILL"), (11, "SIGSEGV")] {
        let answer = suite.server.execute(&program("bash", &format!("kill -{number} $$")))?;
        check(answer["run"]["signal"] == name && answer["run"]["code"].is_null(), format!("{answer}"))?;
    }
    Ok(())
}

/// Takes so many bytes, or (`cpu`) so many nanoseconds of processor time, and ends.
const TAKER: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <time.h>
int main(int count, char **args) {
    if (count != 3) return 2;
    long amount = atol(args[2]);
    if (strcmp(args[1], "cpu")) { char *p = malloc(amount); if (!p) return 3; memset(p, 1, amount); return p[amount - 1] - 1; }
    struct timespec t;
    do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); while (t.tv_sec * 1000000000 + t.tv_nsec < amount);
}
"#;
/// The catalogue's: so often, and not once a false verdict.
const REPEATS: usize = 100;
const CLIENTS: usize = 2;
const MEMORY_LIMIT: u64 = 64 << 20;
const MEMORY_MARGIN: u64 = 8 << 20;
const CPU_LIMIT_MS: u64 = 150;
const CPU_MARGIN_MS: u64 = 50;

fn exact_limit_boundary(suite: &Suite) -> Result<()> {
    // Compiled once, by the system's compiler in a sandbox: what is under test are the limits of the run.
    let mut compile = program("bash", "gcc -O1 -x c -o taker - && base64 -w0 taker");
    compile["stdin"] = TAKER.into();
    let binary = suite.server.stdout_of(&compile)?;
    let taker = |what: &str, amount: u64| {
        let files = json!([{ "name": "taker", "content": binary, "encoding": "base64" }]);
        let mut body = json!({ "language": "file", "version": "*", "files": files, "args": [what, amount.to_string()] });
        if what == "cpu" {
            body["run_cpu_time"] = CPU_LIMIT_MS.into();
        } else {
            body["run_memory_limit"] = MEMORY_LIMIT.into();
        }
        body
    };
    let memory = |bytes| taker("memory", bytes);
    let cpu = |ms: u64| taker("cpu", ms * 1_000_000);
    // The limits are in force: what takes more than them is ended.
    let over = suite.server.execute(&memory(MEMORY_LIMIT + MEMORY_MARGIN))?;
    check(over["run"]["message"] == "Memory limit exceeded", format!("above the limit: {over}"))?;
    let over = suite.server.execute(&cpu(CPU_LIMIT_MS + 5 * CPU_MARGIN_MS))?;
    check(over["run"]["status"] == "TO", format!("above the limit: {over}"))?;

    no_false_verdict(suite, "memory", &memory(MEMORY_LIMIT - MEMORY_MARGIN))?;
    no_false_verdict(suite, "CPU time", &cpu(CPU_LIMIT_MS - CPU_MARGIN_MS))
}

/// All of them are run, whatever comes of one: how many fail tells more than that one did.
fn no_false_verdict(suite: &Suite, what: &str, body: &Value) -> Result<()> {
    let wrong = std::sync::Mutex::new(Vec::new());
    clients(
        suite.host(),
        CLIENTS,
        REPEATS / CLIENTS,
        |_, _| body.clone(),
        |_, _, run| {
            if !run["status"].is_null() || run["code"] != 0 {
                let mut wrong = wrong.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                wrong.push(run.to_string());
            }
            true
        },
    )?;
    let wrong = wrong.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    ensure!(wrong.is_empty(), "{} of {REPEATS} runs below their limit of {what} were judged wrongly: {wrong:?}", wrong.len());
    Ok(())
}

fn localhost_server(_: &Suite) -> Result<()> {
    let source = "import http.server, threading, urllib.request\nserver = http.server.ThreadingHTTPServer(('127.0.0.1', 8000), http.server.SimpleHTTPRequestHandler)\nthreading.Thread(target=server.serve_forever, daemon=True).start()\nprint(urllib.request.urlopen('http://localhost:8000/').status)\nserver.shutdown()";
    Server::during(&["--set", "isolation.network=loopback"], |server| {
        let printed = server.stdout_of(&program("python", source))?;
        check(printed == "200", printed)
    })
}
