//! One attempt: words filled in, one call to the platform, its answer settled.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;

use crate::clock::{Clock, Timestamp, Uptime};
use crate::journey::sequence::Fallback;
use crate::journey::template;
use crate::policy::fit::Surprise;
use crate::policy::settle::AccountNews;
use crate::sender::platform::{Answer, AnswerClass, Content, Parcel, Platform};
use crate::store::leases::NotHeld;
use crate::store::work::{DeliveryKey, Ended, Send, Settled};
use crate::store::{Error, Store};

/// How an attempt ended, for the loop that handed it out.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) key: DeliveryKey,
    /// Whether a turn was handed out for it.
    pub(super) handed: bool,
    /// Whether a call was made.
    pub(super) called: bool,
    /// When the answer came: an account's rest begins there.
    pub(super) answered_at: Timestamp,
    /// What the platform said; `None` when nothing was asked.
    pub(super) answer: Option<Answer>,
    pub(super) news: AccountNews,
    /// The platform refused what the account's profile allows.
    pub(super) surprise: Option<Surprise>,
}

/// Sends a step whose intent is committed, and settles whatever came of it.
pub(super) async fn attempt(
    store: Arc<Store>,
    platform: Arc<dyn Platform>,
    clock: Arc<dyn Clock>,
    mut send: Send,
) -> Done {
    let key = send.key;
    let until = match store
        .leases()
        .holding()
        .calls_until(key.account, send.epoch, Uptime::now())
    {
        Ok(until) => until,
        // Whoever holds the shard next gives it back, or finds that nothing is known of it.
        Err(NotHeld) => return put_off(&store, clock.as_ref(), key, clock.now()).await,
    };
    let learned = learn_language(platform.as_ref(), &mut send).await;
    let (answer, called) = match parcel(&send) {
        Ok(parcel) => {
            let call = AssertUnwindSafe(leashed(until, platform.send(&parcel)));
            let answer = call.catch_unwind().await.unwrap_or_else(|_| {
                Answer::without_code(AnswerClass::Unknown, "the adapter panicked")
            });
            let asked = answer.code.is_some() || !matches!(answer.class, AnswerClass::NotBefore(_));
            (answer, asked)
        }
        Err(answer) => (answer, false),
    };
    let answered_at = clock.now();
    metrics::counter!("dripwheel_answers_total", "class" => answer.class.name()).increment(1);
    let ended = Ended {
        answer: answer.clone(),
        language: learned,
    };
    let settled = settle(&store, clock.as_ref(), key, &ended).await;
    Done {
        key,
        handed: true,
        called,
        answered_at,
        news: settled.map_or(AccountNews::None, |settled| settled.news),
        surprise: settled.and_then(|settled| settled.surprise),
        answer: Some(answer),
    }
}

/// Gives an intent back without a call: the account's retries have had their share until `at`.
pub(super) async fn put_off(
    store: &Store,
    clock: &dyn Clock,
    key: DeliveryKey,
    at: Timestamp,
) -> Done {
    let words = "other messages go before another attempt";
    let answer = Answer::without_code(AnswerClass::NotBefore(at), words);
    settle(store, clock, key, &Ended::from(answer)).await;
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

/// A call that is given up when the lease ends under which it was begun. The time is asked before each
/// move: a process that was stopped meanwhile, and wakes too late, makes none.
pub(super) async fn leashed(until: Option<Uptime>, call: impl Future<Output = Answer>) -> Answer {
    let Some(until) = until else {
        return call.await;
    };
    let mut call = std::pin::pin!(call);
    let mut end = std::pin::pin!(tokio::time::sleep(until.since(Uptime::now())));
    poll_fn(|context| {
        if end.as_mut().poll(context).is_ready() || Uptime::now() >= until {
            let what = "our lease of the account ended during the call";
            return Poll::Ready(Answer::without_code(AnswerClass::Unknown, what));
        }
        call.as_mut().poll(context)
    })
    .await
}

/// Asks which of a step's languages the follower reads, if that matters and is not known yet.
async fn learn_language(platform: &dyn Platform, send: &mut Send) -> Option<String> {
    let step = send.version.sequence.steps.get(usize::from(send.step))?;
    if !send.facts.language.is_empty() || step.say.by_language.is_empty() {
        return None;
    }
    let language = AssertUnwindSafe(platform.language(&send.openid)).catch_unwind();
    let language = language.await.ok()??;
    send.facts.language.clone_from(&language);
    Some(language)
}

/// What a send brings, its words filled in.
///
/// # Errors
/// The answer to settle it with: nothing was asked of the platform.
pub(super) fn parcel(send: &Send) -> Result<Parcel, Answer> {
    // A panic here would leave the intent, and the place among the attempts, for ever.
    catch_unwind(AssertUnwindSafe(|| filled_in(send))).unwrap_or_else(|_| {
        let what = "the template panicked";
        Err(Answer::without_code(AnswerClass::Unsendable, what))
    })
}

fn filled_in(send: &Send) -> Result<Parcel, Answer> {
    let broken = |what: String| Answer::without_code(AnswerClass::Unsendable, what);
    let steps = &send.version.sequence.steps;
    let step = steps
        .get(usize::from(send.step))
        .ok_or_else(|| broken("the version has no such step".into()))?;
    let failed = |error| broken(format!("template: {error}"));
    let content = match send.fare.fallback_of(step) {
        Some(Fallback::SubscriptionNotice(form)) => {
            Content::SubscriptionNotice(template::fill(form, &send.facts).map_err(failed)?)
        }
        Some(Fallback::Template(form)) => {
            Content::Template(template::fill(form, &send.facts).map_err(failed)?)
        }
        Some(Fallback::MassSend) | None => {
            Content::Message(send.words(step, &send.facts).map_err(failed)?)
        }
    };
    Ok(Parcel {
        openid: send.openid.clone(),
        content,
        message_id: format!("{}-{}", send.key.enrollment.0, send.step),
    })
}

/// Records the answer. It is known here and nowhere else, so only a stopped writer ends the
/// trying; then the intent stays, and the next start counts it as unknown.
pub(super) async fn settle(
    store: &Store,
    clock: &dyn Clock,
    key: DeliveryKey,
    ended: &Ended,
) -> Option<Settled> {
    loop {
        match store.writer().settle(key, ended.clone()).await {
            Ok(settled) => return Some(settled),
            // Another node's by now: it finds the intent, and counts it as unknown.
            Err(Error::Stopped | Error::NotHeld) => return None,
            Err(error) => {
                tracing::error!(%error, enrollment.id = key.enrollment.0, "outcome not written");
                let later: Timestamp = clock.now().plus(Duration::from_secs(1));
                clock.sleep_until(later).await;
            }
        }
    }
}
