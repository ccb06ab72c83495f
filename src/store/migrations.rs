//! Migrations: the numbered SQL files of `migrations/`, embedded and applied in order.
//!
//! Each number stands there twice, once in the words of each database.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend};
use sea_orm_migration::prelude::*;

use crate::store::shards::Sharding;
use crate::store::writer::jittered;
use crate::store::{Error, Unusable, sql};

/// How often a schema that others may be changing is brought up to date.
const TRIES_MAX: u32 = 10;

/// Longest pause between two tries.
const TRY_PAUSE: Duration = Duration::from_secs(1);

/// Brings the schema to the newest number; each file in a transaction of its own. Of several nodes
/// that start at once one is first with each file: the others find it done when they try again.
pub(super) async fn apply(connection: &sea_orm::DatabaseConnection) -> Result<(), Error> {
    known(connection).await?;
    let mut tries = match Sharding::of(connection) {
        Sharding::One => 1,
        Sharding::Many => TRIES_MAX,
    };
    loop {
        tries -= 1;
        match Files::up(connection, None).await {
            Err(error) if tries > 0 => {
                tracing::debug!(%error, "migrations: another node may be at them");
                tokio::time::sleep(jittered(TRY_PAUSE)).await;
            }
            done => return Ok(done?),
        }
    }
}

/// Whether there is a schema of ours at all. One that a later version of this program has changed is
/// refused: nobody knows what its rows mean.
pub(super) async fn known(connection: &sea_orm::DatabaseConnection) -> Result<bool, Error> {
    let exists = sql::dialect(
        connection,
        "SELECT count(*) FROM sqlite_master WHERE name = 'seaql_migrations'",
        "SELECT CAST(count(to_regclass('seaql_migrations')) AS BIGINT)",
    );
    let row = sql::first(connection, exists, []).await?;
    if row.map_or(Ok(0), |row| sql::int(&row, 0))? == 0 {
        return Ok(false);
    }
    let applied = "SELECT version FROM seaql_migrations ORDER BY version";
    let ours = Files::migrations();
    for row in sql::all(connection, applied, []).await? {
        let migration = sql::text(&row, 0)?;
        if !ours.iter().any(|file| file.name() == migration) {
            return Err(Unusable::NewerSchema { migration }.into());
        }
    }
    Ok(true)
}

struct Files;

macro_rules! file {
    ($name:literal) => {
        Box::new(File {
            name: $name,
            sqlite: include_str!(concat!("../../migrations/sqlite/", $name, ".sql")),
            postgres: include_str!(concat!("../../migrations/postgres/", $name, ".sql")),
        })
    };
}

impl MigratorTrait for Files {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            file!("0001_follow"),
            file!("0002_carriers"),
            file!("0003_components"),
            file!("0004_sync"),
            file!("0005_health"),
            file!("0006_nodes"),
            file!("0007_retention"),
            file!("0008_asked"),
            file!("0009_broadcasts"),
            file!("0010_clicks_statistics"),
            file!("0011_kf_cursors"),
        ]
    }
}

struct File {
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

impl MigrationName for File {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for File {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let sql = match connection.get_database_backend() {
            DbBackend::Postgres => self.postgres,
            _ => self.sqlite,
        };
        connection.execute_unprepared(sql).await.map(|_| ())
    }
}
