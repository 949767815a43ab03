//! SQLite: one writer connection, several readers, migrations, and errors that say what was
//! attempted.
//!
//! WAL with `synchronous = FULL`: a committed transaction survives kill -9 and power loss. All
//! writes go through the one connection of [`Db::write`], so they are in order and never meet
//! `SQLITE_BUSY`.

pub mod accounts;
pub mod credentials;
pub mod holds;
pub mod hosts;
pub(crate) mod legal_holds;
pub mod sessions;

use crate::{StartError, StoreError};
use sqlx::{
    Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{path::Path, time::Duration};

/// Pages and the API read side by side; more only adds memory.
const READERS: u32 = 4;

/// How long a statement waits for another process's lock: a backup tool may read.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The open database.
#[derive(Clone, Debug)]
pub struct Db {
    writer: SqlitePool,
    reader: SqlitePool,
}

impl Db {
    /// Opens (or makes) the database at `path` and brings its schema up to date.
    ///
    /// # Errors
    /// It cannot be opened, or is newer than this program.
    pub async fn open(path: &Path) -> Result<Self, StartError> {
        let open = |source| StartError::Open { path: path.into(), source };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // What is removed is overwritten: an erased payload must not stay in a free page.
            .pragma("secure_delete", "ON")
            .busy_timeout(BUSY_TIMEOUT);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options.clone())
            .await
            .map_err(open)?;
        sqlx::migrate!("./migrations")
            .run(&writer)
            .await
            .map_err(|source| StartError::Migrate { path: path.into(), source })?;
        let reader = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.read_only(true))
            .await
            .map_err(open)?;
        Ok(Self { writer, reader })
    }

    /// For reading; sees everything that is committed.
    #[must_use]
    pub fn read(&self) -> &SqlitePool {
        &self.reader
    }

    /// Begins the one write transaction; dropped without commit, it changes nothing.
    ///
    /// # Errors
    /// The database is closed or out of reach.
    pub async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.doing("begin a transaction")
    }

    /// Moves everything from the write-ahead log into the database and empties it, so that nothing
    /// that was removed stays there. Left to the next checkpoint while somebody reads.
    ///
    /// # Errors
    /// The database is closed or out of reach.
    pub async fn scrub(&self) -> Result<(), StoreError> {
        let pragma = "PRAGMA wal_checkpoint(TRUNCATE)";
        sqlx::query(pragma).fetch_all(&self.writer).await.doing("empty the write-ahead log")?;
        Ok(())
    }

    /// Waits for the last transaction and closes.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

/// Names what was attempted.
pub(crate) trait Doing<T> {
    /// Turns an SQLite error into a [`StoreError`].
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Database { doing, source })
    }
}

/// SQLite's integers are signed: a time past the year 292 million is cut.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A page size within `max`; 0 means `max`.
pub(crate) fn page(limit: usize, max: usize) -> i64 {
    let limit = if limit == 0 { max } else { limit.min(max) };
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Reads a stored value back, or says which cannot be read.
pub(crate) fn parse<T, E: ToString>(
    (table, column, key): (&'static str, &'static str, &str),
    result: Result<T, E>,
) -> Result<T, StoreError> {
    result.map_err(|error| StoreError::Corrupt {
        table,
        column,
        key: key.to_owned(),
        problem: error.to_string(),
    })
}

/// A pattern for `LIKE … ESCAPE '\'` that finds `text` anywhere.
pub(crate) fn like(text: &str) -> String {
    let mut pattern = String::from("%");
    for char in text.chars() {
        if matches!(char, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(char);
    }
    pattern.push('%');
    pattern
}
