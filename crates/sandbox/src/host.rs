use greenroom_core::Profile;
use serde::{Deserialize, Serialize};

/// Which cgroup file system enforces the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupVersion {
    /// The unified hierarchy with its controllers.
    V2,
    /// v1 controllers, with a bare v2 tree beside them for killing and for `populated`.
    V1,
    /// None that we may write: limits by rlimits only.
    None,
}

/// What this host offers, found at start by trying it. Shown in `/healthz` and by `greenroom doctor`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostReport {
    /// The profile in force.
    pub profile: Profile,
    /// `uname -r`.
    pub kernel: String,
    /// Which cgroups enforce limits.
    pub cgroups: CgroupVersion,
    /// Landlock ABI of the kernel; 0 where it has none.
    pub landlock_abi: u32,
    /// Whether the seccomp filter can be installed.
    pub seccomp: bool,
    /// What is missing or weaker than it could be, each with what to do about it.
    pub notes: Vec<String>,
}
