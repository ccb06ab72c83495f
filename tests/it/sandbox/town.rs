//! A sandbox with one account, a clock that a test moves, and a server that takes its callbacks.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dripwheel::clock::{ManualClock, Timestamp};
use dripwheel::sandbox::{
    Action, Carrier, Control, Format, Mode, NewFollowers, Profile, Running, Sandbox,
    SandboxAccount, SandboxLimits, SandboxSettings,
};
use poem::http::StatusCode;
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::{Endpoint, Request, Response};
use serde_json::{Value, json};

pub const APP_ID: &str = "wxb11529c136998cb6";
pub const SECRET: &str = "the-secret-of-the-account";
pub const TOKEN: &str = "pamtest";
pub const AES_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
pub const SEND: &str = "/cgi-bin/message/custom/send";
/// 2023-11-14 22:13:20.500 UTC: half a second past, so that rounding shows.
pub const START: Timestamp = Timestamp(1_700_000_000_500);

/// The account's own server: keeps what it gets and answers from a script.
#[derive(Clone, Default)]
pub struct Server {
    got: Arc<Mutex<Vec<Got>>>,
    script: Arc<Mutex<VecDeque<Answer>>>,
}

#[derive(Clone, Debug)]
pub struct Got {
    pub query: HashMap<String, String>,
    pub body: String,
}

/// What the server says next; `success` when the script is empty.
pub type Answer = Arc<dyn Fn(&Got) -> (StatusCode, String) + Send + Sync>;

impl Server {
    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    pub fn say(&self, status: u16, body: &str) {
        let (status, body) = (StatusCode::from_u16(status).unwrap(), body.to_owned());
        self.answer(move |_| (status, body.clone()));
    }

    pub fn answer(&self, answer: impl Fn(&Got) -> (StatusCode, String) + Send + Sync + 'static) {
        self.script.lock().unwrap().push_back(Arc::new(answer));
    }

    async fn listen(self) -> SocketAddr {
        let acceptor = TcpListener::bind("127.0.0.1:0")
            .into_acceptor()
            .await
            .unwrap();
        let addr = *acceptor.local_addr()[0].as_socket_addr().unwrap();
        tokio::spawn(poem::Server::new_with_acceptor(acceptor).run(self));
        addr
    }
}

impl Endpoint for Server {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let query = request.uri().query().unwrap_or_default();
        let query: HashMap<String, String> = url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        let body = request.take_body().into_string().await?;
        let got = Got { query, body };
        self.got.lock().unwrap().push(got.clone());
        let answer = self.script.lock().unwrap().pop_front();
        let (status, body) = match answer {
            Some(answer) => answer(&got),
            None => (StatusCode::OK, "success".to_owned()),
        };
        Ok(Response::builder().status(status).body(body))
    }
}

pub struct Town {
    pub running: Running,
    pub control: Control,
    pub clock: Arc<ManualClock>,
    pub server: Server,
    pub http: reqwest::Client,
}

pub struct Plan {
    pub mode: Mode,
    pub format: Format,
    pub profile: Profile,
    /// What differs from the usual rules.
    pub rules: Value,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            mode: Mode::Safe,
            format: Format::Xml,
            profile: Profile::Wechat2023,
            rules: json!({}),
        }
    }
}

pub fn account(plan: &Plan, callback: SocketAddr) -> SandboxAccount {
    serde_json::from_value(json!({
        "app_id": APP_ID,
        "app_secret": SECRET,
        "token": TOKEN,
        "encoding_aes_key": AES_KEY,
        "mode": plan.mode,
        "format": plan.format,
        "original_id": "gh_b629c48b653e",
        "callback_url": format!("http://{callback}/callback/main?shop=1"),
        "profile": plan.profile,
        "name": "甜甜圈小店",
        "rules": plan.rules,
    }))
    .unwrap()
}

impl Town {
    pub async fn new() -> Self {
        Self::with(Plan::default()).await
    }

    pub async fn with(plan: Plan) -> Self {
        Self::build(plan, |_| {}).await
    }

    pub async fn build(plan: Plan, change: impl FnOnce(&mut SandboxSettings)) -> Self {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let server = Server::default();
        let callback = server.clone().listen().await;
        let mut settings = SandboxSettings::new(vec![account(&plan, callback)]);
        settings.limits = SandboxLimits {
            callback_spacing_ms: 0,
            result_delay_ms: 20,
            ..SandboxLimits::default()
        };
        change(&mut settings);
        let clock = Arc::new(ManualClock::at(START));
        let running = Sandbox::start(settings, clock.clone()).await.unwrap();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            control: running.control(),
            running,
            clock,
            server,
            http,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.addr)
    }

    pub fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Somebody who does not follow yet.
    pub fn person(&self, openid: &str) {
        self.control
            .add_followers(&NewFollowers {
                account: APP_ID.into(),
                openid: Some(openid.into()),
                ..NewFollowers::default()
            })
            .unwrap();
    }

    pub async fn act(&self, openid: &str, action: Action) -> dripwheel::sandbox::Pushed {
        self.control.act(APP_ID, openid, action).await.unwrap()
    }

    /// Somebody who follows.
    pub async fn follower(&self, openid: &str) {
        self.person(openid);
        self.act(openid, Action::Follow { scene: None }).await;
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Value {
        let answer = self
            .http
            .post(self.url(path))
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    /// A call with a token and a JSON body.
    pub async fn call(&self, token: &str, path: &str, body: Value) -> Value {
        let path = format!("{path}?access_token={token}");
        self.post(&path, body.to_string()).await
    }

    /// The control API.
    pub async fn control_api(&self, operation: &str, body: Value) -> (u16, Value) {
        let url = self.url(&format!("/sandbox/api/{operation}"));
        let answer = self.http.post(url).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// The first push whose readable body has `mark` in it; waits for it, and a minute without is a
    /// failure.
    pub async fn pushed(&self, mark: &str) -> String {
        for _ in 0..6_000 {
            let got = self.server.got();
            if let Some(got) = got.iter().find(|got| got.body.contains(mark)) {
                return got.body.clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no push with {mark}");
    }

    /// What reached a phone and by which carrier, oldest first.
    pub fn received(&self, openid: &str) -> Vec<(Carrier, Value)> {
        let sent = self.control.sent(Some(APP_ID), Some(openid), 0, 10_000);
        let received = sent.into_iter().filter(|one| one.sent.received);
        let body = |body: Option<Arc<str>>| {
            let body = body.unwrap();
            serde_json::from_str(&body).unwrap_or_else(|_| Value::from(&*body))
        };
        received
            .map(|one| (one.sent.carrier, body(one.body)))
            .collect()
    }

    pub async fn get(&self, path: &str) -> Value {
        self.http
            .get(self.url(path))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    pub async fn stable_token(&self, force: bool) -> Value {
        let body = json!({
            "grant_type": "client_credential",
            "appid": APP_ID,
            "secret": SECRET,
            "force_refresh": force,
        });
        self.post("/cgi-bin/stable_token", body.to_string()).await
    }

    pub async fn token(&self) -> String {
        self.stable_token(false).await["access_token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// The code that custom/send answers to a body.
    pub async fn send(&self, token: &str, body: &str) -> i64 {
        let path = format!("{SEND}?access_token={token}");
        self.post(&path, body.to_owned()).await["errcode"]
            .as_i64()
            .unwrap()
    }

    pub async fn text(&self, token: &str, openid: &str) -> i64 {
        self.send(token, &text(openid)).await
    }
}

pub fn text(openid: &str) -> String {
    json!({"touser": openid, "msgtype": "text", "text": {"content": "你好"}}).to_string()
}
