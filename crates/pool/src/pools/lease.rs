use std::{fmt, ops::Deref, sync::Arc};

use super::message::{Grant, Mailbox, Message};
use crate::{Allocation, Backend, EndReason, Ended, Lifecycle, decide::CallId};

/// A call's place: waiting, then holding. Dropped, it is given back.
pub(super) struct Ticket<B: Backend> {
    call: CallId,
    mailbox: Mailbox<B>,
}

impl<B: Backend> Ticket<B> {
    pub(super) fn new(call: CallId, mailbox: Mailbox<B>) -> Self {
        Self { call, mailbox }
    }
}

impl<B: Backend> Drop for Ticket<B> {
    fn drop(&mut self) {
        // Nobody reads it where the pool is gone, and the place with it.
        drop(self.mailbox.send(Message::Leave { call: self.call }));
    }
}

/// A session, for as long as one call has it. Dropped, it goes to the identifier's next call, or cools down.
///
/// The pool may end the session under its lease (somebody stopped it, its time is over, the server shuts down): then what the
/// call does with it fails, and [`Lease::ended`] says why.
pub struct Lease<B: Backend> {
    grant: Grant<B>,
    _ticket: Ticket<B>,
}

impl<B: Backend> Lease<B> {
    pub(super) fn new(grant: Grant<B>, ticket: Ticket<B>) -> Self {
        Self { grant, _ticket: ticket }
    }

    /// Where the session came from.
    pub fn allocation(&self) -> Allocation {
        self.grant.allocation
    }

    /// How the identifier's session before this one ended, where nobody has been told yet. To be told to the caller: what that
    /// session held is lost.
    pub fn ended_before(&self) -> Option<Ended> {
        self.grant.ended_before
    }

    /// When the session came to belong to its identifier, milliseconds since 1970 UTC.
    pub fn created_unix_ms(&self) -> u64 {
        self.grant.created_unix_ms
    }

    /// When this call got it, milliseconds since 1970 UTC.
    pub fn last_accessed_unix_ms(&self) -> u64 {
        self.grant.granted_unix_ms
    }

    /// When it ends if no other call comes and this one were over at once, milliseconds since 1970 UTC.
    pub fn expires_unix_ms(&self) -> u64 {
        match self.grant.lifecycle {
            Lifecycle::Timed { cooldown_s } => self.grant.granted_unix_ms + u64::from(cooldown_s) * 1000,
            Lifecycle::OnContainerExit { max_alive_s } => self.grant.created_unix_ms + u64::from(max_alive_s) * 1000,
        }
    }

    /// Why the pool ended the session, if it has.
    pub fn end_reason(&self) -> Option<EndReason> {
        *self.grant.fate.borrow()
    }

    /// Resolves when the pool ends the session under the lease, with why.
    pub async fn ended(&self) -> EndReason {
        let mut fate = self.grant.fate.clone();
        match fate.wait_for(Option::is_some).await.map(|reason| *reason) {
            Ok(Some(reason)) => reason,
            // The pool's owner is gone without a word.
            _ => EndReason::Lost,
        }
    }
}

impl<B: Backend> Deref for Lease<B> {
    type Target = Arc<B::Session>;

    fn deref(&self) -> &Arc<B::Session> {
        &self.grant.session
    }
}

impl<B: Backend> fmt::Debug for Lease<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("allocation", &self.grant.allocation)
            .field("ended_before", &self.grant.ended_before)
            .finish_non_exhaustive()
    }
}
