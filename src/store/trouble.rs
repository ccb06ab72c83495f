//! What a database error means to us: try the same again, wait for the database, or give up.

use sea_orm::sqlx;
use sea_orm::{DbErr, RuntimeErr};

use crate::store::Error;

/// What is to be done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Somebody else was in the way; the same transaction may pass now.
    Again,
    /// The database cannot be reached, or takes no writes.
    Away,
    /// The request itself cannot be written.
    Broken,
}

/// `SQLSTATE`s of PostgreSQL after which the same transaction may pass: serialization failure,
/// deadlock, lock not available, and a key that somebody else has just written.
const AGAIN: [&str; 4] = ["40001", "40P01", "55P03", "23505"];

/// Classes and codes that say that the server goes, is not ready, or only reads.
const AWAY: [&str; 7] = ["08", "57P01", "57P02", "57P03", "57P05", "53300", "25006"];

/// Judges an error of a PostgreSQL.
pub(super) fn of(error: &Error) -> Trouble {
    let Error::Database(error) = error else {
        return match error {
            Error::Away => Trouble::Away,
            _ => Trouble::Broken,
        };
    };
    let inner = match error {
        DbErr::Conn(inner) | DbErr::Exec(inner) | DbErr::Query(inner) => inner,
        DbErr::ConnectionAcquire(_) => return Trouble::Away,
        _ => return Trouble::Broken,
    };
    let RuntimeErr::SqlxError(inner) = inner else {
        return Trouble::Broken;
    };
    match inner.as_ref() {
        sqlx::Error::Database(said) => {
            let code = said.code().unwrap_or_default();
            if AGAIN.contains(&code.as_ref()) {
                Trouble::Again
            } else if AWAY.iter().any(|away| code.starts_with(away)) {
                Trouble::Away
            } else {
                Trouble::Broken
            }
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Trouble::Away,
        _ => Trouble::Broken,
    }
}
