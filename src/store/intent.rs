//! Intents within a commit: a due delivery is judged, and either becomes the intent or waits, is
//! held or ends. A step that an event made due may become the answer to that very event.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::journey::answer::{Answer, AnswerClass};
use crate::journey::carrier::Carrier;
use crate::journey::enrollment::{Enrollment, Entry, State};
use crate::journey::event::Arrival;
use crate::journey::ids::{AccountId, FollowerId};
use crate::journey::outcome::Outcome;
use crate::journey::receive::Effects;
use crate::journey::sequence::Fallback;
use crate::journey::template::Facts;
use crate::policy::fare::Fare;
use crate::policy::{self, Case, Verdict};
use crate::store::batch::Batch;
use crate::store::replies::Reply;
use crate::store::tables::Tables;
use crate::store::work::{Confirmed, DeliveryKey, Ended, Intended, Offer, Passive, Send};

/// How long the platform is given to come again with a callback whose answer it did not get: it does
/// so after five seconds (page "passive user reply message").
const REPEATED_WITHIN_MS: i64 = 6_500;

/// Least time between two tries of the platform's; it waits five seconds.
const TRIES_APART_MS: i64 = 1_000;

/// How often the platform brings one callback, at most: after the last time nothing tells whether
/// the answer arrived.
const ANSWERS_MAX: u16 = 3;

impl<T: Tables> Batch<'_, T> {
    /// Judges a due delivery; on `Send`, its intent is committed with this transaction.
    pub(super) fn intend(&mut self, key: DeliveryKey, only: Option<Carrier>) -> Intended {
        if !self.moment.holding.takes(key.account) {
            return Intended::NotSent;
        }
        let Some(index) = self.find(key) else {
            self.void.push(key);
            return Intended::NotSent;
        };
        let follower = key.enrollment.follower();
        let fits = |verdict: &Verdict| match (only, verdict) {
            (None, _) => true,
            (Some(carrier), Verdict::Send(fare)) => fare.carrier == carrier,
            (Some(_), _) => false,
        };
        match self.judge(follower, index, false) {
            Some((verdict, _)) if !fits(&verdict) => Intended::NotSent,
            Some((Verdict::Send(fare), Some(facts))) => {
                let send = self.commit_intent(follower, index, fare, *facts);
                send.map_or(Intended::NotSent, |send| Intended::Send(Box::new(send)))
            }
            Some((verdict, _)) => {
                self.obey(follower, index, verdict);
                Intended::NotSent
            }
            None => Intended::NotSent,
        }
    }

    /// What policy says of a follower's enrollment now, with what templates may know of one to be
    /// sent; `None` when there is nothing to judge.
    fn judge(
        &self,
        follower: FollowerId,
        index: usize,
        passive: bool,
    ) -> Option<(Verdict, Option<Box<Facts>>)> {
        let person = self.people.by_id.get(&follower)?;
        let account = self
            .knowledge
            .account(person.passages.follower.account)
            .filter(|account| self.knowledge.may_send(account))?;
        let catalog = self.knowledge.catalog();
        let enrollment = person.passages.enrollments.get(index)?;
        if enrollment.in_flight {
            return None;
        }
        let version = catalog.version(enrollment.version)?;
        let step = version.sequence.steps.get(usize::from(enrollment.step))?;
        let case = Case {
            account: &account,
            passages: &person.passages,
            index,
            grants: &person.grants,
            consents: &person.consents,
            clicks: &person.clicks,
            catalog: &catalog,
            version,
            step,
            passive,
        };
        let verdict = policy::judge(&case, self.moment.now);
        let sends = matches!(verdict, Verdict::Send(_));
        let facts = sends.then(|| Box::new(policy::facts(&case, self.moment.now)));
        Some((verdict, facts))
    }

    /// Spends what the message costs and makes its delivery the intent.
    fn commit_intent(
        &mut self,
        follower: FollowerId,
        index: usize,
        fare: Fare,
        facts: Facts,
    ) -> Option<Send> {
        let now = self.moment.now;
        let catalog = self.knowledge.catalog();
        let person = self.people.by_id.get_mut(&follower)?;
        let account = person.passages.follower.account;
        let enrollment = person.passages.enrollments.get_mut(index)?;
        let version = catalog.version(enrollment.version)?;
        let step = version.sequence.steps.get(usize::from(enrollment.step))?;
        let rules = self.knowledge.account(account)?;
        fare.take(&mut person.grants, &rules, now);
        if let Some(Fallback::SubscriptionNotice(form)) = fare.fallback_of(step) {
            person.consents.spend(&form.template);
        }
        if policy::shifts(step, enrollment, now) {
            enrollment.shift(now);
        }
        enrollment.in_flight = true;
        enrollment.called_at = now;
        enrollment.attempt = enrollment.attempt.saturating_add(1);
        person.fares.insert(enrollment.id, fare);
        let follower = &mut person.passages.follower;
        follower.last_sent_at = now;
        Some(Send {
            key: DeliveryKey {
                account,
                due_at: enrollment.wake_at,
                enrollment: enrollment.id,
                generation: enrollment.generation,
            },
            openid: follower.openid.clone(),
            step: enrollment.step,
            attempt: enrollment.attempt,
            version: Arc::clone(version),
            facts,
            tracking: self.knowledge.tracking(&rules, version),
            fare,
            epoch: self.moment.holding.epoch(account).unwrap_or_default(),
        })
    }

    fn obey(&mut self, follower: FollowerId, index: usize, verdict: Verdict) {
        let now = self.moment.now;
        let Some(person) = self.people.by_id.get_mut(&follower) else {
            return;
        };
        let enrollment = &mut person.passages.enrollments[index];
        let mut effects = Effects::default();
        let ends = matches!(verdict, Verdict::Drop(..) | Verdict::Cancel);
        match verdict {
            Verdict::Wait(until, _) => enrollment.rearm(until),
            Verdict::Hold(deadline, why) => {
                let entry = Entry::new(Outcome::Held, now, why);
                effects.entries.push(enrollment.hold(entry, deadline));
            }
            Verdict::Drop(outcome, why) => {
                let entry = Entry::new(outcome, now, why);
                effects.entries.push(enrollment.end_step(entry, now));
            }
            Verdict::Cancel | Verdict::Send(_) => {
                effects
                    .entries
                    .extend(enrollment.cancel(now, "not following"));
            }
        }
        // What was kept for a step that is not sent may let another one go.
        let account = self.knowledge.account(person.passages.follower.account);
        if let Some(account) = account.filter(|_| ends) {
            let catalog = self.knowledge.catalog();
            person.recall(&account, &catalog, now);
        }
        self.record(follower, effects);
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

    /// The step that may answer a fresh event itself, its intent committed; or, when the event comes
    /// again, the one that answered it before.
    pub(super) fn answer(
        &mut self,
        account: AccountId,
        arrival: &Arrival,
        offer: Offer,
        fresh: bool,
    ) -> Option<Passive> {
        let follower = self.people.id_of(account, &arrival.openid)?;
        match (offer, fresh) {
            (Offer::Nothing, _) | (Offer::Repetition, true) => None,
            (Offer::Step | Offer::Repetition, false) => self.answer_again(follower, arrival),
            // An intent is its shard's holder's alone; elsewhere the step waits for its delivery.
            (Offer::Step, true) if !self.moment.holding.takes(account) => None,
            (Offer::Step, true) => self.answer_first(follower, arrival),
        }
    }

    fn answer_first(&mut self, follower: FollowerId, arrival: &Arrival) -> Option<Passive> {
        let now = self.moment.now;
        let person = self.people.by_id.get(&follower)?;
        let due =
            |one: &Enrollment| one.state == State::Active && !one.in_flight && one.wake_at <= now;
        let (index, _) = person
            .passages
            .enrollments
            .iter()
            .enumerate()
            .filter(|(_, one)| due(one))
            .min_by_key(|(_, one)| (one.due_at(), one.id))?;
        let (verdict, facts) = self.judge(follower, index, true)?;
        let (Verdict::Send(fare), Some(facts)) = (verdict, facts) else {
            // Whatever else is to be done with it, its delivery will see to.
            return None;
        };
        if fare.carrier != Carrier::PassiveReply {
            return None;
        }
        let send = self.commit_intent(follower, index, fare, *facts)?;
        let person = self.people.by_id.get_mut(&follower)?;
        person.replies.push(Reply {
            enrollment: send.key.enrollment,
            created_at: arrival.created_at,
            digest: arrival.digest,
            answers: 1,
            answered_at: now,
        });
        Some(Passive::First(Box::new(send)))
    }

    fn answer_again(&mut self, follower: FollowerId, arrival: &Arrival) -> Option<Passive> {
        let now = self.moment.now;
        let person = self.people.by_id.get_mut(&follower)?;
        let reply = person
            .replies
            .iter_mut()
            .find(|one| one.created_at == arrival.created_at && one.digest == arrival.digest)?;
        // Copies that arrive together are one try: somebody between us doubles what passes.
        if now.0.saturating_sub(reply.answered_at.0) >= TRIES_APART_MS {
            reply.answers = reply.answers.saturating_add(1);
        }
        reply.answered_at = now;
        let enrollment = reply.enrollment;
        let index = person
            .passages
            .enrollments
            .iter()
            .position(|one| one.id == enrollment && one.in_flight)?;
        let send = self.sent_again(follower, index)?;
        Some(Passive::Again(Box::new(send)))
    }

    /// What was given to the platform before, put together from the same facts.
    fn sent_again(&self, follower: FollowerId, index: usize) -> Option<Send> {
        let person = self.people.by_id.get(&follower)?;
        let enrollment = &person.passages.enrollments[index];
        let account_id = person.passages.follower.account;
        let account = self.knowledge.account(account_id)?;
        let catalog = self.knowledge.catalog();
        let version = catalog.version(enrollment.version)?;
        let step = version.sequence.steps.get(usize::from(enrollment.step))?;
        let case = Case {
            account: &account,
            passages: &person.passages,
            index,
            grants: &person.grants,
            consents: &person.consents,
            clicks: &person.clicks,
            catalog: &catalog,
            version,
            step,
            passive: true,
        };
        Some(Send {
            key: DeliveryKey {
                account: account_id,
                due_at: enrollment.wake_at,
                enrollment: enrollment.id,
                generation: enrollment.generation,
            },
            openid: person.passages.follower.openid.clone(),
            step: enrollment.step,
            attempt: enrollment.attempt,
            version: Arc::clone(version),
            facts: policy::facts(&case, enrollment.called_at),
            tracking: self.knowledge.tracking(&account, version),
            fare: person.fares.get(&enrollment.id).copied()?,
            epoch: self.moment.holding.epoch(account_id).unwrap_or_default(),
        })
    }

    /// Ends a passive reply once the platform has had its time to come again: that it did not is the
    /// only sign that the answer arrived.
    pub(super) fn confirm(&mut self, key: DeliveryKey) -> Confirmed {
        let now = self.moment.now;
        let follower = key.enrollment.follower();
        let reply = self.people.by_id.get(&follower).and_then(|person| {
            person
                .replies
                .iter()
                .find(|one| one.enrollment == key.enrollment)
        });
        let Some(reply) = reply.copied() else {
            return Confirmed::Ended;
        };
        let sure_at = Timestamp(reply.answered_at.0.saturating_add(REPEATED_WITHIN_MS));
        if now < sure_at {
            return Confirmed::NotBefore(sure_at);
        }
        let answer = if reply.answers < ANSWERS_MAX {
            Answer::without_code(AnswerClass::Accepted, "")
        } else {
            let what =
                "the platform came three times for this reply: nothing tells whether it arrived";
            Answer::without_code(AnswerClass::Unknown, what)
        };
        self.settle(key, &Ended::from(answer));
        Confirmed::Ended
    }
}
