//! Broadcasts that begin by themselves: at an instant, and again and again by the clock on the wall.

use super::*;

/// The broadcasts that another one's cron made, oldest first.
async fn runs(stage: &Stage, parent: i64) -> Vec<Value> {
    let all = stage.get("/broadcasts").await;
    let mut runs: Vec<_> = all["items"].as_array().unwrap().clone();
    runs.retain(|one| one["parent"] == parent);
    runs.reverse();
    runs
}

#[tokio::test]
async fn it_begins_at_its_instant_and_not_when_it_was_kept_from_it() {
    let stage = Stage::new().await;
    stage.follow(0, "en", 3).await;
    let at = stage
        .clock
        .now()
        .plus(Duration::from_secs(3_600))
        .to_chrono()
        .to_rfc3339();
    let body = |text: &str| {
        json!({
            "title": "later", "accounts": ["main"], "start_at": at, "say": { "text": text },
        })
    };
    let (kept, begins) = (
        stage.create(body("kept")).await,
        stage.create(body("begins")).await,
    );
    stage.order(kept, "interrupt").await;
    stage.pass(Duration::from_secs(3_599));
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(stage.broadcast(begins).await["state"], "not_started");
    stage.pass(Duration::from_secs(2));
    let seen = stage.reaches(begins, "completed").await;
    assert_eq!(seen["progress"]["sent"], 3);
    assert_eq!(stage.broadcast(kept).await["state"], "interrupted");
    // Let go again after its instant, it begins at once.
    stage.order(kept, "resume").await;
    stage.pass(Duration::from_secs(5));
    stage.reaches(kept, "completed").await;
    assert!(
        stage
            .phones()
            .values()
            .all(|texts| texts == &["begins", "kept"])
    );
    stage.end().await;
}

/// Nine in the morning in New York, over the night in which clocks go back an hour there.
#[tokio::test]
async fn a_cron_keeps_the_time_on_the_wall_and_makes_up_for_nothing() {
    let mut stage = Stage::new().await;
    // Saturday, 2 November 2024, 12:00 UTC: 8:00 in New York.
    let saturday = Timestamp(1_730_548_800_000);
    stage.clock.set(saturday);
    let people = stage.follow(0, "en", 2).await;
    let body = json!({
        "title": "morning", "accounts": ["main"], "cron": "0 9 * * *",
        "timezone": "America/New_York", "say": { "text": "good morning" },
    });
    let id = stage.create(body).await;
    let starts = |seen: &Value| seen["starts_at"].as_str().unwrap().to_owned();
    let seen = stage.broadcast(id).await;
    assert_eq!(starts(&seen), "2024-11-02T13:00:00+00:00");
    let hours = |n: u64| Duration::from_secs(3_600 * n);
    stage.pass(hours(1));
    eventually("the first run is made", async || {
        runs(&stage, id).await.len() == 1
    })
    .await;
    let first = runs(&stage, id).await[0]["id"].as_i64().unwrap();
    stage.reaches(first, "completed").await;
    // Clocks went back: an hour later by UTC.
    assert_eq!(
        starts(&stage.broadcast(id).await),
        "2024-11-03T14:00:00+00:00"
    );
    // Two mornings are missed while nobody runs, and are one run.
    stage.crash().await;
    stage.pass(hours(50));
    stage.start().await;
    eventually("the missed run is made", async || {
        runs(&stage, id).await.len() == 2
    })
    .await;
    assert_eq!(
        starts(&stage.broadcast(id).await),
        "2024-11-05T14:00:00+00:00"
    );
    let second = runs(&stage, id).await[1]["id"].as_i64().unwrap();
    stage.reaches(second, "completed").await;
    // Grants of two days have ended by then, and that is told of.
    assert_eq!(stage.recipients(second, "skipped").await.len(), 2);
    assert!(
        people
            .iter()
            .all(|one| stage.phones()[one] == ["good morning"])
    );
    stage.order(id, "interrupt").await;
    stage.pass(hours(48));
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(runs(&stage, id).await.len(), 2, "it was interrupted");
    stage.order(id, "resume").await;
    assert_eq!(
        starts(&stage.broadcast(id).await),
        "2024-11-07T14:00:00+00:00"
    );
    stage.end().await;
}
