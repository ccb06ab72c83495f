//! Broadcasts as an operator uses them: a server that runs, crashes and comes back, and the sandbox as
//! its platform, over sockets. What counts is what is on the phones and what the API says.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod beside;
mod command;
mod faults;
mod killed;
mod repeated;
mod told;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dripwheel::app::App;
use dripwheel::clock::{Clock, ManualClock, Timestamp};
use dripwheel::config::Config;
use dripwheel::sandbox::{
    AccountRules, Action, Carrier, Control, Format, Mode, NewFollowers, Profile, Running, Sandbox,
    SandboxAccount, SandboxSettings,
};
use dripwheel::sender::wechat::http_client;
use dripwheel::store::{Store, audit};
use dripwheel::yaml::render_all;
use futures_util::stream::{self, StreamExt};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::pair::{AES_KEY, APP_SECRET, TOKEN, app_id, eventually, free_address};
use crate::support::database::{self, Fresh};

pub use crate::pair::START;

pub const API_KEY: &str = "broadcast-key-0123456789abcdef";

/// Follows that are on their way at the same time.
const FOLLOWS_AT_ONCE: usize = 40;

/// One run of the server, in a runtime of its own, so that a crash takes every task with it.
struct Life {
    app: App,
    runtime: Runtime,
}

/// A server and its platform.
pub struct Stage {
    pub clock: Arc<ManualClock>,
    pub platform: Running,
    pub addr: SocketAddr,
    pub folder: TempDir,
    client: Client,
    text: String,
    life: Option<Life>,
    _database: Fresh,
}

impl Stage {
    /// A server for the account `main`, whose limits are in nobody's way.
    pub async fn new() -> Self {
        let rate = "rate: { per_second: 5000, per_minute: 200000, per_day: 1000000 }";
        Self::with(&[], &["main"], rate).await
    }

    /// With these sequences, accounts and settings of all accounts.
    pub async fn with(sequences: &[&str], accounts: &[&str], defaults: &str) -> Self {
        let clock = Arc::new(ManualClock::at(START));
        let (folder, database) = (tempfile::tempdir().unwrap(), Fresh::new());
        for (index, sequence) in sequences.iter().enumerate() {
            std::fs::write(folder.path().join(format!("{index}.yaml")), sequence).unwrap();
        }
        let addr = free_address();
        let platform = platform(accounts, addr, &clock).await;
        let mut text = format!(
            "server: {{ listen: '{addr}', api_keys: [{{ name: test, secret: {API_KEY},
               scopes: [read, write] }}] }}
database: {{ url: '{database}' }}
sequences: {{ dir: '{folder}' }}
account_defaults: {{ api_base: 'http://{base}', passive_reply: false,
  erase_on_unfollow: false, {defaults} }}
accounts:
",
            database = database.url,
            folder = folder.path().display(),
            base = platform.addr,
        );
        for (index, key) in accounts.iter().enumerate() {
            text.push_str(&format!(
                "  - {{ key: {key}, app_id: {}, app_secret: {APP_SECRET}, token: {TOKEN},
      encoding_aes_key: {AES_KEY} }}\n",
                app_id(index)
            ));
        }
        let mut stage = Self {
            clock,
            platform,
            addr,
            folder,
            client: http_client(Duration::from_secs(10)).unwrap(),
            text,
            life: None,
            _database: database,
        };
        stage.start().await;
        stage
    }

    pub async fn start(&mut self) {
        let config = Config::from_text(&self.text, "broadcast", &|_| None);
        let config = config.unwrap_or_else(|all| panic!("{}", render_all(&all, false)));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let clock = Arc::clone(&self.clock);
        let started = runtime.spawn(async move { App::start(&config, clock, None).await });
        let app = started.await.unwrap().unwrap();
        self.life = Some(Life { app, runtime });
    }

    /// Ends the server at once, whatever it is doing.
    pub async fn crash(&mut self) {
        let Life { app, runtime } = self.life.take().unwrap();
        let store = Arc::downgrade(app.store());
        drop(app);
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(10)))
            .await
            .unwrap();
        eventually("the crashed server let its database go", async || {
            store.strong_count() == 0
        })
        .await;
    }

    async fn stop(&mut self) {
        let Life { app, runtime } = self.life.take().unwrap();
        runtime.spawn(app.stop()).await.unwrap();
        tokio::task::spawn_blocking(move || drop(runtime))
            .await
            .unwrap();
    }

    /// The end of every test: the rows must prove themselves.
    pub async fn end(mut self) {
        let catalog = self.store().knowledge().catalog();
        let audit = audit::audit(self.store().read(), &catalog).await.unwrap();
        assert!(audit.is_clean(), "{audit:#?}");
        self.stop().await;
    }

    pub fn store(&self) -> &Arc<Store> {
        self.life.as_ref().unwrap().app.store()
    }

    pub fn control(&self) -> Control {
        self.platform.control()
    }

    /// Lets time pass.
    pub fn pass(&self, span: Duration) {
        self.clock.advance(span);
    }

    /// The one number that a query gives.
    pub async fn number(&self, sql: &str) -> i64 {
        database::number(self.store().read(), sql).await
    }

    /// So many new people who read `language` follow the `index`th account; their openids.
    pub async fn follow(&self, index: usize, language: &str, count: usize) -> Vec<String> {
        let added = self.control().add_followers(&NewFollowers {
            account: app_id(index),
            language: Some(language.to_owned()),
            count: Some(count),
            ..NewFollowers::default()
        });
        let openids: Vec<_> = added
            .unwrap()
            .openids
            .iter()
            .map(|one| one.to_string())
            .collect();
        let control = self.control();
        stream::iter(openids.clone())
            .for_each_concurrent(FOLLOWS_AT_ONCE, |openid| {
                let control = control.clone();
                async move {
                    let follow = Action::Follow { scene: None };
                    let pushed = control.act(&app_id(index), &openid, follow).await.unwrap();
                    assert!(pushed.accepted, "{pushed:?}");
                }
            })
            .await;
        openids
    }

    pub async fn acts(&self, openid: &str, action: Action) {
        let pushed = self
            .control()
            .act(&app_id(0), openid, action)
            .await
            .unwrap();
        assert!(pushed.accepted, "{pushed:?}");
    }

    /// What is on each phone: texts by openid, in order.
    pub fn phones(&self) -> BTreeMap<String, Vec<String>> {
        let mut phones: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut after = 0;
        loop {
            let calls = self.control().sent(None, None, after, 10_000);
            let Some(last) = calls.last() else {
                return phones;
            };
            after = last.sent.seq;
            for call in &calls {
                if call.sent.received && call.sent.carrier != Carrier::PassiveReply {
                    let body: Value = serde_json::from_str(call.body.as_ref().unwrap()).unwrap();
                    let text = body["text"]["content"].as_str().unwrap_or_default();
                    let phone = phones.entry(call.sent.openid.to_string()).or_default();
                    phone.push(text.to_owned());
                }
            }
        }
    }

    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let url = format!("http://{}/api/v1{path}", self.addr);
        let mut request = self.client.request(method, url).bearer_auth(API_KEY);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    /// Makes a broadcast; its number.
    pub async fn create(&self, body: Value) -> i64 {
        let (status, made) = self.ask(Method::POST, "/broadcasts", Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        made["id"].as_i64().unwrap()
    }

    /// A text to everybody who follows `main`.
    pub async fn create_text(&self, text: &str) -> i64 {
        self.create(json!({ "title": "a text", "accounts": ["main"], "say": { "text": text } }))
            .await
    }

    /// Does something to a broadcast that its state allows.
    pub async fn order(&self, id: i64, order: &str) -> Value {
        let path = format!("/broadcasts/{id}/{order}");
        let (status, body) = self.ask(Method::POST, &path, None).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    pub async fn broadcast(&self, id: i64) -> Value {
        self.get(&format!("/broadcasts/{id}")).await
    }

    /// Waits until a broadcast stands so, checking all the way that progress never goes back.
    pub async fn reaches(&self, id: i64, state: &str) -> Value {
        let mut best = 0;
        eventually(&format!("broadcast {id} is {state}"), async || {
            let now = self.clock.now();
            // Wakes whoever waits for a later instant.
            self.clock.set(now);
            let seen = self.broadcast(id).await;
            let progress = &seen["progress"];
            let ended = ended(progress);
            assert!(
                ended >= best,
                "progress went back from {best} to {progress}"
            );
            best = ended;
            let settled = state != "interrupted" || progress["sending"] == 0;
            seen["state"] == state && settled
        })
        .await;
        self.broadcast(id).await
    }

    /// Openids and reasons of the recipients who stand so.
    pub async fn recipients(&self, id: i64, standing: &str) -> BTreeMap<String, String> {
        let (mut all, mut cursor) = (BTreeMap::new(), String::new());
        loop {
            let path = format!("/broadcasts/{id}/recipients?standing={standing}&limit=100{cursor}");
            let page = self.get(&path).await;
            for one in page["items"].as_array().unwrap() {
                let openid = one["openid"].as_str().unwrap().to_owned();
                let reason = one["reason"].as_str().unwrap_or_default().to_owned();
                let twice = all.insert(openid, reason);
                assert_eq!(twice, None, "{one} is listed twice");
            }
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }
}

/// Recipients with whom all is over.
pub fn ended(progress: &Value) -> i64 {
    let counts = ["sent", "failed", "skipped", "unknown"];
    counts
        .iter()
        .map(|name| progress[name].as_i64().unwrap())
        .sum()
}

async fn platform(keys: &[&str], server: SocketAddr, clock: &Arc<ManualClock>) -> Running {
    let account = |(index, key): (usize, &&str)| SandboxAccount {
        app_id: app_id(index),
        app_secret: APP_SECRET.into(),
        token: TOKEN.into(),
        encoding_aes_key: AES_KEY.into(),
        mode: Mode::Safe,
        format: Format::Xml,
        original_id: format!("gh_{index:012}"),
        callback_url: format!("http://{server}/callback/{key}"),
        profile: Profile::Wechat48h,
        name: (*key).to_owned(),
        menu: Vec::new(),
        rules: AccountRules::default(),
    };
    let accounts = keys.iter().enumerate().map(account);
    let mut settings = SandboxSettings::new(accounts.collect());
    settings.limits.callback_spacing_ms = 50;
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    Sandbox::start(settings, clock).await.unwrap()
}

/// The same instant, for waits that only the machine's time ends.
pub fn again(clock: &ManualClock) {
    let now: Timestamp = clock.now();
    clock.set(now);
}
