use super::clock::Clock;
use crate::{Identifier, decide::TenureView};

/// What a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// A call has it.
    Busy,
    /// None has: it cools down.
    Idle,
}

/// A session that belongs to an identifier. Not serialisable: whether the identifier may be shown is for its reader to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Whose it is.
    pub identifier: Identifier,
    /// What it is doing.
    pub state: SessionState,
    /// When it came to belong to its identifier, milliseconds since 1970 UTC.
    pub created_unix_ms: u64,
    /// When its last call began, or ended if none runs, milliseconds since 1970 UTC.
    pub last_accessed_unix_ms: u64,
    /// When it ends if nobody uses it, milliseconds since 1970 UTC; while a call runs, as if that were over now.
    pub expires_unix_ms: u64,
    /// For how long calls had it, milliseconds.
    pub busy_ms: u64,
    /// For how long none had, milliseconds.
    pub idle_ms: u64,
}

impl SessionView {
    pub(super) fn new(tenure: &TenureView<'_>, clock: &Clock, now_ms: u64) -> Self {
        Self {
            identifier: tenure.identifier.clone(),
            state: if tenure.is_busy { SessionState::Busy } else { SessionState::Idle },
            created_unix_ms: clock.unix_ms(tenure.since_ms),
            last_accessed_unix_ms: clock.unix_ms(tenure.last_ms),
            expires_unix_ms: clock.unix_ms(now_ms + tenure.expires_in_ms),
            busy_ms: tenure.life.busy_ms,
            idle_ms: tenure.life.idle_ms,
        }
    }
}
