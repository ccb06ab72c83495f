//! How many calls may be made: by the configuration per second, minute and day, and by what the
//! platform says of itself. All of them hold, so the lower one wins.
//!
//! Pure: `now` is an argument. A bucket never lets more than its capacity through at once, and
//! never more than `capacity + rate x time` over any span; a learned rate is kept in any span.

use crate::clock::Timestamp;
use crate::policy::learned::{Allowance, PACE_MAX, Pace, Quota, Window};

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

/// The limits of one account, or of one of its interfaces.
#[derive(Clone, Debug)]
pub struct Limiter {
    buckets: Vec<Bucket>,
    windows: Vec<Window>,
    day: Option<Allowance>,
    pace: Pace,
}

impl Limiter {
    /// Full buckets; nothing is learned yet.
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
        Self {
            buckets,
            windows: Vec::new(),
            day: None,
            pace: Pace::default(),
        }
    }

    /// Takes what the platform says of itself; calls that were counted stay counted.
    pub fn learn(&mut self, quota: &Quota, resets_at: Timestamp) {
        let learned = quota.rates.iter().map(|rate| {
            let known = self.windows.iter().find(|window| window.rate() == *rate);
            known.cloned().unwrap_or_else(|| Window::new(*rate))
        });
        self.windows = learned.collect();
        self.day = quota.day.map(|day| Allowance::new(day, resets_at));
    }

    /// The platform says that calls come too fast: half as many from now on, at most once a minute,
    /// until they may slowly become more again.
    pub fn slow_down(&mut self, now: Timestamp) {
        self.pace.slow_down(now);
    }

    /// Which share of the limits is used now, in thousandths.
    pub fn pace(&mut self, now: Timestamp) -> u32 {
        self.pace.share(now)
    }

    /// Takes one call from every limit, or from none and says when to ask again.
    pub fn take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        let share = self.pace.share(now);
        let mut ready_at = now;
        for bucket in &mut self.buckets {
            bucket.refill(now);
            bucket.keep_pace(share);
            ready_at = ready_at.max(bucket.ready_at());
        }
        for window in &mut self.windows {
            let limit = scaled(i64::from(window.rate().calls), share);
            let limit = u32::try_from(limit).unwrap_or(u32::MAX);
            ready_at = ready_at.max(window.ready_at(limit, now));
        }
        if let Some(day) = &mut self.day {
            ready_at = ready_at.max(day.ready_at(now));
        }
        if ready_at > now {
            return Err(ready_at);
        }
        for bucket in &mut self.buckets {
            bucket.level -= bucket.span_ms;
        }
        for window in &mut self.windows {
            window.take(now);
        }
        if let Some(day) = &mut self.day {
            day.take();
        }
        Ok(())
    }

    /// Gives one back: it was not used.
    pub fn give_back(&mut self) {
        for bucket in &mut self.buckets {
            bucket.level = (bucket.level + bucket.span_ms).min(bucket.capacity());
        }
        for window in &mut self.windows {
            window.give_back();
        }
        if let Some(day) = &mut self.day {
            day.give_back();
        }
    }
}

/// A share of a limit, at least 1.
fn scaled(limit: i64, share: u32) -> i64 {
    (limit * i64::from(share) / i64::from(PACE_MAX)).max(1)
}

/// One bucket in whole numbers: a message weighs `span_ms` drops, and `limit` drops flow in per
/// millisecond, so that nothing is lost to rounding.
#[derive(Clone, Debug)]
struct Bucket {
    configured: i64,
    limit: i64,
    span_ms: i64,
    level: i64,
    filled_at: Timestamp,
}

impl Bucket {
    fn new(limit: u32, span_ms: i64, now: Timestamp) -> Self {
        let mut bucket = Self {
            configured: i64::from(limit.max(1)),
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

    /// Uses a share of the limit; a day's calls are a number, not a pace.
    fn keep_pace(&mut self, share: u32) {
        if self.span_ms < DAY_MS {
            self.limit = scaled(self.configured, share);
            self.level = self.level.min(self.capacity());
        }
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

    use std::time::Duration;

    use super::*;
    use crate::policy::learned::{CallRate, DayQuota};

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

        /// Whatever the platform teaches and refuses, in whatever order: never more than was
        /// configured, never more in a span than was learned, never more in a day than was left.
        #[test]
        fn the_lower_of_configured_and_learned_wins(
            per_second in 1u32..50, calls in 1u32..100, left in 0u64..400,
            acts in prop::collection::vec((0i64..900, 0u8..20), 1..400),
        ) {
            let start = Timestamp(1_000_000);
            let resets_at = start.plus(Duration::from_secs(86_400));
            let mut now = start;
            let mut limiter = Limiter::new(rate(per_second, 10_000), now);
            let span = Duration::from_secs(60);
            let quota = Quota {
                day: Some(DayQuota { limit: 1_000, used: 0, left }),
                rates: vec![CallRate { calls, span }],
            };
            limiter.learn(&quota, resets_at);
            let mut passed: Vec<i64> = Vec::new();
            for (pause, act) in acts {
                now = Timestamp(now.0 + pause);
                if act == 0 {
                    limiter.slow_down(now);
                }
                if let Err(ready_at) = limiter.take(now) {
                    prop_assert!(ready_at > now);
                } else if act == 1 {
                    limiter.give_back();
                } else {
                    passed.push(now.0);
                }
                let lately = passed.iter().filter(|at| **at > now.0 - MINUTE_MS).count();
                prop_assert!(lately <= calls as usize);
                prop_assert!(passed.len() as u64 <= left);
                let most = i64::from(per_second) * (1 + (now.0 - start.0) / SECOND_MS) + 1;
                prop_assert!(passed.len() as i64 <= most);
            }
        }
    }

    #[test]
    fn a_refusal_halves_what_passes_in_the_next_minute() {
        let start = Timestamp(1_700_000_000_000);
        let mut limiter = Limiter::new(rate(1_000, 600), start);
        let passes = |limiter: &mut Limiter, from: Timestamp| {
            let tries = (0..60_000).step_by(10);
            tries
                .filter(|ms| limiter.take(Timestamp(from.0 + ms)).is_ok())
                .count()
        };
        passes(&mut limiter, start);
        let whole = passes(&mut limiter, start.plus(Duration::from_secs(60)));
        limiter.slow_down(start.plus(Duration::from_secs(120)));
        let half = passes(&mut limiter, start.plus(Duration::from_secs(120)));
        assert_eq!((whole, half), (600, 300));
        let later = start.plus(Duration::from_secs(3_600));
        assert_eq!(limiter.pace(later), PACE_MAX);
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
