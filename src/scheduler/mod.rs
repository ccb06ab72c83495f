//! The next step waits for its moment: the loop that turns the wheel.
//!
//! Promotion runs a little ahead of the clock, so that at the due millisecond only the intent and
//! the send remain; the sender never sends early. The scheduler never calls the platform.

pub mod wheel;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::journey::ids::EnrollmentId;
use crate::scheduler::wheel::{Entry, Wheel};
use crate::store::shards::Sharding;
use crate::store::timers::{self, TimerKey};
use crate::store::work::{Armed, DeliveryKey};
use crate::store::{Error, Store};

/// How the wheel turns.
#[derive(Clone, Copy, Debug)]
pub struct SchedulerSettings {
    /// Most timers in memory: 16 bytes each, and as much again while slots grow.
    pub ring_entries: usize,
    /// How far ahead of its instant a timer becomes a delivery.
    pub lead: Duration,
    /// How often all overdue rows are looked for, whatever the ring believes.
    pub sweep_every: Duration,
    /// Most timers that one tick promotes.
    pub promote_max: usize,
}

/// How often the wheel turns while something is near, so that promotions share commits.
const TICK: Duration = Duration::from_millis(250);

/// How often rows are looked for that the ring missed; at every tick where other nodes arm some.
const SCAN_EVERY: Duration = Duration::from_secs(1);

/// How far back each tick's scan looks for rows that the ring missed.
const SCAN_BACK: Duration = Duration::from_secs(120);

/// Rows read from the table at once.
const PAGE: u32 = 4096;

/// Timers promoted by one commit: about 10 ms of the writer's time.
const PROMOTE_CHUNK: usize = 2000;

/// Turns the wheel until `stop`.
#[derive(Debug)]
pub struct Scheduler {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    settings: SchedulerSettings,
    armed_rx: mpsc::Receiver<Armed>,
    due_tx: mpsc::Sender<Vec<DeliveryKey>>,
    wheel: Wheel,
    /// The shards that are on it.
    shards: Vec<u16>,
    /// When the wheel last turned.
    turned_at: Timestamp,
    scanned_at: Timestamp,
    swept_at: Timestamp,
}

impl Scheduler {
    /// A scheduler that has loaded nothing yet. What is due goes to `due_tx`.
    pub fn new(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        settings: SchedulerSettings,
        armed_rx: mpsc::Receiver<Armed>,
        due_tx: mpsc::Sender<Vec<DeliveryKey>>,
    ) -> Self {
        let now = clock.now();
        Self {
            wheel: Wheel::new(now.0, settings.ring_entries),
            shards: Vec::new(),
            store,
            clock,
            settings,
            armed_rx,
            due_tx,
            turned_at: now,
            scanned_at: now,
            swept_at: now,
        }
    }

    /// The loop: sleeps until something is due or armed, then turns once.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            match self.run_once().await {
                Ok(_) | Err(Error::Stopped) => {}
                Err(error) => tracing::error!(%error, cause = ?error, "tick failed"),
            }
            let wake_at = self.wake_at();
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep_until(wake_at) => {}
                armed = self.armed_rx.recv() => match armed {
                    Some(armed) => self.take_in(armed),
                    None => return,
                },
            }
        }
    }

    /// One turn: takes in what was armed, loads, promotes what is near. Returns how many timers
    /// became deliveries.
    pub async fn run_once(&mut self) -> Result<usize, Error> {
        while let Ok(armed) = self.armed_rx.try_recv() {
            self.take_in(armed);
        }
        let now = self.clock.now();
        self.take_shards(now);
        self.turned_at = now;
        let until = now.plus(self.settings.lead);
        let (mut promoted, mut taken) = (0, 0);
        while taken < self.settings.promote_max {
            let seen_until = self.wheel.span_ends_ms();
            self.load(now).await?;
            let limit = self.settings.promote_max - taken;
            let due = self.wheel.take_due(until.0, limit);
            // After a jump of the clock the ring stands where nothing has been loaded yet.
            if due.is_empty() && self.wheel.span_ends_ms() == seen_until {
                break;
            }
            taken += due.len();
            promoted += self.promote(due.iter().map(key_of).collect()).await?;
        }
        let scan_every = if self.is_shared() { TICK } else { SCAN_EVERY };
        if now.since(self.scanned_at) >= scan_every || now < self.scanned_at {
            promoted += self.scan(now).await?;
        }
        let entries = u32::try_from(self.wheel.len()).unwrap_or(u32::MAX);
        metrics::gauge!("dripwheel_ring_entries").set(f64::from(entries));
        Ok(promoted)
    }

    /// Begins anew with the shards that are ours now, when they are others than before: of theirs the
    /// ring has loaded nothing.
    fn take_shards(&mut self, now: Timestamp) {
        let shards = self.store.leases().holding().shards();
        if shards != self.shards {
            self.shards = shards;
            self.wheel = Wheel::new(now.0, self.settings.ring_entries);
        }
    }

    /// Whether other nodes arm timers of ours, of which only the rows tell.
    fn is_shared(&self) -> bool {
        self.store.leases().holding().sharding() == Sharding::Many
    }

    /// Finds rows that are due and that the ring missed: recent ones each second, all of them now
    /// and then. Finding any is worth a look, but loses nothing.
    async fn scan(&mut self, now: Timestamp) -> Result<usize, Error> {
        self.scanned_at = now;
        let sweep = now.since(self.swept_at) >= self.settings.sweep_every || now < self.swept_at;
        let after = if sweep {
            self.swept_at = now;
            TimerKey::FIRST
        } else {
            TimerKey {
                due_at: now.minus(SCAN_BACK),
                enrollment: EnrollmentId(i64::MIN),
            }
        };
        let limit = u32::try_from(self.settings.promote_max).unwrap_or(u32::MAX);
        // What another node armed for at once must not wait for the clock to pass it.
        let until = if self.is_shared() {
            now.plus(self.settings.lead)
        } else {
            now
        };
        let missed = timers::page(self.store.read(), &self.shards, after, until, limit).await?;
        if missed.is_empty() {
            return Ok(0);
        }
        let count = self.promote(missed).await?;
        if !self.is_shared() {
            metrics::counter!("dripwheel_stragglers_total")
                .increment(u64::try_from(count).unwrap_or(u64::MAX));
        }
        Ok(count)
    }

    /// Fills the ring from the rows, page by page.
    async fn load(&mut self, now: Timestamp) -> Result<(), Error> {
        while self.wheel.wants_more() {
            let until = Timestamp(self.wheel.span_ends_ms());
            let room = u32::try_from(self.wheel.room()).unwrap_or(u32::MAX);
            let limit = room.min(PAGE);
            let loaded = self.wheel.loaded_until();
            if loaded.due_ms.saturating_add(1) >= until.0 {
                break;
            }
            let read = self.store.read();
            let page = timers::page(read, &self.shards, key_of(&loaded), until, limit).await?;
            let entries: Vec<_> = page.iter().map(entry_of).collect();
            let whole = page.len() < usize::try_from(limit).unwrap_or(usize::MAX);
            self.wheel.load(&entries, whole.then_some(until.0));
            let near = self
                .wheel
                .next_due_ms()
                .is_some_and(|due_ms| due_ms <= now.0);
            if whole || near {
                // What is already due goes first; the rest of the ring can wait for a turn.
                break;
            }
        }
        Ok(())
    }

    async fn promote(&self, mut keys: Vec<TimerKey>) -> Result<usize, Error> {
        let mut promoted = 0;
        while !keys.is_empty() {
            let rest = keys.split_off(keys.len().min(PROMOTE_CHUNK));
            promoted += self.store.writer().promote(keys).await?;
            keys = rest;
        }
        Ok(promoted)
    }

    fn take_in(&mut self, armed: Armed) {
        for timer in &armed.timers {
            self.wheel.arm(entry_of(timer));
        }
        if !armed.due.is_empty() && self.due_tx.try_send(armed.due).is_err() {
            // The sender is full: it reads the rest from the rows when it has room.
            self.store.lose_hint();
        }
    }

    fn wake_at(&self) -> Timestamp {
        // As the turn saw it: what came near while it lasted is due for the next one.
        let now = self.turned_at;
        let idle = now.plus(if self.is_shared() { TICK } else { SCAN_EVERY });
        match self.wheel.next_due_ms() {
            None => idle,
            Some(due_ms) => {
                let near = Timestamp(due_ms).minus(self.settings.lead);
                near.max(now.plus(TICK)).min(idle)
            }
        }
    }
}

fn entry_of(key: &TimerKey) -> Entry {
    Entry {
        due_ms: key.due_at.0,
        enrollment: key.enrollment.0,
    }
}

fn key_of(entry: &Entry) -> TimerKey {
    TimerKey {
        due_at: Timestamp(entry.due_ms),
        enrollment: EnrollmentId(entry.enrollment),
    }
}
