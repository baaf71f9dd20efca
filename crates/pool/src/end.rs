use std::fmt;

use greenroom_core::Blame;

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Its first process exited with this status.
    Exited(i32),
    /// Its first process was killed by this signal number.
    Signalled(i32),
    /// It went over its memory limit.
    OutOfMemory,
    /// Its program did not heed an interrupt, and was killed for it.
    Unresponsive,
    /// Its program said what nobody had asked it, and was killed for it.
    Unintelligible,
    /// The backend no longer has it.
    Lost,
    /// It did not answer its check.
    CheckFailed,
    /// Nobody used it for the pool's cooldown.
    Cooldown,
    /// It reached the pool's maximum age.
    MaxAlive,
    /// A caller stopped it.
    Stopped,
    /// It was ready, and the pool keeps fewer ready now.
    Surplus,
    /// It was ready, made to a specification that has been changed since.
    Outdated,
    /// Its pool was deleted.
    PoolDeleted,
    /// The server shut down.
    Shutdown,
    /// The server ended without shutting down, and its sessions with it.
    Restart,
}

impl EndReason {
    /// The label used in the store, in metrics and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            EndReason::Exited(_) => "exited",
            EndReason::Signalled(_) => "signalled",
            EndReason::OutOfMemory => "out_of_memory",
            EndReason::Unresponsive => "unresponsive",
            EndReason::Unintelligible => "unintelligible",
            EndReason::Lost => "lost",
            EndReason::CheckFailed => "check_failed",
            EndReason::Cooldown => "cooldown",
            EndReason::MaxAlive => "max_alive",
            EndReason::Stopped => "stopped",
            EndReason::Surplus => "surplus",
            EndReason::Outdated => "outdated",
            EndReason::PoolDeleted => "pool_deleted",
            EndReason::Shutdown => "shutdown",
            EndReason::Restart => "restart",
        }
    }

    /// Exit status or signal number, where there is one.
    pub fn number(self) -> Option<i32> {
        match self {
            EndReason::Exited(number) | EndReason::Signalled(number) => Some(number),
            _ => None,
        }
    }

    /// The reason of this label and number; `None` where a later version wrote them.
    pub fn of_label(label: &str, number: Option<i32>) -> Option<Self> {
        let all = [
            EndReason::Exited(number.unwrap_or(0)),
            EndReason::Signalled(number.unwrap_or(0)),
            EndReason::OutOfMemory,
            EndReason::Unresponsive,
            EndReason::Unintelligible,
            EndReason::Lost,
            EndReason::CheckFailed,
            EndReason::Cooldown,
            EndReason::MaxAlive,
            EndReason::Stopped,
            EndReason::Surplus,
            EndReason::Outdated,
            EndReason::PoolDeleted,
            EndReason::Shutdown,
            EndReason::Restart,
        ];
        all.into_iter().find(|reason| reason.as_str() == label)
    }

    /// Who is to blame that a call finds the session gone.
    pub fn blame(self) -> Blame {
        match self {
            EndReason::Exited(_)
            | EndReason::Signalled(_)
            | EndReason::OutOfMemory
            | EndReason::Unresponsive
            | EndReason::Unintelligible => Blame::Program,
            EndReason::Lost | EndReason::CheckFailed => Blame::Backend,
            EndReason::Cooldown | EndReason::MaxAlive | EndReason::Stopped | EndReason::PoolDeleted => Blame::Caller,
            EndReason::Surplus | EndReason::Outdated | EndReason::Shutdown | EndReason::Restart => Blame::Us,
        }
    }

    /// Whether the identifier's next call is told: not where a caller asked for the end, or nothing is left to ask.
    pub fn is_told(self) -> bool {
        !matches!(self, EndReason::Stopped | EndReason::Surplus | EndReason::Outdated | EndReason::PoolDeleted)
    }
}

/// What a caller reads after "session ended: ".
impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndReason::Exited(code) => write!(f, "its process exited with status {code}"),
            EndReason::Signalled(signal) => write!(f, "its process was killed by signal {signal}"),
            EndReason::OutOfMemory => f.write_str("it went over its memory limit"),
            EndReason::Unresponsive => f.write_str("its process did not heed an interrupt and was killed"),
            EndReason::Unintelligible => f.write_str("its process broke the conversation with the server and was killed"),
            EndReason::Lost => f.write_str("the place where it lived lost it"),
            EndReason::CheckFailed => f.write_str("it no longer answered"),
            EndReason::Cooldown => f.write_str("it was not used for longer than the pool's cooldown"),
            EndReason::MaxAlive => f.write_str("it reached the pool's maximum age"),
            EndReason::Stopped => f.write_str("it was stopped"),
            EndReason::Surplus => f.write_str("the pool keeps fewer ready sessions now"),
            EndReason::Outdated => f.write_str("the pool's specification changed before it was used"),
            EndReason::PoolDeleted => f.write_str("its pool was deleted"),
            EndReason::Shutdown => f.write_str("the server shut down"),
            EndReason::Restart => f.write_str("the server was restarted"),
        }
    }
}

/// The end of an identifier's session, as it is told to the identifier's next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub reason: EndReason,
    /// When, on the pool's clock, milliseconds. 0 where it was before the server started.
    pub at_ms: u64,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session ended: {}", self.reason)
    }
}
