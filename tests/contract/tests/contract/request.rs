use greenroom_contract::{Request, Server};
use serde_json::{Value, json};

crate::rows!(
    the_request_that_started_it_all_answers_42,
    what_is_missing_is_named_in_order,
    runtimes_are_found_by_exact_name,
    a_utf_8_file_is_wanted,
    limits_are_checked_in_order,
    the_later_checks_stand_behind_the_runtime,
    version_selectors_are_node_s,
    the_first_code_file_is_the_main_file,
    files_are_decoded_leniently,
    half_a_surrogate_pair_is_replaced,
    names_with_directories_blanks_and_unicode_work,
    the_last_of_two_files_of_one_name_wins,
    standard_input_ends_with_a_newline_and_then_ends,
    arguments_are_made_strings,
    limits_may_be_fractions,
    a_shorter_time_limit_holds,
);

fn refusal(server: &Server, body: &Value) -> String {
    let response = server.execute(body);
    assert_eq!(response.status, 400, "{body}: {}", response.text());
    let answer = response.json();
    assert_eq!(answer.as_object().map(|keys| keys.keys().cloned().collect::<Vec<_>>()), Some(vec!["message".to_owned()]), "{body}");
    answer["message"].as_str().unwrap_or_default().to_owned()
}

fn python(fields: Value) -> Value {
    let mut body = json!({"language": "python", "version": "*", "files": [{"content": "print(42)"}]});
    if let (Some(body), Value::Object(fields)) = (body.as_object_mut(), fields) {
        body.extend(fields);
    }
    body
}

fn stdout(server: &Server, fields: Value) -> String {
    let body = python(fields);
    let response = server.execute(&body);
    assert_eq!(response.status, 200, "{body}: {}", response.text());
    let answer = response.json();
    assert_eq!(answer["run"]["code"], 0, "{body}: {answer}");
    answer["run"]["stdout"].as_str().unwrap_or_default().to_owned()
}

fn the_request_that_started_it_all_answers_42(server: &Server) {
    let response =
        server.execute(&json!({"language":"python","version":"3.11","files":[{"content":"print(42)"}],"stdin":"","args":[]}));
    assert_eq!(response.status, 200, "{}", response.text());
    let answer = response.json();
    let keys = |value: &Value| value.as_object().map(|keys| keys.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    assert_eq!(keys(&answer), ["run", "language", "version"]);
    let stage = ["signal", "stdout", "stderr", "code", "output", "memory", "message", "status", "cpu_time", "wall_time"];
    assert_eq!(keys(&answer["run"]), stage);
    assert_eq!(answer["language"], "python");
    assert_eq!(answer["version"].as_str(), server.version_of("python").as_deref());
    for (key, value) in [
        ("signal", json!(null)),
        ("stdout", json!("42\n")),
        ("stderr", json!("")),
        ("code", json!(0)),
        ("output", json!("42\n")),
        ("message", json!(null)),
        ("status", json!(null)),
    ] {
        assert_eq!(answer["run"][key], value, "{key}");
    }
    assert!(
        answer["run"]["memory"].is_null() || answer["run"]["memory"].as_u64().is_some_and(|bytes| bytes > 0 && bytes % 1000 == 0)
    );
    assert!(answer["run"]["cpu_time"].is_number() && answer["run"]["wall_time"].is_number());
}

fn what_is_missing_is_named_in_order(server: &Server) {
    for (body, message) in [
        (json!({}), "language is required as a string"),
        (json!({"language": 5, "version": 5}), "language is required as a string"),
        (json!({"language": ""}), "language is required as a string"),
        (json!({"language": "python"}), "version is required as a string"),
        (json!({"language": "python", "version": 3.11}), "version is required as a string"),
        (json!({"language": "python", "version": "*"}), "files is required as an array"),
        (json!({"language": "python", "version": "*", "files": {}}), "files is required as an array"),
        (json!({"language": "nope", "version": "*", "files": [{"content": ""}, {}]}), "files[1].content is required as a string"),
        (json!({"language": "nope", "version": "*", "files": [5]}), "files[0].content is required as a string"),
    ] {
        assert_eq!(refusal(server, &body), message, "{body}");
    }
}

fn runtimes_are_found_by_exact_name(server: &Server) {
    for (language, version) in [("nope", "*"), ("Python", "*"), (" python", "*"), ("python", "0.0.1"), ("python", "latest")] {
        let message = refusal(server, &python(json!({"language": language, "version": version})));
        assert_eq!(message, format!("{language}-{version} runtime is unknown"));
    }
    for alias in ["py", "py3", "python3"] {
        let response = server.execute(&python(json!({"language": alias})));
        assert_eq!((response.status, &response.json()["language"]), (200, &json!("python")), "{alias}");
    }
}

fn a_utf_8_file_is_wanted(server: &Server) {
    for files in [json!([]), json!([{"content": "", "encoding": "UTF8"}]), json!([{"content": "", "encoding": "base64"}])] {
        let message = refusal(server, &python(json!({"files": files})));
        assert_eq!(message, "files must include at least one utf8 encoded file");
    }
}

fn limits_are_checked_in_order(server: &Server) {
    let keys = ["compile_memory_limit", "run_memory_limit", "compile_timeout", "run_timeout", "compile_cpu_time", "run_cpu_time"];
    let mut body = python(json!({"stdin": 5}));
    for key in keys {
        body[key] = json!("1000");
    }
    for key in keys {
        assert_eq!(refusal(server, &body), format!("If specified, {key} must be a number"));
        body[key] = json!(null);
    }
    let message = refusal(server, &python(json!({"run_timeout": 10_000_000})));
    assert!(message.starts_with("run_timeout cannot exceed the configured limit of "), "{message}");
    assert_eq!(refusal(server, &python(json!({"run_timeout": -1}))), "run_timeout must be non-negative");
}

fn the_later_checks_stand_behind_the_runtime(server: &Server) {
    let body = json!({"language": "nope", "version": "1", "files": [], "run_timeout": "x", "stdin": 5});
    assert_eq!(refusal(server, &body), "nope-1 runtime is unknown");
}

fn version_selectors_are_node_s(server: &Server) {
    let version = server.version_of("python").unwrap_or_default();
    let parts: Vec<u64> = version.split('.').map_while(|part| part.parse().ok()).collect();
    let [major, minor, patch] = parts[..] else { panic!("python has the version {version:?}") };
    let (above, below) = (minor + 1, minor.saturating_sub(1));
    let found = [
        "*".to_owned(),
        "x".into(),
        "X".into(),
        " ".into(),
        "||".into(),
        "*.*".into(),
        format!("{major}"),
        format!("{major}.x"),
        format!("{major}.{minor}"),
        format!("{major}.{minor}.x"),
        version.clone(),
        format!("={version}"),
        format!("v{version}"),
        format!("  {version} "),
        format!("^{major}.0.0"),
        format!("~{major}.{minor}"),
        format!("~{major}.{minor}.0"),
        format!(">={major}"),
        format!(">={major}.{minor} <{major}.{above}"),
        format!("{major}.0 - {major}.{above}"),
        format!("{} || {major}", major - 1),
        format!(">={version}-0"),
        format!("{version}+build"),
    ];
    for selector in found {
        let response = server.execute(&python(json!({"version": selector})));
        assert_eq!((response.status, &response.json()["version"]), (200, &json!(version)), "{selector:?}: {}", response.text());
    }
    let unknown = [
        format!("{major}.{below}"),
        format!(">{major}.{minor}"),
        format!(">{version}"),
        "latest".into(),
        format!("{version}-alpha"),
        format!("{major}.{minor}.0{patch}"),
        "a".into(),
        format!("{version}.1"),
        "<0.0.0".into(),
        format!(">={version} foo"),
        format!("!{major}"),
    ];
    for selector in unknown {
        let message = refusal(server, &python(json!({"version": selector})));
        assert_eq!(message, format!("python-{selector} runtime is unknown"));
    }
}

fn the_first_code_file_is_the_main_file(server: &Server) {
    let files = json!([
        {"name": "data.py", "content": "cHJpbnQoMSk=", "encoding": "base64"},
        {"name": "main.py", "content": "import sys, other; print(sys.argv[0].split('/')[-1], other.x)"},
        {"name": "other.py", "content": "x = 5"},
    ]);
    assert_eq!(stdout(server, json!({"files": files})), "main.py 5\n");
    let unnamed = json!([{"content": "eA==", "encoding": "base64"}, {"content": "import sys; print(sys.argv[0].split('/')[-1])"}]);
    assert_eq!(stdout(server, json!({"files": unnamed})), "file1.code\n");
}

fn files_are_decoded_leniently(server: &Server) {
    let show = "print([open(n, 'rb').read() for n in ('a', 'b', 'c', 'd')])";
    let files = json!([
        {"name": "m.py", "content": show},
        {"name": "a", "content": "a\nGk*-_", "encoding": "base64"},
        {"name": "b", "content": "6869zz68", "encoding": "hex"},
        {"name": "c", "content": "686", "encoding": "hex"},
        {"name": "d", "content": "\u{e9}", "encoding": "nope"},
    ]);
    assert_eq!(stdout(server, json!({"files": files})), "[b'hi>', b'hi', b'h', b'\\xc3\\xa9']\n");
}

fn half_a_surrogate_pair_is_replaced(server: &Server) {
    let body = r#"{"language":"python","version":"*","files":[{"content":"print(ascii('\ud800\ud83d\ude00'))"}]}"#;
    let request = Request::new("POST", "/api/v2/execute").header("Content-Type", "application/json").body(body);
    let answer = server.send(&request).expect("an answer").json();
    assert_eq!(answer["run"]["stdout"], "'\\ufffd\\U0001f600'\n", "{answer}");
}

fn names_with_directories_blanks_and_unicode_work(server: &Server) {
    let files = json!([
        {"name": "a dir/mäin 😀.py", "content": "import os; print(sorted(os.listdir('.')), os.getcwd(), open('deep/er/x').read())"},
        {"name": "deep/er/x", "content": "y"},
    ]);
    assert_eq!(stdout(server, json!({"files": files})), "['a dir', 'deep'] /box/submission y\n");
}

fn the_last_of_two_files_of_one_name_wins(server: &Server) {
    let files = json!([{"name": "m.py", "content": "print(1)"}, {"name": "m.py", "content": "print(2)"}]);
    assert_eq!(stdout(server, json!({"files": files})), "2\n");
}

fn standard_input_ends_with_a_newline_and_then_ends(server: &Server) {
    let files = json!([{"content": "import sys; print(repr(sys.stdin.read()))"}]);
    for (stdin, shown) in [
        (json!(null), "'\\n'\n"),
        (json!(""), "'\\n'\n"),
        (json!("a\nb"), "'a\\nb\\n'\n"),
        (json!("a\n"), "'a\\n'\n"),
        (json!([]), "'\\n'\n"),
        (json!(["a"]), "'a\\n'\n"),
    ] {
        assert_eq!(stdout(server, json!({"files": files, "stdin": stdin})), shown, "{stdin}");
    }
}

fn arguments_are_made_strings(server: &Server) {
    let files = json!([{"content": "import sys; print(sys.argv[1:])"}]);
    for (args, shown) in [
        (json!([]), "[]\n"),
        (json!(null), "[]\n"),
        (json!(["a b", "", "$x", "é", "-c"]), "['a b', '', '$x', 'é', '-c']\n"),
        (json!([1, true, null, {}, 1.5]), "['1', 'true', 'null', '[object Object]', '1.5']\n"),
        (json!("abc"), "['a', 'b', 'c']\n"),
    ] {
        assert_eq!(stdout(server, json!({"files": files, "args": args})), shown, "{args}");
    }
}

fn limits_may_be_fractions(server: &Server) {
    assert_eq!(stdout(server, json!({"run_timeout": 2500.5, "run_cpu_time": 1500.25})), "42\n");
}

fn a_shorter_time_limit_holds(server: &Server) {
    let answer = server.run("python", "import time; print(1, flush=True); time.sleep(20)", json!({"run_timeout": 700}));
    let run = &answer["run"];
    let wall = run["wall_time"].as_f64().unwrap_or_default();
    assert_eq!((&run["status"], &run["stdout"]), (&json!("TO"), &json!("1\n")), "{run}");
    assert!((650.0..1200.0).contains(&wall), "{run}");
}
