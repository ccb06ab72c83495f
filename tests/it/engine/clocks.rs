//! A machine's clock that somebody sets, for a program that doubts large steps.

use dripwheel::journey::outcome::Outcome;

use super::{WELCOME, sequence};
use crate::support::{START, Town, eventually, hours, minutes, seconds};

/// Lets seconds pass one by one until somebody has heard so many messages.
async fn tick_until_heard(town: &Town, who: &str, messages: usize) {
    eventually("the message arrives", || async {
        town.advance(seconds(1));
        town.heard(who).len() >= messages
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_is_a_day_ahead_for_a_moment_makes_nothing_late() {
    let late = "late: { after: 1h, then: skip }";
    let welcome = sequence(late, &[("1m", "hello"), ("10m", "guide"), ("1h", "offer")]);
    let town = Town::plan().steady().open(&[&welcome]).await;
    town.follow("ann").await;
    town.clock.set(START.plus(hours(24)));
    // Somebody asks for the time, and is told the one that was right all along.
    town.follow("bob").await;
    town.advance(seconds(3));
    town.follow("eve").await;
    town.clock.set(START.plus(seconds(3)));
    town.pass(hours(2)).await;
    for who in ["ann", "bob", "eve"] {
        assert_eq!(town.heard(who), ["hello", "guide", "offer"], "{who}");
        assert_eq!(town.outcomes(who).await, [Outcome::Sent; 3], "{who}");
    }
    assert_eq!(town.heard_after("ann")[0], minutes(1));
    town.end().await;
}

#[tokio::test]
async fn a_clock_that_stays_ahead_finds_everything_due_once() {
    let town = Town::plan().steady().open(&[WELCOME]).await;
    for n in 0..50 {
        town.follow(&format!("f{n}")).await;
    }
    town.quiet().await;
    town.clock.set(START.plus(hours(30)));
    // Whoever comes makes the program look at its clock.
    town.follow("early").await;
    town.advance(seconds(4));
    town.follow("late").await;
    assert_eq!(town.heard("f0"), ["hello"], "not believed yet");
    // Longer than it takes to believe, counted from whenever it was first looked at.
    town.advance(seconds(6));
    town.pass(minutes(1)).await;
    for n in 0..50 {
        let heard = town.heard(&format!("f{n}"));
        assert_eq!(heard, ["hello", "guide", "offer"], "f{n}");
    }
    town.end().await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_holds_no_timer_up() {
    let welcome = sequence("", &[("30s", "hello"), ("2h", "guide")]);
    let town = Town::plan().steady().open(&[&welcome]).await;
    town.follow("ann").await;
    town.clock.set(START.minus(hours(1)));
    town.follow("bob").await;
    tick_until_heard(&town, "ann", 1).await;
    let waited = town.now().since(START.minus(hours(1)));
    assert!(waited <= minutes(1), "{waited:?}");
    // By now the program lives an hour earlier; the next step keeps its instant.
    town.pass(minutes(2)).await;
    town.pass(hours(3)).await;
    assert_eq!(town.heard("ann"), ["hello", "guide"]);
    assert_eq!(town.calls("ann")[1].at, START.plus(hours(2)));
    town.end().await;
}

#[tokio::test]
async fn a_machine_that_slept_sends_what_became_due_once() {
    let town = Town::plan().steady().open(&[WELCOME]).await;
    town.follow("ann").await;
    town.quiet().await;
    town.advance(hours(12));
    town.quiet().await;
    assert_eq!(town.heard("ann"), ["hello", "guide"]);
    town.pass(hours(12)).await;
    assert_eq!(town.heard("ann"), ["hello", "guide", "offer"]);
    town.end().await;
}
