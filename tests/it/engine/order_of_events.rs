//! Events that come late, twice, in the wrong order or with an absurd instant.

use std::time::Duration;

use dripwheel::clock::Timestamp;
use dripwheel::journey::event::Event;
use dripwheel::journey::outcome::Outcome;

use super::{ONE, WELCOME, sequence};
use crate::support::{Town, hours, minutes, seconds};

fn followed() -> Event {
    Event::Followed { scene: None }
}

fn other() -> Event {
    Event::Other {
        name: "LOCATION".into(),
    }
}

#[tokio::test]
async fn a_follow_that_an_unfollow_overtook_begins_nothing() {
    let town = Town::open(&[ONE]).await;
    town.unfollow("ann").await;
    town.late_event("ann", followed(), seconds(5)).await;
    town.pass(hours(1)).await;
    assert_eq!(town.passages("ann").await, 0);
    assert_eq!(town.heard("ann"), [""; 0]);
    town.end().await;
}

#[tokio::test]
async fn an_unfollow_that_a_new_follow_overtook_ends_nothing() {
    let town = Town::open(&[ONE]).await;
    town.follow("ann").await;
    town.late_event("ann", Event::Unfollowed, seconds(5)).await;
    town.pass(hours(1)).await;
    assert_eq!(town.heard("ann"), ["hello"]);
    town.end().await;
}

/// The platform counts seconds: in a tie, staying silent is the smaller mistake.
#[tokio::test]
async fn follow_unfollow_follow_within_one_second_leaves_nobody_bothered() {
    for rule in ["never", "always", "after 1h"] {
        let welcome = sequence(&format!("reenter: {rule}"), &[("10s", "hello")]);
        let town = Town::open(&[&welcome]).await;
        for event in [followed(), Event::Unfollowed, followed()] {
            town.event("ann", event).await;
        }
        town.pass(hours(1)).await;
        assert_eq!(town.heard("ann"), [""; 0], "reenter: {rule}");
        // The next act shows that the person is there.
        town.unfollow("ann").await;
        town.pass(seconds(1)).await;
        town.follow("ann").await;
        town.pass(hours(1)).await;
        let expected = usize::from(rule != "never");
        assert_eq!(town.heard("ann").len(), expected, "reenter: {rule}");
        town.end().await;
    }
}

#[tokio::test]
async fn a_follow_that_comes_after_the_followers_first_message_still_begins() {
    let town = Town::open(&[WELCOME]).await;
    town.says("ann", "hi").await;
    town.late_event("ann", followed(), seconds(5)).await;
    town.pass(hours(24)).await;
    assert_eq!(town.heard("ann"), ["hello", "guide", "offer"]);
    town.end().await;
}

#[tokio::test]
async fn a_follow_behind_another_event_of_its_second_still_begins() {
    let town = Town::open(&[WELCOME]).await;
    town.event("ann", other()).await;
    town.follow("ann").await;
    town.says("bob", "hi").await;
    town.follow("bob").await;
    town.pass(hours(24)).await;
    for who in ["ann", "bob"] {
        assert_eq!(town.heard(who), ["hello", "guide", "offer"], "{who}");
    }
    town.end().await;
}

#[tokio::test]
async fn a_message_that_a_click_overtook_still_does_what_it_does() {
    let welcome = sequence(
        "exit_on: [ { message: { text: stop } } ]",
        &[("10m", "guide")],
    );
    let town = Town::open(&[&welcome]).await;
    town.follow("ann").await;
    town.pass(minutes(1)).await;
    town.event("ann", Event::Clicked { key: "k".into() }).await;
    let stop = Event::MessageReceived {
        message_kind: "text".into(),
        text: "stop".into(),
    };
    town.late_event("ann", stop, seconds(3)).await;
    town.pass(hours(1)).await;
    assert_eq!(town.heard("ann"), [""; 0]);
    assert_eq!(town.outcomes("ann").await, [Outcome::Cancelled]);
    town.end().await;
}

/// A follow from before an unfollow says nothing about the person who came back.
#[tokio::test]
async fn a_follow_of_an_earlier_stay_does_not_begin_again() {
    let welcome = sequence("reenter: always", &[("0s", "hello")]);
    let town = Town::open(&[&welcome]).await;
    town.unfollow("ann").await;
    town.pass(seconds(10)).await;
    town.follow("ann").await;
    town.pass(seconds(5)).await;
    town.late_event("ann", followed(), seconds(30)).await;
    town.pass(hours(1)).await;
    assert_eq!(town.heard("ann"), ["hello"]);
    town.end().await;
}

/// A click from before an unfollow says nothing about the person who came back with a message.
#[tokio::test]
async fn an_act_of_an_earlier_stay_does_nothing() {
    let menu = sequence("", &[("0s", "help")]).replace("follow", "{ click: { key: k } }");
    let town = Town::open(&[&menu]).await;
    town.follow("ann").await;
    town.pass(minutes(1)).await;
    town.unfollow("ann").await;
    town.pass(seconds(2)).await;
    town.says("ann", "hi").await;
    let click = || Event::Clicked { key: "k".into() };
    town.late_event("ann", click(), seconds(3)).await;
    town.pass(minutes(1)).await;
    assert_eq!(town.heard("ann"), [""; 0]);
    town.event("ann", click()).await;
    town.pass(minutes(1)).await;
    assert_eq!(town.heard("ann"), ["help"]);
    town.end().await;
}

#[tokio::test]
async fn a_second_follow_without_an_unfollow_changes_nothing() {
    let welcome = sequence("reenter: always", &[("0s", "hello"), ("1m", "guide")]);
    let town = Town::open(&[&welcome]).await;
    town.follow("ann").await;
    town.pass(seconds(30)).await;
    town.follow("ann").await;
    town.pass(hours(1)).await;
    assert_eq!(town.heard("ann"), ["hello", "guide"]);
    town.end().await;
}

#[tokio::test]
async fn absurd_instants_break_nothing_and_leave_the_follower_reachable() {
    let town = Town::open(&[WELCOME]).await;
    let absurd = [i64::MIN, -1, 0, 253_402_300_799_000, i64::MAX];
    for (index, at) in absurd.into_iter().enumerate() {
        let who = format!("f{index}");
        let mut arrival = town.arrival(&who, followed());
        arrival.created_at = Timestamp(at);
        town.take("main", arrival).await;
    }
    town.pass(minutes(1)).await;
    // Whoever seems to follow from the future follows now.
    for who in ["f3", "f4"] {
        assert_eq!(town.heard(who), ["hello"], "{who}");
        town.unfollow(who).await;
    }
    town.pass(hours(24)).await;
    for who in ["f3", "f4"] {
        assert_eq!(town.heard(who), ["hello"], "{who}");
    }
    // The program lives.
    town.follow("ann").await;
    town.pass(Duration::ZERO).await;
    assert_eq!(town.heard("ann"), ["hello"]);
    town.end().await;
}
