//! One account's due deliveries: three lanes, its limits, and what of its rows is to be read. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::journey::ids::{AccountId, EnrollmentId};
use crate::policy::limiter::{Limiter, Rate};
use crate::sender::turns::ramp::Ramp;
use crate::sender::turns::{QUEUE_MAX, ROOM_MIN};
use crate::store::work::DeliveryKey;

/// A step is fresh while it is less late than this.
const FRESH: Duration = Duration::from_secs(60);

/// Of ten turns of an account, how many go to its fresh steps while it has a backlog.
const FRESH_TURNS: u8 = 7;

/// A delivery's place among its account's rows.
pub type Place = (Timestamp, EnrollmentId);

/// Before every row.
const START: Place = (Timestamp(i64::MIN), EnrollmentId(i64::MIN));

/// Which of an account's deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Fresh,
    Backlog,
    /// Of broadcasts, however late: only while nothing of the others may go.
    Broadcast,
}

impl Lane {
    pub(super) fn of((due_at, enrollment): Place, now: Timestamp) -> Self {
        if enrollment.is_broadcast() {
            Self::Broadcast
        } else if due_at < now.minus(FRESH) {
            Self::Backlog
        } else {
            Self::Fresh
        }
    }
}

/// What a page of rows is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sought {
    Everything,
    /// Past the backlog, for the fresh lane alone.
    Fresh,
    /// For broadcasts of which there was no room for more.
    Broadcasts,
}

/// Rows of an account that should be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub account: AccountId,
    /// The place to read on from.
    pub after: Place,
    pub(super) sought: Sought,
}

/// One account's due deliveries and limits.
#[derive(Debug)]
pub(super) struct Queue {
    /// By due instant; what is late moves over to the backlog.
    fresh: BTreeMap<Place, DeliveryKey>,
    backlog: BTreeMap<Place, DeliveryKey>,
    broadcast: BTreeMap<Place, DeliveryKey>,
    /// How the backlog begins; `None` once it goes as fast as everything.
    pub(super) ramp: Option<Ramp>,
    pub(super) rate: Rate,
    pub(super) limiter: Limiter,
    pub(super) in_flight: usize,
    backlog_in_flight: usize,
    pub(super) in_flight_max: usize,
    /// Nothing is sent before this instant: the account rests.
    pub(super) rests_until: Timestamp,
    /// Nothing is sent before this instant: the day's calls are used up, unless the platform says
    /// otherwise later.
    pub(super) used_up_until: Timestamp,
    /// No limit has room before this instant.
    pub(super) full_until: Timestamp,
    /// Rows of this account were left on disk: read on when the queue runs low.
    pub(super) more_on_disk: bool,
    /// Every row up to here has been read since the last look from the beginning.
    read_until: Place,
    /// Fresh rows were left on disk, perhaps behind a long backlog; read up to here so far.
    fresh_on_disk: bool,
    fresh_read_until: Place,
    /// The first row that was left on disk and not read since, of each lane. Later ones stay there
    /// with it: whatever comes by itself must not overtake what waits to be read.
    fresh_left: Option<Place>,
    backlog_left: Option<Place>,
    broadcast_left: Option<Place>,
    turn: u8,
}

impl Queue {
    /// An empty queue, with rows on disk as far as is known. What the account has not sent while we
    /// did not know it is its backlog: that begins slowly.
    pub(super) fn new(limiter: Limiter, rate: Rate, in_flight_max: usize, now: Timestamp) -> Self {
        Self {
            fresh: BTreeMap::new(),
            backlog: BTreeMap::new(),
            broadcast: BTreeMap::new(),
            ramp: Some(Ramp::new(rate, now)),
            rate,
            limiter,
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
            fresh_left: None,
            backlog_left: None,
            broadcast_left: None,
            turn: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.backlog.len() + self.broadcast.len()
    }

    pub(super) fn lane(&mut self, lane: Lane) -> &mut BTreeMap<Place, DeliveryKey> {
        match lane {
            Lane::Fresh => &mut self.fresh,
            Lane::Backlog => &mut self.backlog,
            Lane::Broadcast => &mut self.broadcast,
        }
    }

    fn left(&mut self, lane: Lane) -> &mut Option<Place> {
        match lane {
            Lane::Fresh => &mut self.fresh_left,
            Lane::Backlog => &mut self.backlog_left,
            Lane::Broadcast => &mut self.broadcast_left,
        }
    }

    /// Whether a row may come into memory; `crowded` says that there is hardly any left. Fresh rows
    /// come before they are due, hence more of them.
    pub(super) fn has_room(&mut self, place: Place, lane: Lane, crowded: bool) -> bool {
        let most = match (lane, crowded) {
            (_, true) => ROOM_MIN,
            (Lane::Fresh | Lane::Broadcast, false) => 2 * QUEUE_MAX,
            (Lane::Backlog, false) => QUEUE_MAX,
        };
        let in_order = self.left(lane).is_none_or(|left| place <= left);
        in_order && self.lane(lane).len() < most
    }

    /// Notes that a row was not taken into memory, so that it is read again.
    pub(super) fn leave_on_disk(&mut self, place: Place, lane: Lane) {
        let (due_at, EnrollmentId(id)) = place;
        let before = (due_at, EnrollmentId(id.saturating_sub(1)));
        // Broadcasts are read again by themselves, so that a long one keeps nobody's rows unread.
        if lane != Lane::Broadcast {
            self.more_on_disk = true;
            self.read_until = self.read_until.min(before);
        }
        if lane == Lane::Fresh {
            self.fresh_on_disk = true;
            self.fresh_read_until = self.fresh_read_until.min(before);
        }
        let left = self.left(lane);
        *left = Some(left.map_or(before, |left| left.min(before)));
    }

    /// Notes that a page was read, up to `last` or to the end.
    pub(super) fn note_read(&mut self, wanted: Wanted, last: Place, all: bool, now: Timestamp) {
        let unread = (!all).then_some(last);
        match wanted.sought {
            Sought::Fresh => {
                self.fresh_read_until = last;
                self.fresh_left = unread;
            }
            Sought::Everything => {
                self.read_until = last;
                self.more_on_disk = !all;
                self.backlog_left = unread;
                // A page that ends in the backlog says nothing of what is fresh.
                if all || last.0 >= now.minus(FRESH) {
                    self.fresh_left = unread;
                }
            }
            Sought::Broadcasts => {
                self.broadcast_left = unread;
                return;
            }
        }
        if all {
            self.fresh_on_disk = false;
        }
    }

    /// Nothing is sent before this instant.
    pub(super) fn not_before(&self) -> Timestamp {
        self.rests_until
            .max(self.used_up_until)
            .max(self.full_until)
    }

    /// Supposes that there are rows on disk that are not in memory.
    pub(super) fn look_again(&mut self) {
        self.more_on_disk = true;
        self.read_until = START;
        self.fresh_on_disk = true;
        self.fresh_read_until = START;
    }

    /// Forgets what is in memory: an account that rests must cost nothing.
    pub(super) fn forget(&mut self) -> usize {
        let forgotten = self.len();
        self.fresh.clear();
        self.backlog.clear();
        self.broadcast.clear();
        self.broadcast_left = None;
        self.look_again();
        forgotten
    }

    /// Moves over what has become late, and lets the ramp grow.
    pub(super) fn age(&mut self, now: Timestamp) {
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
        let due_at = match lane {
            Lane::Fresh => return first(&self.fresh),
            // Not while the backlog only waits for its ramp: then nothing else is to fill the account.
            Lane::Broadcast if !self.backlog.is_empty() => return None,
            Lane::Broadcast => return first(&self.broadcast),
            Lane::Backlog => first(&self.backlog)?,
        };
        match &self.ramp {
            None => Some(due_at),
            Some(ramp) if self.backlog_in_flight < ramp.places(self.in_flight_max) => {
                Some(due_at.max(ramp.ready_at()))
            }
            Some(_) => None,
        }
    }

    pub(super) fn ready_at(&self) -> Option<Timestamp> {
        let lanes = [Lane::Fresh, Lane::Backlog, Lane::Broadcast];
        let lanes = lanes.map(|lane| self.lane_ready_at(lane));
        let first = lanes.into_iter().flatten().min()?;
        (self.in_flight < self.in_flight_max).then(|| first.max(self.not_before()))
    }

    /// The lane whose turn it is, of those that have something to hand out.
    fn next_lane(&self, now: Timestamp) -> Option<Lane> {
        let ready = |lane: &Lane| self.lane_ready_at(*lane).is_some_and(|at| at <= now);
        let order = if self.turn < FRESH_TURNS {
            [Lane::Fresh, Lane::Backlog, Lane::Broadcast]
        } else {
            [Lane::Backlog, Lane::Fresh, Lane::Broadcast]
        };
        order.into_iter().find(ready)
    }

    pub(super) fn take(&mut self, now: Timestamp) -> Option<(DeliveryKey, Lane)> {
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

    /// One that was taken is done with; `sent` says whether it used up a call.
    pub(super) fn done(&mut self, lane: Option<Lane>, sent: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if !sent {
            self.limiter.give_back();
        }
        if lane == Some(Lane::Backlog) {
            self.backlog_in_flight = self.backlog_in_flight.saturating_sub(1);
            if let Some(ramp) = self.ramp.as_mut().filter(|_| !sent) {
                ramp.give_back();
            }
        }
    }

    /// The rows that should be read: from the beginning on, and past the backlog where fresh ones
    /// lie behind it. A lane is `low` with fewer deliveries.
    pub(super) fn wanted(&self, account: AccountId, low: usize, now: Timestamp) -> Option<Wanted> {
        let fresh_from = (now.minus(FRESH), EnrollmentId(i64::MIN));
        let behind = self.read_until < fresh_from;
        let (fresh_low, backlog_low) = (self.fresh.len() < low, self.backlog.len() < low);
        // Where nothing was read yet, the first page may well bring everything.
        let begun = self.read_until > START || !backlog_low || self.fresh_left.is_some();
        if self.fresh_on_disk && fresh_low && behind && begun {
            return Some(Wanted {
                account,
                after: self.fresh_read_until.max(fresh_from),
                sought: Sought::Fresh,
            });
        }
        // What follows may be for either lane; behind the backlog it is for the fresh one.
        let room = backlog_low && (behind || fresh_low);
        if self.more_on_disk && room {
            return Some(Wanted {
                account,
                after: self.read_until,
                sought: Sought::Everything,
            });
        }
        let after = self.broadcast_left.filter(|_| self.broadcast.len() < low)?;
        Some(Wanted {
            account,
            after,
            sought: Sought::Broadcasts,
        })
    }
}
