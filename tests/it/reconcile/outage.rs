//! Who came and went while the server was down.

use chrono::{DateTime, Utc};
use dripwheel::sandbox::{Action, Fault, FaultKind};
use dripwheel::store::syncs::{self, Reason, State};

use super::*;
use crate::pair::{Pair, Wishes};

/// Away for half an hour, as a platform sees it: bob follows after ten minutes, cal leaves.
async fn outage(stage: &mut Stage) -> i64 {
    stage.follows("ann").await;
    stage.follows("cal_who_left").await;
    stage.received("cal_who_left", &["hello"]).await;
    stage.pass(minutes(1)).await;
    stage.crash().await;
    stage.clock.advance(minutes(10));
    let since = stage.second();
    stage.platform.follows("bob", since);
    stage.platform.leaves("cal_who_left");
    stage.clock.advance(minutes(20));
    since
}

#[tokio::test]
async fn who_followed_while_we_were_away_is_found_and_greeted_once() {
    let mut stage = Stage::with(&[WELCOME], "").await;
    let since = outage(&mut stage).await;
    stage.start().await;
    let sync = stage.completed().await;
    assert_eq!(sync["reason"], "downtime");
    assert_eq!(
        (&sync["found"], &sync["gone"], &sync["enrolled"]),
        (&1.into(), &1.into(), &1.into())
    );
    stage.received("bob", &["hello"]).await;
    let bob = stage.get("/accounts/main/followers/bob/timeline").await;
    assert_eq!(bob["events"][0]["kind"], "found");
    let at: DateTime<Utc> = bob["passages"][0]["enrolled_at"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(at.timestamp(), since);
    let cal = &stage.enrollments("cal_who_left").await[0];
    assert_eq!(cal["state"], "cancelled");
    assert_eq!(cal["steps"][1]["history"][0]["detail"], "reconciled");
    assert!(stage.places("cal_who_left").await.is_empty());

    // Callbacks that some proxy kept arrive after all, the follow stamped a second off.
    for at in [since, since + 1, since - 1] {
        stage.told("bob", "subscribe", at).await;
    }
    stage.told("cal_who_left", "unsubscribe", since).await;
    assert_eq!(stage.enrollments("bob").await.len(), 1);
    let second = stage.synced("").await;
    assert_eq!((&second["found"], &second["gone"]), (&0.into(), &0.into()));
    stage.pass(minutes(45)).await;
    stage.received("bob", &["hello", "guide"]).await;
    stage.end().await;
}

#[tokio::test]
async fn a_late_callback_enrolls_nobody_twice_even_where_everybody_may_enter_again() {
    let always = format!("{WELCOME}reenter: always\n");
    let mut stage = Stage::with(&[&always], "").await;
    let since = outage(&mut stage).await;
    stage.start().await;
    stage.completed().await;
    for at in [since + 1, since, since - 1] {
        stage.told("bob", "subscribe", at).await;
    }
    assert_eq!(stage.enrollments("bob").await.len(), 1);
    // What the follow granted is granted once.
    stage.received("bob", &["hello"]).await;
    let spent = "SELECT g.spent FROM grants AS g JOIN followers AS f ON f.id = g.follower_id
        WHERE f.openid = 'bob'";
    assert_eq!(stage.number(spent).await, 1);
    // A real second follow is one.
    stage.unfollows("bob").await;
    stage.pass(minutes(1)).await;
    stage.follows("bob").await;
    assert_eq!(stage.enrollments("bob").await.len(), 2);
    stage.end().await;
}

#[tokio::test]
async fn the_callbacks_may_come_first() {
    let mut stage = Stage::with(&[WELCOME], "after_downtime: off").await;
    let since = outage(&mut stage).await;
    stage.start().await;
    stage.told("bob", "subscribe", since).await;
    let sync = stage.synced("").await;
    assert_eq!((&sync["found"], &sync["gone"]), (&0.into(), &1.into()));
    assert_eq!(stage.enrollments("bob").await.len(), 1);
    stage.end().await;
}

#[tokio::test]
async fn a_sequence_may_only_want_to_know_them() {
    let record = format!("{WELCOME}reconcile: record\n");
    let mut stage = Stage::with(&[&record], "").await;
    let since = outage(&mut stage).await;
    stage.start().await;
    let sync = stage.completed().await;
    assert_eq!((&sync["found"], &sync["enrolled"]), (&1.into(), &0.into()));
    let bob = stage.get("/accounts/main/followers/bob").await;
    assert_eq!(
        (&bob["following"], &bob["language"]),
        (&true.into(), &"zh_CN".into())
    );
    assert!(stage.enrollments("bob").await.is_empty());
    // Told of it after all, the sequence does what it does when it is told.
    stage.told("bob", "subscribe", since + 1).await;
    assert_eq!(stage.enrollments("bob").await.len(), 1);
    stage.received("bob", &["hello"]).await;
    stage.end().await;
}

#[tokio::test]
async fn nobody_is_greeted_for_a_follow_of_long_ago() {
    let mut stage = Stage::with(&[WELCOME], "").await;
    // From before the account was ours, and from so long ago that every step would be too late.
    stage.platform.follows("old", START.seconds() - 60);
    stage.platform.follows("late", stage.second());
    stage.crash().await;
    stage.clock.advance(minutes(60 * 50));
    stage.start().await;
    let sync = stage.completed().await;
    assert_eq!((&sync["found"], &sync["enrolled"]), (&2.into(), &0.into()));
    assert_eq!(
        stage
            .number("SELECT count(*) FROM followers WHERE following = 1")
            .await,
        2
    );
    stage.end().await;
}

#[tokio::test]
async fn the_scene_and_the_tags_of_whom_we_missed_reach_the_sequences() {
    let scened = "
sequence: booth
trigger: { follow: { scene: 'booth-*' } }
steps:
  - { id: vip, after: 0s, when: \"'贵宾' in follower.tags\", say: { text: '{{ follower.scene }}' } }
";
    let mut stage = Stage::with(&[scened], "").await;
    stage.crash().await;
    stage.clock.advance(minutes(10));
    stage.platform.follows("bob", stage.second());
    {
        let mut world = stage.platform.world();
        world.tags.insert(128, "贵宾".to_owned());
        world.fans[0].scene = "booth-7";
        world.fans[0].tags = vec![128, 999];
    }
    stage.start().await;
    stage.completed().await;
    stage.received("bob", &["booth-7"]).await;
    assert_eq!(
        stage.get("/accounts/main/followers/bob").await["tags"],
        serde_json::json!(["贵宾"])
    );
    stage.end().await;
}

/// So many followers of long ago, `f00000`, `f00001`, ….
fn crowd(stage: &Stage, count: usize) {
    let mut world = stage.platform.world();
    world.fans.extend((0..count).map(|n| platform::Fan {
        openid: format!("f{n:05}"),
        since: Some(START.seconds() - 1_000_000),
        scene: "",
        tags: Vec::new(),
    }));
}

#[tokio::test]
async fn a_crash_in_the_middle_goes_on_where_it_was() {
    let mut stage = Stage::with(&[WELCOME], "").await;
    stage.follows("gone").await;
    crowd(&stage, 25_000);
    stage.platform.world().lists_left = Some(2);
    // Nobody tells us, and the list knows it only at its end.
    stage.platform.leaves("gone");
    stage.pass(minutes(1)).await;
    stage.ask(Method::POST, "/accounts/main/sync").await;
    eventually(
        "two pages are read and the third is asked for",
        async || {
            let sync = stage.sync().await;
            sync["listed"] == 20_000 && stage.platform.asked("/cgi-bin/user/get").len() == 3
        },
    )
    .await;
    assert_eq!(stage.number("SELECT count(*) FROM followers").await, 20_001);
    stage.crash().await;
    stage.platform.world().lists_left = None;
    stage.platform.world().calls.clear();
    stage.start().await;
    // Only a complete list says who is gone.
    let gone = "SELECT count(*) FROM followers WHERE following = 0";
    let sync = stage.completed().await;
    let asked = stage.platform.asked("/cgi-bin/user/get");
    assert_eq!(asked, ["f19999", "f24999"]);
    assert_eq!(
        (&sync["total"], &sync["listed"]),
        (&25_000.into(), &25_000.into())
    );
    assert_eq!((&sync["found"], &sync["gone"]), (&25_000.into(), &1.into()));
    assert_eq!((&sync["enrolled"], &sync["number"]), (&0.into(), &1.into()));
    assert_eq!(stage.number(gone).await, 1);
    assert_eq!(stage.number("SELECT count(*) FROM followers").await, 25_001);
    stage.end().await;
}

#[tokio::test]
async fn a_list_that_was_not_read_to_its_end_says_nothing_of_who_left() {
    let stage = Stage::with(&[WELCOME], "").await;
    for openid in ["a", "b", "c"] {
        stage.follows(openid).await;
    }
    stage.platform.leaves("b");
    stage.platform.world().page = 1;
    stage.platform.world().lists_left = Some(1);
    stage.pass(minutes(1)).await;
    stage.ask(Method::POST, "/accounts/main/sync").await;
    eventually("the second page is asked for", async || {
        stage.platform.asked("/cgi-bin/user/get").len() == 2
    })
    .await;
    let (status, sync) = stage.ask(Method::DELETE, "/accounts/main/sync").await;
    assert_eq!(
        (status, &sync["state"]),
        (StatusCode::OK, &"cancelled".into())
    );
    assert_eq!(
        stage
            .number("SELECT count(*) FROM followers WHERE following = 0")
            .await,
        0
    );
    stage.end().await;
}

#[tokio::test]
async fn who_acts_while_the_list_is_read_is_not_taken_for_gone() {
    let stage = Stage::with(&[WELCOME], "").await;
    stage.follows("ann").await;
    stage.follows("bob").await;
    stage.pass(minutes(1)).await;
    // A list that is behind: it has neither of them, and one of them really left.
    stage.platform.leaves("ann");
    stage.platform.leaves("bob");
    stage.platform.world().lists_left = Some(0);
    stage.ask(Method::POST, "/accounts/main/sync").await;
    eventually("the list is asked for", async || {
        stage.platform.asked("/cgi-bin/user/get").len() == 1
    })
    .await;
    stage.told("ann", "text:hi", stage.second()).await;
    stage.platform.world().lists_left = None;
    // The question without an answer is given up, and asked again after a rest.
    eventually("the sync is completed", async || {
        stage.clock.advance(minutes(1));
        tokio::time::sleep(Duration::from_millis(50)).await;
        stage.sync().await["state"] == "completed"
    })
    .await;
    assert_eq!(
        stage.get("/accounts/main/followers/ann").await["following"],
        true
    );
    assert_eq!(
        stage.get("/accounts/main/followers/bob").await["following"],
        false
    );
    stage.end().await;
}

#[tokio::test]
async fn the_sandbox_can_be_compared_with_too() {
    let pair = Pair::start(Wishes {
        sequences: &[WELCOME],
        ..Wishes::default()
    })
    .await;
    let people: Vec<_> = (0..3).map(|_| pair.person(0)).collect();
    for person in &people {
        person.follows().await;
    }
    // A send that is refused for the unfollow would tell of it before the list does.
    pair.quiet().await;
    pair.at(minutes(1));
    pair.quiet().await;
    let store = pair.app.store();
    let main = store.knowledge().account_named("main").unwrap().journey.id;
    // The sandbox loses the callback of an unfollow.
    let unheard = Fault::new("callback", FaultKind::Drop, 1);
    pair.control().add_faults(vec![unheard]).unwrap();
    people[1].tries(Action::Unfollow).await;
    syncs::begin(store, vec![main], Reason::Asked, false, pair.clock.now())
        .await
        .unwrap();
    eventually("the sync is completed", async || {
        let sync = syncs::of(store.read(), main).await.unwrap().unwrap();
        assert_ne!(sync.state, State::Failed, "{}", sync.detail);
        sync.state == State::Completed
    })
    .await;
    let sync = syncs::of(store.read(), main).await.unwrap().unwrap();
    assert_eq!((sync.listed, sync.found, sync.gone), (2, 0, 1));
}
