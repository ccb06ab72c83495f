//! Limits that learn, over real sockets: quotas as the platform states them, refusals as it gives
//! them, and what rests because of them.

use std::time::Duration;

use dripwheel::clock::{Clock, Timestamp};
use serde_json::{Value, json};

use crate::own_platform::{CLEAR, Own, QUOTA, SEND, START, UPLOAD};

const TEXT: &str = "
sequence: text
trigger: { follow: { scene: text } }
steps:
  - { id: one, after: 0s, say: { text: one } }
";

const PICTURE: &str = "
sequence: picture
trigger: { follow: { scene: picture } }
steps:
  - { id: one, after: 0s, say: { image: assets/guide.png } }
";

/// Midnight in Beijing after `START`.
const MIDNIGHT: Timestamp = Timestamp(1_700_064_000_000);

async fn own() -> Own {
    Own::start(&[TEXT, PICTURE], "").await
}

fn asked_about(own: &Own, path: &str) -> usize {
    let asked = own.platform.asked(QUOTA).into_iter();
    asked
        .filter(|one| one.json() == json!({ "cgi_path": path }))
        .count()
}

#[tokio::test]
async fn what_others_left_of_the_day_is_all_that_is_sent() {
    let own = own().await;
    own.rule(|rules| {
        rules.left.insert(SEND, 3);
    });
    own.pass_until("the quota is known", async || {
        own.interface("message/custom/send").await["day_left"] == json!(3)
    })
    .await;
    for n in 0..6 {
        own.follow(&format!("f{n}"), "text").await;
    }
    own.pass_until("three are sent", async || own.platform.count(SEND) == 3)
        .await;
    own.clock.advance(Duration::from_secs(60));
    // Only what the account uses is asked about.
    assert_eq!(asked_about(&own, UPLOAD), 0);
    assert_eq!(own.platform.count(SEND), 3);
    // A new day, for which the platform has said nothing yet.
    own.rule(|rules| rules.left.clear());
    own.clock.set(MIDNIGHT);
    own.pass_until("the others are sent", async || {
        own.platform.count(SEND) == 6
    })
    .await;
    own.pass_until("it is asked again by the hour", async || {
        asked_about(&own, SEND) >= 2
    })
    .await;
    own.stop().await;
}

#[tokio::test]
async fn a_stated_rate_is_kept_in_every_minute() {
    let own = own().await;
    own.rule(|rules| rules.per_minute = Some(5));
    own.pass_until("the rate is known", async || {
        own.interface("message/custom/send").await["rate_calls"] == json!(5)
    })
    .await;
    for n in 0..12 {
        own.follow(&format!("f{n}"), "text").await;
    }
    let mut at = Vec::new();
    own.pass_until("all are sent", async || {
        at.resize(own.platform.count(SEND), own.clock.now());
        at.len() == 12
    })
    .await;
    // Each instant is one at which the call had been made: within the minute before, or earlier.
    for (index, sent_at) in at.iter().enumerate().skip(6) {
        let apart = sent_at.since(at[index - 6]);
        assert!(apart >= Duration::from_secs(55), "{index}: {apart:?}");
    }
    own.stop().await;
}

#[tokio::test]
async fn a_used_up_upload_waits_alone_until_the_reset() {
    let own = own().await;
    own.rule(|rules| {
        rules.codes.insert(UPLOAD, 45_009);
    });
    own.follow("ann", "picture").await;
    own.pass_until("the upload is refused", async || {
        own.platform.count(UPLOAD) == 1
    })
    .await;
    own.pass_until("the upload rests", async || {
        own.interface("media/upload").await["rest"]["why"] == "day_used_up"
    })
    .await;
    // Before that is known another picture may well be tried.
    own.follow("bob", "text").await;
    own.follow("cat", "picture").await;
    own.pass_until("the text is sent", async || own.sent_to("bob") == 1)
        .await;
    // The rest is known before the answer is settled, which is what counts the refusal.
    let refused = json!({ "errcode": 45_009, "reaction": "interface_rested", "count": 1 });
    own.pass_until("the refusal is counted", async || {
        own.health().await["refusals"] == json!([refused])
    })
    .await;
    let health = own.health().await;
    assert_eq!(health["standing"], "sending", "{health}");
    assert_eq!(health["rest"], Value::Null);
    own.pass_until("it is asked about the refusal", async || {
        asked_about(&own, UPLOAD) > 0
    })
    .await;

    own.rule(|rules| rules.codes.clear());
    own.clock.set(Timestamp(MIDNIGHT.0 - 1_000));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!((own.sent_to("ann"), own.platform.count(UPLOAD)), (0, 1));
    own.pass_until("the pictures are sent", async || {
        own.sent_to("ann") == 1 && own.sent_to("cat") == 1
    })
    .await;
    assert!(own.clock.now() >= MIDNIGHT);
    own.stop().await;
}

#[tokio::test]
async fn a_refused_minute_rests_to_the_next_one_and_slows_down() {
    let own = own().await;
    own.rule(|rules| {
        rules.codes.insert(SEND, 45_011);
    });
    own.follow("ann", "text").await;
    own.pass_until("the call is refused", async || {
        own.platform.count(SEND) == 1
    })
    .await;
    own.rule(|rules| rules.codes.clear());
    own.pass_until("it is sent", async || own.platform.count(SEND) == 2)
        .await;
    let minute = START.0 / 60_000;
    assert!(own.clock.now().0 / 60_000 > minute, "in the next minute");
    let seen = own.interface("message/custom/send").await;
    assert_eq!(seen["pace_percent"], 50, "{seen}");
    own.stop().await;
}

#[tokio::test]
async fn a_used_up_day_rests_the_account_until_a_person_clears_it() {
    let own = own().await;
    own.rule(|rules| {
        rules.codes.insert(SEND, 45_009);
    });
    own.follow("ann", "text").await;
    own.pass_until("the account rests", async || {
        own.health().await["rest"]["why"] == "day_used_up"
    })
    .await;
    let until = own.health().await["rest"]["until"].clone();
    assert_eq!(until, "2023-11-15T16:00:00+00:00", "midnight in Beijing");
    own.rule(|rules| rules.codes.clear());

    let path = "/accounts/main/clear-quota";
    let clear = || {
        let asked = own.api(reqwest::Method::POST, path);
        asked.header("Idempotency-Key", "once").send()
    };
    let cleared: Value = clear().await.unwrap().json().await.unwrap();
    assert_eq!(cleared, json!({ "clears_left": 9, "clears_a_month": 10 }));
    let again: Value = clear().await.unwrap().json().await.unwrap();
    assert_eq!(again, cleared);
    let asked = own.platform.asked(CLEAR);
    assert_eq!(asked.len(), 1, "asked once");
    assert_eq!(asked[0].json(), json!({ "appid": "wx0123456789abcdef" }));
    own.pass_until("it is sent after all", async || {
        own.platform.count(SEND) == 2
    })
    .await;
    assert!(own.clock.now() < MIDNIGHT);

    own.rule(|rules| {
        rules.codes.insert(CLEAR, 48_006);
    });
    let refused = own.api(reqwest::Method::POST, path).send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 409);
    let refused: Value = refused.json().await.unwrap();
    assert_eq!(refused["code"], "no_clear_left");
    assert!(refused["detail"].as_str().unwrap().contains("48006"));
    let health = own.health().await;
    assert_eq!(health["clears_left"], 0, "the platform knows better");
    assert_eq!(health["acts"][0]["by"], "ops");
    own.stop().await;
}

#[tokio::test]
async fn retries_are_a_tenth_of_the_traffic_and_arrive_in_the_end() {
    const PEOPLE: usize = 40;
    let own = own().await;
    own.rule(|rules| {
        rules.codes.insert(SEND, -1);
    });
    for n in 0..PEOPLE {
        own.follow(&format!("f{n}"), "text").await;
    }
    let minute = START.plus(Duration::from_secs(60));
    own.pass_until("a minute is over", async || {
        let seconds = own.clock.now().since(START).as_secs();
        let seconds = usize::try_from(seconds).expect("is small");
        // Each first call, a tenth of them, what a quiet account has, and one a second.
        let most = PEOPLE + PEOPLE / 10 + 10 + seconds + 1;
        assert!(own.platform.count(SEND) <= most);
        own.clock.now() >= minute
    })
    .await;
    assert!(own.platform.count(SEND) > PEOPLE, "some are tried again");
    let refused = own.platform.count(SEND);
    own.rule(|rules| rules.codes.clear());
    own.pass_until("everybody has it", async || {
        own.platform.count(SEND) == refused + PEOPLE
    })
    .await;
    own.stop().await;
}
