//! The pool: sessions that are ready, sessions that belong to an identifier, and what they cost.
//!
//! | module | what it is |
//! |---|---|
//! | `spec` | what an operator asks of a pool, with its allowed ranges |
//! | `decide` | the decisions of one pool: no I/O, no clock, no locks |
//! | `pools` | the tasks that carry the decisions out, over any [`Backend`] |
//! | `store` | what outlives the process: pools, keys, usage, executions (SQLite, one writer thread) |
//!
//! Tasks and their channels: each pool has one **owner** task, which alone changes the pool's state. It reads one channel of
//! messages: calls that want a session, leases that were dropped, and what the owner's own helper tasks report. A **maker** task per
//! session that is being made, a **watcher** per session that lives and an **ender** per session that is destroyed each send
//! the owner one report. The store's **writer** is a thread with a channel of its own.
//!
//! Architecture invariant: no HTTP, no namespaces; nothing here knows how a session is made, only when.
#![forbid(unsafe_code)]

mod backend;
pub mod decide;
mod end;
mod identifier;
mod pools;
mod spec;
mod store;

pub use backend::{Backend, CreateError, SessionUsage};
pub use decide::{Allocation, Denied, Failure, FailureKind, Snapshot, Totals};
pub use end::{EndReason, Ended};
pub use identifier::{Digest, Identifier, IdentifierError};
pub use pools::{Lease, PoolError, Pools, Refused, SessionState, SessionView};
pub use spec::{Lifecycle, LifecycleKind, LifecyclePatch, Network, PoolKind, PoolPatch, PoolSpec, Rules, SessionLimits, SpecError};
pub use store::{
    FILE, Kept, KeyRecord, OperationClaim, OperationKey, OperationRecord, OperationState, OperationsKept, RequestDigest, Store,
    StoreError, UsageEnd, UsageFilter, UsageId, UsageKept, UsageRow, UsageStart, UsageSum,
};
