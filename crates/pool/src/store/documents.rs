use rusqlite::{OptionalExtension, params};

use super::{Store, StoreError};

impl Store {
    /// Keeps a text under a kind (the module that owns it) and a name, instead of the one that was there.
    pub async fn put_document(&self, kind: &'static str, name: &str, text: &str) -> Result<(), StoreError> {
        let (name, text) = (name.to_owned(), text.to_owned());
        self.ask_durably(move |connection| {
            connection
                .execute("INSERT OR REPLACE INTO documents (kind, name, text) VALUES (?, ?, ?)", params![kind, name, text])?;
            Ok(())
        })
        .await
    }

    /// The text under this kind and name.
    pub async fn document(&self, kind: &'static str, name: &str) -> Result<Option<String>, StoreError> {
        let name = name.to_owned();
        self.ask(move |connection| {
            connection
                .query_row("SELECT text FROM documents WHERE kind = ? AND name = ?", params![kind, name], |row| row.get(0))
                .optional()
        })
        .await
    }

    /// Names and texts of this kind, by name.
    pub async fn documents(&self, kind: &'static str) -> Result<Vec<(String, String)>, StoreError> {
        self.ask(move |connection| {
            let mut statement = connection.prepare_cached("SELECT name, text FROM documents WHERE kind = ? ORDER BY name")?;
            let rows = statement.query_map([kind], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })
        .await
    }

    /// Forgets a text. Whether there was one.
    pub async fn delete_document(&self, kind: &'static str, name: &str) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.ask_durably(move |connection| {
            Ok(connection.execute("DELETE FROM documents WHERE kind = ? AND name = ?", params![kind, name])? > 0)
        })
        .await
    }

    /// Forgets the texts of these names, where there are such.
    pub async fn delete_documents(&self, kind: &'static str, names: Vec<String>) -> Result<(), StoreError> {
        self.ask_durably(move |connection| {
            let change = connection.transaction()?;
            for name in &names {
                change.prepare_cached("DELETE FROM documents WHERE kind = ? AND name = ?")?.execute(params![kind, name])?;
            }
            change.commit()
        })
        .await
    }
}
