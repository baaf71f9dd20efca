//! Random sequences of events, and the invariants of `decide.rs` after every step, from what an onlooker sees.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use proptest::prelude::*;

use super::super::*;
use crate::{Lifecycle, Network};

#[derive(Clone, Debug)]
enum Step {
    Acquire(u8),
    Leave(u16),
    Made(u16),
    NotMade(u16),
    Gone(u16),
    Dies(u16),
    FailsCheck(u16),
    Stop(u8),
    Update { max: u32, ready: u32, lifecycle: Option<Lifecycle>, network: Option<Network> },
    Later(u32),
    Tick,
}

fn step() -> impl Strategy<Value = Step> {
    let lifecycle = prop_oneof![
        (1u32..60).prop_map(|cooldown_s| Lifecycle::Timed { cooldown_s }),
        (1u32..120).prop_map(|max_alive_s| Lifecycle::OnContainerExit { max_alive_s }),
    ];
    let network = prop_oneof![Just(Network::Enabled), Just(Network::Disabled)];
    let update = (1u32..7, 0u32..7, proptest::option::of(lifecycle), proptest::option::weighted(0.2, network));
    prop_oneof![
        8 => (0u8..8).prop_map(Step::Acquire),
        6 => any::<u16>().prop_map(Step::Leave),
        6 => any::<u16>().prop_map(Step::Made),
        2 => any::<u16>().prop_map(Step::NotMade),
        4 => any::<u16>().prop_map(Step::Gone),
        1 => any::<u16>().prop_map(Step::Dies),
        1 => any::<u16>().prop_map(Step::FailsCheck),
        1 => (0u8..8).prop_map(Step::Stop),
        1 => update.prop_map(|(max, ready, lifecycle, network)| Step::Update { max, ready: ready.min(max), lifecycle, network }),
        4 => (1u32..40_000).prop_map(Step::Later),
        2 => Just(Step::Tick),
    ]
}

/// What an onlooker knows of the pool: nothing but the events and the actions.
struct World {
    decide: Decide,
    now_ms: u64,
    spec: PoolSpec,
    creating: BTreeSet<SessionId>,
    alive: BTreeSet<SessionId>,
    dying: BTreeSet<SessionId>,
    ever_made: BTreeSet<SessionId>,
    ever_destroyed: BTreeSet<SessionId>,
    /// Never forgotten: a session has one identifier in its life.
    owner: BTreeMap<SessionId, Identifier>,
    holder: BTreeMap<SessionId, CallId>,
    /// Calls that are not answered, by identifier, in the order of their coming.
    waiting: HashMap<Identifier, VecDeque<CallId>>,
    in_line_since_ms: HashMap<Identifier, u64>,
    answered: BTreeSet<CallId>,
    given_up: BTreeSet<CallId>,
    calls: u64,
}

fn id(n: u8) -> Identifier {
    Identifier::new(&format!("id-{n}")).unwrap()
}

fn pick<T: Copy>(from: impl ExactSizeIterator<Item = T>, index: u16) -> Option<T> {
    let count = from.len();
    let mut from = from;
    if count == 0 { None } else { from.nth(usize::from(index) % count) }
}

impl World {
    fn new() -> Self {
        let spec = PoolSpec {
            max_sessions: 4,
            ready_sessions: 2,
            lifecycle: Lifecycle::Timed { cooldown_s: 30 },
            ..PoolSpec::new("test")
        };
        Self {
            decide: Decide::new(spec.clone(), []),
            now_ms: 0,
            spec,
            creating: BTreeSet::new(),
            alive: BTreeSet::new(),
            dying: BTreeSet::new(),
            ever_made: BTreeSet::new(),
            ever_destroyed: BTreeSet::new(),
            owner: BTreeMap::new(),
            holder: BTreeMap::new(),
            waiting: HashMap::new(),
            in_line_since_ms: HashMap::new(),
            answered: BTreeSet::new(),
            given_up: BTreeSet::new(),
            calls: 0,
        }
    }

    fn session_of(&self, identifier: &Identifier) -> Option<SessionId> {
        self.alive.iter().copied().find(|session| self.owner.get(session) == Some(identifier))
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Acquire(n) => {
                self.calls += 1;
                let (call, identifier) = (CallId(self.calls), id(*n));
                self.waiting.entry(identifier.clone()).or_default().push_back(call);
                if self.session_of(&identifier).is_none() {
                    self.in_line_since_ms.entry(identifier.clone()).or_insert(self.now_ms);
                }
                self.on(Event::Acquire { identifier, call });
            }
            Step::Leave(index) => {
                let known: Vec<CallId> = self.holder.values().copied().chain(self.waiting.values().flatten().copied()).collect();
                let mut known = known;
                known.sort();
                if let Some(call) = pick(known.into_iter(), *index) {
                    self.holder.retain(|_, holder| *holder != call);
                    if self.waiting.values().any(|calls| calls.contains(&call)) {
                        self.given_up.insert(call);
                    }
                    self.waiting.values_mut().for_each(|calls| calls.retain(|&waiting| waiting != call));
                    self.forget_empty_lines();
                    self.on(Event::Leave { call });
                }
            }
            Step::Made(index) => {
                if let Some(session) = pick(self.creating.iter().copied(), *index) {
                    self.creating.remove(&session);
                    self.alive.insert(session);
                    self.ever_made.insert(session);
                    self.on(Event::Created { session });
                }
            }
            Step::NotMade(index) => {
                if let Some(session) = pick(self.creating.iter().copied(), *index) {
                    self.creating.remove(&session);
                    self.on(Event::CreateFailed { session, reason: "bad luck".into() });
                }
            }
            Step::Gone(index) => {
                if let Some(session) = pick(self.dying.iter().copied(), *index) {
                    self.dying.remove(&session);
                    self.on(Event::Destroyed { session });
                }
            }
            Step::Dies(index) => {
                if let Some(session) = pick(self.alive.iter().copied(), *index) {
                    self.on(Event::SessionEnded { session, reason: EndReason::OutOfMemory });
                    assert!(!self.alive.contains(&session), "a session that ended is destroyed");
                }
            }
            Step::FailsCheck(index) => {
                if let Some(session) = pick(self.alive.iter().copied(), *index) {
                    self.on(Event::CheckFailed { session });
                    assert!(!self.alive.contains(&session), "a session that fails its check is destroyed");
                }
            }
            Step::Stop(n) => {
                self.on(Event::Stop { identifier: id(*n) });
                assert!(self.session_of(&id(*n)).is_none() && !self.decide.knows(&id(*n)));
            }
            Step::Update { max, ready, lifecycle, network } => {
                // What is due anyway is ended first.
                self.on(Event::Tick);
                let before = self.spec.lifecycle;
                (self.spec.max_sessions, self.spec.ready_sessions) = (*max, *ready);
                self.spec.lifecycle = lifecycle.unwrap_or(before);
                self.spec.network = network.unwrap_or(self.spec.network);
                let owned: Vec<SessionId> = self.alive.iter().copied().filter(|session| self.owner.contains_key(session)).collect();
                self.on(Event::Update { spec: Box::new(self.spec.clone()) });
                if self.spec.lifecycle == before {
                    let kept = owned.iter().all(|session| self.alive.contains(session));
                    assert!(kept, "an update of the numbers ends no session that has an owner");
                }
            }
            Step::Later(ms) => {
                self.now_ms += u64::from(*ms);
                self.on(Event::Tick);
            }
            Step::Tick => {
                if let Some(due_ms) = self.decide.next_tick_ms() {
                    assert!(due_ms > self.now_ms, "a tick due at once, again and again, is a spin");
                    self.now_ms = due_ms;
                    self.on(Event::Tick);
                }
            }
        }
    }

    fn forget_empty_lines(&mut self) {
        let waiting = &self.waiting;
        self.in_line_since_ms.retain(|identifier, _| waiting.get(identifier).is_some_and(|calls| !calls.is_empty()));
    }

    fn on(&mut self, event: Event) {
        let actions = self.decide.on(self.now_ms, event);
        let makes = actions.iter().any(|action| matches!(action, Action::Create { .. }));
        for action in actions {
            self.look_at(action);
        }
        if makes && self.decide.makes.is_failing() {
            assert_eq!(self.creating.len(), 1, "after a failure there is one attempt at a time");
        }
        self.check();
    }

    fn look_at(&mut self, action: Action) {
        match action {
            Action::Create { session } => {
                assert!(self.creating.insert(session) && !self.ever_made.contains(&session), "ids are not used twice");
                let exist = self.creating.len() + self.alive.len() + self.dying.len();
                assert!(exist <= self.spec.max_sessions as usize, "{exist} sessions above {}", self.spec.max_sessions);
            }
            Action::Abandon { session } => assert!(self.creating.contains(&session)),
            Action::Grant { call, session, allocation, .. } => {
                assert!(self.alive.contains(&session), "only what lives is granted");
                let identifier =
                    self.waiting.iter().find(|(_, calls)| calls.contains(&call)).map(|(identifier, _)| identifier.clone());
                let identifier = identifier.expect("only a call that waits is granted");
                let calls = self.waiting.get_mut(&identifier).unwrap();
                assert_eq!(calls.pop_front(), Some(call), "calls of one identifier are granted in order");
                assert_eq!(self.session_of(&identifier).is_some(), allocation == Allocation::Existing);
                if let Some(existing) = self.session_of(&identifier) {
                    assert_eq!(existing, session, "an identifier has one session");
                }
                let owner = self.owner.entry(session).or_insert_with(|| identifier.clone());
                assert_eq!(*owner, identifier, "a session has one identifier");
                assert_eq!(self.holder.insert(session, call), None, "one call at a time");
                assert!(self.answered.insert(call), "answered once");
                self.in_line_since_ms.remove(&identifier);
            }
            Action::Deny { call, .. } => {
                assert!(self.answered.insert(call), "answered once");
                let before: usize = self.waiting.values().map(VecDeque::len).sum();
                self.waiting.values_mut().for_each(|calls| calls.retain(|&waiting| waiting != call));
                assert_eq!(before - 1, self.waiting.values().map(VecDeque::len).sum::<usize>(), "only a call that waits is denied");
                self.forget_empty_lines();
            }
            Action::Destroy { session, life, .. } => {
                assert!(self.alive.remove(&session), "only what lives is destroyed");
                assert!(self.ever_destroyed.insert(session), "destroyed once");
                assert_eq!(life.is_some(), self.owner.contains_key(&session));
                self.holder.remove(&session);
                self.dying.insert(session);
            }
        }
    }

    fn check(&self) {
        let snapshot = self.decide.snapshot();
        let owned = self.alive.iter().filter(|session| self.owner.contains_key(session)).count();
        let in_line = self.in_line_since_ms.len();
        assert_eq!(snapshot.ready, self.alive.len() - owned);
        assert_eq!(snapshot.starting, self.creating.len());
        assert_eq!(snapshot.busy, self.holder.len());
        assert_eq!(snapshot.cooling, owned - self.holder.len());
        assert_eq!(snapshot.stopping, self.dying.len());
        assert_eq!(snapshot.in_line, in_line);
        assert_eq!(snapshot.waiting_calls, self.waiting.values().map(VecDeque::len).sum::<usize>());
        if self.decide.closed.is_none() {
            let room = (self.spec.max_sessions as usize).saturating_sub(owned + in_line);
            assert!(snapshot.ready <= room.min(self.spec.ready_sessions as usize), "no more are ready than should be");
        }
        for calls in self.waiting.values() {
            // In line, all of an identifier's calls wait; else one of them holds.
            assert!(calls.len() <= WAITING_PER_IDENTIFIER);
        }
        for since_ms in self.in_line_since_ms.values() {
            assert!(self.now_ms < since_ms + LONGEST_WAIT_MS, "nobody waits in line for ever");
        }
        for (identifier, calls) in &self.waiting {
            let held = self.session_of(identifier).is_some_and(|session| self.holder.contains_key(&session));
            let in_line = self.in_line_since_ms.contains_key(identifier);
            assert!(calls.is_empty() || held || in_line, "who waits, waits for something");
        }
    }

    /// Everything works from now on, and nobody asks for more.
    fn come_to_rest(&mut self) {
        for _ in 0..1000 {
            if let Some(&session) = self.creating.first() {
                self.creating.remove(&session);
                self.alive.insert(session);
                self.ever_made.insert(session);
                self.on(Event::Created { session });
            } else if let Some(&session) = self.dying.first() {
                self.dying.remove(&session);
                self.on(Event::Destroyed { session });
            } else if self.decide.missing() > 0 && self.decide.closed.is_none() {
                self.now_ms = self.decide.next_tick_ms().expect("sessions are missing, so something is due");
                self.on(Event::Tick);
            } else {
                return;
            }
        }
        panic!("it does not come to rest");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_invariants_hold_over_any_sequence(steps in proptest::collection::vec(step(), 1..200)) {
        let mut world = World::new();
        world.on(Event::Tick);
        for step in &steps {
            world.step(step);
        }
        world.come_to_rest();
        let owned = world.alive.iter().filter(|session| world.owner.contains_key(session)).count();
        let room = (world.spec.max_sessions as usize).saturating_sub(owned);
        let snapshot = world.decide.snapshot();
        prop_assert_eq!(snapshot.in_line, 0, "the line is served");
        prop_assert_eq!(snapshot.ready, room.min(world.spec.ready_sessions as usize), "ready converges");

        world.on(Event::Close { reason: EndReason::Shutdown });
        world.come_to_rest();
        prop_assert!(world.decide.is_finished());
        prop_assert_eq!(&world.ever_made, &world.ever_destroyed, "nothing leaks");
        prop_assert!(world.waiting.values().all(VecDeque::is_empty), "every call is answered");
        prop_assert_eq!(world.answered.len() + world.given_up.len(), usize::try_from(world.calls).unwrap(), "every call is answered once, or gave up");
    }
}
