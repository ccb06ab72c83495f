//! Followers held against the platform's list: a server that runs, crashes and comes back, and a
//! platform on real sockets that knows better.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod command;
mod erasure;
mod outage;
mod platform;
mod quotas;
mod tagging;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dripwheel::app::App;
use dripwheel::clock::{Clock, ManualClock, Timestamp};
use dripwheel::config::Config;
use dripwheel::sender::wechat::http_client;
use dripwheel::store::Store;
use dripwheel::yaml::render_all;
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use sha1::{Digest, Sha1};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::pair::eventually;
use crate::support::database::{self, Fresh};
pub use platform::Platform;

/// 2023-11-15 06:13:20 in Beijing; the daily sync has been.
pub const START: Timestamp = Timestamp(1_700_000_000_000);

const TOKEN: &str = "synctoken";
pub const API_KEY: &str = "sync-key-0123456789abcdef";

pub const WELCOME: &str = "
sequence: welcome
trigger: { follow: {} }
steps:
  - { id: hello, after: 0s, say: { text: hello } }
  - { id: guide, after: 1h, say: { text: guide } }
";

pub const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// One run of the server, in a runtime of its own, so that a crash takes every task with it.
struct Life {
    app: App,
    runtime: Runtime,
}

/// A server and its platform.
pub struct Stage {
    pub clock: Arc<ManualClock>,
    pub platform: Platform,
    pub client: Client,
    text: String,
    life: Option<Life>,
    nonces: AtomicU64,
    _folder: TempDir,
    database: Fresh,
}

impl Stage {
    /// A server with these sequences that has run for a minute.
    pub async fn with(sequences: &[&str], reconcile: &str) -> Self {
        Self::of(sequences, reconcile, "").await
    }

    /// The same, with settings of its account.
    pub async fn of(sequences: &[&str], reconcile: &str, account: &str) -> Self {
        let platform = Platform::start().await;
        let (folder, database) = (tempfile::tempdir().unwrap(), Fresh::new());
        for (index, sequence) in sequences.iter().enumerate() {
            std::fs::write(folder.path().join(format!("{index}.yaml")), sequence).unwrap();
        }
        let text = format!(
            "server: {{ listen: '127.0.0.1:0', api_keys: [{{ name: test, secret: {API_KEY},
               scopes: [read, write] }}] }}
database: {{ url: '{database}' }}
sequences: {{ dir: '{folder}' }}
account_defaults: {{ api_base: '{base}', mode: plain, {account} }}
reconcile: {{ page_pause: 0s, refresh_pause: 0s, {reconcile} }}
accounts:
  - {{ key: main, app_id: wx0123456789abcdef, app_secret: 0123456789abcdef0123456789abcdef,
      token: {TOKEN} }}
",
            database = database.url,
            folder = folder.path().display(),
            base = platform.base,
        );
        let mut stage = Self {
            clock: Arc::new(ManualClock::at(START)),
            platform,
            client: http_client(Duration::from_secs(5)).unwrap(),
            text,
            life: None,
            nonces: AtomicU64::new(1),
            _folder: folder,
            database,
        };
        stage.start().await;
        stage.pass(minutes(1)).await;
        stage
    }

    fn config(&self) -> Config {
        let config = Config::from_text(&self.text, "sync", &|_| None);
        config.unwrap_or_else(|all| panic!("{}", render_all(&all, false)))
    }

    /// Changes the configuration for the next start.
    pub fn reconfigure(&mut self, from: &str, to: &str) {
        assert!(self.text.contains(from), "{from}");
        self.text = self.text.replace(from, to);
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.life.as_ref().unwrap().app.addr())
    }

    pub async fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (config, clock) = (self.config(), Arc::clone(&self.clock));
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

    /// Stops the server in order.
    pub async fn stop(&mut self) {
        let Life { app, runtime } = self.life.take().unwrap();
        runtime.spawn(app.stop()).await.unwrap();
        tokio::task::spawn_blocking(move || drop(runtime))
            .await
            .unwrap();
    }

    pub fn store(&self) -> &Arc<Store> {
        self.life.as_ref().unwrap().app.store()
    }

    /// Lets time pass for a server that runs: it notices, and notes that it does.
    pub async fn pass(&self, span: Duration) {
        self.clock.advance(span);
        let now = self.clock.now().0;
        eventually("the server has noted the time", async || {
            self.clock.set(Timestamp(now));
            self.number("SELECT seen_at FROM nodes").await == now
        })
        .await;
    }

    pub fn second(&self) -> i64 {
        self.clock.now().seconds()
    }

    /// A callback with this event, stamped with a second; the server must accept it.
    pub async fn told(&self, openid: &str, event: &str, at: i64) {
        let kind = match event.strip_prefix("text:") {
            Some(text) => format!(
                "<MsgType>text</MsgType><Content>{text}</Content><MsgId>{}</MsgId>",
                at * 7
            ),
            None => format!("<MsgType>event</MsgType><Event>{event}</Event>"),
        };
        let body = format!(
            "<xml><ToUserName>gh_1</ToUserName><FromUserName>{openid}</FromUserName>\
             <CreateTime>{at}</CreateTime>{kind}</xml>"
        );
        let stamp = self.second().to_string();
        let nonce = self.nonces.fetch_add(1, Ordering::Relaxed).to_string();
        let mut parts = [TOKEN, &stamp, &nonce];
        parts.sort_unstable();
        let hash = Sha1::digest(parts.concat());
        let signature: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let url = format!(
            "http://{}/callback/main",
            self.life.as_ref().unwrap().app.addr()
        );
        let query = [
            ("signature", &*signature),
            ("timestamp", &stamp),
            ("nonce", &nonce),
        ];
        let answer = self
            .client
            .post(url)
            .query(&query)
            .body(body)
            .send()
            .await
            .unwrap();
        let status = answer.status();
        assert!(
            status.is_success(),
            "{status}: {}",
            answer.text().await.unwrap()
        );
    }

    /// Somebody follows, and the callback arrives.
    pub async fn follows(&self, openid: &str) {
        self.platform.follows(openid, self.second());
        self.told(openid, "subscribe", self.second()).await;
    }

    pub async fn unfollows(&self, openid: &str) {
        self.platform.leaves(openid);
        self.told(openid, "unsubscribe", self.second()).await;
    }

    pub async fn ask(&self, method: Method, path: &str) -> (StatusCode, Value) {
        let addr = self.life.as_ref().unwrap().app.addr();
        let request = self
            .client
            .request(method, format!("http://{addr}/api/v1{path}"));
        let answer = request.bearer_auth(API_KEY).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    pub async fn sync(&self) -> Value {
        self.get("/accounts/main/sync").await
    }

    /// Asks for a sync and waits for its end.
    pub async fn synced(&self, query: &str) -> Value {
        let path = format!("/accounts/main/sync{query}");
        let (status, body) = self.ask(Method::POST, &path).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        self.completed().await
    }

    pub async fn completed(&self) -> Value {
        eventually("the sync is completed", async || {
            self.sync().await["state"] == "completed"
        })
        .await;
        self.sync().await
    }

    /// The one number that a query gives.
    pub async fn number(&self, sql: &str) -> i64 {
        database::number(self.store().read(), sql).await
    }

    pub async fn enrollments(&self, openid: &str) -> Vec<Value> {
        let timeline = format!("/accounts/main/followers/{openid}/timeline");
        let timeline = self.get(&timeline).await;
        timeline["passages"].as_array().unwrap().clone()
    }

    /// Waits until this text has been sent to somebody, and nothing else.
    pub async fn received(&self, openid: &str, texts: &[&str]) {
        let what = format!("{openid} has {texts:?}");
        eventually(&what, async || self.platform.texts(openid) == texts).await;
    }

    /// Where in the rows a text stands: table and column.
    pub async fn places(&self, text: &str) -> Vec<String> {
        database::places(self.store().read(), text).await
    }

    /// The end of every test: the rows must prove themselves.
    pub async fn end(mut self) {
        let catalog = self.store().knowledge().catalog();
        let audit = dripwheel::store::audit::audit(self.store().read(), &catalog);
        let audit = audit.await.unwrap();
        assert!(audit.is_clean(), "{audit:#?}");
        self.stop().await;
    }
}
