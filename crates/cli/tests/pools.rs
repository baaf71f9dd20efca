//! Pools from the command line and over the control plane, by the real binary.
//!
//! A server needs the isolation that this user has by default. Where it cannot be had these tests say so and pass, except
//! with `GREENROOM_MUST_WORK=1`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const POOL: &str = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.App/sessionPools/kept?api-version=2025-07-01";
const PATIENCE: Duration = Duration::from_secs(60);

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("GREENROOM_") || name.starts_with("PISTON_") || name == "PORT" {
            command.env_remove(&*name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A server that does not outlive its test.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    /// `None`: none can be had here, which has been said.
    fn start(data: &Path) -> Option<Self> {
        Self::start_with(data, &[])
    }

    fn start_with(data: &Path, arguments: &[&str]) -> Option<Self> {
        let mut command = command(&["serve", "--listen", "127.0.0.1:0", "--set", "pools.default.ready_sessions=0", "--data-dir"]);
        let mut process = command.arg(data).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        if let Some(address) = line.split("http://").nth(1).and_then(|rest| rest.split(' ').next()) {
            // Nobody reads the log, and nothing may depend on that.
            drop(process.stderr.take());
            return Some(Self { process, address: address.to_owned() });
        }
        let mut why = String::new();
        process.stderr.take().unwrap().read_to_string(&mut why).unwrap();
        process.wait().unwrap();
        assert_ne!(std::env::var("GREENROOM_MUST_WORK").as_deref(), Ok("1"), "{why}");
        eprintln!("skipped: {why}");
        None
    }

    fn pool(&self, arguments: &[&str]) -> Output {
        let server = format!("http://{}", self.address);
        command(&[&["pool"], arguments, &["--server", &server]].concat()).output().unwrap()
    }

    /// What a command prints as JSON.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.pool(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What a command that fails says.
    fn failure(&self, arguments: &[&str]) -> String {
        let output = self.pool(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap().trim().to_owned()
    }

    /// Status and body. The host is not the server's: addresses in answers do not depend on its port then.
    fn http(&self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        self.http_as("", method, target, body)
    }

    /// With a key, unless it is empty.
    fn http_as(&self, key: &str, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let header = if key.is_empty() { String::new() } else { format!("x-api-key: {key}\r\n") };
        self.http_with(&header, method, target, body)
    }

    /// With these header lines.
    fn http_with(&self, headers: &str, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let mut connection = TcpStream::connect(&self.address).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let length = body.len();
        write!(
            connection,
            "{method} {target} HTTP/1.1\r\nHost: greenroom\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    fn end(mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            // A test failed: what it says counts.
            drop(self.process.kill());
            drop(self.process.wait());
        }
    }
}

#[test]
fn pools_are_made_changed_shown_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(directory.path()) else { return };
    let made = server.json(&["create", "-n", "numbers", "-g", "any", "--max-sessions", "3", "--cooldown-period", "60"]);
    assert_eq!((&made["max_sessions"], &made["ready_sessions"], &made["kind"]), (&json!(3), &json!(3), &json!("PythonLTS")));
    assert_eq!(made["lifecycle"], json!({"type": "Timed", "cooldown_s": 60}));
    assert!(server.failure(&["create", "-n", "numbers"]).ends_with("there is a pool \"numbers\" already"));
    let changed = server.json(&["update", "-n", "numbers", "--ready-sessions", "1", "--limit", "memory_bytes=268435456"]);
    assert_eq!((&changed["ready_sessions"], &changed["limits"]["memory_bytes"]), (&json!(1), &json!(268_435_456)));
    assert_eq!(changed["limits"]["processes"], made["limits"]["processes"]);
    let exit = server.json(&["update", "-n", "numbers", "--max-alive-period", "90"]);
    assert_eq!(exit["lifecycle"], json!({"type": "OnContainerExit", "max_alive_s": 90}));
    let names: Vec<_> = server.json(&["list"]).as_array().unwrap().iter().map(|pool| pool["name"].clone()).collect();
    assert_eq!(names, ["default", "numbers"]);
    let text = String::from_utf8(server.pool(&["show", "-n", "numbers"]).stdout).unwrap();
    assert!(text.contains("lifecycle   OnContainerExit, 90 s at most"), "{text}");
    server.json(&["delete", "-n", "numbers", "--yes"]);
    assert!(server.failure(&["show", "-n", "numbers"]).ends_with("there is no pool \"numbers\""));
    server.end(Signal::TERM);
}

#[test]
fn a_pool_has_a_network_where_the_host_has_one() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(directory.path()) else { return };
    let create = ["create", "-n", "abroad", "--ready-sessions", "0", "--network-status", "EgressEnabled"];
    let made = server.pool(&create);
    let said = String::from_utf8_lossy(&[made.stdout, made.stderr].concat()).into_owned();
    if made.status.success() {
        assert_eq!(server.json(&["show", "-n", "abroad"])["network"], "Enabled");
        let shown = server.pool(&["show", "-n", "abroad"]);
        assert!(String::from_utf8_lossy(&shown.stdout).contains("EgressEnabled"));
        assert_eq!(server.json(&["update", "-n", "abroad", "--network-status", "EgressDisabled"])["network"], "Disabled");
    } else {
        assert!(said.contains("the sessions of this server have no network ("), "{said}");
        assert!(server.failure(&["update", "-n", "default", "--network-status", "EgressEnabled"]).contains("have no network ("));
    }
    server.end(Signal::TERM);
}

#[test]
fn a_session_is_listed_and_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(directory.path()) else { return };
    let target = "/subscriptions/s/resourceGroups/g/sessionPools/default/code/execute?api-version=2024-02-02-preview&identifier=who%26what%231";
    let (status, answer) = server.http("POST", target, &json!({"properties": {"code": "40 + 2"}}));
    if status == 500 || status == 503 {
        // Without Python there is no session to look at.
        assert_ne!(std::env::var("GREENROOM_MUST_WORK").as_deref(), Ok("1"), "{answer}");
        eprintln!("skipped: {answer}");
        return;
    }
    assert_eq!(answer["properties"]["result"], 42);
    let sessions = server.json(&["sessions", "-n", "default"]);
    assert_eq!((&sessions[0]["identifier"], &sessions[0]["state"]), (&json!("who&what#1"), &json!("idle")));
    server.json(&["stop", "-n", "default", "--identifier", "who&what#1"]);
    assert!(
        server
            .failure(&["stop", "-n", "default", "-i", "who&what#1"])
            .ends_with("there is no session \"who&what#1\" in pool \"default\"")
    );
    server.end(Signal::TERM);
}

#[test]
fn what_a_client_of_azure_made_is_the_same_after_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let Some(first) = Server::start(directory.path()) else { return };
    let body = json!({
        "location": "East US", "tags": {"z": "1", "a": "2"}, "identity": {"type": "SystemAssigned"},
        "properties": {
            "containerType": "PythonLTS", "scaleConfiguration": {"maxConcurrentSessions": 4, "readySessionInstances": 0},
            "secrets": [{"name": "token", "value": "s3cr3t"}], "mcpServerSettings": {"isMCPServerEnabled": true},
        },
    });
    let (status, made) = first.http("PUT", POOL, &body);
    assert_eq!(status, 201, "{made}");
    let start = Instant::now();
    let before = loop {
        let (_, shown) = first.http("GET", POOL, &Value::Null);
        if shown["properties"]["provisioningState"] != "InProgress" {
            break shown;
        }
        assert!(start.elapsed() < PATIENCE, "{shown}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(before["tags"].to_string(), r#"{"z":"1","a":"2"}"#);
    let credentials = POOL.replace('?', "/fetchMCPServerCredentials?");
    let key = first.http("POST", &credentials, &Value::Null);
    assert_eq!(key.0, 200, "{}", key.1);
    first.end(Signal::KILL);

    let Some(second) = Server::start(directory.path()) else { panic!("a second server does not start") };
    assert_eq!(second.http("GET", POOL, &Value::Null), (200, before));
    assert_eq!(second.http("POST", &credentials, &Value::Null), key);
    let mut stored = Vec::new();
    for file in ["greenroom.db", "greenroom.db-wal"] {
        stored.extend(std::fs::read(directory.path().join(file)).unwrap_or_default());
    }
    let has = |text: &str| stored.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("East US") && !has("s3cr3t"));
    second.end(Signal::TERM);
}

#[test]
fn an_execution_that_a_killed_server_had_begun_is_canceled_and_one_that_never_was_is_unknown() {
    let directory = tempfile::tempdir().unwrap();
    let Some(first) = Server::start(directory.path()) else { return };
    let at = |rest: &str, identifier: &str| {
        format!(
            "/subscriptions/s/resourceGroups/g/sessionPools/default/executions{rest}?api-version=2025-02-02-preview&identifier={identifier}"
        )
    };
    let body = json!({"codeInputType": "Inline", "executionType": "Asynchronous", "code": "import time; time.sleep(60)"});
    let (status, begun) = first.http("POST", &at("", "abcd"), &body);
    if status == 500 || status == 503 {
        // Without Python there is no session that could run it.
        assert_ne!(std::env::var("GREENROOM_MUST_WORK").as_deref(), Ok("1"), "{begun}");
        eprintln!("skipped: {begun}");
        return;
    }
    assert_eq!(begun["status"], "Running", "{begun}");
    let id = format!("/{}", begun["id"].as_str().unwrap());
    // The store's thread has long noted it when this is answered.
    assert_eq!(first.http("GET", &at(&id, "abcd"), &Value::Null).1["status"], "Running");
    first.json(&["list"]);
    first.end(Signal::KILL);
    let Some(second) = Server::start(directory.path()) else { panic!("a second server does not start") };
    let (status, lost) = second.http("GET", &at(&id, "abcd"), &Value::Null);
    assert_eq!((status, &lost["status"], &lost["error"]["code"]), (200, &json!("Canceled"), &json!("SessionEnded")), "{lost}");
    assert_eq!(lost["error"]["message"], "session ended: the server was restarted");
    assert_eq!(lost["result"]["stderr"], "session ended: the server was restarted");
    for (id, identifier) in [(id.as_str(), "abce"), ("/another", "abcd")] {
        let (status, unknown) = second.http("GET", &at(id, identifier), &Value::Null);
        assert_eq!((status, &unknown["error"]["code"]), (404, &json!("ExecutionNotFound")), "{unknown}");
    }
    second.end(Signal::TERM);
}

#[test]
fn what_came_of_an_execution_is_told_after_kill_9_and_its_id_runs_nothing_again() {
    let directory = tempfile::tempdir().unwrap();
    let Some(first) = Server::start(directory.path()) else { return };
    let at = |rest: &str| {
        format!("/subscriptions/s/resourceGroups/g/sessionPools/default{rest}?api-version=2025-02-02-preview&identifier=abcd")
    };
    let post = |server: &Server, id: &str, body: &Value| {
        server.http_with(&format!("operation-id: {id}\r\n"), "POST", &at("/executions"), body)
    };
    let get = |server: &Server, id: &str| server.http("GET", &at(&format!("/executions/{id}")), &Value::Null);
    let beside = json!({"executionType": "Asynchronous", "code": "print('done', flush=True)\n6 * 7"});
    let waited = json!({"code": "print('out')\n1/0"});
    let asleep = json!({"executionType": "Asynchronous", "code": "import time; time.sleep(60)"});
    let (status, begun) = post(&first, "op-beside", &beside);
    if status == 500 || status == 503 {
        // Without Python there is no session that could run it.
        assert_ne!(std::env::var("GREENROOM_MUST_WORK").as_deref(), Ok("1"), "{begun}");
        eprintln!("skipped: {begun}");
        return;
    }
    let start = Instant::now();
    let done = loop {
        let (status, shown) = get(&first, "op-beside");
        if shown["status"] != "Running" {
            assert_eq!((status, &shown["status"]), (200, &json!("Succeeded")), "{shown}");
            break shown;
        }
        assert!(start.elapsed() < PATIENCE, "{shown}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!((&done["result"]["stdout"], &done["result"]["executionResult"]), (&json!("done\n"), &json!(42)));
    let (status, failed) = post(&first, "op-waited", &waited);
    assert_eq!((status, &failed["status"]), (200, &json!("Failed")), "{failed}");
    let (_, brief) = first.http("POST", &at("/executions"), &json!({"code": "1"}));
    assert_eq!(post(&first, "op-asleep", &asleep).1["status"], "Running");
    first.end(Signal::KILL);

    let Some(second) = Server::start(directory.path()) else { panic!("a second server does not start") };
    let unknown = get(&second, brief["id"].as_str().unwrap());
    assert_eq!((unknown.0, &unknown.1["error"]["code"]), (404, &json!("ExecutionNotFound")), "it wrote nothing");
    assert_eq!(get(&second, "op-beside"), (200, done.clone()));
    assert_eq!(post(&second, "op-beside", &beside), (200, done.clone()));
    assert_eq!(post(&second, "op-waited", &waited), (200, failed));
    let (status, lost) = post(&second, "op-asleep", &asleep);
    assert_eq!((status, &lost["status"], &lost["error"]["code"]), (200, &json!("Canceled"), &json!("SessionEnded")), "{lost}");
    for other in [
        json!({"executionType": "Asynchronous", "code": "print('done', flush=True)\n6 * 8"}),
        json!({"executionType": "Synchronous", "code": "print('done', flush=True)\n6 * 7"}),
    ] {
        let (status, refused) = post(&second, "op-beside", &other);
        assert_eq!((status, &refused["error"]["code"]), (400, &json!("SessionRequestValidationFailed")), "{refused}");
    }
    assert_eq!(second.json(&["sessions", "-n", "default"]), json!([]), "nothing ran");
    assert_eq!(get(&second, "op-beside"), (200, done), "and the first is as it was");
    second.end(Signal::TERM);
}

#[test]
fn an_execution_that_a_stopping_server_cut_short_says_so_and_one_whose_outcome_is_not_kept_any_more_still_runs_once() {
    let directory = tempfile::tempdir().unwrap();
    let Some(first) = Server::start_with(directory.path(), &["--set", "admission.drain_ms=0"]) else { return };
    let at = |rest: &str| {
        format!(
            "/subscriptions/s/resourceGroups/g/sessionPools/default/executions{rest}?api-version=2025-02-02-preview&identifier=abcd"
        )
    };
    let post = |server: &Server, id: &str, code: &str| {
        let body = json!({"executionType": "Asynchronous", "code": code});
        server.http_with(&format!("operation-id: {id}\r\n"), "POST", &at(""), &body)
    };
    let get = |server: &Server, id: &str| server.http("GET", &at(&format!("/{id}")), &Value::Null).1;
    let (status, begun) = post(&first, "done", "print('done')");
    if status == 500 || status == 503 {
        // Without Python there is no session that could run it.
        assert_ne!(std::env::var("GREENROOM_MUST_WORK").as_deref(), Ok("1"), "{begun}");
        eprintln!("skipped: {begun}");
        return;
    }
    let asleep = "import time; time.sleep(60)";
    for (id, code) in [("asleep", asleep), ("behind", "1")] {
        assert_eq!(post(&first, id, code).1["status"], "Running", "{id}");
    }
    assert_eq!(get(&first, "done")["result"]["stdout"], "done\n");
    first.end(Signal::TERM);

    let Some(second) = Server::start(directory.path()) else { panic!("a second server does not start") };
    for (id, code) in [("asleep", asleep), ("behind", "1")] {
        let (status, cut) = post(&second, id, code);
        assert_eq!((status, &cut["status"], &cut["error"]["code"]), (200, &json!("Canceled"), &json!("SessionEnded")), "{cut}");
        assert_eq!(cut["error"]["message"], "session ended: the server shut down");
    }
    second.end(Signal::TERM);

    let Some(third) = Server::start_with(directory.path(), &["--set", "results.keep_bytes=1"]) else {
        panic!("a third server does not start")
    };
    let start = Instant::now();
    while get(&third, "done")["error"]["code"] != "ExecutionResultExpired" {
        assert!(start.elapsed() < PATIENCE, "{}", get(&third, "done"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let (status, again) = post(&third, "done", "print('done')");
    assert_eq!((status, &again["status"]), (200, &json!("Succeeded")), "{again}");
    assert_eq!(third.json(&["sessions", "-n", "default"]), json!([]), "nothing ran");
    third.end(Signal::TERM);
}

#[test]
fn an_execution_that_cannot_be_kept_is_not_begun() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(directory.path()) else { return };
    let target = "/subscriptions/s/resourceGroups/g/sessionPools/default/executions?api-version=2025-02-02-preview&identifier=abcd";
    let run = |headers: &str| server.http_with(headers, "POST", target, &json!({"code": "ran = globals().get('ran', 0) + 1\nran"}));
    let (status, first) = run("");
    if status == 500 || status == 503 {
        // Without Python there is no session that could run it.
        assert_ne!(std::env::var("GREENROOM_MUST_WORK").as_deref(), Ok("1"), "{first}");
        eprintln!("skipped: {first}");
        return;
    }
    assert_eq!(first["result"]["executionResult"], 1);
    // Whoever has the file to write keeps all others from it, as a full disk does.
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN IMMEDIATE'); print(flush=True); input()";
    let mut holder = Command::new("python3");
    holder.args(["-c", script]).arg(directory.path().join("greenroom.db")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = holder.spawn().unwrap();
    BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    let (status, refused) = run("operation-id: kept\r\n");
    assert_eq!((status, &refused["error"]["code"]), (503, &json!("ServiceUnavailable")), "{refused}");
    assert_eq!(run("").1["result"]["executionResult"], 2, "what is not kept needs no file");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(run("operation-id: kept\r\n").1["result"]["executionResult"], 3);
    server.end(Signal::TERM);
}

#[test]
fn the_control_plane_is_open_to_those_who_manage_and_shows_each_what_is_his() {
    let directory = tempfile::tempdir().unwrap();
    let key = |arguments: &[&str]| {
        let mut command = command(&[&["keys", "create", "--name"], arguments].concat());
        let output = command.arg("--data-dir").arg(directory.path()).output().unwrap();
        let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        printed.split_whitespace().find(|word| word.starts_with("gr_")).unwrap_or_else(|| panic!("{printed}")).to_owned()
    };
    let (everything, one) = (key(&["all", "--scope", "manage"]), key(&["one", "--scope", "manage", "--pool", "mine"]));
    let runs = key(&["runs", "--scope", "execute"]);
    let Some(server) = Server::start_with(directory.path(), &["--set", "identity.mode=keys"]) else { return };
    let group = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.App/sessionPools";
    let code = |answer: (u16, Value)| (answer.0, answer.1["error"]["code"].as_str().unwrap_or_default().to_owned());
    let body = json!({"location": "eastus", "properties": {"scaleConfiguration": {"readySessionInstances": 0}}});
    let mine = format!("{group}/mine");

    assert_eq!(code(server.http("GET", &mine, &Value::Null)), (401, "AuthenticationFailed".to_owned()));
    assert_eq!(code(server.http_as(&runs, "PUT", &mine, &body)), (403, "AuthorizationFailed".to_owned()));
    assert_eq!(code(server.http_as(&one, "PUT", &mine, &body)), (403, "AuthorizationFailed".to_owned()), "making pools is for all");
    let (status, made) = server.http_as(&everything, "PUT", &mine, &body);
    assert_eq!((status, &made["systemData"]["createdBy"]), (201, &json!("all")), "{made}");
    let tags = json!({"tags": {"a": "b"}});
    assert_eq!(server.http_as(&one, "PATCH", &mine, &tags).0, 200);
    assert_eq!(code(server.http_as(&one, "PATCH", &format!("{group}/default"), &tags)), (403, "AuthorizationFailed".to_owned()));
    assert_eq!(code(server.http_as(&runs, "GET", &mine, &Value::Null)), (403, "AuthorizationFailed".to_owned()));
    let names = |key: &str| {
        let (_, listed) = server.http_as(key, "GET", group, &Value::Null);
        listed["value"].as_array().unwrap().iter().map(|pool| pool["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((names(&everything), names(&one)), (vec!["default".to_owned(), "mine".to_owned()], vec!["mine".to_owned()]));

    assert_eq!(server.http_as(&runs, "GET", "/subscriptions", &Value::Null).0, 200, "whoever is known may log in");
    assert_eq!(server.http("GET", "/subscriptions", &Value::Null).0, 401);
    assert_eq!(server.http("GET", "/metadata/endpoints", &Value::Null).0, 200);

    assert!(server.failure(&["list"]).contains("give a key with --key or GREENROOM_KEY"));
    assert!(server.failure(&["show", "-n", "default", "--key", &one]).contains("you may not manage here"));
    assert_eq!(server.json(&["list", "--key", &one]).as_array().unwrap().len(), 1);
    server.end(Signal::TERM);
}

#[test]
fn what_goes_wrong_is_said_with_what_to_do() {
    // Bound and never listening: nobody else gets the port, and nobody answers there.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", socket.local_addr().unwrap());
    for (arguments, said) in [
        (&["list", "--server", &nobody][..], "start one (greenroom serve), or name another with --server"),
        (&["list", "--server", "127.0.0.1"], "expected a URL as http://127.0.0.1:2000"),
        (&["create", "-n", "x", "--limit", "memory=1"], "--limit memory: there is no such limit"),
        (&["create", "-n", "abc", "--container-type", "CustomContainer"], "this server runs no container images"),
        (&["create", "-n", "abc", "--network-status", "on"], "use EgressDisabled or EgressEnabled"),
        (&["update", "-n", "abc"], "nothing to change"),
    ] {
        let output = command(&[&["pool"], arguments].concat()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && stderr.contains(said), "{arguments:?}: {stderr}");
    }
}
