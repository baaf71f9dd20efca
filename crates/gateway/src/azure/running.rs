use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use greenroom_backends::Files;
use greenroom_pool::{Digest, Identifier};
use tokio::sync::watch;

/// The files of sessions in which something runs. Calls of one identifier take turns, and a cell may have the turn for
/// minutes: its files can be reached meanwhile, past the turn. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Running {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    files: Mutex<HashMap<Key, Files>>,
    /// Told of every beginning: who waits for a turn looks again.
    begun: watch::Sender<()>,
}

/// A pool's name and an identifier.
type Key = (String, Digest);

/// Something that runs; dropped, it is over.
#[derive(Debug)]
pub(super) struct Ran {
    running: Running,
    key: Key,
}

impl Default for Running {
    fn default() -> Self {
        Self { inner: Arc::new(Inner { files: Mutex::default(), begun: watch::Sender::default() }) }
    }
}

impl Running {
    /// From now on something runs in this session. Its caller has the turn.
    pub(super) fn begin(&self, pool: &str, identifier: &Identifier, files: &Files) -> Ran {
        let key = (pool.to_owned(), identifier.digest());
        self.lock().insert(key.clone(), files.clone());
        self.inner.begun.send_replace(());
        Ran { running: self.clone(), key }
    }

    /// The files of the identifier's session, as soon as something runs in it.
    pub(super) async fn files(&self, pool: &str, identifier: &Identifier) -> Files {
        let key = (pool.to_owned(), identifier.digest());
        // Before the look, so that no beginning is missed.
        let mut begun = self.inner.begun.subscribe();
        loop {
            if let Some(files) = self.lock().get(&key) {
                return files.clone();
            }
            // Its sender is ours.
            if begun.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Files>> {
        self.inner.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ran {
    fn drop(&mut self) {
        self.running.lock().remove(&self.key);
    }
}
