//! The vocabulary of Greenroom: what is asked (a [`Job`]), under which [`Limits`], what came of it
//! (an [`Outcome`]) and who is to blame when it failed ([`Blame`]).
//!
//! Architecture invariant: no I/O, no clock, no tokio, no `unsafe`. Every other crate speaks these types,
//! so that nothing behind a wire format knows the wire format, and nothing in front of a sandbox knows
//! namespaces.
#![forbid(unsafe_code)]

mod blame;
mod id;
mod job;
mod limits;
mod outcome;
mod path;
mod profile;
pub mod signal;

pub use blame::Blame;
pub use id::ExecutionId;
pub use job::{DATA, DATA_TOO, Job, JobFile, Reuse, StageKind, StageSpec, Standby, Stdin, WORKSPACE};
pub use limits::{DiskLimits, Limits};
pub use outcome::{Chunk, Exit, Outcome, Output, StageOutcome, Stream, Usage, Verdict};
pub use path::{PathError, RelativePath};
pub use profile::{Profile, ProfileParseError};
