//! Two nodes on one PostgreSQL: whose a shard is decides who may write of it, whatever a node that
//! was stopped for a while believes, and whatever its clock says.
//!
//! A node that is stopped longer than its lease is played by ending the lease in the rows. Leases are
//! long here, so that no node looks at the rows by itself while a test goes on.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::sync::Arc;
use std::time::Duration;

use dripwheel::clock::{Clock, ManualClock, SystemClock, Timestamp};
use dripwheel::journey::answer::{Answer, AnswerClass};
use dripwheel::journey::event::{Arrival, Event};
use dripwheel::journey::ids::{AccountId, EnrollmentId};
use dripwheel::store::leases::Held;
use dripwheel::store::pauses::{self, Pause};
use dripwheel::store::shards::Sharding;
use dripwheel::store::timers::{self, TimerKey};
use dripwheel::store::work::{Armed, DeliveryKey, Intended};
use dripwheel::store::{Error, Store, StoreSettings, accounts, deliveries, nodes, versions};
use sea_orm::{ConnectionTrait, Database, TransactionTrait};
use tokio::sync::mpsc;

use crate::support::database::{Fresh, number};
use crate::support::{START, Town, account, eventually, minutes, seconds, version};

const LEASE: Duration = minutes(10);

const SHARDS: usize = 256;

const WELCOME: &str = "
sequence: welcome
trigger: follow
steps:
  - { id: hello, after: 0s, say: { text: hello } }
";

/// The same a minute later, so that it waits as a timer.
fn later() -> String {
    WELCOME.replace("0s", "1m")
}

/// One node of several.
struct Node {
    store: Arc<Store>,
    /// Somebody must listen.
    _armed: mpsc::Receiver<Armed>,
}

impl Node {
    /// Starts a node: it takes what is nobody's by then.
    async fn start(url: &str, name: &str, clock: ManualClock) -> Self {
        let settings = StoreSettings {
            node: name.to_owned(),
            lease: LEASE,
            ..StoreSettings::at(url.to_owned(), seconds(2))
        };
        let clock: Arc<dyn Clock> = Arc::new(clock);
        let (store, armed) = Store::open(&settings, clock).await.unwrap();
        let main = account("main", &Town::plan());
        accounts::configure(&store, vec![main]).await.unwrap();
        Self {
            store,
            _armed: armed,
        }
    }

    fn account(&self) -> AccountId {
        let account = self.store.knowledge().account_named("main");
        account.unwrap().journey.id
    }

    async fn number(&self, sql: &str) -> i64 {
        number(self.store.read(), sql).await
    }

    /// Somebody follows; their first step is due at once.
    async fn follow(&self, who: &str) {
        let arrival = Arrival {
            openid: who.to_owned(),
            created_at: START,
            digest: 1,
            event: Event::Followed { scene: None },
            language: None,
        };
        let taken = self.store.writer().receive(self.account(), arrival).await;
        assert_eq!(taken.unwrap().enrolled, 1);
    }

    async fn due(&self) -> Vec<DeliveryKey> {
        let first = (Timestamp(i64::MIN), EnrollmentId(i64::MIN));
        let page = deliveries::page(self.store.read(), self.account(), first, 10);
        page.await.unwrap()
    }

    /// Commits the intents of all that is due; says of which.
    async fn intend(&self) -> Vec<DeliveryKey> {
        let due = self.due().await;
        let intended = self.store.writer().intend(due).await.unwrap();
        let sent = intended.into_iter().filter_map(|one| match one {
            Intended::Send(send) => Some(send.key),
            Intended::NotSent => None,
        });
        sent.collect()
    }
}

/// Node `a`, which holds everything and knows a sequence.
async fn one_node(sequence: &str) -> (Fresh, Node) {
    let database = Fresh::on_server();
    let a = Node::start(&database.url, "a", ManualClock::at(START)).await;
    let versions = vec![version(sequence)];
    versions::publish(&a.store, versions, START).await.unwrap();
    assert_eq!(a.store.leases().holding().shards().len(), SHARDS);
    (database, a)
}

/// What a stop of `a` for longer than its lease comes to.
async fn end_lease(database: &Fresh) {
    let sql = "UPDATE nodes SET lease_until = 0 WHERE name = 'a'";
    database.tamper(sql).await;
}

/// Node `b`, which has taken everything from `a`; and `a` believes that it holds it still.
async fn take_over(database: &Fresh, a: &Node) -> Node {
    end_lease(database).await;
    let b = Node::start(&database.url, "b", ManualClock::at(START)).await;
    assert_eq!(b.store.leases().holding().shards().len(), SHARDS);
    assert_eq!(a.store.leases().holding().shards().len(), SHARDS);
    b
}

fn accepted() -> Answer {
    Answer::without_code(AnswerClass::Accepted, "")
}

#[tokio::test]
async fn a_node_settles_nothing_of_a_shard_that_was_taken_over() {
    let (database, a) = one_node(WELCOME).await;
    a.follow("ann").await;
    let sent = a.intend().await;
    assert_eq!(sent.len(), 1);
    let b = take_over(&database, &a).await;
    let settled = a.store.writer().settle(sent[0], accepted()).await;
    assert!(matches!(settled, Err(Error::NotHeld)), "{settled:?}");
    assert_eq!(b.number("SELECT count(*) FROM outcomes").await, 0);
    // Its new holder is the one who counts it as unknown.
    let held = b.store.leases().holding().held();
    let left = deliveries::left_behind(b.store.read(), &held, 10).await;
    assert_eq!(left.unwrap(), sent);
    b.store.writer().settle(sent[0], accepted()).await.unwrap();
    assert_eq!(b.number("SELECT count(*) FROM outcomes").await, 1);
}

#[tokio::test]
async fn a_node_sends_nothing_of_a_shard_that_was_taken_over() {
    let (database, a) = one_node(WELCOME).await;
    a.follow("ann").await;
    let b = take_over(&database, &a).await;
    assert_eq!(a.intend().await, []);
    assert_eq!(b.due().await.len(), 1);
    assert_eq!(b.intend().await.len(), 1);
}

#[tokio::test]
async fn a_node_promotes_nothing_of_a_shard_that_was_taken_over() {
    let (database, a) = one_node(&later()).await;
    a.follow("ann").await;
    let b = take_over(&database, &a).await;
    let until = START.plus(minutes(2));
    let shards = b.store.leases().holding().shards();
    let timers = timers::page(b.store.read(), &shards, TimerKey::FIRST, until, 10);
    let timers = timers.await.unwrap();
    assert_eq!(timers.len(), 1);
    let promoted = a.store.writer().promote(timers.clone()).await;
    assert_eq!(promoted.unwrap(), 0);
    let promoted = b.store.writer().promote(timers).await;
    assert_eq!(promoted.unwrap(), 1);
}

/// Has whoever writes an outcome wait until whoever holds this lock lets it go.
const WAIT: &str = "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$;
    CREATE TRIGGER wait AFTER INSERT ON outcomes FOR EACH ROW EXECUTE FUNCTION wait();";

const HERE: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event";

#[tokio::test]
async fn a_takeover_waits_for_what_the_old_holder_is_writing() {
    let (database, a) = one_node(WELCOME).await;
    a.follow("ann").await;
    let sent = a.intend().await[0];
    database.tamper(WAIT).await;
    let gate = Database::connect(&database.url).await.unwrap();
    let gate = gate.begin().await.unwrap();
    let lock = "SELECT pg_advisory_xact_lock(7)";
    gate.execute_unprepared(lock).await.unwrap();

    let writer = a.store.writer().clone();
    let settling = tokio::spawn(async move { writer.settle(sent, accepted()).await });
    let writing = format!("{HERE} = 'advisory'");
    eventually("it writes the outcome", || async {
        a.number(&writing).await == 1
    })
    .await;
    let sent_under = a.store.leases().holding().epoch(sent.account).unwrap();
    end_lease(&database).await;
    let b = Node::start(&database.url, "b", ManualClock::at(START)).await;
    let writes = Sharding::Many.shard(sent.account);
    let has = |shard: u16| b.store.leases().holding().has(shard);
    assert!(!has(writes), "it did not wait");
    assert_eq!(b.store.leases().holding().held().len(), SHARDS - 1);
    gate.rollback().await.unwrap();

    settling.await.unwrap().unwrap();
    // Whoever takes it now finds nothing that is left to settle.
    let epoch = format!("SELECT epoch FROM shard_leases WHERE shard = {writes}");
    eventually("somebody has taken it", || async {
        a.number(&epoch).await > sent_under
    })
    .await;
    let epoch = a.number(&epoch).await;
    let held = [Held {
        shard: writes,
        epoch,
    }];
    let left = deliveries::left_behind(b.store.read(), &held, 10).await;
    assert_eq!(left.unwrap(), []);
    assert_eq!(b.number("SELECT count(*) FROM outcomes").await, 1);
}

#[tokio::test]
async fn a_lease_lasts_as_long_whatever_the_clock_of_its_node_says() {
    let database = Fresh::on_server();
    let hour = minutes(60);
    let now = SystemClock.now();
    let slow = ManualClock::at(now.minus(hour));
    let fast = ManualClock::at(now.plus(hour));
    let a = Node::start(&database.url, "a", slow).await;
    let b = Node::start(&database.url, "b", fast).await;
    // Nothing is nobody's as long as a lease lasts that an hour's difference would have ended.
    assert_eq!(a.store.leases().holding().shards().len(), SHARDS);
    assert_eq!(b.store.leases().holding().shards(), [0; 0]);
    let all = nodes::all(a.store.read()).await.unwrap();
    assert_eq!(all.len(), 2);
    for node in all {
        let left = node.lease.unwrap();
        assert!(left > Duration::ZERO && left <= LEASE, "{node:?}");
    }
}

#[tokio::test]
async fn a_pause_on_one_node_is_obeyed_by_the_other_ones_next_intent() {
    let (database, a) = one_node(WELCOME).await;
    a.follow("ann").await;
    let b = Node::start(&database.url, "b", ManualClock::at(START)).await;
    let pause = Pause {
        reason: "a wrong text".to_owned(),
        by: "ops".to_owned(),
        at: START,
    };
    assert!(pauses::pause(&b.store, b.account(), pause).await.unwrap());
    assert_eq!(a.intend().await, []);
    let resumed = pauses::resume(&b.store, b.account(), "ops", START).await;
    assert!(resumed.unwrap());
    assert_eq!(a.intend().await.len(), 1);
}
