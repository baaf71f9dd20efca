//! Piston's execution API, version 2, as a server of version 3.1.1 speaks it.
//!
//! In the order in which a request meets it: [`route`] and [`ContentType`] (is it ours, may it be read),
//! [`ContentType::read`] (bytes to JSON), [`ExecuteRequest::parse`] (checks 1 to 4), the caller's look-up of the runtime
//! (check 5), [`ExecuteRequest::finish`] (checks 6 to 9), and on the way back [`ExecuteResponse`]. The
//! WebSocket has its own [`Conversation`], with the same request in its `init` message.

mod body;
mod encoding;
mod envelope;
mod environment;
mod files;
mod invalid;
mod javascript;
mod listing;
mod request;
mod response;
mod text;
mod websocket;

pub use body::{BodyError, ContentType};
pub use envelope::{
    ErrorBody, JSON_CONTENT_TYPE, NOT_FOUND, REQUIRES_JSON, ROOT_MESSAGE, Route, Routed, etag, is_fresh, must_be_json, route,
};
pub use environment::{EnvironmentError, Ignored, LimitOverrides, PistonSettings, environment};
pub use files::SourceFile;
pub use invalid::{Field, Invalid};
pub use listing::{ALREADY_INSTALLED, PackageEntry, PackageReference, PackageRequest, RuntimeEntry};
pub use request::{ExecuteRequest, ResolvedRuntime, Submission};
pub use response::{ExecuteResponse, StageResult};
pub use text::Utf8Decoder;
pub use websocket::{ClientMessage, Close, Conversation, Refusal, ServerMessage, supported_signal};
