//! The runner: a single-threaded process that makes sandboxes.

mod cgroup;
mod config;
mod fence;
mod filter;
mod host;
mod init;
pub mod message;
mod runner;
mod slot;
mod step;
mod sys;
mod template;
mod worker;
mod workspaces;

pub use config::{Network, SandboxConfig, SupportFile};
pub use host::{CgroupVersion, HostReport};
pub use runner::runner_main;
pub use step::{Failure, Step};
