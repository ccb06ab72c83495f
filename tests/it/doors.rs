//! Two nodes on one database: whatever is asked of one of them, the other knows.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::sync::Arc;
use std::time::Duration;

use dripwheel::app::App;
use dripwheel::clock::{Clock, SystemClock};
use dripwheel::config::Config;
use dripwheel::journey::event::{Arrival, Event};
use dripwheel::yaml::render_all;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::database::{self, Fresh};
use crate::support::eventually;

const API_KEY: &str = "write-key-0123456789abcdef";

/// Accounts, so that each node has some.
const ACCOUNTS: usize = 8;

const SEQUENCE: &str = "
sequence: again
trigger: { api: {} }
reenter: always
steps:
  - { id: once, after: 1h, say: { text: again } }
";

/// Two nodes.
struct Two {
    one: App,
    other: App,
    client: Client,
    database: Fresh,
    folder: TempDir,
}

impl Two {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("again.yaml"), SEQUENCE).unwrap();
        let database = Fresh::on_server();
        let client = Client::builder().no_proxy().redirect(Policy::none());
        // At once: one of them makes the tables.
        let (one, other) = tokio::join!(
            node("one", &folder, &database),
            node("other", &folder, &database)
        );
        Self {
            one,
            other,
            client: client.build().unwrap(),
            database,
            folder,
        }
    }

    async fn stop(self) {
        self.one.stop().await;
        self.other.stop().await;
    }

    async fn get(&self, node: &App, path: &str) -> Value {
        let url = format!("http://{}/api/v1/{path}", node.addr());
        let answer = self.client.get(url).bearer_auth(API_KEY).send().await;
        answer.unwrap().json().await.unwrap()
    }

    async fn post(&self, node: &App, path: &str, key: &str, body: Value) -> (u16, Value) {
        let url = format!("http://{}/api/v1/{path}", node.addr());
        let request = self.client.post(url).bearer_auth(API_KEY).json(&body);
        let answer = request.header("Idempotency-Key", key).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn count(&self, sql: &str) -> i64 {
        database::number(self.one.store().read(), sql).await
    }
}

async fn node(name: &str, folder: &TempDir, database: &Fresh) -> App {
    use std::fmt::Write as _;
    let mut text = format!(
        "server: {{ listen: '127.0.0.1:0',
  api_keys: [{{ name: writer, secret: {API_KEY}, scopes: [read, write] }}] }}
database: {{ url: '{}' }}
node: {{ name: {name}, lease: 6s }}
sender: {{ attempt_timeout: 3s }}
sequences: {{ dir: '{}' }}
accounts:
",
        database.url,
        folder.path().display(),
    );
    for n in 0..ACCOUNTS {
        writeln!(
            text,
            "  - {{ key: a{n}, app_id: wx{n:016}, app_secret: 0123456789abcdef0123456789abcdef, \
             token: nodestoken, mode: plain, api_base: 'http://127.0.0.1:9' }}"
        )
        .unwrap();
    }
    let config = Config::from_text(&text, "nodes", &|_| None);
    let config = config.unwrap_or_else(|problems| panic!("{}", render_all(&problems, false)));
    App::start(&config, Arc::new(SystemClock), None)
        .await
        .unwrap()
}

#[tokio::test]
async fn nodes_share_the_accounts_and_tell_who_has_which() {
    let two = Two::start().await;
    eventually("the shards are shared", async || {
        let nodes = two.get(&two.one, "nodes").await;
        let shards: Vec<_> = nodes.as_array().unwrap().iter().collect();
        let shards: Vec<_> = shards.iter().map(|one| one["shards"].as_u64()).collect();
        shards == [Some(128), Some(128)]
    })
    .await;
    let mut held = 0;
    for n in 0..ACCOUNTS {
        let holder = two.get(&two.one, &format!("nodes?account=a{n}")).await;
        let told_by_other = two.get(&two.other, &format!("nodes?account=a{n}")).await;
        assert_eq!(holder.as_array().unwrap().len(), 1, "{holder}");
        assert_eq!(holder[0]["name"], told_by_other[0]["name"]);
        assert_eq!(holder[0]["standing"], "running");
        held += usize::from(holder[0]["name"] == "one");
    }
    assert!((1..ACCOUNTS).contains(&held), "one node has {held}");
    let Two {
        one,
        other,
        client,
        database,
        folder,
    } = two;
    other.stop().await;
    let two = Two {
        other: node("third", &folder, &database).await,
        one,
        client,
        database,
        folder,
    };
    let nodes = two.get(&two.one, "nodes").await;
    let standings: Vec<_> = nodes.as_array().unwrap().iter().collect();
    let standings: Vec<_> = standings
        .iter()
        .map(|one| one["standing"].as_str())
        .collect();
    assert_eq!(standings, [Some("running"), Some("gone"), Some("running")]);
    two.stop().await;
}

#[tokio::test]
async fn a_request_that_is_sent_again_to_another_node_acts_once() {
    let two = Two::start().await;
    let store = two.one.store();
    let account = store.knowledge().account_named("a0").unwrap().journey.id;
    let arrival = Arrival {
        openid: "ann".to_owned(),
        created_at: SystemClock.now(),
        digest: 1,
        event: Event::Followed { scene: None },
        language: None,
    };
    store.writer().receive(account, arrival).await.unwrap();
    let path = "accounts/a0/followers/ann/enrollments";
    let body = json!({ "sequence": "again" });
    let (first, second) = tokio::join!(
        two.post(&two.one, path, "key-1", body.clone()),
        two.post(&two.other, path, "key-1", body.clone()),
    );
    assert_eq!(first.0, 201, "{first:?}");
    assert_eq!(first, second);
    let again = two.post(&two.other, path, "key-1", body).await;
    assert_eq!(first, again);
    assert_eq!(two.count("SELECT count(*) FROM enrollments").await, 1);

    let nobody = "accounts/a0/followers/bob/enrollments";
    let (status, said) = two
        .post(&two.other, nobody, "key-1", json!({ "sequence": "again" }))
        .await;
    assert_eq!(
        (status, &said["code"]),
        (422, &json!("idempotency_key_reused"))
    );
    let refused = two
        .post(&two.one, nobody, "key-2", json!({ "sequence": "again" }))
        .await;
    assert_eq!(refused.0, 404);
    let again = two
        .post(&two.other, nobody, "key-2", json!({ "sequence": "again" }))
        .await;
    assert_eq!(refused, again);
    two.stop().await;
}

#[tokio::test]
async fn who_signs_in_at_one_node_is_known_to_the_other_until_they_sign_out() {
    let two = Two::start().await;
    let login = two.client.post(format!("http://{}/login", two.one.addr()));
    let form = "application/x-www-form-urlencoded";
    let signed_in = login
        .header("Content-Type", form)
        .body(format!("key={API_KEY}"));
    let signed_in = signed_in.send().await.unwrap();
    assert_eq!(signed_in.status(), StatusCode::SEE_OTHER);
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let page = async |node: &App| {
        let page = two.client.get(format!("http://{}/", node.addr()));
        let page = page.header("Cookie", &cookie).send().await.unwrap();
        (page.status(), page.text().await.unwrap())
    };
    let (status, shown) = page(&two.other).await;
    assert_eq!(status, StatusCode::OK);
    let token = shown.split("name=\"token\" value=\"").nth(1).unwrap();
    let token = token.split('"').next().unwrap();
    let out = two
        .client
        .post(format!("http://{}/logout", two.other.addr()));
    let out = out.header("Cookie", &cookie).header("Content-Type", form);
    let out = out.body(format!("token={token}")).send().await.unwrap();
    assert_eq!(out.headers()["location"], "/login");
    assert_eq!(page(&two.one).await.0, StatusCode::SEE_OTHER);
    two.stop().await;
}

#[tokio::test]
async fn a_pause_by_one_node_holds_on_the_other_that_writes_nothing() {
    let two = Two::start().await;
    let pause = json!({ "reason": "a typo" });
    let (status, said) = two
        .post(&two.one, "accounts/a1/pause", "key-1", pause)
        .await;
    assert_eq!(status, 200, "{said}");
    let knowledge = two.other.store().knowledge();
    let account = knowledge.account_named("a1").unwrap().journey.id;
    eventually("the other node knows", async || {
        knowledge.pause(account).is_some()
    })
    .await;
    two.stop().await;
}

#[tokio::test]
async fn of_two_nodes_of_one_name_the_earlier_one_ends() {
    let mut two = Two::start().await;
    let later = node("one", &two.folder, &two.database).await;
    let store = Arc::clone(two.one.store());
    tokio::spawn(async move {
        // Whatever it writes next is refused.
        tokio::time::sleep(Duration::from_millis(200)).await;
        dripwheel::store::syncs::beat(&store, SystemClock.now())
            .await
            .ok();
    });
    // The writer, and with it whatever waits for it.
    two.one.failed().await;
    let leases = later.store().leases();
    eventually("the later one has shards", async || {
        !leases.holding().held().is_empty()
    })
    .await;
    later.stop().await;
    two.stop().await;
}
