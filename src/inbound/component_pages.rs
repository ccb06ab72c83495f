//! The pages on which an account's owner authorizes a third-party platform, and comes back to.
//!
//! They hold nothing secret and ask for no key: whoever is to authorize is a stranger here. Each view
//! of the first costs a call to the platform, so there are so many in a minute and no more.
//!
//! Source: the platform's page "authorization technical instructions" (授权流程技术说明).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use askama::Template;
use poem::http::{StatusCode, header};
use poem::web::{Data, Path};
use poem::{Request, Response, handler};
use secrecy::SecretString;
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use crate::inbound::component::{ComponentDoors, ComponentEntrance, Exchanged};

/// Views of both pages that cost a call, per minute, of all components.
const VIEWS_PER_MINUTE: u32 = 120;
const MINUTE: Duration = Duration::from_secs(60);

/// Longest code that is asked about, in bytes.
const CODE_BYTES_MAX: usize = 512;

/// The console's own style, and nothing else.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; \
                              form-action 'none'; frame-ancestors 'none'";

/// Only Official Accounts may be picked on the platform's page; mini programs are not served.
const OFFICIAL_ACCOUNTS: &str = "1";

/// How often the pages were asked for.
#[derive(Debug, Default)]
pub(super) struct Visits(Mutex<Option<(Instant, u32)>>);

impl Visits {
    /// Counts a view; false when there were too many.
    fn admit(&self) -> bool {
        let mut visits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (since, count) = visits
            .filter(|(since, _)| now.duration_since(*since) < MINUTE)
            .unwrap_or((now, 0));
        *visits = Some((since, count.saturating_add(1)));
        count < VIEWS_PER_MINUTE
    }
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<!doctype html>
<html lang="zh-CN">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }} · dripwheel</title>
<link rel="stylesheet" href="/assets/console.css">
</head>
<body>
<header><span class="brand"><span class="drop" aria-hidden="true"></span>dripwheel</span></header>
<main>
<section class="card">
<h1>{{ title }}</h1>
{% for line in lines %}<p>{{ line }}</p>
{% endfor %}{% for (address, label) in links %}<p><a class="authorize" href="{{ address }}">{{ label }}</a></p>
{% endfor %}</section>
</main>
</body>
</html>
"#
)]
struct Page<'a> {
    title: &'a str,
    lines: Vec<String>,
    links: Vec<(String, &'static str)>,
}

fn page(status: StatusCode, page: &Page<'_>) -> Response {
    let html = page.render().unwrap_or_default();
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "text/html; charset=utf-8")
        .header(header::CONTENT_SECURITY_POLICY, CONTENT_POLICY)
        // The platform looks at where its page was opened from.
        .header(header::REFERRER_POLICY, "strict-origin-when-cross-origin")
        .body(html)
}

fn words(status: StatusCode, title: &str, lines: &[&str]) -> Response {
    let lines = lines.iter().map(|line| (*line).to_owned()).collect();
    let links = Vec::new();
    page(
        status,
        &Page {
            title,
            lines,
            links,
        },
    )
}

const NO_SUCH: (&str, &[&str]) = (
    "没有这个平台 · No such platform",
    &["请检查网址。", "Check the address."],
);

const TOO_MANY: (&str, &[&str]) = (
    "请稍后再试 · Try again in a minute",
    &["访问过于频繁。", "This page was asked for too often."],
);

/// Where an owner begins: links to the platform's own pages.
#[handler]
pub(super) async fn authorize(
    Path(key): Path<String>,
    doors: Data<&Arc<ComponentDoors>>,
) -> Response {
    let Some(component) = doors.components.get(&key) else {
        return words(StatusCode::NOT_FOUND, NO_SUCH.0, NO_SUCH.1);
    };
    if !doors.visits.admit() {
        return words(StatusCode::TOO_MANY_REQUESTS, TOO_MANY.0, TOO_MANY.1);
    }
    let Some(code) = component.desk.pre_auth_code().await else {
        return words(
            StatusCode::BAD_GATEWAY,
            "暂时无法授权 · Not possible right now",
            &[
                "微信平台暂未响应，请几分钟后再试。",
                "WeChat does not answer for this platform yet: try again in a few minutes.",
            ],
        );
    };
    let links = links(component, &code).unwrap_or_default();
    page(
        StatusCode::OK,
        &Page {
            title: "公众号授权 · Authorize your Official Account",
            lines: vec![
                "由公众号管理员扫码，并请保留“消息管理”权限：没有它无法发送消息。".to_owned(),
                "The account's administrator scans the code. Keep the permission 消息管理: nothing \
                 can be sent without it."
                    .to_owned(),
            ],
            links,
        },
    )
}

/// The platform's pages for a computer and for WeChat itself.
fn links(component: &ComponentEntrance, code: &str) -> Option<Vec<(String, &'static str)>> {
    let own = component.app_id.as_str();
    let query = [
        ("component_appid", own),
        ("pre_auth_code", code),
        ("redirect_uri", component.back.as_str()),
        ("auth_type", OFFICIAL_ACCOUNTS),
    ];
    let computer = format!("{}/cgi-bin/componentloginpage", component.login_base);
    let computer = Url::parse_with_params(&computer, query).ok()?;
    let mobile = format!("{}/wxaopen/safe/bindcomponent", component.mobile_login_base);
    let first = [("action", "bindcomponent"), ("no_scan", "1")];
    let mut mobile = Url::parse_with_params(&mobile, first.iter().chain(&query)).ok()?;
    mobile.set_fragment(Some("wechat_redirect"));
    Some(vec![
        (computer.into(), "在电脑上授权 · On a computer"),
        (mobile.into(), "在微信中授权 · In WeChat"),
    ])
}

/// What the platform adds to the address that an owner comes back to.
#[derive(Deserialize)]
struct Back {
    auth_code: Option<String>,
}

/// Where an owner comes back to.
#[handler]
pub(super) async fn authorized(
    Path(key): Path<String>,
    request: &Request,
    doors: Data<&Arc<ComponentDoors>>,
) -> Response {
    let Some(component) = doors.components.get(&key) else {
        return words(StatusCode::NOT_FOUND, NO_SUCH.0, NO_SUCH.1);
    };
    let code = request
        .params::<Back>()
        .ok()
        .and_then(|back| back.auth_code);
    let usable = |code: &String| {
        (1..=CODE_BYTES_MAX).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_graphic())
    };
    let Some(code) = code.filter(usable) else {
        return words(
            StatusCode::BAD_REQUEST,
            "缺少授权码 · No authorization code",
            &[
                "请从授权页重新开始。",
                "Begin again at the authorization page.",
            ],
        );
    };
    if !doors.visits.admit() {
        return words(StatusCode::TOO_MANY_REQUESTS, TOO_MANY.0, TOO_MANY.1);
    }
    match component.desk.exchange(SecretString::from(code)).await {
        Exchanged::Taken { name, reason } if reason.is_empty() => {
            let lines = vec![
                format!("公众号“{name}”已授权，可以关闭此页。"),
                format!("{name} is authorized. You may close this page."),
            ];
            let links = Vec::new();
            let title = "授权成功 · It worked";
            page(
                StatusCode::OK,
                &Page {
                    title,
                    lines,
                    links,
                },
            )
        }
        Exchanged::Taken { name, reason } => {
            let lines = vec![
                format!("公众号“{name}”已授权，但还不能发送消息：{reason}"),
                format!("{name} is authorized, but nothing can be sent yet: {reason}."),
            ];
            let links = Vec::new();
            let title = "授权不完整 · Not complete";
            page(
                StatusCode::OK,
                &Page {
                    title,
                    lines,
                    links,
                },
            )
        }
        Exchanged::Refused(code) => {
            let code = code.map_or_else(String::new, |code| format!(" ({code})"));
            words(
                StatusCode::BAD_GATEWAY,
                "授权未完成 · It did not work",
                &[
                    &format!("微信平台拒绝了授权码{code}，请从授权页重新开始。"),
                    &format!(
                        "WeChat did not take the code{code}. Begin again at the authorization page."
                    ),
                ],
            )
        }
    }
}
