//! Events that never reach the account: lost pushes, and people who act while nobody listens.

use std::sync::Arc;

use dripwheel::clock::ManualClock;
use dripwheel::sandbox::{
    Action, Burst, BurstAction, Fault, FaultKind, NewFollowers, Sandbox, SandboxSettings, Shown,
};
use serde_json::json;

use super::town::{APP_ID, Plan, START, Town, account};

#[tokio::test]
async fn an_event_that_could_not_be_told_three_times_is_lost() {
    // A port that nobody listens on: bound, named, and let go.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let mut settings = SandboxSettings::new(vec![account(&Plan::default(), address)]);
    settings.limits.callback_spacing_ms = 0;
    let clock = Arc::new(ManualClock::at(START));
    let running = Sandbox::start(settings, clock).await.unwrap();
    let control = running.control();
    let new = NewFollowers {
        account: APP_ID.into(),
        openid: Some("ann".into()),
        ..NewFollowers::default()
    };
    control.add_followers(&new).unwrap();
    let pushed = control
        .act(APP_ID, "ann", Action::Follow { scene: None })
        .await;
    let pushed = pushed.unwrap();
    assert_eq!((pushed.accepted, pushed.attempts.len()), (false, 3));
    assert!(
        pushed
            .attempts
            .iter()
            .all(|attempt| attempt.status.is_none())
    );
    // On the platform it happened all the same.
    assert!(control.follower(APP_ID, "ann").unwrap().following);
    let chat = control.messages(APP_ID, "ann").unwrap();
    assert_eq!(chat.last().unwrap().shown, Shown::Unavailable);
    running.stop().await;
}

#[tokio::test]
async fn a_lost_event_does_not_come_later() {
    let town = Town::new().await;
    town.person("ann");
    for _ in 0..3 {
        town.server.say(503, "");
    }
    let pushed = town.act("ann", Action::Follow { scene: None }).await;
    assert!(!pushed.accepted);
    town.pass(3_600);
    // The next event is told alone.
    let pushed = town.act("ann", Action::Click { key: "K".into() }).await;
    assert!(pushed.accepted);
    assert_eq!(town.server.got().len(), 4);
}

#[tokio::test]
async fn people_act_silently_one_by_one_and_in_crowds() {
    let town = Town::new().await;
    town.person("ann");
    let act = json!({
        "account": APP_ID, "openid": "ann", "silent": true, "action": "follow", "scene": "7",
    });
    let (status, ann) = town.control_api("act", act.clone()).await;
    assert_eq!((status, &ann["following"]), (200, &json!(true)));
    assert_eq!(town.control_api("act", act).await.0, 409);
    let burst = |action, count| Burst {
        account: APP_ID.into(),
        action,
        count,
        concurrency: 8,
        silent: true,
    };
    let report = town.control.burst(&burst(BurstAction::Follow, 100)).await;
    let report = report.unwrap();
    assert_eq!(
        (report.count, report.accepted, report.attempts),
        (100, 0, 0)
    );
    town.control
        .burst(&burst(BurstAction::Unfollow, 11))
        .await
        .unwrap();
    assert_eq!(town.control.state().accounts[0].following, 90);
    assert!(town.server.got().is_empty());
    // What they did counts: ann left, somebody of the crowd may be written to.
    let token = town.token().await;
    assert_eq!(town.text(&token, "ann").await, 45015);
    let crowd = town.control.openids(APP_ID, 1).unwrap();
    assert_eq!(town.text(&token, &crowd[0]).await, 0);
}

#[tokio::test]
async fn an_outage_is_a_fault_without_an_end() {
    let town = Town::new().await;
    let mut outage = Fault::new("callback", FaultKind::Drop, 1);
    outage.times = None;
    town.control.add_faults(vec![outage]).unwrap();
    for openid in ["ann", "bob", "cat"] {
        town.follower(openid).await;
    }
    assert!(town.server.got().is_empty());
    town.control.clear_faults();
    town.follower("dan").await;
    assert_eq!(town.server.got().len(), 1);
    let token = town.token().await;
    let list = town
        .get(&format!("/cgi-bin/user/get?access_token={token}"))
        .await;
    assert_eq!(list["data"]["openid"], json!(["ann", "bob", "cat", "dan"]));
}
