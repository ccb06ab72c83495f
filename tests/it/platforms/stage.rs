//! A server with one account, and the platform that the account is on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dripwheel::app::App;
use dripwheel::clock::{Clock, ManualClock, Timestamp};
use dripwheel::config::Config;
use dripwheel::journey::outcome::Outcome;
use dripwheel::sandbox::{
    AccountRules, Action, Carrier, Control, Fault, FaultKind, Format, Mode, NewFollowers,
    PlatformAct, PlatformSandbox, PlatformSettings, Played, Profile, Running, SEND, Sandbox,
    SandboxAccount, SandboxSettings,
};
use dripwheel::yaml::render_all;
use tempfile::TempDir;

use crate::pair::{AES_KEY, APP_SECRET, START, TOKEN, eventually, free_address};
use crate::support::database::{self, Fresh};

/// The platform that a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Wechat,
    Telegram,
    Line,
    Webhook,
    WecomKf,
}

const APP_ID: &str = "wx0123456789abcdef";
const WECHAT_SEND: &str = "/cgi-bin/message/custom/send";
const BOT_TOKEN: &str = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw";
const SECRET_TOKEN: &str = "a-secret-token-of-ours";
const LINE_SECRET: &str = "8c570fa6dd201bb328f1c1eac23a96d8";
const LINE_TOKEN: &str = "channel-access-token-0123456789";
const CORP_ID: &str = "ww0123456789abcdef";
const OPEN_KFID: &str = "wkAJ2GCAAASSm4_FhToWMFea0xAFfd3Q";
const SIGNING_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

impl Kind {
    /// Whether the platform knows a second call about one message, and does nothing.
    pub fn has_keys(self) -> bool {
        matches!(self, Self::Line | Self::Webhook | Self::WecomKf)
    }

    /// Whether the platform refuses a message for somebody who blocks the account; the others take it.
    pub fn tells_of_blocks(self) -> bool {
        !matches!(self, Self::Line | Self::WecomKf)
    }

    /// What somebody does who is to be sent messages: on WeCom only what they write allows any.
    fn joining(self) -> Vec<PlatformAct> {
        match self {
            Self::WecomKf => vec![PlatformAct::Follow, PlatformAct::Write("hi".into())],
            _ => vec![PlatformAct::Follow],
        }
    }

    /// How long after `START` a message may be sent again that was refused there for the rate.
    pub fn rate_pause(self) -> Duration {
        match self {
            // What the platform asks for.
            Self::Telegram | Self::Webhook => Duration::from_secs(3),
            // It does not say; limits are counted by the minute, and START is 20 s into one.
            Self::Wechat | Self::Line | Self::WecomKf => Duration::from_secs(40),
        }
    }

    /// A refusal for good, as the platform codes it.
    pub fn refusal(self) -> i32 {
        match self {
            Self::Wechat | Self::WecomKf => 45002,
            Self::Telegram | Self::Line => 400,
            Self::Webhook => 422,
        }
    }

    fn played(self) -> Option<Played> {
        Some(match self {
            Self::Wechat => return None,
            Self::Telegram => Played::Telegram {
                bot_token: BOT_TOKEN.into(),
                secret_token: SECRET_TOKEN.into(),
            },
            Self::Line => Played::Line {
                channel_secret: LINE_SECRET.into(),
                channel_access_token: LINE_TOKEN.into(),
            },
            Self::Webhook => Played::Webhook {
                secret: SIGNING_SECRET.into(),
            },
            Self::WecomKf => Played::WecomKf {
                corp_id: CORP_ID.into(),
                corp_secret: APP_SECRET.into(),
                open_kfid: OPEN_KFID.into(),
                token: TOKEN.into(),
                encoding_aes_key: AES_KEY.into(),
            },
        })
    }

    /// The account's part of the configuration.
    fn account(self, platform: &str) -> String {
        match self {
            Self::Wechat => format!(
                "{{ key: main, app_id: {APP_ID}, app_secret: {APP_SECRET}, token: {TOKEN},
                  encoding_aes_key: {AES_KEY}, api_base: '{platform}', passive_reply: false }}"
            ),
            Self::Telegram => format!(
                "{{ key: main, platform: telegram, bot_token: '{BOT_TOKEN}',
                  secret_token: {SECRET_TOKEN}, api_base: '{platform}' }}"
            ),
            Self::Line => format!(
                "{{ key: main, platform: line, channel_id: '1234567890',
                  channel_secret: {LINE_SECRET}, channel_access_token: {LINE_TOKEN},
                  api_base: '{platform}' }}"
            ),
            Self::WecomKf => format!(
                "{{ key: main, platform: wecom-kf, corp_id: {CORP_ID}, corp_secret: {APP_SECRET},
                  open_kfid: {OPEN_KFID}, token: {TOKEN}, encoding_aes_key: {AES_KEY},
                  api_base: '{platform}' }}"
            ),
            Self::Webhook => format!(
                "{{ key: main, platform: webhook, url: '{platform}/in', secret: {SIGNING_SECRET} }}"
            ),
        }
    }
}

/// The platform, played.
enum Platform {
    Wechat(Running),
    Other(PlatformSandbox),
}

pub struct Stage {
    pub kind: Kind,
    pub clock: Arc<ManualClock>,
    app: App,
    platform: Platform,
    /// Takes no part but says that a callback was answered.
    http: reqwest::Client,
    _database: Fresh,
    _folder: TempDir,
}

impl Stage {
    /// A platform of this kind that takes at most so many messages in a second, and a server with this
    /// sequence.
    pub async fn start(kind: Kind, per_second: Option<u32>, sequence: &str) -> Self {
        let clock = Arc::new(ManualClock::at(START));
        let shared: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let server = free_address();
        let callback_url = format!("http://{server}/callback/main");
        let (platform, base) = match kind.played() {
            None => {
                let settings = SandboxSettings::new(vec![wechat(&callback_url)]);
                let running = Sandbox::start(settings, shared).await.unwrap();
                let base = format!("http://{}", running.addr);
                (Platform::Wechat(running), base)
            }
            Some(played) => {
                let mut settings = PlatformSettings::new(played, callback_url);
                settings.per_second = per_second;
                let sandbox = PlatformSandbox::start(settings, shared).await.unwrap();
                let base = format!("http://{}", sandbox.addr);
                (Platform::Other(sandbox), base)
            }
        };
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hello.yaml"), sequence).unwrap();
        let database = Fresh::new();
        let config = config(&database, folder.path(), server, &kind.account(&base));
        let app = App::start(&config, Arc::clone(&clock) as _, None).await;
        let stage = Self {
            kind,
            clock,
            app: app.unwrap(),
            platform,
            http: reqwest::Client::new(),
            _database: database,
            _folder: folder,
        };
        if let (Platform::Wechat(_), Some(1)) = (&stage.platform, per_second) {
            // The sandbox has no such limit: the second call is refused as by one.
            let refusal = FaultKind::Errcode { code: 45011 };
            let mut late = Fault::new(WECHAT_SEND, FaultKind::Delay { ms: 0 }, 1);
            late.accepted = Some(true);
            let faults = vec![late, Fault::new(WECHAT_SEND, refusal, 1)];
            stage.control().add_faults(faults).unwrap();
        }
        stage
    }

    pub async fn stop(self) {
        self.app.stop().await;
        match self.platform {
            Platform::Wechat(running) => running.stop().await,
            Platform::Other(sandbox) => sandbox.stop().await,
        }
    }

    fn control(&self) -> Control {
        match &self.platform {
            Platform::Wechat(running) => running.control(),
            Platform::Other(_) => panic!("is WeChat's"),
        }
    }

    /// Somebody new on the platform, the `number`th.
    pub fn person(&self, number: u32) -> String {
        match self.kind {
            Kind::Wechat => {
                let new = NewFollowers {
                    account: APP_ID.to_owned(),
                    ..NewFollowers::default()
                };
                let added = self.control().add_followers(&new).unwrap();
                added.openids[0].to_string()
            }
            Kind::Telegram => format!("{}", 1_000 + number),
            Kind::Line => format!("U{number:032x}"),
            Kind::Webhook => format!("u-{number}"),
            Kind::WecomKf => format!("wm{number:030}"),
        }
    }

    /// Somebody does something, of which the server must be told.
    pub async fn acts(&self, person: &str, act: PlatformAct) {
        let accepted = match &self.platform {
            Platform::Wechat(_) => {
                let pushed = self.control().act(APP_ID, person, action(act)).await;
                pushed.unwrap().accepted
            }
            Platform::Other(sandbox) => sandbox.act(person, act).await.accepted,
        };
        assert!(accepted);
    }

    /// Somebody begins to follow, and is to be sent messages.
    pub async fn joins(&self, person: &str) {
        for act in self.kind.joining() {
            self.acts(person, act).await;
        }
    }

    /// The same, and the last event is told once more. Answers how many events there were.
    pub async fn joins_twice_told(&self, person: &str) -> i64 {
        let events = i64::try_from(self.kind.joining().len()).unwrap();
        if let Platform::Other(sandbox) = &self.platform {
            self.joins(person).await;
            assert!(sandbox.tell_again().await.unwrap().accepted);
            return events;
        }
        let lost = Fault::new("callback", FaultKind::LoseAnswer, 1);
        self.control().add_faults(vec![lost]).unwrap();
        let action = Action::Follow { scene: None };
        let pushed = self.control().act(APP_ID, person, action).await.unwrap();
        assert_eq!(pushed.attempts.len(), 2);
        events
    }

    /// Somebody stops taking messages; whether the server is told is the platform's affair.
    pub fn blocks_silently(&self, person: &str) {
        match &self.platform {
            Platform::Wechat(_) => {
                let control = self.control();
                control
                    .act_silently(APP_ID, person, Action::Unfollow)
                    .unwrap();
            }
            Platform::Other(sandbox) => sandbox.block(person),
        }
    }

    /// The status that a callback gets which the platform never sent.
    pub async fn forges(&self, person: &str) -> u16 {
        match &self.platform {
            Platform::Wechat(_) => {
                let now = self.clock.now().seconds();
                let query =
                    format!("signature=0&timestamp={now}&nonce=1&encrypt_type=aes&msg_signature=0");
                let body = "<xml><ToUserName>gh_1</ToUserName><Encrypt>AAAA</Encrypt></xml>";
                self.posts(&query, body.to_owned()).await
            }
            Platform::Other(sandbox) => {
                let told = sandbox.forge(person, PlatformAct::Follow).await;
                told.status.unwrap()
            }
        }
    }

    /// The status that any bytes get at the account's callback address.
    pub async fn posts(&self, query: &str, body: String) -> u16 {
        let url = format!("http://{}/callback/main?{query}", self.app.addr());
        let posted = self.http.post(url).body(body).send().await.unwrap();
        posted.status().as_u16()
    }

    /// The next call that brings a message goes wrong.
    pub fn breaks_next(&self, kind: FaultKind) {
        match &self.platform {
            Platform::Wechat(_) => {
                let faults = vec![Fault::new(WECHAT_SEND, kind, 1)];
                self.control().add_faults(faults).unwrap();
            }
            Platform::Other(sandbox) => sandbox.fault(Fault::new(SEND, kind, 1)),
        }
    }

    /// The texts on somebody's phone.
    pub fn texts(&self, person: &str) -> Vec<String> {
        match &self.platform {
            Platform::Wechat(_) => {
                let mut calls = self.control().sent(Some(APP_ID), Some(person), 0, 100);
                calls.retain(|call| {
                    call.sent.received && call.sent.carrier != Carrier::PassiveReply
                });
                let texts = calls.into_iter().map(|call| {
                    let body: serde_json::Value =
                        serde_json::from_str(&call.body.unwrap()).unwrap();
                    body["text"]["content"].as_str().unwrap().to_owned()
                });
                texts.collect()
            }
            Platform::Other(sandbox) => {
                let received = sandbox.received(person).into_iter();
                let texts = received.map(|one| {
                    let text = &one.message["text"];
                    let content = text.as_str().or(text["content"].as_str());
                    content.unwrap().to_owned()
                });
                texts.collect()
            }
        }
    }

    /// How many calls wanted to bring a message.
    pub fn calls(&self) -> usize {
        match &self.platform {
            Platform::Wechat(_) => {
                let mut calls = self.control().sent(Some(APP_ID), None, 0, 100);
                calls.retain(|call| call.sent.carrier != Carrier::PassiveReply);
                calls.len()
            }
            Platform::Other(sandbox) => sandbox.asked().len(),
        }
    }

    /// Waits until somebody has received these texts and no others.
    pub async fn receives(&self, person: &str, texts: &[&str]) {
        let what = format!("{person} received {texts:?}");
        let now = self.clock.now();
        eventually(&what, async || {
            // Wakes whoever waits for a later instant: time that jumps may need a second look.
            self.clock.set(now);
            self.texts(person) == texts
        })
        .await;
        // The next step is planned from the answer on: time must not pass before it.
        self.nothing_in_hand().await;
    }

    /// Sets the clock to `span` after the start.
    pub fn at(&self, span: Duration) {
        self.clock.set(START.plus(span));
    }

    /// Waits until nothing that is due at this instant is left to do.
    pub async fn quiet(&self) {
        let now = self.clock.now();
        let sql = format!(
            "SELECT (SELECT count(*) FROM timers WHERE due_at <= {0})
                + (SELECT count(*) FROM deliveries WHERE state = 1 OR due_at <= {0})",
            now.0
        );
        let what = format!("nothing is due at {now}");
        eventually(&what, async || {
            self.clock.set(Timestamp(now.0));
            self.number(&sql).await == 0
        })
        .await;
    }

    /// Waits until nothing is being sent.
    pub async fn nothing_in_hand(&self) {
        let sql = "SELECT count(*) FROM deliveries WHERE state = 1";
        eventually("nothing is being sent", async || {
            self.number(sql).await == 0
        })
        .await;
    }

    /// Moves time on until every step has ended, and tells how each did.
    pub async fn outcomes(&self) -> Vec<Outcome> {
        let unfinished = "SELECT (SELECT count(*) FROM timers) + (SELECT count(*) FROM deliveries)";
        eventually("every step has ended", async || {
            self.clock.advance(Duration::from_millis(500));
            self.number(unfinished).await == 0
        })
        .await;
        self.told().await
    }

    /// Every outcome so far, in its order, without those that only say that a step waits for a message.
    pub async fn told(&self) -> Vec<Outcome> {
        let sql = "SELECT result FROM outcomes ORDER BY at, step, entry";
        let rows = database::rows(self.app.store().read(), sql, []).await;
        let numbers = rows.iter().map(|row| row.try_get_by_index(0).unwrap());
        let outcomes = numbers.map(|one| Outcome::from_number(one).unwrap());
        outcomes.filter(|one| *one != Outcome::Held).collect()
    }

    pub async fn number(&self, sql: &str) -> i64 {
        database::number(self.app.store().read(), sql).await
    }
}

fn action(act: PlatformAct) -> Action {
    match act {
        PlatformAct::Follow => Action::Follow { scene: None },
        PlatformAct::Unfollow => Action::Unfollow,
        PlatformAct::Write(text) => Action::Text { text },
        PlatformAct::Tap(_) => panic!("is not needed here"),
    }
}

fn wechat(callback_url: &str) -> SandboxAccount {
    SandboxAccount {
        app_id: APP_ID.into(),
        app_secret: APP_SECRET.into(),
        token: TOKEN.into(),
        encoding_aes_key: AES_KEY.into(),
        mode: Mode::Safe,
        format: Format::Xml,
        original_id: "gh_000000000001".into(),
        callback_url: callback_url.to_owned(),
        profile: Profile::Wechat48h,
        name: "main".into(),
        menu: Vec::new(),
        rules: AccountRules::default(),
    }
}

fn config(database: &Fresh, folder: &Path, server: std::net::SocketAddr, account: &str) -> Config {
    let text = format!(
        "server: {{ listen: {server} }}
database: {{ url: '{}' }}
sequences: {{ dir: '{}' }}
sender: {{ attempt_timeout: 1s, connect_timeout: 1s }}
accounts:
  - {account}
",
        database.url,
        folder.display(),
    );
    let config = Config::from_text(&text, "stage", &|_| None);
    config.unwrap_or_else(|problems| panic!("{}\n{text}", render_all(&problems, false)))
}
