//! What came of a cell or a command, in the format's words.

use greenroom_backends::{CellStatus, CellValue, CodeResult, ShellResult};
use greenroom_pool::EndReason;
use greenroom_wire::azure::{self, ExecutionStatus, Output, ShellStatus};

/// As the service says that a time limit was reached.
const TIMED_OUT: &str = "Request timed out waiting for code execution to complete";
/// As the service says that a session went down under its cell.
const ABORTED: &str = "Execution aborted";
const CPU_TIME: &str = "Execution aborted: the processor time of an execution was used up";

/// What an execution came to. `told` is what its caller is to be told beside, before everything else.
pub(super) fn of_cell(result: CodeResult, chars: Option<usize>, told: Option<&str>) -> (ExecutionStatus, Output) {
    let status = if result.status == CellStatus::Succeeded { ExecutionStatus::Succeeded } else { ExecutionStatus::Failed };
    let traceback = result.error.map(|error| error.traceback).unwrap_or_default();
    let last = last_words(result.status, result.ended);
    let value = match result.value {
        CellValue::Absent => azure::CellValue::Absent,
        CellValue::Null => azure::CellValue::None,
        CellValue::Text(text) => azure::CellValue::Text(text),
        CellValue::Image { format, base64 } => azure::CellValue::Image { format, base64 },
    };
    let mut output = Output {
        stdout: result.stdout,
        stderr: joined(told, result.stderr, &[&traceback, &last], chars),
        value,
        wall_ms: result.duration_us / 1000,
    };
    output.cut(chars);
    (status, output)
}

/// What a command came to. `timeout_ms` is what it was given.
pub(super) fn of_command(result: ShellResult, chars: Option<usize>, timeout_ms: u64, told: Option<&str>) -> (ShellStatus, Output) {
    let (status, wall_ms) = match (result.status, result.exit) {
        (CellStatus::TimedOut, _) => (ShellStatus::TimedOut, timeout_ms),
        (_, Some(code)) => (ShellStatus::Exited(code), result.duration_us / 1000),
        // Stopped by us, or gone with its session.
        (_, None) => (ShellStatus::TimedOut, result.duration_us / 1000),
    };
    // The service says nothing of a command that takes too long; that it took the session along is another thing.
    let said = if result.status == CellStatus::TimedOut { CellStatus::Failed } else { result.status };
    let last = last_words(said, result.ended);
    let stderr = joined(told, result.stderr, &[&last], chars);
    let mut output = Output { stdout: result.stdout, stderr, value: azure::CellValue::Absent, wall_ms };
    output.cut(chars);
    (status, output)
}

fn last_words(status: CellStatus, ended: Option<EndReason>) -> String {
    let what = match status {
        CellStatus::Succeeded | CellStatus::Failed => "",
        CellStatus::TimedOut => TIMED_OUT,
        CellStatus::CpuTime => CPU_TIME,
        CellStatus::Aborted => ABORTED,
    };
    match ended {
        Some(reason) if what.is_empty() => format!("session ended: {reason}"),
        Some(reason) => format!("{what}\nsession ended: {reason}"),
        None => what.to_owned(),
    }
}

/// One text of lines. Where it is longer than may be sent, what comes last is kept, and what was written is cut: a traceback's
/// last line is what its reader looks for.
fn joined(told: Option<&str>, written: String, last: &[&str], chars: Option<usize>) -> String {
    let mut tail = String::new();
    for text in last.iter().filter(|text| !text.is_empty()) {
        if !tail.is_empty() && !tail.ends_with('\n') {
            tail.push('\n');
        }
        tail.push_str(text);
    }
    let mut text = match told {
        Some(told) => format!("{told}\n{written}"),
        None => written,
    };
    if tail.is_empty() {
        return text;
    }
    if let Some(chars) = chars {
        let tail_chars = tail.chars().count();
        if let Some((from, _)) = tail.char_indices().nth(tail_chars.saturating_sub(chars)) {
            tail.drain(..from);
        }
        let room = chars.saturating_sub(tail_chars + 1);
        if let Some((end, _)) = text.char_indices().nth(room) {
            text.truncate(end);
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text + &tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_backends::CellError;

    fn cell(status: CellStatus) -> CodeResult {
        CodeResult {
            status,
            stdout: "out".into(),
            stderr: "err".into(),
            value: CellValue::Absent,
            error: None,
            truncated: false,
            duration_us: 7_900,
            ended: None,
        }
    }

    fn stderr(result: CodeResult, chars: Option<usize>) -> String {
        of_cell(result, chars, None).1.stderr
    }

    #[test]
    fn a_traceback_stands_behind_what_was_written() {
        let raised = |traceback: &str| CodeResult {
            error: Some(CellError { name: "E".into(), message: "x".into(), traceback: traceback.into() }),
            ..cell(CellStatus::Failed)
        };
        let (status, output) = of_cell(raised("Traceback\nE: x"), None, None);
        assert_eq!((status, output.stderr.as_str(), output.wall_ms), (ExecutionStatus::Failed, "err\nTraceback\nE: x", 7));
        assert_eq!(stderr(raised("0123456789"), Some(4)), "6789", "its end is what counts");
        assert_eq!(stderr(raised("0123456789"), Some(13)), "er\n0123456789");
    }

    #[test]
    fn why_an_execution_was_stopped_is_said_in_the_services_words() {
        assert_eq!(stderr(cell(CellStatus::TimedOut), None), "err\nRequest timed out waiting for code execution to complete");
        let aborted = CodeResult { ended: Some(EndReason::OutOfMemory), ..cell(CellStatus::Aborted) };
        assert_eq!(stderr(aborted, None), "err\nExecution aborted\nsession ended: it went over its memory limit");
        assert_eq!(stderr(cell(CellStatus::Succeeded), None), "err");
    }

    #[test]
    fn the_end_of_the_session_before_is_told_first() {
        let (_, output) = of_cell(cell(CellStatus::Succeeded), None, Some("session ended: the server was restarted"));
        assert_eq!(output.stderr, "session ended: the server was restarted\nerr");
    }

    #[test]
    fn a_command_has_its_exit_code_or_minus_one() {
        let command = |status, exit| ShellResult {
            status,
            exit,
            stdout: "0123".into(),
            stderr: String::new(),
            truncated: false,
            duration_us: 3_000,
            ended: None,
        };
        let of = |result| of_command(result, Some(2), 5_000, None);
        let (status, output) = of(command(CellStatus::Succeeded, Some(3)));
        assert_eq!((status, output.wall_ms, output.stdout.as_str()), (ShellStatus::Exited(3), 3, "01"));
        let (status, output) = of(command(CellStatus::TimedOut, None));
        assert_eq!((status, output.wall_ms, output.stderr.as_str()), (ShellStatus::TimedOut, 5_000, ""));
        let with_it = ShellResult { ended: Some(EndReason::Unresponsive), ..command(CellStatus::TimedOut, None) };
        assert_eq!(
            of_command(with_it, None, 5_000, None).1.stderr,
            "session ended: its process did not heed an interrupt and was killed"
        );
    }
}
