use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::SessionView;
use crate::{
    Allocation, Backend, CreateError, Denied, EndReason, Ended, Identifier, Lifecycle, Snapshot,
    decide::{CallId, Event, SessionId},
};

/// The way into a pool's mailbox. Unbounded, because a lease that is dropped cannot wait; what is in it is bounded by what the
/// gateway admits, by [`crate::decide::WAITING_PER_IDENTIFIER`] and by the pool's maximum.
pub(super) type Mailbox<B> = mpsc::UnboundedSender<Message<B>>;

/// What a pool's owner is told.
pub(super) enum Message<B: Backend> {
    /// A call wants a session.
    Acquire { identifier: Identifier, call: CallId, answer: oneshot::Sender<Result<Grant<B>, Denied>> },
    /// A call goes, whether it had one or not.
    Leave { call: CallId },
    /// A maker is done.
    Made { session: SessionId, result: Result<B::Session, CreateError> },
    /// A watcher saw the end of its session.
    Ended { session: SessionId, reason: EndReason },
    /// An ender is done.
    Destroyed { session: SessionId },
    /// What needs no more than to be decided.
    Event(Event),
    /// End the session of this identifier.
    Stop { identifier: Identifier, answer: oneshot::Sender<bool> },
    /// End everything.
    Close { reason: EndReason },
    /// What the pool is doing.
    Snapshot { answer: oneshot::Sender<Snapshot> },
    /// The sessions that have an identifier.
    Sessions { answer: oneshot::Sender<Vec<SessionView>> },
    /// The session of one.
    Session { identifier: Identifier, answer: oneshot::Sender<Option<SessionView>> },
}

/// What a call gets.
pub(super) struct Grant<B: Backend> {
    pub(super) session: Arc<B::Session>,
    /// Why the pool ended the session, as soon as it does.
    pub(super) fate: watch::Receiver<Option<EndReason>>,
    pub(super) allocation: Allocation,
    pub(super) ended_before: Option<Ended>,
    pub(super) created_unix_ms: u64,
    pub(super) granted_unix_ms: u64,
    pub(super) lifecycle: Lifecycle,
}
