//! A job as it comes over its stream (`JobHead` in src/message.rs, as postcard writes it).

use crate::sys::{self, Errno, Text};

/// A head longer than this is no job of ours (the gateway's body limit is far below).
const MAX_HEAD_BYTES: usize = 64 << 20;

/// No path is longer, with its end (PATH_MAX).
pub const PATH_BYTES: usize = 4096;

/// A job whose head has been read.
pub struct Job {
    reader: Reader,
    /// Where arguments and environment stand in the head.
    arguments: usize,
    pub processes: u64,
    pub open_files: u64,
    pub file_size_bytes: u64,
    pub memory_bytes: u64,
    pub cpu_ms: u64,
    /// Whether the program keeps the stream, as descriptor 3.
    pub channel: bool,
    files: u64,
}

/// A file; its content follows on the stream.
pub struct File {
    path: &'static [u8],
    pub len: u64,
    pub executable: bool,
}

/// Reads the head, field by field. It lives as long as this process.
#[derive(Clone, Copy)]
struct Reader {
    head: &'static [u8],
    at: usize,
}

impl Reader {
    fn number(&mut self) -> Result<u64, Errno> {
        let (mut value, mut shift) = (0u64, 0);
        while shift < 64 {
            let byte = *self.head.get(self.at).ok_or(sys::EBADMSG)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
        }
        Err(sys::EBADMSG)
    }

    fn size(&mut self) -> Result<usize, Errno> {
        usize::try_from(self.number()?).map_err(|_| sys::EBADMSG)
    }

    fn text(&mut self) -> Result<&'static [u8], Errno> {
        let len = self.size()?;
        let rest = self.head.get(self.at..).ok_or(sys::EBADMSG)?;
        let text = rest.get(..len).ok_or(sys::EBADMSG)?;
        self.at += len;
        Ok(text)
    }

    /// Passes over so many texts, `each` as often as said.
    fn pass(&mut self, each: usize) -> Result<(), Errno> {
        for _ in 0..self.size()?.checked_mul(each).ok_or(sys::EBADMSG)? {
            self.text()?;
        }
        Ok(())
    }
}

impl Job {
    pub fn read(stream: i32) -> Result<Self, Errno> {
        let mut len = [0; 4];
        sys::read_exact(stream, &mut len)?;
        let len = u32::from_le_bytes(len) as usize;
        if len > MAX_HEAD_BYTES {
            return Err(sys::EMSGSIZE);
        }
        // One more, so that there is some.
        let head = sys::room(len + 1)?;
        sys::read_exact(stream, &mut head[..len])?;
        let mut reader = Reader { head: &head[..len], at: 0 };
        let arguments = reader.at;
        reader.pass(1)?;
        reader.pass(2)?;
        Ok(Self {
            arguments,
            processes: reader.number()?,
            open_files: reader.number()?,
            file_size_bytes: reader.number()?,
            memory_bytes: reader.number()?,
            cpu_ms: reader.number()?,
            channel: reader.number()? != 0,
            files: reader.number()?,
            reader,
        })
    }

    /// The next file, after the last one's content has been read.
    pub fn next_file(&mut self) -> Result<Option<File>, Errno> {
        let Some(left) = self.files.checked_sub(1) else { return Ok(None) };
        self.files = left;
        let path = self.reader.text()?;
        Ok(Some(File { path, len: self.reader.number()?, executable: self.reader.number()? != 0 }))
    }

    /// What `execve` takes.
    pub fn command(&self) -> Result<Command, Errno> {
        let mut reader = Reader { at: self.arguments, ..self.reader };
        let mut counting = reader;
        let arguments = counting.size()?;
        if arguments == 0 {
            return Err(sys::EINVAL);
        }
        for _ in 0..arguments {
            counting.text()?;
        }
        let variables = counting.size()?;
        // Each text of the head has a length of one byte at least before it, and here a zero behind it, or the sign between name and value.
        let texts = sys::room(self.reader.head.len() + 1)?;
        let pointers = sys::room((arguments + variables + 2) * size_of::<usize>())?;
        let mut strings = Strings { texts, pointers };
        let begin = strings.pointers.as_ptr() as usize;
        reader.size()?;
        for _ in 0..arguments {
            strings.push(&[reader.text()?])?;
        }
        strings.end();
        reader.size()?;
        for _ in 0..variables {
            let (name, value) = (reader.text()?, reader.text()?);
            strings.push(&[name, b"=", value])?;
        }
        strings.end();
        Ok(Command {
            begin,
            arguments: arguments + 1,
            environment: variables + 1,
            name: Reader { at: self.arguments, ..self.reader },
        })
    }
}

/// Puts C strings one behind the other, and where they stand.
struct Strings {
    texts: &'static mut [u8],
    pointers: &'static mut [u8],
}

impl Strings {
    fn push(&mut self, parts: &[&[u8]]) -> Result<(), Errno> {
        let len = parts.iter().map(|part| part.len()).sum::<usize>() + 1;
        let (text, rest) = core::mem::take(&mut self.texts).split_at_mut_checked(len).ok_or(sys::EBADMSG)?;
        self.texts = rest;
        let mut at = 0;
        for part in parts {
            if part.contains(&0) {
                return Err(sys::EINVAL);
            }
            text[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.point(text.as_ptr() as usize);
        Ok(())
    }

    fn end(&mut self) {
        self.point(0);
    }

    fn point(&mut self, to: usize) {
        let (pointer, rest) = core::mem::take(&mut self.pointers).split_at_mut(size_of::<usize>());
        pointer.copy_from_slice(&to.to_ne_bytes());
        self.pointers = rest;
    }
}

pub struct Command {
    begin: usize,
    arguments: usize,
    environment: usize,
    name: Reader,
}

impl Command {
    /// Returns only if that fails.
    pub fn become_program(&self) -> Errno {
        let begin = self.begin as *const usize;
        // SAFETY: so many pointers were put there, in memory that lives as long as this process and begins at a page.
        let all = unsafe { core::slice::from_raw_parts(begin, self.arguments + self.environment) };
        let (arguments, environment) = all.split_at(self.arguments);
        // SAFETY: each list ends with null, and what is before are C strings.
        unsafe { sys::become_program(arguments, environment) }
    }

    /// The program's.
    pub fn name(&self) -> &str {
        let mut reader = self.name;
        let name = reader.size().and_then(|_| reader.text()).unwrap_or_default();
        core::str::from_utf8(name).unwrap_or("?")
    }
}

impl File {
    pub fn path(&self) -> &str {
        core::str::from_utf8(self.path).unwrap_or("?")
    }

    /// The path in a place where it can be taken apart: twice [`PATH_BYTES`].
    pub fn open_path<'a>(&self, room: &'a mut [u8]) -> Result<Path<'a>, Errno> {
        let (whole, part) = room.split_at_mut(PATH_BYTES);
        if self.path.contains(&0) {
            return Err(sys::EINVAL);
        }
        if self.path.len() >= PATH_BYTES {
            return Err(sys::ENAMETOOLONG);
        }
        whole[..self.path.len()].copy_from_slice(self.path);
        whole[self.path.len()] = 0;
        Ok(Path { whole, len: self.path.len(), part, at: 0 })
    }
}

/// A relative path, and a copy of the part that is looked at.
pub struct Path<'a> {
    whole: &'a mut [u8],
    len: usize,
    part: &'a mut [u8],
    at: usize,
}

impl Path<'_> {
    /// The next directory above the file: the one that it is in, where that is not the workspace itself, and its name.
    pub fn next_directory(&mut self) -> Option<(Option<Text<'_>>, Text<'_>)> {
        let len = self.whole[self.at..self.len].iter().position(|byte| *byte == b'/')?;
        let (begin, end) = (self.at, self.at + len);
        self.at = end + 1;
        // In the copy, a zero stands behind the parent and behind the name.
        self.part[..end].copy_from_slice(&self.whole[..end]);
        self.part[end] = 0;
        let parent = begin.checked_sub(1);
        if let Some(slash) = parent {
            self.part[slash] = 0;
        }
        let name = Text::new(&self.part[begin..]).ok()?;
        Some((parent.and_then(|_| Text::new(&self.part[..begin]).ok()), name))
    }

    pub fn whole(&self) -> Text<'_> {
        Text::new(self.whole).unwrap_or(c"".into())
    }
}
