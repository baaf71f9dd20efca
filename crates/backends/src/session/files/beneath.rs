//! The system calls. Every path is opened beneath the session's directory by `openat2`, which refuses links, magic links
//! and other mounts on the way; what was opened is looked at by its descriptor before anything is done with it.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use greenroom_core::{PathError, RelativePath};
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid},
    io::Errno,
};

use super::{FILE_BYTES_MAX, FileError, FileInfo, FileKind, ListDepth};

/// The most that a listing holds: four times the files that a session has by default.
const LIST_MAX: usize = 65_536;
/// As [`RelativePath`] allows: what is deeper cannot be asked for.
const PATH_BYTES_MAX: usize = 3500;
/// The last second of the year 9999: what comes after is nothing that a client's calendar has.
const LAST_SECOND: i64 = 253_402_300_799;
/// How often `openat2` is asked again that said the tree changed under it (openat2(2), EAGAIN).
const ATTEMPTS: usize = 32;

fn open_beneath(root: &OwnedFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, FileError> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    // Without NONBLOCK the open of a pipe waits for its other end. PATH opens nothing, and takes no such flags.
    let waiting = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK | OFlags::NOCTTY };
    let flags = flags | waiting | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut attempts = 0;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Ok(file) => return Ok(file),
            Err(Errno::INTR | Errno::AGAIN) if attempts < ATTEMPTS => attempts += 1,
            Err(errno) => return Err(FileError::new("open", errno)),
        }
    }
}

fn open_directory(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, FileError> {
    open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

fn info(name: &OsStr, directory: &[u8], kind: FileKind, stat: &Stat) -> FileInfo {
    let seconds = stat.st_mtime.clamp(0, LAST_SECOND);
    FileInfo {
        name: name.to_string_lossy().into_owned(),
        directory: String::from_utf8_lossy(directory).into_owned(),
        kind,
        size: if kind == FileKind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
        modified_unix_ns: i128::from(seconds) * 1_000_000_000 + i128::from(stat.st_mtime_nsec),
    }
}

fn kind(stat: &Stat) -> Option<FileKind> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Some(FileKind::File),
        FileType::Directory => Some(FileKind::Directory),
        _ => None,
    }
}

pub(super) fn list(root: &OwnedFd, path: Option<&RelativePath>, depth: ListDepth) -> Result<Vec<FileInfo>, FileError> {
    let top = path.map_or(Vec::new(), |path| path.as_str().as_bytes().to_vec());
    let mut found = Vec::new();
    let mut to_do = VecDeque::from([top.clone()]);
    while let Some(directory) = to_do.pop_front() {
        match list_one(root, &directory, &mut found, &mut to_do) {
            Ok(()) => {}
            // What is there now is not what was there a moment ago.
            Err(FileError::NotFound | FileError::NotADirectory | FileError::NotRegular) if directory != top => {}
            Err(error) => return Err(error),
        }
        if depth == ListDepth::One {
            break;
        }
    }
    found.sort_by(|a, b| (&a.directory, &a.name).cmp(&(&b.directory, &b.name)));
    Ok(found)
}

fn list_one(root: &OwnedFd, directory: &[u8], found: &mut Vec<FileInfo>, to_do: &mut VecDeque<Vec<u8>>) -> Result<(), FileError> {
    let opened = open_directory(root, directory)?;
    let failed = |errno| FileError::new("list", errno);
    for entry in Dir::read_from(&opened).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let Some(kind) = kind(&stat) else { continue };
        if found.len() == LIST_MAX {
            return Err(FileError::TooMany);
        }
        found.push(info(OsStr::from_bytes(name.to_bytes()), directory, kind, &stat));
        let below = if directory.is_empty() { name.to_bytes().to_vec() } else { [directory, name.to_bytes()].join(&b'/') };
        if kind == FileKind::Directory && below.len() <= PATH_BYTES_MAX {
            to_do.push_back(below);
        }
    }
    Ok(())
}

pub(super) fn stat(root: &OwnedFd, path: &RelativePath) -> Result<FileInfo, FileError> {
    // PATH: nothing is opened, so nothing of the program's can be set off by it.
    let file = open_beneath(root, path.as_str().as_bytes(), OFlags::PATH)?;
    let stat = rustix::fs::fstat(&file).map_err(|errno| FileError::new("stat", errno))?;
    let kind = kind(&stat).ok_or(FileError::NotRegular)?;
    Ok(info(OsStr::new(path.file_name()), path.parent().as_bytes(), kind, &stat))
}

pub(super) fn open(root: &OwnedFd, path: &RelativePath) -> Result<(OwnedFd, FileInfo), FileError> {
    let file = open_beneath(root, path.as_str().as_bytes(), OFlags::RDONLY)?;
    let stat = rustix::fs::fstat(&file).map_err(|errno| FileError::new("stat", errno))?;
    let info = match kind(&stat) {
        Some(FileKind::File) => info(OsStr::new(path.file_name()), path.parent().as_bytes(), FileKind::File, &stat),
        Some(FileKind::Directory) => return Err(FileError::IsADirectory),
        None => return Err(FileError::NotRegular),
    };
    // A sparse file's size is no measure of what the session has paid for.
    if info.size > FILE_BYTES_MAX { Err(FileError::TooLarge) } else { Ok((file, info)) }
}

pub(super) fn delete(root: &OwnedFd, path: &RelativePath) -> Result<(), FileError> {
    let parent = open_directory(root, path.parent().as_bytes())?;
    rustix::fs::unlinkat(&parent, path.file_name(), AtFlags::empty()).map_err(|errno| FileError::new("delete", errno))
}

/// A file that has no name yet.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) file: OwnedFd,
    directory: OwnedFd,
    path: RelativePath,
}

impl Unfinished {
    pub(super) fn create(root: &OwnedFd, path: &RelativePath, uid: u32) -> Result<Self, FileError> {
        let directory = make_directories(root, path.parent(), uid)?;
        if let Ok(stat) = rustix::fs::statat(&directory, path.file_name(), AtFlags::SYMLINK_NOFOLLOW)
            && kind(&stat) == Some(FileKind::Directory)
        {
            return Err(FileError::IsADirectory);
        }
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, ".", flags, Mode::from_raw_mode(0o644))
            .map_err(|errno| FileError::new("create", errno))?;
        own(&file, uid, Mode::from_raw_mode(0o666))?;
        Ok(Self { file, directory, path: path.clone() })
    }

    /// Gives it its name, in place of whatever has it: a link is replaced, not followed.
    pub(super) fn name(&self) -> Result<FileInfo, FileError> {
        let name = self.path.file_name();
        match self.link(name) {
            Err(Errno::EXIST) => self.replace(name)?,
            linked => linked.map_err(|errno| FileError::new("name", errno))?,
        }
        let stat = rustix::fs::fstat(&self.file).map_err(|errno| FileError::new("stat", errno))?;
        Ok(info(OsStr::new(name), self.path.parent().as_bytes(), FileKind::File, &stat))
    }

    fn link(&self, name: &str) -> Result<(), Errno> {
        // linkat(2): the way to name a file that was opened without a name, for who may not use AT_EMPTY_PATH.
        let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        rustix::fs::linkat(CWD, Path::new(&unnamed), &self.directory, name, AtFlags::SYMLINK_FOLLOW)
    }

    fn replace(&self, name: &str) -> Result<(), FileError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let failed = |errno| FileError::new("replace", errno);
        let mut attempts = 0;
        let between = loop {
            let between = format!(".upload-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            match self.link(&between) {
                Ok(()) => break between,
                Err(Errno::EXIST) if attempts < ATTEMPTS => attempts += 1,
                Err(errno) => return Err(failed(errno)),
            }
        };
        rustix::fs::renameat(&self.directory, between.as_str(), &self.directory, name).map_err(|errno| {
            // If it cannot be removed either, the program has taken it already.
            let _gone = rustix::fs::unlinkat(&self.directory, between.as_str(), AtFlags::empty());
            failed(errno)
        })
    }
}

/// The directory `path`, made as far as it is not there.
fn make_directories(root: &OwnedFd, path: &str, uid: u32) -> Result<OwnedFd, FileError> {
    match open_directory(root, path.as_bytes()) {
        Err(FileError::NotFound) => {}
        opened => return opened,
    }
    let mut opened = open_directory(root, b"")?;
    for (at, part) in parts(path) {
        let made = match rustix::fs::mkdirat(&opened, part, Mode::from_raw_mode(0o755)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(FileError::new("make a directory", errno)),
        };
        opened = open_directory(root, &path.as_bytes()[..at])?;
        if made {
            own(&opened, uid, Mode::from_raw_mode(0o777))?;
        }
    }
    Ok(opened)
}

/// The parts of a path, each with where it ends.
fn parts(path: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut end = 0;
    path.split('/').map(move |part| {
        let at = end + part.len();
        end = at + 1;
        (at, part)
    })
}

/// Makes a file the session's. A server that may not give files away lets everybody in the session have it.
fn own(file: &OwnedFd, uid: u32, open_mode: Mode) -> Result<(), FileError> {
    match rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid))) {
        Err(Errno::PERM | Errno::INVAL) => rustix::fs::fchmod(file, open_mode),
        owned => owned,
    }
    .map_err(|errno| FileError::new("give it to the session", errno))
}

/// Whether a path is one that a part of a session's file can have.
pub(super) fn directory(path: &str) -> Result<Option<RelativePath>, PathError> {
    match path.strip_suffix('/').unwrap_or(path) {
        "" | "." if !path.starts_with('/') => Ok(None),
        path => RelativePath::new(path).map(Some),
    }
}
