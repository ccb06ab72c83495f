//! What is served as statistics, held against the rows that it is of: over HTTP, after crashes, and
//! with the rows gone.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod nodes;
mod page;
mod raw;

use std::sync::Arc;
use std::time::Duration;

use dripwheel::clock::Clock;
use dripwheel::store::retention::Retention;
use dripwheel::store::statistics;
use reqwest::{StatusCode, header};
use serde_json::Value;

use crate::pair::eventually;
use crate::reconcile::{API_KEY, Stage, minutes};
use raw::Raw;

/// Every end that a step can have: sent, refused, expired, skipped, cancelled.
const WELCOME: &str = r#"
sequence: welcome
trigger: follow
reenter: always
exit_on: [{ message: { text: stop } }]
min_gap: 0s
expire_after: 20m
track_links: true
steps:
  - id: hello
    after: 0s
    say:
      zh_CN: { text: '你好 <a href="https://shop.example/zh" link="buy">买</a>' }
      default: { text: 'hello <a href="https://shop.example/en" link="buy">buy</a> https://shop.example/b' }
  - { id: vip, after: 1m, when: "'vip' in follower.tags", say: { text: vip } }
  - { id: guide, after: 10m, say: { text: "guide https://shop.example/guide" } }
  - { id: offer, after: 23h, closed: hold, say: { text: offer } }
  - { id: late, after: 25h, closed: skip, say: { text: late } }
"#;

const REPLY: &str = r#"
sequence: reply
trigger: { message: { text: "1" } }
reenter: always
min_gap: 0s
steps:
  - { id: one, after: 0s, say: { text: one } }
  - { id: two, after: 2h, say: { text: two } }
"#;

async fn stage() -> Stage {
    let account = "passive_reply: false, erase_on_unfollow: false";
    let mut stage = Stage::of(&[WELCOME, REPLY], "", account).await;
    stage.stop().await;
    stage.reconfigure(
        "server: { listen",
        "server: { public_url: 'https://go.example', listen",
    );
    stage.start().await;
    stage
}

impl Stage {
    async fn statistics(&self, query: &str) -> Vec<Value> {
        let told = self.get(&format!("/statistics{query}")).await;
        told.as_array().unwrap().clone()
    }

    /// Nothing is due any more: what was to be sent has ended. Whoever rests is given the time.
    async fn settled(&self) {
        let mut asked = 0;
        eventually("everything that is due has ended", async || {
            let now = self.clock.now().0;
            let due = format!(
                "SELECT (SELECT count(*) FROM deliveries)
                     + (SELECT count(*) FROM timers WHERE due_at <= {now})"
            );
            asked += 1;
            if asked % 100 == 0 {
                self.clock.advance(Duration::from_secs(5));
            }
            self.number(&due).await == 0
        })
        .await;
    }

    /// Opens every link that somebody received last.
    async fn clicks(&self, openid: &str) {
        let texts = self.platform.texts(openid);
        let text = texts.last().unwrap();
        for token in text.split("https://go.example/c/").skip(1) {
            let token: String = token.chars().take(36).collect();
            let url = format!("{}/c/{token}", self.address());
            let answer = self.client.get(url).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::FOUND);
        }
    }

    /// What is served is what the rows say, taken together or not.
    async fn prove(&self, when: &str) {
        for pass in ["as it came", "taken together"] {
            let raw = Raw::of(self.store()).await;
            let served = Raw::served(self).await;
            assert_eq!(served, raw, "{when}, {pass}");
            eventually("the server's shard is held", async || {
                self.store()
                    .leases()
                    .hold(dripwheel::journey::ids::AccountId(0))
            })
            .await;
            statistics::take_all(self.store()).await.unwrap();
        }
        assert_eq!(
            self.number("SELECT count(*) FROM statistics_fresh").await,
            0
        );
    }
}

#[tokio::test]
async fn what_is_served_is_what_the_rows_say_after_crashes_too() {
    let mut stage = stage().await;
    let people: Vec<_> = (0..12).map(|n| format!("fan-{n}")).collect();
    for (n, openid) in people.iter().enumerate() {
        if n % 4 == 3 {
            // Refused for good, then another time only for now.
            let code = [43004, 40003, 45015][n / 4 % 3];
            let send = "/cgi-bin/message/custom/send";
            stage.platform.world().refusals.push_back((send, code));
        }
        stage.follows(openid).await;
        stage.clock.advance(Duration::from_secs(7));
    }
    stage.settled().await;
    stage.prove("everybody has followed").await;
    for openid in &people[..3] {
        stage.clicks(openid).await;
    }
    stage.clicks(&people[0]).await;
    eventually("the clicks are written", async || {
        stage
            .number("SELECT count(*) FROM clicks WHERE link = 0")
            .await
            == 3
    })
    .await;
    stage.pass(minutes(2)).await;
    stage.unfollows("fan-4").await;
    stage.crash().await;
    stage.start().await;
    stage.pass(minutes(10)).await;
    stage.settled().await;
    stage.prove("a crash between the steps").await;
    // In the middle of whatever it is doing.
    for openid in &people[5..8] {
        stage.clock.advance(Duration::from_secs(3));
        stage.told(openid, "text:1", stage.second()).await;
    }
    stage.crash().await;
    stage.start().await;
    stage.settled().await;
    stage.prove("a crash amid sends").await;
    stage.told("fan-5", "text:stop", stage.second() + 1).await;
    stage.unfollows("fan-6").await;
    stage.pass(minutes(61)).await;
    stage.unfollows("fan-7").await;
    stage.pass(minutes(23 * 60)).await;
    stage.settled().await;
    stage.pass(minutes(3 * 60)).await;
    stage.settled().await;
    stage.prove("a day later").await;

    // Numbers that can be told by heart.
    let by_step = stage.statistics("?sequence=welcome&by=step").await;
    let steps: Vec<_> = by_step
        .iter()
        .map(|line| line["step"].as_str().unwrap())
        .collect();
    assert_eq!(steps, ["hello", "vip", "guide", "offer", "late"]);
    for line in &by_step {
        let ends = [
            "sent",
            "refused",
            "expired",
            "skipped",
            "cancelled",
            "failed",
            "unknown",
        ];
        let ended: i64 = ends.iter().map(|end| line[*end].as_i64().unwrap()).sum();
        assert_eq!(line["planned"], 12, "{line}");
        assert_eq!(ended, 12, "everybody's step has ended: {line}");
    }
    assert_eq!(by_step[0]["clicked"], 3);
    let rate = by_step[0]["click_rate"].as_f64().unwrap();
    assert!((rate - 3.0 / by_step[0]["sent"].as_f64().unwrap()).abs() < 1e-9);
    assert!(
        by_step[1]["skipped"].as_i64().unwrap() >= 9,
        "{}",
        by_step[1]
    );
    let left: i64 = by_step
        .iter()
        .map(|line| line["left_within_hour"].as_i64().unwrap())
        .sum();
    assert_eq!(
        left, 1,
        "fan-4; fan-6 left after a step of another sequence"
    );
    stage.end().await;
}

#[tokio::test]
async fn sums_outlive_the_outcomes_that_they_are_of() {
    let stage = stage().await;
    for openid in ["ann", "bob"] {
        stage.follows(openid).await;
    }
    stage.settled().await;
    stage.clicks("ann").await;
    eventually("the click is written", async || {
        stage.number("SELECT count(*) FROM clicks").await > 0
    })
    .await;
    let before = stage.statistics("?by=step,day").await;
    let links = stage.get("/statistics/links").await;
    stage.pass(minutes(40 * 24 * 60)).await;
    stage.settled().await;
    let clock: Arc<dyn Clock> = Arc::clone(&stage.clock) as Arc<dyn Clock>;
    let week = Duration::from_secs(7 * 86_400);
    eventually("the server's shard is held", async || {
        stage
            .store()
            .leases()
            .hold(dripwheel::journey::ids::AccountId(0))
    })
    .await;
    let retention = Retention::new(Arc::clone(stage.store()), clock, Some(week));
    retention.look().await.unwrap();
    assert_eq!(stage.number("SELECT count(*) FROM clicks").await, 0);
    let first = "SELECT count(*) FROM outcomes WHERE step = 0";
    assert_eq!(stage.number(first).await, 0, "the rows are gone");
    let after = stage.statistics("?by=step,day").await;
    let kept: Vec<_> = after.iter().filter(|line| before.contains(line)).collect();
    assert!(!before.is_empty());
    assert_eq!(kept.len(), before.len(), "{before:#?}\n{after:#?}");
    assert_eq!(stage.get("/statistics/links").await, links);
    stage.end().await;
}

#[tokio::test]
async fn statistics_are_told_apart_as_asked_and_as_a_table() {
    let stage = stage().await;
    for openid in ["ann", "bob"] {
        stage.follows(openid).await;
    }
    stage.settled().await;
    let all = stage.statistics("").await;
    assert_eq!(all.len(), 1, "nobody is in the other sequence: {all:?}");
    assert_eq!(
        (&all[0]["planned"], &all[0]["sent"]),
        (&10.into(), &2.into())
    );
    let languages = stage.statistics("?by=language&sequence=welcome").await;
    let chinese = languages
        .iter()
        .find(|line| line["language"] == "zh_CN")
        .unwrap();
    assert_eq!(chinese["sent"], 2, "{languages:?}");
    assert_eq!(stage.statistics("?language=en").await, [Value::Null; 0]);
    let today = stage
        .statistics("?by=day,account&from=2023-11-15&to=2023-11-15")
        .await;
    assert_eq!(
        (&today[0]["day"], &today[0]["account"]),
        (&"2023-11-15".into(), &"main".into())
    );
    assert!(stage.statistics("?to=2023-11-14").await.is_empty());
    let links = stage.get("/statistics/links?sequence=welcome").await;
    let names: Vec<_> = links
        .as_array()
        .unwrap()
        .iter()
        .map(|link| &link["link"])
        .collect();
    assert_eq!(names, ["buy", "buy", "2", "1"], "{links}");

    for bad in ["?by=week", "?from=yesterday", "/links?by=step"] {
        let path = format!("/statistics{bad}");
        let (status, problem) = stage.ask(reqwest::Method::GET, &path).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad} {problem}");
    }
    let (status, _) = stage
        .ask(reqwest::Method::GET, "/statistics?account=none")
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let url = format!("{}/api/v1/statistics?by=step", stage.address());
    let table = stage
        .client
        .get(url)
        .bearer_auth(API_KEY)
        .header(header::ACCEPT, "text/csv");
    let table = table.send().await.unwrap();
    assert_eq!(
        table.headers()[header::CONTENT_TYPE],
        "text/csv; charset=utf-8"
    );
    let table = table.text().await.unwrap();
    let mut rows = csv::Reader::from_reader(table.as_bytes());
    let head = rows.headers().unwrap().clone();
    let column = |name: &str| head.iter().position(|one| one == name).unwrap();
    let rows: Vec<_> = rows.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 5);
    assert_eq!(
        (&rows[0][column("step")], &rows[0][column("sent")]),
        ("hello", "2")
    );
    stage.end().await;
}
