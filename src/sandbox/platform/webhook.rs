//! The other end of a webhook account: an in-house channel that keeps to "Standard Webhooks".
//!
//! Source: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>,
//! and for the bodies what the product documents of its own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Answered, Call, Letter, PlatformAct, PlatformEvent, Protocol, SEND, Taking, Town};

/// Seconds that a message may be old.
const AGE_MAX: u64 = 300;

#[derive(Debug)]
pub(super) struct Webhook {
    pub(super) secret: SecretString,
}

fn refusal(status: u16, code: &str) -> Answered {
    Answered::new(status, json!({ "code": code }))
}

impl Webhook {
    fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let secret = self.secret.expose_secret();
        let key = STANDARD.decode(secret.trim_start_matches("whsec_"));
        let mac = Hmac::<Sha256>::new_from_slice(&key.unwrap_or_default());
        let signed = mac.map(|mac| {
            let mac = mac.chain_update(format!("{id}.{timestamp}."));
            mac.chain_update(body).finalize().into_bytes()
        });
        signed.map_or_else(
            |_| String::new(),
            |bytes| format!("v1,{}", STANDARD.encode(bytes)),
        )
    }
}

impl Protocol for Webhook {
    fn word(&self) -> &'static str {
        "webhook"
    }

    fn example(&self) -> &'static str {
        "u-7"
    }

    fn api<'p>(&self, _path: &'p str) -> &'p str {
        SEND
    }

    fn answer(&self, town: &Town, call: &Call<'_>) -> Answered {
        let (id, timestamp) = (call.head("webhook-id"), call.head("webhook-timestamp"));
        let seconds: i64 = timestamp.parse().unwrap_or(0);
        let is_fresh = town.now().seconds().abs_diff(seconds) <= AGE_MAX;
        let is_signed = self.sign(id, timestamp, call.body) == call.head("webhook-signature");
        if id.is_empty() || !is_fresh || !is_signed {
            return refusal(401, "signature");
        }
        let body: Value = serde_json::from_slice(call.body).unwrap_or(Value::Null);
        let message = body.pointer("/data/message").cloned();
        let person = body.pointer("/data/follower").and_then(Value::as_str);
        let (Some(message), Some(person)) = (message.filter(Value::is_object), person) else {
            return refusal(422, "refused");
        };
        if town.knows(Some(id)) {
            return Answered::new(200, json!({}));
        }
        if town.blocks(person) || !town.follows(person) {
            return refusal(403, "unsubscribed");
        }
        if !town.admits() {
            let mut answered = refusal(429, "rate");
            let wait = town.settings.retry_after.to_string();
            answered.heads.push(("retry-after", wait));
            return answered;
        }
        town.deliver(Taking {
            people: vec![person],
            message,
            key: Some(id.to_owned()),
        });
        Answered::new(200, json!({}))
    }

    fn refuse(&self, code: i32) -> Answered {
        Answered::new(
            u16::try_from(code).unwrap_or(422),
            json!({ "message": "refused" }),
        )
    }

    fn letter(&self, town: &Town, event: &PlatformEvent, _again: bool) -> Option<Letter> {
        let mut data = json!({ "follower": event.person, "language": "en" });
        let kind = match &event.act {
            PlatformAct::Follow => "followed",
            PlatformAct::Unfollow => "unfollowed",
            PlatformAct::Write(words) => {
                data["text"] = json!(words);
                "message"
            }
            PlatformAct::Tap(key) => {
                data["key"] = json!(key);
                "clicked"
            }
        };
        let at = event.at.to_string();
        let body = json!({ "type": kind, "timestamp": at, "data": data }).to_string();
        let id = format!("evt_{}", event.number);
        // Of the attempt, not of the event.
        let sent_at = town.now().seconds().to_string();
        let signature = self.sign(&id, &sent_at, body.as_bytes());
        Some(Letter {
            heads: vec![
                ("webhook-id", id),
                ("webhook-timestamp", sent_at),
                ("webhook-signature", signature),
            ],
            query: Vec::new(),
            body,
        })
    }

    fn forged(&self, mut letter: Letter) -> Letter {
        letter.body.push(' ');
        letter
    }
}
