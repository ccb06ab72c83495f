//! Fairness between accounts and between an account's lanes, and what stays on disk.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::journey::ids::{BROADCASTS_FROM, FollowerId};
use crate::policy::learned::DayQuota;

const NOW: Timestamp = Timestamp(1_000_000_000);

fn key(account: i64, enrollment: i64, due_at: Timestamp) -> DeliveryKey {
    DeliveryKey {
        account: AccountId(account),
        due_at,
        enrollment: EnrollmentId::new(FollowerId(enrollment), 0),
        generation: 0,
    }
}

fn of_broadcast(key: DeliveryKey) -> DeliveryKey {
    DeliveryKey {
        enrollment: EnrollmentId::new(key.enrollment.follower(), BROADCASTS_FROM),
        ..key
    }
}

fn turns(accounts: i64) -> Turns {
    let mut turns = Turns::new(100_000);
    for id in 1..=accounts {
        turns.add_account(AccountId(id), Rate::default(), 1000, NOW);
    }
    turns
}

#[test]
fn an_account_with_a_burst_delays_no_other() {
    let mut turns = turns(3);
    for n in 0..3000 {
        turns.push(key(1, n, NOW), NOW);
    }
    for n in 0..3 {
        turns.push(key(2, 10_000 + n, NOW), NOW);
        turns.push(key(3, 20_000 + n, NOW), NOW);
    }
    let first = turns.next(NOW, 9);
    for account in 1..=3 {
        let count = first.iter().filter(|k| k.account.0 == account).count();
        assert_eq!(count, 3, "account {account}");
    }
}

#[test]
fn nothing_is_handed_out_early_or_twice() {
    let mut turns = turns(1);
    let later = NOW.plus(Duration::from_millis(1));
    turns.push(key(1, 1, later), NOW);
    turns.push(key(1, 1, later), NOW);
    assert_eq!(turns.next(NOW, 10), []);
    assert_eq!(turns.next_at(NOW), Some(later));
    assert_eq!(turns.next(later, 10).len(), 1);
    turns.push(key(1, 1, later), NOW);
    assert_eq!(turns.next(later, 10), []);
    turns.done(key(1, 1, later), true);
    turns.push(key(1, 1, later), NOW);
    assert_eq!(turns.next(later, 10).len(), 1);
}

#[test]
fn a_backlog_leaves_most_turns_to_fresh_steps() {
    let mut turns = turns(1);
    let old = NOW.minus(Duration::from_secs(36_000));
    for n in 0..1000 {
        turns.push(key(1, n, old), NOW);
        turns.push(key(1, 5000 + n, NOW), NOW);
    }
    let handed = turns.next(NOW, 100);
    let fresh = handed.iter().filter(|key| key.due_at == NOW).count();
    assert!((60..=80).contains(&fresh), "{fresh} of 100");
}

#[test]
fn a_paused_account_holds_no_memory_and_comes_back() {
    let mut turns = turns(2);
    for n in 0..100 {
        turns.push(key(1, n, NOW), NOW);
    }
    let until = NOW.plus(Duration::from_secs(60));
    turns.pause(AccountId(1), until);
    assert_eq!(turns.len(), 0);
    let hungry = |turns: &Turns, now| {
        let mut ids: Vec<_> = turns
            .hungry(now)
            .into_iter()
            .map(|wanted| wanted.account.0)
            .collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(hungry(&turns, NOW), [2]);
    assert_eq!(hungry(&turns, until), [1, 2]);
}

#[test]
fn what_was_learned_limits_the_turns_until_the_platform_says_otherwise() {
    let mut turns = turns(1);
    let id = AccountId(1);
    (0..50).for_each(|n| turns.push(key(1, n, NOW), NOW));
    let day = |left| Quota {
        day: Some(DayQuota {
            limit: 100,
            used: 100 - left,
            left,
        }),
        rates: Vec::new(),
    };
    let reset = NOW.plus(Duration::from_secs(3_600));
    turns.learn(id, &day(3), reset, false);
    assert_eq!(turns.next(NOW, 10).len(), 3);
    assert_eq!(turns.next_at(NOW), Some(reset));
    turns.learn(id, &day(2), reset, false);
    assert_eq!(turns.next(NOW, 10).len(), 2);
    turns.remove_account(id);
    turns.add_account(id, Rate::default(), 1000, NOW);
    turns.push(key(1, 100, NOW), NOW);
    assert_eq!(turns.next(NOW, 10), [], "what was used stays used");
    turns.use_up(id, reset);
    assert_eq!(turns.len(), 0, "a used-up account holds no memory");
    turns.learn(id, &day(50), reset, false);
    assert!(turns.hungry(NOW).is_empty());
    turns.learn(id, &day(50), reset, true);
    assert_eq!(turns.hungry(NOW).len(), 1);
}

#[test]
fn a_full_queue_leaves_the_rest_on_disk() {
    let mut turns = turns(1);
    let first = turns.hungry(NOW)[0];
    turns.fed(first, Vec::new(), true, NOW);
    for n in 0..10_000 {
        turns.push(key(1, n, NOW), NOW);
    }
    assert!(turns.len() <= 2 * QUEUE_MAX);
    while !turns.next(NOW, 500).is_empty() {
        for n in 0..10_000 {
            turns.done(key(1, n, NOW), true);
        }
    }
    assert_eq!(turns.hungry(NOW).len(), 1);
}

const OLD: Timestamp = Timestamp(NOW.0 - 36_000_000);

/// An account's rows on disk, read and written as the sender does.
fn feed(turns: &mut Turns, rows: &BTreeMap<Place, DeliveryKey>, now: Timestamp) {
    for wanted in turns.hungry(now) {
        let after = (
            std::ops::Bound::Excluded(wanted.after),
            std::ops::Bound::Unbounded,
        );
        let page: Vec<_> = rows
            .range(after)
            .take(READ_MAX)
            .map(|(_, key)| *key)
            .collect();
        let all = page.len() < READ_MAX;
        turns.fed(wanted, page, all, now);
    }
}

fn row(key: DeliveryKey) -> (Place, DeliveryKey) {
    ((key.due_at, key.enrollment), key)
}

#[test]
fn who_has_just_followed_does_not_wait_behind_yesterday() {
    let mut turns = turns(1);
    let mut rows: BTreeMap<_, _> = (0..50_000).map(|n| row(key(1, n, OLD))).collect();
    // The newcomers' deliveries are on disk alone, behind all the others.
    rows.extend((0..1500).map(|n| row(key(1, 100_000 + n, NOW))));
    let mut greeted = 0;
    for _ in 0..50 {
        feed(&mut turns, &rows, NOW);
        for handed in turns.next(NOW, 100) {
            greeted += usize::from(handed.due_at == NOW);
            rows.remove(&(handed.due_at, handed.enrollment));
            turns.done(handed, true);
        }
    }
    assert_eq!(greeted, 1500, "of 5000 that were sent");
}

/// A broadcast that is longer than the memory waits for every step, however late, and is all sent.
#[test]
fn a_broadcast_goes_while_sequences_have_nothing_due() {
    let mut turns = turns(1);
    for queue in turns.queues.values_mut() {
        queue.ramp = None;
    }
    let just_now = NOW.minus(Duration::from_secs(1));
    let broadcast = (0..9_000).map(|n| row(of_broadcast(key(1, n, NOW))));
    let mut rows: BTreeMap<_, _> = broadcast.collect();
    rows.extend((20_000..20_500).map(|n| row(key(1, n, OLD))));
    rows.extend((30_000..30_500).map(|n| row(key(1, n, just_now))));
    let mut handed = Vec::new();
    for _ in 0..200 {
        feed(&mut turns, &rows, NOW);
        for one in turns.next(NOW, 100) {
            handed.push(one.enrollment.is_broadcast());
            rows.remove(&(one.due_at, one.enrollment));
            turns.done(one, true);
        }
    }
    assert_eq!(handed.len(), 10_000);
    assert!(handed[..1_000].iter().all(|broadcast| !broadcast));
    assert!(handed[1_000..].iter().all(|broadcast| *broadcast));
}

/// Deliveries are told of two seconds ahead, and more of them than memory holds: those that had to
/// be left on disk are not overtaken by those that are told of later.
#[test]
fn a_stream_that_the_memory_cannot_hold_stays_on_time() {
    let mut turns = turns(1);
    turns.fed(turns.hungry(NOW)[0], Vec::new(), true, NOW);
    let due = |n: i64| {
        NOW.plus(Duration::from_secs(2))
            .plus(Duration::from_micros(200) * n as u32)
    };
    let (mut rows, mut told, mut sent) = (BTreeMap::new(), 0, 0);
    for tick in 0..600 {
        let now = NOW.plus(Duration::from_millis(10 * tick));
        while told < 15_000 && due(told) <= now.plus(Duration::from_secs(2)) {
            let (place, key) = row(key(1, told, due(told)));
            rows.insert(place, key);
            turns.push(key, now);
            told += 1;
        }
        feed(&mut turns, &rows, now);
        for handed in turns.next(now, 500) {
            assert!(
                now.since(handed.due_at) <= Duration::from_millis(10),
                "{handed:?}"
            );
            rows.remove(&(handed.due_at, handed.enrollment));
            turns.done(handed, true);
            sent += 1;
        }
    }
    assert_eq!(sent, 15_000);
}

#[test]
fn what_was_due_at_the_start_is_not_overtaken_by_what_comes_later() {
    let mut turns = turns(1);
    let mut rows: BTreeMap<_, _> = (0..9_000).map(|n| row(key(1, n, NOW))).collect();
    let mut last = 0;
    for round in 0..20 {
        let now = NOW.plus(Duration::from_millis(10 * round));
        feed(&mut turns, &rows, now);
        for n in 0..500 {
            let (place, key) = row(key(1, 10_000 + 500 * round as i64 + n, now));
            rows.insert(place, key);
            turns.push(key, now);
        }
        for handed in turns.next(now, 500) {
            assert!(handed.enrollment.0 >= last, "{handed:?} after {last}");
            last = handed.enrollment.0;
            rows.remove(&(handed.due_at, handed.enrollment));
            turns.done(handed, true);
        }
    }
}

#[test]
fn a_backlog_that_fills_the_memory_leaves_room_for_fresh_steps() {
    let mut turns = turns(1);
    (0..10_000).for_each(|n| turns.push(key(1, n, OLD), NOW));
    turns.push(key(1, 20_000, NOW), NOW);
    let handed = turns.next(NOW, 1);
    assert_eq!(handed[0].due_at, NOW);
}

#[test]
fn after_downtime_a_backlog_begins_slowly_and_fresh_steps_do_not() {
    let mut turns = Turns::new(100_000);
    let rate = Rate {
        per_second: Some(100),
        ..Rate::default()
    };
    turns.add_account(AccountId(1), rate, 100, NOW);
    (0..2000).for_each(|n| turns.push(key(1, n, OLD), NOW));
    let mut sent = Vec::new();
    for tick in 0..1200 {
        let now = NOW.plus(Duration::from_millis(25 * tick));
        let handed = turns.next(now, 100);
        sent.extend(handed.iter().map(|_| now));
        handed.into_iter().for_each(|key| turns.done(key, true));
    }
    let within = |from: u64, to: u64| {
        let span = NOW.plus(Duration::from_secs(from))..NOW.plus(Duration::from_secs(to));
        sent.iter().filter(|at| span.contains(at)).count()
    };
    let speeds = [within(1, 5), within(6, 10), within(11, 15), within(16, 20)];
    assert_eq!(speeds, [80, 120, 180, 270]);
    assert!((490..=510).contains(&within(21, 26)), "{}", within(21, 26));
    let now = NOW.plus(Duration::from_secs(40));
    turns.ramp_up(now);
    (0..100).for_each(|n| turns.push(key(1, 50_000 + n, now), now));
    let handed = turns.next(now, 60);
    let fresh = handed.iter().filter(|key| key.due_at == now).count();
    assert!((54..60).contains(&fresh), "{fresh} of 60");
}

#[test]
fn a_ramp_keeps_places_free() {
    let mut turns = turns(1);
    (0..2000).for_each(|n| turns.push(key(1, n, OLD), NOW));
    let handed = turns.next(NOW, 1000);
    assert_eq!(handed.len(), 200, "a fifth of the places");
    assert_eq!(turns.next_at(NOW), None, "the next that ends makes room");
    turns.done(handed[0], true);
    assert_eq!(turns.next_at(NOW), Some(NOW));
    assert_eq!(turns.next(NOW, 1000).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is pushed, read, handed out, forgotten and set back: every row is handed out once,
    /// none early, and nothing stays behind.
    #[test]
    fn every_row_has_its_turn_once(
        acts in prop::collection::vec((0u8..12, 0i64..200_000, 1usize..200), 1..40),
        cap in 1usize..1500,
    ) {
        let mut turns = Turns::new(cap);
        let rate = Rate { per_second: Some(1000), ..Rate::default() };
        turns.add_account(AccountId(1), rate, 50, NOW);
        let (mut rows, mut now, mut number) = (BTreeMap::new(), NOW, 0);
        let mut out = Vec::new();
        for (act, span, count) in acts {
            match act {
                0..=5 => for _ in 0..count {
                    number += 1;
                    let due_at = Timestamp(now.0 - 120_000 + span);
                    let (place, key) = row(key(1, number, due_at));
                    rows.insert(place, key);
                    if act < 4 { turns.push(key, now) } else { turns.look_again() }
                },
                6 => turns.pause(AccountId(1), now.plus(Duration::from_millis(100))),
                7 => turns.ramp_up(now),
                _ => now = Timestamp(now.0 + span / 4),
            }
            feed(&mut turns, &rows, now);
            for handed in turns.next(now, count) {
                prop_assert!(handed.due_at <= now, "early");
                let place = (handed.due_at, handed.enrollment);
                prop_assert!(rows.remove(&place).is_some(), "twice");
                out.push(handed);
            }
            if act % 2 == 0 {
                out.drain(..).for_each(|key| turns.done(key, true));
            }
        }
        for _ in 0..20_000 {
            out.drain(..).for_each(|key| turns.done(key, true));
            if rows.is_empty() {
                break;
            }
            feed(&mut turns, &rows, now);
            for handed in turns.next(now, 1000) {
                let place = (handed.due_at, handed.enrollment);
                prop_assert!(rows.remove(&place).is_some(), "twice");
                out.push(handed);
            }
            // As the sender sleeps: until it is told, at most a second.
            let idle = now.plus(Duration::from_secs(1));
            let at = turns.next_at(now).unwrap_or(idle).min(idle);
            prop_assert!(at >= now);
            now = at.max(Timestamp(now.0 + 1));
        }
        prop_assert!(rows.is_empty(), "left: {}", rows.len());
    }
}
