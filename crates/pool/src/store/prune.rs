use std::time::Duration;

use rusqlite::params;

use super::{Store, StoreError, operations, signed, unix_ms};
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

impl Store {
    /// Forgets the usage that is not to be kept, and operations that nobody asks for any more, at most so much as one step takes. How
    /// many rows went; 0 where all is well.
    pub async fn prune_usage(&self, kept: UsageKept) -> Result<u64, StoreError> {
        let now = unix_ms();
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
            Ok((gone + operations::prune(connection, STEP)?) as u64)
        })
        .await
    }

    /// Forgets it in the background, for as long as this is polled.
    pub async fn keep_pruned(self, kept: UsageKept) {
        loop {
            let pause = match self.prune_usage(kept).await {
                Ok(0) => LOOK,
                Ok(_) => PAUSE,
                Err(StoreError::Gone) => return,
                Err(error) => {
                    tracing::warn!(%error, "old usage cannot be forgotten for now");
                    LOOK
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}
