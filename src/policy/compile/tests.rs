//! What compiles to what, and that the server would do the same.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::journey::parse::parse_stored;
use crate::policy::profile::named;

fn sequence(text: &str) -> Sequence {
    parse_stored(text, &BTreeMap::new()).expect(text)
}

fn after(settings: &str, spans: &[&str]) -> Sequence {
    let mut text = format!("sequence: a\ntrigger: follow\nhorizon: 9d\n{settings}\nsteps:\n");
    for (n, span) in spans.iter().enumerate() {
        text.push_str(&format!(
            "  - {{ id: s{n}, after: {span}, say: {{ text: a }} }}\n"
        ));
    }
    sequence(&text)
}

fn zone() -> TimeZone {
    TimeZone::get("Asia/Shanghai").expect("is known")
}

/// The only way of each step, without a passive reply.
fn ways(sequence: &Sequence, profile: &str) -> Vec<Way> {
    let profile = named(profile).expect("is shipped");
    let compiled = compile(sequence, &profile, &zone(), false);
    let only = |step: Carriage| {
        assert_eq!(step.ways.len(), 1, "{step:?}");
        step.ways.into_iter().next().expect("has one")
    };
    compiled.steps.into_iter().map(only).collect()
}

fn message(opener: Opener) -> Way {
    Way::Carried {
        carrier: Carrier::CustomerMessage,
        grant: Some(opener),
        pulled: false,
    }
}

fn acts(shortage: Shortage) -> Way {
    let openers = vec![Opener::Message, Opener::Clicked, Opener::Scanned];
    Way::Acts(openers, shortage)
}

#[test]
fn the_edges_of_a_grant_decide_to_the_millisecond() {
    for (span, way) in [
        ("54s999ms", message(Opener::Followed)),
        ("55s", acts(Shortage::Closed)),
        ("60s", acts(Shortage::Closed)),
    ] {
        assert_eq!(
            ways(&after("", &["0s", span]), "wechat-2023")[1],
            way,
            "{span}"
        );
    }
    let classic = ways(&after("", &["0s", "47h57m", "47h58m"]), "wechat-48h");
    assert_eq!(classic[1], message(Opener::Followed));
    assert_eq!(classic[2], acts(Shortage::Closed));
}

#[test]
fn steps_take_the_quota_from_those_behind_them() {
    let four = after("min_gap: 0s", &["0s", "1s", "2s", "3s"]);
    let today = ways(&four, "wechat-2023");
    assert_eq!(today[2], message(Opener::Followed));
    assert_eq!(today[3], acts(Shortage::Spent));
    // The answer to the event itself takes nothing.
    let profile = named("wechat-2023").expect("is shipped");
    let passive = compile(&four, &profile, &zone(), true);
    assert_eq!(passive.steps[3].ways, [message(Opener::Followed)]);
    let answer = Way::Carried {
        carrier: Carrier::PassiveReply,
        grant: None,
        pulled: false,
    };
    assert_eq!(passive.steps[0].ways, [answer]);
}

#[test]
fn what_only_a_person_begins_needs_the_follower() {
    let api = after("", &["0s"]);
    let api = Sequence {
        trigger: Trigger::Api,
        ..api
    };
    assert_eq!(ways(&api, "wechat-48h"), [acts(Shortage::NothingOpened)]);
    let only_message = Way::Acts(vec![Opener::Message], Shortage::NothingOpened);
    assert_eq!(ways(&after("", &["0s"]), "wecom-kf"), [only_message]);
}

#[test]
fn other_carriers_take_what_no_grant_takes_where_the_profile_has_them() {
    let form = "{ template: t, data: { thing1: x } }";
    for (list, carrier) in [
        (
            format!("{{ subscription_notice: {form} }}"),
            Carrier::SubscriptionNotice,
        ),
        (format!("{{ template: {form} }}"), Carrier::Template),
        ("mass_send".to_owned(), Carrier::MassSend),
    ] {
        let two = after(&format!("closed: [{list}]"), &["0s", "10m"]);
        let today = ways(&two, "wechat-2023");
        assert_eq!(today, [message(Opener::Followed), Way::Fallback(carrier)]);
        let kf = ways(&two, "wecom-kf");
        assert!(matches!(kf[1], Way::Acts(..)), "{kf:?}");
    }
}

#[test]
fn what_can_never_go_is_an_error() {
    let never = |sequence: &Sequence, profile: &Profile| {
        let compiled = compile(sequence, &Arc::new(profile.clone()), &zone(), false);
        let last = compiled.steps.last().expect("has steps").clone();
        last.never().map(str::to_owned)
    };
    let today = named("wechat-2023").expect("is shipped");
    let expired = never(&after("expire_after: 0s", &["0s"]), &today);
    assert!(expired.expect("expires").contains("expire_after"));
    let gap = after(
        "min_gap: 10m\nexpire_after: 5m\nquiet_hours: { from: \"03:00\", to: \"04:00\" }",
        &["0s", "0s"],
    );
    assert_eq!(never(&gap, &today), None, "the plan keeps the gap itself");
    let night = "sequence: a\ntrigger: follow\nquiet_hours: { from: \"01:00\", to: \"05:00\", then: skip }\n\
        steps: [{ id: x, at: { day: 1, time: \"03:00\" }, say: { text: a } }]\n";
    let quiet = never(&sequence(night), &named("wechat-48h").expect("is shipped"));
    assert!(quiet.expect("is left out").contains("quiet hours"));
    let mut only_follow = (*today).clone();
    only_follow
        .grants
        .retain(|rule| rule.kind == crate::policy::grant::Kind::Act);
    only_follow.grants[0].opened_by = vec![Opener::Followed];
    let nothing = never(&after("", &["0s", "10m"]), &only_follow);
    assert!(
        nothing
            .expect("has no opener")
            .contains("nothing that a follower can do")
    );
    let mut mute = (*today).clone();
    mute.carriers.customer_message = None;
    assert!(
        never(&after("", &["0s"]), &mute)
            .expect("has none")
            .contains("no customer messages")
    );
    mute.grants.clear();
    assert!(never(&after("", &["0s"]), &mute).is_some());
}

#[test]
fn without_a_window_everything_goes() {
    let mut line = (*named("wechat-48h").expect("is shipped")).clone();
    line.grants.clear();
    let compiled = compile(&after("", &["0s", "8d"]), &Arc::new(line), &zone(), false);
    let free = Way::Carried {
        carrier: Carrier::CustomerMessage,
        grant: None,
        pulled: false,
    };
    assert!(
        compiled
            .steps
            .iter()
            .all(|step| step.ways == [free.clone()])
    );
}

#[test]
fn a_last_call_and_a_forestalled_night_are_foreseen() {
    let late = after("last_call: 2h", &["0s", "49h"]);
    let profile = named("wechat-48h").expect("is shipped");
    let compiled = compile(&late, &profile, &zone(), false);
    let pulled = Way::Carried {
        carrier: Carrier::CustomerMessage,
        grant: Some(Opener::Followed),
        pulled: true,
    };
    assert_eq!(compiled.steps[1].ways, std::slice::from_ref(&pulled));
    let early = Duration::from_secs(48 * 3600 - 120 - 5);
    assert_eq!(
        (compiled.steps[1].earliest, compiled.steps[1].latest),
        (early, early)
    );
    let night = after(
        "quiet_hours: { from: \"23:00\", to: \"08:00\" }",
        &["0s", "40h"],
    );
    let compiled = compile(&night, &profile, &zone(), false);
    // By the time of day: as planned, or before the night when the morning would be too late.
    let ways = &compiled.steps[1].ways;
    assert!(
        ways.contains(&pulled) && ways.contains(&message(Opener::Followed)),
        "{ways:?}"
    );
    assert_eq!(compiled.steps[1].acts(), None);
}

#[test]
fn a_condition_is_taken_to_hold() {
    let text = "sequence: a\ntrigger: follow\nsteps:\n\
        \x20 - { id: x, after: 0s, when: \"'vip' in follower.tags\", say: { text: a } }\n";
    assert_eq!(
        ways(&sequence(text), "wechat-2023"),
        [message(Opener::Followed)]
    );
}

proptest! {
    /// What compiles as carried without a pull is taken by the rules themselves, written down here a
    /// second time: inside the window less its margin, and within the quota.
    #[test]
    fn carried_means_that_the_rules_carry_it(
        mut spans in prop::collection::vec(0u64..70, 1..7),
        classic: bool,
    ) {
        spans.sort_unstable();
        let written: Vec<_> = spans.iter().map(|span| format!("{span}s")).collect();
        let written: Vec<_> = written.iter().map(String::as_str).collect();
        let sequence = after("min_gap: 1s", &written);
        let name = if classic { "wechat-48h" } else { "wechat-2023" };
        let (quota, end) = if classic { (20, 172_680) } else { (3, 55) };
        let (mut sent, mut free_at) = (0, 0);
        for (way, span) in ways(&sequence, name).into_iter().zip(spans) {
            let at = span.max(free_at);
            let carried = at < end && sent < quota;
            prop_assert_eq!(matches!(way, Way::Carried { .. }), carried, "at {} s: {:?}", at, way);
            sent += u64::from(carried);
            free_at = at + 1;
        }
    }
}
