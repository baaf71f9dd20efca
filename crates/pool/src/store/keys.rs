use std::fmt;

use rusqlite::{OptionalExtension, Row, params};

use super::{Store, StoreError, signed, unsigned};

/// An API key, without its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Names it for ever.
    pub id: String,
    /// What its owner calls it. Need not be unique.
    pub name: String,
    /// SHA-256 of the secret.
    pub secret_sha256: [u8; 32],
    /// What it may do, as its owner module writes it.
    pub scopes: String,
    /// When it was made, milliseconds since 1970 UTC.
    pub created_unix_ms: u64,
    /// When it was revoked.
    pub revoked_unix_ms: Option<u64>,
    /// When it was last accepted, as far as that was told.
    pub last_used_unix_ms: Option<u64>,
}

/// Without the digest: it is of no use to a reader of logs.
impl fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRecord")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .field("created_unix_ms", &self.created_unix_ms)
            .field("revoked_unix_ms", &self.revoked_unix_ms)
            .field("last_used_unix_ms", &self.last_used_unix_ms)
            .finish_non_exhaustive()
    }
}

const COLUMNS: &str = "id, name, secret_sha256, scopes, created_unix_ms, revoked_unix_ms, last_used_unix_ms";

fn record(row: &Row<'_>) -> rusqlite::Result<KeyRecord> {
    let time = |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(index)?.map(unsigned));
    Ok(KeyRecord {
        id: row.get(0)?,
        name: row.get(1)?,
        secret_sha256: row.get(2)?,
        scopes: row.get(3)?,
        created_unix_ms: unsigned(row.get(4)?),
        revoked_unix_ms: time(5)?,
        last_used_unix_ms: time(6)?,
    })
}

impl Store {
    /// Keeps a new key.
    ///
    /// # Errors
    /// Also where the id or the secret is another key's.
    pub async fn add_key(&self, key: KeyRecord) -> Result<(), StoreError> {
        self.ask_durably(move |connection| {
            let times = [Some(key.created_unix_ms), key.revoked_unix_ms, key.last_used_unix_ms].map(|time| time.map(signed));
            connection.execute(
                &format!("INSERT INTO keys ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"),
                params![key.id, key.name, key.secret_sha256, key.scopes, times[0], times[1], times[2]],
            )?;
            Ok(())
        })
        .await
    }

    /// All keys, revoked ones too, the oldest first.
    pub async fn keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.ask(|connection| {
            let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM keys ORDER BY created_unix_ms, id"))?;
            let rows = statement.query_map([], record)?;
            rows.collect()
        })
        .await
    }

    /// The key with this secret, also if it is revoked. Asked of the file each time: a key that another process made or
    /// revoked counts from its next use.
    pub async fn key_of_secret(&self, secret_sha256: [u8; 32]) -> Result<Option<KeyRecord>, StoreError> {
        self.ask(move |connection| {
            let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM keys WHERE secret_sha256 = ?"))?;
            statement.query_row([secret_sha256], record).optional()
        })
        .await
    }

    /// Revokes a key for ever. Whether there is such a key; one that is revoked keeps its time.
    pub async fn revoke_key(&self, id: &str, now_unix_ms: u64) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.ask_durably(move |connection| {
            let now = signed(now_unix_ms);
            let sql = "UPDATE keys SET revoked_unix_ms = coalesce(revoked_unix_ms, ?) WHERE id = ?";
            Ok(connection.execute(sql, params![now, id])? > 0)
        })
        .await
    }

    /// Notes that a key was accepted. Not waited for.
    pub fn key_used(&self, id: &str, now_unix_ms: u64) {
        let id = id.to_owned();
        self.tell("the last use of a key", move |connection| {
            let sql = "UPDATE keys SET last_used_unix_ms = max(coalesce(last_used_unix_ms, 0), ?) WHERE id = ?";
            connection.execute(sql, params![signed(now_unix_ms), id])?;
            Ok(())
        });
    }
}
