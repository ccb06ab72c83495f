//! How many recipients may be on their way at once, and how fast they may come. Pure: `now` is an
//! argument.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::{Timestamp, millis};
use crate::policy::limiter::Rate;
use crate::store::broadcasts::Pace;

/// What is on its way is what leaves within this span.
const AHEAD_SECONDS: u32 = 2;

/// Least and most recipients on their way where the account's limits are known, and where they are not.
const LIMITED: (usize, usize) = (10, 4_000);
const UNLIMITED: (usize, usize) = (500, 4_000);

/// What a pause may save up: more would be a burst.
const SAVED: Duration = Duration::from_secs(1);

/// A call that brings a message to many gathers those of so long a time: platforms allow few such calls
/// a day.
const GATHERED: Duration = Duration::from_secs(900);

/// Over how long the rate is measured.
const MEASURED: Duration = Duration::from_secs(30);

/// The pace of one part.
#[derive(Debug)]
pub(super) struct Speed {
    /// Ends of recipients: when, and how many.
    ended: VecDeque<(Timestamp, i64)>,
    began_at: Timestamp,
    /// Recipients that may come now.
    saved: f64,
    saved_at: Timestamp,
}

impl Speed {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            ended: VecDeque::new(),
            began_at: now,
            saved: 0.0,
            saved_at: now,
        }
    }

    /// Notes that so many recipients have ended since the last time.
    pub(super) fn note(&mut self, ended: i64, now: Timestamp) {
        self.ended.push_back((now, ended));
        let from = now.minus(MEASURED);
        while self.ended.front().is_some_and(|(at, _)| *at < from) {
            self.ended.pop_front();
        }
    }

    /// Recipients that end in 1000 s, as measured of late.
    pub(super) fn rate(&self, now: Timestamp) -> i64 {
        let ended: i64 = self.ended.iter().map(|(_, ended)| ended).sum();
        let from = self.began_at.max(now.minus(MEASURED));
        let span = millis(now.since(from)).max(1_000);
        ended.saturating_mul(1_000_000) / span
    }

    /// How many may be on their way at once, under an account's limits.
    pub(super) fn window(&self, limits: Rate, now: Timestamp) -> usize {
        let minute = limits.per_minute.map(|most| most / 60);
        let limit = [limits.per_second, minute].into_iter().flatten().min();
        let (per_second, (least, most)) = match limit {
            Some(limit) => (i64::from(limit), LIMITED),
            None => (self.rate(now) / 1_000, UNLIMITED),
        };
        let wanted = per_second.saturating_mul(i64::from(AHEAD_SECONDS));
        usize::try_from(wanted).unwrap_or(most).clamp(least, most)
    }

    /// How many recipients may come now, at so many a second, if up to `at_once` come together.
    pub(super) fn allows(&mut self, per_second: f64, at_once: usize, now: Timestamp) -> usize {
        let passed = now.since(self.saved_at).as_secs_f64();
        self.saved_at = now;
        let most = (per_second * SAVED.as_secs_f64()).max(count(at_once.max(1)));
        self.saved = (self.saved + per_second * passed).min(most);
        whole(self.saved)
    }

    /// So many came.
    pub(super) fn took(&mut self, recipients: usize) {
        self.saved = (self.saved - count(recipients)).max(0.0);
    }
}

/// How many recipients a second a pace lets come, of a part with this share of the broadcast's
/// recipients. `None` for any number.
pub(super) fn per_second(pace: Pace, part: Share) -> Option<f64> {
    let spread = pace
        .spread
        .map(|span| part.of_part() / span.as_secs_f64().max(0.001));
    let capped = pace.per_second.map(|most| f64::from(most) * part.share());
    match (spread, capped) {
        (Some(spread), Some(capped)) => Some(spread.min(capped)),
        (one, other) => one.or(other),
    }
}

/// The size of the next call to many, at so many recipients a second: at most `call`, at least
/// `least`, and never so that fewer than that stay behind.
pub(super) fn gathered(call: usize, waiting: i64, least: usize, per_second: f64) -> usize {
    let worth = whole(per_second * GATHERED.as_secs_f64()).max(least);
    let behind = usize::try_from(waiting).unwrap_or(0).saturating_sub(worth);
    if call <= worth || behind < least {
        return call;
    }
    worth
}

/// A part's recipients, and those of its whole broadcast.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) part: i64,
    pub(super) whole: i64,
}

impl Share {
    #[expect(clippy::cast_precision_loss, reason = "recipients are few for a float")]
    fn of_part(self) -> f64 {
        self.part as f64
    }

    #[expect(clippy::cast_precision_loss, reason = "recipients are few for a float")]
    fn share(self) -> f64 {
        self.part as f64 / self.whole.max(1) as f64
    }
}

#[expect(clippy::cast_precision_loss, reason = "recipients are few for a float")]
fn count(n: usize) -> f64 {
    n as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "never negative, and a large one is cut"
)]
fn whole(n: f64) -> usize {
    n as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Over any run no more come than the pace lets through, beside what was saved up once.
        #[test]
        fn recipients_never_come_faster_than_they_may(
            per_second in 1u32..500,
            pauses in prop::collection::vec(0u64..5_000, 1..200),
        ) {
            let start = Timestamp(1_000_000);
            let (mut speed, mut now) = (Speed::new(start), start);
            let mut came = 0;
            for pause in pauses {
                now = now.plus(Duration::from_millis(pause));
                let allowed = speed.allows(f64::from(per_second), 1, now);
                speed.took(allowed);
                came += allowed;
                let most = f64::from(per_second) * now.since(start).as_secs_f64();
                prop_assert!(count(came) <= most + 1.0, "{came} of {most}");
            }
        }
    }

    #[test]
    fn a_spread_brings_everybody_within_its_span() {
        let mut speed = Speed::new(Timestamp(0));
        let pace = Pace {
            per_second: None,
            spread: Some(Duration::from_secs(3_600)),
        };
        let part = Share {
            part: 7_200,
            whole: 10_000,
        };
        let mut came = 0;
        for second in 1..=3_601 {
            let pace = per_second(pace, part).expect("has a pace");
            let allowed = speed.allows(pace, 1, Timestamp(second * 1_000));
            speed.took(allowed);
            came += allowed;
        }
        assert!((7_195..=7_205).contains(&came), "{came}");
    }

    #[test]
    fn a_slow_pace_gathers_calls_that_leave_nobody_alone() {
        let (mut speed, mut waiting, mut calls) = (Speed::new(Timestamp(0)), 5_000_i64, Vec::new());
        for second in 1..=3_700 {
            let call = usize::try_from(waiting).unwrap().min(10_000);
            let next = gathered(call, waiting, 2, 2.0);
            let now = Timestamp(second * 1_000);
            if next > 0 && speed.allows(2.0, next, now) >= next {
                speed.took(next);
                waiting -= i64::try_from(next).unwrap();
                calls.push(next);
            }
        }
        assert_eq!(calls, [1_800, 1_800, 1_400]);
        assert_eq!(gathered(451, 451, 2, 0.5), 451);
        assert_eq!(gathered(452, 452, 2, 0.5), 450);
        assert_eq!(gathered(0, 0, 2, 0.5), 0);
    }

    #[test]
    fn what_is_on_its_way_is_what_leaves_within_two_seconds() {
        let mut speed = Speed::new(Timestamp(0));
        let limits = |per_second, per_minute| Rate {
            per_second,
            per_minute,
            per_day: None,
        };
        let now = Timestamp(10_000);
        assert_eq!(speed.window(limits(Some(50), None), now), 100);
        assert_eq!(speed.window(limits(Some(50), Some(600)), now), 20);
        assert_eq!(speed.window(limits(Some(1), None), now), 10);
        assert_eq!(speed.window(limits(None, None), now), 500);
        for second in 1..=10 {
            speed.note(1_000, Timestamp(second * 1_000));
        }
        assert_eq!(speed.rate(now), 1_000_000);
        assert_eq!(speed.window(limits(None, None), now), 2_000);
    }
}
