//! The audit: recomputes from the rows what must always hold, and counts what does not.
//!
//! Reads only, so it can run beside a working server; a check is one statement and therefore sees
//! one state of the rows. `ARCHITECTURE.md` lists the invariants by the numbers used here.

use std::time::Duration;

use sea_orm::DatabaseConnection;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::journey::catalog::Catalog;
use crate::journey::ids::VersionId;
use crate::journey::outcome::Outcome;
use crate::store::sql::{self, int, text};
use crate::store::{Error, retention};

/// Enrollments of the first day that is kept are not counted: clocks of nodes disagree, and an unfollow
/// may have been taken in a while after what came later (`inbound::spool`).
const MARGIN: Duration = Duration::from_secs(86_400);

/// What an audit found.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// Older outcomes were deleted, so steps are counted of enrollments that began from here on; of
    /// others no more may have ended than were planned. `None` when everything is counted.
    pub counts_from: Option<Timestamp>,
    pub checks: Vec<Check>,
    /// Planned and ended, by sequence version and step.
    pub steps: Vec<StepCount>,
    /// Sends whose answer was lost; not a violation, but never hidden.
    pub unknown_sends: i64,
}

impl Audit {
    /// Whether every invariant holds.
    pub fn is_clean(&self) -> bool {
        self.checks.iter().all(|check| check.violations == 0)
    }
}

/// One invariant, held against every row it speaks of.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Number of the invariant.
    pub invariant: u8,
    pub says: &'static str,
    pub rows: i64,
    pub violations: i64,
    /// Enrollments to look at first.
    pub examples: Vec<i64>,
}

/// How a step of a version stands.
#[derive(Clone, Debug, Serialize)]
pub struct StepCount {
    pub sequence: String,
    pub version: VersionId,
    pub step: String,
    pub planned: i64,
    pub still_planned: i64,
    pub sent: i64,
    pub refused: i64,
    pub expired: i64,
    pub skipped: i64,
    pub cancelled: i64,
    pub failed: i64,
    pub unknown: i64,
}

/// The enrollments, each with what wakes it.
fn wakers(read: &DatabaseConnection) -> String {
    // Where there are several shards, the follower's id names one (`shards`).
    let shard = sql::dialect(read, "0", "(e.id >> 16) & 255");
    format!(
        "FROM enrollments AS e
         LEFT JOIN timers AS t ON t.shard = {shard} AND t.due_at = e.wake_at
             AND t.enrollment_id = e.id
         LEFT JOIN deliveries AS d ON d.shard = {shard} AND d.account_id = e.account_id
             AND d.due_at = e.wake_at AND d.enrollment_id = e.id"
    )
}

/// Each check: invariant, what it says, how many rows it looks at, and the rows that violate it.
///
/// `from` is since when every outcome is there; `skew` how far two nodes' clocks may be apart, in
/// milliseconds.
fn checks(wakers: &str, from: Timestamp, skew: &str) -> Vec<(u8, &'static str, String, String)> {
    let from = from.0;
    let all = "SELECT count(*) FROM enrollments".to_owned();
    vec![
        (
            1,
            "an unfinished enrollment has exactly one timer or delivery",
            "SELECT count(*) FROM enrollments WHERE state < 2".to_owned(),
            format!(
                "SELECT e.id {wakers} WHERE e.state < 2
                     AND (t.enrollment_id IS NULL) = (d.enrollment_id IS NULL)"
            ),
        ),
        (
            1,
            "a finished enrollment has neither, but for a send that is under way",
            "SELECT count(*) FROM enrollments WHERE state >= 2".to_owned(),
            format!(
                "SELECT e.id {wakers} WHERE e.state >= 2
                     AND (t.enrollment_id IS NOT NULL OR d.state = 0)"
            ),
        ),
        (
            1,
            "a timer belongs to an enrollment that waits for it",
            "SELECT count(*) FROM timers".to_owned(),
            "SELECT t.enrollment_id FROM timers AS t LEFT JOIN enrollments AS e
                 ON e.id = t.enrollment_id AND e.wake_at = t.due_at
                 AND e.generation = t.generation AND e.state < 2
             WHERE e.id IS NULL"
                .to_owned(),
        ),
        (
            1,
            "a delivery belongs to an enrollment that waits for it",
            "SELECT count(*) FROM deliveries".to_owned(),
            "SELECT d.enrollment_id FROM deliveries AS d LEFT JOIN enrollments AS e
                 ON e.id = d.enrollment_id AND e.wake_at = d.due_at
                 AND (d.state = 1 OR (e.generation = d.generation AND e.state < 2))
             WHERE e.id IS NULL"
                .to_owned(),
        ),
        (
            2,
            "planned steps = ended steps + steps still planned",
            all.clone(),
            format!(
                "SELECT e.id {wakers}
                 LEFT JOIN (SELECT enrollment_id, CAST(sum(steps) AS BIGINT) AS ended
                     FROM outcomes GROUP BY enrollment_id) AS o ON o.enrollment_id = e.id
                 WHERE 1 + length(e.plan) - length(replace(e.plan, ',', ''))
                     - coalesce(o.ended, 0) - CASE
                         WHEN e.state < 2
                             THEN 1 + length(e.plan) - length(replace(e.plan, ',', '')) - e.step
                         WHEN d.state = 1 THEN 1 ELSE 0 END
                     NOT BETWEEN 0 AND CASE WHEN e.enrolled_at < {from} THEN 1000000 ELSE 0 END"
            ),
        ),
        (
            3,
            "an intent is of an epoch that there was",
            "SELECT count(*) FROM deliveries WHERE state = 1".to_owned(),
            "SELECT enrollment_id FROM deliveries WHERE state = 1
                 AND (intent_at <= 0 OR epoch NOT BETWEEN 1 AND (SELECT l.epoch
                     FROM shard_leases AS l WHERE l.shard = deliveries.shard))"
                .to_owned(),
        ),
        (
            3,
            "nothing is sent to somebody who had unfollowed",
            "SELECT count(*) FROM receipts WHERE kind = 2".to_owned(),
            // CROSS JOIN keeps SQLite from beginning with the outcomes, each against each unfollow.
            format!(
                "SELECT e.id FROM receipts AS u
             CROSS JOIN enrollments AS e CROSS JOIN outcomes AS o
             WHERE u.kind = 2 AND u.follower_id > 0 AND u.taken_at >= {from}
                 AND e.id BETWEEN u.follower_id << 16 AND (u.follower_id << 16) + 65535
                 AND e.enrolled_at < u.created_at AND e.enrolled_at < u.taken_at
                 AND o.enrollment_id = e.id AND o.result = 1
                 AND o.at > u.taken_at + {skew} AND NOT (e.state = 3 AND o.step = e.step)
                 AND NOT EXISTS (SELECT 1 FROM receipts AS later
                     WHERE later.account_id = u.account_id
                         AND later.follower_id = u.follower_id
                         AND later.created_at > u.created_at
                         AND later.taken_at <= u.taken_at AND later.kind IN (1, 3, 4, 5))"
            ),
        ),
        (
            4,
            "the steps of an enrollment are sent in order",
            all,
            format!(
                "SELECT enrollment_id FROM (SELECT enrollment_id, at, lag(at) OVER
                     (PARTITION BY enrollment_id ORDER BY step) AS before FROM outcomes
                     WHERE result = 1) AS sends WHERE at + {skew} < before"
            ),
        ),
    ]
}

/// The same of broadcasts: planned = ended + still planned, by recipients and chunks.
fn checks_of_broadcasts(from: Timestamp) -> Vec<(u8, &'static str, String, String)> {
    let from = from.0;
    vec![
        (
            2,
            "a recipient's enrollment is one of the broadcast's",
            "SELECT count(*) FROM recipients WHERE number >= 0".to_owned(),
            "SELECT (p.follower_id << 16) + p.number FROM recipients AS p
             JOIN broadcasts AS b ON b.id = p.broadcast_id
             LEFT JOIN enrollments AS e ON e.id = (p.follower_id << 16) + p.number
                 AND e.version_id = b.version_id
             WHERE p.number >= 0 AND e.id IS NULL"
                .to_owned(),
        ),
        (
            2,
            "a broadcast's recipients are those that were frozen, each in one chunk",
            "SELECT count(*) FROM broadcast_parts".to_owned(),
            "SELECT p.broadcast_id FROM broadcast_parts AS p
             WHERE p.total <> (SELECT count(*) FROM recipients AS r
                     WHERE r.broadcast_id = p.broadcast_id AND r.account_id = p.account_id)
                 OR p.phase >= 2 AND p.total <> (SELECT CAST(coalesce(sum(c.waiting + c.sending
                         + c.sent + c.failed + c.skipped + c.unknown), 0) AS BIGINT)
                     FROM broadcast_chunks AS c
                     WHERE c.broadcast_id = p.broadcast_id AND c.account_id = p.account_id)"
                .to_owned(),
        ),
        (
            2,
            "a chunk whose recipients have ended counts how",
            "SELECT count(*) FROM broadcast_chunks".to_owned(),
            format!(
                "SELECT c.first_id FROM broadcast_chunks AS c
                 JOIN broadcasts AS b ON b.id = c.broadcast_id
                 JOIN recipients AS p ON p.broadcast_id = c.broadcast_id
                     AND p.account_id = c.account_id
                     AND p.follower_id BETWEEN c.first_id AND c.last_id
                 LEFT JOIN outcomes AS o ON p.number >= 0 AND o.steps > 0
                     AND o.enrollment_id = (p.follower_id << 16) + p.number
                 WHERE c.waiting = 0 AND c.sending = 0 AND b.started_at >= {from}
                 GROUP BY c.broadcast_id, c.account_id, c.first_id, c.sent, c.failed, c.skipped,
                     c.unknown
                 HAVING sum(CASE WHEN o.result = 1 THEN 1 ELSE 0 END) <> c.sent
                     OR sum(CASE WHEN o.result IN (2, 6) THEN 1 ELSE 0 END) <> c.failed
                     OR sum(CASE WHEN o.result IN (3, 4, 5) THEN 1 ELSE 0 END) <> c.skipped
                     OR sum(CASE WHEN o.result = 7 THEN 1 ELSE 0 END) <> c.unknown"
            ),
        ),
    ]
}

/// Audits the rows behind `read`.
///
/// # Errors
/// When the rows cannot be read.
pub async fn audit(read: &DatabaseConnection, catalog: &Catalog) -> Result<Audit, Error> {
    let mut done = Vec::new();
    let kept_from = retention::kept_from(read).await?;
    let counts_from = (kept_from.0 > 0).then(|| kept_from.plus(MARGIN));
    let from = counts_from.unwrap_or_default();
    // A single node reads one clock; several are set by the network's time, each on its own.
    let skew = sql::dialect(read, "0", "1000");
    let mut all = checks(&wakers(read), from, skew);
    all.extend(checks_of_broadcasts(from));
    for (invariant, says, rows, violating) in all {
        let violating = format!(
            "SELECT count(*) OVER () AS violations, * FROM ({violating}) AS violating LIMIT 10"
        );
        let found = sql::all(read, &violating, []).await?;
        let violations = found.first().map_or(Ok(0), |row| int(row, 0))?;
        let examples = found.iter().map(|row| int(row, 1));
        done.push(Check {
            invariant,
            says,
            rows: one(read, &rows).await?,
            violations,
            examples: examples.collect::<Result<_, _>>()?,
        });
    }
    let unknown = format!(
        "SELECT count(*) FROM outcomes WHERE result = {}",
        Outcome::Unknown.number()
    );
    Ok(Audit {
        counts_from,
        checks: done,
        steps: steps(read, catalog, from).await?,
        unknown_sends: one(read, &unknown).await?,
    })
}

async fn one(read: &DatabaseConnection, sql: &str) -> Result<i64, Error> {
    let row = sql::first(read, sql, []).await?;
    row.map_or(Ok(0), |row| int(&row, 0))
}

/// Counts every step of every version that somebody was enrolled in, by enrollments that began from
/// `from` on.
async fn steps(
    read: &DatabaseConnection,
    catalog: &Catalog,
    from: Timestamp,
) -> Result<Vec<StepCount>, Error> {
    let mut counts = Vec::new();
    let planned = sql::all(
        read,
        "SELECT e.version_id, v.sequence, count(*) FROM enrollments AS e
         JOIN sequence_versions AS v ON v.id = e.version_id WHERE e.enrolled_at >= ?1
         GROUP BY e.version_id, v.sequence ORDER BY e.version_id",
        [from.0.into()],
    )
    .await?;
    for row in &planned {
        let (version, sequence, enrolled) = (VersionId(int(row, 0)?), text(row, 1)?, int(row, 2)?);
        let names = catalog.version(version).map(|version| {
            let steps = version.sequence.steps.iter();
            steps.map(|step| step.id.clone()).collect::<Vec<_>>()
        });
        for (index, step) in names.unwrap_or_default().into_iter().enumerate() {
            let mut count = StepCount {
                sequence: sequence.clone(),
                version,
                step,
                planned: enrolled,
                still_planned: enrolled,
                sent: 0,
                refused: 0,
                expired: 0,
                skipped: 0,
                cancelled: 0,
                failed: 0,
                unknown: 0,
            };
            count_ended(read, &mut count, index, from).await?;
            counts.push(count);
        }
    }
    Ok(counts)
}

async fn count_ended(
    read: &DatabaseConnection,
    count: &mut StepCount,
    index: usize,
    from: Timestamp,
) -> Result<(), Error> {
    let index = i64::try_from(index).unwrap_or(i64::MAX);
    let counted = match from.0 {
        // Everybody counts: there is no need to ask each.
        0 => "",
        _ => "AND enrollment_id IN (SELECT id FROM enrollments WHERE enrolled_at >= ?3)",
    };
    let ended = format!(
        "SELECT result, count(*) FROM outcomes
         WHERE version_id = ?1 AND step <= ?2 AND step + steps > ?2 {counted} GROUP BY result"
    );
    let mut values = vec![count.version.0.into(), index.into()];
    if from.0 > 0 {
        values.push(from.0.into());
    }
    let rows = sql::all(read, &ended, values).await?;
    for row in &rows {
        let ended = int(row, 1)?;
        count.still_planned -= ended;
        let place = match Outcome::from_number(int(row, 0)?) {
            Some(Outcome::Sent) => &mut count.sent,
            Some(Outcome::Refused) => &mut count.refused,
            Some(Outcome::Expired) => &mut count.expired,
            Some(Outcome::Skipped) => &mut count.skipped,
            Some(Outcome::Cancelled) => &mut count.cancelled,
            Some(Outcome::Failed) => &mut count.failed,
            Some(Outcome::Unknown) => &mut count.unknown,
            Some(Outcome::Retried | Outcome::Held | Outcome::Delivered | Outcome::Undelivered)
            | None => continue,
        };
        *place += ended;
    }
    Ok(())
}
