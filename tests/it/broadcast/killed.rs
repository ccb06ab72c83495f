//! Interrupted, resumed and killed: nobody gets it twice, nobody is forgotten, and what is unknown is
//! listed.

use super::*;

/// A message whose answer a crash took is told of, and not sent again.
fn careful() -> Value {
    json!({
        "title": "careful", "accounts": ["main"], "on_unknown": "skip",
        "say": { "text": "once" },
    })
}

/// Everybody has it exactly once, but for those of whom it is told that nobody knows.
async fn proven(stage: &Stage, id: i64, people: &[String]) {
    let phones = stage.phones();
    let unknown = stage.recipients(id, "unknown").await;
    let sent = stage.recipients(id, "sent").await;
    assert_eq!(sent.len() + unknown.len(), people.len());
    for one in people {
        let texts = phones.get(one).map_or(0, Vec::len);
        assert!(texts <= 1, "{one} has it {texts} times");
        assert!(
            texts == 1 || unknown.contains_key(one),
            "{one} was forgotten"
        );
    }
}

#[tokio::test]
async fn an_interruption_holds_before_the_next_chunk_and_resuming_sends_to_the_missing() {
    let stage = Stage::with(&[], &["main"], "rate: { per_second: 20 }").await;
    let people = stage.follow(0, "en", 150).await;
    let id = stage.create(careful()).await;
    stage.order(id, "start").await;
    let mut had = 0;
    for round in 1..=3 {
        for _ in 0..2 {
            stage.pass(Duration::from_secs(1));
            let least = had + 1;
            eventually("more are sent", async || {
                again(&stage.clock);
                stage.phones().len() >= least
            })
            .await;
        }
        stage.order(id, "interrupt").await;
        // What is on its way by now is at most what two seconds take.
        for _ in 0..5 {
            stage.pass(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let seen = stage.reaches(id, "interrupted").await;
        had = stage.phones().len();
        assert_eq!(seen["progress"]["sent"], had, "round {round}");
        assert!(had < people.len(), "it was interrupted in the middle");
        for _ in 0..20 {
            stage.pass(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(
            stage.phones().len(),
            had,
            "nothing is sent while interrupted"
        );
        stage.order(id, "resume").await;
    }
    for _ in 0..12 {
        stage.pass(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let seen = stage.reaches(id, "completed").await;
    assert_eq!(seen["progress"]["sent"], 150);
    proven(&stage, id, &people).await;
    stage.end().await;
}

#[tokio::test]
async fn a_server_that_is_killed_at_any_point_goes_on_where_it_was() {
    let mut stage = Stage::new().await;
    let people = stage.follow(0, "en", 1_300).await;
    let id = stage.create(careful()).await;
    stage.order(id, "start").await;
    let mut interrupted = 0;
    for kill in 0..12u64 {
        // Different points: while the audience is frozen, cut, admitted, sent.
        tokio::time::sleep(Duration::from_millis(20 + 37 * kill % 160)).await;
        if kill % 3 == 1 {
            let path = format!("/broadcasts/{id}/interrupt");
            let (status, _) = stage.ask(Method::POST, &path, None).await;
            interrupted += u64::from(status == StatusCode::OK);
        }
        stage.crash().await;
        stage.start().await;
        if kill % 3 == 1 {
            let path = format!("/broadcasts/{id}/resume");
            stage.ask(Method::POST, &path, None).await;
        }
    }
    assert!(interrupted > 0, "it had ended before it was interrupted");
    let seen = stage.reaches(id, "completed").await;
    let progress = &seen["progress"];
    assert_eq!(
        (&progress["total"], ended(progress)),
        (&1_300.into(), 1_300)
    );
    proven(&stage, id, &people).await;
    stage.end().await;
}

#[tokio::test]
async fn what_was_frozen_before_a_kill_is_not_read_again() {
    let mut stage = Stage::with(&[], &["main"], "rate: { per_second: 1 }").await;
    stage.follow(0, "en", 60).await;
    let id = stage.create(careful()).await;
    stage.order(id, "start").await;
    eventually("the audience is frozen", async || {
        stage.broadcast(id).await["progress"]["frozen"] == true
    })
    .await;
    stage.crash().await;
    stage.start().await;
    let more = stage.follow(0, "en", 5).await;
    for _ in 0..70 {
        stage.pass(Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    for _ in 0..40 {
        if stage.broadcast(id).await["state"] == "completed" {
            break;
        }
        stage.pass(Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seen = stage.reaches(id, "completed").await;
    assert_eq!(seen["progress"]["total"], 60);
    let phones = stage.phones();
    assert!(more.iter().all(|one| !phones.contains_key(one)));
    stage.end().await;
}
