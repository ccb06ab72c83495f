//! Writes what a commit changed, by comparing everybody before and after.
//!
//! Which row wakes an enrollment follows from the enrollment itself, so nothing here decides: it
//! keeps invariant 1 by construction, since rows are derived and never edited on their own.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::journey::enrollment::Enrollment;
use crate::journey::follower::Follower;
use crate::journey::ids::{AccountId, EnrollmentId, FollowerId};
use crate::policy::consent::Consent;
use crate::policy::fare::Fare;
use crate::policy::grant::Grant;
use crate::store::deliveries::Intent;
use crate::store::leases::Holding;
use crate::store::load::{People, Person};
use crate::store::replies::Reply;
use crate::store::tables::{Beside, Tables};
use crate::store::timers::TimerKey;
use crate::store::work::{Armed, DeliveryKey};
use crate::store::{Error, clicks};

/// When the commit is, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Timestamp,
    /// What is due before this instant becomes a delivery at once.
    pub(crate) lead_until: Timestamp,
    /// The shards that are ours.
    pub(crate) holding: Arc<Holding>,
}

/// The rows to touch, collected over everybody.
#[derive(Debug, Default)]
pub(crate) struct Changes<'a> {
    pub(crate) new_followers: Vec<&'a Follower>,
    pub(crate) followers: Vec<&'a Follower>,
    pub(crate) renamed: Vec<&'a Follower>,
    pub(crate) grants: Vec<(FollowerId, Grant)>,
    pub(crate) new_enrollments: Vec<(AccountId, &'a Enrollment)>,
    pub(crate) enrollments: Vec<&'a Enrollment>,
    pub(crate) replanned: Vec<&'a Enrollment>,
    pub(crate) disarmed: Vec<DeliveryKey>,
    pub(crate) answered: Vec<DeliveryKey>,
    /// Intents of deliveries that have a row, and of those that are due for the first time.
    pub(crate) intended: Vec<Intent>,
    pub(crate) new_intents: Vec<Intent>,
    pub(crate) given_back: Vec<DeliveryKey>,
    pub(crate) consents: Vec<(FollowerId, &'a Consent)>,
    pub(crate) clicks: Vec<clicks::Row>,
    pub(crate) replies: Vec<Reply>,
    pub(crate) ended_replies: Vec<EnrollmentId>,
    pub(crate) new_timers: Vec<DeliveryKey>,
    pub(crate) new_deliveries: Vec<DeliveryKey>,
}

/// Which row wakes an enrollment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    /// A timer, or a delivery that is merely due.
    Waiting(DeliveryKey),
    /// A delivery whose intent is committed.
    Sending(DeliveryKey),
}

fn place(account: AccountId, enrollment: &Enrollment) -> Place {
    let key = DeliveryKey {
        account,
        due_at: enrollment.wake_at,
        enrollment: enrollment.id,
        generation: enrollment.generation,
    };
    match (enrollment.in_flight, enrollment.is_finished()) {
        (true, _) => Place::Sending(key),
        (false, false) => Place::Waiting(key),
        (false, true) => Place::Nowhere,
    }
}

fn intent(key: DeliveryKey, fare: Fare, moment: &Moment) -> Intent {
    Intent {
        key,
        fare,
        epoch: moment.holding.epoch(key.account).unwrap_or_default(),
    }
}

impl<'a> Changes<'a> {
    /// The changes of everybody, in the order of their keys: B-trees take sorted rows several times
    /// as fast.
    fn of(people: &'a People, moment: &Moment) -> Self {
        let mut changes = Self::default();
        for person in people.by_id.values() {
            changes.add(person, moment);
        }
        changes.new_followers.sort_by_key(|follower| follower.id);
        changes.new_enrollments.sort_by_key(|(_, one)| one.id);
        changes
            .new_timers
            .sort_by_key(|key| (key.due_at, key.enrollment));
        changes
    }

    /// What was armed of ours.
    fn into_armed(self, moment: &Moment) -> Armed {
        let ours = |key: &&DeliveryKey| moment.holding.epoch(key.account).is_some();
        let timers = self.new_timers.iter().filter(ours);
        let timers = timers.map(|key| TimerKey {
            due_at: key.due_at,
            enrollment: key.enrollment,
        });
        Armed {
            timers: timers.collect(),
            due: self.new_deliveries,
        }
    }

    fn add(&mut self, person: &'a Person, moment: &Moment) {
        let follower = &person.passages.follower;
        match &person.before {
            None => self.new_followers.push(follower),
            Some(before) if before.follower != *follower => {
                self.followers.push(follower);
                if before.follower.openid != follower.openid {
                    self.renamed.push(follower);
                }
            }
            Some(_) => {}
        }
        let granted = person.before.as_ref().map_or(&[][..], |b| &b.grants.0[..]);
        for grant in &person.grants.0 {
            if !granted.contains(grant) {
                self.grants.push((follower.id, *grant));
            }
        }
        let given = person
            .before
            .as_ref()
            .map_or(&[][..], |b| &b.consents.0[..]);
        for consent in &person.consents.0 {
            if !given.contains(consent) {
                self.consents.push((follower.id, consent));
            }
        }
        self.add_clicks(person);
        self.add_replies(person);
        let known = person.before.as_ref().map_or(&[][..], |b| &b.enrollments);
        for (index, enrollment) in person.passages.enrollments.iter().enumerate() {
            let fare = person.fares.get(&enrollment.id).copied();
            let fare = fare.unwrap_or_else(|| Fare::customer_message(None));
            self.add_enrollment(
                follower.account,
                known.get(index),
                (enrollment, fare),
                moment,
            );
        }
    }

    fn add_clicks(&mut self, person: &Person) {
        let before = person.before.as_ref().map_or(&[][..], |b| &b.clicks[..]);
        let account = person.passages.follower.account;
        for click in person.clicks.iter().filter(|one| !before.contains(one)) {
            let mut enrollments = person.passages.enrollments.iter();
            if let Some(of) = enrollments.find(|one| one.id == click.enrollment) {
                self.clicks.push((account, of.version, click.clone()));
            }
        }
    }

    fn add_replies(&mut self, person: &Person) {
        let before = person.before.as_ref().map_or(&[][..], |b| &b.replies[..]);
        let still = |one: &Reply| {
            person
                .replies
                .iter()
                .any(|r| r.enrollment == one.enrollment)
        };
        let ended = before.iter().filter(|one| !still(one));
        self.ended_replies.extend(ended.map(|one| one.enrollment));
        let changed = person.replies.iter().filter(|one| !before.contains(one));
        self.replies.extend(changed);
    }

    fn add_enrollment(
        &mut self,
        account: AccountId,
        before: Option<&Enrollment>,
        (after, fare): (&'a Enrollment, Fare),
        moment: &Moment,
    ) {
        match before {
            None => self.new_enrollments.push((account, after)),
            Some(before) if before == after => return,
            Some(before) => {
                let only_flight = Enrollment {
                    in_flight: before.in_flight,
                    called_at: before.called_at,
                    ..after.clone()
                };
                if *before != only_flight {
                    self.enrollments.push(after);
                }
                if before.plan != after.plan {
                    self.replanned.push(after);
                }
            }
        }
        let was = before.map_or(Place::Nowhere, |before| place(account, before));
        match (was, place(account, after)) {
            (Place::Nowhere, Place::Waiting(key)) => self.arm(key, moment),
            (Place::Waiting(old), Place::Waiting(new)) if old == new => {}
            (Place::Waiting(old), Place::Waiting(new)) => {
                self.disarmed.push(old);
                self.arm(new, moment);
            }
            (Place::Waiting(old), Place::Nowhere) => self.disarmed.push(old),
            // A passive reply does not ask whether its timer has become a delivery yet.
            (Place::Waiting(old), Place::Sending(key))
                if old == key && fare.carrier != Carrier::PassiveReply =>
            {
                self.intended.push(intent(key, fare, moment));
            }
            // Released and sent in one commit: the row that it waited with is another one.
            (Place::Waiting(old), Place::Sending(key)) => {
                self.disarmed.push(old);
                self.new_intents.push(intent(key, fare, moment));
            }
            (Place::Sending(old), Place::Waiting(new)) if old == new => self.given_back.push(new),
            (Place::Sending(old), Place::Waiting(new)) => {
                self.answered.push(old);
                self.arm(new, moment);
            }
            (Place::Sending(old), Place::Nowhere) => self.answered.push(old),
            (Place::Nowhere, Place::Sending(key)) => {
                self.new_intents.push(intent(key, fare, moment))
            }
            (Place::Nowhere, Place::Nowhere) | (Place::Sending(_), Place::Sending(_)) => {}
        }
    }

    fn arm(&mut self, key: DeliveryKey, moment: &Moment) {
        // Another node's wheel is told of a timer by its row, of a delivery by nobody.
        let ours = moment.holding.epoch(key.account).is_some();
        if ours && key.due_at <= moment.lead_until {
            self.new_deliveries.push(key);
        } else {
            self.new_timers.push(key);
        }
    }
}

/// Writes the changes of everybody, and what goes beside them; says what was armed.
pub(super) async fn save(
    tables: &impl Tables,
    people: &People,
    beside: Beside<'_>,
    moment: &Moment,
) -> Result<Armed, Error> {
    let changes = Changes::of(people, moment);
    tables.write(&changes, &beside, moment.now).await?;
    Ok(changes.into_armed(moment))
}
