//! How a backlog begins: slowly, since a platform and a program that were just down may not bear all
//! of it at once. Pure.
//!
//! It begins with a fifth of the account's rate and of its places for calls, and with each five
//! seconds in which no call went wrong it becomes half as much again. What is fresh is not held back.

use std::time::Duration;

use crate::clock::{Timestamp, millis};
use crate::policy::limiter::Rate;

/// Share at the beginning, in thousandths.
const FIRST: u32 = 200;

/// All of it.
const WHOLE: u32 = 1000;

const GROWS_EVERY: Duration = Duration::from_secs(5);

/// What may be sent at once, as a span's worth: loops look only now and then.
const BURST_MS: i64 = 200;

/// The beginning of one account's backlog.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ramp {
    /// At `since`, in thousandths.
    share: u32,
    since: Timestamp,
    /// The account's lowest steady rate, in messages per thousand seconds.
    rate: Option<i64>,
    /// When the next may be sent, in microseconds since 1970.
    next_us: i64,
    now: Timestamp,
}

impl Ramp {
    pub(super) fn new(rate: Rate, now: Timestamp) -> Self {
        let per_second = rate.per_second.map(|limit| i64::from(limit) * 1000);
        let per_minute = rate.per_minute.map(|limit| i64::from(limit) * 1000 / 60);
        let rate = [per_second, per_minute].into_iter().flatten().min();
        Self {
            share: FIRST,
            since: now,
            rate: rate.map(|rate| rate.max(1)),
            next_us: i64::MIN,
            now,
        }
    }

    fn share(&self, now: Timestamp) -> u32 {
        let steps = now.since(self.since).as_millis() / GROWS_EVERY.as_millis();
        let mut share = self.share;
        for _ in 0..steps.min(8) {
            share = (share + share / 2).min(WHOLE);
        }
        share
    }

    /// How many calls of the backlog may be under way.
    pub(super) fn places(&self, all: usize) -> usize {
        let share = usize::try_from(self.share(self.now)).unwrap_or(usize::MAX);
        (all.saturating_mul(share) / 1000).max(1)
    }

    /// Looks at the time; whether the ramp is over.
    pub(super) fn look(&mut self, now: Timestamp) -> bool {
        self.now = now;
        self.share(now) >= WHOLE
    }

    /// When the next of the backlog may go.
    pub(super) fn ready_at(&self) -> Timestamp {
        Timestamp(self.next_us.div_euclid(1000) + i64::from(self.next_us.rem_euclid(1000) > 0))
    }

    /// Microseconds between two messages.
    fn apart_us(&self) -> i64 {
        let share = i64::from(self.share(self.now));
        let rate = self.rate.map(|rate| (rate * share).max(1));
        rate.map_or(0, |rate| 1_000_000_000_000 / rate)
    }

    /// One goes.
    pub(super) fn take(&mut self, now: Timestamp) {
        self.now = now;
        if self.rate.is_some() {
            let from = now.0.saturating_sub(BURST_MS).saturating_mul(1000);
            self.next_us = self.next_us.max(from).saturating_add(self.apart_us());
        }
    }

    /// One that was taken did not go after all.
    pub(super) fn give_back(&mut self) {
        self.next_us = self.next_us.saturating_sub(self.apart_us());
    }

    /// A call went wrong: the share stays as it is for now.
    pub(super) fn stay(&mut self, now: Timestamp) {
        self.share = self.share(now);
        self.since = now;
    }

    /// The clock was set back by so much.
    pub(super) fn set_back(&mut self, by: Duration) {
        self.since = self.since.minus(by);
        self.now = self.now.minus(by);
        let by_us = millis(by).saturating_mul(1000);
        self.next_us = self.next_us.saturating_sub(by_us);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp(1_700_000_000_000);

    fn rate(per_second: u32) -> Rate {
        Rate {
            per_second: Some(per_second),
            ..Rate::default()
        }
    }

    #[test]
    fn a_ramp_is_over_after_twenty_seconds_without_trouble() {
        let mut ramp = Ramp::new(rate(100), START);
        let shares = [0, 4, 5, 10, 15, 19, 20].map(|second| {
            let over = ramp.look(START.plus(Duration::from_secs(second)));
            (ramp.places(1000), over)
        });
        let grown = [200, 200, 300, 450, 675, 675, 1000];
        assert_eq!(shares, grown.map(|places| (places, places == 1000)));
    }

    #[test]
    fn trouble_keeps_a_ramp_where_it_is() {
        let mut ramp = Ramp::new(rate(100), START);
        for second in 1..60 {
            ramp.stay(START.plus(Duration::from_secs(second)));
        }
        assert!(!ramp.look(START.plus(Duration::from_secs(60))));
        assert_eq!(ramp.places(1000), 200);
    }

    proptest! {
        /// In no second do more go than the share of the rate that the ramp has reached by its end,
        /// but for what a look may find waiting; and whoever waits for the instant named may go.
        #[test]
        fn a_ramp_keeps_to_its_share(
            per_second in 1u32..500, pauses in prop::collection::vec(1i64..300, 1..500),
        ) {
            let mut ramp = Ramp::new(rate(per_second), START);
            let (mut now, mut gone) = (START, Vec::new());
            for pause in pauses {
                now = Timestamp(now.0 + pause);
                ramp.look(now);
                while ramp.ready_at() <= now {
                    ramp.take(now);
                    gone.push(now);
                }
                let share = u64::from(ramp.share(now));
                let within = gone.iter().filter(|at| at.0 > now.0 - 1000).count() as u64;
                let allowed = u64::from(per_second) * share * (1000 + BURST_MS as u64) / 1_000_000;
                prop_assert!(within <= allowed + 2, "{within} of {allowed}");
            }
        }
    }
}
