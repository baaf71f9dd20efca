use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use greenroom_pool::{Digest, Identifier};
use greenroom_wire::azure::Execution;
use tokio::time::Instant;

/// Executions that are known, of all pools.
const MOST: usize = 4096;
/// Bytes of their output.
const MOST_BYTES: usize = 64 << 20;
/// How long a result can be asked for.
const KEPT: Duration = Duration::from_secs(3600);
/// Asynchronous executions that run or wait, of all pools.
const MOST_RUNNING: usize = 256;

/// The executions that can be asked for by their ids: those that go on, and the results of the last hour, as far as they fit.
/// An id means something only together with its pool and its identifier.
#[derive(Debug, Default)]
pub(super) struct Operations(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<Key, Known>,
    /// In the order of their ends.
    ended: VecDeque<(Key, Instant)>,
    bytes: usize,
}

/// A pool's name, an identifier and an id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pool: String,
    identifier: Digest,
    id: String,
}

#[derive(Debug)]
struct Known {
    execution: Execution,
    is_over: bool,
}

/// Why an execution is not begun.
#[derive(Debug)]
pub(super) enum NotBegun {
    /// There is one of this id, and this is how far it is.
    Known(Box<Execution>),
    /// Too many go on.
    Full { running: usize },
}

impl Key {
    pub(super) fn new(pool: &str, identifier: &Identifier, id: &str) -> Self {
        Self { pool: pool.to_owned(), identifier: identifier.digest(), id: id.to_owned() }
    }
}

impl Operations {
    /// Takes an execution in that goes on. An id is used once: what was asked for twice runs once.
    pub(super) fn begin(&self, key: &Key, execution: Execution) -> Result<(), NotBegun> {
        let mut inner = self.lock();
        inner.forget(Instant::now());
        if let Some(known) = inner.known.get(key) {
            return Err(NotBegun::Known(Box::new(known.execution.clone())));
        }
        let running = inner.known.len() - inner.ended.len();
        if running >= MOST_RUNNING {
            return Err(NotBegun::Full { running });
        }
        inner.known.insert(key.clone(), Known { execution, is_over: false });
        Ok(())
    }

    /// It is over, and this came of it.
    pub(super) fn end(&self, key: &Key, execution: Execution) {
        let mut inner = self.lock();
        let now = Instant::now();
        if inner.known.get(key).is_some_and(|known| known.is_over) {
            return;
        }
        inner.bytes += size(&execution);
        inner.known.insert(key.clone(), Known { execution, is_over: true });
        inner.ended.push_back((key.clone(), now));
        inner.forget(now);
    }

    /// It never began.
    pub(super) fn withdraw(&self, key: &Key) {
        let mut inner = self.lock();
        if inner.known.get(key).is_some_and(|known| !known.is_over) {
            inner.known.remove(key);
        }
    }

    /// How far it is.
    pub(super) fn get(&self, key: &Key) -> Option<Execution> {
        let mut inner = self.lock();
        inner.forget(Instant::now());
        inner.known.get(key).map(|known| known.execution.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Results that are too old or too many go, the oldest first. What goes on stays.
    fn forget(&mut self, now: Instant) {
        while let Some((key, at)) = self.ended.front() {
            let is_old = now.duration_since(*at) >= KEPT;
            if !is_old && self.ended.len() <= MOST && self.bytes <= MOST_BYTES {
                break;
            }
            if let Some(known) = self.known.remove(key) {
                self.bytes -= size(&known.execution);
            }
            self.ended.pop_front();
        }
    }
}

fn size(execution: &Execution) -> usize {
    use greenroom_wire::azure::CellValue;
    let of_value = |value: &CellValue| match value {
        CellValue::Absent | CellValue::None => 0,
        CellValue::Text(text) => text.len(),
        CellValue::Image { base64, .. } => base64.len(),
    };
    let of_output =
        execution.output.as_ref().map_or(0, |output| output.stdout.len() + output.stderr.len() + of_value(&output.value));
    // What holds them, about.
    of_output + execution.identifier.len() + 512
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_wire::azure::{CellValue, ExecutionStatus, Output};

    fn identifier(text: &str) -> Identifier {
        Identifier::new(text).unwrap()
    }

    fn execution(status: ExecutionStatus, stdout_bytes: usize) -> Execution {
        let output = Output { stdout: "x".repeat(stdout_bytes), stderr: String::new(), value: CellValue::Absent, wall_ms: 0 };
        Execution {
            id: "id".into(),
            identifier: "abcd".into(),
            execution_type: "Asynchronous".into(),
            status,
            output: (status != ExecutionStatus::Running).then_some(output),
            error: None,
        }
    }

    fn key(id: &str) -> Key {
        Key::new("default", &identifier("abcd"), id)
    }

    fn status(operations: &Operations, key: &Key) -> Option<ExecutionStatus> {
        operations.get(key).map(|execution| execution.status)
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_is_kept_for_an_hour() {
        let operations = Operations::default();
        assert!(operations.begin(&key("a"), execution(ExecutionStatus::Running, 0)).is_ok());
        tokio::time::advance(KEPT * 2).await;
        assert_eq!(status(&operations, &key("a")), Some(ExecutionStatus::Running), "what goes on stays");
        operations.end(&key("a"), execution(ExecutionStatus::Succeeded, 1));
        tokio::time::advance(KEPT - Duration::from_secs(1)).await;
        assert_eq!(status(&operations, &key("a")), Some(ExecutionStatus::Succeeded));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(status(&operations, &key("a")), None);
        assert_eq!(operations.lock().bytes, 0);
    }

    #[tokio::test]
    async fn an_id_is_used_once() {
        let operations = Operations::default();
        assert!(operations.begin(&key("a"), execution(ExecutionStatus::Running, 0)).is_ok());
        let again = operations.begin(&key("a"), execution(ExecutionStatus::Running, 0));
        assert!(matches!(again, Err(NotBegun::Known(known)) if known.status == ExecutionStatus::Running));
        operations.withdraw(&key("a"));
        assert!(operations.begin(&key("a"), execution(ExecutionStatus::Running, 0)).is_ok());
    }

    #[tokio::test]
    async fn an_id_belongs_to_its_identifier_and_its_pool() {
        let operations = Operations::default();
        operations.end(&key("a"), execution(ExecutionStatus::Succeeded, 1));
        assert_eq!(status(&operations, &Key::new("default", &identifier("abce"), "a")), None);
        assert_eq!(status(&operations, &Key::new("other", &identifier("abcd"), "a")), None);
    }

    #[tokio::test]
    async fn results_are_bounded_by_their_bytes_and_by_how_many_go_on() {
        let operations = Operations::default();
        for n in 0..5 {
            operations.end(&key(&n.to_string()), execution(ExecutionStatus::Succeeded, MOST_BYTES / 4));
        }
        assert_eq!(status(&operations, &key("0")), None);
        assert_eq!(status(&operations, &key("4")), Some(ExecutionStatus::Succeeded));
        assert!(operations.lock().bytes <= MOST_BYTES);
        for n in 0..MOST_RUNNING {
            assert!(operations.begin(&key(&format!("r{n}")), execution(ExecutionStatus::Running, 0)).is_ok());
        }
        let one_more = operations.begin(&key("more"), execution(ExecutionStatus::Running, 0));
        assert!(matches!(one_more, Err(NotBegun::Full { running: MOST_RUNNING })));
    }
}
