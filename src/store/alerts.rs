//! Tables `open_alerts` and `alert_outbox`: alerts that are not over, and alerts that nobody has
//! taken yet. Both change in one commit, so that an alert is told once whatever happens.

use sea_orm::{DatabaseConnection, DatabaseTransaction};

use crate::clock::Timestamp;
use crate::journey::ids::AccountId;
use crate::store::sql::{self, instant, int, small, text};
use crate::store::{Error, Store};

/// What an alert is about: told once until it is over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AlertKey {
    /// Zero for the server.
    pub account: AccountId,
    pub reason: String,
}

/// A message on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The same in every try.
    pub id: String,
    pub body: String,
    pub made_at: Timestamp,
    /// Tries that failed.
    pub tries: u32,
}

/// What happens to an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Raise,
    End,
}

/// Alerts that are not over, each with when it was raised.
pub async fn open(read: &DatabaseConnection) -> Result<Vec<(AlertKey, Timestamp)>, Error> {
    let sql = "SELECT account_id, reason, raised_at FROM open_alerts";
    let rows = sql::all(read, sql, []).await?;
    rows.iter()
        .map(|row| {
            let key = AlertKey {
                account: AccountId(int(row, 0)?),
                reason: text(row, 1)?,
            };
            Ok((key, instant(row, 2)?))
        })
        .collect()
}

/// Raises or ends an alert, and has a message about it sent if there is one.
pub async fn change(
    store: &Store,
    key: AlertKey,
    change: Change,
    message: Option<Outgoing>,
    at: Timestamp,
) -> Result<(), Error> {
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                let (account, reason) = (key.account.0.into(), key.reason.into());
                let changed = match change {
                    Change::Raise => {
                        let sql = "INSERT INTO open_alerts (account_id, reason, raised_at)
                                   VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
                        sql::run(tx, sql, [account, reason, at.0.into()]).await?
                    }
                    Change::End => {
                        let sql = "DELETE FROM open_alerts WHERE account_id = ?1 AND reason = ?2";
                        sql::run(tx, sql, [account, reason]).await?
                    }
                };
                match message {
                    Some(message) if changed > 0 => insert(tx, &message).await,
                    _ => Ok(()),
                }
            })
        })
        .await
}

/// Has a message sent that belongs to no alert that could be over.
pub async fn send(store: &Store, message: Outgoing) -> Result<(), Error> {
    store
        .writer()
        .cold(move |tx| Box::pin(async move { insert(tx, &message).await }))
        .await
}

async fn insert(tx: &DatabaseTransaction, message: &Outgoing) -> Result<(), Error> {
    sql::run(
        tx,
        "INSERT INTO alert_outbox (id, body, made_at, tries, next_at) VALUES (?1, ?2, ?3, 0, ?3)",
        [
            message.id.clone().into(),
            message.body.clone().into(),
            message.made_at.0.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Messages whose next try is due, oldest first, at most `limit`.
pub async fn due(
    read: &DatabaseConnection,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<Outgoing>, Error> {
    let rows = sql::all(
        read,
        "SELECT id, body, made_at, tries FROM alert_outbox WHERE next_at <= ?1
         ORDER BY made_at, id LIMIT ?2",
        [now.0.into(), i64::from(limit).into()],
    )
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Outgoing {
                id: text(row, 0)?,
                body: text(row, 1)?,
                made_at: instant(row, 2)?,
                tries: small(row, 3, "alert_outbox")?,
            })
        })
        .collect()
}

/// A message was taken, or given up.
pub async fn delete(store: &Store, id: String) -> Result<(), Error> {
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                let sql = "DELETE FROM alert_outbox WHERE id = ?1";
                sql::run(tx, sql, [id.into()]).await?;
                Ok(())
            })
        })
        .await
}

/// A try has failed; the next one is at `next_at`.
pub async fn postpone(store: &Store, id: String, next_at: Timestamp) -> Result<(), Error> {
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                let sql = "UPDATE alert_outbox SET tries = tries + 1, next_at = ?2 WHERE id = ?1";
                sql::run(tx, sql, [id.into(), next_at.0.into()]).await?;
                Ok(())
            })
        })
        .await
}
