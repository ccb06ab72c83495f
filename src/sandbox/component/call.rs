//! The calls a component makes about itself: tokens, codes, and who authorized it.
//!
//! Bodies and answers are those of the platform's pages on 授权账号管理 and ticket-token. Reading
//! requests and injecting faults is in `answer`.

use std::sync::{Arc, PoisonError};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use super::held::TOKEN_LIFE;
use super::settings::AuthorizerKind;
use super::token::{Bearer, LIFE};
use super::{Authorization, COMPONENT_PREFIX, Component};
use crate::clock::Timestamp;
use crate::sandbox::errcode::Refusal;
use crate::sandbox::{World, lock};

/// Authorizers per answer of the list.
const LIST_MAX: usize = 500;

/// The platform's calls under `/cgi-bin/component/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ComponentApi {
    StartPushTicket,
    ComponentToken,
    PreAuthCode,
    QueryAuth,
    AuthorizerToken,
    AuthorizerList,
    AuthorizerInfo,
    ClearQuota,
}

const APIS: [(ComponentApi, &str); 8] = [
    (
        ComponentApi::StartPushTicket,
        "/cgi-bin/component/api_start_push_ticket",
    ),
    (
        ComponentApi::ComponentToken,
        "/cgi-bin/component/api_component_token",
    ),
    (
        ComponentApi::PreAuthCode,
        "/cgi-bin/component/api_create_preauthcode",
    ),
    (ComponentApi::QueryAuth, "/cgi-bin/component/api_query_auth"),
    (
        ComponentApi::AuthorizerToken,
        "/cgi-bin/component/api_authorizer_token",
    ),
    (
        ComponentApi::AuthorizerList,
        "/cgi-bin/component/api_get_authorizer_list",
    ),
    (
        ComponentApi::AuthorizerInfo,
        "/cgi-bin/component/api_get_authorizer_info",
    ),
    (ComponentApi::ClearQuota, "/cgi-bin/component/clear_quota"),
];

impl ComponentApi {
    pub(super) fn at(path: &str) -> Option<Self> {
        APIS.iter().find(|row| row.1 == path).map(|row| row.0)
    }

    pub(super) fn path(self) -> &'static str {
        let row = APIS.iter().find(|row| row.0 == self);
        row.map_or("", |row| row.1)
    }
}

/// The members that any of the calls has.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    pub(super) component_appid: String,
    pub(super) authorizer_appid: String,
    component_secret: String,
    component_appsecret: String,
    component_verify_ticket: String,
    authorization_code: String,
    authorizer_refresh_token: String,
    offset: u64,
    count: u64,
}

/// A call that has been read.
pub(super) struct Call<'a> {
    pub(super) world: &'a Arc<World>,
    pub(super) component: &'a Component,
    pub(super) token: Option<&'a str>,
    pub(super) asked: &'a Asked,
    pub(super) now: Timestamp,
}

impl Call<'_> {
    pub(super) fn carry_out(&self, api: ComponentApi) -> Result<Value, Refusal> {
        match api {
            ComponentApi::StartPushTicket => return self.start_push_ticket(),
            ComponentApi::ComponentToken => return self.component_token(),
            _ => self.check_token()?,
        }
        match api {
            ComponentApi::PreAuthCode => {
                let rules = &self.component.settings.rules;
                let code = lock(&self.component.held).new_pre_auth_code(rules, self.now);
                Ok(json!({"pre_auth_code": code, "expires_in": rules.pre_auth_code_seconds}))
            }
            ComponentApi::QueryAuth => self.query_auth(),
            ComponentApi::AuthorizerToken => self.authorizer_token(),
            ComponentApi::AuthorizerList => self.list(),
            ComponentApi::AuthorizerInfo => self.info(),
            ComponentApi::ClearQuota => {
                lock(&self.component.held).clear_counts(self.now)?;
                Ok(json!({"errcode": 0, "errmsg": "ok"}))
            }
            ComponentApi::StartPushTicket | ComponentApi::ComponentToken => Err(Refusal::URL),
        }
    }

    fn check_token(&self) -> Result<(), Refusal> {
        let token = self.token.filter(|token| !token.is_empty());
        let token = token.ok_or(Refusal::TOKEN_MISSING)?;
        if let Some(verdict) = lock(&self.component.held).check_token(token, self.now) {
            return verdict;
        }
        if !token.starts_with(COMPONENT_PREFIX) {
            // An account's own or an authorizer's token opens nothing here.
            return Err(match self.world.caller(Some(token), "", self.now) {
                Ok(_) => Refusal(61014),
                Err(refusal) => refusal,
            });
        }
        Err(Refusal::TOKEN_NOT_LATEST)
    }

    fn check_secret(&self, given: &str) -> Result<(), Refusal> {
        if given.is_empty() {
            return Err(Refusal::APP_SECRET_MISSING);
        }
        let secret: &SecretString = &self.component.settings.app_secret;
        let is_right = secret.expose_secret().as_bytes().ct_eq(given.as_bytes());
        if bool::from(is_right) {
            Ok(())
        } else {
            Err(Refusal::APP_SECRET)
        }
    }

    /// The push itself comes after the answer.
    fn start_push_ticket(&self) -> Result<Value, Refusal> {
        self.check_secret(&self.asked.component_secret)?;
        self.component.start_pushing_tickets();
        let (world, index) = (Arc::clone(self.world), self.component.index);
        tokio::spawn(async move {
            let component = &world.components.list[index];
            component.push_ticket(&world).await;
        });
        Ok(json!({"errcode": 0, "errmsg": "ok"}))
    }

    fn component_token(&self) -> Result<Value, Refusal> {
        self.check_secret(&self.asked.component_appsecret)?;
        let ticket = &self.asked.component_verify_ticket;
        let rules = &self.component.settings.rules;
        let token = lock(&self.component.held).new_token(ticket, rules, self.now)?;
        Ok(json!({"component_access_token": token, "expires_in": TOKEN_LIFE.as_secs()}))
    }

    fn query_auth(&self) -> Result<Value, Refusal> {
        let components = &self.world.components;
        let code = lock(&self.component.held).spend_code(&self.asked.authorization_code, self.now);
        let code = code?;
        let authorization = components
            .authorization(code.account)
            .filter(|one| one.component == self.component.index && one.serial == code.serial)
            .ok_or(Refusal(self.component.settings.rules.gone_code))?;
        let token = self.issue(&authorization, Some(code.text));
        let app_id = &self.world.accounts[authorization.account].app_id;
        Ok(json!({"authorization_info": {
            "authorizer_appid": &**app_id,
            "authorizer_access_token": &*token,
            "expires_in": LIFE.as_secs(),
            "authorizer_refresh_token": &*authorization.refresh_token,
            "func_info": func_info(&authorization),
        }}))
    }

    fn issue(&self, authorization: &Authorization, code: Option<Arc<str>>) -> Arc<str> {
        let bearer = Bearer {
            component: self.component.index,
            account: authorization.account,
            serial: authorization.serial,
            code,
        };
        let overlap = self.component.settings.rules.overlap();
        let tokens = &self.world.components.tokens;
        tokens.issue(bearer, overlap, self.now)
    }

    /// The authorization of the named account: 40013 for no account, `gone_code` for one that did
    /// not authorize the component.
    fn authorization(&self) -> Result<Arc<Authorization>, Refusal> {
        let account = self.world.account(&self.asked.authorizer_appid);
        let account = account.ok_or(Refusal::APP_ID)?;
        let found = self.world.components.authorization(account.index);
        found
            .filter(|one| one.component == self.component.index)
            .ok_or(Refusal(self.component.settings.rules.gone_code))
    }

    fn authorizer_token(&self) -> Result<Value, Refusal> {
        let mut authorization = self.authorization()?;
        if *authorization.refresh_token != *self.asked.authorizer_refresh_token {
            return Err(Refusal(61023));
        }
        if self.component.settings.rules.refresh_token_rotates {
            authorization = self.rotate(&authorization)?;
        }
        let token = self.issue(&authorization, None);
        *lock(&self.component.refreshes)
            .entry(authorization.account)
            .or_default() += 1;
        Ok(json!({
            "authorizer_access_token": &*token,
            "expires_in": LIFE.as_secs(),
            "authorizer_refresh_token": &*authorization.refresh_token,
        }))
    }

    /// Gives the account a new refresh token, unless somebody else just did.
    fn rotate(&self, before: &Arc<Authorization>) -> Result<Arc<Authorization>, Refusal> {
        let components = &self.world.components;
        let mut authorized = components
            .authorized
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let current = authorized
            .get_mut(&before.account)
            .filter(|current| Arc::ptr_eq(current, before))
            .ok_or(Refusal(61023))?;
        *current = Arc::new(Authorization {
            refresh_token: super::made_up("refreshtoken", 60).into(),
            ..(**before).clone()
        });
        Ok(Arc::clone(current))
    }

    fn list(&self) -> Result<Value, Refusal> {
        let parameter = |number: u64| usize::try_from(number).map_err(|_| Refusal(61451));
        let (offset, count) = (parameter(self.asked.offset)?, parameter(self.asked.count)?);
        if count == 0 || count > LIST_MAX {
            return Err(Refusal(61451));
        }
        let all = self.world.components.authorizations(self.component);
        let page = all.iter().skip(offset).take(count);
        let list: Vec<Value> = page
            .map(|one| {
                json!({
                    "authorizer_appid": &*self.world.accounts[one.account].app_id,
                    "refresh_token": &*one.refresh_token,
                    "auth_time": one.at.seconds(),
                })
            })
            .collect();
        Ok(json!({"total_count": all.len(), "list": list}))
    }

    fn info(&self) -> Result<Value, Refusal> {
        let authorization = self.authorization()?;
        let account = &self.world.accounts[authorization.account];
        let name = match account.settings.name.as_str() {
            "" => &account.settings.app_id,
            name => name,
        };
        let mut info = json!({
            "nick_name": name,
            "head_img": "",
            "service_type_info": {"id": if account.kind == AuthorizerKind::MiniProgram { 0 } else { 2 }},
            "verify_type_info": {"id": 0},
            "user_name": account.settings.original_id,
            "principal_name": format!("{name} (sandbox)"),
            "alias": "",
            "qrcode_url": "",
        });
        // Only a mini program has the member, which is how the platform tells them apart.
        if account.kind == AuthorizerKind::MiniProgram {
            info["MiniProgramInfo"] = json!({"network": {}, "categories": [], "visit_status": 0});
        }
        Ok(json!({
            "authorizer_info": info,
            "authorization_info": {
                "authorizer_appid": &*account.app_id,
                "authorizer_refresh_token": &*authorization.refresh_token,
                "func_info": func_info(&authorization),
            },
        }))
    }
}

fn func_info(authorization: &Authorization) -> Vec<Value> {
    let sets = authorization.sets.iter();
    sets.map(|set| json!({"funcscope_category": {"id": set}}))
        .collect()
}
