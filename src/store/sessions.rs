//! Table `sessions`: who is signed in to the console, whichever node is asked next.
//!
//! Only hashes are kept, of the cookie and of the API key. Instants are the wall clock's.

use sea_orm::{DatabaseConnection, DatabaseTransaction};

use crate::clock::Timestamp;
use crate::store::sql::{self, text};
use crate::store::{Error, Store};

/// Begins a session under an id, for whoever presented the key with this mark.
pub async fn begin(
    store: &Store,
    id: String,
    mark: String,
    ends_at: Timestamp,
) -> Result<(), Error> {
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                let sql = "INSERT INTO sessions (id, mark, ends_at) VALUES (?1, ?2, ?3)";
                sql::run(tx, sql, [id.into(), mark.into(), ends_at.0.into()]).await?;
                Ok(())
            })
        })
        .await
}

/// The mark of whoever has the session, while it lasts.
pub async fn mark(
    read: &DatabaseConnection,
    id: &str,
    now: Timestamp,
) -> Result<Option<String>, Error> {
    let sql = "SELECT mark FROM sessions WHERE id = ?1 AND ends_at > ?2";
    let row = sql::first(read, sql, [id.into(), now.0.into()]).await?;
    row.map(|row| text(&row, 0)).transpose()
}

/// Ends a session.
pub async fn end(store: &Store, id: String) -> Result<(), Error> {
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                sql::run(tx, "DELETE FROM sessions WHERE id = ?1", [id.into()]).await?;
                Ok(())
            })
        })
        .await
}

/// Forgets sessions that have ended.
pub(super) async fn prune(tx: &DatabaseTransaction, now: Timestamp) -> Result<(), Error> {
    sql::run(
        tx,
        "DELETE FROM sessions WHERE ends_at <= ?1",
        [now.0.into()],
    )
    .await?;
    Ok(())
}
