//! What an answer does: how it ends or prolongs a step, and what it says about follower, grants
//! and account. The counterpart of `judge`, after the call instead of before it.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::journey::answer::{Answer, AnswerClass};
use crate::journey::enrollment::{Enrollment, Entry};
use crate::journey::follower::Follower;
use crate::journey::outcome::{Outcome, OutcomeEntry};
use crate::journey::receive::{Effects, Passages};
use crate::journey::sequence::{ClosedThen, Fallback, OnUnknown, Step};
use crate::policy::consent::Consents;
use crate::policy::fare::Fare;
use crate::policy::grant::Grants;
use crate::policy::profile::Profile;

/// Calls for one step before it is given up.
pub const ATTEMPTS_MAX: u16 = 8;

/// Wait before the second call; it doubles from call to call.
const BACKOFF_FIRST: Duration = Duration::from_secs(2);

/// Longest wait between two calls.
const BACKOFF_MAX: Duration = Duration::from_secs(30 * 60);

/// What an answer means for the whole account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountNews {
    /// Nothing.
    None,
    /// The minute's calls are used up.
    MinuteUsedUp,
    /// The day's calls are used up.
    DayUsedUp,
    /// A person has to act before anything passes.
    NeedsAttention,
}

/// What settling one delivery amounts to.
#[derive(Debug)]
pub struct Settled {
    pub entries: Vec<OutcomeEntry>,
    pub news: AccountNews,
    /// The delivery stays due and counts as never tried: the account, not the step, is the matter.
    pub returned: bool,
}

impl Settled {
    /// Nothing to write, nothing to tell.
    fn quiet() -> Self {
        Self {
            entries: Vec::new(),
            news: AccountNews::None,
            returned: false,
        }
    }
}

/// Which step an answer is about.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// Place of the enrollment among the follower's passages.
    pub index: usize,
    pub step: &'a Step,
    pub min_gap: Duration,
    /// How the message travelled.
    pub fare: Fare,
    /// The account's rules.
    pub profile: &'a Profile,
}

/// Applies an answer to a step whose intent is committed.
pub fn settle(
    passages: &mut Passages,
    grants: &mut Grants,
    consents: &mut Consents,
    case: Case<'_>,
    answer: &Answer,
    now: Timestamp,
) -> Settled {
    let Case {
        index,
        step,
        min_gap,
        fare,
        profile,
    } = case;
    // The answer speaks of the moment of the call; what the follower did since is newer.
    let called_at = passages.enrollments[index].called_at;
    let acted_since = passages.follower.last_event_at > called_at;
    let taken = matches!(answer.class, AnswerClass::Accepted | AnswerClass::Unknown);
    if !taken {
        if let Some(kind) = fare.grant {
            grants.refund(kind, called_at);
        }
        refund_consent(consents, fare, step, answer.class);
        forget_call(&mut passages.follower, called_at, min_gap);
    }
    if let Some(settled) = put_off(passages, grants, case, answer, now) {
        return settled;
    }
    let enrollment = &mut passages.enrollments[index];
    let entry = |outcome| Entry {
        outcome,
        at: now,
        carrier: Some(fare.carrier),
        code: answer.code,
        detail: answer.detail.clone(),
    };
    let account_news = match answer.class {
        // What one interface refuses says nothing about the account's customer messages.
        _ if fare.fallback.is_some() => AccountNews::None,
        AnswerClass::NextMinute => AccountNews::MinuteUsedUp,
        AnswerClass::NextDay => AccountNews::DayUsedUp,
        AnswerClass::NeedsAttention | AnswerClass::TokenStale => AccountNews::NeedsAttention,
        _ => AccountNews::None,
    };
    if account_news != AccountNews::None && !enrollment.is_finished() {
        enrollment.in_flight = false;
        enrollment.attempt = enrollment.attempt.saturating_sub(1);
        release_lacking(passages, grants, profile, now);
        return Settled {
            entries: Vec::new(),
            news: account_news,
            returned: true,
        };
    }
    let next = now.plus(min_gap);
    let written = match answer.class {
        // That it was taken is all there is to say, and there are millions of these.
        AnswerClass::Accepted => {
            let sent = Entry {
                carrier: Some(fare.carrier),
                ..Entry::new(Outcome::Sent, now, "")
            };
            enrollment.end_step(sent, next)
        }
        AnswerClass::Unknown => unknown(enrollment, step, entry(Outcome::Unknown), now, next),
        AnswerClass::Dropped => enrollment.end_step(entry(Outcome::Refused), now),
        AnswerClass::Unsendable => enrollment.end_step(entry(Outcome::Failed), now),
        AnswerClass::Muted if acted_since => retry(enrollment, entry(Outcome::Retried), now),
        AnswerClass::Muted => {
            passages.follower.muted = true;
            closed(enrollment, step, entry(Outcome::Held), now)
        }
        AnswerClass::GrantClosed
        | AnswerClass::NextDay
        | AnswerClass::NeedsAttention
        | AnswerClass::TokenStale
            if fare.fallback.is_some() =>
        {
            closed(enrollment, step, entry(Outcome::Held), now)
        }
        AnswerClass::GrantClosed => {
            let spent = answer
                .code
                .is_some_and(|code| profile.spent_codes.contains(&code));
            match spent {
                true => grants.exhaust(called_at),
                false => grants.close(called_at, now),
            }
            match grants.usable(profile, now) {
                Some(_) => retry(enrollment, entry(Outcome::Retried), now),
                None => closed(enrollment, step, entry(Outcome::Held), now),
            }
        }
        AnswerClass::Unsubscribed => enrollment.end_step(entry(Outcome::Refused), now),
        AnswerClass::RetrySoon
        | AnswerClass::TokenStale
        | AnswerClass::NextMinute
        | AnswerClass::NextDay
        | AnswerClass::NotCarried
        | AnswerClass::NotBefore(_)
        | AnswerClass::NeedsAttention => retry(enrollment, entry(Outcome::Retried), now),
    };
    let mut effects = Effects::default();
    effects.entries.push(written);
    if answer.class == AnswerClass::Unsubscribed && !acted_since {
        passages.follower.following = false;
        passages.cancel_all(now, "the platform says: not following", &mut effects);
    }
    if !taken {
        release_lacking(passages, grants, profile, now);
    }
    Settled {
        entries: effects.entries,
        news: AccountNews::None,
        returned: false,
    }
}

/// What is done where the answer is about neither step nor account: the step is due again, at once
/// for another carrier, or when what it needs is there.
fn put_off(
    passages: &mut Passages,
    grants: &Grants,
    case: Case<'_>,
    answer: &Answer,
    now: Timestamp,
) -> Option<Settled> {
    let enrollment = &mut passages.enrollments[case.index];
    match answer.class {
        AnswerClass::NotCarried => {
            // A passage that was cancelled meanwhile left this step to its answer to end.
            let cancelled = enrollment.is_finished().then(|| {
                let what = "cancelled before it was sent";
                enrollment.end_step(Entry::new(Outcome::Cancelled, now, what), now)
            });
            if cancelled.is_none() {
                enrollment.attempt = enrollment.attempt.saturating_sub(1);
                enrollment.rearm(now);
            }
            Some(Settled {
                entries: cancelled.into_iter().collect(),
                ..Settled::quiet()
            })
        }
        AnswerClass::NotBefore(at) => {
            let waited = wait(enrollment, case, answer, at, now);
            release_lacking(passages, grants, case.profile, now);
            Some(Settled {
                entries: waited.into_iter().collect(),
                ..Settled::quiet()
            })
        }
        _ => None,
    }
}

/// A notice that was not sent leaves its consent, unless the platform says that there is none.
fn refund_consent(consents: &mut Consents, fare: Fare, step: &Step, class: AnswerClass) {
    if let Some(Fallback::SubscriptionNotice(form)) = fare.fallback_of(step) {
        match class {
            AnswerClass::GrantClosed => consents.withdraw(&form.template),
            _ => consents.give(&form.template),
        }
    }
}

/// Lets steps go that were held for lack of a message, now that one was given back.
fn release_lacking(passages: &mut Passages, grants: &Grants, profile: &Profile, now: Timestamp) {
    if !passages.follower.muted && grants.usable(profile, now).is_some() {
        passages.release(now);
    }
}

/// A message that was definitely not taken leaves no gap behind it. Whatever was sent before it was
/// sent at least `min_gap` before it.
fn forget_call(follower: &mut Follower, called_at: Timestamp, min_gap: Duration) {
    if follower.last_sent_at == called_at {
        follower.last_sent_at = called_at.minus(min_gap);
    }
}

fn unknown(
    enrollment: &mut Enrollment,
    step: &Step,
    entry: Entry,
    now: Timestamp,
    next: Timestamp,
) -> OutcomeEntry {
    let again = step.on_unknown == OnUnknown::Resend && !enrollment.resent;
    if again && !enrollment.is_finished() {
        enrollment.resent = true;
        enrollment.go_on(entry, now.plus(BACKOFF_FIRST))
    } else {
        enrollment.end_step(entry, next)
    }
}

fn closed(enrollment: &mut Enrollment, step: &Step, entry: Entry, now: Timestamp) -> OutcomeEntry {
    let deadline = enrollment.due_at().plus(step.expire_after);
    match step.closed.then {
        ClosedThen::Hold if !enrollment.is_finished() => enrollment.hold(entry, deadline),
        ClosedThen::Hold | ClosedThen::Skip => {
            let skipped = Entry {
                outcome: Outcome::Refused,
                ..entry
            };
            enrollment.end_step(skipped, now)
        }
    }
}

/// Lets a step wait for what it needs, at most until its deadline, and counts no try. What the
/// platform said of it is kept.
fn wait(
    enrollment: &mut Enrollment,
    case: Case<'_>,
    answer: &Answer,
    at: Timestamp,
    now: Timestamp,
) -> Option<OutcomeEntry> {
    let Case { step, fare, .. } = case;
    enrollment.attempt = enrollment.attempt.saturating_sub(1);
    if enrollment.is_finished() {
        // The passage was cancelled during the call: the step it had in hand ends as it did.
        let entry = Entry {
            carrier: Some(fare.carrier),
            code: answer.code,
            ..Entry::new(Outcome::Cancelled, now, answer.detail.clone())
        };
        return Some(enrollment.end_step(entry, now));
    }
    let deadline = enrollment.due_at().plus(step.expire_after);
    let at = at.min(deadline).max(now);
    if answer.code.is_none() {
        enrollment.rearm(at);
        return None;
    }
    let entry = Entry {
        carrier: Some(fare.carrier),
        code: answer.code,
        ..Entry::new(Outcome::Retried, now, answer.detail.clone())
    };
    Some(enrollment.go_on(entry, at))
}

fn retry(enrollment: &mut Enrollment, entry: Entry, now: Timestamp) -> OutcomeEntry {
    if enrollment.attempt >= ATTEMPTS_MAX || enrollment.is_finished() {
        let failed = Entry {
            outcome: Outcome::Failed,
            ..entry
        };
        return enrollment.end_step(failed, now);
    }
    let at = now.plus(backoff(enrollment));
    enrollment.go_on(entry, at)
}

/// 2, 4, 8 … s, at most 30 min, each within ±20 %; the same for one attempt whenever it is asked.
fn backoff(enrollment: &Enrollment) -> Duration {
    let doublings = u32::from(enrollment.attempt.clamp(1, 16) - 1);
    let plain = (BACKOFF_FIRST * 2u32.pow(doublings)).min(BACKOFF_MAX);
    let mixed = enrollment
        .id
        .0
        .unsigned_abs()
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(u64::from(enrollment.attempt).wrapping_mul(0xbf58_476d_1ce4_e5b9));
    let percent = 80 + u32::try_from((mixed >> 33) % 41).unwrap_or(0);
    plain * percent / 100
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journey::ids::{EnrollmentId, FollowerId, VersionId};

    #[test]
    fn backoff_grows_and_differs_between_followers() {
        let mut waits = Vec::new();
        for follower in 1..=50 {
            let id = EnrollmentId::new(FollowerId(follower), 0);
            let mut one = Enrollment::new(id, VersionId(1), Timestamp(0), vec![Timestamp(0)]);
            one.attempt = 3;
            let wait = backoff(&one);
            assert!(wait >= BACKOFF_FIRST * 4 * 80 / 100 && wait <= BACKOFF_FIRST * 4 * 120 / 100);
            waits.push(wait);
        }
        waits.sort();
        waits.dedup();
        assert!(waits.len() > 10, "followers do not retry in step");
    }
}
