//! One commit: load everybody concerned, decide in memory, write what changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sea_orm::DatabaseTransaction;

use crate::journey::enrollment::Entry;
use crate::journey::event::Arrival;
use crate::journey::ids::{AccountId, FollowerId, VersionId};
use crate::journey::outcome::{Outcome, OutcomeEntry};
use crate::journey::receive::Effects;
use crate::policy::settle::{self, AccountNews};
use crate::policy::{self, Case, Verdict};
use crate::store::load::People;
use crate::store::receipts::{self, ReceiptKey};
use crate::store::save::{self, Moment};
use crate::store::work::{
    Act, Acted, Armed, DeliveryKey, Ended, Intended, Send, Settled, Taken, Work,
};
use crate::store::{Error, Knowledge, deliveries, outcomes, timers};

/// A commit under way.
pub(super) struct Batch<'a> {
    pub(super) tx: &'a DatabaseTransaction,
    pub(super) knowledge: &'a Knowledge,
    pub(super) moment: Moment,
    /// The next follower's id.
    pub(super) next_follower: &'a mut i64,
    people: People,
    entries: Vec<(AccountId, VersionId, OutcomeEntry)>,
    /// Deliveries whose enrollment knows nothing of them: merely due ones, and intents.
    void: Vec<DeliveryKey>,
    void_intents: Vec<DeliveryKey>,
    tally: Tally,
}

/// What a commit amounts to, for metrics.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) outcomes: HashMap<Outcome, u64>,
    pub(super) enrolled: u64,
    /// Per answered or ended step: milliseconds after its due instant.
    pub(super) lateness_ms: Vec<i64>,
}

/// An answer for a caller, to be given after the commit.
pub(super) enum Answered {
    Taken(Taken),
    Acted(Acted),
    Settled(Settled),
    Intended(Vec<Intended>),
    Promoted(usize),
}

impl<'a> Batch<'a> {
    /// Does all `works`, which are in the order of their ranks; one answer for each.
    pub(super) async fn run(
        tx: &'a DatabaseTransaction,
        knowledge: &'a Knowledge,
        moment: Moment,
        next_follower: &'a mut i64,
        works: &[Work],
    ) -> Result<(Vec<Answered>, Armed, Tally), Error> {
        let people = People::load(tx, works).await?;
        let mut batch = Self {
            tx,
            knowledge,
            moment,
            next_follower,
            people,
            entries: Vec::new(),
            void: Vec::new(),
            void_intents: Vec::new(),
            tally: Tally::default(),
        };
        let fresh = batch.take_receipts(works).await?;
        let mut answers = Vec::with_capacity(works.len());
        for (index, work) in works.iter().enumerate() {
            answers.push(match work {
                Work::Receive {
                    account, arrival, ..
                } => Answered::Taken(batch.receive(*account, arrival, fresh.contains(&index))),
                Work::Act {
                    account,
                    openid,
                    act,
                    ..
                } => Answered::Acted(batch.act(*account, openid, act)),
                Work::Settle { key, ended, .. } => Answered::Settled(batch.settle(*key, ended)),
                Work::Intend { keys, .. } => {
                    Answered::Intended(keys.iter().map(|key| batch.intend(*key)).collect())
                }
                Work::Promote { .. } => continue,
            });
        }
        let mut armed = save::save(tx, &batch.people, moment).await?;
        outcomes::append(tx, &batch.entries).await?;
        deliveries::delete(tx, &batch.void, false).await?;
        deliveries::delete(tx, &batch.void_intents, true).await?;
        // Only now, and last in the order of ranks: a timer that an event of this very commit took
        // off the wheel must not become a delivery.
        for work in works {
            if let Work::Promote { keys, .. } = work {
                let promoted = timers::take(tx, keys).await?;
                deliveries::insert(tx, &promoted).await?;
                answers.push(Answered::Promoted(promoted.len()));
                armed.due.extend(promoted);
            }
        }
        Ok((answers, armed, batch.tally))
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
        let mut fresh = receipts::insert(self.tx, &rows, self.moment.now).await?;
        // Of two equal events in one commit only the first is fresh.
        let firsts = arrivals
            .iter()
            .filter(|(_, key, _)| fresh.remove(key))
            .map(|(index, _, _)| *index);
        Ok(firsts.collect())
    }

    /// Whom an event is about; makes somebody known who was not. Zero for nobody.
    fn follower_of(&mut self, account: AccountId, arrival: &Arrival) -> FollowerId {
        if arrival.openid.is_empty() {
            return FollowerId(0);
        }
        if let Some(id) = self.people.id_of(account, &arrival.openid) {
            return id;
        }
        let id = FollowerId(*self.next_follower);
        *self.next_follower += 1;
        self.people.add(id, account, arrival);
        id
    }

    fn receive(&mut self, account: AccountId, arrival: &Arrival, fresh: bool) -> Taken {
        let mut taken = Taken { fresh, enrolled: 0 };
        let id = self.people.id_of(account, &arrival.openid);
        let person = id.and_then(|id| self.people.by_id.get_mut(&id));
        let (true, Some(person), Some(account)) = (fresh, person, self.knowledge.account(account))
        else {
            return taken;
        };
        // A platform's clock may be a little ahead of ours; what it grants holds at once.
        let opens_at = arrival.created_at.min(self.moment.now);
        person
            .grants
            .open(&account.profile, &arrival.event, opens_at);
        let catalog = self.knowledge.catalog();
        let effects = person
            .passages
            .receive(arrival, &account.journey, &catalog, self.moment.now);
        taken.enrolled = effects.enrolled;
        if let Some(id) = id {
            self.record(id, effects);
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
        };
        self.record(id, effects);
        acted
    }

    fn settle(&mut self, key: DeliveryKey, ended: &Ended) -> Settled {
        let nothing = Settled {
            news: AccountNews::None,
            returned: false,
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
        let late_ms = self.moment.now.0.saturating_sub(key.due_at.0);
        let settled = settle::settle(
            &mut person.passages,
            &mut person.grants,
            settle::Case {
                index,
                step,
                min_gap: version.sequence.min_gap,
            },
            &ended.answer,
            self.moment.now,
        );
        self.tally.lateness_ms.push(late_ms);
        let effects = Effects {
            entries: settled.entries,
            enrolled: 0,
        };
        self.record(id, effects);
        Settled {
            news: settled.news,
            returned: settled.returned,
        }
    }

    /// Judges a due delivery; on `Send`, its intent is committed with this transaction.
    fn intend(&mut self, key: DeliveryKey) -> Intended {
        let now = self.moment.now;
        let id = key.enrollment.follower();
        let Some(index) = self.find(key) else {
            self.void.push(key);
            return Intended::NotSent;
        };
        let (catalog, account) = (
            self.knowledge.catalog(),
            self.knowledge.account(key.account),
        );
        let (Some(person), Some(account)) = (self.people.by_id.get_mut(&id), account) else {
            return Intended::NotSent;
        };
        let Some(version) = catalog.version(person.passages.enrollments[index].version) else {
            return Intended::NotSent;
        };
        let enrollment = &person.passages.enrollments[index];
        if enrollment.in_flight {
            return Intended::NotSent;
        }
        let Some(step) = version.sequence.steps.get(usize::from(enrollment.step)) else {
            return Intended::NotSent;
        };
        let case = Case {
            account: &account,
            follower: &person.passages.follower,
            grants: &person.grants,
            enrollment,
            version,
            step,
        };
        let verdict = policy::judge(&case, now);
        let facts = matches!(verdict, Verdict::Send(_)).then(|| policy::facts(&case, now));
        let shifted = policy::shifts(step, enrollment, now);
        let enrollment = &mut person.passages.enrollments[index];
        let mut effects = Effects::default();
        match (verdict, facts) {
            (Verdict::Send(kind), Some(facts)) => {
                if let Some(kind) = kind {
                    person.grants.spend(kind);
                }
                if shifted {
                    enrollment.shift(now);
                }
                enrollment.in_flight = true;
                enrollment.attempt = enrollment.attempt.saturating_add(1);
                person.passages.follower.last_sent_at = now;
                return Intended::Send(Box::new(Send {
                    key,
                    openid: person.passages.follower.openid.clone(),
                    step: person.passages.enrollments[index].step,
                    attempt: person.passages.enrollments[index].attempt,
                    version: Arc::clone(version),
                    facts,
                }));
            }
            (Verdict::Wait(until, _), _) => enrollment.rearm(until),
            (Verdict::Hold(deadline, why), _) => {
                let entry = Entry::new(Outcome::Held, now, why);
                effects.entries.push(enrollment.hold(entry, deadline));
            }
            (Verdict::Drop(outcome, why), _) => {
                let entry = Entry::new(outcome, now, why);
                effects.entries.push(enrollment.end_step(entry, now));
            }
            (Verdict::Cancel | Verdict::Send(_), _) => {
                effects
                    .entries
                    .extend(enrollment.cancel(now, "not following"));
            }
        }
        self.record(id, effects);
        Intended::NotSent
    }

    /// The enrollment that a delivery is for, if it still waits for exactly this one.
    fn find(&self, key: DeliveryKey) -> Option<usize> {
        let person = self.people.by_id.get(&key.enrollment.follower())?;
        person.passages.enrollments.iter().position(|one| {
            one.id == key.enrollment
                && one.generation == key.generation
                && one.armed_at() == Some(key.due_at)
        })
    }

    fn record(&mut self, follower: FollowerId, effects: Effects) {
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
