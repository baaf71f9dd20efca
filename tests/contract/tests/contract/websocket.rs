use std::time::{Duration, Instant};

use greenroom_contract::{Frame, Server, Socket};
use serde_json::{Value, json};

use crate::has;

crate::rows!(
    a_program_speaks_and_the_socket_closes,
    a_compiled_program_has_two_stages,
    a_failed_compilation_ends_it,
    input_reaches_the_program,
    input_during_compilation_is_not_the_program_s,
    frames_may_be_binary_and_the_prefix_is_free,
    the_first_sub_protocol_is_taken,
    a_second_init_closes,
    nothing_said_in_time_closes,
    input_and_signals_before_init_close,
    only_stdin_is_written_to,
    only_known_signals_are_sent,
    what_is_wrong_is_told_and_closes,
    messages_of_unknown_type_are_ignored,
    output_is_not_limited_in_size,
    the_time_limit_ends_it,
    an_upgrade_elsewhere_is_closed_without_a_code,
);

fn init(language: &str, source: &str) -> Value {
    json!({"type": "init", "language": language, "version": "*", "files": [{"content": source}]})
}

fn start(server: &Server, source: &str) -> Socket {
    let mut socket = server.connect();
    socket.send_json(&init("python", source)).expect("init is sent");
    socket
}

fn next(socket: &mut Socket) -> String {
    match socket.receive() {
        Ok(Frame::Text(text)) => text,
        other => panic!("{other:?} instead of a message"),
    }
}

fn rest(socket: &mut Socket) -> (Vec<String>, u16, String) {
    socket.rest().unwrap_or_else(|error| panic!("{error:#}"))
}

fn data(text: &str) -> Value {
    json!({"type": "data", "stream": "stdin", "data": text})
}

/// What a stream said in these messages.
fn said(messages: &[String], stream: &str) -> String {
    let messages = messages.iter().map(|text| serde_json::from_str::<Value>(text).unwrap_or_default());
    messages
        .filter(|message| message["type"] == "data" && message["stream"] == stream)
        .filter_map(|m| m["data"].as_str().map(str::to_owned))
        .collect()
}

fn a_program_speaks_and_the_socket_closes(server: &Server) {
    let version = server.version_of("python").unwrap_or_default();
    let mut socket = start(server, "print(42)");
    let (messages, code, reason) = rest(&mut socket);
    assert_eq!(
        messages,
        [
            format!(r#"{{"type":"runtime","language":"python","version":"{version}"}}"#),
            r#"{"type":"stage","stage":"run"}"#.to_owned(),
            r#"{"type":"data","stream":"stdout","data":"42\n"}"#.to_owned(),
            r#"{"type":"exit","stage":"run","code":0,"signal":null}"#.to_owned(),
        ]
    );
    assert_eq!((code, reason.as_str()), (4999, "Job Completed"));
}

fn a_compiled_program_has_two_stages(server: &Server) {
    if !has(server, "c") {
        return;
    }
    let mut socket = server.connect();
    socket.send_json(&init("c", "#include <stdio.h>\nint main() { puts(\"hi\"); return 3; }")).expect("init is sent");
    let (messages, code, _) = rest(&mut socket);
    assert_eq!(
        messages[1..],
        [
            r#"{"type":"stage","stage":"compile"}"#,
            r#"{"type":"exit","stage":"compile","code":0,"signal":null}"#,
            r#"{"type":"stage","stage":"run"}"#,
            r#"{"type":"data","stream":"stdout","data":"hi\n"}"#,
            r#"{"type":"exit","stage":"run","code":3,"signal":null}"#,
        ]
    );
    assert_eq!(code, 4999);
}

fn a_failed_compilation_ends_it(server: &Server) {
    if !has(server, "c") {
        return;
    }
    let mut socket = server.connect();
    socket.send_json(&init("c", "int main() { nope }")).expect("init is sent");
    let (messages, code, _) = rest(&mut socket);
    assert_eq!(messages.last().map(String::as_str), Some(r#"{"type":"exit","stage":"compile","code":1,"signal":null}"#));
    assert!(said(&messages, "stderr").contains("nope"));
    assert_eq!(code, 4999);
}

fn input_reaches_the_program(server: &Server) {
    let mut socket = start(server, "print(input()[::-1], flush=True); print(input() + '!')");
    assert!(next(&mut socket).contains("runtime"));
    assert!(next(&mut socket).contains("stage"));
    socket.send_json(&data("abc\n")).expect("input is sent");
    assert_eq!(next(&mut socket), r#"{"type":"data","stream":"stdout","data":"cba\n"}"#);
    socket.send_json(&data("d")).expect("input is sent");
    socket.send_json(&data("é\n")).expect("input is sent");
    let (messages, code, _) = rest(&mut socket);
    assert_eq!((said(&messages, "stdout").as_str(), code), ("dé!\n", 4999));
}

fn input_during_compilation_is_not_the_program_s(server: &Server) {
    if !has(server, "c") {
        return;
    }
    let mut socket = server.connect();
    let source = "#include <stdio.h>\nint main() { char line[99]; return !fgets(line, 99, stdin) || !fputs(line, stdout); }";
    socket.send_json(&init("c", source)).expect("init is sent");
    assert!(next(&mut socket).contains("runtime"));
    assert!(next(&mut socket).contains("compile"));
    socket.send_json(&data("early\n")).expect("input is sent");
    assert!(next(&mut socket).contains("exit"));
    assert!(next(&mut socket).contains("run"));
    socket.send_json(&data("late\n")).expect("input is sent");
    let (messages, code, _) = rest(&mut socket);
    assert_eq!((said(&messages, "stdout").as_str(), code), ("late\n", 4999));
}

fn frames_may_be_binary_and_the_prefix_is_free(server: &Server) {
    for path in ["/api/v2/connect", "/api/v2/piston/connect", "/API/V2/Connect"] {
        let mut socket = Socket::open(server.host(), path, None).unwrap_or_else(|error| panic!("{path}: {error:#}"));
        socket.send_binary(init("python", "print(1)").to_string().as_bytes()).expect("init is sent");
        let (messages, code, _) = rest(&mut socket);
        assert_eq!((said(&messages, "stdout").as_str(), code), ("1\n", 4999), "{path}");
    }
}

fn the_first_sub_protocol_is_taken(server: &Server) {
    let mut socket = Socket::open(server.host(), "/api/v2/connect", Some("one, two")).expect("a socket");
    assert_eq!(socket.protocol(), Some("one"));
    socket.send_json(&init("python", "print(1)")).expect("init is sent");
    assert_eq!(rest(&mut socket).1, 4999);
}

fn a_second_init_closes(server: &Server) {
    let mut socket = start(server, "import time; time.sleep(20)");
    socket.send_json(&init("python", "1")).expect("init is sent");
    let (_, code, reason) = rest(&mut socket);
    assert_eq!((code, reason.as_str()), (4000, "Already Initialized"));
}

fn nothing_said_in_time_closes(server: &Server) {
    for message in [None, Some(json!({"type": "nope"}))] {
        let began = Instant::now();
        let mut socket = server.connect();
        if let Some(message) = &message {
            socket.send_json(message).expect("it is sent");
        }
        assert_eq!(rest(&mut socket), (vec![], 4001, "Initialization Timeout".to_owned()));
        assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&began.elapsed()), "{:?}", began.elapsed());
    }
}

fn input_and_signals_before_init_close(server: &Server) {
    for message in [data("x"), json!({"type": "signal", "signal": "SIGINT"}), json!({"type": "signal", "signal": "nope"})] {
        let mut socket = server.connect();
        socket.send_json(&message).expect("it is sent");
        assert_eq!(rest(&mut socket), (vec![], 4003, "Not yet initialized".to_owned()), "{message}");
    }
}

fn only_stdin_is_written_to(server: &Server) {
    let mut socket = start(server, "import time; time.sleep(20)");
    socket.send_json(&json!({"type": "data", "stream": "stdout", "data": "x"})).expect("it is sent");
    let (_, code, reason) = rest(&mut socket);
    assert_eq!((code, reason.as_str()), (4004, "Can only write to stdin"));
}

fn only_known_signals_are_sent(server: &Server) {
    for signal in [json!("SIGNOPE"), json!(9), json!(null)] {
        let mut socket = start(server, "import time; time.sleep(20)");
        socket.send_json(&json!({"type": "signal", "signal": signal})).expect("it is sent");
        let (_, code, reason) = rest(&mut socket);
        assert_eq!((code, reason.as_str()), (4005, "Invalid signal"), "{signal}");
    }
}

fn what_is_wrong_is_told_and_closes(server: &Server) {
    let mut escaping = init("python", "1");
    escaping["files"][0]["name"] = json!("../x");
    let mut args = init("python", "1");
    args["args"] = json!(5);
    for (text, message) in [
        ("null".to_owned(), "Cannot read properties of null (reading 'type')"),
        (json!({"type": "init"}).to_string(), "language is required as a string"),
        (init("nope", "1").to_string(), "nope-* runtime is unknown"),
        (escaping.to_string(), "File path \"../x\" tries to escape parent directory: ../x"),
        (args.to_string(), "this.args is not iterable"),
    ] {
        let mut socket = server.connect();
        socket.send(&text).expect("it is sent");
        let (messages, code, reason) = rest(&mut socket);
        assert_eq!(messages.last(), Some(&json!({"type": "error", "message": message}).to_string()), "{text}");
        assert_eq!((code, reason.as_str()), (4002, "Notified Error"), "{text}");
    }
    let mut socket = server.connect();
    socket.send("{").expect("it is sent");
    let (messages, code, _) = rest(&mut socket);
    assert!(messages.len() == 1 && messages[0].starts_with(r#"{"type":"error","message":""#), "{messages:?}");
    assert_eq!(code, 4002);
}

fn messages_of_unknown_type_are_ignored(server: &Server) {
    let mut socket = server.connect();
    for text in ["{}", "[]", "5", r#"{"type":"nope"}"#] {
        socket.send(text).expect("it is sent");
    }
    socket.send_json(&init("python", "print(1)")).expect("init is sent");
    let (messages, code, _) = rest(&mut socket);
    assert_eq!((said(&messages, "stdout").as_str(), code), ("1\n", 4999));
}

fn output_is_not_limited_in_size(server: &Server) {
    let mut socket = start(server, "print('x' * 1000000)");
    let (messages, code, _) = rest(&mut socket);
    assert_eq!((said(&messages, "stdout").len(), code), (1_000_001, 4999));
}

fn the_time_limit_ends_it(server: &Server) {
    let mut message = init("python", "import time; time.sleep(20)");
    message["run_timeout"] = json!(500);
    let mut socket = server.connect();
    socket.send_json(&message).expect("init is sent");
    let (messages, code, _) = rest(&mut socket);
    assert_eq!(messages.last().map(String::as_str), Some(r#"{"type":"exit","stage":"run","code":null,"signal":"SIGKILL"}"#));
    assert_eq!(code, 4999);
}

fn an_upgrade_elsewhere_is_closed_without_a_code(server: &Server) {
    for path in ["/nope", "/api/v2/execute"] {
        let mut socket = Socket::open(server.host(), path, None).unwrap_or_else(|error| panic!("{path}: {error:#}"));
        assert_eq!(rest(&mut socket), (vec![], 1005, String::new()), "{path}");
    }
}
