//! What the platform refuses pauses the sync, and never the sending.

use super::*;

async fn waiting(stage: &Stage) -> Value {
    eventually("the sync waits", async || {
        stage.sync().await["waits_until"].is_string()
    })
    .await;
    stage.sync().await
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_waited_for_while_sending_goes_on() {
    for (code, span) in [(45011, minutes(2)), (45009, minutes(24 * 60))] {
        let mut stage = Stage::with(&[WELCOME], "daily_at: off").await;
        stage.platform.follows("bob", stage.second());
        stage
            .platform
            .world()
            .refusals
            .push_back(("/cgi-bin/user/get", code));
        stage.ask(Method::POST, "/accounts/main/sync").await;
        let sync = waiting(&stage).await;
        assert_eq!(sync["state"], "running");
        assert!(
            sync["detail"].as_str().unwrap().contains(&code.to_string()),
            "{sync}"
        );
        stage.follows("ann").await;
        stage.received("ann", &["hello"]).await;
        assert_eq!(
            stage.get("/accounts/main").await["paused_until"],
            Value::Null
        );
        // A restart does not ask earlier.
        stage.stop().await;
        stage.start().await;
        stage.pass(Duration::from_secs(20)).await;
        assert_eq!(stage.platform.asked("/cgi-bin/user/get").len(), 1);
        stage.pass(span).await;
        let sync = stage.completed().await;
        assert_eq!((&sync["found"], &sync["detail"]), (&1.into(), &Value::Null));
        stage.end().await;
    }
}

#[tokio::test]
async fn a_sync_that_finds_an_interface_resting_waits_for_it() {
    let stage = Stage::with(&[WELCOME], "daily_at: off").await;
    stage.platform.follows("bob", stage.second());
    stage
        .platform
        .world()
        .refusals
        .push_back(("/cgi-bin/user/get", 45009));
    let path = "/accounts/main/sync";
    stage.ask(Method::POST, path).await;
    waiting(&stage).await;
    // The next sync knows of the used-up day without asking.
    stage.ask(Method::DELETE, path).await;
    stage.ask(Method::POST, path).await;
    let sync = waiting(&stage).await;
    assert_eq!(
        (&sync["number"], &sync["state"]),
        (&2.into(), &"running".into())
    );
    assert_eq!(stage.platform.asked("/cgi-bin/user/get").len(), 1);
    assert_eq!(stage.number("SELECT failures FROM syncs").await, 0);
    stage.pass(minutes(24 * 60)).await;
    assert_eq!(stage.completed().await["found"], 1);
    stage.end().await;
}

#[tokio::test]
async fn a_refusal_that_only_a_person_can_mend_ends_the_sync_and_says_so() {
    let stage = Stage::with(&[WELCOME], "").await;
    stage
        .platform
        .world()
        .refusals
        .push_back(("/cgi-bin/user/get", 48001));
    stage.ask(Method::POST, "/accounts/main/sync").await;
    eventually("the sync failed", async || {
        stage.sync().await["state"] == "failed"
    })
    .await;
    let sync = stage.sync().await;
    assert!(sync["detail"].as_str().unwrap().contains("48001"), "{sync}");
    stage.follows("ann").await;
    stage.received("ann", &["hello"]).await;
    stage.synced("").await;
    stage.end().await;
}

#[tokio::test]
async fn one_openid_that_is_none_does_not_spoil_the_others() {
    let stage = Stage::with(&[WELCOME], "").await;
    for n in 0..7 {
        stage.follows(&format!("f{n}")).await;
    }
    stage.follows("alien").await;
    stage.platform.world().fans.clear();
    stage.platform.follows("f3", START.seconds());
    stage.pass(minutes(1)).await;
    let sync = stage.synced("").await;
    assert_eq!(sync["gone"], 6);
    // Of an openid that the platform does not take there is no telling.
    for openid in ["f3", "alien"] {
        let path = format!("/accounts/main/followers/{openid}");
        assert_eq!(stage.get(&path).await["following"], true, "{openid}");
    }
    stage.end().await;
}

#[tokio::test]
async fn a_platform_that_takes_nobodys_openid_unfollows_nobody() {
    let stage = Stage::with(&[WELCOME], "").await;
    for n in 0..9 {
        stage.follows(&format!("alien{n}")).await;
    }
    stage.platform.world().fans.clear();
    stage.pass(minutes(1)).await;
    stage.ask(Method::POST, "/accounts/main/sync").await;
    eventually("the sync failed", async || {
        stage.sync().await["state"] == "failed"
    })
    .await;
    let sync = stage.sync().await;
    let detail = sync["detail"].as_str().unwrap();
    assert!(
        detail.contains("40003") && detail.contains("app_id"),
        "{sync}"
    );
    let following = "SELECT count(*) FROM followers WHERE following = 1";
    assert_eq!(stage.number(following).await, 9);
    stage.end().await;
}

#[tokio::test]
async fn a_sync_begins_every_day_at_its_hour() {
    let stage = Stage::with(&[WELCOME], "daily_at: '04:30'").await;
    assert_eq!(stage.sync().await["state"], "never");
    stage.pass(minutes(24 * 60)).await;
    let sync = stage.completed().await;
    assert_eq!(
        (&sync["reason"], &sync["number"]),
        (&"daily".into(), &1.into())
    );
    stage.pass(minutes(60)).await;
    assert_eq!(stage.sync().await["number"], 1);
    stage.pass(minutes(24 * 60)).await;
    eventually("the next day's sync is completed", async || {
        let sync = stage.sync().await;
        sync["number"] == 2 && sync["state"] == "completed"
    })
    .await;
    stage.end().await;
}
