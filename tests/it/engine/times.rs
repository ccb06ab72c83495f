//! Lateness, nights, clocks that jump, and a wheel that has forgotten everything.

use std::time::Duration;

use dripwheel::clock::Timestamp;
use dripwheel::journey::event::Event;
use dripwheel::journey::outcome::Outcome;
use dripwheel::sender::platform::AnswerClass;
use dripwheel::store::timers::{self, TimerKey};

use super::{ONE, WELCOME, sequence};
use crate::support::{START, Town, eventually, hours, minutes, seconds};

/// Sent at once, down from the second minute to the sixth hour, then left alone for a day.
async fn after_downtime(rule: &str) -> (Vec<Duration>, Vec<Outcome>) {
    let welcome = sequence(
        &format!("late: {{ after: 1h, then: {rule} }}"),
        &[("0s", "hello"), ("1h", "guide"), ("2h", "offer")],
    );
    let mut town = Town::open(&[&welcome]).await;
    town.follow("ann").await;
    town.pass(minutes(2)).await;
    town.crash().await;
    town.advance(hours(6) - minutes(2));
    town.start().await;
    town.pass(hours(24)).await;
    let result = (town.heard_after("ann"), town.outcomes("ann").await);
    town.end().await;
    result
}

#[tokio::test]
async fn a_step_that_comes_late_is_sent_all_the_same() {
    let (instants, _) = after_downtime("send").await;
    assert_eq!(instants, [seconds(0), hours(6), hours(6) + seconds(2)]);
}

#[tokio::test]
async fn a_step_that_comes_late_is_skipped_where_the_sequence_says_so() {
    let (instants, outcomes) = after_downtime("skip").await;
    assert_eq!(instants, [seconds(0)]);
    assert_eq!(
        outcomes,
        [Outcome::Sent, Outcome::Skipped, Outcome::Skipped]
    );
}

#[tokio::test]
async fn a_step_that_comes_late_moves_the_rest_where_the_sequence_says_so() {
    let (instants, _) = after_downtime("shift").await;
    assert_eq!(instants, [seconds(0), hours(6), hours(7)]);
}

const NIGHT: &str = "quiet_hours: { from: \"23:00\", to: \"08:00\", then: ";

#[tokio::test]
async fn a_step_of_the_night_comes_in_the_morning() {
    let welcome = sequence(&format!("{NIGHT}shift }}"), &[("14h", "hello")]);
    let town = Town::open(&[&welcome]).await;
    town.follow("ann").await;
    town.pass(hours(48)).await;
    assert_eq!(town.heard_after("ann"), [hours(22)]);
    town.end().await;
}

#[tokio::test]
async fn the_answer_to_a_follow_at_night_comes_at_once() {
    let welcome = sequence(
        &format!("{NIGHT}shift }}"),
        &[("0s", "hello"), ("10m", "guide")],
    );
    let town = Town::open(&[&welcome]).await;
    town.advance(hours(16));
    town.follow("ann").await;
    town.pass(hours(24)).await;
    assert_eq!(town.heard_after("ann"), [hours(16), hours(22)]);
    town.end().await;
}

#[tokio::test]
async fn a_step_of_the_night_is_skipped_where_the_sequence_says_so() {
    let welcome = sequence(
        &format!("{NIGHT}skip }}"),
        &[("14h", "night"), ("23h", "day")],
    );
    let town = Town::open(&[&welcome]).await;
    town.follow("ann").await;
    town.pass(hours(48)).await;
    assert_eq!(town.heard("ann"), ["day"]);
    town.end().await;
}

#[tokio::test]
async fn a_step_that_downtime_moved_into_the_night_waits_for_the_morning() {
    let welcome = sequence(&format!("{NIGHT}shift }}"), &[("12h50m", "hello")]);
    let mut town = Town::open(&[&welcome]).await;
    town.follow("ann").await;
    town.crash().await;
    town.advance(hours(13) + minutes(30));
    town.start().await;
    town.pass(hours(24)).await;
    assert_eq!(town.heard_after("ann"), [hours(22)]);
    town.end().await;
}

#[tokio::test]
async fn a_clock_that_jumps_back_fires_nothing_twice_and_nothing_early() {
    let town = Town::open(&[WELCOME]).await;
    town.follow("ann").await;
    town.pass(minutes(10)).await;
    town.clock.set(START.minus(hours(5)));
    town.follow("bob").await;
    town.quiet().await;
    town.pass(hours(5) + hours(24)).await;
    assert_eq!(town.heard("ann"), ["hello", "guide", "offer"]);
    assert_eq!(town.heard("bob"), ["hello", "guide", "offer"]);
    let offer = &town.calls("ann")[2];
    assert_eq!(offer.at, START.plus(hours(23)));
    let guide = &town.calls("bob")[1];
    assert_eq!(guide.at, START.minus(hours(5)).plus(minutes(10)));
    town.end().await;
}

/// Somebody sets the clock a day ahead and back again: who was written to meanwhile is not left
/// waiting for that day to come.
#[tokio::test]
async fn a_clock_that_was_ahead_for_a_while_blocks_nobody_afterwards() {
    let click = "
sequence: menu
trigger: { click: { key: help } }
reenter: always
steps:
  - { id: a, after: 0s, say: { text: help } }
";
    let town = Town::open(&[click]).await;
    // The platform's clock is right all the time.
    let clicked = |after| {
        let clicked = Event::Clicked { key: "help".into() };
        let mut arrival = town.arrival("ann", clicked);
        arrival.created_at = START.plus(after);
        town.take("main", arrival)
    };
    town.follow("ann").await;
    town.advance(hours(24));
    clicked(minutes(4)).await;
    town.quiet().await;
    assert_eq!(town.heard("ann").len(), 1);
    town.clock.set(START.plus(minutes(5)));
    clicked(minutes(5)).await;
    town.pass(minutes(1)).await;
    assert_eq!(town.heard("ann").len(), 2);
    town.end().await;
}

#[tokio::test]
async fn an_account_that_rested_by_a_clock_ahead_wakes_when_it_is_set_right() {
    let town = Town::open(&[ONE]).await;
    town.advance(hours(24));
    town.follow("ann").await;
    town.line.answer("ann", [AnswerClass::NeedsAttention]);
    town.advance(minutes(1));
    town.called("ann", 1).await;
    town.answered().await;
    town.clock.set(START);
    town.follow("bob").await;
    town.advance(minutes(12));
    town.called("bob", 1).await;
    town.advance(hours(25));
    town.quiet().await;
    assert_eq!(town.heard("ann"), ["hello"]);
    town.end().await;
}

#[tokio::test]
async fn a_clock_that_jumps_forward_finds_everything_due() {
    let town = Town::open(&[WELCOME]).await;
    for n in 0..50 {
        town.follow(&format!("f{n}")).await;
    }
    town.quiet().await;
    town.advance(hours(30));
    town.pass(minutes(1)).await;
    for n in 0..50 {
        let heard = town.heard(&format!("f{n}"));
        assert_eq!(heard, ["hello", "guide", "offer"], "f{n}");
    }
    town.end().await;
}

/// Lets the clock tick until everybody has heard so many messages.
async fn tick_until_heard(town: &Town, people: usize, messages: usize) {
    eventually("everybody has heard everything", || async {
        town.advance(seconds(1));
        let calls = town.line.calls();
        calls.iter().filter(|call| call.arrived()).count() >= people * messages
    })
    .await;
}

async fn everybody_hears_everything(town: Town, people: usize) {
    let names: Vec<_> = (0..people).map(|n| format!("f{n}")).collect();
    let follows = names.iter().map(|who| town.follow(who));
    futures_util::future::join_all(follows).await;
    tick_until_heard(&town, people, 2).await;
    for who in &names {
        assert_eq!(town.heard(who), ["hello", "guide"], "{who}");
        let instants = town.heard_after(who);
        assert!(instants[0] >= minutes(1) && instants[1] >= minutes(2));
    }
    town.quiet().await;
    town.end().await;
}

const TWO: [(&str, &str); 2] = [("1m", "hello"), ("2m", "guide")];

#[tokio::test]
async fn a_ring_of_eight_entries_turns_five_hundred_timers() {
    let town = Town::plan().ring(8).open(&[&sequence("", &TWO)]).await;
    everybody_hears_everything(town, 500).await;
}

#[tokio::test]
async fn hints_that_are_lost_cost_no_message() {
    let town = Town::plan().channels(1).open(&[&sequence("", &TWO)]).await;
    everybody_hears_everything(town, 500).await;
}

#[tokio::test]
async fn a_sender_with_room_for_ten_sends_everything() {
    let town = Town::plan()
        .memory(10)
        .ring(8)
        .channels(1)
        .in_flight(2, 3)
        .open(&[&sequence("", &TWO)])
        .await;
    // Fewer: each step of each of them has commits of its own here.
    everybody_hears_everything(town, 200).await;
}

#[tokio::test]
async fn steps_far_in_the_past_and_in_the_future_share_one_wheel() {
    let town = Town::plan()
        .ring(8)
        .open(&[&sequence(
            "horizon: 366d\nexpire_after: 300d",
            &[("0s", "now"), ("366d", "far")],
        )])
        .await;
    for n in 0..30 {
        town.follow(&format!("f{n}")).await;
    }
    town.pass(hours(24)).await;
    town.clock.set(Timestamp(START.0 + 24 * 366 * 3_600_000));
    town.quiet().await;
    assert!(town.line.calls().len() == 30, "no grant reaches a year");
    town.end().await;
}

/// However the accounts are spread over a store, and however many of a page are one account's.
#[tokio::test]
async fn pages_of_timers_miss_none_and_are_in_the_order_of_time() {
    let town = Town::plan().account("b").account("c").account("d");
    let town = town.open(&[&sequence("", &[("1h", "hello")])]).await;
    for n in 0..90 {
        let account = ["main", "b", "c", "main", "b", "main", "d", "main", "main"][n % 9];
        let account = if (40..70).contains(&n) {
            account
        } else {
            "main"
        };
        let arrival = town.arrival(&format!("f{n}"), Event::Followed { scene: None });
        town.take(account, arrival).await;
        town.advance(Duration::from_millis(n as u64 % 3));
    }
    let shards = town.store().leases().holding().shards();
    let until = town.now().plus(hours(2));
    let page = async |after, limit| {
        let page = timers::page(town.store().read(), &shards, after, until, limit);
        page.await.unwrap()
    };
    let all = page(TimerKey::FIRST, 1_000).await;
    assert_eq!(all.len(), 90);
    assert!(all.is_sorted());
    for limit in [1, 7, 16, 20, 41, 89, 90, 91] {
        let mut walked = Vec::new();
        loop {
            let after = walked.last().copied().unwrap_or(TimerKey::FIRST);
            let some = page(after, limit).await;
            walked.extend_from_slice(&some);
            if some.len() < usize::try_from(limit).unwrap() {
                break;
            }
        }
        assert_eq!(walked, all, "by {limit}");
    }
    town.end().await;
}
