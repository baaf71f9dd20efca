//! What compile stages made, kept to be used again: the same sources, commands and limits, of the same tenant, are not compiled twice.
//!
//! In memory, within a number of bytes; when they are used up, the tenant who has most gives up what it has not used for
//! longest. An entry is found by a hash over everything that goes into the stage, and sealed with a hash of what came out of it,
//! which is checked before it is used. Nobody's programs can reach an entry: what is kept was read from the sandbox after its last
//! process ended, and before the program that it made first ran.

mod collect;

use std::{
    collections::HashMap,
    fs::Metadata,
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use greenroom_core::{Job, JobFile, StageKind, StageOutcome, Stdin, Usage, Verdict};
use sha2::{Digest, Sha256};

/// Of all bytes, an entry may have this part.
const LARGEST_PART: usize = 8;
/// What an entry costs besides its files and its output, bytes: about.
const OVERHEAD_BYTES: usize = 512;

/// Found by everything that goes into a compile stage.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

/// What a compile stage made.
pub(super) struct Made {
    /// How it ended. Used again, it uses nothing.
    pub(super) outcome: StageOutcome,
    /// The files that were new or changed after it.
    pub(super) files: Vec<JobFile>,
}

/// What is kept, and how often it was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptStatus {
    /// Compile stages that did not run, because what they make was there.
    pub hits: u64,
    /// Those that ran, though what they make may be kept.
    pub misses: u64,
    /// What is kept now.
    pub entries: u64,
    /// How much that is, bytes.
    pub bytes: u64,
}

/// All that is kept.
#[derive(Default)]
pub(super) struct Kept {
    budget_bytes: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<Key, Entry>,
    bytes: usize,
    /// Bytes by tenant.
    tenants: HashMap<String, usize>,
    /// Counts uses: the entry with the lowest was not used for longest.
    clock: u64,
    hits: u64,
    misses: u64,
}

struct Entry {
    tenant: String,
    made: Arc<Made>,
    seal: [u8; 32],
    bytes: usize,
    used: u64,
}

impl Kept {
    /// At most so many bytes; 0 keeps nothing.
    pub(super) fn set_budget(&self, bytes: usize) {
        self.budget_bytes.store(bytes, Ordering::Relaxed);
        let mut state = self.state();
        while state.bytes > bytes && state.evict() {}
    }

    fn budget(&self) -> usize {
        self.budget_bytes.load(Ordering::Relaxed)
    }

    /// What a job's compile stage is found by; `None` where its result is not to be kept. `root` is where the system that programs
    /// see stands.
    pub(super) fn key(&self, job: &Job, root: &Path) -> Option<Key> {
        let reuse = job.reuse.as_ref().filter(|_| self.budget() > 0)?;
        let [stage, _, ..] = job.stages.as_slice() else { return None };
        let reads_nothing = matches!(&stage.stdin, Stdin::Bytes(bytes) if bytes.is_empty()) || stage.stdin == Stdin::Interactive;
        if stage.kind != StageKind::Compile || !reads_nothing {
            return None;
        }
        let mut hash = Fields(Sha256::new());
        hash.text("greenroom compile 1");
        hash.text(&reuse.tenant);
        hash.text(&reuse.toolchain);
        for path in &reuse.made_with {
            hash.text(&path.to_string_lossy());
            hash.identity(std::fs::metadata(root.join(path.strip_prefix("/").unwrap_or(path))).ok());
        }
        hash.number(stage.argv.len());
        stage.argv.iter().for_each(|word| hash.text(word));
        hash.number(stage.env.len());
        stage.env.iter().for_each(|(name, value)| {
            hash.text(name);
            hash.text(value);
        });
        // What succeeded within these may fail within less. How much output is kept is looked at when it is used.
        let limits = &stage.limits;
        for limit in [limits.wall_ms, limits.cpu_ms, limits.memory_bytes, limits.file_size_bytes, job.disk.bytes, job.disk.inodes] {
            hash.number(limit);
        }
        [limits.processes, limits.open_files, limits.cpu_milli].into_iter().for_each(|limit| hash.number(limit));
        for file in &job.files {
            hash.text(file.path.as_str());
            hash.number(u8::from(file.executable));
            hash.bytes(&file.content);
        }
        Some(Key(hash.0.finalize().into()))
    }

    /// What was kept, if it is as it was, and its output within what may be said (bytes of each stream).
    pub(super) fn get(&self, key: &Key, output_bytes: Option<u64>) -> Option<Arc<Made>> {
        let found = {
            let mut state = self.state();
            state.clock += 1;
            let now = state.clock;
            state.entries.get_mut(key).map(|entry| {
                entry.used = now;
                (Arc::clone(&entry.made), entry.seal)
            })
        };
        let fits = |made: &Made| {
            let longest = made.outcome.output.stdout.len().max(made.outcome.output.stderr.len());
            output_bytes.is_none_or(|limit| longest as u64 <= limit)
        };
        // Outside of the lock: hashing a large program takes a while.
        let sound = found.filter(|(made, seal)| {
            let whole = made.seal() == *seal;
            if !whole {
                tracing::error!(
                    "what a compile stage made is not what it was when it was kept: it is dropped; check this machine's memory"
                );
                self.state().remove(key);
            }
            whole && fits(made)
        });
        let mut state = self.state();
        match &sound {
            Some(_) => state.hits += 1,
            None => state.misses += 1,
        }
        sound.map(|(made, _)| made)
    }

    /// Keeps what a stage made, if it ended well and all that it left are plain files, not too large. `directory` is the
    /// workspace after its last process ended.
    pub(super) async fn keep(&self, key: Key, job: &Job, outcome: &StageOutcome, directory: io::Result<OwnedFd>) {
        let Some(reuse) = job.reuse.as_ref().filter(|_| outcome.verdict == Verdict::Ok) else { return };
        let output = outcome.output.stdout.len() + outcome.output.stderr.len();
        let Some(room) = (self.budget() / LARGEST_PART).checked_sub(output + OVERHEAD_BYTES) else { return };
        let sent = job.files.clone();
        let collected = match directory {
            Ok(directory) => {
                tokio::task::spawn_blocking(move || collect::made(&directory, &sent, room)).await.map_err(io::Error::other)
            }
            Err(error) => Err(error),
        };
        match collected.and_then(|collected| collected) {
            Ok(Some(files)) => {
                let mut outcome = outcome.clone();
                outcome.usage = Usage { wall_us: 0, cpu_us: 0, memory_peak_bytes: outcome.usage.memory_peak_bytes.map(|_| 0) };
                self.put(key, reuse.tenant.clone(), Made { outcome, files });
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "what a compile stage made cannot be read to be kept"),
        }
    }

    fn put(&self, key: Key, tenant: String, made: Made) {
        let entry = Entry { tenant, seal: made.seal(), bytes: made.bytes(), made: Arc::new(made), used: 0 };
        let mut state = self.state();
        state.remove(&key);
        state.clock += 1;
        let used = state.clock;
        state.bytes += entry.bytes;
        *state.tenants.entry(entry.tenant.clone()).or_default() += entry.bytes;
        state.entries.insert(key, Entry { used, ..entry });
        while state.bytes > self.budget() && state.evict() {}
    }

    pub(super) fn status(&self) -> KeptStatus {
        let state = self.state();
        KeptStatus { hits: state.hits, misses: state.misses, entries: state.entries.len() as u64, bytes: state.bytes as u64 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock can panic half-way through a change that matters.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.bytes -= entry.bytes;
        if let Some(bytes) = self.tenants.get_mut(&entry.tenant) {
            *bytes -= entry.bytes;
            if *bytes == 0 {
                self.tenants.remove(&entry.tenant);
            }
        }
    }

    /// Of the tenant who has most, what it has not used for longest. `false` where there is nothing.
    fn evict(&mut self) -> bool {
        let Some(tenant) = self.tenants.iter().max_by_key(|(_, bytes)| **bytes).map(|(tenant, _)| tenant) else { return false };
        let theirs = self.entries.iter().filter(|(_, entry)| entry.tenant == *tenant);
        let Some(oldest) = theirs.min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key) else { return false };
        self.remove(&oldest);
        true
    }
}

impl Made {
    /// The workspace as the stage left it: what it made in place of what was sent.
    pub(super) fn over(&self, sent: &[JobFile]) -> Vec<JobFile> {
        let untouched = sent.iter().filter(|file| self.files.iter().all(|made| made.path != file.path));
        untouched.chain(&self.files).cloned().collect()
    }

    fn bytes(&self) -> usize {
        let files: usize = self.files.iter().map(|file| file.content.len() + file.path.as_str().len()).sum();
        files + self.outcome.output.stdout.len() + self.outcome.output.stderr.len() + OVERHEAD_BYTES
    }

    fn seal(&self) -> [u8; 32] {
        let mut hash = Fields(Sha256::new());
        hash.bytes(&self.outcome.output.stdout);
        hash.bytes(&self.outcome.output.stderr);
        for file in &self.files {
            hash.text(file.path.as_str());
            hash.number(u8::from(file.executable));
            hash.bytes(&file.content);
        }
        hash.0.finalize().into()
    }
}

/// A hash over fields, each with its length: no two lists of fields are the same bytes.
struct Fields(Sha256);

impl Fields {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn number(&mut self, number: impl TryInto<u64>) {
        self.0.update(number.try_into().unwrap_or(u64::MAX).to_le_bytes());
    }

    /// Which file it is, and its last change: of its content, its name or its place.
    fn identity(&mut self, file: Option<Metadata>) {
        self.number(u8::from(file.is_some()));
        let Some(file) = file else { return };
        for number in [file.dev(), file.ino(), file.size()] {
            self.number(number);
        }
        for time in [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()] {
            self.bytes(&time.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
