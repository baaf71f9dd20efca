//! The tasks that carry the decisions out.
//!
//! ```text
//!  Pools::acquire ── Acquire ──►┌────────────┐── spawns ──► maker    ── Made ─────┐
//!  Lease (dropped) ─ Leave ────►│   owner    │── spawns ──► watcher  ── Ended ────┤
//!  Pools::stop … ─── Stop … ───►│ (one/pool) │── spawns ──► ender    ── Destroyed ┤
//!                               └─────▲──────┘                                    │
//!                                     └────────── the pool's one mailbox ◄────────┘
//! ```
//!
//! The owner never waits for anything but its mailbox and its clock. A caller that is cancelled drops its [`Ticket`], which
//! says so; a helper that panics drops its report, which says so too: nothing is waited for in vain.

mod clock;
mod error;
mod lease;
mod message;
mod owner;
mod report;
mod view;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

pub use error::{PoolError, Refused};
pub use lease::Lease;
use lease::Ticket;
use message::{Mailbox, Message};
use owner::Owner;
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
pub use view::{SessionState, SessionView};

use crate::{
    Backend, Denied, EndReason, Identifier, PoolPatch, PoolSpec, Rules, Snapshot, Store,
    decide::{CallId, Decide, Event},
};

/// All pools of a server. Cheap to clone. When the last handle is dropped they close as at a shutdown.
pub struct Pools<B: Backend> {
    inner: Arc<Inner<B>>,
}

struct Inner<B: Backend> {
    backend: Arc<B>,
    store: Store,
    pools: RwLock<BTreeMap<String, Pool<B>>>,
    /// One change to the set of pools at a time: the store and the tasks must not come to differ.
    changing: tokio::sync::Mutex<()>,
    is_closed: AtomicBool,
    tasks: TaskTracker,
}

/// The way to one pool's owner.
struct Pool<B: Backend> {
    spec: Arc<PoolSpec>,
    mailbox: Mailbox<B>,
    last_call: Arc<AtomicU64>,
    /// Cancelled when nothing is left of the pool.
    finished: CancellationToken,
}

impl<B: Backend> Clone for Pools<B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<B: Backend> Clone for Pool<B> {
    fn clone(&self) -> Self {
        Self {
            spec: self.spec.clone(),
            mailbox: self.mailbox.clone(),
            last_call: self.last_call.clone(),
            finished: self.finished.clone(),
        }
    }
}

impl<B: Backend> Pools<B> {
    /// The pools that the store has. Their sessions are made behind the caller's back; identifiers whose session ended with
    /// the last server are told so.
    pub async fn open(backend: B, store: Store) -> Result<Self, PoolError> {
        let pools = Self {
            inner: Arc::new(Inner {
                backend: Arc::new(backend),
                store,
                pools: RwLock::default(),
                changing: tokio::sync::Mutex::default(),
                is_closed: AtomicBool::new(false),
                tasks: TaskTracker::new(),
            }),
        };
        for spec in pools.inner.store.pools().await? {
            pools.inner.start(spec).await?;
        }
        Ok(pools)
    }

    /// Makes a pool and keeps it in the store.
    ///
    /// # Errors
    /// [`PoolError::Exists`] where there is one of that name; what the rules do not allow.
    pub async fn create(&self, spec: PoolSpec, rules: &Rules) -> Result<(), PoolError> {
        spec.check(rules)?;
        self.change(async move |inner| {
            if inner.pool(&spec.name).is_some() {
                return Err(PoolError::Exists { name: spec.name });
            }
            inner.store.put_pool(&spec).await?;
            inner.start(spec).await
        })
        .await
    }

    /// Changes a pool while it runs; what comes of it. Sessions that have an identifier go on as they were made; ready ones are
    /// replaced if they would be made otherwise now.
    pub async fn update(&self, name: &str, patch: PoolPatch, rules: &Rules) -> Result<PoolSpec, PoolError> {
        let (name, rules) = (name.to_owned(), rules.clone());
        self.change(async move |inner| {
            let pool = inner.pool(&name).ok_or(PoolError::NotFound { name })?;
            let spec = patch.apply(&pool.spec, &rules)?;
            inner.replace(&pool, spec).await
        })
        .await
    }

    /// Makes the pool be like this, whether there was one of that name or not. Whether it was made.
    ///
    /// # Errors
    /// [`PoolError::Kind`] where there is one that runs something else.
    pub async fn put(&self, spec: PoolSpec, rules: &Rules) -> Result<bool, PoolError> {
        spec.check(rules)?;
        self.change(async move |inner| match inner.pool(&spec.name) {
            None => {
                inner.store.put_pool(&spec).await?;
                inner.start(spec).await.map(|()| true)
            }
            Some(pool) if pool.spec.kind != spec.kind => {
                Err(PoolError::Kind { name: spec.name, has: pool.spec.kind, given: spec.kind })
            }
            Some(pool) => inner.replace(&pool, spec).await.map(|_| false),
        })
        .await
    }

    /// Takes a pool away: its calls are answered, its sessions end, its usage stays. Returns when nothing is left of it.
    pub async fn delete(&self, name: &str) -> Result<(), PoolError> {
        self.remove(name).await?.await;
        Ok(())
    }

    /// [`Pools::delete`] in two steps: returns when the pool is gone for good, whatever happens to the server; what it returns resolves
    /// when nothing is left of its sessions.
    pub async fn remove(&self, name: &str) -> Result<impl Future<Output = ()> + Send + use<B>, PoolError> {
        let name = name.to_owned();
        let finished = self
            .change(async move |inner| {
                let pool = inner.pool(&name).ok_or_else(|| PoolError::NotFound { name: name.clone() })?;
                inner.store.delete_pool(&name).await?;
                inner.pools.write().unwrap_or_else(PoisonError::into_inner).remove(&name);
                pool.tell(Message::Close { reason: EndReason::PoolDeleted });
                Ok(pool.finished)
            })
            .await?;
        Ok(finished.cancelled_owned())
    }

    /// The specification of this pool.
    pub fn get(&self, name: &str) -> Option<Arc<PoolSpec>> {
        self.inner.pool(name).map(|pool| pool.spec)
    }

    /// All specifications, by name.
    pub fn list(&self) -> Vec<Arc<PoolSpec>> {
        let pools = self.inner.pools.read().unwrap_or_else(PoisonError::into_inner);
        pools.values().map(|pool| pool.spec.clone()).collect()
    }

    /// What a pool is doing.
    pub async fn snapshot(&self, name: &str) -> Result<Snapshot, PoolError> {
        self.inner.ask(name, |answer| Message::Snapshot { answer }).await
    }

    /// The sessions of a pool that belong to an identifier, the oldest first.
    pub async fn sessions(&self, name: &str) -> Result<Vec<SessionView>, PoolError> {
        self.inner.ask(name, |answer| Message::Sessions { answer }).await
    }

    /// The session of this identifier, if it has one. Does not count as a use of it.
    pub async fn session(&self, name: &str, identifier: &Identifier) -> Result<Option<SessionView>, PoolError> {
        let identifier = identifier.clone();
        self.inner.ask(name, |answer| Message::Session { identifier, answer }).await
    }

    /// Ends the session of this identifier, also in the middle of a call, and denies the calls that wait for it. Whether it
    /// had one or waited for one.
    pub async fn stop(&self, name: &str, identifier: &Identifier) -> Result<bool, PoolError> {
        let identifier = identifier.clone();
        self.inner.ask(name, |answer| Message::Stop { identifier, answer }).await
    }

    /// A session for this identifier: its own, or a new one. Waits for its turn where another call of the identifier has it,
    /// and for a session to be made where none is ready. May be cancelled at any time.
    pub async fn acquire(&self, name: &str, identifier: Identifier) -> Result<Lease<B>, Refused> {
        let pool = self.inner.pool(name).ok_or_else(|| Refused::NoSuchPool { name: name.to_owned() })?;
        let call = CallId(pool.last_call.fetch_add(1, Ordering::Relaxed) + 1);
        let (answer, answered) = oneshot::channel();
        // Before the call is known, so that there is no moment at which it could be forgotten.
        let ticket = Ticket::new(call, pool.mailbox.clone());
        pool.tell(Message::Acquire { identifier, call, answer });
        match answered.await {
            Ok(Ok(grant)) => Ok(Lease::new(grant, ticket)),
            Ok(Err(why)) => Err(Refused::Denied(why)),
            // The owner is gone.
            Err(_) => Err(Refused::Denied(Denied::Closed { reason: self.inner.end_reason() })),
        }
    }

    /// Closes all pools: calls are answered, sessions end. Returns when nothing is left of them and the store knows what they used.
    pub async fn shutdown(&self) {
        // Whoever changes something now is done with it first.
        let changing = self.inner.changing.lock().await;
        self.inner.is_closed.store(true, Ordering::Relaxed);
        drop(changing);
        self.inner.close();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        if let Err(error) = self.inner.store.flush().await {
            tracing::error!(%error, "the usage of the last sessions may be lost");
        }
    }

    /// Where pools, keys and usage are kept.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Where the sessions live.
    pub fn backend(&self) -> &B {
        &self.inner.backend
    }

    /// Changes the set of pools, alone. Goes on to its end if the caller is cancelled: the store must not know of a pool
    /// that does not run.
    async fn change<T: Send + 'static, F>(&self, change: impl FnOnce(Arc<Inner<B>>) -> F + Send + 'static) -> Result<T, PoolError>
    where
        F: Future<Output = Result<T, PoolError>> + Send,
    {
        let inner = self.inner.clone();
        let changed = self.inner.tasks.spawn(async move {
            let _alone = inner.changing.lock().await;
            if inner.is_closed.load(Ordering::Relaxed) {
                return Err(PoolError::Closed);
            }
            change(inner.clone()).await
        });
        changed.await.unwrap_or(Err(PoolError::Closed))
    }
}

impl<B: Backend> Inner<B> {
    fn pool(&self, name: &str) -> Option<Pool<B>> {
        self.pools.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn put(&self, pool: Pool<B>) {
        self.pools.write().unwrap_or_else(PoisonError::into_inner).insert(pool.spec.name.clone(), pool);
    }

    async fn start(&self, spec: PoolSpec) -> Result<(), PoolError> {
        let ended = self.store.untold_ends(&spec.name).await?;
        let (mailbox, letters) = mpsc::unbounded_channel();
        let finished = CancellationToken::new();
        let decide = Decide::new(spec.clone(), ended);
        let owner = Owner::new(decide, self.backend.clone(), self.store.clone(), mailbox.clone(), letters, self.tasks.clone());
        // Also when the task panics.
        let done = finished.clone().drop_guard();
        self.tasks.spawn(async move {
            owner.run().await;
            drop(done);
        });
        self.put(Pool { spec: Arc::new(spec), mailbox, last_call: Arc::default(), finished });
        Ok(())
    }

    async fn replace(&self, pool: &Pool<B>, spec: PoolSpec) -> Result<PoolSpec, PoolError> {
        self.store.put_pool(&spec).await?;
        pool.tell(Message::Event(Event::Update { spec: Box::new(spec.clone()) }));
        self.put(Pool { spec: Arc::new(spec.clone()), ..pool.clone() });
        Ok(spec)
    }

    async fn ask<T>(&self, name: &str, message: impl FnOnce(oneshot::Sender<T>) -> Message<B>) -> Result<T, PoolError> {
        let pool = self.pool(name).ok_or_else(|| PoolError::NotFound { name: name.to_owned() })?;
        let (answer, answered) = oneshot::channel();
        pool.tell(message(answer));
        answered.await.map_err(|_| PoolError::Closed)
    }

    fn close(&self) {
        for pool in self.pools.read().unwrap_or_else(PoisonError::into_inner).values() {
            pool.tell(Message::Close { reason: EndReason::Shutdown });
        }
    }

    /// Why an owner may be gone.
    fn end_reason(&self) -> EndReason {
        if self.is_closed.load(Ordering::Relaxed) { EndReason::Shutdown } else { EndReason::PoolDeleted }
    }
}

impl<B: Backend> Drop for Inner<B> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<B: Backend> Pool<B> {
    /// A mailbox that nobody reads is that of a pool that is gone; whoever waits for an answer learns it from that.
    fn tell(&self, message: Message<B>) {
        drop(self.mailbox.send(message));
    }
}

#[cfg(test)]
mod tests;
