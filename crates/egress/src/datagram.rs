//! Datagrams of programs: a socket of the host for each port that one speaks from, and peer that it speaks to.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use rustix::net::{SendFlags, send};
use tokio::{net::UdpSocket, sync::OwnedSemaphorePermit};

use crate::{
    device::Device,
    names::Names,
    packet::{Key, MTU, Unreachable, answer, unreachable},
};

/// Peers of a session at once. One more takes the place of the one that was silent for longest.
const MOST: usize = 64;
/// After so long without a word the answer to a datagram does not find back.
const IDLE: Duration = Duration::from_secs(60);
/// And a question for a name counts as not answered: before the C library asks again (resolv.conf(5): after 5 s).
const IDLE_NAME: Duration = Duration::from_secs(3);
/// Answers that are taken of one peer before it is the next one's turn.
const AT_ONCE: usize = 16;

/// All peers of a session.
#[derive(Default)]
pub(crate) struct Datagrams(HashMap<Key, Peer>);

struct Peer {
    socket: UdpSocket,
    spoken: Instant,
    /// Who was asked for a name, and has not answered yet.
    asked: Option<SocketAddr>,
    /// Whether it is asked for names.
    is_names: bool,
    place: OwnedSemaphorePermit,
}

/// What was heard of a peer.
enum Heard {
    /// A packet for the program; `None` where it does not fit into one.
    Answer(Option<Vec<u8>>),
    /// That there is nobody, and what the program is told of it.
    Nobody(Option<Vec<u8>>),
}

impl Datagrams {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Sends to a peer that is known already. `false`: it is not.
    pub(crate) fn send(&mut self, key: Key, payload: &[u8], now: Instant) -> bool {
        let Some(peer) = self.0.get_mut(&key) else { return false };
        peer.spoken = now;
        if peer.is_names {
            peer.asked = peer.socket.peer_addr().ok();
        }
        // What cannot be sent now is lost, as datagrams may be; what is wrong with the peer is said when it is read.
        if let Err(error) = send(&peer.socket, payload, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            tracing::trace!(%error, to = %key.to, "a datagram is lost");
        }
        true
    }

    /// Forgets the peer that was silent for longest, for the place of another.
    pub(crate) fn make_way(&mut self) -> Option<OwnedSemaphorePermit> {
        let oldest = self.0.iter().min_by_key(|(_, peer)| peer.spoken).map(|(key, _)| *key)?;
        self.0.remove(&oldest).map(|peer| peer.place)
    }

    /// Takes up a peer, who is in truth at `to`.
    pub(crate) fn begin(
        &mut self,
        key: Key,
        to: SocketAddr,
        is_names: bool,
        place: OwnedSemaphorePermit,
        now: Instant,
    ) -> io::Result<()> {
        if self.0.len() >= MOST {
            self.make_way();
        }
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = std::net::UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        // From now on it hears that peer only.
        socket.connect(to)?;
        let peer = Peer { socket: UdpSocket::from_std(socket)?, spoken: now, asked: None, is_names, place };
        self.0.insert(key, peer);
        Ok(())
    }

    /// Brings the program what its peers have said, and forgets those that are silent.
    pub(crate) fn carry(&mut self, cx: &mut Context<'_>, device: &Device, names: &mut Names, now: Instant) -> bool {
        let mut is_busy = false;
        self.0.retain(|key, peer| {
            for _ in 0..AT_ONCE {
                match peer.hear(cx, *key) {
                    Poll::Pending => break,
                    Poll::Ready(heard) => {
                        is_busy = true;
                        peer.spoken = now;
                        let asked = peer.asked.take();
                        let packet = match heard {
                            Heard::Answer(packet) => packet,
                            Heard::Nobody(packet) => {
                                asked.into_iter().for_each(|server| names.is_silent(server));
                                packet
                            }
                        };
                        packet.iter().for_each(|packet| device.write(packet));
                    }
                }
            }
            let is_silent = now.saturating_duration_since(peer.spoken) > if peer.is_names { IDLE_NAME } else { IDLE };
            if let (true, Some(server)) = (is_silent, peer.asked) {
                names.is_silent(server);
            }
            !is_silent
        });
        is_busy
    }
}

impl Peer {
    /// The next thing that came.
    fn hear(&self, cx: &mut Context<'_>, key: Key) -> Poll<Heard> {
        // One more than fits, to see that it does not.
        let mut room = [0; MTU + 1];
        loop {
            if self.socket.poll_recv_ready(cx).is_pending() {
                return Poll::Pending;
            }
            match self.socket.try_recv(&mut room) {
                Ok(len) => return Poll::Ready(Heard::Answer(answer(key, &room[..len]))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    return Poll::Ready(Heard::Nobody(unreachable(key, Unreachable::Port)));
                }
                Err(error) => {
                    tracing::trace!(%error, to = %key.to, "a peer cannot be heard");
                    return Poll::Ready(Heard::Nobody(None));
                }
            }
        }
    }
}
