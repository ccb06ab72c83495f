//! A server and a platform that know each other: an `App` and a `Sandbox` in one process and in one
//! time, which stands still until a test moves it.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use dripwheel::app::App;
use dripwheel::clock::{Clock, ManualClock, Timestamp};
use dripwheel::config::Config;
use dripwheel::sandbox::{
    AccountRules, Action, Carrier, Control, Fault, FaultKind, Format, Mode, NewFollowers, Profile,
    Pushed, Running, Sandbox, SandboxAccount, SandboxSettings, SentWithBody,
};
use dripwheel::yaml::render_all;
use sea_orm::QueryResult;
use tempfile::TempDir;

use crate::support::database::{self, Fresh};

/// 2023-11-15 06:13:20 in Beijing, where nobody is in quiet hours or near midnight.
pub const START: Timestamp = Timestamp(1_700_000_000_000);

pub const APP_SECRET: &str = "0123456789abcdef0123456789abcdef";
pub const TOKEN: &str = "pairtoken";
pub const AES_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";

/// What a test wants its pair to be.
pub struct Wishes<'a> {
    /// Each in a file of its own.
    pub sequences: &'a [&'a str],
    /// Keys of accounts.
    pub accounts: Vec<String>,
    /// What the server believes the rules to be.
    pub server_profile: &'a str,
    /// What the rules are.
    pub platform_profile: Profile,
    /// Whether due steps answer callbacks.
    pub passive_reply: bool,
    /// More of the server's configuration.
    pub settings: &'a str,
}

impl Default for Wishes<'_> {
    fn default() -> Self {
        Self {
            sequences: &[],
            accounts: vec!["main".to_owned()],
            server_profile: "wechat-48h",
            platform_profile: Profile::Wechat48h,
            passive_reply: false,
            settings: "",
        }
    }
}

pub struct Pair {
    pub clock: Arc<ManualClock>,
    pub app: App,
    pub platform: Running,
    pub database: Fresh,
    _folder: TempDir,
}

/// The app id of the `index`th account.
pub fn app_id(index: usize) -> String {
    format!("wx{index:016}")
}

impl Pair {
    pub async fn start(wishes: Wishes<'_>) -> Self {
        let clock = Arc::new(ManualClock::at(START));
        let folder = tempfile::tempdir().unwrap();
        let server_addr = free_address();
        let platform = platform(&wishes, server_addr, &clock).await;
        write_sequences(folder.path(), wishes.sequences);
        let database = Fresh::new();
        let at = [server_addr, platform.addr];
        let config = config(&wishes, at, folder.path(), &database);
        let app = App::start(&config, Arc::clone(&clock) as _, None).await;
        Self {
            clock,
            app: app.unwrap(),
            platform,
            database,
            _folder: folder,
        }
    }

    pub fn control(&self) -> Control {
        self.platform.control()
    }

    /// Somebody new, who has not followed yet.
    pub fn person(&self, account: usize) -> Person {
        let new = NewFollowers {
            account: app_id(account),
            ..NewFollowers::default()
        };
        let added = self.control().add_followers(&new).unwrap();
        Person {
            control: self.control(),
            app_id: app_id(account),
            openid: added.openids[0].to_string(),
        }
    }

    /// Sets the clock to `span` after the start.
    pub fn at(&self, span: Duration) {
        let at = START.plus(span);
        assert!(at >= self.clock.now(), "time only goes on");
        self.clock.set(at);
    }

    /// Waits until nothing that is due at this instant is left to do.
    pub async fn quiet(&self) {
        let now = self.clock.now().0;
        let sql = format!(
            "SELECT (SELECT count(*) FROM timers WHERE due_at <= {now})
                + (SELECT count(*) FROM deliveries WHERE state = 1 OR due_at <= {now})"
        );
        let what = format!("nothing is due at {}", self.clock.now());
        eventually(&what, async || {
            // Wakes whoever waits for a later instant: time that jumps may need a second look.
            self.clock.set(Timestamp(now));
            self.number(&sql).await == 0
        })
        .await;
    }

    /// The one number that a query gives.
    pub async fn number(&self, sql: &str) -> i64 {
        database::number(self.app.store().read(), sql).await
    }

    pub async fn rows(&self, sql: &str) -> Vec<QueryResult> {
        database::rows(self.app.store().read(), sql, []).await
    }

    /// Counts the calls of one of the platform's interfaces from now on.
    pub fn count_calls(&self, api: &str) {
        let fault = Fault {
            times: None,
            ..Fault::new(api, FaultKind::Delay { ms: 0 }, 1)
        };
        self.control().add_faults(vec![fault]).unwrap();
    }

    /// How many calls were counted.
    pub fn calls(&self, api: &str) -> u64 {
        let counted = self.control().faults().into_iter();
        let hits = counted.filter(|state| state.fault.api == api);
        hits.map(|state| state.hits).sum()
    }
}

/// One person on the platform.
#[derive(Clone)]
pub struct Person {
    pub openid: String,
    pub app_id: String,
    control: Control,
}

impl Person {
    /// Does something, whatever comes of it.
    pub async fn tries(&self, action: Action) -> Pushed {
        let pushed = self.control.act(&self.app_id, &self.openid, action).await;
        pushed.unwrap()
    }

    /// Does something that the server must accept.
    pub async fn acts(&self, action: Action) {
        let pushed = self.tries(action).await;
        assert!(pushed.accepted, "{pushed:?}");
    }

    pub async fn follows(&self) {
        self.acts(Action::Follow { scene: None }).await;
    }

    pub async fn writes(&self, text: &str) {
        let text = text.to_owned();
        self.acts(Action::Text { text }).await;
    }

    /// Every call about this person that reached the platform.
    pub fn calls(&self) -> Vec<SentWithBody> {
        let (app_id, openid) = (Some(&*self.app_id), Some(&*self.openid));
        let mut calls = self.control.sent(app_id, openid, 0, 10_000);
        // Answers to callbacks are recorded too; they are no calls.
        calls.retain(|call| call.sent.carrier != Carrier::PassiveReply);
        calls
    }

    /// What is on the phone: when it came, and its message as the platform was given it.
    pub fn received(&self) -> Vec<(Timestamp, serde_json::Value)> {
        let received = self.calls().into_iter().filter(|call| call.sent.received);
        received
            .map(|call| {
                let body = serde_json::from_str(&call.body.unwrap()).unwrap();
                (call.sent.at, body)
            })
            .collect()
    }

    /// Texts on the phone.
    pub fn texts(&self) -> Vec<String> {
        let texts = self.received().into_iter().map(|(_, body)| {
            let text = body["text"]["content"].as_str();
            text.unwrap_or_default().to_owned()
        });
        texts.collect()
    }
}

/// Polls until `done`; a minute without is a failure. What is waited for has no other sign.
pub async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..6000 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited for ever until {what}");
}

async fn platform(wishes: &Wishes<'_>, server: SocketAddr, clock: &Arc<ManualClock>) -> Running {
    let account = |(index, key): (usize, &String)| SandboxAccount {
        app_id: app_id(index),
        app_secret: APP_SECRET.into(),
        token: TOKEN.into(),
        encoding_aes_key: AES_KEY.into(),
        mode: Mode::Safe,
        format: Format::Xml,
        original_id: format!("gh_{index:012}"),
        callback_url: format!("http://{server}/callback/{key}"),
        profile: wishes.platform_profile,
        name: key.clone(),
        menu: Vec::new(),
        rules: AccountRules::default(),
    };
    let accounts = wishes.accounts.iter().enumerate().map(account);
    let mut settings = SandboxSettings::new(accounts.collect());
    settings.limits.callback_spacing_ms = 50;
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    Sandbox::start(settings, clock).await.unwrap()
}

/// The sequences, and beside them the files of the shipped ones.
fn write_sequences(folder: &Path, sequences: &[&str]) {
    let assets = folder.join("assets");
    std::fs::create_dir(&assets).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("sequences/assets");
    for name in ["guide.png", "offer.png"] {
        std::fs::copy(shipped.join(name), assets.join(name)).unwrap();
    }
    for (index, sequence) in sequences.iter().enumerate() {
        std::fs::write(folder.join(format!("{index}.yaml")), sequence).unwrap();
    }
}

fn config(
    wishes: &Wishes<'_>,
    [server, platform]: [SocketAddr; 2],
    folder: &Path,
    database: &Fresh,
) -> Config {
    let mut text = format!(
        "server: {{ listen: {server} }}
database: {{ url: '{database}' }}
sequences: {{ dir: '{folder}' }}
account_defaults: {{ api_base: 'http://{platform}', profile: {profile},
  passive_reply: {passive_reply} }}
{settings}
accounts:
",
        database = database.url,
        folder = folder.display(),
        profile = wishes.server_profile,
        passive_reply = wishes.passive_reply,
        settings = wishes.settings,
    );
    for (index, key) in wishes.accounts.iter().enumerate() {
        text.push_str(&format!(
            "  - {{ key: {key}, app_id: {}, app_secret: {APP_SECRET}, token: {TOKEN},
      encoding_aes_key: {AES_KEY} }}\n",
            app_id(index)
        ));
    }
    let config = Config::from_text(&text, "pair", &|_| None);
    config.unwrap_or_else(|problems| panic!("{}\n{text}", render_all(&problems, false)))
}

/// A free address whose port stays free until it is listened on: below the range from which the
/// system takes ports for outgoing connections.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 500).unwrap();
    loop {
        let port = 20_000 + own * 20 + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}
