//! What a platform's answers teach about one interface: its calls per span, what is left of the
//! day, and how fast is too fast. Pure: `now` is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::clock::{Timestamp, millis};

/// What the platform says of one interface's limits (page "get API call quota").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Calls per day, of every system that uses the account.
    pub day: Option<DayQuota>,
    /// Calls per span; all of them hold.
    pub rates: Vec<CallRate>,
}

/// The calls of one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayQuota {
    pub limit: u64,
    pub used: u64,
    pub left: u64,
}

impl DayQuota {
    /// How much of it is used, in percent, rounded down.
    pub fn used_percent(&self) -> u64 {
        match self.limit {
            0 => 0,
            limit => limit.saturating_sub(self.left).saturating_mul(100) / limit,
        }
    }
}

/// So many calls per span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRate {
    pub calls: u32,
    pub span: Duration,
}

/// When an account's daily calls are counted anew. The platform does not state it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaReset {
    /// Minutes after midnight, in `zone`.
    pub minute: u16,
    pub zone: TimeZone,
}

impl Default for QuotaReset {
    /// Midnight in Beijing.
    fn default() -> Self {
        let beijing = TimeZone::fixed(jiff::tz::offset(8));
        Self {
            minute: 0,
            zone: beijing,
        }
    }
}

/// A day, for instants that no calendar has.
const DAY: Duration = Duration::from_secs(86_400);

impl QuotaReset {
    /// The next instant after `now` at which the day's calls are counted anew.
    pub fn next(&self, now: Timestamp) -> Timestamp {
        self.find(now).unwrap_or(now.plus(DAY))
    }

    fn find(&self, now: Timestamp) -> Option<Timestamp> {
        let here = jiff::Timestamp::from_millisecond(now.0).ok()?;
        let here = here.to_zoned(self.zone.clone());
        let (hour, minute) = (self.minute / 60, self.minute % 60);
        let at = jiff::civil::time(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, 0, 0);
        let mut day = here.date();
        // Today's instant or tomorrow's; a third day where clocks are set at that very hour.
        for _ in 0..3 {
            let reset = day.to_datetime(at).to_zoned(self.zone.clone()).ok()?;
            let reset = Timestamp(reset.timestamp().as_millisecond());
            if reset > now {
                return Some(reset);
            }
            day = day.tomorrow().ok()?;
        }
        None
    }

    /// The month that an instant lies in, as year and month.
    pub fn month(&self, at: Timestamp) -> (i16, i8) {
        let here = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
        let date = here.to_zoned(self.zone.clone()).date();
        (date.year(), date.month())
    }
}

/// Parts of a span that calls are counted in.
const SLOTS: i64 = 10;

/// At most so many calls within any span, wherever it begins: what a platform counts may begin
/// anywhere, so a bucket that refills while it is emptied would let too many through.
#[derive(Clone, Debug)]
pub(super) struct Window {
    rate: CallRate,
    slot_ms: i64,
    /// Calls by slot, oldest first.
    taken: VecDeque<(i64, u32)>,
}

impl Window {
    pub(super) fn new(rate: CallRate) -> Self {
        Self {
            rate,
            // Rounded up: the slots cover at least the span.
            slot_ms: ((millis(rate.span) + SLOTS - 1) / SLOTS).max(1),
            taken: VecDeque::new(),
        }
    }

    pub(super) fn rate(&self) -> CallRate {
        self.rate
    }

    /// The earliest instant, not before `now`, at which one more call fits, of `limit` in all.
    pub(super) fn ready_at(&mut self, limit: u32, now: Timestamp) -> Timestamp {
        self.forget(now);
        let mut over = i64::from(self.count()) - i64::from(limit.max(1)) + 1;
        for (slot, calls) in &self.taken {
            if over <= 0 {
                break;
            }
            over -= i64::from(*calls);
            if over <= 0 {
                return Timestamp((slot + SLOTS + 1) * self.slot_ms).max(now);
            }
        }
        now
    }

    pub(super) fn take(&mut self, now: Timestamp) {
        let slot = now.0.div_euclid(self.slot_ms);
        match self.taken.back_mut() {
            Some((last, calls)) if *last == slot => *calls += 1,
            _ => self.taken.push_back((slot, 1)),
        }
    }

    pub(super) fn give_back(&mut self) {
        if let Some((_, calls)) = self.taken.back_mut() {
            *calls -= 1;
            if *calls == 0 {
                self.taken.pop_back();
            }
        }
    }

    fn count(&self) -> u32 {
        self.taken.iter().map(|(_, calls)| calls).sum()
    }

    fn forget(&mut self, now: Timestamp) {
        let slot = now.0.div_euclid(self.slot_ms);
        // A clock that was set back: what was called after `now` counts as called now.
        let ahead = self.taken.partition_point(|(at, _)| *at <= slot);
        let calls: u32 = self.taken.drain(ahead..).map(|(_, calls)| calls).sum();
        if calls > 0 {
            match self.taken.back_mut() {
                Some((last, own)) if *last == slot => *own += calls,
                _ => self.taken.push_back((slot, calls)),
            }
        }
        while self.taken.front().is_some_and(|(at, _)| *at < slot - SLOTS) {
            self.taken.pop_front();
        }
    }
}

/// What is left of a day's calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    limit: u64,
    left: u64,
    resets_at: Timestamp,
}

impl Allowance {
    pub(super) fn new(day: DayQuota, resets_at: Timestamp) -> Self {
        Self {
            limit: day.limit,
            left: day.left,
            resets_at,
        }
    }

    pub(super) fn ready_at(&mut self, now: Timestamp) -> Timestamp {
        while now >= self.resets_at {
            self.left = self.limit;
            self.resets_at = self.resets_at.plus(DAY);
        }
        if self.left > 0 { now } else { self.resets_at }
    }

    pub(super) fn take(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    pub(super) fn give_back(&mut self) {
        self.left = self.left.saturating_add(1).min(self.limit);
    }
}

/// Lowest share of a limit that refusals can bring it down to, in thousandths.
pub const PACE_MIN: u32 = 50;

/// A whole limit, in thousandths.
pub const PACE_MAX: u32 = 1000;

/// How much comes back with each minute without a refusal, in thousandths of the limit.
const PACE_GAIN: u32 = 50;

const MINUTE_MS: i64 = 60_000;

/// Which share of the limits is used: halved when the platform says that calls come too fast, and
/// slowly whole again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    share: u32,
    /// The last change: refusals within a minute of a halving are of calls made before it.
    since: Timestamp,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            share: PACE_MAX,
            since: Timestamp(i64::MIN),
        }
    }
}

impl Pace {
    pub(super) fn slow_down(&mut self, now: Timestamp) {
        self.share(now);
        let halved_lately = self.share < PACE_MAX && now.0.saturating_sub(self.since.0) < MINUTE_MS;
        if !halved_lately {
            self.share = (self.share / 2).max(PACE_MIN);
            self.since = now;
        }
    }

    /// The share now, in thousandths.
    pub(super) fn share(&mut self, now: Timestamp) -> u32 {
        if self.share < PACE_MAX {
            if now < self.since {
                self.since = now;
            }
            let minutes = now.0.saturating_sub(self.since.0) / MINUTE_MS;
            let gained = u32::try_from(minutes)
                .unwrap_or(u32::MAX)
                .saturating_mul(PACE_GAIN);
            if minutes > 0 {
                self.share = self.share.saturating_add(gained).min(PACE_MAX);
                self.since = Timestamp(self.since.0.saturating_add(minutes * MINUTE_MS));
            }
        }
        self.share
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Within any span, wherever it begins, no more calls pass than the platform said; and
        /// whoever waits for the instant that is named is let through.
        #[test]
        fn no_span_ever_holds_more_calls_than_its_limit(
            limit in 1u32..60, span_ms in 1_000i64..90_000,
            pauses in prop::collection::vec(0i64..3_000, 1..400),
        ) {
            let span = Duration::from_millis(span_ms.unsigned_abs());
            let mut window = Window::new(CallRate { calls: limit, span });
            let mut now = Timestamp(1_000_000_007);
            let mut passed: Vec<i64> = Vec::new();
            for pause in pauses {
                now = Timestamp(now.0 + pause);
                let ready_at = window.ready_at(limit, now);
                if ready_at == now {
                    window.take(now);
                    passed.push(now.0);
                } else {
                    let mut patient = window.clone();
                    prop_assert_eq!(patient.ready_at(limit, ready_at), ready_at);
                    // Nobody waits much longer than a span.
                    prop_assert!(ready_at.0 - now.0 <= span_ms + span_ms / 5 + 2);
                }
                let within = passed.iter().filter(|at| **at > now.0 - span_ms).count();
                prop_assert!(within <= limit as usize);
            }
        }

        /// The share never leaves its bounds, grows with time alone and shrinks with refusals
        /// alone, at most once a minute.
        #[test]
        fn the_pace_halves_and_recovers(
            acts in prop::collection::vec((0i64..200_000, any::<bool>()), 1..200),
        ) {
            let (mut pace, mut now) = (Pace::default(), Timestamp(1_700_000_000_000));
            for (pause, refused) in acts {
                let before = pace.share(now);
                now = Timestamp(now.0 + pause);
                let grown = pace.share(now);
                prop_assert!(grown >= before);
                if refused {
                    pace.slow_down(now);
                    let after = pace.share(now);
                    prop_assert!(after <= grown && after >= grown / 2 && after >= PACE_MIN);
                    // The answers of calls that were under way change nothing.
                    pace.slow_down(now);
                    prop_assert_eq!(pace.share(now), after);
                }
                prop_assert!((PACE_MIN..=PACE_MAX).contains(&pace.share(now)));
            }
            prop_assert_eq!(pace.share(now.plus(Duration::from_secs(1_200))), PACE_MAX);
        }

        /// A reset lies ahead, at most a little more than a day away, at the minute it is said to.
        #[test]
        fn a_reset_is_always_ahead(
            seconds in 1_600_000_000i64..1_900_000_000, minute in 0u16..1_440, zone in 0usize..4,
        ) {
            let names = ["Asia/Shanghai", "UTC", "America/New_York", "Australia/Lord_Howe"];
            let name = names[zone];
            let zone = TimeZone::get(name).expect("is bundled");
            let reset = QuotaReset { minute, zone: zone.clone() };
            let now = Timestamp(seconds * 1000);
            let next = reset.next(now);
            prop_assert!(next > now && next.since(now) <= Duration::from_secs(26 * 3_600));
            if name == "Asia/Shanghai" {
                let at = jiff::Timestamp::from_millisecond(next.0).expect("is a time");
                let at = at.to_zoned(zone).time();
                prop_assert_eq!(at.hour() as u16 * 60 + at.minute() as u16, minute);
                prop_assert_eq!(at.second(), 0);
            }
        }
    }

    #[test]
    fn a_day_that_was_used_up_elsewhere_waits_for_its_reset_and_begins_anew() {
        let day = DayQuota {
            limit: 3,
            used: 2,
            left: 1,
        };
        assert_eq!(day.used_percent(), 66);
        let reset = Timestamp(1_000_000);
        let mut allowance = Allowance::new(day, reset);
        let now = Timestamp(0);
        assert_eq!(allowance.ready_at(now), now);
        allowance.take();
        assert_eq!(allowance.ready_at(now), reset);
        assert_eq!(allowance.ready_at(reset), reset);
        for _ in 0..3 {
            assert_eq!(allowance.ready_at(reset), reset);
            allowance.take();
        }
        assert_eq!(allowance.ready_at(reset), reset.plus(DAY));
    }
}
