//! WeCom's 微信客服, as its pages describe it: tokens, `send_msg`, `sync_msg`, media, and callbacks that
//! only say that something happened.
//!
//! Source: <https://developer.work.weixin.qq.com/document/path/94677> and
//! <https://developer.work.weixin.qq.com/document/path/94670>. A message of the customer's allows five
//! messages in 48 hours; a `msgid` is taken once; a customer who refuses messages is told of by
//! `msg_send_fail`.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{Answered, Call, Letter, PlatformAct, PlatformEvent, Protocol, SEND, Taking, Town};
use crate::clock::Timestamp;
use crate::inbound::cipher::Cipher;
use crate::inbound::signature::sign;
use crate::sandbox::callback::salt;
use crate::sandbox::{StartError, lock, random};

const GET_TOKEN: &str = "/cgi-bin/gettoken";
const SEND_MSG: &str = "/cgi-bin/kf/send_msg";
const SYNC_MSG: &str = "/cgi-bin/kf/sync_msg";
const UPLOAD: &str = "/cgi-bin/media/upload";

const WINDOW: Duration = Duration::from_secs(48 * 3600);
const WINDOW_MESSAGES: u32 = 5;

/// The corp, its service account, and what proves it.
#[derive(Debug)]
pub(super) struct Corp {
    pub(super) corp_id: String,
    pub(super) corp_secret: SecretString,
    pub(super) open_kfid: String,
    pub(super) token: SecretString,
}

#[derive(Debug)]
pub(super) struct WecomKf {
    corp: Corp,
    cipher: Cipher,
    access_token: String,
    /// The token of the newest callback.
    sync_token: String,
    /// Everything that happened, as `sync_msg` tells it; a cursor is a place in it.
    log: Mutex<Vec<Value>>,
    /// Since when a customer may be written to, and how often still.
    windows: Mutex<HashMap<String, (Timestamp, u32)>>,
}

fn coded(code: i32, words: &str) -> Answered {
    Answered::new(200, json!({ "errcode": code, "errmsg": words }))
}

impl WecomKf {
    pub(super) fn new(corp: Corp, aes_key: &SecretString) -> Result<Self, StartError> {
        let cipher = Cipher::new(&corp.corp_id, &[aes_key.expose_secret()]);
        let cipher = cipher.map_err(|source| StartError::Key {
            app_id: corp.corp_id.clone(),
            source,
        })?;
        Ok(Self {
            corp,
            cipher,
            access_token: random::text(64),
            sync_token: format!("ENC{}", random::text(32)),
            log: Mutex::default(),
            windows: Mutex::default(),
        })
    }

    fn get_token(&self, call: &Call<'_>) -> Answered {
        let asked = |name: &str| parameter(call.query, name);
        if asked("corpid") != self.corp.corp_id {
            return coded(40013, "invalid corpid");
        }
        if asked("corpsecret") != self.corp.corp_secret.expose_secret() {
            return coded(40001, "invalid credential");
        }
        Answered::new(
            200,
            json!({ "errcode": 0, "errmsg": "ok", "access_token": self.access_token,
                "expires_in": 7200 }),
        )
    }

    fn send(&self, town: &Town, body: &Value) -> Answered {
        let field = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or("");
        let (person, kind, id) = (field("touser"), field("msgtype"), field("msgid"));
        if field("open_kfid") != self.corp.open_kfid {
            return coded(95000, "invalid open_kfid");
        }
        let named = id.len() <= 32
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        if !named {
            return coded(40058, "msgid exceed max length");
        }
        let empty = body.get(kind).and_then(Value::as_object).is_none();
        if kind.is_empty() || empty {
            return coded(40008, "invalid message type");
        }
        let text = body.pointer("/text/content").and_then(Value::as_str);
        if text.is_some_and(|text| text.len() > 2048) {
            return coded(45002, "content size out of limit");
        }
        if !town.is_known(person) {
            return coded(40096, "invalid external userid");
        }
        let taken = json!({ "errcode": 0, "errmsg": "ok", "msgid": id });
        let key = Some(id).filter(|id| !id.is_empty());
        if town.knows(key) {
            return Answered::new(200, taken);
        }
        if !town.admits() {
            return coded(45009, "api freq out of limit");
        }
        let now = town.now();
        {
            let mut windows = lock(&self.windows);
            let Some((since, left)) = windows.get_mut(person) else {
                return coded(95002, "send msg time limit");
            };
            if now.since(*since) >= WINDOW {
                return coded(95002, "send msg time limit");
            }
            if *left == 0 {
                return coded(95001, "send msg count limit");
            }
            *left -= 1;
        }
        if town.blocks(person) {
            let failed = json!({ "event_type": "msg_send_fail", "fail_msgid": id,
                "fail_type": 10 });
            self.note(now, person, failed);
        }
        town.deliver(Taking {
            people: vec![person],
            message: body.clone(),
            key: key.map(str::to_owned),
        });
        Answered::new(200, taken)
    }

    /// Notes an event of the platform's own.
    fn note(&self, at: Timestamp, person: &str, mut event: Value) {
        event["open_kfid"] = json!(self.corp.open_kfid);
        event["external_userid"] = json!(person);
        lock(&self.log).push(json!({
            "msgid": random::text(44), "send_time": at.seconds(), "origin": 4, "msgtype": "event",
            "event": event,
        }));
    }

    fn sync(&self, body: &Value) -> Answered {
        let field = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or("");
        let token = field("token");
        if !token.is_empty() && token != self.sync_token {
            return coded(95007, "invalid msg token");
        }
        let limit = body.get("limit").and_then(Value::as_u64).unwrap_or(1000);
        let limit = usize::try_from(limit).unwrap_or(1000);
        let log = lock(&self.log);
        let from = field("cursor").parse().unwrap_or(0).min(log.len());
        let to = (from + limit).min(log.len());
        Answered::new(
            200,
            json!({
                "errcode": 0, "errmsg": "ok", "next_cursor": to.to_string(),
                "has_more": i32::from(to < log.len()), "msg_list": log[from..to],
            }),
        )
    }
}

/// A parameter of a query; its values here need no unescaping.
fn parameter<'q>(query: &'q str, name: &str) -> &'q str {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut found = pairs.filter(|(key, _)| *key == name);
    found.next().map_or("", |(_, value)| value)
}

impl Protocol for WecomKf {
    fn word(&self) -> &'static str {
        "wecom-kf"
    }

    fn example(&self) -> &'static str {
        "wmqfasd1e19278asdasAAAA"
    }

    fn api<'p>(&self, path: &'p str) -> &'p str {
        if path == SEND_MSG { SEND } else { path }
    }

    fn answer(&self, town: &Town, call: &Call<'_>) -> Answered {
        if call.path == GET_TOKEN {
            return self.get_token(call);
        }
        if parameter(call.query, "access_token") != self.access_token {
            return coded(40014, "invalid access_token");
        }
        let body: Value = serde_json::from_slice(call.body).unwrap_or(Value::Null);
        match call.path {
            SEND_MSG => self.send(town, &body),
            SYNC_MSG => self.sync(&body),
            UPLOAD => Answered::new(
                200,
                json!({ "errcode": 0, "errmsg": "", "type": parameter(call.query, "type"),
                    "media_id": random::text(32), "created_at": "1380000000" }),
            ),
            _ => Answered::new(404, json!({})),
        }
    }

    fn refuse(&self, code: i32) -> Answered {
        coded(code, "refused")
    }

    fn happens(&self, event: &PlatformEvent) {
        let person = event.person.as_str();
        let written = |text: Value| {
            json!({
                "msgid": format!("m{}", event.number), "open_kfid": self.corp.open_kfid,
                "external_userid": person, "send_time": event.at.seconds(), "origin": 3,
                "msgtype": "text", "text": text,
            })
        };
        let told = match &event.act {
            PlatformAct::Follow => {
                let entered = json!({ "event_type": "enter_session", "scene": "" });
                return self.note(event.at, person, entered);
            }
            // Nobody is told that a customer wants no more messages.
            PlatformAct::Unfollow => return,
            PlatformAct::Write(words) => written(json!({ "content": words })),
            PlatformAct::Tap(id) => written(json!({ "content": "choice", "menu_id": id })),
        };
        lock(&self.windows).insert(person.to_owned(), (event.at, WINDOW_MESSAGES));
        lock(&self.log).push(told);
    }

    fn letter(&self, town: &Town, event: &PlatformEvent, _again: bool) -> Option<Letter> {
        if event.act == PlatformAct::Unfollow {
            return None;
        }
        let xml = format!(
            "<xml><ToUserName><![CDATA[{}]]></ToUserName><CreateTime>{}</CreateTime>\
             <MsgType><![CDATA[event]]></MsgType><Event><![CDATA[kf_msg_or_event]]></Event>\
             <Token><![CDATA[{}]]></Token><OpenKfId><![CDATA[{}]]></OpenKfId></xml>",
            self.corp.corp_id,
            event.at.seconds(),
            self.sync_token,
            self.corp.open_kfid,
        );
        let encrypted = self.cipher.encrypt(xml.as_bytes(), 0, salt());
        let timestamp = town.now().seconds().to_string();
        let nonce = random::below(1_000_000_000).to_string();
        let token = self.corp.token.expose_secret();
        let signature = sign(&[token, &timestamp, &nonce, &encrypted]);
        Some(Letter {
            heads: Vec::new(),
            query: vec![
                ("msg_signature", signature),
                ("timestamp", timestamp),
                ("nonce", nonce),
            ],
            body: format!(
                "<xml><ToUserName><![CDATA[{}]]></ToUserName><Encrypt><![CDATA[{encrypted}]]>\
                 </Encrypt><AgentID></AgentID></xml>",
                self.corp.corp_id
            ),
        })
    }

    fn forged(&self, mut letter: Letter) -> Letter {
        for (name, value) in &mut letter.query {
            if *name == "msg_signature" {
                *value = "0".repeat(40);
            }
        }
        letter
    }
}
