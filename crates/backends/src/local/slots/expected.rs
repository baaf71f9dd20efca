//! What is being prepared ahead, and who waits for it. Nobody waits for what is not being prepared.

use tokio::sync::oneshot;

use super::Kind;

/// `T` is what comes of it.
#[derive(Debug)]
pub(super) struct Expected<T> {
    /// Counted, or a burst of slots that come back would prepare too many.
    preparing: Vec<Kind>,
    waiting: Vec<(Kind, oneshot::Sender<T>)>,
}

impl<T> Default for Expected<T> {
    fn default() -> Self {
        Self { preparing: Vec::new(), waiting: Vec::new() }
    }
}

impl<T> Expected<T> {
    /// One of this kind is being prepared: until [`Expected::done`] or [`Expected::failed`] says more.
    pub(super) fn begin(&mut self, kind: Kind) {
        self.preparing.push(kind);
    }

    /// How many of this kind are being prepared that nobody waits for.
    pub(super) fn free(&self, kind: Kind) -> usize {
        let preparing = self.preparing.iter().filter(|one| **one == kind).count();
        // Who has gone away waits no more.
        let waiting = self.waiting.iter().filter(|(one, sender)| *one == kind && !sender.is_closed()).count();
        preparing.saturating_sub(waiting)
    }

    /// The next one of this kind that nobody waits for. The sender is dropped where there will be none.
    pub(super) fn expect(&mut self, kind: Kind) -> Option<oneshot::Receiver<T>> {
        if self.free(kind) == 0 {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        self.waiting.push((kind, sender));
        Some(receiver)
    }

    /// It is there: for the first who waits for it, or given back.
    pub(super) fn done(&mut self, kind: Kind, prepared: T) -> Option<T> {
        self.end(kind);
        let mut prepared = prepared;
        while let Some(at) = self.waiting.iter().position(|(one, _)| *one == kind) {
            // Given back by one who has gone away.
            prepared = self.waiting.remove(at).1.send(prepared).err()?;
        }
        Some(prepared)
    }

    /// It will not be there: the last who waits for one is told, unless there are enough others.
    pub(super) fn failed(&mut self, kind: Kind) {
        self.end(kind);
        self.waiting.retain(|(_, sender)| !sender.is_closed());
        let preparing = self.preparing.iter().filter(|one| **one == kind).count();
        if self.waiting.iter().filter(|(one, _)| *one == kind).count() > preparing
            && let Some(last) = self.waiting.iter().rposition(|(one, _)| *one == kind)
        {
            self.waiting.remove(last);
        }
    }

    /// Whatever comes is for nobody any more.
    pub(super) fn give_up(&mut self) {
        self.waiting.clear();
    }

    fn end(&mut self, kind: Kind) {
        if let Some(at) = self.preparing.iter().position(|one| *one == kind) {
            self.preparing.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind::Zygote(0);

    fn preparing(count: usize) -> Expected<u32> {
        let mut expected = Expected::default();
        (0..count).for_each(|_| expected.begin(KIND));
        expected
    }

    #[test]
    fn each_that_is_prepared_is_expected_by_one() {
        let mut expected = preparing(2);
        let (mut first, mut second) = (expected.expect(KIND).unwrap(), expected.expect(KIND).unwrap());
        assert!(expected.expect(KIND).is_none());
        assert!(expected.expect(Kind::Program).is_none(), "of another kind there is none");
        assert_eq!(expected.done(KIND, 1), None);
        assert_eq!(first.try_recv(), Ok(1), "who came first has the first");
        assert_eq!(expected.done(KIND, 2), None);
        assert_eq!(second.try_recv(), Ok(2));
        expected.begin(KIND);
        assert_eq!(expected.done(KIND, 3), Some(3), "nobody waits");
    }

    #[test]
    fn who_goes_away_is_passed_over_and_counts_no_more() {
        let mut expected = preparing(2);
        let (gone, mut stays) = (expected.expect(KIND).unwrap(), expected.expect(KIND).unwrap());
        drop(gone);
        assert_eq!(expected.free(KIND), 1);
        assert_eq!(expected.done(KIND, 1), None);
        assert_eq!(stays.try_recv(), Ok(1));
        assert_eq!(expected.done(KIND, 2), Some(2));
    }

    #[test]
    fn where_one_fails_the_last_who_waits_is_told() {
        let mut expected = preparing(2);
        let mut first = expected.expect(KIND).unwrap();
        expected.failed(KIND);
        assert!(first.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty), "there is another");
        expected.failed(KIND);
        assert!(first.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        assert!(expected.expect(KIND).is_none());
    }

    #[test]
    fn at_the_end_all_are_told() {
        let mut expected = preparing(1);
        let mut waits = expected.expect(KIND).unwrap();
        expected.give_up();
        assert!(waits.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        assert_eq!(expected.done(KIND, 1), Some(1));
    }
}
