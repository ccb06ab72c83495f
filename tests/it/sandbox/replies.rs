//! Passive replies: what the platform checks, and that a follower sees one once.

use dripwheel::inbound::cipher::Cipher;
use dripwheel::inbound::signature::sign;
use dripwheel::sandbox::{Action, Author, Carrier, Fault, FaultKind, Format, Mode, Pushed, Shown};
use poem::http::StatusCode;
use serde_json::json;

use super::town::{AES_KEY, APP_ID, Plan, TOKEN, Town};

const ACCOUNT: &str = "gh_b629c48b653e";

fn reply(to: &str, from: &str, content: &str) -> String {
    format!(
        "<xml><ToUserName><![CDATA[{to}]]></ToUserName><FromUserName><![CDATA[{from}]]>\
         </FromUserName><CreateTime>1700000001</CreateTime>{content}</xml>"
    )
}

fn text(content: &str) -> String {
    format!("<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[{content}]]></Content>")
}

/// An encrypted reply, and how it is spoiled.
#[derive(Clone, Copy)]
struct Seal {
    app_id: &'static str,
    token: &'static str,
    cut: bool,
}

const GOOD: Seal = Seal {
    app_id: APP_ID,
    token: TOKEN,
    cut: false,
};

impl Seal {
    fn seal(self, reply: &str) -> String {
        let cipher = Cipher::new(self.app_id, &[AES_KEY]).unwrap();
        let mut encrypted = cipher.encrypt(reply.as_bytes(), 0, *b"0123456789abcdef");
        if self.cut {
            encrypted.truncate(encrypted.len() - 4);
        }
        let (timestamp, nonce) = ("1700000001", "7");
        let signature = sign(&[self.token, timestamp, nonce, &encrypted]);
        format!(
            "<xml><Encrypt><![CDATA[{encrypted}]]></Encrypt>\
             <MsgSignature><![CDATA[{signature}]]></MsgSignature>\
             <TimeStamp>{timestamp}</TimeStamp><Nonce><![CDATA[{nonce}]]></Nonce></xml>"
        )
    }
}

impl Town {
    async fn greet(&self) -> Pushed {
        self.act("ann", Action::Text { text: "hi".into() }).await
    }

    /// Passive replies in the record: attempt, code, whether it arrived, fault.
    fn replies(&self) -> Vec<(Option<u32>, i32, bool, Option<&'static str>)> {
        let sent = self.control.sent(Some(APP_ID), Some("ann"), 0, 1_000);
        let replies = sent.into_iter().map(|one| one.sent);
        replies
            .filter(|sent| sent.carrier == Carrier::PassiveReply)
            .map(|sent| (sent.attempt, sent.errcode, sent.received, sent.fault))
            .collect()
    }

    fn seen(&self, content: &str) -> usize {
        let wanted = Shown::Text {
            content: content.to_owned(),
        };
        let lines = self.control.messages(APP_ID, "ann").unwrap();
        let replies = lines
            .iter()
            .filter(|line| line.author == Author::PassiveReply);
        replies.filter(|line| line.shown == wanted).count()
    }
}

#[tokio::test]
async fn a_reply_whose_first_answer_was_lost_is_seen_once() {
    let town = Town::new().await;
    town.follower("ann").await;
    let body = GOOD.seal(&reply("ann", ACCOUNT, &text("欢迎！")));
    for _ in 0..3 {
        let body = body.clone();
        town.server.answer(move |_| (StatusCode::OK, body.clone()));
    }
    let lost = Fault::new("callback", FaultKind::LoseAnswer, 2);
    town.control.add_faults(vec![lost]).unwrap();
    let pushed = town.greet().await;
    assert_eq!((pushed.accepted, pushed.attempts.len()), (true, 3));
    // The account answered 200 each time and cannot tell that an answer was lost.
    assert!(
        pushed
            .attempts
            .iter()
            .all(|attempt| attempt.status == Some(200))
    );
    assert_eq!(town.seen("欢迎！"), 1);
    let lost = Some("lose_answer");
    let wanted = [
        (Some(1), 0, false, lost),
        (Some(2), 0, false, lost),
        (Some(3), 0, true, None),
    ];
    assert_eq!(town.replies(), wanted);
    let received = town.received("ann");
    assert!(received[0].1.as_str().unwrap().contains("欢迎！"));
    let got = town.server.got();
    assert_eq!(got[1].body, got[3].body, "the same event each time");
}

#[tokio::test]
async fn a_reply_that_is_not_right_is_complained_of_on_the_phone() {
    let town = Town::new().await;
    town.follower("ann").await;
    let good = reply("ann", ACCOUNT, &text("x"));
    let kinds = [
        "<MsgType>poem</MsgType>",
        "<MsgType>text</MsgType>",
        "<MsgType>image</MsgType><Image><MediaId>no such file</MediaId></Image>",
        &text(&"长".repeat(683)),
    ]
    .map(|content| GOOD.seal(&reply("ann", ACCOUNT, content)));
    let other = "wx0000000000000000";
    let cases = [
        (Seal { token: "x", ..GOOD }.seal(&good), -40001),
        (
            Seal {
                app_id: other,
                ..GOOD
            }
            .seal(&good),
            -40005,
        ),
        (Seal { cut: true, ..GOOD }.seal(&good), -40007),
        (good.clone(), -40002),
        (GOOD.seal("<html>"), -40002),
        (GOOD.seal(&reply("bob", ACCOUNT, &text("x"))), -40002),
        (GOOD.seal(&reply("ann", "gh_other", &text("x"))), -40002),
        (kinds[0].clone(), -40002),
        (kinds[1].clone(), -40002),
        (kinds[2].clone(), 40007),
        (kinds[3].clone(), 45002),
    ];
    for (body, code) in &cases {
        for _ in 0..3 {
            let body = body.clone();
            town.server.answer(move |_| (StatusCode::OK, body.clone()));
        }
        let before = town.replies().len();
        let pushed = town.greet().await;
        assert_eq!(
            (pushed.accepted, pushed.attempts.len()),
            (false, 3),
            "{body}"
        );
        let replies = town.replies();
        let attempts = [1, 2, 3].map(|number| (Some(number), *code, false, None));
        assert_eq!(replies[before..], attempts, "{body}");
        let chat = town.control.messages(APP_ID, "ann").unwrap();
        assert_eq!(chat.last().unwrap().shown, Shown::Unavailable);
    }
    let body = GOOD.seal(&good);
    town.server.answer(move |_| (StatusCode::OK, body.clone()));
    assert!(town.greet().await.accepted);
    assert_eq!(town.seen("x"), 1);
}

#[tokio::test]
async fn a_reply_in_json_is_encrypted_the_same_way() {
    let town = Town::with(Plan {
        format: Format::Json,
        ..Plan::default()
    })
    .await;
    town.follower("ann").await;
    let reply = json!({
        "ToUserName": "ann",
        "FromUserName": ACCOUNT,
        "CreateTime": 1_700_000_001,
        "MsgType": "text",
        "Content": "欢迎！",
    });
    let cipher = Cipher::new(APP_ID, &[AES_KEY]).unwrap();
    let encrypted = cipher.encrypt(reply.to_string().as_bytes(), 0, *b"0123456789abcdef");
    let signature = sign(&[TOKEN, "1700000001", "7", &encrypted]);
    let sealed = json!({
        "Encrypt": encrypted,
        "MsgSignature": signature,
        "TimeStamp": 1_700_000_001,
        "Nonce": "7",
    });
    town.server.say(200, &sealed.to_string());
    let pushed = town.greet().await;
    assert!(pushed.accepted, "{pushed:?}");
    assert_eq!(town.seen("欢迎！"), 1);
    assert_eq!(town.received("ann")[0].1, reply);
}

#[tokio::test]
async fn whoever_left_sees_no_reply() {
    let town = Town::with(Plan {
        mode: Mode::Plain,
        ..Plan::default()
    })
    .await;
    town.follower("ann").await;
    town.server.say(200, &reply("ann", ACCOUNT, &text("stay!")));
    let pushed = town.act("ann", Action::Unfollow).await;
    assert!(pushed.accepted && pushed.reply.is_none());
    assert_eq!(town.seen("stay!"), 0);
    assert_eq!(town.replies(), [(Some(1), 0, false, None)]);
}

#[tokio::test]
async fn a_reply_takes_from_the_grant_only_where_the_rules_say_so() {
    for (spends, left) in [(false, 5), (true, 4)] {
        let town = Town::with(Plan {
            mode: Mode::Plain,
            rules: json!({"passive_reply_spends": spends}),
            ..Plan::default()
        })
        .await;
        town.follower("ann").await;
        town.server
            .say(200, &reply("ann", ACCOUNT, &text("欢迎！")));
        assert!(town.greet().await.accepted);
        let ann = town.control.follower(APP_ID, "ann").unwrap();
        assert_eq!(ann.grant.unwrap().left, left);
        town.greet().await;
        let token = town.token().await;
        for _ in 0..5 {
            assert_eq!(town.text(&token, "ann").await, 0);
        }
        // A reply arrives although nothing is left.
        town.server
            .say(200, &reply("ann", ACCOUNT, &text("click!")));
        town.pass(3_600);
        let pushed = town.act("ann", Action::Click { key: "K".into() }).await;
        assert!(pushed.reply.is_some());
        assert_eq!(town.seen("click!"), 1);
    }
}
