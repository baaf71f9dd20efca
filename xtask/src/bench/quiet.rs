//! Rounds begin on a quiet machine, if it gets quiet.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// Over this much of the machine in other hands, percent, a round waits.
const QUIET_PERCENT: u64 = 8;
/// How long each look takes.
const LOOK: Duration = Duration::from_millis(300);

/// How long all rounds together may wait.
pub struct Patience {
    left: Duration,
}

impl Patience {
    pub fn new(left: Duration) -> Self {
        Self { left }
    }

    /// Waits for a quiet machine, or until patience is at its end; answers how much of it others use, percent.
    pub fn wait(&mut self) -> Result<u64> {
        loop {
            let begun = Instant::now();
            let busy = busy_percent()?;
            if busy <= QUIET_PERCENT || self.left.is_zero() {
                return Ok(busy);
            }
            self.left = self.left.saturating_sub(begun.elapsed());
        }
    }
}

fn busy_percent() -> Result<u64> {
    let (all, busy) = ticks()?;
    thread::sleep(LOOK);
    let (all_after, busy_after) = ticks()?;
    Ok((busy_after - busy) * 100 / (all_after - all).max(1))
}

/// All ticks, and those in which a processor did something.
fn ticks() -> Result<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let first = text.lines().next().unwrap_or_default();
    // proc(5): user, nice, system, idle, iowait, irq, softirq, steal.
    let fields: Vec<u64> = first.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
    let all: u64 = fields.iter().sum();
    Ok((all, all - fields.iter().skip(3).take(2).sum::<u64>()))
}
