//! Where executions happen. One backend for now: [`Local`], which drives the runner process on this machine; and the sessions
//! that live in its sandboxes.
//!
//! Architecture invariant: no HTTP serving, no languages.
#![forbid(unsafe_code)]

mod local;
mod session;

pub use local::{
    Control, Event, ExecError, Execution, Finished, Held, KeptStatus, Local, LocalStatus, OpenEnd, OpenHandle, OpenSandbox,
    OpenSpec, OpenUsage, StandbyStatus, Start, StartError, StockStatus, Timings,
};
pub use session::{
    CellError, CellStatus, CellValue, CodeExecution, CodeResult, FILE_BYTES_MAX, FileError, FileInfo, FileKind, FileReader,
    FileWriter, Files, ListDepth, LocalSessions, Session, SessionError, SessionInfo, SessionProgram, ShellCommand,
    ShellCommandKind, ShellResult,
};
