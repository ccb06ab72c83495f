//! Whose turn it is: due deliveries by account, served in rounds.
//!
//! Deficit round robin over the accounts that have something due and may send: an account with a
//! million due steps gets as many turns as one with three. Within an account two lanes, so that a
//! backlog does not make the newest followers wait: fresh steps get 7 of 10 turns, and are read from
//! the rows past the backlog. Broadcasts have a third one, which goes while the others have nothing. After downtime the backlog goes slowly at first (`ramp`). Memory is
//! bounded per account and in all; what does not fit stays in its row and is read again later.
//!
//! Pure: `now` is an argument, and limits are plain numbers.

mod queue;
mod ramp;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::journey::ids::{AccountId, EnrollmentId};
use crate::policy::learned::Quota;
use crate::policy::limiter::{Limiter, Rate};
use crate::sender::turns::queue::{Lane, Queue};
use crate::sender::turns::ramp::Ramp;
use crate::store::work::DeliveryKey;

pub use queue::{Place, Wanted};

/// Most deliveries of one account's backlog in memory; twice as many of its fresh ones.
pub const QUEUE_MAX: usize = 2000;

/// Rows of an account that are read at once: so many fit into a lane that runs low.
pub const READ_MAX: usize = QUEUE_MAX / 2;

/// Room that an account has even when the memory is full of others' deliveries, which may be
/// resting for a long time.
const ROOM_MIN: usize = 16;

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
    out: HashMap<(EnrollmentId, u32), Lane>,
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
        let limiter = limiter.unwrap_or_else(|| Limiter::new(rate, now));
        let queue = Queue::new(limiter, rate, in_flight_max, now);
        self.queues.insert(id, queue);
    }

    /// Forgets an account. Its rows stay on disk; what is under way ends as it would have.
    pub fn remove_account(&mut self, id: AccountId) {
        if let Some(queue) = self.queues.remove(&id) {
            self.len -= queue.len();
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

    /// Deliveries of each account that has any in memory.
    pub fn depths(&self) -> impl Iterator<Item = (AccountId, usize)> {
        let depths = self.queues.iter().map(|(id, queue)| (*id, queue.len()));
        depths.filter(|(_, depth)| *depth > 0)
    }

    /// Queues a delivery. When its account's lane or the whole is full it stays on disk.
    pub fn push(&mut self, key: DeliveryKey, now: Timestamp) {
        if self.out.contains_key(&(key.enrollment, key.generation)) {
            return;
        }
        let Some(queue) = self.queues.get_mut(&key.account) else {
            return;
        };
        let place = (key.due_at, key.enrollment);
        let lane = Lane::of(place, now);
        if !queue.has_room(place, lane, self.len >= self.cap) {
            queue.leave_on_disk(place, lane);
            return;
        }
        if queue.lane(lane).insert(place, key).is_none() {
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
            if queue.len() == 0 {
                self.in_round.remove(&id);
                continue;
            }
            self.round.push_back(id);
            queue.age(now);
            if queue.ready_at().is_none_or(|at| at > now) {
                idle += 1;
                continue;
            }
            if let Err(ready_at) = queue.limiter.take(now) {
                queue.full_until = ready_at;
                idle += 1;
                continue;
            }
            let Some((key, lane)) = queue.take(now) else {
                queue.limiter.give_back();
                idle += 1;
                continue;
            };
            idle = 0;
            self.len -= 1;
            self.out.insert((key.enrollment, key.generation), lane);
            handed.push(key);
        }
        handed
    }

    /// A delivery that was handed out is done with. `sent` says whether it used up a call.
    pub fn done(&mut self, key: DeliveryKey, sent: bool) {
        let lane = self.out.remove(&(key.enrollment, key.generation));
        let Some(queue) = self.queues.get_mut(&key.account) else {
            return;
        };
        queue.done(lane, sent);
    }

    /// Much has become overdue at once: every account's backlog begins slowly.
    pub fn ramp_up(&mut self, now: Timestamp) {
        for queue in self.queues.values_mut() {
            queue.ramp = Some(Ramp::new(queue.rate, now));
        }
    }

    /// A call of an account went wrong: its backlog does not become faster yet.
    pub fn trouble(&mut self, id: AccountId, now: Timestamp) {
        let queue = self.queues.get_mut(&id);
        if let Some(ramp) = queue.and_then(|queue| queue.ramp.as_mut()) {
            ramp.stay(now);
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
            if let Some(ramp) = &mut queue.ramp {
                ramp.set_back(by);
            }
        }
    }

    /// Supposes that every account has rows on disk that are not in memory.
    pub fn look_again(&mut self) {
        self.queues.values_mut().for_each(Queue::look_again);
    }

    /// What should be read of accounts' rows, in pages of [`READ_MAX`].
    pub fn hungry(&self, now: Timestamp) -> Vec<Wanted> {
        let low = if self.len < self.cap { READ_MAX } else { 1 };
        let queues = self.queues.iter();
        queues
            .filter(|(_, queue)| queue.not_before() <= now)
            .filter_map(|(id, queue)| queue.wanted(*id, low, now))
            .collect()
    }

    /// Takes in rows that were read as wanted; `all` says that there were no more.
    pub fn fed(&mut self, wanted: Wanted, rows: Vec<DeliveryKey>, all: bool, now: Timestamp) {
        if let Some(queue) = self.queues.get_mut(&wanted.account) {
            let last = rows.last().map(|row| (row.due_at, row.enrollment));
            queue.note_read(wanted, last.unwrap_or(wanted.after), all, now);
        }
        for row in rows {
            self.push(row, now);
        }
    }

    /// The next instant at which something may be handed out or should be read; `None` when there
    /// is nothing to wait for.
    pub fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.queues
            .values()
            .filter_map(|queue| match queue.len() {
                // A rest ends: then its rows are read.
                0 => {
                    let until = queue.not_before();
                    let waits = queue.in_flight < queue.in_flight_max;
                    (waits && queue.more_on_disk && until > now).then_some(until)
                }
                _ => queue.ready_at().map(|at| at.max(now)),
            })
            .min()
    }
}

#[cfg(test)]
mod tests;
