//! Leases: which shards are ours to promote, judge and settle, and under which number.
//!
//! A shard changes hands by a higher number, its epoch, which every intent carries: what an earlier
//! holder left behind is told from what we do. An embedded store is held whole and for good. Where
//! nodes share a store, a lease ends by itself: past `calls_until` nothing may leave any more,
//! whatever this process believes (`nodes`).

use std::sync::Arc;
use std::time::Duration;

use sea_orm::DatabaseConnection;
use tokio::sync::watch;

use crate::clock::{Timestamp, Uptime};
use crate::journey::ids::AccountId;
use crate::store::shards::{SHARDS, Sharding};
use crate::store::{Error, sql};

/// A shard that is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub shard: u16,
    /// Intents in the shard with a lower one are an earlier holder's.
    pub epoch: i64,
}

/// The shards that are ours at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    sharding: Sharding,
    /// By shard; zero for one that is not ours.
    epochs: Vec<i64>,
    /// When it ends unless it is renewed; `None` for never.
    ends_at: Option<Uptime>,
}

impl Holding {
    /// Nothing, of a store divided like this.
    pub fn nothing(sharding: Sharding) -> Self {
        let shards = match sharding {
            Sharding::One => 1,
            Sharding::Many => usize::from(SHARDS),
        };
        Self {
            sharding,
            epochs: vec![0; shards],
            ends_at: None,
        }
    }

    /// These shards, until `ends_at`.
    pub fn of(sharding: Sharding, held: &[Held], ends_at: Option<Uptime>) -> Self {
        let mut holding = Self::nothing(sharding);
        for one in held {
            if let Some(epoch) = holding.epochs.get_mut(usize::from(one.shard)) {
                *epoch = one.epoch;
            }
        }
        Self { ends_at, ..holding }
    }

    /// Every shard under one number, for good.
    pub fn all(sharding: Sharding, epoch: i64) -> Self {
        let mut holding = Self::nothing(sharding);
        holding.epochs.fill(epoch);
        holding
    }

    pub fn sharding(&self) -> Sharding {
        self.sharding
    }

    /// The number under which an account's shard is ours; `None` when it is not.
    pub fn epoch(&self, account: AccountId) -> Option<i64> {
        let shard = usize::from(self.sharding.shard(account));
        self.epochs.get(shard).copied().filter(|epoch| *epoch > 0)
    }

    /// Whether a call for an account that may last `longest` would end within its lease.
    pub fn allows(&self, account: AccountId, now: Uptime, longest: Duration) -> bool {
        let in_time = self.ends_at.is_none_or(|end| now.plus(longest) < end);
        in_time && self.epoch(account).is_some()
    }

    /// The shards that are ours, lowest first.
    pub fn held(&self) -> Vec<Held> {
        let all = (0u16..).zip(&self.epochs);
        all.filter(|(_, epoch)| **epoch > 0)
            .map(|(shard, epoch)| Held {
                shard,
                epoch: *epoch,
            })
            .collect()
    }

    /// Their numbers alone.
    pub fn shards(&self) -> Vec<u16> {
        self.held().iter().map(|held| held.shard).collect()
    }
}

/// What is held now, for everybody who asks.
#[derive(Clone, Debug)]
pub struct Leases(watch::Sender<Arc<Holding>>);

impl Leases {
    pub(super) fn new(holding: Holding) -> Self {
        Self(watch::Sender::new(Arc::new(holding)))
    }

    /// The shards that are ours as of now.
    pub fn holding(&self) -> Arc<Holding> {
        Arc::clone(&self.0.borrow())
    }

    /// Whether an account is ours to send for.
    pub fn hold(&self, account: AccountId) -> bool {
        self.0.borrow().epoch(account).is_some()
    }

    /// Tells of every change of what is held, a renewal included.
    pub fn changes(&self) -> watch::Receiver<Arc<Holding>> {
        self.0.subscribe()
    }

    /// From now on this is held.
    pub fn set(&self, holding: Holding) {
        self.0.send_replace(Arc::new(holding));
    }
}

/// Counts this start; intents of an earlier number are sends of which nobody read the answer.
pub(super) async fn next_epoch(
    connection: &DatabaseConnection,
    now: Timestamp,
) -> Result<i64, Error> {
    let row = sql::first(
        connection,
        "INSERT INTO nodes (id, epoch, started_at) VALUES (1, 1, ?1)
         ON CONFLICT (id) DO UPDATE SET epoch = nodes.epoch + 1, started_at = ?1
         RETURNING epoch",
        [now.0.into()],
    )
    .await?;
    row.map_or(Ok(1), |row| sql::int(&row, 0))
}
