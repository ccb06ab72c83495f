//! What each kind of answer does to a step, its follower and its account.

use std::time::Duration;

use dripwheel::journey::outcome::Outcome;
use dripwheel::policy::settle::ATTEMPTS_MAX;
use dripwheel::sender::platform::AnswerClass;

use super::{WELCOME, sequence};
use crate::support::{Reply, START, Town, eventually, hours, minutes, seconds};

const TWO: [(&str, &str); 2] = [("0s", "hello"), ("1h", "guide")];

#[tokio::test]
async fn a_busy_platform_is_asked_again_later_and_later_until_it_takes_the_step() {
    let town = Town::open(&[&sequence("", &TWO)]).await;
    town.line.answer("ann", [AnswerClass::RetrySoon; 4]);
    town.follow("ann").await;
    town.pass(hours(2)).await;
    assert_eq!(town.heard("ann"), ["hello", "guide"]);
    let calls = town.calls("ann");
    let pauses: Vec<_> = calls[..5]
        .windows(2)
        .map(|pair| pair[1].at.since(pair[0].at))
        .collect();
    assert!(
        pauses.windows(2).all(|pair| pair[0] < pair[1]),
        "{pauses:?}"
    );
    assert_eq!(town.outcomes("ann").await[..4], [Outcome::Retried; 4]);
    town.end().await;
}

#[tokio::test]
async fn a_step_that_always_fails_is_given_up_and_the_next_one_comes() {
    let town = Town::open(&[&sequence("", &TWO)]).await;
    let tries = usize::from(ATTEMPTS_MAX);
    town.line
        .answer("ann", std::iter::repeat_n(AnswerClass::RetrySoon, tries));
    town.follow("ann").await;
    town.pass(hours(3)).await;
    assert_eq!(town.calls("ann").len(), tries + 1);
    let outcomes = town.outcomes("ann").await;
    assert_eq!(outcomes[tries - 1..], [Outcome::Failed, Outcome::Sent]);
    assert_eq!(town.heard("ann"), ["guide"]);
    town.end().await;
}

#[tokio::test]
async fn a_refused_message_ends_its_step_alone() {
    let town = Town::open(&[&sequence("", &TWO)]).await;
    town.line.answer("ann", [AnswerClass::Dropped]);
    town.follow("ann").await;
    town.pass(hours(2)).await;
    assert_eq!(
        town.outcomes("ann").await,
        [Outcome::Refused, Outcome::Sent]
    );
    town.end().await;
}

#[tokio::test]
async fn who_does_not_follow_any_more_gets_nothing_of_any_sequence() {
    let first = sequence("", &TWO);
    let second = first.replace("welcome", "second").replace("0s", "10m");
    let town = Town::open(&[&first, &second]).await;
    town.line.answer("ann", [AnswerClass::Unsubscribed]);
    town.follow("ann").await;
    town.pass(hours(3)).await;
    assert_eq!(town.calls("ann").len(), 1);
    assert_eq!(
        town.history("ann").await,
        [
            (0, 0, Outcome::Refused, 1),
            (0, 1, Outcome::Cancelled, 1),
            (1, 0, Outcome::Cancelled, 2),
        ]
    );
    town.end().await;
}

#[tokio::test]
async fn who_blocks_messages_is_left_alone_until_the_next_event() {
    let first = sequence("", &TWO);
    let second = first.replace("welcome", "second").replace("0s", "10m");
    let town = Town::open(&[&first, &second]).await;
    town.line.answer("ann", [AnswerClass::Muted]);
    town.follow("ann").await;
    town.pass(hours(3)).await;
    assert_eq!(town.calls("ann").len(), 1, "no call for the others either");
    town.says("ann", "hi").await;
    town.pass(hours(3)).await;
    assert_eq!(town.heard("ann").len(), 4);
    town.end().await;
}

/// Asks for one call of `ann`'s, answered so, and then for how long the account rests.
async fn rests(class: AnswerClass, until: Duration) {
    let town = Town::open(&[&sequence("late: { after: 99h }", &[("10s", "hello")])]).await;
    // More often than a step is tried: the account is the matter, not the step.
    town.line.answer("ann", [class; 10]);
    town.follow("ann").await;
    town.advance(seconds(10));
    town.called("ann", 1).await;
    town.follow("bob").await;
    let mut calls = 1;
    while calls < 11 {
        let first = town.calls("ann")[calls - 1].at;
        town.answered().await;
        let end = if class == AnswerClass::NeedsAttention {
            first.plus(until)
        } else {
            START.plus(until * u32::try_from(calls).unwrap())
        };
        // Just before the rest ends nobody is called, whoever is due.
        town.clock.set(end.minus(Duration::from_millis(1)));
        town.prove().await;
        town.clock.set(end);
        calls += 1;
        town.called("ann", calls).await;
        let call = town.calls("ann")[calls - 1].clone();
        assert_eq!(call.at, end, "{class:?}, call {calls}");
        if calls < 11 {
            assert_eq!(town.outcomes("ann").await, []);
        }
    }
    town.pass(hours(1)).await;
    assert_eq!(town.heard("ann"), ["hello"], "{class:?}");
    assert_eq!(town.heard("bob"), ["hello"], "{class:?}");
    assert_eq!(town.outcomes("ann").await, [Outcome::Sent], "{class:?}");
    town.end().await;
}

#[tokio::test]
async fn a_used_up_minute_rests_the_account_until_the_next_one() {
    rests(AnswerClass::NextMinute, minutes(1)).await;
}

#[tokio::test]
async fn an_account_in_trouble_is_asked_again_after_ten_minutes() {
    rests(AnswerClass::NeedsAttention, minutes(10)).await;
}

#[tokio::test]
async fn a_used_up_day_rests_the_account_until_its_midnight() {
    let long = "late: { after: 99h }\nhorizon: 30d\nexpire_after: 30d";
    let town = Town::open(&[&sequence(long, &[("10s", "hello")])]).await;
    town.line.answer("ann", [AnswerClass::NextDay]);
    town.follow("ann").await;
    town.advance(seconds(10));
    town.called("ann", 1).await;
    town.answered().await;
    town.clock.set(START.plus(hours(14) - seconds(1)));
    town.follow("bob").await;
    town.prove().await;
    town.clock.set(START.plus(hours(14)));
    town.called("ann", 2).await;
    town.pass(minutes(5)).await;
    assert_eq!(town.heard_after("ann"), [hours(14)]);
    assert_eq!(town.outcomes("ann").await, [Outcome::Sent]);
    assert_eq!(town.heard("bob"), ["hello"]);
    town.end().await;
}

#[tokio::test]
async fn an_account_that_works_again_needs_nobody_any_more() {
    let town = Town::open(&[&sequence("", &[("0s", "hello")])]).await;
    let attention = || town.number("SELECT attention FROM accounts", []);
    town.line.answer("ann", [AnswerClass::NeedsAttention]);
    town.follow("ann").await;
    town.called("ann", 1).await;
    town.answered().await;
    eventually("a person is asked for", || async {
        attention().await == Some(1)
    })
    .await;
    town.advance(minutes(10));
    town.called("ann", 2).await;
    eventually("nobody is asked for any more", || async {
        attention().await == Some(0)
    })
    .await;
    town.end().await;
}

#[tokio::test]
async fn a_lost_answer_is_followed_by_one_more_send() {
    let town = Town::open(&[&sequence("", &TWO)]).await;
    town.line.answer("ann", [AnswerClass::Unknown; 2]);
    town.line.answer("bob", [AnswerClass::Unknown]);
    town.follow("ann").await;
    town.follow("bob").await;
    town.pass(hours(2)).await;
    assert_eq!(town.calls("ann").len(), 3);
    let unknown = Outcome::Unknown;
    assert_eq!(
        town.outcomes("ann").await,
        [unknown, unknown, Outcome::Sent]
    );
    assert_eq!(
        town.history("bob").await,
        [
            (0, 0, unknown, 0),
            (0, 0, Outcome::Sent, 1),
            (0, 1, Outcome::Sent, 1)
        ]
    );
    assert_eq!(town.audit().await.unknown_sends, 3);
    town.end().await;
}

#[tokio::test]
async fn a_lost_answer_is_left_alone_where_the_sequence_says_so() {
    let town = Town::open(&[&sequence("on_unknown: skip", &TWO)]).await;
    town.line.answer("ann", [AnswerClass::Unknown]);
    town.follow("ann").await;
    town.pass(hours(2)).await;
    assert_eq!(town.calls("ann").len(), 2);
    assert_eq!(
        town.outcomes("ann").await,
        [Outcome::Unknown, Outcome::Sent]
    );
    town.end().await;
}

#[tokio::test]
async fn an_adapter_that_panics_counts_as_a_lost_answer_and_stops_nobody() {
    let town = Town::plan()
        .in_flight(1, 1)
        .open(&[&sequence("", &TWO)])
        .await;
    town.line.tell("ann", [Reply::Panic]);
    town.follow("ann").await;
    town.follow("bob").await;
    town.pass(hours(2)).await;
    assert_eq!(town.outcomes("ann").await[0], Outcome::Unknown);
    assert_eq!(town.heard("ann"), ["hello", "guide"]);
    assert_eq!(town.heard("bob"), ["hello", "guide"]);
    town.end().await;
}

/// A message that was refused for certain takes up no room between two messages.
#[tokio::test]
async fn a_failed_attempt_does_not_count_for_the_gap_between_messages() {
    let town = Town::open(&[&sequence("min_gap: 1h", &TWO)]).await;
    town.line.answer("ann", [AnswerClass::RetrySoon]);
    town.follow("ann").await;
    town.pass(minutes(1)).await;
    assert_eq!(town.heard("ann"), ["hello"]);
    town.pass(hours(5)).await;
    assert_eq!(town.heard("ann"), ["hello", "guide"]);
    let instants = town.heard_after("ann");
    assert!(instants[1] - instants[0] >= hours(1));
    town.end().await;
}

#[tokio::test]
async fn an_account_whose_calls_keep_failing_rests_and_comes_back() {
    let town = Town::open(&[WELCOME]).await;
    town.line.otherwise(AnswerClass::RetrySoon);
    let names: Vec<_> = (0..40).map(|n| format!("f{n}")).collect();
    for who in &names {
        town.follow(who).await;
    }
    eventually("everybody was called", || async {
        town.advance(seconds(1));
        names.iter().all(|who| !town.calls(who).is_empty())
    })
    .await;
    // Twenty failures in a row opened the breaker before the others had their turn.
    let first = town.calls(&names[0])[0].at;
    assert!(names.iter().any(|who| town.calls(who)[0].at > first));
    town.line.otherwise(AnswerClass::Accepted);
    eventually("everybody was greeted", || async {
        town.advance(seconds(1));
        names.iter().all(|who| !town.heard(who).is_empty())
    })
    .await;
    town.end().await;
}
