//! Whose turn it is: due deliveries by account, served in rounds.
//!
//! Deficit round robin over the accounts that have something due and may send: an account with a
//! million due steps gets as many turns as one with three. Within an account two lanes, so that a
//! backlog does not make the newest followers wait: fresh steps get 7 of 10 turns. Memory is
//! bounded per account and in all; what does not fit stays in its row and is read again later.
//!
//! Pure: `now` is an argument, and limits are plain numbers.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::journey::ids::{AccountId, EnrollmentId};
use crate::policy::learned::Quota;
use crate::policy::limiter::{Limiter, Rate};
use crate::store::work::DeliveryKey;

/// A step is fresh while it is less late than this.
const FRESH: Duration = Duration::from_secs(60);

/// Of ten turns of an account, how many go to its fresh steps while it has a backlog.
const FRESH_TURNS: u8 = 7;

/// Most deliveries of one account in memory, per lane.
pub const QUEUE_MAX: usize = 2000;

/// A delivery's place among its account's rows.
pub type Place = (Timestamp, EnrollmentId);

/// Before every row.
const START: Place = (Timestamp(i64::MIN), EnrollmentId(i64::MIN));

/// Room that an account has even when the memory is full of others' deliveries, which may be
/// resting for a long time.
const ROOM_MIN: usize = 16;

/// One account's due deliveries and limits.
#[derive(Debug)]
struct Queue {
    /// By due instant. Both lanes in one map: the earliest is the backlog's head, and the fresh
    /// lane starts where lateness ends.
    due: BTreeMap<Place, DeliveryKey>,
    limiter: Limiter,
    in_flight: usize,
    in_flight_max: usize,
    /// Nothing is sent before this instant: the account rests.
    rests_until: Timestamp,
    /// Nothing is sent before this instant: the day's calls are used up, unless the platform says
    /// otherwise later.
    used_up_until: Timestamp,
    /// No limit has room before this instant.
    full_until: Timestamp,
    /// Rows of this account were left on disk: read on when the queue runs low.
    more_on_disk: bool,
    /// Every row up to here has been read since the last look from the beginning.
    read_until: Place,
    turn: u8,
}

impl Queue {
    /// Notes that a row was not taken into memory, so that it is read again.
    fn leave_on_disk(&mut self, place: Place) {
        self.more_on_disk = true;
        if place <= self.read_until {
            let (due_at, EnrollmentId(id)) = place;
            self.read_until = (due_at, EnrollmentId(id.saturating_sub(1)));
        }
    }

    /// Nothing is sent before this instant.
    fn not_before(&self) -> Timestamp {
        self.rests_until
            .max(self.used_up_until)
            .max(self.full_until)
    }

    /// Forgets what is in memory: an account that rests must cost nothing.
    fn forget(&mut self) -> usize {
        let forgotten = self.due.len();
        self.due.clear();
        self.more_on_disk = true;
        self.read_until = START;
        forgotten
    }

    fn ready(&self, now: Timestamp) -> bool {
        let first = self.due.keys().next().map(|(due_at, _)| *due_at);
        self.in_flight < self.in_flight_max
            && self.not_before() <= now
            && first.is_some_and(|due_at| due_at <= now)
    }

    fn take(&mut self, now: Timestamp) -> Option<DeliveryKey> {
        self.turn = (self.turn + 1) % 10;
        let fresh_from = (now.minus(FRESH), EnrollmentId(i64::MIN));
        let now_key = (now, EnrollmentId(i64::MAX));
        let fresh = self.due.range(fresh_from..=now_key).next().map(|(k, _)| *k);
        let oldest = self.due.keys().next().copied();
        let key = match fresh {
            Some(fresh) if self.turn < FRESH_TURNS => fresh,
            _ => oldest.filter(|(due_at, _)| *due_at <= now)?,
        };
        self.due.remove(&key)
    }
}

/// All accounts' due deliveries.
#[derive(Debug, Default)]
pub struct Turns {
    queues: HashMap<AccountId, Queue>,
    /// Limits of accounts that were here and may come back: what was learned and used of them holds.
    limiters: HashMap<AccountId, Limiter>,
    /// Accounts with something queued, in the order of their turns.
    round: VecDeque<AccountId>,
    in_round: HashSet<AccountId>,
    /// Deliveries that were handed out and not given back, so that none is handed out twice.
    out: HashSet<(EnrollmentId, u32)>,
    len: usize,
    cap: usize,
}

impl Turns {
    /// Empty queues that hold at most `cap` deliveries in all, beside a few of each account.
    pub fn new(cap: usize) -> Self {
        Self {
            cap: cap.max(1),
            ..Self::default()
        }
    }

    /// Makes an account known; one that is known already stays as it is. Its rows on disk have not
    /// been read yet.
    pub fn add_account(&mut self, id: AccountId, rate: Rate, in_flight_max: usize, now: Timestamp) {
        if self.queues.contains_key(&id) {
            return;
        }
        let limiter = self.limiters.remove(&id);
        let queue = Queue {
            due: BTreeMap::new(),
            limiter: limiter.unwrap_or_else(|| Limiter::new(rate, now)),
            in_flight: 0,
            in_flight_max: in_flight_max.max(1),
            rests_until: Timestamp(i64::MIN),
            used_up_until: Timestamp(i64::MIN),
            full_until: Timestamp(i64::MIN),
            more_on_disk: true,
            read_until: START,
            turn: 0,
        };
        self.queues.insert(id, queue);
    }

    /// Forgets an account. Its rows stay on disk; what is under way ends as it would have.
    pub fn remove_account(&mut self, id: AccountId) {
        if let Some(queue) = self.queues.remove(&id) {
            self.len -= queue.due.len();
            self.limiters.insert(id, queue.limiter);
            self.in_round.remove(&id);
            self.round.retain(|other| *other != id);
        }
    }

    /// Deliveries in memory.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Queues a delivery. When its account's queue or the whole is full it stays on disk.
    pub fn push(&mut self, key: DeliveryKey) {
        if self.out.contains(&(key.enrollment, key.generation)) {
            return;
        }
        let Some(queue) = self.queues.get_mut(&key.account) else {
            return;
        };
        let place = (key.due_at, key.enrollment);
        let full = self.len >= self.cap && queue.due.len() >= ROOM_MIN;
        if full || queue.due.len() >= 2 * QUEUE_MAX {
            queue.leave_on_disk(place);
            return;
        }
        if queue.due.insert(place, key).is_none() {
            self.len += 1;
        }
        if self.in_round.insert(key.account) {
            self.round.push_back(key.account);
        }
    }

    /// Hands out at most `limit` due deliveries, one account after another.
    pub fn next(&mut self, now: Timestamp, limit: usize) -> Vec<DeliveryKey> {
        let mut handed = Vec::new();
        let mut idle = 0;
        while handed.len() < limit && idle < self.round.len() {
            let Some(id) = self.round.pop_front() else {
                break;
            };
            let Some(queue) = self.queues.get_mut(&id) else {
                self.in_round.remove(&id);
                continue;
            };
            if queue.due.is_empty() {
                self.in_round.remove(&id);
                continue;
            }
            self.round.push_back(id);
            if !queue.ready(now) {
                idle += 1;
                continue;
            }
            if let Err(ready_at) = queue.limiter.take(now) {
                queue.full_until = ready_at;
                idle += 1;
                continue;
            }
            let Some(key) = queue.take(now) else {
                queue.limiter.give_back();
                idle += 1;
                continue;
            };
            idle = 0;
            self.len -= 1;
            queue.in_flight += 1;
            self.out.insert((key.enrollment, key.generation));
            handed.push(key);
        }
        handed
    }

    /// A delivery that was handed out is done with. `sent` says whether it used up a call.
    pub fn done(&mut self, key: DeliveryKey, sent: bool) {
        self.out.remove(&(key.enrollment, key.generation));
        if let Some(queue) = self.queues.get_mut(&key.account) {
            queue.in_flight = queue.in_flight.saturating_sub(1);
            if !sent {
                queue.limiter.give_back();
            }
        }
    }

    /// Lets an account rest until `until`; what it has in memory is forgotten, since a paused
    /// account must cost nothing. Its rows are read again afterwards.
    pub fn pause(&mut self, id: AccountId, until: Timestamp) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.rests_until = queue.rests_until.max(until);
            self.len -= queue.forget();
        }
    }

    /// The day's calls of an account are used up until `until`.
    pub fn use_up(&mut self, id: AccountId, until: Timestamp) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.used_up_until = until;
            self.len -= queue.forget();
        }
    }

    /// The platform says that an account's calls come too fast.
    pub fn slow_down(&mut self, id: AccountId, now: Timestamp) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.limiter.slow_down(now);
        }
    }

    /// Takes in what the platform says of an account's limits. `lifts` says that the day's calls
    /// are not used up after all.
    pub fn learn(&mut self, id: AccountId, quota: &Quota, resets_at: Timestamp, lifts: bool) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.limiter.learn(quota, resets_at);
            // Whatever it was full of has changed.
            queue.full_until = Timestamp(i64::MIN);
            if lifts {
                queue.used_up_until = Timestamp(i64::MIN);
            }
        }
    }

    /// The clock was set back: rests last as long as they would have.
    pub fn set_back(&mut self, by: Duration) {
        for queue in self.queues.values_mut() {
            queue.rests_until = queue.rests_until.minus(by);
            queue.used_up_until = queue.used_up_until.minus(by);
            queue.full_until = queue.full_until.minus(by);
        }
    }

    /// Supposes that every account has rows on disk that are not in memory.
    pub fn look_again(&mut self) {
        for queue in self.queues.values_mut() {
            queue.more_on_disk = true;
            queue.read_until = START;
        }
    }

    /// Accounts whose rows should be read, each with the place to read on from.
    pub fn hungry(&self, now: Timestamp) -> Vec<(AccountId, Place)> {
        let low = if self.len < self.cap {
            QUEUE_MAX / 2
        } else {
            1
        };
        self.queues
            .iter()
            .filter(|(_, queue)| {
                queue.more_on_disk && queue.not_before() <= now && queue.due.len() < low
            })
            .map(|(id, queue)| (*id, queue.read_until))
            .collect()
    }

    /// Takes in rows that were read for a hungry account; `all` says that there were no more.
    pub fn fed(&mut self, id: AccountId, rows: Vec<DeliveryKey>, all: bool) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.more_on_disk = !all;
            if let Some(last) = rows.last() {
                queue.read_until = (last.due_at, last.enrollment);
            }
        }
        for row in rows {
            self.push(row);
        }
    }

    /// The next instant at which something may be handed out or should be read; `None` when there
    /// is nothing to wait for.
    pub fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.queues
            .values()
            .filter(|queue| queue.in_flight < queue.in_flight_max)
            .filter_map(|queue| match queue.due.keys().next() {
                Some((due_at, _)) => Some((*due_at).max(queue.not_before()).max(now)),
                // A rest ends: then its rows are read.
                None => {
                    let until = queue.not_before();
                    (queue.more_on_disk && until > now).then_some(until)
                }
            })
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::learned::DayQuota;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn key(account: i64, enrollment: i64, due_at: Timestamp) -> DeliveryKey {
        DeliveryKey {
            account: AccountId(account),
            due_at,
            enrollment: EnrollmentId(enrollment),
            generation: 0,
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
            turns.push(key(1, n, NOW));
        }
        for n in 0..3 {
            turns.push(key(2, 10_000 + n, NOW));
            turns.push(key(3, 20_000 + n, NOW));
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
        turns.push(key(1, 1, later));
        turns.push(key(1, 1, later));
        assert_eq!(turns.next(NOW, 10), []);
        assert_eq!(turns.next_at(NOW), Some(later));
        assert_eq!(turns.next(later, 10).len(), 1);
        turns.push(key(1, 1, later));
        assert_eq!(turns.next(later, 10), []);
        turns.done(key(1, 1, later), true);
        turns.push(key(1, 1, later));
        assert_eq!(turns.next(later, 10).len(), 1);
    }

    #[test]
    fn a_backlog_leaves_most_turns_to_fresh_steps() {
        let mut turns = turns(1);
        let old = NOW.minus(Duration::from_secs(36_000));
        for n in 0..1000 {
            turns.push(key(1, n, old));
            turns.push(key(1, 5000 + n, NOW));
        }
        let handed = turns.next(NOW, 100);
        let fresh = handed.iter().filter(|key| key.due_at == NOW).count();
        assert!((60..=80).contains(&fresh), "{fresh} of 100");
    }

    #[test]
    fn a_paused_account_holds_no_memory_and_comes_back() {
        let mut turns = turns(2);
        for n in 0..100 {
            turns.push(key(1, n, NOW));
        }
        let until = NOW.plus(Duration::from_secs(60));
        turns.pause(AccountId(1), until);
        assert_eq!(turns.len(), 0);
        let hungry = |turns: &Turns, now| {
            let mut ids: Vec<_> = turns.hungry(now).into_iter().map(|(id, _)| id.0).collect();
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
        (0..50).for_each(|n| turns.push(key(1, n, NOW)));
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
        turns.push(key(1, 100, NOW));
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
        turns.fed(AccountId(1), Vec::new(), true);
        for n in 0..10_000 {
            turns.push(key(1, n, NOW));
        }
        assert!(turns.len() <= 2 * QUEUE_MAX);
        while !turns.next(NOW, 500).is_empty() {
            for n in 0..10_000 {
                turns.done(key(1, n, NOW), true);
            }
        }
        assert_eq!(turns.hungry(NOW).len(), 1);
    }
}
