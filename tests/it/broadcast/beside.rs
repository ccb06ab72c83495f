//! Broadcasts beside each other and beside sequences: limits hold, and sequences go first.

use std::collections::BTreeMap;

use dripwheel::store::pauses::{self, Pause};

use super::*;

/// Two broadcasts use an account's rate up for half a minute; whoever follows meanwhile gets each step
/// on its second.
#[tokio::test]
async fn two_broadcasts_keep_the_rate_and_a_sequence_keeps_its_time() {
    const DRIP: &str = "sequence: drip\ntrigger: { scan: {} }\nsteps:\n  \
        - { id: a, after: 3s, say: { text: drip one } }\n  \
        - { id: b, after: 6s, say: { text: drip two } }\n";
    const RATE: i64 = 10;
    let stage = Stage::with(&[DRIP], &["main"], "rate: { per_second: 10 }").await;
    let people = stage.follow(0, "en", 80).await;
    let scanner = stage.follow(0, "en", 1).await.remove(0);
    for text in ["one", "two"] {
        let body = json!({
            "title": text, "accounts": ["main"], "say": { "text": text }, "min_gap": "0s",
        });
        let id = stage.create(body).await;
        stage.order(id, "start").await;
    }
    let mut scanned_at = Timestamp::default();
    for tenth in 0..250 {
        stage.pass(Duration::from_millis(100));
        if tenth == 20 {
            let scene = "shop".to_owned();
            stage.acts(&scanner, Action::Scan { scene }).await;
            scanned_at = stage.clock.now();
        }
        // A step of the sequence that is due waits for nothing but the next call the rate allows.
        let due = stage.clock.now().0 - 100;
        let drips = format!(
            "SELECT count(*) FROM deliveries WHERE due_at <= {due} AND enrollment_id & 32768 = 0"
        );
        eventually("the sequence's due steps are sent", async || {
            again(&stage.clock);
            stage.number(&drips).await == 0
        })
        .await;
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    for _ in 0..100 {
        if stage.phones().values().map(Vec::len).sum::<usize>() >= 164 {
            break;
        }
        stage.pass(Duration::from_millis(500));
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let (mut by_second, mut drips) = (BTreeMap::<i64, i64>::new(), Vec::new());
    let calls = stage.control().sent(None, None, 0, 10_000);
    for call in &calls {
        *by_second
            .entry(call.sent.at.0.div_euclid(1000))
            .or_default() += 1;
        let body = call.body.as_deref().unwrap_or_default();
        if body.contains("drip") {
            drips.push(call.sent.at.since(scanned_at).as_millis());
        }
    }
    // A bucket that is full lets its size through beside what flows in.
    assert!(
        by_second.values().all(|&calls| calls <= 2 * RATE),
        "{by_second:?}"
    );
    let [first, second] = drips[..] else {
        panic!("two steps: {drips:?}");
    };
    assert!(
        (2_000..=3_300).contains(&first),
        "{first} ms after the scan"
    );
    assert!(
        (5_000..=6_300).contains(&second),
        "{second} ms after the scan"
    );
    let phones = stage.phones();
    for one in &people {
        let mut texts = phones[one].clone();
        texts.sort();
        assert_eq!(texts, ["one", "two"], "{one}");
    }
    stage.end().await;
}

#[tokio::test]
async fn a_paused_account_gets_nothing_until_it_goes_on_and_others_go_on() {
    let stage = Stage::with(&[], &["main", "other"], "").await;
    let here = stage.follow(0, "en", 30).await;
    let there = stage.follow(1, "en", 30).await;
    let account = stage
        .store()
        .knowledge()
        .account_named("main")
        .unwrap()
        .journey
        .id;
    let pause = Pause {
        reason: "a test".into(),
        by: "somebody".into(),
        at: stage.clock.now(),
    };
    pauses::pause(stage.store(), account, pause).await.unwrap();
    let body = json!({
        "title": "both", "accounts": ["main", "other"], "say": { "text": "both" },
    });
    let id = stage.create(body).await;
    stage.order(id, "start").await;
    eventually("the other account's have it", async || {
        stage.broadcast(id).await["progress"]["sent"] == 30
    })
    .await;
    let phones = stage.phones();
    assert!(there.iter().all(|one| phones.contains_key(one)));
    assert!(here.iter().all(|one| !phones.contains_key(one)));
    assert_eq!(stage.broadcast(id).await["state"], "sending");
    pauses::resume(stage.store(), account, "somebody", stage.clock.now())
        .await
        .unwrap();
    let seen = stage.reaches(id, "completed").await;
    assert_eq!(seen["progress"]["sent"], 60);
    stage.end().await;
}

#[tokio::test]
async fn a_pace_of_its_own_holds_where_the_account_has_none() {
    let stage = Stage::new().await;
    stage.follow(0, "en", 60).await;
    let body = json!({
        "title": "slow", "accounts": ["main"], "per_second": 5, "say": { "text": "slow" },
    });
    let id = stage.create(body).await;
    stage.order(id, "start").await;
    let began = stage.clock.now();
    for _ in 0..200 {
        stage.pass(Duration::from_millis(500));
        tokio::time::sleep(Duration::from_millis(60)).await;
        let sent = i64::try_from(stage.phones().len()).unwrap();
        let seconds = stage.clock.now().since(began).as_millis() as i64 / 1000;
        assert!(sent <= 5 * (seconds + 1) + 5, "{sent} in {seconds} s");
        if sent == 60 {
            break;
        }
    }
    stage.reaches(id, "completed").await;
    stage.end().await;
}
