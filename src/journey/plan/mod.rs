//! When each step of an enrollment is due.
//!
//! All of it is decided at the enrollment: [`plan`] turns a sequence, an instant and a zone into
//! one instant per step. The promises: never before the enrollment, never decreasing, `min_gap`
//! apart, never inside quiet hours that shift, but for a step that answers the act itself. The same arguments give the same plan.
//!
//! Clocks that change: a time of day that a gap leaves out is the end of the gap; one that an
//! overlap has twice is the first. Days are the zone's, so `day: 1` is the next date there, even
//! when the day between has 23 hours.
//!
//! Deliberately absent: grants, limits and lateness, which are decided when a step is due.

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp as Instant};

use crate::clock::{Timestamp, millis};
use crate::journey::sequence::{Due, Quiet, QuietHours, Sequence, Step};

/// The due instant of every step, in order.
///
/// An `at:` whose time is over on its day (somebody follows at 20:00, the step is for 09:00 of day
/// 0) is due as soon as the steps before it allow, since leaving it out or waiting a day would
/// break the order that the operator wrote. With `spread:`, everything but a step that is due at
/// once comes later by a part of it that `seed` decides, the same for all steps of the plan.
pub fn plan(
    sequence: &Sequence,
    enrolled_at: Timestamp,
    zone: &TimeZone,
    seed: u64,
) -> Vec<Timestamp> {
    plan_at(sequence, enrolled_at, zone, jitter(sequence, seed))
}

/// As [`plan`], with the part of `spread:` in milliseconds instead of the seed that decides it.
pub fn plan_at(
    sequence: &Sequence,
    enrolled_at: Timestamp,
    zone: &TimeZone,
    jitter: i64,
) -> Vec<Timestamp> {
    let gap = millis(sequence.min_gap);
    let mut plan: Vec<Timestamp> = Vec::with_capacity(sequence.steps.len());
    for step in &sequence.steps {
        let wanted = wanted(step, enrolled_at, zone, jitter);
        let earliest = plan.last().map_or(enrolled_at, |last| later(*last, gap));
        let mut due = wanted.max(earliest);
        let answers = step.answers() && due == enrolled_at;
        if let Some(end) = shifted(sequence, zone, due).filter(|_| !answers) {
            // Everybody's night ends at one instant: this is where spreading matters most.
            let spread = later(end, jitter);
            due = match shifted(sequence, zone, spread) {
                Some(_) => end,
                None => spread,
            };
        }
        plan.push(due);
    }
    plan
}

fn wanted(step: &Step, enrolled_at: Timestamp, zone: &TimeZone, jitter: i64) -> Timestamp {
    match step.due {
        Due::After(span) if span.is_zero() => enrolled_at,
        Due::After(span) => later(enrolled_at.plus(span), jitter),
        Due::At { day, time } => later(
            at_time(enrolled_at, zone, day, time).unwrap_or(enrolled_at),
            jitter,
        ),
    }
}

/// The instant that a step asks for by itself, before gaps and quiet hours move it.
pub fn wanted_at(
    sequence: &Sequence,
    step: &Step,
    enrolled_at: Timestamp,
    zone: &TimeZone,
    seed: u64,
) -> Timestamp {
    wanted(step, enrolled_at, zone, jitter(sequence, seed))
}

/// The end of the quiet hours that `at` is in; `None` outside of them and without any.
pub fn quiet_until(sequence: &Sequence, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    quiet_span(sequence, zone, at).map(|(_, to)| to)
}

/// First and last instant of the quiet hours that `at` is in; the last is not quiet.
pub fn quiet_span(
    sequence: &Sequence,
    zone: &TimeZone,
    at: Timestamp,
) -> Option<(Timestamp, Timestamp)> {
    let hours = sequence.quiet_hours.as_ref()?;
    let today = date_of(at, zone)?;
    // Yesterday's night may still last, and a date can begin late or be left out.
    [-1, 0, 1].into_iter().find_map(|days| {
        let day = today.checked_add(Span::new().days(days)).ok()?;
        let (from, to) = night(hours, zone, day)?;
        (from <= at && at < to).then_some((from, to))
    })
}

/// The zone of `at:` and of quiet hours: the sequence's own, else the account's, else UTC.
///
/// Both names were checked when their files were read, so UTC is only for a machine that has lost
/// its zones since.
pub fn zone(sequence: &Sequence, account_zone: &str) -> TimeZone {
    let name = sequence.timezone.as_deref().unwrap_or(account_zone);
    TimeZone::get(name).unwrap_or(TimeZone::UTC)
}

fn shifted(sequence: &Sequence, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    match sequence.quiet_hours.as_ref()?.then {
        Quiet::Shift => quiet_until(sequence, zone, at),
        Quiet::Skip => None,
    }
}

/// First and last instant of the quiet hours that begin on a day; the last is not quiet.
fn night(hours: &QuietHours, zone: &TimeZone, day: Date) -> Option<(Timestamp, Timestamp)> {
    let end = if hours.to > hours.from {
        day
    } else {
        day.tomorrow().ok()?
    };
    Some((
        instant(zone, day, hours.from)?,
        instant(zone, end, hours.to)?,
    ))
}

fn at_time(enrolled_at: Timestamp, zone: &TimeZone, day: u16, time: Time) -> Option<Timestamp> {
    let date = date_of(enrolled_at, zone)?
        .checked_add(Span::new().days(i64::from(day)))
        .ok()?;
    instant(zone, date, time)
}

/// The instant of a local time: the first of two, or the end of the gap that leaves it out.
fn instant(zone: &TimeZone, date: Date, time: Time) -> Option<Timestamp> {
    let local = zone.to_ambiguous_timestamp(date.to_datetime(time));
    let in_gap = matches!(local.offset(), AmbiguousOffset::Gap { .. });
    let instant = local.compatible().ok()?;
    if !in_gap {
        return Some(Timestamp(instant.as_millisecond()));
    }
    // `compatible` lies as far behind the gap as the time lies inside it, so the change of the
    // clock is the last one up to there.
    let after = instant.checked_add(Span::new().nanoseconds(1)).ok()?;
    let change = zone.preceding(after).next()?;
    Some(Timestamp(change.timestamp().as_millisecond()))
}

fn date_of(at: Timestamp, zone: &TimeZone) -> Option<Date> {
    let instant = Instant::from_millisecond(at.0).ok()?;
    Some(zone.to_datetime(instant).date())
}

fn later(at: Timestamp, millis: i64) -> Timestamp {
    Timestamp(at.0.saturating_add(millis))
}

/// The part of `spread` that falls to a seed, in milliseconds.
fn jitter(sequence: &Sequence, seed: u64) -> i64 {
    let spread = u64::try_from(millis(sequence.spread)).unwrap_or(0);
    if spread == 0 {
        return 0;
    }
    // SplitMix64's finish: neighbouring ids come out far apart.
    let mut hash = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    i64::try_from(hash % spread).unwrap_or(0)
}

#[cfg(test)]
mod tests;
