//! A third-party platform (第三方平台, component): one program that speaks for many accounts by their
//! owners' authorization.
//!
//! Its own token comes from a ticket that the platform pushes (`ticket`), an account's token from the
//! refresh token that came with the authorization (`authorizer`). Accounts come and go while the
//! server runs (`registrar`). Deliberately absent: callbacks and pages (`inbound`).
//!
//! Source: the platform's pages "third-party platform: authorization technical instructions" and
//! those of the calls under `/cgi-bin/component/`.

mod authorizer;
mod check;
mod compare;
mod list;
mod pooled;
mod registrar;
mod ticket;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout_at};
use url::Url;

use self::list::Sweep;
use self::pooled::pooled;
use self::ticket::TicketToken;
use super::errcode::{Reaction, Reply, reaction};
use super::in_time;
use super::source::{Granted, granted_in, secret_in};
use super::token::Tokens;
use super::wire::{Wire, hide};
use crate::clock::Clock;
use crate::sender::platform::{Answer, AnswerClass};
use crate::store::{self, Store};

pub use self::check::CheckQuestion;
pub use self::registrar::{Registrar, RegistrarSettings, Taken};

const PRE_AUTH_CODE: &str = "/cgi-bin/component/api_create_preauthcode";
const QUERY_AUTH: &str = "/cgi-bin/component/api_query_auth";
const AUTHORIZER_TOKEN: &str = "/cgi-bin/component/api_authorizer_token";
const AUTHORIZER_INFO: &str = "/cgi-bin/component/api_get_authorizer_info";

/// Longest authorization or pre-authorization code, in bytes.
const CODE_BYTES_MAX: usize = 512;
/// Longest app id of an account, in bytes; real ones have 18.
const APP_ID_BYTES_MAX: usize = 64;
/// Longest name kept of an account, in characters.
const NAME_CHARS_MAX: usize = 64;
/// Most permission sets kept of an account; the platform has some dozens.
const PERMISSIONS_MAX: usize = 200;

/// What calls as a component need to know of it.
#[derive(Clone, Debug)]
pub struct ComponentSettings {
    pub app_id: String,
    pub app_secret: SecretString,
    /// `https://api.weixin.qq.com`, or the sandbox's.
    pub api_base: Url,
    /// Longest one call may take.
    pub attempt_timeout: Duration,
}

/// A component's way to the platform; cheap to clone.
#[derive(Clone)]
pub struct Component(Arc<Inner>);

struct Inner {
    settings: Arc<ComponentSettings>,
    wire: Wire,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    /// The component's own token, which opens no account's interface.
    tokens: Tokens,
    /// The platform's list of accounts as last read; held while it is read.
    listed: Mutex<Option<Sweep>>,
    /// Something was missed that the list knows of.
    missed: Notify,
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("app_id", &self.0.settings.app_id)
            .finish_non_exhaustive()
    }
}

/// What an authorization code brought.
struct Authorization {
    app_id: String,
    token: Granted,
    refresh_token: SecretString,
    permissions: Vec<i64>,
}

/// What the platform says of an account that authorized.
struct AuthorizerInfo {
    name: String,
    original_id: String,
    is_mini_program: bool,
    permissions: Vec<i64>,
}

/// A token and the refresh token to use from now on.
struct Refreshed {
    token: Granted,
    next: SecretString,
}

impl Component {
    /// A component that makes its calls through `http`.
    pub fn new(
        settings: ComponentSettings,
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        http: reqwest::Client,
    ) -> Self {
        let wire = Wire::new(http, settings.api_base.clone());
        let settings = Arc::new(settings);
        let source = TicketToken::new(Arc::clone(&settings), wire.clone(), Arc::clone(&store));
        let source = pooled(source, &store, settings.app_id.clone());
        let tokens = Tokens::new(source, Arc::clone(&clock));
        Self(Arc::new(Inner {
            settings,
            wire,
            store,
            clock,
            tokens,
            listed: Mutex::new(None),
            missed: Notify::new(),
        }))
    }

    fn app_id(&self) -> &str {
        &self.0.settings.app_id
    }

    /// One call with the component's token, which is replaced once when it is refused.
    async fn call(&self, path: &str, body: &Value) -> Result<Reply, Answer> {
        let deadline = Instant::now() + self.0.settings.attempt_timeout;
        let mut token = in_time(deadline, self.0.tokens.current()).await?;
        let mut renewed = false;
        loop {
            let written = Arc::new(AtomicBool::new(false));
            let bytes = body.to_string().into_bytes();
            let posted = self
                .0
                .wire
                .post(path, Some(&token.value), bytes, deadline, &written);
            let reply = posted
                .await
                .map_err(|silence| hide(silence.harmless(path), &token.value))?;
            match reply.code {
                None | Some(0) => return Ok(reply),
                Some(code) if !renewed && reaction(code) == Reaction::RefreshToken => {
                    renewed = true;
                    let another = timeout_at(deadline, self.0.tokens.replace(&token)).await;
                    token = another.unwrap_or_else(|_| {
                        let words = "time was up before there was a new component token";
                        Err(Answer::without_code(AnswerClass::RetrySoon, words))
                    })?;
                }
                Some(_) => return Err(hide(reply.answer(path), &token.value)),
            }
        }
    }

    /// A code to begin an authorization with.
    ///
    /// # Errors
    /// The platform's refusal, or why there is no answer.
    pub async fn pre_auth_code(&self) -> Result<String, Answer> {
        let body = json!({ "component_appid": self.app_id() });
        let reply = self.call(PRE_AUTH_CODE, &body).await?;
        let code = reply.text("pre_auth_code").filter(|code| is_code(code));
        code.map(str::to_owned)
            .ok_or_else(|| unreadable(PRE_AUTH_CODE))
    }

    /// Exchanges an authorization code, which works once.
    async fn query_auth(&self, code: &str) -> Result<Authorization, Answer> {
        let body = json!({
            "component_appid": self.app_id(),
            "authorization_code": code,
        });
        let hidden = SecretString::from(code);
        let asked = self.call(QUERY_AUTH, &body).await;
        let reply = asked.map_err(|answer| hide(answer, &hidden))?;
        let info = reply.fields.get("authorization_info");
        info.and_then(authorization)
            .ok_or_else(|| unreadable(QUERY_AUTH))
    }

    async fn info(&self, app_id: &str) -> Result<AuthorizerInfo, Answer> {
        let body = json!({
            "component_appid": self.app_id(),
            "authorizer_appid": app_id,
        });
        let reply = self.call(AUTHORIZER_INFO, &body).await?;
        let info = reply.fields.get("authorizer_info");
        let info = info.ok_or_else(|| unreadable(AUTHORIZER_INFO))?;
        let text = |name: &str| info.get(name).and_then(Value::as_str).unwrap_or("");
        let original_id = text("user_name");
        let name = text("nick_name").chars().filter(|c| !c.is_control());
        let authorization = reply.fields.get("authorization_info");
        Ok(AuthorizerInfo {
            name: name.take(NAME_CHARS_MAX).collect(),
            original_id: if is_app_id(original_id) {
                original_id
            } else {
                ""
            }
            .to_owned(),
            is_mini_program: info
                .get("MiniProgramInfo")
                .is_some_and(|mini| !mini.is_null()),
            permissions: authorization.map(permissions).unwrap_or_default(),
        })
    }

    /// An account's token for its refresh token.
    async fn refresh(&self, app_id: &str, used: &SecretString) -> Result<Refreshed, Answer> {
        let body = json!({
            "component_appid": self.app_id(),
            "authorizer_appid": app_id,
            "authorizer_refresh_token": used.expose_secret(),
        });
        let asked = self.call(AUTHORIZER_TOKEN, &body).await;
        let reply = asked.map_err(|answer| hide(answer, used))?;
        let token = granted_in(&reply.fields, "authorizer_access_token");
        let next = secret_in(&reply.fields, "authorizer_refresh_token");
        Ok(Refreshed {
            token: token.ok_or_else(|| unreadable(AUTHORIZER_TOKEN))?,
            next: next.unwrap_or_else(|| used.clone()),
        })
    }
}

fn authorization(info: &Value) -> Option<Authorization> {
    let app_id = info.get("authorizer_appid")?.as_str()?;
    Some(Authorization {
        app_id: is_app_id(app_id).then(|| app_id.to_owned())?,
        token: granted_in(info, "authorizer_access_token")?,
        refresh_token: secret_in(info, "authorizer_refresh_token")?,
        permissions: permissions(info),
    })
}

/// The permission sets in `func_info`.
fn permissions(info: &Value) -> Vec<i64> {
    let sets = info.get("func_info").and_then(Value::as_array);
    let id = |set: &Value| set.get("funcscope_category")?.get("id")?.as_i64();
    let ids = sets.into_iter().flatten().filter_map(id);
    ids.take(PERMISSIONS_MAX).collect()
}

fn is_code(text: &str) -> bool {
    !text.is_empty() && text.len() <= CODE_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic())
}

fn is_app_id(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    !text.is_empty() && text.len() <= APP_ID_BYTES_MAX && text.bytes().all(letter)
}

fn unreadable(doing: &str) -> Answer {
    let words = format!("{doing}: the answer lacks what it is for");
    Answer::without_code(AnswerClass::RetrySoon, words)
}

/// A row that could not be read or written: the message waits.
fn not_stored(error: &store::Error) -> Answer {
    Answer::without_code(
        AnswerClass::RetrySoon,
        format!("third-party platform: {error}"),
    )
}
