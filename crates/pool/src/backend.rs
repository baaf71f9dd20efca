use std::{error::Error, future::Future, sync::Arc};

use crate::{EndReason, PoolSpec};

/// Where sessions live. The pool decides when one is made and when it ends; a backend knows how.
pub trait Backend: Send + Sync + 'static {
    /// A session. A call shares it with the pool for as long as it holds its [`crate::Lease`].
    type Session: Send + Sync + 'static;

    /// Makes a session as `spec` says. May take long: it runs in a task of its own, several at once.
    /// Dropping the future must take down what it has begun: that is how a creation is given up.
    fn create(&self, spec: &PoolSpec) -> impl Future<Output = Result<Self::Session, CreateError>> + Send;

    /// Whether the session still lives. Asked before each call, on the pool's only task: it must not block.
    fn check(&self, session: &Self::Session) -> bool;

    /// Resolves when the session has ended by itself, never because of [`Backend::destroy`] alone.
    fn ended(&self, session: &Self::Session) -> impl Future<Output = EndReason> + Send;

    /// Ends the session, also in the middle of a call, and tells what it used in its life. Called once per session made,
    /// also for those that ended by themselves. Returns when nothing of it is left: until then it counts against the maximum.
    fn destroy(&self, session: Arc<Self::Session>) -> impl Future<Output = SessionUsage> + Send;
}

/// A session could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct CreateError {
    reason: String,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl CreateError {
    /// A failure that nothing else explains. `reason` says which step failed, for the operator.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), source: None }
    }

    /// A failure with its cause.
    pub fn because(reason: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { reason: reason.into(), source: Some(source.into()) }
    }

    /// The reason and its causes in one line.
    pub fn chain(&self) -> String {
        let mut text = self.reason.clone();
        let mut next = self.source();
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

/// What a session used in its whole life, from the backend's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionUsage {
    /// User and system time of all its processes, microseconds.
    pub cpu_us: u64,
    /// Memory it held, integrated over time: bytes × seconds.
    pub memory_byte_s: u64,
    /// Programs, cells or commands it ran.
    pub executions: u64,
}
