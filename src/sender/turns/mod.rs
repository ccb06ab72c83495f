//! Whose turn it is: due deliveries by account, served in rounds.
//!
//! Deficit round robin over the accounts that have something due and may send: an account with a
//! million due steps gets as many turns as one with three. Within an account two lanes, so that a
//! backlog does not make the newest followers wait: fresh steps get 7 of 10 turns, and are read from
//! the rows past the backlog. After downtime the backlog goes slowly at first (`ramp`). Memory is
//! bounded per account and in all; what does not fit stays in its row and is read again later.
//!
//! Pure: `now` is an argument, and limits are plain numbers.

mod ramp;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::journey::ids::{AccountId, EnrollmentId};
use crate::policy::learned::Quota;
use crate::policy::limiter::{Limiter, Rate};
use crate::sender::turns::ramp::Ramp;
use crate::store::work::DeliveryKey;

/// A step is fresh while it is less late than this.
const FRESH: Duration = Duration::from_secs(60);

/// Of ten turns of an account, how many go to its fresh steps while it has a backlog.
const FRESH_TURNS: u8 = 7;

/// Most deliveries of one account in memory, per lane.
pub const QUEUE_MAX: usize = 2000;

/// Rows of an account that are read at once: so many fit into a lane that runs low.
pub const READ_MAX: usize = QUEUE_MAX / 2;

/// A delivery's place among its account's rows.
pub type Place = (Timestamp, EnrollmentId);

/// Before every row.
const START: Place = (Timestamp(i64::MIN), EnrollmentId(i64::MIN));

/// Room that an account has even when the memory is full of others' deliveries, which may be
/// resting for a long time.
const ROOM_MIN: usize = 16;

/// Which of an account's deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Fresh,
    Backlog,
}

/// Rows of an account that should be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub account: AccountId,
    /// The place to read on from.
    pub after: Place,
    /// Past the backlog, for the fresh lane alone.
    fresh: bool,
}

/// One account's due deliveries and limits.
#[derive(Debug)]
struct Queue {
    /// By due instant; what is late moves over to the backlog.
    fresh: BTreeMap<Place, DeliveryKey>,
    backlog: BTreeMap<Place, DeliveryKey>,
    /// How the backlog begins; `None` once it goes as fast as everything.
    ramp: Option<Ramp>,
    rate: Rate,
    limiter: Limiter,
    in_flight: usize,
    backlog_in_flight: usize,
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
    /// Fresh rows were left on disk, perhaps behind a long backlog; read up to here so far.
    fresh_on_disk: bool,
    fresh_read_until: Place,
    turn: u8,
}

impl Queue {
    fn len(&self) -> usize {
        self.fresh.len() + self.backlog.len()
    }

    fn lane(&mut self, lane: Lane) -> &mut BTreeMap<Place, DeliveryKey> {
        match lane {
            Lane::Fresh => &mut self.fresh,
            Lane::Backlog => &mut self.backlog,
        }
    }

    /// Notes that a row was not taken into memory, so that it is read again.
    fn leave_on_disk(&mut self, place: Place, lane: Lane) {
        let (due_at, EnrollmentId(id)) = place;
        let before = (due_at, EnrollmentId(id.saturating_sub(1)));
        self.more_on_disk = true;
        self.read_until = self.read_until.min(before);
        if lane == Lane::Fresh {
            self.fresh_on_disk = true;
            self.fresh_read_until = self.fresh_read_until.min(before);
        }
    }

    /// Nothing is sent before this instant.
    fn not_before(&self) -> Timestamp {
        self.rests_until
            .max(self.used_up_until)
            .max(self.full_until)
    }

    /// Supposes that there are rows on disk that are not in memory.
    fn look_again(&mut self) {
        self.more_on_disk = true;
        self.read_until = START;
        self.fresh_on_disk = true;
        self.fresh_read_until = START;
    }

    /// Forgets what is in memory: an account that rests must cost nothing.
    fn forget(&mut self) -> usize {
        let forgotten = self.len();
        self.fresh.clear();
        self.backlog.clear();
        self.look_again();
        forgotten
    }

    /// Moves over what has become late, and lets the ramp grow.
    fn age(&mut self, now: Timestamp) {
        let fresh_from = now.minus(FRESH);
        while let Some(first) = self.fresh.first_entry() {
            if first.key().0 >= fresh_from {
                break;
            }
            let (place, key) = first.remove_entry();
            self.backlog.insert(place, key);
        }
        if self.ramp.as_mut().is_some_and(|ramp| ramp.look(now)) {
            self.ramp = None;
        }
    }

    /// When a lane has something to hand out, as far as that is a matter of time.
    fn lane_ready_at(&self, lane: Lane) -> Option<Timestamp> {
        let first = |due: &BTreeMap<Place, DeliveryKey>| due.keys().next().map(|(at, _)| *at);
        let Lane::Backlog = lane else {
            return first(&self.fresh);
        };
        let due_at = first(&self.backlog)?;
        match &self.ramp {
            None => Some(due_at),
            Some(ramp) if self.backlog_in_flight < ramp.places(self.in_flight_max) => {
                Some(due_at.max(ramp.ready_at()))
            }
            Some(_) => None,
        }
    }

    fn ready_at(&self) -> Option<Timestamp> {
        let lanes = [Lane::Fresh, Lane::Backlog].map(|lane| self.lane_ready_at(lane));
        let first = lanes.into_iter().flatten().min()?;
        (self.in_flight < self.in_flight_max).then(|| first.max(self.not_before()))
    }

    /// The lane whose turn it is, of those that have something to hand out.
    fn next_lane(&self, now: Timestamp) -> Option<Lane> {
        let ready = |lane: &Lane| self.lane_ready_at(*lane).is_some_and(|at| at <= now);
        let order = if self.turn < FRESH_TURNS {
            [Lane::Fresh, Lane::Backlog]
        } else {
            [Lane::Backlog, Lane::Fresh]
        };
        order.into_iter().find(ready)
    }

    fn take(&mut self, now: Timestamp) -> Option<(DeliveryKey, Lane)> {
        let lane = self.next_lane(now)?;
        let (_, key) = self.lane(lane).pop_first()?;
        self.turn = (self.turn + 1) % 10;
        self.in_flight += 1;
        if lane == Lane::Backlog {
            self.backlog_in_flight += 1;
            if let Some(ramp) = &mut self.ramp {
                ramp.take(now);
            }
        }
        Some((key, lane))
    }

    /// The rows that should be read: from the beginning on, and past the backlog where fresh ones
    /// lie behind it. A lane is `low` with fewer deliveries.
    fn wanted(&self, account: AccountId, low: usize, now: Timestamp) -> Option<Wanted> {
        let fresh_from = (now.minus(FRESH), EnrollmentId(i64::MIN));
        let behind = self.read_until < fresh_from;
        let (fresh_low, backlog_low) = (self.fresh.len() < low, self.backlog.len() < low);
        if self.fresh_on_disk && fresh_low && behind && self.read_until > START {
            return Some(Wanted {
                account,
                after: self.fresh_read_until.max(fresh_from),
                fresh: true,
            });
        }
        // What follows may be for either lane; behind the backlog it is for the fresh one.
        let room = backlog_low && (behind || fresh_low);
        (self.more_on_disk && room).then_some(Wanted {
            account,
            after: self.read_until,
            fresh: false,
        })
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
        let queue = Queue {
            fresh: BTreeMap::new(),
            backlog: BTreeMap::new(),
            // What it has not sent while we did not know it is its backlog.
            ramp: Some(Ramp::new(rate, now)),
            rate,
            limiter: limiter.unwrap_or_else(|| Limiter::new(rate, now)),
            in_flight: 0,
            backlog_in_flight: 0,
            in_flight_max: in_flight_max.max(1),
            rests_until: Timestamp(i64::MIN),
            used_up_until: Timestamp(i64::MIN),
            full_until: Timestamp(i64::MIN),
            more_on_disk: true,
            read_until: START,
            fresh_on_disk: true,
            fresh_read_until: START,
            turn: 0,
        };
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
        let lane = if key.due_at < now.minus(FRESH) {
            Lane::Backlog
        } else {
            Lane::Fresh
        };
        let depth = queue.lane(lane).len();
        let full = self.len >= self.cap && depth >= ROOM_MIN;
        if full || depth >= QUEUE_MAX {
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
        queue.in_flight = queue.in_flight.saturating_sub(1);
        if !sent {
            queue.limiter.give_back();
        }
        if lane == Some(Lane::Backlog) {
            queue.backlog_in_flight = queue.backlog_in_flight.saturating_sub(1);
            if let Some(ramp) = queue.ramp.as_mut().filter(|_| !sent) {
                ramp.give_back();
            }
        }
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
            if wanted.fresh {
                queue.fresh_read_until = last.unwrap_or(wanted.after);
            } else {
                queue.read_until = last.unwrap_or(wanted.after);
                queue.more_on_disk = !all;
            }
            if all {
                queue.fresh_on_disk = false;
            }
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
