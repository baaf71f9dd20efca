use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Store, StoreError, prune::OperationsKept, signed, unix_ms};
use crate::Digest;

/// Of more than so many executions the oldest are forgotten.
const MOST: u64 = 100_000;
/// What a row holds beside its outcome, bytes, about.
const ROW_BYTES: usize = 512;
/// So much is written before it is looked at again whether it is too much, bytes.
const LOOK_BYTES: u64 = 8 << 20;
/// The status of an execution that its server did not see the end of.
const LOST: &str = "lost";

/// What an execution is known by. Its id means something only together with its pool and its identifier.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OperationKey {
    /// The pool's name.
    pub pool: String,
    /// The session's identifier.
    pub identifier: Digest,
    /// The execution's id.
    pub id: String,
}

/// The right to an execution's row: taken before the row is asked for, so that it can be given back at any moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationClaim(i64);

/// SHA-256 of what an execution was asked to run.
pub type RequestDigest = [u8; 32];

/// An execution as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationRecord {
    /// What it was asked to run; `None` where nobody may ask a second time.
    pub request: Option<RequestDigest>,
    /// How far it is.
    pub state: OperationState,
}

/// How far an execution is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationState {
    /// It goes on, or waits.
    Begun,
    /// The server ended before it did.
    Lost,
    /// It is over.
    Ended {
        /// A word of the caller's.
        status: String,
        /// What came of it, in the caller's words; `None` where that was forgotten, for want of room.
        outcome: Option<String>,
    },
}

impl Store {
    /// A claim that no other has.
    pub fn claim_operation(&self) -> OperationClaim {
        OperationClaim(self.next_operation())
    }

    /// Notes durably that an execution begins. `Some`: there is one of this key already, which is left as it is.
    pub async fn begin_operation(
        &self,
        claim: OperationClaim,
        key: OperationKey,
        request: Option<RequestDigest>,
    ) -> Result<Option<OperationRecord>, StoreError> {
        let now = unix_ms();
        self.ask_durably(move |connection| {
            let sql = "INSERT INTO operations (number, pool, identifier, id, begun_unix_ms, request) VALUES (?, ?, ?, ?, ?, ?) \
                       ON CONFLICT (pool, identifier, id) DO NOTHING";
            let values = params![claim.0, key.pool, key.identifier.to_string(), key.id, signed(now), request.as_ref()];
            match connection.prepare_cached(sql)?.execute(values)? {
                0 => find(connection, &key),
                _ => Ok(None),
            }
        })
        .await
    }

    /// Notes durably that an execution is over, and what came of it.
    pub async fn end_operation(&self, claim: OperationClaim, status: &'static str, outcome: String) -> Result<(), StoreError> {
        let bytes = self.note_outcome(&outcome);
        self.ask_durably(move |connection| end(connection, claim, status, &outcome, bytes)).await
    }

    /// [`Store::end_operation`], not waited for.
    pub fn end_operation_soon(&self, claim: OperationClaim, status: &'static str, outcome: String) {
        let bytes = self.note_outcome(&outcome);
        self.tell("what came of an execution", move |connection| end(connection, claim, status, &outcome, bytes));
    }

    /// An execution that never began never was. Not waited for; nothing happens where the claim's row went to another, or is over.
    pub fn withdraw_operation(&self, claim: OperationClaim) {
        self.tell("that an execution never began", move |connection| {
            let sql = "DELETE FROM operations WHERE number = ? AND ended_unix_ms IS NULL";
            connection.prepare_cached(sql)?.execute([claim.0]).map(drop)
        });
    }

    /// The execution of this key; `None` where there was none, or not lately.
    pub async fn operation(&self, key: OperationKey) -> Result<Option<OperationRecord>, StoreError> {
        self.ask(move |connection| find(connection, &key)).await
    }

    /// Counts what is about to be written, and has it pruned where it is much. The row's size.
    fn note_outcome(&self, outcome: &str) -> u64 {
        let bytes = (outcome.len() + ROW_BYTES) as u64;
        self.outcomes.add(bytes, LOOK_BYTES);
        bytes
    }
}

fn find(connection: &Connection, key: &OperationKey) -> rusqlite::Result<Option<OperationRecord>> {
    let sql = "SELECT request, status, outcome FROM operations WHERE pool = ? AND identifier = ? AND id = ?";
    let values = params![key.pool, key.identifier.to_string(), key.id];
    connection.prepare_cached(sql)?.query_row(values, read).optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<OperationRecord> {
    let request = row.get(0)?;
    let state = match row.get::<_, Option<String>>(1)? {
        None => OperationState::Begun,
        Some(status) if status == LOST => OperationState::Lost,
        Some(status) => OperationState::Ended { status, outcome: row.get(2)? },
    };
    Ok(OperationRecord { request, state })
}

fn end(connection: &Connection, claim: OperationClaim, status: &str, outcome: &str, bytes: u64) -> rusqlite::Result<()> {
    let sql =
        "UPDATE operations SET ended_unix_ms = ?, status = ?, bytes = ?, outcome = ? WHERE number = ? AND ended_unix_ms IS NULL";
    connection.prepare_cached(sql)?.execute(params![signed(unix_ms()), status, signed(bytes), outcome, claim.0]).map(drop)
}

/// What the server before this one had begun ended with it.
pub(super) fn end_those_left(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "UPDATE operations SET ended_unix_ms = ?, status = ? WHERE ended_unix_ms IS NULL";
    connection.execute(sql, params![signed(unix_ms()), LOST]).map(drop)
}

/// The highest number that a row has.
pub(super) fn last_number(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT coalesce(max(number), 0) FROM operations", [], |row| row.get(0))
}

/// What of the executions is too much, as it was when somebody looked. Looking reads many rows; a step does not.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooMuch {
    /// Those that ended before are too old, Unix time in milliseconds.
    before_unix_ms: i64,
    /// Rows up to this number are too many. No row has number 0.
    row: i64,
    /// For outcomes up to this row's there is no room.
    outcome: i64,
}

impl TooMuch {
    pub(super) fn look(connection: &Connection, kept: OperationsKept) -> rusqlite::Result<Self> {
        let age_ms = u64::try_from(kept.age.as_millis()).unwrap_or(u64::MAX);
        let before_unix_ms = signed(unix_ms().saturating_sub(age_ms));
        let numbers = "SELECT coalesce(min(number), 0), coalesce(max(number), 0) FROM operations";
        let (first, last) = connection.query_row(numbers, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        // Attempts that were refused have numbers, and no rows: where there are too few numbers the rows need not be counted.
        let row = if last - first < signed(MOST) {
            0
        } else {
            let sql = "SELECT number FROM operations ORDER BY number DESC LIMIT 1 OFFSET ?";
            connection.query_row(sql, [signed(MOST)], |row| row.get(0)).optional()?.unwrap_or(0)
        };
        let mut outcomes = connection.prepare("SELECT number, bytes FROM operations WHERE bytes > 0 ORDER BY number DESC")?;
        let (mut outcomes, mut so_far, mut outcome) = (outcomes.query([])?, 0_i64, 0);
        while let Some(row) = outcomes.next()? {
            so_far = so_far.saturating_add(row.get(1)?);
            if so_far > signed(kept.bytes) {
                outcome = row.get(0)?;
                break;
            }
        }
        Ok(Self { before_unix_ms, row, outcome })
    }

    /// Forgets at most so many rows that are too old or too many, and as many outcomes, the oldest first. How many.
    pub(super) fn prune(self, connection: &Connection, step: u64) -> rusqlite::Result<usize> {
        // What goes on is nobody's to take.
        let sql = "DELETE FROM operations WHERE number IN (SELECT number FROM \
                   (SELECT number, ended_unix_ms FROM operations WHERE ended_unix_ms IS NOT NULL ORDER BY number LIMIT ?1) \
                   WHERE ended_unix_ms < ?2 OR number <= ?3)";
        let gone = connection.prepare_cached(sql)?.execute(params![signed(step), self.before_unix_ms, self.row])?;
        // That an id was used is known longer than what came of it: it must not run again.
        let sql = "UPDATE operations SET bytes = 0, outcome = NULL WHERE number IN \
                   (SELECT number FROM operations WHERE bytes > 0 AND number <= ? ORDER BY number LIMIT ?)";
        Ok(gone + connection.prepare_cached(sql)?.execute(params![self.outcome, signed(step)])?)
    }
}

#[cfg(test)]
mod tests;
