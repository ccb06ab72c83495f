//! What goes wrong below the program: commits that the database refuses at the last moment, and
//! timers that the ring missed. Nobody is told of what is not written, and nothing is lost.

use std::time::Duration;

use dripwheel::clock::Timestamp;
use dripwheel::journey::ids::EnrollmentId;
use dripwheel::sandbox::Action;
use dripwheel::store::timers::TimerKey;
use sea_orm::{DatabaseConnection, DbBackend};

use crate::pair::{Pair, Person, Wishes, eventually};

const LATER: &str = "
sequence: later
trigger: follow
steps:
  - { id: hello, after: 0s, say: { text: hello } }
  - { id: later, after: 10m, say: { text: later } }
";

const TEN_MINUTES: Duration = Duration::from_secs(600);

/// A server that has taken in the follows of so many people, and told them `hello`.
async fn pair_with(people: usize) -> (Pair, Vec<Person>) {
    let pair = Pair::start(Wishes {
        sequences: &[LATER],
        ..Wishes::default()
    })
    .await;
    let people: Vec<_> = (0..people).map(|_| pair.person(0)).collect();
    for person in &people {
        person.follows().await;
    }
    pair.quiet().await;
    (pair, people)
}

/// Has every transaction fail that writes such a row: at its commit, and not before.
async fn refuse(pair: &Pair, doing: &str, table: &str, when: &str) {
    let constraint = "CREATE TABLE nobody (id BIGINT PRIMARY KEY);
        CREATE TABLE refused (id BIGINT REFERENCES nobody (id) DEFERRABLE INITIALLY DEFERRED);";
    let trigger = format!("CREATE TRIGGER refuse AFTER {doing} ON {table}");
    let sql = match backend(pair.app.store().read()) {
        DbBackend::Postgres => format!(
            "{constraint}
             CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN INSERT INTO refused VALUES (1); RETURN NULL; END $$;
             {trigger} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION refuse();"
        ),
        _ => {
            format!("{constraint} {trigger} WHEN {when} BEGIN INSERT INTO refused VALUES (1); END;")
        }
    };
    pair.database.tamper(&sql).await;
}

/// Ends that.
async fn permit(pair: &Pair, table: &str) {
    let sql = match backend(pair.app.store().read()) {
        DbBackend::Postgres => format!("DROP TRIGGER refuse ON {table}"),
        _ => "DROP TRIGGER refuse".to_owned(),
    };
    pair.database.tamper(&sql).await;
}

fn backend(read: &DatabaseConnection) -> DbBackend {
    read.get_database_backend()
}

#[tokio::test]
async fn a_callback_whose_commit_fails_is_not_answered_success() {
    let (pair, _) = pair_with(0).await;
    let person = pair.person(0);
    refuse(&pair, "INSERT", "receipts", "true").await;
    let pushed = person.tries(Action::Follow { scene: None }).await;
    assert!(!pushed.accepted, "{pushed:?}");
    assert_eq!(pair.number("SELECT count(*) FROM receipts").await, 0);
    permit(&pair, "receipts").await;
    person.writes("在吗").await;
    assert_eq!(pair.number("SELECT count(*) FROM receipts").await, 1);
}

#[tokio::test]
async fn nothing_is_sent_whose_intent_is_not_committed() {
    let (pair, people) = pair_with(2).await;
    let [refused, other] = &people[..] else {
        unreachable!("there are two");
    };
    let enrollment = pair.number("SELECT min(id) FROM enrollments").await;
    let theirs = format!("NEW.state = 1 AND NEW.enrollment_id = {enrollment}");
    refuse(&pair, "UPDATE", "deliveries", &theirs).await;
    pair.at(TEN_MINUTES);
    // Both are due at once and go in one hand: when the other has the message, both were tried.
    eventually("the other has it", async || other.texts().len() == 2).await;
    assert_eq!(refused.texts(), ["hello"]);
    permit(&pair, "deliveries").await;
    pair.at(2 * TEN_MINUTES);
    pair.quiet().await;
    for person in &people {
        assert_eq!(person.texts(), ["hello", "later"]);
    }
}

#[tokio::test]
async fn a_promotion_that_fails_leaves_its_timer() {
    let (pair, people) = pair_with(1).await;
    refuse(&pair, "INSERT", "deliveries", "true").await;
    let rows = pair.rows("SELECT due_at, enrollment_id FROM timers").await;
    let timer = TimerKey {
        due_at: Timestamp(rows[0].try_get_by_index(0).unwrap()),
        enrollment: EnrollmentId(rows[0].try_get_by_index(1).unwrap()),
    };
    let writer = pair.app.store().writer();
    writer.promote(vec![timer]).await.unwrap_err();
    assert_eq!(pair.number("SELECT count(*) FROM timers").await, 1);
    permit(&pair, "deliveries").await;
    pair.at(TEN_MINUTES);
    pair.quiet().await;
    assert_eq!(people[0].texts(), ["hello", "later"]);
}

/// The scan of each second looks back two minutes only.
#[tokio::test]
async fn a_timer_that_the_ring_missed_long_ago_is_found() {
    let (pair, people) = pair_with(2).await;
    let missed = "enrollment_id = (SELECT min(id) FROM enrollments)";
    let hidden = format!(
        "CREATE TABLE hidden AS SELECT * FROM timers WHERE {missed};
         DELETE FROM timers WHERE {missed};"
    );
    pair.database.tamper(&hidden).await;
    pair.at(TEN_MINUTES);
    // Both were on the ring at one instant: when one has the message, it knows of neither any more.
    eventually("the other has it", async || people[1].texts().len() == 2).await;
    pair.at(2 * TEN_MINUTES);
    pair.quiet().await;
    let back = "INSERT INTO timers SELECT * FROM hidden";
    pair.database.tamper(back).await;
    pair.at(3 * TEN_MINUTES);
    pair.quiet().await;
    assert_eq!(people[0].texts(), ["hello", "later"]);
}
