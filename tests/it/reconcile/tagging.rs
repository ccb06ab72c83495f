//! Tags that are put on here arrive on the platform, and tags of the platform arrive here.

use serde_json::json;

use super::*;

const TAGGING: &str = "/cgi-bin/tags/members/batchtagging";

#[tokio::test]
async fn a_tag_is_made_by_name_and_told_fifty_followers_at_a_time() {
    let stage = Stage::with(&[WELCOME], "").await;
    for n in 0..60 {
        stage.follows(&format!("f{n:02}")).await;
    }
    // Until the platform can be told, changes gather.
    stage
        .platform
        .world()
        .refusals
        .push_back(("/cgi-bin/tags/get", 45011));
    for n in 0..60 {
        let path = format!("/accounts/main/followers/f{n:02}/tags/%E8%B4%B5%E5%AE%BE");
        let (status, body) = stage.ask(Method::PUT, &path).await;
        assert_eq!((status, body), (StatusCode::OK, json!({"tags": ["贵宾"]})));
    }
    stage.pass(minutes(2)).await;
    eventually("everybody is tagged", async || {
        let world = stage.platform.world();
        world.fans.iter().all(|fan| fan.tags == [100])
    })
    .await;
    assert_eq!(stage.platform.asked("/cgi-bin/tags/create").len(), 1);
    eventually("nothing is left to tell", async || {
        stage.number("SELECT count(*) FROM tag_changes").await == 0
    })
    .await;
    let (_, body) = stage
        .ask(
            Method::DELETE,
            "/accounts/main/followers/f00/tags/%E8%B4%B5%E5%AE%BE",
        )
        .await;
    assert_eq!(body, json!({"tags": []}));
    eventually("the tag is taken off", async || {
        stage.platform.world().fans[0].tags.is_empty()
    })
    .await;
    stage.end().await;
}

#[tokio::test]
async fn a_follower_who_cannot_be_tagged_keeps_nobody_else_from_it() {
    let stage = Stage::with(&[WELCOME], "").await;
    for openid in ["a", "b", "c"] {
        stage.follows(openid).await;
    }
    stage.platform.world().untaggable.push("b".to_owned());
    stage.platform.world().refusals.push_back((TAGGING, 45011));
    for openid in ["a", "b", "c"] {
        let path = format!("/accounts/main/followers/{openid}/tags/vip");
        stage.ask(Method::PUT, &path).await;
    }
    eventually("what can be told is told", async || {
        stage.clock.advance(minutes(2));
        tokio::time::sleep(Duration::from_millis(20)).await;
        stage.number("SELECT count(*) FROM tag_changes").await == 0
    })
    .await;
    {
        let world = stage.platform.world();
        let tags = |openid| world.fan(openid).unwrap().tags.clone();
        assert_eq!(
            (tags("a"), tags("b"), tags("c")),
            (vec![100], vec![], vec![100])
        );
    }
    // The platform is the truth.
    let b = "/accounts/main/followers/b";
    eventually("b has no tag here either", async || {
        stage.get(b).await["tags"] == json!([])
    })
    .await;
    stage.end().await;
}

#[tokio::test]
async fn a_tag_waits_until_the_days_calls_are_given_anew() {
    let stage = Stage::with(&[WELCOME], "daily_at: off").await;
    stage.follows("ann").await;
    stage.platform.world().refusals.push_back((TAGGING, 45009));
    stage
        .ask(Method::PUT, "/accounts/main/followers/ann/tags/vip")
        .await;
    let midnight = 1_700_064_000_000_i64;
    let waits = format!("SELECT count(*) FROM tag_changes WHERE next_at >= {midnight}");
    eventually("the tag waits for the day's end", async || {
        stage.clock.advance(minutes(1));
        stage.number(&waits).await == 1
    })
    .await;
    assert_eq!(stage.platform.asked(TAGGING).len(), 1);
    stage.pass(minutes(24 * 60)).await;
    eventually("ann is tagged", async || {
        stage.platform.world().fan("ann").unwrap().tags == [100]
    })
    .await;
    stage.end().await;
}

#[tokio::test]
async fn a_refusal_of_the_account_is_heard_once_and_sets_nobody_apart() {
    const TAGS: &str = "/cgi-bin/tags/get";
    let stage = Stage::with(&[WELCOME], "daily_at: off").await;
    let refuse = |count| {
        let mut world = stage.platform.world();
        world.refusals = std::iter::repeat_n((TAGS, 48001), count).collect();
    };
    let all_wait = async || {
        eventually("every tag waits", async || {
            let now = stage.clock.now().0;
            let waits = format!("SELECT count(*) FROM tag_changes WHERE next_at > {now}");
            stage.number(&waits).await == 10
        })
        .await;
    };
    refuse(100);
    for n in 0..5 {
        stage.follows(&format!("f{n}")).await;
        for tag in ["old", "vip"] {
            let path = format!("/accounts/main/followers/f{n}/tags/{tag}");
            stage.ask(Method::PUT, &path).await;
        }
    }
    all_wait().await;
    let asked = stage.platform.asked(TAGS).len();
    stage.pass(minutes(11)).await;
    all_wait().await;
    assert_eq!(stage.platform.asked(TAGS).len(), asked + 1);
    refuse(0);
    stage.pass(minutes(11)).await;
    eventually("every tag is told", async || {
        stage.number("SELECT count(*) FROM tag_changes").await == 0
    })
    .await;
    let told = stage.platform.asked(TAGGING);
    let together = |call: &Value| call["openid_list"].as_array().unwrap().len() == 5;
    assert!(told.len() == 2 && told.iter().all(together), "{told:?}");
    stage.end().await;
}

#[tokio::test]
async fn a_refresh_brings_the_platforms_tags_and_leaves_our_unsent_ones() {
    let stage = Stage::with(&[WELCOME], "").await;
    stage.follows("ann").await;
    stage.platform.world().tags.insert(2, "星标组".to_owned());
    stage.platform.world().fans[0].tags = vec![2];
    stage
        .platform
        .world()
        .refusals
        .push_back(("/cgi-bin/tags/get", 45011));
    stage
        .ask(Method::PUT, "/accounts/main/followers/ann/tags/vip")
        .await;
    eventually("the tag waits", async || {
        stage
            .number("SELECT count(*) FROM tag_changes WHERE next_at > 0")
            .await
            == 1
    })
    .await;
    let sync = stage.synced("?refresh=true").await;
    assert_eq!(
        (&sync["refreshed"], &sync["refresh"]),
        (&1.into(), &true.into())
    );
    let ann = stage.get("/accounts/main/followers/ann").await;
    assert_eq!(ann["tags"], json!(["星标组", "vip"]));
    assert_eq!(ann["language"], "zh_CN");
    // Without a refresh nobody who is known is asked about.
    let before = stage.platform.asked("/cgi-bin/user/info/batchget").len();
    stage.synced("").await;
    assert_eq!(
        stage.platform.asked("/cgi-bin/user/info/batchget").len(),
        before
    );
    stage.end().await;
}

#[tokio::test]
async fn a_tag_has_a_name_and_a_follower_who_follows() {
    let stage = Stage::with(&[WELCOME], "").await;
    stage.follows("ann").await;
    stage.unfollows("ann").await;
    for (path, status) in [
        ("ann/tags/vip", StatusCode::CONFLICT),
        ("bob/tags/vip", StatusCode::NOT_FOUND),
        ("ann/tags/%20", StatusCode::BAD_REQUEST),
        ("ann/tags/a%0Ab", StatusCode::BAD_REQUEST),
        (
            "ann/tags/0123456789012345678901234567890",
            StatusCode::BAD_REQUEST,
        ),
    ] {
        let path = format!("/accounts/main/followers/{path}");
        assert_eq!(stage.ask(Method::PUT, &path).await.0, status, "{path}");
    }
    stage.end().await;
}
