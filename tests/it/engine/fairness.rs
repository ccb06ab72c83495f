//! Limits, and accounts that do not get in each other's way.

use std::time::Duration;

use dripwheel::clock::millis;
use dripwheel::journey::event::Event;
use dripwheel::sender::platform::AnswerClass;

use super::{ONE, sequence};
use crate::support::{Town, eventually, minutes, seconds};

async fn crowd(town: &Town, account: &str, prefix: &str, people: usize) {
    let follows = (0..people).map(|n| {
        let arrival = town.arrival(&format!("{prefix}{n}"), Event::Followed { scene: None });
        town.take(account, arrival)
    });
    futures_util::future::join_all(follows).await;
}

fn calls_of(town: &Town, account: &str) -> Vec<usize> {
    let id = town.account(account);
    let calls = town.line.calls();
    let places = calls.iter().enumerate();
    let own = places.filter(|(_, call)| call.account == id);
    own.map(|(place, _)| place).collect()
}

#[tokio::test]
async fn an_account_with_five_thousand_due_makes_no_other_wait() {
    let town = Town::plan()
        .account("small")
        .in_flight(64, 128)
        .open(&[ONE])
        .await;
    crowd(&town, "main", "big", 5000).await;
    crowd(&town, "small", "few", 3).await;
    // All of it is on its way to the sender before the first is due.
    town.advance(seconds(58));
    eventually("everything is promoted", || async {
        town.count("timers").await == 0
    })
    .await;
    town.advance(seconds(2));
    eventually("the small account's are sent", || async {
        calls_of(&town, "small").len() == 3
    })
    .await;
    let places = calls_of(&town, "small");
    assert!(places[2] < 500, "sent as {places:?} of 5003");
    town.quiet().await;
    assert_eq!(town.line.calls().len(), 5003);
    town.end().await;
}

#[tokio::test]
async fn an_account_that_fills_the_memory_makes_no_other_wait() {
    let town = Town::plan()
        .account("small")
        .per_second(1)
        .memory(50)
        .open(&[ONE])
        .await;
    crowd(&town, "main", "big", 200).await;
    town.advance(seconds(58));
    eventually("everything is promoted", || async {
        town.count("timers").await == 0
    })
    .await;
    crowd(&town, "small", "few", 3).await;
    town.advance(minutes(1));
    eventually("the small account's are sent", || async {
        town.advance(seconds(1));
        calls_of(&town, "small").len() == 3
    })
    .await;
    let big = calls_of(&town, "main").len();
    assert!(big < 150, "{big} of the big account's went first");
    town.end().await;
}

#[tokio::test]
async fn an_account_whose_answers_hang_makes_no_other_wait() {
    let town = Town::plan()
        .account("small")
        .in_flight(4, 8)
        .open(&[ONE])
        .await;
    for n in 0..20 {
        town.line.hang(&format!("big{n}"));
    }
    crowd(&town, "main", "big", 20).await;
    crowd(&town, "small", "few", 10).await;
    town.advance(minutes(1));
    eventually("the small account's are sent", || async {
        calls_of(&town, "small").len() == 10
    })
    .await;
    assert_eq!(calls_of(&town, "main").len(), 4);
    for n in 0..20 {
        town.line.let_go(&format!("big{n}"));
    }
    town.quiet().await;
    town.end().await;
}

#[tokio::test]
async fn a_resting_account_makes_no_other_wait() {
    let town = Town::plan().account("small").open(&[ONE]).await;
    crowd(&town, "main", "big", 100).await;
    crowd(&town, "small", "few", 10).await;
    town.line.otherwise(AnswerClass::NextDay);
    for n in 0..10 {
        let accepted = [AnswerClass::Accepted];
        town.line.answer(&format!("few{n}"), accepted);
    }
    town.advance(minutes(1));
    eventually("the small account's are sent", || async {
        calls_of(&town, "small").len() == 10
    })
    .await;
    town.answered().await;
    town.line.otherwise(AnswerClass::Accepted);
    let rest = Duration::from_secs(14 * 3600);
    town.advance(rest);
    town.quiet().await;
    let arrived = town.line.calls().iter().filter(|c| c.arrived()).count();
    assert_eq!(arrived, 110);
    town.end().await;
}

#[tokio::test]
async fn an_account_never_sends_more_than_its_rate() {
    const PER_SECOND: i64 = 10;
    let town = Town::plan().per_second(10).open(&[ONE]).await;
    crowd(&town, "main", "f", 120).await;
    town.advance(minutes(1));
    eventually("everybody is sent to", || async {
        town.advance(Duration::from_millis(20));
        town.line.calls().len() == 120
    })
    .await;
    let instants: Vec<_> = town.line.calls().iter().map(|call| call.at).collect();
    for (first, from) in instants.iter().enumerate() {
        for (last, to) in instants.iter().enumerate().skip(first) {
            let sent = i64::try_from(last - first + 1).unwrap();
            // A turn is given a moment before its call is made, hence a second's worth more.
            let span = millis(to.since(*from)) + 1000;
            assert!(
                sent <= PER_SECOND + PER_SECOND * span / 1000 + 1,
                "{sent} in {span} ms"
            );
        }
    }
    town.end().await;
}

#[tokio::test]
async fn a_backlog_leaves_room_for_who_has_just_followed() {
    let two = sequence("late: { after: 99h }", &[("0s", "hello"), ("10m", "guide")]);
    let mut town = Town::plan().in_flight(1, 1).open(&[&two]).await;
    crowd(&town, "main", "old", 600).await;
    town.pass(minutes(1)).await;
    town.crash().await;
    town.advance(minutes(60));
    // The backlog's first call hangs, so that the new ones come while it is waiting.
    for n in 0..600 {
        town.line.hang(&format!("old{n}"));
    }
    town.start().await;
    eventually("the backlog has begun", || async {
        town.line.calls().len() > 600
    })
    .await;
    crowd(&town, "main", "new", 10).await;
    for n in 0..600 {
        town.line.let_go(&format!("old{n}"));
    }
    let greeted = |town: &Town| {
        let calls = town.line.calls();
        let place = |call: &crate::support::Heard| call.openid.starts_with("new");
        calls.iter().filter(|call| place(call)).count()
    };
    eventually("the new ones are greeted", || async {
        greeted(&town) == 10
    })
    .await;
    let calls = town.line.calls();
    let last = calls
        .iter()
        .rposition(|call| call.openid.starts_with("new"));
    assert!(last < Some(600 + 100), "the last at {last:?}");
    town.quiet().await;
    town.end().await;
}
