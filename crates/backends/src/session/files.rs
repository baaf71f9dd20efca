//! The files of a session, reached by descriptors alone: no path is ever looked up where a program could have put a link.

mod beneath;
mod held;
mod reader;
mod writer;

use std::{io, os::fd::OwnedFd};

use greenroom_core::{Blame, PathError, RelativePath};
use rustix::io::Errno;

use self::held::Holder;
pub use self::{reader::FileReader, writer::FileWriter};

/// The most that one file may have to be read or written, bytes: the contract's 128 MB.
pub const FILE_BYTES_MAX: u64 = 128 << 20;

/// The files of a session, below its directory `/mnt/data`. Cheap to clone.
///
/// Whatever the program has made there, an operation ends soon: links are not followed, and what is no regular file is
/// not opened. All of it happens on the threads for blocking work.
#[derive(Clone, Debug)]
pub struct Files {
    holder: Holder,
    /// The owner of the session's files.
    uid: u32,
}

/// A file or a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name. Bytes that are no UTF-8 are replaced, and then it cannot be asked for by this name.
    pub name: String,
    /// The directory that it is in, relative to the session's; "" at the top.
    pub directory: String,
    /// What it is.
    pub kind: FileKind,
    /// Bytes. 0 for a directory.
    pub size: u64,
    /// When it was last changed, nanoseconds since 1970.
    pub modified_unix_ns: i128,
}

/// What a name in a session stands for. Links, pipes, sockets and devices are not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
}

/// Why an operation on a session's files did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is no such file or directory.
    #[error("there is no such file")]
    NotFound,
    /// The path cannot be that of a file in a session.
    #[error("the path {0}")]
    Path(#[from] PathError),
    /// A part of the path is a file.
    #[error("a part of the path is not a directory")]
    NotADirectory,
    /// A file was asked for.
    #[error("it is a directory")]
    IsADirectory,
    /// It is a link, a pipe, a socket or a device, or the path goes through a link.
    #[error("it is not a regular file, or its path goes through a link")]
    NotRegular,
    /// It has more than [`FILE_BYTES_MAX`].
    #[error("it is larger than {FILE_BYTES_MAX} bytes")]
    TooLarge,
    /// The session's quota of bytes or of files is used up.
    #[error("the session has no more room for files")]
    Full,
    /// The session's directory has more in it than is listed.
    #[error("there are more files than can be listed")]
    TooMany,
    /// The program changed it while it was read.
    #[error("it was changed meanwhile")]
    Changed,
    /// Its permissions do not let us (only where the server is not root).
    #[error("its permissions do not allow it")]
    Denied,
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
    /// The system's answer to something else.
    #[error("{step}: {source}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// The answer.
        source: io::Error,
    },
}

impl FileError {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            FileError::NotFound | FileError::Path(_) | FileError::NotADirectory | FileError::IsADirectory | FileError::TooLarge => {
                Blame::Caller
            }
            FileError::NotRegular
            | FileError::Full
            | FileError::TooMany
            | FileError::Changed
            | FileError::Denied
            | FileError::Ended => Blame::Program,
            FileError::Io { .. } => Blame::Us,
        }
    }

    fn new(step: &'static str, errno: Errno) -> Self {
        match errno {
            Errno::NOENT => FileError::NotFound,
            Errno::NOTDIR => FileError::NotADirectory,
            Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST => FileError::IsADirectory,
            // A link (ELOOP), a mount or a way out (EXDEV), a socket (ENXIO), a device without a driver (ENODEV).
            Errno::LOOP | Errno::XDEV | Errno::NXIO | Errno::NODEV => FileError::NotRegular,
            Errno::NOSPC | Errno::DQUOT => FileError::Full,
            Errno::FBIG => FileError::TooLarge,
            Errno::ACCESS | Errno::PERM => FileError::Denied,
            Errno::NAMETOOLONG => FileError::Path(PathError::TooLong),
            errno => FileError::Io { step, source: errno.into() },
        }
    }
}

impl Files {
    pub(super) fn new(directory: OwnedFd, uid: u32) -> Self {
        Self { holder: Holder::new(directory), uid }
    }

    /// The session has ended, and with it what is read or written. An operation that has begun ends by itself.
    pub(super) fn close(&self) {
        self.holder.close();
    }

    /// What is in the directory `path` ("" is the session's own), sorted by directory and name; with all that is below it
    /// where `depth` says so.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn list(&self, path: &str, depth: ListDepth) -> Result<Vec<FileInfo>, FileError> {
        let path = beneath::directory(path)?;
        self.blocking(move |root| beneath::list(root, path.as_ref(), depth)).await
    }

    /// What the file or directory `path` is.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn stat(&self, path: &str) -> Result<FileInfo, FileError> {
        let path = RelativePath::new(path)?;
        self.blocking(move |root| beneath::stat(root, &path)).await
    }

    /// Opens the regular file `path`. Its size is that of this moment: so much is read, and no more.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn read(&self, path: &str) -> Result<FileReader, FileError> {
        let path = RelativePath::new(path)?;
        let (file, info) = self.blocking(move |root| beneath::open(root, &path)).await?;
        Ok(FileReader::new(self.holder.hold(file)?, info))
    }

    /// Begins a file that will stand at `path`, in place of what stands there, once [`FileWriter::finish`] was called; the
    /// directories of its path are made. Until then nothing is seen of it.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn create(&self, path: &str) -> Result<FileWriter, FileError> {
        let path = RelativePath::new(path)?;
        let uid = self.uid;
        let unfinished = self.blocking(move |root| beneath::Unfinished::create(root, &path, uid)).await?;
        Ok(FileWriter::new(self.holder.hold(unfinished)?))
    }

    /// Writes a whole file: [`Files::create`], its bytes, and [`FileWriter::finish`].
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn write(&self, path: &str, content: Vec<u8>) -> Result<FileInfo, FileError> {
        let mut writer = self.create(path).await?;
        writer.write(content).await?;
        writer.finish().await
    }

    /// Deletes the file `path`. A link is deleted itself, not what it leads to.
    ///
    /// # Errors
    /// [`FileError`]: [`FileError::IsADirectory`] too.
    pub async fn delete(&self, path: &str) -> Result<(), FileError> {
        let path = RelativePath::new(path)?;
        self.blocking(move |root| beneath::delete(root, &path)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&OwnedFd) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, FileError> {
        let directory = self.holder.directory()?;
        on_blocking_thread(move || work(&directory)).await
    }
}

/// How deep a listing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListDepth {
    /// The directory alone.
    One,
    /// All that is below it.
    All,
}

async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(FileError::Io { step: "run on a thread for blocking work", source: io::Error::other(error) }))
}
