//! The local backend against the real runner.

mod faults;
#[path = "../harness/mod.rs"]
mod harness;
mod kept;
mod open;
#[path = "../harness/profiles.rs"]
mod profiles;
mod same_uid;
mod zygote;

use std::{process::ExitCode, sync::OnceLock, time::Duration};

use faults::a_slot_that_cannot_leave_a_sandboxs_mounts_is_used_no_more;
use greenroom_backends::{Control, Event, Finished, Local};
use greenroom_core::{
    DiskLimits, ExecutionId, Exit, Job, JobFile, Limits, Output, Profile, RelativePath, StageKind, StageSpec, Stdin, Stream,
    Verdict,
};
use greenroom_sandbox::{Network, SandboxConfig};
use kept::*;
use libtest_mimic::{Failed, Trial};
use open::*;
use same_uid::*;
use zygote::*;

const DISK: DiskLimits = DiskLimits { bytes: 32 << 20, inodes: 1000 };

fn limits() -> Limits {
    Limits {
        wall_ms: 5000,
        cpu_ms: 5000,
        memory_bytes: 256 << 20,
        processes: 32,
        open_files: 64,
        file_size_bytes: 1 << 20,
        output_bytes: Some(1000),
        cpu_milli: 1000,
    }
}

/// Slots for jobs.
const SANDBOXES: u32 = 6;

fn config(profile: Profile) -> SandboxConfig {
    SandboxConfig {
        require: Some(profile),
        network: Network::None,
        system_root: None,
        etc: vec!["alternatives".into()],
        support: zygote::support().unwrap_or_default(),
        directories: Vec::new(),
        workspace_dir: std::env::temp_dir().join(format!("greenroom-test-{}", std::process::id())),
        disk: DISK,
        uid_first: 3_000_000,
        uid_count: 4096,
        max_sandboxes: SANDBOXES,
        max_sessions: 3,
        ready_sandboxes: 1,
        zygotes: zygote::python(),
        ready_children: 1,
        adaptive_bytes: 32 << 20,
    }
}

fn sh(script: &str) -> StageSpec {
    StageSpec {
        kind: StageKind::Run,
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        limits: limits(),
        stdin: Stdin::Bytes(Vec::new()),
        warm: None,
    }
}

fn job(stages: Vec<StageSpec>) -> Job {
    Job { id: ExecutionId::from_bits(7), files: Vec::new(), stages, disk: DISK, reuse: None, standby: None }
}

type Test = fn(Local) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Failed>> + Send>>;

fn main() -> ExitCode {
    let tests: Vec<(&'static str, Test)> = tests![
        what_a_program_prints_and_how_it_exits_is_reported,
        a_signal_is_a_signal,
        files_are_written_where_the_program_starts,
        a_file_that_does_not_fit_is_the_programs_failure_not_ours,
        a_program_that_cannot_be_started_says_why,
        a_later_stage_sees_what_the_earlier_one_made_and_has_fresh_temporary_files,
        a_failed_stage_is_the_last,
        output_beyond_the_limit_ends_the_stage_and_keeps_what_came_before,
        the_order_of_both_streams_is_kept,
        wall_and_cpu_time_are_limited,
        memory_is_limited_even_when_the_parent_survives,
        a_tiny_limit_of_one_job_is_not_the_next_ones,
        a_background_process_ends_with_the_stage,
        a_dropped_job_is_killed_and_its_slot_comes_back,
        input_is_followed_by_its_end,
        a_streamed_job_takes_input_and_signals,
        more_jobs_than_slots_all_get_their_turn,
        a_slot_goes_before_its_programs_which_have_no_priority_and_get_none,
        a_limit_may_be_as_large_as_a_number_can_be,
        more_signals_than_a_busy_slot_takes_at_once_end_neither_the_job_nor_the_slot,
        after_the_runner_is_killed_the_next_job_works,
        a_reload_while_a_killed_runner_is_replaced_serves_the_next_job,
        a_reload_lets_running_jobs_finish,
        a_program_that_stays_talks_over_descriptor_3,
        it_starts_among_its_files_and_has_nothing_else,
        usage_is_told_and_signals_arrive,
        each_that_stays_has_a_slot_beyond_those_of_jobs_also_when_it_is_asked_for_before_there_is_any,
        what_waits_for_its_slot_while_another_runner_takes_over_has_one_beyond_those_of_jobs,
        dropped_it_is_killed_and_its_place_is_free_again,
        out_of_memory_is_told,
        nothing_that_the_server_was_started_with_reaches_a_sandbox,
        with_the_runner_it_ends_and_others_can_be_made,
        what_a_compile_stage_made_is_used_again_only_for_the_same_job_of_the_same_tenant,
        a_streamed_job_uses_what_was_kept_and_tells_of_both_stages,
        what_a_program_does_to_its_own_file_is_not_kept,
        a_program_comes_from_a_zygote,
        two_children_share_no_randomness,
        a_child_has_nothing_of_the_zygotes_rights_or_descriptors,
        nothing_that_a_child_does_reaches_the_next,
        limits_hold_for_a_child,
        a_child_with_little_room_left_ends_as_a_cold_program_does,
        cold_and_warm_cannot_be_told_apart_1,
        cold_and_warm_cannot_be_told_apart_2,
        cold_and_warm_cannot_be_told_apart_3,
        cold_and_warm_cannot_be_told_apart_4,
        whatever_the_files_are_cold_and_warm_do_the_same,
        when_the_zygote_dies_programs_start_cold_until_the_next_is_there,
    ];
    let of_rootless: Vec<(&'static str, Test)> =
        tests![a_program_cannot_look_into_its_init, what_a_stage_makes_beside_its_files_is_in_no_later_stages_way];
    harness::main(|| {
        if faults::has_no_way_back() {
            let name = "a_slot_that_cannot_leave_a_sandboxs_mounts_is_used_no_more";
            return vec![Trial::test(name, || {
                run(|local| Box::pin(a_slot_that_cannot_leave_a_sandboxs_mounts_is_used_no_more(local)))
            })];
        }
        if profiles::profile() == Profile::Restricted {
            let of_restricted: Vec<(&'static str, Test)> = tests![two_runners_at_a_time_leave_each_others_files_alone];
            return of_restricted.into_iter().map(|(name, test)| Trial::test(name, move || run(test))).collect();
        }
        if profiles::profile() == Profile::Rootless {
            return of_rootless.into_iter().map(|(name, test)| Trial::test(name, move || run(test))).collect();
        }
        let again = || again_through(Profile::Rootless, &faults::without_landlock());
        let again = Trial::test("in_profile_rootless_without_landlock_programs_are_kept_apart_all_the_same", again);
        let restricted = || profiles::again(Profile::Restricted, &[]);
        let restricted = Trial::test("in_profile_restricted_two_runners_at_a_time_leave_each_others_files_alone", restricted);
        let no_way_back = || again_through(Profile::Full, &faults::without_a_way_back());
        let no_way_back = Trial::test("without_a_way_back_from_a_sandboxs_mounts_a_slot_ends", no_way_back);
        tests.into_iter().map(|(name, test)| Trial::test(name, move || run(test))).chain([again, restricted, no_way_back]).collect()
    })
}

fn again_through(profile: Profile, through: &[String]) -> Result<(), Failed> {
    profiles::again(profile, &through.iter().map(String::as_str).collect::<Vec<_>>())
}

fn run(test: Test) -> Result<(), Failed> {
    harness::run(config(profiles::profile()), 4, Duration::from_secs(60), test)
}

fn only(finished: &Finished) -> &greenroom_core::StageOutcome {
    &finished.outcome.stages[0]
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn what_a_program_prints_and_how_it_exits_is_reported(local: Local) -> Result<(), Failed> {
    let finished = local.run(job(vec![sh("x=$(head -c 4000000 /dev/zero | tr '\\0' x); echo out; echo err >&2; exit 3")])).await?;
    let stage = only(&finished);
    assert_eq!((stage.verdict, stage.exit), (Verdict::ExitStatus, Some(Exit::Code(3))));
    assert_eq!((text(&stage.output.stdout), text(&stage.output.stderr)), ("out\n".into(), "err\n".into()));
    assert!(stage.usage.wall_us > 0 && stage.usage.cpu_us > 0 && stage.usage.memory_peak_bytes > Some(4_000_000));
    Ok(())
}

async fn a_signal_is_a_signal(local: Local) -> Result<(), Failed> {
    for signal in [6, 9, 11, 15] {
        let finished = local.run(job(vec![sh(&format!("kill -{signal} $$"))])).await?;
        assert_eq!((only(&finished).verdict, only(&finished).exit), (Verdict::Signal, Some(Exit::Signal(signal))));
    }
    Ok(())
}

async fn files_are_written_where_the_program_starts(local: Local) -> Result<(), Failed> {
    let mut job = job(vec![sh("pwd; cat a.txt deep/er/b.txt; ./run.sh")]);
    for (path, content, executable) in
        [("a.txt", "old", false), ("a.txt", "A", false), ("deep/er/b.txt", "B\n", false), ("run.sh", "#!/bin/sh\necho ran", true)]
    {
        job.files.push(JobFile { path: RelativePath::new(path)?, content: content.into(), executable });
    }
    let finished = local.run(job).await?;
    assert_eq!(text(&only(&finished).output.stdout), "/box/submission\nAB\nran\n");
    Ok(())
}

async fn a_file_that_does_not_fit_is_the_programs_failure_not_ours(local: Local) -> Result<(), Failed> {
    let mut job = job(vec![sh("true")]);
    job.files.push(JobFile { path: RelativePath::new("big")?, content: vec![0; 40 << 20], executable: false });
    let finished = local.run(job).await?;
    assert_eq!(only(&finished).verdict, Verdict::ExitStatus);
    assert!(text(&only(&finished).output.stderr).contains("No space left"), "{:?}", only(&finished));
    Ok(())
}

async fn a_program_that_cannot_be_started_says_why(local: Local) -> Result<(), Failed> {
    let mut stage = sh("");
    stage.argv = vec!["./a.out".into()];
    let finished = local.run(job(vec![stage])).await?;
    assert_eq!(only(&finished).exit, Some(Exit::Code(127)));
    assert!(text(&only(&finished).output.stderr).contains("No such file"), "{:?}", only(&finished));
    Ok(())
}

async fn a_later_stage_sees_what_the_earlier_one_made_and_has_fresh_temporary_files(local: Local) -> Result<(), Failed> {
    let compile = StageSpec { kind: StageKind::Compile, ..sh("echo made > made; echo x > /tmp/x; echo x > /dev/shm/x") };
    let finished = local.run(job(vec![compile, sh("cat made; ls -A /tmp /dev/shm; echo more >> made && cat made")])).await?;
    let run = finished.outcome.stage(StageKind::Run).ok_or("no run stage")?;
    assert_eq!(text(&run.output.stdout), "made\n/dev/shm:\n\n/tmp:\nmade\nmore\n", "{}", text(&run.output.stderr));
    Ok(())
}

async fn a_failed_stage_is_the_last(local: Local) -> Result<(), Failed> {
    let compile = StageSpec { kind: StageKind::Compile, ..sh("exit 1") };
    let finished = local.run(job(vec![compile, sh("echo must not run")])).await?;
    assert_eq!(finished.outcome.stages.len(), 1);
    Ok(())
}

async fn output_beyond_the_limit_ends_the_stage_and_keeps_what_came_before(local: Local) -> Result<(), Failed> {
    for (script, verdict) in
        [("printf early; while :; do echo xxxxxxxx; done", Verdict::StdoutLimit), ("printf early; yes >&2", Verdict::StderrLimit)]
    {
        let finished = local.run(job(vec![sh(script)])).await?;
        let stage = only(&finished);
        assert_eq!(stage.verdict, verdict);
        assert!(text(&stage.output.stdout).starts_with("early"));
        assert_eq!(stage.output.stdout.len().max(stage.output.stderr.len()), 1000);
    }
    // Exactly the limit is fine.
    let finished = local.run(job(vec![sh("head -c 1000 /dev/zero")])).await?;
    assert_eq!(only(&finished).verdict, Verdict::Ok);
    Ok(())
}

async fn the_order_of_both_streams_is_kept(local: Local) -> Result<(), Failed> {
    // Each waits until the one before has been read: what stands in both pipes when somebody looks has no order any more.
    let script = "import fcntl, os, struct, termios, time
for n in range(40):
    stream = 1 + n % 2
    os.write(stream, b'%02d' % n)
    while struct.unpack('i', fcntl.ioctl(stream, termios.FIONREAD, bytes(4)))[0]: time.sleep(0.001)";
    let finished = local.run(job(vec![sh(&format!("exec /usr/bin/python3 -c \"{script}\""))])).await?;
    let Output { stdout, stderr, .. } = &only(&finished).output;
    assert_eq!(stdout.len(), stderr.len());
    let streams: Vec<Stream> = only(&finished).output.pieces().map(|(stream, _)| stream).collect();
    let expected: Vec<Stream> = (0..40).map(|i| if i % 2 == 0 { Stream::Stdout } else { Stream::Stderr }).collect();
    assert_eq!(streams, expected);
    Ok(())
}

async fn wall_and_cpu_time_are_limited(local: Local) -> Result<(), Failed> {
    let mut stage = sh("sleep 60");
    stage.limits.wall_ms = 200;
    let finished = local.run(job(vec![stage])).await?;
    assert_eq!((only(&finished).verdict, only(&finished).exit), (Verdict::WallTime, None));
    assert!(only(&finished).usage.wall_us >= 200_000);
    let mut stage = sh("while :; do :; done");
    stage.limits.cpu_ms = 200;
    let finished = local.run(job(vec![stage])).await?;
    assert_eq!(only(&finished).verdict, Verdict::CpuTime);
    assert!(only(&finished).usage.cpu_us >= 200_000);
    Ok(())
}

async fn memory_is_limited_even_when_the_parent_survives(local: Local) -> Result<(), Failed> {
    let mut stage = sh("python3 -c 'b = bytearray(1 << 30)'; echo parent alive; exit 0");
    stage.limits.memory_bytes = 64 << 20;
    let finished = local.run(job(vec![stage])).await?;
    assert_eq!(only(&finished).verdict, Verdict::Memory, "{:?}", only(&finished));
    assert!(only(&finished).usage.memory_peak_bytes <= Some(64 << 20));
    Ok(())
}

async fn a_tiny_limit_of_one_job_is_not_the_next_ones(local: Local) -> Result<(), Failed> {
    // All slots in turn, and sooner than those prepared ahead: the limit in force while a sandbox is made counts.
    let memory = (1..12).map(|step| (step * 100_000, 8));
    for (memory_bytes, processes) in memory.chain([(256 << 20, 0)]) {
        let tiny = || {
            let mut stage = sh("exit 0");
            (stage.limits.memory_bytes, stage.limits.processes) = (memory_bytes, processes);
            local.run(job(vec![stage]))
        };
        let (a, b, c, d) = tokio::join!(tiny(), tiny(), tiny(), tiny());
        for finished in [a?, b?, c?, d?] {
            assert_ne!(only(&finished).verdict, Verdict::SandboxFailed);
        }
        assert_eq!(only(&local.run(job(vec![sh("exit 0")])).await?).verdict, Verdict::Ok);
    }
    Ok(())
}

async fn a_background_process_ends_with_the_stage(local: Local) -> Result<(), Failed> {
    let finished = local.run(job(vec![sh("(setsid sleep 60 &) ; echo done")])).await?;
    assert_eq!(text(&only(&finished).output.stdout), "done\n");
    assert!(only(&finished).usage.wall_us < 5_000_000);
    Ok(())
}

async fn a_dropped_job_is_killed_and_its_slot_comes_back(local: Local) -> Result<(), Failed> {
    for _ in 0..12 {
        let running = local.run(job(vec![sh("sleep 60")]));
        assert!(tokio::time::timeout(Duration::from_millis(50), running).await.is_err());
    }
    let finished = local.run(job(vec![sh("echo still here")])).await?;
    assert_eq!(text(&only(&finished).output.stdout), "still here\n");
    for _ in 0..200 {
        if local.status().busy == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err("leases are left".into())
}

async fn input_is_followed_by_its_end(local: Local) -> Result<(), Failed> {
    for len in [0, 5, 1 << 20] {
        let mut stage = sh("wc -c");
        stage.stdin = Stdin::Bytes(vec![b'x'; len]);
        let finished = local.run(job(vec![stage])).await?;
        assert_eq!(text(&only(&finished).output.stdout), format!("{len}\n"));
    }
    Ok(())
}

async fn a_streamed_job_takes_input_and_signals(local: Local) -> Result<(), Failed> {
    let mut stage = sh("trap 'echo got it' USR1; echo ready; read line; echo $line; cat; echo end");
    stage.stdin = Stdin::Interactive;
    stage.limits.output_bytes = None;
    let mut execution = local.stream(job(vec![stage]));
    let mut seen = String::new();
    let mut sent = 0;
    while let Some(event) = execution.events.recv().await {
        match event {
            Event::Output { bytes, .. } => seen.push_str(&text(&bytes)),
            Event::StageEnded(stage) => assert_eq!(stage.verdict, Verdict::Ok),
            Event::StageStarted(_) => {}
        }
        if sent == 0 && seen.contains("ready") {
            sent = 1;
            execution.control.send(Control::Signal(10)).await?;
            execution.control.send(Control::Stdin(b"hello\n".to_vec())).await?;
        }
        if sent == 1 && seen.contains("hello") {
            sent = 2;
            execution.control.send(Control::Stdin(b"rest\n".to_vec())).await?;
            execution.control.send(Control::StdinEof).await?;
        }
    }
    assert!(seen.contains("got it") && seen.contains("rest") && seen.ends_with("end\n"), "{seen:?}");
    execution.finished.await??;
    Ok(())
}

async fn more_jobs_than_slots_all_get_their_turn(local: Local) -> Result<(), Failed> {
    let jobs: Vec<_> = (0..24)
        .map(|i| {
            let local = local.clone();
            tokio::spawn(async move { local.run(job(vec![sh(&format!("echo {i}")), sh(&format!("echo {i} again"))])).await })
        })
        .collect();
    for (i, job) in jobs.into_iter().enumerate() {
        let finished = job.await??;
        assert_eq!(text(&only(&finished).output.stdout), format!("{i}\n"));
        assert_eq!(text(&finished.outcome.stages[1].output.stdout), format!("{i} again\n"));
    }
    Ok(())
}

/// The runner: the child of this process that was started as `runner`.
fn runner_pid() -> Option<i32> {
    static ME: OnceLock<String> = OnceLock::new();
    let me = ME.get_or_init(|| std::process::id().to_string());
    let children = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    children.filter(|pid| pid.bytes().all(|b| b.is_ascii_digit())).find_map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit(')').next()?.split_whitespace();
        (fields.next() != Some("Z") && fields.next() == Some(me)).then(|| pid.parse().ok())?
    })
}

/// How many slots there are.
fn slots() -> Result<usize, Failed> {
    let runner = runner_pid().ok_or("no runner found")?;
    let children = std::fs::read_to_string(format!("/proc/{runner}/task/{runner}/children"))?;
    let is_slot = |pid: &&str| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "greenroom-slot\n");
    Ok(children.split_whitespace().filter(is_slot).count())
}

fn signal_slots(signal: rustix::process::Signal) -> Result<(), Failed> {
    let runner = runner_pid().ok_or("no runner found")?;
    for slot in std::fs::read_to_string(format!("/proc/{runner}/task/{runner}/children"))?.split_whitespace() {
        rustix::process::kill_process(rustix::process::Pid::from_raw(slot.parse()?).ok_or("no pid")?, signal)?;
    }
    Ok(())
}

async fn a_slot_goes_before_its_programs_which_have_no_priority_and_get_none(local: Local) -> Result<(), Failed> {
    let runner = runner_pid().ok_or("no runner found")?;
    let status = std::fs::read_to_string(format!("/proc/{runner}/status"))?;
    let rights = status.lines().find_map(|line| line.strip_prefix("CapEff:")).ok_or("no rights")?.trim();
    // CAP_SYS_NICE (capabilities(7)) is number 23: root in a container may lack it.
    if u64::from_str_radix(rights, 16)? & 1 << 23 == 0 {
        println!("skipped: no CAP_SYS_NICE");
        return Ok(());
    }
    let all_first = || -> Result<bool, Failed> {
        let slots = std::fs::read_to_string(format!("/proc/{runner}/task/{runner}/children"))?;
        let nice = |slot: &str| -> Result<bool, Failed> {
            // Nice values (proc(5), /proc/pid/stat, field 19).
            let stat = std::fs::read_to_string(format!("/proc/{slot}/stat"))?;
            Ok(stat.rsplit(')').next().and_then(|fields| fields.split_whitespace().nth(16)) == Some("-20"))
        };
        // Other children are warm interpreters.
        let is_slot =
            |pid: &&str| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "greenroom-slot");
        let first: Vec<bool> = slots.split_whitespace().filter(is_slot).map(nice).collect::<Result<_, _>>()?;
        Ok(!first.is_empty() && first.iter().all(|first| *first))
    };
    // A slot that was just made has not got that far.
    for attempt in 0.. {
        if all_first()? {
            break;
        }
        assert!(attempt < 200, "a slot does not go before its programs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let finished = local.run(job(vec![sh("nice; nice -n -1 nice")])).await?;
    assert_eq!(text(&only(&finished).output.stdout), "0\n0\n", "{}", text(&only(&finished).output.stderr));
    Ok(())
}

async fn a_limit_may_be_as_large_as_a_number_can_be(local: Local) -> Result<(), Failed> {
    // A little above what fits when it is counted in microseconds, and all of it.
    for most in [u64::MAX / 1000 + 1, u64::MAX] {
        let mut stage = sh("echo done");
        stage.limits = Limits {
            wall_ms: most,
            cpu_ms: most,
            memory_bytes: most,
            processes: u32::MAX,
            open_files: 64,
            file_size_bytes: most,
            output_bytes: Some(most),
            cpu_milli: u32::MAX,
        };
        let finished = local.run(job(vec![stage])).await?;
        assert_eq!((only(&finished).verdict, text(&only(&finished).output.stdout)), (Verdict::Ok, "done\n".to_owned()));
    }
    Ok(())
}

async fn more_signals_than_a_busy_slot_takes_at_once_end_neither_the_job_nor_the_slot(local: Local) -> Result<(), Failed> {
    let mut stage = sh("trap '' WINCH; trap 'echo heard; exit 0' USR1; echo ready; while :; do sleep 0.02; done");
    stage.stdin = Stdin::Interactive;
    let mut execution = local.stream(job(vec![stage]));
    let (mut seen, mut flood) = (String::new(), None);
    while let Some(event) = execution.events.recv().await {
        if let Event::Output { bytes, .. } = event {
            seen.push_str(&text(&bytes));
        }
        if flood.is_none() && seen.contains("ready") {
            // As on a machine where others have the processors.
            signal_slots(rustix::process::Signal::STOP)?;
            let control = execution.control.clone();
            flood = Some(tokio::spawn(async move {
                for number in std::iter::repeat_n(28, 2000).chain([10]) {
                    if control.send(Control::Signal(number)).await.is_err() {
                        return;
                    }
                }
            }));
            tokio::time::sleep(Duration::from_millis(200)).await;
            signal_slots(rustix::process::Signal::CONT)?;
        }
    }
    let finished = execution.finished.await??;
    assert_eq!((only(&finished).verdict, seen.as_str()), (Verdict::Ok, "ready\nheard\n"));
    Ok(())
}

async fn after_the_runner_is_killed_the_next_job_works(local: Local) -> Result<(), Failed> {
    let pid = rustix::process::Pid::from_raw(runner_pid().ok_or("no runner found")?).ok_or("no pid")?;
    let running = tokio::spawn({
        let local = local.clone();
        async move { local.run(job(vec![sh("sleep 60")])).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    assert!(running.await?.is_err(), "a job under a killed runner has no outcome");
    for _ in 0..100 {
        if let Ok(finished) = local.run(job(vec![sh("echo back")])).await {
            assert_eq!(text(&only(&finished).output.stdout), "back\n");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err("the runner does not come back".into())
}

async fn a_reload_while_a_killed_runner_is_replaced_serves_the_next_job(local: Local) -> Result<(), Failed> {
    let pid = rustix::process::Pid::from_raw(runner_pid().ok_or("no runner found")?).ok_or("no pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    local.reload(config(Profile::Full)).await?;
    // Whoever comes second is to have the last word.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let served = tokio::time::timeout(Duration::from_secs(20), local.run(job(vec![sh("echo served")]))).await;
    assert_eq!(text(&only(&served.map_err(|_| "nobody serves it")??).output.stdout), "served\n");
    Ok(())
}

async fn a_reload_lets_running_jobs_finish(local: Local) -> Result<(), Failed> {
    let running = tokio::spawn({
        let local = local.clone();
        async move { local.run(job(vec![sh("sleep 1; echo old")])).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut changed = config(Profile::Full);
    // Beside the rest: without its shim the zygote of the next runner could not start, and would say so.
    changed.support.push(greenroom_sandbox::SupportFile::new(&RelativePath::new("new/file")?, b"new\n".to_vec(), false));
    local.reload(changed).await?;
    let finished = local.run(job(vec![sh("cat /opt/greenroom/new/file")])).await?;
    assert_eq!(text(&only(&finished).output.stdout), "new\n", "{}", text(&only(&finished).output.stderr));
    assert_eq!(text(&only(&running.await??).output.stdout), "old\n");
    Ok(())
}
