use std::{
    io,
    path::{Path, PathBuf},
};

use greenroom_core::Blame;

/// Why something could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another server has the directory.
    #[error("{path} belongs to a server that is running; end it, or choose another directory with data_dir")]
    InUse {
        /// The file that is locked.
        path: PathBuf,
    },
    /// The directory or a file in it cannot be made or opened.
    #[error("{path} cannot be made or opened: {source}; choose another directory with data_dir")]
    Directory {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file is no store, or is damaged.
    #[error("{path} is damaged, or is no store of greenroom's: {source}; move it away, or put a copy of it in its place")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What SQLite says of it.
        source: rusqlite::Error,
    },
    /// A database of another program.
    #[error("{path} is a database of another program; move it away, or choose another directory with data_dir")]
    Foreign {
        /// Which.
        path: PathBuf,
    },
    /// Written by a later version.
    #[error(
        "{path} was written by a later version of greenroom (its format is {found}, this one knows up to {known}); use that version"
    )]
    Newer {
        /// Which.
        path: PathBuf,
        /// The format's number.
        found: i64,
        /// The latest that this version knows.
        known: i64,
    },
    /// The writer thread cannot be started.
    #[error("the store's thread cannot be started: {0}")]
    Thread(#[source] io::Error),
    /// SQLite refused something.
    #[error("the store failed: {0}")]
    Sql(#[source] rusqlite::Error),
    /// The writer thread is gone.
    #[error("the store's thread has ended")]
    Gone,
}

impl StoreError {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            StoreError::InUse { .. } | StoreError::Foreign { .. } | StoreError::Newer { .. } => Blame::Caller,
            StoreError::Directory { .. } | StoreError::Damaged { .. } | StoreError::Thread(_) | StoreError::Sql(_) => {
                Blame::Backend
            }
            StoreError::Gone => Blame::Us,
        }
    }

    /// What SQLite says when it opens a file tells whether the file or the place is at fault.
    pub(super) fn of_file(path: &Path, error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{CannotOpen, DatabaseBusy, DiskFull, PermissionDenied, ReadOnly, SystemIoFailure};
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(CannotOpen | DatabaseBusy | DiskFull | PermissionDenied | ReadOnly | SystemIoFailure) => {
                Self::Directory { path, source: io::Error::other(error) }
            }
            _ => Self::Damaged { path, source: error },
        }
    }
}
