//! The languages: what a [`Runtime`] is called, whether it is installed, and how a [`Program`] in it becomes a
//! [`Job`](greenroom_core::Job) of plain commands.
//!
//! Everything particular to a language stands in `runtimes/<language>/runtime.toml` (embedded in the binary; a directory
//! of further ones may be named), except what has to be read out of the sources: class names ([`entry`]) and the order of
//! compilation ([`order`]).
//!
//! The way of a program: [`Catalogue::resolve`] picks the runtime, [`Runtime::plan`] chooses the translation units and their
//! names ([`sources`]), finds the entry point, and fills in the command templates ([`template`]).
//!
//! Architecture invariant: nothing here knows HTTP or namespaces, and planning does no I/O. Only discovery ([`probe`]),
//! installation ([`debian`]) and what is compiled ahead ([`precompile`]) start processes.
#![forbid(unsafe_code)]

mod catalogue;
mod debian;
mod definition;
mod entry;
mod order;
mod plan;
mod precompile;
mod probe;
mod range;
mod runtime;
mod sources;
mod template;
mod tokens;

pub use catalogue::{Absent, Catalogue, CatalogueError, DiscoverOptions, InstallError, PackageState};
pub use debian::{DebianError, Elevation};
pub use definition::{DefinitionError, LimitOverrides};
pub use plan::{PlanError, Program, ProgramFile, SessionCommand};
pub use precompile::PrecompileError;
pub use probe::ProbeError;
pub use runtime::Runtime;
