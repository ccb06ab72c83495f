//! Sums of several nodes on one PostgreSQL: a commit that comes late is counted, and none twice.

use std::sync::Arc;

use dripwheel::clock::{Clock, ManualClock};
use dripwheel::journey::ids::AccountId;
use dripwheel::store::statistics::{self, Asked};
use dripwheel::store::{Store, StoreSettings, accounts, versions};
use sea_orm::{ConnectionTrait, Database, TransactionTrait};

use crate::support::database::{Fresh, number};
use crate::support::{START, Town, account, eventually, minutes, version};

/// One sum, as a commit adds it.
const SUM: &str =
    "INSERT INTO statistics_fresh (version_id, day, account_id, step, link, kind, code,
    language, n) VALUES (1, 20000, 1, 0, 0, 1, 0, '', 1)";

async fn sent(store: &Store) -> i64 {
    let added = statistics::read(store.read(), &Asked::default())
        .await
        .unwrap();
    added.unwrap().iter().map(|one| one.n).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_commit_is_counted_and_two_passes_count_nothing_twice() {
    let database = Fresh::on_server();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(START));
    let settings = StoreSettings::at(database.url.clone(), minutes(0));
    let (store, _armed) = Store::open(&settings, clock).await.unwrap();
    accounts::configure(&store, vec![account("main", &Town::plan())])
        .await
        .unwrap();
    let text = "sequence: a\ntrigger: follow\nsteps: [{ id: x, after: 1h, say: { text: x } }]\n";
    versions::publish(&store, vec![version(text)], START)
        .await
        .unwrap();
    eventually("the server's shard is held", || async {
        store.leases().hold(AccountId(0))
    })
    .await;
    let other = Database::connect(&database.url).await.unwrap();
    // Numbered before the others, and committed after them.
    let late = other.begin().await.unwrap();
    late.execute_unprepared(SUM).await.unwrap();
    for _ in 0..4_999 {
        other.execute_unprepared(SUM).await.unwrap();
    }
    assert_eq!(sent(&store).await, 4_999);
    let (one, two) = tokio::join!(statistics::take_all(&store), statistics::take_all(&store));
    one.and(two).unwrap();
    assert_eq!(sent(&store).await, 4_999);
    let left = "SELECT count(*) FROM statistics_fresh";
    assert_eq!(number(store.read(), left).await, 0);
    late.commit().await.unwrap();
    assert_eq!(sent(&store).await, 5_000, "seen at once");
    statistics::take_all(&store).await.unwrap();
    assert_eq!(number(store.read(), left).await, 0, "and taken");
    assert_eq!(sent(&store).await, 5_000);
    assert_eq!(
        number(store.read(), "SELECT count(*) FROM statistics").await,
        1
    );
    store.close().await;
}
