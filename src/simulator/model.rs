//! The model store: the tables that a commit touches, as sorted maps in memory.
//!
//! The one stand-in for a database in the project. It keeps what the databases keep, refuses what
//! their keys refuse, and `conformance` holds it to them. A commit works on a draft of it (`draft`). Deliberately absent: locks, since one commit runs at a time, and tables
//! that no commit of the engine touches.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::journey::enrollment::Enrollment;
use crate::journey::follower::Follower;
use crate::journey::ids::{AccountId, EnrollmentId, FollowerId, VersionId};
use crate::journey::outcome::OutcomeEntry;
use crate::policy::fare::Fare;
use crate::policy::grant::Grant;
use crate::store::Error;
use crate::store::awaited::Awaited;
use crate::store::clicks;
use crate::store::deliveries::Intent;
use crate::store::erasure::Forgotten;
use crate::store::leases::Held;
use crate::store::replies::Reply;
use crate::store::save::Changes;
use crate::store::shards::Sharding;
use crate::store::statistics::Sum;
use crate::store::tables::{Beside, Recorded};
use crate::store::timers::TimerKey;
use crate::store::work::DeliveryKey;

/// A row of `receipts`, beside its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) kind: usize,
    pub(super) detail: Option<String>,
    pub(super) taken_at: Timestamp,
}

/// A row of `timers`, beside its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timer {
    pub(super) account: AccountId,
    pub(super) generation: u32,
}

/// A row of `deliveries`, beside its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) generation: u32,
    /// What makes it an intent.
    pub(super) sending: Option<Sending>,
}

/// The intent in a row of `deliveries`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sending {
    pub(super) epoch: i64,
    pub(super) at: Timestamp,
    pub(super) fare: Fare,
}

/// What orders the deliveries.
pub(super) type Place = (AccountId, Timestamp, EnrollmentId);

fn place(key: &DeliveryKey) -> Place {
    (key.account, key.due_at, key.enrollment)
}

fn key((account, due_at, enrollment): Place, generation: u32) -> DeliveryKey {
    DeliveryKey {
        account,
        due_at,
        enrollment,
        generation,
    }
}

/// Every row. Equal rows are equal states.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    pub(super) sharding: Sharding,
    pub(super) followers: BTreeMap<FollowerId, Follower>,
    pub(super) openids: BTreeMap<(AccountId, String), FollowerId>,
    /// By follower and number of the kind.
    pub(super) grants: BTreeMap<(FollowerId, i64), Grant>,
    pub(super) consents: BTreeMap<(FollowerId, String), u16>,
    pub(super) clicks: BTreeMap<(EnrollmentId, u16, u16), clicks::Row>,
    pub(super) replies: BTreeMap<EnrollmentId, Reply>,
    pub(super) receipts: BTreeMap<(AccountId, FollowerId, Timestamp, i64), Receipt>,
    /// Without what the deliveries say of them.
    pub(super) enrollments: BTreeMap<EnrollmentId, (AccountId, Enrollment)>,
    pub(super) timers: BTreeMap<TimerKey, Timer>,
    pub(super) deliveries: BTreeMap<Place, Delivery>,
    pub(super) outcomes: BTreeMap<(EnrollmentId, u16, u16), Recorded>,
    /// Taken together at once; each stands for one.
    pub(super) sums: BTreeMap<Sum, i64>,
    pub(super) awaited: BTreeMap<(AccountId, String, EnrollmentId), Awaited>,
    /// Whether the tag is put on, and which change of it this is.
    pub(super) tag_changes: BTreeMap<(AccountId, String, FollowerId), (bool, i64)>,
}

fn refused<T>(table: &'static str, key: &impl std::fmt::Debug) -> Result<T, Error> {
    let what = format!("there is a row {key:?} already");
    Err(Error::Row { table, what })
}

impl Rows {
    pub(super) fn new(sharding: Sharding) -> Self {
        Self {
            sharding,
            followers: BTreeMap::new(),
            openids: BTreeMap::new(),
            grants: BTreeMap::new(),
            consents: BTreeMap::new(),
            clicks: BTreeMap::new(),
            replies: BTreeMap::new(),
            receipts: BTreeMap::new(),
            enrollments: BTreeMap::new(),
            timers: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            sums: BTreeMap::new(),
            awaited: BTreeMap::new(),
            tag_changes: BTreeMap::new(),
        }
    }

    /// As `store::timers::page`.
    pub(super) fn timers_page(
        &self,
        shards: &[u16],
        after: TimerKey,
        until: Timestamp,
        limit: usize,
    ) -> Vec<TimerKey> {
        let ours = |key: &&TimerKey| shards.contains(&self.sharding.shard_of(key.enrollment));
        let behind = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let page = self.timers.range(behind).map(|(key, _)| key);
        let page = page.take_while(|key| key.due_at < until).filter(ours);
        page.take(limit).copied().collect()
    }

    /// As `store::deliveries::page`.
    pub(super) fn deliveries_page(
        &self,
        account: AccountId,
        (due_at, enrollment): (Timestamp, EnrollmentId),
        limit: usize,
    ) -> Vec<DeliveryKey> {
        let from = std::ops::Bound::Excluded((account, due_at, enrollment));
        let page = self.deliveries.range((from, std::ops::Bound::Unbounded));
        let page = page.take_while(|((of, _, _), _)| *of == account);
        let due = page.filter(|(_, row)| row.sending.is_none());
        let due = due.map(|(place, row)| key(*place, row.generation));
        due.take(limit).collect()
    }

    /// As `store::deliveries::left_behind`.
    pub(super) fn left_behind(&self, held: &[Held]) -> Vec<DeliveryKey> {
        let left = self.deliveries.iter().filter(|((account, _, _), row)| {
            let shard = self.sharding.shard(*account);
            let held = held.iter().find(|held| held.shard == shard);
            let sent = row.sending.zip(held);
            sent.is_some_and(|(sending, held)| sending.epoch < held.epoch)
        });
        left.map(|(place, row)| key(*place, row.generation))
            .collect()
    }

    /// An enrollment with what its delivery says of it.
    pub(super) fn enrollment(&self, id: EnrollmentId) -> Option<(Enrollment, Option<Fare>)> {
        let (account, stored) = self.enrollments.get(&id)?;
        let delivery = self.deliveries.get(&(*account, stored.wake_at, id));
        let sending = delivery.and_then(|row| row.sending);
        let enrollment = Enrollment {
            in_flight: sending.is_some(),
            called_at: sending.map_or(Timestamp(0), |sending| sending.at),
            ..stored.clone()
        };
        Some((enrollment, sending.map(|sending| sending.fare)))
    }

    /// As `store::tables::Tables::write`.
    pub(super) fn write(
        &mut self,
        changes: &Changes<'_>,
        beside: &Beside<'_>,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.write_people(changes)?;
        self.write_enrollments(changes)?;
        self.write_deliveries(changes, now)?;
        for (account, version, entry) in beside.entries {
            let key = (entry.enrollment, entry.step, entry.entry);
            let row: (AccountId, VersionId, OutcomeEntry) = (*account, *version, entry.clone());
            if let Some(known) = self.outcomes.insert(key, row) {
                return refused("outcomes", &(entry, known));
            }
        }
        for sum in beside.sums {
            let one = Sum {
                n: 1,
                ..sum.clone()
            };
            *self.sums.entry(one).or_default() += sum.n;
        }
        // Of several changes of one tag in a commit only the last is written.
        let changes = beside.tag_changes.iter().map(|change| {
            let key = (change.account, change.tag.clone(), change.follower);
            (key, change.present)
        });
        for (key, present) in changes.collect::<BTreeMap<_, _>>() {
            let known = self.tag_changes.get(&key).copied();
            let number = known.map_or(1, |(_, number)| number + 1);
            self.tag_changes.insert(key, (present, number));
        }
        beside.forgotten.iter().for_each(|one| self.erase(one));
        for (account, reference) in beside.reported {
            self.awaited
                .retain(|(of, name, _), _| of != account || name != reference);
        }
        for one in beside.newly_awaited {
            let key = (one.account, one.reference.clone(), one.enrollment);
            self.awaited.insert(key, one.clone());
        }
        for key in beside.void {
            let row = self.deliveries.get(&place(key));
            if row.is_some_and(|row| row.sending.is_none() && row.generation == key.generation) {
                self.deliveries.remove(&place(key));
            }
        }
        self.delete(beside.void_intents, true);
        Ok(())
    }

    fn write_people(&mut self, changes: &Changes<'_>) -> Result<(), Error> {
        for one in &changes.new_followers {
            let name = (one.account, one.openid.clone());
            let known = self.followers.insert(one.id, (*one).clone()).is_some();
            if self.openids.insert(name, one.id).is_some() || known {
                return refused("followers", &one.id);
            }
        }
        for one in &changes.followers {
            if let Some(row) = self.followers.get_mut(&one.id) {
                let openid = std::mem::take(&mut row.openid);
                *row = Follower {
                    openid,
                    ..(*one).clone()
                };
            }
        }
        for one in &changes.renamed {
            let Some(row) = self.followers.get_mut(&one.id) else {
                continue;
            };
            self.openids.remove(&(row.account, row.openid.clone()));
            row.openid.clone_from(&one.openid);
            let name = (row.account, one.openid.clone());
            if self.openids.insert(name, one.id).is_some() {
                return refused("followers", &one.id);
            }
        }
        for (follower, grant) in &changes.grants {
            self.grants.insert((*follower, grant.kind.number()), *grant);
        }
        for (follower, consent) in &changes.consents {
            let key = (*follower, consent.template.clone());
            self.consents.insert(key, consent.left);
        }
        for row in &changes.clicks {
            let (_, _, click) = row;
            let key = (click.enrollment, click.step, click.link);
            self.clicks.insert(key, row.clone());
        }
        for reply in &changes.replies {
            self.replies.insert(reply.enrollment, *reply);
        }
        for enrollment in &changes.ended_replies {
            self.replies.remove(enrollment);
        }
        Ok(())
    }

    fn write_enrollments(&mut self, changes: &Changes<'_>) -> Result<(), Error> {
        for (account, one) in &changes.new_enrollments {
            let row = (*account, stored(one));
            if self.enrollments.insert(one.id, row).is_some() {
                return refused("enrollments", &one.id);
            }
        }
        for one in &changes.enrollments {
            if let Some((_, row)) = self.enrollments.get_mut(&one.id) {
                *row = Enrollment {
                    version: row.version,
                    enrolled_at: row.enrolled_at,
                    plan: std::mem::take(&mut row.plan),
                    ..stored(one)
                };
            }
        }
        for one in &changes.replanned {
            if let Some((_, row)) = self.enrollments.get_mut(&one.id) {
                row.plan.clone_from(&one.plan);
            }
        }
        Ok(())
    }

    fn write_deliveries(&mut self, changes: &Changes<'_>, now: Timestamp) -> Result<(), Error> {
        for key in &changes.disarmed {
            self.timers.remove(&TimerKey {
                due_at: key.due_at,
                enrollment: key.enrollment,
            });
        }
        self.delete(&changes.disarmed, false);
        self.delete(&changes.answered, true);
        self.intend(&changes.intended, now);
        let new: Vec<_> = changes.new_intents.iter().map(|one| one.key).collect();
        self.insert(&new)?;
        self.intend(&changes.new_intents, now);
        for key in &changes.given_back {
            if let Some(row) = self.deliveries.get_mut(&place(key)) {
                row.sending = None;
            }
        }
        for key in &changes.new_timers {
            let name = TimerKey {
                due_at: key.due_at,
                enrollment: key.enrollment,
            };
            let row = Timer {
                account: key.account,
                generation: key.generation,
            };
            if self.timers.insert(name, row).is_some() {
                return refused("timers", &name);
            }
        }
        self.insert(&changes.new_deliveries)
    }

    fn insert(&mut self, new: &[DeliveryKey]) -> Result<(), Error> {
        for key in new {
            let row = Delivery {
                generation: key.generation,
                sending: None,
            };
            if self.deliveries.insert(place(key), row).is_some() {
                return refused("deliveries", key);
            }
        }
        Ok(())
    }

    fn delete(&mut self, keys: &[DeliveryKey], sending: bool) {
        for key in keys {
            let row = self.deliveries.get(&place(key));
            if row.is_some_and(|row| row.sending.is_some() == sending) {
                self.deliveries.remove(&place(key));
            }
        }
    }

    fn intend(&mut self, intents: &[Intent], now: Timestamp) {
        for one in intents {
            if let Some(row) = self.deliveries.get_mut(&place(&one.key)) {
                row.sending = Some(Sending {
                    epoch: one.epoch,
                    at: now,
                    fare: one.fare,
                });
            }
        }
    }

    fn erase(&mut self, one: &Forgotten) {
        let theirs = |follower: &FollowerId| *follower == one.follower;
        for ((account, follower, _, _), row) in &mut self.receipts {
            if *account == one.account && theirs(follower) {
                row.detail = None;
            }
        }
        self.grants.retain(|(follower, _), _| !theirs(follower));
        self.consents.retain(|(follower, _), _| !theirs(follower));
        self.clicks
            .retain(|(enrollment, ..), _| !theirs(&enrollment.follower()));
        self.tag_changes
            .retain(|(_, _, follower), _| !theirs(follower));
        let (first, last) = EnrollmentId::range(one.follower);
        let all = (first, 0, 0)..=(last, u16::MAX, u16::MAX);
        for (_, (_, _, entry)) in self.outcomes.range_mut(all) {
            if !one.openid.is_empty() {
                entry.detail = entry.detail.replace(&one.openid, "…");
            }
        }
    }

    /// As `store::tables::Tables::promote`.
    pub(super) fn promote(&mut self, keys: &[TimerKey]) -> Result<Vec<DeliveryKey>, Error> {
        let mut promoted = Vec::new();
        for one in keys {
            if let Some(row) = self.timers.remove(one) {
                let place = (row.account, one.due_at, one.enrollment);
                promoted.push(key(place, row.generation));
            }
        }
        self.insert(&promoted)?;
        Ok(promoted)
    }
}

/// An enrollment as its own row has it.
fn stored(enrollment: &Enrollment) -> Enrollment {
    Enrollment {
        in_flight: false,
        called_at: Timestamp(0),
        ..enrollment.clone()
    }
}
