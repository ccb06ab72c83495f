//! An account's health as API, console and command tell it, and what a person may do about it.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dripwheel::clock::Clock;
use dripwheel::journey::answer::{Answer, AnswerClass};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::own_platform::{KEY, Own, SEND};
use crate::world::{READ_KEY, WRITE_KEY, World, accepted, seconds};

const TEXT: &str = "
sequence: text
trigger: { follow: { scene: text } }
steps:
  - { id: one, after: 0s, say: { text: one } }
  - { id: two, after: 10m, say: { text: two } }
";

fn answer(class: AnswerClass, code: i64) -> Answer {
    Answer {
        code: Some(code),
        ..Answer::without_code(class, format!("custom/send: {code} no"))
    }
}

async fn health(world: &World) -> Value {
    let asked = world.api(Method::GET, "/accounts/main/health", READ_KEY);
    asked.send().await.unwrap().json().await.unwrap()
}

/// A form of somebody who has not signed in: the console of these worlds is open.
async fn post(world: &World, path: &str, fields: &[(&str, &str)]) -> String {
    let page = world.get("/accounts/main").send().await.unwrap();
    let cookie = page.headers().get("set-cookie");
    let cookie = cookie.map_or_else(String::new, |one| {
        let cookie = one.to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    });
    let page = page.text().await.unwrap();
    let token = page.split_once("name=\"token\" value=\"").unwrap().1;
    let token = token.split_once('"').unwrap().0;
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.append_pair("token", token);
    body.extend_pairs(fields);
    let url = format!("{}/accounts/main/{path}", world.base);
    let sent = world
        .client
        .post(url)
        .header("Cookie", cookie)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(body.finish());
    let sent = sent.send().await.unwrap();
    assert_eq!(sent.status(), StatusCode::SEE_OTHER, "{path}");
    let to = sent.headers()["location"].to_str().unwrap();
    world.get(to).send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn what_became_of_the_day_s_sends_is_told() {
    let world = World::new().await;
    for who in ["ann", "bob", "cat", "dan"] {
        world.follow(who).await;
    }
    assert_eq!(world.pass(seconds(1), accepted()).await, 4);
    for who in ["ann", "bob", "cat"] {
        world.write(who, "hello").await;
    }
    let closed = answer(AnswerClass::GrantClosed, 45_015);
    assert_eq!(world.pass(seconds(600), closed).await, 3);
    let told = health(&world).await;
    assert_eq!(told["standing"], "sending");
    let sends = json!([{
        "carrier": "customer_message", "accepted": 4, "refused": 3, "unknown": 0, "retried": 0,
    }]);
    assert_eq!(told["sends"], sends);
    let refused = json!([{ "errcode": 45_015, "reaction": "held", "count": 3 }]);
    assert_eq!(told["refusals"], refused);
    let opened: u64 = told["grants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["opened"].as_u64().unwrap())
        .sum();
    assert_eq!(opened, 7, "four by following, three by writing");
    let hours = told["hours"].as_array().unwrap();
    assert_eq!(hours.len(), 24);
    assert_eq!(hours[23]["refused"], 3);

    // Written down, they are the same.
    dripwheel::store::health::flush(&world.store).await.unwrap();
    assert_eq!(health(&world).await, told);
    // A day later they are history.
    world.clock.advance(seconds(25 * 3600));
    assert_eq!(health(&world).await["sends"], json!([]));
}

#[tokio::test]
async fn an_account_without_a_name_is_nobody_s() {
    let world = World::new().await;
    let asked = world.api(Method::GET, "/accounts/none/health", READ_KEY);
    let answer = asked.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let page = world.get("/accounts/none").send().await.unwrap();
    assert_eq!(page.status(), StatusCode::SEE_OTHER, "to the sign in");
    let pause = world.api(Method::POST, "/accounts/main/pause", READ_KEY);
    let refused = pause.json(&json!({ "reason": "x" })).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_console_shows_an_account_in_both_languages() {
    let world = World::open().await;
    world.follow("ann").await;
    let stopped = answer(AnswerClass::NeedsAttention, 48_004);
    assert_eq!(world.pass(seconds(1), stopped).await, 1);
    let until = world.clock.now().plus(seconds(600));
    let reason = "custom/send: 48004 <b>forbidden".to_owned();
    let id = world.account;
    dripwheel::store::accounts::pause(&world.store, id, until, reason, true)
        .await
        .unwrap();
    let english = world.get("/accounts/main?lang=en").send().await.unwrap();
    let english = english.text().await.unwrap();
    for part in [
        "needs a person",
        "The platform has forbidden the interface for a violation",
        "custom/send: 48004 &#60;b&#62;forbidden",
        "stopped for a person",
        "<svg class=\"spark\"",
        "message/custom/send",
        "10/10",
    ] {
        assert!(english.contains(part), "{part} is not in {english}");
    }
    let chinese = world.get("/accounts/main?lang=zh").send().await.unwrap();
    let chinese = chinese.text().await.unwrap();
    for part in ["需人工处理", "接口因违规被封禁", "清零额度"] {
        assert!(chinese.contains(part), "{part} is not in {chinese}");
    }
    let overview = world.get("/").send().await.unwrap().text().await.unwrap();
    assert!(overview.contains("href=\"/accounts/main\""), "{overview}");
}

#[tokio::test]
async fn a_person_pauses_resumes_and_clears_by_form() {
    let world = World::open().await;
    world.follow("ann").await;
    let paused = post(&world, "pause", &[("reason", "a <test>")]).await;
    assert!(paused.contains("Paused: nothing is sent"), "{paused}");
    assert!(paused.contains("a &#60;test&#62;"), "{paused}");
    assert_eq!(
        world.pass(seconds(1), accepted()).await,
        0,
        "nothing is sent"
    );
    let resumed = post(&world, "resume", &[]).await;
    assert!(resumed.contains("Resumed."), "{resumed}");
    assert_eq!(world.pass(seconds(1), accepted()).await, 1);

    let unsure = post(&world, "clear-quota", &[]).await;
    assert!(unsure.contains("tick the box first"), "{unsure}");
    assert_eq!(world.platform.count("/cgi-bin/clear_quota"), 0);
    let cleared = post(&world, "clear-quota", &[("confirm", "yes")]).await;
    assert!(cleared.contains("counts this account"), "{cleared}");
    assert!(cleared.contains("9/10"), "{cleared}");
    world.clear_code.store(48_006, Ordering::SeqCst);
    let none = post(&world, "clear-quota", &[("confirm", "yes")]).await;
    assert!(none.contains("48006") && none.contains("0/10"), "{none}");
}

#[tokio::test]
async fn a_pause_holds_over_a_restart_and_keeps_what_is_due() {
    let mut own = Own::start(&[TEXT], "").await;
    let pause = own.api(Method::POST, "/accounts/main/pause");
    let paused = pause.json(&json!({ "reason": "the shop is closed" }));
    let paused: Value = paused.send().await.unwrap().json().await.unwrap();
    assert_eq!(paused, json!({ "paused": true, "changed": true }));
    own.follow("ann", "text").await;
    own.restart().await;
    own.clock.advance(Duration::from_secs(60));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(own.platform.count(SEND), 0);
    let told = own.health().await;
    assert_eq!(told["standing"], "paused");
    assert_eq!(told["pause"]["by"], "ops");
    assert_eq!(told["pause"]["reason"], "the shop is closed");
    let resume = own.api(Method::POST, "/accounts/main/resume");
    let resumed: Value = resume.send().await.unwrap().json().await.unwrap();
    assert_eq!(resumed, json!({ "paused": false, "changed": true }));
    own.pass_until("what was due is sent", async || own.sent_to("ann") == 1)
        .await;
    let acts = own.health().await["acts"].clone();
    assert_eq!(acts[0]["act"], "resume");
    assert_eq!(acts[1]["act"], "pause");
    own.stop().await;
}

#[tokio::test]
async fn counts_outlive_a_stop() {
    let mut own = Own::start(&[TEXT], "").await;
    own.follow("ann", "text").await;
    own.pass_until("it is sent", async || {
        own.health().await["sends"][0]["accepted"] == 1
    })
    .await;
    own.restart().await;
    assert_eq!(own.health().await["sends"][0]["accepted"], 1);
    own.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_clears_quotas_through_a_server() {
    let world = World::new().await;
    let run = async |key: &'static str| {
        let base = world.base.clone();
        let run = tokio::task::spawn_blocking(move || {
            Command::new(env!("CARGO_BIN_EXE_dripwheel"))
                .args(["clear-quota", "main", "--server", &base])
                .env("DRIPWHEEL_API_KEY", key)
                .output()
                .unwrap()
        });
        let out = run.await.unwrap();
        let text = [out.stdout, out.stderr].concat();
        (out.status.success(), String::from_utf8(text).unwrap())
    };
    let (done, said) = run(WRITE_KEY).await;
    assert!(done && said.contains("9 of 10 clears are left"), "{said}");
    let (done, said) = run(READ_KEY).await;
    assert!(!done && said.contains("lacks the scope"), "{said}");
    world.clear_code.store(48_006, Ordering::SeqCst);
    let (done, said) = run(WRITE_KEY).await;
    assert!(!done && said.contains("used up (48006)"), "{said}");
    assert!(!said.contains(KEY), "{said}");
}
