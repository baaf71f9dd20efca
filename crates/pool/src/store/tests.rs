use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use rusqlite::Connection;
use tempfile::tempdir;

use super::*;
use crate::{Allocation, Digest, EndReason, Identifier, Lifecycle, PoolSpec, SessionUsage};

fn digest(name: &str) -> Digest {
    Identifier::new(name).unwrap().digest()
}

fn start(pool: &str, name: &str, started_unix_ms: u64) -> UsageStart {
    UsageStart { pool: pool.to_owned(), identifier: digest(name), allocation: Allocation::Warm, started_unix_ms }
}

fn end(reason: EndReason, ended_unix_ms: u64) -> UsageEnd {
    let usage = SessionUsage { cpu_us: 7000, memory_byte_s: 1 << 40, executions: 3 };
    UsageEnd { reason, ended_unix_ms, busy_ms: 20, idle_ms: 80, usage }
}

fn key(id: &str, secret: u8) -> KeyRecord {
    KeyRecord {
        id: id.to_owned(),
        name: format!("key {id}"),
        secret_sha256: [secret; 32],
        scopes: "execute:default".to_owned(),
        created_unix_ms: u64::from(secret),
        revoked_unix_ms: None,
        last_used_unix_ms: None,
    }
}

/// What is on the disk at this moment, as after `kill -9`: the files are copied while the store has them open.
fn snapshot_of(directory: &Path) -> tempfile::TempDir {
    let copy = tempdir().unwrap();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_kill() {
    let directory = tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let mut spec = PoolSpec::new("numbers");
    spec.lifecycle = Lifecycle::OnContainerExit { max_alive_s: 77 };
    spec.warm = vec!["numpy".to_owned()];
    store.put_pool(&spec).await.unwrap();
    store.put_pool(&PoolSpec::new("gone")).await.unwrap();
    store.delete_pool("gone").await.unwrap();
    store.add_key(key("k1", 1)).await.unwrap();
    store.put_document("arm", "numbers", "{\"tags\":{}}").await.unwrap();
    let copy = snapshot_of(directory.path());
    // The first is still there: nothing of this is a matter of closing it well.
    let after = Store::open(copy.path()).unwrap();
    assert_eq!(after.pools().await.unwrap(), [spec]);
    assert_eq!(after.keys().await.unwrap(), [key("k1", 1)]);
    assert_eq!(after.document("arm", "numbers").await.unwrap().as_deref(), Some("{\"tags\":{}}"));
    drop(store);
}

#[tokio::test]
async fn sessions_that_a_killed_server_left_are_ended_and_their_identifiers_told() {
    let directory = tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let now = unix_ms();
    store.begin_usage(start("p", "alive", now));
    let cooled = store.begin_usage(start("p", "cooled", now));
    store.end_usage(cooled, end(EndReason::Cooldown, now));
    let stopped = store.begin_usage(start("p", "stopped", now));
    store.end_usage(stopped, end(EndReason::Stopped, now));
    let exited = store.begin_usage(start("p", "exited", now));
    store.end_usage(exited, end(EndReason::Exited(3), now));
    let old = store.begin_usage(start("p", "old", now - 7_300_000));
    store.end_usage(old, end(EndReason::Cooldown, now - 3_700_000));
    let first = store.begin_usage(start("p", "told", now));
    store.end_usage(first, end(EndReason::Cooldown, now));
    let second = store.begin_usage(start("p", "told", now));
    store.end_usage(second, end(EndReason::Stopped, now));
    store.begin_usage(start("other", "alive", now));
    store.flush().await.unwrap();
    let copy = snapshot_of(directory.path());
    let after = Store::open(copy.path()).unwrap();
    let told =
        [(digest("alive"), EndReason::Restart), (digest("cooled"), EndReason::Cooldown), (digest("exited"), EndReason::Exited(3))];
    assert_eq!(after.untold_ends("p").await.unwrap(), told);
    let sums = after.usage_sums(UsageFilter::default()).await.unwrap();
    assert_eq!(
        sums.iter().map(|sum| (sum.pool.as_str(), sum.sessions, sum.alive)).collect::<Vec<_>>(),
        [("other", 1, 0), ("p", 7, 0)]
    );
    // New rows do not take the numbers of old ones.
    let new = after.begin_usage(start("p", "new", now));
    after.end_usage(new, end(EndReason::Stopped, now));
    assert_eq!(after.usage_rows(UsageFilter::of_pool("p"), 100).await.unwrap().len(), 8);
}

#[tokio::test]
async fn usage_is_summed_by_pool_and_time() {
    let store = Store::in_memory().unwrap();
    for (pool, at) in [("a", 1000), ("a", 2000), ("a", 3000), ("b", 2000)] {
        let id = store.begin_usage(start(pool, "someone", at));
        store.end_usage(id, end(if at == 3000 { EndReason::OutOfMemory } else { EndReason::Cooldown }, at + 100));
    }
    let id = store.begin_usage(UsageStart { allocation: Allocation::Cold, ..start("a", "alive", 2500) });
    let filter = UsageFilter { pool: Some("a".to_owned()), from_unix_ms: Some(2000), until_unix_ms: None };
    let sums = store.usage_sums(filter.clone()).await.unwrap();
    let expected = UsageSum {
        pool: "a".to_owned(),
        sessions: 3,
        alive: 1,
        warm: 2,
        cold: 1,
        allocated_ms: 200,
        busy_ms: 40,
        idle_ms: 160,
        cpu_us: 14_000,
        memory_byte_s: 2 << 40,
        executions: 6,
        ended: [("cooldown".to_owned(), 1), ("out_of_memory".to_owned(), 1)].into(),
    };
    assert_eq!(sums, [expected]);
    let until = UsageFilter { until_unix_ms: Some(3000), ..filter };
    let rows = store.usage_rows(until, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.started_unix_ms).collect::<Vec<_>>(), [2500, 2000]);
    assert_eq!((rows[0].ended_unix_ms, rows[0].end_reason.as_deref()), (None, None));
    assert_eq!(store.usage_sums(UsageFilter::default()).await.unwrap().len(), 2);
    store.end_usage(id, end(EndReason::Stopped, 2600));
    assert_eq!(store.usage_sums(UsageFilter::of_pool("a")).await.unwrap()[0].alive, 0);
}

/// Ended sessions of this age each, the oldest first, and one that lives since the beginning.
async fn with_usage(ages_ms: impl Iterator<Item = u64>) -> Store {
    let store = Store::in_memory().unwrap();
    let now = unix_ms();
    store.begin_usage(start("p", "alive", 1));
    for age_ms in ages_ms {
        let id = store.begin_usage(start("p", "ended", now - age_ms - 100));
        store.end_usage(id, end(EndReason::Cooldown, now - age_ms));
    }
    store.flush().await.unwrap();
    store
}

/// How many rows each step took, until there is nothing to do.
async fn prune(store: &Store, kept: UsageKept) -> Vec<u64> {
    let mut steps = Vec::new();
    let operations = OperationsKept { age: Duration::from_secs(86_400), bytes: 1 << 20 };
    loop {
        match store.prune(Kept { usage: kept, operations }).await.unwrap() {
            0 => return steps,
            gone => steps.push(gone),
        }
    }
}

const DAY_MS: u64 = 86_400_000;

#[tokio::test]
async fn usage_is_forgotten_when_it_is_too_old_in_small_steps() {
    let store = with_usage((0..1300).map(|n| (1310 - n) * DAY_MS)).await;
    let steps = prune(&store, UsageKept { age: Duration::from_millis(90 * DAY_MS), rows: 10_000 }).await;
    assert_eq!(steps, [500, 500, 221]);
    let rows = store.usage_rows(UsageFilter::default(), 2000).await.unwrap();
    assert_eq!(rows.len(), 80);
    assert_eq!(rows.last().unwrap().ended_unix_ms, None, "who lives is not forgotten");
    assert!(rows[..79].iter().all(|row| row.ended_unix_ms.unwrap() > unix_ms() - 90 * DAY_MS));
}

#[tokio::test]
async fn usage_is_forgotten_when_it_is_too_much_but_not_what_callers_are_still_told() {
    let store = with_usage((0..40).map(|n| (40 - n) * 240_000 + 30_000)).await;
    let kept = |rows| UsageKept { age: Duration::from_millis(90 * DAY_MS), rows };
    assert_eq!(prune(&store, kept(40)).await, [0_u64; 0], "no more than may be, beside the one that lives");
    assert_eq!(prune(&store, kept(30)).await, [10]);
    // The last fourteen ended within the hour.
    assert_eq!(prune(&store, kept(5)).await, [16]);
    assert_eq!(store.usage_rows(UsageFilter::default(), 100).await.unwrap().len(), 15);
    assert_eq!(store.untold_ends("p").await.unwrap(), [(digest("ended"), EndReason::Cooldown)]);
}

#[tokio::test(start_paused = true)]
async fn usage_is_pruned_in_the_background_until_the_store_is_gone() {
    let store = with_usage((0..700).map(|n| (1310 - n) * DAY_MS)).await;
    let operations = OperationsKept { age: Duration::from_secs(86_400), bytes: 1 << 20 };
    let usage = UsageKept { age: Duration::from_millis(DAY_MS), rows: 10 };
    let pruning = tokio::spawn(store.clone().keep_pruned(Kept { usage, operations }));
    while store.usage_rows(UsageFilter::default(), 1000).await.unwrap().len() > 1 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pruning.abort();
    assert!(pruning.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn numbers_too_large_for_the_file_are_kept_as_the_largest_and_can_still_be_summed() {
    let store = Store::in_memory().unwrap();
    for _ in 0..2 {
        let id = store.begin_usage(start("a", "b", 1));
        let usage = SessionUsage { cpu_us: u64::MAX, memory_byte_s: u64::MAX, executions: u64::MAX };
        store.end_usage(id, UsageEnd { usage, ..end(EndReason::Stopped, 2) });
    }
    assert!(store.usage_sums(UsageFilter::default()).await.unwrap()[0].memory_byte_s >= 1 << 63);
}

#[tokio::test]
async fn a_key_is_found_by_its_secret_until_for_ever_and_is_revoked_once() {
    let directory = tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    store.add_key(key("k1", 1)).await.unwrap();
    assert!(store.add_key(key("k2", 1)).await.is_err(), "a secret is one key's");
    assert!(store.add_key(key("k1", 2)).await.is_err(), "an id is one key's");
    store.add_key(key("k2", 2)).await.unwrap();
    store.key_used("k1", 500);
    store.key_used("k1", 400);
    assert_eq!(store.key_of_secret([1; 32]).await.unwrap().unwrap().last_used_unix_ms, Some(500));
    assert_eq!(store.key_of_secret([9; 32]).await.unwrap(), None);
    // A command line beside the server revokes it: the server's next look sees that.
    let beside = Store::open_beside(directory.path()).unwrap();
    assert!(beside.revoke_key("k1", 600).await.unwrap());
    assert!(beside.revoke_key("k1", 700).await.unwrap());
    assert!(!beside.revoke_key("k9", 700).await.unwrap());
    assert_eq!(store.key_of_secret([1; 32]).await.unwrap().unwrap().revoked_unix_ms, Some(600));
    assert_eq!(store.keys().await.unwrap().iter().map(|key| key.id.as_str()).collect::<Vec<_>>(), ["k1", "k2"]);
    assert!(!format!("{:?}", store.keys().await.unwrap()).contains("secret"));
}

#[test]
fn a_file_of_the_first_format_is_brought_to_this_one() {
    let directory = tempdir().unwrap();
    let path = directory.path().join(FILE);
    drop(Store::open(directory.path()).unwrap());
    Connection::open(&path).unwrap().execute_batch("DROP TABLE operations; PRAGMA user_version = 1").unwrap();
    drop(Store::open(directory.path()).unwrap());
    let connection = Connection::open(&path).unwrap();
    let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(format, 3);
    connection.execute("INSERT INTO operations (pool, identifier, id, begun_unix_ms) VALUES ('p', 'i', 'o', 1)", []).unwrap();
}

#[tokio::test]
async fn documents_are_kept_by_kind_and_name() {
    let store = Store::in_memory().unwrap();
    store.put_document("a", "x", "1").await.unwrap();
    store.put_document("a", "x", "2").await.unwrap();
    store.put_document("b", "x", "3").await.unwrap();
    assert_eq!(store.documents("a").await.unwrap(), [("x".to_owned(), "2".to_owned())]);
    assert!(store.delete_document("a", "x").await.unwrap());
    assert!(!store.delete_document("a", "x").await.unwrap());
    store.put_document("b", "y", "4").await.unwrap();
    store.put_document("b", "z", "5").await.unwrap();
    store.delete_documents("b", vec!["y".to_owned(), "z".to_owned(), "none".to_owned()]).await.unwrap();
    assert_eq!(store.documents("b").await.unwrap(), [("x".to_owned(), "3".to_owned())]);
}

#[tokio::test]
async fn a_second_server_is_refused_and_a_command_beside_it_is_not() {
    let directory = tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    store.begin_usage(start("p", "alive", unix_ms()));
    store.flush().await.unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    let beside = Store::open_beside(directory.path()).unwrap();
    assert_eq!(beside.usage_sums(UsageFilter::default()).await.unwrap()[0].alive, 1, "it ends nobody's sessions");
    drop(store);
    Store::open(directory.path()).unwrap();
}

/// As on a full disk: SQLite gives the same error where its file may have no more pages.
async fn fill(store: &Store, is_full: bool) {
    let most = if is_full { 1 } else { 1_000_000 };
    store
        .ask(move |connection| {
            let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            connection.pragma_update_and_check(None, "max_page_count", pages.max(most), |row| row.get::<_, i64>(0)).map(drop)
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_full_disk_is_an_error_that_damages_nothing_and_goes_when_there_is_room() {
    let directory = tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    store.put_pool(&PoolSpec::new("before")).await.unwrap();
    fill(&store, true).await;
    let large = "x".repeat(1 << 20);
    let error = store.put_document("test", "large", &large).await.unwrap_err();
    let StoreError::Sql(cause) = &error else { panic!("{error:?}") };
    assert_eq!(cause.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull), "{error}");
    assert_eq!(error.blame(), greenroom_core::Blame::Backend);
    // Usage goes to the log instead; nobody is held up.
    for _ in 0..1000 {
        store.begin_usage(start("before", &large[..200], unix_ms()));
    }
    assert_eq!(store.pools().await.unwrap().len(), 1, "what is there can be read");
    fill(&store, false).await;
    store.put_document("test", "large", &large).await.unwrap();
    drop(store);
    let connection = Connection::open(directory.path().join(FILE)).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

#[tokio::test]
async fn only_its_owner_reads_the_files() {
    let directory = tempdir().unwrap();
    let inside = directory.path().join("new/data");
    let store = Store::open(&inside).unwrap();
    store.add_key(key("k", 1)).await.unwrap();
    assert_eq!(fs::metadata(&inside).unwrap().permissions().mode() & 0o777, 0o700);
    let files: Vec<_> = fs::read_dir(&inside).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
}

#[test]
fn a_damaged_file_is_named_and_left_as_it_is() {
    let directory = tempdir().unwrap();
    drop(Store::open(directory.path()).unwrap());
    let path = directory.path().join(FILE);
    for damage in [vec![0x5a; 8192], b"not a database at all".to_vec()] {
        fs::write(&path, &damage).unwrap();
        let error = Store::open(directory.path()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains(FILE), "{error}");
        assert_eq!(fs::read(&path).unwrap(), damage);
    }
}

#[test]
fn a_file_whose_tables_are_torn_is_damaged_too() {
    let directory = tempdir().unwrap();
    let path = directory.path().join(FILE);
    drop(Store::open(directory.path()).unwrap());
    Connection::open(&path).unwrap().execute_batch("DROP TABLE usage; PRAGMA wal_checkpoint(TRUNCATE);").unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
}

#[test]
fn a_file_of_a_later_version_or_of_another_program_is_refused() {
    let directory = tempdir().unwrap();
    drop(Store::open(directory.path()).unwrap());
    let path = directory.path().join(FILE);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, known: 3, .. }), "{error:?}");
    let other = tempdir().unwrap();
    Connection::open(other.path().join(FILE)).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let error = Store::open(other.path()).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error:?}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempdir().unwrap();
    let blocked = directory.path().join("file");
    fs::write(&blocked, "").unwrap();
    let error = Store::open(&blocked.join("data")).unwrap_err();
    assert!(matches!(error, StoreError::Directory { .. }), "{error:?}");
    assert!(error.to_string().contains("data_dir"), "{error}");
}

#[test]
fn every_end_is_read_as_it_was_written() {
    let all = [
        EndReason::Exited(3),
        EndReason::Signalled(9),
        EndReason::OutOfMemory,
        EndReason::Unresponsive,
        EndReason::Unintelligible,
        EndReason::Lost,
        EndReason::CheckFailed,
        EndReason::Cooldown,
        EndReason::MaxAlive,
        EndReason::Stopped,
        EndReason::Surplus,
        EndReason::Outdated,
        EndReason::PoolDeleted,
        EndReason::Shutdown,
        EndReason::Restart,
    ];
    for reason in all {
        assert_eq!(EndReason::of_label(reason.as_str(), reason.number()), Some(reason));
    }
    assert_eq!(EndReason::of_label("evaporated", None), None);
}
