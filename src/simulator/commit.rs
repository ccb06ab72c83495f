//! A commit of a node's writer: all that waits, in the order of ranks; if that fails, one by one
//! (`store::writer`). What became of it goes back to whoever asked, as in the product.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::FutureExt;

use crate::journey::answer::{Answer, AnswerClass};
use crate::journey::carrier::Carrier;
use crate::policy::settle::AccountNews;
use crate::simulator::Sabotage;
use crate::simulator::check::{self, Held, Intended, Violation, beside};
use crate::simulator::draft::Draft;
use crate::simulator::model::{Rows, Sending};
use crate::simulator::node::{Call, LEAD, Waiting};
use crate::simulator::platform::TRIES;
use crate::simulator::wish::Wish;
use crate::simulator::world::World;
use crate::store::batch::{Answered, Batch};
use crate::store::leases::{self, Holding};
use crate::store::receipts::ReceiptKey;
use crate::store::save::Moment;
use crate::store::shards::Sharding;
use crate::store::work::{
    Armed, Confirmed, DeliveryKey, Ended, Intended as Verdict, Passive, Work,
};

/// What the store does to one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Nothing of it is written.
    Fails,
    /// It is written, and the writer is told that it was not.
    Unknown,
    /// It waits, while others go on.
    Waits,
}

/// How a transaction ended.
enum Tried {
    Done(Done),
    /// Nothing is written.
    Failed,
    /// Its commit was sent and not answered.
    Unanswered(Done, bool),
    /// These shards are another node's by now; nothing is written.
    Lost(Vec<u16>),
}

/// What a transaction did.
#[derive(Debug)]
pub(super) struct Done {
    answers: Vec<Answered>,
    armed: Armed,
}

impl World {
    /// Has a node's writer take everything that waits.
    pub(super) fn commit(&mut self, n: usize, fault: Fault) -> Held {
        let mut wishes = std::mem::take(&mut self.nodes[n].intake);
        if wishes.is_empty() {
            return Ok(());
        }
        wishes.sort_by_key(|wish| wish.work().rank());
        let holding = Arc::clone(&self.nodes[n].holding);
        if fault == Fault::Waits {
            let works = wishes.len();
            self.note(None, || format!("node {n}: a commit of {works} waits"));
            let waiting = Waiting::ForOthers(wishes, holding);
            self.nodes[n].waiting = Some(waiting);
            return Ok(());
        }
        self.write(n, wishes, holding, fault)
    }

    /// Locks everybody concerned, as the model's commits do at once, and reads the clock.
    fn moment(&self, holding: Arc<Holding>) -> Moment {
        let now = self.now();
        Moment {
            now,
            lead_until: now.plus(LEAD),
            holding,
        }
    }

    /// Lets a commit go on that had to wait.
    pub(super) fn go_on(&mut self, n: usize, fault: Fault) -> Held {
        let fault = match fault {
            Fault::Waits => Fault::None,
            fault => fault,
        };
        match self.nodes[n].waiting.take() {
            None => Ok(()),
            Some(Waiting::ForOthers(wishes, holding)) => self.write(n, wishes, holding, fault),
            Some(Waiting::ToKnow(wishes, done, true)) => self.tell(n, wishes, done),
            Some(Waiting::ToKnow(wishes, _, false)) => {
                let holding = Arc::clone(&self.nodes[n].holding);
                self.write(n, wishes, holding, fault)
            }
        }
    }

    /// Turns away what only a shard's holder may write.
    fn refuse_lost(&mut self, n: usize, wishes: Vec<Wish>, holding: &Holding) -> Vec<Wish> {
        let (ours, lost) = wishes.into_iter().partition(|wish| match wish {
            Wish::Settle { key, .. } | Wish::Confirm(key) => holding.epoch(key.account).is_some(),
            _ => true,
        });
        let lost: Vec<_> = lost;
        lost.into_iter().for_each(|wish| self.refuse(n, wish, true));
        ours
    }

    fn write(&mut self, n: usize, wishes: Vec<Wish>, holding: Arc<Holding>, fault: Fault) -> Held {
        let mut moment = self.moment(holding);
        let mut wishes = self.refuse_lost(n, wishes, &moment.holding);
        let mut fault = fault;
        loop {
            if wishes.is_empty() {
                return Ok(());
            }
            match self.try_commit(n, &wishes, &moment, fault)? {
                Tried::Done(done) => return self.tell(n, wishes, done),
                Tried::Unanswered(done, took_place) => {
                    let waiting = Waiting::ToKnow(wishes, done, took_place);
                    self.nodes[n].waiting = Some(waiting);
                    return Ok(());
                }
                Tried::Lost(shards) => {
                    let holding = (*self.nodes[n].holding).clone().without(&shards);
                    self.nodes[n].holding = Arc::new(holding);
                    moment = self.moment(Arc::clone(&self.nodes[n].holding));
                    wishes = self.refuse_lost(n, wishes, &moment.holding);
                    fault = Fault::None;
                }
                Tried::Failed => break,
            }
        }
        // The database is away, or there is one that it cannot write.
        let away = self.rows.sharding == Sharding::Many && self.dice.one_in(2);
        if wishes.len() == 1 || away {
            let all = wishes.into_iter();
            all.for_each(|one| self.refuse(n, one, false));
            return Ok(());
        }
        for wish in wishes {
            let fault = match self.dice.one_in(8) && !self.calm {
                true => Fault::Fails,
                false => Fault::None,
            };
            let holding = Arc::clone(&self.nodes[n].holding);
            self.write(n, vec![wish], holding, fault)?;
        }
        Ok(())
    }

    fn try_commit(
        &mut self,
        n: usize,
        wishes: &[Wish],
        moment: &Moment,
        fault: Fault,
    ) -> Result<Tried, Violation> {
        let works: Vec<Work> = wishes.iter().map(Wish::work).collect();
        let lost = self.lost(n, wishes, moment);
        if !lost.is_empty() && self.sabotage != Some(Sabotage::IgnoreEpoch) {
            self.counts.fenced += 1;
            self.note(None, || format!("node {n}: fenced off from {lost:?}"));
            return Ok(Tried::Lost(lost));
        }
        let draft = Draft::of(&self.rows);
        let knowledge = Arc::clone(&self.knowledge);
        let done = Batch::run(
            &draft,
            &knowledge,
            || moment.clone(),
            &mut self.numbers,
            &works,
        )
        .now_or_never();
        let done = done.ok_or_else(|| beside("the model kept a commit waiting"))?;
        let said = words(wishes);
        self.note(None, || format!("node {n}: commit {fault:?} of {said}"));
        let (answers, armed, _) = done.map_err(|error| beside(format!("refused: {error}")))?;
        let took_place = fault != Fault::Unknown || self.dice.one_in(2);
        if fault == Fault::Fails {
            self.counts.failed_commits += 1;
            if self.sabotage == Some(Sabotage::TearBatch) {
                let torn = draft.into_rows();
                self.rows.enrollments = torn.enrollments;
                self.rows.outcomes = torn.outcomes;
                check::rows(&self.rows)?;
            }
            return Ok(Tried::Failed);
        }
        if took_place {
            self.counts.commits += 1;
            let after = draft.into_rows();
            let before = std::mem::replace(&mut self.rows, after);
            self.check_commit(n, (wishes, &answers), &before, moment)?;
        }
        let done = Done { answers, armed };
        if fault == Fault::Unknown {
            self.counts.unknown_commits += 1;
            return Ok(Tried::Unanswered(done, took_place));
        }
        Ok(Tried::Done(done))
    }

    fn check_commit(
        &mut self,
        n: usize,
        (wishes, answers): (&[Wish], &[Answered]),
        before: &Rows,
        moment: &Moment,
    ) -> Held {
        check::change(before, &self.rows)?;
        check::rows(&self.rows)?;
        // A reply belongs to its event; who left in the same commit may have done so after it.
        self.note_acts((wishes, answers), before, moment.now, false);
        self.check_intents(n, before, moment, true)?;
        self.note_acts((wishes, answers), before, moment.now, true);
        self.note_refusals(wishes, before);
        self.check_intents(n, before, moment, false)?;
        self.notes.answered_is_present(&self.rows)
    }

    fn tell(&mut self, n: usize, wishes: Vec<Wish>, done: Done) -> Held {
        let heard = !self.dice.one_in(20) || self.calm;
        self.nodes[n].take_in(done.armed, heard);
        for (wish, answer) in wishes.into_iter().zip(done.answers) {
            self.answer(n, wish, answer)?;
        }
        Ok(())
    }

    /// The shards that the commit takes for the node's own and that are not any more (`store::fence`).
    fn lost(&self, n: usize, wishes: &[Wish], moment: &Moment) -> Vec<u16> {
        let held = moment.holding.held();
        let touched = wishes
            .iter()
            .flat_map(|wish| wish.shards(self.rows.sharding));
        let touched: BTreeSet<_> = touched.collect();
        let claims = held.iter().filter(|one| touched.contains(&one.shard));
        let live = |one: &&leases::Held| self.leases.get(&one.shard) == Some(&(Some(n), one.epoch));
        let lost = claims.filter(|one| !live(one));
        lost.map(|one| one.shard).collect()
    }

    /// Holds the fresh intents, those of replies or the others, against what was known before them.
    fn check_intents(&mut self, n: usize, before: &Rows, moment: &Moment, replies: bool) -> Held {
        let catalog = self.knowledge.catalog();
        for (place, row) in &self.rows.deliveries {
            let (account, due_at, enrollment) = *place;
            let was = before.deliveries.get(place).and_then(|row| row.sending);
            let fresh = row.sending.filter(|one| was != Some(*one));
            let reply = |one: &Sending| one.fare.carrier == Carrier::PassiveReply;
            let Some(sending) = fresh.filter(|one| reply(one) == replies) else {
                continue;
            };
            self.counts.intents += 1;
            let shard = self.rows.sharding.shard(account);
            if self.leases.get(&shard) != Some(&(Some(n), sending.epoch)) {
                let what = format!("an intent of node {n}, epoch {}", sending.epoch);
                return check::violated(3, enrollment, what);
            }
            let version = self.rows.enrollments.get(&enrollment);
            let version = version.and_then(|(_, one)| catalog.version(one.version));
            let version = version.ok_or_else(|| beside("an intent of no version"))?;
            let rules = self.knowledge.account(account);
            let one = Intended {
                enrollment,
                due_at,
                now: moment.now,
                latest: self.latest,
                clock: self.clock_setting,
                min_gap: version.sequence.min_gap,
                last_call: version.sequence.last_call,
                may_send: rules.is_some_and(|rules| self.knowledge.may_send(&rules)),
            };
            check::intent(one, before, &self.rows, &mut self.notes)?;
        }
        Ok(())
    }

    fn answer(&mut self, n: usize, wish: Wish, answer: Answered) -> Held {
        let now = self.now();
        match (wish, answer) {
            (
                Wish::Receive {
                    account, arrival, ..
                },
                Answered::Taken(taken),
            ) => {
                let at = self.callback(account, arrival.digest);
                let key = ReceiptKey {
                    account,
                    follower: self.follower(&self.rows, account, &arrival.openid),
                    created_at: arrival.created_at,
                    digest: arrival.digest,
                };
                self.answer_callback(n, at, key, taken.passive)
            }
            (Wish::Intend { keys, .. }, Answered::Intended(all)) => {
                for (key, one) in keys.into_iter().zip(all) {
                    match one {
                        Verdict::Send(send) => self.begin_call(n, *send),
                        Verdict::NotSent => self.nodes[n].turns.done(key, false),
                    }
                }
                Ok(())
            }
            (Wish::Settle { key, .. }, Answered::Settled(settled)) => {
                self.nodes[n].finish(key, settled.news, now);
                Ok(())
            }
            (Wish::Confirm(key), Answered::Confirmed(Confirmed::NotBefore(at))) => {
                self.nodes[n].confirming.push((key, at));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin_call(&mut self, n: usize, send: crate::store::work::Send) {
        let node = &mut self.nodes[n];
        let now = self.true_now + self.wall_offset;
        let now = crate::clock::Timestamp(now);
        let answer = match node.admit(&send, now) {
            Ok(()) => None,
            Err(at) => {
                let what = "other messages go before another attempt";
                Some(Answer::without_code(AnswerClass::NotBefore(at), what))
            }
        };
        node.calls.push(Call {
            epoch: send.epoch,
            send,
            answer,
        });
    }

    /// We have said `success`, with or without a message; whether the platform hears it is another
    /// matter.
    fn answer_callback(
        &mut self,
        n: usize,
        at: usize,
        key: ReceiptKey,
        passive: Option<Passive>,
    ) -> Held {
        let place = (key.account, key.follower, key.created_at, key.digest);
        self.notes.answered.push(place);
        let lost = self.dice.one_in(6) && !self.calm;
        let send = passive.map(|passive| match passive {
            Passive::First(send) | Passive::Again(send) => send,
        });
        if let Some(send) = &send {
            let now = self.now();
            self.nodes[n].confirming.push((send.key, now));
        }
        let true_now = self.true_now;
        let callback = &mut self.platform.callbacks[at];
        if lost && callback.tries < TRIES {
            // It counts five seconds and comes again.
            callback.again_at = Some(true_now + 5_000);
            return Ok(());
        }
        if lost {
            return Ok(());
        }
        callback.answered = true;
        callback.again_at = None;
        let first = !std::mem::replace(&mut callback.shown, true);
        if let Some(send) = send.filter(|_| first) {
            self.counts.passive += 1;
            self.platform.show(&send);
            let id = send.key.enrollment.follower();
            self.note(Some(id), || {
                format!(
                    "the answer shows {} step {}",
                    send.key.enrollment, send.step
                )
            });
            return check::shown(&self.rows, &self.platform.shown);
        }
        Ok(())
    }

    /// Nothing was written, as far as the one who asked knows.
    fn refuse(&mut self, n: usize, wish: Wish, not_held: bool) {
        match wish {
            Wish::Receive {
                account, arrival, ..
            } => {
                let early = self.sabotage == Some(Sabotage::AnswerEarly);
                let at = self.callback(account, arrival.digest);
                let true_now = self.true_now;
                let follower = self.follower(&self.rows, account, &arrival.openid);
                let callback = &mut self.platform.callbacks[at];
                if early {
                    callback.answered = true;
                    let created_at = arrival.created_at;
                    let key = (account, follower, created_at, arrival.digest);
                    self.notes.answered.push(key);
                } else if callback.tries < TRIES {
                    callback.again_at = Some(true_now + 5_000);
                }
            }
            Wish::Intend { keys, .. } => {
                let turns = &mut self.nodes[n].turns;
                keys.into_iter().for_each(|key| turns.done(key, false));
            }
            Wish::Settle { key, .. } if not_held => {
                let now = self.now();
                self.nodes[n].finish(key, AccountNews::None, now);
            }
            // An answer is known here and nowhere else: it is asked again.
            wish @ Wish::Settle { .. } => self.nodes[n].intake.push(wish),
            Wish::Confirm(key) if !not_held => {
                let now = self.now();
                self.nodes[n].confirming.push((key, now));
            }
            Wish::Confirm(_)
            | Wish::Act { .. }
            | Wish::Reconcile { .. }
            | Wish::Promote(_)
            | Wish::Click(_) => {}
        }
    }

    fn callback(&self, account: crate::journey::ids::AccountId, digest: i64) -> usize {
        let mut all = self.platform.callbacks.iter();
        let at = all.position(|one| one.account == account && one.arrival.digest == digest);
        at.unwrap_or_default()
    }

    /// Has the outcome of a call written.
    pub(super) fn settle(&mut self, n: usize, key: DeliveryKey, answer: Answer) {
        let ended = Ended::from(answer);
        self.nodes[n].intake.push(Wish::Settle { key, ended });
    }
}

fn words(wishes: &[Wish]) -> String {
    let words = wishes.iter().map(|wish| match wish {
        Wish::Receive { arrival, .. } => format!("{} {}", arrival.openid, arrival.event.word()),
        Wish::Act { openid, act, .. } => format!("{openid} {act:?}"),
        Wish::Reconcile { .. } => "reconcile".to_owned(),
        Wish::Settle { key, ended } => {
            format!("settle {} {:?}", key.enrollment, ended.answer.class)
        }
        Wish::Confirm(key) => format!("confirm {}", key.enrollment),
        Wish::Intend { keys, .. } => format!(
            "intend {:?}",
            keys.iter().map(|key| key.enrollment.0).collect::<Vec<_>>()
        ),
        Wish::Click(clicked) => format!("click {}", clicked.enrollment),
        Wish::Promote(keys) => format!(
            "promote {:?}",
            keys.iter().map(|key| key.enrollment.0).collect::<Vec<_>>()
        ),
    });
    words.collect::<Vec<_>>().join(", ")
}
