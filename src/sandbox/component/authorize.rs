//! The authorization page: a person picks an account and permission sets, and is sent back to the
//! component with an authorization code.
//!
//! Both of the platform's addresses lead here, the one for computers and the H5 one. Whoever opens
//! the page may speak for every account: the sandbox has no login. The component hears of it by its
//! event URL as well.

use std::sync::Arc;

use askama::Template;
use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Request, Response};

use super::settings::AuthorizerKind;
use super::{Component, SETS};
use crate::sandbox::{Account, World, lock};

const PATHS: [&str; 2] = ["/cgi-bin/componentloginpage", "/wxaopen/safe/bindcomponent"];
const FORM_BYTES_MAX: usize = 16 * 1024;
/// Accounts that the page lists; `biz_appid` names any.
const ACCOUNTS_SHOWN: usize = 500;

/// Whether a path is the page's.
pub(in crate::sandbox) fn is_page(path: &str) -> bool {
    PATHS.contains(&path)
}

#[derive(Template)]
#[template(path = "authorize.html", config = "src/sandbox/page/askama.toml")]
struct AuthorizePage {
    component: String,
    accounts: Vec<(String, String)>,
    sets: Vec<(u32, &'static str)>,
    /// Repeated by the form.
    hidden: Vec<(&'static str, String)>,
}

fn set_name(set: u32) -> &'static str {
    match set {
        1 => "消息管理 messages",
        2 => "用户管理 users",
        7 => "群发与通知 mass sends and notices",
        11 => "素材管理 material",
        19 => "小程序客服消息 mini program messages",
        _ => "",
    }
}

/// What the address or the form asks for.
#[derive(Default)]
struct Asked {
    component_appid: String,
    pre_auth_code: String,
    redirect_uri: String,
    /// 1 official accounts, 2 mini programs, 3 both.
    auth_type: String,
    /// The one account that may be picked.
    biz_appid: String,
    account: String,
    sets: Vec<u32>,
}

impl Asked {
    fn read(encoded: &[u8]) -> Self {
        let mut asked = Self::default();
        for (name, value) in url::form_urlencoded::parse(encoded) {
            let field = match &*name {
                "component_appid" => &mut asked.component_appid,
                "pre_auth_code" => &mut asked.pre_auth_code,
                "redirect_uri" => &mut asked.redirect_uri,
                "auth_type" => &mut asked.auth_type,
                "biz_appid" => &mut asked.biz_appid,
                "account" => &mut asked.account,
                "set" => {
                    asked.sets.extend(value.parse::<u32>());
                    continue;
                }
                _ => continue,
            };
            *field = value.into_owned();
        }
        asked
    }

    fn offers(&self, account: &Account) -> bool {
        let is_kind = match self.auth_type.as_str() {
            "1" => account.kind == AuthorizerKind::OfficialAccount,
            "2" => account.kind == AuthorizerKind::MiniProgram,
            _ => true,
        };
        is_kind && (self.biz_appid.is_empty() || *self.biz_appid == *account.app_id)
    }

    /// The component and where to send the person back, or what to tell them.
    fn check<'w>(&self, world: &'w World) -> Result<(&'w Component, url::Url), &'static str> {
        let component = world.components.get(&self.component_appid);
        let component = component.ok_or("component_appid names no third-party platform")?;
        let now = world.clock.now();
        if !lock(&component.held).knows_pre_auth_code(&self.pre_auth_code, now) {
            return Err("pre_auth_code is unknown, was used, or has expired: create a new one");
        }
        let back = super::web_url(&self.redirect_uri).ok_or("redirect_uri is no web address")?;
        // The platform takes addresses of the registered domain only (授权发起页域名).
        if back.host_str() != component.event_url.host_str() {
            return Err("redirect_uri must have the host of the component's event URL");
        }
        Ok((component, back))
    }
}

/// Answers the page and its form.
pub(in crate::sandbox) async fn page(world: &Arc<World>, mut request: Request) -> Response {
    if request.method() == Method::POST {
        let body = request.take_body().into_bytes_limit(FORM_BYTES_MAX).await;
        return match body {
            Err(_) => StatusCode::PAYLOAD_TOO_LARGE.into(),
            Ok(body) => decide(world, &Asked::read(&body)),
        };
    }
    let query = request.uri().query().unwrap_or_default();
    show(world, Asked::read(query.as_bytes()))
}

fn refused(reason: &str) -> Response {
    Response::builder()
        .status(StatusCode::BAD_REQUEST)
        .content_type("text/plain; charset=utf-8")
        .body(reason.to_owned())
}

fn show(world: &World, asked: Asked) -> Response {
    let (component, back) = match asked.check(world) {
        Ok(found) => found,
        Err(reason) => return refused(reason),
    };
    let accounts = world.accounts.iter().filter(|one| asked.offers(one));
    let accounts = accounts.take(ACCOUNTS_SHOWN).map(|account| {
        let name = format!("{} {}", account.settings.name, account.app_id);
        (account.app_id.to_string(), name.trim().to_owned())
    });
    let page = AuthorizePage {
        component: match component.settings.name.as_str() {
            "" => component.settings.app_id.clone(),
            name => name.to_owned(),
        },
        accounts: accounts.collect(),
        sets: (SETS.iter())
            .chain([&super::MINI_PROGRAM_MESSAGES])
            .map(|set| (*set, set_name(*set)))
            .collect(),
        hidden: vec![
            ("component_appid", asked.component_appid),
            ("pre_auth_code", asked.pre_auth_code),
            ("redirect_uri", asked.redirect_uri),
            ("auth_type", asked.auth_type),
            ("biz_appid", asked.biz_appid),
        ],
    };
    // Browsers hold the redirect after the form to `form-action` as well.
    let csp = format!(
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' {}; \
         base-uri 'none'; frame-ancestors 'none'",
        back.origin().ascii_serialization()
    );
    match page.render() {
        Ok(html) => Response::builder()
            .content_type("text/html; charset=utf-8")
            .header(header::CACHE_CONTROL, "no-store")
            .header(header::CONTENT_SECURITY_POLICY, csp)
            .body(html),
        Err(error) => {
            tracing::error!(%error, "the authorization page did not render");
            StatusCode::INTERNAL_SERVER_ERROR.into()
        }
    }
}

/// Enters the consent, tells the component, and sends the person back to it.
fn decide(world: &Arc<World>, asked: &Asked) -> Response {
    let (component, mut back) = match asked.check(world) {
        Ok(found) => found,
        Err(reason) => return refused(reason),
    };
    let account = world.account(&asked.account);
    let Some(account) = account.filter(|account| asked.offers(account)) else {
        return refused("pick one of the accounts");
    };
    let consent = world.consent(component, account, &asked.sets, &asked.pre_auth_code);
    let (event, code, end) = match consent {
        Ok(consent) => consent,
        Err(error) => return refused(&error.to_string()),
    };
    lock(&component.held).spend_pre_auth_code(&asked.pre_auth_code);
    let (telling, index) = (Arc::clone(world), component.index);
    tokio::spawn(async move {
        let component = &telling.components.list[index];
        component.push_event(&telling, &event).await;
    });
    let seconds = end.since(world.clock.now()).as_secs();
    back.query_pairs_mut()
        .append_pair("auth_code", &code)
        .append_pair("expires_in", &seconds.to_string());
    match HeaderValue::from_str(back.as_str()) {
        Err(_) => refused("redirect_uri is no web address"),
        Ok(location) => {
            let mut response: Response = StatusCode::SEE_OTHER.into();
            response.headers_mut().insert(header::LOCATION, location);
            response
        }
    }
}
