//! When something is due: the hour of the daily sync, and the end of a quota's minute or day. Pure.

use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp as Instant};

use crate::clock::Timestamp;
use crate::journey::ids::AccountId;
use crate::policy::learned::QuotaReset;

/// The accounts' daily syncs are spread over so many seconds.
const SPREAD_SECONDS: u64 = 3_600;

/// How long after the instant at which calls are counted anew that is relied on.
const AFTER_RESET: Duration = Duration::from_secs(300);

/// How long after a full minute its new quota is relied on.
const AFTER_MINUTE: Duration = Duration::from_secs(5);

/// First and longest rest after a call that failed.
const REST_FIRST: Duration = Duration::from_secs(15);
const REST_MAX: Duration = Duration::from_secs(600);

/// A daily instant: the last that has come, and the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Daily {
    pub(super) last: Timestamp,
    pub(super) next: Timestamp,
}

/// How long after the hour an account's turn comes: the same every day, different for each.
pub(super) fn spread(account: AccountId) -> Duration {
    // A multiplicative hash; the spread need not be secret.
    let mixed = account
        .0
        .cast_unsigned()
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Duration::from_secs((mixed >> 32) % SPREAD_SECONDS)
}

/// The daily instant at `time` in `zone`, later by `spread`, around `now`.
pub(super) fn daily(now: Timestamp, zone: &TimeZone, time: Time, spread: Duration) -> Daily {
    let around = now.minus(spread);
    let at = |days: i64| -> Option<Timestamp> {
        let today = Instant::from_millisecond(around.0).ok()?;
        let day = today.to_zoned(zone.clone()).date();
        let day = day.checked_add(Span::new().days(days)).ok()?;
        // A time that a change of the clocks leaves out is the end of the gap.
        let instant = day.to_datetime(time).to_zoned(zone.clone()).ok()?;
        Some(Timestamp(instant.timestamp().as_millisecond()).plus(spread))
    };
    let instants = [-1, 0, 1, 2].map(at).into_iter().flatten();
    let (mut last, mut next) = (Timestamp(i64::MIN), Timestamp(i64::MAX));
    for instant in instants {
        if instant <= now {
            last = last.max(instant);
        } else {
            next = next.min(instant);
        }
    }
    Daily { last, next }
}

/// When a quota of the minute that is used up `now` is given anew.
pub(super) fn next_minute(now: Timestamp) -> Timestamp {
    let minute = now.seconds().div_euclid(60);
    Timestamp::from_seconds((minute + 1) * 60).plus(AFTER_MINUTE)
}

/// When a quota of the day that is used up `now` is given anew.
pub(super) fn next_day(now: Timestamp, reset: &QuotaReset) -> Timestamp {
    reset.next(now).plus(AFTER_RESET)
}

/// How long to rest after so many failures in a row.
pub(super) fn rest(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(10);
    (REST_FIRST * 2u32.pow(doublings)).min(REST_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<Instant>().unwrap().as_millisecond())
    }

    fn shanghai() -> TimeZone {
        TimeZone::get("Asia/Shanghai").unwrap()
    }

    #[test]
    fn the_hour_is_the_accounts_and_comes_once_a_day() {
        let time = jiff::civil::time(4, 30, 0, 0);
        let spread = Duration::from_secs(60);
        let around = |now| daily(at(now), &shanghai(), time, spread);
        let hour = Daily {
            last: at("2026-03-01T20:31:00Z"),
            next: at("2026-03-02T20:31:00Z"),
        };
        assert_eq!(around("2026-03-01T20:31:00Z"), hour);
        assert_eq!(around("2026-03-02T20:30:59Z"), hour);
        assert_eq!(around("2026-03-02T20:31:00Z").last, hour.next);
    }

    #[test]
    fn a_day_that_changes_the_clocks_has_its_hour() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let time = jiff::civil::time(2, 30, 0, 0);
        let hour = daily(at("2026-03-29T12:00:00Z"), &zone, time, Duration::ZERO);
        assert_eq!(hour.last, at("2026-03-29T01:30:00Z"));
        assert_eq!(hour.next, at("2026-03-30T00:30:00Z"));
    }

    #[test]
    fn quotas_come_back_a_little_after_their_minute_and_their_midnight() {
        let now = at("2026-03-02T10:15:59Z");
        assert_eq!(next_minute(now), at("2026-03-02T10:16:05Z"));
        assert_eq!(
            next_day(now, &QuotaReset::default()),
            at("2026-03-02T16:05:00Z")
        );
    }

    #[test]
    fn rests_grow_and_end_growing() {
        assert_eq!(rest(1), REST_FIRST);
        assert_eq!(rest(3), REST_FIRST * 4);
        assert_eq!(rest(u32::MAX), REST_MAX);
    }

    proptest! {
        #[test]
        fn now_lies_between_the_last_hour_and_the_next(
            now in at("2024-01-01T00:00:00Z").0..at("2031-01-01T00:00:00Z").0,
            zone in prop::sample::select(&["Asia/Shanghai", "America/New_York", "Pacific/Apia", "UTC"][..]),
            minute in 0i8..60, hour in 0i8..24, account in 0i64..1_000,
        ) {
            let zone = TimeZone::get(zone).unwrap();
            let time = jiff::civil::time(hour, minute, 0, 0);
            let found = daily(Timestamp(now), &zone, time, spread(AccountId(account)));
            prop_assert!(found.last.0 <= now && now < found.next.0);
            let day = found.next.since(found.last).as_secs();
            prop_assert!((22 * 3_600..=50 * 3_600).contains(&day), "{day} s");
        }
    }
}
