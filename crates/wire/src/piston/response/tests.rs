use super::*;
use greenroom_core::{Stream, Usage};
use proptest::prelude::*;

fn stage(kind: StageKind, verdict: Verdict, exit: Option<Exit>) -> StageOutcome {
    let usage = Usage { wall_us: 195_400, cpu_us: 26_000, memory_peak_bytes: Some(3728 << 10) };
    StageOutcome { kind, verdict, exit, output: Output::default(), usage }
}

fn output(pieces: &[(Stream, &[u8])]) -> Output {
    let mut output = Output::default();
    for (stream, bytes) in pieces {
        output.push(*stream, bytes);
    }
    output
}

#[test]
fn an_interpreted_answer_has_its_keys_in_pistons_order() {
    let mut run = stage(StageKind::Run, Verdict::Ok, Some(Exit::Code(0)));
    run.output = output(&[(Stream::Stdout, b"42\n")]);
    let response = ExecuteResponse::new("python", "3.11.2", &Outcome { stages: vec![run] });
    assert_eq!(
        serde_json::to_string(&response).unwrap(),
        concat!(
            r#"{"run":{"signal":null,"stdout":"42\n","stderr":"","code":0,"output":"42\n","memory":3728000,"message":null,"#,
            r#""status":null,"cpu_time":26,"wall_time":195},"language":"python","version":"3.11.2"}"#
        )
    );
}

#[test]
fn a_compiled_answer_starts_with_its_compile_stage() {
    let stages = vec![
        stage(StageKind::Compile, Verdict::Ok, Some(Exit::Code(0))),
        stage(StageKind::Run, Verdict::ExitStatus, Some(Exit::Code(3))),
    ];
    let response = ExecuteResponse::new("c", "10.2.0", &Outcome { stages });
    assert!(serde_json::to_string(&response).unwrap().starts_with(r#"{"compile":{"signal":null,"#));
    assert_eq!((response.compile.unwrap().code, response.run.code), (Some(0), Some(3)));
}

#[test]
fn where_compilation_failed_run_is_a_copy_of_compile() {
    let mut compile = stage(StageKind::Compile, Verdict::ExitStatus, Some(Exit::Code(1)));
    compile.output = output(&[(Stream::Stderr, b"error: no")]);
    let response = ExecuteResponse::new("c", "10.2.0", &Outcome { stages: vec![compile] });
    assert_eq!(response.compile.as_ref(), Some(&response.run));
    assert_eq!(response.run.stderr, "error: no");
}

#[test]
fn every_event_has_the_code_signal_status_and_message_of_the_table() {
    use Verdict::*;
    let code = |code| Some(Exit::Code(code));
    let signal = |number| Some(Exit::Signal(number));
    for (verdict, exit, expected) in [
        (Ok, code(0), (Some(0), None, None, None)),
        (ExitStatus, code(1), (Some(1), None, Some("RE"), Some("Exited with error status 1"))),
        (ExitStatus, code(255), (Some(255), None, Some("RE"), Some("Exited with error status 255"))),
        (Signal, signal(11), (None, Some("SIGSEGV"), Some("SG"), Some("Caught fatal signal 11"))),
        (Signal, signal(25), (None, Some("SIGXFSZ"), Some("SG"), Some("Caught fatal signal 25"))),
        (Signal, signal(35), (None, Some("SIGRTMIN+1"), Some("SG"), Some("Caught fatal signal 35"))),
        (Signal, signal(32), (None, Some("SIG32"), Some("SG"), Some("Caught fatal signal 32"))),
        (WallTime, signal(9), (None, Some("SIGKILL"), Some("TO"), Some("Time limit exceeded (wall clock)"))),
        (WallTime, code(0), (None, Some("SIGKILL"), Some("TO"), Some("Time limit exceeded (wall clock)"))),
        (CpuTime, None, (None, Some("SIGKILL"), Some("TO"), Some("Time limit exceeded"))),
        (Memory, signal(9), (None, Some("SIGKILL"), Some("RE"), Some("Memory limit exceeded"))),
        (StdoutLimit, signal(9), (None, Some("SIGKILL"), Some("OL"), Some("stdout length exceeded"))),
        (StderrLimit, code(0), (None, Some("SIGKILL"), Some("EL"), Some("stderr length exceeded"))),
        (Cancelled, None, (None, Some("SIGKILL"), Some("XX"), Some("Execution cancelled"))),
        (SandboxFailed, None, (None, None, Some("XX"), Some("The sandbox failed"))),
    ] {
        let result = StageResult::new(&stage(StageKind::Run, verdict, exit));
        let got = (result.code, result.signal.as_deref(), result.status, result.message.as_deref());
        assert_eq!(got, expected, "{verdict:?} {exit:?}");
    }
}

#[test]
fn memory_is_kib_times_1000_and_null_where_it_is_unknown() {
    for (peak, memory) in
        [(Some(0), Some(0)), (Some(1023), Some(0)), (Some(1024), Some(1000)), (Some(3_817_472), Some(3_728_000)), (None, None)]
    {
        let mut run = stage(StageKind::Run, Verdict::Ok, Some(Exit::Code(0)));
        run.usage.memory_peak_bytes = peak;
        assert_eq!(StageResult::new(&run).memory, memory);
    }
}

#[test]
fn times_are_whole_milliseconds() {
    for (us, ms) in [(0, 0), (499, 0), (500, 1), (1499, 1), (3_000_000, 3000), (u64::MAX, u64::MAX / 1000)] {
        assert_eq!(milliseconds(us), ms);
    }
}

#[test]
fn a_character_split_over_pieces_is_joined_in_stdout_and_in_output() {
    let mut run = stage(StageKind::Run, Verdict::Ok, Some(Exit::Code(0)));
    run.output = output(&[
        (Stream::Stdout, b"a\xe2\x82"),
        (Stream::Stderr, b"E\xf0\x9f"),
        (Stream::Stdout, b"\xacb\0"),
        (Stream::Stderr, b"\x98\x80F\xff"),
        (Stream::Stdout, b"\xc3"),
    ]);
    let result = StageResult::new(&run);
    assert_eq!(result.stdout, "a€b\0\u{fffd}");
    assert_eq!(result.stderr, "E😀F\u{fffd}");
    assert_eq!(result.output, "aE€b\0😀F\u{fffd}\u{fffd}");
}

proptest! {
    #[test]
    fn output_has_every_character_of_both_streams(pieces in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..5)), 0..12)) {
        let mut run = stage(StageKind::Run, Verdict::Ok, Some(Exit::Code(0)));
        for (is_stdout, bytes) in &pieces {
            run.output.push(if *is_stdout { Stream::Stdout } else { Stream::Stderr }, bytes);
        }
        let result = StageResult::new(&run);
        let sorted = |text: &str| { let mut chars: Vec<char> = text.chars().collect(); chars.sort_unstable(); chars };
        prop_assert_eq!(sorted(&result.output), sorted(&format!("{}{}", result.stdout, result.stderr)));
    }
}
