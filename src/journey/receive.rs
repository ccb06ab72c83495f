//! What an event does to a follower's journey: ends passages, releases held steps, enrolls.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::journey::account::Account;
use crate::journey::catalog::{Catalog, Version};
use crate::journey::enrollment::Enrollment;
use crate::journey::event::{Arrival, Event};
use crate::journey::follower::Follower;
use crate::journey::ids::{BROADCASTS_FROM, EnrollmentId};
use crate::journey::outcome::OutcomeEntry;
use crate::journey::plan;
use crate::journey::sequence::{ExitOn, Pattern, Reconcile, Reenter, Step, Trigger};

/// A follower with every passage of theirs, loaded and changed together.
#[derive(Clone, Debug)]
pub struct Passages {
    pub follower: Follower,
    /// In the order of their numbers. Finished ones too: they decide about re-entry.
    pub enrollments: Vec<Enrollment>,
}

/// How far a platform's clock may be ahead of ours. An instant beyond it is a mistake, and as the
/// follower's latest one it would make every later event look overtaken.
const AHEAD_MAX: Duration = Duration::from_secs(600);

/// How far apart two reports of one follow may be stamped: the callback and the platform's list are
/// made by different machines, and both count whole seconds.
const SAME_FOLLOW: Duration = Duration::from_secs(2);

/// Whether two instants within one stay are the same follow, reported twice.
pub fn is_same_follow(one: Timestamp, other: Timestamp) -> bool {
    one.since(other).max(other.since(one)) <= SAME_FOLLOW
}

/// How we came to know of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The platform told us when it happened.
    Told,
    /// Found later by comparing with the platform's list. `enrolls` is false for a follow from
    /// before we knew the account: nobody waits for the first message of a follow of last year.
    Found { enrolls: bool },
}

/// What changed besides the passages themselves.
#[derive(Debug, Default)]
pub struct Effects {
    pub entries: Vec<OutcomeEntry>,
    /// How many passages began.
    pub enrolled: usize,
}

impl Passages {
    /// Applies an event. Nothing changes when a later one has made it meaningless.
    pub fn receive(
        &mut self,
        arrival: &Arrival,
        source: Source,
        account: &Account,
        catalog: &Catalog,
        now: Timestamp,
    ) -> Effects {
        let mut effects = Effects::default();
        let stays_since = self.follower.following.then_some(self.follower.followed_at);
        let far = arrival.created_at > now.plus(AHEAD_MAX);
        let at = if far { now } else { arrival.created_at };
        if !self.follower.observe(arrival, at) {
            return effects;
        }
        if arrival.event == Event::Unfollowed {
            let why = match source {
                Source::Told => "unfollowed",
                Source::Found { .. } => "reconciled",
            };
            self.cancel_all(now, why, &mut effects);
            return effects;
        }
        self.exit(&arrival.event, catalog, now, &mut effects);
        // A consent is no act that opens a grant, but a held step may have a carrier now.
        if !matches!(arrival.event, Event::Other { .. } | Event::Reported(_)) {
            self.release(now);
        }
        // A second follow without an unfollow is the platform's repetition, not a person's act; one
        // from before the stay's first act is the follow itself, overtaken.
        let stays_since = stays_since.filter(|_| matches!(arrival.event, Event::Followed { .. }));
        let again = stays_since.is_some_and(|since| since.plus(SAME_FOLLOW) < at);
        let at = arrival.created_at.min(now);
        for version in catalog.live() {
            let wanted = version.runs_on(account)
                && triggers(version, &arrival.event)
                && found_in_time(version, account, source, at, now);
            // The same follow may be reported twice: by its callback, and by the platform's list.
            let known = stays_since.is_some() && self.entered_by(version, catalog, at);
            if wanted && !again && !known {
                self.enroll(version, account, catalog, at, &mut effects);
            }
        }
        effects
    }

    /// Whether a follow of the instant `at` has led into this sequence already.
    fn entered_by(&self, version: &Version, catalog: &Catalog, at: Timestamp) -> bool {
        self.enrollments.iter().any(|one| {
            let known = catalog.version(one.version);
            known.is_some_and(|known| known.sequence.name == version.sequence.name)
                && is_same_follow(one.enrolled_at, at)
        })
    }

    /// Begins a passage through `version`, as its `reenter` rule allows. False when it does not.
    pub fn enroll(
        &mut self,
        version: &Arc<Version>,
        account: &Account,
        catalog: &Catalog,
        at: Timestamp,
        effects: &mut Effects,
    ) -> bool {
        let sequence = &version.sequence;
        let earlier = |enrollment: &Enrollment| {
            let known = catalog.version(enrollment.version);
            known.is_some_and(|known| known.sequence.name == sequence.name)
        };
        let last_at = self
            .enrollments
            .iter()
            .filter(|one| earlier(one))
            .map(|one| one.enrolled_at)
            .max();
        let allowed = match (last_at, sequence.reenter) {
            (None, _) => true,
            // An event that comes late is no new entry.
            (Some(last_at), Reenter::Always) => last_at <= at,
            (Some(_), Reenter::Never) => false,
            (Some(last_at), Reenter::After(pause)) => last_at.plus(pause) <= at,
        };
        let (true, Some(id)) = (allowed, self.next_id(false)) else {
            return false;
        };
        for enrollment in self.enrollments.iter_mut().filter(|one| earlier(one)) {
            let entry = enrollment.cancel(at, "entered again");
            effects.entries.extend(entry);
        }
        let plan = plan::plan(sequence, at, version.zone(account), seed(id));
        let enrollment = Enrollment::new(id, version.id, at, plan);
        self.enrollments.push(enrollment);
        effects.enrolled += 1;
        true
    }

    /// Makes the follower a recipient of a broadcast whose message is due at `due_at`. Somebody who
    /// has left meanwhile is one too, and it ends at once. `None` for who has had too many.
    pub fn admit(
        &mut self,
        version: &Version,
        due_at: Timestamp,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Option<EnrollmentId> {
        let id = self.next_id(true)?;
        let mut enrollment = Enrollment::new(id, version.id, due_at, vec![due_at]);
        if !self.follower.following {
            effects
                .entries
                .extend(enrollment.cancel(now, "not following"));
        }
        self.enrollments.push(enrollment);
        effects.enrolled += 1;
        Some(id)
    }

    /// The id of the next enrollment in a sequence, or in a broadcast; `None` when all are taken.
    fn next_id(&self, broadcast: bool) -> Option<EnrollmentId> {
        let ids = self.enrollments.iter().map(|one| one.id);
        let last = ids.filter(|id| id.is_broadcast() == broadcast).max();
        let number = match (last, broadcast) {
            (Some(last), _) => last.number().checked_add(1)?,
            (None, false) => 0,
            (None, true) => BROADCASTS_FROM,
        };
        let id = EnrollmentId::new(self.follower.id, number);
        (id.is_broadcast() == broadcast).then_some(id)
    }

    /// Ends every unfinished passage.
    pub fn cancel_all(&mut self, now: Timestamp, why: &str, effects: &mut Effects) {
        for enrollment in &mut self.enrollments {
            effects.entries.extend(enrollment.cancel(now, why));
        }
    }

    /// Ends the unfinished passages whose sequence says so.
    fn exit(&mut self, event: &Event, catalog: &Catalog, now: Timestamp, effects: &mut Effects) {
        for enrollment in &mut self.enrollments {
            let version = catalog.version(enrollment.version);
            let exits = version.is_some_and(|version| {
                let mut rules = version.sequence.exit_on.iter();
                rules.any(|rule| ends(rule, event))
            });
            if exits {
                let why = format!("exit_on: {}", event.word());
                effects.entries.extend(enrollment.cancel(now, &why));
            }
        }
    }

    /// Ends the passage in whose message a link was clicked, if its sequence says so.
    pub fn clicked(
        &mut self,
        (enrollment, step, link): (EnrollmentId, u16, u16),
        catalog: &Catalog,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        let mut enrollments = self.enrollments.iter_mut();
        let Some(one) = enrollments.find(|one| one.id == enrollment) else {
            return;
        };
        let version = catalog.version(one.version);
        let step = version.and_then(|version| version.sequence.steps.get(usize::from(step)));
        let index = usize::from(link).checked_sub(1);
        let link = step
            .zip(index)
            .and_then(|(step, index)| step.links.get(index));
        if let (Some(version), Some(step), Some(link)) = (version, step, link) {
            let fits =
                |rule: &&ExitOn| matches!(rule, ExitOn::Clicked(name) if name.fits(step, link));
            if let Some(ExitOn::Clicked(name)) = version.sequence.exit_on.iter().find(fits) {
                let why = format!("exit_on: clicked {name}");
                effects.entries.extend(one.cancel(now, &why));
            }
        }
    }

    /// Lets held steps go: there may be a grant for them.
    pub fn release(&mut self, now: Timestamp) {
        for enrollment in &mut self.enrollments {
            enrollment.release(now);
        }
    }
}

/// Whether a sequence takes somebody in who was found `now` and followed `at`: one whose every step
/// is too late could only write down that it is.
fn found_in_time(
    version: &Version,
    account: &Account,
    source: Source,
    at: Timestamp,
    now: Timestamp,
) -> bool {
    let Source::Found { enrolls } = source else {
        return true;
    };
    let sequence = &version.sequence;
    let plan = plan::plan(sequence, at, version.zone(account), 0);
    let in_time = |(due_at, step): (&Timestamp, &Step)| now < due_at.plus(step.expire_after);
    enrolls
        && sequence.reconcile == Reconcile::Enroll
        && plan.iter().zip(&sequence.steps).any(in_time)
}

/// A number that differs between enrollments and stays the same for one, for spreading.
pub fn seed(id: EnrollmentId) -> u64 {
    // splitmix64: neighbouring ids must not land on neighbouring instants.
    let mut z = id.0.unsigned_abs().wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn triggers(version: &Version, event: &Event) -> bool {
    match (&version.sequence.trigger, event) {
        (Trigger::Follow { scene: wanted }, Event::Followed { scene }) => {
            matches(wanted.as_ref(), scene.as_deref().unwrap_or(""))
        }
        (Trigger::Scan { scene: wanted }, Event::Scanned { scene }) => {
            matches(wanted.as_ref(), scene)
        }
        (Trigger::Message { text: wanted }, Event::MessageReceived { text, .. }) => {
            matches(wanted.as_ref(), text)
        }
        (Trigger::Click { key: wanted }, Event::Clicked { key }) => matches(wanted.as_ref(), key),
        _ => false,
    }
}

fn ends(rule: &ExitOn, event: &Event) -> bool {
    match (rule, event) {
        (ExitOn::Message(wanted), Event::MessageReceived { text, .. }) => {
            matches(wanted.as_ref(), text)
        }
        (ExitOn::Click(wanted), Event::Clicked { key }) => matches(wanted.as_ref(), key),
        (ExitOn::Scan(wanted), Event::Scanned { scene }) => matches(wanted.as_ref(), scene),
        _ => false,
    }
}

fn matches(wanted: Option<&Pattern>, text: &str) -> bool {
    wanted.is_none_or(|pattern| pattern.matches(text))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::journey::ids::{AccountId, FollowerId, VersionId};
    use crate::journey::parse;

    fn catalog(reenter: &str) -> Catalog {
        let text = format!(
            "sequence: a\ntrigger: follow\nreenter: {reenter}\nsteps:\n  \
             - {{ id: x, after: 1h, say: {{ text: a }} }}\n"
        );
        let sequence = parse::parse_stored(&text, &BTreeMap::new()).expect("is valid");
        let mut catalog = Catalog::default();
        let id = VersionId(1);
        let zone = None;
        catalog.add(Arc::new(Version { id, sequence, zone }), true);
        catalog
    }

    fn account() -> Account {
        Account {
            id: AccountId(1),
            key: "main".into(),
            name: "main".into(),
            zone: jiff::tz::TimeZone::UTC,
        }
    }

    fn arrival(event: Event, second: i64) -> Arrival {
        Arrival {
            openid: "ann".into(),
            created_at: Timestamp::from_seconds(second),
            digest: 0,
            event,
            language: None,
        }
    }

    proptest! {
        /// However often, in whatever order and by whom each follow of several is reported, every
        /// one leads into the sequence once, as its rule allows.
        #[test]
        fn a_follow_that_is_reported_twice_enrolls_once(
            stays in prop::collection::vec(
                prop::collection::vec((any::<bool>(), -1i64..=1), 1..5),
                1..4,
            ),
            rule in prop::sample::select(&["never", "always", "after 1d"][..]),
        ) {
            let (catalog, account) = (catalog(rule), account());
            let follow = || Event::Followed { scene: None };
            let first = arrival(follow(), 0);
            let follower = Follower::new(FollowerId(1), AccountId(1), &first);
            let mut person = Passages { follower, enrollments: Vec::new() };
            for (stay, reports) in (1i64..).zip(&stays) {
                let began = stay * 10_000;
                for (found, skew) in reports {
                    let source = match found {
                        true => Source::Found { enrolls: true },
                        false => Source::Told,
                    };
                    let at = Timestamp::from_seconds(began + 1_800);
                    let report = arrival(follow(), began + skew);
                    person.receive(&report, source, &account, &catalog, at);
                }
                let begun = match rule {
                    "always" => usize::try_from(stay).expect("is small"),
                    _ => 1,
                };
                prop_assert_eq!(person.enrollments.len(), begun);
                let left = arrival(Event::Unfollowed, began + 5_000);
                let at = Timestamp::from_seconds(began + 5_000);
                person.receive(&left, Source::Told, &account, &catalog, at);
            }
        }
    }
}
