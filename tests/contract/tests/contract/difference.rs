use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use greenroom_contract::{Frame, Request, Server, Socket};
use serde_json::{Value, json};

use crate::has;

crate::rows!(
    no_limit_means_the_configured_limit,
    minus_one_for_memory_is_taken,
    what_piston_answers_with_nothing_names_the_field,
    a_bad_body_has_a_message_and_no_stack,
    a_hundred_kilobytes_are_not_too_much,
    a_body_beyond_the_limit_is_413,
    names_that_only_look_dangerous_are_taken,
    output_is_kept_up_to_its_limit,
    running_out_of_memory_is_told,
    a_signal_is_a_signal,
    a_split_character_is_joined,
    output_keeps_the_order_of_writing,
    signals_reach_the_program,
    input_can_be_ended,
    a_character_split_between_messages_is_joined,
    a_closed_socket_stops_its_job,
    a_closed_connection_stops_its_job_whatever_came_behind_the_request,
    a_client_that_does_not_read_loses_its_place,
    a_drain_waits_for_sockets,
);

fn python(fields: Value) -> Value {
    let mut body = json!({"language": "python", "version": "*", "files": [{"content": "print(42)"}]});
    if let (Some(body), Value::Object(fields)) = (body.as_object_mut(), fields) {
        body.extend(fields);
    }
    body
}

fn start(server: &Server, source: &str) -> Socket {
    let mut socket = server.connect();
    let init = json!({"type": "init", "language": "python", "version": "*", "files": [{"content": source}]});
    socket.send_json(&init).expect("init is sent");
    socket
}

/// Reads up to a message that contains this.
fn await_message(socket: &mut Socket, part: &str) {
    loop {
        match socket.receive() {
            Ok(Frame::Text(text)) if text.contains(part) => return,
            Ok(Frame::Text(_)) => {}
            other => panic!("{other:?} before {part:?}"),
        }
    }
}

fn stdout(messages: &[String]) -> String {
    let messages = messages.iter().map(|text| serde_json::from_str::<Value>(text).unwrap_or_default());
    messages
        .filter(|message| message["stream"] == "stdout")
        .filter_map(|message| message["data"].as_str().map(str::to_owned))
        .collect()
}

fn no_limit_means_the_configured_limit(server: &Server) {
    for value in [json!(0), json!(false), json!(""), json!(null)] {
        let fields = json!({"run_timeout": value, "run_cpu_time": value, "run_memory_limit": value, "compile_timeout": value});
        let answer = server.run("python", "import time; time.sleep(30)", fields);
        assert_eq!(answer["run"]["status"], "TO", "{value}: {answer}");
    }
}

fn minus_one_for_memory_is_taken(server: &Server) {
    let fields = json!({"compile_timeout": 10_000, "run_timeout": 3000, "compile_memory_limit": -1, "run_memory_limit": -1});
    assert_eq!(server.run("python", "print(42)", fields)["run"]["stdout"], "42\n");
    let response = server.execute(&python(json!({"run_memory_limit": -2})));
    assert_eq!((response.status, response.json()), (400, json!({"message": "run_memory_limit must be non-negative"})));
}

fn what_piston_answers_with_nothing_names_the_field(server: &Server) {
    let named = |name: Value| json!({"files": [{"content": "", "name": name}]});
    for (fields, message) in [
        (json!({"files": [null]}), "files[0] must be an object"),
        (json!({"stdin": 5}), "stdin must be a string"),
        (json!({"stdin": false}), "stdin must be a string"),
        (json!({"args": 5}), "args must be an array"),
        (json!({"args": {}}), "args must be an array"),
        (json!({"args": ["a\0"]}), "args[0] must not contain a NUL character"),
        (named(json!(5)), "files[0].name must be a string"),
        (named(json!("../m.py")), "files[0].name must not leave the working directory"),
        (named(json!("/m.py")), "files[0].name must be relative"),
        (named(json!(".")), "files[0].name must name a file, not a directory"),
        (named(json!("a/")), "files[0].name must name a file, not a directory"),
        (named(json!("a\0b")), "files[0].name must not contain a NUL character"),
        (named(json!("x".repeat(256))), "files[0].name has a part of more than 255 bytes"),
        (
            json!({"files": [{"content": "", "name": "m"}, {"content": "", "name": "m/x"}]}),
            "files[1].name needs a directory where files[0].name has a file",
        ),
    ] {
        let response = server.execute(&python(fields.clone()));
        assert_eq!((response.status, response.json()), (400, json!({"message": message})), "{fields}");
    }
}

fn a_bad_body_has_a_message_and_no_stack(server: &Server) {
    for (method, path, headers, body, part) in [
        ("POST", "/api/v2/execute", ("Content-Type", "application/json"), "{", "not valid JSON"),
        ("GET", "/api/v2/runtimes", ("Content-Type", "application/json"), "{", "not valid JSON"),
        ("POST", "/nope", ("Content-Type", "application/json"), "nope", "not valid JSON"),
        ("POST", "/api/v2/execute", ("Content-Type", "application/json"), "null", "must be a JSON object"),
        ("POST", "/api/v2/execute", ("Content-Type", "application/json"), "\"x\"", "must be a JSON object"),
        (
            "POST",
            "/api/v2/execute",
            ("Content-Type", "application/json; charset=iso-8859-1"),
            "{}",
            "unsupported charset \"ISO-8859-1\"",
        ),
    ] {
        let request = Request::new(method, path).header(headers.0, headers.1).body(body);
        let response = server.send(&request).unwrap_or_else(|error| panic!("{error:#} for {request:?}"));
        let answer = response.json();
        assert_eq!(response.status, 400, "{method} {path} {body}: {answer}");
        assert!(answer["message"].as_str().is_some_and(|message| message.contains(part)), "{answer}");
        assert!(answer.get("stack").is_none());
    }
    let request =
        Request::new("POST", "/api/v2/execute").header("Content-Type", "application/json").header("Content-Encoding", "foo");
    let response = server.send(&request.body("{}")).expect("an answer");
    assert_eq!(response.status, 400, "{}", response.text());
    assert!(response.text().contains(r#"unsupported content encoding \"foo\""#), "{}", response.text());
}

fn a_hundred_kilobytes_are_not_too_much(server: &Server) {
    let source = format!("print(len('{}'))", "x".repeat(200_000));
    assert_eq!(server.run("python", &source, json!({}))["run"]["stdout"], "200000\n");
}

fn a_body_beyond_the_limit_is_413(server: &Server) {
    let with = |mut body: Vec<u8>| {
        body[0] = b'{';
        Request::new("POST", "/api/v2/execute").header("Content-Type", "application/json").body(body)
    };
    let response = server.send(&with(vec![b' '; 32 << 20])).expect("an answer");
    assert_eq!(response.status, 413, "{}", response.text());
    let request = with(vec![b' '; 128 << 20]);
    // A server may hang up on the rest of such a body before its answer is read.
    if let Ok(response) = server.send(&request) {
        assert_eq!(response.status, 413, "{}", response.text());
        assert!(response.json()["message"].is_string());
    }
    assert_eq!(server.run("python", "print(42)", json!({}))["run"]["stdout"], "42\n");
}

fn names_that_only_look_dangerous_are_taken(server: &Server) {
    for name in ["..x.py", "a/../m.py", "-c", "@x", "--version", "a..b"] {
        let response = server.execute(&python(json!({"files": [{"name": name, "content": "print(42)"}]})));
        assert_eq!((response.status, &response.json()["run"]["stdout"]), (200, &json!("42\n")), "{name}: {}", response.text());
    }
}

fn output_is_kept_up_to_its_limit(server: &Server) {
    let answer = server.run("python", "import sys\nwhile 1: sys.stdout.write('x' * 5000)", json!({}));
    let kept = answer["run"]["stdout"].as_str().map_or(0, str::len);
    assert!(kept >= 5000, "{kept}");
    assert_eq!(answer["run"]["stderr"], "");
    let answer = server.run("python", &format!("print('x' * {})", kept - 1), json!({}));
    assert_eq!(
        (&answer["run"]["status"], answer["run"]["stdout"].as_str().map(str::len)),
        (&json!(null), Some(kept)),
        "exactly as much is fine"
    );
}

fn running_out_of_memory_is_told(server: &Server) {
    let answer = server.run("python", "x = []\nwhile 1: x.append(bytearray(1 << 20))", json!({"run_memory_limit": 64 << 20}));
    let run = &answer["run"];
    let end = (&run["code"], &run["signal"], &run["status"], &run["message"]);
    assert_eq!(end, (&json!(null), &json!("SIGKILL"), &json!("RE"), &json!("Memory limit exceeded")), "{run}");
}

fn a_signal_is_a_signal(server: &Server) {
    for (number, name) in [(9, "SIGKILL"), (11, "SIGSEGV"), (6, "SIGABRT"), (15, "SIGTERM"), (35, "SIGRTMIN+1")] {
        let source = format!("import os, time; os.kill(os.getpid(), {number}); time.sleep(2)");
        let run = &server.run("python", &source, json!({}))["run"];
        let end = (&run["code"], &run["signal"], &run["status"], &run["message"]);
        assert_eq!(end, (&json!(null), &json!(name), &json!("SG"), &json!(format!("Caught fatal signal {number}"))), "{run}");
        assert_eq!(run["stderr"], "", "no shell speaks");
    }
    if has(server, "c") {
        let run = &server.run("c", "int main() { *(volatile int *)0 = 1; }", json!({}))["run"];
        assert_eq!((&run["signal"], &run["stderr"]), (&json!("SIGSEGV"), &json!("")), "{run}");
    }
}

const SPLIT: &str =
    "import sys, time\nfor b in '€😀'.encode(): sys.stdout.buffer.write(bytes([b])); sys.stdout.flush(); time.sleep(0.02)";

fn a_split_character_is_joined(server: &Server) {
    let run = &server.run("python", SPLIT, json!({}))["run"];
    assert_eq!((&run["stdout"], &run["output"]), (&json!("€😀"), &json!("€😀")));
}

fn output_keeps_the_order_of_writing(server: &Server) {
    let source = "import os, time\nfor i in range(10): os.write(1 + i % 2, b'%d' % i); time.sleep(0.02)";
    let run = &server.run("python", source, json!({}))["run"];
    assert_eq!(run["output"], "0123456789", "{run}");
}

fn signals_reach_the_program(server: &Server) {
    let mut socket =
        start(server, "import time\ntry: print('ready', flush=True); time.sleep(20)\nexcept KeyboardInterrupt: print('caught')");
    await_message(&mut socket, "ready");
    socket.send_json(&json!({"type": "signal", "signal": "SIGINT"})).expect("it is sent");
    let (messages, code, _) = socket.rest().expect("an end");
    assert_eq!((stdout(&messages).as_str(), code), ("caught\n", 4999));

    let mut socket = start(server, "import time; print('ready', flush=True); time.sleep(20)");
    await_message(&mut socket, "ready");
    socket.send_json(&json!({"type": "signal", "signal": "SIGKILL"})).expect("it is sent");
    let (messages, code, _) = socket.rest().expect("an end");
    assert_eq!(messages, [r#"{"type":"exit","stage":"run","code":null,"signal":"SIGKILL"}"#]);
    assert_eq!(code, 4999);
}

fn input_can_be_ended(server: &Server) {
    let mut socket = start(server, "import sys; print(len(sys.stdin.read()))");
    await_message(&mut socket, "stage");
    socket.send_json(&json!({"type": "data", "stream": "stdin", "data": "abc"})).expect("it is sent");
    socket.send_json(&json!({"type": "data", "stream": "stdin", "data": "", "eof": true})).expect("it is sent");
    let (messages, code, _) = socket.rest().expect("an end");
    assert_eq!((stdout(&messages).as_str(), code), ("3\n", 4999));
}

fn a_character_split_between_messages_is_joined(server: &Server) {
    let (messages, _, _) = start(server, SPLIT).rest().expect("an end");
    assert_eq!(stdout(&messages), "€😀");
}

/// As many jobs as would fill any server's places for long, if closed sockets kept them.
fn a_closed_socket_stops_its_job(server: &Server) {
    for _ in 0..4 {
        let mut sockets: Vec<Socket> =
            (0..4).map(|_| start(server, "import time; print('ready', flush=True); time.sleep(2.5)")).collect();
        await_message(&mut sockets[0], "ready");
    }
    let began = Instant::now();
    assert_eq!(server.run("python", "print(42)", json!({}))["run"]["stdout"], "42\n");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// Behind the request: nothing, what old clients end a body with, and another request.
fn a_closed_connection_stops_its_job_whatever_came_behind_the_request(_: &Server) {
    // So long that none of them ends by itself.
    let settings = ["--set", "limits.run.wall_ms=300000", "--set", "admission.max_concurrent=1"];
    let Ok(server) = Server::own(&settings, &[]).expect("a server") else { return };
    let running = || server.send(&Request::new("GET", "/readyz")).expect("an answer").json()["running"].clone();
    let await_running = |count: u64| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while running() != count {
            assert!(Instant::now() < deadline, "{} jobs run, not {count}", running());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    for behind in ["", "\r\n", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let body = python(json!({"files": [{"content": "import time; time.sleep(200)"}]})).to_string();
        let head = "POST /api/v2/execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length:";
        let mut client = TcpStream::connect(server.host()).expect("a connection");
        client.write_all(format!("{head} {}\r\n\r\n{body}{behind}", body.len()).as_bytes()).expect("a request");
        await_running(1);
        drop(client);
        await_running(0);
    }
    server.stop().expect("it ends");
}

/// What it is sent fills the connection's buffers, and then nobody could have its place but for a limit on that.
fn a_client_that_does_not_read_loses_its_place(_: &Server) {
    let Ok(server) = Server::own(&["--set", "admission.max_concurrent=1"], &[]).expect("a server") else { return };
    let mut silent = start(&server, "import os\nwhile True: os.write(1, b'x' * 65536)");
    await_message(&mut silent, "data");
    assert_eq!(server.run("python", "print(42)", json!({}))["run"]["stdout"], "42\n");
    drop(silent);
    server.stop().expect("it ends");
}

fn a_drain_waits_for_sockets(_: &Server) {
    let Ok(server) = Server::own(&[], &[]).expect("a server") else { return };
    let mut socket = start(&server, "import time; print('begun', flush=True); time.sleep(1); print('done')");
    await_message(&mut socket, "begun");
    let stopping = std::thread::spawn(|| server.stop());
    let (messages, code, _) = socket.rest().expect("an end");
    assert_eq!((stdout(&messages).as_str(), code), ("done\n", 4999));
    stopping.join().expect("no panic").expect("it ends");
}
