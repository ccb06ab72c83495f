//! Answers that are about neither step nor account: the step is due again, later or by another
//! carrier, and nothing counts as tried.

use crate::clock::Timestamp;
use crate::journey::answer::{Answer, AnswerClass};
use crate::journey::enrollment::{Enrollment, Entry};
use crate::journey::outcome::{Outcome, OutcomeEntry};
use crate::journey::receive::Passages;
use crate::policy::grant::Grants;
use crate::policy::settle::{Case, Settled, release_lacking};

/// What is done where the answer is about neither step nor account: the step is due again, at once
/// for another carrier, or when what it needs is there.
pub(super) fn put_off(
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
