//! Databases for tests: a fresh one for each, and questions to its rows.
//!
//! `DRIPWHEEL_TEST_DATABASE` says which kind a run is about: `sqlite` unless it says `postgres`.
//! Statements are written so that both understand them, with `$1`, `$2` for values.

use std::path::PathBuf;
use std::sync::OnceLock;

use dripwheel::store;
use sea_orm::{
    ConnectionTrait, Database, DatabaseConnection, DbBackend, QueryResult, Statement, Value,
};
use tempfile::TempDir;
use tokio::runtime::Builder;

use super::cluster::Cluster;

/// A database that nobody has used before; dropped, it goes.
#[derive(Debug)]
pub struct Fresh {
    /// As in `database: { url: … }`.
    pub url: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Folder(TempDir),
    Cluster {
        cluster: &'static Cluster,
        name: String,
    },
}

impl Fresh {
    /// Of the kind that this run is about.
    pub fn new() -> Self {
        let kind = std::env::var("DRIPWHEEL_TEST_DATABASE");
        match kind.as_deref() {
            Err(_) | Ok("sqlite") => Self::file(),
            Ok("postgres") => Self::on_server(),
            Ok(other) => panic!("DRIPWHEEL_TEST_DATABASE is sqlite or postgres, not `{other}`"),
        }
    }

    /// A file for SQLite, whatever the run is about.
    pub fn file() -> Self {
        let folder = TempDir::new().unwrap();
        Self {
            url: format!("sqlite://{}", file_in(&folder).display()),
            place: Place::Folder(folder),
        }
    }

    /// On PostgreSQL, whatever the run is about.
    pub fn on_server() -> Self {
        let cluster = Cluster::of_this_process();
        let name = cluster.copy_database(template(cluster));
        Self {
            url: cluster.url(&name),
            place: Place::Cluster { cluster, name },
        }
    }

    /// The file, if it is one.
    pub fn path(&self) -> Option<PathBuf> {
        match &self.place {
            Place::Folder(folder) => Some(file_in(folder)),
            Place::Cluster { .. } => None,
        }
    }

    /// Changes rows behind the program's back, as a broken disk would.
    pub async fn tamper(&self, sql: &str) {
        let connection = Database::connect(&self.url).await.unwrap();
        connection.execute_unprepared(sql).await.unwrap();
        connection.close().await.unwrap();
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Place::Cluster { cluster, name } = &self.place {
            cluster.drop_database(name);
        }
    }
}

/// The database that others begin as: the program's tables with nothing in them, so that migrations
/// run once for all tests of this process.
fn template(cluster: &'static Cluster) -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let name = cluster.create_database();
        let url = cluster.url(&name);
        // Whoever asks is within a runtime, where nothing may block on another one.
        let prepared = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(store::prepare(&url)).unwrap();
        });
        prepared.join().unwrap();
        name
    })
}

fn file_in(folder: &TempDir) -> PathBuf {
    folder.path().join("test.db")
}

/// The rows that a query finds.
pub async fn rows(
    read: &DatabaseConnection,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Vec<QueryResult> {
    let statement = Statement::from_sql_and_values(read.get_database_backend(), sql, values);
    read.query_all_raw(statement).await.unwrap()
}

/// The one number that a query gives.
pub async fn number(read: &DatabaseConnection, sql: &str) -> i64 {
    rows(read, sql, []).await[0].try_get_by_index(0).unwrap()
}

/// Where in the rows a text stands: table and column. The two know their own tables differently.
pub async fn places(read: &DatabaseConnection, text: &str) -> Vec<String> {
    let (columns, holds) = match read.get_database_backend() {
        DbBackend::Postgres => (
            "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT)
             FROM information_schema.columns WHERE table_schema = current_schema()",
            // Bytes as a text are hexadecimal.
            "position($1 IN CAST(\"?\" AS TEXT)) > 0 OR
             position(encode(convert_to($1, 'UTF8'), 'hex') IN CAST(\"?\" AS TEXT)) > 0",
        ),
        _ => (
            "SELECT t.name, c.name FROM sqlite_master AS t, pragma_table_info(t.name) AS c
             WHERE t.type = 'table'",
            "instr(CAST(\"?\" AS TEXT), $1) > 0",
        ),
    };
    let mut places = Vec::new();
    for row in rows(read, columns, []).await {
        let table: String = row.try_get_by_index(0).unwrap();
        let column: String = row.try_get_by_index(1).unwrap();
        let holds = holds.replace('?', &column);
        let sql = format!("SELECT count(*) FROM \"{table}\" WHERE {holds}");
        let found = rows(read, &sql, [text.into()]).await;
        if found[0].try_get_by_index::<i64>(0).unwrap() > 0 {
            places.push(format!("{table}.{column}"));
        }
    }
    places
}
