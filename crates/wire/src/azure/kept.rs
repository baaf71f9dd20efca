//! Executions as they are kept beyond the process: what is told of one, beside its id and its identifier, as a text.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{
    error::AzureError,
    execution::{Execution, ExecutionStatus, Output},
    shell::ShellStatus,
    value::CellValue,
};

/// An error as it stands in an execution: it may be one of a version of ours before this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// What programs go by.
    pub code: Cow<'static, str>,
    /// What people read.
    pub message: String,
}

impl From<&AzureError> for ErrorDetail {
    fn from(error: &AzureError) -> Self {
        Self { code: Cow::Borrowed(error.code()), message: error.to_string() }
    }
}

/// What [`Execution::to_kept`] writes. Fields are added, never changed: a file outlives the version that wrote it.
#[derive(Serialize, Deserialize)]
struct Kept<'a> {
    r#type: Cow<'a, str>,
    output: Option<KeptOutput<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exit: Option<KeptExit>,
    error: Option<Cow<'a, ErrorDetail>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeptExit {
    Code(i32),
    TimedOut,
}

#[derive(Serialize, Deserialize)]
struct KeptOutput<'a> {
    stdout: Cow<'a, str>,
    stderr: Cow<'a, str>,
    value: KeptValue<'a>,
    wall_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeptValue<'a> {
    Absent,
    None,
    Text(Cow<'a, str>),
    Image { format: Cow<'a, str>, base64: Cow<'a, str> },
}

impl Execution {
    /// The text that [`Execution::of_kept`] reads.
    pub fn to_kept(&self) -> String {
        let output = self.output.as_ref().map(|output| KeptOutput {
            stdout: output.stdout.as_str().into(),
            stderr: output.stderr.as_str().into(),
            value: match &output.value {
                CellValue::Absent => KeptValue::Absent,
                CellValue::None => KeptValue::None,
                CellValue::Text(text) => KeptValue::Text(text.as_str().into()),
                CellValue::Image { format, base64 } => {
                    KeptValue::Image { format: format.as_str().into(), base64: base64.as_str().into() }
                }
            },
            wall_ms: output.wall_ms,
        });
        let exit = self.exit.map(|exit| match exit {
            ShellStatus::Exited(code) => KeptExit::Code(code),
            ShellStatus::TimedOut => KeptExit::TimedOut,
        });
        let r#type = self.execution_type.as_str().into();
        let kept = Kept { r#type, output, exit, error: self.error.as_ref().map(Cow::Borrowed) };
        // Strings and numbers: it can be written.
        serde_json::to_string(&kept).unwrap_or_default()
    }

    /// The execution of this id, with what was kept of it; `None` for a text that no version up to this one has written.
    pub fn of_kept(id: &str, identifier: &str, status: ExecutionStatus, kept: &str) -> Option<Self> {
        let kept: Kept<'_> = serde_json::from_str(kept).ok()?;
        let output = kept.output.map(|output| Output {
            stdout: output.stdout.into_owned(),
            stderr: output.stderr.into_owned(),
            value: match output.value {
                KeptValue::Absent => CellValue::Absent,
                KeptValue::None => CellValue::None,
                KeptValue::Text(text) => CellValue::Text(text.into_owned()),
                KeptValue::Image { format, base64 } => {
                    CellValue::Image { format: format.into_owned(), base64: base64.into_owned() }
                }
            },
            wall_ms: output.wall_ms,
        });
        Some(Self {
            id: id.to_owned(),
            identifier: identifier.to_owned(),
            execution_type: kept.r#type.into_owned(),
            status,
            output,
            exit: kept.exit.map(|exit| match exit {
                KeptExit::Code(code) => ShellStatus::Exited(code),
                KeptExit::TimedOut => ShellStatus::TimedOut,
            }),
            error: kept.error.map(Cow::into_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_is_read_as_it_was_written() {
        let values = [
            CellValue::Absent,
            CellValue::None,
            CellValue::Text("100000000000000000000000000001".into()),
            CellValue::Image { format: "png".into(), base64: "iVBORw0".into() },
        ];
        for value in values {
            let output = Output { stdout: "ä\0\n".into(), stderr: "Traceback".into(), value, wall_ms: 7 };
            for (output, exit, error) in [
                (Some(output.clone()), None, None),
                (Some(output.clone()), Some(ShellStatus::Exited(-3)), None),
                (Some(output), Some(ShellStatus::TimedOut), None),
                (None, None, Some(AzureError::SessionEnded("session ended: x".into()))),
            ] {
                let execution = Execution {
                    id: "op-1".into(),
                    identifier: "abcd".into(),
                    execution_type: "asynchronous".into(),
                    status: ExecutionStatus::Failed,
                    output,
                    exit,
                    error: error.as_ref().map(ErrorDetail::from),
                };
                let kept = execution.to_kept();
                assert!(!kept.contains("abcd"), "an identifier is a secret: {kept}");
                assert_eq!(Execution::of_kept("op-1", "abcd", ExecutionStatus::Failed, &kept), Some(execution));
            }
        }
    }

    #[test]
    fn what_this_version_has_not_written_is_not_guessed_at() {
        assert_eq!(Execution::of_kept("op-1", "abcd", ExecutionStatus::Failed, "{\"output\":{}}"), None);
        // As written by the first version that kept any.
        let first = r#"{"type":"Asynchronous","output":{"stdout":"a","stderr":"","value":{"text":"2"},"wall_ms":3},"error":null}"#;
        let read = Execution::of_kept("op-1", "abcd", ExecutionStatus::Succeeded, first).unwrap();
        assert_eq!(read.output.unwrap().value, CellValue::Text("2".into()));
    }
}
