use greenroom_contract::{Request, Response, Server};
use serde_json::json;

use super::{FIRST_NEW, LATEST, OLD, POOL, SESSIONS, Session, fresh, refused};

crate::rows!(
    an_unknown_pool_is_told_in_the_control_planes_envelope,
    a_version_is_required_and_none_is_refused,
    identifiers_are_checked_by_the_version,
    identifiers_are_not_paths,
    unknown_paths_and_methods_are_told_apart,
    bodies_are_checked,
    a_session_needs_an_identifier_on_every_path,
);

fn send(server: &Server, method: &str, target: &str) -> Response {
    let request = Request::new(method, target).json(&json!({"code": "1"}));
    server.send(&request).unwrap_or_else(|error| panic!("{error:#} for {target}"))
}

fn an_unknown_pool_is_told_in_the_control_planes_envelope(server: &Server) {
    let target = format!("/subscriptions/s/resourceGroups/rg/sessionPools/nope/executions?api-version={LATEST}&identifier=abcd");
    let response = send(server, "POST", &target);
    refused(&response, 404, "ResourceNotFound");
    let message = "The Resource 'Microsoft.App/sessionPools/nope' under resource group 'rg' was not found.";
    assert_eq!(response.json(), json!({"error": {"code": "ResourceNotFound", "message": message}}));
}

fn a_version_is_required_and_none_is_refused(server: &Server) {
    let session = Session::new(server, "version");
    let target = format!("{POOL}/executions?identifier={}", session.identifier);
    refused(&send(server, "POST", &target), 400, "SessionRequestValidationFailed");
    refused(&send(server, "POST", &format!("{target}&api-version=latest")), 400, "SessionRequestValidationFailed");
    for path in ["/executions", "/code/execute", "/python/execute"] {
        for version in ["2023-08-01-preview", OLD, FIRST_NEW, SESSIONS, LATEST, "2031-01-01"] {
            let response = send(server, "POST", &session.target(path, version));
            assert!(matches!(response.status, 200 | 202), "{path} {version}: {}", response.text());
        }
    }
}

fn identifiers_are_checked_by_the_version(server: &Server) {
    let ask = |identifier: &str, version: &str| {
        send(server, "POST", &format!("{POOL}/executions?api-version={version}&identifier={identifier}"))
    };
    refused(&ask("", LATEST), 400, "InvalidLengthOfSessionIdentifier");
    refused(&ask("abc", LATEST), 400, "InvalidLengthOfSessionIdentifier");
    refused(&ask(&"a".repeat(129), OLD), 400, "InvalidLengthOfSessionIdentifier");
    refused(&ask(&"a".repeat(257), FIRST_NEW), 400, "InvalidLengthOfSessionIdentifier");
    for wrong in ["a%20b%20c", "abc%5Cd", "abc%00d", "abc%0Ad", "%C3%A4%C3%B6%C3%BC%C3%9F", "abcd%2"] {
        refused(&ask(wrong, LATEST), 400, "SessionRequestValidationFailed");
    }
    let twice = format!("{POOL}/executions?api-version={LATEST}&identifier=abcd&identifier=abce");
    refused(&send(server, "POST", &twice), 400, "SessionRequestValidationFailed");
    // All characters of all versions, and what they decode to is answered.
    let identifier = fresh("all");
    let all = format!("{identifier}%7C%2D%26%5E%25%24%23%28%29%7B%7D%5B%5D%3B%3C%3E%3A%22%27%3F%2F%2E%2C%40%2A%2B%3D%21%7E%60");
    let response = ask(&all, LATEST);
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.json()["identifier"], format!("{identifier}|-&^%$#(){{}}[];<>:\"'?/.,@*+=!~`"));
    let stopped = server.send(&Request::new("DELETE", &format!("{POOL}/session?api-version={LATEST}&identifier={all}")));
    assert_eq!(stopped.map(|response| response.status).ok(), Some(204));
}

/// The hostile catalogue's `id-injection`.
fn identifiers_are_not_paths(server: &Server) {
    for identifier in ["..%2F..%2F..", "cgroup.procs", "memory.max", "a%2Fb%2Fc", "%27;DROP%2BTABLE%2Bpools;--"] {
        let target = |path: &str| format!("{POOL}{path}?api-version={LATEST}&identifier={identifier}");
        let response = send(server, "POST", &target("/executions"));
        assert_eq!(response.status, 200, "{identifier}: {}", response.text());
        let stopped = send(server, "DELETE", &target("/session"));
        assert_eq!(stopped.status, 204, "{identifier}");
    }
    let long = "a".repeat(10_000);
    refused(
        &send(server, "POST", &format!("{POOL}/executions?api-version={LATEST}&identifier={long}")),
        400,
        "InvalidLengthOfSessionIdentifier",
    );
}

fn unknown_paths_and_methods_are_told_apart(server: &Server) {
    let session = Session::new(server, "paths");
    for path in ["", "/", "/nothing", "/code", "/executions/a/b", "/.management/nothing"] {
        refused(&send(server, "POST", &session.target(path, LATEST)), 404, "NotFound");
    }
    for (method, path, allow) in
        [("GET", "/executions", "POST"), ("PUT", "/files/x", "GET, DELETE"), ("GET", "/.management/listSessions", "POST")]
    {
        let response = send(server, method, &session.target(path, LATEST));
        refused(&response, 405, "MethodNotAllowed");
        assert_eq!(response.header("allow"), Some(allow), "{method} {path}");
    }
    refused(&send(server, "GET", &session.target("/files/%zz", LATEST)), 400, "SessionRequestValidationFailed");
}

fn bodies_are_checked(server: &Server) {
    let session = Session::new(server, "bodies");
    let post = |body: Vec<u8>| {
        let request =
            Request::new("POST", &session.target("/executions", LATEST)).header("Content-Type", "application/json").body(body);
        session.send(request)
    };
    for body in ["{", "[]", "\"code\"", "nonsense", "{\"code\": 1}", "{\"code\": \"1\", \"timeoutInSeconds\": 1e309}"] {
        refused(&post(body.into()), 400, "SessionRequestValidationFailed");
    }
    refused(&post(b"[".repeat(1_000_000)), 400, "SessionRequestValidationFailed");
    refused(&post(Vec::new()), 400, "SessionPropertiesMissing");
    // Some clients label their JSON as something else, or not at all.
    let unlabelled =
        Request::new("POST", &session.target("/executions", LATEST)).header("Content-Type", "text/plain").body("{\"code\":\"1\"}");
    assert_eq!(session.send(unlabelled).status, 200);
}

fn a_session_needs_an_identifier_on_every_path(server: &Server) {
    for (method, path) in [
        ("POST", "/executions"),
        ("GET", "/files"),
        ("GET", "/session"),
        ("GET", "/executions/x"),
        ("POST", "/.management/stopSession"),
    ] {
        let response = send(server, method, &format!("{POOL}{path}?api-version={LATEST}"));
        refused(&response, 400, "SessionRequestValidationFailed");
    }
}
