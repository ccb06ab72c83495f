//! A service account of WeCom's 微信客服: messages by `kf/send_msg`, and what customers did by `sync_msg`.
//!
//! Every message carries our id as `msgid`, which the platform takes once. A code says what became of a
//! call, as on WeChat; the access token is the corp's, had by `gettoken`, which gives the same one until
//! it ends. Files become temporary media, named by an id for three days. That a message was taken does not
//! say that it arrived: `msg_send_fail` may follow.
//!
//! Source: <https://developer.work.weixin.qq.com/document/path/94677> (发送消息),
//! <https://developer.work.weixin.qq.com/document/path/94670> (接收消息和事件),
//! <https://developer.work.weixin.qq.com/document/path/91039> (获取access_token),
//! <https://developer.work.weixin.qq.com/document/path/90253> (上传临时素材).

mod body;
mod codes;

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use url::Url;

pub use self::body::{Rendered, render};
use self::codes::{Reaction, reaction};
use super::http::{Heard, Post, elsewhere};
use super::platform::{Answer, AnswerClass, Call, Content, Parcel, Platform};
use super::wechat::errcode::clean;
use super::wechat::source::{Asking, Granted, Source, granted_in};
use super::wechat::token::{Token, Tokens};
use super::wechat::wire::{describe, hide, read_at_most};
use super::wechat::{FileType, MediaKey, MediaKind, Shelf, Uploaded};
use crate::clock::Clock;
use crate::journey::ids::AccountId;
use crate::journey::message::Asset;

const TOKEN: &str = "/cgi-bin/gettoken";
const SEND: &str = "/cgi-bin/kf/send_msg";
const SYNC: &str = "/cgi-bin/kf/sync_msg";
const UPLOAD: &str = "/cgi-bin/media/upload";

/// Messages of one page, and the longest page that is read, in bytes: a text has 2 KB and more.
const PAGE: u32 = 200;
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Longest one question for a token may take.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(5);
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// How long a medium's id is used. The platform keeps temporary media for three days.
const MEDIUM_USED_FOR: Duration = Duration::from_secs(60 * 3600);

/// What the client needs to know of one service account.
#[derive(Clone, Debug)]
pub struct WecomKfSettings {
    pub account: AccountId,
    pub corp_id: String,
    pub corp_secret: SecretString,
    pub open_kfid: String,
    /// `https://qyapi.weixin.qq.com`, or the sandbox's.
    pub api_base: Url,
    /// Longest one `send` may take, with token and uploads.
    pub attempt_timeout: Duration,
}

/// One service account's way to WeCom.
#[derive(Debug)]
pub struct WecomKfClient {
    settings: Arc<WecomKfSettings>,
    tokens: Tokens,
    shelf: Arc<dyn Shelf>,
    clock: Arc<dyn Clock>,
    http: reqwest::Client,
}

/// What `sync_msg` tells.
#[derive(Clone, Debug)]
pub struct Synced {
    pub messages: Vec<Value>,
    pub next_cursor: String,
    pub has_more: bool,
}

impl WecomKfClient {
    /// A client that makes its calls through `http`, which all accounts share.
    pub fn new(
        settings: WecomKfSettings,
        shelf: Arc<dyn Shelf>,
        clock: Arc<dyn Clock>,
        http: reqwest::Client,
    ) -> Self {
        let settings = Arc::new(settings);
        let source = CorpToken {
            settings: Arc::clone(&settings),
            http: http.clone(),
        };
        Self {
            settings,
            tokens: Tokens::new(Arc::new(source), Arc::clone(&clock)),
            shelf,
            clock,
            http,
        }
    }

    async fn attempt(&self, parcel: &Parcel) -> Result<Answer, Answer> {
        let Content::Message(message) = &parcel.content else {
            let what = "微信客服 has no templates";
            return Err(Answer::without_code(AnswerClass::Unsendable, what));
        };
        let rendered =
            render(message).map_err(|why| Answer::without_code(AnswerClass::Unsendable, why))?;
        let deadline = Instant::now() + self.settings.attempt_timeout;
        let mut token = in_time(deadline, self.tokens.current()).await?;
        let (mut renewed, mut uploaded_again) = (false, false);
        loop {
            let media = in_time(deadline, self.media(&rendered, &token, deadline)).await?;
            let body = json!({
                "touser": parcel.openid,
                "open_kfid": self.settings.open_kfid,
                "msgid": parcel.message_id,
            });
            let body = rendered.filled(body, media.as_deref());
            let post = Post::json(self.asked(SEND, &token), body.to_string().into_bytes());
            let heard = post.exchange(SEND, deadline).await;
            let heard = heard.map_err(|answer| hide(answer, &token.value))?;
            let said = read(SEND, &heard)?;
            match said.reaction() {
                Some(Reaction::RefreshToken) if !renewed => {
                    renewed = true;
                    token = in_time(deadline, self.tokens.replace(&token)).await?;
                }
                Some(Reaction::UploadAgain) if !uploaded_again && media.is_some() => {
                    uploaded_again = true;
                    self.forget(&rendered, media.as_deref()).await;
                }
                _ => return Ok(hide(said.answer(SEND), &token.value)),
            }
        }
    }

    /// What happened after `cursor`.
    ///
    /// # Errors
    /// Why nothing is known, for people.
    pub async fn sync(&self, callback_token: &str, cursor: &str) -> Result<Synced, String> {
        let deadline = Instant::now() + self.settings.attempt_timeout;
        let mut body = json!({ "limit": PAGE, "open_kfid": self.settings.open_kfid });
        if !callback_token.is_empty() {
            body["token"] = json!(callback_token);
        }
        if !cursor.is_empty() {
            body["cursor"] = json!(cursor);
        }
        let body = body.to_string();
        let words = |answer: Answer| answer.detail;
        let mut token = in_time(deadline, self.tokens.current())
            .await
            .map_err(words)?;
        let mut renewed = false;
        loop {
            let post = Post::json(self.asked(SYNC, &token), body.clone().into_bytes());
            let heard = post.exchange_within(SYNC, deadline, PAGE_BYTES_MAX).await;
            let heard = heard.map_err(|answer| hide(answer, &token.value).detail)?;
            let said = read(SYNC, &heard).map_err(words)?;
            match said.reaction() {
                Some(Reaction::RefreshToken) if !renewed => {
                    renewed = true;
                    let replaced = in_time(deadline, self.tokens.replace(&token)).await;
                    token = replaced.map_err(words)?;
                }
                _ if said.code == 0 => return Ok(said.synced()),
                _ => return Err(hide(said.answer(SYNC), &token.value).detail),
            }
        }
    }

    /// The id of the message's file, uploaded if there is none yet.
    async fn media(
        &self,
        rendered: &Rendered<'_>,
        token: &Token,
        deadline: Instant,
    ) -> Result<Option<String>, Answer> {
        let Some((asset, kind)) = rendered.file else {
            return Ok(None);
        };
        let key = self.key(asset, kind)?;
        let known = self.shelf.load(&key).await.ok().flatten();
        let known = known.filter(|known| known.expires_at > self.clock.now());
        if let Some(known) = known {
            return Ok(Some(known.media_id));
        }
        let bytes = self.shelf.bytes(&key.identity).await;
        let bytes = bytes.map_err(|error| {
            let words = format!("the file cannot be read: {error}");
            Answer::without_code(AnswerClass::RetrySoon, words)
        })?;
        let bytes = bytes.ok_or_else(|| {
            let what = "the store has no such file: publish the sequence again";
            Answer::without_code(AnswerClass::Unsendable, what)
        })?;
        let found = FileType::of(&bytes).map_or("bin", FileType::extension);
        let mut request = self.asked(UPLOAD, token);
        request = request.query(&[("type", medium(kind))]);
        let file = ("media", format!("file.{found}"), bytes);
        let post = Post::form(request, Vec::new(), file);
        // Uploading twice harms nobody, so nothing of it is unknown.
        let harmless = |mut answer: Answer| {
            if answer.class == AnswerClass::Unknown {
                answer.class = AnswerClass::RetrySoon;
            }
            hide(answer, &token.value)
        };
        let heard = post.exchange(UPLOAD, deadline).await.map_err(harmless)?;
        let said = read(UPLOAD, &heard).map_err(harmless)?;
        let id = said.fields.get("media_id").and_then(Value::as_str);
        let Some(id) = id.filter(|id| !id.is_empty() && said.code == 0) else {
            let mut answer = harmless(said.answer(UPLOAD));
            if answer.class == AnswerClass::Accepted {
                answer.class = AnswerClass::RetrySoon;
            }
            return Err(answer);
        };
        let uploaded = Uploaded {
            media_id: id.to_owned(),
            expires_at: self.clock.now().plus(MEDIUM_USED_FOR),
        };
        if let Err(error) = self.shelf.save(&key, &uploaded).await {
            tracing::warn!(%error, "a medium's id was not kept: it will be uploaded again");
        }
        Ok(Some(uploaded.media_id))
    }

    fn key(&self, asset: &Asset, kind: MediaKind) -> Result<MediaKey, Answer> {
        let Asset::File { sha256, .. } = asset else {
            let what = "微信客服 takes no files by URL: put the file beside the sequence";
            return Err(Answer::without_code(AnswerClass::Unsendable, what));
        };
        Ok(MediaKey {
            account: self.settings.account,
            identity: sha256.clone(),
            kind,
        })
    }

    async fn forget(&self, rendered: &Rendered<'_>, media: Option<&str>) {
        if let (Some((asset, kind)), Some(id)) = (rendered.file, media)
            && let Ok(key) = self.key(asset, kind)
        {
            self.shelf.forget(&key, id).await.ok();
        }
    }

    fn asked(&self, path: &str, token: &Token) -> reqwest::RequestBuilder {
        let url = address(&self.settings.api_base, path);
        let access = ("access_token", token.value.expose_secret());
        self.http.post(url).query(&[access])
    }
}

/// The platform's name of a kind of media.
fn medium(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Image | MediaKind::Thumb | MediaKind::Picture => "image",
        MediaKind::Voice => "voice",
        MediaKind::Video => "video",
    }
}

fn address(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url.set_query(None);
    url
}

/// Holds what comes before the message to the attempt's deadline.
async fn in_time<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, Answer>>,
) -> Result<T, Answer> {
    timeout_at(deadline, work).await.unwrap_or_else(|_| {
        let words = "time was up before the message was sent";
        Err(Answer::without_code(AnswerClass::RetrySoon, words))
    })
}

/// An answer with a code.
#[derive(Debug)]
struct Said {
    code: i64,
    words: String,
    fields: Value,
}

/// Reads an answer; what has no code leaves open whether the call was taken.
fn read(doing: &str, heard: &Heard) -> Result<Said, Answer> {
    if (300..400).contains(&heard.status) {
        return Err(elsewhere(doing, heard.status));
    }
    let fields = heard.json();
    let Some(code) = fields.get("errcode").and_then(Value::as_i64) else {
        let words = format!("{doing}: HTTP {}, and no errcode", heard.status);
        return Err(Answer::without_code(AnswerClass::Unknown, words));
    };
    let words = clean(fields.get("errmsg").and_then(Value::as_str).unwrap_or(""));
    Ok(Said {
        code,
        words,
        fields,
    })
}

impl Said {
    fn reaction(&self) -> Option<Reaction> {
        (self.code != 0).then(|| reaction(self.code))
    }

    fn answer(&self, doing: &str) -> Answer {
        if self.code == 0 {
            return Answer::without_code(AnswerClass::Accepted, doing);
        }
        Answer {
            class: reaction(self.code).class(),
            code: Some(self.code),
            detail: format!("{doing}: {} {}", self.code, self.words),
            reference: None,
        }
    }

    fn synced(&self) -> Synced {
        let list = self.fields.get("msg_list").and_then(Value::as_array);
        let cursor = self.fields.get("next_cursor").and_then(Value::as_str);
        Synced {
            messages: list.cloned().unwrap_or_default(),
            next_cursor: cursor.unwrap_or("").to_owned(),
            has_more: self.fields.get("has_more").and_then(Value::as_i64) == Some(1),
        }
    }
}

/// The corp's tokens.
#[derive(Debug)]
struct CorpToken {
    settings: Arc<WecomKfSettings>,
    http: reqwest::Client,
}

impl CorpToken {
    async fn fetch(&self) -> Result<Granted, Answer> {
        let deadline = Instant::now() + TOKEN_TIMEOUT.min(self.settings.attempt_timeout);
        let retry = |words: String| {
            let words = format!("access token: {words}");
            hide(
                Answer::without_code(AnswerClass::RetrySoon, words),
                &self.settings.corp_secret,
            )
        };
        let asked = timeout_at(deadline, async {
            let url = address(&self.settings.api_base, TOKEN);
            let query = [
                ("corpid", self.settings.corp_id.as_str()),
                ("corpsecret", self.settings.corp_secret.expose_secret()),
            ];
            let response = self.http.get(url).query(&query).send().await;
            let response = response.map_err(describe)?;
            let body = read_at_most(response, TOKEN_BYTES_MAX).await;
            body.map_err(|error| error.to_string())
        });
        let body = asked
            .await
            .unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let fields: Value = serde_json::from_slice(&body.map_err(retry)?)
            .map_err(|_| retry("answer is not the API's JSON".to_owned()))?;
        match fields.get("errcode").and_then(Value::as_i64).unwrap_or(0) {
            0 => granted_in(&fields, "access_token")
                .ok_or_else(|| retry("answer has no token".to_owned())),
            code => {
                let words = fields.get("errmsg").and_then(Value::as_str).unwrap_or("");
                // Never that the message is at fault.
                let class = match reaction(code).class() {
                    class @ (AnswerClass::RetrySoon | AnswerClass::NextMinute) => class,
                    _ => AnswerClass::NeedsAttention,
                };
                let answer = Answer {
                    class,
                    code: Some(code),
                    detail: format!("access token: {code} {}", clean(words)),
                    reference: None,
                };
                Err(hide(answer, &self.settings.corp_secret))
            }
        }
    }
}

impl Source for CorpToken {
    // The platform itself gives every node the same one.
    fn ask<'a>(&'a self, _: Option<&'a SecretString>) -> Asking<'a> {
        Box::pin(self.fetch())
    }

    fn app_id(&self) -> &str {
        &self.settings.corp_id
    }

    fn seed(&self) -> i64 {
        self.settings.account.0
    }
}

impl Platform for WecomKfClient {
    fn account(&self) -> AccountId {
        self.settings.account
    }

    fn send<'a>(&'a self, parcel: &'a Parcel) -> Call<'a, Answer> {
        Box::pin(async move { self.attempt(parcel).await.unwrap_or_else(|answer| answer) })
    }
}
