use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use greenroom_pool::{OperationKey as Key, RequestDigest};
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

/// The executions that can be asked for by their ids: those that go on, and the results of the last hour, as far as they fit. What is to
/// outlive this is in the store, too (`entry.rs`).
#[derive(Debug, Default)]
pub(super) struct Operations(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<Key, Known>,
    /// In the order of their ends.
    ended: VecDeque<(Key, Instant)>,
    bytes: usize,
    /// Asynchronous ones that are not over.
    beside: usize,
    last: u64,
}

/// Whose an entry is: the one that began it. A key may be another's later, in the next pool of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(u64);

/// How an execution runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Its client waits for it, which bounds how many there are.
    Awaited,
    /// Behind its answer.
    Beside,
}

#[derive(Debug)]
struct Known {
    execution: Execution,
    request: Option<RequestDigest>,
    manner: Manner,
    token: Token,
    is_over: bool,
}

/// Why an execution is not begun.
#[derive(Debug)]
pub(super) enum NotBegun {
    /// There is one of this id, and this is how far it is.
    Known(Box<Execution>),
    /// There is one of this id, which runs something else.
    Other,
    /// Too many go on.
    Full { running: usize },
}

impl Operations {
    /// Takes an execution in that goes on. An id is used once: what was asked for twice runs once.
    pub(super) fn begin(
        &self,
        key: &Key,
        execution: Execution,
        request: Option<RequestDigest>,
        manner: Manner,
    ) -> Result<Token, NotBegun> {
        let mut inner = self.lock();
        inner.forget(Instant::now());
        if let Some(known) = inner.known.get(key) {
            return Err(known.asked_again(request.as_ref()));
        }
        if manner == Manner::Beside {
            if inner.beside >= MOST_RUNNING {
                return Err(NotBegun::Full { running: inner.beside });
            }
            inner.beside += 1;
        }
        inner.last += 1;
        let token = Token(inner.last);
        inner.known.insert(key.clone(), Known { execution, request, manner, token, is_over: false });
        Ok(token)
    }

    /// Whether there is one of this id already: then what is to be said of it.
    pub(super) fn known(&self, key: &Key, request: Option<&RequestDigest>) -> Option<NotBegun> {
        let mut inner = self.lock();
        inner.forget(Instant::now());
        inner.known.get(key).map(|known| known.asked_again(request))
    }

    /// It is over, and this came of it. Nothing happens where its entry is gone: so is its pool.
    pub(super) fn end(&self, key: &Key, token: Token, execution: Execution) {
        let mut inner = self.lock();
        let now = Instant::now();
        let Some(known) = inner.known.get_mut(key).filter(|known| known.is_on(token)) else { return };
        let (bytes, beside) = (size(&execution), known.beside());
        known.execution = execution;
        known.is_over = true;
        inner.bytes += bytes;
        inner.beside -= beside;
        inner.ended.push_back((key.clone(), now));
        inner.forget(now);
    }

    /// It never began.
    pub(super) fn withdraw(&self, key: &Key, token: Token) {
        let mut inner = self.lock();
        if let Some(beside) = inner.known.get(key).filter(|known| known.is_on(token)).map(Known::beside) {
            inner.beside -= beside;
            inner.known.remove(key);
        }
    }

    /// The pool is gone: what was run in it is nobody's any more.
    pub(super) fn forget(&self, pool: &str) {
        let mut inner = self.lock();
        let (mut bytes, mut beside) = (0, 0);
        inner.known.retain(|key, known| {
            let stays = key.pool != pool;
            if !stays {
                bytes += if known.is_over { size(&known.execution) } else { 0 };
                beside += known.beside();
            }
            stays
        });
        inner.bytes -= bytes;
        inner.beside -= beside;
        inner.ended.retain(|(key, _)| key.pool != pool);
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

impl Known {
    /// Whether it is this one's, and goes on.
    fn is_on(&self, token: Token) -> bool {
        self.token == token && !self.is_over
    }

    /// What it counts for among those that go on behind their answers.
    fn beside(&self) -> usize {
        usize::from(self.manner == Manner::Beside && !self.is_over)
    }

    /// Where nothing is known of either request, the one is taken for the other.
    fn asked_again(&self, request: Option<&RequestDigest>) -> NotBegun {
        match (&self.request, request) {
            (Some(first), Some(again)) if first != again => NotBegun::Other,
            _ => NotBegun::Known(Box::new(self.execution.clone())),
        }
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

    fn execution(status: ExecutionStatus, stdout_bytes: usize) -> Execution {
        let output = Output { stdout: "x".repeat(stdout_bytes), stderr: String::new(), value: CellValue::Absent, wall_ms: 0 };
        Execution {
            id: "id".into(),
            identifier: "abcd".into(),
            execution_type: "Asynchronous".into(),
            status,
            output: (status != ExecutionStatus::Running).then_some(output),
            exit: None,
            error: None,
        }
    }

    fn key_of(pool: &str, identifier: &str, id: &str) -> Key {
        let identifier = greenroom_pool::Identifier::new(identifier).unwrap().digest();
        Key { pool: pool.to_owned(), identifier, id: id.to_owned() }
    }

    fn key(id: &str) -> Key {
        key_of("default", "abcd", id)
    }

    fn status(operations: &Operations, key: &Key) -> Option<ExecutionStatus> {
        operations.get(key).map(|execution| execution.status)
    }

    fn begin(operations: &Operations, key: &Key) -> Result<Token, NotBegun> {
        operations.begin(key, execution(ExecutionStatus::Running, 0), None, Manner::Beside)
    }

    fn run(operations: &Operations, key: &Key, stdout_bytes: usize) {
        let token = begin(operations, key).unwrap();
        operations.end(key, token, execution(ExecutionStatus::Succeeded, stdout_bytes));
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_is_kept_for_an_hour() {
        let operations = Operations::default();
        let token = begin(&operations, &key("a")).unwrap();
        tokio::time::advance(KEPT * 2).await;
        assert_eq!(status(&operations, &key("a")), Some(ExecutionStatus::Running), "what goes on stays");
        operations.end(&key("a"), token, execution(ExecutionStatus::Succeeded, 1));
        tokio::time::advance(KEPT - Duration::from_secs(1)).await;
        assert_eq!(status(&operations, &key("a")), Some(ExecutionStatus::Succeeded));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(status(&operations, &key("a")), None);
        assert_eq!(operations.lock().bytes, 0);
    }

    #[tokio::test]
    async fn an_id_is_used_once() {
        let operations = Operations::default();
        let token = begin(&operations, &key("a")).unwrap();
        let again = begin(&operations, &key("a"));
        assert!(matches!(again, Err(NotBegun::Known(known)) if known.status == ExecutionStatus::Running));
        operations.withdraw(&key("a"), token);
        assert!(begin(&operations, &key("a")).is_ok());
    }

    #[tokio::test]
    async fn an_id_belongs_to_its_request() {
        let operations = Operations::default();
        let begin = |request| operations.begin(&key("a"), execution(ExecutionStatus::Running, 0), Some(request), Manner::Awaited);
        let token = begin([1; 32]).unwrap();
        for _ in 0..2 {
            assert!(matches!(begin([2; 32]), Err(NotBegun::Other)));
            assert!(matches!(operations.known(&key("a"), Some(&[1; 32])), Some(NotBegun::Known(_))));
            assert!(matches!(operations.known(&key("a"), None), Some(NotBegun::Known(_))), "whoever only asks for it");
            operations.end(&key("a"), token, execution(ExecutionStatus::Succeeded, 1));
        }
        assert!(operations.known(&key("b"), Some(&[2; 32])).is_none());
    }

    #[tokio::test]
    async fn an_id_belongs_to_its_identifier_and_its_pool() {
        let operations = Operations::default();
        run(&operations, &key("a"), 1);
        assert_eq!(status(&operations, &key_of("default", "abce", "a")), None);
        assert_eq!(status(&operations, &key_of("other", "abcd", "a")), None);
    }

    #[tokio::test]
    async fn what_ran_in_a_pool_goes_with_it() {
        let operations = Operations::default();
        run(&operations, &key("over"), 7);
        assert!(begin(&operations, &key("on")).is_ok());
        run(&operations, &key_of("other", "abcd", "over"), 7);
        let one = operations.lock().bytes / 2;
        operations.forget("default");
        assert_eq!((status(&operations, &key("over")), status(&operations, &key("on"))), (None, None));
        assert_eq!(status(&operations, &key_of("other", "abcd", "over")), Some(ExecutionStatus::Succeeded));
        let inner = operations.lock();
        assert_eq!((inner.bytes, inner.ended.len(), inner.beside), (one, 1, 0));
    }

    #[tokio::test]
    async fn what_ran_in_a_pool_that_is_gone_comes_to_nothing_in_the_next_of_its_name() {
        let operations = Operations::default();
        let (first, second) = (begin(&operations, &key("a")).unwrap(), begin(&operations, &key("b")).unwrap());
        operations.forget("default");
        operations.end(&key("a"), first, execution(ExecutionStatus::Succeeded, 1));
        assert_eq!(status(&operations, &key("a")), None);
        let own = begin(&operations, &key("a")).unwrap();
        assert!(begin(&operations, &key("b")).is_ok());
        operations.end(&key("a"), first, execution(ExecutionStatus::Succeeded, 1));
        operations.withdraw(&key("b"), second);
        for id in ["a", "b"] {
            assert_eq!(status(&operations, &key(id)), Some(ExecutionStatus::Running));
        }
        operations.end(&key("a"), own, execution(ExecutionStatus::Failed, 1));
        operations.end(&key("a"), own, execution(ExecutionStatus::Succeeded, 1));
        assert_eq!(status(&operations, &key("a")), Some(ExecutionStatus::Failed), "what is over is over");
        assert_eq!(operations.lock().beside, 1);
    }

    #[tokio::test]
    async fn results_are_bounded_by_their_bytes() {
        let operations = Operations::default();
        for n in 0..5 {
            run(&operations, &key(&n.to_string()), MOST_BYTES / 4);
        }
        assert_eq!(status(&operations, &key("0")), None);
        assert_eq!(status(&operations, &key("4")), Some(ExecutionStatus::Succeeded));
        assert!(operations.lock().bytes <= MOST_BYTES);
    }

    #[tokio::test]
    async fn only_so_many_go_on_that_nobody_waits_for() {
        let operations = Operations::default();
        let begin = |id: &str, manner| operations.begin(&key(id), execution(ExecutionStatus::Running, 0), None, manner);
        for n in 0..MOST_RUNNING {
            assert!(begin(&format!("awaited {n}"), Manner::Awaited).is_ok());
        }
        let tokens: Vec<_> = (0..MOST_RUNNING).map(|n| begin(&format!("beside {n}"), Manner::Beside).unwrap()).collect();
        let one_more = || begin("more", Manner::Beside);
        assert!(matches!(one_more(), Err(NotBegun::Full { running: MOST_RUNNING })));
        assert!(begin("awaited", Manner::Awaited).is_ok());
        operations.withdraw(&key("beside 0"), tokens[0]);
        let token = one_more().unwrap();
        assert!(matches!(begin("yet another", Manner::Beside), Err(NotBegun::Full { .. })));
        operations.end(&key("more"), token, execution(ExecutionStatus::Succeeded, 1));
        assert!(begin("yet another", Manner::Beside).is_ok());
    }
}
