//! Who leaves is forgotten, and known again when they come back.

use super::*;

const OPENID: &str = "o6_bmjrPTlm6_2sgVt7hMZOPfL2M";

fn welcome(reenter: &str) -> String {
    format!("{WELCOME}reenter: {reenter}\n")
}

#[tokio::test]
async fn nothing_of_somebody_who_left_stays_but_a_pseudonym() {
    let stage = Stage::with(&[WELCOME], "").await;
    stage.platform.follows(OPENID, stage.second());
    stage.told(OPENID, "subscribe", stage.second()).await;
    stage.received(OPENID, &["hello"]).await;
    stage
        .told(OPENID, "text:my secret", stage.second() + 1)
        .await;
    stage
        .ask(
            Method::PUT,
            &format!("/accounts/main/followers/{OPENID}/tags/vip"),
        )
        .await;
    assert!(!stage.places(OPENID).await.is_empty());
    assert!(!stage.places("my secret").await.is_empty());
    stage.pass(minutes(1)).await;
    stage.unfollows(OPENID).await;
    for text in [OPENID, "my secret", "vip"] {
        assert_eq!(stage.places(text).await, [""; 0], "{text}");
    }
    for table in ["grants", "consents", "tag_changes"] {
        let rows = format!("SELECT count(*) FROM {table}");
        assert_eq!(stage.number(&rows).await, 0, "{table}");
    }
    // Support finds the story by the openid all the same, and counts stay.
    let path = format!("/accounts/main/followers/{OPENID}");
    let shown = stage.get(&path).await;
    assert!(
        shown["openid"].as_str().unwrap().starts_with("erased "),
        "{shown}"
    );
    assert_eq!(
        (&shown["following"], &shown["language"]),
        (&false.into(), &Value::Null)
    );
    let told = stage.get(&format!("{path}/timeline")).await;
    let kinds: Vec<_> = told["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["kind"])
        .collect();
    assert_eq!(kinds, ["followed", "message", "unfollowed"]);
    assert_eq!(told["passages"][0]["steps"][0]["state"], "sent");
    // So does whoever reads the file without the server.
    let read = dripwheel::store::open_to_read(&stage.database.url)
        .await
        .unwrap();
    let found = dripwheel::store::timeline::of(&read, "main", OPENID)
        .await
        .unwrap();
    assert_eq!(found.unwrap().enrollments.len(), 1);
    stage.end().await;
}

#[tokio::test]
async fn who_comes_back_is_known_again_and_the_rule_for_entering_again_holds() {
    for (reenter, after, passages) in [
        ("never", minutes(60 * 24 * 60), 1),
        ("after 1d", minutes(60), 1),
        ("after 1d", minutes(60 * 25), 2),
        ("always", minutes(1), 2),
    ] {
        let stage = Stage::with(&[&welcome(reenter)], "daily_at: off").await;
        stage.follows(OPENID).await;
        stage.received(OPENID, &["hello"]).await;
        stage.pass(Duration::from_secs(30)).await;
        stage.unfollows(OPENID).await;
        assert!(stage.places(OPENID).await.is_empty(), "{reenter}");
        stage.pass(after).await;
        stage.follows(OPENID).await;
        assert_eq!(stage.number("SELECT count(*) FROM followers").await, 1);
        assert_eq!(stage.enrollments(OPENID).await.len(), passages, "{reenter}");
        let hellos = vec!["hello"; passages];
        stage.received(OPENID, &hellos).await;
        let shown = stage
            .get(&format!("/accounts/main/followers/{OPENID}"))
            .await;
        assert_eq!(shown["openid"], OPENID);
        stage.end().await;
    }
}

#[tokio::test]
async fn a_callback_that_comes_late_does_not_bring_the_name_back() {
    let stage = Stage::with(&[WELCOME], "").await;
    stage.follows(OPENID).await;
    stage.pass(minutes(2)).await;
    let left_at = stage.second();
    stage.unfollows(OPENID).await;
    for (event, at) in [
        ("text:late words", left_at - 60),
        ("subscribe", left_at - 90),
        ("view", left_at + 5),
        ("unsubscribe", left_at + 6),
    ] {
        stage.told(OPENID, event, at).await;
        assert_eq!(stage.places(OPENID).await, [""; 0], "{event}");
    }
    assert_eq!(stage.places("late words").await, [""; 0]);
    // What shows them following does.
    stage.told(OPENID, "text:back again", left_at + 7).await;
    assert_eq!(stage.places(OPENID).await, ["followers.openid"]);
    assert_eq!(stage.places("back again").await, ["receipts.detail"]);
    stage.end().await;
}

#[tokio::test]
async fn who_left_unnoticed_and_who_withdrew_their_data_are_forgotten_too() {
    let stage = Stage::with(&[WELCOME], "").await;
    stage.follows("o_unnoticed").await;
    stage.follows("o_withdrawn").await;
    stage.pass(minutes(1)).await;
    stage.platform.leaves("o_unnoticed");
    stage.synced("").await;
    assert_eq!(stage.places("o_unnoticed").await, [""; 0]);
    stage
        .told("o_withdrawn", "user_authorization_revoke", stage.second())
        .await;
    assert_eq!(stage.places("o_withdrawn").await, [""; 0]);
    assert_eq!(
        stage.enrollments("o_withdrawn").await[0]["state"],
        "cancelled"
    );
    // They still follow, and the list says so; only an act of theirs makes them known again.
    stage.pass(minutes(1)).await;
    stage.synced("").await;
    assert_eq!(stage.places("o_withdrawn").await, [""; 0]);
    stage.told("o_withdrawn", "text:hi", stage.second()).await;
    assert_eq!(stage.places("o_withdrawn").await, ["followers.openid"]);
    stage.end().await;
}

#[tokio::test]
async fn somebody_is_forgotten_on_request() {
    let stage = Stage::with(&[WELCOME], "").await;
    stage.follows(OPENID).await;
    let path = format!("/accounts/main/followers/{OPENID}");
    let (status, shown) = stage.ask(Method::DELETE, &path).await;
    assert_eq!(status, StatusCode::OK);
    assert!(shown["openid"].as_str().unwrap().starts_with("erased "));
    assert_eq!(stage.places(OPENID).await, [""; 0]);
    assert_eq!(stage.enrollments(OPENID).await[0]["state"], "cancelled");
    let (status, _) = stage
        .ask(Method::DELETE, "/accounts/main/followers/nobody")
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    stage.end().await;
}

#[tokio::test]
async fn an_operator_may_keep_the_names() {
    let stage = Stage::of(&[WELCOME], "", "erase_on_unfollow: false").await;
    stage.follows(OPENID).await;
    stage.unfollows(OPENID).await;
    assert_eq!(stage.places(OPENID).await, ["followers.openid"]);
    stage.end().await;
}

#[tokio::test]
async fn who_left_before_anybody_was_forgotten_is_forgotten_at_the_next_start() {
    let mut stage = Stage::of(&[WELCOME], "", "erase_on_unfollow: false").await;
    for n in 0..700 {
        let openid = format!("o_before_{n}");
        stage.told(&openid, "subscribe", stage.second()).await;
        stage.told(&openid, "unsubscribe", stage.second()).await;
    }
    stage.follows("o_stays").await;
    assert!(!stage.places("o_before_").await.is_empty());
    stage.stop().await;
    stage.reconfigure("erase_on_unfollow: false", "erase_on_unfollow: true");
    stage.start().await;
    eventually("they are forgotten", async || {
        stage.places("o_before_").await.is_empty()
    })
    .await;
    assert_eq!(stage.places("o_stays").await, ["followers.openid"]);
    stage.end().await;
}

#[tokio::test]
async fn who_comes_and_goes_within_one_commit_is_forgotten_with_it() {
    let stage = Stage::with(&[WELCOME], "").await;
    let now = stage.second();
    // Together they are one commit or a few, as it happens; the rows must be the same.
    let events = (0..40).map(|n| {
        let event = if n % 2 == 0 {
            "subscribe"
        } else {
            "unsubscribe"
        };
        stage.told(OPENID, event, now + n)
    });
    futures_util::future::join_all(events).await;
    stage.told(OPENID, "unsubscribe", now + 50).await;
    assert_eq!(stage.places(OPENID).await, [""; 0]);
    assert_eq!(stage.number("SELECT count(*) FROM followers").await, 1);
    stage.end().await;
}
