//! PostgreSQL: how its connections are made.
//!
//! One connection writes, a few others read. Both are bounded by the server itself, so that a
//! forgotten transaction or a lock of somebody else's never holds us up for long.

use std::time::Duration;

use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{ConnectOptions as _, Connection as _, Error as SqlxError};
use sea_orm::{ConnectOptions, Database, DatabaseConnection};

use crate::store::{Error, unusable};

/// Connections for reading: API, console, and the wheel's loader.
const READERS_MAX: u32 = 8;

/// Longest wait for a free connection, or for a new one.
const ACQUIRE_MAX: Duration = Duration::from_secs(5);

/// Longest wait for a connection that comes back to its pool to be of use again.
const RELEASE_MAX: Duration = Duration::from_secs(2);

/// How plans are made, whoever asks.
const PLANNER: [(&str, &str); 3] = [
    // Sets of rows come as arrays, and pages with limits: a plan made once knows neither's size.
    ("plan_cache_mode", "force_custom_plan"),
    // Pages begin at a key and end early, which only a plain walk along the index does.
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
];

/// Whether a url is one of PostgreSQL's.
pub(super) fn is_url(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// Looks whether the server can be used, to be written to if `writes`; says why it cannot.
pub(super) async fn look(url: &str, writes: bool) -> Result<(), Error> {
    unusable::look(&unusable::options(url)?, writes).await
}

/// The one connection that writes.
pub(super) async fn connect_writer(url: &str) -> Result<DatabaseConnection, Error> {
    connect(url, 1, |options| {
        options.application_name("dripwheel writer").options([
            // A commit is acknowledged once it is on the disk, whatever the server's own setting.
            ("synchronous_commit", "on"),
            ("statement_timeout", "10s"),
            ("lock_timeout", "5s"),
            // A node that stands still must not keep the rows of its last transaction from others.
            ("idle_in_transaction_session_timeout", "3s"),
            // What is written is named by its key. Where a table was never analyzed the planner
            // guesses otherwise, and walks it for a handful of rows.
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("max_parallel_workers_per_gather", "0"),
        ])
    })
    .await
}

/// Connections that can only read.
pub(super) async fn connect_readers(url: &str) -> Result<DatabaseConnection, Error> {
    connect(url, READERS_MAX, |options| {
        options.application_name("dripwheel reader").options([
            ("default_transaction_read_only", "on"),
            ("statement_timeout", "30s"),
            ("idle_in_transaction_session_timeout", "30s"),
        ])
    })
    .await
}

/// One connection that asks whether the server is there, and waits for nobody's statements.
pub(super) async fn connect_asker(url: &str) -> Result<DatabaseConnection, Error> {
    connect(url, 1, |options| {
        options.application_name("dripwheel reach").options([
            ("default_transaction_read_only", "on"),
            ("statement_timeout", "2s"),
        ])
    })
    .await
}

async fn connect(
    url: &str,
    connections_max: u32,
    tune: fn(PgConnectOptions) -> PgConnectOptions,
) -> Result<DatabaseConnection, Error> {
    let tuned = tune(unusable::options(url)?.options(PLANNER));
    // A placeholder, because the ORM tells its whole options at TRACE, and a url holds the password.
    let mut options = ConnectOptions::new("postgres://placeholder");
    options
        .max_connections(connections_max)
        .min_connections(1)
        .sqlx_logging(false)
        .acquire_timeout(ACQUIRE_MAX)
        .connect_timeout(ACQUIRE_MAX)
        // Left in the middle of a statement that nobody answers, a connection would never come back,
        // and a pool of one have none.
        .map_sqlx_postgres_pool_opts(|pool| {
            pool.after_release(|connection, _| {
                Box::pin(async move {
                    let ping = tokio::time::timeout(RELEASE_MAX, connection.ping()).await;
                    ping.unwrap_or(Err(SqlxError::PoolTimedOut)).map(|()| true)
                })
            })
        })
        .map_sqlx_postgres_opts(move |_| tuned.clone().disable_statement_logging());
    Ok(Database::connect(options).await?)
}
