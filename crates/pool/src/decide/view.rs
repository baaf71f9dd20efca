use std::collections::{BTreeMap, VecDeque};

use super::{CallId, Decide, Life, Lifecycle, Place, SessionId};
use crate::Identifier;

/// Most failures that are kept to be shown.
const MOST_FAILURES: usize = 8;
/// Longest text of a failure that is kept, bytes.
const MOST_REASON_BYTES: usize = 1000;

/// What a pool is doing.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Snapshot {
    /// Sessions that wait for an identifier.
    pub ready: usize,
    /// Sessions that are being made.
    pub starting: usize,
    /// Sessions that run a call.
    pub busy: usize,
    /// Sessions that belong to an identifier and run nothing: they cool down.
    pub cooling: usize,
    /// Sessions that are being taken down; they count against the maximum until nothing of them is left.
    pub stopping: usize,
    /// Identifiers that wait for a session.
    pub in_line: usize,
    /// Calls that wait, in line or for the call before them.
    pub waiting_calls: usize,
    /// The last failures, the latest first.
    pub failures: Vec<Failure>,
    /// Until a session is made again after failures, milliseconds.
    pub next_attempt_in_ms: Option<u64>,
    /// Since the pool was opened.
    pub totals: Totals,
}

/// Something that went wrong with a session of the pool, not with a program.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Failure {
    /// What.
    pub kind: FailureKind,
    /// Why, in full.
    pub reason: String,
    /// How long ago, milliseconds.
    pub age_ms: u64,
}

/// What can go wrong with a session of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// It could not be made.
    Create,
    /// It did not answer its check.
    Check,
    /// It ended by itself before anybody used it, or the backend lost it.
    Ended,
}

/// Counts since the pool was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Sessions made.
    pub created: u64,
    /// Sessions that could not be made.
    pub create_failed: u64,
    /// Calls that reached the session their identifier had.
    pub granted_existing: u64,
    /// Calls that took a ready session.
    pub granted_warm: u64,
    /// Calls that waited for a session to be made.
    pub granted_cold: u64,
    /// Calls denied because the pool was full.
    pub denied_full: u64,
    /// Calls denied for another reason.
    pub denied_otherwise: u64,
    /// Sessions that ended, by the label of their reason.
    pub ended: BTreeMap<&'static str, u64>,
}

/// A session and its identifier.
#[derive(Clone, Copy, Debug)]
pub struct TenureView<'a> {
    /// The session.
    pub session: SessionId,
    /// Whose it is.
    pub identifier: &'a Identifier,
    /// Whether a call holds it.
    pub is_busy: bool,
    /// When it came to belong to it, on the pool's clock, milliseconds.
    pub since_ms: u64,
    /// When its last call began, or ended if none runs.
    pub last_ms: u64,
    /// Its time so far.
    pub life: Life,
    /// Until it ends if nobody uses it after the call that holds it, milliseconds; for a call that runs, as if it ended now.
    pub expires_in_ms: u64,
}

#[derive(Debug, Default)]
pub(super) struct Failures(VecDeque<(u64, FailureKind, String)>);

impl Failures {
    pub(super) fn push(&mut self, at_ms: u64, kind: FailureKind, mut reason: String) {
        reason.truncate(reason.floor_char_boundary(MOST_REASON_BYTES));
        self.0.push_front((at_ms, kind, reason));
        self.0.truncate(MOST_FAILURES);
    }

    pub(super) fn last_reason(&self) -> &str {
        self.0.front().map_or("", |(_, _, reason)| reason)
    }
}

impl Decide {
    /// What the pool is doing.
    pub fn snapshot(&self) -> Snapshot {
        let busy = self.owners.values().filter(|owner| matches!(owner.place, Place::Busy { .. })).count();
        let failure = |(at_ms, kind, reason): &(u64, FailureKind, String)| Failure {
            kind: *kind,
            reason: reason.clone(),
            age_ms: self.now_ms - at_ms,
        };
        Snapshot {
            ready: self.ready.len(),
            starting: self.creating.len(),
            busy,
            cooling: self.owned.len() - busy,
            stopping: self.dying.len(),
            in_line: self.line.len(),
            waiting_calls: self.calls.len() - busy,
            failures: self.failures.0.iter().map(failure).collect(),
            next_attempt_in_ms: self.blocked_until_ms().map(|until_ms| until_ms - self.now_ms),
            totals: self.totals.clone(),
        }
    }

    /// The sessions that belong to an identifier, the oldest first.
    pub fn tenures(&self) -> impl Iterator<Item = TenureView<'_>> {
        self.owned.values().filter_map(|identifier| self.tenure(identifier))
    }

    /// The session of this identifier.
    pub fn tenure<'a>(&'a self, identifier: &Identifier) -> Option<TenureView<'a>> {
        let (identifier, owner) = self.owners.get_key_value(identifier)?;
        let tenure = owner.place.tenure()?;
        let full_ms = match self.spec.lifecycle {
            Lifecycle::Timed { cooldown_s } => u64::from(cooldown_s) * 1000,
            Lifecycle::OnContainerExit { max_alive_s } => u64::from(max_alive_s) * 1000,
        };
        let last_ms = match owner.place {
            Place::Busy { since_ms, .. } | Place::Idle { since_ms, .. } => since_ms,
            Place::InLine { .. } => return None,
        };
        Some(TenureView {
            session: tenure.session,
            identifier,
            is_busy: matches!(owner.place, Place::Busy { .. }),
            since_ms: tenure.since_ms,
            last_ms,
            life: owner.place.life(self.now_ms)?,
            expires_in_ms: self.due_of(&owner.place).map_or(full_ms, |due_ms| due_ms.saturating_sub(self.now_ms)),
        })
    }

    /// The session that a call holds.
    pub fn held_by(&self, call: CallId) -> Option<SessionId> {
        match self.owners.get(self.calls.get(&call)?)?.place {
            Place::Busy { tenure, call: holder, .. } if holder == call => Some(tenure.session),
            _ => None,
        }
    }
}
