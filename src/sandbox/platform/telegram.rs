//! Telegram's Bot API, as its pages describe it: methods under `/bot<token>/`, updates by POST.
//!
//! Source: <https://core.telegram.org/bots/api>. A bot may write to whoever pressed Start; a person who
//! blocks it answers 403, a stranger 400.

use poem::http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{Answered, Call, Letter, PlatformAct, PlatformEvent, Protocol, SEND, Taking, Town};
use crate::sandbox::random;

/// Characters of a text, and of a caption.
const TEXT_MAX: usize = 4096;
const CAPTION_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct Telegram {
    pub(super) bot_token: SecretString,
    pub(super) secret_token: SecretString,
}

impl Telegram {
    fn refusal(code: u16, description: &str) -> Answered {
        let body = json!({ "ok": false, "error_code": code, "description": description });
        Answered::new(code, body)
    }

    fn send(&self, town: &Town, method: &str, fields: &Value) -> Answered {
        let field = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or("");
        let person = match fields.get("chat_id") {
            Some(Value::Number(id)) => id.to_string(),
            Some(Value::String(id)) => id.clone(),
            _ => String::new(),
        };
        let content = match method {
            "sendMessage" => "text",
            "sendPhoto" => "photo",
            "sendVideo" => "video",
            "sendAudio" => "audio",
            "sendVoice" => "voice",
            "sendDocument" => "document",
            _ => return Self::refusal(404, "Not Found"),
        };
        if fields.get(content).is_none_or(|value| value == "") {
            return Self::refusal(
                400,
                &format!("Bad Request: there is no {content} in the request"),
            );
        }
        if field("text").chars().count() > TEXT_MAX {
            return Self::refusal(400, "Bad Request: message is too long");
        }
        if field("caption").chars().count() > CAPTION_MAX {
            return Self::refusal(400, "Bad Request: message caption is too long");
        }
        if !town.is_known(&person) {
            return Self::refusal(400, "Bad Request: chat not found");
        }
        if town.blocks(&person) {
            return Self::refusal(403, "Forbidden: bot was blocked by the user");
        }
        if !town.follows(&person) {
            return Self::refusal(
                403,
                "Forbidden: bot can't initiate conversation with a user",
            );
        }
        if !town.admits() {
            let wait = town.settings.retry_after;
            let mut answered =
                Self::refusal(429, &format!("Too Many Requests: retry after {wait}"));
            answered.body["parameters"] = json!({ "retry_after": wait });
            return answered;
        }
        let mut result = json!({
            "message_id": random::below(1 << 30), "date": town.now().seconds(),
            "chat": { "id": person.parse::<i64>().unwrap_or(0), "type": "private" },
        });
        result[content] = match (content, fields.get(content)) {
            ("text", text) => text.cloned().unwrap_or(Value::Null),
            ("photo", _) => json!([{ "file_id": "small" }, { "file_id": random::text(16) }]),
            _ => json!({ "file_id": random::text(16) }),
        };
        let mut message = fields.clone();
        message["method"] = json!(method);
        town.deliver(Taking {
            people: vec![&person],
            message,
            key: None,
        });
        Answered::new(200, json!({ "ok": true, "result": result }))
    }
}

impl Protocol for Telegram {
    fn word(&self) -> &'static str {
        "telegram"
    }

    fn example(&self) -> &'static str {
        "1001"
    }

    fn api<'p>(&self, path: &'p str) -> &'p str {
        match path.rsplit('/').next() {
            Some(method) if method.starts_with("send") => SEND,
            _ => path,
        }
    }

    fn answer(&self, town: &Town, call: &Call<'_>) -> Answered {
        let ours = format!("/bot{}/", self.bot_token.expose_secret());
        // A token that is none, and one that is not this bot's.
        let Some(method) = call.path.strip_prefix(&ours) else {
            return Self::refusal(401, "Unauthorized");
        };
        match serde_json::from_slice(call.body) {
            Ok(fields) => self.send(town, method, &fields),
            Err(_) => Self::refusal(400, "Bad Request: can't parse JSON object"),
        }
    }

    fn refuse(&self, code: i32) -> Answered {
        let code = u16::try_from(code).unwrap_or(400);
        let reason = StatusCode::from_u16(code).ok();
        let reason = reason.and_then(|status| status.canonical_reason());
        Self::refusal(code, reason.unwrap_or("Bad Request"))
    }

    fn letter(&self, _town: &Town, event: &PlatformEvent, _again: bool) -> Option<Letter> {
        let id: i64 = event.person.parse().unwrap_or(0);
        let from = json!({ "id": id, "is_bot": false, "first_name": "F", "language_code": "en" });
        let chat = json!({ "id": id, "type": "private" });
        let at = event.at.seconds();
        let text = |text: &str| {
            json!({ "message": {
                "message_id": event.number, "from": from, "chat": chat, "date": at, "text": text,
            } })
        };
        let mut update = match &event.act {
            PlatformAct::Follow => text("/start"),
            PlatformAct::Write(words) => text(words),
            PlatformAct::Unfollow => json!({ "my_chat_member": {
                "chat": chat, "from": from, "date": at,
                "old_chat_member": { "status": "member" },
                "new_chat_member": { "status": "kicked" },
            } }),
            PlatformAct::Tap(data) => json!({ "callback_query": {
                "id": event.number.to_string(), "from": from, "data": data,
                "message": { "message_id": 1, "chat": chat, "date": at },
            } }),
        };
        update["update_id"] = json!(event.number);
        let token = self.secret_token.expose_secret().to_owned();
        Some(Letter {
            heads: vec![("x-telegram-bot-api-secret-token", token)],
            query: Vec::new(),
            body: update.to_string(),
        })
    }

    fn forged(&self, mut letter: Letter) -> Letter {
        for (_, token) in &mut letter.heads {
            token.pop();
            token.push('_');
        }
        letter
    }
}
