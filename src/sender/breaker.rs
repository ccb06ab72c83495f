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
    rests_until: Option<Timestamp>,
}

impl Breaker {
    /// Notes an answer; says until when the account should rest, if it should.
    pub fn note(&mut self, class: AnswerClass, now: Timestamp) -> Option<Timestamp> {
        let failed = matches!(class, AnswerClass::RetrySoon | AnswerClass::Unknown);
        if !failed {
            *self = Self::default();
            return None;
        }
        // Calls that were under way when it opened fail too: they say nothing new.
        if self.rests_until.is_some_and(|until| now < until) {
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
        self.rests_until = Some(now.plus(rest));
        self.rests_until
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn calls_that_fail_together_open_it_once() {
        let mut breaker = Breaker::default();
        let now = Timestamp(0);
        let rests = (0..256).filter_map(|_| breaker.note(AnswerClass::Unknown, now));
        assert_eq!(rests.collect::<Vec<_>>(), [now.plus(REST_FIRST)]);
    }

    #[test]
    fn rests_grow_while_it_stays_bad_and_end_with_one_success() {
        let mut breaker = Breaker::default();
        let (mut now, mut rests) = (Timestamp(0), Vec::new());
        while rests.len() < 6 {
            match breaker.note(AnswerClass::RetrySoon, now) {
                Some(until) => {
                    rests.push(until.since(now).as_secs());
                    now = until;
                }
                None => now = now.plus(Duration::from_millis(10)),
            }
        }
        assert_eq!(rests, [5, 10, 20, 40, 60, 60]);
        assert_eq!(breaker.note(AnswerClass::Accepted, now), None);
        for _ in 1..FAILURES_MAX {
            assert_eq!(breaker.note(AnswerClass::RetrySoon, now), None);
        }
    }

    proptest! {
        /// Never rests for longer than it may, never before enough calls in a row have failed, and
        /// never while it rests already.
        #[test]
        fn opens_only_for_failures_in_a_row(
            answers in prop::collection::vec((0u64..2_000, 0u8..30), 1..500),
        ) {
            let (mut breaker, mut now, mut in_a_row) = (Breaker::default(), Timestamp(0), 0);
            let mut rests_until = Timestamp(0);
            for (pause, kind) in answers {
                now = now.plus(Duration::from_millis(pause));
                let class = match kind {
                    0 => AnswerClass::Accepted,
                    1 => AnswerClass::Dropped,
                    n if n % 2 == 0 => AnswerClass::Unknown,
                    _ => AnswerClass::RetrySoon,
                };
                in_a_row = if kind < 2 { 0 } else { in_a_row + 1 };
                if kind < 2 {
                    rests_until = Timestamp(0);
                }
                if let Some(until) = breaker.note(class, now) {
                    prop_assert!(in_a_row >= FAILURES_MAX);
                    prop_assert!(now >= rests_until);
                    prop_assert!(until > now && until.since(now) <= REST_MAX);
                    rests_until = until;
                }
            }
        }
    }
}
