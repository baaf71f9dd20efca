//! Where executions happen. One backend for now: [`Local`], which drives the runner process on this machine.
//!
//! Architecture invariant: no HTTP serving, no languages.
#![forbid(unsafe_code)]

mod local;

pub use local::{Control, Event, ExecError, Execution, Finished, Local, LocalStatus, StartError, Timings};
