//! Callbacks: an event on its way to the account's server, and the server's answer.
//!
//! Protected by the account's mode, signed, posted, given five seconds, and pushed again up to
//! three times in all when no valid answer comes; then it is lost. What the event changed on the
//! platform has already happened when it is pushed. What an answer is worth is in `answer`.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::Value;

use super::answer::{Given, Wrong, judge};
use super::carrier::{Carrier, short};
use super::chat::Author;
use super::event::{Action, Event, Push};
use super::fault::{CALLBACK, FaultKind, Target};
use super::fields::cdata;
use super::message::Shown;
use super::record::Received;
use super::settings::{Format, Mode, SandboxLimits};
use super::{Account, World, lock, random};
use crate::clock::Timestamp;
use crate::inbound::cipher::Cipher;
use crate::inbound::signature::sign;

/// Largest answer read; real replies have a few hundred bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Characters of an answer that reports repeat.
const EXCERPT_CHARS: usize = 400;
/// Pushes remembered per account for the page.
const PUSH_LINES_MAX: usize = 200;

/// What became of one event.
#[derive(Clone, Debug, Serialize)]
pub struct Pushed {
    /// A valid answer came.
    pub accepted: bool,
    /// The event was not pushed at all: a fault kept it back, or no server listens for the account.
    pub dropped: bool,
    /// What the account answered for the phone.
    pub reply: Option<Shown>,
    pub attempts: Vec<Attempt>,
}

/// One POST.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// HTTP status, when an answer came.
    pub status: Option<u16>,
    /// Beginning of the body.
    pub answer: String,
    /// Why the platform does not take it as an answer.
    pub error: Option<String>,
    /// Real milliseconds.
    pub elapsed_ms: u64,
}

/// Who takes an account's callbacks, and how.
#[derive(Debug)]
pub(super) struct Recipient<'a> {
    pub(super) url: url::Url,
    pub(super) token: &'a SecretString,
    pub(super) cipher: &'a Cipher,
    pub(super) mode: Mode,
    pub(super) format: Format,
}

impl<'a> Recipient<'a> {
    /// The component that the account authorized, else its own server, if it has one.
    fn of(world: &'a World, account: &'a Account) -> Option<Self> {
        let own = || Self {
            url: account.callback_url.clone(),
            token: &account.settings.token,
            cipher: &account.cipher,
            mode: account.settings.mode,
            format: account.settings.format,
        };
        let component = world.components.recipient(account);
        component.or_else(|| account.has_own_server.then(own))
    }
}

/// One event in an account's log.
#[derive(Clone, Debug)]
pub(super) struct PushLine {
    pub(super) at: Timestamp,
    pub(super) openid: Arc<str>,
    pub(super) what: &'static str,
    pub(super) accepted: bool,
    pub(super) attempts: usize,
    pub(super) status: Option<u16>,
}

/// The client for callbacks: no proxy, no redirects, five seconds.
pub(super) fn client(limits: SandboxLimits) -> reqwest::Result<reqwest::Client> {
    // A second provider in one process is refused; the first serves as well.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(limits.callback_timeout())
        .user_agent("Mozilla/4.0")
        .build()
}

/// Pushes an event that concerns `openid`, and shows the reply on the phone.
pub(super) async fn push(
    world: &World,
    account: &Account,
    openid: &Arc<str>,
    event: &Event,
    at: Timestamp,
) -> Pushed {
    let media_id = match event {
        Event::Acted(Action::Image { media_id }) => media_id.clone().unwrap_or_default(),
        _ => String::new(),
    };
    let picture_url = format!("http://{}/sandbox/media/{media_id}", world.addr);
    let letter = Push {
        original_id: &account.settings.original_id,
        openid,
        at,
        event,
        msg_id: account.msg_id(),
        picture_url: &picture_url,
        media_id: &media_id,
    };
    // Whoever left sees no reply, and the platform itself has no phone.
    let is_shown = matches!(event, Event::Acted(action) if *action != Action::Unfollow);
    let mut pushed = Pushed {
        accepted: false,
        dropped: false,
        reply: None,
        attempts: Vec::new(),
    };
    let Some(to) = Recipient::of(world, account) else {
        pushed.dropped = true;
        note(account, openid, event, at, &pushed);
        return pushed;
    };
    let body = Sealed::new(&to, &letter);
    for number in 1..=world.limits.callback_attempts_max.max(1) {
        let target = Target {
            api: CALLBACK,
            account: Some(&account.app_id),
            openid: Some(openid),
            event: Some(event.name()),
            is_at_door: false,
        };
        let fault = world.faults.pick(&target);
        let kind = fault.as_ref().map(|fault| &fault.kind);
        if kind == Some(&FaultKind::Drop) {
            pushed.dropped = true;
            break;
        }
        if let Some(FaultKind::Delay { ms }) = kind {
            tokio::time::sleep(std::time::Duration::from_millis(*ms)).await;
        }
        let started = Instant::now();
        let (mut attempt, judged) = attempt(world, account, &to, openid, &body).await;
        let is_lost = kind == Some(&FaultKind::LoseAnswer);
        if is_lost {
            attempt.error = Some("the answer was lost on its way (fault)".to_owned());
        }
        attempt.elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        pushed.accepted = attempt.error.is_none();
        let arrived = Arrived {
            number,
            is_shown: pushed.accepted && is_shown,
            fault: kind.map(FaultKind::name),
            raw: &attempt.answer,
        };
        let reply = arrived.take_in(world, account, openid, judged);
        pushed.attempts.push(attempt);
        if pushed.accepted {
            pushed.reply = reply;
            break;
        }
        let is_last = pushed.attempts.len() >= attempts_max(world);
        if !is_last {
            let rest = world
                .limits
                .callback_spacing()
                .saturating_sub(started.elapsed());
            tokio::time::sleep(rest).await;
        }
    }
    note(account, openid, event, at, &pushed);
    pushed
}

/// An answer as it came in.
struct Arrived<'a> {
    /// Of the attempt, from 1.
    number: u32,
    is_shown: bool,
    fault: Option<&'static str>,
    /// Beginning of the body as it was sent.
    raw: &'a str,
}

impl Arrived<'_> {
    /// Records a passive reply, good or bad, and shows it where it arrives.
    fn take_in(
        &self,
        world: &World,
        account: &Account,
        openid: &Arc<str>,
        judged: Result<Option<Given>, Wrong>,
    ) -> Option<Shown> {
        let (given, errcode) = match judged {
            Ok(given) => (Some(given?), 0),
            Err(wrong) if wrong.code() == 0 => return None,
            Err(wrong) => (None, wrong.code()),
        };
        let now = world.clock.now();
        let shown = given.as_ref().and_then(|given| given.shown.clone());
        let received = self.is_shown && given.is_some();
        if let Some(shown) = shown.clone().filter(|_| received) {
            let (index, openid) = (account.index, Arc::clone(openid));
            world
                .chats
                .add(index, openid, Author::PassiveReply, shown, now);
        }
        if received && account.settings.rules.passive_reply_spends {
            // It arrives even where nothing is left to spend.
            account.followers.spend(openid, now).ok();
        }
        let kept = world.record.keep(Received {
            at: now,
            account: Arc::clone(&account.app_id),
            openid: Arc::clone(openid),
            carrier: Carrier::PassiveReply,
            attempt: Some(self.number),
            msg_id: None,
            msgtype: given.as_ref().map_or("", |given| short(&given.msgtype)),
            errcode,
            received,
            fault: self.fault,
            body: given
                .as_ref()
                .map_or(self.raw, |given| &given.body)
                .as_bytes(),
        });
        if let Err(error) = kept {
            tracing::error!(%error, "the sandbox's record file took no line");
        }
        shown.filter(|_| received)
    }
}

fn attempts_max(world: &World) -> usize {
    usize::try_from(world.limits.callback_attempts_max).unwrap_or(usize::MAX)
}

fn note(account: &Account, openid: &Arc<str>, event: &Event, at: Timestamp, pushed: &Pushed) {
    let line = PushLine {
        at,
        openid: Arc::clone(openid),
        what: event.name(),
        accepted: pushed.accepted,
        attempts: pushed.attempts.len(),
        status: pushed.attempts.last().and_then(|attempt| attempt.status),
    };
    let mut lines: std::sync::MutexGuard<'_, VecDeque<PushLine>> = lock(&account.pushes);
    lines.push_back(line);
    if lines.len() > PUSH_LINES_MAX {
        lines.pop_front();
    }
}

/// A body as the account's mode wants it; the same for every attempt.
struct Sealed {
    body: String,
    /// The encrypted part, which `msg_signature` covers; absent in plain mode.
    encrypted: Option<String>,
}

impl Sealed {
    fn new(to: &Recipient<'_>, letter: &Push<'_>) -> Self {
        let (mode, format, original_id) = (to.mode, to.format, letter.original_id);
        let readable = letter.body(format);
        if mode == Mode::Plain {
            return Self {
                body: readable,
                encrypted: None,
            };
        }
        let encrypted = to.cipher.encrypt(readable.as_bytes(), 0, salt());
        let body = match (format, mode) {
            (Format::Xml, Mode::Compat) => format!(
                "<xml>{}<Encrypt>{}</Encrypt></xml>",
                letter.xml_fields(),
                cdata(&encrypted)
            ),
            (Format::Xml, _) => format!(
                "<xml><ToUserName>{}</ToUserName><Encrypt>{}</Encrypt></xml>",
                cdata(original_id),
                cdata(&encrypted)
            ),
            (Format::Json, Mode::Compat) => {
                let mut fields = letter.json_fields();
                fields.insert("Encrypt".to_owned(), Value::from(encrypted.as_str()));
                Value::Object(fields).to_string()
            }
            (Format::Json, _) => {
                serde_json::json!({"ToUserName": original_id, "Encrypt": encrypted}).to_string()
            }
        };
        Self {
            body,
            encrypted: Some(encrypted),
        }
    }
}

/// Sixteen letters and digits for a frame, as the platform fills it.
pub(super) fn salt() -> [u8; 16] {
    random::bytes::<16>().map(|byte| b"abcdefghijklmnop"[usize::from(byte & 15)])
}

/// The callback's URL with a fresh signature.
pub(super) fn signed_url(
    world: &World,
    to: &Recipient<'_>,
    extra: &[(&str, &str)],
) -> (url::Url, Stamp) {
    let stamp = Stamp {
        timestamp: world.clock.now().seconds().to_string(),
        nonce: random::below(1_000_000_000).to_string(),
    };
    let token = to.token.expose_secret();
    let mut url = to.url.clone();
    url.query_pairs_mut()
        .append_pair("signature", &sign(&[token, &stamp.timestamp, &stamp.nonce]))
        .append_pair("timestamp", &stamp.timestamp)
        .append_pair("nonce", &stamp.nonce)
        .extend_pairs(extra);
    (url, stamp)
}

pub(super) struct Stamp {
    pub(super) timestamp: String,
    pub(super) nonce: String,
}

async fn attempt(
    world: &World,
    account: &Account,
    to: &Recipient<'_>,
    openid: &str,
    sealed: &Sealed,
) -> (Attempt, Result<Option<Given>, Wrong>) {
    let (mut url, stamp) = signed_url(world, to, &[("openid", openid)]);
    if let Some(encrypted) = &sealed.encrypted {
        let token = to.token.expose_secret();
        let signature = sign(&[token, &stamp.timestamp, &stamp.nonce, encrypted]);
        url.query_pairs_mut()
            .append_pair("encrypt_type", "aes")
            .append_pair("msg_signature", &signature);
    }
    let content_type = match to.format {
        Format::Xml => "text/xml",
        Format::Json => "application/json",
    };
    let request = world
        .client
        .post(url)
        .header(reqwest::header::CONTENT_TYPE, content_type)
        .body(sealed.body.clone());
    let (status, body) = match answer(request).await {
        Ok(answer) => answer,
        Err(error) => return (Attempt::failed(None, error), Ok(None)),
    };
    let judged = judge(world, account, to, openid, status, &body);
    let attempt = Attempt {
        status: Some(status),
        answer: body.chars().take(EXCERPT_CHARS).collect(),
        error: judged.as_ref().err().map(ToString::to_string),
        elapsed_ms: 0,
    };
    (attempt, judged)
}

impl Attempt {
    fn failed(status: Option<u16>, error: String) -> Self {
        Self {
            status,
            answer: String::new(),
            error: Some(error),
            elapsed_ms: 0,
        }
    }
}

/// Status and bounded body, or why there is none.
pub(super) async fn answer(request: reqwest::RequestBuilder) -> Result<(u16, String), String> {
    // The URL carries a signature, so it stays out of reports.
    let told = |error: reqwest::Error| {
        let error = error.without_url();
        // The first cause says what an operator can mend: refused, timed out, no such name.
        let causes = std::iter::successors(error.source(), |&cause| cause.source());
        let first = causes.last().map(ToString::to_string);
        first.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
    };
    let mut response = request.send().await.map_err(told)?;
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(told)? {
        if body.len() + piece.len() > ANSWER_BYTES_MAX {
            return Err(format!(
                "the answer is longer than {ANSWER_BYTES_MAX} bytes"
            ));
        }
        body.extend_from_slice(&piece);
    }
    Ok((
        response.status().as_u16(),
        String::from_utf8_lossy(&body).into_owned(),
    ))
}

/// The handshake by which the platform checks a new callback URL: a signed GET whose `echostr` must
/// come back as it is.
pub(super) async fn handshake(world: &World, account: &Account) -> Attempt {
    let echo = format!(
        "{}{}",
        1 + random::below(9),
        random::below(1_000_000_000_000_000_000)
    );
    let Some(to) = Recipient::of(world, account) else {
        return Attempt::failed(None, "no server listens for the account".to_owned());
    };
    let (url, _) = signed_url(world, &to, &[("echostr", &echo)]);
    let started = Instant::now();
    let mut attempt = match answer(world.client.get(url)).await {
        Err(error) => Attempt::failed(None, error),
        Ok((status, body)) => {
            let is_valid = status == 200 && body == echo;
            Attempt {
                status: Some(status),
                answer: body.chars().take(EXCERPT_CHARS).collect(),
                error: (!is_valid).then(|| "the answer is not the echostr".to_owned()),
                elapsed_ms: 0,
            }
        }
    };
    attempt.elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    attempt
}
