//! The next step waits for its moment: the loop that turns the wheel.
//!
//! Promotion runs a little ahead of the clock, so that at the due millisecond only the intent and
//! the send remain; the sender never sends early. What is overdue is promoted with what the fresh
//! timers leave of each turn. The scheduler never calls the platform.

pub mod backlog;
pub mod wheel;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::journey::ids::EnrollmentId;
use crate::scheduler::backlog::{Backlog, Why};
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
    /// Most timers that one turn promotes: the fresh ones first, then those that are overdue.
    pub promote_max: usize,
}

/// How often the wheel turns while something is near, so that promotions share commits.
const TICK: Duration = Duration::from_millis(250);

/// How often rows are looked for that the ring missed; at every tick where other nodes arm some.
const SCAN_EVERY: Duration = Duration::from_secs(1);

/// A timer that is overdue by more no longer goes first.
const FRESH_BACK: Duration = Duration::from_secs(2);

/// When the ring cannot see so far for all that is near, timers become deliveries before their
/// lead, a few each turn: so a crowd that is due in one second is no crowd when it comes.
const CROWD_AHEAD: Duration = Duration::from_secs(60);

/// How far back each scan looks for rows that the ring missed.
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
    backlog: Backlog,
    /// The ring cannot see far enough ahead.
    crowded: bool,
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
            backlog: Backlog::default(),
            crowded: false,
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

    /// One turn: takes in what was armed, loads, promotes what is near and then what is overdue.
    /// Returns how many timers became deliveries.
    pub async fn run_once(&mut self) -> Result<usize, Error> {
        while let Ok(armed) = self.armed_rx.try_recv() {
            self.take_in(armed);
        }
        let (began, now) = (Instant::now(), self.clock.now());
        self.take_shards(now);
        self.turned_at = now;
        self.leave_behind(now);
        let most = self.settings.promote_max;
        let lead = now.plus(self.settings.lead);
        let (taken, mut promoted) = self.promote_near(lead, most).await?;
        // However many are fresh: what is overdue goes on, too.
        let rest = most.saturating_sub(taken).max(most / 10).max(1);
        promoted += self.promote_overdue(rest).await?;
        if self.crowded && taken < most {
            promoted += self.promote_crowd(now).await?;
        }
        self.load(None).await?;
        let sees_until = Timestamp(self.wheel.loaded_until().due_ms);
        self.crowded = !self.wheel.wants_more() && sees_until < now.plus(CROWD_AHEAD);
        let scan_every = if self.is_shared() { TICK } else { SCAN_EVERY };
        if now.since(self.scanned_at) >= scan_every || now < self.scanned_at {
            promoted += self.scan(now).await?;
        }
        if promoted > 0 {
            metrics::histogram!("dripwheel_promotion_seconds")
                .record(began.elapsed().as_secs_f64());
        }
        self.show(now);
        Ok(promoted)
    }

    /// Leaves to the backlog what the ring did not hand out in time, so that nothing stands before
    /// the timers of now: after downtime, after a jump of the clock, and in a burst.
    fn leave_behind(&mut self, now: Timestamp) {
        let fresh_from = now.minus(FRESH_BACK).0;
        let next = self.wheel.next_due_ms();
        let late = next.is_some_and(|due_ms| due_ms < fresh_from);
        if (late || self.wheel.loaded_until().due_ms < fresh_from)
            && let Some(after) = self.wheel.pass_over(fresh_from)
        {
            self.backlog.add(after, fresh_from, Why::Overdue);
        }
    }

    /// Promotes at most `limit` timers of the ring that are due at or before `until`; how many it
    /// took and how many of them were still there.
    async fn promote_near(
        &mut self,
        until: Timestamp,
        limit: usize,
    ) -> Result<(usize, usize), Error> {
        let (mut taken, mut promoted) = (0, 0);
        while taken < limit {
            let seen_until = self.wheel.loaded_until();
            self.load(Some(until)).await?;
            let due = self.wheel.take_due(until.0, limit - taken);
            if due.is_empty() && self.wheel.loaded_until() == seen_until {
                break;
            }
            taken += due.len();
            promoted += self.promote(due.iter().map(key_of).collect()).await?;
        }
        Ok((taken, promoted))
    }

    /// Promotes a part of what is due within the next minute. It waits for its instant at the
    /// sender, which keeps what it has room for and leaves the rest in the rows.
    async fn promote_crowd(&mut self, now: Timestamp) -> Result<usize, Error> {
        let limit = (self.settings.promote_max / 4).max(1);
        let until = now.plus(CROWD_AHEAD);
        let (_, promoted) = self.promote_near(until, limit).await?;
        Ok(promoted)
    }

    /// Promotes at most `limit` of the timers behind the ring, oldest first.
    async fn promote_overdue(&mut self, limit: usize) -> Result<usize, Error> {
        let (mut rest, mut promoted) = (limit, 0);
        while let Some(walk) = self.backlog.walk().filter(|_| rest > 0) {
            let page_of = u32::try_from(rest).unwrap_or(PAGE).min(PAGE);
            let until = Timestamp(walk.until_ms);
            let page = self.page(key_of(&walk.after), until, page_of).await?;
            let whole = page.len() < usize::try_from(page_of).unwrap_or(usize::MAX);
            let last = page.last().map(entry_of);
            rest -= page.len();
            let count = self.promote(page).await?;
            promoted += count;
            if walk.why == Why::Sweep {
                count_stragglers(count);
            }
            // Only now: a page that could not be promoted is read again.
            self.backlog.walked(last, whole);
        }
        Ok(promoted)
    }

    /// Begins anew with the shards that are ours now, when they are others than before: of theirs the
    /// ring has loaded nothing.
    fn take_shards(&mut self, now: Timestamp) {
        let shards = self.store.leases().holding().shards();
        if shards != self.shards {
            self.shards = shards;
            self.wheel = Wheel::new(now.0, self.settings.ring_entries);
            self.backlog = Backlog::default();
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
        // What the ring still holds or has not read is no straggler.
        let known = self.wheel.next_due_ms().unwrap_or(i64::MAX);
        let known = known.min(self.wheel.loaded_until().due_ms);
        // What another node armed for at once must not wait for the clock to pass it.
        let ahead = if self.is_shared() {
            self.settings.lead
        } else {
            Duration::ZERO
        };
        let until = now.plus(ahead).min(Timestamp(known));
        let walk = self.backlog.walk();
        if sweep && walk.is_none() {
            self.swept_at = now;
            self.backlog.add(Entry::FIRST, until.0, Why::Sweep);
            return self
                .promote_overdue(usize::try_from(PAGE).unwrap_or(1))
                .await;
        }
        let overdue_until = walk.map_or(i64::MIN, |walk| walk.until_ms);
        let after = TimerKey {
            due_at: now.minus(SCAN_BACK).max(Timestamp(overdue_until)),
            enrollment: EnrollmentId(i64::MIN),
        };
        let missed = self.page(after, until, PAGE).await?;
        if missed.is_empty() {
            return Ok(0);
        }
        let count = self.promote(missed).await?;
        if !self.is_shared() {
            count_stragglers(count);
        }
        Ok(count)
    }

    /// Rows of our shards, in the order of their keys.
    async fn page(
        &self,
        after: TimerKey,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<TimerKey>, Error> {
        timers::page(self.store.read(), &self.shards, after, until, limit).await
    }

    /// Fills the ring from the rows, page by page; with an instant no further than it takes to hand
    /// out something that is due by then, or to see that nothing is.
    async fn load(&mut self, enough: Option<Timestamp>) -> Result<(), Error> {
        while self.wheel.wants_more() {
            let until = Timestamp(self.wheel.span_ends_ms());
            let room = u32::try_from(self.wheel.room()).unwrap_or(u32::MAX);
            let limit = room.min(PAGE);
            let loaded = self.wheel.loaded_until();
            let seen = loaded.due_ms.saturating_add(1);
            if seen >= until.0 || enough.is_some_and(|enough| seen > enough.0) {
                break;
            }
            let page = self.page(key_of(&loaded), until, limit).await?;
            let entries: Vec<_> = page.iter().map(entry_of).collect();
            let whole = page.len() < usize::try_from(limit).unwrap_or(usize::MAX);
            self.wheel.load(&entries, whole.then_some(until.0));
            let next = self.wheel.next_due_ms();
            let due = next.is_some_and(|due_ms| enough.is_some_and(|enough| due_ms <= enough.0));
            if whole || due {
                // What is due goes first; the rest of the ring can wait until it has.
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

    /// Tells how the ring stands.
    #[expect(clippy::cast_precision_loss, reason = "gauges take floats")]
    fn show(&self, now: Timestamp) {
        metrics::gauge!("dripwheel_ring_entries").set(self.wheel.len() as f64);
        metrics::gauge!("dripwheel_ring_bytes").set(self.wheel.bytes() as f64);
        let unread_ms = now
            .0
            .saturating_sub(self.wheel.loaded_until().due_ms)
            .max(0);
        let lag_ms = self.backlog.lag_ms(now.0).unwrap_or(unread_ms);
        metrics::gauge!("dripwheel_ring_lag_seconds").set(lag_ms as f64 / 1000.0);
    }

    fn wake_at(&self) -> Timestamp {
        // As the turn saw it: what came near while it lasted is due for the next one.
        let now = self.turned_at;
        let idle = now.plus(if self.is_shared() { TICK } else { SCAN_EVERY });
        match self.wheel.next_due_ms() {
            _ if self.crowded || self.backlog.walk().is_some() => now.plus(TICK),
            None => idle,
            Some(due_ms) => {
                let near = Timestamp(due_ms).minus(self.settings.lead);
                near.max(now.plus(TICK)).min(idle)
            }
        }
    }
}

fn count_stragglers(count: usize) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    metrics::counter!("dripwheel_stragglers_total").increment(count);
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
