//! Callbacks while the database is away: over a real socket, with a real server stopped under it.
//! Whatever was answered `success` is in the database in the end, once and in order.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod process;
mod stage;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sea_orm::{ConnectionTrait, Database, TransactionTrait};
use sha2::Sha256;

use crate::support::eventually;
use stage::{FOLLOW, Stage, UNFOLLOW, text};

/// Stands in messages, and nowhere once they are handed over.
const CANARY: &str = "canary-7391";

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_the_database_is_away_is_handed_over_once_and_in_order() {
    let mut stage = Stage::new("");
    stage.start().await;
    assert_eq!(stage.post("main", "oBefore", FOLLOW).await, 200);
    stage.cluster.stop_immediate();

    let people: Vec<_> = (100..160).map(|number| format!("o{number}")).collect();
    for openid in &people {
        assert_eq!(stage.post("main", openid, FOLLOW).await, 200);
        // The platform comes again with what it has, and with what others did meanwhile.
        assert_eq!(stage.post("main", openid, FOLLOW).await, 200);
        assert_eq!(stage.post("other", openid, FOLLOW).await, 200);
    }
    // Whoever leaves again is not enrolled in the end, and who wrote has written.
    assert_eq!(stage.post("main", "o100", UNFOLLOW).await, 200);
    assert_eq!(stage.post("main", "o101", &text(CANARY)).await, 200);
    eventually("readiness says that the database is away", || async {
        stage.ready().await.1["database"] == "away"
    })
    .await;
    let (status, told) = stage.ready().await;
    assert_eq!((status, &told["ready"]), (200, &true.into()), "{told}");
    assert_eq!(told["callbacks"], "kept in the spool", "{told}");
    assert_eq!(told["spool"]["events"], 182, "{told}");
    assert!(stage.spool_holds(CANARY), "it is on the disk");
    assert!(!stage.spool_holds(stage::SECRET), "no secret is");

    stage.cluster.start();
    stage.handed_over().await;
    let told = stage.ready().await.1;
    assert_eq!(told["database"], "reachable", "{told}");
    assert_eq!(told["callbacks"], "stored", "{told}");
    let count = async |sql: &str| stage.number(sql).await;
    assert_eq!(count("SELECT count(*) FROM enrollments").await, 121);
    assert_eq!(count("SELECT count(*) FROM receipts").await, 123);
    let cancelled = "SELECT count(*) FROM enrollments WHERE state = 3";
    assert_eq!(count(cancelled).await, 1);
    // Followers are numbered as they come.
    let numbered = "SELECT string_agg(f.openid, ' ' ORDER BY f.id >> 8) FROM followers AS f
        JOIN accounts AS a ON a.id = f.account_id WHERE a.key = 'other'";
    assert_eq!(stage.words(numbered), people.join(" "));
    stage.audit().await;
    for gone in [CANARY, "o101"] {
        assert!(
            !stage.spool_holds(gone),
            "{gone} is still in the spool's files"
        );
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_in_time_is_like_one_that_is_away() {
    let mut stage = Stage::new("");
    stage.start().await;
    let lock = Database::connect(&stage.url).await.unwrap();
    let lock = lock.begin().await.unwrap();
    let exclusive = "LOCK TABLE receipts IN ACCESS EXCLUSIVE MODE";
    lock.execute_unprepared(exclusive).await.unwrap();
    assert_eq!(stage.post("main", "oAnn", FOLLOW).await, 200);
    // Behind the first, whatever the database says by now.
    assert_eq!(stage.post("main", "oAnn", &text("hi")).await, 200);
    assert_eq!(stage.post("main", "oAnn", UNFOLLOW).await, 200);
    lock.commit().await.unwrap();
    stage.handed_over().await;
    assert_eq!(stage.number("SELECT count(*) FROM receipts").await, 3);
    let following = "SELECT count(*) FROM followers WHERE following = 1";
    assert_eq!(stage.number(following).await, 0);
    stage.audit().await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_has_the_platform_come_again() {
    let mut stage = Stage::new("spool_max: 3");
    stage.start().await;
    stage.cluster.stop_immediate();
    for openid in ["o1", "o2", "o3"] {
        assert_eq!(stage.post("main", openid, FOLLOW).await, 200);
    }
    assert_eq!(stage.post("main", "o4", FOLLOW).await, 503);
    let (status, told) = stage.ready().await;
    assert_eq!((status, &told["ready"]), (503, &false.into()), "{told}");
    assert_eq!(told["callbacks"], "answered 503", "{told}");
    assert_eq!(told["spool"]["refuses"], "full", "{told}");
    stage.cluster.start();
    stage.handed_over().await;
    assert_eq!(stage.post("main", "o4", FOLLOW).await, 200);
    assert_eq!(stage.ready().await.0, 200);
    assert_eq!(stage.number("SELECT count(*) FROM enrollments").await, 4);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_leaves_nothing_half_written() {
    // SQLite says the same of a full disk and of a file that has all its pages.
    let mut stage = Stage::new("spool_bytes_max: 65536");
    stage.start().await;
    stage.cluster.stop_immediate();
    let long = text(&"长".repeat(1000));
    let mut kept = 0;
    let mut refused = 0;
    for number in 0..40 {
        match stage.post("main", &format!("o{number}"), &long).await {
            200 => kept += 1,
            503 => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!(kept > 3 && refused > 3, "{kept} kept, {refused} refused");
    let (status, told) = stage.ready().await;
    assert_eq!(
        (status, &told["spool"]["refuses"]),
        (503, &"full".into()),
        "{told}"
    );
    assert_eq!(told["spool"]["events"], kept, "{told}");
    stage.cluster.start();
    stage.handed_over().await;
    assert_eq!(stage.number("SELECT count(*) FROM receipts").await, kept);
    eventually("there is room again, though nobody asked", || async {
        stage.ready().await.1["spool"]["refuses"].is_null()
    })
    .await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_written_is_told_of_and_tried_again() {
    let mut stage = Stage::new("");
    stage.start().await;
    stage.tamper("ALTER TABLE spool RENAME TO elsewhere").await;
    // Nobody needs it now.
    assert_eq!(stage.post("main", "o1", FOLLOW).await, 200);
    assert_eq!(stage.ready().await.0, 200);
    stage.cluster.stop_immediate();
    assert_eq!(stage.post("main", "o2", FOLLOW).await, 503);
    let (status, told) = stage.ready().await;
    assert_eq!(
        (status, &told["spool"]["refuses"]),
        (503, &"unwritable".into()),
        "{told}"
    );
    stage.tamper("ALTER TABLE elsewhere RENAME TO spool").await;
    eventually("it is ready again, though nobody asked", || async {
        stage.ready().await.0 == 200
    })
    .await;
    assert_eq!(stage.post("main", "o2", FOLLOW).await, 200);
    stage.cluster.start();
    stage.handed_over().await;
    assert_eq!(stage.number("SELECT count(*) FROM enrollments").await, 2);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_and_a_start_change_nothing_of_what_waits() {
    let mut stage = Stage::new("");
    stage.start().await;
    stage.cluster.stop_immediate();
    for openid in ["o1", "o2", "o3", "o4"] {
        assert_eq!(stage.post("main", openid, FOLLOW).await, 200);
    }
    stage.stop().await;
    // What can never be handed over keeps nobody else waiting, and is not thrown away.
    stage
        .tamper("UPDATE spool SET account = 'nobody' WHERE id = 1")
        .await;
    stage
        .tamper("UPDATE spool SET arrival = '{}' WHERE id = 3")
        .await;
    stage.cluster.start();
    stage.start().await;
    stage.handed_over().await;
    assert_eq!(stage.number("SELECT count(*) FROM enrollments").await, 2);
    let told = stage.ready().await.1;
    assert_eq!(told["spool"]["set_aside"], 2, "{told}");
    stage.stop().await;
    stage
        .tamper("UPDATE spool SET account = 'main' WHERE account = 'nobody'")
        .await;
    stage.start().await;
    stage.handed_over().await;
    assert_eq!(stage.number("SELECT count(*) FROM enrollments").await, 3);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_platforms_tell_is_kept_and_handed_over_alike() {
    let mut stage = Stage::new("");
    stage.start().await;
    stage.cluster.stop_immediate();
    let update = serde_json::json!({ "update_id": 1, "message": {
        "date": stage::NOW.seconds(), "text": "/start", "chat": { "id": 7, "type": "private" },
        "from": { "id": 7 },
    } });
    let head = ("x-telegram-bot-api-secret-token", stage::SECRET);
    for _ in 0..2 {
        assert_eq!(stage.post_as("bot", head, update.to_string()).await, 200);
    }
    let event = |number: u32, kind: &str| {
        serde_json::json!({
            "type": kind, "timestamp": stage::NOW.0 + i64::from(number),
            "webhookEventId": format!("{number}"), "source": { "type": "user", "userId": "U1" },
        })
    };
    let told = serde_json::json!({ "events": [event(1, "follow"), event(2, "unfollow")] });
    let told = told.to_string();
    let mac = Hmac::<Sha256>::new_from_slice(stage::SECRET.as_bytes()).unwrap();
    let signature = STANDARD.encode(mac.chain_update(&told).finalize().into_bytes());
    let head = ("x-line-signature", signature.as_str());
    assert_eq!(stage.post_as("friend", head, told).await, 200);
    assert_eq!(stage.ready().await.1["spool"]["events"], 4);

    stage.cluster.start();
    stage.handed_over().await;
    assert_eq!(stage.number("SELECT count(*) FROM receipts").await, 3);
    assert_eq!(stage.number("SELECT count(*) FROM enrollments").await, 2);
    let cancelled = "SELECT count(*) FROM enrollments WHERE state = 3";
    assert_eq!(stage.number(cancelled).await, 1);
    stage.audit().await;
    stage.stop().await;
}
