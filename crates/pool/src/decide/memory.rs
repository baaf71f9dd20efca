use std::collections::{HashMap, VecDeque};

use crate::{Digest, Ended};

/// Most ends that are remembered.
pub const MOST: usize = 1024;
/// For how long, milliseconds.
pub const KEPT_MS: u64 = 3_600_000;

/// Identifiers whose session ended and whose next call is told so, once.
#[derive(Debug, Default)]
pub struct Memory {
    ends: HashMap<Digest, Ended>,
    /// In the order of their coming. Holds those that were told too, until they are old.
    order: VecDeque<(Digest, u64)>,
}

impl Memory {
    /// Remembers the latest end of this identifier's session.
    pub fn put(&mut self, identifier: Digest, ended: Ended) {
        self.ends.insert(identifier, ended);
        self.order.push_back((identifier, ended.at_ms));
        while self.order.len() > MOST || self.order.front().is_some_and(|&(_, at_ms)| at_ms + KEPT_MS <= ended.at_ms) {
            if let Some((oldest, at_ms)) = self.order.pop_front()
                && self.ends.get(&oldest).is_some_and(|ended| ended.at_ms == at_ms)
            {
                self.ends.remove(&oldest);
            }
        }
    }

    /// Tells and forgets.
    pub fn take(&mut self, identifier: Digest, now_ms: u64) -> Option<Ended> {
        self.ends.remove(&identifier).filter(|ended| ended.at_ms + KEPT_MS > now_ms)
    }

    /// How many are remembered.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.ends.len().max(self.order.len())
    }
}
