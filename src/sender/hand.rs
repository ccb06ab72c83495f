//! A hand of deliveries on its way from turn to attempt: intents in one commit, then each its call.
//!
//! Mass sends are gathered: policy makes them due at common instants, so whoever else is due then
//! joins the first of them, and all with the same words travel in one call.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, Timestamp, Uptime};
use crate::journey::carrier::Carrier;
use crate::journey::ids::{AccountId, EnrollmentId};
use crate::journey::message::Message;
use crate::policy::settle::AccountNews;
use crate::sender::attempt::{self, Done, attempt, leashed, put_off};
use crate::sender::platform::{Answer, AnswerClass, Cohort, Content, Parcel, Platform, Platforms};
use crate::sender::retries::Retries;
use crate::store::leases::NotHeld;
use crate::store::work::{DeliveryKey, Ended, Intended, Send};
use crate::store::{Error, Store, deliveries};

/// Deliveries that share one commit of their intents.
pub(super) const INTENTS_MAX: usize = 500;

/// Followers of one mass send where the account's profile has none, which it then has not judged
/// either: the platform's own limits (page "mass send by openid").
const COHORT: (usize, usize) = (2, 10_000);

/// How long a step of an account waits that went between the judgement and the call.
const GONE_PAUSE: Duration = Duration::from_secs(60);

/// What a hand needs.
pub(super) struct Hand {
    pub(super) store: Arc<Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) done_tx: mpsc::Sender<Done>,
    pub(super) attempts: TaskTracker,
    pub(super) platforms: Arc<dyn Platforms>,
    pub(super) retries: Arc<Retries>,
}

impl Hand {
    /// Sends what may be sent; every key is reported, whatever becomes of it.
    pub(super) async fn send(self, keys: Vec<DeliveryKey>) {
        let mut intended = self.intend(&keys).await.into_iter();
        let mut together: BTreeMap<AccountId, Vec<(Send, bool)>> = BTreeMap::new();
        for key in keys {
            let platform = self.platforms.of(key.account);
            match (intended.next(), platform) {
                (Some(Intended::Send(send)), Some(_)) if send.fare.carrier == Carrier::MassSend => {
                    let members = together.entry(key.account).or_default();
                    members.push((*send, true));
                }
                (Some(Intended::Send(send)), Some(platform)) => self.call(*send, platform),
                // The account went while it was judged: its intent must not stay behind.
                (Some(Intended::Send(_)), None) => {
                    let at = self.clock.now().plus(GONE_PAUSE);
                    let clock = self.clock.as_ref();
                    self.report(put_off(&self.store, clock, key, at).await)
                        .await;
                }
                _ => self.report(nothing(key, self.clock.as_ref())).await,
            }
        }
        for (account, mut members) in together {
            let due_at = members.first().map(|(send, _)| send.key.due_at);
            if let Some(due_at) = due_at {
                self.gather(account, due_at, &mut members).await;
            }
            self.send_together(account, members).await;
        }
    }

    /// Has the intents committed, together or, when that fails, each on its own: one row that
    /// cannot be read must not keep the others of its hand from being sent, again and again.
    async fn intend(&self, keys: &[DeliveryKey]) -> Vec<Intended> {
        match self.store.writer().intend(keys.to_vec()).await {
            Ok(intended) => return intended,
            Err(Error::Stopped) => return Vec::new(),
            Err(error) => {
                tracing::warn!(%error, deliveries = keys.len(), "intents not written: one by one");
            }
        }
        let mut intended = Vec::with_capacity(keys.len());
        for key in keys {
            let alone = self.store.writer().intend(vec![*key]).await;
            if let Err(error) = &alone {
                tracing::error!(%error, enrollment.id = key.enrollment.0,
                    "intent not written: the delivery stays due");
            }
            let one = alone.ok().and_then(|mut one| one.pop());
            intended.push(one.unwrap_or(Intended::NotSent));
        }
        intended
    }

    /// The least and the most followers of one mass send, by the account's profile.
    fn cohort(&self, account: AccountId) -> (usize, usize) {
        let account = self.store.knowledge().account(account);
        let mass = account.and_then(|account| account.profile.carriers.mass_send);
        mass.map_or(COHORT, |mass| (mass.chunk_least, mass.chunk_most))
    }

    /// One attempt, on its own.
    fn call(&self, send: Send, platform: Arc<dyn Platform>) {
        let (done_tx, store) = (self.done_tx.clone(), Arc::clone(&self.store));
        let clock = Arc::clone(&self.clock);
        let admitted = self
            .retries
            .admit(send.key.account, send.attempt, clock.now());
        self.attempts.spawn(async move {
            let done = match admitted {
                Ok(()) => attempt(store, platform, clock, send).await,
                Err(at) => put_off(&store, clock.as_ref(), send.key, at).await,
            };
            done_tx.send(done).await.ok();
        });
    }

    async fn report(&self, done: Done) {
        self.done_tx.send(done).await.ok();
    }

    /// Adds whoever else of the account is due at the same instant for a mass send, so that a call
    /// carries as many as it can. They had no turn of their own: one call is one turn. Steps that
    /// travel otherwise are left to their turns.
    async fn gather(
        &self,
        account: AccountId,
        due_at: Timestamp,
        together: &mut Vec<(Send, bool)>,
    ) {
        let mut after = (due_at, EnrollmentId(i64::MIN));
        let limit = u32::try_from(INTENTS_MAX).unwrap_or(u32::MAX);
        let (_, most) = self.cohort(account);
        while together.len() < most {
            let page = deliveries::page(self.store.read(), account, after, limit).await;
            let mut page = page.unwrap_or_default();
            page.retain(|key| key.due_at == due_at);
            let Some(last) = page.last() else {
                return;
            };
            after = (last.due_at, last.enrollment);
            let intended = self.store.writer();
            let intended = intended.intend_only(page, Carrier::MassSend).await;
            let members = intended.unwrap_or_default().into_iter();
            together.extend(members.filter_map(|one| match one {
                Intended::Send(send) => Some((*send, false)),
                Intended::NotSent => None,
            }));
        }
    }

    /// Sends everybody's message in as few calls as there are different words.
    async fn send_together(&self, account: AccountId, together: Vec<(Send, bool)>) {
        let mut groups: BTreeMap<String, (Message, Vec<(Send, bool)>)> = BTreeMap::new();
        for (send, handed) in together {
            match attempt::parcel(&send) {
                Ok(Parcel {
                    content: Content::Message(message),
                    ..
                }) => {
                    let words = serde_json::to_string(&message).unwrap_or_default();
                    let key = format!("{} {} {words}", send.version.id.0, send.step);
                    let group = groups.entry(key).or_insert_with(|| (message, Vec::new()));
                    group.1.push((send, handed));
                }
                Ok(_) => {}
                Err(answer) => self.settle_all(vec![(send, handed)], &answer, false).await,
            }
        }
        for (message, sends) in groups.into_values() {
            for cohort in cohorts(sends, self.cohort(account).1) {
                self.send_cohort(account, message.clone(), cohort).await;
            }
        }
    }

    async fn send_cohort(&self, account: AccountId, message: Message, sends: Vec<(Send, bool)>) {
        let platform = self.platforms.of(account);
        let (answer, called) = match platform {
            Some(platform) if sends.len() >= self.cohort(account).0 => {
                let cohort = Cohort {
                    openids: sends.iter().map(|(send, _)| send.openid.clone()).collect(),
                    message,
                    message_id: message_id(&sends),
                };
                // A panic here would leave everybody's intents behind.
                let holding = self.store.leases().holding();
                let epoch = sends.iter().map(|(send, _)| send.epoch).min();
                let until = holding.calls_until(account, epoch.unwrap_or_default(), Uptime::now());
                let call = async {
                    match until {
                        Ok(until) => leashed(until, platform.send_to_many(&cohort)).await,
                        Err(NotHeld) => {
                            let what = "our lease of the account ends";
                            let now = self.clock.now();
                            Answer::without_code(AnswerClass::NotBefore(now), what)
                        }
                    }
                };
                let call = AssertUnwindSafe(call);
                let answer = call.catch_unwind().await.unwrap_or_else(|_| {
                    Answer::without_code(AnswerClass::Unknown, "the adapter panicked")
                });
                (answer, true)
            }
            // One alone waits for company at the next common instant.
            _ => {
                let what = "a mass send takes two followers at least";
                let answer = Answer::without_code(AnswerClass::NotCarried, what);
                (answer, false)
            }
        };
        self.settle_all(sends, &answer, called).await;
    }

    async fn settle_all(&self, sends: Vec<(Send, bool)>, answer: &Answer, called: bool) {
        let answered_at = self.clock.now();
        let ended = Ended::from(answer.clone());
        let settled =
            join_all(sends.iter().map(|(send, _)| {
                attempt::settle(&self.store, self.clock.as_ref(), send.key, &ended)
            }));
        let settled = settled.await;
        for (index, ((send, handed), settled)) in sends.iter().zip(settled).enumerate() {
            let done = Done {
                key: send.key,
                handed: *handed,
                // One call for all of them: it counts once.
                called: called && index == 0,
                answered_at,
                answer: Some(answer.clone()),
                news: settled.map_or(AccountNews::None, |settled| settled.news),
                surprise: settled.and_then(|settled| settled.surprise),
            };
            self.report(done).await;
        }
    }
}

fn nothing(key: DeliveryKey, clock: &dyn Clock) -> Done {
    Done {
        key,
        handed: true,
        called: false,
        answered_at: clock.now(),
        answer: None,
        news: AccountNews::None,
        surprise: None,
    }
}

/// Parts of nearly equal size that a call can carry.
fn cohorts(mut sends: Vec<(Send, bool)>, most: usize) -> Vec<Vec<(Send, bool)>> {
    let parts = sends.len().div_ceil(most.max(1)).max(1);
    let size = sends.len().div_ceil(parts).max(1);
    let mut cohorts = Vec::with_capacity(parts);
    while sends.len() > size {
        let rest = sends.split_off(size);
        cohorts.push(std::mem::replace(&mut sends, rest));
    }
    cohorts.push(sends);
    cohorts
}

/// The same for the same followers and step, so that a call whose answer was lost can be made again
/// and sends nothing twice.
fn message_id(sends: &[(Send, bool)]) -> String {
    let mut ids: Vec<_> = sends
        .iter()
        .map(|(send, _)| send.key.enrollment.0)
        .collect();
    ids.sort_unstable();
    let mut sha = Sha256::new();
    if let Some((send, _)) = sends.first() {
        sha.update(send.version.id.0.to_be_bytes());
        sha.update(send.step.to_be_bytes());
    }
    for id in ids {
        sha.update(id.to_be_bytes());
    }
    let hex = sha.finalize();
    hex.iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
