//! Permissions, limits of every interface, and the rules that documents leave open.

use dripwheel::sandbox::{Action, Profile, Sandbox, SandboxSettings, StartError};
use serde_json::{Value, json};

use super::town::{APP_ID, Plan, SEND, Town, account, text};

async fn town(rules: Value) -> (Town, String) {
    let town = Town::with(Plan {
        rules,
        ..Plan::default()
    })
    .await;
    town.follower("ann").await;
    let token = town.token().await;
    (town, token)
}

#[tokio::test]
async fn each_kind_of_account_may_call_what_the_platform_grants_it() {
    let apis = [
        SEND,
        "/cgi-bin/message/template/send",
        "/cgi-bin/message/subscribe/bizsend",
        "/cgi-bin/message/mass/send",
        "/cgi-bin/user/info/batchget",
        "/cgi-bin/tags/create",
        "/cgi-bin/openapi/quota/get",
    ];
    // 1 where the call is let in.
    for (kind, verified, wanted) in [
        ("service", true, [1, 1, 1, 1, 1, 1, 1]),
        ("subscription", true, [1, 0, 0, 0, 1, 1, 1]),
        ("service", false, [0, 0, 0, 0, 0, 0, 1]),
        ("subscription", false, [0, 0, 0, 0, 0, 0, 1]),
    ] {
        let (town, token) = town(json!({"kind": kind, "verified": verified})).await;
        for (api, wanted) in apis.iter().zip(wanted) {
            let answer = town.call(&token, api, json!({})).await;
            let is_in = i32::from(answer["errcode"] != 48001);
            assert_eq!(is_in, wanted, "{kind} {verified} {api}: {answer}");
        }
        // A refusal for want of permission counts as no call.
        let quota = json!({"cgi_path": apis[1]});
        let quota = town.call(&token, apis[6], quota).await;
        assert_eq!(quota["quota"]["used"], wanted[1], "{kind} {verified}");
    }
}

#[tokio::test]
async fn every_interface_has_a_quota_that_can_be_asked_for_and_set() {
    let quotas = json!({
        "/cgi-bin/user/info": {"per_day": 2},
        "/cgi-bin/tags/create": {"per_minute": 1},
    });
    let (town, token) = town(json!({"quotas": quotas})).await;
    let info = format!("/cgi-bin/user/info?access_token={token}&openid=ann");
    let tag = |name: &str| json!({"tag": {"name": name}});
    for wanted in [json!(1), json!(1), Value::Null] {
        assert_eq!(town.get(&info).await["subscribe"], wanted);
    }
    assert_eq!(town.get(&info).await["errcode"], 45009);
    let create = "/cgi-bin/tags/create";
    assert_eq!(
        town.call(&token, create, tag("a")).await["tag"]["name"],
        "a"
    );
    assert_eq!(town.call(&token, create, tag("b")).await["errcode"], 45011);
    let ask = |path: &str| {
        let body = json!({"cgi_path": path});
        let (town, token) = (&town, &token);
        async move { town.call(token, "/cgi-bin/openapi/quota/get", body).await }
    };
    let told = ask("/cgi-bin/user/info").await;
    assert_eq!(
        told["quota"],
        json!({"daily_limit": 2, "used": 2, "remain": 0})
    );
    let told = ask("/cgi-bin/message/mass/send").await;
    assert_eq!(told["quota"]["daily_limit"], 100);
    assert_eq!(
        told["rate_limit"],
        json!({"call_count": 60, "refresh_second": 60})
    );
    assert_eq!(ask("cgi-bin/user/info").await["errcode"], 76003);

    let state = town.get("/sandbox/api/state").await;
    let quotas = state["accounts"][0]["quotas"].as_array().unwrap();
    let of = |path: &str| quotas.iter().find(|one| one["path"] == path).unwrap();
    assert_eq!(of("/cgi-bin/user/info")["used"], 2);
    assert_eq!(of(create)["used_in_minute"], 1);
    assert_eq!(of(create)["per_minute"], 1);
}

#[tokio::test]
async fn quotas_are_cleared_ten_times_a_month() {
    let (town, token) = town(json!({"quotas": {SEND: {"per_day": 1}}})).await;
    town.act("ann", Action::Text { text: "hi".into() }).await;
    for wanted in [0, 45009] {
        assert_eq!(town.text(&token, "ann").await, wanted);
    }
    let clear = |app_id: &str| {
        let body = json!({"appid": app_id});
        let (town, token) = (&town, &token);
        async move { town.call(token, "/cgi-bin/clear_quota", body).await["errcode"].as_i64() }
    };
    assert_eq!(clear("wx0").await, Some(40013));
    for _ in 0..10 {
        assert_eq!(clear(APP_ID).await, Some(0));
    }
    assert_eq!(town.text(&token, "ann").await, 0);
    assert_eq!(clear(APP_ID).await, Some(48006));
    assert_eq!(town.control.state().accounts[0].clears, 10);
    assert_eq!(town.text(&token, "ann").await, 45009);
}

#[tokio::test]
async fn a_day_begins_when_the_rules_say_so() {
    // It is 6:13:20 in Beijing.
    let quotas = json!({SEND: {"per_day": 1}});
    for (begins_at, wanted) in [(0, 45009), (7, 0)] {
        let rules = json!({"quotas": quotas, "day_begins_at": begins_at});
        let (town, token) = town(rules).await;
        assert_eq!(town.text(&token, "ann").await, 0);
        town.pass(3_600);
        town.act("ann", Action::Click { key: "K".into() }).await;
        assert_eq!(town.text(&token, "ann").await, wanted, "{begins_at}");
    }
}

#[tokio::test]
async fn open_questions_of_grants_are_answered_by_the_rules() {
    let click = || Action::Click { key: "K".into() };
    // A click ten seconds after a message: how many messages, and is it open an hour later?
    for (stacking, sends, later) in [
        (json!({}), vec![0, 0, 0, 0, 0, 45047], 0),
        (json!({"stacking": "max"}), vec![0, 0, 0, 0, 0, 45047], 0),
        (json!({"stacking": "replace"}), vec![0, 0, 0, 45047], 45015),
        (
            json!({"stacking": "add"}),
            [vec![0; 11], vec![45047]].concat(),
            0,
        ),
    ] {
        for at_once in [true, false] {
            let (town, token) = town(stacking.clone()).await;
            town.act("ann", Action::Text { text: "hi".into() }).await;
            town.pass(10);
            town.act("ann", click()).await;
            if at_once {
                for wanted in &sends {
                    assert_eq!(town.text(&token, "ann").await, *wanted, "{stacking}");
                }
            } else {
                town.pass(3_600);
                assert_eq!(town.text(&token, "ann").await, later, "{stacking}");
            }
        }
    }
}

#[tokio::test]
async fn a_text_is_as_long_as_the_rules_allow() {
    for (rules, length, wanted) in [
        (json!({}), 2048, 0),
        (json!({}), 2049, 45002),
        (json!({"text_bytes_max": 600}), 600, 0),
        (json!({"text_bytes_max": 600}), 603, 45002),
    ] {
        let (town, token) = town(rules).await;
        let content = "x".repeat(length);
        let body = json!({"touser": "ann", "msgtype": "text", "text": {"content": content}});
        assert_eq!(
            town.send(&token, &body.to_string()).await,
            wanted,
            "{length}"
        );
    }
}

#[tokio::test]
async fn the_last_second_is_closed_unless_the_rules_open_it() {
    for (profile, seconds) in [(Profile::Wechat2023, 60), (Profile::Wechat48h, 172_800)] {
        for (counts, at_end) in [(false, 45015), (true, 0)] {
            for (wait, wanted) in [(-1, 0), (0, at_end), (1, 45015)] {
                let town = Town::with(Plan {
                    profile,
                    rules: json!({"last_instant_counts": counts}),
                    ..Plan::default()
                })
                .await;
                town.follower("ann").await;
                // From the second that was pushed as CreateTime.
                let start = dripwheel::clock::Timestamp::from_seconds(1_700_000_000);
                let span = std::time::Duration::from_secs(seconds);
                let end = start.plus(span).0 + wait * 1_000;
                town.clock.set(dripwheel::clock::Timestamp(end));
                let token = town.token().await;
                let code = town.text(&token, "ann").await;
                assert_eq!(code, wanted, "{profile:?} {counts} {wait}");
            }
        }
    }
}

#[tokio::test]
async fn rules_that_cannot_be_played_stop_the_start() {
    for rules in [
        json!({"quotas": {"/cgi-bin/nothing": {"per_day": 1}}}),
        json!({"day_begins_at": 24}),
        json!({"page_max": 0}),
        json!({"page_max": 10_001}),
    ] {
        let plan = Plan {
            rules: rules.clone(),
            ..Plan::default()
        };
        let settings = SandboxSettings::new(vec![account(&plan, ([127, 0, 0, 1], 9).into())]);
        let clock = std::sync::Arc::new(dripwheel::clock::SystemClock);
        let started = Sandbox::start(settings, clock).await;
        assert!(matches!(started, Err(StartError::Rules { .. })), "{rules}");
    }
}

#[tokio::test]
async fn limits_hold_for_one_account_and_one_call_at_a_time() {
    let quotas = json!({"/cgi-bin/message/template/send": {"per_minute": 1}});
    let (town, token) = town(json!({"quotas": quotas})).await;
    let template = json!({"touser": "ann", "template_id": "t", "data": {}});
    let path = "/cgi-bin/message/template/send";
    for wanted in [0, 45011] {
        let answer = town.call(&token, path, template.clone()).await;
        assert_eq!(answer["errcode"], wanted);
    }
    assert_eq!(town.send(&token, &text("ann")).await, 0);
    let sent = town.control.sent(None, None, 0, 9);
    let codes: Vec<_> = sent.iter().map(|one| one.sent.errcode).collect();
    assert_eq!(codes, [0, 45011, 0]);
}
