//! Pools of other kinds and sizes, made by the control plane.

use greenroom_contract::{Request, Server};
use serde_json::{Value, json};

use super::{LATEST, OLD, SESSIONS, Session, fresh, keys, refused, until};
use crate::has;

crate::rows!(
    a_shell_pool_runs_commands,
    a_shell_pool_keeps_files_and_takes_input,
    commands_and_callers_share_files_both_ways,
    an_operation_id_of_a_command_runs_once,
    what_ran_in_a_pool_goes_with_it,
    a_command_that_takes_too_long_is_minus_one,
    what_a_shell_pool_does_not_take_is_told_in_its_ways,
    a_node_pool_runs_javascript,
    a_full_pool_is_429_with_advice,
);

/// A pool of the suite's own, deleted when its row is over.
pub(super) struct Pool<'a> {
    server: &'a Server,
    pub(super) name: String,
}

impl<'a> Pool<'a> {
    /// Makes one, and waits until it can be used.
    pub(super) fn make(server: &'a Server, properties: Value) -> Self {
        let pool = Self { server, name: fresh("contract") };
        let body = json!({"location": "local", "properties": properties});
        let put = pool.send("PUT", "", Some(&body));
        assert!(matches!(put.0, 200 | 201), "{} {}", put.0, put.1);
        until(|| {
            let (_, shown) = pool.send("GET", "", None);
            let state = &shown["properties"]["provisioningState"];
            assert_ne!(*state, "Failed", "{shown}");
            (*state == "Succeeded").then_some(())
        });
        pool
    }

    /// The data plane's base.
    pub(super) fn base(&self) -> String {
        format!("/subscriptions/s/resourceGroups/rg/sessionPools/{}", self.name)
    }

    /// A call of the control plane.
    pub(super) fn send(&self, method: &str, action: &str, body: Option<&Value>) -> (u16, Value) {
        let path = format!("/subscriptions/s/resourceGroups/rg/providers/Microsoft.App/sessionPools/{}{action}", self.name);
        let request = Request::new(method, &format!("{path}?api-version=2025-02-02-preview"));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let response = self.server.send(&request).unwrap_or_else(|error| panic!("{error:#} for {method} {path}"));
        (response.status, serde_json::from_slice(&response.body).unwrap_or_default())
    }
}

impl Drop for Pool<'_> {
    fn drop(&mut self) {
        let path = format!("/subscriptions/s/resourceGroups/rg/providers/Microsoft.App/sessionPools/{}", self.name);
        // A row that failed has said so already.
        drop(self.server.send(&Request::new("DELETE", &format!("{path}?api-version=2025-02-02-preview"))));
    }
}

fn shell(server: &Server) -> Pool<'_> {
    Pool::make(server, json!({"containerType": "Shell", "scaleConfiguration": {"maxConcurrentSessions": 2}}))
}

fn a_shell_pool_runs_commands(server: &Server) {
    let pool = shell(server);
    let session = Session::of(server, &pool.base(), "shell");
    let response = session.post("/executions", SESSIONS, &json!({"shellCommand": "echo out; echo err >&2; pwd"}));
    assert_eq!(response.status, 200, "{}", response.text());
    let answer = response.json();
    assert_eq!(keys(&answer), ["identifier", "status", "result"]);
    assert_eq!(keys(&answer["result"]), ["stdout", "stderr", "executionTimeInMilliseconds"]);
    assert_eq!((&answer["identifier"], &answer["status"]), (&json!(session.identifier), &json!("0")));
    assert_eq!((&answer["result"]["stdout"], &answer["result"]["stderr"]), (&json!("out\n/mnt/data\n"), &json!("err\n")));
    for (command, status) in [("exit 3", "3"), ("false", "1"), ("no-such-command-here", "127"), ("kill -9 $$", "137")] {
        let answer = session.post("/executions", LATEST, &json!({"shellCommand": command})).json();
        assert_eq!(answer["status"], status, "{command}: {answer}");
    }
    let wrapped =
        session.post("/executions", LATEST, &json!({"properties": {"execCommandAndArgs": ["printf", "%s|", "$(id)", "; exit 1"]}}));
    assert_eq!(wrapped.json()["result"]["stdout"], "$(id)|; exit 1|", "{}", wrapped.text());
    assert!(!response.headers.iter().any(|(name, _)| name.starts_with("x-ms-")), "{:?}", response.headers);
}

fn a_shell_pool_keeps_files_and_takes_input(server: &Server) {
    let pool = shell(server);
    let session = Session::of(server, &pool.base(), "shell");
    let run = |body: Value| session.post("/executions", LATEST, &body).json()["result"]["stdout"].clone();
    assert_eq!(run(json!({"execCommandAndArgs": ["tr", "a-z", "A-Z"], "stdin": "grün\n"})), "GRüN\n");
    assert_eq!(run(json!({"shellCommand": "cat", "stdin": "x"})), "x");
    assert_eq!(session.upload("/files", LATEST, "in.txt", b"content").status, 200);
    assert_eq!(run(json!({"shellCommand": "cat in.txt; printf made > out.txt"})), "content");
    assert_eq!(session.get("/files/out.txt/content", LATEST).text(), "made");
    assert_eq!(run(json!({"shellCommand": "printf '%05000d' 0", "outputStreamsMaxLength": 10})), "0000000000");
    assert_eq!(run(json!({"shellCommand": "printf '%05000d' 0"})).as_str().map(str::len), Some(4096));
}

fn commands_and_callers_share_files_both_ways(server: &Server) {
    let pool = shell(server);
    let session = Session::of(server, &pool.base(), "share");
    let run = |command: &str| session.post("/executions", LATEST, &json!({"shellCommand": command})).json();
    let out = |command: &str| run(command)["result"]["stdout"].as_str().unwrap_or_default().to_owned();
    for (target, name) in [("/files", "a.txt"), ("/files?path=sub", "b.txt"), ("/files?path=%2Fmnt%2Fdata%2Fsub", "c.txt")] {
        assert_eq!(session.upload(target, LATEST, name, name.as_bytes()).status, 200, "{target}");
    }
    assert_eq!(out("cd /mnt/data && find . -type f | sort && cat sub/c.txt"), "./a.txt\n./sub/b.txt\n./sub/c.txt\nc.txt");
    assert_eq!(run("printf changed > a.txt; mkdir -p made/deep; printf new > made/deep/d.txt; rm sub/b.txt")["status"], "0");
    assert_eq!(session.get("/files/a.txt/content", LATEST).text(), "changed");
    assert_eq!(session.get("/files/d.txt/content?path=made/deep", LATEST).text(), "new");
    refused(&session.get("/files/b.txt?path=sub", LATEST), 404, "FileNotFound");
    let listed = session.get("/files?recursive=true", LATEST).json();
    let names: Vec<_> = listed["value"].as_array().into_iter().flatten().filter_map(|file| file["name"].as_str()).collect();
    assert_eq!(names.iter().filter(|name| name.ends_with(".txt")).count(), 3, "{listed}");
    // As clients of the service find what they put there.
    assert_eq!(session.upload("/files?path=ade/bin", LATEST, "tool", b"#!/bin/sh\necho ran").status, 200);
    assert_eq!(out("chmod +x /app/ade/bin/tool; /app/ade/bin/tool; cat /app/a.txt"), "ran\nchanged");
    assert_eq!(session.get("/files/tool/content?path=/app/ade/bin", LATEST).text(), "#!/bin/sh\necho ran");
    assert_eq!(run("rm -r /app/ade")["status"], "0");
    assert_eq!(session.delete("/files/a.txt", LATEST).status, 204);
    assert_eq!(out("ls"), "made\nsub\n");
}

fn an_operation_id_of_a_command_runs_once(server: &Server) {
    let pool = shell(server);
    let session = Session::of(server, &pool.base(), "once");
    let id = fresh("operation");
    let send = |body: &Value| {
        session.send(Request::new("POST", &session.target("/executions", LATEST)).header("operation-id", &id).json(body))
    };
    let body = json!({"shellCommand": "echo x >> ran; cat ran; exit 3"});
    let (first, second) = (send(&body), send(&body));
    assert_eq!(
        (first.json()["status"].as_str(), first.json()["result"]["stdout"].as_str()),
        (Some("3"), Some("x\n")),
        "{}",
        first.text()
    );
    assert_eq!(first.header("operation-id"), Some(id.as_str()));
    assert_eq!(first.json(), second.json());
    assert_eq!(session.get(&format!("/executions/{id}"), LATEST).json(), first.json());
    refused(&send(&json!({"shellCommand": "cat ran"})), 400, "SessionRequestValidationFailed");
    let lines = session.post("/executions", LATEST, &json!({"shellCommand": "cat ran"})).json();
    assert_eq!(lines["result"]["stdout"], "x\n");
}

fn what_ran_in_a_pool_goes_with_it(server: &Server) {
    let properties = json!({"containerType": "PythonLTS", "scaleConfiguration": {"maxConcurrentSessions": 2}});
    let pool = Pool::make(server, properties.clone());
    let session = Session::of(server, &pool.base(), "gone");
    let id = fresh("operation");
    let send = || {
        let request = Request::new("POST", &session.target("/executions", LATEST)).header("operation-id", &id);
        session.send(request.json(&json!({"code": "import random; random.getrandbits(256)"}))).json()
    };
    let first = send();
    assert_eq!(send(), first);
    assert_eq!(pool.send("DELETE", "", None).0, 202);
    until(|| (pool.send("GET", "", None).0 == 404).then_some(()));
    let body = json!({"location": "local", "properties": properties});
    assert_eq!(pool.send("PUT", "", Some(&body)).0, 201);
    refused(&session.get(&format!("/executions/{id}"), LATEST), 404, "ExecutionNotFound");
    let again = send();
    assert_eq!(again["status"], "Succeeded", "{again}");
    assert_ne!(again["result"]["executionResult"], first["result"]["executionResult"]);
}

fn a_command_that_takes_too_long_is_minus_one(server: &Server) {
    let pool = shell(server);
    let session = Session::of(server, &pool.base(), "shell");
    let answer =
        session.post("/executions", LATEST, &json!({"shellCommand": "echo begun; sleep 100", "timeoutInSeconds": 1})).json();
    assert_eq!((&answer["status"], &answer["result"]["stdout"]), (&json!("-1"), &json!("begun\n")), "{answer}");
    assert_eq!(answer["result"]["executionTimeInMilliseconds"], 1000);
    assert_eq!(session.post("/executions", LATEST, &json!({"shellCommand": "true"})).json()["status"], "0");
}

fn what_a_shell_pool_does_not_take_is_told_in_its_ways(server: &Server) {
    let pool = shell(server);
    let session = Session::of(server, &pool.base(), "shell");
    refused(&session.post("/executions", SESSIONS, &json!({"code": "1"})), 400, "SessionPropertiesMissing");
    for body in [json!({"shellCommand": "ls", "execCommandAndArgs": ["ls"]}), json!({})] {
        let response = session.post("/executions", SESSIONS, &body);
        assert_eq!((response.status, response.header("content-type")), (400, Some("application/problem+json; charset=utf-8")));
        let problem = response.json();
        assert_eq!(keys(&problem), ["type", "title", "status", "errors", "traceId"]);
        assert_eq!(problem["title"], "One or more validation errors occurred.");
        assert!(problem["errors"]["$"][0].is_string(), "{problem}");
    }
    let old = session.post("/executions", "2023-08-01-preview", &json!({"shellCommand": "ls"}));
    refused(&old, 400, "SessionRequestNotSupported");
    assert_eq!(old.json()["error"]["message"], "Shell execution is not supported in API version 2023-08-01-preview");
}

fn a_node_pool_runs_javascript(server: &Server) {
    if !has(server, "javascript") {
        return;
    }
    let pool = Pool::make(server, json!({"containerType": "NodeLTS", "scaleConfiguration": {"maxConcurrentSessions": 2}}));
    let session = Session::of(server, &pool.base(), "node");
    let old = |code: &str| session.post("/code/execute", OLD, &json!({"properties": {"code": code}})).json()["properties"].clone();
    let first = old("const x = 6; console.log('hi'); x * 7");
    assert_eq!((&first["status"], &first["stdout"], &first["result"]), (&json!("Success"), &json!("hi\n"), &json!(42)), "{first}");
    assert_eq!(old("x + 1")["result"], 7);
    assert_eq!(old("const x = 1")["status"], "Failure", "a name is declared once");
    assert_eq!(old("'abc'")["result"], "'abc'");
    let raised = old("throw new TypeError('seen')");
    assert!(raised["stderr"].as_str().is_some_and(|stderr| stderr.contains("TypeError: seen")), "{raised}");
    let response = session.post("/executions", LATEST, &json!({"code": "undefined"}));
    assert_eq!(response.json()["status"], "Succeeded", "{}", response.text());
    assert_eq!(response.header("x-ms-container-execution-duration"), None, "of Python only");
}

fn a_full_pool_is_429_with_advice(server: &Server) {
    let pool = Pool::make(server, json!({"scaleConfiguration": {"maxConcurrentSessions": 1}}));
    let (one, other) = (Session::of(server, &pool.base(), "full"), Session::of(server, &pool.base(), "full"));
    assert_eq!(one.run("1")["status"], "Succeeded");
    for response in [
        other.post("/executions", LATEST, &json!({"code": "1"})),
        other.get("/files", LATEST),
        other.upload("/files", LATEST, "x", b"x"),
    ] {
        assert_eq!(response.status, 429, "{}", response.text());
        let message = "The request sessions count is '1'. There are already '1' active sessions and the maximum active sessions count is '1'.";
        assert_eq!(response.json(), json!({"code": "SessionsCountExceedsLimit", "message": message}));
        assert_eq!(response.header("x-ms-error-code"), Some("SessionsCountExceedsLimit"));
        assert!(response.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok_and(|s| (1..=60).contains(&s))));
    }
    // An asynchronous one is told at once, too, and is not among the operations.
    let request = Request::new("POST", &other.target("/executions", LATEST)).header("operation-id", "denied-1");
    let denied = other.send(request.json(&json!({"code": "1", "executionType": "Asynchronous"})));
    assert_eq!(denied.status, 429, "{}", denied.text());
    assert_eq!(other.get("/executions/denied-1", LATEST).status, 404);
    assert_eq!(one.delete("/session", LATEST).status, 204);
    until(|| (other.post("/executions", LATEST, &json!({"code": "1"})).status == 200).then_some(()));
}
