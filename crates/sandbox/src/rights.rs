//! What our processes may do of what root may. Nobody gets a right back that was given away: the bounding set is empty, and of what a
//! process execs nothing has more than the one before could hand on (capabilities(7)).

use std::io;

use rustix::{
    fs::{Gid, Uid},
    io::Errno,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};

/// What the first process of a sandbox needs: to mount, bring loopback up, make directories, and give them and itself
/// other owners.
pub(crate) const INIT: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID);

/// What a zygote needs: to enter a sandbox's namespaces, whose init has more rights than it, and to take a uid.
pub(crate) const ZYGOTE: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID);

/// What this process hands on to programs that it becomes or starts, as far as it has it. More than before only while the bounding
/// set still has it.
pub(crate) fn bequeath(rights: CapabilitySet) -> io::Result<()> {
    let ours = capabilities(None)?;
    Ok(set_capabilities(None, CapabilitySets { inheritable: rights & ours.permitted, ..ours })?)
}

/// Takes a uid and gid of its own, for good, and checks that no capability is left.
pub(crate) fn take_identity(id: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    drop_capabilities()?;
    let left = capabilities(None)?;
    if left.effective.is_empty() && left.permitted.is_empty() { Ok(()) } else { Err(Errno::PERM.into()) }
}

/// Gives away every capability (also those that come with a user namespace), and those to hand on.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}
