//! A world of its own for a test: a real store in a fresh database, a clock that the test moves,
//! and the program's doors on a real socket.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use dripwheel::alert::{AlertSettings, Alerts};
use dripwheel::api::keys::Keyring;
use dripwheel::api::ops::{self, OpsState};
use dripwheel::api::{self, ApiState, SecurityHeaders};
use dripwheel::app::ByApiKeys;
use dripwheel::clock::{Clock, ManualClock, Timestamp};
use dripwheel::config::{ApiKey, Scope};
use dripwheel::console::{self, Access, ConsoleState};
use dripwheel::journey;
use dripwheel::journey::answer::{Answer, AnswerClass};
use dripwheel::journey::event::{Arrival, Event};
use dripwheel::journey::ids::{AccountId, EnrollmentId};
use dripwheel::policy::account::Account;
use dripwheel::policy::limiter::Rate;
use dripwheel::policy::profile;
use dripwheel::sender::quota::Quotas;
use dripwheel::sender::shelf::StoreShelf;
use dripwheel::sender::wechat::{Clients, WechatClient, WechatSettings, http_client};
use dripwheel::sign::SigningKey;
use dripwheel::store::accounts::{self, NewAccount};
use dripwheel::store::timers::{self, TimerKey};
use dripwheel::store::versions::{self, NewVersion};
use dripwheel::store::work::{Armed, Intended};
use dripwheel::store::{Store, StoreSettings, components, deliveries};
use jiff::tz::TimeZone;
use metrics_exporter_prometheus::PrometheusBuilder;
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::{EndpointExt, Route, Server};
use reqwest::{Client, RequestBuilder};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::database::Fresh;
use crate::wechat_client::platform::{Say, ScriptedPlatform};

pub const READ_KEY: &str = "read-key-0123456789abcdef";
pub const WRITE_KEY: &str = "write-key-0123456789abcdef";

/// A Friday noon in Shanghai.
pub const START: Timestamp = Timestamp(1_795_147_200_000);

const WELCOME: &str = r#"
sequence: welcome
title: 新粉欢迎
trigger: { follow: {} }
reenter: never
closed: hold
steps:
  - id: hello
    after: 0s
    say: { text: "欢迎关注！" }
  - id: guide
    after: 10m
    say: { text: "使用指南" }
  - id: offer
    after: 23h
    say: { text: "限时礼包 <b>" }
"#;

const AGAIN: &str = r#"
sequence: again
title: Again
trigger: { api: {} }
reenter: always
steps:
  - id: once
    after: 1h
    say: { text: "again" }
"#;

pub struct World {
    pub store: Arc<Store>,
    pub clock: Arc<ManualClock>,
    pub account: AccountId,
    pub base: String,
    pub database: Fresh,
    pub client: Client,
    /// What `main` sends to.
    pub platform: ScriptedPlatform,
    /// What the platform answers to a wish to clear quotas.
    pub clear_code: Arc<AtomicI64>,
    server: JoinHandle<()>,
    _armed: mpsc::Receiver<Armed>,
}

impl World {
    /// A world whose console asks for a key.
    pub async fn new() -> Self {
        Self::with(false).await
    }

    /// A world whose console is open.
    pub async fn open() -> Self {
        Self::with(true).await
    }

    async fn with(open: bool) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            rustls::crypto::ring::default_provider()
                .install_default()
                .ok();
        });
        let database = Fresh::new();
        let clock = Arc::new(ManualClock::at(START));
        let settings = StoreSettings::at(database.url.clone(), Duration::from_secs(2));
        let shared: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
        let (store, armed) = Store::open(&settings, Arc::clone(&shared))
            .await
            .expect("open the store");
        let known = ["main", "other"].map(new_account).to_vec();
        accounts::configure(&store, known)
            .await
            .expect("configure accounts");
        let component = ("pro".to_owned(), "wx00000000000000c0".to_owned());
        components::configure(&store, vec![component])
            .await
            .expect("configure a component");
        let sequences = [("welcome", WELCOME), ("again", AGAIN)].map(new_version);
        versions::publish(&store, sequences.to_vec(), START)
            .await
            .expect("publish sequences");
        let account = store.knowledge().account_named("main");
        let account = account.expect("is configured").journey.id;

        let keys = [
            (READ_KEY, "reader", vec![Scope::Read]),
            (WRITE_KEY, "writer", vec![Scope::Read, Scope::Write]),
        ];
        let keys = keys.map(|(secret, name, scopes)| ApiKey {
            name: name.to_owned(),
            secret: secret.into(),
            scopes,
        });
        let ring = Arc::new(Keyring::new(&keys));
        let access = if open {
            Access::Open
        } else {
            let ring = Arc::clone(&ring);
            Access::Keys(Arc::new(ByApiKeys(ring)))
        };
        let clear_code = Arc::new(AtomicI64::new(0));
        let (platform, quotas, alerts) = outside(&store, &shared, account, &clear_code).await;
        let api = ApiState::new(Arc::clone(&store), Arc::clone(&shared), ring)
            .with_quotas(Arc::clone(&quotas))
            .with_alerts(Some(alerts));
        let stop = CancellationToken::new();
        let console =
            ConsoleState::new(Arc::clone(&store), shared, access, false, stop).with_quotas(quotas);
        let handle = PrometheusBuilder::new().build_recorder().handle();
        let health = OpsState::new(Arc::clone(&store), handle, Vec::new());
        let route = Route::new()
            .nest("/api/v1", api::routes(Arc::new(api)))
            .at("/docs", poem::get(api::docs()))
            .nest("/", console::routes(Arc::new(console)));
        let app = ops::mount(route, Arc::new(health)).with(SecurityHeaders { tls: false });
        let acceptor = TcpListener::bind("127.0.0.1:0")
            .into_acceptor()
            .await
            .expect("listen");
        let addr = acceptor.local_addr()[0].clone();
        let addr = addr.as_socket_addr().copied().expect("is a TCP address");
        let server = tokio::spawn(async move {
            Server::new_with_acceptor(acceptor).run(app).await.ok();
        });
        Self {
            store,
            clock,
            account,
            database,
            base: format!("http://{addr}"),
            client: Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .expect("make a client"),
            platform,
            clear_code,
            server,
            _armed: armed,
        }
    }

    /// Something a follower of `main` does, now.
    pub async fn event(&self, openid: &str, event: Event) {
        let now = self.clock.now();
        let digest = now.0 ^ i64::try_from(event.word().len()).expect("is short");
        let arrival = Arrival {
            openid: openid.to_owned(),
            created_at: now,
            digest,
            event,
            language: None,
        };
        let taken = self.store.writer().receive(self.account, arrival).await;
        assert!(taken.expect("is taken in").fresh);
    }

    pub async fn follow(&self, openid: &str) {
        self.event(openid, Event::Followed { scene: None }).await;
    }

    pub async fn write(&self, openid: &str, text: &str) {
        let event = Event::MessageReceived {
            message_kind: "text".into(),
            text: text.into(),
        };
        self.event(openid, event).await;
    }

    /// Lets time pass, then sends everything that is due; the platform answers each with `answer`.
    pub async fn pass(&self, span: Duration, answer: Answer) -> usize {
        self.clock.advance(span);
        let now = self.clock.now();
        let until = Timestamp(now.0 + 1);
        let ours = self.store.leases().holding().shards();
        let due = timers::page(self.store.read(), &ours, TimerKey::FIRST, until, 1000)
            .await
            .expect("read timers");
        self.store.writer().promote(due).await.expect("promote");
        let first = (Timestamp(i64::MIN), EnrollmentId(i64::MIN));
        let keys = deliveries::page(self.store.read(), self.account, first, 1000)
            .await
            .expect("read deliveries");
        let intended = self.store.writer().intend(keys).await.expect("intend");
        let mut sent = 0;
        for one in intended {
            if let Intended::Send(send) = one {
                sent += 1;
                let settled = self.store.writer().settle(send.key, answer.clone()).await;
                settled.expect("settle");
            }
        }
        sent
    }

    /// A request to the API as the holder of `key`.
    pub fn api(&self, method: reqwest::Method, path: &str, key: &str) -> RequestBuilder {
        let url = format!("{}/api/v1{path}", self.base);
        self.client.request(method, url).bearer_auth(key)
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub fn accepted() -> Answer {
    Answer::without_code(AnswerClass::Accepted, "")
}

pub fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The platform of an account, what is known of its quotas, and who is told of what needs one.
async fn outside(
    store: &Arc<Store>,
    clock: &Arc<dyn Clock>,
    account: AccountId,
    clear_code: &Arc<AtomicI64>,
) -> (ScriptedPlatform, Arc<Quotas>, Arc<Alerts>) {
    let code = Arc::clone(clear_code);
    let platform = ScriptedPlatform::start(move |asked| match asked.path.as_str() {
        "/cgi-bin/stable_token" => Say::json(r#"{"access_token":"t","expires_in":7200}"#),
        "/cgi-bin/clear_quota" => Say::errcode(code.load(Ordering::SeqCst)),
        _ => Say::errcode(0),
    })
    .await;
    let settings = WechatSettings {
        account,
        app_id: "wx0123456789abcdef".into(),
        app_secret: "secret".into(),
        api_base: platform.base.clone(),
        attempt_timeout: seconds(8),
        connect_timeout: seconds(2),
        allow_private_media: false,
    };
    let http = http_client(seconds(2)).expect("make a client");
    let shelf = Arc::new(StoreShelf(Arc::clone(store)));
    let clients = Arc::new(Clients::default());
    let client = WechatClient::new(settings, shelf, Arc::clone(clock), http);
    clients.put(Arc::new(client));
    let hour = seconds(3600);
    let quotas = Quotas::new(Arc::clone(store), clients, Arc::clone(clock), hour);
    let settings = AlertSettings {
        url: platform.base.clone(),
        key: SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("is a secret"),
        unknown_sends: 1,
    };
    let alerts = Alerts::new(Arc::clone(store), Arc::clone(clock), settings);
    (platform, Arc::new(quotas), Arc::new(alerts))
}

fn new_account(key: &str) -> NewAccount {
    NewAccount {
        account: Account {
            journey: journey::account::Account {
                id: AccountId(0),
                key: key.to_owned(),
                name: format!("{key} 公众号"),
                zone: TimeZone::get("Asia/Shanghai").expect("is bundled"),
            },
            profile: profile::named("wechat-2023").expect("is shipped"),
            rate: Rate {
                per_second: None,
                per_minute: None,
                per_day: None,
            },
            sends: true,
            passive_reply: false,
            erase_on_unfollow: true,
            track_links: false,
            quota_reset: Default::default(),
            in_flight_max: 8,
        },
        platform: "wechat".to_owned(),
        app_id: "wx0123456789abcdef".to_owned(),
    }
}

fn new_version((name, source): (&str, &str)) -> NewVersion {
    NewVersion {
        sequence: name.to_owned(),
        hash: format!("hash-of-{name}"),
        source: source.to_owned(),
        assets: Default::default(),
        files: Vec::new(),
    }
}
