//! Profile restricted: workspaces and support files on disk, and ways to own uids and to end processes without namespaces.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, chmodat, openat, unlinkat},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with},
    process::{Pid, Signal, WaitOptions, kill_process, waitpid},
};

use crate::{config::SandboxConfig, template::SUPPORT};

/// How long the processes of a run are hunted.
const HUNT_TIMEOUT: Duration = Duration::from_secs(10);

/// The directory that holds one workspace per slot, and the support files: a runner's own, since the one before it may still let its
/// jobs finish.
pub(crate) struct Workspaces {
    base: PathBuf,
    /// Those of all runners.
    all: PathBuf,
}

impl Workspaces {
    /// Makes it; others may pass through and not list. `number` is this runner's, and no other's that lives: what an earlier one of that
    /// number left goes.
    pub(crate) fn new(config: &SandboxConfig, number: u32) -> io::Result<Self> {
        let all = config.workspace_dir.join("workspaces");
        let base = all.join(number.to_string());
        remove(&base)?;
        let make = |path: &Path, mode| {
            fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        };
        make(&all, 0o711)?;
        make(&base, 0o711)?;
        let workspaces = Self { base, all };
        make(&workspaces.support(), 0o755)?;
        for file in &config.support {
            let path = workspaces.support().join(&file.path);
            make(path.parent().unwrap_or(&path), 0o755)?;
            fs::write(&path, &file.content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(if file.executable { 0o755 } else { 0o644 }))?;
        }
        Ok(workspaces)
    }

    /// Where the files stand that other profiles have at `/opt/greenroom`.
    pub(crate) fn support(&self) -> PathBuf {
        self.base.join("support")
    }

    /// Has an argument that names a support file name it where it stands here.
    pub(crate) fn localize(&self, argument: &mut String) {
        let name = Path::new(argument).strip_prefix("/").and_then(|path| path.strip_prefix(SUPPORT));
        let here = name.ok().map(|name| self.support().join(name));
        if let Some(here) = here.filter(|here| here.exists()) {
            *argument = here.to_string_lossy().into_owned();
        }
    }

    fn of(&self, index: u32) -> PathBuf {
        self.base.join(format!("slot-{index}"))
    }

    /// The slot's workspace: an empty one with this owner, or the one that an earlier stage used.
    pub(crate) fn ready(&self, index: u32, continues: bool, owner: Option<u32>) -> io::Result<PathBuf> {
        let path = self.of(index);
        if !continues {
            remove(&path)?;
            fs::DirBuilder::new().mode(0o700).create(&path)?;
            if owner.is_some() {
                chown(&path, owner, owner)?;
            }
        }
        Ok(path)
    }

    /// Removes the slot's workspace: nothing will continue in it.
    pub(crate) fn clear(&self, index: u32) -> io::Result<()> {
        remove(&self.of(index))
    }

    /// Removes all of them.
    pub(crate) fn remove(&self) -> io::Result<()> {
        remove(&self.base)?;
        match fs::remove_dir(&self.all) {
            // Another runner has its own there, or was quicker.
            Err(error) if !matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Removes a tree, whatever a program has made of it: following no link, and with few descriptors however deep it is. No process may
/// be at work in it.
fn remove(path: &Path) -> io::Result<()> {
    // A program may have taken its owner's rights away, and without root its owner are we.
    let opened = match open_directory(CWD, path) {
        Err(Errno::ACCESS) => chmodat(CWD, path, Mode::RWXU, AtFlags::empty()).and_then(|()| open_directory(CWD, path)),
        opened => opened,
    };
    match opened {
        Ok(top) => remove_contents(&top)?,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    Ok(unlinkat(CWD, path, AtFlags::REMOVEDIR)?)
}

fn open_directory(at: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Goes down and up again by one descriptor: `..` is where we came from, since nobody else moves anything here.
fn remove_contents(top: &OwnedFd) -> io::Result<()> {
    let mut at = open_directory(top, ".")?;
    let mut to_do = vec![(c"".to_owned(), names(&at)?)];
    while let Some((_, names_here)) = to_do.last_mut() {
        if let Some(name) = names_here.pop() {
            if !remove_one(&at, &name)? {
                at = open_directory(&at, &*name)?;
                let below = names(&at)?;
                to_do.push((name, below));
            }
            continue;
        }
        let Some((name, _)) = to_do.pop() else { break };
        if !to_do.is_empty() {
            at = open_directory(&at, "..")?;
            unlinkat(&at, &*name, AtFlags::REMOVEDIR)?;
        }
    }
    Ok(())
}

/// Whether it was removed: else it is a directory with something in it, which we may now read and change.
fn remove_one(at: &OwnedFd, name: &CString) -> io::Result<bool> {
    match unlinkat(at, &**name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    match unlinkat(at, &**name, AtFlags::REMOVEDIR) {
        Ok(()) => return Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    match chmodat(at, &**name, Mode::RWXU, AtFlags::empty()) {
        // Root, without the right to change what others own, may all the same read and change it.
        Ok(()) | Err(Errno::PERM) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn names(of: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(of)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

/// Claims the first free block of uids below `count`. The claim is an abstract socket: the kernel gives it up
/// with the process, and it leaves no file.
pub(crate) fn claim_block(count: u32) -> io::Result<(u32, OwnedFd)> {
    for number in 0..count.max(1) {
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let name = SocketAddrUnix::new_abstract_name(format!("greenroom-uids-{number}").as_bytes())?;
        match bind(&socket, &name) {
            Ok(()) => return Ok((number, socket)),
            Err(Errno::ADDRINUSE) => {}
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
                Ok(()) | Err(Errno::SRCH) => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_removed_whatever_a_program_has_made_of_it() {
        let base = tempfile::tempdir().unwrap();
        let (outside, tree) = (base.path().join("outside"), base.path().join("tree"));
        fs::create_dir_all(outside.join("kept")).unwrap();
        fs::create_dir_all(tree.join("plain/er/est")).unwrap();
        for name in ["link", "plain/link", "plain/er/link"] {
            std::os::unix::fs::symlink(&outside, tree.join(name)).unwrap();
        }
        fs::create_dir_all(tree.join("full/of")).unwrap();
        (0..50).for_each(|i| fs::create_dir_all(tree.join(format!("full/of/{i}/x"))).unwrap());
        // Deeper than any path may be long.
        let name = "d".repeat(200);
        let mut at = open_directory(CWD, &tree).unwrap();
        for _ in 0..60 {
            rustix::fs::mkdirat(&at, &*name, Mode::RWXU).unwrap();
            at = open_directory(&at, &*name).unwrap();
        }
        for name in ["plain/er", "plain", "full/of"] {
            fs::set_permissions(tree.join(name), fs::Permissions::from_mode(0o0)).unwrap();
        }
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o0)).unwrap();
        remove(&tree).unwrap();
        assert!(!tree.exists() && outside.join("kept").exists());
        remove(&tree).unwrap();
    }
}
