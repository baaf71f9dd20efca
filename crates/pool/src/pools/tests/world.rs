use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::*;
use crate::{CreateError, SessionUsage};

/// A backend of sessions that are counters: what exists, what was made of which, what is still there.
#[derive(Clone, Default)]
pub struct World {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    last: AtomicU64,
    alive: Mutex<HashMap<u64, watch::Sender<Option<EndReason>>>>,
    /// Most that ever existed at once, from the beginning of their making to the end of their destruction.
    existing: AtomicU64,
    most: AtomicU64,
    destroyed: AtomicU64,
    /// What happens to the next creations; nothing special where it is empty.
    fates: Mutex<VecDeque<Fate>>,
    create_ms: AtomicU64,
    destroy_ms: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
pub enum Fate {
    Fails,
    Panics,
    Never,
}

/// A session of the world. What its identifiers and calls leave in it is looked at afterwards.
pub struct Toy {
    pub number: u64,
    pub executions: AtomicU64,
    pub is_answering: AtomicBool,
    pub holders: AtomicU64,
    pub owner: Mutex<Option<Identifier>>,
    _place: Place,
}

/// Counts a session from before it is made, also if its making is given up.
struct Place(Arc<State>);

impl Place {
    fn new(state: Arc<State>) -> Self {
        let now = state.existing.fetch_add(1, Ordering::SeqCst) + 1;
        state.most.fetch_max(now, Ordering::SeqCst);
        Self(state)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.existing.fetch_sub(1, Ordering::SeqCst);
    }
}

impl World {
    pub fn creation_takes(self, ms: u64) -> Self {
        self.state.create_ms.store(ms, Ordering::SeqCst);
        self
    }

    pub fn destruction_takes(self, ms: u64) -> Self {
        self.state.destroy_ms.store(ms, Ordering::SeqCst);
        self
    }

    pub fn next(&self, fates: impl IntoIterator<Item = Fate>) {
        self.state.fates.lock().unwrap().extend(fates);
    }

    /// Ends a session as its own program would.
    pub fn kill(&self, number: u64, reason: EndReason) {
        if let Some(end) = self.state.alive.lock().unwrap().get(&number) {
            end.send_replace(Some(reason));
        }
    }

    pub fn alive(&self) -> Vec<u64> {
        let mut alive: Vec<u64> = self.state.alive.lock().unwrap().keys().copied().collect();
        alive.sort_unstable();
        alive
    }

    /// Sessions that take room, those that are being made and destroyed included.
    pub fn existing(&self) -> u64 {
        self.state.existing.load(Ordering::SeqCst)
    }

    pub fn most(&self) -> u64 {
        self.state.most.load(Ordering::SeqCst)
    }

    pub fn destroyed(&self) -> u64 {
        self.state.destroyed.load(Ordering::SeqCst)
    }

    pub fn made(&self) -> u64 {
        self.state.last.load(Ordering::SeqCst)
    }
}

impl Backend for World {
    type Session = Toy;

    async fn create(&self, _spec: &PoolSpec) -> Result<Toy, CreateError> {
        let place = Place::new(self.state.clone());
        let fate = self.state.fates.lock().unwrap().pop_front();
        tokio::time::sleep(Duration::from_millis(self.state.create_ms.load(Ordering::SeqCst))).await;
        match fate {
            Some(Fate::Fails) => return Err(CreateError::because("the sandbox failed", "no room on the device")),
            Some(Fate::Panics) => panic!("a defect of the backend"),
            Some(Fate::Never) => std::future::pending().await,
            None => {}
        }
        let number = self.state.last.fetch_add(1, Ordering::SeqCst) + 1;
        self.state.alive.lock().unwrap().insert(number, watch::Sender::new(None));
        Ok(Toy {
            number,
            executions: AtomicU64::new(0),
            is_answering: AtomicBool::new(true),
            holders: AtomicU64::new(0),
            owner: Mutex::new(None),
            _place: place,
        })
    }

    fn check(&self, session: &Toy) -> bool {
        session.is_answering.load(Ordering::SeqCst)
    }

    async fn ended(&self, session: &Toy) -> EndReason {
        let end = self.state.alive.lock().unwrap().get(&session.number).map(watch::Sender::subscribe);
        match end {
            Some(mut end) => end.wait_for(Option::is_some).await.ok().and_then(|reason| *reason).unwrap_or(EndReason::Lost),
            None => std::future::pending().await,
        }
    }

    async fn destroy(&self, session: Arc<Toy>) -> SessionUsage {
        tokio::time::sleep(Duration::from_millis(self.state.destroy_ms.load(Ordering::SeqCst))).await;
        let was_there = self.state.alive.lock().unwrap().remove(&session.number).is_some();
        assert!(was_there, "session {} was destroyed twice", session.number);
        self.state.destroyed.fetch_add(1, Ordering::SeqCst);
        let executions = session.executions.load(Ordering::SeqCst);
        SessionUsage { cpu_us: executions * 1000, memory_byte_s: executions * 10, executions }
    }
}

/// A call: has the session to itself for so long, and finds it as its identifier left it.
pub async fn call(pools: &Pools<World>, pool: &str, name: &str, ms: u64) -> Result<u64, Refused> {
    let identifier = Identifier::new(name).unwrap();
    let lease = pools.acquire(pool, identifier.clone()).await?;
    let _held = Held::of(&lease, &identifier);
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(ms)) => {}
        _ = lease.ended() => {}
    }
    Ok(lease.number)
}

/// Counts who has a session, also if the call is cancelled.
struct Held(Arc<Toy>);

impl Held {
    fn of(lease: &Lease<World>, identifier: &Identifier) -> Self {
        let session = Arc::clone(lease);
        assert_eq!(session.holders.fetch_add(1, Ordering::SeqCst), 0, "two calls have one session");
        session.executions.fetch_add(1, Ordering::SeqCst);
        let mut owner = session.owner.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(owner.as_ref().is_none_or(|owner| owner == identifier), "a session served two identifiers");
        assert!(owner.is_none() || !lease.allocation().is_new(), "a session is new once");
        *owner = Some(identifier.clone());
        drop(owner);
        Self(session)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.holders.fetch_sub(1, Ordering::SeqCst);
    }
}
