//! Callbacks of an in-house channel: events in our own JSON, signed as "Standard Webhooks" says.
//!
//! Whoever drives a channel of their own posts what people do to `/callback/{account}`, with
//! `webhook-id`, `webhook-timestamp` (seconds, at most five minutes from our clock) and
//! `webhook-signature` (`v1`). The id is the event's: one that comes again is taken in once. The body:
//!
//! ```json
//! { "type": "followed", "timestamp": "2026-03-02T02:00:00Z",
//!   "data": { "follower": "u-7", "language": "zh_CN", "scene": "spring" } }
//! ```
//!
//! `timestamp` is when it happened, in RFC 3339, the same whenever the event is told again; `follower`
//! is at most 128 visible ASCII characters; `language` may be left out. The types and what else their
//! data has:
//!
//! | type | data |
//! |---|---|
//! | `followed` | `scene`, or without |
//! | `unfollowed` | |
//! | `scanned` | `scene` |
//! | `clicked` | `key` |
//! | `message` | `text`; or `kind`, such as `image`, for one without text |
//! | `report` | `reference` (what our message was answered with), `delivered` (true or false), `detail` |
//!
//! Any other type is kept and counted. Answered 200 once it is stored; 503 asks to come again.
//!
//! Source of the signature: `sign`.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::digest::digest_of_id;
use super::envelope::{Doubt, Refusal, TIMESTAMP_WINDOW};
use super::gate::{Admitted, Knock, language, person, text};
use super::message::{KEY_BYTES_MAX, TEXT_BYTES_MAX, clean, other};
use super::xml::ReadError;
use crate::clock::Timestamp;
use crate::journey::event::{Arrival, Event, Report};
use crate::sign::SigningKey;

/// Longest `webhook-id`, in bytes.
const ID_BYTES_MAX: usize = 256;

/// What lets a channel's callbacks in.
#[derive(Debug)]
pub struct WebhookGate {
    /// The current secret first.
    keys: Vec<SigningKey>,
}

impl WebhookGate {
    /// A gate that takes signatures under any of these secrets; `None` when one is no secret.
    pub fn new(secrets: &[&SecretString]) -> Option<Self> {
        let keys = secrets
            .iter()
            .map(|secret| SigningKey::parse(secret.expose_secret()));
        Some(Self {
            keys: keys.collect::<Option<_>>()?,
        })
    }

    /// Lets a callback in and reads it.
    pub(super) fn open(&self, knock: Knock<'_>, now: Timestamp) -> Result<Admitted, Refusal> {
        let id = knock.head("webhook-id");
        let sent_at = knock.head("webhook-timestamp");
        // Digits only: a sign or a space would be another text with the same value.
        let digits =
            (1..=12).contains(&sent_at.len()) && sent_at.bytes().all(|b| b.is_ascii_digit());
        let seconds: i64 = match sent_at.parse() {
            Ok(seconds) if digits => seconds,
            _ => return Err(Doubt::Timestamp.into()),
        };
        if now.seconds().abs_diff(seconds) > TIMESTAMP_WINDOW.as_secs() {
            return Err(Doubt::Age.into());
        }
        let named =
            (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
        let signature = knock.head("webhook-signature");
        let proven = self.keys.iter().fold(false, |proven, key| {
            proven | key.verify(id, sent_at, knock.body, signature)
        });
        // A full stop in the id could move the border between id and timestamp.
        if !named || id.contains('.') || !proven {
            return Err(Doubt::Signature.into());
        }
        Ok(Admitted::of(vec![read(id, &knock.json()?)?]))
    }
}

fn read(id: &str, body: &Value) -> Result<Arrival, Refusal> {
    let at: Result<jiff::Timestamp, _> = text(body, "/timestamp").parse();
    let at = at.map_err(|_| ReadError::Malformed("no timestamp in RFC 3339"))?;
    let event = read_event(body);
    let openid = person(text(body, "/data/follower"));
    if openid.is_empty() && !matches!(event, Event::Other { .. } | Event::Reported(_)) {
        return Err(ReadError::Malformed("no follower").into());
    }
    Ok(Arrival {
        openid,
        created_at: Timestamp(at.as_millisecond().max(0)),
        digest: digest_of_id("webhook", id),
        event,
        language: language(text(body, "/data/language")),
    })
}

fn read_event(body: &Value) -> Event {
    let scene = clean(text(body, "/data/scene"), KEY_BYTES_MAX);
    match text(body, "/type") {
        "followed" => Event::Followed {
            scene: Some(scene).filter(|scene| !scene.is_empty()),
        },
        "unfollowed" => Event::Unfollowed,
        "scanned" => Event::Scanned { scene },
        "clicked" => Event::Clicked {
            key: clean(text(body, "/data/key"), KEY_BYTES_MAX),
        },
        "message" => {
            let kind = clean(text(body, "/data/kind"), 32);
            Event::MessageReceived {
                message_kind: if kind.is_empty() {
                    "text".to_owned()
                } else {
                    kind
                },
                text: clean(text(body, "/data/text"), TEXT_BYTES_MAX),
            }
        }
        "report" => Event::Reported(Report {
            reference: clean(text(body, "/data/reference"), KEY_BYTES_MAX),
            delivered: body.pointer("/data/delivered").and_then(Value::as_bool),
            template: None,
            detail: clean(text(body, "/data/detail"), KEY_BYTES_MAX),
        }),
        name => other(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use poem::http::HeaderMap;
    use serde_json::json;

    use super::super::envelope::Query;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn open(id: &str, sent_at: i64, now: Timestamp) -> Result<Admitted, Refusal> {
        let body = json!({ "type": "followed", "timestamp": "2023-11-14T22:13:20Z",
            "data": { "follower": "u-7", "scene": "spring" } })
        .to_string();
        let key = SigningKey::parse(SECRET).unwrap();
        let mut heads = HeaderMap::new();
        heads.insert("webhook-id", id.parse().unwrap());
        heads.insert("webhook-timestamp", sent_at.to_string().parse().unwrap());
        let signature = key.sign(id, sent_at, &body);
        heads.insert("webhook-signature", signature.parse().unwrap());
        let secret = SecretString::from(SECRET);
        let gate = WebhookGate::new(&[&secret]).unwrap();
        let knock = Knock {
            heads: &heads,
            query: &Query::default(),
            body: body.as_bytes(),
        };
        gate.open(knock, now)
    }

    #[test]
    fn a_signed_event_is_taken_five_minutes_either_way_and_not_a_second_longer() {
        let sent = NOW.seconds();
        for (offset, taken) in [
            (-301, false),
            (-300, true),
            (0, true),
            (300, true),
            (301, false),
        ] {
            let opened = open("evt-1", sent + offset, NOW);
            assert_eq!(opened.is_ok(), taken, "{offset}");
        }
        let arrival = open("evt-1", sent, NOW).unwrap().arrivals.remove(0);
        assert_eq!((arrival.openid.as_str(), arrival.created_at), ("u-7", NOW));
        assert_eq!(arrival.event.detail(), "spring");
        assert!(open("evt.1", sent, NOW).is_err(), "a full stop in the id");
    }

    #[test]
    fn every_type_is_read_and_one_without_a_follower_is_refused() {
        let data = json!({ "follower": "u", "key": "k", "text": "t", "scene": "s",
            "reference": "r", "delivered": false });
        for (kind, word, detail) in [
            ("unfollowed", "unfollowed", ""),
            ("scanned", "scanned", "s"),
            ("clicked", "clicked", "k"),
            ("message", "message", "t"),
            ("report", "report", "r"),
            ("poked", "other", "poked"),
        ] {
            let body = json!({ "type": kind, "timestamp": "2026-03-02T02:00:00Z", "data": data });
            let event = read("e", &body).unwrap().event;
            assert_eq!((event.word(), event.detail()), (word, detail));
        }
        let nobody = json!({ "type": "followed", "timestamp": "2026-03-02T02:00:00Z", "data": {} });
        assert!(read("e", &nobody).is_err());
        assert!(read("e", &json!({ "type": "followed", "data": data })).is_err());
    }
}
