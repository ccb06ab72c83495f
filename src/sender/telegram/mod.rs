//! A Telegram bot over HTTP: one call brings one message to one person.
//!
//! The bot's token stands in the path of every call, so no address is ever logged. A file is uploaded
//! with the message that first needs it; Telegram names it by a `file_id`, which serves every later
//! message of the bot. There is no key by which a second call would be known: a lost answer is
//! unknown. An answer 429 says how long to rest, and until then the bot is asked nothing.
//!
//! Source: <https://core.telegram.org/bots/api>, "Making requests", `sendMessage`, `sendPhoto`,
//! `sendVideo`, `sendDocument`, `sendVoice`, `ResponseParameters`, "Sending files".

mod body;
mod refusal;

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

pub use self::body::{Rendered, render};
use self::refusal::answer;
use super::http::{Heard, Post, Rest, elsewhere};
use super::platform::{Answer, AnswerClass, Call, Content, Parcel, Platform};
use super::wechat::wire::hide;
use super::wechat::{MediaKey, MediaKind, Shelf, Uploaded};
use crate::clock::{Clock, Timestamp};
use crate::journey::ids::AccountId;
use crate::journey::message::{Asset, Message};

/// How long a file's id is used. Telegram keeps it for ever; a year bounds a mistake.
const FILE_USED_FOR: Duration = Duration::from_secs(365 * 24 * 3600);

/// What the client needs to know of one bot.
#[derive(Clone, Debug)]
pub struct TelegramSettings {
    pub account: AccountId,
    pub bot_token: SecretString,
    /// `https://api.telegram.org`, a Bot API server of one's own, or the sandbox's.
    pub api_base: Url,
    /// Longest one `send` may take.
    pub attempt_timeout: Duration,
}

/// One bot's way to Telegram.
#[derive(Debug)]
pub struct TelegramClient {
    settings: TelegramSettings,
    shelf: Arc<dyn Shelf>,
    clock: Arc<dyn Clock>,
    http: reqwest::Client,
    rest: Rest,
}

/// A file of a message, as far as it is known to Telegram.
enum File {
    None,
    /// By id.
    Known(MediaKey, String),
    /// With its bytes.
    New(MediaKey, Vec<u8>),
}

impl TelegramClient {
    /// A client that makes its calls through `http`, which all accounts share.
    pub fn new(
        settings: TelegramSettings,
        shelf: Arc<dyn Shelf>,
        clock: Arc<dyn Clock>,
        http: reqwest::Client,
    ) -> Self {
        Self {
            settings,
            shelf,
            clock,
            http,
            rest: Rest::default(),
        }
    }

    async fn attempt(&self, parcel: &Parcel) -> Result<Answer, Answer> {
        self.rest.check(self.clock.now())?;
        let message = words_of(parcel)?;
        let rendered = render(message)
            .map_err(|why| Answer::without_code(AnswerClass::Unsendable, why.to_owned()))?;
        let deadline = Instant::now() + self.settings.attempt_timeout;
        let file = self.file(&rendered).await?;
        let heard = self
            .call(&parcel.openid, &rendered, &file, deadline)
            .await?;
        Ok(self.read(&rendered, file, &heard).await)
    }

    async fn call(
        &self,
        openid: &str,
        rendered: &Rendered<'_>,
        file: &File,
        deadline: Instant,
    ) -> Result<Heard, Answer> {
        let request = self.http.post(self.address(rendered.method));
        let mut fields = rendered.fields.clone();
        // A person's private chat has the person's id, which is a number.
        fields["chat_id"] = match openid.parse::<i64>() {
            Ok(id) => json!(id),
            Err(_) => json!(openid),
        };
        let post = match (file, rendered.file) {
            (File::New(_, bytes), Some((field, asset))) => {
                let texts = fields.as_object().into_iter().flatten();
                let texts = texts.map(|(name, value)| (name.clone(), form_text(value)));
                let part = (field, file_name(asset), bytes.clone());
                Post::form(request, texts.collect(), part)
            }
            (File::Known(_, id), Some((field, _))) => {
                fields[field] = json!(id);
                Post::json(request, fields.to_string().into_bytes())
            }
            _ => Post::json(request, fields.to_string().into_bytes()),
        };
        let heard = post.exchange(rendered.method, deadline).await;
        heard.map_err(|answer| hide(answer, &self.settings.bot_token))
    }

    /// What the answer means, and what is to be remembered of it.
    async fn read(&self, rendered: &Rendered<'_>, file: File, heard: &Heard) -> Answer {
        let said = heard.json();
        if (300..400).contains(&heard.status) {
            return elsewhere(rendered.method, heard.status);
        }
        let now = self.clock.now();
        let mut answer = answer(rendered.method, heard, &said, now);
        match (&answer.class, file) {
            (AnswerClass::NotBefore(at), _) => {
                self.rest.begin(now, at.since(now));
            }
            (AnswerClass::Accepted, File::New(key, _)) => self.keep(&key, &said, now).await,
            // The id may be what was refused: the next attempt uploads the file again.
            (AnswerClass::Dropped, File::Known(key, id)) if refusal::blames_file(&said) => {
                self.shelf.forget(&key, &id).await.ok();
                answer.class = AnswerClass::RetrySoon;
            }
            _ => {}
        }
        hide(answer, &self.settings.bot_token)
    }

    /// The file of a message: its id, or its bytes when there is none yet.
    async fn file(&self, rendered: &Rendered<'_>) -> Result<File, Answer> {
        // A file that is a URL is fetched by Telegram itself.
        let Some((field, Asset::File { sha256, .. })) = rendered.file else {
            return Ok(File::None);
        };
        let key = MediaKey {
            account: self.settings.account,
            identity: sha256.clone(),
            kind: match field {
                "photo" => MediaKind::Image,
                "video" => MediaKind::Video,
                _ => MediaKind::Voice,
            },
        };
        let known = self.shelf.load(&key).await.ok().flatten();
        let known = known.filter(|known| known.expires_at > self.clock.now());
        if let Some(known) = known {
            return Ok(File::Known(key, known.media_id));
        }
        match self.shelf.bytes(sha256).await {
            Ok(Some(bytes)) => Ok(File::New(key, bytes)),
            Ok(None) => {
                let what = "the store has no such file: publish the sequence again";
                Err(Answer::without_code(AnswerClass::Unsendable, what))
            }
            Err(error) => {
                let what = format!("the file cannot be read: {error}");
                Err(Answer::without_code(AnswerClass::RetrySoon, what))
            }
        }
    }

    async fn keep(&self, key: &MediaKey, said: &Value, now: Timestamp) {
        let Some(file_id) = file_id(said.get("result").unwrap_or(&Value::Null)) else {
            return;
        };
        let uploaded = Uploaded {
            media_id: file_id.to_owned(),
            expires_at: now.plus(FILE_USED_FOR),
        };
        if let Err(error) = self.shelf.save(key, &uploaded).await {
            tracing::warn!(%error, "a file's id was not kept: it will be uploaded again");
        }
    }

    /// A method's address; it has the token in it.
    fn address(&self, method: &str) -> Url {
        let token = self.settings.bot_token.expose_secret();
        let base = self.settings.api_base.path().trim_end_matches('/');
        let mut url = self.settings.api_base.clone();
        url.set_path(&format!("{base}/bot{token}/{method}"));
        url.set_query(None);
        url
    }
}

/// The message of a parcel.
fn words_of(parcel: &Parcel) -> Result<&Message, Answer> {
    match &parcel.content {
        Content::Message(message) => Ok(message),
        Content::SubscriptionNotice(_) | Content::Template(_) => {
            let what = "Telegram has no templates";
            Err(Answer::without_code(AnswerClass::Unsendable, what))
        }
    }
}

/// A field's value as a form takes it.
fn form_text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn file_name(asset: &Asset) -> String {
    match asset {
        Asset::File { file, .. } => file.rsplit('/').next().unwrap_or(file).to_owned(),
        Asset::Url { .. } => "file".to_owned(),
    }
}

/// The id of the file that a sent message holds; of a photo's sizes the largest, which is the last.
fn file_id(message: &Value) -> Option<&str> {
    let photo = message.get("photo").and_then(Value::as_array);
    let photo = photo.and_then(|sizes| sizes.last());
    let kinds = ["video", "voice", "audio", "document"];
    let file = photo.or_else(|| kinds.iter().find_map(|kind| message.get(kind)))?;
    file.get("file_id")?.as_str().filter(|id| !id.is_empty())
}

impl Platform for TelegramClient {
    fn account(&self) -> AccountId {
        self.settings.account
    }

    fn send<'a>(&'a self, parcel: &'a Parcel) -> Call<'a, Answer> {
        Box::pin(async move { self.attempt(parcel).await.unwrap_or_else(|answer| answer) })
    }
}
