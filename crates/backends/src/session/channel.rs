//! The socket to the program in a session: lines in both directions, each bounded.

use std::{io, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};
use tokio::io::unix::AsyncFd;

use crate::local::nonblocking;

/// Longest line that a program may send, bytes. Its own bounds (a picture of 6 MiB, a text of 1 MiB that JSON makes up to six
/// times as long) stay below; a longer line is no honest one.
pub(super) const LINE_BYTES_MAX: usize = 10 << 20;
/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;

/// The conversation with a session's program.
pub(super) struct Channel {
    socket: AsyncFd<OwnedFd>,
    received: Vec<u8>,
    /// Up to where `received` has been looked through for the end of a line.
    seen: usize,
    outgoing: Vec<u8>,
    sent: usize,
}

/// Why the conversation cannot go on. All of these are the program's doing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// Its end is closed.
    #[error("the program closed the conversation")]
    Closed,
    /// It sent more than [`LINE_BYTES_MAX`] in one line.
    #[error("the program sent a line that does not end")]
    TooLong,
    /// It said something that nobody asked it, or nothing that can be understood.
    #[error("the program said something that is no answer")]
    NoAnswer,
}

impl Channel {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: nonblocking(socket)?, received: Vec::new(), seen: 0, outgoing: Vec::new(), sent: 0 })
    }

    /// Puts a line on its way; [`Channel::next`] sends what does not go at once.
    pub(super) fn say(&mut self, line: Vec<u8>) -> Result<(), Broken> {
        // What was said before may not have been read yet, where it was given up. It is bounded: one task at a time.
        self.outgoing.drain(..self.sent);
        self.sent = 0;
        self.outgoing.extend(line);
        self.advance()
    }

    /// The next line, without its end. Sends meanwhile what is to be sent. Nothing is lost where the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Vec<u8>, Broken> {
        loop {
            self.advance()?;
            if let Some(line) = self.take_line()? {
                return Ok(line);
            }
            let to_send = self.sent < self.outgoing.len();
            tokio::select! {
                ready = self.socket.readable() => {
                    let mut ready = ready.map_err(|_| Broken::Closed)?;
                    if receive(self.socket.get_ref(), &mut self.received)? == Received::Nothing {
                        ready.clear_ready();
                    }
                }
                ready = self.socket.writable(), if to_send => ready.map_err(|_| Broken::Closed)?.clear_ready(),
            }
        }
    }

    fn take_line(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        match self.received[self.seen..].iter().position(|&byte| byte == b'\n') {
            Some(at) => {
                let rest = self.received.split_off(self.seen + at + 1);
                let mut line = std::mem::replace(&mut self.received, rest);
                line.pop();
                self.seen = 0;
                Ok(Some(line))
            }
            None if self.received.len() > LINE_BYTES_MAX => Err(Broken::TooLong),
            None => {
                self.seen = self.received.len();
                Ok(None)
            }
        }
    }

    fn advance(&mut self) -> Result<(), Broken> {
        while self.sent < self.outgoing.len() {
            match send(self.socket.get_ref(), &self.outgoing[self.sent..], SendFlags::NOSIGNAL) {
                Ok(sent) => self.sent += sent,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                // What it said before it closed its end can still be read.
                Err(_) => break,
            }
        }
        self.outgoing = Vec::new();
        self.sent = 0;
        Ok(())
    }
}

#[derive(PartialEq)]
enum Received {
    Something,
    Nothing,
}

fn receive(socket: &OwnedFd, into: &mut Vec<u8>) -> Result<Received, Broken> {
    into.reserve(READ_BYTES);
    match recv(socket, rustix::buffer::spare_capacity(into), RecvFlags::empty()) {
        Ok((0, _)) => Err(Broken::Closed),
        Ok(_) => Ok(Received::Something),
        Err(Errno::INTR) => Ok(Received::Something),
        Err(Errno::AGAIN) => Ok(Received::Nothing),
        Err(_) => Err(Broken::Closed),
    }
}
