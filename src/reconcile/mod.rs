//! Followers held against the platform's own list: who came or went while we could not be told.
//!
//! A sync reads the list page by page, takes in whom we missed, and asks for those whom the list
//! does not have (`pass`). It is begun after downtime, once a day, and when somebody asks
//! (`schedule`); how far it has come is in its row, so it survives a crash. Tags that were changed
//! here are brought to the platform beside it (`tagging`). Deliberately absent: what a follow or an
//! unfollow does, which `journey` decides as for any other event.

mod pass;
mod schedule;
mod tagging;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Time;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::journey::ids::AccountId;
use crate::sender::wechat::Clients;
use crate::store::reconcile::{Found, Listed};
use crate::store::syncs::{self, Reason, State, Sync};
use crate::store::{Error, Store, erasure};

use pass::Pass;
use tagging::Tagging;

/// How followers are reconciled.
#[derive(Clone, Debug)]
pub struct ReconcileSettings {
    /// Having been away for so long begins a sync of every account; `None` for never.
    pub after_downtime: Option<Duration>,
    /// When a sync of each account begins every day, by the account's clock; `None` for never.
    pub daily_at: Option<Time>,
    /// Rest between two pages of the list: the platform allows 500 calls a day.
    pub page_pause: Duration,
    /// Rest between two questions about 100 followers when everybody is asked for.
    pub refresh_pause: Duration,
    /// Accounts that are compared at the same time.
    pub accounts_at_once: usize,
}

/// How often it is noted that we run.
const BEAT_EVERY: Duration = Duration::from_secs(15);

/// Least real time between two turns that the clock asks for: one that plays days in minutes must
/// not make us write all the time.
const TURNS_APART: Duration = Duration::from_millis(200);

/// How often it is looked whether another node was asked for what is ours to do.
const OTHERS_ASK: Duration = Duration::from_secs(2);

/// Rest after the store could not be read or written.
const STORE_REST: Duration = Duration::from_secs(5);

/// Compares and tags until stopped.
#[derive(Debug)]
pub struct Reconciler {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    clients: Arc<Clients>,
    settings: Arc<ReconcileSettings>,
    /// Accounts whose sync is under way.
    running: HashSet<AccountId>,
    passes: JoinSet<AccountId>,
    beat_at: Timestamp,
    /// Which change of the accounts is known.
    accounts_seen: u64,
}

impl Reconciler {
    pub fn new(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        clients: Arc<Clients>,
        settings: ReconcileSettings,
    ) -> Self {
        Self {
            store,
            clock,
            clients,
            settings: Arc::new(settings),
            running: HashSet::new(),
            passes: JoinSet::new(),
            beat_at: Timestamp(i64::MIN),
            accounts_seen: 0,
        }
    }

    /// Compares and tags until `stop`; what is under way then goes on with the next start.
    pub async fn run(mut self, stop: CancellationToken) {
        let tagged = Arc::new(Notify::new());
        let tagging = Tagging::new(
            Arc::clone(&self.store),
            Arc::clone(&self.clock),
            Arc::clone(&self.clients),
        );
        let tagging = tokio::spawn(tagging.run(Arc::clone(&tagged), stop.clone()));
        let left = Self::forget_who_left(Arc::clone(&self.store), stop.clone());
        let left = tokio::spawn(async move {
            if let Err(error) = left.await {
                tracing::error!(%error, "not everybody who left is forgotten");
            }
        });
        if let Err(error) = self.begin_after_downtime().await {
            tracing::error!(%error, "syncs after downtime not begun");
        }
        while !stop.is_cancelled() {
            let next_at = match self.turn(&stop).await {
                Ok(next_at) => next_at,
                Err(error) => {
                    tracing::error!(%error, "reconcile followers: trying again soon");
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(STORE_REST) => continue,
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.store.asked_to_reconcile() => tagged.notify_one(),
                () = turn_at(&*self.clock, next_at) => {}
                Some(ended) = self.passes.join_next() => {
                    if let Ok(account) = ended {
                        self.running.remove(&account);
                    } else {
                        // Which one it was is not told: all that run are looked at again.
                        tracing::error!("a sync has ended badly");
                        self.passes.abort_all();
                        while self.passes.join_next().await.is_some() {}
                        self.running.clear();
                    }
                }
            }
        }
        // Each notices the stop within its step.
        tagging.await.ok();
        left.await.ok();
        while self.passes.join_next().await.is_some() {}
        self.beat(self.clock.now()).await.ok();
    }

    /// Forgets those who left before that was asked for: an older release, or another setting.
    async fn forget_who_left(store: Arc<Store>, stop: CancellationToken) -> Result<(), Error> {
        let mut after = Some(0);
        while let Some(from) = after
            && !stop.is_cancelled()
        {
            let (left, next) = erasure::left(store.read(), from).await?;
            after = next;
            for (account, people) in left {
                let erases = store.knowledge().account(account);
                if erases.is_some_and(|account| account.erase_on_unfollow) {
                    let gone = |openid| Found {
                        openid,
                        standing: Listed::Gone {
                            at: Timestamp::default(),
                        },
                    };
                    let people = people.into_iter().map(gone).collect();
                    store.writer().reconcile(account, people).await?;
                }
            }
        }
        Ok(())
    }

    /// After having been away, every account may have missed somebody.
    async fn begin_after_downtime(&mut self) -> Result<(), Error> {
        let seen_at = syncs::last_beat(self.store.read()).await?;
        let now = self.clock.now();
        self.know_accounts(now).await?;
        self.beat(now).await?;
        let away = now.since(seen_at);
        let long = self
            .settings
            .after_downtime
            .is_some_and(|least| away >= least);
        // Where one node starts after all were away, it begins those of all.
        if seen_at == Timestamp::default() || !long || !self.store.leases().hold_server() {
            return Ok(());
        }
        tracing::info!(seconds = away.as_secs(), "were away: comparing followers");
        let accounts = self.accounts();
        syncs::begin(&self.store, accounts, Reason::Downtime, false, now).await
    }

    fn accounts(&self) -> Vec<AccountId> {
        let accounts = self.store.knowledge().accounts();
        let sending = accounts.values().filter(|account| account.sends);
        let ids = sending.map(|account| account.journey.id);
        ids.filter(|id| self.clients.client(*id).is_some())
            .collect()
    }

    async fn know_accounts(&mut self, now: Timestamp) -> Result<(), Error> {
        let changes = self.store.knowledge().account_changes();
        if changes != self.accounts_seen {
            syncs::know(&self.store, self.accounts(), now).await?;
            self.accounts_seen = changes;
        }
        Ok(())
    }

    async fn beat(&mut self, now: Timestamp) -> Result<(), Error> {
        self.beat_at = now.plus(BEAT_EVERY);
        syncs::beat(&self.store, now).await
    }

    /// Begins what is due; says when something is due next.
    async fn turn(&mut self, stop: &CancellationToken) -> Result<Timestamp, Error> {
        let now = self.clock.now();
        self.know_accounts(now).await?;
        if now >= self.beat_at {
            self.beat(now).await?;
        }
        let mut next_at = self.beat_at;
        if self.store.leases().are_shared() {
            next_at = next_at.min(now.plus(OTHERS_ASK));
        }
        for sync in syncs::all(self.store.read()).await? {
            let client = self.clients.client(sync.account);
            let Some(client) = client.filter(|_| self.store.leases().hold(sync.account)) else {
                continue;
            };
            if sync.state != State::Running {
                next_at = next_at.min(self.begin_daily(&sync, now).await?);
            } else if sync.resume_at > now {
                next_at = next_at.min(sync.resume_at);
            } else if !self.running.contains(&sync.account)
                && self.running.len() < self.settings.accounts_at_once.max(1)
            {
                self.running.insert(sync.account);
                let pass = Pass::new(
                    Arc::clone(&self.store),
                    Arc::clone(&self.clock),
                    client,
                    Arc::clone(&self.settings),
                    sync,
                );
                self.passes.spawn(pass.run(stop.clone()));
            }
        }
        Ok(next_at)
    }

    /// Begins the day's sync of an account once its hour has come; says when the next one is due.
    async fn begin_daily(&self, sync: &Sync, now: Timestamp) -> Result<Timestamp, Error> {
        let account = self.store.knowledge().account(sync.account);
        let (Some(account), Some(time)) = (account, self.settings.daily_at) else {
            return Ok(Timestamp(i64::MAX));
        };
        let spread = schedule::spread(sync.account);
        let hour = schedule::daily(now, &account.journey.zone, time, spread);
        if account.sends && sync.started_at.max(sync.known_since) < hour.last {
            syncs::begin(&self.store, vec![sync.account], Reason::Daily, false, now).await?;
        }
        Ok(hour.next)
    }
}

/// Ends at an instant of the clock, and never at once.
async fn turn_at(clock: &dyn Clock, at: Timestamp) {
    tokio::join!(clock.sleep_until(at), tokio::time::sleep(TURNS_APART));
}
