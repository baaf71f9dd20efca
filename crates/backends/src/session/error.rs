use greenroom_core::Blame;
use greenroom_pool::EndReason;

/// Why something could not be executed in a session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The session had ended before.
    #[error("session ended: {0}")]
    Ended(EndReason),
    /// Nobody keeps the session any more: it was destroyed.
    #[error("the session is gone")]
    Gone,
    /// Its pool is for something else: a command for an interpreter, or code for the shell.
    #[error("sessions of {0} do not take this")]
    WrongKind(String),
}

impl SessionError {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            SessionError::Ended(reason) => reason.blame(),
            SessionError::Gone | SessionError::WrongKind(_) => Blame::Caller,
        }
    }
}
