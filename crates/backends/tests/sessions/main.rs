//! Sessions with their real programs in the real sandbox. Needs the interpreters, too.

mod files;
#[path = "../harness/mod.rs"]
mod harness;
mod hostile;
mod javascript;
mod network;
mod profiles;
mod python;
mod shell;
#[path = "../harness/profiles.rs"]
mod weaker;

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use files::*;
use greenroom_backends::{
    CellStatus, CellValue, CodeExecution, CodeResult, LocalSessions, Session, SessionProgram, ShellCommand, ShellCommandKind,
    ShellResult,
};
use greenroom_core::{DiskLimits, Limits};
use greenroom_egress::Egress;
use greenroom_pool::{Backend, PoolKind, PoolSpec};
use greenroom_sandbox::{Network, SandboxConfig, SupportFile, ZygoteConfig};
use hostile::*;
use javascript::*;
use libtest_mimic::{Failed, Trial};
use network::*;
use profiles::*;
use python::*;
use shell::*;

const WARM: &[u8] = include_bytes!("../../../../runtimes/python/support/warm.py");
const PYTHON: &[u8] = include_bytes!("../../../../runtimes/python/support/session.py");
const JAVASCRIPT: &[u8] = include_bytes!("../../../../runtimes/javascript/support/session.js");
const SHELL: &[u8] = include_bytes!("../../../../runtimes/bash/support/session.py");

fn config() -> SandboxConfig {
    let support = [
        ("python/warm.py", WARM),
        ("python/session.py", PYTHON),
        ("javascript/session.js", JAVASCRIPT),
        ("bash/session.py", SHELL),
    ];
    SandboxConfig {
        require: Some(weaker::profile()),
        network: Network::None,
        system_root: None,
        etc: vec!["alternatives".into(), "python3.11".into(), "matplotlibrc".into(), "fonts".into()],
        support: support
            .map(|(path, content)| SupportFile { path: path.into(), content: content.to_vec(), executable: false })
            .to_vec(),
        directories: Vec::new(),
        workspace_dir: std::env::temp_dir().join(format!("greenroom-test-sessions-{}", std::process::id())),
        disk: DiskLimits { bytes: 32 << 20, inodes: 1000 },
        uid_first: 3_400_000,
        uid_count: 4096,
        max_sandboxes: 2,
        max_sessions: 4,
        // In profile restricted such a one is a copy of the runner, with all that it holds.
        ready_sandboxes: u32::from(weaker::profile() == greenroom_core::Profile::Restricted),
        zygotes: vec![ZygoteConfig { name: "python".into(), program: "/usr/bin/python3".into(), env: env(), modules: Vec::new() }],
        ready_children: 0,
        adaptive_bytes: 0,
    }
}

/// As `runtimes/*/runtime.toml` say.
fn program(kind: PoolKind, limits: &Limits) -> Result<SessionProgram, String> {
    let heap = format!("--max-old-space-size={}", limits.memory_bytes >> 20);
    let argv = match kind {
        PoolKind::PythonLts => vec!["/usr/bin/python3", "/opt/greenroom/python/session.py"],
        PoolKind::NodeLts => {
            vec!["/usr/bin/node", &heap, "--expose-internals", "--no-warnings", "/opt/greenroom/javascript/session.js"]
        }
        PoolKind::Shell => vec!["/usr/bin/python3", "-I", "-S", "/opt/greenroom/bash/session.py"],
    };
    Ok(SessionProgram { argv: argv.into_iter().map(str::to_owned).collect(), env: env() })
}

fn env() -> Vec<(String, String)> {
    let env = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/tmp"), ("PWD", "/mnt/data"), ("LANG", "C.UTF-8")];
    env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

type Sessions = Arc<LocalSessions>;
type Tested = Result<(), Failed>;
type Test = fn(Sessions) -> std::pin::Pin<Box<dyn Future<Output = Tested> + Send>>;

fn main() -> ExitCode {
    let tests: Vec<(&'static str, Test)> = tests![
        a_python_session_keeps_its_names_and_shows_the_last_expression,
        output_belongs_to_the_cell_that_wrote_it,
        a_traceback_has_the_cells_frames_and_none_of_ours,
        python_runs_commands_and_magics,
        python_cells_run_in_the_data_directory_without_input,
        an_interrupt_ends_the_cell_and_keeps_the_session,
        a_cells_handler_of_a_signal_ends_a_cell_at_most,
        sys_exit_in_a_cell_keeps_the_session,
        threads_forks_and_subprocesses_work_in_a_cell,
        a_cell_that_spoils_its_streams_or_builtins_spoils_only_itself,
        a_figure_is_a_picture_where_there_is_matplotlib,
        output_and_values_are_cut_at_their_limits,
        a_javascript_session_keeps_what_is_declared,
        javascript_awaits_at_the_top_level,
        a_javascript_error_has_its_stack_without_our_frames,
        an_interrupted_javascript_cell_keeps_the_session,
        what_a_javascript_cell_makes_of_promises_keeps_nobody_waiting,
        what_runs_in_the_background_of_javascript_fails_without_the_session,
        a_shell_session_keeps_files_and_directory_and_tells_exit_statuses,
        a_program_is_launched_without_a_shell_and_takes_input,
        a_command_that_takes_too_long_is_stopped_with_its_group_and_the_session_goes_on,
        background_processes_do_not_keep_a_command_from_ending,
        code_for_a_shell_and_commands_for_an_interpreter_are_refused,
        files_come_and_go_under_their_names,
        a_file_in_place_of_a_link_replaces_the_link,
        what_a_cell_writes_is_seen_and_what_is_written_is_the_cells,
        nothing_is_followed_that_leaves_the_session,
        pipes_sockets_and_devices_are_refused_at_once,
        a_sparse_file_is_not_read_and_a_full_disk_is_said,
        names_of_every_kind_are_listed,
        a_swap_of_link_and_file_never_shows_what_is_outside,
        a_cell_out_of_memory_ends_the_session_and_says_so,
        a_killed_interpreter_ends_the_session_and_says_how,
        a_cell_that_heeds_no_interrupt_ends_with_its_session,
        a_cell_that_ends_its_session_is_told_so_however_soon_that_is_destroyed,
        whoever_finds_a_session_dead_finds_why,
        processor_time_is_limited_per_cell,
        a_closed_conversation_ends_only_its_session,
        a_forged_answer_fools_only_its_own_session,
        a_flood_on_the_conversation_ends_the_session,
        a_flood_of_output_does_not_grow_what_is_kept,
        a_caller_that_goes_away_interrupts_its_cell,
        background_output_blocks_nobody,
        a_session_that_is_destroyed_in_a_call_ends_at_once,
        a_program_that_does_not_start_says_why,
        usage_is_counted,
        a_warm_set_is_imported_before_the_session_is_ready,
        two_sessions_share_nothing,
        an_interrupt_never_meets_the_next_cell,
        a_session_that_is_stopped_leaves_nothing,
        a_runner_that_is_killed_leaves_nothing,
        files_stand_where_programs_start,
        what_nobody_counts_is_limited_by_process,
        sessions_of_every_kind_reach_what_they_may,
        what_is_carried_arrives_whole_in_both_directions,
        the_last_of_an_upload_arrives_where_the_far_end_has_spoken_first,
        names_are_asked_of_the_servers_that_are_named,
        what_is_not_of_the_internet_is_refused_and_hears_nothing,
        a_session_without_network_reaches_nothing_beside_one_that_has_it,
        two_sessions_with_network_do_not_reach_each_other,
        a_flood_of_connections_is_bounded_and_passes,
        a_flood_of_datagrams_is_bounded_and_passes,
        nothing_is_left_of_a_session_with_network,
        a_pool_with_network_is_refused_where_there_can_be_none,
    ];
    if !harness::is_runner() {
        greenroom_contract::enter_own_network();
    }
    harness::main(|| {
        let fitting = tests.into_iter().filter(|(name, _)| is_for_this_profile(name));
        fitting.map(|(name, test)| Trial::test(name, move || run(test))).chain(weaker_profiles()).collect()
    })
}

fn run(test: Test) -> Tested {
    if !["/usr/bin/python3", "/usr/bin/node"].iter().all(|program| Path::new(program).exists()) {
        return harness::skipped("python3 and node are not there");
    }
    harness::run(config(), 2, Duration::from_secs(60), async |local| {
        test(Arc::new(LocalSessions::new(local, Egress::default(), program))).await
    })
}

fn spec(kind: PoolKind) -> PoolSpec {
    let mut spec = PoolSpec { kind, ..PoolSpec::new("test") };
    spec.limits.execution_wall_ms = 20_000;
    spec.limits.execution_cpu_ms = 20_000;
    spec.limits.disk = DiskLimits { bytes: 32 << 20, inodes: 1000 };
    spec
}

async fn session(sessions: &Sessions, kind: PoolKind) -> Result<Arc<Session>, Failed> {
    made(sessions, &spec(kind)).await
}

async fn made(sessions: &Sessions, spec: &PoolSpec) -> Result<Arc<Session>, Failed> {
    sessions.create(spec).await.map(Arc::new).map_err(|error| error.chain().into())
}

fn code(code: &str) -> CodeExecution {
    CodeExecution { code: code.into(), ..CodeExecution::default() }
}

async fn cell(session: &Session, text: &str) -> Result<CodeResult, Failed> {
    Ok(session.execute(code(text)).await?)
}

/// Executes a cell that must succeed: its value.
async fn value(session: &Session, text: &str) -> Result<CellValue, Failed> {
    let result = cell(session, text).await?;
    if result.status == CellStatus::Succeeded { Ok(result.value) } else { Err(format!("{text}: {result:?}").into()) }
}

/// Executes a cell that must succeed: what it printed.
async fn printed(session: &Session, text: &str) -> Result<String, Failed> {
    let result = cell(session, text).await?;
    if result.status == CellStatus::Succeeded { Ok(result.stdout) } else { Err(format!("{text}: {result:?}").into()) }
}

/// Waits until the session has this file.
async fn appears(session: &Session, path: &str) -> Tested {
    for _ in 0..1000 {
        if session.files().stat(path).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(format!("{path} does not appear").into())
}

fn shown(text: &str) -> CellValue {
    CellValue::Text(text.into())
}

async fn sh(session: &Session, line: &str) -> Result<ShellResult, Failed> {
    Ok(session.run(command(ShellCommandKind::Line(line.into()))).await?)
}

fn command(command: ShellCommandKind) -> ShellCommand {
    ShellCommand { command, stdin: String::new(), timeout_ms: None, output_chars: None }
}
