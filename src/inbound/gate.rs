//! The doors of accounts that are not on WeChat, under the same `/callback/{account}`.
//!
//! Each platform proves its callbacks in its own way and tells events in its own JSON; what is the
//! same stands here: a bounded body, the proof before anything is read, and every event in durable
//! storage, or in the spool while the database is away, before the answer. A callback may tell several
//! events; when one of them cannot be stored the platform is told to come again with all, and those
//! that were stored are known by their digests.
//!
//! Deliberately absent: what each platform's callbacks look like (the files named after them).

use std::time::Duration;

use poem::http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::callback::{ANSWER_WITHIN, Doors, TryAgain, refuse, try_again};
use super::envelope::{Doubt, Query, Refusal};
use super::line::LineGate;
use super::message::{ID_BYTES_MAX, clean};
use super::telegram::TelegramGate;
use super::webhook::WebhookGate;
use super::wecom_kf::WecomKfGate;
use super::xml::ReadError;
use crate::clock::Timestamp;
use crate::journey::event::Arrival;
use crate::journey::ids::AccountId;
use crate::store::work::Offer;

/// Largest callback of the platforms that tell several events, or long ones, at once, in bytes. They
/// state no limit; a text alone may have 15 KB.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// How long reading what one account missed may take.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(60);

/// One account's way in.
#[derive(Debug)]
pub struct Gatehouse {
    pub account: AccountId,
    pub gate: Gate,
}

/// How a platform's callbacks are proven and read.
#[derive(Debug)]
pub enum Gate {
    Line(LineGate),
    Telegram(TelegramGate),
    Webhook(WebhookGate),
    WecomKf(WecomKfGate),
}

impl Gatehouse {
    /// Largest body that is read, in bytes; `configured` is what the operator allows.
    pub(super) fn body_bytes_max(&self, configured: usize) -> usize {
        match self.gate {
            Gate::Line(_) | Gate::Telegram(_) => configured.max(BODY_BYTES_MAX),
            Gate::Webhook(_) | Gate::WecomKf(_) => configured,
        }
    }
}

/// A callback as it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Knock<'a> {
    pub(super) heads: &'a HeaderMap,
    pub(super) query: &'a Query,
    pub(super) body: &'a [u8],
}

impl<'a> Knock<'a> {
    /// A header's text; empty when it is missing, given twice or no text.
    pub(super) fn head(&self, name: &str) -> &'a str {
        let mut all = self.heads.get_all(name).iter();
        let one = all.next().filter(|_| all.next().is_none());
        one.and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value, Refusal> {
        let value = serde_json::from_slice(self.body);
        value.map_err(|_| ReadError::Malformed("no JSON").into())
    }
}

/// A callback that was let in.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) arrivals: Vec<Arrival>,
    /// What is answered once all of it is stored.
    pub(super) answer: String,
}

impl Admitted {
    pub(super) fn of(arrivals: Vec<Arrival>) -> Self {
        let answer = "success".to_owned();
        Self { arrivals, answer }
    }
}

/// Takes one callback in; the answer's status and text.
pub(super) async fn take(
    doors: &Doors,
    account: &str,
    gatehouse: &Gatehouse,
    knock: Knock<'_>,
) -> (StatusCode, String) {
    let deadline = Instant::now() + ANSWER_WITHIN;
    let now = doors.clock.now();
    let admitted = match &gatehouse.gate {
        Gate::Line(gate) => gate.open(knock),
        Gate::Telegram(gate) => gate.open(knock, now),
        Gate::Webhook(gate) => gate.open(knock, now),
        Gate::WecomKf(gate) => return gate.take(doors, account, knock, deadline).await,
    };
    let admitted = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => return refuse(account, &refusal),
    };
    let stored = store(
        doors,
        gatehouse.account,
        account,
        admitted.arrivals,
        deadline,
    )
    .await;
    match stored {
        Ok(()) => (StatusCode::OK, admitted.answer),
        Err(TryAgain) => try_again(),
    }
}

/// Has events stored in their order.
pub(super) async fn store(
    doors: &Doors,
    id: AccountId,
    account: &str,
    arrivals: Vec<Arrival>,
    deadline: Instant,
) -> Result<(), TryAgain> {
    for arrival in arrivals {
        // Its instant stays the platform's own, by which it is known when it comes again; one that is too
        // far ahead of our clock is not believed later on (`journey::receive`).
        doors
            .take_in(id, account, arrival, Offer::Nothing, deadline)
            .await?;
    }
    Ok(())
}

/// Reads what happened while nobody could be told, where a platform keeps it.
pub(super) async fn catch_up(doors: &Doors) {
    for (account, gatehouse) in &doors.gates {
        if let Gate::WecomKf(gate) = &gatehouse.gate {
            let deadline = Instant::now() + CATCH_UP_WITHIN;
            let read = gate.read(doors, account, "", deadline);
            if !matches!(timeout_at(deadline, read).await, Ok(true)) {
                tracing::warn!(
                    account.key = account,
                    "what was missed is read with the next event"
                );
            }
        }
    }
}

/// Answers a platform's handshake (GET), where it has one.
pub(super) fn greet(
    account: &str,
    gatehouse: &Gatehouse,
    query: &Query,
    now: Timestamp,
) -> (StatusCode, String) {
    let greeted = match &gatehouse.gate {
        Gate::WecomKf(gate) => gate.greet(query, now),
        Gate::Line(_) | Gate::Telegram(_) | Gate::Webhook(_) => Err(Doubt::Method.into()),
    };
    match greeted {
        Ok(echo) => (StatusCode::OK, echo),
        Err(refusal) => refuse(account, &refusal),
    }
}

/// A text within a platform's JSON; empty when there is none.
pub(super) fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// An id that names a person to the platform; empty when it is none.
pub(super) fn person(id: &str) -> String {
    let usable = id.len() <= ID_BYTES_MAX && id.bytes().all(|byte| byte.is_ascii_graphic());
    if usable { id.to_owned() } else { String::new() }
}

/// A language tag as sequences write them: `zh_CN` for `zh-hans`, `pt_BR` for `pt-br`.
pub(super) fn language(tag: &str) -> Option<String> {
    const TAG_BYTES_MAX: usize = 16;
    let tag = clean(tag, TAG_BYTES_MAX).replace('-', "_");
    let mut parts = tag.split('_');
    let first = parts.next()?.to_ascii_lowercase();
    let rest = parts.next_back().map(str::to_ascii_uppercase);
    let known = match (first.as_str(), rest.as_deref()) {
        ("", _) => return None,
        ("zh", Some("HANS")) => "zh_CN".to_owned(),
        ("zh", Some("HANT")) => "zh_TW".to_owned(),
        (_, Some(region)) => format!("{first}_{region}"),
        (_, None) => first,
    };
    Some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn language_tags_become_those_of_sequences() {
        for (tag, known) in [
            ("en", Some("en")),
            ("zh-hans", Some("zh_CN")),
            ("zh-Hant", Some("zh_TW")),
            ("zh-CN", Some("zh_CN")),
            ("zh-Hant-TW", Some("zh_TW")),
            ("pt-br", Some("pt_BR")),
            ("zh_CN", Some("zh_CN")),
            ("", None),
        ] {
            assert_eq!(language(tag).as_deref(), known, "{tag}");
        }
    }
}
