use std::{
    fs::{DirBuilder, File, OpenOptions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

use rusqlite::Connection;

use super::{FILE, StoreError};

/// "Grnr": tells our files from other programs' (SQLite's `application_id`).
const APPLICATION: i64 = 0x4772_6e72;
/// What brings a file from each format to the next; the number of them is the format of this version.
const STEPS: [&str; 3] = [include_str!("schema_1.sql"), include_str!("schema_2.sql"), include_str!("schema_3.sql")];

/// Makes the directory where there is none, for its owner alone.
pub(super) fn make_directory(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StoreError::Directory { path: path.to_owned(), source })
}

/// Opens or makes a file that nobody else reads: keys' digests and identifiers' digests are in the store.
pub(super) fn private_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| StoreError::Directory { path: path.to_owned(), source })
}

/// The store's file in this directory, in the present format.
pub(super) fn file(directory: &Path) -> Result<Connection, StoreError> {
    let path = directory.join(FILE);
    // Made by us first: SQLite gives the files beside it the same rights.
    drop(private_file(&path)?);
    let of_file = |error| StoreError::of_file(&path, error);
    let mut connection = Connection::open(&path).map_err(of_file)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(of_file)?;
    let (application, format) = identity(&connection).map_err(of_file)?;
    if format > known() {
        return Err(StoreError::Newer { path, found: format, known: known() });
    }
    let is_empty = is_empty(&connection).map_err(of_file)?;
    if application != APPLICATION && !is_empty {
        return Err(StoreError::Foreign { path });
    }
    connection.pragma_update(None, "journal_mode", "WAL").map_err(of_file)?;
    prepare(&mut connection).map_err(of_file)?;
    Ok(connection)
}

/// The same in memory.
pub(super) fn memory() -> Result<Connection, StoreError> {
    let mut connection = Connection::open_in_memory().map_err(StoreError::Sql)?;
    prepare(&mut connection).map_err(StoreError::Sql)?;
    Ok(connection)
}

fn known() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

fn identity(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    Ok((number("application_id")?, number("user_version")?))
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // KiB: the store is small and asked seldom.
    connection.pragma_update(None, "cache_size", -256)?;
    let (_, mut format) = identity(connection)?;
    for step in STEPS.iter().skip(usize::try_from(format).unwrap_or(usize::MAX)) {
        // All of a step or nothing of it, whenever we are killed.
        let change = connection.transaction()?;
        change.execute_batch(step)?;
        format += 1;
        change.pragma_update(None, "application_id", APPLICATION)?;
        change.pragma_update(None, "user_version", format)?;
        change.commit()?;
    }
    Ok(())
}
