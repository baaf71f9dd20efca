use super::{FILE_BYTES_MAX, FileError, FileInfo, beneath::Unfinished, held::Held, on_blocking_thread};

/// A file of a session that is being written. Dropped before [`FileWriter::finish`], nothing is left of it.
#[derive(Debug)]
pub struct FileWriter {
    /// `None` after a write that failed.
    unfinished: Option<Held<Unfinished>>,
    written: u64,
}

impl FileWriter {
    pub(super) fn new(unfinished: Held<Unfinished>) -> Self {
        Self { unfinished: Some(unfinished), written: 0 }
    }

    /// Writes these bytes behind those before.
    ///
    /// # Errors
    /// [`FileError::TooLarge`], [`FileError::Full`]; after any error the file is given up.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]> + Send + 'static) -> Result<(), FileError> {
        let held = self.unfinished.take().ok_or(FileError::Changed)?;
        let unfinished = held.get()?;
        self.written += bytes.as_ref().len() as u64;
        if self.written > FILE_BYTES_MAX {
            return Err(FileError::TooLarge);
        }
        on_blocking_thread(move || {
            let mut left = bytes.as_ref();
            while !left.is_empty() {
                match rustix::io::write(&unfinished.file, left) {
                    Ok(written) => left = &left[written..],
                    Err(rustix::io::Errno::INTR) => {}
                    Err(errno) => return Err(FileError::new("write", errno)),
                }
            }
            Ok(())
        })
        .await?;
        self.unfinished = Some(held);
        Ok(())
    }

    /// Gives the file its name, in place of what stood there.
    ///
    /// # Errors
    /// [`FileError`]; then nothing is left of it.
    pub async fn finish(self) -> Result<FileInfo, FileError> {
        let unfinished = self.unfinished.ok_or(FileError::Changed)?.get()?;
        on_blocking_thread(move || unfinished.name()).await
    }
}
