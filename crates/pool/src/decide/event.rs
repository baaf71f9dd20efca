use greenroom_core::Blame;

use crate::{EndReason, Ended, Identifier, PoolSpec};

/// One session of a pool, from the decision to make it until nothing of it is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// One call: first it waits, then it may hold a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// What happens to a pool.
#[derive(Clone, Debug)]
pub enum Event {
    /// A call wants the session of this identifier.
    Acquire {
        /// Whose session.
        identifier: Identifier,
        /// The call, never used before.
        call: CallId,
    },
    /// A call goes: it gives up waiting, or gives its session back. A call that is not known is ignored: its session ended before.
    Leave {
        /// The call.
        call: CallId,
    },
    /// A session was made.
    Created {
        /// The session of [`Action::Create`].
        session: SessionId,
    },
    /// A session could not be made, or its making was given up.
    CreateFailed {
        /// The session of [`Action::Create`].
        session: SessionId,
        /// Why, for the operator.
        reason: String,
    },
    /// A session did not answer its check.
    CheckFailed {
        /// Which.
        session: SessionId,
    },
    /// A session ended by itself.
    SessionEnded {
        /// Which.
        session: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// Nothing is left of a session that was to be destroyed.
    Destroyed {
        /// Which.
        session: SessionId,
    },
    /// The session of this identifier is to end now.
    Stop {
        /// Whose.
        identifier: Identifier,
    },
    /// The pool is to be like this from now on.
    Update {
        /// Checked by its giver.
        spec: Box<PoolSpec>,
    },
    /// Time has passed.
    Tick,
    /// Nothing is given out any more, and everything ends.
    Close {
        /// [`EndReason::Shutdown`] or [`EndReason::PoolDeleted`].
        reason: EndReason,
    },
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a session. Answered by [`Event::Created`] or [`Event::CreateFailed`].
    Create {
        /// Its id from now on.
        session: SessionId,
    },
    /// Give up making this session, if it is not made yet.
    Abandon {
        /// Which.
        session: SessionId,
    },
    /// The call has the session until [`Event::Leave`].
    Grant {
        /// The call.
        call: CallId,
        /// Its session.
        session: SessionId,
        /// Where the session came from.
        allocation: Allocation,
        /// How the identifier's session before this one ended, where nobody has been told yet.
        ended_before: Option<Ended>,
    },
    /// The call gets nothing.
    Deny {
        /// The call.
        call: CallId,
        /// Why.
        why: Denied,
    },
    /// Take the session down, whatever it does. Answered by [`Event::Destroyed`].
    Destroy {
        /// Which.
        session: SessionId,
        /// Why.
        reason: EndReason,
        /// Its time with its identifier, where it had one.
        life: Option<Life>,
    },
}

/// Where the session of a call came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Allocation {
    /// The identifier had it already.
    Existing,
    /// It was ready.
    Warm,
    /// It had to be waited for.
    Cold,
}

impl Allocation {
    /// Whether the identifier had no session before.
    pub fn is_new(self) -> bool {
        self != Allocation::Existing
    }

    /// The label used in metrics and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Allocation::Existing => "existing",
            Allocation::Warm => "warm",
            Allocation::Cold => "cold",
        }
    }
}

/// The time that a session spent with its identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// In which a call held it, milliseconds.
    pub busy_ms: u64,
    /// In which none did, milliseconds.
    pub idle_ms: u64,
}

/// Why a call gets no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// As many identifiers have sessions as may.
    #[error(
        "all {max} sessions of the pool are in use ({active} active); try again in {retry_after_s} s, stop one, or raise max_sessions"
    )]
    Full {
        /// Identifiers that have a session or wait for one.
        active: usize,
        /// `max_sessions`.
        max: u32,
        /// Until the next idle session can end, 1 to 60 seconds.
        retry_after_s: u64,
    },
    /// Too many calls wait for this identifier's session already.
    #[error("{waiting} calls wait for this session already; try again in {retry_after_s} s")]
    Busy {
        /// How many wait.
        waiting: usize,
        /// Advice, seconds.
        retry_after_s: u64,
    },
    /// Sessions cannot be made at present.
    #[error("no session could be made: {reason}; the next attempt is in {retry_after_s} s")]
    CreateFailed {
        /// The last failure.
        reason: String,
        /// Until the next attempt, seconds.
        retry_after_s: u64,
    },
    /// Sessions are made, but none came in time.
    #[error("no session became free within {waited_s} s; try again in {retry_after_s} s")]
    TooSlow {
        /// How long the call waited, seconds.
        waited_s: u64,
        /// Advice, seconds.
        retry_after_s: u64,
    },
    /// The session that the call waited for ended.
    #[error("session ended: {reason}")]
    SessionEnded {
        /// Why.
        reason: EndReason,
    },
    /// The pool gives nothing out any more.
    #[error("the pool is closed: {reason}")]
    Closed {
        /// [`EndReason::Shutdown`] or [`EndReason::PoolDeleted`].
        reason: EndReason,
    },
}

impl Denied {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            Denied::Full { .. } | Denied::Busy { .. } | Denied::Closed { reason: EndReason::PoolDeleted } => Blame::Caller,
            Denied::SessionEnded { reason } => reason.blame(),
            Denied::CreateFailed { .. } | Denied::TooSlow { .. } => Blame::Backend,
            Denied::Closed { .. } => Blame::Us,
        }
    }

    /// Advice for `Retry-After`, seconds; `None` where waiting does not help.
    pub fn retry_after_s(&self) -> Option<u64> {
        match *self {
            Denied::Full { retry_after_s, .. }
            | Denied::Busy { retry_after_s, .. }
            | Denied::CreateFailed { retry_after_s, .. }
            | Denied::TooSlow { retry_after_s, .. } => Some(retry_after_s),
            Denied::SessionEnded { .. } | Denied::Closed { .. } => None,
        }
    }
}
