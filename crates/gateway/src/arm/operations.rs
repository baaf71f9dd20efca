//! Operations that clients may still ask for.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use greenroom_wire::arm::{ArmError, Operation, OperationId, OperationState, PoolId};

/// How long an operation is known after its end: `az` asks a second time even where the first answer was final.
const KEPT: Duration = Duration::from_secs(600);
/// Most operations that are known; the oldest are forgotten first.
const MOST: usize = 1000;

/// What an operation does to its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    ended: Option<Instant>,
}

/// The operations of this process. They do not outlive it: a client that asks after a restart is told that there is none, and
/// finds the pool as it is.
#[derive(Debug, Default)]
pub(super) struct Operations(Mutex<VecDeque<Known>>);

impl Operations {
    pub(super) fn begin(&self, kind: Kind, pool: &PoolId, id: OperationId) -> Operation {
        let operation = Operation { id, state: OperationState::InProgress, started_at: super::now(), ended_at: None };
        let mut known = self.lock();
        known.retain(|known| known.ended.is_none_or(|ended| ended.elapsed() < KEPT));
        if known.len() >= MOST {
            known.pop_front();
        }
        known.push_back(Known { operation: operation.clone(), pool: pool.clone(), kind, ended: None });
        operation
    }

    pub(super) fn end(&self, id: &OperationId, result: Result<(), ArmError>) {
        if let Some(known) = self.lock().iter_mut().find(|known| known.operation.id == *id) {
            known.operation.state = match result {
                Ok(()) => OperationState::Succeeded,
                Err(error) => OperationState::Failed(error),
            };
            known.operation.ended_at = Some(super::now());
            known.ended = Some(Instant::now());
        }
    }

    pub(super) fn find(&self, id: &OperationId) -> Result<Known, ArmError> {
        let known = self.lock();
        let found = known.iter().find(|known| known.operation.id.operation == id.operation);
        found.cloned().ok_or_else(|| ArmError::OperationNotFound(id.operation.clone()))
    }

    /// How the making of this pool stands, where it is known.
    pub(super) fn creation_of(&self, pool: &str) -> Option<OperationState> {
        let known = self.lock();
        let last = known.iter().rev().find(|known| known.pool.name == pool)?;
        (last.kind == Kind::Create).then(|| last.operation.state.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str) -> PoolId {
        PoolId { subscription: "s".to_owned(), resource_group: "rg".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn the_oldest_operations_are_forgotten_first() {
        let operations = Operations::default();
        let id = |number: usize| OperationId::new(&pool("p"), "eastus", format!("op-{number}"));
        for number in 0..=MOST {
            operations.begin(Kind::Create, &pool("p"), id(number));
        }
        assert_eq!(operations.find(&id(0)).unwrap_err().code(), "OperationNotFound");
        assert!(operations.find(&id(1)).is_ok());
        assert!(operations.find(&id(MOST)).is_ok());
    }

    #[test]
    fn a_pool_is_as_its_last_operation_left_it() {
        let operations = Operations::default();
        let id = OperationId::new(&pool("p"), "eastus", "op-1");
        assert_eq!(operations.creation_of("p"), None);
        operations.begin(Kind::Create, &pool("p"), id.clone());
        assert_eq!(operations.creation_of("p"), Some(OperationState::InProgress));
        assert_eq!(operations.creation_of("q"), None);
        let failure = ArmError::Provisioning("python3 is not installed".to_owned());
        operations.end(&id, Err(failure.clone()));
        assert_eq!(operations.creation_of("p"), Some(OperationState::Failed(failure)));
        operations.begin(Kind::Delete, &pool("p"), OperationId::new(&pool("p"), "eastus", "op-2"));
        assert_eq!(operations.creation_of("p"), None, "a pool made anew by other means is not the one that failed");
    }
}
