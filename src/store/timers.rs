//! Table `timers`: the wheel's rows, in the order of time. Insert and delete only.
//!
//! The key is the millisecond, not the second: a slot is a range of keys, so the rows need no slot
//! column, and promotion can run at the pace of milliseconds.

use std::collections::{HashMap, HashSet};

use sea_orm::{DatabaseConnection, DatabaseTransaction, QueryResult};

use crate::clock::Timestamp;
use crate::journey::ids::{AccountId, EnrollmentId};
use crate::store::Error;
use crate::store::shards::Sharding;
use crate::store::sql::{self, Rows, instant, int, small};
use crate::store::work::DeliveryKey;

/// What orders the wheel: instant first, then enrollment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerKey {
    pub due_at: Timestamp,
    pub enrollment: EnrollmentId,
}

impl TimerKey {
    /// Before every key.
    pub const FIRST: Self = Self {
        due_at: Timestamp(i64::MIN),
        enrollment: EnrollmentId(i64::MIN),
    };
}

const PAGE_OF_ONE: &str = "SELECT due_at, enrollment_id FROM timers
    WHERE shard = 0 AND (due_at, enrollment_id) > (?1, ?2) AND due_at < ?3
    ORDER BY due_at, enrollment_id LIMIT ?4";

/// Each shard is an order of its own: of each a share of its first ones, and of these the first.
const PAGE_OF_MANY: &str = "SELECT t.due_at, t.enrollment_id FROM {rows} CROSS JOIN LATERAL (
        SELECT due_at, enrollment_id FROM timers
        WHERE shard = r.shard AND (due_at, enrollment_id) > (?1, ?2) AND due_at < ?3
        ORDER BY due_at, enrollment_id LIMIT r.share) AS t
    ORDER BY t.due_at, t.enrollment_id LIMIT ?4";

/// At most `limit` keys of these shards after `after` and due before `until`, in order.
pub async fn page(
    read: &DatabaseConnection,
    shards: &[u16],
    after: TimerKey,
    until: Timestamp,
    limit: u32,
) -> Result<Vec<TimerKey>, Error> {
    match Sharding::of(read) {
        Sharding::One => {
            let values = [
                after.due_at.0.into(),
                after.enrollment.0.into(),
                until.0.into(),
                i64::from(limit).into(),
            ];
            keys(&sql::all(read, PAGE_OF_ONE, values).await?)
        }
        Sharding::Many => page_of_many(read, shards, after, until, limit).await,
    }
}

/// A page of many shards holds few timers of each as a rule: first little is asked of each, and more of
/// those alone of which it may not have been enough. After an outage the whole page of every shard
/// would be there to be read, two hundred times what is wanted.
async fn page_of_many(
    read: &DatabaseConnection,
    shards: &[u16],
    after: TimerKey,
    until: Timestamp,
    limit: u32,
) -> Result<Vec<TimerKey>, Error> {
    let count = u32::try_from(shards.len()).unwrap_or(u32::MAX).max(1);
    let first = (limit / count).saturating_mul(4).saturating_add(16);
    let mut shares: Vec<_> = shards.iter().map(|&shard| (shard, first)).collect();
    loop {
        let values = [
            after.due_at.0.into(),
            after.enrollment.0.into(),
            until.0.into(),
            i64::from(limit).into(),
        ];
        let rows = Rows::of(&shares)
            .int("shard", |(shard, _)| i64::from(*shard))
            .int("share", |(_, share)| i64::from(*share));
        let page = keys(&sql::all_over(read, PAGE_OF_MANY, rows, values).await?)?;
        // What ends with a whole page was enough.
        let is_whole = u32::try_from(page.len()).is_ok_and(|rows| rows >= limit);
        let before_the_end = page.len().saturating_sub(usize::from(is_whole));
        let used_up = used_up(&page[..before_the_end], &shares);
        if used_up.is_empty() {
            return Ok(page);
        }
        for (shard, share) in &mut shares {
            if used_up.contains(shard) {
                *share = share.saturating_mul(8);
            }
        }
    }
}

/// The shards that have given their whole share: what they have beyond it would come next.
fn used_up(page: &[TimerKey], shares: &[(u16, u32)]) -> HashSet<u16> {
    let mut left: HashMap<_, _> = shares.iter().copied().collect();
    for key in page {
        let shard = Sharding::Many.shard_of(key.enrollment);
        left.entry(shard)
            .and_modify(|left| *left = left.saturating_sub(1));
    }
    left.retain(|_, left| *left == 0);
    left.into_keys().collect()
}

fn keys(rows: &[QueryResult]) -> Result<Vec<TimerKey>, Error> {
    rows.iter()
        .map(|row| {
            Ok(TimerKey {
                due_at: instant(row, 0)?,
                enrollment: EnrollmentId(int(row, 1)?),
            })
        })
        .collect()
}

pub(super) async fn insert(tx: &DatabaseTransaction, new: &[DeliveryKey]) -> Result<(), Error> {
    let sharding = Sharding::of(tx);
    let rows = Rows::of(new)
        .int("shard", |key| i64::from(sharding.shard(key.account)))
        .int("due_at", |key| key.due_at.0)
        .int("enrollment_id", |key| key.enrollment.0)
        .int("account_id", |key| key.account.0)
        .int("generation", |key| i64::from(key.generation));
    sql::run_over(
        tx,
        "INSERT INTO timers (shard, due_at, enrollment_id, account_id, generation)
         SELECT r.shard, r.due_at, r.enrollment_id, r.account_id, r.generation FROM {rows}",
        rows,
        [],
    )
    .await?;
    Ok(())
}

pub(super) async fn delete(tx: &DatabaseTransaction, keys: &[DeliveryKey]) -> Result<(), Error> {
    let sharding = Sharding::of(tx);
    let rows = Rows::of(keys)
        .int("shard", |key| i64::from(sharding.shard(key.account)))
        .int("due_at", |key| key.due_at.0)
        .int("enrollment_id", |key| key.enrollment.0);
    sql::run_over(
        tx,
        "DELETE FROM timers WHERE (shard, due_at, enrollment_id) IN
             (SELECT r.shard, r.due_at, r.enrollment_id FROM {rows})",
        rows,
        [],
    )
    .await?;
    Ok(())
}

/// Takes timers off the wheel; returns those that were still there.
pub(super) async fn take(
    tx: &DatabaseTransaction,
    keys: &[TimerKey],
) -> Result<Vec<DeliveryKey>, Error> {
    let sharding = Sharding::of(tx);
    let rows = Rows::of(keys)
        .int("shard", |key| i64::from(sharding.shard_of(key.enrollment)))
        .int("due_at", |key| key.due_at.0)
        .int("enrollment_id", |key| key.enrollment.0);
    let rows = sql::all_over(
        tx,
        "DELETE FROM timers WHERE (shard, due_at, enrollment_id) IN
             (SELECT r.shard, r.due_at, r.enrollment_id FROM {rows})
         RETURNING account_id, due_at, enrollment_id, generation",
        rows,
        [],
    )
    .await?;
    rows.iter().map(key).collect()
}

/// A key from `account_id, due_at, enrollment_id, generation`.
pub(super) fn key(row: &QueryResult) -> Result<DeliveryKey, Error> {
    Ok(DeliveryKey {
        account: AccountId(int(row, 0)?),
        due_at: instant(row, 1)?,
        enrollment: EnrollmentId(int(row, 2)?),
        generation: small(row, 3, "timers")?,
    })
}
