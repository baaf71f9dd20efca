//! Connections of programs, each joined with one of the host's.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use rustix::net::sockopt::set_socket_linger;
use smoltcp::{
    iface::{SocketHandle, SocketSet},
    socket::tcp::{self, State},
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::OwnedSemaphorePermit,
    time::timeout,
};

use crate::{device::Device, packet::Key};

/// Of each connection, in each direction: bytes that one end has sent and the other has not taken.
const BUFFER_BYTES: usize = 32 << 10;
/// What the host's sockets may hold of it (the kernel takes twice that for its own needs, socket(7)): at 50 ms to the far end, 5 MB/s.
const SEND_BYTES: u32 = 128 << 10;
const RECEIVE_BYTES: u32 = 256 << 10;
/// How long the host tries to connect.
const CONNECT: Duration = Duration::from_secs(30);

/// A program that has closed its end and said nothing of it is asked so often whether it is still there.
const KEEP_ALIVE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(30);

/// How long the far end may take for the last of what a program has sent.
const LEAVE: Duration = Duration::from_secs(30);

type Leaving = Pin<Box<dyn Future<Output = ()> + Send>>;
type Connecting = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// All connections of a session.
#[derive(Default)]
pub(crate) struct Streams(HashMap<Key, Stream>);

struct Stream {
    stage: Stage,
    /// Its place among all connections of the server.
    _place: OwnedSemaphorePermit,
}

enum Stage {
    /// The host connects. The program's question is answered only then, and as the far end answered.
    Connecting {
        connecting: Connecting,
        question: Vec<u8>,
    },
    Open(Joined),
    /// The program's end is over, and the far end has yet to take the last of what it has sent.
    Leaving(Leaving),
}

/// A connection, whose two ends are joined.
struct Joined {
    /// The program's end.
    socket: SocketHandle,
    /// The host's.
    far: Far,
    /// The program says nothing more.
    has_said_all: bool,
    /// The far end says nothing more, and the program knows.
    far_done: bool,
    /// When something was carried last.
    carried: Instant,
}

/// The host's end of a connection. Dropped before all was said, it is reset: else what is only a part would look like the whole.
struct Far {
    stream: TcpStream,
    /// The program says nothing more, and the far end knows.
    program_done: bool,
}

impl Drop for Far {
    fn drop(&mut self) {
        if !self.program_done
            && let Err(error) = set_socket_linger(&self.stream, Some(Duration::ZERO))
        {
            tracing::debug!(%error, "a connection ends as if all had been said");
        }
    }
}

impl Streams {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What to do with a segment: whether the stack may see it; `None` where it belongs to no connection.
    pub(crate) fn is_open(&self, key: Key) -> Option<bool> {
        self.0.get(&key).map(|stream| matches!(stream.stage, Stage::Open(_)))
    }

    /// Connects with `to`, and answers the program's question when that has succeeded, or failed.
    pub(crate) fn begin(&mut self, key: Key, to: SocketAddr, question: Vec<u8>, place: OwnedSemaphorePermit) {
        let connecting = Box::pin(async move {
            let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_send_buffer_size(SEND_BYTES)?;
            socket.set_recv_buffer_size(RECEIVE_BYTES)?;
            let stream = timeout(CONNECT, socket.connect(to)).await.map_err(|_| io::ErrorKind::TimedOut)??;
            // The program decides what goes together.
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        self.0.insert(key, Stream { stage: Stage::Connecting { connecting, question }, _place: place });
    }

    /// Looks which connections of the host's have come about. Whether there is something for the stack to do.
    pub(crate) fn connect(
        &mut self,
        cx: &mut Context<'_>,
        sockets: &mut SocketSet<'static>,
        device: &mut Device,
        now: Instant,
    ) -> bool {
        let mut is_busy = false;
        self.0.retain(|key, stream| {
            let Stage::Connecting { connecting, question } = &mut stream.stage else { return true };
            let Poll::Ready(connected) = connecting.as_mut().poll(cx) else { return true };
            is_busy = true;
            // Where nobody listens the stack refuses.
            device.let_through(std::mem::take(question));
            let joined = connected.ok().and_then(|stream| Some((listen(*key)?, stream)));
            let Some((socket, connected)) = joined else { return false };
            let socket = sockets.add(socket);
            let far = Far { stream: connected, program_done: false };
            stream.stage = Stage::Open(Joined { socket, far, has_said_all: false, far_done: false, carried: now });
            true
        });
        is_busy
    }

    /// Has one give way to another where there is no room: that whose program has closed its end, and whose far end has been silent for
    /// longest. Else who leaves connections behind that nobody closes could have no more.
    pub(crate) fn make_way(&mut self, sockets: &mut SocketSet<'static>) {
        let closed = self.0.values().filter_map(|stream| match &stream.stage {
            Stage::Open(joined) if joined.far.program_done => Some(joined),
            _ => None,
        });
        if let Some(joined) = closed.min_by_key(|joined| joined.carried) {
            sockets.get_mut::<tcp::Socket<'_>>(joined.socket).abort();
        }
    }

    /// Carries what there is, in both directions. After the stack has seen what was let through.
    pub(crate) fn carry(&mut self, cx: &mut Context<'_>, sockets: &mut SocketSet<'static>, now: Instant) -> bool {
        let mut is_busy = false;
        self.0.retain(|_, stream| {
            let joined = match &mut stream.stage {
                Stage::Connecting { .. } => return true,
                Stage::Leaving(leaving) => return leaving.as_mut().poll(cx).is_pending(),
                Stage::Open(joined) => joined,
            };
            let socket = sockets.get_mut::<tcp::Socket<'_>>(joined.socket);
            if joined.carry(cx, socket) {
                (joined.carried, is_busy) = (now, true);
            }
            if !is_over(socket) {
                return true;
            }
            let (rest, handle) = (joined.rest(socket), joined.socket);
            sockets.remove(handle);
            // The place of the stage is taken by one that is over.
            let stage = std::mem::replace(&mut stream.stage, Stage::Leaving(Box::pin(std::future::ready(()))));
            let (Some(rest), Stage::Open(joined)) = (rest, stage) else { return false };
            let mut leaving = leave(joined.far, rest);
            let goes_on = leaving.as_mut().poll(cx).is_pending();
            stream.stage = Stage::Leaving(leaving);
            goes_on
        });
        is_busy
    }
}

/// The program's end of a connection, before its question is seen.
fn listen(key: Key) -> Option<tcp::Socket<'static>> {
    let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER_BYTES]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket.set_ack_delay(None);
    socket.set_keep_alive(Some(KEEP_ALIVE));
    socket.listen((*key.to.ip(), key.to.port())).ok()?;
    Some(socket)
}

/// Whether nothing more comes of it. What the stack has to say last it has said: this is asked after its turn.
fn is_over(socket: &tcp::Socket<'_>) -> bool {
    match socket.state() {
        // The program has gone back on its question; or both have said all.
        State::Listen | State::TimeWait => true,
        // While there is a far end, it has yet to be told.
        State::Closed => socket.remote_endpoint().is_none(),
        _ => false,
    }
}

/// Sends the rest, and says that it was the last.
fn leave(far: Far, rest: Vec<u8>) -> Leaving {
    Box::pin(async move {
        let mut far = far;
        let left = timeout(LEAVE, async {
            far.stream.write_all(&rest).await?;
            far.stream.shutdown().await
        });
        far.program_done = left.await.is_ok_and(|left| left.is_ok());
    })
}

impl Joined {
    /// What the program has sent before it ended in good order and the far end has not taken yet. It has been told that all arrived.
    fn rest(&self, socket: &mut tcp::Socket<'_>) -> Option<Vec<u8>> {
        if !self.has_said_all || self.far.program_done {
            return None;
        }
        let mut rest = Vec::with_capacity(socket.recv_queue());
        while socket.recv_queue() > 0 && socket.recv(|bytes| (bytes.len(), rest.extend_from_slice(bytes))).is_ok() {}
        Some(rest)
    }

    fn carry(&mut self, cx: &mut Context<'_>, socket: &mut tcp::Socket<'_>) -> bool {
        let out = self.carry_out(cx, socket);
        let back = if out.is_ok() { self.carry_back(cx, socket) } else { Ok(true) };
        match (out, back) {
            (Ok(out), Ok(back)) => out || back,
            _ => {
                let was_open = socket.is_open();
                socket.abort();
                was_open
            }
        }
    }

    fn carry_out(&mut self, cx: &mut Context<'_>, socket: &mut tcp::Socket<'_>) -> io::Result<bool> {
        let mut is_busy = false;
        self.has_said_all |= matches!(socket.state(), State::CloseWait | State::Closing | State::LastAck | State::TimeWait);
        while socket.can_recv() && !self.far.program_done {
            let Poll::Ready(ready) = self.far.stream.poll_write_ready(cx) else { return Ok(is_busy) };
            ready?;
            let stream = &self.far.stream;
            let written = socket.recv(|bytes| match stream.try_write(bytes) {
                Ok(len) => (len, Ok(())),
                Err(error) => (0, Err(error)),
            });
            match written {
                Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(written) => {
                    written?;
                    is_busy = true;
                }
                Err(_) => break,
            }
        }
        if self.has_said_all && socket.recv_queue() == 0 && !self.far.program_done {
            // Of a socket: done at once.
            if let Poll::Ready(done) = Pin::new(&mut self.far.stream).poll_shutdown(cx) {
                done?;
                (self.far.program_done, is_busy) = (true, true);
            }
        }
        Ok(is_busy)
    }

    fn carry_back(&mut self, cx: &mut Context<'_>, socket: &mut tcp::Socket<'_>) -> io::Result<bool> {
        let mut is_busy = false;
        while socket.can_send() && !self.far_done {
            let Poll::Ready(ready) = self.far.stream.poll_read_ready(cx) else { return Ok(is_busy) };
            ready?;
            let stream = &self.far.stream;
            let read = socket.send(|room| match stream.try_read(room) {
                Ok(len) => (len, Ok(len)),
                Err(error) => (0, Err(error)),
            });
            match read {
                Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(read) => {
                    if read? == 0 {
                        socket.close();
                        self.far_done = true;
                    }
                    is_busy = true;
                }
                Err(_) => break,
            }
        }
        Ok(is_busy)
    }
}
