//! WeChat over HTTP: one rendered message to one follower, and what came of it.
//!
//! A customer message reaches the follower with at most one call; a second call is made only after the platform
//! has refused the first with a code (a stale token, a lost media id). Whatever fails before the
//! message's body begins to leave is definite; whatever fails after it, without a code that was
//! read, is unknown. The other carriers are in `forms`.
//! Deliberately absent: waiting, limits and retries (the engine).
//!
//! Source: the platform's page "send customer message"; its codes are in `codes`.

mod address;
mod advice;
mod ask;
mod body;
mod clients;
mod codes;
mod component;
pub mod errcode;
mod fetch;
pub(in crate::sender) mod filetype;
mod forms;
pub(in crate::sender) mod media;
pub(in crate::sender) mod source;
pub(in crate::sender) mod token;
mod users;
pub(in crate::sender) mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use url::Url;

use self::errcode::{Reaction, Reply, reaction};
use self::media::Media;
use self::source::{Source, StableToken};
use self::token::{Token, Tokens};
use self::wire::{Wire, hide};
use super::budget::{Budgets, Interface};
use super::platform::{Answer, AnswerClass, Call, Cohort, Content, Parcel, Platform};
use crate::clock::{Clock, Timestamp};
use crate::journey::ids::AccountId;
use crate::journey::message::Message;

pub use self::advice::advice;
pub use self::ask::{Asked, Question};
pub use self::clients::Clients;
pub use self::component::{
    CheckQuestion, Component, ComponentSettings, Registrar, RegistrarSettings, Taken,
};
pub use self::media::{FileType, MediaKey, MediaKind, Shelf, ShelfError, Uploaded};
pub use self::token::TokenState;
pub use self::users::{FACTS_MAX, Facts, ListPage, Person, TAGGED_MAX};
pub use self::wire::http_client;

const SEND: &str = "/cgi-bin/message/custom/send";
const USER_INFO: &str = "/cgi-bin/user/info";
const SENDING: &str = "custom/send";

/// Longest language tag that is believed.
const LANGUAGE_BYTES_MAX: usize = 16;

/// What the client needs to know of one account.
#[derive(Clone, Debug)]
pub struct WechatSettings {
    pub account: AccountId,
    pub app_id: String,
    pub app_secret: SecretString,
    /// `https://api.weixin.qq.com`, or the sandbox's.
    pub api_base: Url,
    /// Longest one `send` may take, with token, uploads and questions.
    pub attempt_timeout: Duration,
    /// Longest a connection to a file's server may take to stand; the API's connections follow the
    /// timeout that `http_client` was given.
    pub connect_timeout: Duration,
    /// Whether files may be fetched by URL from private addresses and from any port: for tests and
    /// closed networks.
    pub allow_private_media: bool,
}

/// One account's way to WeChat.
#[derive(Clone, Debug)]
pub struct WechatClient {
    account: AccountId,
    attempt_timeout: Duration,
    wire: Wire,
    tokens: Tokens,
    media: Media,
    budgets: Arc<Budgets>,
}

impl WechatClient {
    /// A client that makes its calls through `http`, which all accounts share (`http_client`).
    pub fn new(
        settings: WechatSettings,
        shelf: Arc<dyn Shelf>,
        clock: Arc<dyn Clock>,
        http: reqwest::Client,
    ) -> Self {
        let settings = Arc::new(settings);
        let source = Arc::new(StableToken {
            settings: Arc::clone(&settings),
            wire: Wire::new(http.clone(), settings.api_base.clone()),
        });
        Self::with_source(&settings, source, shelf, clock, http)
    }

    /// A client whose tokens come from `source`.
    fn with_source(
        settings: &WechatSettings,
        source: Arc<dyn Source>,
        shelf: Arc<dyn Shelf>,
        clock: Arc<dyn Clock>,
        http: reqwest::Client,
    ) -> Self {
        let wire = Wire::new(http, settings.api_base.clone());
        let account = settings.account;
        let attempt_timeout = settings.attempt_timeout;
        let tokens = Tokens::new(source, Arc::clone(&clock));
        let budgets = Arc::new(Budgets::new(Arc::clone(&clock)));
        // What every account uses.
        budgets.mark(Interface::CustomerMessage);
        let media = Media::new(
            settings,
            wire.clone(),
            tokens.clone(),
            shelf,
            clock,
            Arc::clone(&budgets),
        );
        Self {
            account,
            attempt_timeout,
            wire,
            tokens,
            media,
            budgets,
        }
    }

    /// Which account's it is.
    pub fn account_id(&self) -> AccountId {
        self.account
    }

    /// What each interface of the account has left.
    pub fn budgets(&self) -> &Budgets {
        &self.budgets
    }

    /// How the access token stands; never the token.
    pub fn token_state(&self) -> TokenState {
        self.tokens.state()
    }

    /// The id that the platform knows the account by.
    pub fn app_id(&self) -> &str {
        self.tokens.app_id()
    }

    /// Whether the platform counts the openid as a follower; `None` when it does not say.
    pub async fn subscribed(&self, openid: &str) -> Option<bool> {
        self.subscribed_by(openid, Instant::now() + self.attempt_timeout)
            .await
    }

    async fn subscribed_by(&self, openid: &str, deadline: Instant) -> Option<bool> {
        let info = self.user_info(openid, deadline).await?;
        match info.get("subscribe").and_then(Value::as_i64) {
            Some(0) => Some(false),
            Some(1) => Some(true),
            Some(_) | None => None,
        }
    }

    /// What the platform says of a follower; `None` when it does not answer.
    async fn user_info(&self, openid: &str, deadline: Instant) -> Option<Value> {
        let token = timeout_at(deadline, self.tokens.current()).await.ok()?;
        let mut token = token.ok()?;
        self.budgets.take(Interface::Follower).ok()?;
        let mut renewed = false;
        loop {
            let access = ("access_token", token.value.expose_secret());
            let query = [access, ("openid", openid)];
            let reply = self.wire.get(USER_INFO, &query, deadline).await.ok()?;
            self.budgets.answered(Interface::Follower, reply.code);
            if !renewed && reply.code.map(reaction) == Some(Reaction::RefreshToken) {
                renewed = true;
                let another = timeout_at(deadline, self.tokens.replace(&token)).await;
                token = another.ok()?.ok()?;
                continue;
            }
            return Some(reply.fields);
        }
    }

    async fn attempt(&self, parcel: &Parcel) -> Result<Answer, Answer> {
        match &parcel.content {
            Content::Message(message) => self.customer_message(&parcel.openid, message).await,
            Content::SubscriptionNotice(form) => self.notice(&parcel.openid, form).await,
            Content::Template(form) => {
                self.template(&parcel.openid, form, &parcel.message_id)
                    .await
            }
        }
    }

    async fn customer_message(&self, openid: &str, message: &Message) -> Result<Answer, Answer> {
        let deadline = Instant::now() + self.attempt_timeout;
        let mut token = in_time(deadline, self.tokens.current()).await?;
        let mut ids = in_time(deadline, self.upload(message)).await?;
        let mut renewed = false;
        let mut uploaded_again = false;
        loop {
            let body = body::encode(openid, message, &ids);
            let reply = self.post(&token, body, deadline).await?;
            self.budgets
                .answered(Interface::CustomerMessage, reply.code);
            match reply.code.map(reaction) {
                Some(Reaction::RefreshToken) if !renewed => {
                    renewed = true;
                    token = in_time(deadline, self.tokens.replace(&token)).await?;
                }
                Some(Reaction::UploadAgain) if !uploaded_again && !ids.is_empty() => {
                    uploaded_again = true;
                    let again = async {
                        self.forget(message, &ids).await;
                        self.upload(message).await
                    };
                    ids = in_time(deadline, again).await?;
                }
                Some(Reaction::AskWhetherFollowed) => {
                    let class = match self.subscribed_by(openid, deadline).await {
                        Some(false) => AnswerClass::Unsubscribed,
                        Some(true) | None => AnswerClass::GrantClosed,
                    };
                    return Ok(hide(reply.answer_as(class, SENDING), &token.value));
                }
                _ => return Ok(hide(reply.answer(SENDING), &token.value)),
            }
        }
    }

    async fn post(&self, token: &Token, body: Vec<u8>, deadline: Instant) -> Result<Reply, Answer> {
        let written = Arc::new(AtomicBool::new(false));
        let posted = self
            .wire
            .post(SEND, Some(&token.value), body, deadline, &written)
            .await;
        posted.map_err(|silence| {
            let written = written.load(Ordering::SeqCst);
            hide(silence.after_message(written, SENDING), &token.value)
        })
    }

    /// The platform's ids of a message's files, for a passive reply.
    ///
    /// # Errors
    /// Why a file could not be uploaded.
    pub async fn media_of(&self, message: &Message) -> Result<Vec<String>, Answer> {
        let deadline = Instant::now() + self.attempt_timeout;
        in_time(deadline, self.upload(message)).await
    }

    async fn upload(&self, message: &Message) -> Result<Vec<String>, Answer> {
        let mut ids = Vec::new();
        for (asset, kind) in body::uploads(message) {
            ids.push(self.media.id(asset, kind).await?);
        }
        Ok(ids)
    }

    /// The platform does not say which of a message's media it misses, so all are forgotten.
    async fn forget(&self, message: &Message, ids: &[String]) {
        for ((asset, kind), id) in body::uploads(message).into_iter().zip(ids) {
            self.media.forget(asset, kind, id).await;
        }
    }
}

/// A message as a customer message carries it, its files under their names.
pub fn preview(message: &Message) -> Value {
    let names = body::uploads(message);
    let names: Vec<_> = names
        .into_iter()
        .map(|(asset, _)| super::rendering::name(asset).to_owned())
        .collect();
    let body = body::encode("", message, &names);
    let mut body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if let Some(fields) = body.as_object_mut() {
        fields.remove("touser");
    }
    body
}

/// The answer for a message that needs an interface which has no calls left before `until`.
fn used_up(interface: Interface, until: Timestamp, code: Option<i64>) -> Answer {
    let words = format!("{}: no calls are left before {until}", interface.name());
    Answer {
        code,
        ..Answer::without_code(AnswerClass::NotBefore(until), words)
    }
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

impl Platform for WechatClient {
    fn account(&self) -> AccountId {
        self.account
    }

    fn send<'a>(&'a self, parcel: &'a Parcel) -> Call<'a, Answer> {
        Box::pin(async move { self.attempt(parcel).await.unwrap_or_else(|answer| answer) })
    }

    fn send_to_many<'a>(&'a self, cohort: &'a Cohort) -> Call<'a, Answer> {
        Box::pin(async move { self.mass(cohort).await.unwrap_or_else(|answer| answer) })
    }

    fn language<'a>(&'a self, openid: &'a str) -> Call<'a, Option<String>> {
        Box::pin(async move {
            let deadline = Instant::now() + self.attempt_timeout;
            let info = self.user_info(openid, deadline).await?;
            let language = info.get("language").and_then(Value::as_str)?;
            let usable = !language.is_empty() && language.len() <= LANGUAGE_BYTES_MAX;
            usable.then(|| language.to_owned())
        })
    }
}
