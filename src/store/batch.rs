//! One commit: load everybody concerned, decide in memory, write what changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::journey::answer::AnswerClass;
use crate::journey::carrier::Carrier;
use crate::journey::event::{Arrival, Event};
use crate::journey::ids::{AccountId, FollowerId, VersionId};
use crate::journey::outcome::{Outcome, OutcomeEntry};
use crate::journey::receive::{Effects, Source, is_same_follow};
use crate::policy::fare::Fare;
use crate::policy::grant::Opener;
use crate::policy::settle::{self, AccountNews};
use crate::store::awaited::Awaited;
use crate::store::health::Counts;
use crate::store::load::{People, Person};
use crate::store::numbers::Numbers;
use crate::store::receipts::ReceiptKey;
use crate::store::recipients::Admission;
use crate::store::reconcile::Reconciled;
use crate::store::save::{self, Moment};
use crate::store::statistics::Leaving;
use crate::store::tables::{Beside, Tables, Wanted};
use crate::store::timers::TimerKey;
use crate::store::work::{
    Act, Acted, Admitted, Armed, Confirmed, DeliveryKey, Ended, Intended, Settled, Taken, Work,
};
use crate::store::{Error, Knowledge, erasure, report, tags};

/// A commit under way.
pub(crate) struct Batch<'a, T> {
    pub(super) tables: &'a T,
    pub(super) knowledge: &'a Knowledge,
    pub(super) moment: Moment,
    /// The next follower's id.
    pub(super) numbers: &'a mut Numbers,
    pub(super) people: People,
    pub(super) entries: Vec<(AccountId, VersionId, OutcomeEntry)>,
    /// Messages that the platform reports on, by its ids; those reported on now; and new ones.
    pub(super) awaited: report::Reports,
    pub(super) reported: Vec<(AccountId, String)>,
    newly_awaited: Vec<Awaited>,
    /// Deliveries whose enrollment knows nothing of them: merely due ones, and intents.
    pub(super) void: Vec<DeliveryKey>,
    void_intents: Vec<DeliveryKey>,
    /// Followers to forget although they have not left.
    pub(super) erasing: HashSet<FollowerId>,
    /// Followers who left now.
    pub(super) left: Vec<Leaving>,
    /// Tags to tell the platform of.
    tag_changes: Vec<tags::Change>,
    /// Recipients of broadcasts that have an enrollment now.
    pub(super) admissions: Vec<Admission>,
    tally: Tally,
}

/// What a commit amounts to, for metrics.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(super) outcomes: HashMap<Outcome, u64>,
    pub(super) enrolled: u64,
    /// Per answered or ended step: milliseconds after its due instant.
    pub(super) lateness_ms: Vec<i64>,
    /// For accounts' health.
    pub(super) health: Counts,
}

/// An answer for a caller, to be given after the commit.
#[derive(Debug)]
pub(crate) enum Answered {
    Taken(Taken),
    Acted(Acted),
    Reconciled(Reconciled),
    Admitted(Admitted),
    Settled(Settled),
    Confirmed(Confirmed),
    Intended(Vec<Intended>),
    Promoted(usize),
    Clicked(bool),
}

impl<'a, T: Tables> Batch<'a, T> {
    /// Does all `works`, which are in the order of their ranks; one answer for each.
    ///
    /// `moment` is read once everybody concerned is locked: a commit that had to wait for others is
    /// later than theirs, and says so.
    pub(crate) async fn run(
        tables: &'a T,
        knowledge: &'a Knowledge,
        moment: impl FnOnce() -> Moment + Send,
        numbers: &'a mut Numbers,
        works: &[Work],
    ) -> Result<(Vec<Answered>, Armed, Tally), Error> {
        let catalog = knowledge.catalog();
        let clicks = |work: &Work| matches!(work, Work::Click { .. });
        let wanted = Wanted {
            consents: catalog.uses_consents() || report::changes_consents(works),
            clicks: catalog.uses_clicks() || works.iter().any(clicks),
        };
        let people = People::load(tables, works, knowledge.pseudonyms(), wanted).await?;
        let awaited = report::load(tables, works, &people).await?;
        let mut batch = Self {
            tables,
            knowledge,
            moment: moment(),
            numbers,
            people,
            entries: Vec::new(),
            awaited,
            reported: Vec::new(),
            newly_awaited: Vec::new(),
            void: Vec::new(),
            void_intents: Vec::new(),
            erasing: HashSet::new(),
            left: Vec::new(),
            tag_changes: Vec::new(),
            admissions: Vec::new(),
            tally: Tally::default(),
        };
        let fresh = batch.take_receipts(works).await?;
        let mut answers = Vec::with_capacity(works.len());
        for (index, work) in works.iter().enumerate() {
            answers.push(match work {
                Work::Receive {
                    account,
                    arrival,
                    offer,
                    ..
                } => {
                    let fresh = fresh.contains(&index);
                    let mut taken = batch.receive(*account, arrival, Source::Told, fresh);
                    taken.passive = batch.answer(*account, arrival, *offer, fresh);
                    Answered::Taken(taken)
                }
                Work::Act {
                    account,
                    openid,
                    act,
                    ..
                } => Answered::Acted(batch.act(*account, openid, act)),
                Work::Reconcile { account, found, .. } => {
                    Answered::Reconciled(batch.reconcile(*account, found).await?)
                }
                Work::Admit {
                    broadcast,
                    account,
                    version,
                    due_at,
                    followers,
                    ..
                } => Answered::Admitted(
                    batch
                        .admit((*broadcast, *account, *version), *due_at, followers)
                        .await?,
                ),
                Work::Settle { key, ended, .. } => Answered::Settled(batch.settle(*key, ended)),
                Work::Confirm { key, .. } => Answered::Confirmed(batch.confirm(*key)),
                Work::Intend { keys, only, .. } => {
                    let intended = keys.iter().map(|key| batch.intend(*key, *only));
                    Answered::Intended(intended.collect())
                }
                Work::Click { clicked, .. } => Answered::Clicked(batch.click(clicked)),
                Work::Promote { .. } => continue,
            });
        }
        // Before anybody is forgotten: the language goes.
        let sums = batch.sums().await?;
        let forgotten = batch.forget();
        let beside = Beside {
            entries: &batch.entries,
            sums: &sums,
            tag_changes: &batch.tag_changes,
            forgotten: &forgotten,
            admissions: &batch.admissions,
            reported: &batch.reported,
            newly_awaited: &batch.newly_awaited,
            void: &batch.void,
            void_intents: &batch.void_intents,
        };
        let mut armed = save::save(tables, &batch.people, beside, &batch.moment).await?;
        // Only now, and last in the order of ranks: a timer that an event of this very commit took
        // off the wheel must not become a delivery.
        for work in works {
            if let Work::Promote { keys, .. } = work {
                let ours = keys.iter().filter(|key| batch.is_ours(key));
                let ours: Vec<_> = ours.copied().collect();
                let promoted = tables.promote(&ours).await?;
                answers.push(Answered::Promoted(promoted.len()));
                armed.due.extend(promoted);
            }
        }
        Ok((answers, armed, batch.tally))
    }

    /// Whether a timer is on our part of the wheel.
    fn is_ours(&self, timer: &TimerKey) -> bool {
        let holding = &self.moment.holding;
        holding.has(holding.sharding().shard_of(timer.enrollment))
    }

    /// Writes the receipts of all events; says which works are events seen for the first time.
    async fn take_receipts(&mut self, works: &[Work]) -> Result<HashSet<usize>, Error> {
        let mut arrivals = Vec::new();
        for (index, work) in works.iter().enumerate() {
            if let Work::Receive {
                account, arrival, ..
            } = work
            {
                let key = ReceiptKey {
                    account: *account,
                    follower: self.follower_of(*account, arrival),
                    created_at: arrival.created_at,
                    digest: arrival.digest,
                };
                arrivals.push((index, key, &**arrival));
            }
        }
        if arrivals.is_empty() {
            return Ok(HashSet::new());
        }
        let rows: Vec<_> = arrivals.iter().map(|(_, key, one)| (*key, *one)).collect();
        let now = self.moment.now;
        let mut fresh = self.tables.take_receipts(&rows, Source::Told, now).await?;
        // Of two equal events in one commit only the first is fresh.
        let firsts = arrivals
            .iter()
            .filter(|(_, key, _)| fresh.remove(key))
            .map(|(index, _, _)| *index);
        Ok(firsts.collect())
    }

    /// Whom an event is about; makes somebody known who was not. Zero for nobody.
    pub(super) fn follower_of(&mut self, account: AccountId, arrival: &Arrival) -> FollowerId {
        if arrival.openid.is_empty() {
            return FollowerId(0);
        }
        if let Some(id) = self.people.id_of(account, &arrival.openid) {
            return id;
        }
        let id = self.numbers.next(account);
        self.people.add(id, account, arrival);
        id
    }

    pub(super) fn receive(
        &mut self,
        account: AccountId,
        arrival: &Arrival,
        source: Source,
        fresh: bool,
    ) -> Taken {
        let mut taken = Taken {
            fresh,
            enrolled: 0,
            passive: None,
        };
        let id = self.people.id_of(account, &arrival.openid);
        let ours = match &arrival.event {
            Event::Reported(report) if fresh => self.report(account, id, report),
            _ => false,
        };
        let person = id.and_then(|id| self.people.by_id.get_mut(&id));
        let (true, Some(person), Some(account)) = (fresh, person, self.knowledge.account(account))
        else {
            return taken;
        };
        // A platform's clock may be a little ahead of ours; what it grants holds at once.
        let opens_at = arrival.created_at.min(self.moment.now);
        if !reported_twice(person, &arrival.event, opens_at) {
            person
                .grants
                .open(&account.profile, &arrival.event, opens_at);
        }
        self.tally
            .health
            .event(account.journey.id, &account.profile, &arrival.event);
        // A report can overtake the answer to the call that it is about.
        let on_its_way = |fare: &Fare| fare.carrier == Carrier::SubscriptionNotice;
        let ours = ours || person.fares.values().any(on_its_way);
        report::apply_consents(&mut person.consents, &arrival.event, ours);
        let catalog = self.knowledge.catalog();
        let now = self.moment.now;
        let followed = person.passages.follower.following;
        let effects = person
            .passages
            .receive(arrival, source, &account.journey, &catalog, now);
        person.recall(&account, &catalog, now);
        taken.enrolled = effects.enrolled;
        let follower = &mut person.passages.follower;
        if let (true, false, Source::Told, Some(id)) = (followed, follower.following, source, id) {
            self.left.push((id, follower.left_at.min(now)));
        }
        // Whoever acts again is known by name again.
        if follower.following && erasure::is_pseudonym(&follower.openid) {
            follower.openid.clone_from(&arrival.openid);
        }
        if let Some(id) = id {
            self.record(id, effects);
            if account.erase_on_unfollow && arrival.event.withdraws_data() {
                self.erase(id);
            }
        }
        taken
    }

    fn act(&mut self, account: AccountId, openid: &str, act: &Act) -> Acted {
        let now = self.moment.now;
        let id = self.people.id_of(account, openid);
        let person = id.and_then(|id| self.people.by_id.get_mut(&id));
        let (Some(id), Some(person), Some(account)) = (id, person, self.knowledge.account(account))
        else {
            return Acted::NoSuchFollower;
        };
        let catalog = self.knowledge.catalog();
        let mut effects = Effects::default();
        let acted = match act {
            Act::Enroll { sequence } => match catalog.live_named(sequence) {
                None => Acted::NoSuchSequence,
                Some(version) if !version.runs_on(&account.journey) => Acted::NoSuchSequence,
                Some(_) if !person.passages.follower.following => Acted::NotFollowing,
                Some(version) => {
                    let passages = &mut person.passages;
                    passages.enroll(version, &account.journey, &catalog, now, &mut effects);
                    match passages.enrollments.last() {
                        Some(last) if effects.enrolled > 0 => Acted::Enrolled(last.id),
                        _ => Acted::NotAllowed,
                    }
                }
            },
            Act::Cancel { sequence } => {
                let mut cancelled = 0;
                for enrollment in &mut person.passages.enrollments {
                    let version = catalog.version(enrollment.version);
                    let name = version.map(|version| version.sequence.name.as_str());
                    let meant = sequence.is_none() || sequence.as_deref() == name;
                    if meant && !enrollment.is_finished() {
                        cancelled += 1;
                        effects
                            .entries
                            .extend(enrollment.cancel(now, "cancelled by hand"));
                    }
                }
                Acted::Cancelled(cancelled)
            }
            Act::Tag { .. } if !person.passages.follower.following => Acted::NotFollowing,
            Act::Tag { tag, present } => {
                let follower = &mut person.passages.follower;
                tags::set(&mut follower.tags, tag, *present);
                let tags = follower.tags.clone();
                self.tag_changes.push(tags::Change {
                    account: account.journey.id,
                    follower: id,
                    tag: tag.clone(),
                    present: *present,
                });
                Acted::Tagged(tags)
            }
            Act::Erase => Acted::Erased,
            Act::Allow { template, left } => {
                person.consents.set(template, *left);
                person.passages.release(now);
                Acted::Allowed
            }
        };
        person.recall(&account, &catalog, now);
        self.record(id, effects);
        if *act == Act::Erase {
            self.erase(id);
        }
        acted
    }

    pub(super) fn settle(&mut self, key: DeliveryKey, ended: &Ended) -> Settled {
        let nothing = Settled {
            news: AccountNews::None,
            returned: false,
            surprise: None,
        };
        let id = key.enrollment.follower();
        let Some(person) = self.people.by_id.get_mut(&id) else {
            self.void_intents.push(key);
            return nothing;
        };
        if ended.language.is_some() {
            person
                .passages
                .follower
                .language
                .clone_from(&ended.language);
        }
        let index = person.passages.enrollments.iter().position(|one| {
            // A cancelled enrollment has moved to another generation; its last send has not.
            one.id == key.enrollment && one.in_flight && one.wake_at == key.due_at
        });
        let Some(index) = index else {
            self.void_intents.push(key);
            return nothing;
        };
        let enrollment = &person.passages.enrollments[index];
        let version = self
            .knowledge
            .catalog()
            .version(enrollment.version)
            .cloned();
        let step = version
            .as_ref()
            .and_then(|version| version.sequence.steps.get(usize::from(enrollment.step)));
        let (Some(version), Some(step)) = (&version, step) else {
            return nothing;
        };
        if ended.answer.class == AnswerClass::NotCarried && person.is_given_again(key.enrollment) {
            // The platform came again meanwhile and is being given the same answer: to hand the step
            // to another carrier now would bring it twice.
            return nothing;
        }
        let fare = person
            .fares
            .remove(&key.enrollment)
            .unwrap_or_else(|| Fare::customer_message(None));
        person
            .replies
            .retain(|reply| reply.enrollment != key.enrollment);
        let answered_at = match fare.carrier {
            Carrier::PassiveReply => enrollment.called_at,
            _ => self.moment.now,
        };
        let late_ms = answered_at.0.saturating_sub(key.due_at.0);
        // An account that is not configured any more has no rules, and its answers count all the same.
        let account = self.knowledge.account(key.account);
        let profile = account.as_ref().map(|account| Arc::clone(&account.profile));
        let profile = profile.unwrap_or_default();
        let settled = settle::settle(
            &mut person.passages,
            &mut person.grants,
            &mut person.consents,
            settle::Case {
                index,
                step,
                min_gap: version.sequence.min_gap,
                fare,
                profile: &profile,
            },
            &ended.answer,
            self.moment.now,
        );
        if let Some(account) = &account {
            let catalog = self.knowledge.catalog();
            person.recall(account, &catalog, self.moment.now);
        }
        self.tally.lateness_ms.push(late_ms);
        self.tally
            .health
            .settled(key.account, fare, &ended.answer, &settled);
        let named = (ended.answer.reference.as_deref(), fare.fallback_of(step));
        let awaited = settled.entries.iter();
        let awaited =
            awaited.filter_map(|entry| report::awaited(key.account, version.id, entry, named));
        self.newly_awaited.extend(awaited);
        let effects = Effects {
            entries: settled.entries,
            enrolled: 0,
        };
        self.record(id, effects);
        Settled {
            news: settled.news,
            returned: settled.returned,
            surprise: settled.surprise,
        }
    }

    pub(super) fn record(&mut self, follower: FollowerId, effects: Effects) {
        self.tally.enrolled += u64::try_from(effects.enrolled).unwrap_or(0);
        let Some(person) = self.people.by_id.get(&follower) else {
            return;
        };
        let account = person.passages.follower.account;
        for entry in effects.entries {
            let enrollments = &person.passages.enrollments;
            let Some(one) = enrollments.iter().find(|one| one.id == entry.enrollment) else {
                continue;
            };
            let count = u64::from(entry.steps.max(1));
            *self.tally.outcomes.entry(entry.outcome).or_default() += count;
            self.entries.push((account, one.version, entry));
        }
    }
}

/// Whether it is a follow that has opened its grant already: its callback and the platform's list
/// may both tell of it, and one follow grants once.
fn reported_twice(person: &Person, event: &Event, at: Timestamp) -> bool {
    let mut grants = person.grants.0.iter();
    matches!(event, Event::Followed { .. })
        && person.passages.follower.following
        && grants.any(|one| one.opened_by == Opener::Followed && is_same_follow(one.opens_at, at))
}
