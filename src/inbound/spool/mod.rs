//! The spool: where callbacks go while a shared database is away.
//!
//! One row per verified and decrypted event, in a file of this machine's own that is on the disk
//! before the platform is answered (`store::spool`). Events of an account of which any are there go
//! behind them, so an account's events keep their order. `drain` hands them over when the database is
//! back, and deletes them only after the store's commit: whoever kills us in between makes the store
//! see an event twice, which its receipts notice.
//!
//! Bounded by events and by bytes. When it is full, or its file cannot be written, the platform is
//! told to come again, and readiness says so. Deliberately absent: third-party platforms' tickets and
//! codes, which are secrets; the platform sends them again by itself.

mod drain;
mod keeper;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::Timestamp;
use crate::journey::event::Arrival;
use crate::store;
use crate::store::spool::{Entry, SpoolFile};

pub use drain::Drain;
use keeper::{Keeper, Order};

/// Events on their way into the file.
const INTAKE_MAX: usize = 16_384;

/// How a spool is opened.
#[derive(Clone, Debug)]
pub struct SpoolSettings {
    pub path: PathBuf,
    /// Events in it, at most.
    pub events_max: usize,
    /// Size of its file in bytes, at most.
    pub bytes_max: u64,
}

/// Why an event was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No room: by number, by bytes, or on the disk.
    Full,
    /// The file cannot be written.
    Unwritable,
}

impl Refused {
    /// The word that metrics and readiness use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Unwritable => "unwritable",
        }
    }
}

/// How the spool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether the database answers, as far as is known.
    pub reachable: bool,
    /// Events that wait to be handed over.
    pub events: usize,
    pub events_max: usize,
    /// Events that the store refuses: they stay in the file for a person to look at.
    pub aside: usize,
    /// Why no event could be kept now, if none could.
    pub refuses: Option<Refused>,
}

impl Standing {
    /// Whether every callback is taken now: by the database, or by the spool.
    pub fn takes_callbacks(&self) -> bool {
        let needed = !self.reachable || self.events > 0;
        self.refuses.is_none() || !needed
    }
}

/// What is known of the file without asking it.
#[derive(Debug)]
struct Known {
    waiting: Mutex<Waiting>,
    events_max: usize,
    /// Whether the database is away.
    away: watch::Sender<bool>,
    /// Wakes the drain: there is something to hand over.
    work: tokio::sync::Notify,
}

/// Events in the file and on their way into it.
#[derive(Debug, Default)]
struct Waiting {
    by_account: HashMap<String, usize>,
    events: usize,
    aside: usize,
    /// Why the last write failed, until one succeeds.
    failed: Option<Refused>,
}

impl Waiting {
    fn add(&mut self, account: &str, events: usize) {
        match self.by_account.get_mut(account) {
            Some(known) => *known += events,
            None => {
                self.by_account.insert(account.to_owned(), events);
            }
        }
        self.events += events;
        self.tell();
    }

    fn take(&mut self, account: &str) {
        if let Some(known) = self.by_account.get_mut(account) {
            *known = known.saturating_sub(1);
            if *known == 0 {
                self.by_account.remove(account);
            }
        }
        self.events = self.events.saturating_sub(1);
        self.tell();
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges take floats")]
    fn tell(&self) {
        metrics::gauge!("dripwheel_spool_events").set(self.events as f64);
        metrics::gauge!("dripwheel_spool_set_aside").set(self.aside as f64);
    }
}

impl Known {
    // A panic while it is held leaves whole numbers behind.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_away(&self) -> bool {
        *self.away.borrow()
    }

    /// Notes whether the database is away.
    fn note_away(&self, away: bool) {
        let changed = self.away.send_if_modified(|known| {
            let changed = *known != away;
            *known = away;
            changed
        });
        metrics::gauge!("dripwheel_database_reachable").set(f64::from(u8::from(!away)));
        match (changed, away) {
            (true, true) => tracing::error!("the database is away: callbacks go to the spool"),
            (true, false) => tracing::info!("the database is back"),
            _ => {}
        }
    }
}

/// An open spool.
#[derive(Debug)]
pub struct Spool {
    known: Arc<Known>,
    orders: mpsc::Sender<Order>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

impl Spool {
    /// Opens the file, or makes it. What an earlier run left there waits in front.
    ///
    /// # Errors
    /// When the file cannot be opened, or another process has it.
    pub async fn open(settings: &SpoolSettings) -> Result<Arc<Self>, store::Error> {
        let (file, left) = SpoolFile::open(&settings.path, settings.bytes_max).await?;
        let mut waiting = Waiting::default();
        for (account, events) in &left {
            waiting.add(account, *events);
        }
        if waiting.events > 0 {
            let events = waiting.events;
            tracing::warn!(events, "the last run left callbacks in the spool");
        }
        let known = Arc::new(Known {
            waiting: Mutex::new(waiting),
            events_max: settings.events_max,
            away: watch::Sender::new(false),
            work: tokio::sync::Notify::new(),
        });
        let (orders, received) = mpsc::channel(INTAKE_MAX);
        let keeper = Keeper::new(file, Arc::clone(&known), received);
        Ok(Arc::new(Self {
            known,
            orders,
            keeper: Mutex::new(Some(tokio::spawn(keeper.run()))),
        }))
    }

    /// Whether an event of this account has to go here: others wait in front of it, or there is
    /// nowhere else to go.
    pub fn wants(&self, account: &str) -> bool {
        self.known.is_away() || self.known.waiting().by_account.contains_key(account)
    }

    /// The database did not take something because it is away.
    pub fn note_away(&self) {
        self.known.note_away(true);
    }

    /// Ends once the database is known to be away.
    pub async fn gone(&self) {
        let mut away = self.known.away.subscribe();
        // Never closed while `self` is there.
        away.wait_for(|away| *away).await.ok();
    }

    /// Keeps an event; it is on the disk when this returns.
    ///
    /// # Errors
    /// When it cannot be kept: then nothing of it is.
    pub async fn keep(
        &self,
        account: &str,
        arrival: &Arrival,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let kept = self.try_keep(account, arrival, now).await;
        match kept {
            Ok(()) => metrics::counter!("dripwheel_spool_taken_total").increment(1),
            Err(refused) => {
                let reason = refused.word();
                metrics::counter!("dripwheel_spool_refused_total", "reason" => reason).increment(1);
            }
        }
        kept
    }

    async fn try_keep(
        &self,
        account: &str,
        arrival: &Arrival,
        now: Timestamp,
    ) -> Result<(), Refused> {
        // Texts and numbers always have a form in JSON.
        let arrival = serde_json::to_string(arrival).map_err(|_| Refused::Unwritable)?;
        let entry = Entry {
            account: account.to_owned(),
            taken_at: now,
            arrival,
        };
        let (reply, kept) = oneshot::channel();
        {
            let mut waiting = self.known.waiting();
            if waiting.events >= self.known.events_max {
                return Err(Refused::Full);
            }
            // Counted before it is there, so that the account's next one goes behind it.
            let order = Order::Keep { entry, reply };
            self.orders
                .try_send(order)
                .map_err(|refused| match refused {
                    mpsc::error::TrySendError::Full(_) => Refused::Full,
                    mpsc::error::TrySendError::Closed(_) => Refused::Unwritable,
                })?;
            waiting.add(account, 1);
        }
        kept.await.unwrap_or(Err(Refused::Unwritable))
    }

    /// How it is now.
    pub fn standing(&self) -> Standing {
        let waiting = self.known.waiting();
        let full = waiting.events >= self.known.events_max;
        Standing {
            reachable: !self.known.is_away(),
            events: waiting.events,
            events_max: self.known.events_max,
            aside: waiting.aside,
            refuses: waiting.failed.or(full.then_some(Refused::Full)),
        }
    }

    /// Finishes what was taken in and closes the file.
    pub async fn close(&self) {
        self.orders.send(Order::Close).await.ok();
        let keeper = match self.keeper.lock() {
            Ok(mut keeper) => keeper.take(),
            Err(_) => None,
        };
        if let Some(keeper) = keeper {
            keeper.await.ok();
        }
    }
}
