//! At most a tenth of an account's traffic are retries.
//!
//! First attempts earn tokens and never wait; a retry costs one. So a platform in trouble is not
//! hit harder because it is in trouble. One retry a second passes all the same: after an outage an
//! account with little traffic must not keep its failed messages for hours. Pure: `now` is an argument.

use std::time::Duration;

use crate::clock::Timestamp;

/// First attempts that earn one retry.
const FIRSTS: u32 = 10;

/// Tokens that can be saved up, in retries.
const SAVED_MAX: u32 = 100;

/// Tokens that a quiet account has and comes back to, in retries.
const QUIET: u32 = 10;

/// A quiet account earns one retry in so long.
const QUIET_EARNS: Duration = Duration::from_secs(1);

/// Retries that wait are spread over so many of these spans, so that they do not come all at once.
const SPREAD: u32 = 60;

/// One account's retries.
#[derive(Clone, Copy, Debug)]
pub struct RetryBudget {
    /// In tenths of a retry.
    tokens: u32,
    filled_at: Timestamp,
    waiting: u32,
}

impl RetryBudget {
    pub fn new(now: Timestamp) -> Self {
        Self {
            tokens: QUIET * FIRSTS,
            filled_at: now,
            waiting: 0,
        }
    }

    /// A first attempt goes out.
    pub fn first(&mut self) {
        if self.tokens < SAVED_MAX * FIRSTS {
            self.tokens += 1;
        }
    }

    /// So many retries are not the platform's doing: our own stop cut their first attempts off.
    pub fn forgive(&mut self, retries: u32) {
        self.tokens = self.tokens.saturating_add(retries.saturating_mul(FIRSTS));
    }

    /// Lets a retry go, or says when it should ask again.
    pub fn retry(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        self.fill(now);
        if self.tokens >= FIRSTS {
            self.tokens -= FIRSTS;
            return Ok(());
        }
        self.waiting = self.waiting % SPREAD + 1;
        Err(now.plus(QUIET_EARNS * self.waiting))
    }

    fn fill(&mut self, now: Timestamp) {
        // A clock that was set back earns nothing and counts from there.
        let spans = now.since(self.filled_at).as_secs() / QUIET_EARNS.as_secs();
        let spans = u32::try_from(spans).unwrap_or(u32::MAX);
        if now < self.filled_at {
            self.filled_at = now;
        } else if spans > 0 {
            self.filled_at = self.filled_at.plus(QUIET_EARNS * spans);
            let earned = self.tokens.saturating_add(spans.saturating_mul(FIRSTS));
            self.tokens = earned.min(QUIET * FIRSTS).max(self.tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever comes in whatever order: retries are a tenth of first attempts, beside what a
        /// quiet account has; and a retry that waits as told is let through in the end.
        #[test]
        fn retries_stay_a_tenth(
            acts in prop::collection::vec((0u64..3_000, 0u8..4), 1..600),
        ) {
            let start = Timestamp(1_700_000_000_000);
            let (mut budget, mut now) = (RetryBudget::new(start), start);
            let (mut firsts, mut retries) = (0u64, 0u64);
            for (pause, kind) in acts {
                now = now.plus(Duration::from_millis(pause));
                if kind == 0 {
                    budget.first();
                    firsts += 1;
                } else if let Err(at) = budget.retry(now) {
                    prop_assert!(at > now && at.since(now) <= QUIET_EARNS * SPREAD);
                    let mut patient = budget;
                    prop_assert_eq!(patient.retry(now.plus(QUIET_EARNS * 2)), Ok(()));
                } else {
                    retries += 1;
                }
                let quiet = u64::from(QUIET) + now.since(start).as_secs() / QUIET_EARNS.as_secs();
                prop_assert!(retries <= firsts / u64::from(FIRSTS) + quiet + 1);
            }
        }
    }

    #[test]
    fn a_burst_of_failures_earns_no_burst_of_retries() {
        let now = Timestamp(0);
        let mut budget = RetryBudget::new(now);
        let passed = (0..1_000).filter(|_| budget.retry(now).is_ok()).count();
        assert_eq!(passed, 10);
        (0..1_000).for_each(|_| budget.first());
        let passed = (0..1_000).filter(|_| budget.retry(now).is_ok()).count();
        assert_eq!(passed, 100);
        budget.forgive(500);
        budget.first();
        let passed = (0..1_000).filter(|_| budget.retry(now).is_ok()).count();
        assert_eq!(passed, 500);
    }
}
