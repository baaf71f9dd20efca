use std::time::Duration;

use greenroom_backends::{CellStatus, CellValue, CodeExecution};
use greenroom_pool::PoolKind::{NodeLts, PythonLts, Shell};

use super::{Sessions, Tested, appears, cell, code, made, printed, session, sh, shown, spec, value};

pub async fn a_python_session_keeps_its_names_and_shows_the_last_expression(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    assert_eq!(python.info().runtime, "python");
    assert!(python.info().version.starts_with("3."), "{:?}", python.info());
    // The contract's 1.8.
    for (text, shows) in [
        ("1+1", shown("2")),
        ("'abc'", shown("'abc'")),
        ("[1, 2]", shown("[1, 2]")),
        ("float('nan')", shown("nan")),
        ("x = 5", CellValue::Absent),
        ("x", shown("5")),
        ("x;", CellValue::Absent),
        ("a = None;a", CellValue::Null),
        ("print('hi')", CellValue::Absent),
        ("", CellValue::Absent),
        ("def f():\n    return x + 1\nf()", shown("6")),
        ("import asyncio\nawait asyncio.sleep(0, 7)", shown("7")),
        ("_", shown("7")),
        ("{'b': 1, 'a': {3, 1}}", shown("{'b': 1, 'a': {1, 3}}")),
        (
            "['a' * 40, 'b' * 40]",
            shown("['aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',\n 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb']"),
        ),
    ] {
        assert_eq!(value(&python, text).await?, shows, "{text}");
    }
    Ok(())
}

pub async fn output_belongs_to_the_cell_that_wrote_it(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    let first = cell(&python, "import sys, threading, time\nprint('out')\nprint('err', file=sys.stderr)").await?;
    assert_eq!((first.stdout.as_str(), first.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(printed(&python, "print('no newline', end='')").await?, "no newline");
    // Between two cells: nobody's.
    let later = "def later():\n    time.sleep(0.1); print('late'); open('printed', 'w')\nthreading.Thread(target=later).start()";
    value(&python, later).await?;
    appears(&python, "printed").await?;
    assert_eq!(printed(&python, "pass").await?, "");
    // A thread that prints while a later cell runs prints into that one.
    let waits = "go = threading.Event()\nt = threading.Thread(target=lambda: (go.wait(), print('late')))\nt.start()";
    value(&python, waits).await?;
    assert_eq!(printed(&python, "go.set(); t.join()").await?, "late\n");
    // Of subprocesses, and of large prints, too.
    assert_eq!(printed(&python, "import subprocess; _ = subprocess.run(['echo', 'sub'])").await?, "sub\n");
    assert_eq!(printed(&python, "print('x' * 300_000)").await?.len(), 300_001);
    Ok(())
}

pub async fn a_traceback_has_the_cells_frames_and_none_of_ours(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    let result = cell(&python, "print('before')\ndef f():\n    return 1/0\nf()").await?;
    assert_eq!((result.status, result.stdout.as_str(), result.stderr.as_str()), (CellStatus::Failed, "before\n", ""));
    assert_eq!(result.value, CellValue::Absent);
    let error = result.error.ok_or("no error")?;
    assert_eq!((error.name.as_str(), error.message.as_str()), ("ZeroDivisionError", "division by zero"));
    assert!(error.traceback.starts_with("Traceback (most recent call last):\n  File \"<cell 1>\", line 4, in <module>\n    f()\n"));
    assert!(error.traceback.ends_with("ZeroDivisionError: division by zero\n") && !error.traceback.contains("session.py"));
    let error = cell(&python, "x = 1\ny = = 2").await?.error.ok_or("no error")?;
    assert!(error.traceback.contains("line 2") && error.traceback.contains("y = = 2"), "{}", error.traceback);
    Ok(())
}

pub async fn python_runs_commands_and_magics(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    assert_eq!(printed(&python, "!echo from the shell; exit 3").await?, "from the shell\n");
    assert_eq!(value(&python, "_exit_code").await?, shown("3"));
    assert_eq!(value(&python, "word = 'made'\nlines = !echo {word} $word\nlines").await?, shown("['made made']"));
    assert_eq!(value(&python, "%pwd").await?, shown("'/mnt/data'"));
    assert_eq!(printed(&python, "%%bash\nread x || echo no input").await?, "no input\n");
    value(&python, "%%writefile module.py\nanswer = 42\n").await?;
    assert_eq!(value(&python, "import module; module.answer").await?, shown("42"));
    assert!(printed(&python, "%time sum(range(10))").await?.contains("Wall time"));
    assert!(printed(&python, "%timeit -n 2 -r3 len(word)").await?.ends_with(" per loop (best of 3 runs of 2 loops)\n"));
    assert!(printed(&python, "%timeit -1").await?.contains("best of 3 runs"));
    // No command where Python has a meaning for it.
    assert_eq!(value(&python, "s = '''\n!echo no\n'''\nlen(s), 7 %2").await?, shown("(10, 1)"));
    let error = cell(&python, "%nonsense").await?.error.ok_or("no error")?;
    assert_eq!(error.name, "UsageError");
    Ok(())
}

pub async fn python_cells_run_in_the_data_directory_without_input(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    assert_eq!(value(&python, "import os, sys; os.getcwd(), sys.argv, __name__").await?, shown("('/mnt/data', [''], '__main__')"));
    let error = cell(&python, "input('name: ')").await?.error.ok_or("no error")?;
    assert_eq!(error.name, "StdinNotImplementedError");
    assert_eq!(value(&python, "sys.stdin.read()").await?, shown("''"));
    // Nothing of ours in what a child process gets.
    assert_eq!(
        value(&python, "import subprocess; subprocess.run('ls /proc/self/fd', shell=True, capture_output=True).stdout.split()")
            .await?,
        shown("[b'0', b'1', b'2', b'3']")
    );
    assert_eq!(value(&python, "'session' in sys.modules, [p for p in sys.path if 'greenroom' in p]").await?, shown("(False, [])"));
    Ok(())
}

pub async fn an_interrupt_ends_the_cell_and_keeps_the_session(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    value(&python, "import time, os, asyncio, subprocess, threading; kept = 1").await?;
    for text in [
        "print('x'); time.sleep(30)",
        "print('x')\nwhile True: pass",
        "print('x'); await asyncio.sleep(30)",
        "!echo x; sleep 30",
        "print('x'); os.system('sleep 30')",
        "print('x'); subprocess.run(['sleep', '30'])",
        "print('x'); threading.Event().wait()",
    ] {
        let result = python.execute(CodeExecution { timeout_ms: Some(400), ..code(text) }).await?;
        assert_eq!((result.status, result.stdout.as_str(), result.ended), (CellStatus::TimedOut, "x\n", None), "{text}");
        assert!((400_000..10_000_000).contains(&result.duration_us), "{text}: {} us", result.duration_us);
        assert_eq!(result.error.ok_or("no error")?.name, "KeyboardInterrupt", "{text}");
        assert_eq!(value(&python, "kept").await?, shown("1"), "{text}");
    }
    // Nothing of what was interrupted goes on.
    assert_eq!(printed(&python, "!pgrep -c -r R,S,D -u {os.getuid()} sleep").await?, "0\n");
    Ok(())
}

pub async fn a_cells_handler_of_a_signal_ends_a_cell_at_most(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    // A time limit that was not taken back, as people write it: it strikes when its cell is long over.
    let forgotten = "import signal, time, os
def late(*_): fired.append(1); raise TimeoutError('late')
signal.signal(signal.SIGALRM, late); signal.signal(signal.SIGUSR1, lambda *_: 1 / 0); fired = []
signal.setitimer(signal.ITIMER_REAL, 0.2, 0.01); os.spawnlp(os.P_NOWAIT, 'sh', 'sh', '-c', 'sleep 0.1; kill -USR1 %d' % os.getpid())
'kept'";
    assert_eq!(value(&python, forgotten).await?, shown("'kept'"));
    tokio::time::sleep(Duration::from_millis(700)).await;
    // In a cell it is what it says.
    let result = cell(&python, "time.sleep(5)").await?;
    assert_eq!(result.error.ok_or(format!("{:?}", result.status))?.name, "TimeoutError");
    value(&python, "signal.setitimer(signal.ITIMER_REAL, 0); None").await?;
    assert_eq!(value(&python, "len(fired) > 10, signal.getsignal(signal.SIGALRM) is late").await?, shown("(True, True)"));
    Ok(())
}

pub async fn sys_exit_in_a_cell_keeps_the_session(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    for text in ["kept = 1; import sys; sys.exit(3)", "quit()", "raise SystemExit"] {
        let result = cell(&python, text).await?;
        assert_eq!((result.status, result.ended), (CellStatus::Failed, None), "{text}");
        assert_eq!(result.error.ok_or("no error")?.name, "SystemExit");
    }
    assert_eq!(value(&python, "kept").await?, shown("1"));
    Ok(())
}

pub async fn threads_forks_and_subprocesses_work_in_a_cell(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    let fork = "import os\npid = os.fork()\nif pid == 0:\n    print('child')\nelse:\n    os.waitpid(pid, 0)\n    print('parent')";
    assert_eq!(printed(&python, fork).await?, "child\nparent\n");
    let threads = "from concurrent.futures import ThreadPoolExecutor as T\nwith T(4) as t: print(sum(t.map(abs, [-1, -2])))";
    assert_eq!(printed(&python, threads).await?, "3\n");
    let processes = "from multiprocessing import Pool\nwith Pool(2) as p: print(p.map(abs, [-1, 2]))";
    assert_eq!(printed(&python, processes).await?, "[1, 2]\n");
    Ok(())
}

pub async fn a_cell_that_spoils_its_streams_or_builtins_spoils_only_itself(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    for text in [
        "import sys, os, builtins; sys.stdout.close()",
        "sys.stdout = None",
        "os.close(1); os.close(2)",
        "del builtins.len, builtins.isinstance, builtins.print",
        "del __builtins__",
        "sys.setrecursionlimit(40)",
        "os.closerange(3, 50)",
        "import json; json.JSONEncoder.encode = None",
        "sys.modules.clear()",
        "def r(): r()\ntry: r()\nexcept RecursionError: pass",
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); signal.pthread_sigmask(signal.SIG_BLOCK, [2])",
    ] {
        cell(&python, text).await?;
        assert_eq!(printed(&python, "print(len('abc'))").await?, "3\n", "{text}");
    }
    Ok(())
}

pub async fn a_figure_is_a_picture_where_there_is_matplotlib(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    // What shows itself as a picture, as the libraries' objects do.
    let own = "class P:\n    def _repr_png_(self): return b'\\x89PNG'\nP()";
    assert_eq!(value(&python, own).await?, CellValue::Image { format: "png".into(), base64: "iVBORw==".into() });
    let has = "import importlib.util; importlib.util.find_spec('matplotlib') is not None";
    if value(&python, has).await? != shown("True") {
        println!("without matplotlib");
        return Ok(());
    }
    let plot = CodeExecution { timeout_ms: None, ..code("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()") };
    let CellValue::Image { format, base64 } = python.execute(plot).await?.value else { return Err("no picture".into()) };
    assert!(format == "png" && base64.starts_with("iVBORw0KGgo"), "{format}");
    // The next cell starts anew.
    assert_eq!(value(&python, "1").await?, shown("1"));
    Ok(())
}

pub async fn output_and_values_are_cut_at_their_limits(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    let cut = CodeExecution { output_chars: Some(5), ..code("print('äöüäöü')\n1") };
    let result = python.execute(cut).await?;
    assert_eq!((result.stdout.as_str(), result.truncated, result.value), ("äöüäö", true, shown("1")));
    // The pool's limit is 1 MiB; the program goes on all the same.
    let result = cell(&python, "for i in range(300): print('x' * 9999)\n'end'").await?;
    assert_eq!((result.status, result.stdout.len(), result.truncated), (CellStatus::Succeeded, 1 << 20, true));
    assert_eq!(result.value, shown("'end'"));
    // What is no text to others does not break the conversation.
    let surrogates = "class S:\n    def __repr__(self): return '\\ud800'\nS()";
    assert_eq!(value(&python, surrogates).await?, shown("\\ud800"));
    let result = cell(&python, "raise type('E' * 20_000_000, (Exception,), {})('\\udfff' * 1_000_000)").await?;
    assert_eq!((result.status, result.ended), (CellStatus::Failed, None));
    let result = cell(&python, "'\\x00' * 10_000_000").await?;
    let CellValue::Text(text) = result.value else { return Err("no text".into()) };
    assert!(result.truncated && text.len() <= 1 << 20);
    Ok(())
}

pub async fn a_warm_set_is_imported_before_the_session_is_ready(sessions: Sessions) -> Tested {
    let warm = |kind, names: &[&str]| {
        let mut spec = spec(kind);
        spec.warm = names.iter().map(|name| (*name).to_owned()).collect();
        spec
    };
    let python = made(&sessions, &warm(PythonLts, &["decimal", "xml.dom"])).await?;
    let looks = "import sys; 'decimal' in sys.modules, 'xml.dom' in sys.modules, 'decimal' in globals(), sys.argv";
    assert_eq!(value(&python, looks).await?, shown("(True, True, False, [''])"));
    let node = made(&sessions, &warm(NodeLts, &["zlib"])).await?;
    assert_eq!(value(&node, "process.argv.length").await?, shown("1"));
    let shell = made(&sessions, &warm(Shell, &["zlib"])).await?;
    assert_eq!(sh(&shell, "echo $#").await?.stdout, "0\n");
    Ok(())
}
