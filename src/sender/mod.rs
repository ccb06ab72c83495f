//! A due step is sent, once, within limits.
//!
//! The loop hands out turns (`turns`), has the intents committed, and lets each attempt run on its
//! own (`attempt`). Nothing leaves without a committed intent, and whatever comes back is settled
//! in one commit with the next step. The sender never decides whether a step may be sent: that is
//! `policy`, asked inside the intent's commit.

mod attempt;
pub mod breaker;
pub mod budget;
mod depths;
mod hand;
mod http;
pub mod line;
pub mod platform;
mod prose;
pub mod quota;
mod recovery;
pub mod rendering;
mod retries;
pub mod shelf;
pub mod telegram;
pub mod turns;
mod ways;
pub mod webhook;
pub mod wechat;
pub mod wecom_kf;

pub use self::ways::Ways;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, Timestamp, Uptime};
use crate::journey::ids::AccountId;
use crate::policy::account::Account;
use crate::policy::settle::AccountNews;
use crate::sender::attempt::Done;
use crate::sender::breaker::Breaker;
use crate::sender::budget::{MINUTE_USED_UP, next_minute};
use crate::sender::depths::Depths;
use crate::sender::hand::{Hand, INTENTS_MAX};
use crate::sender::platform::{AnswerClass, Platforms};
use crate::sender::recovery::Recovery;
use crate::sender::retries::Retries;
use crate::sender::turns::{READ_MAX, Turns};
use crate::store::health::AccountRest;
use crate::store::leases::Held;
use crate::store::work::DeliveryKey;
use crate::store::{Error, Store, accounts, deliveries};

/// How the sender works.
#[derive(Clone, Copy, Debug)]
pub struct SenderSettings {
    /// Attempts under way at once, of all accounts.
    pub in_flight_max: usize,
    /// Due deliveries in memory, of all accounts.
    pub queue_max: usize,
}

/// How often accounts' rows are looked through for deliveries that nobody told us of.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// How long an account rests that needs a person, before one more call asks whether it still does.
const ATTENTION_REST: Duration = Duration::from_secs(600);

/// Longest wait for attempts under way at shutdown: one attempt's deadline and its outcome.
const DRAIN_MAX: Duration = Duration::from_secs(12);

/// Sends what is due until stopped.
#[derive(Debug)]
pub struct Sender {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    platforms: Arc<dyn Platforms>,
    /// Which change of the accounts the turns know.
    accounts_seen: u64,
    due_rx: mpsc::Receiver<Vec<DeliveryKey>>,
    done_tx: mpsc::Sender<Done>,
    done_rx: mpsc::Receiver<Done>,
    turns: Turns,
    breakers: HashMap<AccountId, Breaker>,
    retries: Arc<Retries>,
    /// Accounts of which the rows say that they rest, and until when.
    resting: HashMap<AccountId, Timestamp>,
    free: usize,
    looked_at: Timestamp,
    /// Latest instant seen, to notice a clock that is set back.
    seen_at: Timestamp,
    /// The shards in which no send of an earlier holder is left.
    recovered: Vec<Held>,
    /// Leaps of the clock that the turns know of.
    leaps_seen: u64,
    depths: Depths,
    attempts: TaskTracker,
}

impl Sender {
    /// A sender for `platforms`.
    pub fn new(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        settings: SenderSettings,
        platforms: Arc<dyn Platforms>,
        due_rx: mpsc::Receiver<Vec<DeliveryKey>>,
    ) -> Self {
        let now = clock.now();
        let (done_tx, done_rx) = mpsc::channel(settings.in_flight_max.max(1) * 2);
        let mut sender = Self {
            platforms,
            accounts_seen: 0,
            store,
            leaps_seen: clock.leaps(),
            depths: Depths::default(),
            clock,
            due_rx,
            done_tx,
            done_rx,
            turns: Turns::new(settings.queue_max),
            breakers: HashMap::new(),
            retries: Arc::default(),
            resting: HashMap::new(),
            free: settings.in_flight_max.max(1),
            looked_at: now,
            seen_at: now,
            recovered: Vec::new(),
            attempts: TaskTracker::new(),
        };
        sender.take_accounts(now);
        sender
    }

    /// Lets the accounts in that have come since, and stops those that may not send any more.
    fn take_accounts(&mut self, now: Timestamp) {
        let changes = self.store.knowledge().account_changes();
        if changes == self.accounts_seen {
            return;
        }
        self.accounts_seen = changes;
        self.recover_taken();
        let holding = self.store.leases().holding();
        for account in self.store.knowledge().accounts().values() {
            let id = account.journey.id;
            // Without a way to its platform an account's deliveries stay due: an intent could not
            // end.
            let ours = holding.takes(id) && self.store.knowledge().may_send(account);
            if !ours || self.platforms.of(id).is_none() {
                self.turns.remove_account(id);
            } else {
                let Account {
                    rate,
                    in_flight_max,
                    ..
                } = **account;
                self.turns.add_account(id, rate, in_flight_max, now);
            }
        }
    }

    /// Lets turns know what the platforms said of accounts' limits.
    fn take_learned(&mut self, now: Timestamp) {
        for learned in self.platforms.learned() {
            let (id, lifts) = (learned.account, learned.lifts);
            let resets_at = self.next_day(id, now);
            self.turns.learn(id, &learned.quota, resets_at, lifts);
            if lifts && let Some(until) = self.resting.get_mut(&id) {
                *until = now;
            }
        }
    }

    /// Settles the sends of earlier starts whose answer nobody read. They are unknown: whether each
    /// is sent again is its sequence's decision. Returns how many there were.
    pub async fn recover(&mut self) -> Result<usize, Error> {
        self.recovered = self.store.leases().holding().held();
        let mut recovered = 0;
        let recovery = self.recovery(self.recovered.clone());
        recovery.run(&mut recovered).await?;
        Ok(recovered)
    }

    /// Does the same for the shards that have become ours since: what their holder was sending then
    /// has ended, for its lease had.
    fn recover_taken(&mut self) {
        let held = self.store.leases().holding().held();
        let taken: Vec<_> = held
            .iter()
            .filter(|one| !self.recovered.contains(one))
            .copied()
            .collect();
        self.recovered = held;
        if taken.is_empty() {
            return;
        }
        let recovery = self.recovery(taken);
        self.attempts.spawn(async move {
            let sends = recovery.persist().await;
            if sends > 0 {
                tracing::warn!(sends, "another node left sends without an answer");
            }
        });
    }

    fn recovery(&self, held: Vec<Held>) -> Recovery {
        Recovery {
            store: Arc::clone(&self.store),
            clock: Arc::clone(&self.clock),
            retries: Arc::clone(&self.retries),
            held,
        }
    }

    /// The loop. After `stop` it hands nothing more out, waits for the attempts under way, and ends.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            // One instant for the whole round, so that what comes due meanwhile ends the sleep.
            let now = self.clock.now();
            self.take_in(now);
            self.take_accounts(now);
            self.take_learned(now);
            if let Err(error) = self.feed(now).await {
                tracing::error!(%error, "due deliveries could not be read");
            }
            self.hand_out(now);
            let knowledge = self.store.knowledge();
            self.depths.show(self.turns.depths(), knowledge, now);
            let idle = now.plus(Duration::from_secs(1));
            let wake_at = match self.turns.next_at(now) {
                // Every place is taken: the next one that ends wakes us.
                Some(at) if self.free > 0 => at.min(idle),
                _ => idle,
            };
            tokio::select! {
                () = stop.cancelled() => break,
                due = self.due_rx.recv() => match due {
                    Some(due) => due.into_iter().for_each(|key| self.turns.push(key, now)),
                    None => break,
                },
                Some(done) = self.done_rx.recv() => self.finish(done),
                () = self.clock.sleep_until(wake_at) => {}
            }
        }
        self.attempts.close();
        let drained = tokio::time::timeout(DRAIN_MAX, async {
            tokio::join!(self.attempts.wait(), async {
                // Attempts report here; nobody must wait for room.
                while !self.attempts.is_empty() {
                    tokio::time::timeout(Duration::from_millis(20), self.done_rx.recv())
                        .await
                        .ok();
                }
            })
        });
        if drained.await.is_err() {
            tracing::warn!("attempts were still under way at shutdown: they count as unknown");
        }
    }

    fn take_in(&mut self, now: Timestamp) {
        while let Ok(due) = self.due_rx.try_recv() {
            due.into_iter().for_each(|key| self.turns.push(key, now));
        }
        while let Ok(done) = self.done_rx.try_recv() {
            self.finish(done);
        }
    }

    /// Reads on for accounts whose queue runs low while rows are left on disk.
    async fn feed(&mut self, now: Timestamp) -> Result<(), Error> {
        if now < self.seen_at {
            let by = self.seen_at.since(now);
            self.turns.set_back(by);
            for until in self.resting.values_mut() {
                *until = until.minus(by);
            }
        }
        self.seen_at = now;
        let leaps = self.clock.leaps();
        if leaps != self.leaps_seen {
            self.leaps_seen = leaps;
            self.turns.ramp_up(now);
        }
        if now.since(self.looked_at) >= LOOK_EVERY || now < self.looked_at {
            self.looked_at = now;
            self.turns.look_again();
        }
        if self.store.hints_lost() {
            self.turns.look_again();
        }
        let limit = u32::try_from(READ_MAX).unwrap_or(u32::MAX);
        for wanted in self.turns.hungry(now) {
            let (account, after) = (wanted.account, wanted.after);
            let rows = deliveries::page(self.store.read(), account, after, limit).await?;
            let all = rows.len() < READ_MAX;
            self.turns.fed(wanted, rows, all, now);
        }
        Ok(())
    }

    /// Hands out turns for the free places; the intents of each hand are one commit.
    fn hand_out(&mut self, now: Timestamp) {
        if !self.store.leases().holding().lasts(Uptime::now()) {
            return;
        }
        while self.free > 0 {
            let keys = self.turns.next(now, self.free.min(INTENTS_MAX));
            if keys.is_empty() {
                return;
            }
            self.free -= keys.len();
            let hand = Hand {
                store: Arc::clone(&self.store),
                clock: Arc::clone(&self.clock),
                done_tx: self.done_tx.clone(),
                attempts: self.attempts.clone(),
                platforms: Arc::clone(&self.platforms),
                retries: Arc::clone(&self.retries),
            };
            self.attempts.spawn(hand.send(keys));
        }
    }

    fn finish(&mut self, done: Done) {
        // What joined a mass send had no turn of its own.
        if done.handed {
            self.free += 1;
            self.turns.done(done.key, done.called);
        }
        let (account, now) = (done.key.account, done.answered_at);
        if let Some(surprise) = done.surprise {
            tracing::info!(
                account.id = account.0,
                ?surprise,
                "refused what the profile allows"
            );
        }
        if let (true, Some(answer)) = (done.called, &done.answer) {
            self.note_success(account, answer.class, now);
            if matches!(
                answer.class,
                AnswerClass::RetrySoon | AnswerClass::NextMinute | AnswerClass::Unknown
            ) {
                self.turns.trouble(account, now);
            }
            let breaker = self.breakers.entry(account).or_default();
            if let Some(until) = breaker.note(answer.class, now) {
                tracing::warn!(account.id = account.0, %until, detail = %answer.detail,
                    "calls keep failing: resting the account");
                self.turns.pause(account, until);
                self.note_rest(account, "breaker", until, now, &answer.detail);
            }
        }
        let until = match done.news {
            AccountNews::None => return,
            AccountNews::MinuteUsedUp => {
                // Other codes wait for the next minute too, and say nothing of our pace.
                let code = done.answer.as_ref().and_then(|answer| answer.code);
                if matches!(code, None | Some(MINUTE_USED_UP)) {
                    self.turns.slow_down(account, now);
                }
                next_minute(now)
            }
            AccountNews::DayUsedUp => self.next_day(account, now),
            AccountNews::NeedsAttention => now.plus(ATTENTION_REST),
        };
        match done.news {
            AccountNews::DayUsedUp => self.turns.use_up(account, until),
            _ => self.turns.pause(account, until),
        }
        let detail = done.answer.map(|answer| answer.detail).unwrap_or_default();
        let why = match done.news {
            AccountNews::MinuteUsedUp => "minute_used_up",
            AccountNews::DayUsedUp => "day_used_up",
            AccountNews::None | AccountNews::NeedsAttention => "needs_attention",
        };
        self.note_rest(account, why, until, now, &detail);
        self.note_pause(account, until, done.news, detail);
    }

    /// An account that rested and works again needs nobody any more.
    fn note_success(&mut self, id: AccountId, class: AnswerClass, now: Timestamp) {
        let over = self.resting.get(&id).is_some_and(|until| *until <= now);
        if over && class == AnswerClass::Accepted {
            self.resting.remove(&id);
            self.write_pause(id, Timestamp(0), String::new(), false);
        }
    }

    /// Tells the account's health of a rest.
    fn note_rest(
        &self,
        id: AccountId,
        why: &'static str,
        until: Timestamp,
        now: Timestamp,
        detail: &str,
    ) {
        let health = self.store.health();
        let earlier = health.rest(id, now).filter(|rest| rest.why == why);
        health.rests(
            id,
            AccountRest {
                why,
                since: earlier.map_or(now, |rest| rest.since),
                until,
                detail: detail.to_owned(),
            },
        );
    }

    /// Writes the pause where people look for it.
    fn note_pause(&mut self, id: AccountId, until: Timestamp, news: AccountNews, reason: String) {
        if news != AccountNews::MinuteUsedUp {
            self.resting.insert(id, until);
            self.write_pause(id, until, reason, news == AccountNews::NeedsAttention);
        }
    }

    fn write_pause(&self, id: AccountId, until: Timestamp, reason: String, attention: bool) {
        let store = Arc::clone(&self.store);
        self.attempts.spawn(async move {
            let noted = accounts::pause(&store, id, until, reason, attention).await;
            if let Err(error) = noted {
                tracing::warn!(%error, account.id = id.0, "pause not written");
            }
        });
    }

    /// When the platform counts the account's calls anew.
    fn next_day(&self, id: AccountId, now: Timestamp) -> Timestamp {
        let account = self.store.knowledge().account(id);
        let reset = account.map(|account| account.quota_reset.clone());
        reset.unwrap_or_default().next(now)
    }
}
