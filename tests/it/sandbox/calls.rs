//! Calls of the platform: tokens, grants, refusals, media, users, quotas.

use dripwheel::sandbox::{Action, Profile};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::town::{APP_ID, Plan, SECRET, SEND, Town, text};

#[tokio::test]
async fn a_stable_token_is_repeated_until_five_minutes_before_its_end() {
    let town = Town::new().await;
    town.follower("ann").await;
    let first = town.stable_token(false).await;
    assert_eq!(first["expires_in"], 7200);
    town.pass(6899);
    let same = town.stable_token(false).await;
    assert_eq!(same["access_token"], first["access_token"]);
    assert_eq!(same["expires_in"], 301);
    town.pass(1);
    let second = town.stable_token(false).await;
    assert_ne!(second["access_token"], first["access_token"]);
    town.act("ann", Action::Text { text: "hi".into() }).await;
    let (old, new) = (
        first["access_token"].as_str().unwrap(),
        second["access_token"].as_str(),
    );
    town.pass(299);
    assert_eq!(town.text(old, "ann").await, 0);
    town.pass(1);
    assert_eq!(town.text(old, "ann").await, 42001);
    assert_eq!(town.text(new.unwrap(), "ann").await, 0);
}

#[tokio::test]
async fn a_forced_token_kills_the_one_before() {
    let town = Town::new().await;
    town.follower("ann").await;
    let first = town.token().await;
    let second = town.stable_token(true).await;
    assert_eq!(town.text(&first, "ann").await, 40001);
    assert_eq!(
        town.text(second["access_token"].as_str().unwrap(), "ann")
            .await,
        0
    );
    assert_eq!(town.stable_token(true).await["errcode"], 45011);
}

#[tokio::test]
async fn each_kind_of_bad_credential_has_its_code() {
    let town = Town::new().await;
    let body = text("ann");
    assert_eq!(town.post(SEND, body.clone()).await["errcode"], 41001);
    assert_eq!(town.send("nonsense", &body).await, 40014);
    let get = |query: String| {
        let path = format!("/cgi-bin/token?{query}");
        let town = &town;
        async move { town.get(&path).await }
    };
    let all = format!("grant_type=client_credential&appid={APP_ID}&secret={SECRET}");
    assert_eq!(get(all.clone()).await["expires_in"], 7200);
    assert_eq!(
        get(all.replace("client_credential", "x")).await["errcode"],
        40002
    );
    assert_eq!(get(all.replace(APP_ID, "")).await["errcode"], 41002);
    assert_eq!(get(all.replace(APP_ID, "wx0")).await["errcode"], 40013);
    assert_eq!(get(all.replace(SECRET, "wrong")).await["errcode"], 40125);
    assert_eq!(get(all.replace(SECRET, "")).await["errcode"], 41004);
    assert_eq!(town.get("/cgi-bin/stable_token").await["errcode"], 43002);
    assert_eq!(town.get("/cgi-bin/nothing").await["errcode"], 40066);
}

/// Sends one second before, at and after the end of what `action` allows.
async fn check_window(profile: Profile, action: Action, seconds: u64) {
    for (wait, wanted) in [(seconds - 1, 0), (seconds, 45015), (seconds + 1, 45015)] {
        let town = Town::with(Plan {
            profile,
            ..Plan::default()
        })
        .await;
        town.follower("ann").await;
        // What the follow allowed is over, where it is shorter.
        town.pass(61);
        town.act("ann", action.clone()).await;
        // The event's second counts, which began half a second before the clock.
        town.clock.set(town.clock_second());
        town.pass(wait);
        let token = town.token().await;
        assert_eq!(
            town.text(&token, "ann").await,
            wanted,
            "{profile:?} {action:?} after {wait} s"
        );
    }
}

impl Town {
    fn clock_second(&self) -> dripwheel::clock::Timestamp {
        use dripwheel::clock::{Clock, Timestamp};
        Timestamp::from_seconds(self.clock.now().seconds())
    }
}

#[tokio::test]
async fn windows_close_on_the_second_in_both_profiles() {
    let click = Action::Click { key: "K".into() };
    let scan = Action::Scan { scene: "7".into() };
    let text = Action::Text { text: "1".into() };
    let tap = Action::Tap {
        id: "1".into(),
        text: "好".into(),
    };
    for (action, seconds) in [(&click, 60), (&scan, 60), (&tap, 60), (&text, 172_800)] {
        check_window(Profile::Wechat2023, action.clone(), seconds).await;
    }
    for action in [&click, &text] {
        check_window(Profile::Wechat48h, action.clone(), 172_800).await;
    }
}

#[tokio::test]
async fn a_follow_alone_allows_three_messages_for_a_minute() {
    for (wait, wanted) in [(59, 0), (60, 45015), (61, 45015)] {
        let town = Town::new().await;
        town.follower("ann").await;
        town.clock.set(town.clock_second());
        town.pass(wait);
        let token = town.token().await;
        assert_eq!(town.text(&token, "ann").await, wanted, "after {wait} s");
    }
    let town = Town::new().await;
    town.follower("ann").await;
    let token = town.token().await;
    for wanted in [0, 0, 0, 45047] {
        assert_eq!(town.text(&token, "ann").await, wanted);
    }
    town.act("ann", Action::Text { text: "1".into() }).await;
    for wanted in [0, 0, 0, 0, 0, 45047] {
        assert_eq!(town.text(&token, "ann").await, wanted);
    }
}

#[tokio::test]
async fn the_classic_profile_allows_twenty_messages_after_a_follow() {
    let town = Town::with(Plan {
        profile: Profile::Wechat48h,
        ..Plan::default()
    })
    .await;
    town.follower("ann").await;
    town.pass(172_799 - 1);
    let token = town.token().await;
    for _ in 0..20 {
        assert_eq!(town.text(&token, "ann").await, 0);
    }
    assert_eq!(town.text(&token, "ann").await, 45047);
}

#[tokio::test]
async fn each_refusal_of_a_message_has_its_code() {
    let town = Town::new().await;
    town.follower("ann").await;
    town.person("eve");
    let token = town.token().await;
    let body = |msgtype: &str, content: Value| {
        json!({"touser": "ann", "msgtype": msgtype, msgtype: content}).to_string()
    };
    let article = json!({"title": "t", "url": "http://a.example"});
    let cases = [
        (text("nobody"), 40003),
        (text("eve"), 43004),
        (String::new(), 44002),
        ("{".to_owned(), 47001),
        (body("poem", json!({})), 40008),
        (
            r#"{"touser":"ann","msgtype":"text","text":{"content":"\u4f60"}}"#.to_owned(),
            40033,
        ),
        (body("text", json!({"content": "x".repeat(2049)})), 45002),
        (body("text", json!({"content": "x".repeat(20_000)})), 45002),
        (body("news", json!({"articles": [article, article]})), 45008),
        (body("news", json!({"articles": article})), 45162),
        (body("image", json!({"media_id": "unknown"})), 40007),
        (body("mpnewsarticle", json!({})), 44003),
    ];
    for (body, wanted) in cases {
        assert_eq!(town.send(&token, &body).await, wanted, "{body:.80}");
    }
    town.act("ann", Action::Unfollow).await;
    assert_eq!(town.text(&token, "ann").await, 45015);
    assert_eq!(town.control.state().accounts[0].verdicts[&43004], 1);
}

#[tokio::test]
async fn a_refused_message_spends_nothing() {
    let town = Town::new().await;
    town.follower("ann").await;
    let token = town.token().await;
    let bad = r#"{"touser":"ann","msgtype":"image","image":{"media_id":"x"}}"#;
    for _ in 0..5 {
        assert_eq!(town.send(&token, bad).await, 40007);
    }
    assert_eq!(town.text(&token, "ann").await, 0);
}

#[tokio::test]
async fn every_call_is_recorded_in_order_with_its_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sent.jsonl");
    let town = Town::build(Plan::default(), |settings| {
        settings.record_file = Some(path.clone());
    })
    .await;
    town.follower("ann").await;
    let token = town.token().await;
    town.text(&token, "ann").await;
    town.text(&token, "nobody").await;
    let sent = town
        .get(&format!("/sandbox/api/sent?account={APP_ID}"))
        .await;
    assert_eq!(sent[0]["seq"], 1);
    assert_eq!(sent[0]["received"], true);
    assert_eq!(sent[0]["body"], text("ann"));
    assert_eq!(sent[1]["errcode"], 40003);
    assert_eq!(sent[1]["openid"], "nobody");
    let later = town.get("/sandbox/api/sent?after=1&openid=ann").await;
    assert_eq!(later, json!([]));
    let file = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = file
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(Value::from(lines), sent);
    let chat = town
        .get(&format!("/sandbox/api/messages/{APP_ID}/ann"))
        .await;
    assert_eq!(chat[1]["author"], "account");
    assert_eq!(chat[1]["shown"]["content"], "你好");
}

impl Town {
    pub(super) async fn upload(&self, path: &str, bytes: &[u8]) -> Value {
        let part = Part::bytes(bytes.to_vec()).file_name("a.png");
        let form = Form::new().text("note", "first").part("media", part);
        let path = self.url(path);
        self.http
            .post(path)
            .multipart(form)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn an_uploaded_picture_can_be_sent_for_three_days() {
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n rest";
    let town = Town::with(Plan {
        profile: Profile::Wechat48h,
        ..Plan::default()
    })
    .await;
    town.follower("ann").await;
    let token = town.token().await;
    let path = format!("/cgi-bin/media/upload?access_token={token}&type=image");
    let uploaded = town.upload(&path, PNG).await;
    assert_eq!(uploaded["type"], "image");
    let id = uploaded["media_id"].as_str().unwrap();
    let body = json!({"touser": "ann", "msgtype": "image", "image": {"media_id": id}}).to_string();
    assert_eq!(town.send(&token, &body).await, 0);
    let file = town
        .http
        .get(town.url(&format!("/sandbox/media/{id}")))
        .send()
        .await
        .unwrap();
    assert_eq!(file.headers()["content-type"], "image/png");
    assert_eq!(file.bytes().await.unwrap(), PNG);
    town.pass(3 * 86_400);
    town.act("ann", Action::Text { text: "hi".into() }).await;
    let token = town.token().await;
    assert_eq!(town.send(&token, &body).await, 40007);
    let path = format!("/cgi-bin/media/upload?access_token={token}&type=");
    assert_eq!(
        town.upload(&format!("{path}poem"), PNG).await["errcode"],
        40004
    );
    assert_eq!(
        town.upload(&format!("{path}voice"), PNG).await["errcode"],
        40005
    );
    assert_eq!(
        town.post(&format!("{path}image"), "").await["errcode"],
        41005
    );
    let url = town
        .upload(
            &format!("/cgi-bin/media/uploadimg?access_token={token}"),
            PNG,
        )
        .await;
    let url = url["url"].as_str().unwrap().to_owned();
    assert_eq!(town.http.get(url).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn users_are_told_one_by_one_in_batches_and_in_pages() {
    let town = Town::new().await;
    for openid in ["ann", "bob"] {
        town.follower(openid).await;
    }
    town.person("eve");
    town.act(
        "eve",
        Action::Scan {
            scene: "123".into(),
        },
    )
    .await;
    town.act("bob", Action::Unfollow).await;
    let token = town.token().await;
    let ask = |path: &str| format!("/cgi-bin/user/{path}access_token={token}");
    let eve = town.get(&ask("info?openid=eve&")).await;
    assert_eq!(
        (&eve["subscribe"], &eve["qr_scene"]),
        (&json!(1), &json!(123))
    );
    assert_eq!(eve["subscribe_time"], 1_700_000_000);
    let bob = town.get(&ask("info?openid=bob&")).await;
    assert_eq!(bob["subscribe"], 0);
    assert!(bob.get("language").is_none());
    assert_eq!(town.get(&ask("info?openid=who&")).await["errcode"], 40003);
    let page = town.get(&ask("get?")).await;
    assert_eq!(page["data"]["openid"], json!(["ann", "eve"]));
    assert_eq!(
        (&page["total"], &page["next_openid"]),
        (&json!(2), &json!("eve"))
    );
    assert_eq!(town.get(&ask("get?next_openid=eve&")).await["count"], 0);
    let batch = json!({"user_list": [{"openid": "ann", "lang": "en"}, {"openid": "bob"}]});
    let batch = town.post(&ask("info/batchget?"), batch.to_string()).await;
    assert_eq!(batch["user_info_list"][1]["subscribe"], 0);
}

#[tokio::test]
async fn limits_of_calls_hold_until_cleared_or_over() {
    let plan = Plan {
        rules: json!({"quotas": {SEND: {"per_day": 4, "per_minute": 2}}}),
        profile: Profile::Wechat48h,
        ..Plan::default()
    };
    let town = Town::with(plan).await;
    town.follower("ann").await;
    let token = town.token().await;
    for wanted in [0, 0, 45011] {
        assert_eq!(town.text(&token, "ann").await, wanted);
    }
    let path = format!("/cgi-bin/openapi/quota/get?access_token={token}");
    let quota = town
        .post(&path, json!({"cgi_path": SEND}).to_string())
        .await;
    assert_eq!(
        quota["quota"],
        json!({"daily_limit": 4, "used": 2, "remain": 2})
    );
    assert_eq!(
        quota["rate_limit"],
        json!({"call_count": 2, "refresh_second": 60})
    );
    town.pass(60);
    town.text(&token, "ann").await;
    town.text(&token, "ann").await;
    town.pass(60);
    assert_eq!(town.text(&token, "ann").await, 45009);
    let path = format!("/cgi-bin/clear_quota?access_token={token}");
    assert_eq!(
        town.post(&path, json!({"appid": APP_ID}).to_string()).await["errcode"],
        0
    );
    assert_eq!(town.text(&token, "ann").await, 0);
}
