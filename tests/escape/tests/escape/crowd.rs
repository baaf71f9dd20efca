//! How many processes a program has at most, as the kernel counts them while it runs.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use greenroom_escape::cgroups;

/// In a run's count there may be two of ours: its init, and (cgroup v1) its slot. The limit is enlarged by as many.
const OURS: u64 = 2;
const PAUSE: Duration = Duration::from_millis(1);

/// Counts until told to stop.
pub struct Crowd {
    limit: u64,
    enough: Arc<AtomicBool>,
    most: JoinHandle<u64>,
}

impl Crowd {
    /// Begins counting, in every sandbox of an instance.
    pub fn of(instance: &str, limit: u64) -> Self {
        let (dirs, enough) = (cgroups(instance), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&enough);
        let most = spawn(move || {
            let mut most = 0;
            while !told.load(Ordering::Relaxed) {
                most = dirs.iter().fold(most, |most, dir| most.max(most_below(Path::new(dir))));
                sleep(PAUSE);
            }
            most
        });
        Self { limit, enough, most }
    }

    /// Fails if any sandbox had more processes than it may, or if none was seen to have half as many. That the limit was
    /// met the program has to say: only it knows that a fork failed, and it may be at the limit for a moment only.
    pub fn kept_its_limit(self) -> Result<()> {
        self.enough.store(true, Ordering::Relaxed);
        let most = self.most.join().map_err(|_| anyhow!("the counting thread panicked"))?;
        let limit = self.limit;
        ensure!(most >= limit / 2, "at most {most} processes were seen at once: far below the limit of {limit}");
        ensure!(most <= limit + OURS, "{most} processes existed at once, the limit is {limit}");
        Ok(())
    }
}

/// The highest count among the directories of slots and runs, below the instance's own. A run's is gone with the run.
fn most_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path());
    let count = |dir: &Path| fs::read_to_string(dir.join("pids.current")).ok()?.trim().parse().ok();
    dirs.map(|dir| most_below(&dir).max(count(&dir).unwrap_or(0))).max().unwrap_or(0)
}
