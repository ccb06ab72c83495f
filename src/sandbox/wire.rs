//! The platform's HTTP calls: reads each, lets faults strike, and answers as the platform would.
//!
//! Refusals are JSON with status 200, as there. What a call does is in `send`, `notice`, `mass`,
//! `tokens`, `media`, `users`, `tags` and `quota`.

use std::borrow::Cow;
use std::sync::Arc;

use poem::http::{Method, header};
use poem::web::Multipart;
use poem::{FromRequest, Request, Response};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use super::carrier::Incoming;
use super::errcode::{OK, Refusal};
use super::fault::{Fault, FaultKind, Target};
use super::media::{MediaKind, UPLOAD_BYTES_MAX};
use super::quota::Api;
use super::spoil::{json as answer_json, spoil};
use super::tokens::Issuer;
use super::{Account, World, mass, notice, send, tags, users};
use crate::clock::Timestamp;

/// Largest JSON body; the largest legal message has a few kilobytes.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// A mass send names up to 10,000 openids.
const MASS_BYTES_MAX: usize = 1024 * 1024;
/// A multipart body is its file and some headers.
const FORM_BYTES_MAX: usize = UPLOAD_BYTES_MAX + 64 * 1024;

/// The parameters of a call's URL.
pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    pub(super) fn parse(query: &'a str) -> Self {
        /// Calls have a handful.
        const PARAMETERS_MAX: usize = 16;
        Self(
            url::form_urlencoded::parse(query.as_bytes())
                .take(PARAMETERS_MAX)
                .collect(),
        )
    }

    /// The first value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| &**value)
    }

    fn token(&self) -> Option<&str> {
        self.get("access_token")
    }
}

/// Answers one call to `/cgi-bin/…`.
pub(super) async fn answer(world: &Arc<World>, mut request: Request) -> Response {
    let now = world.clock.now();
    let refuse = |refusal: Refusal| answer_json(refusal.body(now));
    let uri = request.uri().clone();
    let Some(api) = Api::at(uri.path()) else {
        return refuse(Refusal::URL);
    };
    if api.is_post() != (request.method() == Method::POST) {
        let wanted = if api.is_post() {
            Refusal::REQUIRE_POST
        } else {
            Refusal::REQUIRE_GET
        };
        return refuse(wanted);
    }
    let query = Query::parse(uri.query().unwrap_or_default());
    let door = target(world, api, &query, None, true);
    if world.faults.pick(&door.as_target()).is_some() {
        world.connections.reset(request.remote_addr());
        return spoil(&FaultKind::ResetBefore, String::new(), "").await;
    }
    let content_type = request
        .header(header::CONTENT_TYPE)
        .unwrap_or_default()
        .to_owned();
    let max = match api {
        Api::Upload | Api::UploadImage => FORM_BYTES_MAX,
        Api::MassSend => MASS_BYTES_MAX,
        _ => BODY_BYTES_MAX,
    };
    let Ok(body) = request.take_body().into_bytes_limit(max).await else {
        return refuse(Refusal::CONTENT_SIZE);
    };
    let fault = pick(world, api, &query, &body);
    if let Some(FaultKind::KillTokens { code }) = fault.as_deref().map(|fault| &fault.kind)
        && let Ok(account) = world.caller(query.token(), api.path(), now)
    {
        world.kill_tokens(account, *code);
    }
    let call = Called {
        world,
        query: &query,
        body: &body,
        now,
    };
    let right = call.carry_out(api, &content_type, fault.as_deref()).await;
    // It counted, and may have brought a file.
    world.touch();
    match fault {
        None => answer_json(right),
        Some(fault) => {
            if matches!(fault.kind, FaultKind::ResetBefore | FaultKind::ResetAfter) {
                world.connections.reset(request.remote_addr());
            }
            spoil(&fault.kind, right, &world.trap_url()).await
        }
    }
}

/// What a fault may aim at, owned.
struct Aim {
    api: Api,
    account: Option<Arc<str>>,
    openid: Option<String>,
    is_at_door: bool,
}

impl Aim {
    fn as_target(&self) -> Target<'_> {
        Target {
            api: self.api.path(),
            account: self.account.as_deref(),
            openid: self.openid.as_deref(),
            event: None,
            is_at_door: self.is_at_door,
        }
    }
}

/// Costs nothing while no fault is set.
fn target(
    world: &World,
    api: Api,
    query: &Query<'_>,
    body: Option<&[u8]>,
    is_at_door: bool,
) -> Aim {
    let mut aim = Aim {
        api,
        account: None,
        openid: None,
        is_at_door,
    };
    if !world.faults.exist() {
        return aim;
    }
    let body: Value = body
        .and_then(|body| serde_json::from_slice(body).ok())
        .unwrap_or_default();
    let named = query.get("appid").or_else(|| body["appid"].as_str());
    let by_token = || {
        let index = world.caller(query.token(), "", world.clock.now()).ok()?;
        Some(Arc::clone(&world.accounts[index].app_id))
    };
    aim.account = named.map(Into::into).or_else(by_token);
    let openid = query.get("openid").or_else(|| body["touser"].as_str());
    aim.openid = openid.map(ToOwned::to_owned);
    aim
}

fn pick(world: &World, api: Api, query: &Query<'_>, body: &[u8]) -> Option<Arc<Fault>> {
    let aim = target(world, api, query, Some(body), false);
    world.faults.pick(&aim.as_target())
}

/// A call that has been read.
struct Called<'a> {
    world: &'a Arc<World>,
    query: &'a Query<'a>,
    body: &'a [u8],
    now: Timestamp,
}

impl Called<'_> {
    /// The answer, effects included; a fault that is not accepted has none.
    async fn carry_out(&self, api: Api, content_type: &str, fault: Option<&Fault>) -> String {
        let receive = match api {
            Api::Send => Some(send::receive as fn(&Incoming<'_>) -> String),
            Api::TemplateSend => Some(notice::receive_template as _),
            Api::NoticeSend => Some(notice::receive_notice as _),
            Api::MassSend => Some(mass::receive as _),
            _ => None,
        };
        if let Some(receive) = receive {
            let account = (self.world).caller(self.query.token(), api.path(), self.now);
            return receive(&Incoming {
                world: self.world,
                account: account.map(|index| &self.world.accounts[index]),
                body: self.body,
                fault,
                now: self.now,
            });
        }
        if let Some(fault) = fault.filter(|fault| !fault.is_accepted()) {
            let code = match fault.kind {
                FaultKind::Errcode { code } => code,
                _ => -1,
            };
            return Refusal(code).body(self.now);
        }
        let answer = match api {
            Api::Upload | Api::UploadImage => self.upload(api, content_type).await,
            _ => self.ask(api),
        };
        match fault.map(|fault| &fault.kind) {
            Some(FaultKind::Errcode { code }) => Refusal(*code).body(self.now),
            _ => answer.unwrap_or_else(|refusal| refusal.body(self.now)),
        }
    }

    /// The account of the call's token, with the call counted.
    fn account(&self, api: Api) -> Result<&Account, Refusal> {
        let account = (self.world).caller(self.query.token(), api.path(), self.now)?;
        let account = &self.world.accounts[account];
        account.admit(api, self.now)?;
        Ok(account)
    }

    fn ask(&self, api: Api) -> Result<String, Refusal> {
        match api {
            Api::Token => self.token(),
            Api::StableToken => self.stable_token(),
            Api::UserInfo => users::info(self.account(api)?, self.query.get("openid")),
            Api::UserList => users::list(self.account(api)?, self.query.get("next_openid")),
            Api::UserBatch => users::batch(self.account(api)?, self.body),
            Api::TagCreate => tags::create(self.account(api)?, self.body),
            Api::TagList => Ok(tags::list(self.account(api)?)),
            Api::Tagging => tags::mark(self.account(api)?, self.body, true),
            Api::Untagging => tags::mark(self.account(api)?, self.body, false),
            Api::TagsOf => tags::of_one(self.account(api)?, self.body),
            Api::Tagged => tags::members(self.account(api)?, self.body),
            Api::MassGet => mass::state(self.account(api)?, self.body),
            Api::QuotaGet => {
                let account = self.account(api)?;
                let path = self.string("cgi_path")?.unwrap_or_default();
                Ok(account.quotas.report(&path, self.now)?.to_string())
            }
            Api::ClearQuota => {
                let account = (self.world).caller(self.query.token(), api.path(), self.now)?;
                let account = &self.world.accounts[account];
                if self.string("appid")?.as_deref() != Some(&account.app_id) {
                    return Err(Refusal::APP_ID);
                }
                account.quotas.clear(self.now)?;
                Ok(OK.to_owned())
            }
            Api::Send
            | Api::TemplateSend
            | Api::NoticeSend
            | Api::MassSend
            | Api::Upload
            | Api::UploadImage => Err(Refusal::URL),
        }
    }

    /// One member of the JSON body.
    fn string(&self, name: &str) -> Result<Option<String>, Refusal> {
        if self.body.is_empty() {
            return Err(Refusal::EMPTY_POST);
        }
        let body: Value = serde_json::from_slice(self.body).map_err(|_| Refusal::JSON)?;
        Ok(body[name].as_str().map(ToOwned::to_owned))
    }

    fn token(&self) -> Result<String, Refusal> {
        let get = |name| self.query.get(name).unwrap_or_default().to_owned();
        let request = TokenRequest {
            grant_type: get("grant_type"),
            appid: get("appid"),
            secret: get("secret"),
            force_refresh: false,
        };
        self.issue(&request, Api::Token, Issuer::Plain)
    }

    fn stable_token(&self) -> Result<String, Refusal> {
        if self.body.is_empty() {
            return Err(Refusal::EMPTY_POST);
        }
        let request: TokenRequest = serde_json::from_slice(self.body).map_err(|_| Refusal::JSON)?;
        let issuer = Issuer::Stable(request.force_refresh);
        self.issue(&request, Api::StableToken, issuer)
    }

    fn issue(&self, request: &TokenRequest, api: Api, issuer: Issuer) -> Result<String, Refusal> {
        if request.grant_type != "client_credential" {
            return Err(Refusal::GRANT_TYPE);
        }
        if request.appid.is_empty() {
            return Err(Refusal::APP_ID_MISSING);
        }
        if request.secret.is_empty() {
            return Err(Refusal::APP_SECRET_MISSING);
        }
        if self.world.components.get(&request.appid).is_some() {
            return Err(Refusal(61024));
        }
        let account = self.world.account(&request.appid).ok_or(Refusal::APP_ID)?;
        let secret = account.settings.app_secret.expose_secret();
        if !bool::from(secret.as_bytes().ct_eq(request.secret.as_bytes())) {
            return Err(Refusal::APP_SECRET);
        }
        account.quotas.spend(api, self.now)?;
        let (token, expires_in) = self.world.tokens.issue(account.index, issuer, self.now)?;
        Ok(json!({"access_token": &*token, "expires_in": expires_in}).to_string())
    }

    async fn upload(&self, api: Api, content_type: &str) -> Result<String, Refusal> {
        let account = self.account(api)?.index;
        let bytes = media_field(content_type, self.body.to_vec()).await;
        let bytes = bytes.ok_or(Refusal::MEDIA_MISSING)?;
        if api == Api::UploadImage {
            let id = self.world.shelf.upload_picture(account, bytes, self.now)?;
            let url = format!("http://{}/sandbox/media/{id}", self.world.addr);
            return Ok(json!({"url": url}).to_string());
        }
        let name = self.query.get("type").unwrap_or_default();
        let kind = MediaKind::parse(name).ok_or(Refusal::MEDIA_TYPE)?;
        let id = self.world.shelf.upload(account, kind, bytes, self.now)?;
        // The platform names a thumb's id by another key than all others.
        let key = if kind == MediaKind::Thumb {
            "thumb_media_id"
        } else {
            "media_id"
        };
        Ok(json!({"type": name, key: id, "created_at": self.now.seconds()}).to_string())
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenRequest {
    grant_type: String,
    appid: String,
    secret: String,
    force_refresh: bool,
}

/// The file in the form field `media`.
async fn media_field(content_type: &str, body: Vec<u8>) -> Option<Vec<u8>> {
    let request = Request::builder()
        .header(header::CONTENT_TYPE, content_type)
        .body(body);
    let (request, mut body) = request.split();
    let mut form = Multipart::from_request(&request, &mut body).await.ok()?;
    while let Some(field) = form.next_field().await.ok()? {
        if field.name() == Some("media") {
            return field.bytes().await.ok();
        }
    }
    None
}
