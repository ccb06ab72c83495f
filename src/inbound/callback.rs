//! The HTTP door for callbacks: `GET` and `POST /callback/{account}`.
//!
//! Answers `success` only after the event is in durable storage. Whatever cannot be let in gets a
//! 4xx and leaves nothing behind. What a shared database cannot take in time goes to the spool
//! (`inbound::spool`); without one, or when that is full, the answer is 503, so that the platform
//! comes again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use poem::http::{StatusCode, header};
use poem::web::{Data, Path};
use poem::{Body, Request, Response, Route, get, handler};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::clock::Clock;
use crate::inbound::answer::Replies;
use crate::inbound::envelope::{self, Door, Doubt, Mode, Opened, Query, Refusal, Reply};
use crate::inbound::gate::{self, Gatehouse, Knock};
use crate::inbound::message::Message;
use crate::inbound::spool::Spool;
use crate::inbound::xml::Format;
use crate::journey::event::Arrival;
use crate::journey::ids::AccountId;
use crate::store::work::{Offer, Taken};
use crate::store::{Error, Store};

/// The platform hangs up after 5 s: whatever is not stored by then is answered 503.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_millis(4500);

/// Where there is a spool, what the store has not taken by then goes there: its file gets the rest.
const STORED_WITHIN: Duration = Duration::from_millis(3500);

/// How long a body may take to arrive.
pub(super) const BODY_WITHIN: Duration = Duration::from_secs(5);

/// Plain callbacks remembered against a second body under the same signature.
const PLAIN_SEEN_MAX: u64 = 100_000;

/// One account's way in.
#[derive(Debug)]
pub struct Entrance {
    pub account: AccountId,
    /// Shared by all accounts of a third-party platform.
    pub door: Arc<Door>,
    /// The account's `gh_…`, where a callback for another one could be sent here.
    pub original_id: Option<String>,
}

/// Every account's way in.
#[derive(Debug)]
pub struct Doors {
    entrances: HashMap<String, Entrance>,
    /// The ways in of accounts of other platforms.
    pub(super) gates: HashMap<String, Gatehouse>,
    pub(super) store: Arc<Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) body_bytes_max: usize,
    /// Puts steps into answers; without it every answer is `success`.
    replies: Option<Replies>,
    /// Takes events while a shared database is away.
    spool: Option<Arc<Spool>>,
    /// No more replies are begun while we are being stopped.
    stopping: AtomicBool,
    /// Bodies by what their URL was signed with, for plain mode only: there the signature does not
    /// cover the body, so a URL that somebody saw would let any body in.
    plain_seen: Cache<String, [u8; 32]>,
}

impl Doors {
    /// Doors by account key.
    pub fn new(
        entrances: HashMap<String, Entrance>,
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        body_bytes_max: usize,
    ) -> Self {
        Self {
            entrances,
            gates: HashMap::new(),
            store,
            clock,
            body_bytes_max,
            replies: None,
            spool: None,
            stopping: AtomicBool::new(false),
            plain_seen: Cache::builder()
                .max_capacity(PLAIN_SEEN_MAX)
                .time_to_live(2 * envelope::TIMESTAMP_WINDOW)
                .build(),
        }
    }

    /// Lets steps that are due at once travel as answers.
    #[must_use]
    pub fn with_replies(mut self, replies: Replies) -> Self {
        self.replies = Some(replies);
        self
    }

    /// Lets accounts of other platforms in, by account key.
    #[must_use]
    pub fn with_gates(mut self, gates: HashMap<String, Gatehouse>) -> Self {
        self.gates = gates;
        self
    }

    /// Keeps events while the database is away.
    #[must_use]
    pub fn with_spool(mut self, spool: Option<Arc<Spool>>) -> Self {
        self.spool = spool;
        self
    }

    /// Begins no more replies and waits until those that were given are confirmed. Callbacks must
    /// still come in meanwhile: a repetition is what tells that an answer was lost.
    pub async fn drain(&self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(replies) = &self.replies {
            replies.drain().await;
        }
    }

    /// Takes one callback in; the answer's status and text.
    async fn take(&self, account: &str, query: &Query, body: &[u8]) -> (StatusCode, String) {
        let Some(entrance) = self.entrances.get(account) else {
            return (StatusCode::NOT_FOUND, "no such account".into());
        };
        self.take_through(account, entrance, query, body).await
    }

    /// The same by an entrance that the caller has found; `account` names it for people.
    pub(super) async fn take_through(
        &self,
        account: &str,
        entrance: &Entrance,
        query: &Query,
        body: &[u8],
    ) -> (StatusCode, String) {
        let opened = match envelope::open(&entrance.door, query, body, self.clock.now()) {
            Ok(opened) => opened,
            Err(refusal) => return refuse(account, &refusal),
        };
        if entrance.door.mode == Mode::Plain && !self.first_body(account, query, body) {
            metrics::counter!("dripwheel_callbacks_refused_total", "reason" => "second_body")
                .increment(1);
            return (StatusCode::FORBIDDEN, "refused".into());
        }
        let original_id = entrance.original_id.as_ref();
        if original_id.is_some_and(|own| *own != opened.message.to_user_name) {
            return refuse(account, &Doubt::OtherAccount.into());
        }
        self.receive(entrance, account, query, opened).await
    }

    async fn receive(
        &self,
        entrance: &Entrance,
        account: &str,
        query: &Query,
        opened: Opened,
    ) -> (StatusCode, String) {
        let arrived = Instant::now();
        let deadline = arrived + ANSWER_WITHIN;
        let Message {
            to_user_name,
            arrival,
        } = opened.message;
        let replies = self.replies_for(entrance.account, opened.format);
        let offer = match replies {
            None => Offer::Nothing,
            Some(_) if self.stopping.load(Ordering::Acquire) => Offer::Repetition,
            Some(_) => Offer::Step,
        };
        let taken = self
            .take_in(entrance.account, account, arrival, offer, deadline)
            .await;
        let taken = match taken {
            Ok(Some(taken)) => taken,
            Ok(None) => return (StatusCode::OK, "success".to_owned()),
            Err(TryAgain) => return try_again(),
        };
        let answer = match (replies, &taken.passive) {
            (Some((replies, within)), Some(passive)) => {
                let deadline = deadline.min(arrived + within);
                replies.write(passive, &to_user_name, deadline).await
            }
            _ => None,
        };
        let text = match answer {
            None => "success".to_owned(),
            Some(text) => {
                let reply = Reply {
                    text: &text,
                    sent_at: self.clock.now(),
                    nonce: query.nonce.as_deref().unwrap_or(""),
                    random: random(),
                };
                envelope::seal(&entrance.door, opened.key_index, opened.format, &reply)
            }
        };
        (StatusCode::OK, text)
    }

    /// Has an event stored, or kept in the spool while the database is away: then there is nothing to
    /// tell of it. `account` names it for people.
    pub(super) async fn take_in(
        &self,
        id: AccountId,
        account: &str,
        arrival: Arrival,
        offer: Offer,
        deadline: Instant,
    ) -> Result<Option<Taken>, TryAgain> {
        let spool = self.spool_of(id, account);
        if let Some((spool, key)) = &spool
            && spool.wants(key)
        {
            return self.keep(spool, key, &arrival, deadline).await;
        }
        let word = arrival.event.word();
        let kept = spool.map(|(spool, key)| (spool, key, arrival.clone()));
        let store = Arc::clone(&self.store);
        // On its own, so that an intent which is committed too late has somebody who hears of it.
        let mut storing = tokio::spawn(async move {
            let writer = store.writer();
            writer.receive_to_answer(id, arrival, offer).await
        });
        let spool = kept.as_ref().map(|(spool, ..)| spool.as_ref());
        let taken = match stored(&mut storing, spool, deadline).await {
            Ok(taken) => taken,
            Err(late) => {
                if late == Late::Unanswered
                    && let Some(replies) = self.replies.as_ref().filter(|_| offer != Offer::Nothing)
                {
                    replies.take_back(storing);
                }
                if let Some((spool, key, arrival)) = kept
                    && late != Late::Stopped
                {
                    return self.keep(&spool, &key, &arrival, deadline).await;
                }
                tracing::error!(account.key = account, ?late, "event not stored");
                return Err(TryAgain);
            }
        };
        let fresh = if taken.fresh { "fresh" } else { "repeated" };
        metrics::counter!("dripwheel_events_total", "event" => word, "receipt" => fresh)
            .increment(1);
        Ok(Some(taken))
    }

    /// The spool, if there is one, and the account's key in it; `account` where it has no other.
    fn spool_of(&self, id: AccountId, account: &str) -> Option<(Arc<Spool>, String)> {
        let spool = Arc::clone(self.spool.as_ref()?);
        let known = self.store.knowledge().account(id);
        let key = known.map_or_else(|| account.to_owned(), |known| known.journey.key.clone());
        Some((spool, key))
    }

    /// Keeps an event in the spool; the answer carries no step.
    async fn keep(
        &self,
        spool: &Spool,
        key: &str,
        arrival: &Arrival,
        deadline: Instant,
    ) -> Result<Option<Taken>, TryAgain> {
        let kept = spool.keep(key, arrival, self.clock.now());
        match timeout_at(deadline, kept).await {
            Ok(Ok(())) => Ok(None),
            Ok(Err(refused)) => {
                let reason = refused.word();
                tracing::debug!(account.key = key, reason, "event not kept");
                Err(TryAgain)
            }
            // It may be there, and come again: then its receipt tells.
            Err(_) => Err(TryAgain),
        }
    }

    /// What puts answers together, where this account's callbacks can carry one, and how long an
    /// answer may take by the account's profile.
    fn replies_for(&self, account: AccountId, format: Format) -> Option<(&Replies, Duration)> {
        let account = self.store.knowledge().account(account)?;
        let rule = account.profile.carriers.passive_reply?;
        let may = account.passive_reply && format == Format::Xml;
        let replies = self.replies.as_ref().filter(|_| may)?;
        Some((replies, rule.within))
    }

    /// Whether no other body came under the same signature.
    fn first_body(&self, account: &str, query: &Query, body: &[u8]) -> bool {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let (timestamp, nonce) = (part(&query.timestamp), part(&query.nonce));
        let signed = format!("{account} {timestamp} {nonce}");
        let digest: [u8; 32] = Sha256::digest(body).into();
        self.plain_seen.get_with(signed, || digest) == digest
    }
}

/// Neither the store nor the spool has taken an event: the platform has to come again.
#[derive(Clone, Copy, Debug)]
pub(super) struct TryAgain;

/// Why the store has not taken an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    /// It said that it cannot.
    Refused,
    /// It has said nothing yet, and may still take it.
    Unanswered,
    Stopped,
}

/// What the store says of an event; it has less time where a spool could keep the event instead, and
/// none once the database is known to be away.
async fn stored(
    storing: &mut JoinHandle<Result<Taken, Error>>,
    spool: Option<&Spool>,
    deadline: Instant,
) -> Result<Taken, Late> {
    let deadline = match spool {
        Some(_) => deadline - (ANSWER_WITHIN - STORED_WITHIN),
        None => deadline,
    };
    let gone = async {
        match spool {
            Some(spool) => spool.gone().await,
            None => std::future::pending().await,
        }
    };
    let said = tokio::select! {
        biased;
        said = storing => said,
        () = gone => return Err(Late::Unanswered),
        () = sleep_until(deadline) => return Err(Late::Unanswered),
    };
    match said {
        Ok(Ok(taken)) => Ok(taken),
        Ok(Err(Error::Stopped)) => Err(Late::Stopped),
        Ok(Err(error)) => {
            match (&error, spool) {
                (Error::Away, Some(spool)) => spool.note_away(),
                _ => tracing::error!(%error, "an event was not stored"),
            }
            Err(Late::Refused)
        }
        Err(_) => Err(Late::Refused),
    }
}

pub(super) fn try_again() -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, "try again".to_owned())
}

/// Sixteen letters and digits, as the platform's own frames begin.
pub(super) fn random() -> [u8; 16] {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0; 16];
    // Without randomness the frame is still encrypted and signed: only its beginning is guessable.
    getrandom::fill(&mut bytes).ok();
    bytes.map(|byte| LETTERS[usize::from(byte % 32)])
}

pub(super) fn refuse(account: &str, refusal: &Refusal) -> (StatusCode, String) {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::FORBIDDEN);
    // A wrong clock of ours would turn every callback away: that must be seen apart.
    let reason = match refusal {
        Refusal::Forbidden(Doubt::Age) => "age".to_owned(),
        _ => status.as_str().to_owned(),
    };
    metrics::counter!("dripwheel_callbacks_refused_total", "reason" => reason).increment(1);
    // At debug: whoever can reach the port can make these, as many as they like.
    tracing::debug!(account.key = account, reason = %refusal.reason(), "callback refused");
    let text = match status {
        StatusCode::BAD_REQUEST => "malformed",
        StatusCode::PAYLOAD_TOO_LARGE => "too large",
        _ => "refused",
    };
    (status, text.to_owned())
}

/// The callback routes, below `/callback`.
pub fn routes(doors: Arc<Doors>) -> impl poem::Endpoint {
    use poem::EndpointExt;
    Route::new()
        .at("/:account", get(greet).post(take))
        .data(doors)
}

/// The platform's handshake.
#[expect(
    clippy::needless_pass_by_value,
    reason = "what the router hands over is owned"
)]
#[handler]
fn greet(Path(account): Path<String>, request: &Request, doors: Data<&Arc<Doors>>) -> Response {
    let Ok(query) = request.params::<Query>() else {
        return plain(StatusCode::NOT_FOUND, "no such account");
    };
    if let Some(gatehouse) = doors.gates.get(&account) {
        let (status, text) = gate::greet(&account, gatehouse, &query, doors.clock.now());
        return plain(status, text);
    }
    let Some(entrance) = doors.entrances.get(&account) else {
        return plain(StatusCode::NOT_FOUND, "no such account");
    };
    match envelope::greet(&entrance.door, &query, doors.clock.now()) {
        Ok(echo) => plain(StatusCode::OK, echo),
        Err(refusal) => {
            let (status, text) = refuse(&account, &refusal);
            plain(status, text)
        }
    }
}

/// One callback.
#[handler]
async fn take(
    Path(account): Path<String>,
    request: &Request,
    body: Body,
    doors: Data<&Arc<Doors>>,
) -> Response {
    let Ok(query) = request.params::<Query>() else {
        return plain(StatusCode::BAD_REQUEST, "malformed");
    };
    let most = match doors.gates.get(&account) {
        Some(gatehouse) => gatehouse.body_bytes_max(doors.body_bytes_max),
        None => doors.body_bytes_max,
    };
    let read = body.into_bytes_limit(most);
    let body = match tokio::time::timeout(BODY_WITHIN, read).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return plain(StatusCode::PAYLOAD_TOO_LARGE, "too large"),
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "too slow"),
    };
    let heads = request.headers().clone();
    // Runs to its end even if the platform hangs up: a request that is dropped half way must not
    // leave the door to chance.
    let doors = Arc::clone(&doors);
    let taken = tokio::spawn(async move {
        match doors.gates.get(&account) {
            Some(gatehouse) => {
                let knock = Knock {
                    heads: &heads,
                    query: &query,
                    body: &body,
                };
                gate::take(&doors, &account, gatehouse, knock).await
            }
            None => doors.take(&account, &query, &body).await,
        }
    });
    match taken.await {
        Ok((status, text)) => plain(status, text),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "try again"),
    }
}

pub(super) fn plain(status: StatusCode, text: impl Into<String>) -> Response {
    let text = text.into();
    let kind = if text.starts_with('<') {
        "text/xml; charset=utf-8"
    } else {
        "text/plain; charset=utf-8"
    };
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, kind)
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .body(text)
}
