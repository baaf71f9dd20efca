use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use greenroom_backends::{
    CellStatus, CodeExecution, FileError, Local, LocalSessions, Session, SessionError, SessionProgram, ShellCommand,
    ShellCommandKind,
};
use greenroom_egress::Egress;
use greenroom_pool::{
    Backend, EndReason,
    PoolKind::{NodeLts, PythonLts, Shell},
};

use super::{Sessions, Tested, appears, cell, code, command, made, printed, session, sh, shown, spec, value};

/// Finds the conversation among the descriptors of the program.
const FIND: &str = "import os, socket, stat\nfds = [int(n) for n in os.listdir('/proc/self/fd')]\nchannel = [n for n in fds if n > 2 and os.path.exists('/proc/self/fd/%d' % n) and stat.S_ISSOCK(os.fstat(n).st_mode)][0]";

async fn is_over(sessions: &Sessions, session: &Session, reason: EndReason) -> Tested {
    assert!(!sessions.check(session));
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), sessions.ended(session)).await.map_err(|_| "it does not end")?, reason);
    match session.execute(code("1")).await {
        Err(SessionError::Ended(why)) => assert_eq!(why, reason),
        Err(SessionError::Gone) => {}
        other => return Err(format!("{other:?}").into()),
    }
    Ok(())
}

pub async fn a_cell_out_of_memory_ends_the_session_and_says_so(sessions: Sessions) -> Tested {
    let mut small = spec(PythonLts);
    small.limits.memory_bytes = 96 << 20;
    let python = made(&sessions, &small).await?;
    let neighbour = session(&sessions, PythonLts).await?;
    let result = cell(&python, "print('before')\nx = b'x' * (1 << 30)\nprint(len(x))").await?;
    assert_eq!((result.status, result.ended), (CellStatus::Aborted, Some(EndReason::OutOfMemory)));
    assert_eq!(result.stdout, "before\n");
    is_over(&sessions, &python, EndReason::OutOfMemory).await?;
    assert_eq!(value(&neighbour, "1").await?, shown("1"));
    // Of a child process alone: the session goes on.
    let shell = made(&sessions, &greenroom_pool::PoolSpec { kind: Shell, ..small }).await?;
    let child = sh(&shell, "python3 -c 'x = b\"x\" * (1 << 30)'; echo $?").await?;
    assert_eq!((child.stdout.as_str(), child.ended), ("137\n", None));
    assert_eq!(sh(&shell, "echo on").await?.stdout, "on\n");
    Ok(())
}

pub async fn a_killed_interpreter_ends_the_session_and_says_how(sessions: Sessions) -> Tested {
    for (kill, reason) in [
        ("import os; os._exit(7)", EndReason::Exited(7)),
        ("import os; os.kill(os.getpid(), 11)", EndReason::Signalled(11)),
        ("import ctypes; ctypes.string_at(0)", EndReason::Signalled(11)),
    ] {
        let python = session(&sessions, PythonLts).await?;
        let result = cell(&python, &format!("print('last words')\n{kill}")).await?;
        assert_eq!((result.status, result.ended), (CellStatus::Aborted, Some(reason)), "{kill}");
        assert_eq!(result.stdout, "last words\n");
        is_over(&sessions, &python, reason).await?;
        sessions.destroy(python).await;
    }
    Ok(())
}

/// As a pool does it, which may see the end before the cell is answered.
pub async fn a_cell_that_ends_its_session_is_told_so_however_soon_that_is_destroyed(sessions: Sessions) -> Tested {
    for _ in 0..40 {
        let python = session(&sessions, PythonLts).await?;
        let result = tokio::spawn({
            let python = Arc::clone(&python);
            async move { cell(&python, "import os; os._exit(3)").await.map_err(|error| format!("{error:?}")) }
        });
        sessions.ended(&python).await;
        sessions.destroy(python).await;
        let result = result.await??;
        assert_eq!((result.status, result.ended), (CellStatus::Aborted, Some(EndReason::Exited(3))));
    }
    Ok(())
}

pub async fn a_cell_that_heeds_no_interrupt_ends_with_its_session(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    let deaf = "print('x')\nimport time\nwhile True:\n    try: time.sleep(1)\n    except KeyboardInterrupt: pass";
    let begun = Instant::now();
    let result = python.execute(CodeExecution { timeout_ms: Some(300), ..code(deaf) }).await?;
    assert_eq!((result.status, result.ended), (CellStatus::TimedOut, Some(EndReason::Unresponsive)));
    assert_eq!(result.stdout, "x\n");
    assert!(begun.elapsed() < Duration::from_secs(15));
    is_over(&sessions, &python, EndReason::Unresponsive).await
}

pub async fn whoever_finds_a_session_dead_finds_why(sessions: Sessions) -> Tested {
    let soon = "import os, threading, time; threading.Thread(target=lambda: (time.sleep(0.02), os._exit(3))).start()";
    for turn in 0..20 {
        let python = session(&sessions, PythonLts).await?;
        value(&python, soon).await?;
        // As a pool looks before each call: at once, and without waiting.
        while sessions.check(&python) {
            tokio::task::yield_now().await;
        }
        let why = tokio::select! {
            biased;
            why = sessions.ended(&python) => Some(why),
            () = std::future::ready(()) => None,
        };
        assert_eq!(why, Some(EndReason::Exited(3)), "turn {turn}");
        sessions.destroy(python).await;
    }
    Ok(())
}

pub async fn processor_time_is_limited_per_cell(sessions: Sessions) -> Tested {
    let mut short = spec(PythonLts);
    short.limits.execution_cpu_ms = 400;
    let python = made(&sessions, &short).await?;
    for _ in 0..2 {
        let busy = cell(&python, "while True: pass").await?;
        assert_eq!((busy.status, busy.ended), (CellStatus::CpuTime, None));
        assert!(busy.duration_us > 350_000, "{} us", busy.duration_us);
        let idle = cell(&python, "import time; time.sleep(1)").await?;
        assert_eq!(idle.status, CellStatus::Succeeded);
    }
    Ok(())
}

pub async fn a_closed_conversation_ends_only_its_session(sessions: Sessions) -> Tested {
    let neighbour = session(&sessions, PythonLts).await?;
    for close in ["os.close(channel)", "socket.socket(fileno=channel).shutdown(socket.SHUT_RDWR)", "os.closerange(3, 2000)"] {
        let python = session(&sessions, PythonLts).await?;
        let result = cell(&python, &format!("{FIND}\n{close}\nprint('closed')")).await?;
        assert_eq!((result.status, result.stdout.as_str()), (CellStatus::Aborted, "closed\n"), "{close}");
        assert!(result.ended.is_some() && !sessions.check(&python), "{close}");
        sessions.destroy(python).await;
    }
    assert_eq!(value(&neighbour, "1").await?, shown("1"));
    Ok(())
}

pub async fn a_forged_answer_fools_only_its_own_session(sessions: Sessions) -> Tested {
    let forged = [
        // Not JSON, not an answer, an answer to something else.
        "b'nonsense\\n'", "b'{}\\n'", "b'{\"id\":99,\"ok\":true}\\n'", "b'\\n'", "b'\\x00\\xff\\n'", "b'[' * 200000 + b'\\n'",
    ];
    for bytes in forged {
        let python = session(&sessions, PythonLts).await?;
        let result = cell(&python, &format!("{FIND}\nos.write(channel, {bytes})\nimport time; time.sleep(5)")).await?;
        assert_eq!((result.status, result.ended), (CellStatus::Aborted, Some(EndReason::Unintelligible)), "{bytes}");
        sessions.destroy(python).await;
    }
    // One that fits answers its own cell; what really comes then is one answer too many.
    let python = session(&sessions, PythonLts).await?;
    let forge = format!("{FIND}\nos.write(channel, b'{{\"id\":1,\"ok\":true,\"result\":{{\"text\":\"forged\"}}}}\\n')\n");
    assert_eq!(cell(&python, &forge).await?.value, shown("forged"));
    let next = python.execute(code("1")).await;
    assert!(
        matches!(&next, Ok(result) if result.status == CellStatus::Aborted) || matches!(next, Err(SessionError::Ended(_))),
        "{next:?}"
    );
    Ok(())
}

pub async fn a_flood_on_the_conversation_ends_the_session(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    let result = cell(&python, &format!("{FIND}\nwhile True: os.write(channel, b'x' * 65536)")).await?;
    assert_eq!((result.status, result.ended), (CellStatus::Aborted, Some(EndReason::Unintelligible)));
    // Between two cells too.
    let python = session(&sessions, PythonLts).await?;
    let later = format!(
        "{FIND}\nimport threading, time\ndef flood():\n    time.sleep(0.1)\n    while True: os.write(channel, b'x' * 65536)\nthreading.Thread(target=flood, daemon=True).start()"
    );
    value(&python, &later).await?;
    tokio::time::timeout(Duration::from_secs(10), sessions.ended(&python)).await.map_err(|_| "it goes on")?;
    Ok(())
}

pub async fn a_flood_of_output_does_not_grow_what_is_kept(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    let flood = CodeExecution { timeout_ms: Some(1000), ..code("import os\nwhile True: os.write(1, b'x' * 65536)") };
    let result = python.execute(flood).await?;
    assert_eq!((result.status, result.stdout.len(), result.truncated), (CellStatus::TimedOut, 1 << 20, true));
    assert_eq!(value(&python, "2").await?, shown("2"));
    Ok(())
}

pub async fn a_caller_that_goes_away_interrupts_its_cell(sessions: Sessions) -> Tested {
    for kind in [PythonLts, NodeLts] {
        let session = session(&sessions, kind).await?;
        let endless = if kind == PythonLts { "kept = 1\nwhile True: pass" } else { "var kept = 1; while (true) {}" };
        let call = session.execute(code(endless));
        assert!(tokio::time::timeout(Duration::from_millis(500), call).await.is_err());
        let begun = Instant::now();
        assert_eq!(value(&session, "kept").await?, shown("1"));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
    Ok(())
}

pub async fn background_output_blocks_nobody(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    let start = "import threading, os\nn = 0\ndef write():\n    global n\n    while n < 40:\n        os.write(1, b'x' * 65536); n += 1\n    open('written', 'w')\nt = threading.Thread(target=write); t.start()";
    value(&python, start).await?;
    appears(&python, "written").await?;
    // 2.5 MiB were written while no cell ran: a pipe holds 64 KiB.
    let result = cell(&python, "t.join(); n, t.is_alive()").await?;
    assert_eq!((result.value, result.stdout.as_str()), (shown("(40, False)"), ""));
    Ok(())
}

pub async fn a_session_that_is_destroyed_in_a_call_ends_at_once(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    let caller = Arc::clone(&python);
    let call = tokio::spawn(async move { caller.execute(code("while True: pass")).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let files = python.files().clone();
    files.write("half", vec![1; 1 << 20]).await?;
    let mut reader = files.read("half").await?;
    let mut writer = files.create("other").await?;
    assert!(reader.next().await?.is_some());
    let begun = Instant::now();
    let usage = sessions.destroy(python).await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(matches!(call.await?, Err(SessionError::Gone)));
    assert!(usage.cpu_us > 0 && usage.executions == 1, "{usage:?}");
    // Of its files nothing is held either, by however slow a client.
    assert!(matches!(files.stat("x").await, Err(FileError::Ended)));
    assert!(matches!(reader.next().await, Err(FileError::Ended)));
    assert!(matches!(writer.write(vec![1]).await, Err(FileError::Ended)));
    Ok(())
}

pub async fn a_program_that_does_not_start_says_why(sessions: Sessions) -> Tested {
    drop(sessions);
    let local = Local::start(super::config(), 2).await?;
    for (argv, says) in [
        (vec!["/bin/sh", "-c", "echo the reason >&2; exit 1"], "the reason"),
        (vec!["/nowhere/python3"], "No such file"),
        (vec!["/bin/sh", "-c", "echo nonsense >&3"], "something else"),
    ] {
        let argv: Vec<String> = argv.into_iter().map(str::to_owned).collect();
        let program = SessionProgram { argv, env: Vec::new() };
        let broken = LocalSessions::new(local.clone(), Egress::default(), move |_, _| Ok(program.clone()));
        let error = broken.create(&spec(PythonLts)).await.err().ok_or("it was made")?;
        assert!(error.chain().contains(says), "{}", error.chain());
    }
    let missing = LocalSessions::new(local.clone(), Egress::default(), |_, _| Err("python is not installed".into()));
    let error = missing.create(&spec(PythonLts)).await.err().ok_or("it was made")?;
    assert_eq!(error.chain(), "python is not installed");
    let mut warm = spec(PythonLts);
    warm.warm = vec!["nonsense_module".into()];
    let python = LocalSessions::new(local.clone(), Egress::default(), super::program);
    let error = python.create(&warm).await.err().ok_or("it was made")?;
    assert!(error.chain().contains("No module named 'nonsense_module'"), "{}", error.chain());
    local.shutdown().await;
    Ok(())
}

pub async fn usage_is_counted(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    printed(&python, "x = b'x' * (64 << 20); import time; t = time.process_time()\nwhile time.process_time() < t + 0.3: pass")
        .await?;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    printed(&python, "print(1)").await?;
    let usage = sessions.destroy(python).await;
    assert!(usage.cpu_us >= 300_000 && usage.executions == 2, "{usage:?}");
    assert!(usage.memory_byte_s > 20 << 20, "{usage:?}");
    Ok(())
}

pub async fn two_sessions_share_nothing(sessions: Sessions) -> Tested {
    let (one, other) = (session(&sessions, PythonLts).await?, session(&sessions, PythonLts).await?);
    let leave = "import os, socket, subprocess
for place in ('/tmp/x', '/dev/shm/x', '/mnt/data/x', '/var/tmp/x'):
    try: open(place, 'w').write('canary')
    except OSError: pass
s = socket.socket(socket.AF_UNIX); s.bind('\\0canary'); s.listen()
p = subprocess.Popen(['sleep', '60'], env={'CANARY': 'canary'})
os.environ['CANARY'] = 'canary'
secret = 'canary'
os.getuid()";
    let uid = value(&one, leave).await?;
    let look = "import os, socket
found = [place for place in ('/tmp/x', '/dev/shm/x', '/mnt/data/x', '/var/tmp/x') if os.path.exists(place)]
found += [pid for pid in os.listdir('/proc') if pid.isdigit() and b'sleep' in open('/proc/%s/cmdline' % pid, 'rb').read()]
found += ['secret'] if 'secret' in globals() or 'CANARY' in os.environ else []
try: socket.socket(socket.AF_UNIX).connect('\\0canary'); found.append('socket')
except ConnectionRefusedError: pass
print(found)
os.getuid()";
    let looked = cell(&other, look).await?;
    assert_eq!(looked.stdout, "[]\n", "{looked:?}");
    assert_ne!(looked.value, uid);
    sessions.destroy(one).await;
    // Nor does one that comes later find anything of one that has been.
    let later = cell(&*session(&sessions, PythonLts).await?, look).await?;
    assert_eq!(later.stdout, "[]\n", "{later:?}");
    assert_ne!(later.value, uid);
    Ok(())
}

pub async fn an_interrupt_never_meets_the_next_cell(sessions: Sessions) -> Tested {
    for kind in [PythonLts, NodeLts, Shell] {
        let session = session(&sessions, kind).await?;
        let mut met = 0;
        // Cells that end about when their time does.
        for turn in 0..60_u64 {
            let timeout_ms = Some(3 + turn % 5);
            if kind == Shell {
                let short = ShellCommand { timeout_ms, ..command(ShellCommandKind::Line("sleep 0.003".into())) };
                met += u32::from(session.run(short).await?.status == CellStatus::TimedOut);
                let next = sh(&session, "sleep 0.01; echo whole").await?;
                assert_eq!((next.stdout.as_str(), next.exit), ("whole\n", Some(0)), "turn {turn}: {next:?}");
            } else {
                let (short, next) = match kind {
                    PythonLts => ("import time; time.sleep(0.004)", "time.sleep(0.01)\n'whole'"),
                    _ => ("await new Promise(r => setTimeout(r, 4))", "await new Promise(r => setTimeout(r, 10)); 'whole'"),
                };
                met +=
                    u32::from(session.execute(CodeExecution { timeout_ms, ..code(short) }).await?.status == CellStatus::TimedOut);
                assert_eq!(value(&session, next).await?, shown("'whole'"), "turn {turn}");
            }
        }
        assert!(met > 0, "{kind:?}: no cell was interrupted");
    }
    Ok(())
}
