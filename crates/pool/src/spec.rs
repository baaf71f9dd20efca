//! What an operator asks of a pool. Names and defaults are those of `Microsoft.App/sessionPools` and of
//! `az containerapp sessionpool create` where they have one.

mod check;
mod patch;

pub use check::{Rules, SpecError};
use greenroom_core::{DiskLimits, Limits};
pub use patch::{LifecycleKind, LifecyclePatch, PoolPatch};

/// Everything that a pool is made to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// Its name: 3 to 63 lower-case letters, digits and hyphens, beginning with a letter.
    pub name: String,
    /// What its sessions run. Fixed for the pool's life.
    #[serde(default)]
    pub kind: PoolKind,
    /// Most sessions that may exist at once, ready and starting ones included.
    #[serde(default = "default_max_sessions")]
    pub max_sessions: u32,
    /// How many sessions are kept ready for identifiers not seen before, as far as `max_sessions` leaves room.
    #[serde(default = "default_ready_sessions")]
    pub ready_sessions: u32,
    /// When a session ends.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// Whether programs reach the network.
    #[serde(default)]
    pub network: Network,
    /// What a session may use.
    #[serde(default)]
    pub limits: SessionLimits,
    /// Modules that are imported before a session is ready.
    #[serde(default)]
    pub warm: Vec<String>,
}

fn default_max_sessions() -> u32 {
    10
}

fn default_ready_sessions() -> u32 {
    5
}

impl PoolSpec {
    /// A pool of this name, everything else by default.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: PoolKind::default(),
            max_sessions: default_max_sessions(),
            ready_sessions: default_ready_sessions(),
            lifecycle: Lifecycle::default(),
            network: Network::default(),
            limits: SessionLimits::default(),
            warm: Vec::new(),
        }
    }

    /// Whether a session made to `self` is also one made to `other`. Numbers and times of the pool do not go into a session.
    pub fn makes_the_same_sessions_as(&self, other: &PoolSpec) -> bool {
        (self.kind, self.network, self.limits, &self.warm) == (other.kind, other.network, other.limits, &other.warm)
    }
}

/// What the sessions of a pool run (`containerType`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum PoolKind {
    /// Python cells.
    #[default]
    #[serde(rename = "PythonLTS")]
    PythonLts,
    /// JavaScript cells.
    #[serde(rename = "NodeLTS")]
    NodeLts,
    /// Shell commands.
    Shell,
}

impl PoolKind {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            PoolKind::PythonLts => "PythonLTS",
            PoolKind::NodeLts => "NodeLTS",
            PoolKind::Shell => "Shell",
        }
    }
}

/// When a session ends (`lifecycleConfiguration`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum Lifecycle {
    /// So long after the end of its last call.
    Timed {
        /// Seconds.
        cooldown_s: u32,
    },
    /// When its process ends; at the latest so long after it came to belong to its identifier, also in the middle of a call.
    OnContainerExit {
        /// Seconds.
        max_alive_s: u32,
    },
}

impl Lifecycle {
    /// `--cooldown-period` where none is given, seconds.
    pub const DEFAULT_COOLDOWN_S: u32 = 300;
    /// `--max-alive-period` where none is given, seconds.
    pub const DEFAULT_MAX_ALIVE_S: u32 = 3600;
}

impl Default for Lifecycle {
    fn default() -> Self {
        Lifecycle::Timed { cooldown_s: Self::DEFAULT_COOLDOWN_S }
    }
}

/// Whether programs of a pool reach the network (`sessionNetworkConfiguration.status`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Network {
    /// `EgressDisabled`.
    #[default]
    Disabled,
    /// `EgressEnabled`.
    Enabled,
}

/// What one session may use. Those of an execution hold for each call anew; the others for all that lives in the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionLimits {
    /// Wall-clock time of one execution where it does not ask for less, milliseconds.
    pub execution_wall_ms: u64,
    /// CPU time of one execution, milliseconds.
    pub execution_cpu_ms: u64,
    /// Bytes kept of each of an execution's stdout and stderr.
    pub execution_output_bytes: u64,
    /// Memory of all processes together, bytes.
    pub memory_bytes: u64,
    /// Share of processors, in thousandths of one.
    pub cpu_milli: u32,
    /// Processes and threads alive at once.
    pub processes: u32,
    /// Open files of one process.
    pub open_files: u32,
    /// Size of one written file, bytes.
    pub file_size_bytes: u64,
    /// Quota of the session's files.
    pub disk: DiskLimits,
}

impl Default for SessionLimits {
    /// 220 s of an execution are the contract's; an upload may have 128 MB, so a file and the disk hold that.
    fn default() -> Self {
        Self {
            execution_wall_ms: 220_000,
            execution_cpu_ms: 220_000,
            execution_output_bytes: 1 << 20,
            memory_bytes: 512 << 20,
            cpu_milli: 1000,
            processes: 128,
            open_files: 1024,
            file_size_bytes: 128 << 20,
            disk: DiskLimits { bytes: 256 << 20, inodes: 16_384 },
        }
    }
}

impl SessionLimits {
    /// The limits of one execution in the session.
    pub fn of_execution(&self) -> Limits {
        Limits {
            wall_ms: self.execution_wall_ms,
            cpu_ms: self.execution_cpu_ms,
            memory_bytes: self.memory_bytes,
            processes: self.processes,
            open_files: self.open_files,
            file_size_bytes: self.file_size_bytes,
            output_bytes: Some(self.execution_output_bytes),
            cpu_milli: self.cpu_milli,
        }
    }
}

#[cfg(test)]
mod tests;
