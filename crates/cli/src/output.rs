//! Our output, whose reader may leave before we are done (`| head`): that is no failure to talk about.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Why nothing more can be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Its reader is gone.
    #[error("nobody reads the output any more")]
    Closed,
    /// Anything else: a full disk.
    #[error("the output cannot be written: {0}")]
    Failed(#[source] io::Error),
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { OutputError::Closed } else { OutputError::Failed(error) }
    }
}

/// Writes a line.
pub fn say(line: impl Display) -> Result<(), OutputError> {
    Ok(writeln!(io::stdout().lock(), "{line}")?)
}

/// Writes these bytes to standard output or standard error, and does not keep any back.
pub fn pass(mut to: impl Write, bytes: &[u8]) -> Result<(), OutputError> {
    to.write_all(bytes)?;
    Ok(to.flush()?)
}
