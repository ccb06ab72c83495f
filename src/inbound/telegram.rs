//! Callbacks of a Telegram bot: an `Update` under the secret token that `setWebhook` was given.
//!
//! The token is all that proves a callback: nothing is signed, so it must be long and only go by TLS.
//! A bot's followers are the people who pressed Start; whoever blocks the bot leaves.
//!
//! - A message `/start`, with its deep link's parameter as the scene: followed.
//! - `my_chat_member` of a private chat with status `kicked`: unfollowed. That the block was lifted is
//!   only counted: pressing Restart sends `/start` right after it, and whoever lifts it in the settings
//!   has asked for nothing yet.
//! - Another message: message received. A tap on an inline button: clicked, by its `callback_data`.
//! - Groups and everything else are only counted.
//!
//! An update is known by its `update_id`. A tap has no instant of its own and takes that of the message
//! it is under, so that it is the same whenever it is told.
//!
//! Source: <https://core.telegram.org/bots/api>, `setWebhook`, `Update`, `ChatMemberUpdated`,
//! `CallbackQuery` and "Making requests when getting updates".

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::digest::digest_of_id;
use super::envelope::{Doubt, Refusal};
use super::gate::{Admitted, Knock, language, text};
use super::message::{KEY_BYTES_MAX, TEXT_BYTES_MAX, clean, other};
use super::xml::ReadError;
use crate::clock::Timestamp;
use crate::journey::event::{Arrival, Event};

const HEADER: &str = "x-telegram-bot-api-secret-token";

/// The kinds of content that a message can have, and what we call them.
const KINDS: [(&str, &str); 9] = [
    ("photo", "image"),
    ("voice", "voice"),
    ("audio", "voice"),
    ("video", "video"),
    ("video_note", "video"),
    ("document", "file"),
    ("location", "location"),
    ("sticker", "sticker"),
    ("contact", "contact"),
];

/// What lets a bot's callbacks in.
#[derive(Debug)]
pub struct TelegramGate {
    pub secret_token: SecretString,
}

impl TelegramGate {
    /// Lets a callback in and reads it.
    pub(super) fn open(&self, knock: Knock<'_>, now: Timestamp) -> Result<Admitted, Refusal> {
        // Hashes are compared, so that not even the length can be learned.
        let given = Sha256::digest(knock.head(HEADER));
        let ours = Sha256::digest(self.secret_token.expose_secret());
        if !bool::from(given.as_slice().ct_eq(ours.as_slice())) {
            return Err(Doubt::Signature.into());
        }
        read(&knock.json()?, now)
    }
}

fn read(update: &Value, now: Timestamp) -> Result<Admitted, Refusal> {
    let id = update.get("update_id").and_then(Value::as_i64);
    let id = id.ok_or(ReadError::Malformed("no update_id"))?;
    let told = told(update);
    let arrival = Arrival {
        openid: told.from.map(|id| id.to_string()).unwrap_or_default(),
        created_at: told.at.map_or(now, Timestamp::from_seconds),
        digest: digest_of_id("telegram", &id.to_string()),
        event: told.event,
        language: language(told.language),
    };
    let mut admitted = Admitted::of(vec![arrival]);
    if let Some(query) = told.answers {
        // Ends the circle on the button; the answer to a callback may be a call.
        let call = json!({ "method": "answerCallbackQuery", "callback_query_id": query });
        admitted.answer = call.to_string();
    }
    Ok(admitted)
}

/// What an update says.
struct Told<'v> {
    /// The person, where the update is about one and us.
    from: Option<i64>,
    /// In seconds since 1970.
    at: Option<i64>,
    language: &'v str,
    event: Event,
    /// The tap that is to be answered.
    answers: Option<&'v str>,
}

fn told(update: &Value) -> Told<'_> {
    if let Some(message) = update.get("message") {
        return Told {
            event: message_event(message),
            ..about(message, "/from", "/date")
        };
    }
    if let Some(member) = update.get("my_chat_member") {
        let event = match text(member, "/new_chat_member/status") {
            "kicked" => Event::Unfollowed,
            status => other(&format!("my_chat_member_{status}")),
        };
        return Told {
            event,
            ..about(member, "/from", "/date")
        };
    }
    if let Some(tap) = update.get("callback_query") {
        let message = tap.get("message").unwrap_or(&Value::Null);
        let key = clean(text(tap, "/data"), KEY_BYTES_MAX);
        return Told {
            from: tap.pointer("/from/id").and_then(Value::as_i64),
            language: text(tap, "/from/language_code"),
            event: Event::Clicked { key },
            answers: Some(text(tap, "/id")),
            ..about(message, "/from", "/date")
        };
    }
    let name = update.as_object().and_then(|object| {
        let names = object.keys();
        names.map(String::as_str).find(|name| *name != "update_id")
    });
    Told {
        from: None,
        at: None,
        language: "",
        event: other(name.unwrap_or("update")),
        answers: None,
    }
}

/// Whom something is about: nobody unless it happened between one person and us.
fn about<'v>(value: &'v Value, from: &str, date: &str) -> Told<'v> {
    let private = text(value, "/chat/type") == "private";
    let name = if private { "other" } else { "group" };
    Told {
        from: value
            .pointer(&format!("{from}/id"))
            .and_then(Value::as_i64)
            .filter(|_| private),
        at: value.pointer(date).and_then(Value::as_i64),
        language: text(value, &format!("{from}/language_code")),
        event: other(name),
        answers: None,
    }
}

fn message_event(message: &Value) -> Event {
    if text(message, "/chat/type") != "private" {
        return other("group_message");
    }
    let written = text(message, "/text");
    if let Some(rest) = written.strip_prefix("/start")
        && (rest.is_empty() || rest.starts_with(' '))
    {
        let scene = clean(rest.trim(), KEY_BYTES_MAX);
        return Event::Followed {
            scene: Some(scene).filter(|scene| !scene.is_empty()),
        };
    }
    if !written.is_empty() {
        return Event::MessageReceived {
            message_kind: "text".to_owned(),
            text: clean(written, TEXT_BYTES_MAX),
        };
    }
    let kind = KINDS
        .iter()
        .find(|(theirs, _)| message.get(theirs).is_some());
    match kind {
        Some((_, ours)) => Event::MessageReceived {
            message_kind: (*ours).to_owned(),
            text: String::new(),
        },
        None => other("message"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn admitted(update: &Value) -> Admitted {
        read(update, NOW).unwrap()
    }

    fn arrival(update: &Value) -> Arrival {
        admitted(update).arrivals.remove(0)
    }

    fn message(text: &str) -> Value {
        json!({ "update_id": 5, "message": {
            "message_id": 1, "date": 1_699_999_990, "text": text,
            "chat": { "id": 7, "type": "private" },
            "from": { "id": 7, "is_bot": false, "language_code": "zh-hans" },
        } })
    }

    #[test]
    fn start_is_a_follow_with_its_link_and_other_words_are_words() {
        let followed = |scene: Option<&str>| Event::Followed {
            scene: scene.map(str::to_owned),
        };
        assert_eq!(arrival(&message("/start")).event, followed(None));
        let linked = arrival(&message("/start spring_7"));
        assert_eq!(linked.event, followed(Some("spring_7")));
        assert_eq!(
            (linked.openid.as_str(), linked.created_at.0),
            ("7", 1_699_999_990_000)
        );
        assert_eq!(linked.language.as_deref(), Some("zh_CN"));
        let written = Event::MessageReceived {
            message_kind: "text".into(),
            text: "/started".into(),
        };
        assert_eq!(arrival(&message("/started")).event, written);
    }

    #[test]
    fn a_block_is_an_unfollow_and_its_end_is_only_counted() {
        let member = |status: &str, chat: &str| {
            arrival(&json!({ "update_id": 6, "my_chat_member": {
                "date": 1, "chat": { "id": 7, "type": chat }, "from": { "id": 7 },
                "new_chat_member": { "status": status },
            } }))
        };
        let blocked = member("kicked", "private");
        assert_eq!(
            (blocked.event, blocked.openid.as_str()),
            (Event::Unfollowed, "7")
        );
        assert_eq!(member("member", "private").event.word(), "other");
        assert_eq!(
            member("kicked", "group").openid,
            "",
            "thrown out of a group"
        );
    }

    #[test]
    fn a_tap_is_a_click_at_its_message_s_instant_and_is_answered() {
        let tap = json!({ "update_id": 8, "callback_query": {
            "id": "q1", "data": "more", "from": { "id": 9, "language_code": "en" },
            "message": { "date": 50, "chat": { "id": 9, "type": "private" } },
        } });
        let admitted = admitted(&tap);
        assert!(admitted.answer.contains("answerCallbackQuery"));
        let arrival = &admitted.arrivals[0];
        assert_eq!(arrival.event, Event::Clicked { key: "more".into() });
        assert_eq!(
            (arrival.openid.as_str(), arrival.created_at.0),
            ("9", 50_000)
        );
    }

    #[test]
    fn what_is_not_known_is_kept_by_its_name() {
        let poll = arrival(&json!({ "update_id": 9, "poll_answer": {} }));
        assert_eq!(poll.event.detail(), "poll_answer");
        assert_eq!(poll.openid, "");
        let group = json!({ "update_id": 9, "message": {
            "date": 1, "text": "/start", "chat": { "id": -5, "type": "group" }, "from": { "id": 7 },
        } });
        assert_eq!(arrival(&group).openid, "");
        assert_eq!(arrival(&group).event.detail(), "group_message");
        assert!(read(&json!({ "message": {} }), NOW).is_err());
    }
}
