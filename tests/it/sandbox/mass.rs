//! Mass sends to lists of followers.

use dripwheel::sandbox::{Action, Author, Carrier, Mode};
use serde_json::{Value, json};

use super::town::{APP_ID, Plan, Town};

const MASS_SEND: &str = "/cgi-bin/message/mass/send";
const MASS_GET: &str = "/cgi-bin/message/mass/get";

async fn town(rules: Value) -> (Town, String) {
    let town = Town::with(Plan {
        mode: Mode::Plain,
        rules,
        ..Plan::default()
    })
    .await;
    for openid in ["ann", "bob", "cat"] {
        town.follower(openid).await;
    }
    let token = town.token().await;
    (town, token)
}

fn letter(openids: &[&str], text: &str, id: &str) -> Value {
    json!({
        "touser": openids,
        "msgtype": "text",
        "text": {"content": text},
        "clientmsgid": id,
    })
}

#[tokio::test]
async fn a_mass_message_arrives_without_a_grant_and_is_counted() {
    let (town, token) = town(json!({})).await;
    town.pass(3_600);
    town.person("eve");
    town.act("cat", Action::Unfollow).await;
    town.control.mute(APP_ID, "bob", true).unwrap();
    let everybody = letter(&["ann", "bob", "cat", "eve"], "大家好", "m1");
    let answer = town.call(&token, MASS_SEND, everybody).await;
    assert_eq!(answer["errmsg"], "send job submission success");
    let id = answer["msg_id"].as_u64().unwrap();
    let event = town.pushed("MASSSENDJOBFINISH").await;
    assert!(event.contains(&format!(
        "<MsgID>{id}</MsgID><Status><![CDATA[send success]]></Status><TotalCount>2</TotalCount>\
         <FilterCount>1</FilterCount><SentCount>1</SentCount><ErrorCount>0</ErrorCount>"
    )));
    // The sender of the result is nobody's openid.
    let (_, rest) = event.split_once("<FromUserName><![CDATA[").unwrap();
    let sender = rest.split_once("]]>").unwrap().0;
    assert!(town.control.follower(APP_ID, sender).is_err());

    let sent = town.control.sent(None, None, 0, 9);
    let fates: Vec<_> = sent
        .iter()
        .map(|one| (&*one.sent.openid, one.sent.received, one.sent.msg_id))
        .collect();
    let wanted = [
        ("ann", true),
        ("bob", false),
        ("cat", false),
        ("eve", false),
    ];
    assert_eq!(
        fates,
        wanted.map(|(who, received)| (who, received, Some(id)))
    );
    let received = town.received("ann");
    assert_eq!(received[0].0, Carrier::MassSend);
    assert_eq!(
        received[0].1,
        json!({"msgtype": "text", "text": {"content": "大家好"}})
    );
    let chat = town.control.messages(APP_ID, "ann").unwrap();
    assert_eq!(chat.last().unwrap().author, Author::MassSend);

    let state = town
        .call(&token, MASS_GET, json!({"msg_id": id.to_string()}))
        .await;
    assert_eq!(state, json!({"msg_id": id, "msg_status": "SEND_SUCCESS"}));
    let unknown = town.call(&token, MASS_GET, json!({"msg_id": 7})).await;
    assert_eq!(unknown["errcode"], 40059);
}

#[tokio::test]
async fn each_refusal_of_a_list_has_its_code() {
    let (town, token) = town(json!({})).await;
    let many: Vec<String> = (0..10_001).map(|n| format!("o{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut poem = letter(&["ann", "bob"], "x", "");
    poem["msgtype"] = "poem".into();
    let mut news = letter(&["ann", "bob"], "x", "");
    news["msgtype"] = "mpnews".into();
    let cases = [
        (letter(&["ann"], "x", ""), 40130),
        (letter(&["ann", "ann"], "x", ""), 40130),
        (letter(&many, "x", ""), 40032),
        (letter(&["ann", "stranger"], "x", ""), 40031),
        (json!({"touser": "ann", "msgtype": "text"}), 40031),
        (letter(&["ann", "bob"], "x", &"i".repeat(65)), 45067),
        (letter(&["ann", "bob"], "", ""), 44004),
        (poem, 40008),
        (news, 40007),
    ];
    for (body, wanted) in cases {
        let answer = town.call(&token, MASS_SEND, body.clone()).await;
        assert_eq!(answer["errcode"], wanted, "{:.80}", body.to_string());
    }
    assert!(town.received("ann").is_empty());
    let most: Vec<String> = (0..9_998).map(|n| format!("o{n}")).collect();
    for openid in &most {
        town.person(openid);
    }
    let mut most: Vec<&str> = most.iter().map(String::as_str).collect();
    most.extend(["ann", "bob"]);
    let answer = town.call(&token, MASS_SEND, letter(&most, "x", "")).await;
    assert_eq!(answer["errcode"], 0);
    assert_eq!(town.received("ann").len(), 1);
}

#[tokio::test]
async fn the_same_name_is_sent_once_in_a_day() {
    let (town, token) = town(json!({})).await;
    let send = |text: &'static str, id: &'static str| {
        let body = letter(&["ann", "bob"], text, id);
        let (town, token) = (&town, &token);
        async move { town.call(token, MASS_SEND, body).await }
    };
    let first = send("one", "m1").await;
    assert_eq!(send("one", "m1").await["errcode"], 45066);
    town.pass(59);
    assert_eq!(send("one", "m1").await["errcode"], 45066);
    town.pass(60);
    let again = send("other words", "m1").await;
    assert_eq!(
        (&again["errcode"], &again["msg_id"]),
        (&json!(45065), &first["msg_id"])
    );
    assert_eq!(town.received("ann").len(), 1);
    // Without a name, range and content are the name.
    assert_eq!(send("two", "").await["errcode"], 0);
    town.pass(61);
    assert_eq!(send("two", "").await["errcode"], 45065);
    assert_eq!(send("three", "").await["errcode"], 0);
    town.pass(24 * 3600);
    let token = town.token().await;
    let late = town
        .call(&token, MASS_SEND, letter(&["ann", "bob"], "one", "m1"))
        .await;
    assert_eq!(late["errcode"], 0);
}

#[tokio::test]
async fn a_name_is_answered_at_once_where_the_rules_say_so() {
    let (town, token) = town(json!({"mass_again_after_seconds": 0})).await;
    let body = letter(&["ann", "bob"], "one", "m1");
    let first = town.call(&token, MASS_SEND, body.clone()).await;
    let again = town.call(&token, MASS_SEND, body).await;
    assert_eq!(
        (&again["errcode"], &again["msg_id"]),
        (&json!(45065), &first["msg_id"])
    );
}

#[tokio::test]
async fn a_month_brings_four_and_a_minute_takes_sixty() {
    let (town, token) = town(json!({})).await;
    for n in 0..5 {
        let body = letter(&["ann", "bob"], &format!("text {n}"), "");
        assert_eq!(town.call(&token, MASS_SEND, body).await["errcode"], 0);
    }
    assert_eq!(town.received("ann").len(), 4);
    town.pushed("<FilterCount>0</FilterCount><SentCount>0</SentCount>")
        .await;
    for n in 0..55 {
        town.call(&token, MASS_SEND, letter(&["ann"], &format!("{n}"), ""))
            .await;
    }
    let body = letter(&["ann", "bob"], "more", "");
    assert_eq!(
        town.call(&token, MASS_SEND, body.clone()).await["errcode"],
        45011
    );
    town.pass(60);
    for n in 0..40 {
        town.call(&token, MASS_SEND, letter(&["ann"], &format!("{n}"), ""))
            .await;
    }
    assert_eq!(town.call(&token, MASS_SEND, body).await["errcode"], 45009);
    // November 15th there and then: December is sixteen days away.
    town.pass(17 * 86_400);
    let token = town.token().await;
    let body = letter(&["ann", "bob"], "december", "");
    assert_eq!(town.call(&token, MASS_SEND, body).await["errcode"], 0);
    assert_eq!(town.received("ann").len(), 5);
}

#[tokio::test]
async fn pictures_are_shown_one_by_one() {
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n rest";
    let (town, token) = town(json!({})).await;
    let path = format!("/cgi-bin/media/upload?access_token={token}&type=image");
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(town.upload(&path, PNG).await["media_id"].clone());
    }
    let both = json!({
        "touser": ["ann", "bob"],
        "msgtype": "images",
        "images": {"media_ids": ids, "recommend": "x"},
    });
    assert_eq!(town.call(&token, MASS_SEND, both).await["errcode"], 0);
    let one = json!({
        "touser": ["ann", "bob"],
        "msgtype": "image",
        "image": {"media_id": ids[0]},
    });
    assert_eq!(town.call(&token, MASS_SEND, one).await["errcode"], 0);
    let chat = town.control.messages(APP_ID, "bob").unwrap();
    let shown = chat
        .iter()
        .map(|line| serde_json::to_value(&line.shown).unwrap());
    let shown: Vec<Value> = shown
        .skip(1)
        .map(|shown| shown["media_id"].clone())
        .collect();
    assert_eq!(shown, [ids[0].clone(), ids[1].clone(), ids[0].clone()]);
    assert_eq!(town.received("bob").len(), 2);
}

#[tokio::test]
async fn a_mass_send_may_fail_after_it_was_accepted() {
    let (town, token) = town(json!({})).await;
    let rule = json!({"faults": [
        {"api": MASS_SEND, "kind": "undelivered", "status": "err(10001)", "times": 1},
    ]});
    assert_eq!(town.control_api("faults", rule).await.0, 200);
    let answer = town
        .call(&token, MASS_SEND, letter(&["ann", "bob"], "ad", ""))
        .await;
    assert_eq!(answer["errcode"], 0);
    town.pushed(
        "<Status><![CDATA[err(10001)]]></Status><TotalCount>2</TotalCount>\
         <FilterCount>2</FilterCount><SentCount>0</SentCount><ErrorCount>2</ErrorCount>",
    )
    .await;
    let state = town
        .call(&token, MASS_GET, json!({"msg_id": answer["msg_id"]}))
        .await;
    assert_eq!(state["msg_status"], "SEND_FAIL");
    assert!(town.received("ann").is_empty());
}
