//! What the platform saw, held against what the server's rows say: nothing lost, nothing doubled in
//! silence, nothing unexplained.
//!
//! The platform's side is its record file, which has every call before it was answered; the
//! server's side is read from its database through a connection of our own.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use dripwheel::clock::Timestamp;
use dripwheel::journey::outcome::Outcome;
use dripwheel::store;
use dripwheel::store::receipts::KINDS;
use sea_orm::{DatabaseConnection, QueryResult};

use crate::crowd::{Deed, Person};
use crate::database;
use crate::server::{ATTEMPT, STEPS};

/// How long after an acknowledged unfollow a call that was under way may still reach the platform.
const GRACE: Duration = Duration::from_secs(ATTEMPT.as_secs() + 8);

/// Violations that are spelled out.
const SHOWN_MAX: usize = 20;

/// One call that reached the platform.
#[derive(Debug)]
struct Call {
    openid: String,
    step: usize,
    at: Timestamp,
    received: bool,
}

/// What the rows say of one step of one person.
#[derive(Debug, Default)]
struct Story {
    sent: usize,
    unknown: usize,
    /// The outcome that ended it.
    end: Option<Outcome>,
}

/// What the rows say of one person.
#[derive(Debug, Default)]
struct Rows {
    enrollments: usize,
    followed_at: Timestamp,
    steps: BTreeMap<usize, Story>,
    /// Kind and text of each receipt.
    receipts: Vec<(&'static str, String)>,
}

/// The counts that make up the summary.
#[derive(Debug, Default)]
pub struct Verdict {
    pub people: usize,
    pub acked: usize,
    pub received: usize,
    /// Steps of people who stay that never arrived, and nothing says so.
    pub lost: usize,
    /// Steps that never arrived and that the rows end as unknown.
    pub lost_as_unknown: usize,
    /// Messages that arrived twice, each with an unknown send to explain it.
    pub doubles: usize,
    /// Messages that arrived more often than the rows explain.
    pub silent_doubles: usize,
    /// Steps that two nodes say they have sent.
    pub stale: usize,
    /// How long after its instant each message arrived, in milliseconds; shortest first.
    pub late_ms: Vec<i64>,
    /// Events that nobody acknowledged.
    pub refused: usize,
    pub unknown: u64,
    pub bound: u64,
    violations: Vec<String>,
    violations_count: usize,
}

impl Verdict {
    fn violated(&mut self, what: impl FnOnce() -> String) {
        self.violations_count += 1;
        if self.violations.len() < SHOWN_MAX {
            self.violations.push(what());
        }
    }

    /// Fails with what was found.
    pub fn assert_clean(&self) {
        let (count, shown) = (self.violations_count, self.violations.join("\n"));
        assert!(count == 0, "{count} violations, such as\n{shown}");
    }
}

/// Holds both sides against each other. `bound` is how many unknown sends there may be.
pub async fn compare(people: &[Person], record: &Path, database: &str, bound: u64) -> Verdict {
    let read = store::open_to_read(database).await.unwrap();
    let rows = rows(&read).await;
    let calls = calls(record);
    let mut by_person: HashMap<&str, Vec<&Call>> = HashMap::new();
    for call in &calls {
        by_person.entry(&call.openid).or_default().push(call);
    }
    let mut verdict = Verdict {
        people: people.len(),
        bound,
        ..Verdict::default()
    };
    let nothing = Rows::default();
    for person in people {
        let rows = rows.get(&*person.openid).unwrap_or(&nothing);
        let calls = by_person.remove(&*person.openid).unwrap_or_default();
        receipts(&mut verdict, person, rows);
        steps(&mut verdict, person, rows, &calls);
        order(&mut verdict, person, rows, &calls);
    }
    verdict.late_ms.sort_unstable();
    for openid in by_person.keys() {
        verdict.violated(|| format!("{openid}: called, and never came"));
    }
    if verdict.unknown > bound {
        let unknown = verdict.unknown;
        verdict.violated(|| format!("{unknown} unknown sends, more than {bound}"));
    }
    verdict
}

/// Every event that was answered `success` has its row, and no event has two.
fn receipts(verdict: &mut Verdict, person: &Person, rows: &Rows) {
    let is_of =
        |deed: &Deed, (kind, text): &(&str, String)| *kind == deed.kind && *text == deed.text;
    for deed in &person.deeds {
        let found = rows.receipts.iter().filter(|row| is_of(deed, row)).count();
        verdict.acked += usize::from(deed.acked);
        verdict.refused += usize::from(!deed.acked);
        if (deed.acked && found == 0) || found > 1 {
            verdict.violated(|| format!("{}: {found} receipts of {deed:?}", person.openid));
        }
    }
    let strange = |row: &&(&str, String)| !person.deeds.iter().any(|deed| is_of(deed, row));
    if let Some(row) = rows.receipts.iter().find(strange) {
        verdict.violated(|| {
            format!(
                "{}: a receipt of what they never did: {row:?}",
                person.openid
            )
        });
    }
    if rows.enrollments > 1 {
        verdict.violated(|| format!("{}: {} enrollments", person.openid, rows.enrollments));
    }
    if person.stays() && rows.enrollments == 0 {
        verdict.violated(|| format!("{}: acknowledged and not enrolled", person.openid));
    }
}

/// Each step arrived, and as often as the rows can explain.
fn steps(verdict: &mut Verdict, person: &Person, rows: &Rows, calls: &[&Call]) {
    let nothing = Story::default();
    for step in 0..STEPS {
        let story = rows.steps.get(&step).unwrap_or(&nothing);
        let arrived = calls
            .iter()
            .filter(|call| call.received && call.step == step)
            .count();
        verdict.received += arrived;
        verdict.unknown += u64::try_from(story.unknown).unwrap();
        verdict.doubles += arrived.saturating_sub(1);
        let tell = |what: &str| {
            format!(
                "{} step {step}: {what}: arrived {arrived} times, {story:?}",
                person.openid
            )
        };
        if arrived == 0 && person.stays() {
            if story.end == Some(Outcome::Unknown) {
                verdict.lost_as_unknown += 1;
            } else {
                verdict.lost += 1;
                verdict.violated(|| tell("lost"));
            }
        }
        if arrived > 1 && story.unknown == 0 || arrived > story.sent + story.unknown {
            verdict.silent_doubles += 1;
            verdict.violated(|| tell("more often than the rows say"));
        }
        if story.sent > 1 {
            verdict.stale += 1;
            verdict.violated(|| tell("settled twice"));
        }
        if arrived == 0 && story.sent > 0 {
            verdict.violated(|| tell("sent, say the rows"));
        }
        if rows.enrollments > 0 && story.end.is_none() {
            verdict.violated(|| tell("never ended"));
        }
    }
}

/// Steps come in their order and never early, and nothing is tried after an unfollow.
fn order(verdict: &mut Verdict, person: &Person, rows: &Rows, calls: &[&Call]) {
    let arrived = calls.iter().filter(|call| call.received);
    let order: Vec<_> = arrived.clone().map(|call| call.step).collect();
    if !order.is_sorted() {
        verdict.violated(|| format!("{}: arrived in the order {order:?}", person.openid));
    }
    for call in calls {
        let due_at = rows.followed_at.plus(Duration::from_secs(call.step as u64));
        verdict.late_ms.push(call.at.0 - due_at.0);
        if call.at < due_at {
            verdict.violated(|| format!("{}: due at {due_at}, and {call:?}", person.openid));
        }
    }
    let left_at = person.left_at().map(|at| at.plus(GRACE));
    let late = |call: &&&Call| left_at.is_some_and(|left_at| call.at > left_at);
    if let Some(call) = calls.iter().find(late) {
        verdict.violated(|| format!("{}: left, and then {call:?}", person.openid));
    }
}

fn calls(record: &Path) -> Vec<Call> {
    let text = std::fs::read_to_string(record).unwrap();
    let call = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let body: serde_json::Value = serde_json::from_str(line["body"].as_str().unwrap()).unwrap();
        let step = body["text"]["content"]
            .as_str()
            .unwrap()
            .strip_prefix("step-");
        Call {
            openid: line["openid"].as_str().unwrap().to_owned(),
            step: step.unwrap().parse().unwrap(),
            at: Timestamp(line["at"].as_i64().unwrap()),
            received: line["received"].as_bool().unwrap(),
        }
    };
    text.lines().map(call).collect()
}

async fn rows(read: &DatabaseConnection) -> HashMap<String, Rows> {
    let mut people: HashMap<String, Rows> = HashMap::new();
    let enrollments = "SELECT f.openid, count(e.id) FROM followers AS f
        LEFT JOIN enrollments AS e ON e.id >> 16 = f.id GROUP BY f.id";
    for row in select(read, enrollments).await {
        let person = people.entry(text(&row, 0)).or_default();
        person.enrollments = usize::try_from(number(&row, 1)).unwrap();
    }
    let receipts = "SELECT f.openid, r.kind, coalesce(r.detail, ''), r.created_at
        FROM receipts AS r JOIN followers AS f ON f.id = r.follower_id";
    for row in select(read, receipts).await {
        let person = people.get_mut(&text(&row, 0)).unwrap();
        let kind = KINDS[usize::try_from(number(&row, 1)).unwrap() - 1];
        if kind == "followed" {
            person.followed_at = Timestamp(number(&row, 3));
        }
        person.receipts.push((kind, text(&row, 2)));
    }
    let outcomes = "SELECT f.openid, o.step, o.result, o.steps
        FROM outcomes AS o JOIN followers AS f ON f.id = o.enrollment_id >> 16";
    for row in select(read, outcomes).await {
        let person = people.get_mut(&text(&row, 0)).unwrap();
        let first = usize::try_from(number(&row, 1)).unwrap();
        let outcome = Outcome::from_number(number(&row, 2)).unwrap();
        let ended = usize::try_from(number(&row, 3)).unwrap();
        let story = person.steps.entry(first).or_default();
        story.sent += usize::from(outcome == Outcome::Sent);
        story.unknown += usize::from(outcome == Outcome::Unknown);
        for step in first..first + ended {
            person.steps.entry(step).or_default().end = Some(outcome);
        }
    }
    people
}

/// How many rows wait for something: zero once everything has ended.
pub async fn unfinished(database: &str) -> i64 {
    let read = store::open_to_read(database).await.unwrap();
    let sql = "SELECT (SELECT count(*) FROM timers) + (SELECT count(*) FROM deliveries)
        + (SELECT count(*) FROM enrollments WHERE state < 2)";
    let waiting = database::number(&read, sql).await;
    read.close().await.unwrap();
    waiting
}

async fn select(read: &DatabaseConnection, sql: &str) -> Vec<QueryResult> {
    database::rows(read, sql, []).await
}

fn number(row: &QueryResult, index: usize) -> i64 {
    row.try_get_by_index(index).unwrap()
}

fn text(row: &QueryResult, index: usize) -> String {
    row.try_get_by_index(index).unwrap()
}
