use greenroom_backends::{CellStatus, CellValue, CodeExecution};
use greenroom_pool::PoolKind::NodeLts;

use super::{Sessions, Tested, cell, code, printed, session, shown, value};

pub async fn a_javascript_session_keeps_what_is_declared(sessions: Sessions) -> Tested {
    let node = session(&sessions, NodeLts).await?;
    assert_eq!(node.info().runtime, "javascript");
    for (text, shows) in [
        ("1+1", shown("2")),
        ("const x = 5", CellValue::Absent),
        ("x", shown("5")),
        ("'abc'", shown("'abc'")),
        ("[1, 2]", shown("[ 1, 2 ]")),
        ("{a: 1}", shown("{ a: 1 }")),
        ("{ let q = 1; }", CellValue::Absent),
        ("null", shown("null")),
        ("undefined", CellValue::Absent),
        ("let y = 1; y", shown("1")),
        ("class A {}; new A()", shown("A {}")),
        ("new A() instanceof A", shown("true")),
        ("process.cwd()", shown("'/mnt/data'")),
        ("require('os').platform()", shown("'linux'")),
        ("require('fs').writeFileSync('a.txt', 'x'); require('fs').readdirSync('.')", shown("[ 'a.txt' ]")),
    ] {
        assert_eq!(value(&node, text).await?, shows, "{text}");
    }
    let again = cell(&node, "const x = 6").await?;
    assert_eq!(again.status, CellStatus::Failed);
    assert_eq!(again.error.ok_or("no error")?.message, "Identifier 'x' has already been declared");
    assert_eq!(value(&node, "x").await?, shown("5"));
    let both = cell(&node, "console.log('out'); console.error('err')").await?;
    assert_eq!((both.stdout.as_str(), both.stderr.as_str(), both.value), ("out\n", "err\n", CellValue::Absent));
    assert_eq!(printed(&node, "console.log('x'.repeat(300000))").await?.len(), 300_001);
    Ok(())
}

pub async fn javascript_awaits_at_the_top_level(sessions: Sessions) -> Tested {
    let node = session(&sessions, NodeLts).await?;
    for (text, shows) in [
        ("await 5", shown("5")),
        ("const z = await new Promise(r => setTimeout(() => r(7), 30)); z", shown("7")),
        ("z + 1", shown("8")),
        ("async function g() { return 'g' }\ng()", shown("'g'")),
        ("for await (const q of [1]) console.log(q)", CellValue::Absent),
        ("(await import('fs')).existsSync('/')", shown("true")),
    ] {
        assert_eq!(value(&node, text).await?, shows, "{text}");
    }
    assert_eq!(cell(&node, "const z = 1").await?.status, CellStatus::Failed);
    Ok(())
}

pub async fn a_javascript_error_has_its_stack_without_our_frames(sessions: Sessions) -> Tested {
    let node = session(&sessions, NodeLts).await?;
    for text in [
        "function f() { throw new TypeError('no') }\nf()",
        "await null; throw new TypeError('no')",
        "Promise.reject(new TypeError('no'))",
    ] {
        let result = cell(&node, text).await?;
        assert_eq!(result.status, CellStatus::Failed, "{text}");
        let error = result.error.ok_or("no error")?;
        assert_eq!((error.name.as_str(), error.message.as_str()), ("TypeError", "no"), "{text}");
        assert!(error.traceback.contains("TypeError: no") && error.traceback.contains("cell "), "{}", error.traceback);
        assert!(!error.traceback.contains("session.js") && !error.traceback.contains("node:vm"), "{}", error.traceback);
    }
    // An error that is a value, too.
    let CellValue::Text(shows) = value(&node, "new TypeError('no')").await? else { return Err("no text".into()) };
    assert!(
        shows.starts_with("TypeError: no\n    at cell ") && !shows.contains("session.js") && !shows.contains("node:vm"),
        "{shows}"
    );
    let error = cell(&node, "let a = ;").await?.error.ok_or("no error")?;
    assert!(error.name == "SyntaxError" && error.traceback.contains("let a = ;\n        ^"), "{}", error.traceback);
    let error = cell(&node, "throw 5").await?.error.ok_or("no error")?;
    assert_eq!((error.name.as_str(), error.message.as_str()), ("number", "5"));
    for text in ["'\\ud800'", "console.log('\\ud800')"] {
        assert_eq!(cell(&node, text).await?.status, CellStatus::Succeeded, "{text}");
    }
    assert_eq!(cell(&node, "throw new Error('\\ud800')").await?.error.ok_or("no error")?.message, "\u{fffd}");
    let exit = cell(&node, "process.exit(3)").await?;
    assert_eq!((exit.status, exit.ended), (CellStatus::Failed, None));
    assert_eq!(value(&node, "1").await?, shown("1"));
    Ok(())
}

pub async fn an_interrupted_javascript_cell_keeps_the_session(sessions: Sessions) -> Tested {
    let node = session(&sessions, NodeLts).await?;
    value(&node, "const kept = 1").await?;
    for text in ["console.log('x'); while (true) {}", "console.log('x'); await new Promise(() => {})", "for (;;) console.log('x')"]
    {
        let result = node.execute(CodeExecution { timeout_ms: Some(300), ..code(text) }).await?;
        assert_eq!((result.status, result.ended), (CellStatus::TimedOut, None), "{text}");
        assert!(result.stdout.starts_with("x\n"), "{text}");
        assert_eq!(result.error.ok_or("no error")?.name, "Interrupted", "{text}");
        assert_eq!(value(&node, "kept").await?, shown("1"), "{text}");
        assert_eq!(printed(&node, "console.log('still')").await?, "still\n", "{text}");
    }
    Ok(())
}

pub async fn what_runs_in_the_background_of_javascript_fails_without_the_session(sessions: Sessions) -> Tested {
    let node = session(&sessions, NodeLts).await?;
    value(&node, "var t = setTimeout(() => { throw new Error('in the background') }, 100)").await?;
    let meanwhile = cell(&node, "await new Promise(r => setTimeout(r, 300)); 1").await?;
    assert_eq!(meanwhile.value, shown("1"));
    assert!(meanwhile.stderr.contains("in the background"), "{meanwhile:?}");
    value(&node, "(async () => { throw new Error('nobody waits') })(); 1").await?;
    assert_eq!(value(&node, "delete globalThis.Promise; delete globalThis.Buffer; JSON.stringify = null; 2").await?, shown("2"));
    assert_eq!(value(&node, "3").await?, shown("3"));
    Ok(())
}

pub async fn what_a_javascript_cell_makes_of_promises_keeps_nobody_waiting(sessions: Sessions) -> Tested {
    let node = session(&sessions, NodeLts).await?;
    // It only looks like a promise, and is a value.
    for (text, shows) in [
        ("({ then(f) {} })", "{ then: [Function: then] }"),
        ("({ then(f) { f(5) } })", "{ then: [Function: then] }"),
        ("await { then(f) { f(5) } }", "5"),
        ("Promise.resolve(6)", "6"),
        ("Promise.prototype.then = () => {}; 1", "1"),
        ("(async () => 2)()", "2"),
        ("globalThis.Promise = null; 3", "3"),
        ("(async () => 4)()", "4"),
    ] {
        let result = node.execute(CodeExecution { timeout_ms: Some(5000), ..code(text) }).await?;
        assert_eq!((result.status, result.value), (CellStatus::Succeeded, shown(shows)), "{text}");
    }
    let waits = CodeExecution { timeout_ms: Some(300), ..code("(async () => { await { then() {} } })()") };
    let result = node.execute(waits).await?;
    assert_eq!((result.status, result.ended), (CellStatus::TimedOut, None));
    assert_eq!(value(&node, "7").await?, shown("7"));
    Ok(())
}
