//! A broadcast whose server is killed and interrupted again and again, at random: everybody is reached
//! once, and of whom that is not sure is listed.
//!
//! `DRIPWHEEL_PEOPLE` says how many get it (20,000 unless told otherwise).

use std::collections::HashMap;
use std::env;
use std::time::Duration;

use dripwheel::sandbox::{Burst, BurstAction};
use dripwheel::sender::wechat::http_client;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::database::Fresh;
use crate::server::{AES_KEY, APP_ID, APP_SECRET, Server, TOKEN};
use crate::{Scene, TERM_PATIENCE};

const KEY: &str = "torture-key-0123456789abcdef";

/// Kills, and interruptions beside them.
const ROUNDS: u64 = 20;

/// A sequence that nobody is in, so that only the broadcast is sent.
const IDLE: &str =
    "sequence: idle\ntrigger: api\nsteps: [{ id: a, after: 1h, say: { text: a } }]\n";

struct Api {
    client: Client,
    base: String,
}

impl Api {
    /// Asks until the server is there to answer.
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        for _ in 0..600 {
            let url = format!("{}{path}", self.base);
            let mut request = self.client.request(method.clone(), url).bearer_auth(KEY);
            if let Some(body) = body {
                request = request.json(body);
            }
            if let Ok(answer) = request.send().await {
                let status = answer.status();
                if let Ok(body) = answer.json().await
                    && status != StatusCode::SERVICE_UNAVAILABLE
                {
                    return (status, body);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no answer to {path}");
    }
}

/// How many have ended; fails when it is less than before.
fn grown(seen: &Value, before: &mut i64) -> i64 {
    let progress = &seen["progress"];
    let counts = ["sent", "failed", "skipped", "unknown"];
    let ended = counts
        .iter()
        .map(|name| progress[name].as_i64().unwrap())
        .sum();
    assert!(ended >= *before, "progress went back from {before}: {seen}");
    *before = ended;
    ended
}

fn prepare(
    folder: &std::path::Path,
    addr: std::net::SocketAddr,
    platform: std::net::SocketAddr,
) -> Server {
    let fresh = Fresh::new();
    let config = format!(
        "server: {{ listen: {addr}, api_keys: [{{ name: t, secret: {KEY}, scopes: [read, write] }}] }}
database: {{ url: '{database}' }}
sequences: {{ dir: sequences }}
accounts:
  - key: main
    app_id: {APP_ID}
    app_secret: {APP_SECRET}
    token: {TOKEN}
    encoding_aes_key: {AES_KEY}
    api_base: http://{platform}
    erase_on_unfollow: false
    rate: {{ per_second: 10000, per_minute: 600000, per_day: 100000000 }}
wheel: {{ lead: 300ms, sweep_every: 5s }}
sender: {{ in_flight: 64, attempt_timeout: 4s }}
",
        database = fresh.url
    );
    let server = Server::configured(folder, addr, &config, fresh.url.clone()).keeping(fresh);
    std::fs::write(folder.join("sequences/steps.yaml"), IDLE).unwrap();
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_that_is_killed_and_interrupted_reaches_everybody_once() {
    let people: usize = env::var("DRIPWHEEL_PEOPLE").map_or(20_000, |people| {
        people.parse().expect("DRIPWHEEL_PEOPLE is a number")
    });
    let mut scene = Scene::with(prepare).await;
    scene.server.start();
    scene.server.ready().await;
    let burst = Burst {
        account: APP_ID.to_owned(),
        action: BurstAction::Follow,
        count: people,
        concurrency: 128,
        silent: false,
    };
    let report = scene.platform.control().burst(&burst).await.unwrap();
    assert_eq!(report.accepted, people);
    let api = Api {
        client: http_client(Duration::from_secs(10)).unwrap(),
        base: format!("http://{}/api/v1/broadcasts", scene.server.addr),
    };
    let body = json!({
        "title": "torture", "accounts": ["main"], "on_unknown": "skip", "say": { "text": "once" },
    });
    let (status, made) = api.ask(Method::POST, "", Some(&body)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let id = made["id"].as_i64().unwrap();
    let path = |order: &str| format!("/{id}{order}");
    api.ask(Method::POST, &path("/start"), None).await;
    let (mut ended, mut interruptions, mut midway) = (0, 0, 0);
    for round in 1..=ROUNDS {
        tokio::time::sleep(scene.dice.millis(20, 900)).await;
        let (status, _) = api.ask(Method::POST, &path("/interrupt"), None).await;
        interruptions += u64::from(status == StatusCode::OK);
        tokio::time::sleep(scene.dice.millis(0, 60)).await;
        scene.server.kill().await;
        scene.server.start();
        scene.server.ready().await;
        let (_, seen) = api.ask(Method::GET, &path(""), None).await;
        midway += u64::from(seen["state"] == "interrupted");
        grown(&seen, &mut ended);
        if scene.dice.one_in(2) {
            scene.server.audit().await;
        }
        api.ask(Method::POST, &path("/resume"), None).await;
        println!("round {round} of {ROUNDS}: {ended} have ended");
    }
    for _ in 0..3_000 {
        let (_, seen) = api.ask(Method::GET, &path(""), None).await;
        grown(&seen, &mut ended);
        if seen["state"] == "completed" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (_, seen) = api.ask(Method::GET, &path(""), None).await;
    assert_eq!(
        seen["state"],
        "completed",
        "{seen}\n{}",
        scene.server.log_end()
    );
    assert_eq!(
        seen["progress"]["total"].as_u64(),
        u64::try_from(people).ok()
    );
    assert_eq!(Some(ended), seen["progress"]["total"].as_i64());

    let mut received: HashMap<String, u32> = HashMap::new();
    let record = std::fs::read_to_string(scene.record()).unwrap();
    for line in record.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["received"] == true {
            let openid = line["openid"].as_str().unwrap().to_owned();
            *received.entry(openid).or_default() += 1;
        }
    }
    let (mut unknown, mut cursor) = (0, String::new());
    let mut unsure = HashMap::new();
    loop {
        let query = format!("/recipients?standing=unknown&limit=200{cursor}");
        let (_, page) = api.ask(Method::GET, &path(&query), None).await;
        for one in page["items"].as_array().unwrap() {
            unknown += 1;
            unsure.insert(one["openid"].as_str().unwrap().to_owned(), ());
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let twice = received.values().filter(|times| **times > 1).count();
    let openids = scene.platform.control().openids(APP_ID, people).unwrap();
    let forgotten = openids
        .iter()
        .filter(|one| !received.contains_key(&***one) && !unsure.contains_key(&***one));
    let forgotten = forgotten.count();
    println!("recipients                {people:>8}");
    println!(
        "kills, interruptions      {:>8} {interruptions:>8}",
        scene.server.kills
    );
    println!("in the middle             {midway:>8}");
    println!("reached                   {:>8}", received.len());
    println!("twice                     {twice:>8}");
    println!("forgotten                 {forgotten:>8}");
    println!("unknown, listed           {unknown:>8}");
    assert_eq!((twice, forgotten, openids.len()), (0, 0, people));
    assert!(midway > 0, "it had ended before it was killed");
    scene.server.audit().await;
    assert_eq!(scene.server.complaints(), [""; 0]);
    let ended = scene.server.terminate(TERM_PATIENCE).await;
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    scene.platform.stop().await;
}
