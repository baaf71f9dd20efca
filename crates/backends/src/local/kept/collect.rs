//! Reads what a stage left in its workspace: by descriptors beneath it alone, regular files only, as far as they fit.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
};

use greenroom_core::{JobFile, RelativePath};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

/// More files than this are no program.
const MAX_FILES: usize = 256;
/// Deeper than this no compiler puts them.
const MAX_DEPTH: usize = 16;

/// Beneath the workspace and through no link: a program that ran there may have left some.
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_XDEV);

/// The files that are new or changed, where `sent` are those that were there before. `None` where the rest cannot be told by such a
/// list: a file is gone, a directory is empty, something is a link or a device, a mode is none that files of jobs have; or
/// where it is more than `room` bytes.
pub(super) fn made(directory: &OwnedFd, sent: &[JobFile], room: usize) -> io::Result<Option<Vec<JobFile>>> {
    let mut walk =
        Walk { directory, sent: sent.iter().map(|file| (file.path.as_str(), file)).collect(), room, seen: 0, made: Vec::new() };
    let plain = walk.enter("", 0)?;
    Ok((plain && walk.sent.is_empty()).then_some(walk.made))
}

struct Walk<'a> {
    directory: &'a OwnedFd,
    /// Not yet found.
    sent: HashMap<&'a str, &'a JobFile>,
    room: usize,
    seen: usize,
    made: Vec<JobFile>,
}

impl Walk<'_> {
    /// `false` ends it: there is something that is not to be kept.
    fn enter(&mut self, path: &str, depth: usize) -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat2(self.directory, if path.is_empty() { "." } else { path }, flags, Mode::empty(), BENEATH)?;
        let mut is_empty = true;
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            is_empty = false;
            self.seen += 1;
            let Ok(name) = str::from_utf8(name) else { return Ok(false) };
            let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            let plain = match entry.file_type() {
                FileType::Directory if depth < MAX_DEPTH => self.enter(&below, depth + 1)?,
                FileType::RegularFile if self.seen <= MAX_FILES => self.take(&below)?,
                _ => false,
            };
            if !plain {
                return Ok(false);
            }
        }
        Ok(!is_empty || depth == 0)
    }

    fn take(&mut self, path: &str) -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = openat2(self.directory, path, flags, Mode::empty(), BENEATH)?;
        let stat = fstat(&fd)?;
        let executable = match stat.st_mode & 0o7777 {
            0o755 => true,
            0o644 => false,
            _ => return Ok(false),
        };
        let Ok(name) = RelativePath::new(path) else { return Ok(false) };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 1 || name.as_str() != path {
            return Ok(false);
        }
        let sent = self.sent.remove(path);
        // One byte more than fits shows that it does not. What was sent is compared, and takes no room.
        let most = sent.map_or(self.room, |file| file.content.len().max(self.room));
        let mut content = Vec::new();
        File::from(fd).take(most as u64 + 1).read_to_end(&mut content)?;
        if sent.is_some_and(|file| file.executable == executable && file.content == content) {
            return Ok(true);
        }
        let Some(room) = self.room.checked_sub(content.len() + path.len()) else { return Ok(false) };
        self.room = room;
        self.made.push(JobFile { path: name, content, executable });
        Ok(true)
    }
}
