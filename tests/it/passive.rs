//! Passive replies over real sockets: a step that is due at once is the answer to the follower's
//! own event, the same answer again when the platform comes again, and one message on the phone.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::time::Duration;

use dripwheel::clock::Clock;
use dripwheel::inbound::cipher::Cipher;
use dripwheel::inbound::signature::sign;
use dripwheel::sandbox::{Action, Profile, Shown};
use dripwheel::store::audit::audit;

use crate::pair::{AES_KEY, Pair, TOKEN, Wishes, app_id, eventually};

const WELCOME: &str = "
sequence: welcome
trigger: follow
steps:
  - { id: hello, after: 0s, say: { text: hello } }
  - { id: guide, after: 10s, say: { text: guide } }
  - { id: offer, after: 10m, say: { text: offer } }
";

/// The platform comes again after 5 s; after this long it is sure that it does not.
const SURE: Duration = Duration::from_secs(7);

async fn start(sequence: &str) -> Pair {
    Pair::start(Wishes {
        sequences: &[sequence],
        server_profile: "wechat-2023",
        platform_profile: Profile::Wechat2023,
        passive_reply: true,
        ..Wishes::default()
    })
    .await
}

/// How the steps of all passages ended: step, outcome, carrier.
async fn ends(pair: &Pair) -> Vec<(i64, i64, Option<i64>)> {
    let sql = "SELECT step, result, carrier FROM outcomes ORDER BY enrollment_id, step, entry";
    let rows = pair.rows(sql).await;
    let column = |row: &sea_orm::QueryResult, at| row.try_get_by_index(at).unwrap();
    rows.iter()
        .map(|row| {
            let carrier = row.try_get_by_index(2).unwrap();
            (column(row, 0), column(row, 1), carrier)
        })
        .collect()
}

const SENT: i64 = 1;
const UNKNOWN: i64 = 7;
const BY_CALL: Option<i64> = Some(1);
const BY_REPLY: Option<i64> = Some(2);

async fn assert_clean(pair: &Pair) {
    let store = pair.app.store();
    let found = audit(store.read(), &store.knowledge().catalog()).await;
    let found = found.unwrap();
    assert!(found.is_clean(), "{:#?}", found.checks);
}

/// Posts a follow as the platform would; the same `nonce` is the same callback. Answers what it
/// says to the follower, and `None` for `success`.
async fn post(pair: &Pair, openid: &str, seconds: i64, nonce: &str) -> Option<String> {
    let inner = format!(
        "<xml><ToUserName><![CDATA[gh_1]]></ToUserName><FromUserName><![CDATA[{openid}]]>\
         </FromUserName><CreateTime>{seconds}</CreateTime><MsgType><![CDATA[event]]></MsgType>\
         <Event><![CDATA[subscribe]]></Event></xml>"
    );
    let cipher = Cipher::new(&app_id(0), &[AES_KEY]).unwrap();
    let encrypted = cipher.encrypt(inner.as_bytes(), 0, *b"sixteen bytes ok");
    let timestamp = pair.clock.now().seconds().to_string();
    let signature = sign(&[TOKEN, &timestamp, nonce, &encrypted]);
    let url = format!(
        "http://{}/callback/main?timestamp={timestamp}&nonce={nonce}&encrypt_type=aes\
         &msg_signature={signature}",
        pair.app.addr()
    );
    let body = format!("<xml><Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.post(url).body(body).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let answer = answer.text().await.unwrap();
    if answer == "success" {
        return None;
    }
    let part = |name: &str| {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let text = answer.split(&open).nth(1).unwrap();
        let text = text.split(&close).next().unwrap();
        let text = text.trim_start_matches("<![CDATA[");
        text.trim_end_matches("]]>").to_owned()
    };
    let encrypted = part("Encrypt");
    let signed = [TOKEN, &part("TimeStamp"), &part("Nonce"), &encrypted];
    assert_eq!(sign(&signed), part("MsgSignature"));
    let opened = cipher.decrypt(&encrypted).unwrap();
    Some(String::from_utf8(opened.message).unwrap())
}

#[tokio::test]
async fn the_first_step_is_the_encrypted_answer_and_the_next_a_customer_message() {
    let pair = start(WELCOME).await;
    let person = pair.person(0);
    let pushed = person.tries(Action::Follow { scene: None }).await;
    assert!(pushed.accepted, "{pushed:?}");
    let content = "hello".to_owned();
    assert_eq!(pushed.reply, Some(Shown::Text { content }));
    assert_eq!(ends(&pair).await, [], "nothing tells yet that it arrived");

    pair.at(SURE);
    eventually("the reply is confirmed", async || {
        ends(&pair).await == [(0, SENT, BY_REPLY)]
    })
    .await;
    pair.at(Duration::from_secs(10));
    eventually("the next step is sent", async || {
        ends(&pair).await == [(0, SENT, BY_REPLY), (1, SENT, BY_CALL)]
    })
    .await;
    assert_eq!(person.texts(), ["guide"], "calls beside the reply");
    // The reply spent nothing of the three messages that a follow grants.
    assert_eq!(pair.number("SELECT spent FROM grants").await, 1);
    assert_clean(&pair).await;
}

#[tokio::test]
async fn a_lost_answer_is_given_again_and_the_step_is_sent_once() {
    let pair = start(WELCOME).await;
    let seconds = pair.clock.now().seconds();
    let first = post(&pair, "oAnn", seconds, "1").await.unwrap();
    assert!(first.contains("<![CDATA[hello]]>"), "{first}");
    pair.at(Duration::from_secs(5));
    // The platform signs each try anew; the event is the same.
    let second = post(&pair, "oAnn", seconds, "2").await.unwrap();
    assert_eq!(first, second);
    pair.at(Duration::from_secs(5) + SURE);
    eventually(
        "the reply is confirmed and the next step sent",
        async || ends(&pair).await.first() == Some(&(0, SENT, BY_REPLY)),
    )
    .await;
    // Once confirmed it is not given a third time.
    assert_eq!(post(&pair, "oAnn", seconds, "3").await, None);
    assert_eq!(pair.number("SELECT count(*) FROM replies").await, 0);
}

#[tokio::test]
async fn an_answer_that_was_lost_three_times_is_unknown_and_sent_by_a_customer_message() {
    let pair = start(WELCOME).await;
    let person = pair.person(0);
    let seconds = pair.clock.now().seconds();
    for (index, nonce) in (0..).zip(["1", "2", "3"]) {
        pair.at(Duration::from_secs(5) * index);
        let answer = post(&pair, &person.openid, seconds, nonce).await;
        assert!(answer.is_some(), "answer {index}");
    }
    pair.at(Duration::from_secs(10) + SURE);
    eventually("the unknown is noted", async || {
        ends(&pair).await.first() == Some(&(0, UNKNOWN, BY_REPLY))
    })
    .await;
    pair.at(Duration::from_secs(20) + SURE);
    // The follow was posted by hand, so the platform grants nothing: that a call is made is enough.
    eventually("a customer message is tried", async || {
        !person.calls().is_empty()
    })
    .await;
}

#[tokio::test]
async fn copies_of_one_callback_at_once_are_all_given_the_one_answer() {
    let pair = start(WELCOME).await;
    let seconds = pair.clock.now().seconds();
    let nonces: Vec<_> = (0..20).map(|n| n.to_string()).collect();
    let posts = nonces
        .iter()
        .map(|nonce| post(&pair, "oAnn", seconds, nonce));
    let answers = futures_util::future::join_all(posts).await;
    let first = answers[0].clone();
    assert!(first.is_some());
    assert!(answers.iter().all(|answer| *answer == first), "{answers:?}");
    pair.at(SURE);
    eventually("the reply is confirmed", async || {
        ends(&pair).await == [(0, SENT, BY_REPLY)]
    })
    .await;
    assert_clean(&pair).await;
}

#[tokio::test]
async fn a_kind_that_no_reply_can_carry_travels_as_a_customer_message() {
    let pair = start(
        "
sequence: menu
trigger: follow
steps:
  - id: ask
    after: 0s
    say: { msgmenu: { head: which, items: [{ id: a, text: A }], tail: '' } }
",
    )
    .await;
    let person = pair.person(0);
    let pushed = person.tries(Action::Follow { scene: None }).await;
    assert_eq!((pushed.accepted, pushed.reply), (true, None));
    eventually("the menu is sent", async || {
        ends(&pair).await == [(0, SENT, BY_CALL)]
    })
    .await;
}

#[tokio::test]
async fn a_held_step_is_the_answer_to_the_message_that_releases_it() {
    let pair = start(
        "
sequence: later
trigger: follow
steps: [{ id: offer, after: 10m, say: { text: offer } }]
",
    )
    .await;
    let person = pair.person(0);
    person.follows().await;
    pair.at(Duration::from_secs(601));
    eventually("the step is held", async || {
        pair.number("SELECT count(*) FROM enrollments WHERE state = 1")
            .await
            == 1
    })
    .await;
    let action = Action::Text { text: "1".into() };
    let pushed = person.tries(action).await;
    let content = "offer".to_owned();
    assert_eq!(pushed.reply, Some(Shown::Text { content }));
    pair.at(Duration::from_secs(601) + SURE);
    eventually("the reply is confirmed", async || {
        ends(&pair).await.last() == Some(&(0, SENT, BY_REPLY))
    })
    .await;
    assert_clean(&pair).await;
}
