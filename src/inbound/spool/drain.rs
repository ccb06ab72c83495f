//! Hands the spool's events over to the store, in order, once the database is there again.
//!
//! A follower's events go one after the other, everybody's at the same time: the store commits them
//! together. Where it refuses one, nothing behind that one is deleted, and all of them come again
//! after a pause that grows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::inbound::spool::Spool;
use crate::inbound::spool::keeper::Order;
use crate::journey::answer::{Answer, AnswerClass};
use crate::journey::event::Arrival;
use crate::journey::ids::AccountId;
use crate::store::reach::Reach;
use crate::store::spool::Spooled;
use crate::store::work::{Offer, Passive};
use crate::store::{Error, Store};

/// How often the database is asked whether it is there.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Events that are handed over before any is deleted.
const PAGE_MAX: usize = 500;

/// Longest wait for the store to take what it was handed.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// First and longest pause after the store took nothing.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How often the store may refuse an event, while it takes others, before that one is set aside.
const REFUSALS_MAX: u32 = 5;

/// Longest time that a stop waits for what can still be handed over.
const FLUSH_MAX: Duration = Duration::from_secs(3);

/// Watches the database and empties the spool.
#[derive(Debug)]
pub struct Drain {
    spool: Arc<Spool>,
    store: Arc<Store>,
    reach: Reach,
    refusals: HashMap<i64, u32>,
}

/// What became of one event.
enum Handed {
    /// The store has it.
    Over,
    /// It was not tried.
    Waits,
    /// The store did not take it.
    Refused,
    /// It can never be handed over.
    Never(&'static str),
}

impl Drain {
    pub fn new(spool: Arc<Spool>, store: Arc<Store>, reach: Reach) -> Self {
        Self {
            spool,
            store,
            reach,
            refusals: HashMap::new(),
        }
    }

    /// Runs until it is stopped; then hands over what can still be handed over.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failures = 0;
        while !stop.is_cancelled() {
            self.look().await;
            let events = self.spool.standing().events;
            if events == 0 || self.spool.known.is_away() {
                failures = 0;
                let work = self.spool.known.work.notified();
                // A callback that was kept is handed over at once, if the database is there.
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = work, if !self.spool.known.is_away() => {}
                    () = sleep(ASK_EVERY) => {}
                }
                continue;
            }
            if self.hand_page_over().await {
                failures = 0;
                continue;
            }
            failures += 1;
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(pause(failures)) => {}
            }
        }
        let flush_until = Instant::now() + FLUSH_MAX;
        while self.spool.standing().events > 0 && Instant::now() < flush_until {
            let over = timeout(FLUSH_MAX, self.hand_page_over()).await;
            if !matches!(over, Ok(true)) {
                break;
            }
        }
        let events = self.spool.standing().events;
        if events > 0 {
            tracing::warn!(events, "callbacks stay in the spool until the next start");
        }
    }

    async fn look(&self) {
        let there = self.reach.answers().await;
        self.spool.known.note_away(!there);
    }

    /// Hands over what stands in front; whether all of it was taken or set aside.
    async fn hand_page_over(&mut self) -> bool {
        let (reply, page) = oneshot::channel();
        let most = PAGE_MAX;
        let front = Order::Front { most, reply };
        if self.spool.orders.send(front).await.is_err() {
            return false;
        }
        let events = match page.await {
            Ok(Ok(events)) => events,
            Ok(Err(error)) => {
                tracing::error!(%error, "the spool cannot be read");
                return false;
            }
            Err(_) => return false,
        };
        let accounts = self.store.knowledge().accounts();
        let by_key: HashMap<&str, AccountId> = accounts
            .values()
            .map(|one| (one.journey.key.as_str(), one.journey.id))
            .collect();
        let ended = hand_over_in_rounds(&self.store, &by_key, &events).await;
        self.conclude(events, ended).await
    }

    /// Deletes what the store has, up to the first that it has not; whether that was all.
    async fn conclude(&mut self, events: Vec<Spooled>, ended: Vec<Handed>) -> bool {
        let took_any = ended.iter().any(|one| matches!(one, Handed::Over));
        let (mut over, mut aside) = (Vec::new(), Vec::new());
        let mut all = true;
        for (event, ended) in events.into_iter().zip(ended) {
            let never = match ended {
                Handed::Over => {
                    self.refusals.remove(&event.id);
                    // What stands behind one that has to come again comes again as well.
                    if all {
                        over.push(event);
                    }
                    continue;
                }
                Handed::Waits => None,
                Handed::Refused => self.refuse(event.id, took_any),
                Handed::Never(why) => Some(why),
            };
            match never {
                Some(why) => aside.push((event, why)),
                None => all = false,
            }
        }
        all &= aside.is_empty();
        // Before what was handed over is forgotten, because that ends with the last of them.
        for (event, why) in aside {
            self.refusals.remove(&event.id);
            let aside = Order::SetAside { event, why };
            self.spool.orders.send(aside).await.ok();
        }
        let handed = Order::HandedOver(over);
        self.spool.orders.send(handed).await.ok();
        all
    }

    /// Counts a refusal that is the event's own and not everybody's; says when it is one too many.
    fn refuse(&mut self, id: i64, took_others: bool) -> Option<&'static str> {
        if !took_others {
            return None;
        }
        let refusals = self.refusals.entry(id).or_default();
        *refusals += 1;
        (*refusals > REFUSALS_MAX).then_some("the store refuses it")
    }
}

/// Hands events over so that those of one follower go one after the other; stops after the first
/// round in which any was refused.
async fn hand_over_in_rounds(
    store: &Store,
    accounts: &HashMap<&str, AccountId>,
    events: &[Spooled],
) -> Vec<Handed> {
    let mut ended: Vec<Handed> = events.iter().map(|_| Handed::Waits).collect();
    let mut readable = Vec::new();
    for (place, event) in events.iter().enumerate() {
        let account = accounts.get(event.entry.account.as_str());
        match (
            account,
            serde_json::from_str::<Arrival>(&event.entry.arrival),
        ) {
            (Some(account), Ok(arrival)) => readable.push((place, *account, arrival)),
            (None, _) => ended[place] = Handed::Never("there is no such account"),
            (_, Err(_)) => ended[place] = Handed::Never("it cannot be read"),
        }
    }
    for round in rounds(readable) {
        let places: Vec<_> = round.iter().map(|(place, ..)| *place).collect();
        let handed = round
            .into_iter()
            .map(|(_, account, arrival)| hand_over(store, account, arrival));
        let handed = futures_util::future::join_all(handed);
        let Ok(handed) = timeout(TAKEN_WITHIN, handed).await else {
            break;
        };
        let mut all = true;
        for (place, over) in places.into_iter().zip(handed) {
            all &= over;
            ended[place] = if over { Handed::Over } else { Handed::Refused };
        }
        if !all {
            break;
        }
    }
    ended
}

type Readable = (usize, AccountId, Arrival);

/// The first event of everybody, then the second of everybody who has one, and so on.
fn rounds(events: Vec<Readable>) -> Vec<Vec<Readable>> {
    let mut rounds: Vec<Vec<Readable>> = Vec::new();
    let mut earlier: HashMap<(AccountId, String), usize> = HashMap::new();
    for event in events {
        let whose = (event.1, event.2.openid.clone());
        let round = earlier.entry(whose).or_default();
        match rounds.get_mut(*round) {
            Some(known) => known.push(event),
            None => rounds.push(vec![event]),
        }
        *round += 1;
    }
    rounds
}

/// Whether the store has the event now.
async fn hand_over(store: &Store, account: AccountId, arrival: Arrival) -> bool {
    let word = arrival.event.word();
    let writer = store.writer();
    let taken = writer.receive_to_answer(account, arrival, Offer::Repetition);
    let taken = match taken.await {
        Ok(taken) => taken,
        Err(Error::Away | Error::Stopped) => return false,
        Err(error) => {
            tracing::warn!(%error, "the store did not take an event out of the spool");
            return false;
        }
    };
    let fresh = if taken.fresh { "fresh" } else { "repeated" };
    metrics::counter!("dripwheel_spool_drained_total", "receipt" => fresh).increment(1);
    metrics::counter!("dripwheel_events_total", "event" => word, "receipt" => fresh).increment(1);
    // Its first commit was not answered, so a step that was to travel with the answer may not have.
    if let Some(Passive::First(send) | Passive::Again(send)) = taken.passive {
        let what = "the database went away while the event was answered";
        let answer = Answer::without_code(AnswerClass::Unknown, what);
        if let Err(error) = writer.settle(send.key, answer).await {
            tracing::error!(%error, "a step was not settled");
            return false;
        }
    }
    true
}

/// A pause that grows with the failures in a row, and is nobody else's.
fn pause(failures: u32) -> Duration {
    let longest = PAUSE_MIN
        .saturating_mul(1 << failures.min(10))
        .min(PAUSE_MAX);
    let mut random = [0; 1];
    // Without randomness nodes only come back together.
    getrandom::fill(&mut random).ok();
    longest / 2 + longest.mul_f64(f64::from(random[0]) / 512.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::journey::event::Event;

    fn event(place: usize, account: i64, openid: &str) -> Readable {
        let arrival = Arrival {
            openid: openid.to_owned(),
            created_at: Timestamp(0),
            digest: 0,
            event: Event::Unfollowed,
            language: None,
        };
        (place, AccountId(account), arrival)
    }

    #[test]
    fn a_follower_has_one_event_in_a_round() {
        let events = vec![
            event(0, 1, "ann"),
            event(1, 1, "bob"),
            event(2, 1, "ann"),
            event(3, 2, "ann"),
            event(4, 1, "ann"),
        ];
        let places: Vec<Vec<usize>> = rounds(events)
            .iter()
            .map(|round| round.iter().map(|(place, ..)| *place).collect())
            .collect();
        assert_eq!(places, [vec![0, 1, 3], vec![2], vec![4]]);
    }

    #[test]
    fn pauses_grow_up_to_their_longest() {
        for failures in 1..40 {
            let longest = PAUSE_MIN
                .saturating_mul(1 << failures.min(10))
                .min(PAUSE_MAX);
            let pause = pause(failures);
            assert!(longest / 2 <= pause && pause <= longest, "{pause:?}");
        }
    }
}
