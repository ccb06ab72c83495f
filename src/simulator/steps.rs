//! The steps of a run: what may happen next, chosen by the dice; and the end, where all faults stop
//! and everything has to come to rest.

use crate::clock::Timestamp;
use crate::journey::answer::{Answer, AnswerClass};
use crate::journey::event::Event;
use crate::journey::ids::AccountId;
use crate::simulator::Sabotage;
use crate::simulator::check::{self, Held, beside};
use crate::simulator::commit::Fault;
use crate::simulator::platform::TRIES;
use crate::simulator::wish::Wish;
use crate::simulator::world::{CALL_MS, World};
use crate::store::pauses::Pause;
use crate::store::shards::Sharding;
use crate::store::work::{Act, Offer};

/// Rounds until everything must have come to rest. Two days of looking every 15 s: an account whose
/// calls are used up rests until the next day.
const ROUNDS_MAX: usize = 12_000;

impl World {
    /// One step.
    pub(super) fn step(&mut self) -> Held {
        self.latest = self.latest.max(self.now());
        let awake = self.awake();
        let Some(n) = self.dice.pick(&awake).copied() else {
            return self.outside(0);
        };
        match self.dice.below(100) {
            0..=24 => {
                let fault = self.fault();
                match self.nodes[n].waiting.is_some() {
                    true if self.dice.one_in(3) => self.go_on(n, fault),
                    true => Ok(()),
                    false => self.commit(n, fault),
                }
            }
            25..=34 => {
                self.tick(n);
                Ok(())
            }
            35..=47 => {
                self.serve(n);
                Ok(())
            }
            48..=59 => self.call(n),
            60..=69 => {
                self.hear(n);
                Ok(())
            }
            70..=81 => {
                self.callback_comes(n);
                Ok(())
            }
            _ => self.outside(n),
        }
    }

    fn fault(&mut self) -> Fault {
        match self.dice.below(16) {
            0 => Fault::Fails,
            // A file's commit says what became of it.
            1 if self.rows.sharding == Sharding::Many => Fault::Unknown,
            2 | 3 => Fault::Waits,
            _ => Fault::None,
        }
    }

    fn tick(&mut self, n: usize) {
        let now = self.now();
        let sweeps = self.sabotage != Some(Sabotage::SkipSweep);
        self.nodes[n].tick(&self.rows, now, sweeps);
    }

    /// The sender's loop, and what else a node does by itself.
    fn serve(&mut self, n: usize) {
        let now = self.now();
        let knowledge = std::sync::Arc::clone(&self.knowledge);
        let node = &mut self.nodes[n];
        node.take_accounts(&knowledge, now);
        node.feed(&self.rows, now);
        node.hand_out(now);
        let (due, later) = std::mem::take(&mut node.confirming)
            .into_iter()
            .partition(|(_, at)| *at <= now);
        node.confirming = later;
        let due: Vec<(_, Timestamp)> = due;
        let wishes = due.into_iter().map(|(key, _)| Wish::Confirm(key));
        node.intake.extend(wishes);
    }

    /// One call leaves, if its intent is still this node's to send.
    fn call(&mut self, n: usize) -> Held {
        let waiting: Vec<_> = self.nodes[n]
            .calls
            .iter()
            .enumerate()
            .filter(|(_, call)| call.answer.is_none())
            .map(|(at, _)| at)
            .collect();
        let Some(at) = self.dice.pick(&waiting).copied() else {
            return Ok(());
        };
        let now = self.now();
        let node = &mut self.nodes[n];
        let call = &node.calls[at];
        let (key, epoch) = (call.send.key, call.epoch);
        let blind = self.sabotage == Some(Sabotage::CallWithoutLease);
        if node.holding.epoch(key.account) != Some(epoch) && !blind {
            // The shard went, or went and came back: its intent has been settled by others.
            let call = node.calls.remove(at);
            node.turns.done(call.send.key, false);
            return Ok(());
        }
        let shared = self.rows.sharding == Sharding::Many;
        if shared && self.true_now + CALL_MS >= node.lease_until && !blind {
            let call = node.calls.remove(at);
            let what = "our lease of the account ends";
            let answer = Answer::without_code(AnswerClass::NotBefore(now), what);
            self.settle(n, call.send.key, answer);
            return Ok(());
        }
        let place = (key.account, key.due_at, key.enrollment);
        let row = self.rows.deliveries.get(&place).and_then(|row| row.sending);
        let shard = self.rows.sharding.shard(key.account);
        let live = self.leases.get(&shard).map(|(_, epoch)| *epoch);
        if row.map(|row| row.epoch) != Some(epoch) || live != Some(epoch) {
            let what =
                format!("a call of node {n}, epoch {epoch}; the row has {row:?}, live {live:?}");
            return check::violated(3, key.enrollment, what);
        }
        self.counts.calls += 1;
        let (true_now, send) = (self.true_now, self.nodes[n].calls[at].send.clone());
        let called = self.platform.call(&send, true_now, &mut self.dice);
        let class = called.answer.class;
        let (shown, id) = (called.shown, key.enrollment);
        self.note(Some(id.follower()), || {
            format!(
                "node {n} calls for {id} step {}: {class:?}, shown {shown}",
                send.step
            )
        });
        let lost = class == AnswerClass::Unknown;
        self.counts.lost_answers += u64::from(lost);
        let repeats = lost && self.sabotage == Some(Sabotage::RepeatCalls);
        if !repeats {
            self.nodes[n].calls[at].answer = Some(called.answer);
        }
        if shown {
            self.counts.shown += 1;
            check::shown(&self.rows, &self.platform.shown)?;
        }
        Ok(())
    }

    /// An answer has come: its outcome is to be written.
    fn hear(&mut self, n: usize) {
        let answered: Vec<_> = self.nodes[n]
            .calls
            .iter()
            .enumerate()
            .filter(|(_, call)| call.answer.is_some())
            .map(|(at, _)| at)
            .collect();
        if let Some(at) = self.dice.pick(&answered).copied() {
            let call = self.nodes[n].calls.remove(at);
            if let Some(answer) = call.answer {
                self.settle(n, call.send.key, answer);
            }
        }
    }

    /// A callback reaches a node, in any order, and sometimes once more than needed.
    fn callback_comes(&mut self, n: usize) {
        let again = self.dice.one_in(8);
        let open = self.platform.open(again);
        if let Some(at) = self.dice.pick(&open).copied() {
            self.bring(n, at);
        }
    }

    fn bring(&mut self, n: usize, at: usize) {
        let callback = &mut self.platform.callbacks[at];
        callback.tries += 1;
        callback.again_at = None;
        let (account, arrival) = (callback.account, callback.arrival.clone());
        let replies = self.knowledge.account(account);
        let replies = replies.is_some_and(|account| account.passive_reply);
        let ours = self.nodes[n].holding.epoch(account).is_some();
        let offer = match (replies, ours) {
            (false, _) => Offer::Nothing,
            (true, false) => Offer::Repetition,
            (true, true) => Offer::Step,
        };
        self.nodes[n].intake.push(Wish::Receive {
            account,
            arrival,
            offer,
        });
    }

    /// What people, operators, clocks and machines do.
    fn outside(&mut self, n: usize) -> Held {
        match self.dice.below(64) {
            0..=27 => self.somebody_acts(),
            28..=44 => return self.time_passes(),
            45..=46 => {
                let ms = *self
                    .dice
                    .pick(&[3_600_000, -3_600_000, 2_000, -2_000])
                    .unwrap_or(&0);
                self.wall_offset += ms;
                self.clock_setting += 1;
                self.note(None, || format!("the clocks are set by {ms} ms"));
            }
            47 => {
                let ms = self.dice.between(1_000, 30_000);
                self.frozen_until = self.true_now + ms;
                self.clock_setting += 1;
                self.note(None, || format!("the clocks stand still for {ms} ms"));
            }
            48..=50 if self.nodes[n].up => return self.crash_now(n),
            51..=54 => {
                let down = self.nodes.iter().position(|node| !node.up);
                if let Some(down) = down {
                    self.start(down);
                }
            }
            55..=57 if self.nodes[n].up => self.take(n),
            58 if self.nodes[n].up => self.release(n),
            59 => {
                let ms = self.dice.between(1_000, 40_000);
                self.nodes[n].stopped_until = self.true_now + ms;
                self.note(None, || format!("node {n} stands still for {ms} ms"));
            }
            60 => self.publish(),
            61..=62 => self.somebody_pauses(),
            _ => self.somebody_decides(n),
        }
        Ok(())
    }

    fn crash_now(&mut self, n: usize) -> Held {
        if self.nodes[n].waiting.is_some() && self.dice.one_in(2) {
            self.go_on(n, Fault::Unknown)?;
        }
        self.crash(n);
        Ok(())
    }

    fn somebody_acts(&mut self) {
        let people: Vec<_> = self.platform.known().into_iter().collect();
        let Some((account, openid)) = self.dice.pick(&people).cloned() else {
            return;
        };
        let follows = self.platform.people.get(&(account, openid.clone()));
        let message = |text: &str| Event::MessageReceived {
            message_kind: "text".to_owned(),
            text: text.to_owned(),
        };
        let event = match (follows, self.dice.below(8)) {
            (Some(true), 0..=1) => Event::Unfollowed,
            (Some(true), 2..=3) => message("1"),
            (Some(true), 4) => message("hello"),
            (Some(true), 5) => message("stop"),
            (Some(true), _) => Event::Clicked { key: "k".into() },
            _ => Event::Followed { scene: None },
        };
        self.counts.events += 1;
        let word = event.word();
        let id = self.follower(&self.rows, account, &openid);
        self.note(Some(id), || format!("{openid}: {word}"));
        self.platform.acts((account, &openid), event, self.true_now);
    }

    fn somebody_pauses(&mut self) {
        let accounts: Vec<_> = self.leased_accounts();
        let Some(id) = self.dice.pick(&accounts).copied() else {
            return;
        };
        let pause = Pause {
            reason: String::new(),
            by: "somebody".into(),
            at: self.now(),
        };
        let paused = self.knowledge.pause(id).is_some();
        self.knowledge.change_pauses(|all| {
            if paused {
                all.remove(&id);
            } else {
                all.insert(id, pause);
            }
        });
        self.note(None, || format!("account {id} paused: {}", !paused));
    }

    fn somebody_decides(&mut self, n: usize) {
        let people: Vec<_> = self.platform.known().into_iter().collect();
        let Some((account, openid)) = self.dice.pick(&people).cloned() else {
            return;
        };
        let act = match self.dice.below(8) {
            0..=3 => Act::Enroll {
                sequence: "welcome".into(),
            },
            4..=5 => Act::Cancel { sequence: None },
            6 => Act::Tag {
                tag: "vip".into(),
                present: self.dice.one_in(2),
            },
            _ => Act::Erase,
        };
        self.nodes[n].intake.push(Wish::Act {
            account,
            openid,
            act,
        });
    }

    fn leased_accounts(&self) -> Vec<AccountId> {
        let mut accounts: Vec<_> = self.knowledge.accounts().keys().copied().collect();
        accounts.sort_unstable();
        accounts
    }

    fn time_passes(&mut self) -> Held {
        let ms = match self.dice.below(16) {
            0..=5 => self.dice.between(1, 300),
            6..=9 => self.dice.between(300, 3_000),
            10..=12 => self.dice.between(3_000, 20_000),
            13 => self.dice.between(20_000, 900_000),
            14 => self.dice.between(900_000, 30_000_000),
            // To just before the next thing, on its instant, or just after.
            _ => {
                let next = self.rows.timers.keys().next().map(|key| key.due_at);
                let next = next.map_or(0, |at| at.0 - self.now().0);
                next.max(0) + self.dice.between(-2, 2)
            }
        };
        self.pass(ms.max(1))
    }

    /// Lets time pass, but for what the platform and the nodes do by it.
    pub(super) fn pass(&mut self, ms: i64) -> Held {
        let end = self.true_now + ms;
        while let Some(at) = self.platform.next_again().filter(|at| *at <= end) {
            self.move_to(at.max(self.true_now));
            self.repeat_callback(at)?;
        }
        self.move_to(end);
        for n in self.awake() {
            // Every few seconds in the product, unless the store cannot be reached.
            if self.calm || !self.dice.one_in(6) {
                self.renew(n);
            } else if self.dice.one_in(2) {
                self.notice_the_end(n);
            }
        }
        Ok(())
    }

    fn move_to(&mut self, at: i64) {
        let stood = (self.frozen_until.min(at) - self.true_now).max(0);
        self.wall_offset -= stood;
        self.true_now = at;
    }

    /// The platform got no answer: it comes again, and is heard at once if anybody listens.
    fn repeat_callback(&mut self, at: i64) -> Held {
        let due = self.platform.callbacks.iter();
        let due = due.clone().position(|one| one.again_at == Some(at));
        let Some(place) = due else { return Ok(()) };
        self.platform.callbacks[place].again_at = None;
        let awake = self.awake();
        let Some(n) = self.dice.pick(&awake).copied() else {
            let callback = &mut self.platform.callbacks[place];
            callback.tries += 1;
            if callback.tries < TRIES {
                callback.again_at = Some(at + 5_000);
            }
            return Ok(());
        };
        self.bring(n, place);
        match self.nodes[n].waiting.is_some() {
            true => Ok(()),
            false => self.commit(n, Fault::None),
        }
    }

    /// No more faults. Whatever is under way ends, and no step may be left.
    pub(super) fn come_to_rest(&mut self) -> Held {
        self.calm = true;
        self.platform.accepts = true;
        self.note(None, || "no more faults".to_owned());
        for id in self.leased_accounts() {
            self.knowledge.change_pauses(|all| all.remove(&id));
        }
        self.frozen_until = 0;
        for n in 0..self.nodes.len() {
            self.nodes[n].stopped_until = 0;
            if !self.nodes[n].up {
                self.start(n);
            }
        }
        for _ in 0..ROUNDS_MAX {
            for n in 0..self.nodes.len() {
                self.round(n)?;
            }
            let waits = self.rows.enrollments.values();
            let waits = waits.filter(|(_, one)| !one.is_finished()).count();
            if waits == 0 && self.rows.deliveries.is_empty() {
                break;
            }
            let now = self.now();
            let soon = Timestamp(now.0 + 250);
            let rows = self.rows.timers.keys().map(|key| key.due_at);
            let nodes = self.nodes.iter().filter_map(|node| node.next_at(now));
            let next = rows.chain(nodes).filter(|at| *at > soon).min();
            // Nodes look at their rows every few seconds, whatever they believe.
            let ms = match self.rows.deliveries.is_empty() {
                true => next.map_or(15_000, |at| at.0 - now.0),
                false => next.map_or(15_000, |at| (at.0 - now.0).min(15_000)),
            };
            self.pass(ms.max(250))?;
        }
        check::at_rest(&self.rows, &self.platform.shown)?;
        let late = self.nodes.iter().find(|node| !node.calls.is_empty());
        match late {
            Some(node) => Err(beside(format!("calls are left: {:?}", node.calls))),
            None => Ok(()),
        }
    }

    /// A node does everything that it has to do.
    fn round(&mut self, n: usize) -> Held {
        self.take(n);
        self.tick(n);
        self.serve(n);
        if self.nodes[n].waiting.is_some() {
            self.go_on(n, Fault::None)?;
        }
        self.commit(n, Fault::None)?;
        self.serve(n);
        self.commit(n, Fault::None)?;
        for _ in 0..self.nodes[n].calls.len() {
            self.call(n)?;
        }
        for _ in 0..self.nodes[n].calls.len() {
            self.hear(n);
        }
        self.commit(n, Fault::None)
    }
}
