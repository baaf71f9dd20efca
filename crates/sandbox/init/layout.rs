//! What the runner and the first process of a sandbox have to agree on: compiled into both.

/// Bring loopback up.
pub const LOOPBACK: u32 = 1;
/// Continue in the workspace of an earlier stage.
pub const CONTINUES: u32 = 2;
/// Programs have uids of their own, and so has the first process in the end.
pub const OWN_UIDS: u32 = 4;
/// No cgroup limits the program: rlimits have to.
pub const WITHOUT_CGROUPS: u32 = 8;
/// Programs have a network: show how names are looked up there.
pub const NETWORK: u32 = 16;

/// Length of a plan, bytes: all that differs from one sandbox to the next. A packet of its own, so that nothing has to be parsed.
pub const PLAN_BYTES: usize = 100;
/// Where its parts begin: numbers of four bytes, little-endian.
pub const FLAGS: usize = 0;
/// The program's uid.
pub const UID: usize = 4;
/// The first process's own, in the end.
pub const INIT_UID: usize = 8;
/// One byte: the number of the step to die at, for tests.
pub const CRASH_AT: usize = 12;
/// No step's number.
pub const NO_STEP: u8 = u8::MAX;
/// How many instructions the system call filter has.
pub const FILTER_LEN: usize = 16;
/// Texts, with at least one NUL behind each: the quota in bytes, decimal;
pub const SIZE: usize = 20;
/// in files;
pub const INODES: usize = 44;
/// and where programs see their files.
pub const PLACE: usize = 68;

/// Where the private tmpfs of a sandbox is mounted; its views are the files' place, `/tmp` and `/dev/shm`.
/// Mode 0700 and root's: programs cannot pass through.
pub const DISK: &str = "/run/disk";

/// Where the template has what takes the place of files of the same names in `/etc` for programs that have a network.
pub const NETWORK_FILES: &str = "/run/network";

/// Signals that the runner ignores (SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE), and no program shall.
pub const IGNORED_SIGNALS: [i32; 5] = [2, 15, 1, 3, 13];
/// The stack of a program, bytes: deep recursion is honest, endless recursion should meet its end.
pub const STACK_BYTES: u64 = 256 << 20;
/// And where there are no cgroups: the kernel's own default.
const ORDINARY_STACK_BYTES: u64 = 8 << 20;

/// The stack of a program that may use this much memory, bytes. Without cgroups it is that of each of its threads, and a thread's counts
/// as data, whether it is used or not (setrlimit(2), RLIMIT_DATA): with the large one, a program would have one thread.
pub fn stack_bytes(memory_bytes: u64, cgroups: bool) -> u64 {
    let most = STACK_BYTES.min(memory_bytes);
    if cgroups { most } else { most.min((memory_bytes / 64).max(ORDINARY_STACK_BYTES)) }
}

/// The numbers of the steps that the first process takes, and the worker (src/step.rs).
pub mod step {
    pub const PARENT_DEATH: u8 = 15;
    pub const LOOPBACK: u8 = 16;
    pub const MOUNT_DISK: u8 = 17;
    pub const MOUNT_PROC: u8 = 18;
    pub const MASK_PROC: u8 = 19;
    pub const CLONE_WORKER: u8 = 20;
    pub const STDIO: u8 = 21;
    pub const SET_UID: u8 = 22;
    pub const LANDLOCK: u8 = 23;
    pub const SECCOMP: u8 = 24;
    pub const READY: u8 = 25;
    pub const READ_JOB: u8 = 26;
    pub const WRITE_FILES: u8 = 27;
    pub const WORKING_DIRECTORY: u8 = 28;
    pub const RESOURCE_LIMITS: u8 = 29;
    pub const AWAIT_GO: u8 = 30;
    pub const EXEC: u8 = 32;
    pub const REAP: u8 = 33;
}
