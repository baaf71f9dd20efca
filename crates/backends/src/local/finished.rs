//! What came of a job, how its program was started, and where the time went.

use greenroom_core::Outcome;

use super::{monotonic_us, stage::StageEnd};

/// A job that ran to its end.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What came of it.
    pub outcome: Outcome,
    /// How long each hop took.
    pub timings: Timings,
    /// How its first program was started.
    pub start: Start,
}

/// How a job's first program was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// By a fresh process, in a sandbox that was ready or was made for it.
    Cold,
    /// A warm interpreter was forked when the job came.
    Forked,
    /// A warm interpreter's child was ready, in its sandbox.
    Ready,
    /// A process stood by in its sandbox.
    Standby,
}

impl Start {
    /// As it stands in metrics: `cold`, `forked`, `ready`, `standby`.
    pub fn as_str(self) -> &'static str {
        match self {
            Start::Cold => "cold",
            Start::Forked => "forked",
            Start::Ready => "ready",
            Start::Standby => "standby",
        }
    }
}

/// Time spent in each hop behind admission, microseconds, summed over the stages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Waiting for a prepared sandbox.
    pub lease_us: u64,
    /// Waiting, with the sandbox in hand, until fewer programs run than may.
    pub turn_us: u64,
    /// Handing over files and command, until the program is exec'ed.
    pub sandbox_us: u64,
    /// The program itself.
    pub run_us: u64,
    /// From its end to the verdict: counters read, output drained.
    pub settle_us: u64,
}

impl Timings {
    /// Counts a stage that has just been judged, all but the way to its exec.
    pub(super) fn count(&mut self, end: &StageEnd) {
        self.turn_us += end.turn_us;
        self.run_us += end.outcome.usage.wall_us;
        self.settle_us += monotonic_us().saturating_sub(end.ended_at_us);
    }
}
