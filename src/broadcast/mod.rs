//! Broadcasts: one message to many followers, frozen, fed and followed to the end.
//!
//! Who starts one here has its audience frozen (`freeze`) and cut into chunks; `feed` makes enrollments
//! of the next recipients as fast as their messages leave, so that nothing piles up. From there on they
//! are deliveries like others. Each account's part is seen to by whoever holds the account's shard; how
//! far it has come is in rows, so it survives a crash at any point. Deliberately absent: whether, by
//! what and when a message is sent, which `policy` and `sender` decide as for any other step.

pub mod audience;
pub mod compose;
mod feed;
pub mod forecast;
mod freeze;
mod pace;
pub mod repeat;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::journey::ids::{AccountId, BroadcastId};
use crate::store::broadcasts::{self, Broadcast};
use crate::store::{Error, Store};

use feed::Feeder;

/// How often it is looked whether something is to begin, or another node was asked for it. Of the
/// machine's time: a clock that plays days in minutes must not make us ask all the time.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Rest after the store could not be read or written.
const STORE_REST: Duration = Duration::from_secs(5);

/// Parts that are fed at the same time.
const AT_ONCE: usize = 64;

type Key = (BroadcastId, AccountId);

/// Begins broadcasts at their instants and feeds those that are sending, until stopped.
#[derive(Debug)]
pub struct Broadcaster {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    /// Parts that are being fed.
    running: HashSet<Key>,
    feeders: JoinSet<Key>,
}

impl Broadcaster {
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            running: HashSet::new(),
            feeders: JoinSet::new(),
        }
    }

    /// Runs until `stop`; what is under way then goes on with the next start.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            // A database that says nothing must not keep us from stopping.
            let looked = tokio::select! {
                () = stop.cancelled() => break,
                looked = self.look(&stop) => looked,
            };
            let rest = match looked {
                Ok(()) => LOOK_EVERY,
                Err(Error::Away | Error::Stopped) => STORE_REST,
                Err(error) => {
                    tracing::error!(%error, cause = ?error, "broadcasts: trying again soon");
                    STORE_REST
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.store.asked_to_broadcast() => {}
                () = tokio::time::sleep(rest) => {}
                Some(ended) = self.feeders.join_next() => self.note_ended(ended.ok()).await,
            }
        }
        // Each notices the stop within its step.
        while self.feeders.join_next().await.is_some() {}
    }

    async fn note_ended(&mut self, ended: Option<Key>) {
        if let Some(key) = ended {
            self.running.remove(&key);
            return;
        }
        // Which one it was is not told: all that run are looked at again.
        tracing::error!("a broadcast's part has ended badly");
        self.feeders.abort_all();
        while self.feeders.join_next().await.is_some() {}
        self.running.clear();
    }

    /// Begins what is due, completes what has ended, and sees to the rest.
    async fn look(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        while let Some(ended) = self.feeders.try_join_next() {
            self.note_ended(ended.ok()).await;
        }
        let now = self.clock.now();
        if self.store.leases().hold_server() {
            for one in broadcasts::due(self.store.read(), now).await? {
                self.begin(&one).await?;
            }
            broadcasts::complete(&self.store, now).await?;
        }
        for (_, part) in broadcasts::at_work(self.store.read()).await? {
            let key = (part.broadcast, part.account);
            let ours = self.store.leases().hold(part.account);
            if ours && self.running.len() < AT_ONCE && self.running.insert(key) {
                let feeder = Feeder::new(Arc::clone(&self.store), Arc::clone(&self.clock), key);
                let stop = stop.clone();
                self.feeders.spawn(async move {
                    feeder.run(stop).await;
                    key
                });
            }
        }
        Ok(())
    }

    /// Begins one whose instant has come. One that repeats makes up for nothing: what it missed while
    /// nobody ran is one run.
    async fn begin(&self, one: &Broadcast) -> Result<(), Error> {
        let now = self.clock.now();
        if one.cron.is_empty() {
            return broadcasts::begin(&self.store, one, now).await;
        }
        let next = match repeat::next(&one.cron, &one.zone, now) {
            Ok(next) => next,
            Err(why) => {
                tracing::error!(broadcast.id = one.id.0, why, "a broadcast repeats no more");
                None
            }
        };
        broadcasts::begin_run(&self.store, one, next, now).await
    }
}
