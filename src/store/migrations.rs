//! Migrations: the numbered SQL files of `migrations/`, embedded and applied in order.

use sea_orm_migration::prelude::*;

use crate::store::Error;

/// Brings the schema to the newest number; each file in a transaction of its own.
pub(super) async fn apply(connection: &sea_orm::DatabaseConnection) -> Result<(), Error> {
    Ok(Files::up(connection, None).await?)
}

struct Files;

impl MigratorTrait for Files {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(File {
                name: "0001_follow",
                sql: include_str!("../../migrations/sqlite/0001_follow.sql"),
            }),
            Box::new(File {
                name: "0002_carriers",
                sql: include_str!("../../migrations/sqlite/0002_carriers.sql"),
            }),
            Box::new(File {
                name: "0003_components",
                sql: include_str!("../../migrations/sqlite/0003_components.sql"),
            }),
            Box::new(File {
                name: "0004_sync",
                sql: include_str!("../../migrations/sqlite/0004_sync.sql"),
            }),
            Box::new(File {
                name: "0005_health",
                sql: include_str!("../../migrations/sqlite/0005_health.sql"),
            }),
        ]
    }
}

struct File {
    name: &'static str,
    sql: &'static str,
}

impl MigrationName for File {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for File {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .get_connection()
            .execute_unprepared(self.sql)
            .await
            .map(|_| ())
    }
}
