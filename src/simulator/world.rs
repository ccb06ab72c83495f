//! A simulated world: one store, the nodes on it, the platform, the clocks, and who holds what.
//!
//! Everything happens in one thread and by one number. A run is a row of steps, each of which does
//! one thing that cannot be divided (`steps`); a crash can come between any two of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::clock::Timestamp;
use crate::journey;
use crate::journey::catalog::{Catalog, Version};
use crate::journey::ids::{AccountId, FollowerId, VersionId};
use crate::journey::parse::parse_stored;
use crate::policy::account::Account;
use crate::policy::learned::QuotaReset;
use crate::policy::limiter::Rate;
use crate::policy::profile;
use crate::simulator::check::Notes;
use crate::simulator::dice::Dice;
use crate::simulator::model::Rows;
use crate::simulator::node::Node;
use crate::simulator::platform::Platform;
use crate::simulator::{Counts, Sabotage};
use crate::store::Knowledge;
use crate::store::erasure::Pseudonyms;
use crate::store::leases::{Held, Holding};
use crate::store::numbers::Numbers;
use crate::store::shards::Sharding;

/// How long a lease lasts, in milliseconds.
pub(super) const LEASE_MS: i64 = 15_000;

/// The longest call, in milliseconds: none begins that could outlast the lease.
pub(super) const CALL_MS: i64 = 5_000;

/// When a run begins: 2026-03-02 10:00 in Shanghai.
const BEGIN_MS: i64 = 1_772_416_800_000;

/// The sequences of every world, in the order of their versions.
const SEQUENCES: [&str; 5] = [
    "
sequence: welcome
trigger: follow
reenter: always
min_gap: 2s
exit_on: [{ message: { text: stop } }]
last_call: 2h
steps:
  - { id: hello, after: 0s, say: { text: hello } }
  - { id: tip, after: 5s, say: { text: tip } }
  - { id: guide, after: 10m, late: { after: 5m, then: shift }, say: { text: guide } }
  - { id: offer, after: 23h, late: { after: 1h, then: skip }, say: { text: offer } }
",
    "
sequence: reply
trigger: { message: { text: \"1\" } }
reenter: always
on_unknown: skip
closed: skip
steps:
  - { id: first, after: 0s, say: { text: first } }
  - { id: second, after: 90s, say: { text: second } }
",
    "
sequence: menu
trigger: click
reenter: after 1h
min_gap: 1s
closed: [{ template: { template: T1, data: { thing: order } } }]
expire_after: 3h
steps:
  - { id: now, after: 0s, say: { text: now } }
  - { id: soon, after: 30s, say: { text: soon } }
  - { id: later, after: 1h, say: { text: later } }
",
    "
sequence: welcome
trigger: follow
reenter: always
min_gap: 3s
steps:
  - { id: hello, after: 0s, say: { text: hello again } }
  - { id: offer, after: 1h, say: { text: offer } }
",
    "
sequence: reply
trigger: { message: { text: \"*1*\" } }
reenter: after 1m
steps:
  - { id: second, after: 10s, say: { text: second } }
  - { id: third, after: 10s, say: { text: third } }
  - { id: first, after: 2m, say: { text: first } }
",
];

/// Versions that are there from the beginning.
const FIRST_VERSIONS: usize = 3;

#[derive(Debug)]
pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) sabotage: Option<Sabotage>,
    pub(super) rows: Rows,
    pub(super) knowledge: Arc<Knowledge>,
    catalog: Catalog,
    published: usize,
    /// Time as it is: nobody sets it, and leases end by it. Milliseconds since 1970.
    pub(super) true_now: i64,
    /// What the nodes' clocks are ahead of it.
    pub(super) wall_offset: i64,
    /// The nodes' clocks stand still until then, by true time.
    pub(super) frozen_until: i64,
    /// Grows whenever somebody sets the clocks.
    pub(super) clock_setting: u64,
    /// The latest instant that the nodes' clocks have shown.
    pub(super) latest: Timestamp,
    /// By shard: whose it is, and the number under which.
    pub(super) leases: BTreeMap<u16, (Option<usize>, i64)>,
    /// By node: when its lease ends.
    pub(super) lease_ends: Vec<i64>,
    pub(super) nodes: Vec<Node>,
    pub(super) numbers: Numbers,
    pub(super) platform: Platform,
    pub(super) notes: Notes,
    pub(super) counts: Counts,
    /// No more faults: everything is to come to rest.
    pub(super) calm: bool,
    /// What happened, if somebody wants to read it.
    pub(super) trace: Option<Vec<(Option<FollowerId>, String)>>,
}

impl World {
    pub(super) fn new(seed: u64, sabotage: Option<Sabotage>, traced: bool) -> Self {
        let mut dice = Dice::new(seed);
        let nodes = 1 + dice.below(3);
        let sharding = if nodes == 1 && dice.one_in(2) {
            Sharding::One
        } else {
            Sharding::Many
        };
        let accounts = 1 + dice.below(3);
        let knowledge = Knowledge::new(Pseudonyms::default());
        knowledge.set_accounts(all_accounts(accounts, &mut dice));
        let shards = knowledge.accounts();
        let shards = shards.keys().map(|id| (sharding.shard(*id), (None, 0)));
        let mut world = Self {
            sabotage,
            rows: Rows::new(sharding),
            leases: shards.collect(),
            knowledge: Arc::new(knowledge),
            catalog: Catalog::default(),
            published: 0,
            true_now: BEGIN_MS + dice.between(0, 86_400_000),
            wall_offset: 0,
            frozen_until: 0,
            clock_setting: 0,
            latest: Timestamp(0),
            lease_ends: vec![0; nodes],
            nodes: Vec::new(),
            numbers: Numbers::of(sharding, 1..i64::MAX),
            platform: Platform::default(),
            notes: Notes::default(),
            counts: Counts::default(),
            calm: false,
            trace: traced.then(Vec::new),
            dice,
        };
        (0..FIRST_VERSIONS).for_each(|_| world.publish());
        for _ in 0..nodes {
            let node = world.fresh_node();
            world.nodes.push(node);
        }
        for account in 1..=accounts {
            for name in 0..=world.dice.below(4) {
                let account = AccountId(i64::try_from(account).unwrap_or(1));
                let person = (account, format!("openid-{account}-{name}"));
                world.platform.people.insert(person, false);
            }
        }
        world
    }

    /// What the nodes' clocks show.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp(self.true_now + self.wall_offset)
    }

    pub(super) fn note(&mut self, about: Option<FollowerId>, words: impl FnOnce() -> String) {
        let now = self.now();
        if let Some(trace) = &mut self.trace {
            trace.push((about, format!("{now} {}", words())));
        }
    }

    /// Makes the next version the live one of its sequence.
    pub(super) fn publish(&mut self) {
        let Some(text) = SEQUENCES.get(self.published) else {
            return;
        };
        let sequence = parse_stored(text, &BTreeMap::new());
        self.published += 1;
        let id = VersionId(i64::try_from(self.published).unwrap_or_default());
        if let Ok(sequence) = sequence {
            let zone = None;
            let version = Version { id, sequence, zone };
            self.catalog.add(Arc::new(version), true);
            self.knowledge.set_catalog(self.catalog.clone());
        }
        self.note(None, || format!("version {id} is published"));
    }

    /// A node after its start, which holds nothing yet.
    pub(super) fn fresh_node(&mut self) -> Node {
        let (ring, queue) = (4 + self.dice.below(12), 4 + self.dice.below(12));
        let holding = Holding::nothing(self.rows.sharding);
        Node::new(holding, ring, queue, self.now())
    }

    /// Nodes that can do something at this moment.
    pub(super) fn awake(&self) -> Vec<usize> {
        let all = self.nodes.iter().enumerate();
        let awake = all.filter(|(_, node)| node.up && node.stopped_until <= self.true_now);
        awake.map(|(n, _)| n).collect()
    }

    /// A crash: what memory knew is gone. A commit that waited may have been written all the same.
    pub(super) fn crash(&mut self, n: usize) {
        self.counts.crashes += 1;
        self.note(None, || format!("node {n} crashes"));
        self.nodes[n] = self.fresh_node();
        self.nodes[n].up = false;
    }

    /// A node whose lease has ended holds nothing any more, as far as it has noticed.
    pub(super) fn notice_the_end(&mut self, n: usize) {
        let shared = self.rows.sharding == Sharding::Many;
        if shared && self.nodes[n].lease_until <= self.true_now {
            let nothing = Holding::nothing(self.rows.sharding);
            self.nodes[n].holding = Arc::new(nothing);
            self.nodes[n].lapsed = true;
        }
    }

    /// Renews a node's lease, and learns which shards are still its own.
    pub(super) fn renew(&mut self, n: usize) {
        if std::mem::take(&mut self.nodes[n].lapsed) {
            self.release(n);
        }
        self.lease_ends[n] = self.true_now + LEASE_MS;
        self.nodes[n].lease_until = self.true_now + LEASE_MS;
        self.learn_holding(n);
    }

    /// Takes the shards that nobody holds: the number of each grows, which fences off whoever had
    /// it, and what that one left behind is settled.
    pub(super) fn take(&mut self, n: usize) {
        self.renew(n);
        let (now, ends) = (self.true_now, self.lease_ends.clone());
        for (shard, (owner, epoch)) in &mut self.leases {
            let free = owner.is_none_or(|owner| owner != n && ends[owner] <= now);
            if free {
                *owner = Some(n);
                *epoch += 1;
                self.counts.takeovers += u64::from(*epoch > 1);
                if let Some(trace) = &mut self.trace {
                    trace.push((None, format!("node {n} takes shard {shard}, epoch {epoch}")));
                }
            }
        }
        self.learn_holding(n);
        if self.sabotage != Some(Sabotage::SkipRecovery) {
            let recovered = self.nodes[n].recover(&self.rows);
            if recovered > 0 {
                self.note(None, || format!("node {n} recovers {recovered}"));
            }
        }
    }

    /// A node starts: whatever it had held before, it holds under a new number.
    pub(super) fn start(&mut self, n: usize) {
        self.note(None, || format!("node {n} starts"));
        self.nodes[n] = self.fresh_node();
        for (owner, _) in self.leases.values_mut() {
            if *owner == Some(n) {
                *owner = None;
            }
        }
        self.take(n);
    }

    /// Gives everything back, as a node does that is told to stop.
    pub(super) fn release(&mut self, n: usize) {
        self.note(None, || format!("node {n} gives its shards back"));
        for (owner, epoch) in self.leases.values_mut() {
            if *owner == Some(n) {
                *owner = None;
                *epoch += 1;
            }
        }
        self.learn_holding(n);
    }

    fn learn_holding(&mut self, n: usize) {
        let own = self
            .leases
            .iter()
            .filter(|(_, (owner, _))| *owner == Some(n));
        let held: Vec<_> = own
            .map(|(shard, (_, epoch))| Held {
                shard: *shard,
                epoch: *epoch,
            })
            .collect();
        let holding = Holding::of(self.rows.sharding, &held, None);
        if *self.nodes[n].holding != holding {
            self.nodes[n].holding = Arc::new(holding);
        }
    }
}

fn all_accounts(count: usize, dice: &mut Dice) -> HashMap<AccountId, Arc<Account>> {
    let accounts = (1..=count).map(|number| {
        let id = AccountId(i64::try_from(number).unwrap_or(1));
        let name = if dice.one_in(2) {
            "wechat-2023"
        } else {
            "wechat-48h"
        };
        let account = Account {
            journey: journey::account::Account {
                id,
                key: format!("account-{number}"),
                name: format!("account-{number}"),
                zone: TimeZone::UTC,
            },
            profile: profile::named(name).unwrap_or_default(),
            sends: true,
            passive_reply: dice.one_in(2),
            erase_on_unfollow: dice.one_in(4),
            track_links: true,
            rate: Rate::default(),
            quota_reset: QuotaReset::default(),
            in_flight_max: 1 + dice.below(4),
        };
        (id, Arc::new(account))
    });
    accounts.collect()
}
