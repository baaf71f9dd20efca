//! Profile restricted: workspaces on disk, and ways to own uids and to end processes without namespaces.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, PermissionsExt, chown},
    },
    path::PathBuf,
    time::{Duration, Instant},
};

use rustix::{
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with},
    process::{Pid, Signal, WaitOptions, kill_process, waitpid},
};

use crate::config::SandboxConfig;

/// How long the processes of a run are hunted.
const HUNT_TIMEOUT: Duration = Duration::from_secs(10);

/// The directory that holds one workspace per slot.
pub(crate) struct Workspaces {
    base: PathBuf,
}

impl Workspaces {
    /// Makes it; others may pass through and not list. What an earlier runner on the same data directory left goes.
    pub(crate) fn new(config: &SandboxConfig) -> io::Result<Self> {
        let base = config.workspace_dir.join("workspaces");
        remove(&base)?;
        fs::DirBuilder::new().recursive(true).mode(0o711).create(&base)?;
        fs::set_permissions(&base, fs::Permissions::from_mode(0o711))?;
        Ok(Self { base })
    }

    /// The slot's workspace: an empty one with this owner, or the one that an earlier stage used.
    pub(crate) fn ready(&self, index: u32, continues: bool, owner: Option<u32>) -> io::Result<PathBuf> {
        let path = self.base.join(format!("slot-{index}"));
        if !continues {
            remove(&path)?;
            fs::DirBuilder::new().mode(0o700).create(&path)?;
            if owner.is_some() {
                chown(&path, owner, owner)?;
            }
        }
        Ok(path)
    }

    /// Removes all of them.
    pub(crate) fn remove(&self) -> io::Result<()> {
        remove(&self.base)
    }
}

/// Removes a tree, following no link (`std` walks by descriptors).
fn remove(path: &PathBuf) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Claims the first free block of uids below `count`. The claim is an abstract socket: the kernel gives it up
/// with the process, and it leaves no file.
pub(crate) fn claim_block(count: u32) -> io::Result<(u32, OwnedFd)> {
    for number in 0..count.max(1) {
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let name = SocketAddrUnix::new_abstract_name(format!("greenroom-uids-{number}").as_bytes())?;
        match bind(&socket, &name) {
            Ok(()) => return Ok((number, socket)),
            Err(rustix::io::Errno::ADDRINUSE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "every uid block is taken by a running server"))
}

/// Kills what is left of a run: with its init dead, its processes become children of this slot, a subreaper.
/// `init` itself is left for its own `waitpid`.
pub(crate) fn end_descendants(init: Pid) -> io::Result<()> {
    let deadline = Instant::now() + HUNT_TIMEOUT;
    let me = std::process::id();
    loop {
        let children = fs::read_to_string(format!("/proc/{me}/task/{me}/children"))?;
        let left: Vec<Pid> = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .filter_map(Pid::from_raw)
            .filter(|&pid| pid != init)
            .collect();
        // Until init is dead its children are not ours yet.
        let init_dead = matches!(state(init), None | Some('Z'));
        if left.is_empty() && init_dead {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "processes of a run do not end"));
        }
        for pid in left {
            match kill_process(pid, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
            waitpid(Some(pid), WaitOptions::NOHANG)?;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// The state letter of a process (proc_pid_stat(5)); `None` where there is no such process.
fn state(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}
