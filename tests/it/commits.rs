//! What requests do to each other when they share a commit.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::sync::Arc;
use std::time::Duration;

use dripwheel::clock::{Clock, Timestamp};
use dripwheel::journey::event::{Arrival, Event};
use dripwheel::journey::ids::EnrollmentId;
use dripwheel::store::Store;
use dripwheel::store::audit::audit;
use dripwheel::store::timers::TimerKey;
use tokio::sync::oneshot;

use crate::pair::{Pair, Person, Wishes};

const LATER: &str = "
sequence: later
trigger: follow
steps:
  - { id: hello, after: 0s, say: { text: hello } }
  - { id: later, after: 10m, say: { text: later } }
";

/// Keeps the writer busy until the other end is dropped: whatever is asked of it meanwhile goes
/// into one commit.
async fn gather(store: &Arc<Store>) -> oneshot::Sender<()> {
    let (begin, begun) = oneshot::channel();
    let (release, released) = oneshot::channel::<()>();
    let store = Arc::clone(store);
    tokio::spawn(async move {
        let wait = store.writer().cold(move |_| {
            Box::pin(async move {
                begin.send(()).unwrap();
                released.await.unwrap_err();
                Ok(())
            })
        });
        wait.await.unwrap();
    });
    begun.await.unwrap();
    release
}

/// An event and the promotion of the only timer there is, in one commit.
async fn together(pair: &Pair, person: &Person, event: Event) {
    let rows = pair.rows("SELECT due_at, enrollment_id FROM timers").await;
    let timer = TimerKey {
        due_at: Timestamp(rows[0].try_get_by_index(0).unwrap()),
        enrollment: EnrollmentId(rows[0].try_get_by_index(1).unwrap()),
    };
    let store = pair.app.store();
    let account = store.knowledge().account_named("main").unwrap();
    let arrival = Arrival {
        openid: person.openid.clone(),
        created_at: pair.clock.now(),
        digest: 1,
        event,
        language: None,
    };
    let release = gather(store).await;
    let (taken, promoted, ()) = tokio::join!(
        store.writer().receive(account.journey.id, arrival),
        store.writer().promote(vec![timer]),
        async {
            // By the second look at this, the other two have been asked for.
            tokio::task::yield_now().await;
            drop(release);
        }
    );
    assert!(taken.unwrap().fresh);
    // What the event took off the wheel is not there any more for the promotion of its commit.
    assert_eq!(promoted.unwrap(), 0);
}

async fn assert_clean(pair: &Pair) {
    let store = pair.app.store();
    let found = audit(store.read(), &store.knowledge().catalog()).await;
    let found = found.unwrap();
    assert!(found.is_clean(), "{:#?}", found.checks);
}

#[tokio::test]
async fn a_timer_promoted_together_with_an_unfollow_leaves_no_delivery() {
    let pair = Pair::start(Wishes {
        sequences: &[LATER],
        ..Wishes::default()
    })
    .await;
    let person = pair.person(0);
    person.follows().await;
    pair.quiet().await;
    pair.at(Duration::from_secs(60));
    together(&pair, &person, Event::Unfollowed).await;
    assert_clean(&pair).await;
    let left = "SELECT (SELECT count(*) FROM timers) + (SELECT count(*) FROM deliveries)";
    assert_eq!(pair.number(left).await, 0);
    pair.at(Duration::from_secs(3600));
    pair.quiet().await;
    assert_eq!(person.texts(), ["hello"]);
}

#[tokio::test]
async fn a_deadline_promoted_together_with_a_message_leaves_the_released_step_alone() {
    let pair = Pair::start(Wishes {
        sequences: &[LATER],
        server_profile: "wechat-2023",
        ..Wishes::default()
    })
    .await;
    let person = pair.person(0);
    person.follows().await;
    pair.quiet().await;
    pair.at(Duration::from_secs(600));
    pair.quiet().await;
    assert_eq!(
        pair.number("SELECT state FROM enrollments").await,
        1,
        "held"
    );
    pair.at(Duration::from_secs(700));
    let message = Event::MessageReceived {
        message_kind: "text".to_owned(),
        text: "在吗".to_owned(),
    };
    together(&pair, &person, message).await;
    pair.quiet().await;
    assert_clean(&pair).await;
    assert_eq!(person.texts(), ["hello", "later"]);
    let left = "SELECT (SELECT count(*) FROM timers) + (SELECT count(*) FROM deliveries)";
    assert_eq!(pair.number(left).await, 0);
}
