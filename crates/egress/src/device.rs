//! Where packets come from and go to: the descriptor of a network device in the session's namespace.

use std::{
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    task::{Context, Poll, ready},
};

use smoltcp::{
    phy::{self, DeviceCapabilities, Medium},
    time::Instant,
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::packet::MTU;

/// A session's device.
pub(crate) struct Device {
    fd: AsyncFd<OwnedFd>,
    /// Read, and let through to the stack.
    arrived: VecDeque<Vec<u8>>,
}

impl Device {
    /// `fd` does not block.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { fd: watch(fd)?, arrived: VecDeque::new() })
    }

    /// The next packet: its length in `room`.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.fd.poll_read_ready(cx))?;
            if let Ok(read) = ready.try_io(|fd| rustix::io::read(fd.get_ref(), &mut *room).map_err(io::Error::from)) {
                return Poll::Ready(read);
            }
        }
    }

    /// Has the stack look at a packet.
    pub(crate) fn let_through(&mut self, packet: Vec<u8>) {
        self.arrived.push_back(packet);
    }

    /// Gives the program a packet. One that cannot be taken is lost, as packets may be.
    pub(crate) fn write(&self, packet: &[u8]) {
        give(self.fd.get_ref(), packet);
    }
}

fn give(fd: &OwnedFd, packet: &[u8]) {
    if let Err(error) = rustix::io::write(fd, packet) {
        tracing::trace!(%error, "a packet for a program is lost");
    }
}

#[expect(deprecated, reason = "its successor is unsafe for types whose descriptor may change; an OwnedFd's cannot")]
fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

impl phy::Device for Device {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Leaving<'_>)> {
        let packet = self.arrived.pop_front()?;
        Some((Arrived(packet), Leaving(self.fd.get_ref())))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaving<'_>> {
        Some(Leaving(self.fd.get_ref()))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }
}

pub(crate) struct Arrived(Vec<u8>);

impl phy::RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub(crate) struct Leaving<'a>(&'a OwnedFd);

impl phy::TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        // It is told what fits, and keeps to it.
        let mut packet = [0; MTU];
        if let Some(packet) = packet.get_mut(..len) {
            let result = f(packet);
            give(self.0, packet);
            return result;
        }
        f(&mut vec![0; len])
    }
}
