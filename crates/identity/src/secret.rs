//! Files that nobody but their owner may read.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Why a secret cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be made, read or written.
    #[error("{path} cannot be used: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Others than its owner can read it.
    #[error("{path} can be read by others, and is a secret: chmod 600 it, or remove it and a new one is made")]
    Readable {
        /// Which.
        path: PathBuf,
    },
}

/// Makes a directory for them.
pub(crate) fn make_directory(path: &Path) -> Result<(), SecretError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| SecretError::File { path: path.to_owned(), source })
}

/// Written whole or not at all.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), SecretError> {
    let of = |source| SecretError::File { path: path.to_owned(), source };
    let beside = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside).map_err(of)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&beside, path)).map_err(of)
}

/// Reads one that has stayed a secret.
pub(crate) fn read_secret(path: &Path) -> Result<String, SecretError> {
    let of = |source| SecretError::File { path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(of)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(SecretError::Readable { path: path.to_owned() });
    }
    Ok(fs::read_to_string(path).map_err(of)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_its_owners_and_one_that_is_not_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        write_secret(&path, "s").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_secret(&path).unwrap(), "s");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_secret(&path), Err(SecretError::Readable { .. })));
    }
}
