//! What the platform permits: windows and quotas, held steps, and whose word counts.

use std::collections::BTreeMap;

use dripwheel::journey::event::Event;
use dripwheel::journey::outcome::Outcome;
use dripwheel::journey::parse::parse_stored;
use dripwheel::policy::compile::{Way, compile};
use dripwheel::policy::profile;
use dripwheel::sender::platform::AnswerClass;
use jiff::tz::TimeZone;

use super::{WELCOME, sequence};
use crate::support::{Town, hours, minutes, seconds};

const STEPS: [(&str, &str); 3] = [("0s", "one"), ("30s", "two"), ("5m", "three")];

async fn town_of_today(settings: &str, steps: &[(&str, &str)]) -> Town {
    let welcome = sequence(settings, steps);
    Town::plan().profile("wechat-2023").open(&[&welcome]).await
}

#[tokio::test]
async fn a_step_after_the_grants_minute_is_held_until_the_follower_writes() {
    let town = town_of_today("", &STEPS).await;
    town.follow("ann").await;
    town.pass(hours(3)).await;
    assert_eq!(town.heard("ann"), ["one", "two"]);
    town.says("ann", "hello?").await;
    town.quiet().await;
    assert_eq!(town.heard_after("ann"), [seconds(0), seconds(30), hours(3)]);
    assert_eq!(
        town.outcomes("ann").await,
        [Outcome::Sent, Outcome::Sent, Outcome::Held, Outcome::Sent]
    );
    town.end().await;
}

#[tokio::test]
async fn a_held_step_expires_at_its_deadline() {
    let town = town_of_today("expire_after: 1h", &STEPS).await;
    town.follow("ann").await;
    town.pass(hours(2)).await;
    assert_eq!(
        town.outcomes("ann").await[2..],
        [Outcome::Held, Outcome::Expired]
    );
    town.says("ann", "hello?").await;
    town.pass(hours(1)).await;
    assert_eq!(town.heard("ann"), ["one", "two"]);
    town.end().await;
}

#[tokio::test]
async fn a_closed_grant_skips_the_step_where_the_sequence_says_so() {
    let town = town_of_today("closed: skip", &STEPS).await;
    town.follow("ann").await;
    town.pass(hours(1)).await;
    assert_eq!(
        town.outcomes("ann").await,
        [Outcome::Sent, Outcome::Sent, Outcome::Skipped]
    );
    town.end().await;
}

#[tokio::test]
async fn a_spent_quota_holds_the_next_step() {
    let steps = [("0s", "1"), ("5s", "2"), ("10s", "3"), ("15s", "4")];
    let town = town_of_today("", &steps.map(|(at, _)| (at, "word"))).await;
    town.follow("ann").await;
    town.pass(minutes(2)).await;
    assert_eq!(town.heard("ann").len(), 3);
    town.event("ann", Event::Clicked { key: "k".into() }).await;
    town.quiet().await;
    assert_eq!(town.heard("ann").len(), 4);
    town.end().await;
}

#[tokio::test]
async fn held_steps_of_several_sequences_go_in_order_and_apart() {
    let first = sequence("min_gap: 5s", &[("5m", "a"), ("6m", "b")]);
    let second = first
        .replace("welcome", "second")
        .replace("text: a", "text: c")
        .replace("text: b", "text: d");
    let town = Town::plan()
        .profile("wechat-2023")
        .open(&[&first, &second])
        .await;
    town.follow("ann").await;
    town.pass(hours(1)).await;
    assert_eq!(town.heard("ann"), [""; 0]);
    town.says("ann", "hi").await;
    town.pass(hours(1)).await;
    let mut heard = town.heard("ann");
    let at = |text: &str| heard.iter().position(|one| one == text).unwrap();
    assert!(at("a") < at("b") && at("c") < at("d"));
    heard.sort();
    assert_eq!(heard, ["a", "b", "c", "d"]);
    let instants = town.heard_after("ann");
    assert!(
        instants
            .windows(2)
            .all(|pair| pair[1] - pair[0] >= seconds(5))
    );
    town.end().await;
}

/// Four sequences at once, three messages granted: one is held, until one of the three is given back.
#[tokio::test]
async fn a_message_that_is_given_back_releases_a_step_that_lacked_it() {
    let names = ["a", "b", "c", "d"];
    let sequences = names.map(|name| {
        let one = sequence("min_gap: 0s", &[("1s", name)]);
        one.replace("welcome", name)
    });
    let sequences: Vec<_> = sequences.iter().map(String::as_str).collect();
    let town = Town::plan().profile("wechat-2023").open(&sequences).await;
    town.line.hang("ann");
    town.line.answer("ann", [AnswerClass::Dropped]);
    town.follow("ann").await;
    town.advance(seconds(1));
    town.called("ann", 3).await;
    town.line.let_go("ann");
    town.pass(seconds(30)).await;
    assert_eq!(town.heard("ann").len(), 3);
    town.end().await;
}

/// Clocks of two companies never agree to the second.
#[tokio::test]
async fn a_platform_clock_ahead_of_ours_does_not_close_its_own_grant() {
    let town = Town::open(&[WELCOME]).await;
    let mut arrival = town.arrival("ann", Event::Followed { scene: None });
    arrival.created_at = arrival.created_at.plus(seconds(3));
    town.take("main", arrival).await;
    town.pass(hours(24)).await;
    assert_eq!(town.heard("ann"), ["hello", "guide", "offer"]);
    assert_eq!(town.outcomes("ann").await, [Outcome::Sent; 3]);
    town.end().await;
}

#[tokio::test]
async fn a_refusal_closes_the_grant_and_holds_the_step_for_the_next_event() {
    let town = Town::open(&[WELCOME]).await;
    town.line.answer("ann", [AnswerClass::GrantClosed]);
    town.follow("ann").await;
    town.pass(hours(1)).await;
    assert_eq!(town.calls("ann").len(), 1);
    assert_eq!(town.outcomes("ann").await, [Outcome::Held]);
    town.says("ann", "hi").await;
    town.pass(hours(24)).await;
    assert_eq!(town.heard("ann"), ["hello", "guide", "offer"]);
    town.end().await;
}

/// The refusal speaks of the moment of the call; what the follower did since is newer.
#[tokio::test]
async fn a_refusal_does_not_close_a_grant_that_was_opened_after_the_call() {
    let town = Town::open(&[WELCOME]).await;
    town.line.answer("ann", [AnswerClass::GrantClosed]);
    town.line.hang("ann");
    town.follow("ann").await;
    town.called("ann", 1).await;
    town.advance(seconds(3));
    town.says("ann", "hi").await;
    town.line.let_go("ann");
    town.pass(hours(24)).await;
    assert_eq!(town.heard("ann"), ["hello", "guide", "offer"]);
    town.end().await;
}

#[tokio::test]
async fn an_old_refusal_does_not_mute_who_has_just_written() {
    let town = Town::open(&[WELCOME]).await;
    town.line.answer("ann", [AnswerClass::Muted]);
    town.line.hang("ann");
    town.follow("ann").await;
    town.called("ann", 1).await;
    town.advance(seconds(3));
    town.says("ann", "hi").await;
    town.line.let_go("ann");
    town.pass(hours(24)).await;
    assert_eq!(town.heard("ann"), ["hello", "guide", "offer"]);
    town.end().await;
}

#[tokio::test]
async fn an_old_refusal_does_not_send_away_who_has_just_come_back() {
    let welcome = sequence("reenter: always", &[("0s", "hello"), ("1m", "guide")]);
    let town = Town::open(&[&welcome]).await;
    town.line.answer("ann", [AnswerClass::Unsubscribed]);
    town.line.hang("ann");
    town.follow("ann").await;
    town.called("ann", 1).await;
    town.advance(seconds(2));
    town.unfollow("ann").await;
    town.advance(seconds(2));
    town.follow("ann").await;
    town.line.let_go("ann");
    town.pass(hours(1)).await;
    assert_eq!(town.heard("ann"), ["hello", "guide"]);
    town.end().await;
}

#[tokio::test]
async fn a_last_call_comes_before_the_grant_closes() {
    let steps = [("0s", "hello"), ("49h", "offer")];
    let town = town_of_today("last_call: 3h\nhorizon: 3d", &steps).await;
    town.follow("ann").await;
    town.pass(minutes(10)).await;
    town.says("ann", "hi").await;
    town.pass(hours(72)).await;
    // The message's 48 hours less two minutes of margin and five seconds of lead.
    let early = minutes(10) + hours(48) - minutes(2) - seconds(5);
    assert_eq!(town.heard_after("ann"), [seconds(0), early]);
    let story = town.story("ann").await;
    assert!(story.contains("before it was due: its grant"), "{story}");
    town.end().await;
}

#[tokio::test]
async fn a_later_message_puts_a_pulled_step_back_where_it_was_planned() {
    let steps = [("0s", "hello"), ("49h", "offer")];
    let town = town_of_today("last_call: 3h\nhorizon: 3d", &steps).await;
    town.follow("ann").await;
    town.says("ann", "hi").await;
    town.pass(hours(20)).await;
    let story = town.story("ann").await;
    assert!(story.contains("pulled forward to"), "{story}");
    town.says("ann", "again").await;
    town.pass(hours(72)).await;
    assert_eq!(town.heard_after("ann"), [seconds(0), hours(49)]);
    town.end().await;
}

/// Three messages, of which two are planned for the sequence that the follow began: what a person
/// starts by hand gets one, and the rest after them or with the next grant.
#[tokio::test]
async fn what_a_person_starts_leaves_planned_steps_their_messages() {
    let drip = sequence("", &[("20s", "one"), ("30s", "two")]);
    let by_hand = "
sequence: hand
trigger: api
steps:
  - { id: a, after: 0s, say: { text: a } }
  - { id: b, after: 4s, say: { text: b } }
";
    let town = Town::plan()
        .profile("wechat-2023")
        .open(&[&drip, by_hand])
        .await;
    town.follow("ann").await;
    town.enroll("ann", "hand").await;
    town.pass(hours(1)).await;
    assert_eq!(town.heard("ann"), ["a", "one", "two"]);
    town.says("ann", "hi").await;
    town.pass(minutes(1)).await;
    assert_eq!(town.heard("ann"), ["a", "one", "two", "b"]);
    town.end().await;
}

/// What is foretold of a follower who only follows is what happens to one.
#[tokio::test]
async fn what_check_foretells_is_what_happens() {
    let plain = [
        ("0s", "a"),
        ("20s", "b"),
        ("50s", "c"),
        ("54s", "d"),
        ("9m", "e"),
    ];
    let called = [("0s", "a"), ("49h", "b"), ("51h", "c"), ("60h", "d")];
    for (profile, settings, steps) in [
        ("wechat-2023", "", &plain[..]),
        ("wechat-2023", "min_gap: 10s", &plain[..]),
        ("wechat-48h", "", &plain[..]),
        ("wechat-48h", "last_call: 4h\nhorizon: 4d", &called[..]),
        ("wecom-kf", "", &plain[..]),
    ] {
        let text = sequence(&format!("{settings}\nclosed: skip"), steps);
        let parsed = parse_stored(&text, &BTreeMap::new()).unwrap();
        let rules = profile::named(profile).unwrap();
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let compiled = compile(&parsed, &rules, &zone, false);
        let foretold: Vec<_> = compiled
            .steps
            .iter()
            .filter(|step| matches!(step.ways[..], [Way::Carried { .. }]))
            .map(|step| step.earliest)
            .collect();
        let town = Town::plan().profile(profile).open(&[&text]).await;
        town.follow("ann").await;
        town.pass(hours(80)).await;
        assert_eq!(town.heard_after("ann"), foretold, "{profile} {settings}");
        town.end().await;
    }
}
