//! Leases: which shards are ours to promote, judge and settle, and under which number.
//!
//! A shard changes hands by a higher number, its epoch, which every intent carries: what an earlier
//! holder left behind is told from what we do. An embedded store is held whole and for good. Where
//! nodes share a store, a lease ends by itself: past `calls_until` nothing may leave any more,
//! whatever this process believes (`nodes`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Uptime;
use crate::journey::ids::AccountId;
use crate::store::shards::{SHARDS, Sharding};

/// A call to a platform, its waiting for a token included, mostly ends within this, or within half of
/// a shorter lease. None is begun that has less; none goes on when the lease has ended.
pub const CALL_MAX: Duration = Duration::from_secs(10);

/// An account is not ours to call for, or not for long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotHeld;

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
    /// Ours until what is being sent has ended: nothing new is begun.
    closing: Vec<u16>,
    /// When it ends unless it is renewed; `None` for never.
    ends_at: Option<Uptime>,
    /// What has to be left of it for a call to be begun.
    call_max: Duration,
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
            closing: Vec::new(),
            ends_at: None,
            call_max: CALL_MAX,
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

    /// The same, under leases that last so long.
    #[must_use]
    pub fn under(self, lease: Duration) -> Self {
        let call_max = CALL_MAX.min(lease / 2);
        Self { call_max, ..self }
    }

    /// The same, with these shards about to be given away.
    #[must_use]
    pub fn closing(self, closing: Vec<u16>) -> Self {
        Self { closing, ..self }
    }

    /// The same without these shards.
    #[must_use]
    pub fn without(mut self, lost: &[u16]) -> Self {
        for shard in lost {
            if let Some(epoch) = self.epochs.get_mut(usize::from(*shard)) {
                *epoch = 0;
            }
        }
        self
    }

    pub fn sharding(&self) -> Sharding {
        self.sharding
    }

    /// The number under which an account's shard is ours; `None` when it is not.
    pub fn epoch(&self, account: AccountId) -> Option<i64> {
        self.epoch_of(self.sharding.shard(account))
    }

    /// Whether a shard is ours.
    pub fn has(&self, shard: u16) -> bool {
        self.epoch_of(shard).is_some()
    }

    fn epoch_of(&self, shard: u16) -> Option<i64> {
        let epoch = self.epochs.get(usize::from(shard)).copied();
        epoch.filter(|epoch| *epoch > 0)
    }

    /// Whether something new may be begun for an account.
    pub fn takes(&self, account: AccountId) -> bool {
        self.epoch(account).is_some() && !self.closing.contains(&self.sharding.shard(account))
    }

    /// Whether shards are about to be given away.
    pub(super) fn is_closing(&self) -> bool {
        !self.closing.is_empty()
    }

    /// Whether the lease lasts.
    pub fn lasts(&self, now: Uptime) -> bool {
        self.ends_at.is_none_or(|end| now < end)
    }

    /// Until when a call for an account has to have ended; `Err` when none may be begun any more.
    /// The intent's own epoch is asked for: a shard that went and came back is held anew.
    pub fn calls_until(
        &self,
        account: AccountId,
        epoch: i64,
        now: Uptime,
    ) -> Result<Option<Uptime>, NotHeld> {
        let in_time = self.ends_at.is_none_or(|end| now.plus(self.call_max) < end);
        if in_time && self.epoch(account) == Some(epoch) {
            Ok(self.ends_at)
        } else {
            Err(NotHeld)
        }
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

/// Not an account: what belongs to none, or to all, is seen to by whoever holds its shard.
const SERVER: AccountId = AccountId(0);

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

    /// Whether an account is ours to see to now.
    pub fn hold(&self, account: AccountId) -> bool {
        let holding = self.0.borrow();
        holding.takes(account) && holding.lasts(Uptime::now())
    }

    /// Whether what belongs to no account is ours to see to now.
    pub fn hold_server(&self) -> bool {
        self.hold(SERVER)
    }

    /// Whether other nodes may see to what is not ours.
    pub fn are_shared(&self) -> bool {
        self.0.borrow().sharding() == Sharding::Many
    }

    /// Tells of every change of what is held, a renewal included.
    pub fn changes(&self) -> watch::Receiver<Arc<Holding>> {
        self.0.subscribe()
    }

    /// These shards were found to be another node's.
    pub(super) fn lose(&self, lost: &[u16]) {
        self.0
            .send_modify(|holding| *holding = Arc::new((**holding).clone().without(lost)));
    }

    /// From now on this is held.
    pub(super) fn set(&self, holding: Holding) {
        self.0.send_replace(Arc::new(holding));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::shards::of_account;

    const ACCOUNT: AccountId = AccountId(7);

    fn holding(ends_at: Option<Uptime>) -> Holding {
        let held = Held {
            shard: of_account(ACCOUNT),
            epoch: 3,
        };
        Holding::of(Sharding::Many, &[held], ends_at)
    }

    #[test]
    fn a_call_must_end_within_the_lease() {
        let now = Uptime::now();
        let end = now.plus(CALL_MAX + Duration::from_secs(1));
        assert_eq!(
            holding(Some(end)).calls_until(ACCOUNT, 3, now),
            Ok(Some(end))
        );
        let short = holding(Some(now.plus(CALL_MAX)));
        assert_eq!(short.calls_until(ACCOUNT, 3, now), Err(NotHeld));
        assert!(short.lasts(now) && !holding(Some(now)).lasts(now));
        assert_eq!(holding(None).calls_until(ACCOUNT, 3, now), Ok(None));
        assert_eq!(holding(None).calls_until(ACCOUNT, 2, now), Err(NotHeld));
    }

    #[test]
    fn a_shard_that_is_given_away_begins_nothing_and_ends_what_it_began() {
        let closing = holding(None).closing(vec![of_account(ACCOUNT)]);
        assert!(!closing.takes(ACCOUNT));
        assert_eq!(closing.epoch(ACCOUNT), Some(3));
        let lost = closing.without(&[of_account(ACCOUNT)]);
        assert_eq!(lost.epoch(ACCOUNT), None);
        assert_eq!(
            lost,
            Holding::nothing(Sharding::Many).closing(vec![of_account(ACCOUNT)])
        );
    }
}
