//! The rows that a commit reads and writes, whoever keeps them.
//!
//! `batch` reaches rows only through `Tables`: in the product a transaction of a database keeps them,
//! in the simulator a model in memory. The questions are few and coarse, so that whoever keeps rows
//! decides nothing: what is to be written is `save`'s doing.

use std::collections::{HashMap, HashSet};

use sea_orm::DatabaseTransaction;

use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::journey::enrollment::Enrollment;
use crate::journey::event::Arrival;
use crate::journey::follower::Follower;
use crate::journey::ids::{AccountId, BroadcastId, FollowerId, VersionId};
use crate::journey::link::Click;
use crate::journey::outcome::OutcomeEntry;
use crate::journey::receive::Source;
use crate::policy::consent::Consent;
use crate::policy::fare::Fare;
use crate::policy::grant::Grant;
use crate::store::awaited::{self, Awaited};
use crate::store::erasure::{Forgotten, Pseudonyms};
use crate::store::receipts::{self, ReceiptKey};
use crate::store::recipients::{self, Admission};
use crate::store::replies::Reply;
use crate::store::save::Changes;
use crate::store::statistics::{Leaving, Sent, Sum};
use crate::store::tags::Change;
use crate::store::timers::TimerKey;
use crate::store::work::DeliveryKey;
use crate::store::{
    Error, clicks, consents, deliveries, enrollments, erasure, followers, grants, outcomes,
    replies, sql, statistics, tags, timers,
};

/// What belongs to followers, in any order but that of one follower's enrollments.
#[derive(Debug, Default)]
pub(crate) struct Belongings {
    /// With the fares of those that are being sent.
    pub(crate) enrollments: Vec<(Enrollment, Option<Fare>)>,
    pub(crate) replies: Vec<Reply>,
    pub(crate) consents: Vec<(FollowerId, Consent)>,
    pub(crate) clicks: Vec<Click>,
    pub(crate) grants: Vec<(FollowerId, Grant)>,
}

/// What is loaded only where something could come of it: others need not pay for the question.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) consents: bool,
    pub(crate) clicks: bool,
}

/// Tags that the platform has not been told of: put on, or taken off.
pub(crate) type PendingTags = HashMap<FollowerId, Vec<(String, bool)>>;

/// An entry of a step's history, with the account and the version that it belongs to.
pub(crate) type Recorded = (AccountId, VersionId, OutcomeEntry);

/// What a commit writes beside the changes of people.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beside<'a> {
    pub(crate) entries: &'a [Recorded],
    pub(crate) sums: &'a [Sum],
    pub(crate) tag_changes: &'a [Change],
    pub(crate) forgotten: &'a [Forgotten],
    pub(crate) admissions: &'a [Admission],
    pub(crate) reported: &'a [(AccountId, String)],
    pub(crate) newly_awaited: &'a [Awaited],
    /// Due deliveries, and intents, of which no enrollment knows.
    pub(crate) void: &'a [DeliveryKey],
    pub(crate) void_intents: &'a [DeliveryKey],
}

/// The rows of one commit under way. An error means that nothing of it may be kept.
pub(crate) trait Tables: Sync {
    /// Whether others may be writing at this moment: then followers are locked in the order of
    /// their ids, and read as nobody changes them any more.
    fn has_other_writers(&self) -> bool;

    /// The followers known under these names, each with the name that was asked for.
    fn followers_named(
        &self,
        pseudonyms: &Pseudonyms,
        names: &[(AccountId, &str)],
    ) -> impl Future<Output = Result<Vec<(Follower, String)>, Error>> + Send;

    /// The followers with these ids.
    fn followers(
        &self,
        ids: &[FollowerId],
    ) -> impl Future<Output = Result<Vec<Follower>, Error>> + Send;

    /// What belongs to these followers, as far as it is wanted.
    fn belongings(
        &self,
        ids: &[FollowerId],
        wanted: Wanted,
    ) -> impl Future<Output = Result<Belongings, Error>> + Send;

    /// Takes events in; returns the keys of those that were not known yet.
    fn take_receipts(
        &self,
        arrivals: &[(ReceiptKey, &Arrival)],
        source: Source,
        now: Timestamp,
    ) -> impl Future<Output = Result<HashSet<ReceiptKey>, Error>> + Send;

    /// The messages known under these ids of the platform's.
    fn awaited(
        &self,
        references: &[(AccountId, String)],
    ) -> impl Future<Output = Result<Vec<Awaited>, Error>> + Send;

    /// What was sent to people within the hour before they left.
    fn sent_before(
        &self,
        leaving: &[Leaving],
    ) -> impl Future<Output = Result<Vec<Sent>, Error>> + Send;

    /// What the platform has not been told of the tags of these followers.
    fn pending_tags(
        &self,
        account: AccountId,
        followers: &[FollowerId],
    ) -> impl Future<Output = Result<PendingTags, Error>> + Send;

    /// Those of a broadcast's recipients who have no enrollment; `None` when it is not sending.
    fn waiting_recipients(
        &self,
        broadcast: BroadcastId,
        account: AccountId,
        followers: &[FollowerId],
    ) -> impl Future<Output = Result<Option<HashSet<FollowerId>>, Error>> + Send;

    /// Writes it all, but for receipts, which come before, and promotions, which come after.
    fn write(
        &self,
        changes: &Changes<'_>,
        beside: &Beside<'_>,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Makes deliveries of the timers that are still there; returns them.
    fn promote(
        &self,
        keys: &[TimerKey],
    ) -> impl Future<Output = Result<Vec<DeliveryKey>, Error>> + Send;
}

impl Tables for DatabaseTransaction {
    fn has_other_writers(&self) -> bool {
        sql::has_other_writers(self)
    }

    async fn followers_named(
        &self,
        pseudonyms: &Pseudonyms,
        names: &[(AccountId, &str)],
    ) -> Result<Vec<(Follower, String)>, Error> {
        followers::by_openid(self, pseudonyms, names).await
    }

    async fn followers(&self, ids: &[FollowerId]) -> Result<Vec<Follower>, Error> {
        followers::by_id(self, ids).await
    }

    async fn belongings(&self, ids: &[FollowerId], wanted: Wanted) -> Result<Belongings, Error> {
        let enrollments = enrollments::of(self, ids).await?;
        let replying = enrollments
            .iter()
            .filter(|(_, fare)| fare.is_some_and(|fare| fare.carrier == Carrier::PassiveReply));
        let replying: Vec<_> = replying.map(|(one, _)| one.id).collect();
        let replies = replies::of(self, &replying).await?;
        let consents = match wanted.consents {
            true => consents::of(self, ids).await?,
            false => Vec::new(),
        };
        let clicks = match wanted.clicks {
            true => clicks::of(self, ids).await?,
            false => Vec::new(),
        };
        let grants = grants::of(self, ids).await?;
        Ok(Belongings {
            enrollments,
            replies,
            consents,
            clicks,
            grants,
        })
    }

    async fn take_receipts(
        &self,
        arrivals: &[(ReceiptKey, &Arrival)],
        source: Source,
        now: Timestamp,
    ) -> Result<HashSet<ReceiptKey>, Error> {
        receipts::insert(self, arrivals, source, now).await
    }

    async fn awaited(&self, references: &[(AccountId, String)]) -> Result<Vec<Awaited>, Error> {
        awaited::by_reference(self, references).await
    }

    async fn sent_before(&self, leaving: &[Leaving]) -> Result<Vec<Sent>, Error> {
        statistics::sent_before(self, leaving).await
    }

    async fn pending_tags(
        &self,
        account: AccountId,
        followers: &[FollowerId],
    ) -> Result<PendingTags, Error> {
        tags::pending(self, account, followers).await
    }

    async fn waiting_recipients(
        &self,
        broadcast: BroadcastId,
        account: AccountId,
        followers: &[FollowerId],
    ) -> Result<Option<HashSet<FollowerId>>, Error> {
        recipients::still_waiting(self, broadcast, account, followers).await
    }

    async fn write(
        &self,
        changes: &Changes<'_>,
        beside: &Beside<'_>,
        now: Timestamp,
    ) -> Result<(), Error> {
        erasure::begin(self, beside.forgotten).await?;
        followers::insert(self, &changes.new_followers).await?;
        followers::update(self, &changes.followers).await?;
        followers::rename(self, &changes.renamed).await?;
        grants::put(self, &changes.grants).await?;
        consents::put(self, &changes.consents).await?;
        clicks::put(self, &changes.clicks).await?;
        replies::put(self, &changes.replies).await?;
        replies::delete(self, &changes.ended_replies).await?;
        enrollments::insert(self, &changes.new_enrollments).await?;
        recipients::mark(self, beside.admissions).await?;
        enrollments::update(self, &changes.enrollments).await?;
        enrollments::replan(self, &changes.replanned).await?;
        timers::delete(self, &changes.disarmed).await?;
        deliveries::delete(self, &changes.disarmed, false).await?;
        deliveries::delete(self, &changes.answered, true).await?;
        deliveries::intend(self, &changes.intended, now).await?;
        deliveries::insert_intents(self, &changes.new_intents, now).await?;
        deliveries::give_back(self, &changes.given_back).await?;
        timers::insert(self, &changes.new_timers).await?;
        deliveries::insert(self, &changes.new_deliveries).await?;
        outcomes::append(self, beside.entries).await?;
        statistics::append(self, beside.sums).await?;
        tags::put(self, beside.tag_changes).await?;
        erasure::erase(self, beside.forgotten).await?;
        for (account, reference) in beside.reported {
            awaited::delete(self, *account, reference).await?;
        }
        awaited::insert(self, beside.newly_awaited).await?;
        deliveries::delete_void(self, beside.void).await?;
        deliveries::delete(self, beside.void_intents, true).await
    }

    async fn promote(&self, keys: &[TimerKey]) -> Result<Vec<DeliveryKey>, Error> {
        let promoted = timers::take(self, keys).await?;
        deliveries::insert(self, &promoted).await?;
        Ok(promoted)
    }
}
