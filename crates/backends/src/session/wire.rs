//! The lines that the server and the program in a session exchange. All that comes from there is a stranger's word: it is
//! checked for its shape, and believed only about its own session.

use serde::{Deserialize, Serialize};

use super::{
    CellError, CellValue,
    cell::{CodeExecution, ShellCommand, ShellCommandKind},
};

/// Longest name of a runtime, of its version and of a picture's format, bytes.
const NAME_BYTES_MAX: usize = 64;

/// The program's first line.
#[derive(Debug, Deserialize)]
pub(super) struct Hello {
    pub(super) runtime: String,
    pub(super) version: String,
    /// How a cell is interrupted.
    #[serde(default)]
    pub(super) interrupt: Interrupts,
}

/// How a program wants to be interrupted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Interrupts {
    /// By SIGINT.
    #[default]
    Signal,
    /// By a line, and by SIGINT only where that has no effect; and it keeps the time of a cell itself.
    Line,
}

#[derive(Serialize)]
struct Task<'a> {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    argv: Option<&'a [String]>,
    #[serde(skip_serializing_if = "str::is_empty")]
    stdin: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
}

/// Its answer to a cell or a command.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) id: u64,
    pub(super) ok: bool,
    #[serde(default)]
    result: Option<Shown>,
    #[serde(default)]
    absent: bool,
    #[serde(default)]
    pub(super) error: Option<CellError>,
    #[serde(default)]
    pub(super) truncated: bool,
    /// The program itself ended the cell at its time.
    #[serde(default)]
    pub(super) timed_out: bool,
    /// A command's exit status.
    #[serde(default)]
    pub(super) exit: Option<i32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Shown {
    Text(String),
    Image { format: String, base64: String },
}

/// A cell; `timeout_ms` for a program that keeps its time itself.
pub(super) fn code(id: u64, cell: &CodeExecution, timeout_ms: Option<u64>) -> Vec<u8> {
    line(&Task { id, code: Some(&cell.code), command: None, argv: None, stdin: "", timeout_ms })
}

/// The interrupt of a cell. Where it comes too late, it is no other cell's.
pub(super) fn interrupt(id: u64) -> Vec<u8> {
    format!("{{\"interrupt\":{id}}}\n").into_bytes()
}

pub(super) fn command(id: u64, command: &ShellCommand) -> Vec<u8> {
    let (line_of_shell, argv) = match &command.command {
        ShellCommandKind::Line(text) => (Some(text.as_str()), None),
        ShellCommandKind::Argv(argv) => (None, Some(argv.as_slice())),
    };
    line(&Task { id, code: None, command: line_of_shell, argv, stdin: &command.stdin, timeout_ms: None })
}

fn line(task: &Task<'_>) -> Vec<u8> {
    // Strings and numbers always are JSON.
    let mut line = serde_json::to_vec(task).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The program's first line, if that is what it is.
pub(super) fn hello(line: &[u8]) -> Option<Hello> {
    let hello: Hello = serde_json::from_slice(line).ok()?;
    let fits = |text: &str| text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control);
    (fits(&hello.runtime) && fits(&hello.version)).then_some(hello)
}

/// An answer, if that is what it is.
pub(super) fn answer(line: &[u8]) -> Option<Answer> {
    serde_json::from_slice(line).ok()
}

impl Answer {
    /// The value of the last expression. A picture that cannot be one becomes nothing.
    pub(super) fn take_value(&mut self) -> CellValue {
        match self.result.take() {
            None if self.absent => CellValue::Absent,
            None => CellValue::Null,
            Some(Shown::Text(text)) => CellValue::Text(text),
            Some(Shown::Image { format, base64 }) => {
                let is_name = format.len() <= NAME_BYTES_MAX && format.bytes().all(|byte| byte.is_ascii_alphanumeric());
                let is_base64 = base64.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
                if is_name && is_base64 { CellValue::Image { format, base64 } } else { CellValue::Absent }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_one_line_whatever_is_in_it() {
        let cell = CodeExecution { code: "a\n\"b\"\u{2028}\0".into(), ..CodeExecution::default() };
        let bytes = code(7, &cell, None);
        assert_eq!(bytes.iter().filter(|&&byte| byte == b'\n').count(), 1);
        let task: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(task, serde_json::json!({"id": 7, "code": cell.code}));
        let argv = ShellCommand {
            command: ShellCommandKind::Argv(vec!["ls".into()]),
            stdin: "x".into(),
            timeout_ms: None,
            output_chars: None,
        };
        let task: serde_json::Value = serde_json::from_slice(&command(8, &argv)).unwrap();
        assert_eq!(task, serde_json::json!({"id": 8, "argv": ["ls"], "stdin": "x"}));
    }

    #[test]
    fn no_value_none_and_texts_are_told_apart() {
        for (text, value) in [
            (r#"{"id":1,"ok":true,"result":null,"absent":true}"#, CellValue::Absent),
            (r#"{"id":1,"ok":true,"result":null,"absent":false}"#, CellValue::Null),
            (r#"{"id":1,"ok":true,"result":{"text":""}}"#, CellValue::Text(String::new())),
            (
                r#"{"id":1,"ok":true,"result":{"image":{"format":"png","base64":"aGk="}}}"#,
                CellValue::Image { format: "png".into(), base64: "aGk=".into() },
            ),
            // Not a picture: it would be passed on into somebody's page.
            (r#"{"id":1,"ok":true,"result":{"image":{"format":"png","base64":"\"><script>"}}}"#, CellValue::Absent),
        ] {
            assert_eq!(answer(text.as_bytes()).unwrap().take_value(), value, "{text}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in ["", "{}", "[1]", r#"{"id":-1,"ok":true}"#, r#"{"id":1}"#, "\u{0}", r#"{"id":1,"ok":true,"result":5}"#] {
            assert!(answer(text.as_bytes()).is_none(), "{text}");
        }
        assert!(answer(&[b'['; 100_000]).is_none());
        assert!(hello(br#"{"ready":true,"runtime":"a\nb","version":"1"}"#).is_none());
    }
}
