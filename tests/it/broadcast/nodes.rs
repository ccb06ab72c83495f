//! Two nodes on one PostgreSQL: each feeds the accounts that it holds, any of them may be asked, and what
//! begins by itself begins once.

use super::*;

#[tokio::test]
async fn two_nodes_share_a_broadcast_and_one_goes_on_alone() {
    let accounts = ["one", "two", "three", "four", "five", "six"];
    let rate = "rate: { per_second: 40, per_minute: 5000, per_day: 1000000 }";
    let mut stage = Stage::over(Fresh::on_server(), &[], &accounts, rate).await;
    stop(stage.life.take().unwrap()).await;
    let node = |name: &str| {
        format!(
            "{}\nnode: {{ name: {name}, lease: 6s }}\nsender: {{ attempt_timeout: 2s }}\n",
            stage.text
        )
    };
    let (a, b) = (node("a"), node("b"));
    let other = free_address();
    let b = b.replace(
        &format!("listen: '{}'", stage.addr),
        &format!("listen: '{other}'"),
    );
    stage.life = Some(stage.run(&a).await);
    let second = stage.run(&b).await;
    eventually("each node holds some of the accounts", async || {
        let held = "SELECT count(DISTINCT node_id) FROM shard_leases WHERE node_id > 0";
        stage.number(held).await == 2
    })
    .await;
    let mut people = Vec::new();
    for index in 0..accounts.len() {
        people.extend(stage.follow(index, "en", 60).await);
    }
    let body = json!({
        "title": "both", "accounts": accounts, "on_unknown": "skip", "say": { "text": "once" },
    });
    let id = stage.create(body).await;
    // It was made on one node and is started on the other.
    let (first, addr) = (stage.addr, other);
    stage.addr = addr;
    stage.order(id, "start").await;
    eventually("some have it", async || {
        stage.pass(Duration::from_millis(20));
        stage.phones().len() > 60
    })
    .await;
    crash(second).await;
    stage.addr = first;
    let mut best = 0;
    eventually("the other node has gone on to the end", async || {
        stage.pass(Duration::from_millis(50));
        let seen = stage.broadcast(id).await;
        let now = ended(&seen["progress"]);
        assert!(now >= best, "progress went back from {best} to {seen}");
        best = now;
        seen["state"] == "completed"
    })
    .await;
    assert_eq!(best, 360);
    let phones = stage.phones();
    let unknown = stage.recipients(id, "unknown").await;
    for one in &people {
        let texts = phones.get(one).map_or(0, Vec::len);
        assert!(
            texts <= 1 && (texts == 1 || unknown.contains_key(one)),
            "{one}: {texts}"
        );
    }
    stage.end().await;
}

#[tokio::test]
async fn what_repeats_is_made_once_by_however_many_nodes() {
    let rate = "rate: { per_second: 40, per_minute: 5000, per_day: 1000000 }";
    let mut stage = Stage::over(Fresh::on_server(), &[], &["main"], rate).await;
    stop(stage.life.take().unwrap()).await;
    let node = |name: &str| {
        format!(
            "{}\nnode: {{ name: {name}, lease: 6s }}\nsender: {{ attempt_timeout: 2s }}\n",
            stage.text
        )
    };
    let (a, b) = (node("a"), node("b"));
    let other = free_address();
    let b = b.replace(
        &format!("listen: '{}'", stage.addr),
        &format!("listen: '{other}'"),
    );
    stage.life = Some(stage.run(&a).await);
    let second = stage.run(&b).await;
    stage.follow(0, "en", 3).await;
    let body = json!({
        "title": "hourly", "accounts": ["main"], "cron": "0 * * * *", "timezone": "UTC",
        "say": { "text": "the hour" },
    });
    stage.create(body).await;
    for hour in 1..=2 {
        stage.pass(Duration::from_secs(3_600));
        eventually("the hour's run is completed", async || {
            again(&stage.clock);
            let done = "SELECT count(*) FROM broadcasts WHERE parent_id IS NOT NULL AND state = 3";
            stage.number(done).await == hour
        })
        .await;
    }
    let runs = "SELECT count(*) FROM broadcasts WHERE parent_id IS NOT NULL";
    assert_eq!(stage.number(runs).await, 2);
    assert!(
        stage
            .phones()
            .values()
            .all(|texts| texts == &["the hour", "the hour"])
    );
    stop(second).await;
    stage.end().await;
}
