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

/// An error with its causes, in one line. Some errors say themselves what caused them, others leave that to their causes, and libraries do
/// both: what is said again by the next in the chain is said once.
pub fn told(error: &anyhow::Error) -> String {
    let mut line = String::new();
    let mut above = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let is_new = above.is_empty() || !line.contains(&text) && !text.contains(&above);
        if is_new {
            let colon = if line.is_empty() { "" } else { ": " };
            line.extend([colon, &text]);
        }
        above = text;
    }
    line
}

/// Writes these bytes to standard output or standard error, and does not keep any back.
pub fn pass(mut to: impl Write, bytes: &[u8]) -> Result<(), OutputError> {
    to.write_all(bytes)?;
    Ok(to.flush()?)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn causes_are_told_once_whether_the_error_above_tells_them_or_not() {
        let full = || io::Error::other("the disk is full");
        assert_eq!(told(&anyhow::Error::new(OutputError::Failed(full()))), "the output cannot be written: the disk is full");
        let wrapped = Err::<(), _>(OutputError::Failed(full())).context("cannot list").unwrap_err();
        assert_eq!(told(&wrapped), "cannot list: the output cannot be written: the disk is full");
        let silent = Err::<(), _>(full()).context("cannot save").unwrap_err();
        assert_eq!(told(&silent), "cannot save: the disk is full");
        assert_eq!(told(&anyhow::anyhow!("alone")), "alone");
    }

    #[test]
    fn a_library_that_repeats_itself_is_not_repeated() {
        // As SQLite's: the text, below it the text with a number.
        let error =
            anyhow::anyhow!("Error code 26: no database").context("no database").context("x.db is damaged: no database; move it");
        assert_eq!(told(&error), "x.db is damaged: no database; move it");
    }
}
