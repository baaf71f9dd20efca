use std::borrow::Cow;

use serde_json::{Map, Value};

/// What a request's Content-Type header makes of its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentType {
    is_accepted: bool,
    /// Where the body is read as JSON: its charset, lower-case.
    charset: Option<String>,
}

/// Why a body cannot be read. The text is the answer's `message`.
///
/// Piston answers all of these with status 400 and a stack trace under the key `stack`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Only Unicode's encodings are JSON's.
    #[error("unsupported charset \"{0}\": send JSON as UTF-8")]
    Charset(String),
    /// A Content-Encoding that is not known.
    #[error("unsupported content encoding \"{0}\": send gzip, deflate or none")]
    ContentEncoding(String),
    /// No JSON, or deeper than 127 levels.
    #[error("the request body is not valid JSON: {0}")]
    Json(String),
    /// `null`, a string, a number or a boolean.
    #[error("the request body must be a JSON object")]
    NotAnObject,
    /// More than is configured, after decompression.
    #[error("the request body is larger than the configured limit of {limit} bytes")]
    TooLarge {
        /// Bytes.
        limit: u64,
    },
}

impl BodyError {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            BodyError::TooLarge { .. } => 413,
            _ => 400,
        }
    }
}

impl ContentType {
    /// Judges the header's value, if there is one.
    pub fn of(header: Option<&str>) -> Self {
        let header = header.unwrap_or_default();
        Self { is_accepted: header.starts_with("application/json"), charset: json_charset(header) }
    }

    /// Whether the API takes it: the header starts with exactly `application/json`, which `application/jsonx` does, too.
    pub fn is_accepted(&self) -> bool {
        self.is_accepted
    }

    /// The body as JSON. A body of another type, or an empty one, is an empty object: its fields are missing.
    ///
    /// Piston reads bodies before it looks at path and method: a bad one is refused anywhere, also with GET.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn read(&self, body: &[u8]) -> Result<Value, BodyError> {
        let empty = || Value::Object(Map::new());
        let Some(charset) = &self.charset else { return Ok(empty()) };
        let text = decode(charset, body)?;
        if text.is_empty() {
            return Ok(empty());
        }
        match text.trim_start_matches([' ', '\t', '\r', '\n']).chars().next() {
            None | Some('{' | '[') => parse(&text),
            // Strict, as Piston's parser is; but what is no JSON at all should be told so.
            Some(_) => parse(&text).and(Err(BodyError::NotAnObject)),
        }
    }
}

/// Text to JSON as JavaScript reads it: half a surrogate pair is U+FFFD, of two equal keys the last counts.
pub(super) fn parse(text: &str) -> Result<Value, BodyError> {
    serde_json::from_str(&replace_lone_surrogates(text)).map_err(|error| BodyError::Json(error.to_string()))
}

/// The charset of a well-formed `application/json`, any case; `None` for whatever is not read. Malformed parameters make
/// it another type, as in Express (package content-type).
fn json_charset(header: &str) -> Option<String> {
    let (media_type, mut rest) = header.split_at(header.find(';').unwrap_or(header.len()));
    if !media_type.trim().eq_ignore_ascii_case("application/json") {
        return None;
    }
    let mut charset = None;
    while let Some(parameter) = rest.strip_prefix(';') {
        let (name, value) = parameter.split_once('=')?;
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        let text;
        (text, rest) = match value.strip_prefix('"') {
            Some(quoted) => {
                let (text, after) = quoted.split_once('"')?;
                (text, after.trim_start())
            }
            None => {
                let (text, after) = value.split_at(value.find(';').unwrap_or(value.len()));
                let text = text.trim_end();
                if text.is_empty() || !text.bytes().all(is_token) {
                    return None;
                }
                (text, after)
            }
        };
        if name.eq_ignore_ascii_case("charset") {
            charset = Some(text.to_ascii_lowercase());
        }
    }
    rest.is_empty().then(|| charset.unwrap_or_else(|| "utf-8".to_owned()))
}

/// RFC 9110, section 5.6.2.
fn is_token(c: u8) -> bool {
    c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c)
}

fn decode<'a>(charset: &str, body: &'a [u8]) -> Result<Cow<'a, str>, BodyError> {
    let utf16 = |body: &[u8], unit: fn([u8; 2]) -> u16| {
        // An odd last byte is dropped, as iconv-lite does.
        let units = body.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
        let text: String = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        Cow::Owned(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
    };
    match charset {
        "utf-8" => Ok(String::from_utf8_lossy(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body))),
        "utf-16le" => Ok(utf16(body, u16::from_le_bytes)),
        "utf-16be" => Ok(utf16(body, u16::from_be_bytes)),
        // The mark decides; without one, JSON's first character is ASCII, and its zero half comes first in big-endian.
        "utf-16" => match body {
            [0xfe, 0xff, ..] | [0, _, ..] => Ok(utf16(body, u16::from_be_bytes)),
            _ => Ok(utf16(body, u16::from_le_bytes)),
        },
        other => Err(BodyError::Charset(other.to_ascii_uppercase())),
    }
}

/// JavaScript's strings may hold half a surrogate pair, ours may not: its escape is rewritten before the text is parsed.
/// A backslash stands only in strings, so no other part of a JSON text is touched.
fn replace_lone_surrogates(text: &str) -> Cow<'_, str> {
    /// The four digits after `\u` at this place.
    fn escape(bytes: &[u8], at: usize) -> Option<u16> {
        let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0_u16, |unit, &c| {
            let digit = u16::try_from(char::from(c).to_digit(16)?).ok()?;
            Some(unit << 4 | digit)
        })
    }
    let bytes = text.as_bytes();
    let mut rewritten = String::new();
    let (mut at, mut copied) = (0, 0);
    while let Some(found) = bytes[at..].iter().position(|&c| c == b'\\') {
        at += found;
        at += match escape(bytes, at) {
            Some(0xd800..=0xdbff) if matches!(escape(bytes, at + 6), Some(0xdc00..=0xdfff)) => 12,
            Some(0xd800..=0xdfff) => {
                rewritten.push_str(&text[copied..at]);
                rewritten.push_str("\\ufffd");
                copied = at + 6;
                6
            }
            Some(_) => 6,
            None => 2,
        };
        if at >= bytes.len() {
            break;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    rewritten.push_str(&text[copied..]);
    Cow::Owned(rewritten)
}

#[cfg(test)]
mod tests;
