//! When a broadcast repeats: cron expressions in a time zone. A local time that a change of the clocks
//! leaves out moves on by the gap; one that comes twice is meant once. Pure.

use std::str::FromStr;

use croner::Cron;
use jiff::tz::TimeZone;

use crate::clock::Timestamp;

/// Longest expression, in bytes.
const CRON_BYTES_MAX: usize = 100;

/// The first instant after `now` at which an expression fires in a zone; `None` when there is none any
/// more.
///
/// # Errors
/// What is wrong with the expression or the zone, for a person.
pub fn next(cron: &str, zone: &str, now: Timestamp) -> Result<Option<Timestamp>, String> {
    if cron.len() > CRON_BYTES_MAX {
        return Err(format!(
            "a cron expression has at most {CRON_BYTES_MAX} characters"
        ));
    }
    let parsed = Cron::from_str(cron);
    let parsed = parsed.map_err(|error| format!("`{cron}` is no cron expression: {error}"))?;
    let zone = TimeZone::get(zone);
    let zone = zone.map_err(|_| "name a time zone such as Asia/Shanghai".to_owned())?;
    let now = jiff::Timestamp::from_millisecond(now.0).map_err(|error| error.to_string())?;
    let next = parsed.find_next_occurrence(&now.to_zoned(zone), false);
    Ok(next
        .ok()
        .map(|at| Timestamp(at.timestamp().as_millisecond())))
}
