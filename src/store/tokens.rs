//! Table `access_tokens`: tokens that nodes of a shared store have in common, each fetched by one of them.
//!
//! Tokens are secrets: they leave this table only as `SecretString`s. Instants are the database's.

use std::time::Duration;

use sea_orm::DatabaseConnection;
use secrecy::{ExposeSecret, SecretString};

use crate::clock::millis;
use crate::store::sql::{self, int, text};
use crate::store::{Error, Store};

/// The database's clock, in milliseconds since 1970.
const NOW: &str = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";

/// The token under a name, and how long it lives; `None` when there is none.
pub async fn held(
    read: &DatabaseConnection,
    name: &str,
) -> Result<Option<(SecretString, Duration)>, Error> {
    let sql = format!(
        "SELECT token, ends_at - {NOW} FROM access_tokens
         WHERE name = ?1 AND token <> '' AND ends_at > {NOW}"
    );
    let row = sql::first(read, &sql, [name.into()]).await?;
    row.map(|row| {
        let left = Duration::from_millis(int(&row, 1)?.unsigned_abs());
        Ok((SecretString::from(text(&row, 0)?), left))
    })
    .transpose()
}

/// Lets whoever knows `claim` fetch another token, for so long, unless somebody else does; says
/// whether it may.
pub async fn claim(store: &Store, name: &str, claim: &str, span: Duration) -> Result<bool, Error> {
    let (name, claim) = (name.to_owned(), claim.to_owned());
    let (key, ours) = (name.clone(), claim.clone());
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                let sql = format!(
                    "INSERT INTO access_tokens (name, claim, fetching_until)
                     VALUES (?1, ?2, {NOW} + ?3)
                     ON CONFLICT (name) DO UPDATE SET claim = excluded.claim,
                         fetching_until = excluded.fetching_until
                     WHERE access_tokens.fetching_until <= {NOW}"
                );
                sql::run(tx, &sql, [name.into(), claim.into(), millis(span).into()]).await?;
                Ok(())
            })
        })
        .await?;
    let sql = "SELECT 1 FROM access_tokens WHERE name = ?1 AND claim = ?2";
    let row = sql::first(store.read(), sql, [key.into(), ours.into()]).await?;
    Ok(row.is_some())
}

/// Ends a claim; what was fetched under it, with its life, takes the token's place.
pub async fn end_claim(
    store: &Store,
    name: &str,
    claim: &str,
    fetched: Option<(&SecretString, Duration)>,
) -> Result<(), Error> {
    let (name, claim) = (name.to_owned(), claim.to_owned());
    let fetched = fetched.map(|(token, life)| (token.clone(), millis(life)));
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                if let Some((token, life_ms)) = fetched {
                    let sql = format!(
                        "UPDATE access_tokens SET token = ?3, ends_at = {NOW} + ?4
                         WHERE name = ?1 AND claim = ?2"
                    );
                    let values = [
                        name.clone().into(),
                        claim.clone().into(),
                        token.expose_secret().into(),
                        life_ms.into(),
                    ];
                    sql::run(tx, &sql, values).await?;
                }
                let sql = "UPDATE access_tokens SET claim = '', fetching_until = 0
                           WHERE name = ?1 AND claim = ?2";
                sql::run(tx, sql, [name.into(), claim.into()]).await?;
                Ok(())
            })
        })
        .await
}
