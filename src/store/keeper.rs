//! The keeper: holds this node's lease and sees that every shard is somebody's.
//!
//! Everybody decides alike from the same rows, so nobody has to lead: each node has its share of the
//! shards, takes what is nobody's up to it, and gives away what is more, one beat after it has begun
//! nothing new there. It has a connection of its own, so that no commit keeps a lease from being
//! renewed.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::DatabaseConnection;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Uptime, millis};
use crate::store::leases::{Held, Holding, Leases};
use crate::store::nodes::{self, Lease};
use crate::store::shards::Sharding;
use crate::store::{Error, Knowledge};

/// Beats within one lease: several may fail before it ends.
const BEATS_PER_LEASE: u32 = 6;

/// Wait after a beat that failed.
const FAILED_PAUSE: Duration = Duration::from_millis(500);

/// Shards that are given away at once: each is nobody's for a beat.
const GIVEN_MAX: usize = 64;

/// A wall clock this far from the database's sends too early or too late.
const SKEW_MAX: Duration = Duration::from_secs(10);

/// Keeps one node's lease.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) connection: DatabaseConnection,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) knowledge: Arc<Knowledge>,
    pub(super) leases: Leases,
    pub(super) node: i64,
    pub(super) lease: Duration,
    /// The lease had ended: answers were turned away for it, so what we hold next is held anew.
    pub(super) lapsed: bool,
    /// What is to be given away at the next beat, and to whom.
    pub(super) given: Vec<(Held, i64)>,
}

impl Keeper {
    /// Beats until `stop`; then everything is given back.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let pause = match self.beat().await {
                Ok(()) => self.lease / BEATS_PER_LEASE,
                Err(error) => {
                    tracing::warn!(%error, cause = ?error, "lease not renewed");
                    metrics::counter!("dripwheel_lease_beats_failed_total").increment(1);
                    FAILED_PAUSE
                }
            };
            if !self.leases.holding().lasts(Uptime::now()) {
                self.hold(Holding::nothing(Sharding::Many));
                self.lapsed = true;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.hold(Holding::nothing(Sharding::Many));
        if let Err(error) = nodes::leave(&self.connection, self.node).await {
            tracing::warn!(%error, "shards not given back: others take them once the lease ends");
        }
        self.connection.close().await.ok();
    }

    /// Renews the lease, looks at whose every shard is, and takes and gives.
    pub(super) async fn beat(&mut self) -> Result<(), Error> {
        if self.is_off_the_clock().await? {
            nodes::leave(&self.connection, self.node).await?;
            self.hold(Holding::nothing(Sharding::Many));
            return Ok(());
        }
        if self.lapsed {
            // Under the old numbers nobody would settle what was being sent when the lease ended.
            nodes::leave(&self.connection, self.node).await?;
            self.lapsed = false;
        }
        // Before the question: the lease is at least as long as we believe.
        let asked_at = Uptime::now();
        nodes::renew(&self.connection, self.node, millis(self.lease)).await?;
        nodes::hand_over(&self.connection, &std::mem::take(&mut self.given)).await?;
        let (leases, live) = nodes::look(&self.connection).await?;
        let moves = balance(&leases, &live, self.node);
        let mut held: Vec<_> = leases
            .iter()
            .filter(|lease| lease.node == self.node)
            .map(|lease| Held {
                shard: lease.shard,
                epoch: lease.epoch,
            })
            .collect();
        held.extend(nodes::claim(&self.connection, self.node, &moves.claimed).await?);
        held.sort_unstable_by_key(|one| one.shard);
        let closing = moves.given.iter().map(|(held, _)| held.shard).collect();
        self.given = moves.given;
        let ends_at = asked_at.plus(self.lease);
        self.hold(Holding::of(Sharding::Many, &held, Some(ends_at)).closing(closing));
        Ok(())
    }

    fn hold(&self, holding: Holding) {
        let before = self.leases.holding();
        let held = holding.held();
        let changed = before.held() != held || before.is_closing() || holding.is_closing();
        metrics::gauge!("dripwheel_shards_held")
            .set(f64::from(u16::try_from(held.len()).unwrap_or(u16::MAX)));
        self.leases.set(holding);
        if changed {
            tracing::info!(shards = held.len(), "shards held");
            self.knowledge.note_account_change();
        }
    }

    /// Whether our wall clock is too far from the database's to keep instants.
    async fn is_off_the_clock(&self) -> Result<bool, Error> {
        if !self.clock.is_wall() {
            return Ok(false);
        }
        let ahead_ms = nodes::clock_ahead_ms(&self.connection, self.clock.now()).await?;
        let off = ahead_ms.unsigned_abs() > SKEW_MAX.as_millis().try_into().unwrap_or(u64::MAX);
        if off {
            tracing::error!(
                ahead_ms,
                "this machine's clock is not the database's: nothing is sent until it is set right"
            );
        }
        Ok(off)
    }
}

/// What one node does to the shards at a beat.
#[derive(Debug, Default, PartialEq, Eq)]
struct Moves {
    /// Nobody's, to be taken.
    claimed: Vec<Lease>,
    /// Ours, each to be given to another node.
    given: Vec<(Held, i64)>,
}

/// The moves of node `me`. Each live node computes everybody's share alike, in the order of ids, so
/// that two never reach for the same shard.
fn balance(leases: &[Lease], live: &[i64], me: i64) -> Moves {
    let mut nodes: Vec<i64> = live.to_vec();
    nodes.push(me);
    nodes.sort_unstable();
    nodes.dedup();
    let (each, rest) = (leases.len() / nodes.len(), leases.len() % nodes.len());
    let mut free: Vec<_> = leases
        .iter()
        .filter(|lease| !nodes.contains(&lease.node))
        .copied()
        .collect();
    let mut moves = Moves::default();
    let (mut short, mut surplus) = (Vec::new(), Vec::new());
    for (place, node) in nodes.iter().enumerate() {
        let share = each + usize::from(place < rest);
        let own: Vec<_> = leases.iter().filter(|lease| lease.node == *node).collect();
        let missing = share.saturating_sub(own.len());
        let taken: Vec<_> = free.drain(..missing.min(free.len())).collect();
        short.extend(std::iter::repeat_n(*node, missing - taken.len()));
        if *node == me {
            moves.claimed = taken;
        }
        surplus.extend(own.into_iter().skip(share).copied());
    }
    let pairs = surplus.into_iter().zip(short);
    let ours = pairs.filter(|(lease, _)| lease.node == me);
    moves.given = ours
        .take(GIVEN_MAX)
        .map(|(lease, node)| {
            let held = Held {
                shard: lease.shard,
                epoch: lease.epoch,
            };
            (held, node)
        })
        .collect();
    moves
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owned_by(owners: &[i64]) -> Vec<Lease> {
        let leases = (0u16..).zip(owners);
        leases
            .map(|(shard, node)| Lease {
                shard,
                node: *node,
                epoch: 1,
            })
            .collect()
    }

    proptest! {
        /// From any state, beats of all live nodes lead to equal shares with nothing left over.
        #[test]
        fn shares_become_equal(
            owners in prop::collection::vec(0i64..6, 256),
            live in prop::collection::btree_set(1i64..6, 1..5),
        ) {
            let live: Vec<_> = live.into_iter().collect();
            let mut leases = owned_by(&owners);
            for _ in 0..10 {
                let all: Vec<_> = live.iter().map(|me| (*me, balance(&leases, &live, *me))).collect();
                for (me, moves) in all {
                    let claimed = moves.claimed.iter().map(|lease| (lease.shard, me));
                    let given = moves.given.iter().map(|(held, to)| (held.shard, *to));
                    for (shard, to) in claimed.chain(given) {
                        let lease = &mut leases[usize::from(shard)];
                        // Nobody reached for it before in this round.
                        prop_assert_eq!(lease.epoch % 2, 1);
                        *lease = Lease { node: to, epoch: lease.epoch + 1, ..*lease };
                    }
                }
                for lease in &mut leases {
                    lease.epoch += lease.epoch % 2 + 1;
                }
            }
            for node in &live {
                let own = leases.iter().filter(|lease| lease.node == *node).count();
                prop_assert!(own.abs_diff(256 / live.len()) <= 1, "{node} has {own}");
            }
        }
    }

    #[test]
    fn one_node_alone_takes_everything() {
        let moves = balance(&owned_by(&[0; 256]), &[], 4);
        assert_eq!(moves.claimed.len(), 256);
        assert!(moves.given.is_empty());
    }

    #[test]
    fn a_newcomer_is_given_its_share() {
        let leases = owned_by(&[1; 256]);
        assert_eq!(balance(&leases, &[1, 2], 2), Moves::default());
        let moves = balance(&leases, &[1, 2], 1);
        assert_eq!(moves.given.len(), GIVEN_MAX);
        assert!(moves.given.iter().all(|(_, to)| *to == 2));
    }
}
