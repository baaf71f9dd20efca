//! The one place where errors become Azure's answers.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use greenroom_backends::{FileError, SessionError};
use greenroom_identity::Refusal;
use greenroom_pool::{Denied, EndReason, PoolError};
use greenroom_wire::azure::{AzureError, PROBLEM_CONTENT_TYPE, PoolAddress};

use super::ERROR_CODE;
use crate::{
    body::{BUSY_RETRY_S, Unreadable},
    reply,
};

/// Why a call has no ordinary answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    Azure(#[from] AzureError),
    #[error("{}", .0.said())]
    Identity(#[from] Refusal),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Ours: told to the log in full, and to the caller by its request's id.
    #[error("{step}: {error}")]
    Internal { step: &'static str, error: String },
}

impl Refused {
    pub(super) fn draining() -> Self {
        AzureError::Unavailable { message: "the server is shutting down; try again in 1 s".to_owned(), retry_after_s: 1 }.into()
    }

    /// The pool gives no session.
    pub(super) fn of_pool(why: &greenroom_pool::Refused, address: &PoolAddress) -> Self {
        let no_pool = || AzureError::PoolNotFound { name: address.name.clone(), resource_group: address.resource_group.clone() };
        let denied = match why {
            greenroom_pool::Refused::NoSuchPool { .. } => return no_pool().into(),
            greenroom_pool::Refused::Denied(denied) => denied,
        };
        match denied {
            Denied::Full { active, max, retry_after_s } => {
                let active = u32::try_from(*active).unwrap_or(u32::MAX);
                AzureError::SessionsFull { active, max: *max, retry_after_s: *retry_after_s }
            }
            Denied::Busy { retry_after_s, .. } => AzureError::Busy { message: denied.to_string(), retry_after_s: *retry_after_s },
            Denied::CreateFailed { reason, retry_after_s } => {
                tracing::error!(reason, "no session could be made");
                let message = format!("no session could be made; try again in {retry_after_s} s");
                AzureError::Unavailable { message, retry_after_s: *retry_after_s }
            }
            Denied::TooSlow { retry_after_s, .. } => {
                AzureError::Unavailable { message: denied.to_string(), retry_after_s: *retry_after_s }
            }
            Denied::SessionEnded { .. } => AzureError::SessionEnded(denied.to_string()),
            Denied::Closed { reason: EndReason::PoolDeleted } => no_pool(),
            Denied::Closed { .. } => return Self::draining(),
        }
        .into()
    }

    /// The session did not take the call. `ended` is why the pool ended it, if it did.
    pub(super) fn of_session(error: &SessionError, ended: Option<EndReason>) -> Self {
        let reason = match error {
            SessionError::Ended(reason) => Some(*reason),
            SessionError::Gone => ended,
            SessionError::WrongKind(_) => return AzureError::NotSupported(error.to_string()).into(),
        };
        let reason = reason.map_or_else(|| "it was stopped".to_owned(), |reason| reason.to_string());
        AzureError::SessionEnded(format!("session ended: {reason}")).into()
    }

    /// An operation on the file `path` did not succeed.
    pub(super) fn of_file(error: FileError, path: &str) -> Self {
        let path = || path.to_owned();
        match error {
            FileError::NotFound | FileError::NotADirectory => AzureError::FileNotFound(path()),
            FileError::Path(_) => AzureError::FilePath { path: path(), reason: "it is not a path below /mnt/data" },
            FileError::IsADirectory | FileError::NotRegular => AzureError::NotAFile(path()),
            FileError::TooLarge => AzureError::TooLarge { limit: greenroom_backends::FILE_BYTES_MAX },
            FileError::Full => AzureError::NoSpace(path()),
            FileError::TooMany | FileError::Denied => AzureError::NotSupported(format!("the files cannot be shown: {error}")),
            FileError::Changed => {
                AzureError::Unavailable { message: "the file was changed meanwhile; try again".to_owned(), retry_after_s: 1 }
            }
            FileError::Ended => AzureError::SessionEnded("session ended in the middle of the call".to_owned()),
            FileError::Io { step, source } => return Self::Internal { step, error: source.to_string() },
        }
        .into()
    }

    /// The pools did not answer a question about themselves.
    pub(super) fn of_pools(error: PoolError, address: &PoolAddress) -> Self {
        match error {
            PoolError::NotFound { .. } => {
                AzureError::PoolNotFound { name: address.name.clone(), resource_group: address.resource_group.clone() }.into()
            }
            PoolError::Closed => Self::draining(),
            error => Self::Internal { step: "ask the pool", error: error.to_string() },
        }
    }

    /// As the format says it. What is ours goes to the log.
    pub(super) fn told(&self, request_id: &str) -> AzureError {
        match self {
            Refused::Azure(error) => error.clone(),
            Refused::Identity(refusal) => match refusal.status() {
                403 => AzureError::Forbidden(refusal.said()),
                429 => AzureError::Busy { message: refusal.said(), retry_after_s: refusal.retry_after_s().unwrap_or(1) },
                503 => AzureError::Unavailable { message: refusal.said(), retry_after_s: 1 },
                _ => AzureError::Unauthenticated(refusal.said()),
            },
            Refused::Unreadable(unreadable) => match unreadable.status() {
                StatusCode::PAYLOAD_TOO_LARGE => match unreadable {
                    Unreadable::Body(greenroom_wire::piston::BodyError::TooLarge { limit }) => {
                        AzureError::TooLarge { limit: *limit }
                    }
                    _ => AzureError::Body { status: 413, message: unreadable.to_string() },
                },
                StatusCode::TOO_MANY_REQUESTS => AzureError::Busy { message: unreadable.to_string(), retry_after_s: BUSY_RETRY_S },
                status => AzureError::Body { status: status.as_u16(), message: unreadable.to_string() },
            },
            Refused::Internal { step, error } => {
                tracing::error!(request_id, step, error, "a call of the data plane failed");
                AzureError::Internal { request: request_id.to_owned() }
            }
        }
    }

    /// The answer.
    pub(super) fn reply(&self, request_id: &str) -> Response {
        let error = self.told(request_id);
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = Response::new(Body::from(error.body(request_id).to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let content_type =
            if matches!(error, AzureError::Problem(_)) { PROBLEM_CONTENT_TYPE } else { greenroom_wire::piston::JSON_CONTENT_TYPE };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(ERROR_CODE, HeaderValue::from_static(error.code()));
        if let Some(seconds) = error.retry_after_s() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let AzureError::Method { allow } = error {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        match self {
            Refused::Identity(refusal) => reply::say_refused(refusal, headers),
            Refused::Unreadable(unreadable) if unreadable.ends_connection() => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}
