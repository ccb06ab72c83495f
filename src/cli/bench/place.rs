//! Where measurements make their databases: files below a folder, or one PostgreSQL database that is
//! emptied each time.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sea_orm::{ConnectionTrait, Database};
use url::Url;

/// A folder, and the database if it is not a file there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    dir: PathBuf,
    postgres: Option<String>,
}

impl Place {
    /// # Errors
    /// When the database's name does not say that it may be emptied.
    pub(super) fn new(dir: PathBuf, postgres: Option<String>) -> Result<Self> {
        if let Some(url) = &postgres {
            let url =
                Url::parse(url).context("--database is a URL like postgres://user@host/bench")?;
            ensure!(
                url.path().starts_with("/bench"),
                "--database is emptied again and again: its name has to begin with `bench`"
            );
        }
        Ok(Self { dir, postgres })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The database on its own, for a process that is started on it.
    pub(super) fn postgres(&self) -> Option<&str> {
        self.postgres.as_deref()
    }

    /// An empty database of this name; its URL, and the folder that is its own.
    pub(super) async fn fresh(&self, name: &str) -> Result<(String, PathBuf)> {
        let dir = self.dir.join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        if let Some(url) = &self.postgres {
            let connection = Database::connect(url).await.context("open --database")?;
            connection
                .execute_unprepared("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
                .await?;
            connection.close().await?;
        }
        Ok((self.url(&dir), dir))
    }

    /// The URL of the database whose own folder is `dir`.
    pub(super) fn url(&self, dir: &Path) -> String {
        let file = || format!("sqlite://{}", dir.join("bench.db").display());
        self.postgres.clone().unwrap_or_else(file)
    }

    /// What the figures are of.
    pub(super) fn words(&self) -> &'static str {
        match self.postgres {
            Some(_) => "PostgreSQL, synchronous_commit=on",
            None => "SQLite FULL",
        }
    }
}
