use greenroom_backends::{CellStatus, SessionError, ShellCommand, ShellCommandKind};
use greenroom_pool::PoolKind::{PythonLts, Shell};

use super::{Sessions, Tested, code, command, session, sh};

pub async fn a_shell_session_keeps_files_and_directory_and_tells_exit_statuses(sessions: Sessions) -> Tested {
    let shell = session(&sessions, Shell).await?;
    for (line, exit, stdout, stderr) in [
        ("pwd", 0, "/mnt/data\n", ""),
        ("echo out; echo err >&2; exit 3", 3, "out\n", "err\n"),
        ("echo kept > file; mkdir d; cd d", 0, "", ""),
        ("pwd; cat ../file", 0, "/mnt/data/d\nkept\n", ""),
        ("cd /nowhere", 1, "", "bash: line 1: cd: /nowhere: No such file or directory\n"),
        ("nonsense", 127, "", "bash: line 1: nonsense: command not found\n"),
        ("kill -9 $$", 137, "", ""),
        ("cd ..; rmdir d", 0, "", ""),
        ("if true; then\n echo two lines\nfi", 0, "two lines\n", ""),
        ("cat", 0, "", ""),
        ("", 0, "", ""),
    ] {
        let result = sh(&shell, line).await?;
        assert_eq!((result.status, result.exit), (CellStatus::Succeeded, Some(exit)), "{line}: {result:?}");
        assert_eq!((result.stdout.as_str(), result.stderr.as_str()), (stdout, stderr), "{line}");
    }
    let long = sh(&shell, &format!("x='{}'; echo ${{#x}}", "a".repeat(300_000))).await?;
    assert_eq!((long.stdout.as_str(), long.exit), ("300000\n", Some(0)));
    Ok(())
}

pub async fn a_program_is_launched_without_a_shell_and_takes_input(sessions: Sessions) -> Tested {
    let shell = session(&sessions, Shell).await?;
    let argv = |words: &[&str]| command(ShellCommandKind::Argv(words.iter().map(|word| (*word).to_owned()).collect()));
    let result = shell.run(argv(&["printf", "%s|", "a b", "$HOME", ";"])).await?;
    assert_eq!((result.stdout.as_str(), result.exit), ("a b|$HOME|;|", Some(0)));
    let result = shell.run(argv(&["nonsense"])).await?;
    assert_eq!((result.exit, result.stderr.as_str()), (Some(127), "nonsense: command not found\n"));
    assert_eq!(shell.run(argv(&["/etc/passwd"])).await?.exit, Some(126));
    assert_eq!(shell.run(argv(&[])).await?.exit, Some(126));
    assert_eq!(shell.run(argv(&["echo", "a\0b"])).await?.exit, Some(126));
    let large = "line\n".repeat(100_000);
    let result = shell.run(ShellCommand { stdin: large.clone(), ..argv(&["wc", "-c"]) }).await?;
    assert_eq!(result.stdout.trim(), large.len().to_string());
    // Input that nobody reads keeps nobody.
    assert_eq!(shell.run(ShellCommand { stdin: large, ..argv(&["true"]) }).await?.exit, Some(0));
    Ok(())
}

pub async fn a_command_that_takes_too_long_is_stopped_with_its_group_and_the_session_goes_on(sessions: Sessions) -> Tested {
    let shell = session(&sessions, Shell).await?;
    for line in ["echo x; sleep 30", "echo x; (sleep 30 & sleep 30)", "trap '' TERM INT; echo x; sleep 30; sleep 30"] {
        let slow = ShellCommand { timeout_ms: Some(300), ..command(ShellCommandKind::Line(line.into())) };
        let result = shell.run(slow).await?;
        assert_eq!((result.status, result.exit, result.ended), (CellStatus::TimedOut, None, None), "{line}");
        assert_eq!(result.stdout, "x\n", "{line}");
        assert_eq!(sh(&shell, "pgrep -c -r R,S,D -u $(id -u) sleep").await?.stdout, "0\n", "{line}");
    }
    Ok(())
}

pub async fn background_processes_do_not_keep_a_command_from_ending(sessions: Sessions) -> Tested {
    let shell = session(&sessions, Shell).await?;
    let result = sh(&shell, "(sleep 2; echo late; echo done > done) & echo at once").await?;
    assert_eq!(result.stdout, "at once\n");
    assert!(result.duration_us < 2_000_000, "{} us", result.duration_us);
    assert_eq!(sh(&shell, "while ! [ -e done ]; do sleep 0.05; done; echo here").await?.stdout, "late\nhere\n");
    Ok(())
}

pub async fn code_for_a_shell_and_commands_for_an_interpreter_are_refused(sessions: Sessions) -> Tested {
    let shell = session(&sessions, Shell).await?;
    assert!(matches!(shell.execute(code("1")).await, Err(SessionError::WrongKind(name)) if name == "shell"));
    let python = session(&sessions, PythonLts).await?;
    let refused = python.run(command(ShellCommandKind::Line("ls".into()))).await;
    assert!(matches!(refused, Err(SessionError::WrongKind(name)) if name == "python"));
    assert_eq!(sh(&shell, "echo on").await?.stdout, "on\n");
    Ok(())
}
