//! Third-party platforms over real sockets: accounts come by authorization and go with it, tokens
//! survive what can be survived, and the platform's check passes.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod check;
mod hostile;
mod lifecycle;
mod listing;
mod moving;
mod platform;
mod sandbox;
mod tokens;
mod two_nodes;

use std::sync::Arc;
use std::time::Duration;

use dripwheel::app::App;
use dripwheel::clock::{Clock, ManualClock, Timestamp};
use dripwheel::config::Config;
use dripwheel::inbound::cipher::Cipher;
use dripwheel::inbound::signature::sign;
use dripwheel::store::accounts::{self, Standing};
use dripwheel::yaml::render_all;
use reqwest::Client;
use tempfile::TempDir;

use crate::support::database::{self, Fresh};
use crate::support::eventually;
use platform::Platform;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const COMPONENT: &str = "wx00000000000000c0";
const APP_SECRET: &str = "0123456789abcdef0123456789abcdef";
const TOKEN: &str = "componenttoken";
const KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
const API_KEY: &str = "read-key-0123456789abcdef";
const NONCE: &str = "486452656";

/// Accounts that authorize.
const ONE: &str = "wx0000000000000001";
const TWO: &str = "wx0000000000000002";

/// 消息管理, 用户管理, 群发与通知, 素材.
const ALL: &[i64] = &[1, 2, 7, 11];

const SEQUENCE: &str = "
sequence: welcome
trigger: follow
steps:
  - { id: hello, after: 0s, say: { text: hello } }
  - { id: later, after: 1h, say: { text: later } }
";

struct Server {
    app: App,
    platform: Platform,
    clock: Arc<ManualClock>,
    client: Client,
    folder: TempDir,
    database: Fresh,
    component: String,
    token: String,
    key: String,
}

impl Server {
    async fn start() -> Self {
        Self::start_as(COMPONENT, TOKEN, KEY, NOW).await
    }

    async fn start_as(component: &str, token: &str, key: &str, now: Timestamp) -> Self {
        Self::start_on(Fresh::new(), [component, token, key], now).await
    }

    async fn start_on(database: Fresh, parts: [&str; 3], now: Timestamp) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("welcome.yaml"), SEQUENCE).unwrap();
        let platform = Platform::start().await;
        let clock = Arc::new(ManualClock::at(now));
        let config = config(&platform, &folder, &database, parts);
        let app = App::start(&config, Arc::clone(&clock) as _, None).await;
        Self {
            app: app.unwrap(),
            platform,
            clock,
            client: Client::builder().no_proxy().build().unwrap(),
            folder,
            database,
            component: parts[0].to_owned(),
            token: parts[1].to_owned(),
            key: parts[2].to_owned(),
        }
    }

    /// A server that has a ticket.
    async fn ready() -> Self {
        let server = Self::start().await;
        server.push_ticket("ticket@@@1").await;
        let compared = "SELECT count(*) FROM components WHERE reconciled_at > 0";
        eventually("the ticket has served", async || {
            server.count(compared).await == 1
        })
        .await;
        server
    }

    async fn restart(self) -> Self {
        self.app.stop().await;
        let parts = [&*self.component, &*self.token, &*self.key];
        let config = config(&self.platform, &self.folder, &self.database, parts);
        let app = App::start(&config, Arc::clone(&self.clock) as _, None).await;
        Self {
            app: app.unwrap(),
            ..self
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/component/pro/{path}", self.app.addr())
    }

    /// Posts a body under a signed URL.
    async fn post_signed(&self, path: &str, encrypted: &str, body: String) -> (u16, String) {
        let timestamp = self.clock.now().seconds().to_string();
        let signature = sign(&[&self.token, &timestamp, NONCE, encrypted]);
        let url = format!(
            "{}?timestamp={timestamp}&nonce={NONCE}&encrypt_type=aes&msg_signature={signature}",
            self.url(path)
        );
        self.post(&url, body).await
    }

    async fn post(&self, url: &str, body: String) -> (u16, String) {
        let answer = self.client.post(url).body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    fn seal(&self, tail: &str, inner: &str) -> String {
        let cipher = Cipher::new(tail, &[&self.key]).unwrap();
        cipher.encrypt(inner.as_bytes(), 0, *b"sixteen bytes ok")
    }

    /// An event about authorizations; `rest` comes after what all have.
    async fn push_event(&self, kind: &str, rest: &str) -> (u16, String) {
        let inner = event(&self.component, self.clock.now(), kind, rest);
        let encrypted = self.seal(&self.component, &inner);
        let body = outer("AppId", &self.component, &encrypted);
        self.post_signed("events", &encrypted, body).await
    }

    async fn push_ticket(&self, ticket: &str) {
        self.platform.with(|state| state.ticket = ticket.to_owned());
        let rest = format!("<ComponentVerifyTicket><![CDATA[{ticket}]]></ComponentVerifyTicket>");
        let answer = self.push_event("component_verify_ticket", &rest).await;
        assert_eq!(answer, (200, "success".to_owned()));
    }

    /// The platform tells of an authorization.
    async fn push_authorized(&self, kind: &str, app_id: &str, code: &str) {
        let rest = format!(
            "<AuthorizerAppid>{app_id}</AuthorizerAppid>\
             <AuthorizationCode>{code}</AuthorizationCode>\
             <AuthorizationCodeExpiredTime>1700000600</AuthorizationCodeExpiredTime>\
             <PreAuthCode>pre</PreAuthCode>"
        );
        let answer = self.push_event(kind, &rest).await;
        assert_eq!(answer, (200, "success".to_owned()));
    }

    async fn push_unauthorized(&self, app_id: &str) {
        let rest = format!("<AuthorizerAppid>{app_id}</AuthorizerAppid>");
        let answer = self.push_event("unauthorized", &rest).await;
        assert_eq!(answer, (200, "success".to_owned()));
    }

    /// An account authorizes, and the server has taken it in.
    async fn authorize(&self, app_id: &str, permissions: &[i64]) {
        let code = self.platform.authorize(app_id, permissions);
        self.push_authorized("authorized", app_id, &code).await;
        eventually("the account is known", async || {
            let known = self.app.store().knowledge().authorizers().get(app_id);
            known.is_some_and(|known| known.permissions == permissions)
        })
        .await;
    }

    /// A callback of an account.
    async fn push(&self, app_id: &str, inner: &str) -> (u16, String) {
        let encrypted = self.seal(&self.component, inner);
        let body = outer("ToUserName", "gh_x", &encrypted);
        self.post_signed(&format!("callback/{app_id}"), &encrypted, body)
            .await
    }

    async fn follow(&self, app_id: &str, openid: &str) {
        let inner = follow(app_id, openid, self.clock.now());
        let answer = self.push(app_id, &inner).await;
        assert_eq!(answer, (200, "success".to_owned()));
    }

    async fn standing(&self, app_id: &str) -> Standing {
        let standings = accounts::standings(self.app.store().read()).await.unwrap();
        standings.into_iter().find(|one| one.key == app_id).unwrap()
    }

    async fn api(&self, path: &str) -> (u16, serde_json::Value) {
        let url = format!("http://{}/api/v1/{path}", self.app.addr());
        let answer = self.client.get(url).bearer_auth(API_KEY).send().await;
        let answer = answer.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn count(&self, sql: &str) -> i64 {
        database::number(self.app.store().read(), sql).await
    }

    /// Waits for a text to have reached a follower of the account `times` times.
    async fn arrived(&self, app_id: &str, text: &str, times: usize) {
        let what = format!("{times} times `{text}` from {app_id}");
        eventually(&what, async || {
            self.clock.set(self.clock.now());
            let texts = self.platform.texts(app_id);
            texts.iter().filter(|one| *one == text).count() == times
        })
        .await;
    }

    fn pass(&self, span: Duration) {
        self.clock.advance(span);
    }
}

fn config(
    platform: &Platform,
    folder: &TempDir,
    database: &Fresh,
    [component, token, key]: [&str; 3],
) -> Config {
    let text = format!(
        "server: {{ listen: '127.0.0.1:0', public_url: 'https://drip.example.com',
  api_keys: [{{ name: reader, secret: {API_KEY}, scopes: [read] }}] }}
database: {{ url: '{database}' }}
sequences: {{ dir: '{folder}' }}
sender: {{ in_flight: 1000, per_account_in_flight: 1000, attempt_timeout: 60s }}
components:
  - {{ key: pro, app_id: {component}, app_secret: {APP_SECRET}, token: {token},
      encoding_aes_key: {key}, api_base: '{}', profile: wechat-48h, passive_reply: false,
      rate: {{ per_second: 100000, per_minute: 1000000 }} }}
",
        platform.base,
        database = database.url,
        folder = folder.path().display(),
    );
    let config = Config::from_text(&text, "component", &|_| None);
    config.unwrap_or_else(|problems| panic!("{}", render_all(&problems, false)))
}

fn event(component: &str, at: Timestamp, kind: &str, rest: &str) -> String {
    format!(
        "<xml><AppId>{component}</AppId><CreateTime>{}</CreateTime>\
         <InfoType><![CDATA[{kind}]]></InfoType>{rest}</xml>",
        at.seconds()
    )
}

fn outer(name: &str, value: &str, encrypted: &str) -> String {
    format!(
        "<xml><{name}><![CDATA[{value}]]></{name}><Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>"
    )
}

/// A message to an account; `rest` comes after what all have.
fn message(original_id: &str, openid: &str, at: Timestamp, rest: &str) -> String {
    format!(
        "<xml><ToUserName><![CDATA[{original_id}]]></ToUserName>\
         <FromUserName><![CDATA[{openid}]]></FromUserName>\
         <CreateTime>{}</CreateTime>{rest}</xml>",
        at.seconds()
    )
}

fn follow(app_id: &str, openid: &str, at: Timestamp) -> String {
    let rest = "<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[subscribe]]></Event>";
    message(&format!("gh_{}", &app_id[2..]), openid, at, rest)
}

fn text(original_id: &str, openid: &str, at: Timestamp, content: &str) -> String {
    let rest = format!(
        "<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[{content}]]></Content>\
         <MsgId>6783473091467092956</MsgId>"
    );
    message(original_id, openid, at, &rest)
}
