//! One node: what it keeps in memory, and the loops that read rows into it.
//!
//! The wheel, the turns and the retries are the product's; the loops around them are those of
//! `scheduler` and `sender` without their waiting. All of it is lost in a crash.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::journey::answer::{Answer, AnswerClass};
use crate::journey::ids::{AccountId, EnrollmentId};
use crate::policy::retries::RetryBudget;
use crate::policy::settle::AccountNews;
use crate::scheduler::wheel::{Entry, Wheel};
use crate::sender::turns::Turns;
use crate::simulator::commit::Done;
use crate::simulator::model::Rows;
use crate::simulator::wish::Wish;
use crate::store::Knowledge;
use crate::store::leases::Holding;
use crate::store::shards::Sharding;
use crate::store::timers::TimerKey;
use crate::store::work::{Armed, DeliveryKey, Ended, Send};

/// How far ahead of its instant a timer becomes a delivery.
pub(super) const LEAD: Duration = Duration::from_millis(1500);

/// As the scheduler's, but small enough to be reached.
const PAGE: usize = 5;
const PROMOTE_MAX: usize = 12;
const SCAN_BACK: Duration = Duration::from_secs(120);
const SWEEP_EVERY: Duration = Duration::from_secs(45);

/// As the sender's.
const LOOK_EVERY: Duration = Duration::from_secs(15);
const ATTENTION_REST: Duration = Duration::from_secs(600);
const FEED_PAGE: usize = 6;
const IN_FLIGHT_MAX: usize = 5;

/// A message whose intent is committed.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) send: Send,
    /// Under which its intent was committed.
    pub(super) epoch: i64,
    /// What came back; `None` before the call.
    pub(super) answer: Option<Answer>,
}

/// A commit that is not over; no other of the node's begins meanwhile.
#[derive(Debug)]
pub(super) enum Waiting {
    /// For others, who are in its way.
    ForOthers(Vec<Wish>, Arc<Holding>),
    /// To be told whether it took place, which it did or did not.
    ToKnow(Vec<Wish>, Done, bool),
}

#[derive(Debug)]
pub(super) struct Node {
    /// False between a crash and the next start.
    pub(super) up: bool,
    /// The machine stands still until then, by true time.
    pub(super) stopped_until: i64,
    /// The shards that it takes for its own.
    pub(super) holding: Arc<Holding>,
    /// It noticed that its lease had ended, and has turned answers away.
    pub(super) lapsed: bool,
    /// When its lease ends by its own reckoning, by true time.
    pub(super) lease_until: i64,
    pub(super) wheel: Wheel,
    pub(super) turns: Turns,
    pub(super) retries: BTreeMap<AccountId, RetryBudget>,
    /// What waits for the writer.
    pub(super) intake: Vec<Wish>,
    pub(super) waiting: Option<Waiting>,
    pub(super) calls: Vec<Call>,
    /// Passive replies, and when to ask about each.
    pub(super) confirming: Vec<(DeliveryKey, Timestamp)>,
    /// The shards that are on the wheel, and how many timers it holds.
    shards: Vec<u16>,
    pub(super) ring: usize,
    hints_lost: bool,
    scanned_at: Timestamp,
    swept_at: Timestamp,
    looked_at: Timestamp,
    seen_at: Timestamp,
}

impl Node {
    /// One that has just started and holds this.
    pub(super) fn new(holding: Holding, ring: usize, queue: usize, now: Timestamp) -> Self {
        Self {
            up: true,
            stopped_until: 0,
            holding: Arc::new(holding),
            lapsed: false,
            lease_until: 0,
            wheel: Wheel::new(now.0, ring),
            turns: Turns::new(queue),
            retries: BTreeMap::new(),
            intake: Vec::new(),
            waiting: None,
            calls: Vec::new(),
            confirming: Vec::new(),
            shards: Vec::new(),
            ring,
            hints_lost: false,
            scanned_at: now,
            swept_at: now,
            looked_at: now,
            seen_at: now,
        }
    }

    /// What a commit armed; `heard` says whether the news had room.
    pub(super) fn take_in(&mut self, mut armed: Armed, heard: bool) {
        if !heard {
            self.hints_lost = true;
            return;
        }
        for timer in &armed.timers {
            self.wheel.arm(entry_of(timer));
        }
        // In an order that does not hang on the order of a hash table.
        armed.due.sort_by_key(|key| (key.due_at, key.enrollment));
        let due = armed.due.into_iter();
        due.for_each(|key| self.turns.push(key, self.seen_at));
    }

    /// One turn of the wheel (`scheduler::Scheduler::run_once`).
    pub(super) fn tick(&mut self, rows: &Rows, now: Timestamp, sweeps: bool) {
        let shards = self.holding.shards();
        if shards != self.shards {
            self.shards = shards;
            self.wheel = Wheel::new(now.0, self.ring);
        }
        let until = now.plus(LEAD);
        let mut taken = 0;
        while taken < PROMOTE_MAX {
            let seen_until = self.wheel.span_ends_ms();
            self.load(rows, now);
            let due = self.wheel.take_due(until.0, PROMOTE_MAX - taken);
            if due.is_empty() && self.wheel.span_ends_ms() == seen_until {
                break;
            }
            taken += due.len();
            self.promote(due.iter().map(key_of).collect());
        }
        let scans = now.since(self.scanned_at) >= Duration::from_secs(1) || now < self.scanned_at;
        if scans && sweeps {
            self.scan(rows, now);
        }
    }

    fn load(&mut self, rows: &Rows, now: Timestamp) {
        while self.wheel.wants_more() {
            let until = Timestamp(self.wheel.span_ends_ms());
            let limit = self.wheel.room().min(PAGE);
            let loaded = self.wheel.loaded_until();
            if loaded.due_ms.saturating_add(1) >= until.0 {
                break;
            }
            let page = rows.timers_page(&self.shards, key_of(&loaded), until, limit);
            let entries: Vec<_> = page.iter().map(entry_of).collect();
            let whole = page.len() < limit;
            self.wheel.load(&entries, whole.then_some(until.0));
            let next = self.wheel.next_due_ms();
            if whole || next.is_some_and(|due_ms| due_ms <= now.0) {
                break;
            }
        }
    }

    fn scan(&mut self, rows: &Rows, now: Timestamp) {
        self.scanned_at = now;
        let sweep = now.since(self.swept_at) >= SWEEP_EVERY || now < self.swept_at;
        let after = if sweep {
            self.swept_at = now;
            TimerKey::FIRST
        } else {
            TimerKey {
                due_at: now.minus(SCAN_BACK),
                enrollment: EnrollmentId(i64::MIN),
            }
        };
        // What another node armed for at once must not wait for the clock to pass it.
        let until = match self.holding.sharding() {
            Sharding::One => now,
            Sharding::Many => now.plus(LEAD),
        };
        self.promote(rows.timers_page(&self.shards, after, until, PROMOTE_MAX));
    }

    fn promote(&mut self, keys: Vec<TimerKey>) {
        if !keys.is_empty() {
            self.intake.push(Wish::Promote(keys));
        }
    }

    /// Lets the accounts in that may send and are ours (`sender::Sender::take_accounts`).
    pub(super) fn take_accounts(&mut self, knowledge: &Knowledge, now: Timestamp) {
        let accounts = knowledge.accounts();
        let accounts: BTreeMap<_, _> = accounts.iter().collect();
        for (id, account) in accounts {
            if knowledge.may_send(account) && self.holding.takes(*id) {
                self.turns
                    .add_account(*id, account.rate, account.in_flight_max, now);
            } else {
                self.turns.remove_account(*id);
            }
        }
    }

    /// Reads due deliveries (`sender::Sender::feed`).
    pub(super) fn feed(&mut self, rows: &Rows, now: Timestamp) {
        if now < self.seen_at {
            self.turns.set_back(self.seen_at.since(now));
        }
        self.seen_at = now;
        let look = now.since(self.looked_at) >= LOOK_EVERY || now < self.looked_at;
        if look || std::mem::take(&mut self.hints_lost) {
            self.looked_at = now;
            self.turns.look_again();
        }
        let mut hungry = self.turns.hungry(now);
        hungry.sort_unstable_by_key(|wanted| (wanted.account, wanted.after));
        for wanted in hungry {
            let page = rows.deliveries_page(wanted.account, wanted.after, FEED_PAGE);
            let all = page.len() < FEED_PAGE;
            self.turns.fed(wanted, page, all, now);
        }
    }

    /// Hands out turns (`sender::Sender::hand_out`).
    pub(super) fn hand_out(&mut self, now: Timestamp) {
        let asked = self.intake.iter().map(|wish| match wish {
            Wish::Intend { keys, .. } => keys.len(),
            _ => 0,
        });
        let free = IN_FLIGHT_MAX.saturating_sub(self.calls.len() + asked.sum::<usize>());
        let keys = self.turns.next(now, free);
        if !keys.is_empty() {
            self.intake.push(Wish::Intend { keys, only: None });
        }
    }

    /// Whether a call for a step may go now, or when it should ask again (`sender::retries`).
    pub(super) fn admit(&mut self, send: &Send, now: Timestamp) -> Result<(), Timestamp> {
        let budget = self.retries.entry(send.key.account);
        let budget = budget.or_insert_with(|| RetryBudget::new(now));
        if send.attempt > 1 {
            return budget.retry(now);
        }
        budget.first();
        Ok(())
    }

    /// A delivery that was handed out is done with (`sender::Sender::finish`).
    pub(super) fn finish(&mut self, key: DeliveryKey, news: AccountNews, now: Timestamp) {
        self.turns.done(key, true);
        let account = key.account;
        match news {
            AccountNews::None => {}
            AccountNews::MinuteUsedUp => {
                self.turns.slow_down(account, now);
                let next = Timestamp((now.0.div_euclid(60_000) + 1) * 60_000);
                self.turns.pause(account, next);
            }
            AccountNews::DayUsedUp => {
                let day = Duration::from_secs(86_400);
                self.turns.use_up(account, now.plus(day));
            }
            AccountNews::NeedsAttention => self.turns.pause(account, now.plus(ATTENTION_REST)),
        }
    }

    /// Settles the sends of earlier holders, whose answer nobody read (`sender::Sender::recover`).
    pub(super) fn recover(&mut self, rows: &Rows) -> usize {
        let left = rows.left_behind(&self.holding.held());
        for key in &left {
            let what = "dripwheel stopped between the intent and the answer";
            let answer = Answer::without_code(AnswerClass::Unknown, what);
            let ended = Ended::from(answer);
            self.intake.push(Wish::Settle { key: *key, ended });
        }
        left.len()
    }

    /// The next instant at which it has something to do by itself.
    pub(super) fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        let timer = self.wheel.next_due_ms();
        let timer = timer.map(|due_ms| Timestamp(due_ms).minus(LEAD));
        let confirm = self.confirming.iter().map(|(_, at)| *at).min();
        let turn = self.turns.next_at(now);
        [timer, confirm, turn].into_iter().flatten().min()
    }
}

fn entry_of(key: &TimerKey) -> Entry {
    Entry {
        due_ms: key.due_at.0,
        enrollment: key.enrollment.0,
    }
}

fn key_of(entry: &Entry) -> TimerKey {
    TimerKey {
        due_at: Timestamp(entry.due_ms),
        enrollment: EnrollmentId(entry.enrollment),
    }
}
