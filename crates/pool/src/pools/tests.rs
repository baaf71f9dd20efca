use std::time::Duration;

use tokio::time::sleep;

use super::*;
use crate::{Allocation, FailureKind, Lifecycle, LifecyclePatch, Store, UsageFilter};

mod storm;
mod world;

use world::{Fate, World, call};

fn spec(max: u32, ready: u32) -> PoolSpec {
    PoolSpec { max_sessions: max, ready_sessions: ready, ..PoolSpec::new("test") }
}

fn id(name: &str) -> Identifier {
    Identifier::new(name).unwrap()
}

async fn pools(world: &World, spec: PoolSpec) -> Pools<World> {
    let pools = Pools::open(world.clone(), Store::in_memory().unwrap()).await.unwrap();
    pools.create(spec, &Rules::OWN).await.unwrap();
    pools
}

/// Until the owner has read everything that is in its mailbox and its helpers have nothing more to do at this time.
async fn settled(pools: &Pools<World>) -> Snapshot {
    sleep(Duration::from_millis(1)).await;
    pools.snapshot("test").await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn ready_sessions_are_made_and_nobody_waits_for_them() {
    let world = World::default().creation_takes(50);
    let pools = pools(&world, spec(4, 2)).await;
    let snapshot = pools.snapshot("test").await.unwrap();
    assert_eq!((snapshot.ready, snapshot.starting), (0, 2));
    sleep(Duration::from_millis(60)).await;
    assert_eq!(settled(&pools).await.ready, 2);
    let lease = pools.acquire("test", id("a")).await.unwrap();
    assert_eq!(lease.allocation(), Allocation::Warm);
}

#[tokio::test(start_paused = true)]
async fn an_identifier_reaches_its_session_again_and_another_one_does_not() {
    let world = World::default();
    let pools = pools(&world, spec(4, 1)).await;
    let first = call(&pools, "test", "a", 5).await.unwrap();
    let other = call(&pools, "test", "b", 5).await.unwrap();
    assert_eq!(call(&pools, "test", "a", 5).await.unwrap(), first);
    assert_ne!(first, other);
}

#[tokio::test(start_paused = true)]
async fn a_cold_session_is_made_while_its_call_waits() {
    let world = World::default().creation_takes(70);
    let pools = pools(&world, spec(1, 0)).await;
    let lease = pools.acquire("test", id("a")).await.unwrap();
    assert_eq!(lease.allocation(), Allocation::Cold);
    assert_eq!(world.made(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_creation_holds_up_no_other_identifier() {
    let world = World::default();
    let pools = pools(&world, spec(4, 0)).await;
    call(&pools, "test", "a", 1).await.unwrap();
    world.next([Fate::Never]);
    let waiting = tokio::spawn({
        let pools = pools.clone();
        async move { call(&pools, "test", "b", 1).await }
    });
    sleep(Duration::from_millis(1)).await;
    let began = tokio::time::Instant::now();
    for _ in 0..20 {
        call(&pools, "test", "a", 0).await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    waiting.abort();
}

#[tokio::test(start_paused = true)]
async fn calls_of_one_identifier_have_its_session_one_after_another() {
    let world = World::default();
    let pools = pools(&world, spec(4, 1)).await;
    let began = tokio::time::Instant::now();
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let pools = pools.clone();
            tokio::spawn(async move { call(&pools, "test", "a", 10).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert!(began.elapsed() >= Duration::from_millis(80));
    let others: Vec<_> = (0..3)
        .map(|n| {
            let pools = pools.clone();
            tokio::spawn(async move { call(&pools, "test", &format!("b{n}"), 1000).await })
        })
        .collect();
    let began = tokio::time::Instant::now();
    for call in others {
        call.await.unwrap().unwrap();
    }
    assert!(began.elapsed() < Duration::from_millis(1500), "different identifiers do not wait for each other");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_caller_leaves_its_place_to_the_next() {
    let world = World::default();
    let pools = pools(&world, spec(1, 1)).await;
    let lease = pools.acquire("test", id("a")).await.unwrap();
    let (first, second) = (pools.clone(), pools.clone());
    let cancelled = tokio::spawn(async move { call(&first, "test", "a", 1).await });
    let waiting = tokio::spawn(async move { call(&second, "test", "a", 1).await });
    assert_eq!(settled(&pools).await.waiting_calls, 2);
    cancelled.abort();
    assert!(cancelled.await.unwrap_err().is_cancelled());
    assert_eq!(settled(&pools).await.waiting_calls, 1);
    drop(lease);
    waiting.await.unwrap().unwrap();
    let snapshot = settled(&pools).await;
    assert_eq!((snapshot.busy, snapshot.cooling, snapshot.waiting_calls), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_before_its_session_is_made_leaves_it_to_the_pool() {
    let world = World::default().creation_takes(50);
    let pools = pools(&world, spec(2, 0)).await;
    let timed = tokio::time::timeout(Duration::from_millis(10), pools.acquire("test", id("a"))).await;
    assert!(timed.is_err());
    sleep(Duration::from_millis(100)).await;
    let snapshot = settled(&pools).await;
    assert_eq!((snapshot.in_line, snapshot.busy, snapshot.cooling, world.existing()), (0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_full_pool_says_so_at_once_and_says_when_to_come_again() {
    let world = World::default();
    let pools = pools(&world, spec(1, 1)).await;
    let _lease = pools.acquire("test", id("a")).await.unwrap();
    let refused = pools.acquire("test", id("b")).await.unwrap_err();
    assert_eq!(refused, Refused::Denied(Denied::Full { active: 1, max: 1, retry_after_s: 60 }));
    assert_eq!((refused.retry_after_s(), refused.blame()), (Some(60), greenroom_core::Blame::Caller));
}

#[tokio::test(start_paused = true)]
async fn a_session_cools_down_is_destroyed_and_its_identifier_is_told_once() {
    let world = World::default();
    let pools = pools(&world, PoolSpec { lifecycle: Lifecycle::Timed { cooldown_s: 10 }, ..spec(1, 0) }).await;
    let first = call(&pools, "test", "a", 1).await.unwrap();
    sleep(Duration::from_secs(11)).await;
    assert!(world.alive().is_empty(), "{:?}", world.alive());
    let lease = pools.acquire("test", id("a")).await.unwrap();
    assert_ne!(lease.number, first);
    let ended = lease.ended_before().unwrap();
    assert_eq!(ended.reason, EndReason::Cooldown);
    drop(lease);
    assert!(pools.acquire("test", id("a")).await.unwrap().ended_before().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_a_cancelled_call_would_have_been_told_the_next_one_is() {
    let world = World::default();
    let pools = pools(&world, PoolSpec { lifecycle: Lifecycle::Timed { cooldown_s: 10 }, ..spec(1, 1) }).await;
    call(&pools, "test", "a", 1).await.unwrap();
    sleep(Duration::from_secs(11)).await;
    // It has its answer, and never looks.
    let mut cut_short = Box::pin(pools.acquire("test", id("a")));
    let first = std::future::poll_fn(|context| std::task::Poll::Ready(cut_short.as_mut().poll(context).is_pending())).await;
    assert!(first);
    drop(cut_short);
    let lease = pools.acquire("test", id("a")).await.unwrap();
    assert_eq!(lease.ended_before().map(|ended| ended.reason), Some(EndReason::Cooldown));
}

#[tokio::test(start_paused = true)]
async fn a_session_may_reach_its_age_in_the_middle_of_a_call_which_learns_why() {
    let world = World::default();
    let pools = pools(&world, PoolSpec { lifecycle: Lifecycle::OnContainerExit { max_alive_s: 5 }, ..spec(1, 0) }).await;
    let lease = pools.acquire("test", id("a")).await.unwrap();
    assert_eq!(lease.expires_unix_ms() - lease.created_unix_ms(), 5000);
    assert_eq!(lease.end_reason(), None);
    assert_eq!(lease.ended().await, EndReason::MaxAlive);
    assert_eq!(lease.end_reason(), Some(EndReason::MaxAlive));
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_program_ended_is_told_of_by_its_own_reason() {
    let world = World::default();
    let pools = pools(&world, spec(2, 0)).await;
    let lease = pools.acquire("test", id("a")).await.unwrap();
    // The check fails before the watcher has said anything: the reason is the watcher's all the same.
    world.kill(lease.number, EndReason::Exited(3));
    lease.is_answering.store(false, Ordering::SeqCst);
    drop(lease);
    let next = pools.acquire("test", id("a")).await.unwrap();
    assert_eq!(next.ended_before().map(|ended| ended.reason), Some(EndReason::Exited(3)));
}

#[tokio::test(start_paused = true)]
async fn a_ready_session_that_fails_its_check_is_replaced_and_the_reason_is_visible() {
    let world = World::default();
    let pools = pools(&world, spec(3, 1)).await;
    settled(&pools).await;
    // The ready one is spoiled by way of a lease: there is no other way to its Toy.
    let lease = pools.acquire("test", id("a")).await.unwrap();
    lease.is_answering.store(false, Ordering::SeqCst);
    let spoiled = lease.number;
    drop(lease);
    let next = pools.acquire("test", id("a")).await.unwrap();
    assert_ne!(next.number, spoiled);
    let snapshot = settled(&pools).await;
    assert_eq!(snapshot.failures[0].kind, FailureKind::Check);
    assert!(snapshot.failures[0].reason.contains("no longer answered"), "{:?}", snapshot.failures);
    assert!(!world.alive().contains(&spoiled));
}

#[tokio::test(start_paused = true)]
async fn a_ready_session_that_ends_is_replaced_before_it_is_given_out() {
    let world = World::default();
    let pools = pools(&world, spec(3, 1)).await;
    settled(&pools).await;
    world.kill(1, EndReason::Signalled(9));
    sleep(Duration::from_secs(1)).await;
    let lease = pools.acquire("test", id("a")).await.unwrap();
    assert_ne!(lease.number, 1);
    let failure = settled(&pools).await.failures.remove(0);
    assert_eq!((failure.kind, failure.reason.contains("signal 9")), (FailureKind::Ended, true), "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn creations_that_fail_or_panic_are_told_and_tried_again_with_pauses() {
    let world = World::default();
    world.next([Fate::Fails, Fate::Panics]);
    let pools = pools(&world, spec(2, 0)).await;
    let refused = pools.acquire("test", id("a")).await.unwrap_err();
    let Refused::Denied(Denied::CreateFailed { reason, .. }) = &refused else { panic!("{refused:?}") };
    assert!(reason.contains("panicked"), "{reason}");
    let failures = settled(&pools).await.failures;
    assert!(failures.iter().any(|failure| failure.reason == "the sandbox failed: no room on the device"), "{failures:?}");
    sleep(Duration::from_secs(31)).await;
    call(&pools, "test", "a", 1).await.unwrap();
    assert_eq!(world.existing(), 1, "what failed takes no room");
}

#[tokio::test(start_paused = true)]
async fn stop_ends_a_session_in_the_middle_of_a_call_and_answers_those_who_wait() {
    let world = World::default();
    let pools = pools(&world, spec(2, 0)).await;
    let lease = pools.acquire("test", id("a")).await.unwrap();
    let waiting = tokio::spawn({
        let pools = pools.clone();
        async move { pools.acquire("test", id("a")).await.map(|_| ()) }
    });
    settled(&pools).await;
    assert!(pools.stop("test", &id("a")).await.unwrap());
    assert_eq!(lease.ended().await, EndReason::Stopped);
    let refused = waiting.await.unwrap().unwrap_err();
    assert_eq!(refused, Refused::Denied(Denied::SessionEnded { reason: EndReason::Stopped }));
    assert!(!pools.stop("test", &id("a")).await.unwrap(), "there is nothing left to stop");
    assert!(!pools.stop("test", &id("never")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_update_drops_no_busy_session() {
    let world = World::default();
    let pools = pools(&world, spec(4, 2)).await;
    let leases = [pools.acquire("test", id("a")).await.unwrap(), pools.acquire("test", id("b")).await.unwrap()];
    let patch = PoolPatch { max_sessions: Some(1), ready_sessions: Some(0), ..PoolPatch::default() };
    let changed = pools.update("test", patch, &Rules::OWN).await.unwrap();
    assert_eq!((changed.max_sessions, changed.ready_sessions), (1, 0));
    assert_eq!(*pools.get("test").unwrap(), changed);
    let snapshot = settled(&pools).await;
    assert_eq!((snapshot.busy, snapshot.ready), (2, 0));
    assert!(leases.iter().all(|lease| lease.end_reason().is_none()));
    drop(leases);
    call(&pools, "test", "a", 1).await.unwrap();
    let refused = pools.acquire("test", id("c")).await.unwrap_err();
    assert!(matches!(refused, Refused::Denied(Denied::Full { max: 1, .. })), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn an_update_that_is_refused_changes_nothing() {
    let world = World::default();
    let pools = pools(&world, spec(4, 2)).await;
    let patch = PoolPatch { max_sessions: Some(0), ..PoolPatch::default() };
    assert!(matches!(pools.update("test", patch, &Rules::OWN).await, Err(PoolError::Spec(_))));
    let patch =
        PoolPatch { lifecycle: Some(LifecyclePatch { cooldown_s: Some(5), ..LifecyclePatch::default() }), ..PoolPatch::default() };
    assert!(pools.update("test", patch.clone(), &Rules::AZURE).await.is_err());
    assert_eq!(*pools.get("test").unwrap(), spec(4, 2));
    assert!(matches!(pools.update("other", patch, &Rules::OWN).await, Err(PoolError::NotFound { .. })));
    assert!(matches!(pools.create(spec(1, 1), &Rules::OWN).await, Err(PoolError::Exists { .. })));
    let kind = PoolSpec { kind: crate::PoolKind::Shell, ..spec(1, 1) };
    assert!(matches!(pools.put(kind, &Rules::OWN).await, Err(PoolError::Kind { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_deleted_answers_everybody_and_leaves_nothing() {
    let world = World::default().destruction_takes(20);
    let pools = pools(&world, spec(3, 1)).await;
    let lease = pools.acquire("test", id("a")).await.unwrap();
    let waiting = tokio::spawn({
        let pools = pools.clone();
        async move { pools.acquire("test", id("a")).await.map(|_| ()) }
    });
    settled(&pools).await;
    pools.delete("test").await.unwrap();
    assert!(world.alive().is_empty());
    assert_eq!(lease.end_reason(), Some(EndReason::PoolDeleted));
    let refused = waiting.await.unwrap().unwrap_err();
    assert_eq!(refused, Refused::Denied(Denied::Closed { reason: EndReason::PoolDeleted }));
    assert_eq!(pools.acquire("test", id("a")).await.unwrap_err(), Refused::NoSuchPool { name: "test".to_owned() });
    assert!(matches!(pools.delete("test").await, Err(PoolError::NotFound { .. })));
    // The name is free again.
    pools.create(spec(1, 0), &Rules::OWN).await.unwrap();
    call(&pools, "test", "a", 1).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_gives_up_what_is_being_made_ends_everything_and_takes_nothing_more() {
    let world = World::default().destruction_takes(20);
    let pools = pools(&world, spec(5, 1)).await;
    settled(&pools).await;
    world.next([Fate::Never; 8]);
    let lease = pools.acquire("test", id("a")).await.unwrap();
    settled(&pools).await;
    pools.shutdown().await;
    assert_eq!((world.alive(), world.destroyed(), world.made()), (vec![], 1, 1));
    assert_eq!(lease.end_reason(), Some(EndReason::Shutdown));
    drop(lease);
    assert_eq!(world.existing(), 0);
    let refused = pools.acquire("test", id("b")).await.unwrap_err();
    assert_eq!(refused, Refused::Denied(Denied::Closed { reason: EndReason::Shutdown }));
    assert!(matches!(pools.create(PoolSpec::new("late"), &Rules::OWN).await, Err(PoolError::Closed)));
    pools.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn pools_that_are_dropped_end_their_sessions() {
    let world = World::default();
    let pools = pools(&world, spec(3, 2)).await;
    let lease = pools.acquire("test", id("a")).await.unwrap();
    settled(&pools).await;
    drop(pools);
    sleep(Duration::from_secs(1)).await;
    assert!(world.alive().is_empty(), "{:?}", world.alive());
    assert_eq!(lease.end_reason(), Some(EndReason::Shutdown));
}

#[tokio::test(start_paused = true)]
async fn a_view_says_whose_a_session_is_what_it_does_and_until_when() {
    let world = World::default();
    let pools = pools(&world, PoolSpec { lifecycle: Lifecycle::Timed { cooldown_s: 100 }, ..spec(3, 0) }).await;
    let began = crate::store::unix_ms();
    call(&pools, "test", "a", 2000).await.unwrap();
    let _lease = pools.acquire("test", id("b")).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    let views = pools.sessions("test").await.unwrap();
    let [a, b] = &views[..] else { panic!("{views:?}") };
    assert_eq!(
        (a.identifier.as_str(), a.state, b.identifier.as_str(), b.state),
        ("a", SessionState::Idle, "b", SessionState::Busy)
    );
    assert!((a.created_unix_ms..a.created_unix_ms + 100).contains(&began) || a.created_unix_ms >= began);
    assert_eq!((a.last_accessed_unix_ms - a.created_unix_ms, a.busy_ms), (2000, 2000));
    assert_eq!(a.expires_unix_ms - a.last_accessed_unix_ms, 100_000);
    assert!((5000..5100).contains(&b.busy_ms), "{b:?}");
    assert_eq!(pools.session("test", &id("a")).await.unwrap().as_ref(), Some(a));
    assert_eq!(pools.session("test", &id("c")).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn what_a_session_used_is_stored_when_it_is_over() {
    let world = World::default();
    let pools = pools(&world, spec(3, 1)).await;
    settled(&pools).await;
    for _ in 0..3 {
        call(&pools, "test", "a", 100).await.unwrap();
        sleep(Duration::from_millis(50)).await;
    }
    pools.stop("test", &id("a")).await.unwrap();
    pools.shutdown().await;
    let sums = pools.store().usage_sums(UsageFilter::of_pool("test")).await.unwrap();
    let [sum] = &sums[..] else { panic!("{sums:?}") };
    assert_eq!((sum.sessions, sum.alive, sum.warm, sum.cold, sum.executions, sum.cpu_us), (1, 0, 1, 0, 3, 3000));
    assert_eq!(sum.ended.get("stopped"), Some(&1));
    assert!((300..310).contains(&sum.busy_ms) && (100..200).contains(&sum.idle_ms), "{sum:?}");
    assert_eq!(sum.allocated_ms, sum.busy_ms + sum.idle_ms);
}

#[tokio::test(start_paused = true)]
async fn pools_and_what_is_to_be_told_survive_a_restart_and_sessions_do_not() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::default();
    {
        let pools = Pools::open(world.clone(), Store::open(directory.path()).unwrap()).await.unwrap();
        pools.create(spec(3, 0), &Rules::OWN).await.unwrap();
        for name in ["left", "stopped"] {
            call(&pools, "test", name, 1).await.unwrap();
        }
        pools.stop("test", &id("stopped")).await.unwrap();
        pools.shutdown().await;
    }
    let pools = Pools::open(world.clone(), Store::open(directory.path()).unwrap()).await.unwrap();
    assert_eq!(*pools.get("test").unwrap(), spec(3, 0));
    let lease = pools.acquire("test", id("left")).await.unwrap();
    assert_eq!(lease.ended_before().unwrap().to_string(), "session ended: the server shut down");
    assert!(pools.acquire("test", id("stopped")).await.unwrap().ended_before().is_none(), "who asked for it is not told");
    assert!(pools.acquire("test", id("new")).await.unwrap().ended_before().is_none());
}

#[tokio::test(start_paused = true)]
async fn how_long_a_session_was_used_is_known_after_a_kill_but_for_the_last_seconds() {
    let world = World::default();
    let pools = pools(&world, spec(3, 0)).await;
    for _ in 0..30 {
        call(&pools, "test", "a", 500).await.unwrap();
        sleep(Duration::from_millis(500)).await;
    }
    let sums = pools.store().usage_sums(UsageFilter::of_pool("test")).await.unwrap();
    let [sum] = &sums[..] else { panic!("{sums:?}") };
    assert_eq!((sum.sessions, sum.alive), (1, 1));
    assert!((20_000..=30_000).contains(&sum.allocated_ms), "{sum:?}");
}
