//! Steps that travel as the answer to the follower's own event.
//!
//! The writer has committed the intent together with the event. Here the words are put together in
//! what is left of the platform's five seconds; what cannot be ready by then is handed back, and a
//! customer message takes over. Whether an answer arrived shows only in that the platform does not
//! come again with the event: so each reply is confirmed a while later, and until then the same
//! event is given the same answer.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, Timestamp};
use crate::inbound::reply::{self, Address};
use crate::journey::answer::{Answer, AnswerClass};
use crate::journey::ids::AccountId;
use crate::journey::message::Message;
use crate::store::work::{Confirmed, DeliveryKey, Passive, Send, Taken};
use crate::store::{Error, Store};

/// Pause before the writer is asked again that could not be asked.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A future that a companion hands out.
pub type Help<'a, T> = Pin<Box<dyn Future<Output = T> + std::marker::Send + 'a>>;

/// What only the platform can tell while a reply is put together. The caller's deadline ends it.
pub trait Companion: std::marker::Send + Sync + fmt::Debug {
    /// The language that a follower reads.
    fn language<'a>(&'a self, account: AccountId, openid: &'a str) -> Help<'a, Option<String>>;

    /// The platform's ids of a message's files, uploaded if they have to be; empty for a message
    /// without any.
    fn media<'a>(
        &'a self,
        account: AccountId,
        message: &'a Message,
    ) -> Help<'a, Option<Vec<String>>>;
}

/// Puts replies together and follows them to their end.
#[derive(Debug)]
pub struct Replies {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    companion: Arc<dyn Companion>,
    confirming: TaskTracker,
}

impl Replies {
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>, companion: Arc<dyn Companion>) -> Self {
        Self {
            store,
            clock,
            companion,
            confirming: TaskTracker::new(),
        }
    }

    /// The reply's XML, not yet encrypted; `None` when it cannot be ready by `deadline`. `from` is
    /// the account's original id.
    pub(super) async fn write(
        &self,
        passive: &Passive,
        from: &str,
        deadline: Instant,
    ) -> Option<String> {
        let (send, first) = match passive {
            Passive::First(send) => (send, true),
            Passive::Again(send) => (send, false),
        };
        // A panic anywhere here would leave the intent for ever.
        let compose = AssertUnwindSafe(self.compose(send, from)).catch_unwind();
        let composed = timeout_at(deadline, compose).await;
        let composed = composed.unwrap_or(Ok(Err(AnswerClass::NotCarried)));
        let composed = composed.unwrap_or(Err(AnswerClass::NotCarried));
        metrics::counter!("dripwheel_passive_replies_total",
            "answer" => if composed.is_ok() { "given" } else { "handed_back" },
            "event" => if first { "fresh" } else { "repeated" })
        .increment(1);
        let end = composed.as_ref().err().map(|class| match first {
            true => *class,
            // The event came again, so the first answer may be lost; or it may not.
            false => AnswerClass::Unknown,
        });
        self.follow(send.key, end);
        composed.ok()
    }

    /// Sees to an event that was still being stored when its answer was due: a step that was to be
    /// the answer is handed back.
    pub(super) fn take_back(&self, storing: JoinHandle<Result<Taken, Error>>) {
        let (store, tracker) = (Arc::clone(&self.store), self.confirming.clone());
        tracker.spawn(async move {
            let stored = storing.await;
            if let Ok(Ok(taken)) = stored
                && let Some(Passive::First(send)) = taken.passive
            {
                let what = "the event was stored too late to be answered with a step";
                let answer = Answer::without_code(AnswerClass::NotCarried, what);
                if let Err(error) = store.writer().settle(send.key, answer).await {
                    tracing::error!(%error, "a step was not handed back");
                }
            }
        });
    }

    async fn compose(&self, send: &Send, from: &str) -> Result<String, AnswerClass> {
        let steps = &send.version.sequence.steps;
        let step = steps
            .get(usize::from(send.step))
            .ok_or(AnswerClass::NotCarried)?;
        let account = send.key.account;
        let mut facts = send.facts.clone();
        if facts.language.is_empty() && !step.say.by_language.is_empty() {
            let language = self.companion.language(account, &send.openid).await;
            facts.language = language.ok_or(AnswerClass::NotCarried)?;
        }
        let message = send
            .words(step, &facts)
            .map_err(|_| AnswerClass::NotCarried)?;
        let media = self.companion.media(account, &message).await;
        let media = media.ok_or(AnswerClass::NotCarried)?;
        let address = Address {
            to: &send.openid,
            from,
            at: facts.now,
        };
        reply::write(&message, &media, address).ok_or(AnswerClass::NotCarried)
    }

    /// Sees to it that the step ends: handed back at once, or confirmed in time.
    fn follow(&self, key: DeliveryKey, end: Option<AnswerClass>) {
        let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
        self.confirming.spawn(async move {
            let mut at = clock.now();
            loop {
                clock.sleep_until(at).await;
                let ended = match end {
                    Some(class) => {
                        let what = "the reply was not ready in time";
                        let answer = Answer::without_code(class, what);
                        let settled = store.writer().settle(key, answer).await;
                        settled.map(|_| Confirmed::Ended)
                    }
                    None => store.writer().confirm(key).await,
                };
                at = match ended {
                    Ok(Confirmed::Ended) | Err(Error::Stopped | Error::NotHeld) => return,
                    Ok(Confirmed::NotBefore(at)) => at,
                    Err(error) => {
                        tracing::error!(%error, enrollment.id = key.enrollment.0,
                            "passive reply not confirmed");
                        later(clock.now())
                    }
                };
            }
        });
    }

    /// Waits until every reply that was given has been confirmed.
    pub(super) async fn drain(&self) {
        self.confirming.close();
        self.confirming.wait().await;
    }
}

fn later(now: Timestamp) -> Timestamp {
    now.plus(ASK_AGAIN)
}
