//! Sessions in the weaker profiles, got as an operator gets them: this suite again, without root or without the right to make namespaces.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use greenroom_backends::{CellStatus, CodeExecution, FileError, ListDepth};
use greenroom_core::Profile;
use greenroom_pool::{
    Backend,
    PoolKind::{NodeLts, PythonLts, Shell},
};
use libtest_mimic::Trial;

use super::{
    Sessions, Tested, cell, code, config, made, printed, session, sh, shown, spec, value,
    weaker::{self, profile},
};

/// What is looked at in every profile.
const EVERYWHERE: [&str; 26] = [
    "a_python_session_keeps_its_names_and_shows_the_last_expression",
    "output_belongs_to_the_cell_that_wrote_it",
    "an_interrupt_ends_the_cell_and_keeps_the_session",
    "a_cell_that_spoils_its_streams_or_builtins_spoils_only_itself",
    "javascript_awaits_at_the_top_level",
    "an_interrupted_javascript_cell_keeps_the_session",
    "a_program_is_launched_without_a_shell_and_takes_input",
    "a_command_that_takes_too_long_is_stopped_with_its_group_and_the_session_goes_on",
    "background_processes_do_not_keep_a_command_from_ending",
    "files_come_and_go_under_their_names",
    "nothing_is_followed_that_leaves_the_session",
    "pipes_sockets_and_devices_are_refused_at_once",
    "names_of_every_kind_are_listed",
    "a_swap_of_link_and_file_never_shows_what_is_outside",
    "a_killed_interpreter_ends_the_session_and_says_how",
    "a_cell_that_heeds_no_interrupt_ends_with_its_session",
    "a_flood_on_the_conversation_ends_the_session",
    "a_caller_that_goes_away_interrupts_its_cell",
    "a_program_that_does_not_start_says_why",
    "a_warm_set_is_imported_before_the_session_is_ready",
    "an_interrupt_never_meets_the_next_cell",
    "a_session_that_is_stopped_leaves_nothing",
    "a_runner_that_is_killed_leaves_nothing",
    "files_stand_where_programs_start",
    "what_nobody_counts_is_limited_by_process",
    "a_pool_with_network_is_refused_where_there_can_be_none",
];

pub fn is_for_this_profile(test: &str) -> bool {
    match profile() {
        Profile::Full => true,
        // Its threads fit into what a process may have, which they did not when each had a stack of 256 MB.
        Profile::Rootless if test == "threads_forks_and_subprocesses_work_in_a_cell" => true,
        Profile::Rootless | Profile::Restricted => EVERYWHERE.contains(&test),
    }
}

/// One trial per weaker profile; none in a run that is for such a one itself.
pub fn weaker_profiles() -> Vec<Trial> {
    if profile() != Profile::Full {
        return Vec::new();
    }
    let trial = |profile| Trial::test(format!("sessions_in_profile_{profile}"), move || weaker::again(profile, &[]));
    [Profile::Rootless, Profile::Restricted].map(trial).into()
}

/// Processes whose command line has this word.
fn running(word: &str) -> usize {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let says = |pid: &fs::DirEntry| {
        fs::read(pid.path().join("cmdline")).is_ok_and(|line| line.split(|byte| *byte == 0).any(|part| part == word.as_bytes()))
    };
    pids.filter(says).count()
}

fn mounts() -> usize {
    fs::read_to_string("/proc/self/mounts").map_or(0, |text| text.lines().count())
}

/// The workspaces on the host's disk that have something in them.
fn workspaces() -> Vec<std::path::PathBuf> {
    let below = |path: std::path::PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let slots = below(config().workspace_dir.join("workspaces")).flat_map(below);
    slots.filter(|path| !path.ends_with("support") && below(path.clone()).next().is_some()).collect()
}

/// The directories of sandboxes below a mount point of cgroups that have a process.
fn populated(below: &Path, word: &str) -> usize {
    let of_ours = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(word));
    let here = fs::read_to_string(below.join("cgroup.procs")).map_or(0, |pids| pids.lines().filter(|pid| of_ours(pid)).count());
    let directories = fs::read_dir(below).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    here + directories.map(|entry| populated(&entry.path(), word)).sum::<usize>()
}

pub async fn a_session_that_is_stopped_leaves_nothing(sessions: Sessions) -> Tested {
    let mounts_before = mounts();
    let before = workspaces();
    for kind in [PythonLts, NodeLts, Shell] {
        // A number of seconds that nobody else sleeps for.
        let marker = format!("987{}", std::process::id());
        let session = session(&sessions, kind).await?;
        let leave = format!(
            "mkdir -p a/b; echo x > a/b/c; chmod 000 a/b; setsid sleep {marker} >/dev/null 2>&1 & (sleep {marker} &) ; chmod 000 ."
        );
        match kind {
            Shell => drop(sh(&session, &leave).await?),
            PythonLts => {
                drop(value(&session, &format!("import subprocess; subprocess.Popen(['/bin/sh', '-c', {leave:?}]); None")).await?)
            }
            NodeLts => drop(value(&session, &format!("require('child_process').spawn('/bin/sh', ['-c', {leave:?}]); 1")).await?),
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while running(&marker) < 2 {
            assert!(Instant::now() < deadline, "{kind:?}: nothing was left to be ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        sessions.destroy(session).await;
        assert_eq!(running(&marker), 0, "{kind:?}: a process outlived its session");
        assert_eq!(populated(Path::new("/sys/fs/cgroup"), &marker), 0, "{kind:?}");
        assert_eq!((mounts(), workspaces()), (mounts_before, before.clone()), "{kind:?}");
    }
    Ok(())
}

/// This process's child that is the runner.
fn runner() -> Option<rustix::process::Pid> {
    let me = std::process::id().to_string();
    let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok()?.parse().ok());
    let mut ours = pids.filter(|pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.next() != Some("Z") && fields.next() == Some(&me)
    });
    ours.next().and_then(rustix::process::Pid::from_raw)
}

pub async fn a_runner_that_is_killed_leaves_nothing(sessions: Sessions) -> Tested {
    let marker = format!("986{}", std::process::id());
    let python = session(&sessions, PythonLts).await?;
    let leave = format!("import subprocess; [subprocess.Popen(['setsid', 'sleep', '{marker}']) for _ in range(3)]; None");
    value(&python, &leave).await?;
    if profile() == Profile::Restricted && populated(Path::new("/sys/fs/cgroup"), &marker) == 0 {
        println!("without cgroups nobody finds them");
        return Ok(());
    }
    rustix::process::kill_process(runner().ok_or("no runner")?, rustix::process::Signal::KILL)?;
    // The next one sweeps what it left.
    let deadline = Instant::now() + Duration::from_secs(8);
    while running(&marker) > 0 {
        assert!(Instant::now() < deadline, "{} processes outlived their runner", running(&marker));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // And serves.
    let deadline = Instant::now() + Duration::from_secs(8);
    loop {
        if let Ok(next) = session(&sessions, PythonLts).await {
            assert_eq!(value(&next, "1").await?, shown("1"));
            return Ok(());
        }
        assert!(Instant::now() < deadline, "no session after the runner's end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn files_stand_where_programs_start(sessions: Sessions) -> Tested {
    for kind in [PythonLts, NodeLts, Shell] {
        let session = session(&sessions, kind).await?;
        session.files().write("from/server.txt", b"server".to_vec()).await?;
        let (reads, writes) =
            ("cat from/server.txt; ls -n from/server.txt | cut -c1-10", "echo cell > cell.txt; rm from/server.txt");
        let read = match kind {
            Shell => sh(&session, &format!("{reads}; {writes}")).await?.stdout,
            PythonLts => printed(&session, &format!("!{reads}; {writes}")).await?,
            NodeLts => {
                printed(&session, &format!("process.stdout.write(require('child_process').execSync('{reads}; {writes}'))")).await?
            }
        };
        assert_eq!(read, "server-rw-r--r--\n", "{kind:?}");
        assert_eq!(session.files().read("cell.txt").await?.rest().await?, b"cell\n");
        assert!(matches!(session.files().read("from/server.txt").await, Err(FileError::NotFound)));
        let names: Vec<String> = session.files().list("", ListDepth::All).await?.into_iter().map(|info| info.name).collect();
        assert_eq!(names, ["cell.txt", "from"], "{kind:?}");
        sessions.destroy(session).await;
    }
    if profile() != Profile::Restricted {
        let python = session(&sessions, PythonLts).await?;
        assert_eq!(
            value(&python, "open('/mnt/data/a', 'w').write('x'); import os; os.listdir('/mnt/data')").await?,
            shown("['a']")
        );
    }
    Ok(())
}

pub async fn what_nobody_counts_is_limited_by_process(sessions: Sessions) -> Tested {
    let mut small = spec(PythonLts);
    small.limits.memory_bytes = 128 << 20;
    small.limits.execution_cpu_ms = 300;
    let python = made(&sessions, &small).await?;
    // With cgroups the kernel ends the program that has too much; without, it gets no more.
    let greedy = cell(&python, "x = b'x' * (1 << 30)").await?;
    if greedy.ended.is_some() {
        assert_eq!(greedy.status, CellStatus::Aborted);
    } else {
        assert_eq!(greedy.error.map(|error| error.name), Some("MemoryError".into()));
        assert_eq!(value(&python, "1").await?, shown("1"));
    }
    // What counts no processor time leaves the wall clock's.
    let python = made(&sessions, &small).await?;
    let busy = python.execute(CodeExecution { timeout_ms: Some(2000), ..code("while True: pass") }).await?;
    assert!(matches!(busy.status, CellStatus::CpuTime | CellStatus::TimedOut) && busy.ended.is_none(), "{busy:?}");
    assert_eq!(value(&python, "2").await?, shown("2"));
    Ok(())
}
