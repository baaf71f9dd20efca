//! What came of a program, held against what must.

use anyhow::{Context, Result, ensure};
use greenroom_contract::Response;
use greenroom_escape::Expect;
use serde_json::Value;

/// Checks an answer of `/execute`.
pub fn judge(expect: &Expect, response: &Response) -> Result<()> {
    let text = response.text();
    ensure!(response.status == 200, "HTTP {}: {text}", response.status);
    let body = response.json();
    let shown = shorten(&text);
    check(expect, &body).with_context(|| format!("the answer was {shown}"))
}

/// Enough of an answer to see what happened.
pub fn shorten(text: &str) -> String {
    if text.len() <= 3000 {
        text.to_owned()
    } else {
        format!("{} … ({} bytes)", text.chars().take(3000).collect::<String>(), text.len())
    }
}

fn check(expect: &Expect, body: &Value) -> Result<()> {
    let (compile, run) = (&body["compile"], &body["run"]);
    for stage in [compile, run] {
        ensure!(stage["status"] != "XX", "a program caused a failure of the server's own (XX)");
    }
    let printed = [compile, run].map(|stage| format!("{}{}", text(stage, "stdout"), text(stage, "stderr"))).concat();
    for word in &expect.lacks {
        ensure!(!printed.contains(word.as_str()), "{word:?} was printed");
    }
    if expect.contained {
        return Ok(());
    }
    let compiled = compile.is_null() || compile["code"] == 0;
    let stage = if expect.compile_fails {
        ensure!(!compiled, "it compiled");
        compile
    } else {
        ensure!(compiled, "it did not compile");
        run
    };
    let status = stage["status"].as_str().unwrap_or("ok");
    let usual = if expect.compile_fails { vec!["RE".to_owned()] } else { vec!["ok".to_owned()] };
    let statuses = if expect.status.is_empty() { &usual } else { &expect.status };
    ensure!(statuses.iter().any(|expected| expected == status), "status {status}, expected {statuses:?}");
    let signal = stage["signal"].as_str().unwrap_or("none");
    ensure!(
        expect.signal.is_empty() || expect.signal.iter().any(|expected| expected == signal),
        "signal {signal}, expected {:?}",
        expect.signal
    );
    if let Some(code) = expect.code {
        ensure!(stage["code"] == code, "code {}, expected {code}", stage["code"]);
    }
    if let Some(message) = &expect.message {
        ensure!(text(stage, "message").contains(message.as_str()), "message {}, expected {message:?}", stage["message"]);
    }
    for (stream, has, is) in [("stdout", &expect.stdout_has, &expect.stdout_is), ("stderr", &expect.stderr_has, &expect.stderr_is)]
    {
        let printed = text(stage, stream);
        for word in has {
            ensure!(printed.contains(word.as_str()), "{stream} lacks {word:?}");
        }
        if let Some(exact) = is {
            ensure!(printed.trim() == exact.trim(), "{stream} is not {:?}", exact.trim());
        }
    }
    Ok(())
}

fn text<'a>(stage: &'a Value, field: &str) -> &'a str {
    stage[field].as_str().unwrap_or_default()
}
