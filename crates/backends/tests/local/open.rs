//! Sandboxes that stay.

use std::{
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::Duration,
};

use greenroom_backends::{ExecError, Local, OpenSpec};
use greenroom_core::{Exit, JobFile, Limits, RelativePath};
use libtest_mimic::Failed;

use crate::{DISK, job, limits, only, sh, text};

fn spec(script: &str) -> OpenSpec {
    let none = OpenSpec::NO_TIME_LIMIT_MS;
    OpenSpec {
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        limits: Limits { wall_ms: none, cpu_ms: none, ..limits() },
        disk: DISK,
        files: Vec::new(),
        warm: None,
        network: false,
    }
}

/// Asks over the conversation, and reads one line.
async fn ask(channel: &OwnedFd, line: &str) -> Result<String, Failed> {
    let stream = UnixStream::from(channel.try_clone()?);
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let line = line.to_owned();
    Ok(tokio::task::spawn_blocking(move || -> std::io::Result<String> {
        (&stream).write_all(line.as_bytes())?;
        let (mut answer, mut byte) = (Vec::new(), [0]);
        while (&stream).read(&mut byte)? == 1 && byte[0] != b'\n' {
            answer.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    })
    .await??)
}

/// Answers each line with its turn and the line.
const ECHO: &str = "n=0; while read -r line <&3; do n=$((n+1)); echo \"$n $line\" >&3; done; exit 7";

pub async fn a_program_that_stays_talks_over_descriptor_3(local: Local) -> Result<(), Failed> {
    let sandbox = local.open(spec(ECHO)).await?;
    assert_eq!(ask(&sandbox.channel, "one\n").await?, "1 one");
    assert_eq!(ask(&sandbox.channel, "two\n").await?, "2 two");
    rustix::net::shutdown(&sandbox.channel, rustix::net::Shutdown::Write)?;
    let end = sandbox.ended().await;
    assert_eq!(end.exit, Some(Exit::Code(7)));
    assert!(sandbox.close().await.usage.cpu_us > 0);
    Ok(())
}

pub async fn it_starts_among_its_files_and_has_nothing_else(local: Local) -> Result<(), Failed> {
    let script = "pwd >&3; cat a/b >&3; read -r _ <&3; touch left; ls /proc/self/fd | tr '\\n' ' ' >&3; echo >&3; read -r _ <&3";
    let mut spec = spec(script);
    let file = JobFile { path: RelativePath::new("a/b")?, content: b"mine\n".to_vec(), executable: false };
    spec.files.push(file);
    let sandbox = local.open(spec).await?;
    assert_eq!(ask(&sandbox.channel, "").await?, "/mnt/data");
    assert_eq!(ask(&sandbox.channel, "").await?, "mine");
    // Its own directory listing is the fourth beyond the usual three and the conversation.
    assert_eq!(ask(&sandbox.channel, "\n").await?, "0 1 2 3 4 ");
    let left = rustix::fs::statat(&sandbox.directory, "left", rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
    assert_eq!(left.st_uid, sandbox.uid);
    Ok(())
}

pub async fn usage_is_told_and_signals_arrive(local: Local) -> Result<(), Failed> {
    let sandbox = local.open(spec("trap 'echo caught >&3' INT; echo up >&3; while :; do :; done")).await?;
    assert_eq!(ask(&sandbox.channel, "").await?, "up");
    let before = sandbox.usage().await?;
    let mut after = before;
    while after.cpu_us <= before.cpu_us {
        after = sandbox.usage().await?;
    }
    assert!(after.memory_bytes.is_some_and(|bytes| bytes > 0), "{after:?}");
    sandbox.signal(rustix::process::Signal::INT.as_raw()).await?;
    assert_eq!(ask(&sandbox.channel, "").await?, "caught");
    let end = sandbox.close().await;
    assert_eq!(end.exit, None, "killed by us");
    assert!(sandbox.usage().await.is_err());
    Ok(())
}

pub async fn dropped_it_is_killed_and_its_place_is_free_again(local: Local) -> Result<(), Failed> {
    for _ in 0..3 {
        let mut all = Vec::new();
        for _ in 0..3 {
            all.push(local.open(spec(ECHO)).await?);
        }
        assert!(matches!(local.open(spec(ECHO)).await, Err(ExecError::NoRoom)), "a fourth of three");
        // Jobs have slots of their own.
        let jobs: Vec<_> = (0..8)
            .map(|i| {
                let local = local.clone();
                tokio::spawn(async move { local.run(job(vec![sh(&format!("echo {i}"))])).await })
            })
            .collect();
        for (i, job) in jobs.into_iter().enumerate() {
            assert_eq!(text(&only(&job.await??).output.stdout), format!("{i}\n"));
        }
        for (i, sandbox) in all.iter().enumerate() {
            assert_eq!(ask(&sandbox.channel, &format!("{i}\n")).await?, format!("1 {i}"));
        }
        for sandbox in all {
            let handle = sandbox.handle().clone();
            // Its program sees the end of the conversation, or is killed before it does.
            drop(sandbox);
            handle.close().await;
        }
    }
    Ok(())
}

pub async fn each_that_stays_has_a_slot_beyond_those_of_jobs_also_when_it_is_asked_for_before_there_is_any(
    local: Local,
) -> Result<(), Failed> {
    let open = || local.open(spec(ECHO));
    let (one, two, three) = tokio::try_join!(open(), open(), open())?;
    let mut there = 0;
    for _ in 0..200 {
        there = crate::slots()?;
        if there == crate::SANDBOXES as usize + 3 {
            drop((one, two, three));
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("there are {there} slots").into())
}

pub async fn what_waits_for_its_slot_while_another_runner_takes_over_has_one_beyond_those_of_jobs(
    local: Local,
) -> Result<(), Failed> {
    let old = crate::runner_pid().and_then(rustix::process::Pid::from_raw).ok_or("no runner found")?;
    let jobs: Vec<_> = (0..crate::SANDBOXES)
        .map(|_| {
            let local = local.clone();
            tokio::spawn(async move { local.run(job(vec![sh("sleep 30")])).await })
        })
        .collect();
    while local.status().busy < crate::SANDBOXES {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // It starts no slot from here on.
    rustix::process::kill_process(old, rustix::process::Signal::STOP)?;
    let waiting = tokio::spawn({
        let local = local.clone();
        async move { local.open(spec(ECHO)).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished(), "all slots were taken");
    let reloaded = local.reload(crate::config(greenroom_core::Profile::Full)).await;
    rustix::process::kill_process(old, rustix::process::Signal::CONT)?;
    reloaded?;
    let sandbox = waiting.await??;
    assert_eq!(ask(&sandbox.channel, "there\n").await?, "1 there");
    // The old runner ends with the last of its jobs.
    jobs.iter().for_each(tokio::task::JoinHandle::abort);
    while rustix::process::test_kill_process(old).is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut there = 0;
    for _ in 0..100 {
        there = crate::slots()?;
        if there == crate::SANDBOXES as usize + 1 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("there are {there} slots").into())
}

pub async fn out_of_memory_is_told(local: Local) -> Result<(), Failed> {
    let sandbox = local.open(spec("x=0123456789abcdef; while :; do x=$x$x; done")).await?;
    let end = sandbox.ended().await;
    assert!(end.usage.out_of_memory, "{end:?}");
    Ok(())
}

pub async fn with_the_runner_it_ends_and_others_can_be_made(local: Local) -> Result<(), Failed> {
    let sandbox = local.open(spec(ECHO)).await?;
    let pid = crate::runner_pid().and_then(rustix::process::Pid::from_raw).ok_or("no runner found")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    assert_eq!(sandbox.ended().await.exit, None);
    for _ in 0..100 {
        if let Ok(next) = local.open(spec(ECHO)).await {
            assert_eq!(ask(&next.channel, "again\n").await?, "1 again");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err("no sandbox after the runner's end".into())
}

/// A process below the runner: its name and its descriptors.
fn below(pid: i32, found: &mut Vec<(String, Vec<(String, String)>)>) -> Result<(), Failed> {
    let descriptor = |entry: std::fs::DirEntry| {
        let leads = std::fs::read_link(entry.path()).unwrap_or_default();
        (entry.file_name().to_string_lossy().into_owned(), leads.to_string_lossy().into_owned())
    };
    // One that has ended meanwhile has nothing.
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().map(descriptor);
    found.push((name.trim_end().into(), descriptors.collect()));
    for child in std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default().split_whitespace() {
        below(child.parse()?, found)?;
    }
    Ok(())
}

pub async fn nothing_that_the_server_was_started_with_reaches_a_sandbox(local: Local) -> Result<(), Failed> {
    local.shutdown().await;
    // As a shell leaves it open for those whom it starts.
    let inherited = tempfile::NamedTempFile::new()?;
    let _left_open = rustix::io::dup(inherited.as_file())?;
    let local = Local::start(crate::config(greenroom_core::Profile::Full), 4).await?;
    let sandbox = local.open(spec(ECHO)).await?;
    assert_eq!(ask(&sandbox.channel, "one\n").await?, "1 one");
    let mut found = Vec::new();
    below(crate::runner_pid().ok_or("no runner found")?, &mut found)?;
    let path = inherited.path().to_string_lossy();
    for (name, descriptors) in &found {
        assert!(descriptors.iter().all(|(_, leads)| *leads != path), "{name}: {descriptors:?}");
    }
    // Others are in the making, and have what they need for that. This one's program is the shell.
    let at = found.iter().position(|(name, _)| name == "sh").ok_or("no program")?;
    let (init, descriptors) = &found[at - 1];
    let numbers: Vec<&str> = descriptors.iter().map(|(number, _)| number.as_str()).collect();
    assert_eq!((init.as_str(), numbers), ("greenroom-init", vec!["0"]));
    local.shutdown().await;
    Ok(())
}
