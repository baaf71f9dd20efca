//! A job as it comes over its stream, and its files. Without the interpreter: whatever a child touches of what the zygote has is
//! copied for it, page by page, and a run of a small program costs little else.

use core::{
    ffi::{c_char, c_int},
    fmt::Write,
    ptr::null_mut,
    slice, str,
};

use crate::foreign::*;

/// Longest head (src/message.rs).
const MAX_HEAD_BYTES: usize = 64 << 20;
/// As much of a file as is on its way at once.
const CHUNK_BYTES: usize = 1 << 16;

/// A job that has been read.
pub struct Job {
    head: *mut u8,
    len: usize,
    arguments: Fields,
    variables: Fields,
    files: Fields,
    pub limits: Limits,
    /// Whether the program keeps the stream, as descriptor 3.
    pub channel: bool,
    refusal: Option<Refusal>,
}

/// What is limited before the program starts (`JobHead`).
pub struct Limits {
    pub processes: u64,
    pub open_files: u64,
    pub file_size_bytes: u64,
    pub memory_bytes: u64,
}

/// A file that could not be written: where its path stands, and why.
struct Refusal {
    path: Text,
    errno: c_int,
}

/// Where texts stand in the head, and how many.
#[derive(Clone, Copy)]
pub struct Fields {
    at: usize,
    pub count: usize,
}

/// A text in the head: as long as it is used, a zero may stand behind it in place of what belongs there.
#[derive(Clone, Copy)]
pub struct Text {
    start: *mut u8,
    pub len: usize,
}

impl Text {
    /// Calls `use_it` with the text as a C string. Of one that holds a zero, what stands before it.
    /// SAFETY: the head is ours alone and has room for one byte more.
    pub unsafe fn as_c<T>(self, use_it: impl FnOnce(*const c_char) -> T) -> T {
        unsafe {
            let behind = self.start.add(self.len);
            let kept = behind.replace(0);
            let result = use_it(self.start.cast());
            behind.write(kept);
            result
        }
    }

    /// SAFETY: nobody writes to the head meanwhile.
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        unsafe { slice::from_raw_parts(self.start, self.len) }
    }
}

/// Reads the head, field by field (postcard's wire format).
struct Reader {
    head: *mut u8,
    len: usize,
    at: usize,
}

impl Reader {
    fn number(&mut self) -> Option<u64> {
        let (mut value, mut shift) = (0u64, 0);
        while self.at < self.len && shift < 64 {
            // SAFETY: within the head.
            let byte = unsafe { self.head.add(self.at).read() };
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
            shift += 7;
        }
        None
    }

    fn text(&mut self) -> Option<Text> {
        let len = usize::try_from(self.number()?).ok()?;
        if len > self.len - self.at {
            return None;
        }
        // SAFETY: within the head.
        let start = unsafe { self.head.add(self.at) };
        self.at += len;
        Some(Text { start, len })
    }

    /// Passes over so many texts, `each` as often as said.
    fn fields(&mut self, each: usize) -> Option<Fields> {
        let count = usize::try_from(self.number()?).ok()?;
        let at = self.at;
        for _ in 0..count.checked_mul(each)? {
            self.text()?;
        }
        Some(Fields { at, count })
    }
}

impl Job {
    /// Reads a job from its stream and writes its files below the working directory. Ends the process where nobody wants the sandbox
    /// any more; nothing where the stream makes no sense.
    /// SAFETY: the descriptor is this process's own.
    pub unsafe fn read(fd: c_int) -> Option<Job> {
        unsafe {
            let mut len = [0u8; 4];
            receive(fd, len.as_mut_ptr(), len.len());
            let len = u32::from_le_bytes(len) as usize;
            if len > MAX_HEAD_BYTES {
                return None;
            }
            // The files pass through what stands behind the head, and its zero.
            let head = room(len + 1 + CHUNK_BYTES)?;
            receive(fd, head, len);
            let mut reader = Reader { head, len, at: 0 };
            let (arguments, variables) = (reader.fields(1)?, reader.fields(2)?);
            let limits = Limits {
                processes: reader.number()?,
                open_files: reader.number()?,
                file_size_bytes: reader.number()?,
                memory_bytes: reader.number()?,
            };
            // CPU time is the cgroup's business.
            reader.number()?;
            let channel = reader.number()? != 0;
            let count = usize::try_from(reader.number()?).ok()?;
            let files = Fields { at: reader.at, count };
            let mut job = Job { head, len, arguments, variables, files, limits, channel, refusal: None };
            for _ in 0..count {
                let (path, bytes, executable) = (reader.text()?, reader.number()?, reader.number()? != 0);
                job.write(fd, path, bytes, if executable { 0o755 } else { 0o644 });
            }
            Some(job)
        }
    }

    /// SAFETY: the descriptor is this process's own.
    unsafe fn write(&mut self, fd: c_int, path: Text, mut bytes: u64, mode: c_int) {
        unsafe {
            let chunk = self.head.add(self.len + 1);
            // After one that could not be written, nothing is.
            let file = if self.refusal.is_some() { -1 } else { create(path, mode) };
            let mut failed = file < 0;
            if failed && self.refusal.is_none() {
                self.refusal = Some(Refusal { path, errno: errno() });
            }
            // All of it is read, also where it goes nowhere: what follows belongs to the next.
            while bytes > 0 {
                let part = (CHUNK_BYTES as u64).min(bytes) as usize;
                receive(fd, chunk, part);
                bytes -= part as u64;
                let mut done = 0;
                while !failed && done < part {
                    let written = write(file, chunk.add(done).cast(), part - done);
                    if written >= 0 {
                        done += written as usize;
                    } else if errno() != EINTR {
                        // A full disk is an outcome, not a failure of ours: the files' sizes are the client's.
                        self.refusal = Some(Refusal { path, errno: errno() });
                        failed = true;
                    }
                }
            }
            if file >= 0 {
                close(file);
            }
        }
    }

    /// Where a file could not be written: says so on standard error, as src/worker.rs does, and ends the process as a shell does.
    /// SAFETY: this is the child, in its sandbox.
    pub unsafe fn refuse(&self) {
        let Some(Refusal { path, errno }) = &self.refusal else { return };
        unsafe {
            let path = str::from_utf8(path.bytes()).unwrap_or("?");
            let reason = slice::from_raw_parts(strerror(*errno).cast::<u8>(), strlen(strerror(*errno)));
            let reason = str::from_utf8(reason).unwrap_or("?");
            let _never_fails = writeln!(StandardError, "greenroom: cannot write {path:?}: {reason} (os error {errno})");
            _exit(126);
        }
    }

    pub fn arguments(&self) -> Texts {
        Texts { reader: self.reader(self.arguments), left: self.arguments.count }
    }

    /// Name and value of each variable of the environment, in turn.
    pub fn variables(&self) -> Texts {
        Texts { reader: self.reader(self.variables), left: 2 * self.variables.count }
    }

    /// Whether this is so of any part of any path of its files.
    /// SAFETY: nobody writes to the head meanwhile.
    pub unsafe fn has_path(&self, is_so: impl Fn(&[u8]) -> bool) -> bool {
        let mut reader = self.reader(self.files);
        for _ in 0..self.files.count {
            let (path, _len, _executable) = (reader.text(), reader.number(), reader.number());
            let Some(path) = path else { return true };
            if unsafe { path.bytes() }.split(|byte| *byte == b'/').any(&is_so) {
                return true;
            }
        }
        false
    }

    fn reader(&self, fields: Fields) -> Reader {
        Reader { head: self.head, len: self.len, at: fields.at }
    }

    /// Room that was used for files, and is not any more.
    pub fn spare(&self) -> (*mut u8, usize) {
        // SAFETY: behind the head and its zero.
        (unsafe { self.head.add(self.len + 1) }, CHUNK_BYTES)
    }

    /// Whether the environment is the one that this process has.
    /// SAFETY: nobody writes to the environment meanwhile.
    pub unsafe fn has_our_environment(&self) -> bool {
        unsafe {
            let mut ours = 0;
            while !(*environ.add(ours)).is_null() {
                ours += 1;
            }
            let mut texts = self.variables();
            let mut theirs = 0;
            while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
                theirs += 1;
                let found = (0..ours).any(|at| {
                    let entry = (*environ.add(at)).cast::<u8>();
                    let entry = slice::from_raw_parts(entry, strlen(entry.cast()));
                    entry.len() == name.len + 1 + value.len
                        && entry[..name.len] == *name.bytes()
                        && entry[name.len] == b'='
                        && entry[name.len + 1..] == *value.bytes()
                });
                if !found {
                    return false;
                }
            }
            ours == theirs
        }
    }

    /// Gives its memory back.
    /// SAFETY: no text of it is used any more.
    pub unsafe fn forget(self) {
        unsafe { munmap(self.head.cast(), self.len + 1 + CHUNK_BYTES) };
    }
}

/// Texts of the head, one after the other.
pub struct Texts {
    reader: Reader,
    pub left: usize,
}

impl Iterator for Texts {
    type Item = Text;

    fn next(&mut self) -> Option<Text> {
        self.left = self.left.checked_sub(1)?;
        self.reader.text()
    }
}

/// Memory of our own, zeroed when it is touched.
/// SAFETY: none of what is there is used.
unsafe fn room(len: usize) -> Option<*mut u8> {
    const READ_WRITE: c_int = 1 | 2;
    const PRIVATE_ANONYMOUS: c_int = 0x02 | 0x20;
    let room = unsafe { mmap(null_mut(), len, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0) };
    if room as isize == -1 { None } else { Some(room.cast()) }
}

/// Reads all of it; ends the process where there is no more.
/// SAFETY: there is room.
unsafe fn receive(fd: c_int, to: *mut u8, len: usize) {
    let mut done = 0;
    while done < len {
        unsafe {
            let more = read(fd, to.add(done).cast(), len - done);
            if more > 0 {
                done += more as usize;
            } else if more == 0 || errno() != EINTR {
                // Nobody wants the sandbox any more.
                _exit(1);
            }
        }
    }
}

/// Creates a file and the directories above it. The workspace is fresh: there is no link in it.
/// SAFETY: the path stands in the head.
unsafe fn create(path: Text, mode: c_int) -> c_int {
    const FLAGS: c_int = 0o1 | 0o100 | 0o1000 | O_NOFOLLOW | O_CLOEXEC;
    unsafe {
        for at in 1..path.len {
            if path.start.add(at).read() == b'/' {
                let parent = Text { start: path.start, len: at };
                if parent.as_c(|parent| mkdir(parent, 0o755)) != 0 && errno() != EEXIST {
                    return -1;
                }
            }
        }
        path.as_c(|path| open(path, FLAGS, mode))
    }
}

/// Standard error, unbuffered. Nobody is left to tell if it fails.
struct StandardError;

impl Write for StandardError {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        // SAFETY: bytes of the caller's.
        unsafe { write(2, text.as_ptr().cast(), text.len()) };
        Ok(())
    }
}

/// SAFETY: the C library's own place, valid for the thread's life.
pub unsafe fn errno() -> c_int {
    unsafe { *__errno_location() }
}
