//! Callbacks: what reaches the account's server, and what the platform makes of its answers.

use dripwheel::inbound::cipher::Cipher;
use dripwheel::inbound::signature::{sign, verify};
use dripwheel::sandbox::{
    Action, Author, Burst, BurstAction, Fault, FaultKind, Format, Mode, Shown,
};
use poem::http::StatusCode;
use serde_json::{Value, json};

use super::town::{AES_KEY, APP_ID, Got, Plan, TOKEN, Town};

fn cipher() -> Cipher {
    Cipher::new(APP_ID, &[AES_KEY]).unwrap()
}

/// The readable body of a push whose signatures are right.
fn open(got: &Got, encrypted: &str) -> String {
    let [timestamp, nonce] = ["timestamp", "nonce"].map(|name| got.query[name].as_str());
    assert_eq!(got.query["encrypt_type"], "aes");
    assert!(verify(&[TOKEN, timestamp, nonce], &got.query["signature"]));
    let parts = [TOKEN, timestamp, nonce, encrypted];
    assert!(verify(&parts, &got.query["msg_signature"]));
    String::from_utf8(cipher().decrypt(encrypted).unwrap().message).unwrap()
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split_once(start).unwrap().1.split_once(end).unwrap().0
}

#[tokio::test]
async fn a_safe_push_is_encrypted_and_signed() {
    let town = Town::new().await;
    town.person("ann");
    let pushed = town
        .act(
            "ann",
            Action::Follow {
                scene: Some("42".into()),
            },
        )
        .await;
    assert!(pushed.accepted);
    let got = &town.server.got()[0];
    assert_eq!(got.query["shop"], "1");
    assert_eq!(got.query["openid"], "ann");
    assert_eq!(got.query["timestamp"], "1700000000");
    assert!(!got.body.contains("subscribe"));
    let body = open(got, between(&got.body, "<Encrypt><![CDATA[", "]]>"));
    assert!(
        body.contains("<Event><![CDATA[subscribe]]></Event>"),
        "{body}"
    );
    assert!(
        body.contains("<EventKey><![CDATA[qrscene_42]]></EventKey>"),
        "{body}"
    );
    assert!(
        body.contains("<CreateTime>1700000000</CreateTime>"),
        "{body}"
    );
}

#[tokio::test]
async fn each_mode_and_format_has_its_envelope() {
    for (mode, format) in [
        (Mode::Safe, Format::Json),
        (Mode::Compat, Format::Xml),
        (Mode::Compat, Format::Json),
        (Mode::Plain, Format::Xml),
        (Mode::Plain, Format::Json),
    ] {
        let town = Town::with(Plan {
            mode,
            format,
            ..Plan::default()
        })
        .await;
        town.follower("ann").await;
        let got = &town.server.got()[0];
        assert_eq!(
            got.body.contains("subscribe"),
            mode != Mode::Safe,
            "{mode:?} {format:?}"
        );
        let readable = match (mode, format) {
            (Mode::Plain, _) => {
                assert!(!got.query.contains_key("encrypt_type"));
                got.body.clone()
            }
            (_, Format::Xml) => open(got, between(&got.body, "<Encrypt><![CDATA[", "]]>")),
            (_, Format::Json) => {
                let body: Value = serde_json::from_str(&got.body).unwrap();
                open(got, body["Encrypt"].as_str().unwrap())
            }
        };
        match format {
            Format::Xml => assert_eq!(between(&readable, "<Event><![CDATA[", "]]>"), "subscribe"),
            Format::Json => {
                let event: Value = serde_json::from_str(&readable).unwrap();
                assert_eq!(event["Event"], "subscribe");
                assert_eq!(event["FromUserName"], "ann");
            }
        }
    }
}

#[tokio::test]
async fn an_event_is_pushed_three_times_at_most_and_with_the_same_id() {
    let town = Town::with(Plan {
        mode: Mode::Plain,
        ..Plan::default()
    })
    .await;
    town.follower("ann").await;
    for body in ["{\"ok\":true}", "oops", "<html>"] {
        town.server.say(200, body);
    }
    let pushed = town.act("ann", Action::Text { text: "hi".into() }).await;
    assert!(!pushed.accepted);
    assert_eq!(pushed.attempts.len(), 3);
    let got = town.server.got();
    assert_eq!(got.len(), 4);
    assert_eq!(got[1].body, got[3].body);
    assert_eq!(got[1].query["openid"], "ann");
    let chat = town.control.messages(APP_ID, "ann").unwrap();
    assert_eq!(chat.last().unwrap().shown, Shown::Unavailable);
    town.server.say(500, "");
    let pushed = town.act("ann", Action::Text { text: "hi".into() }).await;
    assert!(pushed.accepted);
    assert_eq!(pushed.attempts.len(), 2);
    let id = |body: &str| between(body, "<MsgId>", "<").to_owned();
    let got = town.server.got();
    assert_eq!(id(&got[4].body), id(&got[5].body));
    assert_ne!(id(&got[4].body), id(&got[1].body));
}

#[tokio::test]
async fn an_encrypted_reply_appears_on_the_phone() {
    let town = Town::new().await;
    town.follower("ann").await;
    town.server.answer(|got| {
        let reply = "<xml><ToUserName>ann</ToUserName><FromUserName>gh_b629c48b653e</FromUserName>\
                     <CreateTime>1700000001</CreateTime><MsgType><![CDATA[text]]></MsgType>\
                     <Content><![CDATA[欢迎！]]></Content></xml>";
        let encrypted = cipher().encrypt(reply.as_bytes(), 0, *b"0123456789abcdef");
        let (timestamp, nonce) = ("1700000001", got.query["nonce"].as_str());
        let signature = sign(&[TOKEN, timestamp, nonce, &encrypted]);
        let body = format!(
            "<xml><Encrypt><![CDATA[{encrypted}]]></Encrypt>\
             <MsgSignature>{signature}</MsgSignature>\
             <TimeStamp>{timestamp}</TimeStamp><Nonce>{nonce}</Nonce></xml>"
        );
        (StatusCode::OK, body)
    });
    let pushed = town.act("ann", Action::Text { text: "hi".into() }).await;
    assert_eq!(
        pushed.reply,
        Some(Shown::Text {
            content: "欢迎！".into()
        })
    );
    let chat = town.control.messages(APP_ID, "ann").unwrap();
    assert_eq!(chat.last().unwrap().author, Author::PassiveReply);
    town.server.say(
        200,
        "<xml><MsgType>text</MsgType><Content>plain</Content></xml>",
    );
    let pushed = town.act("ann", Action::Text { text: "hi".into() }).await;
    assert!(
        pushed.attempts[0]
            .error
            .as_deref()
            .unwrap()
            .contains("encrypted")
    );
}

#[tokio::test]
async fn the_handshake_wants_its_echo_back() {
    let town = Town::new().await;
    town.server
        .answer(|got| (StatusCode::OK, got.query["echostr"].clone()));
    assert_eq!(town.control.handshake(APP_ID).await.unwrap().error, None);
    assert!(
        town.control
            .handshake(APP_ID)
            .await
            .unwrap()
            .error
            .is_some()
    );
}

#[tokio::test]
async fn a_dropped_event_happens_without_being_told() {
    let town = Town::new().await;
    town.person("ann");
    town.control
        .add_faults(vec![Fault::new("callback", FaultKind::Drop, 1)])
        .unwrap();
    assert!(
        town.act("ann", Action::Follow { scene: None })
            .await
            .dropped
    );
    assert!(town.server.got().is_empty());
    assert!(town.control.follower(APP_ID, "ann").unwrap().following);
    town.control
        .add_faults(vec![Fault::new("callback", FaultKind::LoseAnswer, 1)])
        .unwrap();
    let pushed = town.act("ann", Action::Click { key: "K".into() }).await;
    assert_eq!((pushed.accepted, pushed.attempts.len()), (true, 2));
}

#[tokio::test]
async fn a_burst_lets_many_follow_at_once() {
    let town = Town::new().await;
    let burst = json!({"account": APP_ID, "action": "follow", "count": 200, "concurrency": 16});
    let url = town.url("/sandbox/api/burst");
    let report = town.http.post(url).json(&burst).send().await.unwrap();
    let report: Value = report.json().await.unwrap();
    assert_eq!(report["accepted"], 200);
    assert_eq!(town.server.got().len(), 200);
    let burst = Burst {
        account: APP_ID.into(),
        action: BurstAction::Unfollow,
        count: 150,
        concurrency: 8,
        silent: false,
    };
    assert_eq!(
        town.control.burst(&burst).await.unwrap().statuses["200"],
        150
    );
    assert_eq!(town.control.state().accounts[0].following, 50);
}

#[tokio::test]
async fn acts_that_cannot_happen_are_refused() {
    let town = Town::new().await;
    town.person("ann");
    let act = |body: Value| {
        let request = town.http.post(town.url("/sandbox/api/act")).json(&body);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    let ann = |action: &str| json!({"account": APP_ID, "openid": "ann", "action": action});
    assert_eq!(act(ann("unfollow")).await, 409);
    assert_eq!(act(ann("poem")).await, 400);
    assert_eq!(
        act(json!({"account": "x", "openid": "y", "action": "follow"})).await,
        404
    );
    assert_eq!(act(ann("follow")).await, 200);
    assert_eq!(act(ann("follow")).await, 409);
    let control = "a\u{0}b".to_owned();
    assert!(
        town.control
            .act(APP_ID, "ann", Action::Text { text: control })
            .await
            .is_err()
    );
}
