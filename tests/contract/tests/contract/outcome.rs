use greenroom_contract::Server;
use serde_json::{Value, json};

use crate::has;

crate::rows!(
    an_exit_status_is_told,
    the_wall_clock_ends_a_sleeper,
    the_processor_s_clock_ends_a_spinner,
    a_stopped_program_ends_with_its_time,
    too_much_output_is_told_by_stream,
    background_children_do_not_delay_the_answer,
    both_streams_are_kept,
    nul_and_invalid_bytes_are_text,
    programs_stand_in_their_submission,
    compiled_languages_have_two_stages,
    a_failed_compilation_is_also_the_run,
);

/// Code, signal, status and message of a stage.
fn end(stage: &Value) -> (Value, Value, Value, Value) {
    (stage["code"].clone(), stage["signal"].clone(), stage["status"].clone(), stage["message"].clone())
}

fn killed(status: &str, message: &str) -> (Value, Value, Value, Value) {
    (json!(null), json!("SIGKILL"), json!(status), json!(message))
}

fn an_exit_status_is_told(server: &Server) {
    for (code, status, message) in [
        (0, json!(null), json!(null)),
        (1, json!("RE"), json!("Exited with error status 1")),
        (139, json!("RE"), json!("Exited with error status 139")),
        (255, json!("RE"), json!("Exited with error status 255")),
    ] {
        let answer = server.run("python", &format!("import sys; print('x'); sys.exit({code})"), json!({}));
        assert_eq!(end(&answer["run"]), (json!(code), json!(null), status, message));
        assert_eq!(answer["run"]["stdout"], "x\n");
    }
    let answer = server.run("python", "1/0", json!({}));
    assert!(answer["run"]["stderr"].as_str().is_some_and(|text| text.contains("ZeroDivisionError")), "{answer}");
}

fn the_wall_clock_ends_a_sleeper(server: &Server) {
    let answer = server.run("python", "import time; time.sleep(20)", json!({"run_timeout": 500}));
    assert_eq!(end(&answer["run"]), killed("TO", "Time limit exceeded (wall clock)"));
}

fn the_processor_s_clock_ends_a_spinner(server: &Server) {
    let answer = server.run("python", "print('x', flush=True)\nwhile 1: pass", json!({"run_cpu_time": 300}));
    assert_eq!(end(&answer["run"]), killed("TO", "Time limit exceeded"));
    assert_eq!(answer["run"]["stdout"], "x\n");
}

fn a_stopped_program_ends_with_its_time(server: &Server) {
    let answer = server.run("python", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", json!({"run_timeout": 500}));
    assert_eq!(end(&answer["run"]), killed("TO", "Time limit exceeded (wall clock)"));
}

fn too_much_output_is_told_by_stream(server: &Server) {
    for (stream, status) in [("stdout", "OL"), ("stderr", "EL")] {
        let source = format!("import sys\nwhile 1: sys.{stream}.write('x' * 1000); sys.{stream}.flush()");
        let answer = server.run("python", &source, json!({}));
        assert_eq!(end(&answer["run"]), killed(status, &format!("{stream} length exceeded")));
    }
}

fn background_children_do_not_delay_the_answer(server: &Server) {
    let source = "import subprocess; subprocess.Popen(['sleep', '20']); print('x')";
    let answer = server.run("python", source, json!({}));
    assert_eq!((&answer["run"]["code"], &answer["run"]["stdout"]), (&json!(0), &json!("x\n")), "{answer}");
    assert!(answer["run"]["wall_time"].as_f64().is_some_and(|ms| ms < 2500.0), "{answer}");
}

fn both_streams_are_kept(server: &Server) {
    let answer = server.run("python", "import sys; print('out'); print('err', file=sys.stderr)", json!({}));
    let run = &answer["run"];
    assert_eq!((&run["stdout"], &run["stderr"]), (&json!("out\n"), &json!("err\n")));
    let output = run["output"].as_str().unwrap_or_default();
    assert!(output == "out\nerr\n" || output == "err\nout\n", "{output:?}");
}

fn nul_and_invalid_bytes_are_text(server: &Server) {
    let answer = server.run("python", r"import sys; sys.stdout.buffer.write(b'a\0\xff\xe2\x82\xac')", json!({}));
    assert_eq!(answer["run"]["stdout"], "a\0\u{fffd}€");
}

fn programs_stand_in_their_submission(server: &Server) {
    let source = "import os; open('w', 'w').write('x'); e = os.environ; print(os.getcwd(), e['HOME'], e['PISTON_LANGUAGE'], os.listdir('/tmp'))";
    let answer = server.run("py", source, json!({}));
    assert_eq!(answer["run"]["stdout"], "/box/submission /tmp python []\n", "{answer}");
}

fn compiled_languages_have_two_stages(server: &Server) {
    if !has(server, "c") {
        return;
    }
    let source =
        "#include <stdio.h>\nint main(int n, char **a) { char b[9]; fgets(b, 9, stdin); printf(\"%s%d\", b, n); return 3; }";
    let answer = server.run("c", source, json!({"stdin": "hi", "args": ["1", "2"]}));
    assert_eq!(
        answer.as_object().map(|keys| keys.keys().map(String::as_str).collect::<Vec<_>>()),
        Some(vec!["compile", "run", "language", "version"])
    );
    assert_eq!(end(&answer["compile"]), (json!(0), json!(null), json!(null), json!(null)), "{answer}");
    assert_eq!((&answer["run"]["stdout"], &answer["run"]["code"]), (&json!("hi\n3"), &json!(3)), "{answer}");
    assert_eq!(answer["language"], "c");
}

fn a_failed_compilation_is_also_the_run(server: &Server) {
    if !has(server, "c") {
        return;
    }
    let answer = server.run("c", "int main() { nope }", json!({}));
    assert_eq!(answer["compile"], answer["run"]);
    assert_eq!((&answer["run"]["code"], &answer["run"]["status"]), (&json!(1), &json!("RE")), "{answer}");
    assert!(answer["run"]["stderr"].as_str().is_some_and(|text| text.contains("nope")), "{answer}");
}
