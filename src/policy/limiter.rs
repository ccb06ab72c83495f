//! Token buckets: how many messages an account may send per second, minute and day.
//!
//! Pure: `now` is an argument. A bucket never lets more than its capacity through at once, and
//! never more than `capacity + rate x time` over any span.

use crate::clock::Timestamp;

/// An account's limits, each a number of messages; `None` means no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    pub per_second: Option<u32>,
    pub per_minute: Option<u32>,
    pub per_day: Option<u32>,
}

const SECOND_MS: i64 = 1000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// The buckets of one account.
#[derive(Clone, Debug)]
pub struct Limiter {
    buckets: Vec<Bucket>,
}

impl Limiter {
    /// Full buckets.
    pub fn new(rate: Rate, now: Timestamp) -> Self {
        let limits = [
            (rate.per_second, SECOND_MS),
            (rate.per_minute, MINUTE_MS),
            (rate.per_day, DAY_MS),
        ];
        let buckets = limits
            .into_iter()
            .filter_map(|(limit, span_ms)| Some(Bucket::new(limit?, span_ms, now)))
            .collect();
        Self { buckets }
    }

    /// Takes one message from every bucket, or from none and says when to ask again.
    pub fn take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        let mut ready_at = now;
        for bucket in &mut self.buckets {
            bucket.refill(now);
            ready_at = ready_at.max(bucket.ready_at());
        }
        if ready_at > now {
            return Err(ready_at);
        }
        for bucket in &mut self.buckets {
            bucket.level -= bucket.span_ms;
        }
        Ok(())
    }

    /// Gives one back: it was not used.
    pub fn give_back(&mut self) {
        for bucket in &mut self.buckets {
            bucket.level = (bucket.level + bucket.span_ms).min(bucket.capacity());
        }
    }
}

/// One bucket in whole numbers: a message weighs `span_ms` drops, and `limit` drops flow in per
/// millisecond, so that nothing is lost to rounding.
#[derive(Clone, Debug)]
struct Bucket {
    limit: i64,
    span_ms: i64,
    level: i64,
    filled_at: Timestamp,
}

impl Bucket {
    fn new(limit: u32, span_ms: i64, now: Timestamp) -> Self {
        let mut bucket = Self {
            limit: i64::from(limit.max(1)),
            span_ms,
            level: 0,
            filled_at: now,
        };
        bucket.level = bucket.capacity();
        bucket
    }

    /// One span's worth, in drops.
    fn capacity(&self) -> i64 {
        self.limit * self.span_ms
    }

    fn refill(&mut self, now: Timestamp) {
        // A clock that steps back fills nothing and starts counting from there.
        let passed_ms = (now.0 - self.filled_at.0).clamp(0, self.span_ms);
        self.level = (self.level + passed_ms * self.limit).min(self.capacity());
        self.filled_at = now;
    }

    fn ready_at(&self) -> Timestamp {
        let missing = (self.span_ms - self.level).max(0);
        // Rounded up: ready must mean ready.
        Timestamp(self.filled_at.0 + (missing + self.limit - 1) / self.limit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(per_second: u32, per_minute: u32) -> Rate {
        Rate {
            per_second: Some(per_second),
            per_minute: Some(per_minute),
            per_day: None,
        }
    }

    proptest! {
        /// Over any run, no more passes than a full bucket plus what flowed in; and whoever waits
        /// for the instant that a refusal names is let through.
        #[test]
        fn never_exceeds_its_rate_and_keeps_its_word(
            per_second in 1u32..50, per_minute in 1u32..500,
            pauses in prop::collection::vec(0i64..400, 1..300),
        ) {
            let mut now = Timestamp(1_000_000);
            let start = now;
            let mut limiter = Limiter::new(rate(per_second, per_minute), now);
            let mut passed = 0i64;
            for pause in pauses {
                now = Timestamp(now.0 + pause);
                match limiter.take(now) {
                    Ok(()) => passed += 1,
                    Err(ready_at) => {
                        prop_assert!(ready_at > now);
                        let mut patient = limiter.clone();
                        prop_assert_eq!(patient.take(ready_at), Ok(()));
                    }
                }
                let span = now.0 - start.0;
                for (limit, span_ms) in [(per_second, SECOND_MS), (per_minute, MINUTE_MS)] {
                    let limit = i64::from(limit);
                    prop_assert!(passed <= limit + limit * span / span_ms + 1);
                }
            }
        }
    }

    #[test]
    fn a_clock_that_steps_back_neither_fills_nor_locks_the_bucket() {
        let mut limiter = Limiter::new(rate(1, 60), Timestamp(10_000_000));
        assert_eq!(limiter.take(Timestamp(10_000_000)), Ok(()));
        let ready_at = limiter.take(Timestamp(0)).expect_err("is empty");
        assert!(ready_at <= Timestamp(1000));
        assert_eq!(limiter.take(ready_at), Ok(()));
    }
}
