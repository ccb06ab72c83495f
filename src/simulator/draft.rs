//! A draft of the model's rows: what one commit reads and writes, to be kept whole or dropped.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::journey::event::Arrival;
use crate::journey::follower::Follower;
use crate::journey::ids::{AccountId, BroadcastId, EnrollmentId, FollowerId};
use crate::journey::outcome::Outcome;
use crate::journey::receive::Source;
use crate::policy::consent::Consent;
use crate::simulator::model::{Receipt, Rows};
use crate::store::Error;
use crate::store::awaited::Awaited;
use crate::store::erasure::Pseudonyms;
use crate::store::receipts::{self, ReceiptKey};
use crate::store::save::Changes;
use crate::store::shards::Sharding;
use crate::store::statistics::{LEFT_WITHIN, Leaving, Sent};
use crate::store::tables::{Belongings, Beside, PendingTags, Tables, Wanted};
use crate::store::timers::TimerKey;
use crate::store::work::DeliveryKey;

/// The rows as one commit sees and changes them.
#[derive(Debug)]
pub(super) struct Draft(Mutex<Rows>);

impl Draft {
    pub(super) fn of(rows: &Rows) -> Self {
        Self(Mutex::new(rows.clone()))
    }

    /// The rows as they are after the commit.
    pub(super) fn into_rows(self) -> Rows {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every answer is ready at once.
impl Tables for Draft {
    fn has_other_writers(&self) -> bool {
        self.rows().sharding == Sharding::Many
    }

    async fn followers_named(
        &self,
        pseudonyms: &Pseudonyms,
        names: &[(AccountId, &str)],
    ) -> Result<Vec<(Follower, String)>, Error> {
        let rows = self.rows();
        let mut found = Vec::new();
        for (account, openid) in names {
            for name in [(*openid).to_owned(), pseudonyms.of(*account, openid)] {
                let id = rows.openids.get(&(*account, name));
                if let Some(follower) = id.and_then(|id| rows.followers.get(id)) {
                    found.push((follower.clone(), (*openid).to_owned()));
                }
            }
        }
        Ok(found)
    }

    async fn followers(&self, ids: &[FollowerId]) -> Result<Vec<Follower>, Error> {
        let rows = self.rows();
        let found = ids.iter().filter_map(|id| rows.followers.get(id));
        Ok(found.cloned().collect())
    }

    async fn belongings(&self, ids: &[FollowerId], wanted: Wanted) -> Result<Belongings, Error> {
        let rows = self.rows();
        let mut found = Belongings::default();
        for id in ids {
            let (first, last) = EnrollmentId::range(*id);
            for (enrollment, _) in rows.enrollments.range(first..=last) {
                let Some((one, fare)) = rows.enrollment(*enrollment) else {
                    continue;
                };
                if fare.is_some_and(|fare| fare.carrier == Carrier::PassiveReply) {
                    found.replies.extend(rows.replies.get(enrollment));
                }
                found.enrollments.push((one, fare));
            }
            let grants = rows.grants.range((*id, i64::MIN)..=(*id, i64::MAX));
            found.grants.extend(grants.map(|(_, grant)| (*id, *grant)));
            if wanted.clicks {
                let from = (first, 0, 0)..=(last, u16::MAX, u16::MAX);
                let clicks = rows
                    .clicks
                    .range(from)
                    .map(|(_, (_, _, click))| click.clone());
                found.clicks.extend(clicks);
            }
            if wanted.consents {
                let consents = rows.consents.range((*id, String::new())..);
                let theirs = consents.take_while(|((follower, _), _)| follower == id);
                found.consents.extend(theirs.map(|((_, template), left)| {
                    let template = template.clone();
                    let left = *left;
                    (*id, Consent { template, left })
                }));
            }
        }
        Ok(found)
    }

    async fn take_receipts(
        &self,
        arrivals: &[(ReceiptKey, &Arrival)],
        source: Source,
        now: Timestamp,
    ) -> Result<HashSet<ReceiptKey>, Error> {
        let mut rows = self.rows();
        let mut fresh = HashSet::new();
        for (key, arrival) in arrivals {
            let place = (key.account, key.follower, key.created_at, key.digest);
            if rows.receipts.contains_key(&place) {
                continue;
            }
            let (kind, detail) = receipts::kept(&arrival.event, source);
            let row = Receipt {
                kind,
                detail: detail.map(str::to_owned),
                taken_at: now,
            };
            rows.receipts.insert(place, row);
            fresh.insert(*key);
        }
        Ok(fresh)
    }

    async fn awaited(&self, references: &[(AccountId, String)]) -> Result<Vec<Awaited>, Error> {
        let rows = self.rows();
        let found = references.iter().flat_map(|(account, reference)| {
            let from = (*account, reference.clone(), EnrollmentId(i64::MIN));
            let all = rows.awaited.range(from..);
            all.take_while(move |((of, name, _), _)| of == account && name == reference)
                .map(|(_, one)| one.clone())
        });
        Ok(found.collect())
    }

    async fn sent_before(&self, leaving: &[Leaving]) -> Result<Vec<Sent>, Error> {
        let rows = self.rows();
        let sent = leaving.iter().flat_map(|(id, at)| {
            let (first, last) = EnrollmentId::range(*id);
            let theirs = (first, 0, 0)..=(last, u16::MAX, u16::MAX);
            let theirs = rows.outcomes.range(theirs);
            theirs.filter_map(|(_, (_, version, entry))| {
                let within = entry.at <= *at && entry.at > at.minus(LEFT_WITHIN);
                (within && entry.outcome == Outcome::Sent).then_some(Sent {
                    at: entry.at,
                    enrollment: entry.enrollment,
                    step: entry.step,
                    version: *version,
                })
            })
        });
        Ok(sent.collect())
    }

    async fn pending_tags(
        &self,
        account: AccountId,
        followers: &[FollowerId],
    ) -> Result<PendingTags, Error> {
        let rows = self.rows();
        let mut pending: PendingTags = HashMap::new();
        for ((of, tag, follower), (present, _)) in &rows.tag_changes {
            if *of == account && followers.contains(follower) {
                let tags = pending.entry(*follower).or_default();
                tags.push((tag.clone(), *present));
            }
        }
        Ok(pending)
    }

    async fn waiting_recipients(
        &self,
        _: BroadcastId,
        _: AccountId,
        _: &[FollowerId],
    ) -> Result<Option<HashSet<FollowerId>>, Error> {
        // These worlds have no broadcasts: their recipients are enrollments like others.
        Ok(None)
    }

    async fn write(
        &self,
        changes: &Changes<'_>,
        beside: &Beside<'_>,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.rows().write(changes, beside, now)
    }

    async fn promote(&self, keys: &[TimerKey]) -> Result<Vec<DeliveryKey>, Error> {
        self.rows().promote(keys)
    }
}
