//! Migrations: the numbered SQL files of `migrations/`, embedded and applied in order.
//!
//! Each number stands there twice, once in the words of each database.

use sea_orm::{ConnectionTrait, DbBackend};
use sea_orm_migration::prelude::*;

use crate::store::{Error, Unusable, sql};

/// Brings the schema to the newest number; each file in a transaction of its own.
pub(super) async fn apply(connection: &sea_orm::DatabaseConnection) -> Result<(), Error> {
    known(connection).await?;
    Ok(Files::up(connection, None).await?)
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
