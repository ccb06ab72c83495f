//! An `App` whose platform a test plays itself, from the platform's documents: tokens, sends,
//! uploads, quotas. Time stands still until the test moves it.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dripwheel::app::App;
use dripwheel::clock::{Clock, ManualClock, Timestamp};
use dripwheel::config::Config;
use dripwheel::journey::event::{Arrival, Event};
use dripwheel::journey::ids::AccountId;
use dripwheel::yaml::render_all;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::pair::eventually;
use crate::support::database::Fresh;
use crate::wechat_client::platform::{Asked, Say, ScriptedPlatform};

pub const SEND: &str = "/cgi-bin/message/custom/send";
pub const UPLOAD: &str = "/cgi-bin/media/upload";
pub const QUOTA: &str = "/cgi-bin/openapi/quota/get";
pub const CLEAR: &str = "/cgi-bin/clear_quota";

/// The API's key in these tests.
pub const KEY: &str = "write-key-0123456789abcdef";

/// 2023-11-15 06:13:20 in Beijing.
pub const START: Timestamp = Timestamp(1_700_000_000_000);

/// What the platform says, until it is told to say something else.
#[derive(Debug, Default)]
pub struct Rules {
    /// Codes by path; 0 otherwise.
    pub codes: HashMap<&'static str, i64>,
    /// What is left of 1,000 calls a day, by the path that is asked about.
    pub left: HashMap<&'static str, u64>,
    /// Calls per minute of the customer message.
    pub per_minute: Option<u32>,
    /// Sends whose answer is lost.
    pub lose: bool,
}

pub struct Own {
    pub clock: Arc<ManualClock>,
    pub platform: ScriptedPlatform,
    pub rules: Arc<Mutex<Rules>>,
    pub http: reqwest::Client,
    app: Option<App>,
    config: Config,
    _folder: TempDir,
    _database: Fresh,
}

fn say(rules: &Rules, asked: &Asked) -> Say {
    let path = asked.path.as_str();
    if let Some(code) = rules.codes.get(path) {
        return Say::errcode(*code);
    }
    match path {
        "/cgi-bin/stable_token" => Say::json(r#"{"access_token":"t","expires_in":7200}"#),
        UPLOAD => Say::json(r#"{"type":"image","media_id":"m","created_at":1}"#),
        SEND if rules.lose => Say::Reset,
        QUOTA => {
            let about = asked.json()["cgi_path"].as_str().unwrap().to_owned();
            let left = rules.left.get(about.as_str()).copied().unwrap_or(1_000);
            let quota = json!({ "daily_limit": 1_000, "used": 1_000 - left, "remain": left });
            let mut answer = json!({ "errcode": 0, "errmsg": "ok", "quota": quota });
            if let Some(calls) = rules.per_minute.filter(|_| about == SEND) {
                answer["rate_limit"] = json!({ "call_count": calls, "refresh_second": 60 });
            }
            Say::Json(answer.to_string())
        }
        _ => Say::errcode(0),
    }
}

impl Own {
    /// An app with one account `main` and these sequences; `settings` is more of its configuration.
    pub async fn start(sequences: &[&str], settings: &str) -> Self {
        let rules = Arc::new(Mutex::new(Rules::default()));
        let script = Arc::clone(&rules);
        let platform =
            ScriptedPlatform::start(move |asked| say(&script.lock().unwrap(), asked)).await;
        let folder = tempfile::tempdir().unwrap();
        let assets = folder.path().join("assets");
        std::fs::create_dir(&assets).unwrap();
        let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/sequences/assets/guide.png");
        std::fs::copy(picture, assets.join("guide.png")).unwrap();
        for (index, sequence) in sequences.iter().enumerate() {
            std::fs::write(folder.path().join(format!("{index}.yaml")), sequence).unwrap();
        }
        let (at, database) = (folder.path().display(), Fresh::new());
        let base = platform.base.as_str().trim_end_matches('/');
        let text = format!(
            "server:
  listen: 127.0.0.1:0
  api_keys: [{{ name: ops, secret: {KEY}, scopes: [read, write] }}]
database: {{ url: '{}' }}
sequences: {{ dir: '{at}' }}
account_defaults: {{ api_base: '{base}', mode: plain, passive_reply: false }}
accounts:
  - {{ key: main, app_id: wx0123456789abcdef, app_secret: 0123456789abcdef0123456789abcdef,
      token: owntoken }}
{settings}
",
            database.url
        );
        let config = Config::from_text(&text, "own", &|_| None);
        let config = config.unwrap_or_else(|all| panic!("{}\n{text}", render_all(&all, false)));
        let clock = Arc::new(ManualClock::at(START));
        let app = App::start(&config, Arc::clone(&clock) as _, None).await;
        Self {
            clock,
            platform,
            rules,
            http: reqwest::Client::new(),
            app: Some(app.unwrap()),
            config,
            _folder: folder,
            _database: database,
        }
    }

    pub fn app(&self) -> &App {
        self.app.as_ref().unwrap()
    }

    /// Stops the app and starts it again on the same rows.
    pub async fn restart(&mut self) {
        self.app.take().unwrap().stop().await;
        let app = App::start(&self.config, Arc::clone(&self.clock) as _, None).await;
        self.app = Some(app.unwrap());
    }

    pub async fn stop(mut self) {
        self.app.take().unwrap().stop().await;
    }

    pub fn account(&self) -> AccountId {
        let account = self.app().store().knowledge().account_named("main");
        account.unwrap().journey.id
    }

    /// Changes what the platform says.
    pub fn rule(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.rules.lock().unwrap());
    }

    /// Somebody follows, through a scene that names a sequence.
    pub async fn follow(&self, openid: &str, scene: &str) {
        let now = self.clock.now();
        let arrival = Arrival {
            openid: openid.to_owned(),
            created_at: now,
            digest: now.0,
            event: Event::Followed {
                scene: Some(scene.to_owned()),
            },
            language: None,
        };
        let writer = self.app().store().writer();
        let taken = writer.receive(self.account(), arrival).await.unwrap();
        assert_eq!(taken.enrolled, 1, "{openid} by {scene}");
    }

    /// How often somebody was sent something.
    pub fn sent_to(&self, openid: &str) -> usize {
        let sent = self.platform.asked(SEND).into_iter();
        sent.filter(|asked| asked.json()["touser"] == openid)
            .count()
    }

    /// Moves time on in small steps until `done`: whoever waits for an instant is woken.
    pub async fn pass_until(&self, what: &str, mut done: impl AsyncFnMut() -> bool) {
        eventually(what, async || {
            self.clock.advance(Duration::from_millis(500));
            done().await
        })
        .await;
    }

    pub fn api(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}/api/v1{path}", self.app().addr());
        self.http.request(method, url).bearer_auth(KEY)
    }

    pub async fn health(&self) -> Value {
        let asked = self.api(reqwest::Method::GET, "/accounts/main/health");
        asked.send().await.unwrap().json().await.unwrap()
    }

    /// What is known of an interface.
    pub async fn interface(&self, name: &str) -> Value {
        let health = self.health().await;
        let all = health["interfaces"].as_array().unwrap();
        let found = all.iter().find(|one| one["interface"] == name);
        found.cloned().unwrap_or(Value::Null)
    }
}
