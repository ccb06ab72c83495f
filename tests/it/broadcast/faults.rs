//! A platform that refuses some and loses answers: what failed is told with its reason, and a retry is
//! for those and nobody else.

use std::collections::BTreeSet;

use dripwheel::sandbox::{Fault, FaultKind};

use super::*;

const SEND: &str = "/cgi-bin/message/custom/send";

fn fault(openid: &str, kind: FaultKind) -> Fault {
    Fault {
        openid: Some(openid.to_owned()),
        times: None,
        ..Fault::new(SEND, kind, 1)
    }
}

#[tokio::test]
async fn a_retry_is_for_the_failed_and_for_the_unknown_only_when_asked() {
    let stage = Stage::new().await;
    let people = stage.follow(0, "en", 30).await;
    let (refused, lost) = (&people[..4], &people[4..7]);
    let refusals = refused
        .iter()
        .map(|one| fault(one, FaultKind::Errcode { code: 40003 }));
    let losses = lost.iter().map(|one| fault(one, FaultKind::ResetAfter));
    let faults = refusals.chain(losses).collect();
    stage.control().add_faults(faults).unwrap();
    let body = json!({
        "title": "trouble", "accounts": ["main"], "on_unknown": "skip",
        "say": { "text": "hello" },
    });
    let id = stage.create(body).await;
    stage.order(id, "start").await;
    let seen = stage.reaches(id, "completed").await;
    let progress = &seen["progress"];
    let counts = ["sent", "failed", "unknown"].map(|name| progress[name].as_i64().unwrap());
    assert_eq!(counts, [23, 4, 3]);
    let failed = stage.recipients(id, "failed").await;
    let names = |people: &[String]| people.iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(
        failed.keys().cloned().collect::<BTreeSet<_>>(),
        names(refused)
    );
    let unknown = stage.recipients(id, "unknown").await;
    assert_eq!(
        unknown.keys().cloned().collect::<BTreeSet<_>>(),
        names(lost)
    );

    stage.control().clear_faults();
    // Longer than two messages to one follower are apart.
    stage.pass(Duration::from_secs(5));
    stage.order(id, "retry").await;
    let seen = stage.reaches_again(id).await;
    let progress = &seen["progress"];
    let counts = ["sent", "failed", "unknown"].map(|name| progress[name].as_i64().unwrap());
    assert_eq!(counts, [27, 0, 3]);
    let phones = stage.phones();
    assert!(
        people.iter().all(|one| phones[one].len() == 1),
        "nobody got it twice"
    );

    stage.pass(Duration::from_secs(5));
    let path = format!("/broadcasts/{id}/retry?unknown=true");
    assert_eq!(stage.ask(Method::POST, &path, None).await.0, StatusCode::OK);
    let seen = stage.reaches_again(id).await;
    assert_eq!(seen["progress"]["sent"], 30);
    let phones = stage.phones();
    // Their answers were lost, and the messages were not.
    assert!(lost.iter().all(|one| phones[one].len() == 2));
    assert!(refused.iter().all(|one| phones[one].len() == 1));
    stage.end().await;
}

#[tokio::test]
async fn who_has_no_open_grant_is_left_out_and_told_of() {
    let stage = Stage::with(&[], &["main"], "profile: wechat-2023").await;
    let people = stage.follow(0, "en", 3).await;
    // A follow grants a minute; a message two days.
    stage.pass(Duration::from_secs(120));
    let text = "hi".to_owned();
    stage.acts(&people[1], Action::Text { text }).await;
    let id = stage.create_text("news").await;
    let dry = stage.get(&format!("/broadcasts/{id}/dry-run")).await;
    assert_eq!(dry["looked_at"], 3);
    assert_eq!(
        dry["carriers"],
        json!([{ "of": "customer_message", "count": 1 }])
    );
    let others = dry["others"].as_array().unwrap();
    assert_eq!((others.len(), &others[0]["count"]), (1, &2.into()), "{dry}");
    assert!(
        others[0]["reason"]
            .as_str()
            .unwrap()
            .contains("no grant is open"),
        "{dry}"
    );
    assert_eq!(dry["next"], Value::Null);
    stage.order(id, "start").await;
    let seen = stage.reaches(id, "completed").await;
    assert_eq!(seen["progress"]["sent"], 1);
    let skipped = stage.recipients(id, "skipped").await;
    assert_eq!(skipped.len(), 2);
    assert!(
        skipped.values().all(|why| why.contains("no grant is open")),
        "{skipped:?}"
    );
    assert_eq!(stage.phones()[&people[1]], ["news"]);
    stage.end().await;
}

impl Stage {
    /// Waits until a retry has come to its end.
    async fn reaches_again(&self, id: i64) -> Value {
        eventually("the retry is completed", async || {
            again(&self.clock);
            self.broadcast(id).await["state"] == "completed"
        })
        .await;
        self.broadcast(id).await
    }
}
