//! Table `components`: each third-party platform's newest verify ticket.
//!
//! A ticket is a secret: it is read where a token is asked for, and shown nowhere.

use std::fmt;

use sea_orm::{DatabaseConnection, QueryResult};
use secrecy::{ExposeSecret, SecretString};

use crate::clock::Timestamp;
use crate::store::sql::{self, instant, text};
use crate::store::{Error, Store};

/// A `component_verify_ticket` as the platform pushed it.
#[derive(Clone)]
pub struct Ticket {
    pub value: SecretString,
    /// By the platform's clock; it is good for 12 hours.
    pub pushed_at: Timestamp,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("pushed_at", &self.pushed_at)
            .finish_non_exhaustive()
    }
}

/// How a component stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The operator's name for it.
    pub key: String,
    pub app_id: String,
    /// When the platform pushed the newest ticket.
    pub ticket_at: Option<Timestamp>,
    /// When its accounts were last compared with the platform's list, by our clock.
    pub reconciled_at: Option<Timestamp>,
}

/// Makes the configured components known, as keys and app ids; others are configured no more.
pub async fn configure(store: &Store, known: Vec<(String, String)>) -> Result<(), Error> {
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                sql::run(tx, "UPDATE components SET key = ''", []).await?;
                for (key, app_id) in known {
                    let sql = "INSERT INTO components (app_id, key) VALUES (?1, ?2)
                               ON CONFLICT (app_id) DO UPDATE SET key = ?2";
                    sql::run(tx, sql, [app_id.into(), key.into()]).await?;
                }
                Ok(())
            })
        })
        .await
}

/// Keeps a ticket, unless a newer one is here: pushes may overtake each other.
pub async fn keep_ticket(store: &Store, app_id: &str, ticket: Ticket) -> Result<(), Error> {
    let app_id = app_id.to_owned();
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                sql::run(
                    tx,
                    "INSERT INTO components (app_id, ticket, ticket_at) VALUES (?1, ?2, ?3)
                     ON CONFLICT (app_id) DO UPDATE SET ticket = ?2, ticket_at = ?3
                     WHERE components.ticket_at <= ?3",
                    [
                        app_id.into(),
                        ticket.value.expose_secret().into(),
                        ticket.pushed_at.0.into(),
                    ],
                )
                .await?;
                Ok(())
            })
        })
        .await
}

/// The newest ticket of a component.
pub async fn ticket(read: &DatabaseConnection, app_id: &str) -> Result<Option<Ticket>, Error> {
    let sql = "SELECT ticket, ticket_at FROM components WHERE app_id = ?1 AND ticket <> ''";
    let row = sql::first(read, sql, [app_id.into()]).await?;
    row.map(|row| {
        Ok(Ticket {
            value: SecretString::from(text(&row, 0)?),
            pushed_at: instant(&row, 1)?,
        })
    })
    .transpose()
}

/// Notes that a component's accounts are as the platform lists them.
pub async fn note_reconciled(store: &Store, app_id: &str, now: Timestamp) -> Result<(), Error> {
    let app_id = app_id.to_owned();
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                sql::run(
                    tx,
                    "INSERT INTO components (app_id, reconciled_at) VALUES (?1, ?2)
                     ON CONFLICT (app_id) DO UPDATE SET reconciled_at = ?2",
                    [app_id.into(), now.0.into()],
                )
                .await?;
                Ok(())
            })
        })
        .await
}

/// The configured components, by key.
pub async fn standings(read: &DatabaseConnection) -> Result<Vec<Standing>, Error> {
    let sql = "SELECT key, app_id, ticket_at, reconciled_at FROM components
               WHERE key <> '' ORDER BY key";
    let rows = sql::all(read, sql, []).await?;
    let known = |at: Timestamp| (at.0 > 0).then_some(at);
    let standing = |row: &QueryResult| {
        Ok(Standing {
            key: text(row, 0)?,
            app_id: text(row, 1)?,
            ticket_at: known(instant(row, 2)?),
            reconciled_at: known(instant(row, 3)?),
        })
    };
    rows.iter().map(standing).collect()
}
