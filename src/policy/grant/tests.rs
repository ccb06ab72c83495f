//! The ledger against the profiles: every pair of events at its edges, and any run of events.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::policy::profile::{named, shipped};

fn event(n: u8) -> Event {
    match n % 5 {
        0 => Event::Followed { scene: None },
        1 => Event::Scanned { scene: "s".into() },
        2 => Event::Clicked { key: "k".into() },
        3 => Event::Unfollowed,
        _ => Event::MessageReceived {
            message_kind: "text".into(),
            text: "1".into(),
        },
    }
}

fn profile(name: &str) -> Profile {
    (*named(name).expect("is shipped")).clone()
}

fn after(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1000)
}

#[test]
fn a_follow_grants_three_messages_for_one_minute_today() {
    let profile = profile("wechat-2023");
    let mut grants = Grants::default();
    grants.open(&profile, &event(0), Timestamp(0));
    // Five seconds before the end a call could come too late.
    for (at, usable) in [(-1, false), (0, true), (54_999, true), (55_000, false)] {
        let found = grants.usable(&profile, Timestamp(at)).is_some();
        assert_eq!(found, usable, "at {at} ms");
    }
    assert!(grants.0[0].permits(Timestamp(59_999)) && !grants.0[0].permits(Timestamp(60_000)));
    for _ in 0..3 {
        let kind = grants.usable(&profile, Timestamp(10));
        grants.spend(kind.expect("quota is left"));
    }
    assert_eq!(grants.usable(&profile, Timestamp(10)), None);
}

/// What a table of the platform's rules says by itself: quota and end, in seconds, of what each event
/// opens, and how long before the end we stop.
fn table(profile: &str, n: u8) -> Option<(u16, i64, i64)> {
    match (profile, n) {
        (_, 3) => None,
        ("wechat-48h", _) => Some((20, 172_800, 120)),
        (_, 4) => Some((5, 172_800, 120)),
        _ => Some((3, 60, 5)),
    }
}

/// Every event, every later event, at the second before, of and after each end: one window, which an
/// event lifts to its own quota and end and never makes smaller.
#[test]
fn every_pair_of_events_grants_what_the_table_says_at_every_edge() {
    let mut edges = 0;
    for name in ["wechat-48h", "wechat-2023"] {
        let profile = profile(name);
        for (first, second) in (0..5).flat_map(|a| (0..5).map(move |b| (a, b))) {
            for gap in [
                0, 30, 54, 55, 56, 59, 60, 61, 172_679, 172_680, 172_799, 172_800,
            ] {
                let mut grants = Grants::default();
                grants.open(&profile, &event(first), after(0));
                grants.open(&profile, &event(second), after(gap));
                let mut window = table(name, first).map(|(quota, end, _)| (quota, end));
                if let Some((quota, lasts, _)) = table(name, second) {
                    let running = window.filter(|(_, end)| gap < *end);
                    let (left, end) = running.unwrap_or((0, 0));
                    window = Some((quota.max(left), end.max(gap + lasts)));
                }
                let Some((quota, end)) = window else {
                    assert_eq!(grants, Grants::default());
                    continue;
                };
                // The margin is that of the rule which made it so long.
                let length = end
                    - if table(name, second).is_some() {
                        gap
                    } else {
                        0
                    };
                let margin = if name == "wechat-48h" || length > 60 {
                    120
                } else {
                    5
                };
                for (at, open) in [
                    (end - margin - 1, true),
                    (end - margin, false),
                    (end - margin + 1, false),
                    (end - 1, false),
                    (end, false),
                    (end + 1, false),
                ] {
                    if at < gap {
                        continue;
                    }
                    edges += 1;
                    let left = grants.usable(&profile, after(at)).map(|kind| {
                        let grant = grants.of(kind).expect("is named");
                        grant.left()
                    });
                    let said = format!("{name}: {first}, {second} after {gap} s, at {at} s");
                    assert_eq!(left, open.then_some(quota), "{said}");
                }
            }
        }
    }
    assert!(edges > 2_000, "{edges}");
}

#[test]
fn kinds_that_stand_side_by_side_leave_each_other_alone() {
    let profile = Profile {
        combine: Combine::SideBySide,
        ..profile("wechat-2023")
    };
    let mut grants = Grants::default();
    grants.open(&profile, &event(4), after(0));
    grants.open(&profile, &event(2), after(1));
    assert_eq!(grants.usable(&profile, after(1)), Some(Kind::Act));
    assert_eq!(grants.usable(&profile, after(7200)), Some(Kind::Message));
    let left: u16 = grants.0.iter().map(Grant::left).sum();
    assert_eq!(left, 8);
}

#[test]
fn one_window_takes_over_what_another_profile_left() {
    let beside = Profile {
        combine: Combine::SideBySide,
        ..profile("wechat-2023")
    };
    let mut grants = Grants::default();
    grants.open(&beside, &event(4), after(0));
    grants.open(&beside, &event(2), after(1));
    let one = profile("wechat-2023");
    grants.open(&one, &event(2), after(2));
    let open: Vec<_> = grants
        .0
        .iter()
        .filter(|one| one.permits(after(2)))
        .collect();
    assert_eq!(open.len(), 1, "{grants:?}");
    assert_eq!((open[0].left(), open[0].closes_at), (5, after(172_800)));
}

#[test]
fn a_count_that_is_used_up_keeps_the_end_and_a_window_that_is_closed_does_not() {
    let profile = profile("wechat-2023");
    let mut grants = Grants::default();
    grants.open(&profile, &event(4), after(0));
    let mut closed = grants.clone();
    grants.exhaust(after(10));
    assert_eq!(grants.usable(&profile, after(20)), None);
    grants.open(&profile, &event(2), after(30));
    assert!(grants.usable(&profile, after(3600)).is_some());
    closed.close(after(10), after(20));
    closed.open(&profile, &event(2), after(30));
    assert_eq!(closed.usable(&profile, after(3600)), None);
    // What was opened after the call, the platform has not spoken of.
    closed.exhaust(after(29));
    assert!(closed.usable(&profile, after(40)).is_some());
}

#[test]
fn four_mass_sends_a_calendar_month_in_the_accounts_zone() {
    let profile = profile("wechat-2023");
    let mass = profile.carriers.mass_send.expect("has mass sends");
    let zone = TimeZone::get("Asia/Shanghai").expect("is known");
    let at = |text: &str| {
        let instant: jiff::Timestamp = text.parse().expect("is an instant");
        Timestamp(instant.as_millisecond())
    };
    let late = at("2026-01-31T15:59:59Z");
    let mut grants = Grants::default();
    for _ in 0..4 {
        assert!(grants.permits_mass(&mass, late));
        grants.spend_mass(&mass, &zone, late);
    }
    assert!(!grants.permits_mass(&mass, late));
    grants.refund(Kind::Mass, late);
    assert!(grants.permits_mass(&mass, late));
    grants.spend_mass(&mass, &zone, late);
    // February begins at 16:00 UTC of January there.
    let next = at("2026-01-31T16:00:00Z");
    assert!(grants.permits_mass(&mass, next));
    grants.spend_mass(&mass, &zone, next);
    let month = grants.of(Kind::Mass).expect("has begun");
    assert_eq!(
        (month.opens_at, month.closes_at),
        (next, at("2026-02-28T16:00:00Z"))
    );
    // A month of mass sends is no permission for anything else, and no refusal closes it.
    assert_eq!(grants.usable(&profile, next), None);
    grants.close(next, next);
    assert!(grants.permits_mass(&mass, next));
}

/// What the platform would allow, written without looking at the ledger: for each message sent, some
/// event's window has to cover it, and no window (nor the one that it merged into) gives more than its
/// quota.
#[derive(Default)]
struct Platform {
    /// One window: end and messages left.
    window: Option<(i64, i64)>,
    /// One window for each rule of a profile whose kinds stand side by side.
    beside: std::collections::HashMap<Kind, (i64, i64)>,
}

impl Platform {
    fn event(&mut self, profile: &Profile, opener: Opener, at: i64) {
        for rule in profile.opened_by(opener) {
            let slot = match profile.combine {
                Combine::Widest => self.window.insert(self.window.unwrap_or((at, 0))),
                Combine::SideBySide => self.beside.entry(rule.kind).or_insert((at, 0)),
            };
            let (end, left) = *slot;
            let left = if at < end { left } else { 0 };
            let end = end.max(at + crate::clock::millis(rule.lasts));
            *slot = (end, left.max(i64::from(rule.quota)));
        }
    }

    /// Whether it takes a message that arrives `lag` later.
    fn takes(&mut self, kind: Kind, combine: Combine, arrives: i64) -> bool {
        let slot = match combine {
            Combine::Widest => self.window.as_mut(),
            Combine::SideBySide => self.beside.get_mut(&kind),
        };
        let Some((end, left)) = slot else {
            return false;
        };
        let taken = arrives < *end && *left > 0;
        *left -= i64::from(taken);
        taken
    }
}

proptest! {
    /// Whatever happens, the platform takes every message that the ledger allows, even one that is
    /// under way for as long as the margin; refunds and corrections never add to it.
    #[test]
    fn the_ledger_never_allows_more_than_the_profile(
        steps in prop::collection::vec((0u8..8, 0i64..90_000, 0i64..5_000), 1..80),
        beside: bool,
    ) {
        for shipped in shipped() {
            let mut profile = (**shipped).clone();
            if beside {
                profile.combine = Combine::SideBySide;
            }
            let (mut grants, mut platform) = (Grants::default(), Platform::default());
            let mut now = 0;
            for (n, pause, lag) in &steps {
                now += pause;
                match n {
                    // Refused although the ledger allowed it: the platform took nothing.
                    5 => {
                        if let Some(kind) = grants.usable(&profile, Timestamp(now)) {
                            grants.spend(kind);
                            grants.refund(kind, Timestamp(now));
                        }
                    }
                    6 => grants.close(Timestamp(now), Timestamp(now)),
                    7 => grants.exhaust(Timestamp(now)),
                    n => {
                        let event = event(*n);
                        grants.open(&profile, &event, Timestamp(now));
                        platform.event(&profile, Opener::of(&event), now);
                    }
                }
                for _ in 0..lag % 4 {
                    let Some(kind) = grants.usable(&profile, Timestamp(now)) else { break };
                    grants.spend(kind);
                    prop_assert!(
                        platform.takes(kind, profile.combine, now + lag),
                        "{} {kind:?} at {now}", profile.name
                    );
                }
            }
        }
    }
}

/// A click overtakes the message before it: the window is as long as the message makes it, with no
/// more than is surely left.
#[test]
fn an_overtaken_event_moves_the_end_and_adds_no_message() {
    let profile = profile("wechat-2023");
    let mut grants = Grants::default();
    grants.open(&profile, &event(2), after(1));
    let mut refused = grants.clone();
    grants.open(&profile, &event(4), after(0));
    let window = grants.0[0];
    assert_eq!((window.left(), window.closes_at), (3, after(172_800)));
    // Unless the platform has refused since.
    refused.close(after(2), after(3));
    refused.open(&profile, &event(4), after(0));
    assert_eq!(refused.0[0].closes_at, after(3));
    let before = grants.clone();
    grants.open(&profile, &event(0), after(0));
    assert_eq!(grants, before);
}

#[test]
fn kinds_and_openers_are_stored_under_numbers_that_stay() {
    for (kind, number) in [(Kind::Act, 1), (Kind::Message, 2), (Kind::Mass, 3)] {
        assert_eq!(kind.number(), number);
        assert_eq!(Kind::from_number(number), Some(kind));
    }
    assert_eq!(Opener::named("other"), None);
    assert_eq!(Opener::named("scanned"), Some(Opener::Scanned));
    assert_eq!(
        Duration::from_secs(60),
        profile("wechat-2023").grants[0].lasts
    );
}
