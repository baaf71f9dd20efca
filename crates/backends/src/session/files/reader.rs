use std::os::fd::OwnedFd;

use super::{FileError, FileInfo, held::Held, on_blocking_thread};

/// How much is read at once.
const CHUNK_BYTES: u64 = 256 * 1024;

/// An open file of a session, read piece by piece.
#[derive(Debug)]
pub struct FileReader {
    file: Held<OwnedFd>,
    info: FileInfo,
    offset: u64,
}

impl FileReader {
    pub(super) fn new(file: Held<OwnedFd>, info: FileInfo) -> Self {
        Self { file, info, offset: 0 }
    }

    /// What it is; `size` is how many bytes [`FileReader::next`] gives in all.
    pub fn info(&self) -> &FileInfo {
        &self.info
    }

    /// The next piece; `None` behind the last.
    ///
    /// # Errors
    /// [`FileError::Changed`] where the program has made the file shorter meanwhile, [`FileError::Ended`] with the session.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, FileError> {
        let wanted = (self.info.size - self.offset).min(CHUNK_BYTES);
        if wanted == 0 {
            return Ok(None);
        }
        let (file, offset) = (self.file.get()?, self.offset);
        let piece = on_blocking_thread(move || {
            let mut piece = Vec::with_capacity(usize::try_from(wanted).unwrap_or(0));
            // Read, never mapped: a mapped file that is cut short is a SIGBUS.
            rustix::io::pread(&file, rustix::buffer::spare_capacity(&mut piece), offset)
                .map_err(|errno| FileError::new("read", errno))?;
            Ok(piece)
        })
        .await?;
        if piece.is_empty() {
            return Err(FileError::Changed);
        }
        self.offset += piece.len() as u64;
        Ok(Some(piece))
    }

    /// All that is left of it.
    ///
    /// # Errors
    /// As [`FileReader::next`].
    pub async fn rest(mut self) -> Result<Vec<u8>, FileError> {
        let mut all = Vec::with_capacity(usize::try_from(self.info.size - self.offset).unwrap_or(0));
        while let Some(piece) = self.next().await? {
            all.extend(piece);
        }
        Ok(all)
    }
}
