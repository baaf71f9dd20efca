//! Shell pools: commands instead of cells.

use serde::Serialize;
use serde_json::Value;

use super::{
    api_version::ApiVersion,
    error::AzureError,
    execution::{Execution, Output},
    request::{ExecuteRequest, ExecutionType, Fields, Program},
};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShellStatus {
    /// With this exit code.
    Exited(i32),
    /// It was stopped because its time was up: `-1`.
    TimedOut,
}

impl Execution {
    /// The answer to a command: `{"identifier":…,"status":"0","result":{…}}`. One that has no exit code, because it was stopped before
    /// its end, has the time limit's.
    pub fn shell_body(&self) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            identifier: &'a str,
            status: String,
            result: Streams<'a>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Streams<'a> {
            stdout: &'a str,
            stderr: &'a str,
            execution_time_in_milliseconds: u64,
        }
        let status = match self.exit {
            Some(ShellStatus::Exited(code)) => code.to_string(),
            Some(ShellStatus::TimedOut) | None => "-1".to_owned(),
        };
        let why = || self.error.as_ref().map_or("", |error| error.message.as_str());
        let (stdout, stderr, wall_ms) = match &self.output {
            Some(Output { stdout, stderr, wall_ms, .. }) => (stdout.as_str(), stderr.as_str(), *wall_ms),
            None => ("", why(), 0),
        };
        let result = Streams { stdout, stderr, execution_time_in_milliseconds: wall_ms };
        // Strings and numbers: nothing in it can fail to be written.
        serde_json::to_vec(&Body { identifier: &self.identifier, status, result }).unwrap_or_default()
    }
}

/// Reads the fields of a request to a Shell pool.
pub(super) fn parse(fields: &Fields<'_>, version: &ApiVersion) -> Result<ExecuteRequest, AzureError> {
    if !version.has_shell() {
        let message = format!("Shell execution is not supported in API version {}", version.as_str());
        return Err(AzureError::NotSupported(message));
    }
    let (line, argv) = (fields.get("shellCommand"), fields.get("execCommandAndArgs"));
    if line.is_none() && argv.is_none() && (fields.get("code").is_some() || fields.get("pythonCode").is_some()) {
        return Err(AzureError::PropertiesMissing);
    }
    let stdin = match fields.get("stdin").map(Value::as_str) {
        None => None,
        Some(Some(text)) => Some(text.to_owned()),
        Some(None) => return Err(AzureError::Problem("'stdin' must be a string.")),
    };
    let program = match (line, argv) {
        (Some(line), None) => {
            let command = line.as_str().ok_or(AzureError::Problem("'shellCommand' must be a string."))?;
            // No argument of a program can hold it.
            if command.contains('\0') {
                return Err(AzureError::Problem("'shellCommand' must not hold a NUL character."));
            }
            Program::Shell { command: command.to_owned(), stdin }
        }
        (None, Some(argv)) => Program::Command { argv: arguments(argv)?, stdin },
        (Some(_), Some(_)) | (None, None) => {
            return Err(AzureError::Problem("Exactly one of 'shellCommand' and 'execCommandAndArgs' must be given."));
        }
    };
    Ok(ExecuteRequest {
        program,
        execution_type: ExecutionType::Synchronous("Synchronous".to_owned()),
        timeout_s: fields.timeout_s()?,
        output_chars: fields.output_chars()?.or(version.output_chars()),
    })
}

fn arguments(argv: &Value) -> Result<Vec<String>, AzureError> {
    let texts =
        argv.as_array().and_then(|argv| argv.iter().map(|text| text.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>());
    let texts = texts.ok_or(AzureError::Problem("'execCommandAndArgs' must be an array of strings."))?;
    if texts.first().is_none_or(String::is_empty) {
        return Err(AzureError::Problem("'execCommandAndArgs' must begin with a program."));
    }
    if texts.iter().any(|text| text.contains('\0')) {
        return Err(AzureError::Problem("'execCommandAndArgs' must not hold a NUL character."));
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::{CellValue, ErrorDetail, ExecutionStatus, PoolType, Shape};
    use serde_json::json;

    fn parse(body: &Value, version: &str) -> Result<ExecuteRequest, AzureError> {
        let version = ApiVersion::parse(version).unwrap();
        ExecuteRequest::parse(body.to_string().as_bytes(), Shape::New, PoolType::Shell, &version)
    }

    const SHELL: &str = "2025-02-02-preview";

    #[test]
    fn a_line_or_a_program_with_arguments_is_read() {
        let line = parse(&json!({"shellCommand": "ls -la", "timeoutInSeconds": 5}), SHELL).unwrap();
        assert_eq!(line.program, Program::Shell { command: "ls -la".into(), stdin: None });
        assert_eq!((line.timeout_s, line.output_chars), (Some(5), None));
        let argv = parse(&json!({"execCommandAndArgs": ["cat", "-", "$(id)"], "stdin": "x"}), "2025-10-02-preview").unwrap();
        let expected = vec!["cat".to_owned(), "-".to_owned(), "$(id)".to_owned()];
        assert_eq!(argv.program, Program::Command { argv: expected, stdin: Some("x".into()) });
        assert_eq!(argv.output_chars, Some(4096));
    }

    #[test]
    fn both_or_neither_is_a_problem() {
        for body in [json!({"shellCommand": "ls", "execCommandAndArgs": ["ls"]}), json!({}), json!({"stdin": "x"})] {
            let error = parse(&body, SHELL).unwrap_err();
            assert_eq!((error.status(), error.body("t-1")["errors"]["$"].as_array().map(Vec::len)), (400, Some(1)), "{body}");
            let answer = error.body("t-1");
            assert_eq!(answer["type"], "https://tools.ietf.org/html/rfc9110#section-15.5.1");
            assert_eq!(answer["title"], "One or more validation errors occurred.");
            assert_eq!((&answer["status"], &answer["traceId"]), (&json!(400), &json!("t-1")));
        }
    }

    #[test]
    fn fields_of_another_kind_are_problems() {
        for body in [
            json!({"shellCommand": 1}),
            json!({"shellCommand": "a\u{0}b"}),
            json!({"execCommandAndArgs": "ls"}),
            json!({"execCommandAndArgs": []}),
            json!({"execCommandAndArgs": ["ls", 1]}),
            json!({"execCommandAndArgs": [""]}),
            json!({"execCommandAndArgs": ["a\u{0}b"]}),
            json!({"shellCommand": "cat", "stdin": 1}),
        ] {
            assert!(matches!(parse(&body, SHELL), Err(AzureError::Problem(_))), "{body}");
        }
    }

    #[test]
    fn code_belongs_to_other_pools_and_older_versions_have_no_shell() {
        assert_eq!(parse(&json!({"code": "1"}), SHELL), Err(AzureError::PropertiesMissing));
        let error = parse(&json!({"shellCommand": "ls"}), "2023-08-01-preview").unwrap_err();
        assert_eq!(error.to_string(), "Shell execution is not supported in API version 2023-08-01-preview");
    }

    #[test]
    fn the_status_is_the_exit_code_as_a_string() {
        let output = Output { stdout: "a\n".into(), stderr: String::new(), value: CellValue::Absent, wall_ms: 3 };
        let execution = |exit| Execution {
            id: "id".into(),
            identifier: "abcd".into(),
            execution_type: "Synchronous".into(),
            status: ExecutionStatus::Failed,
            output: Some(output.clone()),
            exit,
            error: None,
        };
        let body = |exit| String::from_utf8(execution(Some(exit)).shell_body()).unwrap();
        assert_eq!(
            body(ShellStatus::Exited(0)),
            r#"{"identifier":"abcd","status":"0","result":{"stdout":"a\n","stderr":"","executionTimeInMilliseconds":3}}"#
        );
        assert!(body(ShellStatus::Exited(127)).contains(r#""status":"127""#));
        assert!(body(ShellStatus::TimedOut).contains(r#""status":"-1""#));
        let error = Some(ErrorDetail::from(&AzureError::Interrupted));
        let interrupted = String::from_utf8(Execution { output: None, error, ..execution(None) }.shell_body()).unwrap();
        assert!(interrupted.contains(r#""status":"-1""#) && interrupted.contains("its client went away"), "{interrupted}");
    }
}
