use greenroom_contract::{Connection, Request, Server};
use serde_json::{Value, json};

use super::{FIRST_NEW, LATEST, OLD, POOL, SESSIONS, Session, fresh, keys, refused, until};

crate::rows!(
    the_old_shape_is_wrapped_and_has_the_value_under_both_names,
    the_legacy_shape_is_flat_and_needs_no_version,
    the_new_shape_is_the_recorded_exchange,
    a_body_may_be_wrapped_or_bare_on_every_path,
    words_are_compared_without_case,
    base64_is_decoded,
    the_value_is_json_where_it_can_be,
    a_picture_is_an_object,
    code_that_raises_is_no_http_error,
    state_is_kept_and_belongs_to_its_identifier,
    a_time_limit_interrupts_and_keeps_the_session,
    output_is_cut_at_the_length_asked_for,
    times_are_in_the_headers_of_executions_only,
    an_asynchronous_execution_is_asked_for_by_its_id,
    an_operation_id_of_the_clients_runs_once,
    an_operation_id_belongs_to_its_request,
    an_operation_id_whose_client_went_away_has_run,
    whenever_a_client_goes_away_its_operation_ends,
    an_execution_belongs_to_its_identifier,
    a_client_that_goes_away_interrupts_its_cell_and_keeps_the_session,
    bases_with_slashes_and_other_case_work,
    a_session_that_ends_itself_is_told,
    memory_that_runs_out_is_a_failure_and_no_http_error,
);

fn the_old_shape_is_wrapped_and_has_the_value_under_both_names(server: &Server) {
    let session = Session::new(server, "old");
    let body = json!({"properties": {"codeInputType": "inline", "executionType": "synchronous", "code": "print('hi')\n1+1", "timeoutInSeconds": 100}});
    let response = session.post("/code/execute", OLD, &body);
    assert_eq!(response.status, 200, "{}", response.text());
    let answer = response.json();
    assert_eq!(keys(&answer), ["$id", "properties"]);
    let properties = &answer["properties"];
    let expected = ["$id", "status", "stdout", "stderr", "result", "executionResult", "executionTimeInMilliseconds"];
    assert_eq!(keys(properties), expected);
    for (key, value) in [
        ("$id", json!("2")),
        ("status", json!("Success")),
        ("stdout", json!("hi\n")),
        ("stderr", json!("")),
        ("result", json!(2)),
        ("executionResult", json!(2)),
    ] {
        assert_eq!(properties[key], value, "{key}: {answer}");
    }
    assert!(properties["executionTimeInMilliseconds"].is_u64(), "{answer}");
    assert_eq!(response.header("api-supported-versions"), Some(OLD));
}

fn the_legacy_shape_is_flat_and_needs_no_version(server: &Server) {
    let session = Session::new(server, "legacy");
    let body = json!({"properties": {"identifier": "ignored", "codeInputType": "inline", "executionType": "synchronous", "pythonCode": "6*7"}});
    let target = format!("{POOL}/python/execute?identifier={}", session.identifier);
    let response = session.send(Request::new("POST", &target).json(&body));
    assert_eq!(response.status, 200, "{}", response.text());
    let answer = response.json();
    assert_eq!((&answer["$id"], &answer["status"], &answer["result"]), (&json!("1"), &json!("Success"), &json!(42)));
    assert_eq!(answer.get("properties"), None);
}

fn the_new_shape_is_the_recorded_exchange(server: &Server) {
    let session = Session::new(server, "new");
    let body = json!({"codeInputType": "inline", "executionType": "synchronous", "code": "print(\"Hello world\")", "timeoutInSeconds": 60});
    let response = session.post("/executions", FIRST_NEW, &body);
    assert_eq!(response.status, 202, "{}", response.text());
    let answer = response.json();
    assert_eq!(keys(&answer), ["$id", "id", "identifier", "executionType", "status", "result"]);
    assert_eq!(keys(&answer["result"]), ["$id", "stdout", "stderr", "executionResult", "executionTimeInMilliseconds"]);
    assert_eq!(answer["identifier"], session.identifier.as_str());
    assert_eq!((&answer["executionType"], &answer["status"]), (&json!("synchronous"), &json!("Succeeded")));
    let result = &answer["result"];
    assert_eq!(
        (&result["stdout"], &result["stderr"], &result["executionResult"]),
        (&json!("Hello world\n"), &json!(""), &json!(""))
    );
    assert_eq!(response.header("api-supported-versions"), Some(FIRST_NEW));
    assert_eq!(response.header("operation-id"), answer["id"].as_str());
    for version in [SESSIONS, LATEST, "2031-01-01"] {
        let response = session.post("/executions", version, &body);
        assert_eq!(response.status, 200, "{version}: {}", response.text());
        assert_eq!(keys(&response.json()), ["id", "identifier", "executionType", "status", "result"], "{version}");
    }
}

fn a_body_may_be_wrapped_or_bare_on_every_path(server: &Server) {
    let session = Session::new(server, "wrap");
    for path in ["/executions", "/code/execute", "/execute", "/python/execute"] {
        for body in [json!({"code": "1"}), json!({"properties": {"code": "1"}})] {
            let response = session.post(path, SESSIONS, &body);
            assert_eq!(response.status, 200, "{path} {body}: {}", response.text());
        }
        for body in [json!({}), json!({"properties": {"timeoutInSeconds": 5}})] {
            refused(&session.post(path, SESSIONS, &body), 400, "SessionPropertiesMissing");
        }
    }
}

fn words_are_compared_without_case(server: &Server) {
    let session = Session::new(server, "case");
    for (input, kind) in [("Inline", "Synchronous"), ("inline", "synchronous"), ("INLINETEXT", "SYNCHRONOUS")] {
        let response = session.post("/executions", LATEST, &json!({"codeInputType": input, "executionType": kind, "code": "1"}));
        assert_eq!((response.status, &response.json()["executionType"]), (200, &json!(kind)));
    }
    let response = session.post("/executions", LATEST, &json!({"codeInputType": "file", "code": "1"}));
    refused(&response, 400, "SessionRequestValidationFailed");
}

fn base64_is_decoded(server: &Server) {
    let session = Session::new(server, "base64");
    // print('ä')
    let response = session.post("/executions", LATEST, &json!({"codeInputType": "InlineBase64", "code": "cHJpbnQoJ8OkJyk="}));
    assert_eq!(response.json()["result"]["stdout"], "ä\n", "{}", response.text());
    let response = session.post("/executions", LATEST, &json!({"codeInputType": "InlineBase64", "code": "!!"}));
    refused(&response, 400, "SessionRequestValidationFailed");
}

fn the_value_is_json_where_it_can_be(server: &Server) {
    let session = Session::new(server, "value");
    for (code, value) in [
        ("1+1", json!(2)),
        ("'abc'", json!("'abc'")),
        ("[1,2]", json!([1, 2])),
        ("float('nan')", json!("nan")),
        ("a = None;a", Value::Null),
        ("a = 1", json!("")),
        ("print('x')", json!("")),
        ("1.5", json!(1.5)),
        ("True", json!("True")),
        ("{'a': 1}", json!("{'a': 1}")),
    ] {
        assert_eq!(session.value(code), value, "{code}");
    }
    let response = session.post("/executions", SESSIONS, &json!({"code": "10**30 + 1"}));
    assert!(response.text().contains("\"executionResult\":1000000000000000000000000000001,"), "{}", response.text());
}

/// A picture as notebooks know it; whether matplotlib is there does not matter.
fn a_picture_is_an_object(server: &Server) {
    let session = Session::new(server, "picture");
    let code = "class Picture:\n    def _repr_png_(self):\n        return b'\\x89PNG\\r\\n\\x1a\\n'\nPicture()";
    assert_eq!(session.old(code)["result"], json!({"type": "image", "format": "png", "base64_data": "iVBORw0KGgo="}));
}

fn code_that_raises_is_no_http_error(server: &Server) {
    let session = Session::new(server, "raise");
    let old = session.old("def f():\n    raise ValueError('seen')\nf()");
    assert_eq!((&old["status"], &old["result"]), (&json!("Failure"), &json!("")), "{old}");
    let stderr = old["stderr"].as_str().unwrap_or_default();
    assert!(stderr.contains("Traceback") && stderr.contains("in f") && stderr.contains("ValueError: seen"), "{stderr}");
    let new = session.run("1/0");
    assert_eq!(new["status"], "Failed");
    assert!(new["result"]["stderr"].as_str().is_some_and(|stderr| stderr.contains("ZeroDivisionError")), "{new}");
    assert_eq!(session.run("x =")["status"], "Failed");
}

fn state_is_kept_and_belongs_to_its_identifier(server: &Server) {
    let (one, other) = (Session::new(server, "state"), Session::new(server, "state"));
    assert_eq!(one.run("import math\nsecret = 41")["status"], "Succeeded");
    assert_eq!(one.value("secret + 1"), 42);
    assert_eq!(one.old("secret + 1")["result"], 42, "the shapes share a session");
    assert_eq!(other.run("secret")["status"], "Failed");
}

fn a_time_limit_interrupts_and_keeps_the_session(server: &Server) {
    let session = Session::new(server, "time");
    assert_eq!(session.run("kept = 7")["status"], "Succeeded");
    let response = session.post(
        "/executions",
        LATEST,
        &json!({"code": "print('begun', flush=True)\nwhile True: pass", "timeoutInSeconds": 1}),
    );
    assert_eq!(response.status, 200, "{}", response.text());
    let answer = response.json();
    assert_eq!((&answer["status"], &answer["result"]["stdout"]), (&json!("Failed"), &json!("begun\n")), "{answer}");
    let stderr = answer["result"]["stderr"].as_str().unwrap_or_default();
    assert!(stderr.contains("Request timed out waiting for code execution to complete"), "{stderr}");
    assert!(answer["result"]["executionTimeInMilliseconds"].as_u64().is_some_and(|ms| (900..15_000).contains(&ms)), "{answer}");
    assert_eq!(session.value("kept"), 7);
    for wrong in [json!(-1), json!(0), json!(0.5), json!("10"), json!(true)] {
        let response = session.post("/executions", LATEST, &json!({"code": "1", "timeoutInSeconds": wrong}));
        refused(&response, 400, "SessionRequestValidationFailed");
    }
}

fn output_is_cut_at_the_length_asked_for(server: &Server) {
    let session = Session::new(server, "cut");
    let length = |version: &str, body: Value| {
        let response = session.post("/executions", version, &body);
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["result"]["stdout"].as_str().map(|stdout| stdout.chars().count())
    };
    let code = "print('ä' * 10000)";
    assert_eq!(length(LATEST, json!({"code": code, "outputStreamsMaxLength": 100})), Some(100));
    assert_eq!(length(LATEST, json!({"code": code})), Some(4096));
    assert_eq!(length(SESSIONS, json!({"code": code})), Some(10_001));
}

fn times_are_in_the_headers_of_executions_only(server: &Server) {
    let session = Session::new(server, "times");
    let response = session.post("/executions", LATEST, &json!({"code": "1"}));
    let of = |name: &str| response.header(name).unwrap_or_else(|| panic!("no {name} in {:?}", response.headers)).to_owned();
    for name in [
        "x-ms-allocation-time", "x-ms-preparation-time", "x-ms-container-execution-duration", "x-ms-execution-request-time",
        "x-ms-execution-read-response-time", "x-ms-overall-execution-time", "x-ms-total-execution-service-time",
    ] {
        assert!(of(name).parse::<f64>().is_ok_and(|ms| (0.0..60_000.0).contains(&ms)), "{name}: {}", of(name));
    }
    assert_eq!((of("x-ms-allocation-retries").as_str(), of("x-ms-new-allocation").as_str()), ("0", "true"));
    assert_eq!(of("x-ms-session-guid").len(), 36);
    let guid = of("x-ms-session-guid");
    assert!(of("server-timing").contains("lease;dur="), "{}", of("server-timing"));
    let again = session.post("/code/execute", OLD, &json!({"properties": {"code": "1"}}));
    assert_eq!((again.header("x-ms-new-allocation"), again.header("x-ms-session-guid")), (Some("false"), Some(guid.as_str())));
    let files = session.get("/files", LATEST);
    assert!(!files.headers.iter().any(|(name, _)| name.contains("allocation")), "{:?}", files.headers);
}

fn an_asynchronous_execution_is_asked_for_by_its_id(server: &Server) {
    let session = Session::new(server, "async");
    let body = json!({"executionType": "Asynchronous", "code": "import time\ntime.sleep(0.5)\nprint('done')\n6*7"});
    let response = session.post("/executions", LATEST, &body);
    assert_eq!(response.status, 200, "{}", response.text());
    let answer = response.json();
    assert_eq!((&answer["status"], answer.get("result")), (&json!("Running"), None), "{answer}");
    let id = answer["id"].as_str().unwrap_or_default().to_owned();
    assert_eq!(response.header("operation-id"), Some(id.as_str()));
    let location = response.header("operation-location").unwrap_or_default();
    let path = location.strip_prefix(&format!("http://{}", server.host())).unwrap_or_else(|| panic!("{location}")).to_owned();
    assert!(path.contains(&format!("/executions/{id}?api-version={LATEST}&identifier=")), "{path}");
    let done = until(|| {
        let execution = session.send(Request::new("GET", &path)).json();
        (execution["status"] != "Running").then_some(execution)
    });
    assert_eq!(
        (&done["status"], &done["result"]["stdout"], &done["result"]["executionResult"]),
        (&json!("Succeeded"), &json!("done\n"), &json!(42))
    );
    assert_eq!((&done["id"], &done["executionType"]), (&json!(id), &json!("Asynchronous")));
    let missing = session.get("/executions/00000000-0000-4000-8000-000000000000", LATEST);
    assert_eq!(missing.status, 404);
    let message = "No execution available for operation Id: 00000000-0000-4000-8000-000000000000";
    assert_eq!(missing.json()["error"]["message"], message);
}

fn an_operation_id_of_the_clients_runs_once(server: &Server) {
    let session = Session::new(server, "once");
    assert_eq!(session.run("ran = 0")["status"], "Succeeded");
    let id = fresh("operation");
    let send = || {
        let request = Request::new("POST", &session.target("/executions", LATEST)).header("operation-id", &id);
        session.send(request.json(&json!({"code": "ran += 1\nran"}))).json()
    };
    let (first, second) = (send(), send());
    assert_eq!((&first["id"], &first["result"]["executionResult"]), (&json!(id), &json!(1)));
    assert_eq!(first, second);
    assert_eq!(session.value("ran"), 1);
    let bad = Request::new("POST", &session.target("/executions", LATEST)).header("operation-id", "a/b");
    refused(&session.send(bad.json(&json!({"code": "1"}))), 400, "SessionRequestValidationFailed");
}

fn an_operation_id_belongs_to_its_request(server: &Server) {
    let session = Session::new(server, "theirs");
    let id = fresh("operation");
    let send = |body: &Value| {
        let request = Request::new("POST", &session.target("/executions", LATEST)).header("operation-id", &id);
        session.send(request.json(body))
    };
    let first = json!({"code": "ran = 1", "timeoutInSeconds": 60});
    assert_eq!(send(&first).status, 200);
    for other in [json!({"code": "ran = 2", "timeoutInSeconds": 60}), json!({"code": "ran = 1"})] {
        refused(&send(&other), 400, "SessionRequestValidationFailed");
    }
    // As another client of the same program may spell it.
    let same = json!({"properties": {"timeoutInSeconds": 60, "code": "ran = 1", "executionType": "synchronous"}});
    assert_eq!(send(&same).json()["status"], "Succeeded");
    assert_eq!(session.value("ran"), 1);
}

fn an_operation_id_whose_client_went_away_has_run(server: &Server) {
    let session = Session::new(server, "went");
    let id = fresh("operation");
    let code = "ran = globals().get('ran', 0) + 1\nopen('/mnt/data/begun', 'w').close()\nimport time\ntime.sleep(100)";
    let body = json!({"code": code});
    let mut connection = Connection::open(server.host()).unwrap_or_else(|error| panic!("{error:#}"));
    let request = Request::new("POST", &session.target("/executions", LATEST)).header("operation-id", &id);
    connection.begin(&request.json(&body)).unwrap_or_else(|error| panic!("{error:#}"));
    until(|| (session.get("/files/begun", LATEST).status == 200).then_some(()));
    drop(connection);
    let again = until(|| {
        let request = Request::new("POST", &session.target("/executions", LATEST)).header("operation-id", &id);
        let answer = session.send(request.json(&body)).json();
        (answer["status"] != "Running").then_some(answer)
    });
    assert_eq!((&again["status"], &again["error"]["code"]), (&json!("Canceled"), &json!("ExecutionCanceled")), "{again}");
    assert_eq!(session.value("ran"), 1);
}

/// Also in the moment in which what came of it is being kept.
fn whenever_a_client_goes_away_its_operation_ends(server: &Server) {
    let session = Session::new(server, "whenever");
    assert_eq!(session.run("1")["status"], "Succeeded");
    let ids: Vec<_> = (0..120)
        .map(|n| {
            let id = fresh("operation");
            let mut connection = Connection::open(server.host()).unwrap_or_else(|error| panic!("{error:#}"));
            let request = Request::new("POST", &session.target("/executions", LATEST)).header("operation-id", &id);
            connection.begin(&request.json(&json!({"code": "1"}))).unwrap_or_else(|error| panic!("{error:#}"));
            std::thread::sleep(std::time::Duration::from_micros(200 * n));
            id
        })
        .collect();
    for id in ids {
        until(|| {
            let answer = session.get(&format!("/executions/{id}"), LATEST).json();
            (answer["status"] != "Running").then_some(())
        });
    }
}

fn an_execution_belongs_to_its_identifier(server: &Server) {
    let (one, other) = (Session::new(server, "owner"), Session::new(server, "owner"));
    let id = one.run("'mine'")["id"].as_str().unwrap_or_default().to_owned();
    assert_eq!(one.get(&format!("/executions/{id}"), SESSIONS).json()["result"]["executionResult"], "'mine'");
    assert_eq!(other.get(&format!("/executions/{id}"), SESSIONS).status, 404);
}

fn a_client_that_goes_away_interrupts_its_cell_and_keeps_the_session(server: &Server) {
    let session = Session::new(server, "gone");
    let body =
        json!({"code": "kept = 1\nopen('/mnt/data/begun', 'w').close()\nimport time\ntime.sleep(100)\nkept = 2"}).to_string();
    let mut connection = Connection::open(server.host()).unwrap_or_else(|error| panic!("{error:#}"));
    connection
        .begin(&Request::new("POST", &session.target("/executions", LATEST)).header("Content-Type", "application/json").body(body))
        .unwrap_or_else(|error| panic!("{error:#}"));
    // Its files are seen while it runs.
    until(|| (session.get("/files/begun", LATEST).status == 200).then_some(()));
    drop(connection);
    assert_eq!(session.value("kept"), 1);
}

fn bases_with_slashes_and_other_case_work(server: &Server) {
    let session = Session::new(server, "base");
    for path in [
        format!("{POOL}//code/execute"),
        format!("{POOL}/code/execute/"),
        format!("/{POOL}/Code/Execute"),
        "/SUBSCRIPTIONS/any/RESOURCEGROUPS/thing%20else/sessionpools/default/code/execute".to_owned(),
    ] {
        let target = format!("{path}?identifier={}&API-Version={OLD}", session.identifier);
        let response = session.send(Request::new("POST", &target).json(&json!({"properties": {"code": "1"}})));
        assert_eq!(response.status, 200, "{path}: {}", response.text());
    }
}

fn a_session_that_ends_itself_is_told(server: &Server) {
    let session = Session::new(server, "ended");
    assert_eq!(session.run("kept = 1")["status"], "Succeeded");
    let died = session.run("import os\nos._exit(3)");
    assert_eq!(died["status"], "Failed", "{died}");
    let stderr = died["result"]["stderr"].as_str().unwrap_or_default();
    assert!(stderr.contains("Execution aborted") && stderr.contains("session ended: its process exited with status 3"), "{stderr}");
    let response = session.post("/executions", SESSIONS, &json!({"code": "'kept' in globals()"}));
    let told = "session ended: its process exited with status 3";
    assert_eq!(response.header("x-greenroom-session-ended"), Some(told), "{:?}", response.headers);
    let answer = response.json();
    assert_eq!((&answer["result"]["stderr"], &answer["result"]["executionResult"]), (&json!(format!("{told}\n")), &json!("False")));
    let response = session.post("/executions", SESSIONS, &json!({"code": "1"}));
    assert_eq!((response.header("x-greenroom-session-ended"), &response.json()["result"]["stderr"]), (None, &json!("")));
}

fn memory_that_runs_out_is_a_failure_and_no_http_error(server: &Server) {
    let session = Session::new(server, "memory");
    let answer = session.run("x = bytearray(2 << 30)\nx[::4096] = b'1' * len(x[::4096])");
    assert_eq!(answer["status"], "Failed", "{answer}");
    let stderr = answer["result"]["stderr"].as_str().unwrap_or_default();
    // Where memory is not counted, the interpreter is refused it.
    assert!(stderr.contains("Execution aborted") || stderr.contains("MemoryError"), "{stderr}");
    assert_eq!(session.run("1")["status"], "Succeeded");
}
