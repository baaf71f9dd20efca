use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use greenroom_pool::SessionUsage;

use crate::local::{OpenEnd, OpenHandle};

/// Memory is looked at no more often than this: it is a question to another process.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a session has used. Cheap to clone: its copies count together.
#[derive(Clone, Debug)]
pub(super) struct Meter(Arc<Mutex<Counts>>);

#[derive(Debug)]
struct Counts {
    executions: u64,
    cpu_us: u64,
    /// Bytes × microseconds.
    memory: u128,
    memory_bytes: u64,
    at: Instant,
    looked: bool,
    /// Something was executed after the last look.
    stale: bool,
}

impl Meter {
    pub(super) fn new() -> Self {
        let counts =
            Counts { executions: 0, cpu_us: 0, memory: 0, memory_bytes: 0, at: Instant::now(), looked: false, stale: true };
        Self(Arc::new(Mutex::new(counts)))
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn execution(&self) {
        let mut counts = self.counts();
        counts.executions += 1;
        counts.stale = true;
    }

    /// Resolves when it is time to look at the counters: soon after something was executed, and not while nothing is.
    pub(super) async fn due(&self) {
        let last = {
            let counts = self.counts();
            if !counts.stale {
                None
            } else if counts.looked {
                Some(counts.at)
            } else {
                return;
            }
        };
        match last {
            Some(last) => tokio::time::sleep_until((last + LOOK_EVERY).into()).await,
            None => std::future::pending().await,
        }
    }

    /// Looks at the sandbox's counters.
    pub(super) async fn look(&self, handle: &OpenHandle) {
        let usage = handle.usage().await;
        let mut counts = self.counts();
        counts.stale = false;
        // A sandbox that has ended says so itself.
        if let Ok(usage) = usage {
            counts.note(usage.cpu_us, usage.memory_bytes.unwrap_or(0));
        }
    }

    /// The whole life's, after its end.
    pub(super) fn finish(&self, end: &OpenEnd) -> SessionUsage {
        let mut counts = self.counts();
        // What it had at the last look is what it had until now, as far as anybody knows.
        let memory_bytes = counts.memory_bytes;
        counts.note(end.usage.cpu_us, memory_bytes);
        counts.usage()
    }

    pub(super) fn so_far(&self) -> SessionUsage {
        self.counts().usage()
    }
}

impl Counts {
    /// Between two looks memory is taken to have changed evenly.
    fn note(&mut self, cpu_us: u64, memory_bytes: u64) {
        let before = if self.looked { self.memory_bytes } else { memory_bytes };
        self.memory += u128::from(before.midpoint(memory_bytes)) * self.at.elapsed().as_micros();
        self.cpu_us = self.cpu_us.max(cpu_us);
        self.memory_bytes = memory_bytes;
        self.at = Instant::now();
        self.looked = true;
    }

    fn usage(&self) -> SessionUsage {
        SessionUsage {
            cpu_us: self.cpu_us,
            memory_byte_s: u64::try_from(self.memory / 1_000_000).unwrap_or(u64::MAX),
            executions: self.executions,
        }
    }
}
