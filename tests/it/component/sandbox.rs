//! The server and the sandbox's component side together: two readings of the same documents.

use dripwheel::sandbox::{
    Action, Carrier, ConformanceOptions, Control, NewAccounts, NewFollowers, Running, Sandbox,
    SandboxComponent, SandboxSettings,
};

use super::*;
use crate::pair::free_address;

struct Both {
    app: App,
    platform: Running,
    clock: Arc<ManualClock>,
    _folder: TempDir,
    _database: Fresh,
}

impl Both {
    async fn start() -> Self {
        let (folder, database) = (tempfile::tempdir().unwrap(), Fresh::new());
        std::fs::write(folder.path().join("welcome.yaml"), SEQUENCE).unwrap();
        let server = free_address();
        let url = |path: &str| format!("http://{server}/component/pro/{path}");
        let mut component = SandboxComponent::new(
            COMPONENT,
            APP_SECRET.into(),
            TOKEN.into(),
            KEY.into(),
            [&url("events"), &url("callback/$APPID$")],
        );
        component.rules.ticket_interval_seconds = 0;
        component.rules.refresh_token_rotates = true;
        let mut settings = SandboxSettings::new(Vec::new());
        settings.components = vec![component];
        let clock = Arc::new(ManualClock::at(NOW));
        let platform = Sandbox::start(settings, Arc::clone(&clock) as _).await;
        let platform = platform.unwrap();
        let text = format!(
            "server: {{ listen: {server}, public_url: 'http://{server}' }}
database: {{ url: '{database}' }}
sequences: {{ dir: '{folder}' }}
components:
  - {{ key: pro, app_id: {COMPONENT}, app_secret: {APP_SECRET}, token: {TOKEN},
      encoding_aes_key: {KEY}, profile: wechat-48h, passive_reply: false,
      api_base: 'http://{0}', login_base: 'http://{0}', mobile_login_base: 'http://{0}' }}
",
            platform.addr,
            database = database.url,
            folder = folder.path().display(),
        );
        let config = Config::from_text(&text, "both", &|_| None);
        let config = config.unwrap_or_else(|found| panic!("{}", render_all(&found, false)));
        let app = App::start(&config, Arc::clone(&clock) as _, None).await;
        Self {
            app: app.unwrap(),
            platform,
            clock,
            _folder: folder,
            _database: database,
        }
    }

    fn control(&self) -> Control {
        self.platform.control()
    }

    /// Texts that followers of an account got by the API.
    fn texts(&self, app_id: &str) -> Vec<String> {
        let sent = self.control().sent(Some(app_id), None, 0, 10_000);
        let received = sent
            .into_iter()
            .filter(|one| one.sent.received && one.sent.carrier != Carrier::PassiveReply);
        received
            .map(|one| {
                let body: serde_json::Value = serde_json::from_str(&one.body.unwrap()).unwrap();
                body["text"]["content"].as_str().unwrap_or_default().into()
            })
            .collect()
    }

    async fn stop(self) {
        self.app.stop().await;
        self.platform.stop().await;
    }
}

#[tokio::test]
async fn the_platforms_check_passes_in_every_group_and_passes_again() {
    let both = Both::start().await;
    let options = ConformanceOptions {
        send_within: Duration::from_secs(30),
        ..ConformanceOptions::default()
    };
    for _ in 0..2 {
        let control = both.control();
        let report = control.conformance(COMPONENT, &options, |_| {});
        let report = report.await.unwrap();
        let failed: Vec<_> = report.verdicts.iter().filter(|one| !one.passed).collect();
        assert!(report.passed, "{failed:#?}");
        assert_eq!(report.verdicts.len(), 5 * 11);
    }
    let accounts = accounts::standings(both.app.store().read()).await.unwrap();
    assert_eq!(accounts, []);
    both.stop().await;
}

#[tokio::test]
async fn accounts_come_are_served_through_a_storm_and_go() {
    let both = Both::start().await;
    both.control().push_ticket(COMPONENT).await.unwrap();
    let new = NewAccounts {
        count: Some(3),
        sets: Some(vec![1, 2, 7, 11]),
        ..NewAccounts::default()
    };
    let added = both.control().add_accounts(COMPONENT, &new).await.unwrap();
    assert_eq!(added.accepted, 3);
    let directory = both.app.store().knowledge().authorizers();
    for app_id in &added.app_ids {
        eventually("it is known", async || directory.get(app_id).is_some()).await;
        let new = NewFollowers {
            account: app_id.to_string(),
            ..NewFollowers::default()
        };
        let follower = both.control().add_followers(&new).unwrap();
        let follow = Action::Follow { scene: None };
        let openid = &follower.openids[0];
        let pushed = both.control().act(app_id, openid, follow).await.unwrap();
        assert!(pushed.accepted, "{pushed:?}");
        eventually("it is greeted", async || both.texts(app_id) == ["hello"]).await;
    }
    let [gone, staying @ ..] = &added.app_ids[..] else {
        panic!("there are three");
    };
    let taken_back = both.control().unauthorize(COMPONENT, gone).await.unwrap();
    assert!(taken_back.accepted);
    let storm = both.control().expire_authorizer_tokens(COMPONENT, 42001);
    assert!(storm.unwrap() > 0);
    both.clock.advance(Duration::from_secs(3600));
    for app_id in staying {
        eventually("it goes on", async || {
            both.texts(app_id) == ["hello", "later"]
        })
        .await;
    }
    assert_eq!(both.texts(gone), ["hello"]);
    both.stop().await;
}
