use greenroom_core::Blame;
use serde_json::{Value, json};

/// The Content-Type of [`AzureError::Problem`].
pub const PROBLEM_CONTENT_TYPE: &str = "application/problem+json; charset=utf-8";

/// Why a call of the data plane is refused. The text is the answer's `message`.
///
/// Codes are the service's where they are known (the contract, section 1.9); what has none there has one of ours in the same
/// style.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AzureError {
    /// A parameter or a field that cannot be what it is.
    #[error("{0}")]
    Validation(String),
    /// A segment of the path with a broken escape, or with escapes that are no UTF-8.
    #[error("the path segment '{}' is not percent-encoded UTF-8: write '%25' for a percent sign", shorten(.0))]
    Encoding(String),
    /// There is no code to execute.
    #[error("the execution properties are missing: 'code' is required")]
    PropertiesMissing,
    /// Understood, but not to be had of this pool.
    #[error("{0}")]
    NotSupported(String),
    /// Too short or too long for this version.
    #[error("The session identifier must have {min} to {max} characters.")]
    IdentifierLength {
        /// At least.
        min: usize,
        /// At most.
        max: usize,
    },
    /// A name or a directory that cannot be one.
    #[error("File Path '{}' is invalid because '{reason}'.", shorten(.path))]
    FilePath {
        /// As sent.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no such file, or it is none that can be read.
    #[error("File '{}' was not found.", shorten(.0))]
    FileNotFound(String),
    /// The session's disk, or its number of files, is used up.
    #[error("There is no space left in the session for '{}'.", shorten(.0))]
    NoSpace(String),
    /// A name that a program took for something else.
    #[error("File Path '{}' is invalid because 'it is not a regular file'.", shorten(.0))]
    NotAFile(String),
    /// No session of this identifier, where one is only looked at.
    #[error("Session with identifier '{}' was not found.", shorten(.0))]
    NoSession(String),
    /// No session of this identifier, where one is to be stopped.
    #[error("Session with identifier '{}' was not found.", shorten(.0))]
    NothingToStop(String),
    /// No session of this identifier, where it is the resource that is asked for.
    #[error("Could not find session with name '{}'.", shorten(.0))]
    SessionNotFound(String),
    /// No execution of this id under this identifier, or it ended too long ago.
    #[error("No execution available for operation Id: {}", shorten(.0))]
    NoExecution(String),
    /// An execution that its caller did not wait for; only in its `error`.
    #[error("the execution was interrupted: its client went away")]
    Interrupted,
    /// An execution whose output there was no room for; only in its `error`.
    #[error("what came of this execution is not kept any more")]
    ResultForgotten,
    /// A Shell request that is wrong in itself: ASP.NET's own answer.
    #[error("{0}")]
    Problem(&'static str),

    /// No pool of this name.
    #[error("The Resource 'Microsoft.App/sessionPools/{}' under resource group '{}' was not found.", shorten(.name), shorten(.resource_group))]
    PoolNotFound {
        /// As sent.
        name: String,
        /// As sent.
        resource_group: String,
    },
    /// Below a pool, but nothing that the API has.
    #[error("there is nothing at this path: see docs/azure-sessions.md for what is served")]
    NotFound,
    /// A known path, called with another method.
    #[error("the method is not allowed here: use {allow}")]
    Method {
        /// The value of the `Allow` header.
        allow: &'static str,
    },
    /// The pool has no MCP server.
    #[error("The session pool '{}' has no MCP server: enable it with properties.mcpServerSettings.isMCPServerEnabled.", shorten(.0))]
    McpNotEnabled(String),

    /// Nobody, or nobody who can be believed.
    #[error("{0}")]
    Unauthenticated(String),
    /// Somebody who may not.
    #[error("{0}")]
    Forbidden(String),

    /// The body, or an uploaded file, is larger than it may be.
    #[error("the request is larger than {limit} bytes")]
    TooLarge {
        /// Bytes.
        limit: u64,
    },
    /// The body cannot be read for another reason.
    #[error("{message}")]
    Body {
        /// 400 or 408.
        status: u16,
        /// What is wrong.
        message: String,
    },
    /// As many sessions as the pool may have belong to others.
    #[error(
        "The request sessions count is '1'. There are already '{active}' active sessions and the maximum active sessions count is '{max}'."
    )]
    SessionsFull {
        /// Sessions.
        active: u32,
        /// Sessions.
        max: u32,
        /// Advice, seconds.
        retry_after_s: u64,
    },
    /// More is going on than the server takes.
    #[error("{message}")]
    Busy {
        /// What there is too much of.
        message: String,
        /// Advice, seconds.
        retry_after_s: u64,
    },
    /// The session cannot be made or reached, or the server is going down. Worth another try.
    #[error("{message}")]
    Unavailable {
        /// As much as a caller may know.
        message: String,
        /// Advice, seconds.
        retry_after_s: u64,
    },
    /// The session ended in the middle of the call.
    #[error("{0}")]
    SessionEnded(String),
    /// An error of ours.
    #[error("an error of ours; name request {request} when you report it")]
    Internal {
        /// The request's id.
        request: String,
    },
}

impl AzureError {
    /// The `code` that programs go by, also in the header `x-ms-error-code`.
    pub fn code(&self) -> &'static str {
        match self {
            AzureError::Validation(_) | AzureError::Encoding(_) | AzureError::Problem(_) | AzureError::Body { .. } => {
                "SessionRequestValidationFailed"
            }
            AzureError::PropertiesMissing => "SessionPropertiesMissing",
            AzureError::NotSupported(_) => "SessionRequestNotSupported",
            AzureError::IdentifierLength { .. } => "InvalidLengthOfSessionIdentifier",
            AzureError::FilePath { .. } | AzureError::NotAFile(_) => "FilePathInvalid",
            AzureError::FileNotFound(_) => "FileNotFound",
            AzureError::NoSpace(_) => "InsufficientStorage",
            AzureError::NoSession(_) | AzureError::NothingToStop(_) => "SessionWithIdentifierNotFound",
            AzureError::SessionNotFound(_) => "NoSessionFoundError",
            AzureError::NoExecution(_) => "ExecutionNotFound",
            AzureError::Interrupted => "ExecutionCanceled",
            AzureError::ResultForgotten => "ExecutionResultExpired",
            AzureError::PoolNotFound { .. } => "ResourceNotFound",
            AzureError::NotFound => "NotFound",
            AzureError::Method { .. } => "MethodNotAllowed",
            AzureError::McpNotEnabled(_) => "SessionMCPServerNotEnabled",
            AzureError::Unauthenticated(_) => "Unauthorized",
            AzureError::Forbidden(_) => "Forbidden",
            AzureError::TooLarge { .. } => "RequestEntityTooLarge",
            AzureError::SessionsFull { .. } => "SessionsCountExceedsLimit",
            AzureError::Busy { .. } => "TooManyRequests",
            AzureError::Unavailable { .. } => "ServiceUnavailable",
            AzureError::SessionEnded(_) => "SessionEnded",
            AzureError::Internal { .. } => "InternalServerError",
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            AzureError::Unauthenticated(_) => 401,
            AzureError::Forbidden(_) => 403,
            AzureError::FileNotFound(_)
            | AzureError::NothingToStop(_)
            | AzureError::SessionNotFound(_)
            | AzureError::NoExecution(_)
            | AzureError::PoolNotFound { .. }
            | AzureError::NotFound => 404,
            AzureError::Method { .. } => 405,
            AzureError::TooLarge { .. } => 413,
            AzureError::SessionsFull { .. } | AzureError::Busy { .. } => 429,
            AzureError::Internal { .. } => 500,
            AzureError::Unavailable { .. } | AzureError::SessionEnded(_) => 503,
            AzureError::NoSpace(_) => 507,
            AzureError::Body { status, .. } => *status,
            _ => 400,
        }
    }

    /// Who caused it.
    pub fn blame(&self) -> Blame {
        match self {
            AzureError::Internal { .. } => Blame::Us,
            AzureError::Unavailable { .. } => Blame::Backend,
            AzureError::SessionEnded(_) => Blame::Program,
            _ => Blame::Caller,
        }
    }

    /// Seconds after which another try is worth it.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            AzureError::SessionsFull { retry_after_s, .. }
            | AzureError::Busy { retry_after_s, .. }
            | AzureError::Unavailable { retry_after_s, .. } => Some(*retry_after_s),
            AzureError::SessionEnded(_) => Some(1),
            _ => None,
        }
    }

    /// The answer's body. `trace_id` is the request's id.
    pub fn body(&self, trace_id: &str) -> Value {
        match self {
            // Flat, as recorded of the service's front end.
            AzureError::SessionsFull { .. } => json!({"code": self.code(), "message": self.to_string()}),
            AzureError::Problem(error) => json!({
                "type": "https://tools.ietf.org/html/rfc9110#section-15.5.1",
                "title": "One or more validation errors occurred.",
                "status": self.status(),
                "errors": {"$": [error]},
                "traceId": trace_id,
            }),
            // The control plane's envelope, which knows no trace.
            AzureError::PoolNotFound { .. } => json!({"error": self.detail()}),
            _ => {
                let mut detail = self.detail();
                if let Some(detail) = detail.as_object_mut() {
                    detail.insert("traceId".to_owned(), trace_id.into());
                }
                json!({"error": detail})
            }
        }
    }

    /// Code and message alone, as they stand in an execution's `error`.
    pub fn detail(&self) -> Value {
        json!({"code": self.code(), "message": self.to_string()})
    }
}

/// What a client sent, short enough for a message.
fn shorten(given: &str) -> String {
    const LONGEST: usize = 80;
    match given.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &given[..end]),
        None => given.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_services_envelope_and_codes() {
        let error =
            AzureError::FilePath { path: "/.ade/bin".into(), reason: "path cannot contain any reserved file path characters" };
        assert_eq!((error.status(), error.code()), (400, "FilePathInvalid"));
        assert_eq!(
            error.body("t-1"),
            json!({"error": {
                "code": "FilePathInvalid",
                "message": "File Path '/.ade/bin' is invalid because 'path cannot contain any reserved file path characters'.",
                "traceId": "t-1",
            }})
        );
        let missing = AzureError::NoExecution("8148371f".into());
        assert_eq!((missing.status(), missing.to_string().as_str()), (404, "No execution available for operation Id: 8148371f"));
    }

    #[test]
    fn a_full_pool_is_told_flat() {
        let error = AzureError::SessionsFull { active: 10, max: 10, retry_after_s: 7 };
        assert_eq!((error.status(), error.retry_after_s()), (429, Some(7)));
        let message = "The request sessions count is '1'. There are already '10' active sessions and the maximum active sessions count is '10'.";
        assert_eq!(error.body("t-1"), json!({"code": "SessionsCountExceedsLimit", "message": message}));
    }

    #[test]
    fn an_unknown_pool_is_told_as_the_control_plane_does() {
        let error = AzureError::PoolNotFound { name: "nope".into(), resource_group: "rg".into() };
        let message = "The Resource 'Microsoft.App/sessionPools/nope' under resource group 'rg' was not found.";
        assert_eq!(error.body("t-1"), json!({"error": {"code": "ResourceNotFound", "message": message}}));
    }

    #[test]
    fn what_a_client_sent_is_shortened_in_a_message() {
        let error = AzureError::FileNotFound("ä".repeat(1000));
        assert_eq!(error.to_string().chars().count(), "File '' was not found.".len() + 81);
    }

    #[test]
    fn looking_for_a_session_is_400_and_stopping_none_is_404() {
        let (get, stop) = (AzureError::NoSession("abcd".into()), AzureError::NothingToStop("abcd".into()));
        assert_eq!((get.status(), stop.status(), get.code() == stop.code()), (400, 404, true));
    }
}
