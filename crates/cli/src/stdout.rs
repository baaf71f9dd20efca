//! Standard output, whose reader may leave before we are done (`| head`): that is no failure to talk about.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Why nothing more can be written.
#[derive(Debug, thiserror::Error)]
pub enum StdoutError {
    /// Its reader is gone.
    #[error("standard output is closed")]
    Closed,
    /// Anything else: a full disk.
    #[error("standard output cannot be written: {0}")]
    Failed(#[source] io::Error),
}

impl From<io::Error> for StdoutError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { StdoutError::Closed } else { StdoutError::Failed(error) }
    }
}

/// Writes a line.
pub fn say(line: impl Display) -> Result<(), StdoutError> {
    Ok(writeln!(io::stdout().lock(), "{line}")?)
}

/// Writes these bytes, and does not keep any back.
pub fn pass(bytes: &[u8]) -> Result<(), StdoutError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}
