//! What outlives the process: pools, keys, usage, executions that can be asked for, and documents, in one SQLite file of the data directory.
//!
//! One thread has the connection; whoever wants something sends it a closure and waits for the answer. Usage is sent and not
//! waited for: no call is slower because its session is accounted for.
//!
//! The file is in WAL mode. After `kill -9` everything is there that was answered; after a power failure pools, keys,
//! executions and documents are, and the usage of the last moments may not be.

mod documents;
mod error;
mod keys;
mod lock;
mod open;
mod operations;
mod pools;
mod prune;
mod usage;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{SystemTime, UNIX_EPOCH},
};

pub use error::StoreError;
pub use keys::KeyRecord;
use lock::Lock;
pub use operations::{OperationClaim, OperationKey, OperationRecord, OperationState, RequestDigest};
pub use prune::{Kept, OperationsKept, UsageKept};
use rusqlite::Connection;
use tokio::sync::oneshot;
pub use usage::{UsageEnd, UsageFilter, UsageId, UsageRow, UsageStart, UsageSum};

/// The file's name in the data directory.
pub const FILE: &str = "greenroom.db";

/// What the writer thread does, one after another.
type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle on the store. Cheap to clone; the last one that goes waits until what was sent is done and the file is closed.
#[derive(Clone, Debug)]
pub struct Store {
    writer: Arc<Writer>,
    last_usage: Arc<AtomicI64>,
    last_operation: Arc<AtomicI64>,
    outcomes: Arc<prune::Growth>,
    path: Option<Arc<PathBuf>>,
}

/// The thread that has the connection.
#[derive(Debug)]
struct Writer {
    /// Taken when the thread is to end.
    work: Option<mpsc::Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn send(&self, work: Work) -> Result<(), StoreError> {
        let queue = self.work.as_ref().ok_or(StoreError::Gone)?;
        queue.send(work).map_err(|_| StoreError::Gone)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread panicked");
        }
    }
}

impl Store {
    /// The store of a server: opened or made in this directory, which is made too. Sessions that were alive when the last
    /// server ended are marked as ended by a restart. Blocks.
    ///
    /// # Errors
    /// [`StoreError::InUse`] where another server has it; else what is wrong with the directory or the file.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        open::make_directory(directory)?;
        let lock = Lock::take(directory)?;
        Self::start(open::file(directory)?, Some(directory.join(FILE)), Some(lock))
    }

    /// The store beside a server that may be running: for a command that lists or changes keys. Touches nobody's sessions. Blocks.
    pub fn open_beside(directory: &Path) -> Result<Self, StoreError> {
        open::make_directory(directory)?;
        Self::start(open::file(directory)?, Some(directory.join(FILE)), None)
    }

    /// A store that is gone with its last handle.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::start(open::memory()?, None, None)
    }

    /// Where the file is; `None` for one in memory.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref().map(PathBuf::as_path)
    }

    fn start(mut connection: Connection, path: Option<PathBuf>, lock: Option<Lock>) -> Result<Self, StoreError> {
        let named = path.clone().unwrap_or_else(|| PathBuf::from(":memory:"));
        if lock.is_some() {
            usage::end_those_left(&mut connection, unix_ms()).map_err(|error| StoreError::of_file(&named, error))?;
            operations::end_those_left(&connection).map_err(|error| StoreError::of_file(&named, error))?;
        }
        let last_usage = usage::last_id(&connection).map_err(|error| StoreError::of_file(&named, error))?;
        let last_operation = operations::last_number(&connection).map_err(|error| StoreError::of_file(&named, error))?;
        let (work, queue) = mpsc::channel::<Work>();
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || {
                while let Ok(work) = queue.recv() {
                    work(&mut connection);
                }
                // The next server may have the file when nothing of ours writes to it any more.
                drop(connection);
                drop(lock);
            })
            .map_err(StoreError::Thread)?;
        Ok(Self {
            writer: Arc::new(Writer { work: Some(work), thread: Some(thread) }),
            last_usage: Arc::new(AtomicI64::new(last_usage)),
            last_operation: Arc::new(AtomicI64::new(last_operation)),
            outcomes: Arc::default(),
            path: path.map(Arc::new),
        })
    }

    /// Returns when everything sent before is done.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.ask(|_| Ok(())).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            // Whoever asked may be gone; what was asked for is done all the same.
            drop(answer.send(work(connection)));
        });
        self.writer.send(work)?;
        answered.await.map_err(|_| StoreError::Gone)?.map_err(StoreError::Sql)
    }

    /// [`Store::ask`] for what must survive a power failure once it is answered.
    async fn ask_durably<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ask(move |connection| {
            connection.pragma_update(None, "synchronous", "FULL")?;
            let done = work(connection);
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            done
        })
        .await
    }

    /// Sends work that nobody waits for. What fails goes to the log.
    fn tell(&self, what: &'static str, work: impl FnOnce(&mut Connection) -> rusqlite::Result<()> + Send + 'static) {
        let work: Work = Box::new(move |connection| {
            if let Err(error) = work(connection) {
                tracing::error!(%error, "{what} could not be stored");
            }
        });
        if self.writer.send(work).is_err() {
            tracing::error!("{what} could not be stored: the store's thread is gone");
        }
    }

    fn next_usage(&self) -> UsageId {
        UsageId(self.last_usage.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn next_operation(&self) -> i64 {
        self.last_operation.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Now, milliseconds since 1970 UTC.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// SQLite's integers have a sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests;
