//! Single turns of the wheel: what goes first, and how much of it.

use std::sync::Arc;
use std::time::Duration;

use dripwheel::clock::{Clock, Timestamp};
use dripwheel::journey::event::{Arrival, Event};
use dripwheel::journey::ids::AccountId;
use dripwheel::scheduler::{Scheduler, SchedulerSettings};
use dripwheel::store::timers::{self, TimerKey};
use tokio::sync::mpsc;

use super::sequence;
use crate::support::{Town, eventually, hours, minutes, seconds};

/// A wheel that the test turns, over a town's rows. The town's own one stands still, since its clock
/// is not the wheel's.
struct Turning {
    town: Town,
    clock: Arc<dripwheel::clock::ManualClock>,
    wheel: Scheduler,
    account: AccountId,
}

impl Turning {
    async fn new(ring_entries: usize, promote_max: usize) -> Self {
        let town = Town::open(&[&sequence("", &[("50m", "hello")])]).await;
        let account = town.account("main");
        let clock = Arc::new(dripwheel::clock::ManualClock::at(town.now()));
        let settings = SchedulerSettings {
            ring_entries,
            lead: seconds(2),
            sweep_every: seconds(45),
            promote_max,
        };
        let (_, armed_rx) = mpsc::channel(1);
        let (due_tx, _) = mpsc::channel(1024);
        let shared = Arc::clone(&clock) as Arc<dyn Clock>;
        let wheel = Scheduler::new(Arc::clone(town.store()), shared, settings, armed_rx, due_tx);
        Self {
            town,
            clock,
            wheel,
            account,
        }
    }

    /// Follows of so many people whose step is due `after` the town's beginning.
    async fn people(&self, name: &str, count: usize, after: Duration) {
        let writer = self.town.store().writer();
        let created_at = self.town.now().plus(after).minus(minutes(50));
        let follows = (0..count).map(|n| {
            let arrival = Arrival {
                openid: format!("{name}{n}"),
                created_at,
                digest: 1,
                event: Event::Followed { scene: None },
                language: None,
            };
            writer.receive(self.account, arrival)
        });
        for followed in futures_util::future::join_all(follows).await {
            followed.unwrap();
        }
    }

    /// Timers due in a span after the town's beginning.
    async fn timers(&self, from: Duration, to: Duration) -> usize {
        let store = self.town.store();
        let after = TimerKey {
            due_at: self.town.now().plus(from),
            ..TimerKey::FIRST
        };
        let shards = store.leases().holding().shards();
        let until: Timestamp = self.town.now().plus(to);
        let page = timers::page(store.read(), &shards, after, until, 100_000).await;
        page.unwrap().len()
    }
}

#[tokio::test]
async fn what_is_fresh_goes_before_whatever_is_overdue() {
    let mut turning = Turning::new(1000, 20).await;
    turning.people("old", 300, seconds(30)).await;
    turning.people("new", 10, minutes(50)).await;
    turning.clock.advance(minutes(50) - seconds(1));
    assert_eq!(turning.wheel.run_once().await.unwrap(), 20);
    let fresh = turning.timers(minutes(49), hours(1)).await;
    let overdue = turning.timers(seconds(0), minutes(1)).await;
    assert_eq!((fresh, overdue), (0, 290));
    let mut turns = 0;
    while turning.wheel.run_once().await.unwrap() > 0 {
        turns += 1;
    }
    assert_eq!((turns, turning.timers(seconds(0), hours(1)).await), (15, 0));
    turning.town.end().await;
}

#[tokio::test]
async fn a_crowd_that_the_ring_cannot_hold_is_promoted_ahead_part_by_part() {
    let mut turning = Turning::new(50, 100).await;
    turning.people("crowd", 300, seconds(58)).await;
    turning.people("far", 5, minutes(30)).await;
    turning.clock.advance(seconds(1));
    // The first turn finds out; each one after it takes a quarter of what it may.
    let mut promoted = Vec::new();
    for _ in 0..14 {
        promoted.push(turning.wheel.run_once().await.unwrap());
    }
    assert_eq!(promoted[0], 0);
    assert_eq!(promoted[1..11], [25; 10]);
    assert!(promoted.iter().sum::<usize>() <= 300);
    assert_eq!(turning.timers(minutes(29), hours(1)).await, 5);
    assert_eq!(turning.town.line.calls(), [], "promoted is not sent");
    turning.town.end().await;
}

#[tokio::test]
async fn a_ring_that_forgot_what_it_could_not_hand_out_finds_it_in_the_rows() {
    let mut turning = Turning::new(1000, 10).await;
    turning.people("some", 100, seconds(40)).await;
    for second in 0..60 {
        turning.wheel.run_once().await.unwrap();
        turning.clock.advance(seconds(1));
        let held = turning.timers(seconds(0), minutes(1)).await;
        assert!(second < 38 || held < 100, "at {second} s");
    }
    eventually("all are promoted", || async {
        turning.timers(seconds(0), minutes(1)).await == 0
    })
    .await;
    turning.town.end().await;
}
