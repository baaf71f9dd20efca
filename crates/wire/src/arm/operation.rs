//! Operations that go on after their answer, and how a client asks for their end.
//!
//! Clients choose by the headers: `Azure-AsyncOperation` is polled for a status object and then the resource is fetched;
//! `Location` is polled until it answers anything but 202; with neither, the resource is fetched until its `provisioningState` is
//! final. `az` takes the first for 201 and the second for 202; azure-core takes them in this order.

use serde_json::{Value, json};

use super::api_version::ApiVersion;
use super::error::ArmError;
use super::path::OperationId;

/// Seconds a client is to wait. Not 0: azure-core takes that for no header at all, and waits for 30 s.
const RETRY_AFTER_S: &str = "1";

/// An answer: status, headers beside Content-Type, and the body where there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Names and values. The names' case is the service's.
    pub headers: Vec<(&'static str, String)>,
    /// JSON, to be sent as `application/json; charset=utf-8`.
    pub body: Option<Value>,
}

impl Response {
    /// 200: what was asked for; also the end of a PUT or PATCH that took no time. A resource's `provisioningState` must be
    /// final then, or clients go on polling it.
    pub fn ok(body: Value) -> Self {
        Self { status: 200, headers: Vec::new(), body: Some(body) }
    }

    /// 204: a DELETE of what is not there, or that took no time. (The SDK takes 200 for an error.)
    pub fn removed() -> Self {
        Self { status: 204, headers: Vec::new(), body: None }
    }

    /// A refusal, with the error's own headers.
    pub fn refused(error: &ArmError) -> Self {
        Self { status: error.status(), headers: error.headers(), body: Some(error.body()) }
    }
}

/// How far an operation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationState {
    /// It goes on.
    InProgress,
    /// It ended as it was meant to.
    Succeeded,
    /// It did not.
    Failed(ArmError),
}

impl OperationState {
    /// The word on the wire.
    pub fn as_str(&self) -> &'static str {
        match self {
            OperationState::InProgress => "InProgress",
            OperationState::Succeeded => "Succeeded",
            OperationState::Failed(_) => "Failed",
        }
    }
}

/// An operation on a pool. It has to be kept for some minutes after its end: `az` asks a second time even where the first
/// answer was final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its place.
    pub id: OperationId,
    /// How far it is.
    pub state: OperationState,
    /// When it began: RFC 3339, UTC.
    pub started_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
}

impl Operation {
    /// 201: a PUT makes a pool. `base` is the server's address as the client sees it, as `https://127.0.0.1:8443`; `body` is the
    /// resource as it is now. (A 201 without an address to poll ends `az` with an error.)
    pub fn creating(&self, base: &str, version: &ApiVersion, body: Value) -> Response {
        let headers = vec![self.status_header(base, version), retry_after()];
        Response { status: 201, headers, body: Some(body) }
    }

    /// 202: a PATCH, or a PUT of a pool that exists, goes on. The service sends no body.
    pub fn changing(&self, base: &str, version: &ApiVersion) -> Response {
        let headers = vec![self.result_header(base, version), self.status_header(base, version), retry_after()];
        Response { status: 202, headers, body: None }
    }

    /// 202: a DELETE goes on. `Location` alone: there is no resource to fetch at the end.
    pub fn removing(&self, base: &str, version: &ApiVersion) -> Response {
        Response { status: 202, headers: vec![self.result_header(base, version), retry_after()], body: None }
    }

    /// The answer to a poll of `sessionPoolOperationStatuses`: 200 whatever the state.
    pub fn status(&self) -> Response {
        let mut body = json!({
            "id": self.id.path("sessionPoolOperationStatuses"),
            "name": self.id.operation,
            "status": self.state.as_str(),
            "startTime": self.started_at,
        });
        if let Some(ended_at) = &self.ended_at {
            body["endTime"] = ended_at.as_str().into();
        }
        if let OperationState::Failed(error) = &self.state {
            body["error"] = error.detail();
        }
        // `az` sleeps before it asks again, and it always asks again.
        let retry = if self.state == OperationState::InProgress { retry_after() } else { ("Retry-After", "0".to_owned()) };
        Response { status: 200, headers: vec![retry], body: Some(body) }
    }

    /// The answer to a poll of `operationResults`: 202 while it goes on, then 200 and the resource, or 204 where `resource` is
    /// `None`, as after a DELETE, or the error that ended it.
    pub fn result(&self, base: &str, version: &ApiVersion, resource: Option<Value>) -> Response {
        match (&self.state, resource) {
            (OperationState::InProgress, _) => self.removing(base, version),
            (OperationState::Succeeded, Some(resource)) => Response::ok(resource),
            (OperationState::Succeeded, None) => Response::removed(),
            (OperationState::Failed(error), _) => Response::refused(error),
        }
    }

    fn status_header(&self, base: &str, version: &ApiVersion) -> (&'static str, String) {
        ("Azure-AsyncOperation", self.address(base, version, "sessionPoolOperationStatuses"))
    }

    fn result_header(&self, base: &str, version: &ApiVersion) -> (&'static str, String) {
        ("Location", self.address(base, version, "operationResults"))
    }

    /// The whole address: clients do not resolve a relative one.
    fn address(&self, base: &str, version: &ApiVersion, collection: &str) -> String {
        format!("{}{}?api-version={}", base.trim_end_matches('/'), self.id.path(collection), version.as_str())
    }
}

fn retry_after() -> (&'static str, String) {
    ("Retry-After", RETRY_AFTER_S.to_owned())
}

#[cfg(test)]
mod tests;
