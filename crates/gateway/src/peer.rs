//! Whether a client is still there, also where nobody reads what it sends.
//!
//! While a request is answered hyper looks for the end of its connection, but only as long as nothing has come behind the
//! request: with a line break, or a pipelined request, it stops reading, and the job of a client that is gone would run on.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// How often it is looked. Seldom: it is for those whom hyper does not notice at once.
const EVERY: Duration = Duration::from_millis(500);

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    read: Arc<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

/// Who is at its other end.
#[derive(Debug)]
pub(crate) struct Peer(Arc<OwnedReadHalf>);

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> (Self, Peer) {
        let (read, write) = stream.into_split();
        let read = Arc::new(read);
        (Self { read: Arc::clone(&read), write }, Peer(read))
    }
}

impl Peer {
    /// Resolves when it will send no more.
    pub(crate) async fn gone(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            // What the kernel has told already, reading nothing: what has come is hyper's.
            if let Some(Ok(known)) = self.0.ready(Interest::READABLE).now_or_never()
                && known.is_read_closed()
            {
                return;
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream: &TcpStream = (*self.read).as_ref();
        loop {
            ready!(stream.poll_read_ready(context))?;
            let mut came = None;
            let tried = stream.try_io(Interest::READABLE, || {
                let room = buffer.initialize_unfilled();
                let len = room.len();
                let read = stream.try_read(room)?;
                came = Some(read);
                // With less than there was room for it has been read empty: of what comes now the kernel tells anew. (This is the way
                // to say so, and forgets nothing that is told from here on.)
                if read > 0 && read < len { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (came, tried) {
                (Some(read), _) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                (None, _) => {}
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write(context, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.write.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(context)
    }
}
