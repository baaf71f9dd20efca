//! What a program writes, read in the order in which it wrote as far as the kernel can tell.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use greenroom_core::Stream;
use rustix::{
    buffer::spare_capacity,
    event::epoll,
    io::{Errno, read},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::runner::watch;

/// How much of a pipe is read at once, at most: the size of a pipe's buffer (pipe(7)).
pub(super) const READ_BYTES: usize = 64 * 1024;
/// ... and at first: most programs say little, and a large piece of memory costs more than the little that is put there.
const FIRST_READ_BYTES: usize = 4 * 1024;

/// What a slot's output pipes are read through: one epoll, which lists them in the order in which they became readable. It is
/// there for all sandboxes of the slot, one after the other: a pipe leaves it when it is closed.
#[derive(Clone)]
pub(super) struct Outputs(Arc<AsyncFd<OwnedFd>>);

impl Outputs {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self(Arc::new(watch(epoll, Interest::READABLE)?)))
    }
}

/// Both output pipes, read in the order in which they became readable,
/// which is as much as the kernel can tell of the order in which the program wrote.
pub(super) struct Pipes {
    outputs: Outputs,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// Readable, in order, not yet read empty.
    pending: VecDeque<Readable>,
    /// How much is read next.
    read_bytes: usize,
}

struct Readable {
    stream: Stream,
    /// Nobody can write any more: what comes next, after what is there, is the end.
    ends: bool,
}

impl Pipes {
    pub(super) fn new(outputs: &Outputs, stdout: OwnedFd, stderr: OwnedFd) -> io::Result<Self> {
        for (pipe, data) in [(&stdout, 1), (&stderr, 2)] {
            // Also where something is there to be read: the program could have read it.
            rustix::io::ioctl_fionbio(pipe, true)?;
            epoll::add(outputs.0.get_ref(), pipe, epoll::EventData::new_u64(data), epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        }
        let (outputs, pending) = (outputs.clone(), VecDeque::new());
        Ok(Self { outputs, stdout: Some(stdout), stderr: Some(stderr), pending, read_bytes: FIRST_READ_BYTES })
    }

    /// Whether both have reached their end.
    pub(super) fn at_end(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// The next bytes; empty where a pipe has reached its end.
    pub(super) async fn next(&mut self) -> io::Result<(Stream, Vec<u8>)> {
        loop {
            while let Some(Readable { stream, ends }) = self.pending.front() {
                let (stream, ends) = (*stream, *ends);
                let pipe = match stream {
                    Stream::Stdout => &mut self.stdout,
                    Stream::Stderr => &mut self.stderr,
                };
                let Some(fd) = pipe else {
                    self.pending.pop_front();
                    continue;
                };
                let mut bytes = Vec::with_capacity(self.read_bytes);
                match read(fd.as_fd(), spare_capacity(&mut bytes)) {
                    Ok(0) => {
                        *pipe = None;
                        return Ok((stream, bytes));
                    }
                    Ok(len) => {
                        if len == self.read_bytes {
                            self.read_bytes = READ_BYTES;
                        } else if !ends {
                            // It is empty, or was: of anything since then the epoll tells (epoll(7), question 9). Only packets
                            // (pipe(2), O_DIRECT) wait for the next one, or for the end.
                            self.pending.pop_front();
                        }
                        if bytes.capacity() > FIRST_READ_BYTES {
                            bytes.shrink_to_fit();
                        }
                        return Ok((stream, bytes));
                    }
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => {
                        self.pending.pop_front();
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            let mut ready = self.outputs.0.readable().await?;
            // Room for more than there are: what is not listed has not happened yet.
            let mut events = Vec::with_capacity(3);
            let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            match epoll::wait(self.outputs.0.get_ref(), spare_capacity(&mut events), Some(&zero)) {
                Ok(_) => {
                    ready.clear_ready();
                    self.pending.extend(events.iter().map(|event| {
                        let (data, flags) = (event.data.u64(), event.flags);
                        let ends = flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR);
                        Readable { stream: if data == 1 { Stream::Stdout } else { Stream::Stderr }, ends }
                    }));
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
