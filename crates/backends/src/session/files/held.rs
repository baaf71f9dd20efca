//! What is open of a session's files. All of it is closed when the session ends: one descriptor that a slow client keeps
//! would keep all of the session's files in memory.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::FileError;

/// Holds the session's directory, and what is open below it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Holder(Arc<Mutex<Option<Open>>>);

struct Open {
    directory: Arc<OwnedFd>,
    held: HashMap<u64, Arc<dyn Any + Send + Sync>>,
    next: u64,
}

/// Something open, until it is dropped or the session ends.
pub(super) struct Held<T> {
    holder: Holder,
    number: u64,
    value: Weak<T>,
}

impl Holder {
    pub(super) fn new(directory: OwnedFd) -> Self {
        Self(Arc::new(Mutex::new(Some(Open { directory: Arc::new(directory), held: HashMap::new(), next: 0 }))))
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session's directory, for one operation.
    pub(super) fn directory(&self) -> Result<Arc<OwnedFd>, FileError> {
        self.open().as_ref().map(|open| Arc::clone(&open.directory)).ok_or(FileError::Ended)
    }

    pub(super) fn hold<T: Send + Sync + 'static>(&self, value: T) -> Result<Held<T>, FileError> {
        let value = Arc::new(value);
        let mut open = self.open();
        let open = open.as_mut().ok_or(FileError::Ended)?;
        let number = open.next;
        open.next += 1;
        let held = Held { holder: self.clone(), number, value: Arc::downgrade(&value) };
        open.held.insert(number, value);
        Ok(held)
    }

    pub(super) fn close(&self) {
        let closed = self.open().take();
        close_elsewhere(closed);
    }
}

impl<T> Held<T> {
    /// It, for one operation.
    pub(super) fn get(&self) -> Result<Arc<T>, FileError> {
        self.value.upgrade().ok_or(FileError::Ended)
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        let value = self.holder.open().as_mut().and_then(|open| open.held.remove(&self.number));
        close_elsewhere(value);
    }
}

/// To close the last descriptor of a large file without a name is to free its memory, which takes its time.
fn close_elsewhere(closed: impl Send + 'static) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(move || drop(closed))),
        Err(_no_runtime) => drop(closed),
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Holder").field(&self.open().as_ref().map(|open| open.held.len())).finish()
    }
}

impl<T> fmt::Debug for Held<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.number).finish()
    }
}
