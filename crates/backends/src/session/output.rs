//! What a session's program writes, and to which cell it belongs.
//!
//! What a cell prints is in the pipes before its answer is on the channel; so what is in the pipes when the answer comes is
//! the cell's, and what comes later is nobody's: it is read, so that no thread or background process ever waits for us, and
//! thrown away. A thread that goes on printing while a later cell runs prints into that one's output, as in a notebook.

use std::{io, os::fd::OwnedFd, time::Duration};

use greenroom_core::Stream;
use rustix::io::{Errno, ioctl_fionread, read};
use tokio::io::unix::AsyncFd;

use crate::local::nonblocking;

/// How much is read at once.
const READ_BYTES: usize = 16 * 1024;
/// Between two cells so much is read at once, and then after a pause again: a background process that writes without end
/// must not keep a processor of ours busy.
const PAUSE_AFTER_BYTES: usize = 1 << 20;
const PAUSE: Duration = Duration::from_millis(20);

/// Both output pipes of a session.
pub(super) struct Output {
    stdout: Pipe,
    stderr: Pipe,
    unheard: usize,
}

struct Pipe {
    /// `None` once the program has closed its end.
    fd: Option<AsyncFd<OwnedFd>>,
    kept: Vec<u8>,
    /// More was written than is kept.
    cut: bool,
}

/// What a cell wrote to one stream.
pub(super) struct Written {
    pub(super) text: String,
    pub(super) cut: bool,
}

impl Output {
    pub(super) fn new(stdout: OwnedFd, stderr: OwnedFd) -> io::Result<Self> {
        Ok(Self { stdout: Pipe::new(stdout)?, stderr: Pipe::new(stderr)?, unheard: 0 })
    }

    /// Reads what comes, keeping at most `keep` bytes of each stream; answers how much came. Never resolves where both are
    /// closed. Nothing is lost where the future is dropped.
    pub(super) async fn read(&mut self, keep: usize) -> usize {
        tokio::select! {
            came = self.stdout.read(keep) => came,
            came = self.stderr.read(keep) => came,
        }
    }

    /// Reads what comes while no cell runs, and forgets it.
    pub(super) async fn ignore(&mut self) {
        if self.unheard >= PAUSE_AFTER_BYTES {
            tokio::time::sleep(PAUSE).await;
            self.unheard = 0;
        }
        self.unheard += self.read(0).await;
    }

    /// Reads what is in the pipes now, no more.
    pub(super) fn drain(&mut self, keep: usize) {
        for pipe in [&mut self.stdout, &mut self.stderr] {
            let waiting = pipe.fd.as_ref().and_then(|fd| ioctl_fionread(fd).ok()).unwrap_or(0);
            let mut left = usize::try_from(waiting).unwrap_or(0);
            while left > 0 {
                match pipe.read_once(left, keep) {
                    Ok(0) | Err(_) => break,
                    Ok(came) => left = left.saturating_sub(came),
                }
            }
        }
    }

    /// Begins a new cell: what was written before is not its.
    pub(super) fn begin(&mut self) {
        self.drain(0);
        for pipe in [&mut self.stdout, &mut self.stderr] {
            pipe.kept = Vec::new();
            pipe.cut = false;
        }
        self.unheard = 0;
    }

    /// What was kept of a stream, at most `chars` characters of it.
    pub(super) fn take(&mut self, stream: Stream, chars: Option<usize>) -> Written {
        let pipe = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut kept = std::mem::take(&mut pipe.kept);
        if pipe.cut {
            kept.truncate(whole_characters(&kept));
        }
        let mut text = match String::from_utf8(kept) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        };
        let cut_at = chars.and_then(|chars| text.char_indices().nth(chars)).map(|(at, _)| at);
        if let Some(at) = cut_at {
            text.truncate(at);
        }
        Written { text, cut: std::mem::take(&mut pipe.cut) || cut_at.is_some() }
    }
}

/// Where the last character ends that is not cut in two.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

impl Pipe {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { fd: Some(nonblocking(fd)?), kept: Vec::new(), cut: false })
    }

    async fn read(&mut self, keep: usize) -> usize {
        loop {
            let Some(fd) = &self.fd else { return std::future::pending().await };
            let Ok(mut ready) = fd.readable().await else { return std::future::pending().await };
            // Whether there really is something, the read says.
            ready.retain_ready();
            match self.read_once(READ_BYTES, keep) {
                Ok(0) => self.fd = None,
                Ok(came) => return came,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if let Some(fd) = &self.fd
                        && let Ok(mut ready) = fd.readable().await
                    {
                        ready.clear_ready();
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a session's output cannot be read");
                    self.fd = None;
                }
            }
        }
    }

    fn read_once(&mut self, at_most: usize, keep: usize) -> Result<usize, Errno> {
        let Some(fd) = &self.fd else { return Ok(0) };
        let mut scratch = [0; READ_BYTES];
        let came = read(fd, &mut scratch[..at_most.min(READ_BYTES)])?;
        let room = keep.saturating_sub(self.kept.len()).min(came);
        self.kept.extend_from_slice(&scratch[..room]);
        self.cut |= room < came;
        Ok(came)
    }
}

#[cfg(test)]
mod tests;
