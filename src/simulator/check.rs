//! What must hold, held against the model's rows after every step. Pure: it knows rows, and what
//! the world has noted beside them, and none of the code that wrote them.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::journey::ids::{AccountId, EnrollmentId, FollowerId};
use crate::journey::outcome::Outcome;
use crate::simulator::model::Rows;
use crate::simulator::platform::Shown;
use crate::store::timers::TimerKey;

/// What does not hold, and of whom.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    /// Number in the list of invariants, zero for what goes beside it.
    pub(super) invariant: u8,
    pub(super) follower: Option<FollowerId>,
    pub(super) what: String,
}

pub(super) type Held = Result<(), Violation>;

pub(super) fn violated(invariant: u8, of: EnrollmentId, what: impl Into<String>) -> Held {
    let follower = of.follower();
    Err(Violation {
        invariant,
        follower: Some(follower),
        what: format!(
            "enrollment {} of follower {follower}: {}",
            of.number(),
            what.into()
        ),
    })
}

pub(super) fn beside(what: impl Into<String>) -> Violation {
    Violation {
        invariant: 0,
        follower: None,
        what: what.into(),
    }
}

/// One waker for each unfinished enrollment (1), and every planned step accounted for (2).
pub(super) fn rows(rows: &Rows) -> Held {
    let mut wakers: BTreeMap<EnrollmentId, usize> = BTreeMap::new();
    for (TimerKey { due_at, enrollment }, timer) in &rows.timers {
        let known = rows.enrollments.get(enrollment);
        let waits = known.is_some_and(|(account, one)| {
            let fits = one.wake_at == *due_at && one.generation == timer.generation;
            !one.is_finished() && fits && *account == timer.account
        });
        if !waits {
            return violated(1, *enrollment, format!("nobody waits for timer {due_at}"));
        }
        *wakers.entry(*enrollment).or_default() += 1;
    }
    for ((of, due_at, enrollment), row) in &rows.deliveries {
        let known = rows.enrollments.get(enrollment);
        let waits = known.is_some_and(|(account, one)| {
            let fits = one.generation == row.generation && !one.is_finished();
            let fits = fits || row.sending.is_some();
            account == of && one.wake_at == *due_at && fits
        });
        if !waits {
            let what = format!("nobody waits for delivery {due_at} {row:?}");
            return violated(1, *enrollment, what);
        }
        *wakers.entry(*enrollment).or_default() += 1;
    }
    for (id, (_, one)) in &rows.enrollments {
        let wakers = wakers.get(id).copied().unwrap_or_default();
        let sending = rows.enrollment(*id).is_some_and(|(one, _)| one.in_flight);
        let wanted = usize::from(!one.is_finished() || sending);
        if wakers != wanted {
            let what = format!("{wakers} wakers instead of {wanted} in {:?}", one.state);
            return violated(1, *id, what);
        }
        account_for_steps(rows, *id, sending)?;
    }
    Ok(())
}

/// Planned = ended + still planned, each step once.
fn account_for_steps(rows: &Rows, id: EnrollmentId, sending: bool) -> Held {
    let Some((_, one)) = rows.enrollments.get(&id) else {
        return Ok(());
    };
    let mut ended = BTreeSet::new();
    let entries = rows.outcomes.range((id, 0, 0)..=(id, u16::MAX, u16::MAX));
    for (_, (_, _, entry)) in entries {
        for step in entry.step..entry.step.saturating_add(entry.steps) {
            if !ended.insert(step) {
                return violated(2, id, format!("step {step} ended twice"));
            }
        }
    }
    let planned = one.plan.len();
    let still = match (one.is_finished(), sending) {
        (false, _) => planned.saturating_sub(usize::from(one.step)),
        (true, sending) => usize::from(sending),
    };
    if ended.len() + still != planned {
        let what = format!("{planned} planned, {} ended, {still} left", ended.len());
        return violated(2, id, what);
    }
    Ok(())
}

/// What one commit may do to rows: nothing vanishes, and nobody is moved to another version or by
/// more than a step.
pub(super) fn change(before: &Rows, after: &Rows) -> Held {
    if after.outcomes.len() < before.outcomes.len() {
        return Err(beside("an outcome vanished"));
    }
    if after.receipts.len() < before.receipts.len() {
        return Err(beside("a receipt vanished"));
    }
    for (id, (_, was)) in &before.enrollments {
        let Some((_, is)) = after.enrollments.get(id) else {
            return violated(2, *id, "it vanished");
        };
        if is.version != was.version || is.plan.len() != was.plan.len() {
            return violated(6, *id, "another plan took the place of its own");
        }
        if is.step != was.step && is.step != was.step + 1 {
            return violated(4, *id, format!("step {} after {}", is.step, was.step));
        }
        if was.is_finished() && is.state != was.state {
            return violated(2, *id, format!("{:?} after {:?}", is.state, was.state));
        }
    }
    Ok(())
}

/// A message has just reached a phone: in the order of steps, and a second time only after an
/// unknown answer.
pub(super) fn shown(rows: &Rows, all: &[Shown]) -> Held {
    let Some((last, earlier)) = all.split_last() else {
        return Ok(());
    };
    let id = last.enrollment;
    let theirs = earlier.iter().filter(|one| one.enrollment == id);
    let mut times = 1;
    for one in theirs {
        if one.step > last.step {
            let what = format!("step {} on the phone after {}", last.step, one.step);
            return violated(4, id, what);
        }
        times += usize::from(one.step == last.step);
    }
    let entries = rows
        .outcomes
        .range((id, last.step, 0)..=(id, last.step, u16::MAX));
    let unknown = entries.filter(|(_, (_, _, entry))| entry.outcome == Outcome::Unknown);
    let unknown = unknown.count();
    if times > 1 + unknown {
        let step = last.step;
        let what = format!("step {step} on the phone {times} times, {unknown} unknown");
        return violated(3, id, what);
    }
    Ok(())
}

/// When everything has come to rest.
pub(super) fn at_rest(rows: &Rows, all: &[Shown]) -> Held {
    let left = rows.enrollments.iter().filter(|(id, (_, one))| {
        let sending = rows.enrollment(**id).is_some_and(|(one, _)| one.in_flight);
        !one.is_finished() || sending
    });
    let left = left.min_by_key(|(_, (_, one))| one.wake_at);
    if let Some((id, (_, one))) = left {
        let due_at = one.wake_at;
        let timer = rows.timers.contains_key(&TimerKey {
            due_at,
            enrollment: *id,
        });
        let row = rows.enrollment(*id).map(|(one, _)| one);
        return violated(1, *id, format!("left behind, timer {timer}, {row:?}"));
    }
    for ((id, step, _), (_, _, entry)) in &rows.outcomes {
        let told = matches!(
            entry.carrier,
            Some(Carrier::CustomerMessage | Carrier::Template)
        );
        let seen = |one: &&Shown| one.enrollment == *id && one.step == *step;
        if entry.outcome == Outcome::Sent && told && !all.iter().any(|one| seen(&one)) {
            return violated(2, *id, format!("step {step} counts as sent and was not"));
        }
    }
    Ok(())
}

/// What the world notes of followers beside the rows, to hold intents against.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// What each did, by the instant that counts, and whether it was to leave.
    pub(super) acts: BTreeMap<FollowerId, Vec<(Timestamp, bool)>>,
    /// Intents that ended in a message, or may have: whose, when, by which setting of the clocks.
    pub(super) sends: BTreeMap<FollowerId, Vec<(EnrollmentId, Timestamp, u64)>>,
    /// Receipts that we said `success` to.
    pub(super) answered: Vec<(AccountId, FollowerId, Timestamp, i64)>,
}

impl Notes {
    /// Whether somebody had left for good, as far as was known.
    fn left(&self, follower: FollowerId) -> bool {
        let acts = self.acts.get(&follower).map_or(&[][..], |acts| acts);
        let latest = |left: bool| {
            let of = acts.iter().filter(|(_, one)| *one == left);
            of.map(|(at, _)| *at).max()
        };
        // Platforms count seconds: in a tie the unfollow wins.
        latest(true).is_some_and(|left_at| latest(false).is_none_or(|at| at <= left_at))
    }

    /// What we said `success` to is there.
    pub(super) fn answered_is_present(&self, rows: &Rows) -> Held {
        let lost = self
            .answered
            .iter()
            .find(|key| !rows.receipts.contains_key(key));
        match lost {
            Some(key) => Err(beside(format!("answered and not there: receipt {key:?}"))),
            None => Ok(()),
        }
    }
}

/// A fresh intent, with what its enrollment is bound by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Intended {
    pub(super) enrollment: EnrollmentId,
    pub(super) due_at: Timestamp,
    pub(super) now: Timestamp,
    /// The latest instant that the clocks have shown: turns are handed out by it.
    pub(super) latest: Timestamp,
    /// Which setting of the clocks `now` is of.
    pub(super) clock: u64,
    pub(super) min_gap: std::time::Duration,
    /// How much earlier than planned a step may go.
    pub(super) last_call: std::time::Duration,
    pub(super) may_send: bool,
}

/// An intent was committed: not early, not to somebody who had left, not of a passage that had
/// ended, not for an account that rests, and not within the gap.
pub(super) fn intent(one: Intended, before: &Rows, after: &Rows, notes: &mut Notes) -> Held {
    let (id, now) = (one.enrollment, one.now);
    let follower = id.follower();
    // A reply's passage may have been ended by what came after it in the same commit.
    let was = before.enrollments.get(&id).map(|(_, row)| row);
    if let Some(was) = was.filter(|was| was.is_finished()) {
        return violated(3, id, format!("an intent in {:?}", was.state));
    }
    if notes.left(follower) {
        return violated(3, id, "an intent after the unfollow");
    }
    if !one.may_send {
        return violated(3, id, "an intent while the account is paused");
    }
    // As it was planned before this commit, since `late: shift` moves the plan.
    let (_, row) = before
        .enrollments
        .get(&id)
        .or_else(|| after.enrollments.get(&id))
        .ok_or_else(|| beside("an intent of nobody"))?;
    let planned = row.plan.get(usize::from(row.step)).copied();
    let planned = planned.unwrap_or(one.due_at);
    if one.due_at > one.latest.max(now) || planned > now.plus(one.last_call) {
        let what = format!("an intent at {now}, due {} planned {planned}", one.due_at);
        return violated(0, id, what);
    }
    let sends = notes.sends.entry(follower).or_default();
    for (_, at, clock) in sends.iter() {
        let comparable = *clock == one.clock && *at <= now;
        if comparable && now.since(*at) < one.min_gap {
            let what = format!("sends at {at} and {now}, {:?} apart at least", one.min_gap);
            return violated(4, id, what);
        }
    }
    sends.push((id, now, one.clock));
    Ok(())
}
