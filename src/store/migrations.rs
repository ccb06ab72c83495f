//! Migrations: the numbered SQL files of `migrations/`, embedded and applied in order.
//!
//! Each number stands there twice, once in the words of each database.

use sea_orm::{ConnectionTrait, DbBackend};
use sea_orm_migration::prelude::*;

use crate::store::Error;

/// Brings the schema to the newest number; each file in a transaction of its own.
pub(super) async fn apply(connection: &sea_orm::DatabaseConnection) -> Result<(), Error> {
    Ok(Files::up(connection, None).await?)
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
