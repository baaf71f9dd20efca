use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use super::{
    api_version::{ApiVersion, Shape},
    error::AzureError,
};

/// The longest execution, seconds; a request that asks for more gets this.
pub const MAX_TIMEOUT_S: u32 = 220;

/// With or without padding: clients differ.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// What a pool takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolType {
    /// Cells of code: Python or JavaScript.
    CodeInterpreter,
    /// Commands.
    Shell,
}

/// A request to execute something, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecuteRequest {
    /// What.
    pub program: Program,
    /// Whether the caller waits for the end.
    pub execution_type: ExecutionType,
    /// How long it may take, seconds: 1 to [`MAX_TIMEOUT_S`]. `None`: as long as the pool allows.
    pub timeout_s: Option<u32>,
    /// How much of each output stream is sent, characters. `None`: all that was kept.
    pub output_chars: Option<usize>,
}

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A cell of the pool's language.
    Cell(String),
    /// A line for the shell.
    Shell {
        /// The line.
        command: String,
        /// Its standard input.
        stdin: Option<String>,
    },
    /// A program and its arguments, past any shell.
    Command {
        /// At least the program.
        argv: Vec<String>,
        /// Its standard input.
        stdin: Option<String>,
    },
}

/// Whether the caller waits, in the caller's spelling: answers repeat it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecutionType {
    /// The answer has the result.
    Synchronous(String),
    /// The answer has the execution's id.
    Asynchronous(String),
}

impl ExecutionType {
    /// As sent.
    pub fn as_str(&self) -> &str {
        match self {
            ExecutionType::Synchronous(text) | ExecutionType::Asynchronous(text) => text,
        }
    }
}

impl ExecuteRequest {
    /// Reads a body. Fields may stand in it or below `properties`, whatever the path; their names' case does not matter; those
    /// that are not known are ignored.
    ///
    /// # Errors
    /// [`AzureError`], for the first field that is wrong.
    pub fn parse(body: &[u8], shape: Shape, pool: PoolType, version: &ApiVersion) -> Result<Self, AzureError> {
        let body = if body.is_empty() { Value::Object(Map::new()) } else { json(body)? };
        let Value::Object(outer) = &body else {
            return Err(AzureError::Validation("the request body must be a JSON object".to_owned()));
        };
        let inner = look_up(outer, "properties").and_then(Value::as_object);
        let fields = Fields { inner, outer };
        if pool == PoolType::Shell {
            return super::shell::parse(&fields, version);
        }
        let code = match shape {
            Shape::Legacy => fields.get("pythonCode").or_else(|| fields.get("code")),
            Shape::Old | Shape::New => fields.get("code"),
        };
        let code = code.ok_or(AzureError::PropertiesMissing)?;
        let code = code.as_str().ok_or_else(|| AzureError::Validation("'code' must be a string".to_owned()))?;
        let code = match fields.choice("codeInputType", &["Inline", "InlineText", "InlineBase64"])? {
            Some((_, 2)) => from_base64(code)?,
            _ => code.to_owned(),
        };
        let execution_type = match fields.choice("executionType", &["Synchronous", "Asynchronous"])? {
            Some((text, 1)) if shape == Shape::New => ExecutionType::Asynchronous(text.to_owned()),
            Some((_, 1)) => {
                let message = "asynchronous executions are started at '/executions'";
                return Err(AzureError::NotSupported(message.to_owned()));
            }
            Some((text, _)) => ExecutionType::Synchronous(text.to_owned()),
            None => ExecutionType::Synchronous("Synchronous".to_owned()),
        };
        let default_chars = if shape == Shape::New { version.output_chars() } else { None };
        Ok(Self {
            program: Program::Cell(code),
            execution_type,
            timeout_s: fields.timeout_s()?,
            output_chars: fields.output_chars()?.or(default_chars),
        })
    }
}

/// The fields of a request, bare or below `properties`.
pub(super) struct Fields<'a> {
    inner: Option<&'a Map<String, Value>>,
    outer: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// A field that is there and not null.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.inner.and_then(|inner| look_up(inner, name)).or_else(|| look_up(self.outer, name))
    }

    pub(super) fn timeout_s(&self) -> Result<Option<u32>, AzureError> {
        let timeout = self.count("timeoutInSeconds")?;
        Ok(timeout.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX).min(MAX_TIMEOUT_S)))
    }

    pub(super) fn output_chars(&self) -> Result<Option<usize>, AzureError> {
        Ok(self.count("outputStreamsMaxLength")?.map(|chars| usize::try_from(chars).unwrap_or(usize::MAX)))
    }

    /// A whole number above 0.
    fn count(&self, name: &str) -> Result<Option<u64>, AzureError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let count = value.as_u64().filter(|&count| count > 0);
        count.map(Some).ok_or_else(|| AzureError::Validation(format!("'{name}' must be a whole number above 0")))
    }

    /// One of a few words, whatever its case: as sent, and which.
    fn choice(&self, name: &str, words: &[&str]) -> Result<Option<(&'a str, usize)>, AzureError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let given = value
            .as_str()
            .and_then(|given| words.iter().position(|word| word.eq_ignore_ascii_case(given)).map(|which| (given, which)));
        given.map(Some).ok_or_else(|| AzureError::Validation(format!("'{name}' must be one of {}", words.join(", "))))
    }
}

/// A field by its name, whatever its case; the exact one first.
fn look_up<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let found = object.get(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value));
    found.filter(|value| !value.is_null())
}

fn json(body: &[u8]) -> Result<Value, AzureError> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    serde_json::from_slice(body).map_err(|error| AzureError::Validation(format!("the request body is not valid JSON: {error}")))
}

fn from_base64(code: &str) -> Result<String, AzureError> {
    let compact: String = code.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes = BASE64.decode(compact).map_err(|error| AzureError::Validation(format!("'code' is not valid base64: {error}")))?;
    String::from_utf8(bytes).map_err(|_| AzureError::Validation("'code' is base64 of something that is no UTF-8 text".to_owned()))
}

#[cfg(test)]
mod tests;
