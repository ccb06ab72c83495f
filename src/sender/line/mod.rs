//! A channel of LINE's Messaging API: pushed messages, and one for many by multicast.
//!
//! Every call carries `X-Line-Retry-Key`, derived from our id of the message: a second call under a key
//! that LINE has accepted within a day is answered 409 and sends nothing, which is as good as 200. LINE
//! takes a message for somebody who blocked the channel, and says nothing of it: the unfollow event
//! does. Pictures and films are fetched by LINE from an address, so files of the sequences directory
//! need `server.public_url`.
//!
//! Source: <https://github.com/line/line-openapi/blob/main/messaging-api.yml> and the pages "Send
//! messages", "Retry failed API requests" and "Messaging API reference" (status codes, rate limits) of
//! <https://developers.line.biz/en/docs/messaging-api/>.

mod body;
mod refusal;

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use url::Url;

pub use self::body::{Rendered, render};
use super::http::{Post, Rest, elsewhere};
use super::platform::{Answer, AnswerClass, Call, Cohort, Content, Parcel, Platform};
use super::wechat::wire::{describe, hide, read_at_most};
use crate::clock::Clock;
use crate::journey::ids::AccountId;
use crate::journey::message::Message;

const PUSH: &str = "/v2/bot/message/push";
const MULTICAST: &str = "/v2/bot/message/multicast";
const PROFILE: &str = "/v2/bot/profile/";

/// Longest profile that is read, in bytes, and longest language tag.
const PROFILE_BYTES_MAX: usize = 16 * 1024;
const LANGUAGE_BYTES_MAX: usize = 16;

/// What the client needs to know of one channel.
#[derive(Clone, Debug)]
pub struct LineSettings {
    pub account: AccountId,
    pub channel_id: String,
    pub channel_access_token: SecretString,
    /// `https://api.line.me`, or the sandbox's.
    pub api_base: Url,
    /// Where LINE can fetch files from us, without a slash at the end: a file's hash follows it.
    pub files_base: Option<String>,
    /// Longest one `send` may take.
    pub attempt_timeout: Duration,
}

/// One channel's way to LINE.
#[derive(Debug)]
pub struct LineClient {
    settings: LineSettings,
    clock: Arc<dyn Clock>,
    http: reqwest::Client,
    rest: Rest,
}

impl LineClient {
    /// A client that makes its calls through `http`, which all accounts share.
    pub fn new(settings: LineSettings, clock: Arc<dyn Clock>, http: reqwest::Client) -> Self {
        Self {
            settings,
            clock,
            http,
            rest: Rest::default(),
        }
    }

    async fn attempt(&self, parcel: &Parcel) -> Result<Answer, Answer> {
        let Content::Message(message) = &parcel.content else {
            let what = "LINE has no templates";
            return Err(Answer::without_code(AnswerClass::Unsendable, what));
        };
        let key = self.retry_key(&parcel.openid, &parcel.message_id);
        self.call(PUSH, json!(parcel.openid), message, &key).await
    }

    async fn call(
        &self,
        path: &'static str,
        to: Value,
        message: &Message,
        retry_key: &str,
    ) -> Result<Answer, Answer> {
        self.rest.check(self.clock.now())?;
        let rendered = render(message, self.settings.files_base.as_deref())
            .map_err(|why| Answer::without_code(AnswerClass::Unsendable, why))?;
        let deadline = Instant::now() + self.settings.attempt_timeout;
        let body = json!({ "to": to, "messages": [rendered.message] });
        let token = &self.settings.channel_access_token;
        let request = self
            .http
            .post(self.address(path))
            .bearer_auth(token.expose_secret())
            .header("X-Line-Retry-Key", retry_key);
        let post = Post::json(request, body.to_string().into_bytes());
        let heard = post.exchange(path, deadline).await;
        let heard = heard.map_err(|answer| hide(answer, token))?;
        if (300..400).contains(&heard.status) {
            return Err(elsewhere(path, heard.status));
        }
        let now = self.clock.now();
        let answer = refusal::answer(path, &heard, now);
        if let AnswerClass::NotBefore(at) = answer.class {
            self.rest.begin(now, at.since(now));
        }
        Ok(hide(answer, token))
    }

    /// A UUID that is the same for every call about one message to the same people.
    fn retry_key(&self, to: &str, message_id: &str) -> String {
        let mut sha = Sha256::new();
        for part in [self.settings.channel_id.as_str(), to, message_id] {
            sha.update(part.len().to_be_bytes());
            sha.update(part.as_bytes());
        }
        let digest = sha.finalize();
        let mut bytes: [u8; 16] = std::array::from_fn(|at| digest[at]);
        // A UUID of version 8 (RFC 9562): its maker's own.
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let parts = [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ];
        parts.join("-")
    }

    async fn ask_language(&self, openid: &str) -> Option<String> {
        let deadline = Instant::now() + self.settings.attempt_timeout;
        let asked = tokio::time::timeout_at(deadline, async {
            let token = self.settings.channel_access_token.expose_secret();
            let request = self.http.get(self.address(&format!("{PROFILE}{openid}")));
            let response = request.bearer_auth(token).send().await.map_err(describe)?;
            let good = response.status().is_success();
            let body = read_at_most(response, PROFILE_BYTES_MAX).await;
            let body = body.map_err(|error| error.to_string())?;
            Ok::<_, String>(body).map(|body| good.then_some(body))
        });
        let body = asked.await.ok()?.ok()??;
        let profile: Value = serde_json::from_slice(&body).ok()?;
        let language = profile.get("language")?.as_str()?;
        let usable = !language.is_empty() && language.len() <= LANGUAGE_BYTES_MAX;
        // As sequences write them: `zh_TW` for `zh-Hant` and `zh-TW`.
        usable.then(|| match language {
            "zh-Hans" => "zh_CN".to_owned(),
            "zh-Hant" => "zh_TW".to_owned(),
            other => other.replace('-', "_"),
        })
    }

    fn address(&self, path: &str) -> Url {
        let base = self.settings.api_base.path().trim_end_matches('/');
        let mut url = self.settings.api_base.clone();
        url.set_path(&format!("{base}{path}"));
        url.set_query(None);
        url
    }
}

impl Platform for LineClient {
    fn account(&self) -> AccountId {
        self.settings.account
    }

    fn send<'a>(&'a self, parcel: &'a Parcel) -> Call<'a, Answer> {
        Box::pin(async move { self.attempt(parcel).await.unwrap_or_else(|answer| answer) })
    }

    fn send_to_many<'a>(&'a self, cohort: &'a Cohort) -> Call<'a, Answer> {
        Box::pin(async move {
            let key = self.retry_key(&cohort.openids.join(" "), &cohort.message_id);
            let to = json!(cohort.openids);
            let answered = self.call(MULTICAST, to, &cohort.message, &key).await;
            answered.unwrap_or_else(|answer| answer)
        })
    }

    fn language<'a>(&'a self, openid: &'a str) -> Call<'a, Option<String>> {
        Box::pin(self.ask_language(openid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn a_retry_key_is_a_uuid_of_message_and_people() {
        let settings = LineSettings {
            account: AccountId(1),
            channel_id: "123".into(),
            channel_access_token: "t".into(),
            api_base: "https://api.line.me".parse().unwrap(),
            files_base: None,
            attempt_timeout: Duration::from_secs(1),
        };
        let clock = Arc::new(ManualClock::at(crate::clock::Timestamp(0)));
        let http = crate::sender::wechat::http_client(Duration::from_secs(1)).unwrap();
        let client = LineClient::new(settings, clock, http);
        let key = client.retry_key("U1", "65536-0");
        assert_eq!(key, client.retry_key("U1", "65536-0"));
        assert_ne!(key, client.retry_key("U2", "65536-0"));
        assert_ne!(key, client.retry_key("U1", "65536-1"));
        let lengths: Vec<_> = key.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(&key[14..15], "8", "{key}");
    }
}
