use rusqlite::{Connection, OptionalExtension, params};

use super::{Store, StoreError, signed, unix_ms, unsigned};
use crate::Digest;

/// So long a client may ask for an execution that an earlier server began, milliseconds ...
const KEPT_MS: u64 = 86_400_000;
/// ... among so many.
const MOST: u64 = 100_000;

impl Store {
    /// Notes that an execution has begun which can be asked for by its id. Not waited for.
    pub fn begin_operation(&self, pool: &str, identifier: Digest, id: &str) {
        let (pool, id, now) = (pool.to_owned(), id.to_owned(), unix_ms());
        self.tell("an operation", move |connection| {
            let sql = "INSERT OR REPLACE INTO operations (pool, identifier, id, begun_unix_ms) VALUES (?, ?, ?, ?)";
            connection.prepare_cached(sql)?.execute(params![pool, identifier.to_string(), id, signed(now)])?;
            Ok(())
        });
    }

    /// When it began, milliseconds since 1970 UTC; `None` where there was none, or not lately.
    pub async fn operation_begun(&self, pool: &str, identifier: Digest, id: &str) -> Result<Option<u64>, StoreError> {
        let (pool, id) = (pool.to_owned(), id.to_owned());
        self.ask(move |connection| {
            let sql = "SELECT begun_unix_ms FROM operations WHERE pool = ? AND identifier = ? AND id = ?";
            let begun = connection.prepare_cached(sql)?.query_row(params![pool, identifier.to_string(), id], |row| row.get(0));
            begun.map(unsigned).optional()
        })
        .await
    }
}

/// Forgets at most so many of those that are too old or too many. How many went.
pub(super) fn prune(connection: &mut Connection, step: u64) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM operations WHERE number IN (SELECT number FROM \
               (SELECT number, begun_unix_ms FROM operations ORDER BY number LIMIT ?1) \
               WHERE begun_unix_ms < ?2 OR number <= (SELECT max(number) FROM operations) - ?3)";
    let oldest = unix_ms().saturating_sub(KEPT_MS);
    connection.prepare_cached(sql)?.execute(params![signed(step), signed(oldest), signed(MOST)])
}
