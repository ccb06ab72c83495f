//! Callbacks of WeCom's 微信客服: they only say that something happened, and what it was is then asked.
//!
//! The callback is WeChat's in form: `msg_signature` over token, timestamp, nonce and `Encrypt`, the
//! same AES, with the corp id at the end of the frame; the handshake's `echostr` is encrypted too. The
//! event `kf_msg_or_event` brings a `Token` with which `sync_msg` is asked from a cursor on. The cursor
//! moves on only when everything before it is in storage, so that nothing is missed; what is told twice
//! is known by its `msgid`. A corp has one callback address: one that names another service account of
//! the same corp goes to that account.
//!
//! - `enter_session`: followed, with its `scene`; there is no unfollow here.
//! - A message of the customer's (`origin` 3): message received; one with `menu_id`: clicked.
//! - `msg_send_fail`: a report that our message did not arrive.
//! - What staff write (`origin` 5) and everything else is only counted.
//!
//! Source: <https://developer.work.weixin.qq.com/document/path/94670> (接收消息和事件) and
//! <https://developer.work.weixin.qq.com/document/path/90930> (回调配置).

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use poem::http::StatusCode;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::callback::{Doors, refuse, try_again};
use super::digest::digest_of_id;
use super::envelope::{self, Door, Doubt, Query, Refusal};
use super::gate::{self, Gate, Gatehouse, Knock, person, text};
use super::message::{KEY_BYTES_MAX, TEXT_BYTES_MAX, clean, other};
use super::xml::ReadError;
use crate::clock::Timestamp;
use crate::journey::event::{Arrival, Event, Report};
use crate::journey::ids::AccountId;
use crate::store::kf_cursors;

/// Longest cursor that the platform gives, in bytes.
const CURSOR_BYTES_MAX: usize = 64;

/// Longest `echostr`, in bytes.
const ECHO_BYTES_MAX: usize = 4 * 1024;

/// Origins of messages: the customer, and the platform.
const CUSTOMER: i64 = 3;
const PLATFORM: i64 = 4;

/// A page of what happened.
#[derive(Clone, Debug)]
pub struct Page {
    pub messages: Vec<Value>,
    pub next_cursor: String,
    pub has_more: bool,
}

/// A question to the platform under way; the error is for people.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<Page, String>> + Send + 'a>>;

/// Whoever can ask the platform what happened.
pub trait Mailbox: Send + Sync + fmt::Debug {
    /// What happened after `cursor`, or in the last three days where it is empty. `token` comes with a
    /// callback; without one the platform rarely answers.
    fn page<'a>(&'a self, token: &'a str, cursor: &'a str) -> Asking<'a>;
}

/// What lets a service account's callbacks in.
#[derive(Debug)]
pub struct WecomKfGate {
    account: AccountId,
    door: Door,
    open_kfid: String,
    mailbox: Arc<dyn Mailbox>,
    /// Where reading goes on; `None` until the row has been read. Held while pages are read, so that
    /// each event is taken in by one reader.
    cursor: Mutex<Option<String>>,
}

impl WecomKfGate {
    pub fn new(
        account: AccountId,
        door: Door,
        open_kfid: String,
        mailbox: Arc<dyn Mailbox>,
    ) -> Self {
        Self {
            account,
            door,
            open_kfid,
            mailbox,
            cursor: Mutex::new(None),
        }
    }

    /// Answers the handshake: the `echostr`, decrypted.
    pub(super) fn greet(&self, query: &Query, now: Timestamp) -> Result<String, Refusal> {
        let (timestamp, nonce) = envelope::fresh(&self.door, query, now)?;
        let echo = query.echostr.as_deref().unwrap_or("");
        if echo.is_empty() || echo.len() > ECHO_BYTES_MAX {
            return Err(ReadError::Malformed("no usable echostr").into());
        }
        let signature = query.msg_signature.as_deref();
        envelope::check(&self.door, signature, &[timestamp, nonce, echo])?;
        let cipher = self.door.cipher.as_ref().ok_or(Doubt::NoCipher)?;
        let decrypted = cipher.decrypt(echo).map_err(Doubt::from)?;
        let text = String::from_utf8(decrypted.message);
        text.map_err(|_| ReadError::Malformed("not UTF-8").into())
    }

    /// Whether both are of one corp, and so have one callback address.
    fn is_sister_of(&self, other: &Self) -> bool {
        let corp = |gate: &Self| gate.door.cipher.as_ref().map(|one| one.app_id().to_owned());
        corp(self).is_some() && corp(self) == corp(other)
    }

    /// Takes one callback in; the answer's status and text.
    pub(super) async fn take(
        &self,
        doors: &Doors,
        account: &str,
        knock: Knock<'_>,
        deadline: Instant,
    ) -> (StatusCode, String) {
        let (token, kfid) = match self.open(knock, doors.clock.now()) {
            Ok(Some(told)) => told,
            Ok(None) => return (StatusCode::OK, "success".to_owned()),
            Err(refusal) => return refuse(account, &refusal),
        };
        let gate = match kfid.as_str() {
            "" => Some(self),
            named if named == self.open_kfid => Some(self),
            named => doors
                .gates
                .values()
                .find_map(|other| self.sister(other, named)),
        };
        // A service account that we do not serve.
        let Some(gate) = gate else {
            return (StatusCode::OK, "success".to_owned());
        };
        match timeout_at(deadline, gate.read(doors, account, &token, deadline)).await {
            Ok(true) => (StatusCode::OK, "success".to_owned()),
            Ok(false) | Err(_) => try_again(),
        }
    }

    /// The gate of another service account of the same corp.
    fn sister<'g>(&self, other: &'g Gatehouse, open_kfid: &str) -> Option<&'g Self> {
        match &other.gate {
            Gate::WecomKf(gate) if gate.open_kfid == open_kfid && gate.is_sister_of(self) => {
                Some(gate)
            }
            _ => None,
        }
    }

    /// The token and the service account of a callback; `None` when it is about something else.
    fn open(&self, knock: Knock<'_>, now: Timestamp) -> Result<Option<(String, String)>, Refusal> {
        // WeCom encrypts always and does not say so.
        let query = Query {
            encrypt_type: Some("aes".to_owned()),
            ..knock.query.clone()
        };
        let unsealed = envelope::unseal(&self.door, &query, knock.body, now)?;
        let field = |name: &str| unsealed.fields.get(name).unwrap_or("").to_owned();
        if field("Event") != "kf_msg_or_event" {
            return Ok(None);
        }
        let token = field("Token");
        if token.is_empty() || token.len() > 128 {
            return Err(ReadError::Malformed("no Token").into());
        }
        Ok(Some((token, field("OpenKfId"))))
    }

    /// Asks for everything that happened since, and has it stored; false when that was not done.
    pub(super) async fn read(
        &self,
        doors: &Doors,
        account: &str,
        token: &str,
        deadline: Instant,
    ) -> bool {
        let mut held = self.cursor.lock().await;
        let mut cursor = match held.clone() {
            Some(cursor) => cursor,
            // While the database is away the latest days are read again: their receipts tell.
            None => kf_cursors::get(doors.store.read(), self.account)
                .await
                .ok()
                .flatten()
                .unwrap_or_default(),
        };
        loop {
            let page = match self.mailbox.page(token, &cursor).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(account.key = account, %error, "messages could not be read");
                    return false;
                }
            };
            let arrivals = page
                .messages
                .iter()
                .filter_map(|message| self.arrival(message));
            let stored = gate::store(doors, self.account, account, arrivals.collect(), deadline);
            if stored.await.is_err() {
                return false;
            }
            let moved = !page.next_cursor.is_empty() && page.next_cursor.len() <= CURSOR_BYTES_MAX;
            if moved && page.next_cursor != cursor {
                cursor = page.next_cursor;
                *held = Some(cursor.clone());
                // Not worth an answer: reading the same again harms nobody.
                let kept = kf_cursors::keep(&doors.store, self.account, cursor.clone()).await;
                if let Err(error) = kept {
                    tracing::debug!(%error, "a cursor was not kept");
                }
            } else if page.has_more {
                tracing::warn!(account.key = account, "more messages, and no way to them");
                return false;
            }
            if !page.has_more {
                return true;
            }
        }
    }

    /// What a message of `sync_msg` says; `None` when it is another service account's, or nothing.
    fn arrival(&self, message: &Value) -> Option<Arrival> {
        let id = text(message, "/msgid");
        let at = message.get("send_time").and_then(Value::as_i64)?;
        let origin = message.get("origin").and_then(Value::as_i64)?;
        // An event has its ids within.
        let (kfid, customer) = match text(message, "/msgtype") {
            "event" => (
                text(message, "/event/open_kfid"),
                text(message, "/event/external_userid"),
            ),
            _ => (
                text(message, "/open_kfid"),
                text(message, "/external_userid"),
            ),
        };
        let ours = kfid.is_empty() || kfid == self.open_kfid;
        if id.is_empty() || at < 0 || !ours {
            return None;
        }
        let event = match origin {
            CUSTOMER => customer_event(message),
            PLATFORM => platform_event(message),
            _ => other("servicer_message"),
        };
        let nobody = matches!(event, Event::Other { .. } | Event::Reported(_));
        let openid = person(customer);
        if openid.is_empty() && !nobody {
            return None;
        }
        Some(Arrival {
            // A report is about a message, and what is only counted is about nobody.
            openid: if nobody { String::new() } else { openid },
            created_at: Timestamp::from_seconds(at),
            digest: digest_of_id("wecom-kf", id),
            event,
            language: None,
        })
    }
}

fn customer_event(message: &Value) -> Event {
    let kind = text(message, "/msgtype");
    let item = text(message, "/text/menu_id");
    match (kind, item) {
        ("text", "") => Event::MessageReceived {
            message_kind: kind.to_owned(),
            text: clean(text(message, "/text/content"), TEXT_BYTES_MAX),
        },
        ("text", item) => Event::Clicked {
            key: clean(item, KEY_BYTES_MAX),
        },
        (kind, _) => Event::MessageReceived {
            message_kind: clean(kind, 32),
            text: String::new(),
        },
    }
}

fn platform_event(message: &Value) -> Event {
    match text(message, "/event/event_type") {
        "enter_session" => {
            let scene = clean(text(message, "/event/scene"), KEY_BYTES_MAX);
            Event::Followed {
                scene: Some(scene).filter(|scene| !scene.is_empty()),
            }
        }
        "msg_send_fail" => {
            let kind = message.pointer("/event/fail_type").and_then(Value::as_i64);
            Event::Reported(Report {
                reference: clean(text(message, "/event/fail_msgid"), KEY_BYTES_MAX),
                delivered: Some(false),
                template: None,
                detail: format!("fail_type {}", kind.unwrap_or(0)),
            })
        }
        name => other(name),
    }
}
