//! The decisions of one pool: who has which session, what is made, what ends. A plain struct with no I/O, no locks and
//! no clock: the owner task in `pools` tells it what happens and when, and does what it says.
//!
//! ```text
//!              Create            Created                Acquire            Leave
//!   (nothing) ───────► creating ─────────► ready ─────────────► busy ◄──────────► idle
//!                          │ CreateFailed    │                   │     Acquire     │
//!                          ▼                 ▼ CheckFailed,      ▼ SessionEnded,   ▼ cooldown, Stop,
//!                      (nothing)           dying ◄─ Surplus,     dying Stop,       dying SessionEnded
//!                                            │      Outdated           max_alive
//!                                            ▼ Destroyed
//!                                        (nothing)
//! ```
//!
//! An identifier without a session stands in **line**; the session made next is its. A session that is being made belongs to
//! nobody yet: whoever is first in line when it is there takes it.
//!
//! Invariants, checked after every step of `tests.rs`:
//! 1. A session is made only while all that exist (creating, ready, busy, idle, dying) are fewer than `max_sessions`.
//! 2. A session has one identifier in its life, and an identifier has one session at a time.
//! 3. One call at a time holds a session; the others of its identifier wait in the order of their coming, and are bounded.
//! 4. Every call is answered once: granted or denied. None waits in line for longer than [`LONGEST_WAIT_MS`].
//! 5. Every session that was made is destroyed once, and never granted after that.
//! 6. When sessions can be made, as many become ready as `ready_sessions` says and `max_sessions` leaves room for, and no more.
//! 7. When they cannot, attempts become rare: one at a time, with pauses that double up to 30 s.
//! 8. Lowering `max_sessions` ends ready sessions only.

mod acquire;
mod backoff;
mod event;
mod memory;
mod settle;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use backoff::Backoff;
pub use event::{Action, Allocation, CallId, Denied, Event, Life, SessionId};
use memory::Memory;
pub use memory::{KEPT_MS, MOST};
use view::Failures;
pub use view::{Failure, FailureKind, Snapshot, TenureView, Totals};

use crate::{Digest, EndReason, Ended, Identifier, Lifecycle, PoolSpec};

/// Most calls that wait for one identifier's session, the one that holds it not counted.
pub const WAITING_PER_IDENTIFIER: usize = 32;
/// Most sessions that are made at the same time.
pub const CREATIONS_AT_ONCE: usize = 32;
/// Longest time in line, milliseconds.
pub const LONGEST_WAIT_MS: u64 = 60_000;
/// A ready session that ends sooner than this was never good: the next one is made after a pause.
const EARLY_DEATH_MS: u64 = 10_000;

/// The decisions of one pool.
#[derive(Debug)]
pub struct Decide {
    spec: PoolSpec,
    /// Counts the changes after which a session made before is not one of this pool any more.
    generation: u64,
    now_ms: u64,
    last_session: u64,
    creating: BTreeMap<SessionId, Creating>,
    /// The oldest first, and taken first.
    ready: VecDeque<Ready>,
    owners: HashMap<Identifier, Owner>,
    /// The sessions that have an owner.
    owned: BTreeMap<SessionId, Identifier>,
    /// The calls that wait or hold.
    calls: HashMap<CallId, Identifier>,
    /// The identifiers that wait for a session, in the order of their coming.
    line: VecDeque<Identifier>,
    dying: BTreeSet<SessionId>,
    memory: Memory,
    makes: Backoff,
    deaths: Backoff,
    failures: Failures,
    totals: Totals,
    closed: Option<EndReason>,
    /// No session is due before this. May be too early, never too late.
    due_ms: u64,
    actions: Vec<Action>,
}

#[derive(Debug)]
struct Creating {
    since_ms: u64,
    generation: u64,
}

#[derive(Debug)]
struct Ready {
    session: SessionId,
    since_ms: u64,
}

/// An identifier that has a session or stands in line for one.
#[derive(Debug)]
struct Owner {
    place: Place,
    /// Empty where the place is idle, never empty where it is in line.
    waiting: VecDeque<CallId>,
}

#[derive(Debug)]
enum Place {
    InLine { since_ms: u64 },
    Busy { tenure: Tenure, call: CallId, since_ms: u64 },
    Idle { tenure: Tenure, since_ms: u64 },
}

/// A session's time with its identifier.
#[derive(Clone, Copy, Debug)]
struct Tenure {
    session: SessionId,
    since_ms: u64,
    /// Without the call that holds it now.
    busy_ms: u64,
}

impl Place {
    fn tenure(&self) -> Option<Tenure> {
        match *self {
            Place::InLine { .. } => None,
            Place::Busy { tenure, .. } | Place::Idle { tenure, .. } => Some(tenure),
        }
    }

    fn life(&self, now_ms: u64) -> Option<Life> {
        let tenure = self.tenure()?;
        let running_ms = if let Place::Busy { since_ms, .. } = self { now_ms - since_ms } else { 0 };
        let busy_ms = tenure.busy_ms + running_ms;
        Some(Life { busy_ms, idle_ms: (now_ms - tenure.since_ms).saturating_sub(busy_ms) })
    }
}

impl Decide {
    /// A pool with nothing in it yet. `ended` are sessions of a server before this one, whose identifiers are still to be told.
    /// The first event, an [`Event::Tick`] if nothing else, begins to fill it.
    pub fn new(spec: PoolSpec, ended: impl IntoIterator<Item = (Digest, EndReason)>) -> Self {
        let mut memory = Memory::default();
        for (identifier, reason) in ended {
            memory.put(identifier, Ended { reason, at_ms: 0 });
        }
        Self {
            spec,
            generation: 0,
            now_ms: 0,
            last_session: 0,
            creating: BTreeMap::new(),
            ready: VecDeque::new(),
            owners: HashMap::new(),
            owned: BTreeMap::new(),
            calls: HashMap::new(),
            line: VecDeque::new(),
            dying: BTreeSet::new(),
            memory,
            makes: Backoff::default(),
            deaths: Backoff::default(),
            failures: Failures::default(),
            totals: Totals::default(),
            closed: None,
            due_ms: u64::MAX,
            actions: Vec::new(),
        }
    }

    /// What to do when this happens at this time (milliseconds, of one monotonic clock).
    pub fn on(&mut self, now_ms: u64, event: Event) -> Vec<Action> {
        self.now_ms = self.now_ms.max(now_ms);
        // What is over at this time is over before the event: a call that comes too late finds its session ended.
        self.expire();
        match event {
            Event::Acquire { identifier, call } => self.acquire(identifier, call),
            Event::Leave { call } => self.leave(call),
            Event::Created { session } => self.created(session),
            Event::CreateFailed { session, reason } => self.create_failed(session, reason),
            Event::CheckFailed { session } => self.ended(session, EndReason::CheckFailed),
            Event::SessionEnded { session, reason } => self.ended(session, reason),
            Event::Destroyed { session } => {
                self.dying.remove(&session);
            }
            Event::Stop { identifier } => self.stop(&identifier),
            Event::Update { spec } => self.update(*spec),
            Event::Tick => {}
            Event::Close { reason } => self.close(reason),
        }
        self.settle();
        std::mem::take(&mut self.actions)
    }

    /// When [`Event::Tick`] is due if nothing else happens before.
    pub fn next_tick_ms(&self) -> Option<u64> {
        if self.closed.is_some() {
            return None;
        }
        let retry_ms = self.blocked_until_ms().filter(|_| self.missing() > 0).unwrap_or(u64::MAX);
        Some(self.due_ms.min(retry_ms)).filter(|&due_ms| due_ms != u64::MAX)
    }

    /// The session that a call of this identifier would get at once, for a check before it does.
    pub fn candidate(&self, identifier: &Identifier) -> Option<SessionId> {
        match self.owners.get(identifier) {
            Some(Owner { place: Place::Idle { tenure, .. }, .. }) => Some(tenure.session),
            Some(_) => None,
            None => self.ready.front().map(|ready| ready.session),
        }
    }

    /// Whether the identifier has a session, or stands in line for one.
    pub fn knows(&self, identifier: &Identifier) -> bool {
        self.owners.contains_key(identifier)
    }

    /// Whether the pool is closed and nothing is left of it.
    pub fn is_finished(&self) -> bool {
        self.closed.is_some() && self.creating.is_empty() && self.dying.is_empty()
    }

    /// The specification in force.
    pub fn spec(&self) -> &PoolSpec {
        &self.spec
    }

    fn created(&mut self, session: SessionId) {
        let Some(creating) = self.creating.remove(&session) else { return };
        self.totals.created += 1;
        self.makes.reset();
        if let Some(reason) = self.closed {
            self.destroy(session, reason, None);
        } else if creating.generation != self.generation {
            self.destroy(session, EndReason::Outdated, None);
        } else {
            self.ready.push_back(Ready { session, since_ms: self.now_ms });
        }
    }

    fn create_failed(&mut self, session: SessionId, reason: String) {
        let Some(creating) = self.creating.remove(&session) else { return };
        // What was given up on purpose says nothing about the next.
        if self.closed.is_some() || creating.generation != self.generation {
            return;
        }
        self.totals.create_failed += 1;
        self.failures.push(self.now_ms, FailureKind::Create, reason);
        self.makes.failed(creating.since_ms, self.now_ms);
    }

    /// A session ended without us.
    fn ended(&mut self, session: SessionId, reason: EndReason) {
        let kind = if reason == EndReason::CheckFailed { FailureKind::Check } else { FailureKind::Ended };
        if let Some(index) = self.ready.iter().position(|ready| ready.session == session) {
            let since_ms = self.ready.remove(index).map_or(0, |ready| ready.since_ms);
            self.failures.push(self.now_ms, kind, format!("a ready session ended: {reason}"));
            if self.now_ms - since_ms < EARLY_DEATH_MS {
                self.deaths.forget_old(self.now_ms);
                self.deaths.failed(since_ms, self.now_ms);
            }
            self.destroy(session, reason, None);
        } else if let Some(identifier) = self.owned.get(&session).cloned() {
            // What a program does to its own session is no failure of the pool.
            if reason.blame() == greenroom_core::Blame::Backend {
                self.failures.push(self.now_ms, kind, format!("a session in use ended: {reason}"));
            }
            self.end(&identifier, reason);
        }
    }

    fn stop(&mut self, identifier: &Identifier) {
        match self.owners.get(identifier) {
            Some(Owner { place: Place::InLine { .. }, .. }) => {
                self.leave_line(identifier, &Denied::SessionEnded { reason: EndReason::Stopped });
            }
            Some(_) => self.end(identifier, EndReason::Stopped),
            None => {}
        }
    }

    fn update(&mut self, spec: PoolSpec) {
        if !spec.makes_the_same_sessions_as(&self.spec) {
            self.generation += 1;
            for ready in std::mem::take(&mut self.ready) {
                self.destroy(ready.session, EndReason::Outdated, None);
            }
            self.abandon();
        }
        self.spec = spec;
        // The change may be the cure.
        self.makes.reset();
        self.deaths.reset();
        // A shorter cooldown holds for those that are idle already.
        self.due_ms = 0;
        self.expire();
    }

    fn close(&mut self, reason: EndReason) {
        if self.closed.is_some() {
            return;
        }
        self.closed = Some(reason);
        while let Some(identifier) = self.line.front().cloned() {
            self.leave_line(&identifier, &Denied::Closed { reason });
        }
        for identifier in self.owned.values().cloned().collect::<Vec<_>>() {
            self.end(&identifier, reason);
        }
        for ready in std::mem::take(&mut self.ready) {
            self.destroy(ready.session, reason, None);
        }
        self.abandon();
    }

    fn abandon(&mut self) {
        let sessions = self.creating.keys().map(|&session| Action::Abandon { session });
        self.actions.extend(sessions);
    }

    /// Ends the session of an identifier. Calls that wait for it wanted its state, so they do not get another one.
    fn end(&mut self, identifier: &Identifier, reason: EndReason) {
        let Some(owner) = self.owners.remove(identifier) else { return };
        let Some(tenure) = owner.place.tenure() else { return };
        self.owned.remove(&tenure.session);
        if let Place::Busy { call, .. } = owner.place {
            self.calls.remove(&call);
        }
        // Those who wait are told by their denial; where nobody waits, the next one is.
        if owner.waiting.is_empty() && reason.is_told() {
            self.memory.put(identifier.digest(), Ended { reason, at_ms: self.now_ms });
        }
        let why = if self.closed.is_some() { Denied::Closed { reason } } else { Denied::SessionEnded { reason } };
        for call in owner.waiting {
            self.deny(call, why.clone());
        }
        self.destroy(tenure.session, reason, owner.place.life(self.now_ms));
    }

    fn destroy(&mut self, session: SessionId, reason: EndReason, life: Option<Life>) {
        self.dying.insert(session);
        *self.totals.ended.entry(reason.as_str()).or_default() += 1;
        self.actions.push(Action::Destroy { session, reason, life });
    }

    fn deny(&mut self, call: CallId, why: Denied) {
        self.calls.remove(&call);
        match why {
            Denied::Full { .. } => self.totals.denied_full += 1,
            _ => self.totals.denied_otherwise += 1,
        }
        self.actions.push(Action::Deny { call, why });
    }

    /// When the session in this place ends, if nobody uses it.
    fn due_of(&self, place: &Place) -> Option<u64> {
        match (self.spec.lifecycle, place) {
            (Lifecycle::Timed { cooldown_s }, Place::Idle { since_ms, .. }) => Some(since_ms + u64::from(cooldown_s) * 1000),
            (Lifecycle::Timed { .. }, _) => None,
            (Lifecycle::OnContainerExit { max_alive_s }, place) => {
                place.tenure().map(|tenure| tenure.since_ms + u64::from(max_alive_s) * 1000)
            }
        }
    }
}

#[cfg(test)]
mod tests;
