//! What the browser looks at: the whole program and its sandbox on free ports, with the shipped
//! sequences and a clock that the test moves.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use dripwheel::app::App;
use dripwheel::clock::{ManualClock, Timestamp};
use dripwheel::config::Config;
use dripwheel::sandbox::{Action, Running, Sandbox, SandboxSettings};
use dripwheel::yaml::render_all;
use serde_json::json;

use crate::database::Fresh;

pub const APP_ID: &str = "wx0123456789abcdef";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const TOKEN: &str = "browsertoken";
const AES_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
/// A Friday noon in Shanghai, so that no step falls into the night.
const START: Timestamp = Timestamp(1_795_147_200_000);

pub struct Stage {
    pub sandbox: Running,
    app: App,
    clock: Arc<ManualClock>,
    _database: Fresh,
}

impl Stage {
    pub async fn set() -> Self {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let database = Fresh::new();
        let clock = Arc::new(ManualClock::at(START));
        // Each must know the other's address before it starts.
        let phone = free_address();
        let config = config(&database, phone);
        let app = App::start(&config, clock.clone(), None).await.unwrap();
        let sandbox = Sandbox::start(platform(app.addr(), phone), clock.clone());
        Self {
            sandbox: sandbox.await.unwrap(),
            app,
            clock,
            _database: database,
        }
    }

    pub fn phone(&self, rest: &str) -> String {
        format!("http://{}{rest}", self.sandbox.addr)
    }

    pub fn console(&self, rest: &str) -> String {
        format!("http://{}{rest}", self.app.addr())
    }

    pub fn pass(&self, minutes: u64) {
        self.clock.advance(Duration::from_secs(minutes * 60));
    }

    /// Lets a follower act without a browser.
    pub async fn act(&self, openid: &str, action: Action) {
        let pushed = self.sandbox.control().act(APP_ID, openid, action).await;
        assert!(pushed.unwrap().accepted);
    }

    pub async fn strike(self) {
        self.app.stop().await;
        self.sandbox.stop().await;
    }
}

/// A port that nobody listens on now.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

fn config(database: &Fresh, phone: SocketAddr) -> Config {
    let database = json!(database.url);
    let sequences = json!(format!("{}/sequences", env!("CARGO_MANIFEST_DIR")));
    let text = format!(
        "server: {{ listen: 127.0.0.1:0, console: open }}
database: {{ url: {database} }}
sequences: {{ dir: {sequences} }}
accounts:
  - key: demo
    name: 绵绵茶铺
    app_id: {APP_ID}
    app_secret: {SECRET}
    token: {TOKEN}
    encoding_aes_key: {AES_KEY}
    api_base: http://{phone}
    profile: wechat-48h
"
    );
    Config::from_text(&text, "the test's configuration", &|_| None)
        .unwrap_or_else(|problems| panic!("{}", render_all(&problems, false)))
}

fn platform(server: SocketAddr, phone: SocketAddr) -> SandboxSettings {
    let settings = json!({
        "listen": phone,
        "accounts": [{
            "app_id": APP_ID,
            "app_secret": SECRET,
            "token": TOKEN,
            "encoding_aes_key": AES_KEY,
            "original_id": "gh_b629c48b653e",
            "callback_url": format!("http://{server}/callback/demo"),
            "name": "绵绵茶铺",
            "menu": [
                {"label": "今日新茶", "key": "today"},
                {"label": "附近门店", "key": "shops"},
            ],
        }],
    });
    serde_json::from_value(settings).unwrap()
}
