//! Table `timers`: the wheel's rows, in the order of time. Insert and delete only.
//!
//! The key is the millisecond, not the second: a slot is a range of keys, so the rows need no slot
//! column, and promotion can run at the pace of milliseconds.

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, QueryResult};

use crate::clock::Timestamp;
use crate::journey::ids::{AccountId, EnrollmentId};
use crate::store::Error;
use crate::store::statement::{instant, int, over, small, statement};
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

/// At most `limit` keys after `after` and due before `until`, in order.
pub async fn page(
    read: &DatabaseConnection,
    after: TimerKey,
    until: Timestamp,
    limit: u32,
) -> Result<Vec<TimerKey>, Error> {
    let rows = read
        .query_all_raw(statement(
            "SELECT due_at, enrollment_id FROM timers
             WHERE shard = 0 AND (due_at, enrollment_id) > (?1, ?2) AND due_at < ?3
             ORDER BY due_at, enrollment_id LIMIT ?4",
            [
                after.due_at.0.into(),
                after.enrollment.0.into(),
                until.0.into(),
                limit.into(),
            ],
        ))
        .await?;
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
    if new.is_empty() {
        return Ok(());
    }
    tx.execute_raw(over(
        "INSERT INTO timers (shard, due_at, enrollment_id, account_id, generation)
         SELECT 0, value ->> 1, value ->> 2, value ->> 0, value ->> 3
         FROM json_each(?1)",
        new,
    )?)
    .await?;
    Ok(())
}

pub(super) async fn delete(tx: &DatabaseTransaction, keys: &[DeliveryKey]) -> Result<(), Error> {
    if keys.is_empty() {
        return Ok(());
    }
    tx.execute_raw(over(
        "DELETE FROM timers WHERE (shard, due_at, enrollment_id) IN
             (SELECT 0, value ->> 1, value ->> 2 FROM json_each(?1))",
        keys,
    )?)
    .await?;
    Ok(())
}

/// Takes timers off the wheel; returns those that were still there.
pub(super) async fn take(
    tx: &DatabaseTransaction,
    keys: &[TimerKey],
) -> Result<Vec<DeliveryKey>, Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<_> = keys
        .iter()
        .map(|key| (key.due_at, key.enrollment))
        .collect();
    let rows = tx
        .query_all_raw(over(
            "DELETE FROM timers WHERE (shard, due_at, enrollment_id) IN
                 (SELECT 0, value ->> 0, value ->> 1 FROM json_each(?1))
             RETURNING account_id, due_at, enrollment_id, generation",
            &rows,
        )?)
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
