use super::*;
use greenroom_core::RelativePath;
use proptest::prelude::*;
use serde_json::json;

const CONFIGURED: Limits = Limits {
    wall_ms: 3000,
    cpu_ms: 3000,
    memory_bytes: 256 << 20,
    processes: 64,
    open_files: 2048,
    file_size_bytes: 10_000_000,
    output_bytes: Some(65_536),
    cpu_milli: 1000,
};

fn python() -> ResolvedRuntime {
    ResolvedRuntime { is_file_language: false, compile: Limits { wall_ms: 10_000, cpu_ms: 10_000, ..CONFIGURED }, run: CONFIGURED }
}

fn file_runtime() -> ResolvedRuntime {
    ResolvedRuntime { is_file_language: true, ..python() }
}

/// A request that is right, with these fields put over it.
fn request(fields: Value) -> Value {
    let mut body = json!({"language": "python", "version": "3.11", "files": [{"content": "print(42)"}]});
    if let (Some(body), Value::Object(fields)) = (body.as_object_mut(), fields) {
        body.extend(fields);
    }
    body
}

fn submit(body: Value, runtime: &ResolvedRuntime) -> Result<Submission, String> {
    ExecuteRequest::parse(body).and_then(|request| request.finish(runtime)).map_err(|invalid| invalid.to_string())
}

fn submission(fields: Value) -> Submission {
    submit(request(fields.clone()), &python()).unwrap_or_else(|message| panic!("{fields}: {message}"))
}

fn refusal(fields: Value) -> String {
    match submit(request(fields.clone()), &python()) {
        Ok(_) => panic!("{fields} was accepted"),
        Err(message) => message,
    }
}

fn names(submission: &Submission) -> Vec<&str> {
    submission.files.iter().map(|file| file.path.as_str()).collect()
}

#[test]
fn the_request_that_started_the_project_is_understood() {
    let body = json!({"language":"python","version":"3.11","files":[{"content":"print(42)"}],"stdin":"","args":[]});
    let request = ExecuteRequest::parse(body).unwrap();
    assert_eq!((request.language(), request.version()), ("python", "3.11"));
    let submission = request.finish(&python()).unwrap();
    assert_eq!(
        submission,
        Submission {
            files: vec![SourceFile { path: RelativePath::new("file0.code").unwrap(), content: b"print(42)".to_vec(), code: true }],
            main: 0,
            args: vec![],
            stdin: b"\n".to_vec(),
            compile: python().compile,
            run: CONFIGURED,
        }
    );
}

#[test]
fn what_is_missing_is_named_in_the_order_in_which_piston_looks() {
    for (body, message) in [
        (json!({}), "language is required as a string"),
        (json!([]), "language is required as a string"),
        (json!([1]), "language is required as a string"),
        (json!({"language": ""}), "language is required as a string"),
        (json!({"language": 5, "version": 5, "files": 5}), "language is required as a string"),
        (json!({"language": "python"}), "version is required as a string"),
        (json!({"language": "python", "version": 3.11}), "version is required as a string"),
        (json!({"language": "python", "version": "", "files": 1}), "version is required as a string"),
        (json!({"language": "python", "version": "*"}), "files is required as an array"),
        (json!({"language": "python", "version": "*", "files": {}}), "files is required as an array"),
        (json!({"language": "python", "version": "*", "files": "x"}), "files is required as an array"),
        (json!({"language": "python", "version": "*", "files": [{}]}), "files[0].content is required as a string"),
        (
            json!({"language": "python", "version": "*", "files": [{"content": ""}, {"content": 5}]}),
            "files[1].content is required as a string",
        ),
        (json!({"language": "python", "version": "*", "files": [1]}), "files[0].content is required as a string"),
        (json!({"language": "python", "version": "*", "files": ["x"]}), "files[0].content is required as a string"),
        (json!({"language": "python", "version": "*", "files": [[]]}), "files[0].content is required as a string"),
        (json!({"language": "python", "version": "*", "files": [{"content": "x"}, null]}), "files[1] must be an object"),
    ] {
        assert_eq!(ExecuteRequest::parse(body.clone()).map_err(|invalid| invalid.to_string()), Err(message.to_owned()), "{body}");
    }
}

#[test]
fn the_runtime_is_looked_up_before_the_later_checks() {
    let body = json!({"language": " Py", "version": "4 || x!", "files": [], "run_timeout": "x", "stdin": 5, "args": 5});
    let request = ExecuteRequest::parse(body).unwrap();
    assert_eq!(request.unknown_runtime().to_string(), " Py-4 || x! runtime is unknown");
}

#[test]
fn the_later_checks_come_in_pistons_order() {
    let mut fields = json!({
        "files": [{"content": "", "encoding": "UTF8"}],
        "compile_memory_limit": "x", "run_memory_limit": "x", "compile_timeout": "x", "run_timeout": "x", "compile_cpu_time": "x", "run_cpu_time": "x",
        "stdin": 5,
    });
    assert_eq!(refusal(fields.clone()), "files must include at least one utf8 encoded file");
    fields["files"] = json!([{"content": "", "name": "../x"}]);
    fields["args"] = json!(5);
    for key in ["compile_memory_limit", "run_memory_limit", "compile_timeout", "run_timeout", "compile_cpu_time", "run_cpu_time"] {
        assert_eq!(refusal(fields.clone()), format!("If specified, {key} must be a number"));
        fields[key] = json!(null);
    }
    assert_eq!(refusal(fields.clone()), "stdin must be a string");
    fields["stdin"] = json!("");
    assert_eq!(refusal(fields.clone()), "files[0].name must not leave the working directory");
    fields["files"] = json!([{"content": ""}]);
    assert_eq!(refusal(fields), "args must be an array");
}

#[test]
fn a_file_must_be_declared_as_utf8_and_the_first_one_decoded_as_utf8_is_the_main_one() {
    let refused = "files must include at least one utf8 encoded file";
    for files in [
        json!([]),
        json!([{"content": "", "encoding": "UTF8"}]),
        json!([{"content": "", "encoding": "utf-8"}]),
        json!([{"content": "", "encoding": 5}]),
        json!([{"content": "", "encoding": "base64"}, {"content": "", "encoding": "hex"}]),
    ] {
        assert_eq!(refusal(json!({"files": files})), refused, "{files}");
    }
    for (files, main, code) in [
        (json!([{"content": ""}]), 0, vec![true]),
        (json!([{"content": "", "encoding": null}]), 0, vec![true]),
        (json!([{"content": "", "encoding": ""}]), 0, vec![true]),
        (json!([{"content": "", "encoding": 0}]), 0, vec![true]),
        (json!([{"content": "", "encoding": "base64"}, {"content": "", "encoding": "utf8"}]), 1, vec![false, true]),
        (json!([{"content": "", "encoding": "UTF8"}, {"content": ""}]), 0, vec![true, true]),
    ] {
        let submission = submission(json!({"files": files}));
        assert_eq!(submission.main, main, "{files}");
        assert_eq!(submission.files.iter().map(|file| file.code).collect::<Vec<_>>(), code, "{files}");
    }
}

#[test]
fn the_language_file_takes_any_encoding_but_wants_a_file() {
    let elf = request(json!({"files": [{"content": "f0VMRg==", "encoding": "base64"}]}));
    let submission = submit(elf, &file_runtime()).unwrap();
    assert_eq!((submission.main, submission.files[0].content.as_slice()), (0, b"\x7fELF".as_slice()));
    assert!(submission.files[0].code);
    assert_eq!(submit(request(json!({"files": []})), &file_runtime()), Err("files must include at least one file".to_owned()));
}

#[test]
fn contents_are_decoded_and_an_unknown_encoding_is_utf8() {
    let submission = submission(json!({"files": [
        {"content": "é", "encoding": "utf8"},
        {"content": "aGk", "encoding": "base64"},
        {"content": "6869zz", "encoding": "hex"},
        {"content": "aGk", "encoding": "BASE64"},
    ]}));
    let contents: Vec<&[u8]> = submission.files.iter().map(|file| file.content.as_slice()).collect();
    assert_eq!(contents, ["é".as_bytes(), b"hi", b"hi", b"aGk"]);
}

#[test]
fn a_limit_that_is_nothing_means_the_configured_limit() {
    for value in [json!(null), json!(0), json!(0.0), json!(-0.0), json!(false), json!("")] {
        for field in Field::ALL {
            let submission = submission(json!({field.as_str(): value}));
            assert_eq!((submission.compile, submission.run), (python().compile, CONFIGURED), "{field} {value}");
        }
    }
}

#[test]
fn a_limit_must_be_a_number_and_lie_between_zero_and_the_configured_one() {
    for value in [json!(true), json!("1000"), json!([]), json!({}), json!([1])] {
        assert_eq!(refusal(json!({"run_timeout": value})), "If specified, run_timeout must be a number");
    }
    for (fields, message) in [
        (json!({"run_timeout": 3001}), "run_timeout cannot exceed the configured limit of 3000"),
        (json!({"run_timeout": 3000.5}), "run_timeout cannot exceed the configured limit of 3000"),
        (json!({"run_timeout": 1e300}), "run_timeout cannot exceed the configured limit of 3000"),
        (json!({"compile_timeout": 10_001}), "compile_timeout cannot exceed the configured limit of 10000"),
        (json!({"run_cpu_time": 99_999}), "run_cpu_time cannot exceed the configured limit of 3000"),
        (json!({"compile_cpu_time": 99_999}), "compile_cpu_time cannot exceed the configured limit of 10000"),
        (json!({"run_memory_limit": 268_435_457}), "run_memory_limit cannot exceed the configured limit of 268435456"),
        (json!({"compile_memory_limit": u64::MAX}), "compile_memory_limit cannot exceed the configured limit of 268435456"),
        (json!({"run_timeout": -1}), "run_timeout must be non-negative"),
        (json!({"run_cpu_time": -0.5}), "run_cpu_time must be non-negative"),
        (json!({"run_memory_limit": -2}), "run_memory_limit must be non-negative"),
        (json!({"run_memory_limit": -1.5}), "run_memory_limit must be non-negative"),
        (json!({"run_memory_limit": -1e300}), "run_memory_limit must be non-negative"),
    ] {
        assert_eq!(refusal(fields.clone()), message, "{fields}");
    }
}

#[test]
fn a_limit_within_the_configured_one_is_taken_upwards_to_a_whole_unit() {
    for (sent, effective) in [(json!(3000), 3000), (json!(1), 1), (json!(1500.5), 1501), (json!(0.5), 1), (json!(2999.5), 3000)] {
        assert_eq!(submission(json!({"run_timeout": sent})).run.wall_ms, effective, "{sent}");
    }
    let submission = submission(json!({
        "compile_memory_limit": 1, "run_memory_limit": 2, "compile_timeout": 3, "run_timeout": 4, "compile_cpu_time": 5, "run_cpu_time": 6,
    }));
    assert_eq!((submission.compile.memory_bytes, submission.compile.wall_ms, submission.compile.cpu_ms), (1, 3, 5));
    assert_eq!((submission.run.memory_bytes, submission.run.wall_ms, submission.run.cpu_ms), (2, 4, 6));
}

#[test]
fn minus_one_for_memory_is_what_every_client_sends_and_means_the_configured_limit() {
    let submission = submission(json!({"run_memory_limit": -1, "compile_memory_limit": -1.0}));
    assert_eq!((submission.compile, submission.run), (python().compile, CONFIGURED));
}

#[test]
fn standard_input_ends_with_a_newline() {
    for (stdin, bytes) in [
        (json!(null), "\n"),
        (json!(""), "\n"),
        (json!("a"), "a\n"),
        (json!("a\n"), "a\n"),
        (json!("a\n\n"), "a\n\n"),
        (json!("\u{0}é"), "\u{0}é\n"),
        (json!([]), "\n"),
        (json!(["a"]), "a\n"),
        (json!(["a", 1, null]), "a,1,\n"),
    ] {
        assert_eq!(submission(json!({"stdin": stdin})).stdin, bytes.as_bytes(), "{stdin}");
    }
    for stdin in [json!(5), json!(0), json!(true), json!(false), json!({})] {
        assert_eq!(refusal(json!({"stdin": stdin})), "stdin must be a string");
    }
}

#[test]
fn arguments_are_made_strings() {
    for (args, expected) in [
        (json!(null), vec![]),
        (json!([]), vec![]),
        (json!(["a", "", "ü b"]), vec!["a", "", "ü b"]),
        (json!([1, true, null, {}, 1.5, [1, 2]]), vec!["1", "true", "null", "[object Object]", "1.5", "1,2"]),
        (json!("aé😀"), vec!["a", "é", "😀"]),
        (json!(""), vec![]),
    ] {
        assert_eq!(submission(json!({"args": args})).args, expected, "{args}");
    }
}

#[test]
fn arguments_that_no_program_can_be_given_are_refused() {
    for args in [json!(5), json!(true), json!(false), json!({"length": 1})] {
        assert_eq!(refusal(json!({"args": args})), "args must be an array");
    }
    assert_eq!(refusal(json!({"args": ["a", "b\0"]})), "args[1] must not contain a NUL character");
    assert_eq!(refusal(json!({"args": ["x".repeat(131_072)]})), "args[0] must not be longer than 131071 bytes");
    assert_eq!(submission(json!({"args": ["x".repeat(131_071)]})).args.len(), 1);
    assert_eq!(refusal(json!({"args": vec!["x".repeat(100_000); 11]})), "args must not be longer than 1048576 bytes together");
    assert_eq!(refusal(json!({"args": vec![""; 200_000]})), "args must not be longer than 1048576 bytes together");
}

#[test]
fn files_without_a_name_are_named_by_their_place() {
    let files = json!([
        {"content": "", "name": "m.py"}, {"content": ""}, {"content": "", "name": ""}, {"content": "", "name": null},
        {"content": "", "name": 0}, {"content": "", "name": false},
    ]);
    assert_eq!(
        names(&submission(json!({"files": files}))),
        ["m.py", "file1.code", "file2.code", "file3.code", "file4.code", "file5.code"]
    );
}

#[test]
fn names_that_stay_inside_are_taken() {
    for (name, path) in [
        ("m.py", "m.py"),
        ("a/b/c.py", "a/b/c.py"),
        ("..x.py", "..x.py"),
        ("...txt", "...txt"),
        ("a..b", "a..b"),
        ("a/../m.py", "m.py"),
        ("./m.py", "m.py"),
        ("a//b", "a/b"),
        ("-c", "-c"),
        ("@x", "@x"),
        ("with blanks é😀.py", "with blanks é😀.py"),
        ("%2e%2e/x", "%2e%2e/x"),
        ("..\\x", "..\\x"),
        ("C:\\x", "C:\\x"),
    ] {
        assert_eq!(names(&submission(json!({"files": [{"content": "", "name": name}]}))), [path], "{name}");
    }
}

#[test]
fn names_that_cannot_be_written_are_refused_by_field() {
    for (name, reason) in [
        (json!("../m.py"), "must not leave the working directory"),
        (json!("a/../../b"), "must not leave the working directory"),
        (json!("../../etc/cron.d/x"), "must not leave the working directory"),
        (json!("/etc/passwd"), "must be relative"),
        (json!("//x"), "must be relative"),
        (json!("."), "must name a file, not a directory"),
        (json!("a/"), "must name a file, not a directory"),
        (json!("a\0b"), "must not contain a NUL character"),
        (json!("x".repeat(256)), "has a part of more than 255 bytes"),
        (json!("x/".repeat(2000)), "has more than 3500 bytes"),
        (json!(1), "must be a string"),
        (json!(true), "must be a string"),
        (json!(["m.py"]), "must be a string"),
        (json!({}), "must be a string"),
    ] {
        let files = json!([{"content": ""}, {"content": "", "name": name}]);
        assert_eq!(refusal(json!({"files": files})), format!("files[1].name {reason}"), "{name}");
    }
}

#[test]
fn a_file_cannot_stand_where_another_needs_a_directory() {
    let files =
        |names: &[&str]| json!({"files": names.iter().map(|name| json!({"content": "", "name": name})).collect::<Vec<_>>()});
    assert_eq!(refusal(files(&["m", "m/x"])), "files[1].name needs a directory where files[0].name has a file");
    assert_eq!(refusal(files(&["k", "a/b/c", "a"])), "files[1].name needs a directory where files[2].name has a file");
    assert_eq!(names(&submission(files(&["m", "mm/x", "n/m"]))), ["m", "mm/x", "n/m"]);
}

#[test]
fn of_two_files_with_one_name_the_last_is_written_where_the_first_stands() {
    let submission = submission(json!({"files": [
        {"content": "1", "name": "m.py"}, {"content": "2"}, {"content": "Mw==", "name": "./m.py", "encoding": "base64"},
    ]}));
    assert_eq!(names(&submission), ["m.py", "file1.code"]);
    assert_eq!((submission.files[0].content.as_slice(), submission.files[0].code, submission.main), (b"3".as_slice(), true, 0));
}

#[test]
fn the_websocket_keeps_pistons_own_words_where_it_has_them() {
    let invalid = |fields| ExecuteRequest::parse(request(fields)).and_then(|request| request.finish(&python())).unwrap_err();
    assert_eq!(
        invalid(json!({"files": [{"content": "", "name": "../x"}]})).websocket_message(),
        "File path \"../x\" tries to escape parent directory: ../x"
    );
    assert_eq!(invalid(json!({"args": 5})).websocket_message(), "this.args is not iterable");
    assert_eq!(invalid(json!({"run_timeout": "x"})).websocket_message(), "If specified, run_timeout must be a number");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop_oneof!["utf8", "base64", "hex", "\\.\\./[a-z]", "[a-z]/", "[a-c](/[a-c]){0,2}"].prop_map(Value::from),
    ];
    let key = prop_oneof![Just("content"), Just("name"), Just("encoding"), Just("x")];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_value_of_any_field_makes_it_panic_or_leave_the_limits(field in 0..11_usize, value in any_json()) {
        const FIELDS: [&str; 11] = ["language", "version", "files", "stdin", "args", "compile_memory_limit", "run_memory_limit",
            "compile_timeout", "run_timeout", "compile_cpu_time", "run_cpu_time"];
        if let Ok(submission) = submit(request(json!({FIELDS[field]: value})), &python()) {
            prop_assert!(submission.files[submission.main].code);
            for (effective, configured) in [(submission.compile, python().compile), (submission.run, CONFIGURED)] {
                prop_assert!((1..=configured.wall_ms).contains(&effective.wall_ms));
                prop_assert!((1..=configured.cpu_ms).contains(&effective.cpu_ms));
                prop_assert!((1..=configured.memory_bytes).contains(&effective.memory_bytes));
            }
        }
    }

    #[test]
    fn no_list_of_files_makes_it_panic(files in proptest::collection::vec(any_json(), 0..5)) {
        let with_content: Vec<Value> = files.into_iter().map(|mut file| {
            if let Some(file) = file.as_object_mut() { file.insert("content".into(), json!("x")); }
            file
        }).collect();
        let body = request(json!({"files": with_content}));
        if let Ok(submission) = submit(body, &python()) {
            prop_assert!(submission.files[submission.main].code);
        }
    }
}
