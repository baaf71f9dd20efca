use std::{
    fs::{File, TryLockError},
    path::Path,
};

use super::{StoreError, open};

/// The file that a running server holds locked. Not the database itself: SQLite's own locks are of the kind that closing any
/// descriptor of a file gives up (fcntl(2), "Record locks").
const FILE: &str = "greenroom.lock";

/// The right to be the server of a directory. The kernel gives it back whatever way the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let file = open::private_file(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path }),
            Err(TryLockError::Error(source)) => Err(StoreError::Directory { path, source }),
        }
    }
}
