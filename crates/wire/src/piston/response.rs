use greenroom_core::{Exit, Outcome, Output, StageKind, StageOutcome, Verdict, signal};
use serde::Serialize;

use super::text::Utf8Decoder;

/// The answer to an execute request. The order of the fields is the order of the keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExecuteResponse {
    /// Only for runtimes with a compile stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compile: Option<StageResult>,
    /// What the run stage did; where compilation failed, the same as `compile`, because clients rely on it.
    pub run: StageResult,
    /// The runtime's own name, not the alias that was asked for.
    pub language: String,
    /// The version that was chosen.
    pub version: String,
}

/// What a stage did. The order of the fields is the order of the keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StageResult {
    /// The signal that ended it.
    pub signal: Option<String>,
    /// Standard output, what is no UTF-8 replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
    /// Exit status, where it ended by itself.
    pub code: Option<i32>,
    /// Both streams in the order of writing.
    pub output: String,
    /// Peak memory, as Piston counts it: KiB times 1000.
    pub memory: Option<u64>,
    /// For a person.
    pub message: Option<String>,
    /// `RE`, `SG`, `TO`, `OL`, `EL` or `XX`; null for exit status 0.
    pub status: Option<&'static str>,
    /// Milliseconds, user and system.
    pub cpu_time: u64,
    /// Milliseconds.
    pub wall_time: u64,
}

impl ExecuteResponse {
    /// The answer for this outcome of a runtime.
    pub fn new(language: impl Into<String>, version: impl Into<String>, outcome: &Outcome) -> Self {
        let compile = outcome.stage(StageKind::Compile).map(StageResult::new);
        let run = outcome.stage(StageKind::Run).map(StageResult::new);
        // No stage at all is ruled out by `Outcome`; should it come, it is our failure and said so.
        let run = run.or_else(|| compile.clone()).unwrap_or_else(StageResult::missing);
        Self { compile, run, language: language.into(), version: version.into() }
    }
}

impl StageResult {
    /// What the wire says of this stage.
    pub fn new(stage: &StageOutcome) -> Self {
        let End { code, signal, status, message } = End::of(stage);
        Self {
            signal,
            stdout: String::from_utf8_lossy(&stage.output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stage.output.stderr).into_owned(),
            code,
            output: interleaved(&stage.output),
            memory: stage.usage.memory_peak_bytes.map(|bytes| (bytes >> 10) * 1000),
            message,
            status,
            cpu_time: milliseconds(stage.usage.cpu_us),
            wall_time: milliseconds(stage.usage.wall_us),
        }
    }

    fn missing() -> Self {
        Self {
            signal: None,
            stdout: String::new(),
            stderr: String::new(),
            code: None,
            output: String::new(),
            memory: None,
            message: Some("No stage was run".to_owned()),
            status: Some("XX"),
            cpu_time: 0,
            wall_time: 0,
        }
    }
}

/// How a stage ended, in Piston's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) code: Option<i32>,
    pub(super) signal: Option<String>,
    pub(super) status: Option<&'static str>,
    pub(super) message: Option<String>,
}

impl End {
    /// Piston's table of events. A program is exec'ed, so its signal is a signal: the row that Piston has for its own shell
    /// dying by one. Whatever we stopped was stopped by SIGKILL, and has no exit status even if it won one in a race.
    pub(super) fn of(stage: &StageOutcome) -> Self {
        let killed = |status, message: &str| Self {
            code: None,
            signal: Some("SIGKILL".to_owned()),
            status: Some(status),
            message: Some(message.to_owned()),
        };
        let failed = |message: &str| Self { code: None, signal: None, status: Some("XX"), message: Some(message.to_owned()) };
        match (stage.verdict, stage.exit) {
            (Verdict::CpuTime, _) => killed("TO", "Time limit exceeded"),
            (Verdict::WallTime, _) => killed("TO", "Time limit exceeded (wall clock)"),
            (Verdict::Memory, _) => killed("RE", "Memory limit exceeded"),
            (Verdict::StdoutLimit, _) => killed("OL", "stdout length exceeded"),
            (Verdict::StderrLimit, _) => killed("EL", "stderr length exceeded"),
            (Verdict::Cancelled, _) => killed("XX", "Execution cancelled"),
            (Verdict::SandboxFailed, _) => failed("The sandbox failed"),
            (Verdict::Ok | Verdict::ExitStatus | Verdict::Signal, Some(Exit::Code(0))) => {
                Self { code: Some(0), signal: None, status: None, message: None }
            }
            (Verdict::Ok | Verdict::ExitStatus | Verdict::Signal, Some(Exit::Code(code))) => Self {
                code: Some(code),
                signal: None,
                status: Some("RE"),
                message: Some(format!("Exited with error status {code}")),
            },
            (Verdict::Ok | Verdict::ExitStatus | Verdict::Signal, Some(Exit::Signal(number))) => Self {
                code: None,
                signal: Some(signal::name(number).unwrap_or_else(|| format!("SIG{number}"))),
                status: Some("SG"),
                message: Some(format!("Caught fatal signal {number}")),
            },
            (Verdict::Ok | Verdict::ExitStatus | Verdict::Signal, None) => failed("The program's exit status was lost"),
        }
    }
}

/// Both streams in order of writing, each decoded as a whole: a character whose bytes come in two pieces stands where its last
/// byte came.
fn interleaved(output: &Output) -> String {
    let (mut stdout, mut stderr) = (Utf8Decoder::default(), Utf8Decoder::default());
    let mut text = String::with_capacity(output.stdout.len() + output.stderr.len());
    for (stream, bytes) in output.pieces() {
        text.push_str(&match stream {
            greenroom_core::Stream::Stdout => stdout.push(bytes),
            greenroom_core::Stream::Stderr => stderr.push(bytes),
        });
    }
    text.push_str(stdout.finish());
    text.push_str(stderr.finish());
    text
}

/// To the nearest: Piston's clocks tick in milliseconds.
fn milliseconds(microseconds: u64) -> u64 {
    microseconds.saturating_add(500) / 1000
}

#[cfg(test)]
mod tests;
