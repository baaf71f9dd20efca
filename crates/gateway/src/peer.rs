//! Whether a client is still there, also where nobody reads what it sends.
//!
//! While a request is answered hyper looks for the end of its connection, but only as long as nothing has come behind the
//! request: with a line break, or a pipelined request, it stops reading, and the job of a client that is gone would run on.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// How often it is looked. Seldom: it is for those whom hyper does not notice at once.
const EVERY: Duration = Duration::from_millis(500);

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection(Arc<TcpStream>);

/// Who is at its other end.
#[derive(Debug)]
pub(crate) struct Peer(Arc<TcpStream>);

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> (Self, Peer) {
        let stream = Arc::new(stream);
        (Self(Arc::clone(&stream)), Peer(stream))
    }
}

impl Peer {
    /// Resolves when it will send no more.
    pub(crate) async fn gone(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            if self.is_gone() {
                return;
            }
        }
    }

    fn is_gone(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Reading nothing: what has come is hyper's.
        let mut fds = [PollFd::new(&self.0, PollFlags::RDHUP)];
        poll(&mut fds, Some(&now)).is_ok_and(|found| found > 0)
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, pieces: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write_vectored(pieces) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Half closed, the client can still send what nobody will read.
    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(rustix::net::shutdown(&self.0, rustix::net::Shutdown::Write).map_err(io::Error::from))
    }
}
