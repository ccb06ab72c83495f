//! A sandbox with one component, a clock that a test moves, and the component's server.

use std::sync::Arc;
use std::time::Duration;

use dripwheel::clock::{ManualClock, Timestamp};
use dripwheel::sandbox::{
    Control, NewAccounts, Running, Sandbox, SandboxComponent, SandboxLimits, SandboxSettings,
};
use reqwest::redirect::Policy;
use serde_json::{Value, json};

use super::server::{AES_KEY, APP_ID, Mistake, SECRET, Server, TOKEN};

pub const START: Timestamp = Timestamp(1_700_000_000_500);

pub struct City {
    pub running: Running,
    pub control: Control,
    pub clock: Arc<ManualClock>,
    pub server: Server,
    pub http: reqwest::Client,
}

impl City {
    pub async fn new() -> Self {
        Self::build(Mistake::Nothing, |_| {}).await
    }

    pub async fn build(mistake: Mistake, change: impl FnOnce(&mut SandboxSettings)) -> Self {
        let (server, addr) = Server::listen(mistake).await;
        let mut component = SandboxComponent::new(
            APP_ID,
            SECRET.into(),
            TOKEN.into(),
            AES_KEY.into(),
            [
                &format!("http://{addr}/events"),
                &format!("http://{addr}/wx/$APPID$/callback"),
            ],
        );
        component.rules.ticket_interval_seconds = 0;
        let mut settings = SandboxSettings::new(Vec::new());
        settings.components = vec![component];
        settings.limits = SandboxLimits {
            callback_spacing_ms: 0,
            ..SandboxLimits::default()
        };
        change(&mut settings);
        let clock = Arc::new(ManualClock::at(START));
        let running = Sandbox::start(settings, clock.clone()).await.unwrap();
        server.call_platform_at(running.addr);
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none());
        Self {
            control: running.control(),
            running,
            clock,
            server,
            http: http.build().unwrap(),
        }
    }

    pub fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.addr)
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let request = self.http.post(self.url(path)).body(body.to_string());
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    /// One of the component's calls, with its app id and token.
    pub async fn call(&self, name: &str, token: &str, mut body: Value) -> Value {
        body["component_appid"] = APP_ID.into();
        let path = format!("/cgi-bin/component/{name}?component_access_token={token}");
        self.post(&path, body).await
    }

    pub async fn component_token(&self, ticket: &str) -> Value {
        let body = json!({"component_appsecret": SECRET, "component_verify_ticket": ticket});
        self.call("api_component_token", "", body).await
    }

    /// A component token for a fresh ticket.
    pub async fn token(&self) -> String {
        self.control.push_ticket(APP_ID).await.unwrap();
        let ticket = self.server.tickets().last().unwrap().clone();
        let answer = self.component_token(&ticket).await;
        answer["component_access_token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// An account that authorized the component with these sets, and the code it brought.
    pub async fn authorizer(&self, sets: &[u32]) -> (String, String) {
        let new = NewAccounts::default();
        let added = self.control.add_accounts(APP_ID, &new).await.unwrap();
        let app_id = added.app_ids[0].to_string();
        let authorized = self.control.authorize(APP_ID, &app_id, sets).await.unwrap();
        (app_id, authorized.code.to_string())
    }

    /// Access token and refresh token that a code brings.
    pub async fn exchange(&self, token: &str, code: &str) -> (String, String) {
        let answer = self
            .call("api_query_auth", token, json!({"authorization_code": code}))
            .await;
        let info = &answer["authorization_info"];
        let part = |name: &str| info[name].as_str().unwrap_or_default().to_owned();
        assert!(!part("authorizer_access_token").is_empty(), "{answer}");
        (
            part("authorizer_access_token"),
            part("authorizer_refresh_token"),
        )
    }

    pub async fn refresh(&self, token: &str, account: &str, refresh_token: &str) -> Value {
        let body = json!({
            "authorizer_appid": account,
            "authorizer_refresh_token": refresh_token,
        });
        self.call("api_authorizer_token", token, body).await
    }

    /// The code that custom/send answers.
    pub async fn send(&self, token: &str, openid: &str) -> i64 {
        let path = format!("/cgi-bin/message/custom/send?access_token={token}");
        let body = json!({"touser": openid, "msgtype": "text", "text": {"content": "你好"}});
        self.post(&path, body).await["errcode"].as_i64().unwrap()
    }
}
