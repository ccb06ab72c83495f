//! Alerts over real sockets: signed, told once, tried again, and never in the way of a message.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dripwheel::clock::Clock;
use dripwheel::sign::SigningKey;
use reqwest::Method;
use serde_json::{Value, json};

use crate::own_platform::{Own, SEND};
use crate::support::database::number;
use crate::support::eventually;
use crate::wechat_client::platform::{Asked, Say, ScriptedPlatform};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const TEXT: &str = "
sequence: text
trigger: { follow: { scene: text } }
on_unknown: skip
steps:
  - { id: one, after: 0s, say: { text: one } }
";

/// Who is told.
struct Told {
    server: ScriptedPlatform,
    /// Set: it answers with an error.
    down: Arc<AtomicBool>,
}

fn header(asked: &Asked, name: &str) -> String {
    let lines = asked.head.lines();
    let found = lines.filter_map(|line| line.split_once(": "));
    let mut found = found.filter(|(header, _)| header.eq_ignore_ascii_case(name));
    found.next().unwrap().1.to_owned()
}

impl Told {
    async fn start() -> Self {
        let down = Arc::new(AtomicBool::new(false));
        let is_down = Arc::clone(&down);
        let server = ScriptedPlatform::start(move |_| match is_down.load(Ordering::SeqCst) {
            true => Say::status("500 No", "", ""),
            false => Say::json("{}"),
        })
        .await;
        Self { server, down }
    }

    fn settings(&self) -> String {
        format!(
            "alerts: {{ url: '{}hook', secret: {SECRET}, unknown_sends: 2 }}",
            self.server.base
        )
    }

    /// Every message that came, with its id; each is held to its signature.
    fn all(&self, own: &Own) -> Vec<(String, Value)> {
        let key = SigningKey::parse(SECRET).unwrap();
        let asked = self.server.asked("/hook").into_iter();
        asked
            .map(|asked| {
                let id = header(&asked, "webhook-id");
                let at: i64 = header(&asked, "webhook-timestamp").parse().unwrap();
                assert!((0..60).contains(&(own.clock.now().seconds() - at)) || at > 0);
                let body = String::from_utf8(asked.body.clone()).unwrap();
                assert_eq!(
                    header(&asked, "webhook-signature"),
                    key.sign(&id, at, &body)
                );
                (id, asked.json())
            })
            .collect()
    }

    fn types(&self, own: &Own) -> Vec<String> {
        let all = self.all(own).into_iter();
        all.map(|(_, body)| body["type"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// Lets time pass for whatever might still be told.
async fn a_while(own: &Own) {
    for _ in 0..60 {
        own.clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_account_that_needs_somebody_is_told_once_until_it_recovers() {
    let told = Told::start().await;
    let mut own = Own::start(&[TEXT], &told.settings()).await;
    own.rule(|rules| {
        rules.codes.insert(SEND, 48_004);
    });
    own.follow("ann", "text").await;
    own.pass_until("somebody is told", async || !told.types(&own).is_empty())
        .await;
    a_while(&own).await;
    let all = told.all(&own);
    assert_eq!(all.len(), 1, "{all:?}");
    let data = &all[0].1["data"];
    assert_eq!(all[0].1["type"], "account.needs_attention");
    assert_eq!(data["account"], "main");
    assert_eq!(data["errcode"], 48_004);
    let what_to_do = data["what_to_do"].as_str().unwrap();
    assert!(
        what_to_do.contains("forbidden the interface"),
        "{what_to_do}"
    );

    // A restart forgets that the account rests, and nobody is told a second time.
    own.restart().await;
    own.pass_until("it is refused again", async || own.sent_to("ann") >= 2)
        .await;
    a_while(&own).await;
    assert_eq!(told.types(&own).len(), 1);
    own.rule(|rules| rules.codes.clear());
    own.pass_until("it is over", async || told.types(&own).len() == 2)
        .await;
    let recovered = &told.all(&own)[1].1;
    assert_eq!(recovered["type"], "account.recovered");
    assert_eq!(recovered["data"]["account"], "main");
    own.stop().await;
}

#[tokio::test]
async fn an_alert_that_nobody_takes_is_tried_again_after_a_restart_too() {
    let told = Told::start().await;
    told.down.store(true, Ordering::SeqCst);
    let mut own = Own::start(&[TEXT], &told.settings()).await;
    let tested = own.api(Method::POST, "/alerts/test").send().await.unwrap();
    let tested: Value = tested.json().await.unwrap();
    own.pass_until("it is tried", async || !told.types(&own).is_empty())
        .await;
    // What sends does not wait for whoever is told.
    own.follow("ann", "text").await;
    own.pass_until("it is sent", async || own.sent_to("ann") == 1)
        .await;
    own.restart().await;
    own.pass_until("it is tried again", async || told.types(&own).len() >= 3)
        .await;
    told.down.store(false, Ordering::SeqCst);
    let tries = told.types(&own).len();
    own.pass_until("it is taken", async || told.types(&own).len() > tries)
        .await;
    let taken = told.types(&own).len();
    a_while(&own).await;
    let all = told.all(&own);
    assert_eq!(all.len(), taken, "what was taken is not sent again");
    assert!(all.iter().all(|(id, body)| {
        *id == tested["id"] && body["type"] == "alerts.test" && body["data"]["asked_by"] == "ops"
    }));
    own.stop().await;
}

#[tokio::test]
async fn an_alert_is_given_up_after_a_day() {
    let told = Told::start().await;
    told.down.store(true, Ordering::SeqCst);
    let own = Own::start(&[TEXT], &told.settings()).await;
    let tested = own.api(Method::POST, "/alerts/test").send().await.unwrap();
    assert!(tested.status().is_success());
    own.pass_until("it is tried", async || !told.types(&own).is_empty())
        .await;
    // A day that passes while it is being tried would make this try the last one.
    eventually("that it failed is written", async || {
        let sql = "SELECT count(*) FROM alert_outbox WHERE tries > 0";
        number(own.app().store().read(), sql).await == 1
    })
    .await;
    own.clock.advance(Duration::from_secs(86_400));
    own.pass_until("it is tried once more", async || {
        told.types(&own).len() == 2
    })
    .await;
    told.down.store(false, Ordering::SeqCst);
    own.clock.advance(Duration::from_secs(86_400));
    a_while(&own).await;
    assert_eq!(told.types(&own).len(), 2);
    own.stop().await;
}

#[tokio::test]
async fn quotas_that_run_out_and_lost_answers_are_told() {
    let told = Told::start().await;
    let own = Own::start(&[TEXT], &told.settings()).await;
    own.rule(|rules| {
        rules.left.insert(SEND, 150);
        rules.lose = true;
    });
    own.pass_until("the quota is told", async || !told.types(&own).is_empty())
        .await;
    let all = told.all(&own);
    assert_eq!(all[0].1["type"], "quota.high");
    assert_eq!(all[0].1["data"]["interface"], "message/custom/send");
    assert_eq!(all[0].1["data"]["left"], 150);
    for n in 0..3 {
        own.follow(&format!("f{n}"), "text").await;
    }
    own.pass_until("unknown sends are told", async || {
        told.types(&own).len() == 2
    })
    .await;
    let unknown = &told.all(&own)[1].1;
    assert_eq!(unknown["type"], "sends.unknown");
    assert_eq!(unknown["data"]["sends"], json!(3));
    own.rule(|rules| {
        rules.left.insert(SEND, 0);
    });
    own.clock.advance(Duration::from_secs(3600));
    own.pass_until("the end of the quota is told", async || {
        told.types(&own).len() == 3
    })
    .await;
    assert_eq!(told.types(&own)[2], "quota.used_up");
    a_while(&own).await;
    assert_eq!(told.types(&own).len(), 3);
    own.stop().await;
}

#[tokio::test]
async fn without_an_address_nobody_is_told_and_the_api_says_so() {
    let own = Own::start(&[TEXT], "").await;
    let refused = own.api(Method::POST, "/alerts/test").send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 409);
    let refused: Value = refused.json().await.unwrap();
    assert_eq!(refused["code"], "alerts_not_configured");
    own.stop().await;
}
