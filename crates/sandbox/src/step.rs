//! The steps of making a sandbox, each with a name: what an error says, and where a crash can be injected
//! in builds with debug assertions (`GREENROOM_CRASH_AT=<name>` kills the process that reaches the step).

use std::io;

macro_rules! steps {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// A step of making or running a sandbox.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum Step { $($(#[$doc])* $variant,)+ }

        impl Step {
            /// Every step, in the order of the source.
            pub const ALL: &[Step] = &[$(Step::$variant,)+];

            /// The name used in errors and for crash injection.
            pub fn name(self) -> &'static str {
                match self { $(Step::$variant => $name,)+ }
            }
        }
    };
}

steps! {
    /// Claim a block of uids and a cgroup directory of our own.
    ClaimInstance = "claim_instance",
    /// Remove what dead instances left.
    Sweep = "sweep",
    /// Leave the host's namespaces.
    Unshare = "unshare",
    /// Build the read-only root that every sandbox copies.
    BuildTemplate = "build_template",
    /// Make the template the root.
    PivotRoot = "pivot_root",
    /// Drop capabilities that no sandbox needs.
    DropCapabilities = "drop_capabilities",
    /// Make a slot's cgroups.
    SlotCgroup = "slot_cgroup",
    /// Move the slot into them.
    SlotAttach = "slot_attach",
    /// Let the slot go before the programs that it watches.
    SlotPriority = "slot_priority",
    /// Give the slot its network namespace, or a sandbox its own with a way out.
    SlotNetwork = "slot_network",
    /// Name the host that its sandboxes see.
    Hostname = "hostname",
    /// Make a run's own cgroup.
    LeafCgroup = "leaf_cgroup",
    /// Pipes and sockets of a run.
    Channels = "channels",
    /// Enter the mounts of an earlier stage.
    EnterBase = "enter_base",
    /// Clone the first process into its namespaces.
    CloneInit = "clone_init",
    /// Die with the parent.
    ParentDeath = "parent_death",
    /// Bring loopback up.
    Loopback = "loopback",
    /// Mount the private tmpfs and its three views.
    MountDisk = "mount_disk",
    /// Mount a /proc of the sandbox's own pid namespace.
    MountProc = "mount_proc",
    /// Hide the files of /proc that speak of the host.
    MaskProc = "mask_proc",
    /// Clone the process that becomes the program.
    CloneWorker = "clone_worker",
    /// Put pipes on fds 0, 1 and 2.
    Stdio = "stdio",
    /// Take the sandbox's own uid and gid.
    SetUid = "set_uid",
    /// Restrict the file system with Landlock.
    Landlock = "landlock",
    /// Install the system call filter.
    Seccomp = "seccomp",
    /// Tell the slot that the sandbox is ready.
    Ready = "ready",
    /// Read the job.
    ReadJob = "read_job",
    /// Write the job's files.
    WriteFiles = "write_files",
    /// Go to the workspace.
    WorkingDirectory = "working_directory",
    /// Set resource limits.
    ResourceLimits = "resource_limits",
    /// Wait for the limits to be in force.
    AwaitGo = "await_go",
    /// Set the run's limits in its cgroup.
    SetLimits = "set_limits",
    /// Become the program.
    Exec = "exec",
    /// Wait for the sandbox's processes to be gone.
    Reap = "reap",
    /// Remove the run's cgroup, and a session's workspace where it is on disk.
    RemoveLeaf = "remove_leaf",
    /// Fork the program's process from a zygote.
    Fork = "fork",
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", step.name())]
pub struct Failure {
    /// Which.
    pub step: Step,
    /// The system's answer.
    pub source: io::Error,
}

impl Failure {
    pub(crate) fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(libc::EIO)
    }
}

/// Runs one step; names it if it fails.
pub(crate) fn take<T, E: Into<io::Error>>(step: Step, body: impl FnOnce() -> Result<T, E>) -> Result<T, Failure> {
    crash_point(step);
    body().map_err(|error| Failure { step, source: error.into() })
}

/// The step to die at, if one is asked for.
#[cfg(debug_assertions)]
pub(crate) fn crash_at() -> Option<Step> {
    use std::sync::OnceLock;
    static AT: OnceLock<Option<Step>> = OnceLock::new();
    let asked = || std::env::var("GREENROOM_CRASH_AT").ok();
    *AT.get_or_init(|| asked().and_then(|name| Step::ALL.iter().find(|step| step.name() == name).copied()))
}

#[cfg(not(debug_assertions))]
pub(crate) fn crash_at() -> Option<Step> {
    None
}

/// Dies here, as by `kill -9`, if this is the step asked for.
#[cfg(debug_assertions)]
pub(crate) fn crash_point(step: Step) {
    if crash_at() == Some(step) {
        // The first process of a pid namespace cannot kill itself; it exits instead, which ends the namespace just so.
        let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::exit(if killed.is_ok() { 137 } else { 1 });
    }
}

#[cfg(not(debug_assertions))]
pub(crate) fn crash_point(_step: Step) {}
