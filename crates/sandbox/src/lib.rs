//! The runner: a single-threaded process that makes sandboxes.
//!
//! # Theory of operation
//!
//! ```text
//!  server (tokio, many threads; never forks into sandbox code)
//!    │ socket                  │ per slot: one socket; per sandbox: stdin, stdout, stderr, job
//!    ▼                         ▼
//!  runner ──clone──► slot 0, slot 1 …     root, in a mount namespace that holds the template and nothing of the host
//!                     │ clone3 into fresh namespaces and a fresh cgroup, execve of a tiny program
//!                     ▼
//!                   init      pid 1: makes mounts, forks the worker, gives all rights away, reaps
//!                     │ fork
//!                     ▼
//!                   worker    pid 2: takes its uid, Landlock, the filter; *then* reads the job; execs the program
//! ```
//!
//! Everything down to the sealed worker is made before a job is known. A job costs: its bytes over a socket, its
//! files written, the limits put in force, one word from the slot, `execve`. No mount, no cgroup attach and no
//! clone is on that way.
//!
//! - **runner** ([`runner_main`]): picks the profile, sweeps what dead instances left, builds the template, keeps
//!   the slots alive, cleans up when the server's socket closes.
//! - **slot** (`slot.rs`): one sandbox after the other. It sets limits, watches clocks, kills, reads the counters.
//! - **init** and **worker** (`init/main.rs`, `init/worker.rs`; `src/init.rs`, `src/worker.rs` where there are no namespaces):
//!   see the picture.
//!
//! Who dies takes along what is below: init and slots ask for SIGKILL at their parent's death, the end of a pid
//! namespace's first process ends the namespace, and the runner cleans up at the server's end. What a `kill -9`
//! of the runner leaves is empty cgroup directories; the next runner, started at once, sweeps them.
//!
//! Messages go by packets with passed descriptors ([`message`]). Nothing that a program can write is read by path
//! by anything outside its sandbox.

mod cgroup;
mod config;
mod fence;
mod filter;
mod host;
mod init;
#[path = "../init/layout.rs"]
mod layout;
pub mod message;
mod network;
mod plan;
mod rights;
mod runner;
mod slot;
mod step;
mod sys;
mod template;
mod worker;
mod workspaces;
mod zygote;

pub use config::{Network, SandboxConfig, SharedDirectory, SupportFile};
pub use host::{CgroupVersion, HostReport};
pub use network::{GATEWAY_ADDRESS, SANDBOX_ADDRESS};
pub use runner::runner_main;
pub use step::{Failure, Step};
pub use sys::forget_the_start;
pub use zygote::ZygoteConfig;
