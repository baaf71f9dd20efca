use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};

use super::{Store, StoreError, signed, unix_ms, unsigned};
use crate::{Allocation, Digest, EndReason, SessionUsage, decide::KEPT_MS};

/// A session's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UsageId(pub(super) i64);

/// A session came to belong to an identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageStart {
    /// Its pool.
    pub pool: String,
    /// Whose it is.
    pub identifier: Digest,
    /// Whether it was ready.
    pub allocation: Allocation,
    /// When, milliseconds since 1970 UTC.
    pub started_unix_ms: u64,
}

/// The session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageEnd {
    /// Why.
    pub reason: EndReason,
    /// When, milliseconds since 1970 UTC.
    pub ended_unix_ms: u64,
    /// While a call held it, milliseconds.
    pub busy_ms: u64,
    /// While none did, milliseconds. With `busy_ms` the time for which it was allocated.
    pub idle_ms: u64,
    /// What it used.
    pub usage: SessionUsage,
}

/// Which sessions are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageFilter {
    /// Of this pool only.
    pub pool: Option<String>,
    /// Begun at this time or later, milliseconds since 1970 UTC.
    pub from_unix_ms: Option<u64>,
    /// Begun before this time.
    pub until_unix_ms: Option<u64>,
}

/// What the sessions of a pool used; those that live, as far as it was noted.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct UsageSum {
    /// The pool.
    pub pool: String,
    /// Sessions that came to belong to an identifier.
    pub sessions: u64,
    /// Those of them that still live.
    pub alive: u64,
    /// Those of them that were ready.
    pub warm: u64,
    /// Those of them that had to be waited for.
    pub cold: u64,
    /// Busy and idle, milliseconds.
    pub allocated_ms: u64,
    /// While calls held them, milliseconds.
    pub busy_ms: u64,
    /// While none did, milliseconds.
    pub idle_ms: u64,
    /// User and system time, microseconds.
    pub cpu_us: u64,
    /// Memory integrated over time: bytes × seconds.
    pub memory_byte_s: u64,
    /// Programs, cells and commands run.
    pub executions: u64,
    /// How many ended why.
    pub ended: BTreeMap<String, u64>,
}

/// One session, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct UsageRow {
    /// The pool.
    pub pool: String,
    /// The digest of the identifier, hexadecimal.
    pub identifier: String,
    /// `warm` or `cold`.
    pub allocation: String,
    /// Milliseconds since 1970 UTC.
    pub started_unix_ms: u64,
    /// `None` while it lives.
    pub ended_unix_ms: Option<u64>,
    /// The label of its end.
    pub end_reason: Option<String>,
    /// Milliseconds.
    pub busy_ms: u64,
    /// Milliseconds.
    pub idle_ms: u64,
    /// Microseconds.
    pub cpu_us: u64,
    /// Bytes × seconds.
    pub memory_byte_s: u64,
    /// Programs, cells and commands run.
    pub executions: u64,
}

/// The rows of a filter: its three values, each twice.
const WHERE: &str = "(?1 IS NULL OR pool = ?1) AND (?2 IS NULL OR started_unix_ms >= ?2) AND (?3 IS NULL OR started_unix_ms < ?3)";

impl UsageFilter {
    /// Everything of this pool.
    pub fn of_pool(pool: impl Into<String>) -> Self {
        Self { pool: Some(pool.into()), ..Self::default() }
    }
}

/// Ends what a server before this one left alive.
pub(super) fn end_those_left(connection: &mut Connection, now_unix_ms: u64) -> rusqlite::Result<()> {
    // What they used is known as far as it was noted: the kernel's counters went with them.
    connection.execute(
        "UPDATE usage SET ended_unix_ms = max(?, started_unix_ms), end_reason = ? WHERE ended_unix_ms IS NULL",
        params![signed(now_unix_ms), EndReason::Restart.as_str()],
    )?;
    Ok(())
}

pub(super) fn last_id(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT coalesce(max(id), 0) FROM usage", [], |row| row.get(0))
}

impl Store {
    /// Begins the row of a session. Not waited for.
    pub fn begin_usage(&self, start: UsageStart) -> UsageId {
        let id = self.next_usage();
        self.tell("the beginning of a session", move |connection| {
            let sql = "INSERT INTO usage (id, pool, identifier, allocation, started_unix_ms) VALUES (?, ?, ?, ?, ?)";
            connection.prepare_cached(sql)?.execute(params![
                id.0,
                start.pool,
                start.identifier.to_string(),
                start.allocation.as_str(),
                signed(start.started_unix_ms)
            ])?;
            Ok(())
        });
        id
    }

    /// Notes for how long a session that goes on has been used, milliseconds. Not waited for.
    pub fn note_usage(&self, id: UsageId, busy_ms: u64, idle_ms: u64) {
        self.tell("the use of a session", move |connection| {
            let sql = "UPDATE usage SET busy_ms = ?, idle_ms = ? WHERE id = ? AND ended_unix_ms IS NULL";
            connection.prepare_cached(sql)?.execute(params![signed(busy_ms), signed(idle_ms), id.0])?;
            Ok(())
        });
    }

    /// Ends the row of a session. Not waited for.
    pub fn end_usage(&self, id: UsageId, end: UsageEnd) {
        self.tell("the end of a session", move |connection| {
            let sql = "UPDATE usage SET ended_unix_ms = ?, end_reason = ?, end_number = ?, busy_ms = ?, idle_ms = ?, cpu_us = ?, \
                       memory_byte_s = ?, executions = ? WHERE id = ?";
            connection.prepare_cached(sql)?.execute(params![
                signed(end.ended_unix_ms),
                end.reason.as_str(),
                end.reason.number(),
                signed(end.busy_ms),
                signed(end.idle_ms),
                signed(end.usage.cpu_us),
                signed(end.usage.memory_byte_s),
                signed(end.usage.executions),
                id.0
            ])?;
            Ok(())
        });
    }

    /// The identifiers of a pool whose last session ended within the last hour in a way that their next call is told.
    /// Those who were told have a session since: it is their last one.
    pub async fn untold_ends(&self, pool: &str) -> Result<Vec<(Digest, EndReason)>, StoreError> {
        let pool = pool.to_owned();
        self.ask(move |connection| {
            let sql = "SELECT identifier, end_reason, end_number FROM usage \
                       WHERE id IN (SELECT max(id) FROM usage WHERE pool = ? GROUP BY identifier) AND ended_unix_ms >= ? ORDER BY id";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map(params![pool, signed(unix_ms().saturating_sub(KEPT_MS))], |row| {
                let (identifier, label): (String, String) = (row.get(0)?, row.get(1)?);
                let number: Option<i32> = row.get(2)?;
                Ok(Digest::parse(&identifier).zip(EndReason::of_label(&label, number).filter(|reason| reason.is_told())))
            })?;
            rows.filter_map(Result::transpose).collect()
        })
        .await
    }

    /// Sums by pool, of these sessions.
    pub async fn usage_sums(&self, filter: UsageFilter) -> Result<Vec<UsageSum>, StoreError> {
        self.ask(move |connection| {
            let (pool, from, until) = (filter.pool, filter.from_unix_ms.map(signed), filter.until_unix_ms.map(signed));
            let sql = format!(
                "SELECT pool, coalesce(end_reason, ''), count(*), sum(allocation = 'warm'), sum(allocation = 'cold'), \
                 total(busy_ms), total(idle_ms), total(cpu_us), total(memory_byte_s), total(executions) \
                 FROM usage WHERE {WHERE} GROUP BY pool, 2 ORDER BY pool"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(params![pool, from, until])?;
            let mut sums: Vec<UsageSum> = Vec::new();
            while let Some(row) = rows.next()? {
                add(&mut sums, row)?;
            }
            Ok(sums)
        })
        .await
    }

    /// The sessions themselves, the latest first, at most `most`.
    pub async fn usage_rows(&self, filter: UsageFilter, most: u32) -> Result<Vec<UsageRow>, StoreError> {
        self.ask(move |connection| {
            let (pool, from, until) = (filter.pool, filter.from_unix_ms.map(signed), filter.until_unix_ms.map(signed));
            let sql = format!(
                "SELECT pool, identifier, allocation, started_unix_ms, ended_unix_ms, end_reason, busy_ms, idle_ms, cpu_us, \
                 memory_byte_s, executions FROM usage WHERE {WHERE} ORDER BY id DESC LIMIT ?4"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params![pool, from, until, most], |row| {
                let number = |index| row.get(index).map(unsigned);
                Ok(UsageRow {
                    pool: row.get(0)?,
                    identifier: row.get(1)?,
                    allocation: row.get(2)?,
                    started_unix_ms: number(3)?,
                    ended_unix_ms: row.get::<_, Option<i64>>(4)?.map(unsigned),
                    end_reason: row.get(5)?,
                    busy_ms: number(6)?,
                    idle_ms: number(7)?,
                    cpu_us: number(8)?,
                    memory_byte_s: number(9)?,
                    executions: number(10)?,
                })
            })?;
            rows.collect()
        })
        .await
    }
}

/// Adds the row of one way to end to the sum of its pool.
fn add(sums: &mut Vec<UsageSum>, row: &Row<'_>) -> rusqlite::Result<()> {
    let pool: String = row.get(0)?;
    let reason: String = row.get(1)?;
    if sums.last().is_none_or(|sum| sum.pool != pool) {
        sums.push(UsageSum { pool, ..UsageSum::default() });
    }
    let Some(sum) = sums.last_mut() else { return Ok(()) };
    let count = |index| row.get(index).map(unsigned);
    // `total` cannot overflow: it is a float, exact up to 2^53.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and no column holds less than 0")]
    let total = |index| row.get(index).map(|total: f64| total as u64);
    let sessions = count(2)?;
    sum.sessions += sessions;
    sum.warm += count(3)?;
    sum.cold += count(4)?;
    let (busy_ms, idle_ms): (u64, u64) = (total(5)?, total(6)?);
    sum.busy_ms += busy_ms;
    sum.idle_ms += idle_ms;
    sum.allocated_ms += busy_ms + idle_ms;
    sum.cpu_us += total(7)?;
    sum.memory_byte_s += total(8)?;
    sum.executions += total(9)?;
    if reason.is_empty() {
        sum.alive += sessions;
    } else {
        sum.ended.insert(reason, sessions);
    }
    Ok(())
}
