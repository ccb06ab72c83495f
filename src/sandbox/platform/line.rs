//! LINE's Messaging API, as its pages and its OpenAPI files describe it: push, multicast, profile and
//! signed webhooks.
//!
//! Source: <https://github.com/line/line-openapi> and <https://developers.line.biz/en/docs/messaging-api/>.
//! A message for somebody who blocked the channel is taken and reaches nobody.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Answered, Call, Letter, PlatformAct, PlatformEvent, Protocol, SEND, Taking, Town};

const PUSH: &str = "/v2/bot/message/push";
const MULTICAST: &str = "/v2/bot/message/multicast";
const PROFILE: &str = "/v2/bot/profile/";

/// Recipients of one multicast, and messages of one call.
const RECIPIENTS_MAX: usize = 500;
const MESSAGES_MAX: usize = 5;

#[derive(Debug)]
pub(super) struct Line {
    pub(super) channel_secret: SecretString,
    pub(super) channel_access_token: SecretString,
}

fn refusal(status: u16, message: &str) -> Answered {
    Answered::new(status, json!({ "message": message }))
}

fn invalid(property: &str) -> Answered {
    let words =
        format!("The property, '{property}', in the request body is invalid (line: -, column: -)");
    refusal(400, &words)
}

impl Line {
    fn send(&self, town: &Town, call: &Call<'_>) -> Answered {
        let Ok(body) = serde_json::from_slice::<Value>(call.body) else {
            return refusal(
                400,
                "The request body could not be parsed as JSON (line: 1, column: 1)",
            );
        };
        let messages = body.get("messages").and_then(Value::as_array);
        let messages = match messages {
            Some(messages) if (1..=MESSAGES_MAX).contains(&messages.len()) => messages.clone(),
            _ => return invalid("messages"),
        };
        if !messages.iter().all(is_message) {
            return refusal(400, "May not be empty");
        }
        let people: Vec<&str> = match (call.path, &body["to"]) {
            (PUSH, Value::String(one)) => vec![one],
            (MULTICAST, Value::Array(many)) if many.len() <= RECIPIENTS_MAX => {
                many.iter().filter_map(Value::as_str).collect()
            }
            _ => return invalid("to"),
        };
        // One person whom the channel has never met makes a push fail; a multicast leaves them out.
        if call.path == PUSH && !people.iter().all(|person| town.is_known(person)) {
            return refusal(400, "Failed to send messages");
        }
        let key = call.head("x-line-retry-key");
        if !key.is_empty() && !is_uuid(key) {
            return refusal(400, "Invalid retry key");
        }
        let key = Some(key).filter(|key| !key.is_empty());
        if town.knows(key) {
            let mut answered = refusal(409, "The retry key is already accepted");
            answered
                .heads
                .push(("x-line-accepted-request-id", "first".to_owned()));
            return answered;
        }
        if !town.admits() {
            return refusal(
                429,
                "The API rate limit has been exceeded. Try again later.",
            );
        }
        let key = key.map(str::to_owned);
        for (at, message) in messages.iter().enumerate() {
            let key = key.clone().filter(|_| at == 0);
            let (people, message) = (people.clone(), message.clone());
            town.deliver(Taking {
                people,
                message,
                key,
            });
        }
        let mut answered = Answered::new(
            200,
            json!({ "sentMessages": [{ "id": "461230966842064897" }] }),
        );
        answered.heads.push(("x-line-request-id", "r".to_owned()));
        answered
    }

    fn sign(&self, body: &str) -> String {
        let key = self.channel_secret.expose_secret().as_bytes();
        let mac = Hmac::<Sha256>::new_from_slice(key).map(|mac| mac.chain_update(body));
        mac.map_or_else(
            |_| String::new(),
            |mac| STANDARD.encode(mac.finalize().into_bytes()),
        )
    }
}

/// Whether an object is a message that LINE knows, with what it needs.
fn is_message(message: &Value) -> bool {
    let has = |name: &str| {
        let text = message.get(name).and_then(Value::as_str);
        text.is_some_and(|text| !text.is_empty())
    };
    match message["type"].as_str() {
        Some("text") => has("text"),
        Some("image" | "video") => has("originalContentUrl") && has("previewImageUrl"),
        Some("flex") => has("altText") && message["contents"].is_object(),
        _ => false,
    }
}

/// 8-4-4-4-12 hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    let lengths: Vec<_> = text.split('-').map(str::len).collect();
    let digits = text
        .bytes()
        .all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    lengths == [8, 4, 4, 4, 12] && digits
}

impl Protocol for Line {
    fn word(&self) -> &'static str {
        "line"
    }

    fn example(&self) -> &'static str {
        "U4af4980629"
    }

    fn api<'p>(&self, path: &'p str) -> &'p str {
        match path {
            PUSH | MULTICAST => SEND,
            other => other,
        }
    }

    fn answer(&self, town: &Town, call: &Call<'_>) -> Answered {
        let bearer = format!("Bearer {}", self.channel_access_token.expose_secret());
        if call.head("authorization") != bearer {
            return refusal(
                401,
                "Authentication failed. Confirm that the access token in the authorization header is valid.",
            );
        }
        match call.path {
            PUSH | MULTICAST => self.send(town, call),
            path => match path.strip_prefix(PROFILE) {
                Some(person) if town.follows(person) => Answered::new(
                    200,
                    json!({ "userId": person, "displayName": "F", "language": "en" }),
                ),
                _ => refusal(404, "Not found"),
            },
        }
    }

    fn refuse(&self, code: i32) -> Answered {
        refusal(u16::try_from(code).unwrap_or(400), "The request is refused")
    }

    fn letter(&self, _town: &Town, event: &PlatformEvent, again: bool) -> Option<Letter> {
        let mut told = json!({
            "mode": "active", "timestamp": event.at.0,
            "source": { "type": "user", "userId": event.person },
            // A ULID has 26 characters.
            "webhookEventId": format!("01{:024}", event.number),
            "deliveryContext": { "isRedelivery": again },
        });
        let rest = match &event.act {
            PlatformAct::Follow => json!({ "type": "follow", "follow": { "isUnblocked": false } }),
            PlatformAct::Unfollow => json!({ "type": "unfollow" }),
            PlatformAct::Write(words) => json!({ "type": "message", "replyToken": "t",
                "message": { "id": event.number.to_string(), "type": "text", "text": words } }),
            PlatformAct::Tap(data) => json!({ "type": "postback", "postback": { "data": data } }),
        };
        for (name, value) in rest.as_object().into_iter().flatten() {
            told[name] = value.clone();
        }
        let body = json!({ "destination": format!("U{:032}", 0), "events": [told] }).to_string();
        Some(Letter {
            heads: vec![("x-line-signature", self.sign(&body))],
            query: Vec::new(),
            body,
        })
    }

    fn forged(&self, mut letter: Letter) -> Letter {
        letter.body.push(' ');
        letter
    }
}
