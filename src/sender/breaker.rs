//! The breaker: rests an account whose calls keep failing, so that a platform in trouble is not
//! hammered and nobody waits for its timeouts. Pure.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::journey::answer::AnswerClass;

/// Failures in a row that open it.
const FAILURES_MAX: u32 = 20;

/// First rest; it doubles with each further opening.
const REST_FIRST: Duration = Duration::from_secs(5);

/// Longest rest: a follow's grant lasts a minute, so longer ones would cost more than they save.
const REST_MAX: Duration = Duration::from_secs(60);

/// One account's breaker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breaker {
    failures: u32,
    openings: u32,
}

impl Breaker {
    /// Notes an answer; says until when the account should rest, if it should.
    pub fn note(&mut self, class: AnswerClass, now: Timestamp) -> Option<Timestamp> {
        let failed = matches!(class, AnswerClass::RetrySoon | AnswerClass::Unknown);
        if !failed {
            *self = Self::default();
            return None;
        }
        self.failures += 1;
        if self.failures < FAILURES_MAX {
            return None;
        }
        let rest = (REST_FIRST * 2u32.pow(self.openings.min(8))).min(REST_MAX);
        self.openings += 1;
        // Half as many are tried before the next rest: enough to notice that all is well again.
        self.failures = FAILURES_MAX / 2;
        Some(now.plus(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_after_failures_in_a_row_and_recovers_with_one_success() {
        let mut breaker = Breaker::default();
        let now = Timestamp(0);
        let mut rests = Vec::new();
        for _ in 0..60 {
            rests.extend(breaker.note(AnswerClass::Unknown, now));
        }
        assert!(rests.len() >= 2 && rests[0] < rests[1], "{rests:?}");
        assert!(rests.iter().all(|until| *until <= now.plus(REST_MAX)));
        assert_eq!(breaker.note(AnswerClass::Accepted, now), None);
        for _ in 1..FAILURES_MAX {
            assert_eq!(breaker.note(AnswerClass::RetrySoon, now), None);
        }
    }
}
