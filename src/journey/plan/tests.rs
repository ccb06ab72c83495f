//! Instants of steps at every edge: gaps and overlaps of clocks, nights, spreads, absurd times.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::journey::parse::parse_stored;

const HOUR: i64 = 3_600_000;

fn sequence(lines: &str) -> Sequence {
    let head = "sequence: a\ntrigger: api\nhorizon: 30d\n";
    parse_stored(&format!("{head}{lines}"), &BTreeMap::new()).expect(lines)
}

fn steps(due: &[String]) -> String {
    let step = |(index, due): (usize, &String)| {
        format!("  - {{ id: s{index}, {due}, say: {{ text: a }} }}\n")
    };
    let lines: String = due.iter().enumerate().map(step).collect();
    format!("steps:\n{lines}")
}

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<Instant>().unwrap().as_millisecond())
}

fn tz(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn check(lines: &str, zone: &str, enrolled: &str, expected: &[&str]) {
    let plan = plan(&sequence(lines), at(enrolled), &tz(zone), 7);
    let local: Vec<String> = plan
        .iter()
        .map(|due| {
            let instant = Instant::from_millisecond(due.0).unwrap();
            instant
                .to_zoned(tz(zone))
                .strftime("%m-%d %H:%M:%S%:z")
                .to_string()
        })
        .collect();
    assert_eq!(local, expected, "{lines}");
}

fn after_and_at(due: &[&str]) -> String {
    steps(&due.iter().map(|due| (*due).to_owned()).collect::<Vec<_>>())
}

#[test]
fn steps_are_due_so_long_after_the_start_or_at_a_local_time() {
    check(
        &after_and_at(&["after: 0s", "after: 10m", "at: { day: 1, time: \"09:00\" }"]),
        "Asia/Shanghai",
        "2026-03-01T12:00:00Z",
        &[
            "03-01 20:00:00+08:00",
            "03-01 20:10:00+08:00",
            "03-02 09:00:00+08:00",
        ],
    );
}

#[test]
fn a_time_that_is_over_comes_right_after_the_step_before_it() {
    check(
        &after_and_at(&["after: 0s", "at: { day: 0, time: \"09:00\" }", "after: 1h"]),
        "Asia/Shanghai",
        "2026-03-01T12:00:00Z",
        &[
            "03-01 20:00:00+08:00",
            "03-01 20:00:02+08:00",
            "03-01 21:00:00+08:00",
        ],
    );
}

#[test]
fn a_time_in_the_gap_is_its_end_and_one_in_the_overlap_is_the_first() {
    let lines = after_and_at(&["at: { day: 1, time: \"02:30\" }"]);
    check(
        &lines,
        "Europe/Berlin",
        "2026-03-28T11:00:00Z",
        &["03-29 03:00:00+02:00"],
    );
    check(
        &lines,
        "Europe/Berlin",
        "2026-10-24T10:00:00Z",
        &["10-25 02:30:00+02:00"],
    );
    // Cairo's clocks change at midnight, so the day begins at 01:00.
    let midnight = after_and_at(&["at: { day: 1, time: \"00:00\" }"]);
    check(
        &midnight,
        "Africa/Cairo",
        "2026-04-23T10:00:00Z",
        &["04-24 01:00:00+03:00"],
    );
    check(
        &lines,
        "Australia/Lord_Howe",
        "2026-10-03T01:00:00Z",
        &["10-04 02:30:00+11:00"],
    );
}

#[test]
fn quiet_hours_shift_to_their_end_and_keep_the_gap() {
    let quiet = "quiet_hours: { from: \"23:00\", to: \"08:00\" }\n";
    let lines = format!(
        "{quiet}{}",
        after_and_at(&["after: 0s", "after: 3h", "after: 4h"])
    );
    check(
        &lines,
        "Asia/Shanghai",
        "2026-03-01T13:00:00Z",
        &[
            "03-01 21:00:00+08:00",
            "03-02 08:00:00+08:00",
            "03-02 08:00:02+08:00",
        ],
    );
    let skip = lines.replace("\"08:00\" }", "\"08:00\", then: skip }");
    check(
        &skip,
        "Asia/Shanghai",
        "2026-03-01T13:00:00Z",
        &[
            "03-01 21:00:00+08:00",
            "03-02 00:00:00+08:00",
            "03-02 01:00:00+08:00",
        ],
    );
}

#[test]
fn a_step_that_answers_the_follow_comes_at_once_at_night_too() {
    let quiet = "quiet_hours: { from: \"23:00\", to: \"08:00\" }\n";
    check(
        &format!("{quiet}{}", after_and_at(&["after: 0s", "after: 10m"])),
        "Asia/Shanghai",
        "2026-03-01T16:00:00Z",
        &["03-02 00:00:00+08:00", "03-02 08:00:00+08:00"],
    );
}

/// The edges at one second before, at, and one second after.
#[test]
fn the_first_quiet_minute_is_quiet_and_the_last_instant_is_not() {
    let quiet = "quiet_hours: { from: \"23:00\", to: \"08:00\" }\n";
    let sequence = sequence(&format!("{quiet}{}", after_and_at(&["after: 0s"])));
    let zone = tz("Asia/Shanghai");
    let end = Some(at("2026-03-02T00:00:00Z"));
    for (instant, until) in [
        ("2026-03-01T14:59:59Z", None),
        ("2026-03-01T15:00:00Z", end),
        ("2026-03-01T15:00:01Z", end),
        ("2026-03-01T23:59:59Z", end),
        ("2026-03-02T00:00:00Z", None),
        ("2026-03-02T00:00:01Z", None),
    ] {
        assert_eq!(
            quiet_until(&sequence, &zone, at(instant)),
            until,
            "{instant}"
        );
    }
}

#[test]
fn a_night_that_ends_in_the_overlap_ends_once() {
    let quiet = "quiet_hours: { from: \"23:00\", to: \"02:30\" }\n";
    let sequence = sequence(&format!("{quiet}{}", after_and_at(&["after: 0s"])));
    let zone = tz("Europe/Berlin");
    let first = at("2026-10-25T00:30:00Z");
    assert_eq!(
        quiet_until(&sequence, &zone, at("2026-10-25T00:29:59Z")),
        Some(first)
    );
    // Local time is 02:00 for the second time, but the night is over.
    assert_eq!(
        quiet_until(&sequence, &zone, at("2026-10-25T01:00:00Z")),
        None
    );
}

#[test]
fn the_zone_is_the_sequences_then_the_accounts() {
    let mut sequence = sequence(&after_and_at(&["after: 0s"]));
    assert_eq!(zone(&sequence, "Asia/Tokyo"), tz("Asia/Tokyo"));
    sequence.timezone = Some("Europe/Berlin".to_owned());
    assert_eq!(zone(&sequence, "Asia/Tokyo"), tz("Europe/Berlin"));
}

#[test]
fn spreading_is_the_same_for_the_same_seed_and_leaves_the_greeting_alone() {
    let due = ["after: 0s", "after: 10m", "at: { day: 1, time: \"09:00\" }"];
    let sequence = sequence(&format!("spread: 10m\n{}", after_and_at(&due)));
    let start = at("2026-03-01T12:00:00Z");
    let nine = at("2026-03-02T01:00:00Z");
    let zone = tz("Asia/Shanghai");
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..1_000 {
        let first = plan(&sequence, start, &zone, seed);
        assert_eq!(first, plan(&sequence, start, &zone, seed));
        assert_eq!(first[0], start);
        assert!(first[2] >= nine && first[2] < nine.plus(Duration::from_secs(600)));
        seen.insert(first[2]);
    }
    assert!(seen.len() > 900, "only {} instants", seen.len());
}

#[test]
fn absurd_instants_give_a_plan_all_the_same() {
    let due = ["after: 0s", "after: 1d", "at: { day: 2, time: \"09:00\" }"];
    let quiet = "quiet_hours: { from: \"23:00\", to: \"08:00\" }\n";
    let sequence = sequence(&format!("{quiet}{}", after_and_at(&due)));
    for start in [
        i64::MIN,
        -1,
        0,
        2_147_483_648_000,
        253_402_300_799_000,
        i64::MAX,
    ] {
        let plan = plan(&sequence, Timestamp(start), &tz("America/New_York"), 1);
        assert_eq!(plan.len(), 3);
        assert!(plan.is_sorted() && plan[0].0 >= start);
    }
}

/// Around every change of every zone's clocks, each local time is found where it should be.
#[test]
fn every_change_of_every_zone_is_planned_around() {
    let lines = [
        "00:00", "00:30", "01:00", "01:30", "02:00", "02:30", "03:00", "23:30",
    ]
    .map(|time| {
        (
            time,
            sequence(&after_and_at(&[&format!(
                "at: {{ day: 2, time: \"{time}\" }}"
            )])),
        )
    });
    let (from, to) = (at("2024-01-01T00:00:00Z"), at("2031-01-01T00:00:00Z"));
    let mut changes = 0;
    for name in jiff::tz::db().available() {
        let zone = tz(name.as_str());
        let start = Instant::from_millisecond(from.0).unwrap();
        let within = zone
            .following(start)
            .take_while(|change| change.timestamp().as_millisecond() < to.0);
        for change in within {
            changes += 1;
            let change = change.timestamp().as_millisecond();
            for (time, sequence) in &lines {
                let enrolled = Timestamp(change - 48 * HOUR);
                let due = plan(sequence, enrolled, &zone, 0)[0];
                let local = zone.to_datetime(Instant::from_millisecond(due.0).unwrap());
                let found = local.strftime("%H:%M").to_string();
                // In a gap, the instant is the change itself; else the wall shows the time,
                // for the first time on its date.
                assert!(found == *time || due.0 == change, "{name:?} {time} {local}");
                let again = zone.to_ambiguous_timestamp(local);
                let first = again.earlier().unwrap().as_millisecond();
                assert!(due.0 == first || due.0 == change, "{name:?} {time} {local}");
            }
        }
    }
    assert!(changes > 1_000, "only {changes} changes");
}

fn zones() -> Vec<String> {
    jiff::tz::db()
        .available()
        .map(|name| name.to_string())
        .collect()
}

proptest! {
    #[test]
    fn plans_never_go_back_and_never_fall_into_the_night(
        zone in proptest::sample::select(zones()),
        start in at("2024-01-01T00:00:00Z").0..at("2031-01-01T00:00:00Z").0,
        spans in proptest::collection::vec(0_u64..200_000, 1..6),
        day in 0_u16..4,
        minute in 0_u16..1_440,
        night in (0_u16..1_440, 1_u16..1_440),
        spread in 0_u16..3_600,
        seed: u64,
    ) {
        let clock = |minute: u16| format!("\"{:02}:{:02}\"", minute / 60, minute % 60);
        let mut spans = spans;
        spans.sort_unstable();
        let mut due: Vec<String> = spans.iter().map(|span| format!("after: {span}s")).collect();
        let last = format!("at: {{ day: {}, time: {} }}", day + 3, clock(minute));
        due.push(last);
        let to = (night.0 + night.1) % 1_440;
        let sequence = sequence(&format!(
            "spread: {spread}s\nquiet_hours: {{ from: {}, to: {} }}\n{}",
            clock(night.0), clock(to), steps(&due),
        ));
        let zone = tz(&zone);
        let start = Timestamp(start);
        let plan = plan(&sequence, start, &zone, seed);
        prop_assert_eq!(plan.len(), due.len());
        prop_assert!(plan[0] >= start);
        for pair in plan.windows(2) {
            prop_assert!(pair[1].since(pair[0]) >= sequence.min_gap);
        }
        for (due, step) in plan.into_iter().zip(&sequence.steps) {
            let answers = step.answers() && due == start;
            prop_assert!(answers || quiet_until(&sequence, &zone, due).is_none());
        }
    }
}
