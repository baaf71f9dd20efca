//! What is asked of a session, and what it answers.

use greenroom_pool::EndReason;

/// A cell of code, for a session of an interpreter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeExecution {
    /// The code.
    pub code: String,
    /// Wall-clock time it may take, milliseconds. The pool's limit holds where there is none or it is longer.
    pub timeout_ms: Option<u64>,
    /// Characters kept of each output stream. The pool's limit, in bytes, holds in any case.
    pub output_chars: Option<usize>,
}

/// What came of a cell. A cell that fails is a result, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeResult {
    /// How it ended.
    pub status: CellStatus,
    /// What it wrote to standard output, as far as it is kept; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// What it wrote to standard error. The traceback of its exception is in `error`, not here.
    pub stderr: String,
    /// The value of its last expression.
    pub value: CellValue,
    /// The exception that ended it.
    pub error: Option<CellError>,
    /// Whether some of its output or value was left out, because it is longer than what is kept.
    pub truncated: bool,
    /// From handing it over to its answer, microseconds.
    pub duration_us: u64,
    /// The session did not survive the cell, and why. Its next call is told so by the pool.
    pub ended: Option<EndReason>,
}

/// How a cell or a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CellStatus {
    /// To its end. For a command: whatever its exit status.
    Succeeded,
    /// An exception ended it: [`CodeResult::error`]. For a command: it could not be started.
    Failed,
    /// It took longer than it may, and was interrupted. The session goes on, unless it did not heed the interrupt.
    TimedOut,
    /// It used up its processor time, and was interrupted.
    CpuTime,
    /// The session ended under it: it ran out of memory, killed its own interpreter, or broke the conversation with it.
    Aborted,
}

/// The value of a cell's last expression.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CellValue {
    /// There is none: the last statement is no expression, or a call that returns nothing.
    #[default]
    Absent,
    /// `None`, `undefined`.
    Null,
    /// As the interpreter shows it (`repr`, `util.inspect`), not decoded.
    Text(String),
    /// A picture.
    Image {
        /// `png`, `jpeg`.
        format: String,
        /// Its bytes.
        base64: String,
    },
}

/// The exception that ended a cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub struct CellError {
    /// Its type.
    pub name: String,
    /// Its text.
    pub message: String,
    /// As the interpreter prints it, with the frames of the cell and of what it called.
    pub traceback: String,
}

/// A command, for a session of the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShellCommand {
    /// What to run.
    pub command: ShellCommandKind,
    /// Its standard input; empty for none.
    pub stdin: String,
    /// As [`CodeExecution::timeout_ms`].
    pub timeout_ms: Option<u64>,
    /// As [`CodeExecution::output_chars`].
    pub output_chars: Option<usize>,
}

/// The two ways to say what to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShellCommandKind {
    /// A line of the shell, or several.
    Line(String),
    /// A program and its arguments, with no shell between. The program is looked for in `PATH`.
    Argv(Vec<String>),
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShellResult {
    /// How it ended.
    pub status: CellStatus,
    /// Its exit status, 128 + N where signal N killed it, 126 or 127 where it could not be started.
    /// `None` where it was stopped by us.
    pub exit: Option<i32>,
    /// What it wrote to standard output, as far as it is kept; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// Whether some of its output was left out.
    pub truncated: bool,
    /// From handing it over to its end, microseconds.
    pub duration_us: u64,
    /// The session did not survive the command, and why.
    pub ended: Option<EndReason>,
}

/// What runs inside a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// The runtime's name, as its own program tells it: `python`, `javascript`, `shell`.
    pub runtime: String,
    /// Its version.
    pub version: String,
}
