use super::*;
use crate::{Lifecycle, Network};

mod model;

/// A pool with a clock, whose answers are read one event at a time.
struct Pool {
    decide: Decide,
    now_ms: u64,
    calls: u64,
}

fn id(name: &str) -> Identifier {
    Identifier::new(name).unwrap()
}

fn spec(max: u32, ready: u32) -> PoolSpec {
    PoolSpec { max_sessions: max, ready_sessions: ready, ..PoolSpec::new("test") }
}

impl Pool {
    fn new(max: u32, ready: u32) -> Self {
        Self { decide: Decide::new(spec(max, ready), []), now_ms: 0, calls: 0 }
    }

    /// A pool whose ready sessions are there.
    fn warmed(max: u32, ready: u32) -> Self {
        let mut pool = Self::new(max, ready);
        let actions = pool.on(Event::Tick);
        pool.make(&actions);
        pool
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.decide.on(self.now_ms, event)
    }

    /// Everything that is asked for is made at once.
    fn make(&mut self, actions: &[Action]) -> Vec<Action> {
        let mut all = Vec::new();
        for action in actions {
            if let Action::Create { session } = action {
                all.extend(self.on(Event::Created { session: *session }));
            }
        }
        all
    }

    fn acquire(&mut self, name: &str) -> (CallId, Vec<Action>) {
        self.calls += 1;
        let call = CallId(self.calls);
        (call, self.on(Event::Acquire { identifier: id(name), call }))
    }

    fn after(&mut self, ms: u64) -> Vec<Action> {
        self.now_ms += ms;
        self.on(Event::Tick)
    }

    fn update(&mut self, change: impl FnOnce(&mut PoolSpec)) -> Vec<Action> {
        let mut spec = self.decide.spec().clone();
        change(&mut spec);
        self.on(Event::Update { spec: Box::new(spec) })
    }
}

fn granted(actions: &[Action]) -> Vec<(CallId, SessionId, Allocation)> {
    let grants = actions.iter().filter_map(|action| match *action {
        Action::Grant { call, session, allocation, .. } => Some((call, session, allocation)),
        _ => None,
    });
    grants.collect()
}

fn created(actions: &[Action]) -> Vec<SessionId> {
    let made = actions.iter().filter_map(|action| match *action {
        Action::Create { session } => Some(session),
        _ => None,
    });
    made.collect()
}

fn destroyed(actions: &[Action]) -> Vec<(SessionId, EndReason)> {
    let gone = actions.iter().filter_map(|action| match *action {
        Action::Destroy { session, reason, .. } => Some((session, reason)),
        _ => None,
    });
    gone.collect()
}

fn denied(actions: &[Action]) -> Vec<(CallId, Denied)> {
    let refused = actions.iter().filter_map(|action| match action {
        Action::Deny { call, why } => Some((*call, why.clone())),
        _ => None,
    });
    refused.collect()
}

fn told(actions: &[Action]) -> Option<EndReason> {
    actions.iter().find_map(|action| match action {
        Action::Grant { ended_before, .. } => ended_before.map(|ended| ended.reason),
        _ => None,
    })
}

#[test]
fn the_same_identifier_reaches_its_session_and_another_one_does_not() {
    let mut pool = Pool::warmed(4, 2);
    let (first, actions) = pool.acquire("a");
    let [(_, session, Allocation::Warm)] = granted(&actions)[..] else { panic!("{actions:?}") };
    pool.on(Event::Leave { call: first });
    let (again, actions) = pool.acquire("a");
    assert_eq!(granted(&actions), [(again, session, Allocation::Existing)]);
    let (_, actions) = pool.acquire("b");
    assert_ne!(granted(&actions)[0].1, session);
}

#[test]
fn a_session_taken_from_the_ready_ones_is_made_anew() {
    let mut pool = Pool::warmed(4, 2);
    let (_, actions) = pool.acquire("a");
    assert_eq!(created(&actions).len(), 1);
    assert_eq!((pool.decide.snapshot().ready, pool.decide.snapshot().starting), (1, 1));
}

#[test]
fn starting_sessions_count_as_ready_ones_to_be() {
    let mut pool = Pool::new(10, 3);
    assert_eq!(created(&pool.on(Event::Tick)).len(), 3);
    for _ in 0..10 {
        assert_eq!(created(&pool.after(1)), []);
    }
}

#[test]
fn starting_sessions_count_in_the_maximum() {
    let mut pool = Pool::new(2, 2);
    assert_eq!(created(&pool.on(Event::Tick)).len(), 2);
    // Both wait for what is being made already.
    let (_, first) = pool.acquire("a");
    let (_, second) = pool.acquire("b");
    assert_eq!((created(&first), created(&second)), (vec![], vec![]));
}

#[test]
fn none_ready_makes_one_and_the_call_waits_for_it() {
    let mut pool = Pool::new(2, 0);
    let (call, actions) = pool.acquire("a");
    let [session] = created(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!(granted(&pool.on(Event::Created { session })), [(call, session, Allocation::Cold)]);
}

#[test]
fn whoever_is_first_in_line_takes_the_session_that_is_made_first() {
    let mut pool = Pool::new(2, 0);
    let (first, a) = pool.acquire("a");
    let (second, b) = pool.acquire("b");
    let late = created(&b)[0];
    assert_eq!(granted(&pool.on(Event::Created { session: late })), [(first, late, Allocation::Cold)]);
    let early = created(&a)[0];
    assert_eq!(granted(&pool.on(Event::Created { session: early })), [(second, early, Allocation::Cold)]);
}

#[test]
fn a_full_pool_says_so_and_when_to_come_back() {
    let mut pool = Pool::warmed(1, 1);
    let (call, _) = pool.acquire("a");
    let (other, actions) = pool.acquire("b");
    assert_eq!(denied(&actions), [(other, Denied::Full { active: 1, max: 1, retry_after_s: 60 })]);
    pool.on(Event::Leave { call });
    pool.after(290_500);
    let (other, actions) = pool.acquire("c");
    assert_eq!(denied(&actions), [(other, Denied::Full { active: 1, max: 1, retry_after_s: 10 })]);
}

#[test]
fn calls_of_one_identifier_wait_in_order_and_are_bounded() {
    let mut pool = Pool::warmed(2, 1);
    let (holder, _) = pool.acquire("a");
    let waiting: Vec<_> = (0..WAITING_PER_IDENTIFIER).map(|_| pool.acquire("a").0).collect();
    let (one_more, actions) = pool.acquire("a");
    let why = Denied::Busy { waiting: WAITING_PER_IDENTIFIER, retry_after_s: 1 };
    assert_eq!(denied(&actions), [(one_more, why)]);
    // The third gives up; the others get the session one after another.
    pool.on(Event::Leave { call: waiting[2] });
    let mut holder = holder;
    for next in waiting.iter().enumerate().filter(|(index, _)| *index != 2).map(|(_, call)| *call) {
        let actions = pool.on(Event::Leave { call: holder });
        assert_eq!(granted(&actions).iter().map(|grant| grant.0).collect::<Vec<_>>(), [next]);
        holder = next;
    }
}

#[test]
fn a_call_that_gives_up_leaves_the_session_it_waited_for_to_the_pool() {
    let mut pool = Pool::new(2, 0);
    let (call, actions) = pool.acquire("a");
    pool.on(Event::Leave { call });
    let session = created(&actions)[0];
    let actions = pool.on(Event::Created { session });
    assert_eq!(destroyed(&actions), [(session, EndReason::Surplus)]);
    assert!(!pool.decide.knows(&id("a")));
}

#[test]
fn the_cooldown_counts_from_the_end_of_the_last_call() {
    let mut pool = Pool::warmed(2, 1);
    let (call, _) = pool.acquire("a");
    assert_eq!(destroyed(&pool.after(1_000_000)), []);
    pool.on(Event::Leave { call });
    assert_eq!(pool.decide.next_tick_ms(), Some(1_300_000));
    assert_eq!(destroyed(&pool.after(299_999)), []);
    let (call, _) = pool.acquire("a");
    pool.on(Event::Leave { call });
    assert_eq!(destroyed(&pool.after(299_999)), []);
    assert_eq!(destroyed(&pool.after(1)).len(), 1);
}

#[test]
fn a_call_at_the_end_of_the_cooldown_is_told_and_gets_a_new_session() {
    let mut pool = Pool::warmed(3, 1);
    let (call, first) = pool.acquire("a");
    pool.make(&first);
    pool.on(Event::Leave { call });
    // No tick came in between.
    pool.now_ms += 300_000;
    let (_, actions) = pool.acquire("a");
    assert_eq!(told(&actions), Some(EndReason::Cooldown));
    assert_ne!(granted(&actions)[0].1, granted(&first)[0].1);
}

#[test]
fn on_container_exit_ends_sessions_at_their_maximum_age_only() {
    let mut pool = Pool::warmed(2, 1);
    pool.update(|spec| spec.lifecycle = Lifecycle::OnContainerExit { max_alive_s: 1000 });
    // A ready one has no age yet.
    assert_eq!(destroyed(&pool.after(5_000_000)), []);
    let (call, _) = pool.acquire("a");
    pool.on(Event::Leave { call });
    assert_eq!(destroyed(&pool.after(999_999)), []);
    let (late, _) = pool.acquire("a");
    // Also in the middle of a call.
    assert_eq!(destroyed(&pool.after(1))[0].1, EndReason::MaxAlive);
    assert_eq!(pool.on(Event::Leave { call: late }), []);
}

#[test]
fn lowering_the_maximum_ends_ready_sessions_only() {
    let mut pool = Pool::warmed(6, 2);
    for name in ["a", "b", "c"] {
        let (call, actions) = pool.acquire(name);
        pool.make(&actions);
        if name == "c" {
            pool.on(Event::Leave { call });
        }
    }
    let actions = pool.update(|spec| (spec.max_sessions, spec.ready_sessions) = (2, 1));
    assert_eq!(destroyed(&actions).iter().map(|gone| gone.1).collect::<Vec<_>>(), [EndReason::Surplus; 2]);
    let snapshot = pool.decide.snapshot();
    assert_eq!((snapshot.busy, snapshot.cooling, snapshot.ready), (2, 1, 0));
    let (other, actions) = pool.acquire("d");
    assert_eq!(denied(&actions), [(other, Denied::Full { active: 3, max: 2, retry_after_s: 60 })]);
}

#[test]
fn raising_ready_makes_sessions_at_once_and_lowering_it_ends_them() {
    let mut pool = Pool::warmed(10, 2);
    let actions = pool.update(|spec| spec.ready_sessions = 5);
    assert_eq!(created(&actions).len(), 3);
    pool.make(&actions);
    assert_eq!(destroyed(&pool.update(|spec| spec.ready_sessions = 1)).len(), 4);
}

#[test]
fn a_shorter_cooldown_holds_for_idle_sessions_too() {
    let mut pool = Pool::warmed(2, 1);
    let (call, _) = pool.acquire("a");
    pool.on(Event::Leave { call });
    pool.after(10_000);
    let actions = pool.update(|spec| spec.lifecycle = Lifecycle::Timed { cooldown_s: 5 });
    assert_eq!(destroyed(&actions).len(), 1);
}

#[test]
fn a_change_of_what_sessions_are_made_of_replaces_the_ready_ones_and_those_on_their_way() {
    let mut pool = Pool::warmed(6, 2);
    let (_, actions) = pool.acquire("a");
    let old = created(&actions)[0];
    let actions = pool.update(|spec| spec.network = Network::Enabled);
    assert_eq!(destroyed(&actions).iter().map(|gone| gone.1).collect::<Vec<_>>(), [EndReason::Outdated]);
    assert!(actions.contains(&Action::Abandon { session: old }));
    assert_eq!(created(&actions).len(), 2);
    assert_eq!(destroyed(&pool.on(Event::Created { session: old })), [(old, EndReason::Outdated)]);
    assert_eq!(pool.decide.snapshot().busy, 1);
}

#[test]
fn a_ready_session_that_fails_its_check_is_replaced_and_the_reason_kept() {
    let mut pool = Pool::warmed(4, 1);
    pool.after(60_000);
    let session = pool.decide.candidate(&id("a")).unwrap();
    let actions = pool.on(Event::CheckFailed { session });
    assert_eq!(destroyed(&actions), [(session, EndReason::CheckFailed)]);
    assert_eq!(created(&actions).len(), 1);
    let failures = pool.decide.snapshot().failures;
    assert_eq!((failures.len(), failures[0].kind), (1, FailureKind::Check));
}

#[test]
fn a_place_is_taken_until_nothing_is_left_of_the_session() {
    let mut pool = Pool::warmed(1, 1);
    let (_, actions) = pool.acquire("a");
    let session = granted(&actions)[0].1;
    pool.on(Event::Stop { identifier: id("a") });
    // Not denied: the place is about to be free.
    let (call, actions) = pool.acquire("b");
    assert_eq!(actions, []);
    let actions = pool.on(Event::Destroyed { session });
    let next = created(&actions)[0];
    assert_eq!(granted(&pool.on(Event::Created { session: next })), [(call, next, Allocation::Cold)]);
}

#[test]
fn stop_ends_a_busy_session_and_denies_those_who_wait_for_it() {
    let mut pool = Pool::warmed(2, 1);
    let (holder, _) = pool.acquire("a");
    let (waiting, _) = pool.acquire("a");
    let actions = pool.on(Event::Stop { identifier: id("a") });
    assert_eq!(denied(&actions), [(waiting, Denied::SessionEnded { reason: EndReason::Stopped })]);
    assert_eq!(destroyed(&actions).len(), 1);
    assert_eq!(pool.on(Event::Leave { call: holder }), []);
    let (_, actions) = pool.acquire("a");
    assert_eq!(told(&actions), None);
    assert!(pool.on(Event::Stop { identifier: id("nobody") }).is_empty());
}

#[test]
fn an_identifier_whose_session_ended_by_itself_is_told_once() {
    let mut pool = Pool::warmed(4, 1);
    let (_, actions) = pool.acquire("a");
    pool.make(&actions);
    let session = granted(&actions)[0].1;
    pool.on(Event::SessionEnded { session, reason: EndReason::OutOfMemory });
    let (call, actions) = pool.acquire("a");
    assert_eq!(told(&actions), Some(EndReason::OutOfMemory));
    pool.on(Event::Leave { call });
    let (_, actions) = pool.acquire("a");
    assert_eq!(told(&actions), None);
}

#[test]
fn calls_that_wait_for_a_session_that_ends_are_told_and_not_given_an_empty_one() {
    let mut pool = Pool::warmed(4, 1);
    let (_, actions) = pool.acquire("a");
    let session = granted(&actions)[0].1;
    let (waiting, _) = pool.acquire("a");
    let actions = pool.on(Event::SessionEnded { session, reason: EndReason::Exited(1) });
    assert_eq!(denied(&actions), [(waiting, Denied::SessionEnded { reason: EndReason::Exited(1) })]);
    // They have been told.
    let (_, actions) = pool.acquire("a");
    assert_eq!(told(&actions), None);
}

#[test]
fn sessions_of_the_server_before_are_told_of_too() {
    let mut decide = Decide::new(spec(2, 0), [(id("a").digest(), EndReason::Restart)]);
    let call = CallId(1);
    let session = created(&decide.on(5, Event::Acquire { identifier: id("a"), call }))[0];
    assert_eq!(told(&decide.on(6, Event::Created { session })), Some(EndReason::Restart));
}

#[test]
fn what_is_remembered_is_bounded_in_number_and_time() {
    let mut memory = Memory::default();
    let digest = |n: u64| id(&n.to_string()).digest();
    for n in 0..3 * MOST as u64 {
        memory.put(digest(n), Ended { reason: EndReason::Cooldown, at_ms: n });
        memory.put(digest(n), Ended { reason: EndReason::Lost, at_ms: n });
    }
    assert!(memory.len() <= MOST);
    let last = 3 * MOST as u64 - 1;
    assert_eq!(memory.take(digest(0), last), None);
    assert_eq!(memory.take(digest(last), last).map(|ended| ended.reason), Some(EndReason::Lost));
    assert_eq!(memory.take(digest(last - 1), last - 1 + KEPT_MS), None);
}

#[test]
fn one_failure_is_waited_out_and_a_second_is_told() {
    let mut pool = Pool::new(4, 0);
    let (call, actions) = pool.acquire("a");
    let fail = |session| Event::CreateFailed { session, reason: "no cgroup".into() };
    let actions = pool.on(fail(created(&actions)[0]));
    assert_eq!(actions, []);
    assert_eq!(pool.decide.next_tick_ms(), Some(100));
    let actions = pool.after(100);
    let actions = pool.on(fail(created(&actions)[0]));
    assert_eq!(denied(&actions), [(call, Denied::CreateFailed { reason: "no cgroup".into(), retry_after_s: 1 })]);
    // While it is known to fail, the next one is told at once.
    let (next, actions) = pool.acquire("b");
    assert_eq!(denied(&actions)[0].0, next);
    assert_eq!(pool.decide.snapshot().failures[0].reason, "no cgroup");
    assert_eq!(pool.decide.snapshot().next_attempt_in_ms, Some(200));
}

#[test]
fn failures_at_the_same_time_count_once() {
    let mut pool = Pool::new(10, 5);
    let sessions = created(&pool.on(Event::Tick));
    for session in sessions {
        pool.now_ms += 1;
        pool.on(Event::CreateFailed { session, reason: "x".into() });
    }
    assert_eq!(pool.decide.next_tick_ms(), Some(101));
    assert_eq!(pool.decide.snapshot().totals.create_failed, 5);
    // One attempt has to succeed before there are several.
    let one = created(&pool.after(100));
    assert_eq!(one.len(), 1);
    assert_eq!(created(&pool.on(Event::Created { session: one[0] })).len(), 4);
}

#[test]
fn attempts_that_fail_for_an_hour_are_few() {
    let mut pool = Pool::new(10, 5);
    let mut actions = pool.on(Event::Tick);
    let mut attempts = 0;
    while pool.now_ms < 3_600_000 {
        for session in created(&actions) {
            attempts += 1;
            assert_eq!(pool.on(Event::CreateFailed { session, reason: "x".into() }), []);
        }
        let due_ms = pool.decide.next_tick_ms().unwrap();
        assert!(due_ms > pool.now_ms, "a tick that is due at once is a spin");
        pool.now_ms = due_ms;
        actions = pool.on(Event::Tick);
    }
    // Five at first, nine while the pause doubles, then one in 30 s.
    assert!((120..=140).contains(&attempts), "{attempts}");
}

#[test]
fn sessions_that_die_as_soon_as_they_are_ready_are_made_ever_more_rarely() {
    let mut pool = Pool::new(10, 1);
    let mut actions = pool.on(Event::Tick);
    let mut made = 0;
    while pool.now_ms < 3_600_000 {
        for session in created(&actions) {
            made += 1;
            pool.now_ms += 5;
            pool.on(Event::Created { session });
            pool.now_ms += 5;
            actions = pool.on(Event::SessionEnded { session, reason: EndReason::Signalled(9) });
            actions.extend(pool.on(Event::Destroyed { session }));
        }
        pool.now_ms = pool.decide.next_tick_ms().unwrap();
        actions = pool.on(Event::Tick);
    }
    assert!((110..=140).contains(&made), "{made}");
}

#[test]
fn a_call_does_not_wait_in_line_for_ever() {
    let mut pool = Pool::new(2, 0);
    let (call, _) = pool.acquire("a");
    assert_eq!(pool.decide.next_tick_ms(), Some(LONGEST_WAIT_MS));
    let actions = pool.after(LONGEST_WAIT_MS);
    assert_eq!(denied(&actions), [(call, Denied::TooSlow { waited_s: 60, retry_after_s: 5 })]);
}

#[test]
fn closing_answers_all_and_ends_all() {
    let mut pool = Pool::warmed(3, 1);
    let (holder, actions) = pool.acquire("a");
    let on_its_way = created(&actions)[0];
    let (waiting, _) = pool.acquire("a");
    let (in_line, _) = pool.acquire("b");
    let actions = pool.on(Event::Close { reason: EndReason::Shutdown });
    let closed = Denied::Closed { reason: EndReason::Shutdown };
    assert_eq!(denied(&actions), [(in_line, closed.clone()), (waiting, closed.clone())]);
    let (late, refused) = pool.acquire("c");
    assert_eq!(denied(&refused), [(late, closed)]);
    assert!(actions.contains(&Action::Abandon { session: on_its_way }));
    for (session, _) in destroyed(&actions) {
        pool.on(Event::Destroyed { session });
    }
    assert!(!pool.decide.is_finished());
    for session in created(&actions).into_iter().chain(pool.decide.creating.keys().copied().collect::<Vec<_>>()) {
        for (session, _) in destroyed(&pool.on(Event::Created { session })) {
            pool.on(Event::Destroyed { session });
        }
    }
    assert!(pool.decide.is_finished());
    assert_eq!(pool.on(Event::Leave { call: holder }), []);
}

#[test]
fn busy_and_idle_time_add_up_to_the_sessions_life() {
    let mut pool = Pool::warmed(2, 1);
    let (call, _) = pool.acquire("a");
    pool.after(100);
    pool.on(Event::Leave { call });
    pool.after(1000);
    pool.acquire("a");
    pool.after(30);
    assert_eq!(pool.decide.tenures().map(|tenure| tenure.life).collect::<Vec<_>>(), [Life { busy_ms: 130, idle_ms: 1000 }]);
    let actions = pool.on(Event::Stop { identifier: id("a") });
    let life = actions.iter().find_map(|action| match action {
        Action::Destroy { life, .. } => *life,
        _ => None,
    });
    assert_eq!(life, Some(Life { busy_ms: 130, idle_ms: 1000 }));
}
