//! Operations that clients may still ask for, also after a restart.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use greenroom_pool::{Store, StoreError};
use greenroom_wire::arm::{ArmError, Operation, OperationId, OperationState, PoolId};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

/// How long an operation is known after its end: `az` asks a second time even where the first answer was final.
const KEPT: Duration = Duration::from_secs(600);
/// Most operations that are known; the oldest are forgotten first.
const MOST: usize = 1000;
/// The kind under which the store has these, by the operation's id.
const DOCUMENT: &str = "arm.operation";

/// What an operation does to its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Waits for its first session.
    Create,
    /// Waits until nothing is left of it.
    Delete,
}

/// An operation and what it is about.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) operation: Operation,
    pub(super) pool: PoolId,
    pub(super) kind: Kind,
    ended_unix_ms: Option<u64>,
}

/// The operations. In memory are all that are known; in the store the same, for the next server.
#[derive(Debug)]
pub(super) struct Operations {
    store: Store,
    known: OnceCell<Mutex<VecDeque<Known>>>,
}

/// An operation as the store has it.
#[derive(Serialize, Deserialize)]
struct Document {
    id: OperationId,
    pool: PoolId,
    kind: Kind,
    started_at: String,
    /// What it came to, where it is over.
    ended: Option<Ended>,
}

#[derive(Serialize, Deserialize)]
struct Ended {
    at: String,
    unix_ms: u64,
    /// Why it failed, if it did.
    failure: Option<Failure>,
}

/// The failures that an operation may have; what the log alone says in full is one of ours.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Failure {
    Provisioning(String),
    ShuttingDown,
    Internal,
}

impl Operations {
    /// Those of this store.
    pub(super) fn new(store: Store) -> Self {
        Self { store, known: OnceCell::new() }
    }

    /// Takes an operation in that goes on. Returns when it is kept: then it may be told.
    pub(super) async fn begin(&self, kind: Kind, pool: &PoolId, id: OperationId) -> Operation {
        let operation = Operation { id, state: OperationState::InProgress, started_at: super::now(), ended_at: None };
        let begun = Known { operation: operation.clone(), pool: pool.clone(), kind, ended_unix_ms: None };
        let mut gone = Vec::new();
        {
            let now = unix_ms();
            let mut known = self.known().await;
            known.retain(|known| {
                known.is_kept(now) || {
                    gone.push(known.name());
                    false
                }
            });
            while known.len() >= MOST {
                gone.extend(known.pop_front().map(|known| known.name()));
            }
            known.push_back(begun.clone());
        }
        self.forget(gone).await;
        self.keep(&begun).await;
        operation
    }

    /// It is over. Returns when that is kept.
    pub(super) async fn end(&self, id: &OperationId, result: Result<(), ArmError>) {
        let found = self.known().await.iter().find(|known| known.operation.id == *id).cloned();
        let Some(mut ended) = found else { return };
        ended.end(result.map_or_else(OperationState::Failed, |()| OperationState::Succeeded));
        // Before it can be asked for: what a client has been told is true after a restart, too.
        self.keep(&ended).await;
        if let Some(known) = self.known().await.iter_mut().find(|known| known.operation.id == *id) {
            *known = ended;
        }
    }

    pub(super) async fn find(&self, id: &OperationId) -> Result<Known, ArmError> {
        let known = self.known().await;
        let found = known.iter().find(|known| known.operation.id.operation == id.operation);
        found.cloned().ok_or_else(|| ArmError::OperationNotFound(id.operation.clone()))
    }

    /// How the making of this pool stands, where it is known.
    pub(super) async fn creation_of(&self, pool: &str) -> Option<OperationState> {
        let known = self.known().await;
        let last = known.iter().rev().find(|known| known.pool.name == pool)?;
        (last.kind == Kind::Create).then(|| last.operation.state.clone())
    }

    /// Those that go on.
    pub(super) async fn going_on(&self) -> Vec<Known> {
        self.known().await.iter().filter(|known| known.ended_unix_ms.is_none()).cloned().collect()
    }

    /// What is known, read when it is asked for first. Not to be held over an `await`.
    async fn known(&self) -> MutexGuard<'_, VecDeque<Known>> {
        let known = self.known.get_or_init(|| async {
            let read = self.read().await;
            Mutex::new(read.unwrap_or_else(|error| {
                tracing::error!(%error, "the operations of the server before this one cannot be read");
                VecDeque::new()
            }))
        });
        known.await.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server before this one left.
    async fn read(&self) -> Result<VecDeque<Known>, StoreError> {
        let now = unix_ms();
        let (mut left, mut gone) = (Vec::new(), Vec::new());
        for (name, text) in self.store.documents(DOCUMENT).await? {
            match serde_json::from_str::<Document>(&text).map(Known::of) {
                Ok(known) if known.is_kept(now) => left.push(known),
                Ok(_) => gone.push(name),
                // Of a later version, which may come back.
                Err(error) => tracing::warn!(operation = name, %error, "what is kept of an operation cannot be read"),
            }
        }
        self.forget(gone).await;
        left.sort_by(|one, other| one.operation.started_at.cmp(&other.operation.started_at));
        Ok(left.into())
    }

    async fn keep(&self, known: &Known) {
        // Texts and numbers: it can be written.
        let text = serde_json::to_string(&Document::of(known)).unwrap_or_default();
        // What it is about has been done, so that it is told all the same.
        if let Err(error) = self.store.put_document(DOCUMENT, &known.name(), &text).await {
            tracing::error!(%error, "an operation will not be known after a restart");
        }
    }

    async fn forget(&self, names: Vec<String>) {
        if names.is_empty() {
            return;
        }
        if let Err(error) = self.store.delete_documents(DOCUMENT, names).await {
            tracing::warn!(%error, "operations that ended long ago cannot be forgotten");
        }
    }
}

impl Known {
    fn name(&self) -> String {
        self.operation.id.operation.clone()
    }

    fn is_kept(&self, now_unix_ms: u64) -> bool {
        self.ended_unix_ms.is_none_or(|ended| u128::from(now_unix_ms.saturating_sub(ended)) < KEPT.as_millis())
    }

    fn end(&mut self, state: OperationState) {
        self.operation.state = state;
        self.operation.ended_at = Some(super::now());
        self.ended_unix_ms = Some(unix_ms());
    }

    fn of(document: Document) -> Self {
        let Document { id, pool, kind, started_at, ended } = document;
        let state = match &ended {
            None => OperationState::InProgress,
            Some(Ended { failure: None, .. }) => OperationState::Succeeded,
            Some(Ended { failure: Some(Failure::Provisioning(reason)), .. }) => {
                OperationState::Failed(ArmError::Provisioning(reason.clone()))
            }
            Some(Ended { failure: Some(Failure::ShuttingDown), .. }) => OperationState::Failed(ArmError::ShuttingDown),
            Some(Ended { failure: Some(Failure::Internal), .. }) => OperationState::Failed(ArmError::Internal),
        };
        let (ended_at, ended_unix_ms) = ended.map(|ended| (ended.at, ended.unix_ms)).unzip();
        Self { operation: Operation { id, state, started_at, ended_at }, pool, kind, ended_unix_ms }
    }
}

impl Document {
    fn of(known: &Known) -> Self {
        let failure = match &known.operation.state {
            OperationState::InProgress | OperationState::Succeeded => None,
            OperationState::Failed(ArmError::Provisioning(reason)) => Some(Failure::Provisioning(reason.clone())),
            OperationState::Failed(ArmError::ShuttingDown) => Some(Failure::ShuttingDown),
            OperationState::Failed(_) => Some(Failure::Internal),
        };
        let ended = known.operation.ended_at.clone().zip(known.ended_unix_ms);
        Self {
            id: known.operation.id.clone(),
            pool: known.pool.clone(),
            kind: known.kind,
            started_at: known.operation.started_at.clone(),
            ended: ended.map(|(at, unix_ms)| Ended { at, unix_ms, failure }),
        }
    }
}

fn unix_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str) -> PoolId {
        PoolId { subscription: "s".to_owned(), resource_group: "rg".to_owned(), name: name.to_owned() }
    }

    fn id(name: &str) -> OperationId {
        OperationId::new(&pool("p"), "eastus", name)
    }

    #[tokio::test]
    async fn the_oldest_operations_are_forgotten_first() {
        let store = Store::in_memory().unwrap();
        let operations = Operations::new(store.clone());
        for number in 0..=MOST {
            operations.begin(Kind::Create, &pool("p"), id(&format!("op-{number}"))).await;
        }
        assert_eq!(operations.find(&id("op-0")).await.unwrap_err().code(), "OperationNotFound");
        assert!(operations.find(&id("op-1")).await.is_ok());
        assert!(operations.find(&id(&format!("op-{MOST}"))).await.is_ok());
        assert_eq!(store.documents(DOCUMENT).await.unwrap().len(), MOST);
    }

    #[tokio::test]
    async fn operations_are_forgotten_some_minutes_after_their_end_and_not_before_it() {
        let store = Store::in_memory().unwrap();
        let operations = Operations::new(store.clone());
        for name in ["over", "on"] {
            operations.begin(Kind::Create, &pool("p"), id(name)).await;
        }
        operations.end(&id("over"), Ok(())).await;
        for known in operations.known().await.iter_mut() {
            known.ended_unix_ms = known.ended_unix_ms.map(|ended| ended - 600_000);
        }
        operations.begin(Kind::Create, &pool("p"), id("new")).await;
        let names: Vec<_> = store.documents(DOCUMENT).await.unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["new", "on"]);
    }

    #[tokio::test]
    async fn the_next_server_knows_what_this_one_told() {
        let store = Store::in_memory().unwrap();
        let operations = Operations::new(store.clone());
        let failures = [ArmError::Provisioning("node is not installed".to_owned()), ArmError::ShuttingDown, ArmError::Internal];
        for (name, result) in ["a", "b", "c", "d"].into_iter().zip([Ok(())].into_iter().chain(failures.map(Err))) {
            operations.begin(Kind::Create, &pool("p"), id(name)).await;
            operations.end(&id(name), result).await;
        }
        operations.begin(Kind::Delete, &pool("q"), id("e")).await;
        let next = Operations::new(store);
        for name in ["a", "b", "c", "d", "e"] {
            let (told, known) = (operations.find(&id(name)).await.unwrap(), next.find(&id(name)).await.unwrap());
            assert_eq!((told.operation, told.pool, told.kind), (known.operation, known.pool, known.kind));
        }
        assert_eq!(next.going_on().await.len(), 1);
        assert_eq!(next.creation_of("p").await, Some(OperationState::Failed(ArmError::Internal)), "the last one counts");
    }

    #[tokio::test]
    async fn a_pool_is_as_its_last_operation_left_it() {
        let operations = Operations::new(Store::in_memory().unwrap());
        assert_eq!(operations.creation_of("p").await, None);
        operations.begin(Kind::Create, &pool("p"), id("op-1")).await;
        assert_eq!(operations.creation_of("p").await, Some(OperationState::InProgress));
        assert_eq!(operations.creation_of("q").await, None);
        let failure = ArmError::Provisioning("python3 is not installed".to_owned());
        operations.end(&id("op-1"), Err(failure.clone())).await;
        assert_eq!(operations.creation_of("p").await, Some(OperationState::Failed(failure)));
        operations.begin(Kind::Delete, &pool("p"), id("op-2")).await;
        assert_eq!(operations.creation_of("p").await, None, "a pool made anew by other means is not the one that failed");
    }
}
