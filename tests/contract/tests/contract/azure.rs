//! Azure's dynamic sessions, row by row: sections 1.2 to 1.9 of the contract, against a running server and its pool `default`.

pub(crate) mod execution;
pub(crate) mod files;
pub(crate) mod mcp;
pub(crate) mod pools;
pub(crate) mod refusal;
pub(crate) mod session;

use std::sync::atomic::{AtomicU32, Ordering};

use greenroom_contract::{Request, Response, Server};
use serde_json::{Value, json};

pub(crate) const OLD: &str = "2024-02-02-preview";
pub(crate) const FIRST_NEW: &str = "2024-10-02-preview";
pub(crate) const SESSIONS: &str = "2025-02-02-preview";
pub(crate) const LATEST: &str = "2025-10-02-preview";
pub(crate) const POOL: &str = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/sessionPools/default";

/// An identifier that nobody else has.
pub(crate) fn fresh(name: &str) -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed))
}

/// A session of the suite's own; it is stopped when its row is over, so that the pool has room for the next.
pub(crate) struct Session<'a> {
    pub(crate) server: &'a Server,
    pub(crate) identifier: String,
    /// The pool's base.
    pub(crate) base: String,
}

impl<'a> Session<'a> {
    pub(crate) fn new(server: &'a Server, name: &str) -> Self {
        Self::of(server, POOL, name)
    }

    pub(crate) fn of(server: &'a Server, base: &str, name: &str) -> Self {
        Self { server, identifier: fresh(name), base: base.to_owned() }
    }

    /// The address of a path, with version and identifier.
    pub(crate) fn target(&self, path: &str, version: &str) -> String {
        let separator = if path.contains('?') { '&' } else { '?' };
        format!("{}{path}{separator}api-version={version}&identifier={}", self.base, self.identifier)
    }

    pub(crate) fn send(&self, request: Request) -> Response {
        self.server.send(&request).unwrap_or_else(|error| panic!("{error:#} for {request:?}"))
    }

    pub(crate) fn get(&self, path: &str, version: &str) -> Response {
        self.send(Request::new("GET", &self.target(path, version)))
    }

    pub(crate) fn delete(&self, path: &str, version: &str) -> Response {
        self.send(Request::new("DELETE", &self.target(path, version)))
    }

    pub(crate) fn post(&self, path: &str, version: &str, body: &Value) -> Response {
        self.send(Request::new("POST", &self.target(path, version)).json(body))
    }

    /// Runs a cell in the old shape; gives back its properties.
    pub(crate) fn old(&self, code: &str) -> Value {
        let body = json!({"properties": {"codeInputType": "inline", "executionType": "synchronous", "code": code}});
        let response = self.post("/code/execute", OLD, &body);
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["properties"].clone()
    }

    /// Runs a cell in the new shape; gives back the execution.
    pub(crate) fn run(&self, code: &str) -> Value {
        let response = self.post("/executions", SESSIONS, &json!({"code": code}));
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    }

    /// The value of a cell's last expression.
    pub(crate) fn value(&self, code: &str) -> Value {
        let execution = self.run(code);
        assert_eq!(execution["status"], "Succeeded", "{execution}");
        execution["result"]["executionResult"].clone()
    }

    /// Uploads a file as most clients do.
    pub(crate) fn upload(&self, path: &str, version: &str, name: &str, content: &[u8]) -> Response {
        let body = multipart(name, content);
        self.send(Request::new("POST", &self.target(path, version)).header("Content-Type", MULTIPART).body(body))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // A row that failed has said so already.
        drop(self.server.send(&Request::new("DELETE", &self.target("/session", SESSIONS))));
    }
}

pub(crate) const MULTIPART: &str = "multipart/form-data; boundary=the-boundary";

pub(crate) fn multipart(name: &str, content: &[u8]) -> Vec<u8> {
    let head = format!(
        "--the-boundary\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
    );
    [head.as_bytes(), content, b"\r\n--the-boundary--\r\n"].concat()
}

/// An error in the service's envelope.
pub(crate) fn refused(response: &Response, status: u16, code: &str) {
    assert_eq!(response.status, status, "{}", response.text());
    let body = response.json();
    assert_eq!(body["error"]["code"], code, "{body}");
    assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    assert_eq!(response.header("x-ms-error-code"), Some(code), "{:?}", response.headers);
}

pub(crate) fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// Asks until it is so: what goes on beside an answer takes its time.
pub(crate) fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1000 {
        if let Some(found) = ask() {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("it did not come to be within 20 s");
}
