//! Cgroups: hard limits, the counters that verdicts come from, and the kill that nothing escapes.
//!
//! Two layouts. On **v2** every run gets a fresh leaf, into which its first process is cloned. On **v1** moving a
//! process costs an RCU grace period (5 to 35 ms after a pause), so a slot moves itself once, at its start, and
//! its sandboxes are born inside; counters are read as differences. A bare v2 tree beside v1 gives the kill
//! (`cgroup.kill`) and the word that all are gone (`populated`).
//!
//! An instance owns one directory `greenroom-<n>` per hierarchy, and holds a lock on it while it lives: who can
//! take the lock of a directory may remove it. `n` also is the instance's block of uids.

mod discover;
mod instance;
mod slot;
#[cfg(test)]
mod tests;

pub(crate) use discover::discover;
pub(crate) use instance::Instance;
pub(crate) use slot::SlotCgroup;
