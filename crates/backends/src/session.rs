//! Sessions: sandboxes that stay, with an interpreter in them that executes one cell after the other.
//!
//! | module | what it is |
//! |---|---|
//! | `cell` | what is asked of a session, and what it answers |
//! | `files` | its files, reached by descriptors alone |
//! | `sandboxed` | how a session is made and ended: a pool's backend |
//! | `keeper` | the task that has the conversation with the program in the sandbox |
//! | `channel`, `wire` | the conversation: lines of JSON over a socket |
//! | `output` | what the program writes, and to which cell it belongs |
//! | `meter` | what the session uses |

mod cell;
mod channel;
mod error;
mod files;
mod keeper;
mod meter;
mod output;
mod sandboxed;
mod wire;

use greenroom_egress::Running;
use greenroom_pool::{EndReason, SessionUsage};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::meter::Meter;
use crate::local::OpenHandle;

pub use self::{
    cell::{CellError, CellStatus, CellValue, CodeExecution, CodeResult, SessionInfo, ShellCommand, ShellCommandKind, ShellResult},
    error::SessionError,
    files::{FILE_BYTES_MAX, FileError, FileInfo, FileKind, FileReader, FileWriter, Files, ListDepth},
    sandboxed::{LocalSessions, SessionProgram},
};

/// A sandbox that belongs to one identifier, with the state of its interpreter and its files.
pub struct Session {
    info: SessionInfo,
    files: Files,
    requests: mpsc::Sender<Request>,
    handle: OpenHandle,
    /// Told when it has ended by itself.
    ended: watch::Receiver<Option<EndReason>>,
    /// Asks its task to stop.
    stop: CancellationToken,
    meter: Meter,
    /// What takes its programs to the network, if its pool has one.
    network: Option<Running>,
}

/// What a caller asks of the session's task. Dropping the receiver of the answer gives the request up: what runs is interrupted.
enum Request {
    Code(CodeExecution, oneshot::Sender<Result<CodeResult, SessionError>>),
    Command(ShellCommand, oneshot::Sender<Result<ShellResult, SessionError>>),
}

impl Session {
    /// Executes a cell, after those that were asked for before. Dropping the future interrupts the cell; the session goes on.
    ///
    /// # Errors
    /// [`SessionError`]: never what the code does, only that it could not be executed.
    pub async fn execute(&self, cell: CodeExecution) -> Result<CodeResult, SessionError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Code(cell, answer)).await.map_err(|_| self.why_over())?;
        answered.await.map_err(|_| self.why_over())?
    }

    /// Runs a command, after those that were asked for before. Dropping the future stops the command; the session goes on.
    ///
    /// # Errors
    /// [`SessionError`]: never what the command does, only that it could not be run.
    pub async fn run(&self, command: ShellCommand) -> Result<ShellResult, SessionError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Command(command, answer)).await.map_err(|_| self.why_over())?;
        answered.await.map_err(|_| self.why_over())?
    }

    fn why_over(&self) -> SessionError {
        self.ended.borrow().map_or(SessionError::Gone, SessionError::Ended)
    }

    /// Its files. They can be reached while a cell runs, too.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// What it has used so far; memory and processor time as of the last look at them.
    pub fn usage(&self) -> SessionUsage {
        self.meter.so_far()
    }

    /// What runs in it.
    pub fn info(&self) -> &SessionInfo {
        &self.info
    }
}
