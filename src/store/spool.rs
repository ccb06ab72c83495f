//! Table `spool`: events that wait for a database that is away, in a file of this machine's own.
//!
//! An SQLite file beside the database, as durable as an embedded one and readable by its owner only.
//! Deliberately absent: when an event goes there and how it leaves, which `inbound::spool` knows.

use std::fmt;
use std::path::Path;

use sea_orm::{DatabaseConnection, DbErr, RuntimeErr};

use crate::clock::Timestamp;
use crate::store::sql::{self, Rows, int, text};
use crate::store::{Error, sqlite};

/// Ids grow for ever, so that one names an event even after others have gone. `aside` says why an
/// event was left for a person to look at.
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS spool (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    account  TEXT NOT NULL,
    taken_at INTEGER NOT NULL,
    arrival  TEXT NOT NULL,
    aside    TEXT
)";

/// The row that `SpoolFile::try_writing` writes and deletes, and its size.
const TRIAL_ID: i64 = 0;
const TRIAL_BYTES: i64 = 8192;

/// A file that has grown to so many pages is made small again once it is empty: 64 MiB.
const PAGES_KEPT: i64 = 16_384;

/// `SQLITE_FULL`: the disk, or the number of pages that the file may have.
const FULL: &str = "13";

/// An event as it is kept.
#[derive(Clone)]
pub struct Entry {
    /// Key of its account.
    pub account: String,
    pub taken_at: Timestamp,
    /// The arrival as JSON.
    pub arrival: String,
}

impl fmt::Debug for Entry {
    /// Shows neither follower nor text, as logs must not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("account", &self.account)
            .field("taken_at", &self.taken_at)
            .finish_non_exhaustive()
    }
}

/// An event in the file.
#[derive(Clone, Debug)]
pub struct Spooled {
    pub id: i64,
    pub entry: Entry,
}

/// How many events of each account wait.
pub type Waiting = Vec<(String, usize)>;

/// An open spool file. Nobody else has it open.
#[derive(Debug)]
pub struct SpoolFile {
    connection: DatabaseConnection,
    _lock: std::fs::File,
}

impl SpoolFile {
    /// Opens a file, or makes one; what was set aside waits again.
    pub async fn open(path: &Path, bytes_max: u64) -> Result<(Self, Waiting), Error> {
        let lock = sqlite::lock(path)?;
        sqlite::create(path)?;
        let connection = sqlite::connect_spool(path, bytes_max).await?;
        sql::run(&connection, SCHEMA, []).await?;
        let file = Self {
            connection,
            _lock: lock,
        };
        // On a full disk neither can be done, nor does it have to be.
        file.remove_trial().await.ok();
        let again = "UPDATE spool SET aside = NULL WHERE aside IS NOT NULL";
        sql::run(&file.connection, again, []).await.ok();
        let waiting = file.waiting().await?;
        Ok((file, waiting))
    }

    async fn waiting(&self) -> Result<Waiting, Error> {
        let by_account = "SELECT account, count(*) FROM spool WHERE aside IS NULL GROUP BY account";
        let rows = sql::all(&self.connection, by_account, []).await?;
        let waiting = rows
            .iter()
            .map(|row| Ok((text(row, 0)?, sql::small(row, 1, "spool")?)));
        waiting.collect()
    }

    /// Appends events in one commit: all of them or none.
    pub async fn append(&self, events: &[Entry]) -> Result<(), Error> {
        let rows = Rows::of(events)
            .text("account", |one| one.account.clone())
            .int("taken_at", |one| one.taken_at.0)
            .text("arrival", |one| one.arrival.clone());
        sql::run_over(
            &self.connection,
            "INSERT INTO spool (account, taken_at, arrival)
             SELECT r.account, r.taken_at, r.arrival FROM {rows}",
            rows,
            [],
        )
        .await?;
        Ok(())
    }

    /// The first events after one, oldest first, without those that were set aside.
    pub async fn front(&self, after: i64, most: usize) -> Result<Vec<Spooled>, Error> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = sql::all(
            &self.connection,
            "SELECT id, account, taken_at, arrival FROM spool
             WHERE id > ?1 AND aside IS NULL ORDER BY id LIMIT ?2",
            [after.into(), most.into()],
        )
        .await?;
        let events = rows.iter().map(|row| {
            Ok(Spooled {
                id: int(row, 0)?,
                entry: Entry {
                    account: text(row, 1)?,
                    taken_at: sql::instant(row, 2)?,
                    arrival: text(row, 3)?,
                },
            })
        });
        events.collect()
    }

    /// Deletes the events up to one that the store has.
    pub async fn remove_through(&self, id: i64) -> Result<(), Error> {
        let gone = "DELETE FROM spool WHERE id <= ?1 AND aside IS NULL";
        sql::run(&self.connection, gone, [id.into()]).await?;
        Ok(())
    }

    /// Leaves an event for a person to look at; the others go on.
    pub async fn set_aside(&self, id: i64, why: &str) -> Result<(), Error> {
        let aside = "UPDATE spool SET aside = ?2 WHERE id = ?1";
        sql::run(&self.connection, aside, [id.into(), why.into()]).await?;
        Ok(())
    }

    /// Whether an event could be appended: something as large is written and deleted.
    pub async fn try_writing(&self) -> Result<(), Error> {
        sql::run(
            &self.connection,
            "INSERT INTO spool (id, account, taken_at, arrival, aside)
             VALUES (?1, '', 0, hex(zeroblob(?2 / 2)), 'trial')
             ON CONFLICT (id) DO UPDATE SET arrival = excluded.arrival",
            [TRIAL_ID.into(), TRIAL_BYTES.into()],
        )
        .await?;
        self.remove_trial().await
    }

    async fn remove_trial(&self) -> Result<(), Error> {
        let gone = "DELETE FROM spool WHERE id = ?1";
        sql::run(&self.connection, gone, [TRIAL_ID.into()]).await?;
        Ok(())
    }

    /// Gives an empty file's space back and overwrites its log.
    pub async fn shrink(&self) -> Result<(), Error> {
        let row = sql::first(&self.connection, "PRAGMA page_count", []).await?;
        if row.map_or(Ok(0), |row| int(&row, 0))? > PAGES_KEPT {
            sql::run(&self.connection, "VACUUM", []).await?;
        }
        sql::all(&self.connection, "PRAGMA wal_checkpoint(TRUNCATE)", []).await?;
        Ok(())
    }

    /// Closes the file.
    pub async fn close(self) {
        self.connection.close().await.ok();
    }
}

/// Whether there was no room: on the disk, or in what the file may have of it.
pub fn is_full(error: &Error) -> bool {
    let Error::Database(DbErr::Exec(RuntimeErr::SqlxError(error))) = error else {
        return false;
    };
    let code = error.as_database_error().and_then(|said| said.code());
    code.is_some_and(|code| code == FULL)
}
