//! Template messages and subscription notices, and what the platform tells of them afterwards.

use std::time::Duration;

use dripwheel::sandbox::{
    Action, Author, Carrier, Fault, FaultKind, Format, Mode, PopupAnswer, Shown,
};
use serde_json::{Value, json};

use super::town::{APP_ID, Plan, Town};

const TEMPLATE_SEND: &str = "/cgi-bin/message/template/send";
const BIZSEND: &str = "/cgi-bin/message/subscribe/bizsend";

async fn town(rules: Value) -> (Town, String) {
    let town = Town::with(Plan {
        mode: Mode::Plain,
        rules,
        ..Plan::default()
    })
    .await;
    town.follower("ann").await;
    // What the follow allowed is over: neither of these needs a grant.
    town.pass(3_600);
    let token = town.token().await;
    (town, token)
}

fn order(client_msg_id: &str) -> Value {
    json!({
        "touser": "ann",
        "template_id": "order",
        "url": "https://shop.example/1",
        "client_msg_id": client_msg_id,
        "data": {"number": {"value": "A-1"}, "thing": {"value": "甜甜圈"}},
    })
}

fn answer(template_id: &str, accept: bool) -> PopupAnswer {
    let template_id = template_id.to_owned();
    PopupAnswer {
        template_id,
        accept,
    }
}

fn popup(answers: Vec<PopupAnswer>) -> Action {
    Action::Popup { answers, scene: 1 }
}

#[tokio::test]
async fn a_template_message_arrives_once_under_its_name_and_its_result_follows() {
    let (town, token) = town(json!({})).await;
    let first = town.call(&token, TEMPLATE_SEND, order("MSG_1")).await;
    assert_eq!(first["errcode"], 0);
    let again = town.call(&token, TEMPLATE_SEND, order("MSG_1")).await;
    assert_eq!(again["msgid"], first["msgid"]);
    let result = town.pushed("TEMPLATESENDJOBFINISH").await;
    let id = first["msgid"].as_u64().unwrap();
    assert!(result.contains(&format!("<MsgID>{id}</MsgID><Status><![CDATA[success]]>")));
    assert!(result.contains("<FromUserName><![CDATA[ann]]>"));

    let received = town.received("ann");
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].0, Carrier::TemplateMessage);
    let sent = town.control.sent(None, None, 0, 9);
    assert_eq!((sent.len(), sent[1].sent.received), (2, false));
    assert_eq!(sent[0].sent.msg_id, Some(id));
    let chat = town.control.messages(APP_ID, "ann").unwrap();
    let last = chat.last().unwrap();
    assert_eq!(last.author, Author::TemplateMessage);
    let Shown::Template { rows, url, .. } = &last.shown else {
        panic!("not a template");
    };
    assert_eq!(rows[1], ("thing".to_owned(), "甜甜圈".to_owned()));
    assert_eq!(url, "https://shop.example/1");

    // Ten minutes later the name is free again.
    town.pass(600);
    let next = town.call(&token, TEMPLATE_SEND, order("MSG_1")).await;
    assert_ne!(next["msgid"], first["msgid"]);
    assert_eq!(town.received("ann").len(), 2);
    let unnamed = order("");
    town.call(&token, TEMPLATE_SEND, unnamed.clone()).await;
    town.call(&token, TEMPLATE_SEND, unnamed).await;
    assert_eq!(town.received("ann").len(), 4);
}

#[tokio::test]
async fn a_template_message_may_fail_after_it_was_accepted() {
    let (town, token) = town(json!({})).await;
    let muted = json!({"account": APP_ID, "openid": "ann", "muted": true});
    assert_eq!(town.control_api("mute", muted).await.1["muted"], true);
    town.act("ann", Action::Text { text: "hi".into() }).await;
    assert_eq!(town.text(&token, "ann").await, 48002);
    let sent = town.call(&token, TEMPLATE_SEND, order("a")).await;
    assert_eq!(sent["errcode"], 0);
    town.pushed("<Status><![CDATA[failed:user block]]>").await;
    town.control.mute(APP_ID, "ann", false).unwrap();
    let fault = json!({"faults": [{"api": TEMPLATE_SEND, "kind": "undelivered", "times": 1}]});
    assert_eq!(town.control_api("faults", fault).await.0, 200);
    let sent = town.call(&token, TEMPLATE_SEND, order("b")).await;
    assert_eq!(sent["errcode"], 0);
    town.pushed("<Status><![CDATA[failed: system failed]]>")
        .await;
    assert_eq!(town.received("ann").len(), 0);
}

#[tokio::test]
async fn each_refusal_of_a_template_has_its_code() {
    let templates = json!([
        {"id": "order", "kind": "message", "title": "订单", "keys": ["number", "thing"]},
        {"id": "lesson", "kind": "subscription"},
    ]);
    let (town, token) = town(json!({"templates": templates})).await;
    town.person("eve");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = order("");
        change(&mut body);
        body
    };
    let cases = [
        (with(&|body| body["touser"] = "who".into()), 40003),
        (with(&|body| body["touser"] = "eve".into()), 43004),
        (with(&|body| body["template_id"] = "lesson".into()), 40037),
        (with(&|body| body["template_id"] = "".into()), 40037),
        (
            with(&|body| body["data"]["thing"]["value"] = "".into()),
            47003,
        ),
        (
            with(&|body| body["data"] = json!({"number": {"value": 1}})),
            47003,
        ),
        (with(&|body| body["data"] = json!([])), 47003),
    ];
    for (body, wanted) in cases {
        let answer = town.call(&token, TEMPLATE_SEND, body.clone()).await;
        assert_eq!(answer["errcode"], wanted, "{body}");
        if wanted == 47003 && body["data"].is_object() {
            let text = answer["errmsg"].as_str().unwrap();
            assert!(text.contains("data.thing.value"), "{text}");
        }
    }
    let path = format!("{TEMPLATE_SEND}?access_token={token}");
    assert_eq!(town.post(&path, "[").await["errcode"], 47001);
    let codes: Vec<_> = town.control.sent(None, None, 0, 99);
    assert!(
        codes
            .iter()
            .all(|one| !one.sent.received && one.sent.errcode != 0)
    );
    assert_eq!(codes.len(), 8);
}

#[tokio::test]
async fn one_consent_is_one_notice_at_any_time() {
    let (town, token) = town(json!({})).await;
    let lesson = json!({
        "touser": "ann",
        "template_id": "lesson",
        "page": "https://school.example/2",
        "data": {"thing1": {"value": "第二课"}},
    });
    let send = || async { town.call(&token, BIZSEND, lesson.clone()).await["errcode"].clone() };
    assert_eq!(send().await, 43101);
    let pushed = town
        .act(
            "ann",
            popup(vec![answer("lesson", true), answer("news", false)]),
        )
        .await;
    assert!(pushed.accepted);
    let event = town.pushed("subscribe_msg_popup_event").await;
    assert_eq!(event.matches("<List>").count(), 2);
    assert!(event.contains("<PopupScene>1</PopupScene>"), "{event}");

    town.pass(90 * 86_400);
    let token = town.token().await;
    let send = || async { town.call(&token, BIZSEND, lesson.clone()).await["errcode"].clone() };
    assert_eq!(send().await, 0);
    assert_eq!(send().await, 43101);
    let event = town.pushed("subscribe_msg_sent_event").await;
    let sent = town.control.sent(None, None, 0, 9);
    let id = sent[1].sent.msg_id.unwrap();
    assert!(event.contains(&format!(
        "<List><TemplateId><![CDATA[lesson]]></TemplateId><MsgID>{id}</MsgID>\
         <ErrorCode>0</ErrorCode><ErrorStatus><![CDATA[success]]></ErrorStatus></List>"
    )));
    let received = town.received("ann");
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].0, Carrier::SubscriptionNotice);
    assert_eq!(received[0].1["data"]["thing1"]["value"], "第二课");
}

#[tokio::test]
async fn consent_adds_up_and_can_be_withdrawn() {
    let (town, token) = town(json!({})).await;
    let lesson = json!({"touser": "ann", "template_id": "lesson", "data": {}});
    for _ in 0..3 {
        town.act("ann", popup(vec![answer("lesson", true)])).await;
    }
    // A refusal in one window takes back nothing.
    town.act("ann", popup(vec![answer("lesson", false)])).await;
    let fault = FaultKind::Undelivered {
        status: "rejected by content check".to_owned(),
        code: 20003,
    };
    town.control
        .add_faults(vec![Fault::new(BIZSEND, fault, 1)])
        .unwrap();
    assert_eq!(
        town.call(&token, BIZSEND, lesson.clone()).await["errcode"],
        0
    );
    town.pushed("<ErrorCode>20003</ErrorCode>").await;
    assert_eq!(town.received("ann").len(), 0);
    assert_eq!(
        town.call(&token, BIZSEND, lesson.clone()).await["errcode"],
        0
    );
    let left = town.control.follower(APP_ID, "ann").unwrap();
    assert_eq!(left.consents.get("lesson"), Some(&1));
    let template_ids = vec!["lesson".to_owned()];
    town.act("ann", Action::Withdraw { template_ids }).await;
    let event = town.pushed("subscribe_msg_change_event").await;
    assert!(event.contains("<![CDATA[reject]]></SubscribeStatusString></List>"));
    assert_eq!(town.call(&token, BIZSEND, lesson).await["errcode"], 43101);
}

#[tokio::test]
async fn one_answer_in_json_is_no_list() {
    let town = Town::with(Plan {
        mode: Mode::Plain,
        format: Format::Json,
        ..Plan::default()
    })
    .await;
    town.follower("ann").await;
    let told = |got: &str| serde_json::from_str::<Value>(got).unwrap()["List"].clone();
    town.act("ann", popup(vec![answer("lesson", true)])).await;
    let one = told(&town.server.got()[1].body);
    assert_eq!(one["SubscribeStatusString"], "accept");
    let two = vec![answer("lesson", true), answer("news", false)];
    town.act("ann", popup(two)).await;
    let two = told(&town.server.got()[2].body);
    assert_eq!((&two[0], &two[1]["TemplateId"]), (&one, &json!("news")));
}

#[tokio::test]
async fn the_phone_shows_a_card_and_takes_consent() {
    let templates = json!([
        {"id": "lesson", "kind": "subscription", "title": "上课提醒", "keys": ["thing1"]},
    ]);
    let (town, token) = town(json!({"templates": templates})).await;
    let press = |button: &str| {
        let form = format!("account={APP_ID}&follower=ann&lang=en&value=lesson&do={button}");
        let request = town
            .http
            .post(town.url("/page/do"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        async { request.send().await.unwrap().status().as_u16() }
    };
    let page = || async {
        let url = town.url(&format!("/?account={APP_ID}&follower=ann&lang=en"));
        town.http
            .get(url)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    };
    assert!(page().await.contains("上课提醒 <b>0</b>"));
    assert_eq!(press("accept").await, 303);
    town.pushed("subscribe_msg_popup_event").await;
    assert!(page().await.contains("上课提醒 <b>1</b>"));
    let lesson = json!({
        "touser": "ann",
        "template_id": "lesson",
        "data": {"thing1": {"value": "<b>二</b>"}},
    });
    assert_eq!(town.call(&token, BIZSEND, lesson).await["errcode"], 0);
    let shown = page().await;
    assert!(
        shown.contains("<dt>thing1</dt><dd>&#60;b&#62;二&#60;/b&#62;</dd>"),
        "{shown}"
    );
    assert!(shown.contains("· subscription notice</p>"), "{shown}");
    assert_eq!(press("mute").await, 303);
    assert!(town.control.follower(APP_ID, "ann").unwrap().muted);
    let unknown = popup(vec![answer("unknown", true)]);
    assert!(town.control.act(APP_ID, "ann", unknown).await.is_err());
}

#[tokio::test]
async fn a_result_may_be_lost_while_other_events_come_through() {
    let (town, token) = town(json!({})).await;
    let rule = json!({"faults": [
        {"api": "callback", "event": "template_result", "kind": "drop", "times": 1},
    ]});
    assert_eq!(town.control_api("faults", rule).await.0, 200);
    town.act("ann", Action::Click { key: "K".into() }).await;
    let lost = town.call(&token, TEMPLATE_SEND, order("a")).await;
    for _ in 0..6_000 {
        if town.control.faults()[0].hits > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let told = town.call(&token, TEMPLATE_SEND, order("b")).await;
    let result = town.pushed("TEMPLATESENDJOBFINISH").await;
    assert!(result.contains(&format!("<MsgID>{}<", told["msgid"])));
    assert!(!result.contains(&lost["msgid"].to_string()));
    assert!(town.pushed("CLICK").await.contains("<![CDATA[K]]>"));
    let rule = json!({"faults": [{"api": BIZSEND, "event": "follow", "kind": "hang"}]});
    assert_eq!(town.control_api("faults", rule).await.0, 400);
}

#[tokio::test]
async fn results_are_callbacks_like_any_other_and_end_with_the_sandbox() {
    let town = Town::build(
        Plan {
            mode: Mode::Plain,
            ..Plan::default()
        },
        |settings| settings.limits.result_delay_ms = 3_600_000,
    )
    .await;
    town.follower("ann").await;
    let token = town.token().await;
    town.call(&token, TEMPLATE_SEND, order("")).await;
    // A result that is on its way does not hold up a stop.
    let stopped = tokio::time::timeout(Duration::from_secs(60), town.running.stop()).await;
    assert!(stopped.is_ok());
    assert_eq!(town.server.got().len(), 1);
}
