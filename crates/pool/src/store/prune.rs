use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rusqlite::params;
use tokio::sync::Notify;

use super::{Store, StoreError, operations::TooMuch, signed, unix_ms};
use crate::decide::KEPT_MS;

/// Rows that are looked at in one step: a call that waits for the store waits a millisecond longer at most.
const STEP: u64 = 500;
/// Between two steps where there is more to do.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two looks whether there is.
const LOOK: Duration = Duration::from_secs(3600);

/// How much of the usage is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageKept {
    /// Sessions that ended longer ago are forgotten.
    pub age: Duration,
    /// Of more sessions than this the oldest are forgotten, but no sooner than an hour after their end: so long callers are told of it.
    pub rows: u64,
}

/// How much of the executions is kept that can be asked for by their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationsKept {
    /// Those that ended longer ago are forgotten, their ids too.
    pub age: Duration,
    /// Of what came of them the latest so many bytes are kept.
    pub bytes: u64,
}

/// How much of what is over is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Of sessions.
    pub usage: UsageKept,
    /// Of executions.
    pub operations: OperationsKept,
}

/// What was written since somebody looked whether it is too much.
#[derive(Debug, Default)]
pub(super) struct Growth {
    bytes: AtomicU64,
    is_much: Notify,
}

impl Growth {
    pub(super) fn add(&self, bytes: u64, much: u64) {
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes >= much {
            self.bytes.store(0, Ordering::Relaxed);
            self.is_much.notify_one();
        }
    }
}

impl Store {
    /// Forgets what is not to be kept, at most so much as one step takes. How many rows that concerned; 0 where all is well.
    pub async fn prune(&self, kept: Kept) -> Result<u64, StoreError> {
        let too_much = self.look(kept).await?;
        self.step(kept, too_much).await
    }

    /// What is too much of what takes long to look at.
    async fn look(&self, kept: Kept) -> Result<TooMuch, StoreError> {
        self.ask(move |connection| TooMuch::look(connection, kept.operations)).await
    }

    async fn step(&self, kept: Kept, too_much: TooMuch) -> Result<u64, StoreError> {
        let now = unix_ms();
        let kept = kept.usage;
        let age_ms = u64::try_from(kept.age.as_millis()).unwrap_or(u64::MAX);
        self.ask(move |connection| {
            // Numbers are given in order: what is far enough below the last one is too much. A row that lives is not ours to take.
            let sql = "DELETE FROM usage WHERE id IN (SELECT id FROM \
                       (SELECT id, ended_unix_ms FROM usage WHERE ended_unix_ms IS NOT NULL ORDER BY id LIMIT ?1) WHERE ended_unix_ms < ?2 \
                       OR id <= (SELECT max(id) FROM usage) - ?3 AND ended_unix_ms < ?4)";
            let values = params![
                signed(STEP),
                signed(now.saturating_sub(age_ms)),
                signed(kept.rows),
                signed(now.saturating_sub(KEPT_MS))
            ];
            let gone = connection.prepare_cached(sql)?.execute(values)?;
            Ok((gone + too_much.prune(connection, STEP)?) as u64)
        })
        .await
    }

    /// Forgets it in the background, for as long as this is polled.
    pub async fn keep_pruned(self, kept: Kept) {
        // Looked at once for all steps that it takes.
        let mut looked = None;
        loop {
            let step = async {
                let too_much = match looked {
                    Some(too_much) => too_much,
                    None => self.look(kept).await?,
                };
                Ok::<_, StoreError>((self.step(kept, too_much).await?, too_much))
            };
            let step = step.await;
            looked = step.as_ref().ok().filter(|(gone, _)| *gone > 0).map(|(_, too_much)| *too_much);
            let pause = match step {
                Ok((0, _)) => LOOK,
                Ok(_) => PAUSE,
                Err(StoreError::Gone) => return,
                Err(error) => {
                    tracing::warn!(%error, "what is old cannot be forgotten for now");
                    LOOK
                }
            };
            // More in the meantime is looked at sooner, and still in small steps.
            tokio::time::sleep(pause.min(PAUSE)).await;
            if pause > PAUSE {
                let much = tokio::time::timeout(pause, self.outcomes.is_much.notified());
                drop(much.await);
            }
        }
    }
}
