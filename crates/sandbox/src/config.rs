use std::path::PathBuf;

use greenroom_core::{DiskLimits, Profile, RelativePath};
use serde::{Deserialize, Serialize};

use crate::zygote::ZygoteConfig;

/// What the runner needs to know before the first job. Plain data; travels to the runner process in a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// The weakest acceptable isolation. `None`: `full` when root, else the strongest to be had.
    pub require: Option<Profile>,
    /// What programs can reach.
    pub network: Network,
    /// The system that programs see: a directory with `usr` (and `etc`) in it. `None`: the host's own `/usr`.
    pub system_root: Option<PathBuf>,
    /// Names below `/etc` of that system that are copied into the sandbox's own `/etc`
    /// (`alternatives`, `java-17-openjdk`, …). Missing ones are left out.
    pub etc: Vec<String>,
    /// Read-only files put at `/opt/greenroom/<path>` in every sandbox (shims of runtimes).
    pub support: Vec<SupportFile>,
    /// Directories of the host that every sandbox sees, read-only, below `/opt/greenroom`: what is too large to be copied, or
    /// made after the start. One that does not exist is left out. Not in profile `restricted`, which has no mounts.
    pub directories: Vec<SharedDirectory>,
    /// Where workspaces stand in profile restricted, which has no private tmpfs.
    pub workspace_dir: PathBuf,
    /// First host uid (and gid) given to sandboxes. Never 0.
    pub uid_first: u32,
    /// How many uids from there on are ours.
    pub uid_count: u32,
    /// Quota of a job's files, for sandboxes prepared before their job is known.
    pub disk: DiskLimits,
    /// Sandboxes for jobs that may exist at once, the ones prepared ahead included.
    pub max_sandboxes: u32,
    /// Sandboxes of sessions that may exist at once, beside those. Nothing is made for them before it is asked for.
    pub max_sessions: u32,
    /// Sandboxes kept prepared for jobs to come.
    pub ready_sandboxes: u32,
    /// Interpreters kept warm. Only in profile full.
    pub zygotes: Vec<ZygoteConfig>,
    /// Sandboxes kept prepared with a child of each zygote.
    pub ready_children: u32,
    /// Memory of what is kept ready beside all those, of what is asked for most, bytes.
    pub adaptive_bytes: u64,
}

/// What programs can reach over the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Nothing: an empty network namespace, its loopback down.
    None,
    /// Only itself: a network namespace of its own with loopback up.
    Loopback,
}

/// A read-only file put into every sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SupportFile {
    /// Below `/opt/greenroom`.
    pub path: String,
    /// Its bytes.
    pub content: Vec<u8>,
    /// Mode 0755 rather than 0644.
    pub executable: bool,
}

/// A directory of the host that every sandbox sees, read-only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SharedDirectory {
    /// Where it stands on the host.
    pub path: PathBuf,
    /// Where it is seen, below `/opt/greenroom`.
    pub at: String,
}

impl SupportFile {
    /// A file at `/opt/greenroom/<path>`.
    pub fn new(path: &RelativePath, content: Vec<u8>, executable: bool) -> Self {
        Self { path: path.to_string(), content, executable }
    }
}
