//! SQLite: how the file is opened, locked and kept durable.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{ConnectOptions, Database, DatabaseConnection};

use crate::store::{Error, sql};

/// First version without the WAL-reset corruption (fixed 2026-03-13).
const SQLITE_MIN: (u32, u32, u32) = (3, 51, 3);

/// Rows that SQLite's thread may be ahead of their reader.
const ROWS_AT_ONCE: usize = 2048;

/// Connections for reading: API, console, and the wheel's loader.
const READERS_MAX: u32 = 4;

/// Size of a spool's pages.
const PAGE_BYTES: u64 = 4096;

/// The file behind a `sqlite://` URL.
pub(super) fn path_of(url: &str) -> Result<PathBuf, Error> {
    let path = url.strip_prefix("sqlite://").unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    if path.is_empty() || path == ":memory:" {
        return Err(Error::Url);
    }
    Ok(PathBuf::from(path))
}

/// The write-ahead log beside a database file.
pub(super) fn wal_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

/// Takes the lock that keeps a second process from writing the same database.
pub(super) fn lock(path: &Path) -> Result<File, Error> {
    let io = |what: &str, source| Error::Io {
        what: format!("{what} {}", path.display()),
        source,
    };
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder).map_err(|e| io("make the folder of", e))?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(PathBuf::from(name))
        .map_err(|e| io("open the lock of", e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(path.display().to_string())),
        Err(TryLockError::Error(e)) => Err(io("lock", e)),
    }
}

/// Makes the file where there is none, for its owner only: tickets and tokens are in it. Its log takes
/// its permissions over.
pub(super) fn create(path: &Path) -> Result<(), Error> {
    let mut options = File::options();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let made = options.open(path).map(drop);
    made.map_err(|source| Error::Io {
        what: format!("open {}", path.display()),
        source,
    })
}

/// The one connection that writes. `synchronous=FULL`: what was acknowledged survives a power cut.
pub(super) async fn connect_writer(path: &Path) -> Result<DatabaseConnection, Error> {
    let connection = connect(path, 1, |options| {
        options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("wal_autocheckpoint", "4000")
            .pragma("journal_size_limit", "67108864")
            .pragma("cache_size", "-65536")
            .pragma("temp_store", "memory")
    })
    .await?;
    check_version(&connection).await?;
    Ok(connection)
}

/// The one connection of a spool, as durable; its file never has more than so many bytes. What is
/// deleted is overwritten: people are in it whom somebody may ask us to forget.
pub(super) async fn connect_spool(
    path: &Path,
    bytes_max: u64,
) -> Result<DatabaseConnection, Error> {
    let pages_max = (bytes_max / PAGE_BYTES).to_string();
    let connection = connect(path, 1, move |options| {
        options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("page_size", PAGE_BYTES.to_string())
            .pragma("max_page_count", pages_max.clone())
            .pragma("secure_delete", "on")
            .pragma("journal_size_limit", "67108864")
    })
    .await?;
    check_version(&connection).await?;
    Ok(connection)
}

/// Connections that can only read, and never checkpoint.
pub(super) async fn connect_readers(path: &Path) -> Result<DatabaseConnection, Error> {
    connect(path, READERS_MAX, |options| {
        options
            .create_if_missing(false)
            .pragma("query_only", "on")
            .pragma("wal_autocheckpoint", "0")
            .pragma("cache_size", "-4096")
    })
    .await
}

async fn connect(
    path: &Path,
    connections_max: u32,
    tune: impl Fn(SqliteConnectOptions) -> SqliteConnectOptions + Send + Sync + 'static,
) -> Result<DatabaseConnection, Error> {
    let mut options = ConnectOptions::new("sqlite://placeholder");
    let path = path.to_owned();
    options
        .max_connections(connections_max)
        .min_connections(1)
        .sqlx_logging(false)
        .acquire_timeout(Duration::from_secs(10))
        .map_sqlx_sqlite_opts(move |options| {
            // Rows cross from SQLite's thread in one go: each crossing costs more than the row.
            tune(
                options
                    .filename(&path)
                    .busy_timeout(Duration::from_secs(5))
                    .row_buffer_size(ROWS_AT_ONCE),
            )
        });
    Ok(Database::connect(options).await?)
}

async fn check_version(connection: &DatabaseConnection) -> Result<(), Error> {
    let row = sql::first(connection, "SELECT sqlite_version()", []).await?;
    let version: String = match row {
        Some(row) => row.try_get_by_index(0)?,
        None => String::new(),
    };
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    if (next(), next(), next()) < SQLITE_MIN {
        return Err(Error::SqliteTooOld(version));
    }
    Ok(())
}
