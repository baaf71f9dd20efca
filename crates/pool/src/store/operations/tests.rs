use std::{path::Path, time::Duration};

use tempfile::{TempDir, tempdir};

use super::*;
use crate::{Identifier, Kept, UsageKept, store::FILE};

fn key(id: &str) -> OperationKey {
    OperationKey { pool: "p".to_owned(), identifier: Identifier::new("a").unwrap().digest(), id: id.to_owned() }
}

async fn begin(store: &Store, id: &str) -> OperationClaim {
    let claim = store.claim_operation();
    assert_eq!(store.begin_operation(claim, key(id), Some([7; 32])).await.unwrap(), None);
    claim
}

async fn state(store: &Store, id: &str) -> Option<OperationState> {
    store.operation(key(id)).await.unwrap().map(|record| record.state)
}

fn ended(outcome: Option<&str>) -> Option<OperationState> {
    Some(OperationState::Ended { status: "Succeeded".to_owned(), outcome: outcome.map(str::to_owned) })
}

/// What a server that was killed now would leave.
fn killed(directory: &Path) -> TempDir {
    let copy = tempdir().unwrap();
    for file in [FILE.to_owned(), format!("{FILE}-wal")] {
        std::fs::copy(directory.join(&file), copy.path().join(&file)).unwrap();
    }
    copy
}

async fn prune(store: &Store, operations: OperationsKept) -> u64 {
    let usage = UsageKept { age: Duration::from_secs(1 << 32), rows: 1 << 32 };
    store.prune(Kept { usage, operations }).await.unwrap()
}

#[tokio::test]
async fn after_a_kill_an_execution_that_was_over_has_its_outcome_and_one_that_was_not_is_lost() {
    let directory = tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let over = begin(&store, "over").await;
    store.end_operation(over, "Succeeded", "it".to_owned()).await.unwrap();
    begin(&store, "not").await;
    assert_eq!(state(&store, "not").await, Some(OperationState::Begun));
    let copy = killed(directory.path());
    let after = Store::open(copy.path()).unwrap();
    assert_eq!(state(&after, "over").await, ended(Some("it")));
    assert_eq!(state(&after, "not").await, Some(OperationState::Lost));
    for other in [
        OperationKey { pool: "q".to_owned(), ..key("over") },
        OperationKey { identifier: Identifier::new("b").unwrap().digest(), ..key("over") },
        key("another"),
    ] {
        assert_eq!(after.operation(other).await.unwrap(), None);
    }
    let beside = Store::open_beside(directory.path()).unwrap();
    assert_eq!(state(&beside, "not").await, Some(OperationState::Begun), "a command beside the server ends nothing");
}

#[tokio::test]
async fn an_id_is_used_once_also_after_a_restart() {
    let directory = tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let first = begin(&store, "id").await;
    drop(store);
    let store = Store::open(directory.path()).unwrap();
    let second = store.claim_operation();
    assert_ne!(first, second);
    let known = store.begin_operation(second, key("id"), Some([8; 32])).await.unwrap().unwrap();
    assert_eq!(known, OperationRecord { request: Some([7; 32]), state: OperationState::Lost });
    // Whoever came second has nothing to take back.
    store.withdraw_operation(second);
    assert_eq!(state(&store, "id").await, Some(OperationState::Lost));
}

#[tokio::test]
async fn what_never_began_is_withdrawn_and_its_id_is_free() {
    let store = Store::in_memory().unwrap();
    let claim = begin(&store, "id").await;
    store.withdraw_operation(claim);
    assert_eq!(state(&store, "id").await, None);
    let claim = begin(&store, "id").await;
    store.end_operation_soon(claim, "Succeeded", "it".to_owned());
    store.withdraw_operation(claim);
    store.end_operation(claim, "Failed", "something else".to_owned()).await.unwrap();
    assert_eq!(state(&store, "id").await, ended(Some("it")), "what is over is over");
}

#[tokio::test]
async fn old_executions_are_forgotten_and_those_that_go_on_are_not() {
    let store = Store::in_memory().unwrap();
    for id in ["old", "new", "alive"] {
        let claim = begin(&store, id).await;
        if id != "alive" {
            store.end_operation(claim, "Succeeded", String::new()).await.unwrap();
        }
    }
    let age = "UPDATE operations SET begun_unix_ms = 0, ended_unix_ms = CASE WHEN id = 'old' THEN 1 ELSE ended_unix_ms END WHERE id <> 'new'";
    store.ask(move |connection| connection.execute(age, [])).await.unwrap();
    let kept = OperationsKept { age: Duration::from_secs(3600), bytes: 1 << 20 };
    assert_eq!((prune(&store, kept).await, prune(&store, kept).await), (1, 0));
    assert_eq!(state(&store, "old").await, None);
    assert_eq!(state(&store, "new").await, ended(Some("")));
    assert_eq!(state(&store, "alive").await, Some(OperationState::Begun));
}

#[tokio::test]
async fn of_outcomes_the_latest_are_kept_that_there_is_room_for_and_of_the_others_that_they_were() {
    let store = Store::in_memory().unwrap();
    for n in 0..5 {
        let claim = begin(&store, &n.to_string()).await;
        store.end_operation(claim, "Succeeded", "x".repeat(1000)).await.unwrap();
    }
    let kept = OperationsKept { age: Duration::from_secs(3600), bytes: 3 * 1512 };
    assert_eq!((prune(&store, kept).await, prune(&store, kept).await), (2, 0));
    assert_eq!(state(&store, "1").await, ended(None));
    assert_eq!(state(&store, "2").await, ended(Some(&"x".repeat(1000))));
}

#[tokio::test]
async fn too_many_are_counted_by_what_is_kept_and_not_by_what_was_tried() {
    let store = Store::in_memory().unwrap();
    let claim = begin(&store, "first").await;
    store.end_operation(claim, "Succeeded", String::new()).await.unwrap();
    let kept = OperationsKept { age: Duration::from_secs(3600), bytes: 1 << 40 };
    let last = |number: u64| {
        let sql = "INSERT INTO operations (number, pool, identifier, id, begun_unix_ms) VALUES (?, 'p', 'i', 'last', 1)";
        store.ask(move |connection| connection.execute(sql, [signed(number)]))
    };
    last(3 * MOST).await.unwrap();
    assert_eq!(prune(&store, kept).await, 0);
    assert_eq!(state(&store, "first").await, ended(Some("")));
    let many = "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i <= ?1) \
                INSERT INTO operations (number, pool, identifier, id, begun_unix_ms, ended_unix_ms, status) \
                SELECT i, 'p', 'i', i, ?2, ?2, 'Succeeded' FROM n";
    let values = [signed(MOST), signed(unix_ms())];
    store.ask(move |connection| connection.execute(many, values)).await.unwrap();
    assert_eq!((prune(&store, kept).await, prune(&store, kept).await), (2, 0));
    assert_eq!(state(&store, "first").await, None);
}

#[tokio::test(start_paused = true)]
async fn much_that_is_written_is_looked_at_before_its_hour_comes() {
    let store = Store::in_memory().unwrap();
    let usage = UsageKept { age: Duration::from_secs(3600), rows: 10 };
    let kept = Kept { usage, operations: OperationsKept { age: Duration::from_secs(3600), bytes: 1000 } };
    let pruning = tokio::spawn(store.clone().keep_pruned(kept));
    let claim = begin(&store, "much").await;
    store.end_operation(claim, "Succeeded", "x".repeat(8 << 20)).await.unwrap();
    let since = tokio::time::Instant::now();
    while state(&store, "much").await != ended(None) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(since.elapsed() < Duration::from_secs(60));
    pruning.abort();
}
