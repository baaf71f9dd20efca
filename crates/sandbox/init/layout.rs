//! What the runner and the first process of a sandbox have to agree on: compiled into both.

/// Bring loopback up.
pub const LOOPBACK: u32 = 1;
/// Continue in the workspace of an earlier stage.
pub const CONTINUES: u32 = 2;
/// Programs have uids of their own, and so has the first process in the end.
pub const OWN_UIDS: u32 = 4;

/// Length of a plan, bytes: all that differs from one sandbox to the next. A packet of its own, so that nothing has to be parsed.
pub const PLAN_BYTES: usize = 96;
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
/// Texts, with at least one NUL behind each: the quota in bytes, decimal;
pub const SIZE: usize = 16;
/// in files;
pub const INODES: usize = 40;
/// and where programs see their files.
pub const PLACE: usize = 64;

/// Where the private tmpfs of a sandbox is mounted; its views are the files' place, `/tmp` and `/dev/shm`.
/// Mode 0700 and root's: programs cannot pass through.
pub const DISK: &str = "/run/disk";

/// The numbers of the steps that the first process takes (src/step.rs).
pub mod step {
    pub const PARENT_DEATH: u8 = 14;
    pub const HOSTNAME: u8 = 15;
    pub const LOOPBACK: u8 = 16;
    pub const MOUNT_DISK: u8 = 17;
    pub const MOUNT_PROC: u8 = 18;
    pub const MASK_PROC: u8 = 19;
    pub const READY: u8 = 25;
    pub const REAP: u8 = 33;
}
