use rusqlite::{params, types::Type};

use super::{Store, StoreError};
use crate::PoolSpec;

impl Store {
    /// All pools, by name.
    pub async fn pools(&self) -> Result<Vec<PoolSpec>, StoreError> {
        self.ask(|connection| {
            let mut statement = connection.prepare_cached("SELECT spec FROM pools ORDER BY name")?;
            let rows = statement.query_map([], |row| {
                let text: String = row.get(0)?;
                serde_json::from_str(&text)
                    .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
            })?;
            rows.collect()
        })
        .await
    }

    /// Keeps a pool, instead of the one of that name that was there.
    pub async fn put_pool(&self, spec: &PoolSpec) -> Result<(), StoreError> {
        let name = spec.name.clone();
        // Numbers, texts and lists of them: it can be written.
        let text = serde_json::to_string(spec).unwrap_or_default();
        self.ask_durably(move |connection| {
            connection.execute("INSERT OR REPLACE INTO pools (name, spec) VALUES (?, ?)", params![name, text])?;
            Ok(())
        })
        .await
    }

    /// Forgets a pool. Its usage stays.
    pub async fn delete_pool(&self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.ask_durably(move |connection| {
            let change = connection.transaction()?;
            change.execute("DELETE FROM pools WHERE name = ?", [&name])?;
            // Another pool of this name is another's.
            change.execute("DELETE FROM operations WHERE pool = ?", [&name])?;
            change.commit()
        })
        .await
    }
}
