//! What is older than is kept goes, and the audit goes on being true.

use std::sync::Arc;

use dripwheel::clock::{Clock, ManualClock};
use dripwheel::journey::ids::AccountId;
use dripwheel::store::retention::{self, Retention};
use dripwheel::store::{Store, StoreSettings};

use crate::support::cluster::Cluster;
use crate::support::database::{Fresh, number};
use crate::support::{START, Town, eventually, hours, minutes};

/// Two steps of which the second is a month off: whoever is inside is older than their outcomes.
const LONG: &str = "
sequence: long
trigger: follow
horizon: 30d
closed: skip
steps:
  - { id: hello, after: 0s, say: { text: hello } }
  - { id: month, after: 30d, say: { text: month } }
";

const DAY: std::time::Duration = hours(24);

fn retention(town: &Town, keep_days: u32) -> Retention {
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&town.clock);
    Retention::new(Arc::clone(town.store()), clock, Some(DAY * keep_days))
}

/// The server's shard is ours, so that there is something to do.
async fn held(town: &Town) {
    let leases = town.store().leases();
    eventually("the server's shard is held", || async {
        leases.hold(AccountId(0))
    })
    .await;
}

#[tokio::test]
async fn old_outcomes_go_and_the_audit_says_from_when_on_it_counts() {
    let mut town = Town::open(&[LONG]).await;
    town.follow("ann").await;
    town.follow("bob").await;
    town.quiet().await;
    town.unfollow("bob").await;
    assert_eq!(town.audit().await.counts_from, None);
    town.pass(DAY * 10).await;
    town.follow("cid").await;
    town.quiet().await;
    assert_eq!(town.count("outcomes").await, 4);
    assert_eq!(town.count("receipts").await, 4);
    held(&town).await;

    retention(&town, 30).look().await.unwrap();
    assert_eq!(town.count("outcomes").await, 4, "nothing is so old");
    retention(&town, 7).look().await.unwrap();
    assert_eq!(town.count("outcomes").await, 1, "that of ten days later");
    assert_eq!(town.count("receipts").await, 1);
    // Nobody is forgotten to have been greeted.
    assert_eq!(town.count("enrollments").await, 3);
    let audit = town.audit().await;
    let from = audit.counts_from.unwrap();
    assert!(START < from && from < town.now(), "{from:?}");
    let hello = &audit.steps[0];
    assert_eq!((hello.planned, hello.sent, hello.still_planned), (1, 1, 0));
    town.prove().await;
    // A second look has nothing to do.
    retention(&town, 7).look().await.unwrap();
    assert_eq!(town.count("outcomes").await, 1);

    // Who is inside goes on, and is counted as far as that can be proven.
    town.pass(DAY * 31).await;
    assert_eq!(town.count("outcomes").await, 3);
    town.prove().await;
    town.stop().await;
    town.tamper("UPDATE outcomes SET steps = 3 WHERE step = 1")
        .await;
    town.start().await;
    assert!(
        !town.audit().await.is_clean(),
        "more ended than were planned"
    );
    town.stop().await;
}

#[tokio::test]
async fn what_is_kept_for_ever_stays() {
    let town = Town::open(&[LONG]).await;
    town.follow("ann").await;
    town.pass(DAY * 400).await;
    held(&town).await;
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&town.clock);
    let forever = Retention::new(Arc::clone(town.store()), clock, None);
    forever.look().await.unwrap();
    assert_eq!(town.count("outcomes").await, 2);
    let kept_from = retention::kept_from(town.store().read()).await.unwrap();
    assert_eq!(kept_from.0, 0);
    town.end().await;
}

/// The days that have a table, by the end of its name.
async fn days(cluster: &Cluster, database: &str) -> Vec<String> {
    let names = "SELECT inhrelid::regclass FROM pg_inherits
        WHERE inhparent = 'outcomes'::regclass AND inhrelid::regclass::text <> 'outcomes_other'
        ORDER BY 1";
    let said = cluster.psql(database, names);
    said.lines()
        .map(|name| name.trim_start_matches("outcomes_").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_day_has_a_table_of_its_own_on_postgresql() {
    let cluster = Cluster::of_this_process();
    let database = Fresh::on_server();
    let name = database.url.rsplit('/').next().unwrap().to_owned();
    let clock = Arc::new(ManualClock::at(START));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let open = async |node: &str| {
        let settings = StoreSettings {
            node: node.to_owned(),
            ..StoreSettings::at(database.url.clone(), minutes(0))
        };
        let (store, _armed) = Store::open(&settings, Arc::clone(&shared)).await.unwrap();
        store
    };
    let store = open("one").await;
    eventually("the server's shard is held", || async {
        store.leases().hold(AccountId(0))
    })
    .await;
    let keep = Some(DAY * 7);
    let look = || Retention::new(Arc::clone(&store), Arc::clone(&shared), keep);
    // Two at once do it once.
    let (one, two) = (look(), look());
    let (one, two) = tokio::join!(one.look(), two.look());
    one.and(two).unwrap();
    let made = days(cluster, &name).await;
    assert_eq!(made.len(), 8, "{made:?}");
    assert_eq!((&*made[0], &*made[7]), ("20260302", "20260309"));

    let insert = |at: i64| {
        let sql = format!(
            "INSERT INTO outcomes (enrollment_id, step, entry, account_id, version_id, result,
                 steps, due_at, at) VALUES ({at}, 0, 0, 1, 1, 1, 1, 0, {at}) RETURNING tableoid::regclass"
        );
        cluster.psql(&name, &sql)
    };
    assert_eq!(insert(START.0), "outcomes_20260302");
    let far = START.plus(DAY * 9).0;
    assert_eq!(
        insert(far),
        "outcomes_other",
        "for that day there is none yet"
    );
    clock.advance(DAY * 5);
    look().look().await.unwrap();
    let made = days(cluster, &name).await;
    // The day whose rows stand elsewhere cannot be made; the others are.
    assert_eq!(made.len(), 12, "{made:?}");
    assert!(!made.contains(&"20260311".to_owned()), "{made:?}");
    assert_eq!(insert(START.plus(DAY * 10).0), "outcomes_20260312");

    clock.advance(DAY * 20);
    look().look().await.unwrap();
    let left = days(cluster, &name).await;
    assert_eq!(
        left.first().map(String::as_str),
        Some("20260327"),
        "{left:?}"
    );
    let rows = number(store.read(), "SELECT count(*) FROM outcomes").await;
    assert_eq!(rows, 0, "also the one that had no day");
    store.close().await;
}
