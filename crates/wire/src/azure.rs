//! Azure's data plane of session pools ("dynamic sessions"): what is sent to a pool's management endpoint.
//!
//! In the order in which a request meets it: [`Call::parse`] (method and path to one operation of one pool), [`Query`] and
//! [`ApiVersion`] (parameters; the version settles the shape where two share a path), [`identifier`] (whose session),
//! [`ExecuteRequest::parse`] or [`boundary`] and [`PartName`] (bodies), [`FilePath`] and [`Directory`] (names below
//! `/mnt/data`), and on the way back [`Execution`], [`FileEntry`], [`SessionInfo`] and [`Metadata`], each in the shape of its
//! path, or [`AzureError`].
//!
//! Three shapes stand side by side: [`Shape::Legacy`] (`/python/…`, flat), [`Shape::Old`] (`/code/execute`) and [`Shape::New`]
//! (`/executions`).

mod api_version;
mod error;
mod execution;
mod files;
mod identifier;
mod instant;
mod kept;
mod multipart;
mod names;
mod operations;
mod path;
mod percent;
mod query;
mod request;
mod session;
mod shell;
mod value;

pub use api_version::{ApiVersion, Shape};
pub use error::{AzureError, PROBLEM_CONTENT_TYPE};
pub use execution::{Execution, ExecutionStatus, Output, headers};
pub use files::{FileEntry, content_disposition, content_type};
pub use identifier::identifier;
pub use instant::Instant;
pub use kept::ErrorDetail;
pub use multipart::{PartName, boundary};
pub use names::{Directory, FilePath, MOUNT};
pub use operations::{is_operation_id, operation_location};
pub use path::{Call, Operation, PoolAddress};
pub use query::{Query, Required};
pub use request::{ExecuteRequest, ExecutionType, MAX_TIMEOUT_S, PoolType, Program};
pub use session::{KernelInfo, Metadata, PackageInfo, RuntimeInfo, SessionInfo, sessions, stopped};
pub use shell::ShellStatus;
pub use value::CellValue;
