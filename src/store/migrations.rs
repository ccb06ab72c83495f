//! Migrations: the numbered SQL files of `migrations/`, embedded and applied in order.
//!
//! Each number stands there twice, once in the words of each database.

use sea_orm::{ConnectionTrait, DbBackend};
use sea_orm_migration::prelude::*;

use crate::store::shards::Sharding;
use crate::store::{Error, sql};

/// Of the lock that nodes of a shared store take before they look at the schema: any number that
/// nobody else takes.
const LOCK: i64 = 0x6472_6970;

/// Brings the schema to the newest number; each file in a transaction of its own. Of nodes that start
/// at once, one does, and the others wait for it. The pool has one connection, which holds the lock.
pub(super) async fn apply(connection: &sea_orm::DatabaseConnection) -> Result<(), Error> {
    let shared = Sharding::of(connection) == Sharding::Many;
    if shared {
        // Longer than a statement mostly may: another node may be changing large tables.
        sql::run(connection, "SET statement_timeout = 0", []).await?;
        sql::run(connection, "SET lock_timeout = 0", []).await?;
        sql::run(connection, "SELECT pg_advisory_lock(?1)", [LOCK.into()]).await?;
    }
    let applied = Files::up(connection, None).await;
    if shared {
        sql::run(connection, "SELECT pg_advisory_unlock(?1)", [LOCK.into()]).await?;
        sql::run(connection, "RESET lock_timeout", []).await?;
        sql::run(connection, "RESET statement_timeout", []).await?;
    }
    Ok(applied?)
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
            file!("0007_asked"),
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
