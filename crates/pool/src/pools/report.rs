use super::message::{Mailbox, Message};
use crate::Backend;

/// What a helper task will have told when it is gone, even if it panics.
pub(super) struct Report<B: Backend> {
    mailbox: Mailbox<B>,
    message: Option<Message<B>>,
}

impl<B: Backend> Report<B> {
    /// `unless_told` is what is told of a task that ends before its time.
    pub(super) fn new(mailbox: Mailbox<B>, unless_told: Message<B>) -> Self {
        Self { mailbox, message: Some(unless_told) }
    }

    /// The outcome.
    pub(super) fn tell(mut self, message: Message<B>) {
        self.message = Some(message);
    }

    /// There is nothing to tell.
    pub(super) fn forget(mut self) {
        self.message = None;
    }
}

impl<B: Backend> Drop for Report<B> {
    fn drop(&mut self) {
        if let Some(message) = self.message.take() {
            // The owner waits for its makers and enders; it does not wait for watchers.
            drop(self.mailbox.send(message));
        }
    }
}
