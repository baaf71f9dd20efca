//! The directories of one running instance, and the removal of dead ones.
//!
//! Everything goes by directory descriptors: the runner leaves the host's mounts behind, its descriptors stay.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, fstat, mkdirat, openat, statat, unlinkat},
    io::Errno,
    process::{Pid, Signal, kill_process},
};

use super::{
    discover::{Hierarchies, V1},
    slot::SlotCgroup,
};
use crate::host::CgroupVersion;

/// How long a sweep waits for killed processes to be gone.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(4);
/// The controllers of a v2 tree that carry limits.
const CONTROLLERS: &str = "+cpu +memory +pids";

/// Our directory in each hierarchy, and the lock that says we live.
pub(crate) struct Instance {
    /// Which block: part of the name, and of the uids.
    pub(crate) number: u32,
    parents: Parents,
    /// Held, never read: dropping it would let others remove our directories.
    _lock: OwnedFd,
}

fn name(number: u32) -> String {
    format!("greenroom-{number}")
}

impl Instance {
    /// Claims the first free number below `count`, and removes what dead instances left under any number.
    /// `None` where the number of live instances has reached `count`.
    pub(crate) fn claim(hierarchies: &Hierarchies, count: u32) -> io::Result<Option<Self>> {
        let parents = Parents::open(hierarchies)?;
        if parents.version == CgroupVersion::V2 {
            parents.delegate_controllers()?;
        }
        let mut claimed: Option<(u32, OwnedFd)> = None;
        for number in 0..count {
            let existing = parents.exists(number)?;
            if claimed.is_some() && !existing {
                continue;
            }
            let Some(lock) = parents.lock(number)? else { continue };
            if existing {
                parents.clear(number)?;
            }
            if claimed.is_some() {
                parents.remove(number)?;
            } else {
                claimed = Some((number, lock));
            }
        }
        let Some((number, lock)) = claimed else { return Ok(None) };
        for parent in parents.all() {
            subdirectory(parent, &name(number))?;
        }
        if let (CgroupVersion::V2, Some(v2)) = (parents.version, &parents.v2) {
            write(subdirectory(v2, &name(number))?, "cgroup.subtree_control", CONTROLLERS)?;
        }
        Ok(Some(Self { number, parents, _lock: lock }))
    }

    /// Makes the directories of a slot.
    pub(crate) fn slot(&self, index: u32) -> io::Result<SlotCgroup> {
        let (ours, leaf) = (name(self.number), format!("slot-{index}"));
        let slot_of = |parent: &OwnedFd| subdirectory(subdirectory(parent, &ours)?, &leaf);
        match (self.parents.version, &self.parents.v2, &self.parents.v1) {
            (CgroupVersion::V2, Some(v2), _) => SlotCgroup::v2(slot_of(v2)?),
            (CgroupVersion::V1, v2, Some(v1)) => SlotCgroup::v1(v1.try_map(slot_of)?, v2.as_ref().map(slot_of).transpose()?),
            _ => Err(Errno::NODEV.into()),
        }
    }

    /// Ends everything inside and removes the directories.
    pub(crate) fn remove(self) -> io::Result<()> {
        self.parents.clear(self.number)?;
        self.parents.remove(self.number)
    }
}

/// Where instances have their directories: the cgroups that we are in.
struct Parents {
    version: CgroupVersion,
    v2: Option<OwnedFd>,
    v1: Option<V1<OwnedFd>>,
}

impl Parents {
    fn open(hierarchies: &Hierarchies) -> io::Result<Self> {
        let version = hierarchies.version();
        let open = |path: &std::path::PathBuf| -> io::Result<OwnedFd> {
            Ok(rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
        };
        let v1 = hierarchies.v1.as_ref().filter(|_| version == CgroupVersion::V1).map(|v1| v1.try_map(open)).transpose()?;
        Ok(Self { version, v2: hierarchies.v2.as_ref().map(open).transpose()?, v1 })
    }

    /// The v2 tree first: its kill is atomic, and reaches what sits in the v1 hierarchies too.
    fn all(&self) -> impl Iterator<Item = &OwnedFd> {
        self.v2.iter().chain(self.v1.iter().flat_map(V1::each))
    }

    fn exists(&self, number: u32) -> io::Result<bool> {
        for parent in self.all() {
            match statat(parent, name(number), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => return Ok(true),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// Makes the directory that carries the lock and locks it; `None` where a living instance has it.
    fn lock(&self, number: u32) -> io::Result<Option<OwnedFd>> {
        let Some(parent) = self.all().next() else { return Err(Errno::NODEV.into()) };
        loop {
            let dir = match subdirectory(parent, &name(number)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Ok(None),
                other => other?,
            }
            // Between mkdir and lock another instance may have swept it away: then the lock is on a dead directory.
            match statat(parent, name(number), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(now) if now.st_ino == fstat(&dir)?.st_ino => return Ok(Some(dir)),
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Kills what is in an instance and removes the directories below its own.
    fn clear(&self, number: u32) -> io::Result<()> {
        let deadline = Instant::now() + SWEEP_TIMEOUT;
        for parent in self.all() {
            let Some(dir) = existing(parent, &name(number))? else { continue };
            empty(&dir, deadline)?;
            for child in children(&dir)? {
                remove_tree(&dir, &child, deadline)?;
            }
        }
        Ok(())
    }

    fn remove(&self, number: u32) -> io::Result<()> {
        let deadline = Instant::now() + SWEEP_TIMEOUT;
        self.all().try_for_each(|parent| remove_tree(parent, &name(number), deadline))
    }

    /// Makes the controllers available to our children. A cgroup other than the root may not have both processes
    /// and controllers for its children (cgroups(7), "no internal processes"), so what is ours in it moves aside.
    fn delegate_controllers(&self) -> io::Result<()> {
        let Some(v2) = &self.v2 else { return Ok(()) };
        match write(v2, "cgroup.subtree_control", CONTROLLERS) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            other => return other,
        }
        let supervisor = subdirectory(v2, "greenroom-supervisor")?;
        for pid in [rustix::process::getppid(), Some(rustix::process::getpid())].into_iter().flatten() {
            write(&supervisor, "cgroup.procs", &pid.as_raw_nonzero().to_string())?;
        }
        write(v2, "cgroup.subtree_control", CONTROLLERS)
    }
}

/// Opens a directory below another, made if missing.
pub(super) fn subdirectory(parent: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(openat(&parent, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

fn existing(parent: impl AsFd, name: &str) -> io::Result<Option<OwnedFd>> {
    match openat(&parent, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => Ok(None),
        other => Ok(Some(other?)),
    }
}

fn write(dir: impl AsFd, file: &str, text: &str) -> io::Result<()> {
    let file = openat(&dir, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(file, text.as_bytes())?;
    Ok(())
}

fn children(dir: impl AsFd) -> io::Result<Vec<String>> {
    let mut children = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type() == FileType::Directory && name != "." && name != ".." {
            children.push(name);
        }
    }
    Ok(children)
}

/// Kills what is in the directories below this one, and removes them.
pub(super) fn remove_children(dir: &OwnedFd) -> io::Result<()> {
    let deadline = Instant::now() + SWEEP_TIMEOUT;
    for child in children(dir)? {
        if let Some(below) = existing(dir, &child)? {
            empty(&below, deadline)?;
        }
        remove_tree(dir, &child, deadline)?;
    }
    Ok(())
}

/// Kills everything in a directory and below it.
fn empty(dir: &OwnedFd, deadline: Instant) -> io::Result<()> {
    match write(dir, "cgroup.kill", "1") {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Kernels before 5.14 and v1: by hand, until none is left (a fork in between is met in the next round).
    loop {
        let left = processes(dir)?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{} processes of a dead instance do not die", left.len())));
        }
        for pid in left {
            match kill_process(pid, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        sleep(Duration::from_millis(2));
    }
}

fn processes(dir: &OwnedFd) -> io::Result<Vec<Pid>> {
    let file = openat(dir, "cgroup.procs", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let text = io::read_to_string(std::fs::File::from(file))?;
    let mut found: Vec<Pid> = text.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw).collect();
    for child in children(dir)? {
        if let Some(child) = existing(dir, &child)? {
            found.extend(processes(&child)?);
        }
    }
    Ok(found)
}

/// Removes a directory and those below it. A cgroup stays busy for a moment after its last process.
fn remove_tree(parent: &OwnedFd, name: &str, deadline: Instant) -> io::Result<()> {
    let Some(dir) = existing(parent, name)? else { return Ok(()) };
    for child in children(&dir)? {
        remove_tree(&dir, &child, deadline)?;
    }
    drop(dir);
    loop {
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::BUSY) if Instant::now() < deadline => sleep(Duration::from_millis(2)),
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
