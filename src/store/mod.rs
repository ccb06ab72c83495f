//! The store: every row, and the one writer that changes them.
//!
//! Reads go through a small pool; every write goes through `writer`, which commits what many
//! callers want in one transaction and answers them only then. The SQL of a table stands in the
//! file named after it. Deliberately absent: decisions, which `journey` and `policy` make.

pub mod accounts;
mod admit;
pub mod adopted;
pub mod alerts;
pub mod assets;
pub mod audit;
pub mod audit_log;
pub mod authorizers;
pub(crate) mod awaited;
pub(crate) mod batch;
pub mod broadcasts;
pub mod chunks;
pub mod clicks;
mod commit;
pub mod components;
mod consents;
pub mod deliveries;
pub mod directory;
pub mod enrollments;
mod entity;
pub mod erasure;
pub mod export;
mod fence;
mod followers;
mod grants;
pub mod health;
mod intent;
mod keeper;
pub mod kf_cursors;
mod knowledge;
pub mod leases;
mod load;
mod migrations;
pub mod nodes;
pub(crate) mod numbers;
pub mod outcomes;
pub mod overview;
pub mod pauses;
mod postgres;
pub mod prospects;
pub mod reach;
pub mod receipts;
pub mod recipients;
pub mod reconcile;
pub mod replays;
pub(crate) mod replies;
mod report;
pub mod retention;
pub(crate) mod save;
pub mod sessions;
pub mod shards;
pub mod spool;
mod sql;
mod sqlite;
pub mod statistics;
pub mod syncs;
pub(crate) mod tables;
pub mod tags;
pub mod timeline;
pub mod timers;
pub mod tokens;
mod trouble;
pub mod unusable;
pub mod versions;
pub mod work;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sea_orm::DatabaseConnection;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::store::health::Tallies;

use commit::Commits;
use erasure::Pseudonyms;
use keeper::Keeper;
pub use knowledge::Knowledge;
use leases::{Holding, Leases};
use nodes::Member;
use numbers::Numbers;
use shards::Sharding;
pub use unusable::{Unusable, shown_url};
pub use writer::Writer;

/// How a store is opened.
#[derive(Clone)]
pub struct StoreSettings {
    /// `sqlite://path`, whose file is made when it is not there, or `postgres://…`.
    pub url: String,
    /// What is due within this span is armed as a delivery at once, without passing the wheel.
    pub lead: Duration,
    /// Name of this node. Of two that share a store under one name the earlier one counts as gone.
    pub node: String,
    /// How long a node that shares a store keeps its shards without being heard of. At least twice as
    /// long as a call to a platform.
    pub lease: Duration,
}

impl fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSettings")
            .field("url", &shown_url(&self.url))
            .field("lead", &self.lead)
            .field("node", &self.node)
            .field("lease", &self.lease)
            .finish()
    }
}

/// How long a lease lasts unless it is said otherwise.
pub const LEASE: Duration = Duration::from_secs(20);

impl StoreSettings {
    /// With everything else as it mostly is.
    pub fn at(url: String, lead: Duration) -> Self {
        Self {
            url,
            lead,
            node: "node".to_owned(),
            lease: LEASE,
        }
    }
}

/// Whether something armed could not be told, since a queue was full: then the rows must be looked
/// at.
#[derive(Clone, Debug, Default)]
struct Hints(Arc<AtomicBool>);

impl Hints {
    fn lose(&self) {
        metrics::counter!("dripwheel_hints_dropped_total").increment(1);
        self.0.store(true, Ordering::Release);
    }

    /// Asking clears it.
    fn lost(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    read: DatabaseConnection,
    writer: Writer,
    knowledge: Arc<Knowledge>,
    leases: Leases,
    /// Id of this node.
    node: i64,
    /// The file of an embedded store.
    path: Option<PathBuf>,
    hints: Hints,
    /// Wakes whoever reconciles followers: something was asked for.
    reconcile: tokio::sync::Notify,
    /// Wakes whoever sends broadcasts: something was asked for.
    broadcast: tokio::sync::Notify,
    health: Arc<Tallies>,
    /// The writer, and what keeps our lease.
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
    /// Ends our lease.
    stop: CancellationToken,
    /// Held for as long as the store is open, so that no second process writes.
    _lock: Option<std::fs::File>,
}

impl Store {
    /// Opens the store for writing, applies migrations and starts the writer. What the writer arms
    /// is told through the second value.
    pub async fn open(
        settings: &StoreSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<(Arc<Self>, mpsc::Receiver<work::Armed>), Error> {
        let mut embedded = None;
        let (write, read) = if postgres::is_url(&settings.url) {
            postgres::look(&settings.url, true).await?;
            let write = postgres::connect_writer(&settings.url).await?;
            migrations::apply(&write).await?;
            (write, postgres::connect_readers(&settings.url).await?)
        } else {
            let path = sqlite::path_of(&settings.url)?;
            let lock = sqlite::lock(&path)?;
            sqlite::create(&path)?;
            let write = sqlite::connect_writer(&path).await?;
            migrations::apply(&write).await?;
            let read = sqlite::connect_readers(&path).await?;
            embedded = Some((path, lock));
            (write, read)
        };
        let (path, lock) = embedded.unzip();
        let knowledge = Arc::new(Knowledge::new(Pseudonyms::load(&write).await?));
        knowledge.set_link_keys(clicks::load_keys(&write).await?);
        knowledge.reload(&write).await?;
        let (node, leases) = match Sharding::of(&write) {
            Sharding::One => {
                let held = nodes::start_alone(&write, settings, clock.now()).await?;
                let holding = Holding::of(Sharding::One, &[held], None);
                (Member::ALONE, Leases::new(holding))
            }
            Sharding::Many => {
                let node = nodes::join(&write, settings, clock.now()).await?;
                (node, Leases::new(Holding::nothing(Sharding::Many)))
            }
        };
        let stop = CancellationToken::new();
        let mut tasks = Vec::new();
        if Sharding::of(&write) == Sharding::Many {
            let mut keeper = Keeper {
                connection: postgres::connect_writer(&settings.url).await?,
                clock: Arc::clone(&clock),
                knowledge: Arc::clone(&knowledge),
                leases: leases.clone(),
                node,
                lease: settings.lease,
                ends_at: None,
                given: Vec::new(),
            };
            keeper.beat().await?;
            tasks.push(tokio::spawn(keeper.run(stop.clone())));
        }
        let health = Arc::new(Tallies::default());
        let (armed_tx, armed_rx) = mpsc::channel(writer::ARMED_QUEUE_MAX);
        let hints = Hints::default();
        let (writer, task) = writer::start(Commits {
            numbers: Numbers::load(&write).await?,
            number: node.first_number(),
            connection: write,
            knowledge: Arc::clone(&knowledge),
            clock,
            lead: settings.lead,
            leases: leases.clone(),
            node: node.id,
            armed_tx,
            hints: hints.clone(),
            health: Arc::clone(&health),
        });
        tasks.insert(0, task);
        let store = Self {
            read,
            writer,
            knowledge,
            leases,
            node: node.id,
            stop,
            path,
            hints,
            reconcile: tokio::sync::Notify::new(),
            broadcast: tokio::sync::Notify::new(),
            health,
            tasks: std::sync::Mutex::new(tasks),
            _lock: lock,
        };
        Ok((Arc::new(store), armed_rx))
    }

    /// The connections for reading. Nothing can be written through them.
    pub fn read(&self) -> &DatabaseConnection {
        &self.read
    }

    /// The only way to write.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    pub fn knowledge(&self) -> &Arc<Knowledge> {
        &self.knowledge
    }

    /// What is counted of accounts, and known of them only while we run.
    pub fn health(&self) -> &Tallies {
        &self.health
    }

    /// Id of this node.
    pub fn node(&self) -> i64 {
        self.node
    }

    /// Takes in what other nodes have changed of what is known.
    pub(in crate::store) async fn catch_up(&self) -> Result<(), Error> {
        match Sharding::of(&self.read) {
            Sharding::One => Ok(()),
            Sharding::Many => self.knowledge.catch_up(&self.read).await,
        }
    }

    /// Which shards are ours.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Notes that somebody could not be told of due deliveries.
    pub fn lose_hint(&self) {
        self.hints.lose();
    }

    /// Whether due deliveries were armed that nobody was told of; asking clears it.
    pub fn hints_lost(&self) -> bool {
        self.hints.lost()
    }

    /// Tells whoever reconciles followers that a sync or a tag was asked for.
    pub fn ask_to_reconcile(&self) {
        self.reconcile.notify_one();
    }

    /// Ends once somebody has asked since the last time.
    pub async fn asked_to_reconcile(&self) {
        self.reconcile.notified().await;
    }

    /// Tells whoever sends broadcasts that one was begun or changed.
    pub fn ask_to_broadcast(&self) {
        self.broadcast.notify_one();
    }

    /// Ends once somebody has asked since the last time.
    pub async fn asked_to_broadcast(&self) {
        self.broadcast.notified().await;
    }

    /// Bytes of an embedded store's write-ahead log.
    pub fn wal_bytes(&self) -> Option<u64> {
        let wal = sqlite::wal_of(self.path.as_ref()?);
        Some(std::fs::metadata(wal).map_or(0, |meta| meta.len()))
    }

    /// Bytes of the database and its write-ahead log on disk, as far as they can be told.
    pub async fn disk_bytes(&self) -> Result<u64, Error> {
        let size = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
        if let Some(path) = &self.path {
            return Ok(size(path) + size(&sqlite::wal_of(path)));
        }
        let row = sql::first(
            &self.read,
            "SELECT pg_database_size(current_database())",
            [],
        )
        .await?;
        let bytes = row.map_or(Ok(0), |row| sql::int(&row, 0))?;
        Ok(u64::try_from(bytes).unwrap_or_default())
    }

    /// Finishes what the writer has taken in and closes the database.
    pub async fn close(&self) {
        self.writer.stop().await;
        self.stop.cancel();
        let tasks = match self.tasks.lock() {
            Ok(mut tasks) => std::mem::take(&mut *tasks),
            Err(_) => Vec::new(),
        };
        for task in tasks {
            task.await.ok();
        }
        self.read.clone().close().await.ok();
    }
}

/// Makes the tables of this release in a PostgreSQL that has none, or those of an earlier one. `Store::open`
/// does the same; on its own it is for preparing a database that nobody runs on yet.
///
/// # Errors
/// When the database cannot be reached or changed.
pub async fn prepare(url: &str) -> Result<(), Error> {
    let write = postgres::connect_writer(url).await?;
    let applied = migrations::apply(&write).await;
    write.close().await?;
    applied
}

/// Opens an existing store for reading only, also while another process writes it.
pub async fn open_to_read(url: &str) -> Result<DatabaseConnection, Error> {
    let read = if postgres::is_url(url) {
        postgres::look(url, false).await?;
        postgres::connect_readers(url).await?
    } else {
        let path = sqlite::path_of(url)?;
        if !path.exists() {
            return Err(Error::Missing(path.display().to_string()));
        }
        sqlite::connect_readers(&path).await?
    };
    if !migrations::known(&read).await? {
        return Err(Error::Missing(shown_url(url)));
    }
    Ok(read)
}

/// Why a store cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("database url: write sqlite://path/to/file.db or postgres://user@host/database")]
    Url,
    #[error("no database at {0}: start `dripwheel serve` or `dripwheel demo` once to make it")]
    Missing(String),
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error("{0} is in use by another dripwheel: stop it first, or use another database")]
    InUse(String),
    #[error("SQLite {0} can corrupt a database in WAL mode: build with 3.51.3 or later")]
    SqliteTooOld(String),
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error("database")]
    Database(#[from] sea_orm::DbErr),
    #[error("row of `{table}` cannot be read: {what}")]
    Row { table: &'static str, what: String },
    /// The writer has stopped; nothing of this request was written.
    #[error("the store is shutting down")]
    Stopped,
    /// The intake is full; nothing of this request was written.
    #[error("the store is busy: try again")]
    Busy,
    /// The database cannot be reached; nothing of this request was written.
    #[error("the database cannot be reached")]
    Away,
    /// Nothing of this request was written, and nothing will be.
    #[error("another process runs under this node's name: give each node its own `node.name`")]
    Replaced,
    /// The account's shard is another node's by now; nothing of this request was written.
    #[error("another node holds this account's shard")]
    NotHeld,
    #[error("unknown {0}")]
    Unknown(String),
}
