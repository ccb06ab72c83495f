//! What a callback says, in our words: fields become an arrival.
//!
//! `MsgType` and `Event` are compared without regard to case, since the platform mixes it. What is
//! not known is kept as `Other`, never refused: the platform adds events without notice. Texts are
//! cut to what is stored; ids must be printable ASCII.
//!
//! Deliberately absent: signatures and decryption (`inbound::envelope`), de-duplication itself
//! (the receipts in `store`; here is only its key).

use std::fmt;

use sha2::{Digest, Sha256};

use super::xml::{Fields, Format, ReadError};
use crate::clock::Timestamp;
use crate::journey::event::{Arrival, Event};

/// Longest id of a follower or an account, in bytes. Real ones have 15 to 32.
const ID_BYTES_MAX: usize = 128;
/// Longest scene, menu key or menu item id kept, in bytes. The platform's own limit is 128 (keys)
/// and 64 (scenes).
const KEY_BYTES_MAX: usize = 256;
/// Longest name of an unknown event kept, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Longest text kept of what a follower wrote, in bytes.
const TEXT_BYTES_MAX: usize = 4 * 1024;
/// Last second of the year 9999: later instants have no usual form.
const SECONDS_MAX: i64 = 253_402_300_799;

/// Kinds of message that a follower sends.
const MESSAGES: [&str; 7] = [
    "text",
    "image",
    "voice",
    "video",
    "shortvideo",
    "location",
    "link",
];

/// Events that the platform itself causes: their `FromUserName` is some system account.
const SYSTEM_EVENTS: [&str; 12] = [
    "annual_renew",
    "card_not_pass_check",
    "card_pass_check",
    "card_sku_remind",
    "masssendjobfinish",
    "naming_verify_fail",
    "naming_verify_success",
    "poi_check_notify",
    "publishjobfinish",
    "qualification_verify_fail",
    "qualification_verify_success",
    "verify_expired",
];

/// An arrival and the account it came to.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// `ToUserName`: the account's original id (`gh_…`), to be compared with the account addressed.
    pub to_user_name: String,
    pub arrival: Arrival,
}

impl fmt::Debug for Message {
    /// Shows neither follower nor text, as logs must not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("to_user_name", &self.to_user_name)
            .field("event", &self.arrival.event.word())
            .field("created_at", &self.arrival.created_at)
            .finish_non_exhaustive()
    }
}

/// Reads a message as the platform wrote it, after any decryption.
pub fn read(body: &[u8], format: Format) -> Result<Message, ReadError> {
    interpret(&Fields::read(body, format)?)
}

/// Reads the meaning of the fields.
///
/// Fails when what every message has is missing or absurd: kind, account, `CreateTime`, and the
/// follower where the event is about one.
pub fn interpret(fields: &Fields) -> Result<Message, ReadError> {
    let kind = lower(fields, "MsgType").ok_or(ReadError::Malformed("no MsgType"))?;
    let seconds = fields.get("CreateTime").and_then(read_seconds);
    let seconds = seconds.ok_or(ReadError::Malformed("no CreateTime in seconds"))?;
    let to_user_name = id(fields, "ToUserName")?.ok_or(ReadError::Malformed("no ToUserName"))?;
    let event = if kind == "event" {
        let name = lower(fields, "Event").ok_or(ReadError::Malformed("no Event"))?;
        read_event(&name, fields)
    } else {
        read_message(&kind, fields)
    };
    Ok(Message {
        to_user_name,
        arrival: Arrival {
            openid: follower(&event, fields)?,
            created_at: Timestamp::from_seconds(seconds),
            digest: digest(fields),
            event,
            language: None,
        },
    })
}

fn read_event(name: &str, fields: &Fields) -> Event {
    let event_key = fields.get("EventKey").unwrap_or("");
    match name {
        // Other keys of a follow are no QR scene: `last_trade_no_…` after a payment, `scanbarcode|…`.
        "subscribe" => Event::Followed {
            scene: event_key
                .strip_prefix("qrscene_")
                .map(|scene| clean(scene, KEY_BYTES_MAX))
                .filter(|scene| !scene.is_empty()),
        },
        "unsubscribe" => Event::Unfollowed,
        "scan" => Event::Scanned {
            scene: clean(event_key, KEY_BYTES_MAX),
        },
        // The three menu actions that the platform counts as a click: only they open a grant.
        "click" | "scancode_push" | "scancode_waitmsg" => Event::Clicked {
            key: clean(event_key, KEY_BYTES_MAX),
        },
        _ => other(name),
    }
}

fn read_message(kind: &str, fields: &Fields) -> Event {
    let menu_item = fields.get("bizmsgmenuid").filter(|id| !id.is_empty());
    match (kind, menu_item) {
        // A tap on an item of a menu message comes as text, but counts as a menu click: it does
        // not open the 48 hours (客服消息 page, special note).
        ("text", Some(item)) => Event::Clicked {
            key: clean(item, KEY_BYTES_MAX),
        },
        ("text", None) => Event::MessageReceived {
            message_kind: kind.to_owned(),
            text: clean(fields.get("Content").unwrap_or(""), TEXT_BYTES_MAX),
        },
        _ if MESSAGES.contains(&kind) => Event::MessageReceived {
            message_kind: kind.to_owned(),
            text: String::new(),
        },
        _ => other(kind),
    }
}

/// An event that we only count, under its lower-case name.
fn other(name: &str) -> Event {
    Event::Other {
        name: clean(name, NAME_BYTES_MAX),
    }
}

/// The follower whom the event is about; empty for events about none.
fn follower(event: &Event, fields: &Fields) -> Result<String, ReadError> {
    let Event::Other { name } = event else {
        return id(fields, "FromUserName")?.ok_or(ReadError::Malformed("no FromUserName"));
    };
    if SYSTEM_EVENTS.contains(&name.as_str()) || name.starts_with("wxa_") {
        return Ok(String::new());
    }
    // `user_authorization_revoke` and its like come from a system account and name the follower
    // in `OpenID`.
    let named = match id(fields, "OpenID")? {
        Some(openid) => Some(openid),
        None => id(fields, "FromUserName")?,
    };
    Ok(named.unwrap_or_default())
}

/// The de-duplication key: what distinguishes this event from every other of the account.
///
/// Neither of the platform's own two rules suffices: a `MsgId` was seen at two followers within a
/// second, and two events of one follower share a `CreateTime`. So all of it counts together.
fn digest(fields: &Fields) -> i64 {
    let mut sha = Sha256::new();
    let mut count = |text: &str| {
        // The length goes first, so that no two lists of texts run together alike.
        sha.update(text.len().to_be_bytes());
        sha.update(text.as_bytes());
    };
    for name in ["ToUserName", "FromUserName", "CreateTime"] {
        count(fields.get(name).unwrap_or("").trim());
    }
    for name in ["MsgType", "Event"] {
        count(&lower(fields, name).unwrap_or_default());
    }
    count(fields.get("EventKey").unwrap_or(""));
    let message_id = fields.get("MsgId").or_else(|| fields.first("MsgID"));
    count(message_id.unwrap_or("").trim());
    let subject = fields.first("UserCardCode");
    count(subject.or_else(|| fields.first("TemplateId")).unwrap_or(""));
    let digest: [u8; 32] = sha.finalize().into();
    i64::from_be_bytes(*digest.first_chunk().expect("a SHA-256 has 32 bytes"))
}

/// A time in whole seconds since 1970, cut at the year 9999.
fn read_seconds(text: &str) -> Option<i64> {
    let digits = text.trim();
    if digits.is_empty() || digits.len() > 18 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = digits.parse().ok()?;
    Some(seconds.min(SECONDS_MAX))
}

/// A field in lower case; `None` when it is missing or empty.
fn lower(fields: &Fields, name: &str) -> Option<String> {
    let text = fields.get(name)?.trim();
    (!text.is_empty()).then(|| text.to_ascii_lowercase())
}

/// An id of the platform; `None` when it is missing or empty.
fn id(fields: &Fields, name: &str) -> Result<Option<String>, ReadError> {
    let id = fields.get(name).unwrap_or("");
    if id.len() > ID_BYTES_MAX || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ReadError::Malformed("an id that is no id"));
    }
    Ok((!id.is_empty()).then(|| id.to_owned()))
}

/// The text without control characters (line ends and tabs stay), cut to `bytes_max` bytes between
/// two characters.
fn clean(text: &str, bytes_max: usize) -> String {
    let kept =
        |character: &char| !character.is_control() || matches!(character, '\n' | '\r' | '\t');
    let mut clean: String = text.chars().filter(kept).collect();
    clean.truncate(clean.floor_char_boundary(bytes_max));
    clean
}
