//! Callbacks of LINE's Messaging API: events in JSON, signed with the channel's secret.
//!
//! `x-line-signature` is the base64 of HMAC-SHA256 over the raw body. A callback tells several events,
//! or none when the console checks the address. Each event has a `webhookEventId`, which stays when it
//! is told again (`deliveryContext.isRedelivery`), as its `timestamp` does: so both are its digest.
//!
//! - `follow` (also after a block was lifted) and `unfollow` (blocked) are what they say.
//! - `message`: message received. `postback`, which a quick reply sends: clicked, by its `data`.
//! - Groups, rooms and everything else are only counted.
//!
//! Source: <https://github.com/line/line-openapi/blob/main/webhook.yml> and the pages "Receive messages
//! (webhook)" and "Verify webhook signature" of <https://developers.line.biz/en/docs/messaging-api/>.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::Sha256;

use super::digest::digest_of_id;
use super::envelope::{Doubt, Refusal};
use super::gate::{Admitted, Knock, person, text};
use super::message::{KEY_BYTES_MAX, TEXT_BYTES_MAX, clean, other};
use super::xml::ReadError;
use crate::clock::Timestamp;
use crate::journey::event::{Arrival, Event};

const HEADER: &str = "x-line-signature";

/// Events of one callback that are taken; more have not been seen.
const EVENTS_MAX: usize = 500;

/// What lets a channel's callbacks in.
#[derive(Debug)]
pub struct LineGate {
    pub channel_secret: SecretString,
}

impl LineGate {
    /// Lets a callback in and reads it.
    pub(super) fn open(&self, knock: Knock<'_>) -> Result<Admitted, Refusal> {
        let key = self.channel_secret.expose_secret().as_bytes();
        let mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| Doubt::Signature)?;
        let given = STANDARD.decode(knock.head(HEADER));
        let given = given.map_err(|_| Doubt::Signature)?;
        let checked = mac.chain_update(knock.body).verify_slice(&given);
        checked.map_err(|_| Doubt::Signature)?;
        read(&knock.json()?)
    }
}

fn read(body: &Value) -> Result<Admitted, Refusal> {
    let events = body.get("events").and_then(Value::as_array);
    let events = events.ok_or(ReadError::Malformed("no events"))?;
    if events.len() > EVENTS_MAX {
        return Err(ReadError::Malformed("too many events").into());
    }
    let arrivals = events.iter().map(arrival);
    Ok(Admitted::of(arrivals.collect::<Result<_, _>>()?))
}

fn arrival(event: &Value) -> Result<Arrival, Refusal> {
    let id = text(event, "/webhookEventId");
    let at = event.get("timestamp").and_then(Value::as_i64);
    let at = at.filter(|at| *at >= 0 && !id.is_empty());
    let at = at.ok_or(ReadError::Malformed("an event without id or timestamp"))?;
    let openid = match text(event, "/source/type") {
        "user" => person(text(event, "/source/userId")),
        _ => String::new(),
    };
    let read = match openid.as_str() {
        // Only an event of one person is anything but counted.
        "" => other(text(event, "/type")),
        _ => read_event(event),
    };
    Ok(Arrival {
        openid,
        created_at: Timestamp(at),
        digest: digest_of_id("line", id),
        event: read,
        language: None,
    })
}

fn read_event(event: &Value) -> Event {
    match text(event, "/type") {
        "follow" => Event::Followed { scene: None },
        "unfollow" => Event::Unfollowed,
        "postback" => Event::Clicked {
            key: clean(text(event, "/postback/data"), KEY_BYTES_MAX),
        },
        "message" => Event::MessageReceived {
            message_kind: match text(event, "/message/type") {
                "audio" => "voice".to_owned(),
                kind => clean(kind, 32),
            },
            text: clean(text(event, "/message/text"), TEXT_BYTES_MAX),
        },
        name => other(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(kind: &str, rest: &Value) -> Value {
        let mut event = json!({
            "type": kind, "mode": "active", "timestamp": 1_462_629_479_859_i64,
            "source": { "type": "user", "userId": "U4af4980629" },
            "webhookEventId": "01FZ74A0TDDPYRVKNK77XKC3ZR",
            "deliveryContext": { "isRedelivery": false },
        });
        for (key, value) in rest.as_object().unwrap() {
            event[key] = value.clone();
        }
        event
    }

    fn one(event: &Value) -> Arrival {
        read(&json!({ "destination": "U", "events": [event] }))
            .unwrap()
            .arrivals
            .remove(0)
    }

    #[test]
    fn each_event_of_one_person_is_what_it_says() {
        let follow = one(&event(
            "follow",
            &json!({ "follow": { "isUnblocked": true } }),
        ));
        assert_eq!(follow.event, Event::Followed { scene: None });
        assert_eq!(follow.openid, "U4af4980629");
        assert_eq!(follow.created_at.0, 1_462_629_479_859);
        assert_eq!(one(&event("unfollow", &json!({}))).event, Event::Unfollowed);
        let tap = event("postback", &json!({ "postback": { "data": "more" } }));
        assert_eq!(one(&tap).event, Event::Clicked { key: "more".into() });
        let written = event(
            "message",
            &json!({ "message": { "type": "text", "text": "hi" } }),
        );
        assert_eq!(one(&written).event.detail(), "hi");
        let voice = event("message", &json!({ "message": { "type": "audio" } }));
        assert_eq!(one(&voice).event.detail(), "voice");
    }

    #[test]
    fn an_event_told_again_has_the_same_digest_and_another_one_has_not() {
        let first = one(&event("follow", &json!({})));
        let again = json!({ "deliveryContext": { "isRedelivery": true } });
        let again = one(&event("follow", &again));
        assert_eq!(
            (again.digest, again.created_at),
            (first.digest, first.created_at)
        );
        let next = one(&event(
            "follow",
            &json!({ "webhookEventId": "01FZ74A0TDDPYRVKNK77XKC3ZS" }),
        ));
        assert_ne!(next.digest, first.digest);
    }

    #[test]
    fn groups_are_counted_and_what_is_no_event_is_refused() {
        let group = json!({ "source": { "type": "group", "groupId": "C1", "userId": "U1" } });
        let arrival = one(&event("message", &group));
        assert_eq!(
            (arrival.openid.as_str(), arrival.event.word()),
            ("", "other")
        );
        assert!(read(&json!({ "events": [] })).unwrap().arrivals.is_empty());
        for body in [json!({}), json!({ "events": [{}] }), json!([])] {
            assert!(read(&body).is_err(), "{body}");
        }
    }
}
