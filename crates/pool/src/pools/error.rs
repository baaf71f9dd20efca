use greenroom_core::Blame;

use crate::{Denied, PoolKind, SpecError, StoreError};

/// Why a pool could not be made, changed or looked at.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// There is none of that name.
    #[error("there is no pool {name:?}")]
    NotFound {
        /// The name.
        name: String,
    },
    /// There is one of that name already.
    #[error("there is a pool {name:?} already")]
    Exists {
        /// The name.
        name: String,
    },
    /// What a pool runs cannot be changed.
    #[error("the pool {name:?} runs {has}, which cannot be changed to {given}; delete it first, or choose another name", has = .has.as_str(), given = .given.as_str())]
    Kind {
        /// The name.
        name: String,
        /// What it runs.
        has: PoolKind,
        /// What it was to run.
        given: PoolKind,
    },
    /// A specification that cannot be.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pool is closing, or the server is.
    #[error("the pools are closed: the server is shutting down")]
    Closed,
}

impl PoolError {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            PoolError::NotFound { .. } | PoolError::Exists { .. } | PoolError::Kind { .. } => Blame::Caller,
            PoolError::Spec(error) => error.blame(),
            PoolError::Store(error) => error.blame(),
            PoolError::Closed => Blame::Us,
        }
    }
}

/// Why a call gets no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such pool.
    #[error("there is no pool {name:?}")]
    NoSuchPool {
        /// Its name.
        name: String,
    },
    /// The pool gives none.
    #[error(transparent)]
    Denied(#[from] Denied),
}

impl Refused {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            Refused::NoSuchPool { .. } => Blame::Caller,
            Refused::Denied(why) => why.blame(),
        }
    }

    /// Advice for `Retry-After`, seconds; `None` where waiting does not help.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Refused::NoSuchPool { .. } => None,
            Refused::Denied(why) => why.retry_after_s(),
        }
    }
}
