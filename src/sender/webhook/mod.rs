//! An in-house channel, driven by signed POSTs as "Standard Webhooks" says.
//!
//! A message goes to the account's `url` with `webhook-id` (ours, the same for every attempt at it),
//! `webhook-timestamp` and `webhook-signature`. The body:
//!
//! ```json
//! { "type": "message.send", "timestamp": "2026-03-02T02:00:00Z",
//!   "data": { "follower": "u-7", "message": { "text": "…" } } }
//! ```
//!
//! `message` is as sequences write it: one of `text`, `image`, `voice`, `video`, `news`, `msgmenu`,
//! `miniprogrampage`, `article`. Instead of a path, a file is `{ "url": … }`, or `{ "file": …,
//! "sha256": … }` where `server.public_url` is not set.
//!
//! What the other side answers:
//!
//! | answer | means |
//! |---|---|
//! | 2xx | taken; `{"reference": "…"}` promises a report about it (`inbound::webhook`) |
//! | 409 | this `webhook-id` was taken before |
//! | 400, 413, 422 | refused for good |
//! | 4xx with `{"code": "unsubscribed"}`, `"muted"`, `"closed"` or `"refused"` | the follower left; blocks messages; must act first; refused for good |
//! | 429, 503 with `Retry-After` | not taken; asked again after it |
//! | 429 | not taken; asked again in the next minute |
//! | 3xx, 401, 403, 404, 405, 410 | nothing passes until a person acts |
//! | anything else, or none | unknown: it may have been taken |
//!
//! Source: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use super::http::{Heard, Post, Rest, elsewhere};
use super::platform::{Answer, AnswerClass, Call, Content, Parcel, Platform};
use super::wechat::errcode::clean;
use crate::clock::{Clock, Timestamp};
use crate::journey::ids::AccountId;
use crate::journey::message::Message;
use crate::sign::SigningKey;

const SENDING: &str = "message.send";

/// Longest reference that is kept, in bytes.
const REFERENCE_BYTES_MAX: usize = 64;

/// What the client needs to know of one channel.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    pub account: AccountId,
    pub url: Url,
    pub key: SigningKey,
    /// Where the other side can fetch files from us, without a slash at the end.
    pub files_base: Option<String>,
    /// Longest one `send` may take.
    pub attempt_timeout: Duration,
}

/// One account's way to its channel.
#[derive(Debug)]
pub struct WebhookClient {
    settings: WebhookSettings,
    clock: Arc<dyn Clock>,
    http: reqwest::Client,
    rest: Rest,
}

impl WebhookClient {
    /// A client that makes its calls through `http`, which all accounts share.
    pub fn new(settings: WebhookSettings, clock: Arc<dyn Clock>, http: reqwest::Client) -> Self {
        Self {
            settings,
            clock,
            http,
            rest: Rest::default(),
        }
    }

    async fn attempt(&self, parcel: &Parcel) -> Result<Answer, Answer> {
        let now = self.clock.now();
        self.rest.check(now)?;
        let Content::Message(message) = &parcel.content else {
            let what = "a webhook has no templates";
            return Err(Answer::without_code(AnswerClass::Unsendable, what));
        };
        let body = json!({
            "type": SENDING,
            "timestamp": now.to_string(),
            "data": {
                "follower": parcel.openid,
                "message": render(message, self.settings.files_base.as_deref()),
            },
        });
        let (body, sent_at) = (body.to_string(), now.seconds());
        let signature = self.settings.key.sign(&parcel.message_id, sent_at, &body);
        let request = self
            .http
            .post(self.settings.url.clone())
            .header("webhook-id", &parcel.message_id)
            .header("webhook-timestamp", sent_at)
            .header("webhook-signature", signature);
        let deadline = Instant::now() + self.settings.attempt_timeout;
        let heard = Post::json(request, body.into_bytes());
        let heard = heard.exchange(SENDING, deadline).await?;
        let now = self.clock.now();
        let answer = answer(&heard, now);
        if let AnswerClass::NotBefore(at) = answer.class {
            self.rest.begin(now, at.since(now));
        }
        Ok(answer)
    }
}

/// A message as it is posted: as it was written, its files by address where they have one.
pub fn render(message: &Message, files_base: Option<&str>) -> Value {
    let mut value = serde_json::to_value(message).unwrap_or(Value::Null);
    if let Some(base) = files_base {
        give_addresses(&mut value, base);
    }
    value
}

fn give_addresses(value: &mut Value, base: &str) {
    let Value::Object(fields) = value else {
        return;
    };
    let hash = fields.get("sha256").and_then(Value::as_str);
    match hash
        .filter(|_| fields.contains_key("file"))
        .map(str::to_owned)
    {
        Some(hash) => *value = json!({ "url": format!("{base}/{hash}") }),
        None => fields
            .values_mut()
            .for_each(|inner| give_addresses(inner, base)),
    }
}

/// What the other side's answer means.
fn answer(heard: &Heard, now: Timestamp) -> Answer {
    let said = heard.json();
    let status = heard.status;
    let code = said.get("code").and_then(Value::as_str).unwrap_or("");
    if (300..400).contains(&status) {
        return elsewhere(SENDING, status);
    }
    let class = match (status, code) {
        (200..=299, _) => AnswerClass::Accepted,
        (400..=499, "unsubscribed") => AnswerClass::Unsubscribed,
        (400..=499, "muted") => AnswerClass::Muted,
        (400..=499, "closed") => AnswerClass::GrantClosed,
        (400..=499, "refused") => AnswerClass::Dropped,
        (409, _) => AnswerClass::Accepted,
        (429 | 503, _) => match (heard.retry_after(now), status) {
            (Some(span), _) => AnswerClass::NotBefore(now.plus(span)),
            (None, 429) => AnswerClass::NextMinute,
            (None, _) => AnswerClass::Unknown,
        },
        (400 | 413 | 422, _) => AnswerClass::Dropped,
        (401 | 403 | 404 | 405 | 410, _) => AnswerClass::NeedsAttention,
        _ => AnswerClass::Unknown,
    };
    let taken = class == AnswerClass::Accepted;
    let reference = said.get("reference").and_then(Value::as_str);
    let reference =
        reference.filter(|text| (1..=REFERENCE_BYTES_MAX).contains(&text.len()) && taken);
    let words = clean(said.get("message").and_then(Value::as_str).unwrap_or(code));
    Answer {
        class,
        code: (!taken).then(|| i64::from(status)),
        detail: format!("{SENDING}: {status} {words}"),
        reference: reference.map(str::to_owned),
    }
}

impl Platform for WebhookClient {
    fn account(&self) -> AccountId {
        self.settings.account
    }

    fn send<'a>(&'a self, parcel: &'a Parcel) -> Call<'a, Answer> {
        Box::pin(async move { self.attempt(parcel).await.unwrap_or_else(|answer| answer) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journey::message::{Asset, News};

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn answered(status: u16, retry_after: Option<&str>, body: &str) -> Answer {
        let mut heads = reqwest::header::HeaderMap::new();
        if let Some(value) = retry_after {
            heads.insert("retry-after", value.parse().unwrap());
        }
        let body = body.as_bytes().to_vec();
        answer(
            &Heard {
                status,
                heads,
                body,
            },
            NOW,
        )
    }

    #[test]
    fn each_answer_has_its_class() {
        use AnswerClass::*;
        let soon = NotBefore(NOW.plus(Duration::from_secs(9)));
        for (status, retry_after, body, class) in [
            (200, None, "", Accepted),
            (204, None, "", Accepted),
            (409, None, "", Accepted),
            (422, None, "", Dropped),
            (404, None, r#"{"code":"unsubscribed"}"#, Unsubscribed),
            (403, None, r#"{"code":"muted"}"#, Muted),
            (403, None, r#"{"code":"closed"}"#, GrantClosed),
            (403, None, "", NeedsAttention),
            (302, None, "", NeedsAttention),
            (429, Some("9"), "", soon),
            (503, Some("9"), "", soon),
            (429, None, "", NextMinute),
            (503, None, "", Unknown),
            (500, None, "", Unknown),
        ] {
            let given = answered(status, retry_after, body).class;
            assert_eq!(given, class, "{status} {body}");
        }
        let promised = answered(202, None, r#"{"reference":"m-1"}"#);
        assert_eq!(promised.reference.as_deref(), Some("m-1"));
    }

    #[test]
    fn files_have_addresses_where_there_is_one() {
        let card = Message::News(News {
            title: "t".into(),
            description: String::new(),
            url: "https://a.example".into(),
            picture: Some(Asset::File {
                file: "p.png".into(),
                sha256: "ab".into(),
            }),
        });
        let bare = render(&card, None);
        assert_eq!(bare["news"]["picture"]["file"], "p.png");
        let served = render(&card, Some("https://drip.example/files"));
        let picture = &served["news"]["picture"];
        assert_eq!(*picture, json!({ "url": "https://drip.example/files/ab" }));
    }
}
