//! The store: every row, and the one writer that changes them.
//!
//! Reads go through a small pool; every write goes through `writer`, which commits what many
//! callers want in one transaction and answers them only then. The SQL of a table stands in the
//! file named after it. Deliberately absent: decisions, which `journey` and `policy` make.

pub mod accounts;
pub mod alerts;
pub mod assets;
pub mod audit;
pub mod audit_log;
pub mod authorizers;
pub(crate) mod awaited;
pub(crate) mod batch;
pub mod components;
mod consents;
pub mod deliveries;
pub mod directory;
pub mod enrollments;
mod entity;
pub mod erasure;
mod followers;
mod grants;
pub mod health;
mod intent;
pub mod leases;
mod load;
mod migrations;
pub mod outcomes;
pub mod overview;
pub mod pauses;
mod postgres;
pub mod receipts;
pub mod reconcile;
pub(crate) mod replies;
mod report;
pub(crate) mod save;
pub mod shards;
mod sql;
mod sqlite;
pub mod syncs;
pub(crate) mod tables;
pub mod tags;
pub mod timeline;
pub mod timers;
pub mod versions;
pub mod work;
mod writer;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use sea_orm::DatabaseConnection;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::journey::catalog::Catalog;
use crate::journey::ids::AccountId;
use crate::policy::account::Account;
use crate::store::health::Tallies;
use crate::store::pauses::Pause;

use erasure::Pseudonyms;
use leases::{Holding, Leases};
use shards::Sharding;
pub use writer::Writer;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// `sqlite://path`, whose file is made when it is not there, or `postgres://…`.
    pub url: String,
    /// What is due within this span is armed as a delivery at once, without passing the wheel.
    pub lead: Duration,
}

/// What the writer decides with besides the rows: published versions and configured accounts.
#[derive(Debug, Default)]
pub struct Knowledge {
    catalog: RwLock<Arc<Catalog>>,
    accounts: RwLock<Arc<HashMap<AccountId, Arc<Account>>>>,
    pauses: RwLock<Arc<HashMap<AccountId, Pause>>>,
    account_changes: AtomicU64,
    pseudonyms: Pseudonyms,
    authorizers: directory::Directory,
}

impl Knowledge {
    pub(crate) fn new(pseudonyms: Pseudonyms) -> Self {
        Self {
            pseudonyms,
            ..Self::default()
        }
    }

    /// What forgotten followers are found by.
    pub(in crate::store) fn pseudonyms(&self) -> &Pseudonyms {
        &self.pseudonyms
    }

    /// The versions as of now.
    pub fn catalog(&self) -> Arc<Catalog> {
        read(&self.catalog)
    }

    /// The accounts as of now.
    pub fn accounts(&self) -> Arc<HashMap<AccountId, Arc<Account>>> {
        read(&self.accounts)
    }

    /// Grows with every change of the accounts.
    pub fn account_changes(&self) -> u64 {
        self.account_changes.load(Ordering::Acquire)
    }

    /// One account.
    pub fn account(&self, id: AccountId) -> Option<Arc<Account>> {
        self.accounts().get(&id).cloned()
    }

    /// One account by the operator's name for it.
    pub fn account_named(&self, key: &str) -> Option<Arc<Account>> {
        let accounts = self.accounts();
        accounts.values().find(|a| a.journey.key == key).cloned()
    }

    /// The pause that a person put on an account, if there is one.
    pub fn pause(&self, id: AccountId) -> Option<Pause> {
        read(&self.pauses).get(&id).cloned()
    }

    /// Whether an account may send: it is authorized, and nobody has paused it.
    pub fn may_send(&self, account: &Account) -> bool {
        account.sends && !read(&self.pauses).contains_key(&account.journey.id)
    }

    fn set_pauses(&self, pauses: HashMap<AccountId, Pause>) {
        self.change_pauses(|known| *known = pauses);
    }

    pub(crate) fn change_pauses<T>(
        &self,
        change: impl FnOnce(&mut HashMap<AccountId, Pause>) -> T,
    ) -> T {
        let mut slot = match self.pauses.write() {
            Ok(slot) => slot,
            Err(poisoned) => poisoned.into_inner(),
        };
        let changed = change(Arc::make_mut(&mut slot));
        self.account_changes.fetch_add(1, Ordering::Release);
        changed
    }

    pub(crate) fn set_catalog(&self, catalog: Catalog) {
        write(&self.catalog, Arc::new(catalog));
    }

    /// Who authorized a third-party platform of ours.
    pub fn authorizers(&self) -> &directory::Directory {
        &self.authorizers
    }

    pub(crate) fn set_accounts(&self, accounts: HashMap<AccountId, Arc<Account>>) {
        self.change_accounts(|known| *known = accounts);
    }

    fn change_accounts(&self, change: impl FnOnce(&mut HashMap<AccountId, Arc<Account>>)) {
        let mut slot = match self.accounts.write() {
            Ok(slot) => slot,
            Err(poisoned) => poisoned.into_inner(),
        };
        change(Arc::make_mut(&mut slot));
        self.account_changes.fetch_add(1, Ordering::Release);
    }
}

// A panic while one of these locks is held leaves a whole value behind, never half of one.
fn read<T: Clone>(lock: &RwLock<T>) -> T {
    match lock.read() {
        Ok(value) => value.clone(),
        Err(poisoned) => poisoned.into_inner().clone(),
    }
}

fn write<T>(lock: &RwLock<T>, value: T) {
    match lock.write() {
        Ok(mut slot) => *slot = value,
        Err(poisoned) => *poisoned.into_inner() = value,
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
    /// The file of an embedded store.
    path: Option<PathBuf>,
    hints: Hints,
    /// Wakes whoever reconciles followers: something was asked for.
    reconcile: tokio::sync::Notify,
    health: Arc<Tallies>,
    task: std::sync::Mutex<Option<JoinHandle<()>>>,
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
        let epoch = leases::next_epoch(&write, clock.now()).await?;
        let leases = Leases::new(Holding::all(Sharding::of(&write), epoch));
        let (path, lock) = embedded.unzip();
        let knowledge = Arc::new(Knowledge::new(Pseudonyms::load(&write).await?));
        knowledge.set_pauses(pauses::all(&read).await?);
        let health = Arc::new(Tallies::default());
        let (armed_tx, armed_rx) = mpsc::channel(writer::ARMED_QUEUE_MAX);
        let hints = Hints::default();
        let (writer, task) = writer::start(writer::Start {
            connection: write,
            knowledge: Arc::clone(&knowledge),
            clock,
            lead: settings.lead,
            leases: leases.clone(),
            armed_tx,
            hints: hints.clone(),
            health: Arc::clone(&health),
        })
        .await?;
        let store = Self {
            read,
            writer,
            knowledge,
            leases,
            path,
            hints,
            reconcile: tokio::sync::Notify::new(),
            health,
            task: std::sync::Mutex::new(Some(task)),
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
        let task = match self.task.lock() {
            Ok(mut task) => task.take(),
            Err(_) => None,
        };
        if let Some(task) = task {
            task.await.ok();
        }
        self.read.clone().close().await.ok();
    }
}

/// Opens an existing store for reading only, also while another process writes it.
pub async fn open_to_read(url: &str) -> Result<DatabaseConnection, Error> {
    if postgres::is_url(url) {
        return postgres::connect_readers(url).await;
    }
    let path = sqlite::path_of(url)?;
    if !path.exists() {
        return Err(Error::Missing(path.display().to_string()));
    }
    sqlite::connect_readers(&path).await
}

/// Why a store cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("database url: write sqlite://path/to/file.db or postgres://user@host/database")]
    Url,
    #[error("no database at {0}: start `dripwheel serve` or `dripwheel demo` once to make it")]
    Missing(String),
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
    /// The account's shard is another node's by now; nothing of this request was written.
    #[error("another node holds this account's shard")]
    NotHeld,
    #[error("unknown {0}")]
    Unknown(String),
}
