//! Answers, and the one place where errors become statuses.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use greenroom_identity::Refusal;
use greenroom_wire::piston::{self, ErrorBody, Invalid};

use crate::{
    admission::Denied,
    body::{BUSY_RETRY_S, Unreadable},
};

/// Why a request has no ordinary answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error(transparent)]
    Plan(#[from] greenroom_runtimes::PlanError),
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("{}", .0.said())]
    Identity(#[from] Refusal),
    #[error(transparent)]
    Exec(#[from] greenroom_backends::ExecError),
    #[error("{1}")]
    Status(StatusCode, String),
}

impl Refused {
    pub(crate) fn not_found() -> Self {
        Self::Status(StatusCode::NOT_FOUND, piston::NOT_FOUND.to_owned())
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Refused::Unreadable(unreadable) => unreadable.status(),
            Refused::Invalid(_) | Refused::Plan(_) => StatusCode::BAD_REQUEST,
            Refused::Denied(Denied::Full { .. }) => StatusCode::TOO_MANY_REQUESTS,
            Refused::Denied(Denied::Draining { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            Refused::Identity(refusal) => status_of(refusal),
            // The server's own: a step of the sandbox, or the runner between two lives.
            Refused::Exec(_) => StatusCode::SERVICE_UNAVAILABLE,
            Refused::Status(status, _) => *status,
        }
    }

    /// The answer. What is our own fault is told to the log in full, and to the client by its kind only.
    pub(crate) fn reply(&self, request_id: &str) -> Response {
        let message = match self {
            Refused::Exec(error) => {
                tracing::error!(request_id, %error, "an execution failed");
                format!("the execution failed on our side; try again, and name request {request_id} if it goes on")
            }
            other => other.to_string(),
        };
        let mut response = json(self.status(), &ErrorBody::new(message));
        let retry_after = match self {
            Refused::Denied(Denied::Full { retry_after_s, .. } | Denied::Draining { retry_after_s }) => Some(*retry_after_s),
            Refused::Unreadable(Unreadable::Busy) => Some(BUSY_RETRY_S),
            Refused::Exec(_) => Some(1),
            _ => None,
        };
        if let Refused::Identity(refusal) = self {
            say_refused(refusal, response.headers_mut());
        }
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if matches!(self, Refused::Unreadable(unreadable) if unreadable.ends_connection()) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The status of a refusal.
pub(crate) fn status_of(refusal: &Refusal) -> StatusCode {
    StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::FORBIDDEN)
}

/// What every refusal's answer has in its headers, whatever its body: `WWW-Authenticate` and `Retry-After`.
pub(crate) fn say_refused(refusal: &Refusal, headers: &mut HeaderMap) {
    if let Some(value) = refusal.www_authenticate().and_then(|value| HeaderValue::from_str(&value).ok()) {
        headers.insert(header::WWW_AUTHENTICATE, value);
    }
    if let Some(seconds) = refusal.retry_after_s() {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            // Express tags whatever it sends.
            let etag = HeaderValue::from_str(&piston::etag(&bytes));
            let mut response = json_bytes(status, bytes.into());
            if let Ok(etag) = etag {
                response.headers_mut().insert(header::ETAG, etag);
            }
            response
        }
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// A JSON answer that is written already.
pub(crate) fn json_bytes(status: StatusCode, bytes: Bytes) -> Response {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(piston::JSON_CONTENT_TYPE));
    response
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// The answer to a GET whose bytes are known: with its entity tag, and 304 for who has it.
pub(crate) fn tagged(bytes: Bytes, etag: &str, asked: &HeaderMap) -> Response {
    let text = |name| asked.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let mut response = if piston::is_fresh(text(header::IF_NONE_MATCH), text(header::CACHE_CONTROL), etag) {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        json_bytes(StatusCode::OK, bytes)
    };
    if let Ok(etag) = HeaderValue::from_str(etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}
