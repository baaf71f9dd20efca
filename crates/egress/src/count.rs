//! What all sessions with network have done so far, for the operator.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::policy::{Protocol, Refusal};

/// Counts up, from all tasks.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    connections: AtomicU64,
    peers: AtomicU64,
    refused: [AtomicU64; Refusal::WORDS.len()],
    postponed: AtomicU64,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressStatus {
    /// Connections and peers of datagrams that there are now.
    pub open: u64,
    /// Connections that were begun, whatever the far end said.
    pub connections: u64,
    /// Peers that datagrams were sent to.
    pub peers: u64,
    /// What was refused, by reason.
    pub refused: Vec<(&'static str, u64)>,
    /// What was not begun for want of room, or too soon after another: programs try again.
    pub postponed: u64,
}

fn one(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

impl Counts {
    pub(crate) fn begun(&self, protocol: Protocol) {
        one(match protocol {
            Protocol::Tcp => &self.connections,
            Protocol::Udp => &self.peers,
        });
    }

    pub(crate) fn refused(&self, why: Refusal) {
        let at = Refusal::WORDS.iter().position(|word| *word == why.word());
        at.and_then(|at| self.refused.get(at)).into_iter().for_each(one);
    }

    pub(crate) fn postponed(&self) {
        one(&self.postponed);
    }

    pub(crate) fn status(&self, open: u64) -> EgressStatus {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        EgressStatus {
            open,
            connections: read(&self.connections),
            peers: read(&self.peers),
            refused: Refusal::WORDS.into_iter().zip(self.refused.iter().map(read)).collect(),
            postponed: read(&self.postponed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_count() {
        let counts = Counts::default();
        let all = [Refusal::Denied, Refusal::Port, Refusal::Special("private"), Refusal::Own];
        for (n, why) in all.into_iter().enumerate() {
            (0..=n).for_each(|_| counts.refused(why));
        }
        counts.begun(Protocol::Udp);
        let status = counts.status(7);
        assert_eq!(status.refused, [("denied", 1), ("port", 2), ("special", 3), ("own", 4)]);
        assert_eq!((status.open, status.connections, status.peers, status.postponed), (7, 0, 1, 0));
    }
}
