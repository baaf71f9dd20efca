//! What the SDK leaves to us of JSON-RPC 2.0: bodies that hold no message, and batches, which every server of protocol 2025-03-26
//! has to take.

use axum::{body::Bytes, http::Method};
use serde_json::{Value, json};

/// Messages of one batch; more at once are nobody's.
const MOST: usize = 100;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Messages {
    /// As it came.
    One(Bytes),
    /// At least one.
    Batch(Vec<Bytes>),
}

/// Why a body is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Json,
    Message,
    TooMany,
}

impl Wrong {
    /// The answer: it can have no message's id.
    pub(super) fn body(self) -> Vec<u8> {
        let (code, message) = match self {
            Wrong::Json => (-32700, "Parse error: the request body is not valid JSON"),
            Wrong::Message => (-32600, "Invalid Request: the request body is no message of JSON-RPC 2.0"),
            Wrong::TooMany => (-32600, "Invalid Request: a batch may hold 100 messages"),
        };
        json!({"jsonrpc": "2.0", "id": null, "error": {"code": code, "message": message}}).to_string().into_bytes()
    }
}

/// The messages of a body. What is no POST has none, and is the SDK's to refuse.
pub(super) fn read(method: &Method, body: Bytes) -> Result<Messages, Wrong> {
    if method != Method::POST {
        return Ok(Messages::One(body));
    }
    match serde_json::from_slice(&body).map_err(|_| Wrong::Json)? {
        Value::Array(batch) if batch.is_empty() || !batch.iter().all(is_message) => Err(Wrong::Message),
        Value::Array(batch) if batch.len() > MOST => Err(Wrong::TooMany),
        Value::Array(batch) => Ok(Messages::Batch(batch.iter().map(|message| message.to_string().into()).collect())),
        message if is_message(&message) => Ok(Messages::One(body)),
        _ => Err(Wrong::Message),
    }
}

/// A request, a notification or a response.
fn is_message(value: &Value) -> bool {
    let is_request = value.get("method").is_some_and(Value::is_string);
    let is_response = value.get("result").is_some() || value.get("error").is_some();
    let is_id = value.get("id").is_none_or(|id| id.is_string() || id.is_number());
    value.get("jsonrpc").is_some_and(|version| version == "2.0") && is_id && (is_request || is_response)
}

/// The answer to a batch, of those to its messages; `None` where none of them asked for one.
pub(super) fn join(answers: &[Bytes]) -> Option<Vec<u8>> {
    // Each is JSON of the SDK's, or nothing.
    let answers: Vec<&[u8]> = answers.iter().filter(|answer| !answer.is_empty()).map(AsRef::as_ref).collect();
    (!answers.is_empty()).then(|| [b"[".as_slice(), &answers.join(&b','), b"]"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(body: &str) -> Result<Messages, Wrong> {
        read(&Method::POST, Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn a_message_or_a_batch_of_them_is_taken() {
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        assert_eq!(post(ping), Ok(Messages::One(ping.into())));
        assert_eq!(post(&format!("[{ping}]")), Ok(Messages::Batch(vec![ping.into()])));
        assert_eq!(read(&Method::DELETE, Bytes::new()), Ok(Messages::One(Bytes::new())));
        assert_eq!(post(&format!("[{}]", [ping; 101].join(","))), Err(Wrong::TooMany));
    }

    #[test]
    fn what_is_no_message_is_said_in_json_rpcs_codes() {
        for (body, wrong) in [
            ("", Wrong::Json),
            ("junk", Wrong::Json),
            ("1", Wrong::Message),
            ("[]", Wrong::Message),
            ("[1]", Wrong::Message),
            (r#"{"id":1,"method":"ping"}"#, Wrong::Message),
            (r#"{"jsonrpc":"2.0","id":1}"#, Wrong::Message),
            (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, Wrong::Message),
        ] {
            assert_eq!(post(body), Err(wrong), "{body}");
        }
    }

    #[test]
    fn answers_are_joined_and_notifications_have_none() {
        assert_eq!(join(&["{}".into(), Bytes::new(), "[1]".into()]), Some(b"[{},[1]]".to_vec()));
        assert_eq!(join(&[Bytes::new()]), None);
    }
}
