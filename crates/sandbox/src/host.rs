//! What this host offers, found by trying it.

use std::{fs, io};

use greenroom_core::Profile;
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    process::{Pid, WaitOptions, waitpid},
    thread::UnshareFlags,
};
use serde::{Deserialize, Serialize};

use crate::{
    cgroup,
    sys::{self, Cloned},
};

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
    /// Why the programs of a session cannot have a network, and what to do about it; `None` where they can.
    pub no_network: Option<String>,
    /// What is missing or weaker than it could be, each with what to do about it.
    pub notes: Vec<String>,
}

/// Looks at the host. The profile is not chosen yet: see [`strongest`].
pub(crate) fn look() -> HostReport {
    let uname = rustix::system::uname();
    let cgroups = cgroup::discover().map_or(CgroupVersion::None, |found| found.version());
    let landlock_abi = sys::landlock_abi();
    let seccomp = fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("\nSeccomp:"));
    let mut notes = Vec::new();
    if landlock_abi == 0 {
        notes.push(
            "the kernel has no Landlock (5.13 or later, and `landlock` in the lsm= boot parameter): the second layer is missing"
                .into(),
        );
    } else if landlock_abi < 6 {
        notes.push(format!("Landlock ABI {landlock_abi}: from 6 on (Linux 6.12) it also fences signals and abstract sockets"));
    }
    HostReport {
        profile: Profile::Restricted,
        kernel: uname.release().to_string_lossy().into_owned(),
        cgroups,
        landlock_abi,
        seccomp,
        no_network: Some("only in isolation full".to_owned()),
        notes,
    }
}

/// The strongest profile to be had, and why not a stronger one.
pub(crate) fn strongest(report: &HostReport) -> (Profile, Vec<String>) {
    let mut reasons = Vec::new();
    if rustix::process::geteuid().is_root() {
        match try_namespaces(false) {
            Ok(()) if report.cgroups != CgroupVersion::None => return (Profile::Full, reasons),
            Ok(()) => reasons.push(
                "full: no writable cgroups with the cpu, memory and pids controllers; mount cgroup2, or give the container writable cgroups"
                    .into(),
            ),
            Err(error) => reasons.push(format!(
                "full: namespaces and mounts are refused ({error}); run with CAP_SYS_ADMIN (in a container: --privileged), or require less"
            )),
        }
        return (Profile::Restricted, reasons);
    }
    reasons.push("full: not running as root".into());
    match try_namespaces(true) {
        Ok(()) => (Profile::Rootless, reasons),
        Err(error) => {
            reasons.push(format!(
                "rootless: user namespaces are refused ({error}); see the sysctls user.max_user_namespaces, kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns"
            ));
            (Profile::Restricted, reasons)
        }
    }
}

/// Tries what a sandbox needs, in a process of its own.
fn try_namespaces(own_user: bool) -> io::Result<()> {
    match sys::clone(0, None)? {
        Cloned::Child => {
            let tried = enter_and_mount(own_user);
            sys::exit_now(tried.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO)))
        }
        Cloned::Parent { pid, .. } => {
            let ended = waitpid(Pid::from_raw(pid), WaitOptions::empty())?;
            match ended.and_then(|(_, status)| status.exit_status()) {
                Some(0) => Ok(()),
                Some(errno) => Err(io::Error::from_raw_os_error(errno)),
                None => Err(io::ErrorKind::Interrupted.into()),
            }
        }
    }
}

fn enter_and_mount(own_user: bool) -> io::Result<()> {
    if own_user {
        become_own_root()?;
    }
    let all = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
    sys::unshare(all | UnshareFlags::NEWNET)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount("greenroom", "/tmp", "tmpfs", MountFlags::NOSUID, None)?;
    Ok(())
}

/// Enters a user namespace of one's own: all rights inside, those of the user outside (user_namespaces(7)).
pub(crate) fn become_own_root() -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    sys::unshare(UnshareFlags::NEWUSER)?;
    // Before the gid map: an unprivileged process may map a gid only once groups cannot be dropped.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}
