//! Tables `statistics` and `statistics_fresh`: what became of steps and links, in sums.
//!
//! Every commit adds the sums of what it has written, as new rows of its own transaction: so they are
//! as true as the outcomes, after a crash too, and no row is counted up on the way of a message. A pass
//! takes those rows together every few seconds; whoever reads adds up both tables in one statement. The
//! pass takes only rows that it sees, so a commit that comes late is taken by the next one; two passes at
//! once share the rows between them.
//!
//! Days are the account's own. Sums stay when the outcomes that they are of are deleted.

mod add;
mod read;
mod take;

use std::time::Duration;

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;

use crate::clock::Timestamp;
use crate::journey::ids::{AccountId, VersionId};
use crate::journey::outcome::Outcome;

pub(crate) use add::{Leaving, Sent};
pub(in crate::store) use add::{append, sent_before};
pub use read::{ADDED_MAX, Added, Asked, account_keys, read};
pub use take::{keep, take_all};

/// How long after a step an unfollow is put down to it.
pub const LEFT_WITHIN: Duration = Duration::from_secs(3_600);

/// The first day.
const EPOCH: Date = date(1970, 1, 1);

/// What tells sums apart.
const COLUMNS: &str = "version_id, day, account_id, step, link, kind, code, language";

/// What is counted. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A passage began: every step of its version is planned once. Stands at step 0.
    Enrolled,
    /// An entry of a step's history; an end of several steps counts for each.
    Outcome(Outcome),
    /// People who clicked, by the day of their first click.
    Clicked,
    /// Their clicks, by that same day.
    Clicks,
    /// Unfollows within `LEFT_WITHIN` of a step's having been sent, and no other one since.
    Left,
}

impl Kind {
    const CLICKED: i64 = 20;
    const CLICKS: i64 = 21;
    const LEFT: i64 = 22;

    /// The number it is stored under.
    pub fn number(self) -> i64 {
        match self {
            Self::Enrolled => 0,
            Self::Outcome(outcome) => outcome.number(),
            Self::Clicked => Self::CLICKED,
            Self::Clicks => Self::CLICKS,
            Self::Left => Self::LEFT,
        }
    }

    /// What is counted under `number`.
    pub fn from_number(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::Enrolled),
            Self::CLICKED => Some(Self::Clicked),
            Self::CLICKS => Some(Self::Clicks),
            Self::LEFT => Some(Self::Left),
            _ => Outcome::from_number(number).map(Self::Outcome),
        }
    }
}

/// How often something became of a step or link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sum {
    pub(crate) version: VersionId,
    pub(crate) day: i64,
    pub(crate) account: AccountId,
    pub(crate) step: u16,
    pub(crate) link: u16,
    pub(crate) kind: i64,
    pub(crate) code: i64,
    pub(crate) language: String,
    pub(crate) n: i64,
}

/// The days since 1970 of an instant in a zone.
pub fn day_of(at: Timestamp, zone: &TimeZone) -> i64 {
    let instant = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    let days = instant.to_zoned(zone.clone()).date() - EPOCH;
    i64::from(days.get_days())
}

/// A day that is written as its date.
pub fn read_day(text: &str) -> Option<i64> {
    let date: Date = text.parse().ok()?;
    Some(i64::from((date - EPOCH).get_days()))
}

/// The date of a day.
pub fn date_of(day: i64) -> Date {
    let days = jiff::Span::new().try_days(day).unwrap_or_default();
    EPOCH.checked_add(days).unwrap_or(EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_the_account_s_own() {
        let zone = TimeZone::get("Asia/Shanghai").expect("is bundled");
        // 2026-03-01 15:59:59.999 UTC, and a millisecond later.
        let evening = Timestamp(1_772_380_799_999);
        let day = day_of(evening, &zone);
        assert_eq!(date_of(day).to_string(), "2026-03-01");
        assert_eq!(day_of(Timestamp(evening.0 + 1), &zone), day + 1);
        assert_eq!(day_of(Timestamp(evening.0 + 1), &TimeZone::UTC), day);
        assert_eq!(date_of(0).to_string(), "1970-01-01");
        assert_eq!(day_of(Timestamp(-1), &TimeZone::UTC), -1);
    }

    #[test]
    fn every_kind_is_stored_under_a_number_of_its_own() {
        let others = [Kind::Enrolled, Kind::Clicked, Kind::Clicks, Kind::Left];
        let all = Outcome::ALL.map(Kind::Outcome).into_iter().chain(others);
        for kind in all {
            assert_eq!(Kind::from_number(kind.number()), Some(kind));
        }
        assert_eq!(Kind::from_number(99), None);
    }
}
