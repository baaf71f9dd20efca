use proptest::prelude::*;

use super::*;

/// What a caller does.
#[derive(Clone, Debug)]
struct Caller {
    name: u8,
    begins_ms: u64,
    stays_ms: u64,
    /// Cancelled after so long, wherever it is by then.
    cancelled_ms: Option<u64>,
}

/// What happens besides.
#[derive(Clone, Debug)]
enum Turn {
    Stop(u8),
    Kill(u64),
    Resize { max: u32, ready: u32 },
    Remake(u64),
    FailNext(u8),
}

fn caller() -> impl Strategy<Value = Caller> {
    (0..6_u8, 0..3000_u64, 0..400_u64, proptest::option::weighted(0.4, 0..300_u64))
        .prop_map(|(name, begins_ms, stays_ms, cancelled_ms)| Caller { name, begins_ms, stays_ms, cancelled_ms })
}

fn turn() -> impl Strategy<Value = (u64, Turn)> {
    let turn = prop_oneof![
        (0..6_u8).prop_map(Turn::Stop),
        (1..30_u64).prop_map(Turn::Kill),
        (1..5_u32, 0..3_u32).prop_map(|(max, ready)| Turn::Resize { max, ready: ready.min(max) }),
        (64..80_u64).prop_map(Turn::Remake),
        (0..3_u8).prop_map(Turn::FailNext),
    ];
    (0..3000_u64, turn)
}

/// The most that may exist at any time of the storm: lowering the maximum drops nobody.
const LARGEST: u32 = 4;

/// Nobody waits for ever: the longest wait in line is a minute. The paused clock runs on while the store's thread is at work, so
/// one time that is up proves nothing.
async fn answered(pools: &Pools<World>, mut task: tokio::task::JoinHandle<()>) {
    for _ in 0..10 {
        if let Ok(done) = tokio::time::timeout(Duration::from_secs(600), &mut task).await {
            return done.unwrap();
        }
        pools.store().flush().await.unwrap();
    }
    panic!("a caller was forgotten");
}

async fn storm(callers: Vec<Caller>, turns: Vec<(u64, Turn)>, create_ms: u64, destroy_ms: u64) {
    let world = World::default().creation_takes(create_ms).destruction_takes(destroy_ms);
    let pools = pools(&world, PoolSpec { lifecycle: Lifecycle::Timed { cooldown_s: 1 }, ..spec(LARGEST, 2) }).await;
    let mut tasks = Vec::new();
    for caller in callers {
        let pools = pools.clone();
        tasks.push(tokio::spawn(async move {
            sleep(Duration::from_millis(caller.begins_ms)).await;
            let name = format!("caller-{}", caller.name);
            let outcome = call(&pools, "test", &name, caller.stays_ms);
            match caller.cancelled_ms {
                Some(ms) => drop(tokio::time::timeout(Duration::from_millis(ms), outcome).await),
                None => drop(outcome.await),
            }
        }));
    }
    for (at_ms, turn) in turns {
        let (pools, world) = (pools.clone(), world.clone());
        tasks.push(tokio::spawn(async move {
            sleep(Duration::from_millis(at_ms)).await;
            match turn {
                Turn::Stop(name) => drop(pools.stop("test", &id(&format!("caller-{name}"))).await.unwrap()),
                Turn::Kill(number) => world.kill(number, EndReason::Exited(1)),
                Turn::Resize { max, ready } => {
                    let patch = PoolPatch { max_sessions: Some(max), ready_sessions: Some(ready), ..PoolPatch::default() };
                    pools.update("test", patch, &Rules::OWN).await.unwrap();
                }
                Turn::Remake(memory_mib) => {
                    let limits = crate::SessionLimits { memory_bytes: memory_mib << 20, ..crate::SessionLimits::default() };
                    pools.update("test", PoolPatch { limits: Some(limits), ..PoolPatch::default() }, &Rules::OWN).await.unwrap();
                }
                Turn::FailNext(count) => world.next((0..count).map(|_| Fate::Fails)),
            }
        }));
    }
    for task in tasks {
        answered(&pools, task).await;
    }
    assert!(world.most() <= u64::from(LARGEST), "{} sessions existed at once", world.most());
    // Everybody has gone: what is left is what is ready, and no more than that.
    sleep(Duration::from_secs(60)).await;
    let snapshot = settled(&pools).await;
    let ready = pools.get("test").unwrap().ready_sessions;
    assert_eq!((snapshot.busy, snapshot.cooling, snapshot.in_line, snapshot.waiting_calls), (0, 0, 0, 0), "{snapshot:?}");
    assert_eq!(u32::try_from(snapshot.ready).unwrap(), ready, "{snapshot:?}");
    assert_eq!(world.existing(), u64::from(ready));
    pools.shutdown().await;
    assert_eq!((world.existing(), world.alive()), (0, vec![]), "a session leaked");
    assert_eq!(world.destroyed(), world.made());
    let sums = pools.store().usage_sums(UsageFilter::default()).await.unwrap();
    assert_eq!(sums.iter().map(|sum| sum.alive).sum::<u64>(), 0, "every session that began has ended in the store");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn in_any_storm_nobody_is_forgotten_nothing_is_shared_and_nothing_leaks(
        callers in proptest::collection::vec(caller(), 1..40),
        turns in proptest::collection::vec(turn(), 0..12),
        create_ms in 0..60_u64,
        destroy_ms in 0..40_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(storm(callers, turns, create_ms, destroy_ms));
    }
}
