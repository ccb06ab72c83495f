//! What followers do and what comes of it.

use std::time::Duration;

use dripwheel::journey::event::Event;
use dripwheel::journey::outcome::Outcome;
use dripwheel::store::work::Acted;

use super::{WELCOME, sequence};
use crate::support::{Town, hours, minutes, seconds};

#[tokio::test]
async fn a_follow_brings_every_step_in_order_at_its_instant_and_none_early() {
    let town = Town::open(&[WELCOME]).await;
    town.follow("ann").await;
    town.quiet().await;
    assert_eq!(town.heard("ann"), ["hello"]);
    town.advance(minutes(10) - Duration::from_millis(1));
    town.quiet().await;
    town.advance(Duration::from_millis(1));
    town.quiet().await;
    assert_eq!(town.heard("ann"), ["hello", "guide"]);
    town.pass(hours(24)).await;
    assert_eq!(town.heard("ann"), ["hello", "guide", "offer"]);
    let instants = [Duration::ZERO, minutes(10), hours(23)];
    assert_eq!(town.heard_after("ann"), instants);
    assert_eq!(town.outcomes("ann").await, [Outcome::Sent; 3]);
    town.end().await;
}

#[tokio::test]
async fn the_same_event_fifty_times_at_once_is_one_enrollment() {
    let town = Town::open(&[WELCOME]).await;
    let arrival = town.arrival("ann", Event::Followed { scene: None });
    let taken = (0..50).map(|_| town.take("main", arrival.clone()));
    let taken = futures_util::future::join_all(taken).await;
    assert_eq!(taken.iter().filter(|taken| taken.fresh).count(), 1);
    assert_eq!(taken.iter().map(|taken| taken.enrolled).sum::<usize>(), 1);
    town.pass(hours(24)).await;
    assert!(!town.take("main", arrival).await.fresh);
    assert_eq!(town.heard("ann"), ["hello", "guide", "offer"]);
    assert_eq!(town.count("receipts").await, 1);
    town.end().await;
}

#[tokio::test]
async fn an_unfollow_between_two_steps_cancels_the_rest() {
    let town = Town::open(&[WELCOME]).await;
    town.follow("ann").await;
    town.pass(minutes(5)).await;
    town.unfollow("ann").await;
    town.pass(hours(48)).await;
    assert_eq!(town.heard("ann"), ["hello"]);
    let history = town.history("ann").await;
    assert_eq!(
        history,
        [(0, 0, Outcome::Sent, 1), (0, 1, Outcome::Cancelled, 2)]
    );
    assert_eq!(town.count("timers").await, 0);
    town.end().await;
}

#[tokio::test]
async fn an_unfollow_cancels_a_step_that_is_already_due() {
    let town = Town::plan().in_flight(1, 1).open(&[WELCOME]).await;
    town.line.hang("bob");
    town.follow("bob").await;
    town.called("bob", 1).await;
    town.follow("ann").await;
    town.unfollow("ann").await;
    town.line.let_go("bob");
    town.pass(minutes(1)).await;
    assert_eq!(town.heard("ann"), [""; 0]);
    assert_eq!(town.outcomes("ann").await, [Outcome::Cancelled]);
    town.end().await;
}

#[tokio::test]
async fn an_unfollow_while_a_send_is_under_way_lets_its_answer_end_that_step_alone() {
    let town = Town::open(&[WELCOME]).await;
    town.line.hang("ann");
    town.follow("ann").await;
    town.called("ann", 1).await;
    town.unfollow("ann").await;
    town.prove().await;
    town.line.let_go("ann");
    town.pass(hours(48)).await;
    let history = town.history("ann").await;
    assert_eq!(
        history,
        [(0, 0, Outcome::Sent, 1), (0, 1, Outcome::Cancelled, 2)]
    );
    assert_eq!(town.calls("ann").len(), 1);
    town.end().await;
}

/// Follows, leaves after a minute, comes back after another and after two hours.
async fn comes_back_twice(rule: &str) -> Vec<i64> {
    let welcome = sequence(
        &format!("reenter: {rule}"),
        &[("0s", "hello"), ("3h", "later")],
    );
    let town = Town::open(&[&welcome]).await;
    let mut passages = Vec::new();
    for pause in [minutes(1), minutes(1), hours(2)] {
        town.follow("ann").await;
        town.pass(pause).await;
        town.unfollow("ann").await;
        town.pass(pause).await;
        passages.push(town.passages("ann").await);
    }
    let greeted = i64::try_from(town.heard("ann").len()).unwrap();
    assert_eq!(passages.last(), Some(&greeted));
    town.end().await;
    passages
}

#[tokio::test]
async fn who_comes_back_enters_again_as_the_rule_says() {
    assert_eq!(comes_back_twice("never").await, [1, 1, 1]);
    assert_eq!(comes_back_twice("always").await, [1, 2, 3]);
    assert_eq!(comes_back_twice("after 4m").await, [1, 1, 2]);
}

#[tokio::test]
async fn entering_again_ends_the_passage_before_even_while_it_is_sending() {
    let menu = "
sequence: menu
trigger: { click: { key: help } }
reenter: always
steps:
  - { id: a, after: 0s, say: { text: a } }
  - { id: b, after: 10m, say: { text: b } }
";
    let town = Town::open(&[menu]).await;
    town.line.hang("ann");
    let click = || Event::Clicked { key: "help".into() };
    town.event("ann", click()).await;
    town.called("ann", 1).await;
    town.advance(seconds(3));
    town.event("ann", click()).await;
    town.line.let_go("ann");
    town.pass(hours(1)).await;
    assert_eq!(town.heard("ann"), ["a", "a", "b"]);
    assert_eq!(
        town.history("ann").await,
        [
            (0, 0, Outcome::Sent, 1),
            (0, 1, Outcome::Cancelled, 1),
            (1, 0, Outcome::Sent, 1),
            (1, 1, Outcome::Sent, 1),
        ]
    );
    town.end().await;
}

#[tokio::test]
async fn a_message_ends_the_passages_that_it_is_meant_to_end() {
    let welcome = sequence(
        "exit_on: [ { message: { text: \"STOP*\" } } ]",
        &[("0s", "hello"), ("10m", "guide")],
    );
    let town = Town::open(&[&welcome]).await;
    for who in ["ann", "bob"] {
        town.follow(who).await;
    }
    town.pass(minutes(1)).await;
    town.says("ann", " stop it ").await;
    town.says("bob", "please stop").await;
    town.pass(hours(1)).await;
    assert_eq!(town.heard("ann"), ["hello"]);
    assert_eq!(town.heard("bob"), ["hello", "guide"]);
    assert_eq!(
        town.outcomes("ann").await,
        [Outcome::Sent, Outcome::Cancelled]
    );
    town.end().await;
}

#[tokio::test]
async fn scans_clicks_and_messages_enroll_by_their_patterns() {
    let triggered = |name: &str, trigger: &str| {
        format!(
            "sequence: {name}\ntrigger: {trigger}\nsteps:\n  \
             - {{ id: s, after: 0s, say: {{ text: {name} }} }}\n"
        )
    };
    let sequences = [
        triggered("scanned", "{ scan: { scene: \"shop-*\" } }"),
        triggered("clicked", "{ click: { key: HELP } }"),
        triggered("written", "{ message: { text: \"1\" } }"),
        triggered("by-code", "{ follow: { scene: \"spring-*\" } }"),
    ];
    let sequences: Vec<_> = sequences.iter().map(String::as_str).collect();
    let town = Town::open(&sequences).await;
    let scanned = |scene: &str| Event::Scanned {
        scene: scene.into(),
    };
    let clicked = |key: &str| Event::Clicked { key: key.into() };
    let followed = |scene: &str| Event::Followed {
        scene: Some(scene.into()),
    };
    town.event("sue", scanned("shop-7")).await;
    town.event("sid", scanned("club-7")).await;
    town.event("cat", clicked("help")).await;
    town.event("cyd", clicked("helpless")).await;
    town.says("mia", " 1 ").await;
    town.says("mel", "11").await;
    town.event("fay", followed("spring-26")).await;
    town.follow("fred").await;
    town.pass(minutes(1)).await;
    assert_eq!(town.heard("sue"), ["scanned"]);
    assert_eq!(town.heard("cat"), ["clicked"]);
    assert_eq!(town.heard("mia"), ["written"]);
    assert_eq!(town.heard("fay"), ["by-code"]);
    for nobody in ["sid", "cyd", "mel", "fred"] {
        assert_eq!(town.heard(nobody), [""; 0], "{nobody}");
    }
    town.end().await;
}

#[tokio::test]
async fn two_sequences_of_one_follower_keep_their_distance() {
    let first = sequence("min_gap: 30s", &[("0s", "first"), ("10m", "third")]);
    let second = first
        .replace("welcome", "second")
        .replace("first", "second")
        .replace("third", "fourth");
    let town = Town::open(&[&first, &second]).await;
    town.follow("ann").await;
    town.pass(hours(1)).await;
    let instants = [0, 30, 600, 630].map(Duration::from_secs);
    assert_eq!(town.heard_after("ann"), instants);
    assert_eq!(town.heard("ann").len(), 4);
    town.end().await;
}

#[tokio::test]
async fn a_step_whose_condition_is_false_is_skipped_and_the_next_one_comes() {
    let welcome = "
sequence: welcome
trigger: follow
steps:
  - { id: a, after: 0s, when: \"follower.scene == 'shop'\", say: { text: a } }
  - { id: b, after: 0s, say: { text: b } }
";
    let town = Town::open(&[welcome]).await;
    town.follow("ann").await;
    let scene = Some("shop".to_owned());
    town.event("bob", Event::Followed { scene }).await;
    town.pass(minutes(1)).await;
    assert_eq!(town.heard("ann"), ["b"]);
    assert_eq!(town.heard("bob"), ["a", "b"]);
    assert_eq!(
        town.outcomes("ann").await,
        [Outcome::Skipped, Outcome::Sent]
    );
    town.end().await;
}

#[tokio::test]
async fn a_person_enrolls_only_who_follows() {
    let by_hand = WELCOME.replace("trigger: follow", "trigger: api");
    let town = Town::open(&[&by_hand]).await;
    assert_eq!(town.enroll("ann", "welcome").await, Acted::NoSuchFollower);
    town.follow("ann").await;
    assert!(matches!(
        town.enroll("ann", "welcome").await,
        Acted::Enrolled(_)
    ));
    assert_eq!(town.enroll("ann", "welcome").await, Acted::NotAllowed);
    assert_eq!(town.enroll("ann", "farewell").await, Acted::NoSuchSequence);
    town.follow("bob").await;
    town.advance(seconds(1));
    town.unfollow("bob").await;
    assert_eq!(town.enroll("bob", "welcome").await, Acted::NotFollowing);
    town.pass(hours(24)).await;
    assert_eq!(town.heard("ann"), ["hello", "guide", "offer"]);
    assert_eq!(town.heard("bob"), [""; 0]);
    town.end().await;
}
