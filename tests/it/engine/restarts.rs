//! Crashes at the worst moments, and rows that something else has broken.

use dripwheel::journey::event::Event;
use dripwheel::journey::ids::AccountId;
use dripwheel::journey::outcome::Outcome;

use super::{ONE, WELCOME, sequence};
use crate::support::{Town, hours, minutes, seconds};

const TWO: [(&str, &str); 2] = [("0s", "hello"), ("1h", "guide")];

#[tokio::test]
async fn a_send_that_a_crash_cut_off_is_unknown_and_sent_once_more() {
    let mut town = Town::open(&[&sequence("", &TWO)]).await;
    town.line.hang("ann");
    town.follow("ann").await;
    town.called("ann", 1).await;
    town.crash().await;
    town.line.let_go("ann");
    town.start().await;
    town.pass(hours(2)).await;
    assert_eq!(
        town.outcomes("ann").await,
        [Outcome::Unknown, Outcome::Sent, Outcome::Sent]
    );
    assert_eq!(town.calls("ann").len(), 3);
    town.end().await;
}

#[tokio::test]
async fn a_send_that_a_crash_cut_off_is_left_alone_where_the_sequence_says_so() {
    let mut town = Town::open(&[&sequence("on_unknown: skip", &TWO)]).await;
    town.line.hang("ann");
    town.follow("ann").await;
    town.called("ann", 1).await;
    town.crash().await;
    town.line.let_go("ann");
    town.start().await;
    town.pass(hours(2)).await;
    assert_eq!(
        town.outcomes("ann").await,
        [Outcome::Unknown, Outcome::Sent]
    );
    assert_eq!(town.heard("ann"), ["hello", "guide"]);
    town.end().await;
}

#[tokio::test]
async fn an_unfollow_before_the_crash_keeps_the_cut_off_send_from_being_repeated() {
    let mut town = Town::open(&[&sequence("", &TWO)]).await;
    town.line.hang("ann");
    town.follow("ann").await;
    town.called("ann", 1).await;
    town.unfollow("ann").await;
    town.crash().await;
    town.line.let_go("ann");
    town.start().await;
    town.pass(hours(2)).await;
    assert_eq!(town.calls("ann").len(), 1);
    assert_eq!(
        town.history("ann").await,
        [(0, 0, Outcome::Unknown, 1), (0, 1, Outcome::Cancelled, 1)]
    );
    town.end().await;
}

#[tokio::test]
async fn a_crash_with_hundreds_of_sends_under_way_settles_every_one() {
    const PEOPLE: usize = 1200;
    let mut town = Town::plan()
        .in_flight(PEOPLE, PEOPLE)
        .open(&[&sequence("", &[("0s", "hello")])])
        .await;
    let names: Vec<_> = (0..PEOPLE).map(|n| format!("f{n}")).collect();
    for who in &names {
        town.line.hang(who);
    }
    futures_util::future::join_all(names.iter().map(|who| town.follow(who))).await;
    for who in &names {
        town.called(who, 1).await;
    }
    town.crash().await;
    for who in &names {
        town.line.let_go(who);
    }
    town.start().await;
    town.pass(minutes(1)).await;
    let audit = town.audit().await;
    assert_eq!(audit.unknown_sends, i64::try_from(PEOPLE).unwrap());
    assert!(names.iter().all(|who| town.calls(who).len() == 2));
    town.end().await;
}

#[tokio::test]
async fn what_came_due_while_nothing_ran_is_sent_at_the_start() {
    let mut town = Town::open(&[ONE]).await;
    for n in 0..100 {
        town.follow(&format!("f{n}")).await;
    }
    town.crash().await;
    town.advance(hours(1));
    town.start().await;
    town.quiet().await;
    for n in 0..100 {
        assert_eq!(town.heard_after(&format!("f{n}")), [hours(1)]);
    }
    town.end().await;
}

#[tokio::test]
async fn what_was_due_and_not_begun_at_the_crash_is_sent_at_the_start() {
    let mut town = Town::plan().in_flight(1, 1).open(&[WELCOME]).await;
    town.line.hang("ann");
    town.follow("ann").await;
    town.called("ann", 1).await;
    for who in ["bob", "cat"] {
        town.follow(who).await;
    }
    town.crash().await;
    town.line.let_go("ann");
    town.start().await;
    town.pass(minutes(1)).await;
    assert_eq!(town.heard("bob"), ["hello"]);
    assert_eq!(town.heard("cat"), ["hello"]);
    town.end().await;
}

#[tokio::test]
async fn crashes_between_all_steps_lose_and_repeat_nothing() {
    let mut town = Town::open(&[WELCOME]).await;
    town.follow("ann").await;
    town.quiet().await;
    for _ in 0..26 {
        town.restart().await;
        town.pass(hours(1)).await;
    }
    assert_eq!(town.heard("ann"), ["hello", "guide", "offer"]);
    assert_eq!(town.outcomes("ann").await, [Outcome::Sent; 3]);
    town.end().await;
}

#[tokio::test]
async fn a_stop_waits_for_the_answers_of_what_is_under_way() {
    let mut town = Town::open(&[&sequence("", &TWO)]).await;
    town.line.hang("ann");
    town.follow("ann").await;
    town.called("ann", 1).await;
    let line = std::sync::Arc::clone(&town.line);
    let answered = tokio::spawn(async move {
        tokio::task::yield_now().await;
        line.let_go("ann");
    });
    town.stop().await;
    answered.await.unwrap();
    town.start().await;
    town.pass(hours(2)).await;
    assert_eq!(town.outcomes("ann").await, [Outcome::Sent; 2]);
    town.end().await;
}

/// A row that nobody can read must cost its own follower, not everybody.
#[tokio::test]
async fn an_unreadable_row_stops_nobody_else() {
    let mut town = Town::open(&[ONE]).await;
    for n in 0..50 {
        town.follow(&format!("f{n}")).await;
    }
    town.crash().await;
    town.tamper(
        "UPDATE enrollments SET plan = 'rubbish' WHERE id = (SELECT min(id) FROM enrollments)",
    )
    .await;
    town.start().await;
    town.advance(minutes(1));
    for n in 1..50 {
        town.called(&format!("f{n}"), 1).await;
    }
    // Whoever comes later is not in its way either.
    town.follow("late").await;
    town.advance(minutes(1));
    town.called("late", 1).await;
    town.stop().await;
}

/// An intent that belongs to nothing must not keep the program from starting.
#[tokio::test]
async fn an_intent_that_belongs_to_nothing_does_not_stop_the_start() {
    let mut town = Town::open(&[ONE]).await;
    town.follow("ann").await;
    let shard = town.store().leases().holding().sharding();
    let shard = shard.shard(AccountId(1));
    town.crash().await;
    town.tamper(&format!(
        "INSERT INTO deliveries
             (shard, account_id, due_at, enrollment_id, generation, state, epoch, intent_at)
         VALUES ({shard}, 1, 5, 77 << 16, 0, 1, 1, 5), ({shard}, 1, 6, 1 << 16, 0, 1, 1, 6)"
    ))
    .await;
    let started = tokio::time::timeout(std::time::Duration::from_secs(20), town.start());
    started.await.expect("starts");
    town.pass(minutes(2)).await;
    assert_eq!(town.heard("ann"), ["hello"]);
    town.end().await;
}

/// An unfollow and the promotion of the same timer may share one commit.
#[tokio::test]
async fn an_event_in_the_commit_that_promotes_its_timer_leaves_no_delivery_behind() {
    let town = Town::open(&[&sequence("", &[("5s", "hello")])]).await;
    for round in 0..20 {
        let names: Vec<_> = (0..40).map(|n| format!("r{round}f{n}")).collect();
        futures_util::future::join_all(names.iter().map(|who| town.follow(who))).await;
        town.advance(seconds(3));
        let leave = names.iter().map(|who| town.event(who, Event::Unfollowed));
        futures_util::future::join_all(leave).await;
        town.prove().await;
        town.advance(seconds(3));
        town.quiet().await;
    }
    assert_eq!(town.line.calls(), []);
    town.end().await;
}
