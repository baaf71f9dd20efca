use std::collections::VecDeque;

use super::{Action, Allocation, CallId, Decide, Denied, Lifecycle, Owner, Place, SessionId, Tenure, WAITING_PER_IDENTIFIER};
use crate::{Ended, Identifier};

/// Advice in `Retry-After` where a call of the same identifier is running, seconds.
const BUSY_RETRY_S: u64 = 1;

impl Decide {
    pub(super) fn acquire(&mut self, identifier: Identifier, call: CallId) {
        if let Some(reason) = self.closed {
            return self.deny(call, Denied::Closed { reason });
        }
        let now_ms = self.now_ms;
        if let Some(owner) = self.owners.get_mut(&identifier) {
            if let Place::Idle { tenure, .. } = owner.place {
                owner.place = Place::Busy { tenure, call, since_ms: now_ms };
                self.calls.insert(call, identifier);
                return self.grant(call, tenure.session, Allocation::Existing, None);
            }
            let waiting = owner.waiting.len();
            if waiting >= WAITING_PER_IDENTIFIER {
                return self.deny(call, Denied::Busy { waiting, retry_after_s: BUSY_RETRY_S });
            }
            owner.waiting.push_back(call);
            self.calls.insert(call, identifier);
            return;
        }
        if self.owners.len() >= self.max() {
            let why = self.full(self.owners.len());
            return self.deny(call, why);
        }
        self.calls.insert(call, identifier.clone());
        if let Some(ready) = self.ready.pop_front() {
            // It lived until it was wanted.
            self.deaths.reset();
            self.seat(identifier, VecDeque::from([call]), ready.session, Allocation::Warm);
        } else {
            let owner = Owner { place: Place::InLine { since_ms: now_ms }, waiting: VecDeque::from([call]) };
            self.owners.insert(identifier.clone(), owner);
            self.line.push_back(identifier);
        }
    }

    /// Gives the session to the identifier and to the first of its calls.
    pub(super) fn seat(
        &mut self,
        identifier: Identifier,
        mut waiting: VecDeque<CallId>,
        session: SessionId,
        allocation: Allocation,
    ) {
        let Some(call) = waiting.pop_front() else { return };
        let ended_before = self.memory.take(identifier.digest(), self.now_ms);
        let tenure = Tenure { session, since_ms: self.now_ms, busy_ms: 0 };
        let place = Place::Busy { tenure, call, since_ms: self.now_ms };
        if let Lifecycle::OnContainerExit { .. } = self.spec.lifecycle {
            self.due_ms = self.due_ms.min(self.due_of(&place).unwrap_or(u64::MAX));
        }
        self.owned.insert(session, identifier.clone());
        self.owners.insert(identifier, Owner { place, waiting });
        self.grant(call, session, allocation, ended_before);
    }

    pub(super) fn leave(&mut self, call: CallId) {
        let Some(identifier) = self.calls.remove(&call) else { return };
        let Some(owner) = self.owners.get_mut(&identifier) else { return };
        match owner.place {
            Place::Busy { mut tenure, call: holder, since_ms } if holder == call => {
                tenure.busy_ms += self.now_ms - since_ms;
                if let Some(next) = owner.waiting.pop_front() {
                    owner.place = Place::Busy { tenure, call: next, since_ms: self.now_ms };
                    self.grant(next, tenure.session, Allocation::Existing, None);
                } else {
                    let place = Place::Idle { tenure, since_ms: self.now_ms };
                    let due_ms = self.due_of(&place).unwrap_or(u64::MAX);
                    self.due_ms = self.due_ms.min(due_ms);
                    self.owners.insert(identifier, Owner { place, waiting: VecDeque::new() });
                }
            }
            Place::Busy { .. } | Place::Idle { .. } => owner.waiting.retain(|&waiting| waiting != call),
            Place::InLine { .. } => {
                owner.waiting.retain(|&waiting| waiting != call);
                if owner.waiting.is_empty() {
                    self.owners.remove(&identifier);
                    self.line.retain(|in_line| *in_line != identifier);
                }
            }
        }
    }

    /// Takes an identifier out of the line and denies its calls.
    pub(super) fn leave_line(&mut self, identifier: &Identifier, why: &Denied) {
        self.line.retain(|in_line| in_line != identifier);
        if let Some(owner) = self.owners.remove(identifier) {
            for call in owner.waiting {
                self.deny(call, why.clone());
            }
        }
    }

    fn grant(&mut self, call: CallId, session: SessionId, allocation: Allocation, ended_before: Option<Ended>) {
        match allocation {
            Allocation::Existing => self.totals.granted_existing += 1,
            Allocation::Warm => self.totals.granted_warm += 1,
            Allocation::Cold => self.totals.granted_cold += 1,
        }
        self.actions.push(Action::Grant { call, session, allocation, ended_before });
    }

    /// The denial when so many identifiers are served and no more may be.
    pub(super) fn full(&self, active: usize) -> Denied {
        let next_ms = self.owners.values().filter_map(|owner| self.due_of(&owner.place)).min();
        let retry_after_s = next_ms.map_or(60, |due_ms| due_ms.saturating_sub(self.now_ms).div_ceil(1000)).clamp(1, 60);
        Denied::Full { active, max: self.spec.max_sessions, retry_after_s }
    }
}
