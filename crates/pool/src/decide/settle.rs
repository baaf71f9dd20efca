use super::{Action, Allocation, CREATIONS_AT_ONCE, Creating, Decide, Denied, LONGEST_WAIT_MS, Lifecycle, Place, SessionId};
use crate::{EndReason, Identifier};

/// Advice in `Retry-After` where sessions are made too slowly, seconds.
const SLOW_RETRY_S: u64 = 5;

impl Decide {
    /// Ends what is due.
    pub(super) fn expire(&mut self) {
        if self.now_ms < self.due_ms {
            return;
        }
        let reason = match self.spec.lifecycle {
            Lifecycle::Timed { .. } => EndReason::Cooldown,
            Lifecycle::OnContainerExit { .. } => EndReason::MaxAlive,
        };
        let mut over: Vec<Identifier> = Vec::new();
        self.due_ms = u64::MAX;
        for identifier in self.owned.values() {
            let due_ms = self.owners.get(identifier).and_then(|owner| self.due_of(&owner.place));
            match due_ms {
                Some(due_ms) if due_ms <= self.now_ms => over.push(identifier.clone()),
                Some(due_ms) => self.due_ms = self.due_ms.min(due_ms),
                None => {}
            }
        }
        for identifier in over {
            self.end(&identifier, reason);
        }
    }

    /// Brings the pool to where it should be: the line served or answered, as many ready and as many being made as there should be.
    pub(super) fn settle(&mut self) {
        if self.closed.is_some() {
            return;
        }
        self.serve_line();
        self.answer_line();
        while self.ready.len() > self.ready_target() {
            if let Some(newest) = self.ready.pop_back() {
                self.destroy(newest.session, EndReason::Surplus, None);
            }
        }
        self.make();
    }

    fn serve_line(&mut self) {
        while !self.line.is_empty()
            && let Some(ready) = self.ready.pop_front()
            && let Some(identifier) = self.line.pop_front()
        {
            let waiting = self.owners.remove(&identifier).map(|owner| owner.waiting).unwrap_or_default();
            self.seat(identifier, waiting, ready.session, Allocation::Cold);
        }
    }

    /// Denies those in line who wait in vain, the last to come first: those before them take what still comes.
    fn answer_line(&mut self) {
        while self.owners.len() > self.max()
            && let Some(last) = self.line.back().cloned()
        {
            let why = self.full(self.owners.len() - 1);
            self.leave_line(&last, &why);
        }
        while let Some(first) = self.line.front().cloned() {
            let since_ms = match self.owners.get(&first).map(|owner| &owner.place) {
                Some(Place::InLine { since_ms }) => *since_ms,
                _ => 0,
            };
            if self.now_ms < since_ms + LONGEST_WAIT_MS {
                self.due_ms = self.due_ms.min(since_ms + LONGEST_WAIT_MS);
                break;
            }
            let waited_s = (self.now_ms - since_ms) / 1000;
            self.leave_line(&first, &Denied::TooSlow { waited_s, retry_after_s: SLOW_RETRY_S });
        }
        if let Some(until_ms) = self.blocked_until_ms()
            && (self.makes.is_hopeless() || self.deaths.is_hopeless())
        {
            let why = Denied::CreateFailed {
                reason: self.failures.last_reason().to_owned(),
                retry_after_s: (until_ms - self.now_ms).div_ceil(1000).max(1),
            };
            while self.line.len() > self.coming()
                && let Some(last) = self.line.back().cloned()
            {
                self.leave_line(&last, &why);
            }
        }
    }

    fn make(&mut self) {
        if self.blocked_until_ms().is_some() {
            return;
        }
        // After a failure one attempt has to succeed before there are several again.
        let at_once = if self.makes.is_failing() { 1 } else { CREATIONS_AT_ONCE };
        let may = at_once.saturating_sub(self.creating.len());
        for _ in 0..self.missing().min(may) {
            self.last_session += 1;
            let session = SessionId(self.last_session);
            self.creating.insert(session, Creating { since_ms: self.now_ms, generation: self.generation });
            self.actions.push(Action::Create { session });
        }
    }

    pub(super) fn max(&self) -> usize {
        usize::try_from(self.spec.max_sessions).unwrap_or(usize::MAX)
    }

    /// How many should be ready: those who have a session or wait for one go first.
    pub(super) fn ready_target(&self) -> usize {
        let ready = usize::try_from(self.spec.ready_sessions).unwrap_or(usize::MAX);
        ready.min(self.max().saturating_sub(self.owners.len()))
    }

    /// Sessions that are being made and will be of use.
    fn coming(&self) -> usize {
        self.creating.values().filter(|creating| creating.generation == self.generation).count()
    }

    /// How many sessions should be made now, if making them works.
    pub(super) fn missing(&self) -> usize {
        let exist = self.creating.len() + self.ready.len() + self.owned.len() + self.dying.len();
        let wanted = (self.line.len() + self.ready_target()).saturating_sub(self.ready.len() + self.coming());
        wanted.min(self.max().saturating_sub(exist))
    }

    /// Until when nothing is made because it failed; `None` where nothing stands in the way.
    pub(super) fn blocked_until_ms(&self) -> Option<u64> {
        Some(self.makes.until_ms().max(self.deaths.until_ms())).filter(|&until_ms| until_ms > self.now_ms)
    }
}
