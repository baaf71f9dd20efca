//! The runner: a single-threaded process that makes sandboxes.

mod config;
mod host;

pub use config::{Network, SandboxConfig, SupportFile};
pub use host::{CgroupVersion, HostReport};
