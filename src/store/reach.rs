//! Whether a shared database can be reached: asked on a connection of its own, so that nobody's long
//! statement looks like a database that is gone.

use std::time::Duration;

use sea_orm::DatabaseConnection;

use crate::store::{Error, postgres, sql};

/// Longest wait for an answer.
const ANSWERS_WITHIN: Duration = Duration::from_millis(1500);

/// Asks a database whether it is there.
#[derive(Debug)]
pub struct Reach(DatabaseConnection);

impl Reach {
    /// For the PostgreSQL behind a url; `None` for an embedded database, which is where we are.
    pub async fn of(url: &str) -> Result<Option<Self>, Error> {
        if !postgres::is_url(url) {
            return Ok(None);
        }
        Ok(Some(Self(postgres::connect_asker(url).await?)))
    }

    /// Whether it answers and can be written to.
    pub async fn answers(&self) -> bool {
        let asked = sql::first(&self.0, "SELECT CAST(pg_is_in_recovery() AS INTEGER)", []);
        match tokio::time::timeout(ANSWERS_WITHIN, asked).await {
            Ok(Ok(Some(row))) => sql::flag(&row, 0).is_ok_and(|standby| !standby),
            _ => false,
        }
    }
}
