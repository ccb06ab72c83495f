//! A server on a PostgreSQL of its own, which tests stop under it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dripwheel::app::App;
use dripwheel::clock::{ManualClock, Timestamp};
use dripwheel::config::Config;
use dripwheel::inbound::signature::sign;
use dripwheel::store::{audit, versions};
use dripwheel::yaml::render_all;
use reqwest::Client;
use sea_orm::{ConnectionTrait, Database};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::cluster::Cluster;
use crate::support::{database, eventually};

pub(super) const NOW: Timestamp = Timestamp(1_700_000_000_000);
pub(super) const TOKEN: &str = "doortoken";
pub(super) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Nothing is due while these tests run: there is no platform to send to.
pub(super) const SEQUENCE: &str = "
sequence: late
trigger: follow
steps: [{ id: hello, after: 1h, say: { text: hello } }]
";

pub(super) const FOLLOW: &str = "<MsgType><![CDATA[event]]></MsgType>\
     <Event><![CDATA[subscribe]]></Event><EventKey><![CDATA[]]></EventKey>";
pub(super) const UNFOLLOW: &str = "<MsgType><![CDATA[event]]></MsgType>\
     <Event><![CDATA[unsubscribe]]></Event>";

/// A message with these words.
pub(super) fn text(words: &str) -> String {
    let id = words.len();
    format!("<MsgType>text</MsgType><Content><![CDATA[{words}]]></Content><MsgId>{id}</MsgId>")
}

/// A callback of somebody to `account`: target and body.
pub(super) fn letter(
    account: &str,
    openid: &str,
    rest: &str,
    seconds: i64,
    nonce: u32,
) -> (String, String) {
    let (seconds, nonce) = (seconds.to_string(), nonce.to_string());
    let signature = sign(&[TOKEN, &seconds, &nonce]);
    let target = format!("{account}?signature={signature}&timestamp={seconds}&nonce={nonce}");
    let body = format!(
        "<xml><ToUserName><![CDATA[gh_1]]></ToUserName>\
         <FromUserName><![CDATA[{openid}]]></FromUserName>\
         <CreateTime>{seconds}</CreateTime>{rest}</xml>"
    );
    (target, body)
}

pub(super) fn accounts() -> String {
    let accounts = [
        ("main", "wx0000000000000001"),
        ("other", "wx0000000000000002"),
    ];
    let accounts = accounts.map(|(key, app_id)| {
        format!(
            "  - {{ key: {key}, app_id: {app_id}, app_secret: {SECRET}, token: {TOKEN},
      mode: plain, erase_on_unfollow: false, api_base: 'http://127.0.0.1:9' }}\n"
        )
    });
    let mut accounts = accounts.concat();
    accounts.push_str(&format!(
        "  - {{ key: bot, platform: telegram, bot_token: '1:{SECRET}', secret_token: {SECRET},
      api_base: 'http://127.0.0.1:9' }}
  - {{ key: friend, platform: line, channel_id: '1', channel_secret: {SECRET},
      channel_access_token: {SECRET}, api_base: 'http://127.0.0.1:9' }}\n"
    ));
    accounts
}

pub(super) fn client() -> Client {
    let provider = rustls::crypto::ring::default_provider();
    // Whichever test is first.
    provider.install_default().ok();
    Client::builder().no_proxy().build().unwrap()
}

pub(super) struct Stage {
    pub(super) cluster: Cluster,
    name: String,
    pub(super) url: String,
    /// Beside `url` in the configuration.
    settings: String,
    folder: TempDir,
    clock: Arc<ManualClock>,
    client: Client,
    app: Option<App>,
    letters: AtomicU32,
}

impl Stage {
    /// A cluster that is on, and nothing else yet.
    pub(super) fn new(settings: &str) -> Self {
        let cluster = Cluster::plan().start();
        let name = cluster.create_database();
        let url = cluster.url(&name);
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sequences")).unwrap();
        std::fs::write(folder.path().join("sequences/late.yaml"), SEQUENCE).unwrap();
        Self {
            cluster,
            name,
            url,
            settings: settings.to_owned(),
            folder,
            clock: Arc::new(ManualClock::at(NOW)),
            client: client(),
            app: None,
            letters: AtomicU32::new(0),
        }
    }

    pub(super) async fn start(&mut self) {
        let folder = self.folder.path().display();
        let (url, settings, accounts) = (&self.url, &self.settings, accounts());
        let text = format!(
            "server: {{ listen: '127.0.0.1:0' }}
database: {{ url: '{url}', spool: '{folder}/spool.db', {settings} }}
sequences: {{ dir: '{folder}/sequences' }}
accounts:\n{accounts}"
        );
        let config = Config::from_text(&text, "stage", &|_| None);
        let config = config.unwrap_or_else(|problems| panic!("{}", render_all(&problems, false)));
        let clock = Arc::clone(&self.clock);
        self.app = Some(App::start(&config, clock, None).await.unwrap());
    }

    pub(super) async fn stop(&mut self) {
        self.app.take().unwrap().stop().await;
    }

    fn app(&self) -> &App {
        self.app.as_ref().unwrap()
    }

    /// The status that a callback is answered with; `success` when it is taken.
    pub(super) async fn post(&self, account: &str, openid: &str, rest: &str) -> u16 {
        let nonce = self.letters.fetch_add(1, Ordering::Relaxed);
        let (target, body) = letter(account, openid, rest, NOW.seconds(), nonce);
        let url = format!("http://{}/callback/{target}", self.app().addr());
        let answer = self.client.post(url).body(body).send().await.unwrap();
        let status = answer.status().as_u16();
        let said = answer.text().await.unwrap();
        assert_eq!(status == 200, said == "success", "{said}");
        status
    }

    /// The status that any callback is answered with.
    pub(super) async fn post_as(&self, account: &str, head: (&str, &str), body: String) -> u16 {
        let url = format!("http://{}/callback/{account}", self.app().addr());
        let posted = self.client.post(url).header(head.0, head.1).body(body);
        posted.send().await.unwrap().status().as_u16()
    }

    pub(super) async fn ready(&self) -> (u16, Value) {
        let url = format!("http://{}/readyz", self.app().addr());
        let answer = self.client.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Waits until the spool is empty and the database takes events again.
    pub(super) async fn handed_over(&self) {
        eventually("the spool is handed over", || async {
            let (status, told) = self.ready().await;
            status == 200 && told["spool"]["events"] == 0 && told["callbacks"] == "stored"
        })
        .await;
    }

    pub(super) async fn number(&self, sql: &str) -> i64 {
        database::number(self.app().store().read(), sql).await
    }

    pub(super) fn words(&self, sql: &str) -> String {
        self.cluster.psql(&self.name, sql)
    }

    /// The rows must prove themselves.
    pub(super) async fn audit(&self) {
        let read = self.app().store().read();
        let catalog = versions::load_catalog(read).await.unwrap();
        let audit = audit::audit(read, &catalog).await.unwrap();
        assert!(audit.is_clean(), "{audit:#?}");
    }

    pub(super) fn spool(&self) -> PathBuf {
        self.folder.path().join("spool.db")
    }

    /// Whether a text stands anywhere in the spool's files, which are its owner's alone.
    pub(super) fn spool_holds(&self, text: &str) -> bool {
        use std::os::unix::fs::PermissionsExt;
        ["spool.db", "spool.db-wal"].iter().any(|name| {
            let path = self.folder.path().join(name);
            let Ok(bytes) = std::fs::read(&path) else {
                return false;
            };
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{name}");
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        })
    }

    /// Changes the spool behind the program's back.
    pub(super) async fn tamper(&self, sql: &str) {
        let url = format!("sqlite://{}", self.spool().display());
        let connection = Database::connect(url).await.unwrap();
        connection.execute_unprepared(sql).await.unwrap();
        connection.close().await.unwrap();
    }
}
