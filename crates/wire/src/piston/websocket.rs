use greenroom_core::{StageKind, StageOutcome, Stream, signal};
use serde::Serialize;
use serde_json::Value;

use super::body;
use super::invalid::Invalid;
use super::javascript;
use super::request::ExecuteRequest;
use super::response::End;

/// Why a WebSocket is closed. Codes and reasons are Piston's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// A second `init`.
    AlreadyInitialized,
    /// No valid `init` within a second ([`Close::INIT_TIMEOUT_MS`]).
    InitializationTimeout,
    /// After an `error` message.
    NotifiedError,
    /// `data` or `signal` before `init`.
    NotYetInitialized,
    /// `data` for another stream.
    OnlyStdin,
    /// A signal that is none.
    InvalidSignal,
    /// The normal end.
    JobCompleted,
}

impl Close {
    /// How long a client may take from connecting to a valid `init`, milliseconds.
    pub const INIT_TIMEOUT_MS: u64 = 1000;

    /// The close code.
    pub fn code(self) -> u16 {
        match self {
            Close::AlreadyInitialized => 4000,
            Close::InitializationTimeout => 4001,
            Close::NotifiedError => 4002,
            Close::NotYetInitialized => 4003,
            Close::OnlyStdin => 4004,
            Close::InvalidSignal => 4005,
            Close::JobCompleted => 4999,
        }
    }

    /// The close reason.
    pub fn reason(self) -> &'static str {
        match self {
            Close::AlreadyInitialized => "Already Initialized",
            Close::InitializationTimeout => "Initialization Timeout",
            Close::NotifiedError => "Notified Error",
            Close::NotYetInitialized => "Not yet initialized",
            Close::OnlyStdin => "Can only write to stdin",
            Close::InvalidSignal => "Invalid signal",
            Close::JobCompleted => "Job Completed",
        }
    }
}

/// What a client sent, where it may send it now.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientMessage {
    /// The request. Its `stdin` does not count here.
    Init(Box<ExecuteRequest>),
    /// Input for the current stage.
    Stdin {
        /// The text's bytes; may be empty.
        data: Vec<u8>,
        /// Whether the input ends after it (an extension of ours).
        eof: bool,
    },
    /// A signal for the current stage's program: its number.
    Signal(i32),
    /// A type that means nothing.
    Ignored,
}

/// A message that ends the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The text of an `error` message to send first.
    pub error: Option<String>,
    /// How to close then.
    pub close: Close,
}

impl Refusal {
    /// An `error` message with this text, then the close that follows one.
    pub fn notified(message: impl Into<String>) -> Self {
        Self { error: Some(message.into()), close: Close::NotifiedError }
    }

    fn silent(close: Close) -> Self {
        Self { error: None, close }
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Self::notified(invalid.websocket_message())
    }
}

/// The client's side of one WebSocket: which messages it may send.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    is_initialized: bool,
}

impl Conversation {
    /// Whether a valid `init` has come: if not, the connection ends after [`Close::INIT_TIMEOUT_MS`].
    pub fn is_initialized(&self) -> bool {
        self.is_initialized
    }

    /// Reads a frame, text or binary.
    ///
    /// # Errors
    /// [`Refusal`]: the connection is to be closed, and its job stopped.
    pub fn receive(&mut self, frame: &[u8]) -> Result<ClientMessage, Refusal> {
        let text = String::from_utf8_lossy(frame);
        let mut message = body::parse(&text).map_err(|error| {
            Refusal::notified(match error {
                body::BodyError::Json(reason) => format!("the message is not valid JSON: {reason}"),
                other => other.to_string(),
            })
        })?;
        if message.is_null() {
            return Err(Refusal::notified("Cannot read properties of null (reading 'type')"));
        }
        match message.get("type").and_then(Value::as_str) {
            Some("init") if self.is_initialized => Err(Refusal::silent(Close::AlreadyInitialized)),
            Some("init") => {
                let request = ExecuteRequest::parse(message)?;
                self.is_initialized = true;
                Ok(ClientMessage::Init(Box::new(request)))
            }
            Some("data" | "signal") if !self.is_initialized => Err(Refusal::silent(Close::NotYetInitialized)),
            Some("data") if message.get("stream").is_none_or(|stream| stream != "stdin") => Err(Refusal::silent(Close::OnlyStdin)),
            Some("data") => {
                let eof = message.get("eof") == Some(&Value::Bool(true));
                match message.get_mut("data").map(Value::take) {
                    Some(Value::String(data)) => Ok(ClientMessage::Stdin { data: data.into_bytes(), eof }),
                    None | Some(Value::Null) if eof => Ok(ClientMessage::Stdin { data: Vec::new(), eof }),
                    Some(other) => {
                        let received = javascript::to_string(&other);
                        Err(Refusal::notified(format!("The \"chunk\" argument must be of type string. Received {received}")))
                    }
                    None => Err(Refusal::notified("The \"chunk\" argument must be of type string. Received undefined")),
                }
            }
            Some("signal") => match message.get("signal").and_then(Value::as_str).and_then(supported_signal) {
                Some(number) => Ok(ClientMessage::Signal(number)),
                None => Err(Refusal::silent(Close::InvalidSignal)),
            },
            _ => Ok(ClientMessage::Ignored),
        }
    }
}

/// The number of a signal that a client may name: one of Piston's 62.
pub fn supported_signal(name: &str) -> Option<i32> {
    signal::number(name)
}

/// What the server sends. The order of the fields is the order of the keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ServerMessage {
    /// First: what was chosen.
    Runtime {
        /// The runtime's own name.
        language: String,
        /// Its version.
        version: String,
    },
    /// A stage begins.
    Stage {
        /// Which.
        stage: StageKind,
    },
    /// It wrote something.
    Data {
        /// Where to.
        stream: Stream,
        /// What: see [`super::Utf8Decoder`].
        data: String,
    },
    /// It ended.
    Exit {
        /// Which.
        stage: StageKind,
        /// Exit status.
        code: Option<i32>,
        /// Signal.
        signal: Option<String>,
    },
    /// Something is wrong; the connection is closed with [`Close::NotifiedError`].
    Error {
        /// What.
        message: String,
    },
}

impl ServerMessage {
    /// The message for a stage's end.
    pub fn exit(outcome: &StageOutcome) -> Self {
        let End { code, signal, .. } = End::of(outcome);
        ServerMessage::Exit { stage: outcome.kind, code, signal }
    }

    /// The frame's text.
    pub fn to_json(&self) -> String {
        // Strings and numbers only: there is nothing in it that could fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
