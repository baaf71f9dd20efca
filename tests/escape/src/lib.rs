//! What the escape suite is made of: the catalogue's rows, the cases as data, and the oracles.
//!
//! - **H0** (`host.rs`): after a case the host is as it was.
//! - **H1** (`canary.rs`): listeners outside the sandbox heard nothing, and a secret in the environment of every server
//!   never appears in an answer or a log.
//! - **H2**: a well-behaved neighbour, running at the same time, keeps its verdict (the suite's own main).
#![forbid(unsafe_code)]

mod canary;
mod case;
mod host;
mod language;

pub use canary::{Canary, SECRET, SECRET_NAME, keeps_secret};
pub use case::{Case, Deferred, Exchange, Expect, Group, groups, rows};
pub use host::{Footprint, Host, Program, cgroups, dead_instances, descendants, within};
pub use language::{Languages, NotTested, must_work};
