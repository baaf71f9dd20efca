use greenroom_contract::{Request, Response, Server};
use serde_json::{Value, json};

use super::{LATEST, POOL, SESSIONS, Session, fresh, keys, refused, until};

crate::rows!(
    a_session_is_shown_and_ended,
    sessions_are_listed,
    a_session_is_managed,
    a_session_that_is_stopped_under_its_cell_is_canceled,
    looking_makes_no_session,
    what_sessions_are_made_of_is_told,
);

fn post(server: &Server, path: &str) -> Response {
    let separator = if path.contains('?') { '&' } else { '?' };
    let request = Request::new("POST", &format!("{POOL}{path}{separator}api-version={LATEST}"));
    server.send(&request).unwrap_or_else(|error| panic!("{error:#} for {path}"))
}

fn a_session_is_shown_and_ended(server: &Server) {
    let session = Session::new(server, "shown");
    assert_eq!(session.run("x = 1\nopen('f', 'w').close()")["status"], "Succeeded");
    let shown = session.get("/session", SESSIONS);
    assert_eq!(shown.status, 200, "{}", shown.text());
    let info = shown.json();
    assert_eq!(keys(&info), ["identifier", "createdAt", "lastAccessedAt", "expireAt", "etag"]);
    assert_eq!(info["identifier"], session.identifier.as_str());
    assert!(
        info["createdAt"].as_str() <= info["lastAccessedAt"].as_str()
            && info["lastAccessedAt"].as_str() < info["expireAt"].as_str(),
        "{info}"
    );
    let ended = session.delete("/session", SESSIONS);
    assert_eq!((ended.status, ended.body.len()), (204, 0));
    // The same identifier is a new, empty session, and its end was asked for: nothing is told.
    let response = session.post("/executions", SESSIONS, &json!({"code": "'x' in globals()"}));
    assert_eq!(
        (&response.json()["result"]["executionResult"], response.header("x-greenroom-session-ended")),
        (&json!("False"), None)
    );
    refused(&session.get("/files/f", SESSIONS), 404, "FileNotFound");
    assert_ne!(session.get("/session", SESSIONS).json()["etag"], info["etag"]);
}

fn sessions_are_listed(server: &Server) {
    let sessions = [Session::new(server, "listed"), Session::new(server, "listed")];
    for session in &sessions {
        assert_eq!(session.run("1")["status"], "Succeeded");
    }
    let has = |list: &Value, session: &Session<'_>| {
        list.as_array().is_some_and(|list| list.iter().any(|item| item["identifier"] == session.identifier.as_str()))
    };
    let data =
        server.send(&Request::new("GET", &format!("{POOL}/listSessions?api-version={SESSIONS}"))).map(|response| response.json());
    let data = data.unwrap_or_else(|error| panic!("{error:#}"));
    let managed = post(server, "/.management/listSessions?skip=0").json();
    for session in &sessions {
        assert!(has(&data["sessions"], session) && has(&managed["value"], session), "{data} {managed}");
    }
    assert_eq!(managed["count"].as_u64(), managed["value"].as_array().map(|all| all.len() as u64));
    assert_eq!(keys(&managed["value"][0]), ["identifier", "etag", "expiresAt", "createdAt", "lastAccessedAt"]);
    assert_eq!(post(server, "/.management/listSessions?skip=1000").json(), json!({"value": [], "count": 0}));
    refused(&post(server, "/.management/listSessions?skip=-1"), 400, "SessionRequestValidationFailed");
}

fn a_session_is_managed(server: &Server) {
    let session = Session::new(server, "managed");
    assert_eq!(session.run("1")["status"], "Succeeded");
    let shown = post(server, &format!("/.management/getSession?identifier={}", session.identifier));
    assert_eq!(shown.status, 200, "{}", shown.text());
    assert_eq!(keys(&shown.json()), ["identifier", "etag", "expiresAt", "createdAt", "lastAccessedAt"]);
    let stop = || post(server, &format!("/.management/stopSession?identifier={}", session.identifier));
    let stopped = stop();
    assert_eq!(stopped.status, 200, "{}", stopped.text());
    assert_eq!(stopped.text(), format!("Session '{}' in session pool 'default' stopped.", session.identifier));
    assert!(stopped.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{:?}", stopped.headers);
    refused(&stop(), 404, "SessionWithIdentifierNotFound");
    refused(
        &post(server, &format!("/.management/getSession?identifier={}", session.identifier)),
        400,
        "SessionWithIdentifierNotFound",
    );
}

/// The hostile catalogue's `delete-mid-run`.
fn a_session_that_is_stopped_under_its_cell_is_canceled(server: &Server) {
    let session = Session::new(server, "canceled");
    let code = "open('begun', 'w').close()\nimport time\ntime.sleep(100)";
    let begun = session.post("/executions", LATEST, &json!({"executionType": "Asynchronous", "code": code})).json();
    until(|| (session.get("/files/begun", LATEST).status == 200).then_some(()));
    assert_eq!(session.delete("/session", LATEST).status, 204);
    assert_eq!(session.delete("/session", LATEST).status, 204, "twice is once");
    let id = begun["id"].as_str().unwrap_or_default();
    let over = until(|| {
        let execution = session.get(&format!("/executions/{id}"), LATEST).json();
        (execution["status"] != "Running").then_some(execution)
    });
    assert_eq!((&over["status"], &over["error"]["code"]), (&json!("Canceled"), &json!("SessionEnded")), "{over}");
    assert_eq!(over["error"]["message"], "session ended: it was stopped");
}

fn looking_makes_no_session(server: &Server) {
    let identifier = fresh("nobody");
    let target = format!("{POOL}/session?api-version={SESSIONS}&identifier={identifier}");
    let shown = server.send(&Request::new("GET", &target)).unwrap_or_else(|error| panic!("{error:#}"));
    refused(&shown, 404, "NoSessionFoundError");
    assert_eq!(shown.json()["error"]["message"], format!("Could not find session with name '{identifier}'."));
    let list = post(server, "/.management/listSessions").text();
    assert!(!list.contains(&identifier), "{list}");
}

fn what_sessions_are_made_of_is_told(server: &Server) {
    let target = format!("{POOL}/metadata?api-version={SESSIONS}");
    let response = server.send(&Request::new("GET", &target)).unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(response.status, 200, "{}", response.text());
    let metadata = response.json();
    assert_eq!(keys(&metadata), ["runtimes", "preInstalledPackages", "createdAt", "lastUpdatedAt", "jupyterKernel"]);
    assert_eq!(keys(&metadata["jupyterKernel"]), ["name", "version", "projectUrl", "description"]);
    let session = Session::new(server, "metadata");
    let version = session.value("import platform\nplatform.python_version()");
    assert_eq!(format!("'{}'", metadata["runtimes"][0]["version"].as_str().unwrap_or("?")), version);
}
