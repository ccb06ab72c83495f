//! What an answer does: how it ends or prolongs a step, and what it says about follower, grants
//! and account. The counterpart of `judge`, after the call instead of before it.

mod put_off;

use std::time::Duration;

use crate::clock::Timestamp;
use crate::journey::answer::{Answer, AnswerClass};
use crate::journey::carrier::Carrier;
use crate::journey::enrollment::{Enrollment, Entry};
use crate::journey::follower::Follower;
use crate::journey::outcome::{Outcome, OutcomeEntry};
use crate::journey::receive::{Effects, Passages};
use crate::journey::sequence::{ClosedThen, Fallback, OnUnknown, Step};
use crate::policy::consent::Consents;
use crate::policy::fare::Fare;
use crate::policy::fit::Surprise;
use crate::policy::grant::{Grants, Kind};
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
    /// The platform refused what the account's profile allows.
    pub surprise: Option<Surprise>,
}

impl Settled {
    /// Nothing to write, nothing to tell.
    fn quiet() -> Self {
        Self {
            entries: Vec::new(),
            news: AccountNews::None,
            returned: false,
            surprise: None,
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
    let surprise = surprise(grants, fare, answer.class, called_at);
    if let Some(settled) = put_off::put_off(passages, grants, case, answer, now) {
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
    let account_news = account_news(fare, answer.class);
    if account_news != AccountNews::None && !enrollment.is_finished() {
        enrollment.in_flight = false;
        enrollment.attempt = enrollment.attempt.saturating_sub(1);
        release_lacking(passages, grants, profile, now);
        return Settled {
            entries: Vec::new(),
            news: account_news,
            returned: true,
            surprise: None,
        };
    }
    let next = now.plus(min_gap);
    let written = match answer.class {
        // That it was taken is all there is to say, and there are millions of these.
        AnswerClass::Accepted => {
            // A passive reply was on the phone at once; only that we know it comes later.
            let passive = fare.carrier == Carrier::PassiveReply;
            let at = if passive { called_at } else { now };
            let sent = Entry {
                carrier: Some(fare.carrier),
                ..Entry::new(Outcome::Sent, at, "")
            };
            enrollment.end_step(sent, at.plus(min_gap).max(now))
        }
        AnswerClass::Unknown => unknown(enrollment, step, entry(Outcome::Unknown), now, next),
        AnswerClass::Dropped => enrollment.end_step(entry(Outcome::Refused), now),
        AnswerClass::Unsendable => enrollment.end_step(entry(Outcome::Failed), now),
        AnswerClass::Muted if acted_since => retry(enrollment, entry(Outcome::Retried), now),
        AnswerClass::Muted => {
            passages.follower.muted = true;
            closed(enrollment, step, entry(Outcome::Held), now)
        }
        // The consent is gone, and the next carrier may not need one.
        AnswerClass::GrantClosed if has_next(fare, step) => {
            retry(enrollment, entry(Outcome::Retried), now)
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
            correct(grants, profile, answer, called_at, now);
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
        surprise,
    }
}

/// A refusal of a message that its grant allowed at the call. Asked before the ledger is corrected.
fn surprise(
    grants: &Grants,
    fare: Fare,
    class: AnswerClass,
    called_at: Timestamp,
) -> Option<Surprise> {
    let kind = fare.grant.filter(|kind| *kind != Kind::Mass)?;
    // What was opened after the call, the platform has not spoken of.
    let grant = grants.of(kind).filter(|one| one.opens_at <= called_at)?;
    (class == AnswerClass::GrantClosed).then(|| Surprise {
        opened_by: grant.opened_by,
        age: called_at.since(grant.opens_at),
        spent: grant.spent,
    })
}

/// The platform granted nothing where the ledger had a grant: for its count, or for its time.
fn correct(
    grants: &mut Grants,
    profile: &Profile,
    answer: &Answer,
    called_at: Timestamp,
    now: Timestamp,
) {
    let counted = |code| profile.spent_codes.contains(&code);
    match answer.code.is_some_and(counted) {
        true => grants.exhaust(called_at),
        false => grants.close(called_at, now),
    }
}

/// What an answer means for the whole account.
fn account_news(fare: Fare, class: AnswerClass) -> AccountNews {
    match class {
        // What one interface refuses says nothing about the account's customer messages.
        _ if fare.fallback.is_some() => AccountNews::None,
        AnswerClass::NextMinute => AccountNews::MinuteUsedUp,
        AnswerClass::NextDay => AccountNews::DayUsedUp,
        AnswerClass::NeedsAttention | AnswerClass::TokenStale => AccountNews::NeedsAttention,
        _ => AccountNews::None,
    }
}

/// Whether a notice that was refused has another carrier behind it.
fn has_next(fare: Fare, step: &Step) -> bool {
    let behind = fare.fallback.map_or(0, |at| usize::from(at) + 1);
    fare.carrier == Carrier::SubscriptionNotice && behind < step.closed.carriers.len()
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
    use std::collections::BTreeMap;

    use super::*;
    use crate::journey::catalog::Version;
    use crate::journey::enrollment::State;
    use crate::journey::event::{Arrival, Event};
    use crate::journey::ids::{AccountId, EnrollmentId, FollowerId, VersionId};
    use crate::journey::parse::parse_stored;
    use crate::policy::grant::Opener;
    use crate::policy::profile::named;

    const DAY_MS: i64 = 86_400_000;

    /// A passage whose only step was called an hour after a message, with two messages spent before.
    fn called() -> (Passages, Grants, Version) {
        let text = "sequence: a\ntrigger: follow\nsteps: [{ id: x, after: 1h, say: { text: a } }]";
        let sequence = parse_stored(text, &BTreeMap::new()).expect("is right");
        let version = Version {
            id: VersionId(1),
            sequence,
            zone: None,
        };
        let called_at = Timestamp(DAY_MS).plus(Duration::from_secs(3600));
        let event = Event::MessageReceived {
            message_kind: "text".into(),
            text: "1".into(),
        };
        let mut grants = Grants::default();
        let profile = named("wechat-2023").expect("is shipped");
        grants.open(&profile, &event, Timestamp(DAY_MS));
        (0..3).for_each(|_| grants.spend(Kind::Message));
        let id = EnrollmentId::new(FollowerId(1), 0);
        let mut one = Enrollment::new(id, VersionId(1), Timestamp(DAY_MS), vec![called_at]);
        (one.in_flight, one.called_at, one.attempt) = (true, called_at, 1);
        let arrival = Arrival {
            openid: "ann".into(),
            created_at: Timestamp(DAY_MS),
            digest: 0,
            event,
            language: None,
        };
        let mut follower = Follower::new(FollowerId(1), AccountId(1), &arrival);
        follower.following = true;
        let passages = Passages {
            follower,
            enrollments: vec![one],
        };
        (passages, grants, version)
    }

    fn answered(class: AnswerClass, code: i64) -> (Settled, Grants, Enrollment) {
        let (mut passages, mut grants, version) = called();
        let now = passages.enrollments[0].called_at.plus(BACKOFF_FIRST);
        let profile = named("wechat-2023").expect("is shipped");
        let case = Case {
            index: 0,
            step: &version.sequence.steps[0],
            min_gap: Duration::ZERO,
            fare: Fare::customer_message(Some(Kind::Message)),
            profile: &profile,
        };
        let answer = Answer {
            code: Some(code),
            ..Answer::without_code(class, "")
        };
        let mut consents = Consents::default();
        let settled = settle(
            &mut passages,
            &mut grants,
            &mut consents,
            case,
            &answer,
            now,
        );
        (settled, grants, passages.enrollments.remove(0))
    }

    #[test]
    fn a_refusal_for_the_count_leaves_the_windows_end_and_one_for_the_time_moves_it() {
        let end = Timestamp(3 * DAY_MS);
        let (_, counted, held) = answered(AnswerClass::GrantClosed, 45047);
        assert_eq!((counted.0[0].left(), counted.0[0].closes_at), (0, end));
        assert_eq!(held.state, State::Held);
        let (_, timed, held) = answered(AnswerClass::GrantClosed, 45015);
        assert_eq!(timed.0[0].left(), 3, "what was taken is given back");
        assert!(timed.0[0].closes_at < end);
        assert_eq!(held.state, State::Held);
    }

    #[test]
    fn what_the_profile_allows_and_the_platform_refuses_is_a_surprise() {
        let expected = Surprise {
            opened_by: Opener::Message,
            age: Duration::from_secs(3600),
            spent: 2,
        };
        for code in [45015, 45047] {
            let (settled, ..) = answered(AnswerClass::GrantClosed, code);
            assert_eq!(settled.surprise, Some(expected), "{code}");
        }
        let (accepted, ..) = answered(AnswerClass::Accepted, 0);
        let (dropped, ..) = answered(AnswerClass::Dropped, 40003);
        assert_eq!((accepted.surprise, dropped.surprise), (None, None));
    }

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
