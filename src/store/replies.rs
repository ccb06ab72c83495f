//! Table `replies`: passive replies on their way, and the callbacks that they answer.

use sea_orm::{ConnectionTrait, DatabaseTransaction};

use crate::clock::Timestamp;
use crate::journey::ids::EnrollmentId;
use crate::store::Error;
use crate::store::statement::{instant, int, over, small};

/// One passive reply whose end is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) enrollment: EnrollmentId,
    /// The receipt of the callback that it answers, within the follower's.
    pub(super) created_at: Timestamp,
    pub(super) digest: i64,
    /// How often the platform was given it.
    pub(super) answers: u16,
    /// The last time.
    pub(super) answered_at: Timestamp,
}

/// The replies of these enrollments.
pub(super) async fn of(
    tx: &DatabaseTransaction,
    enrollments: &[EnrollmentId],
) -> Result<Vec<Reply>, Error> {
    if enrollments.is_empty() {
        return Ok(Vec::new());
    }
    let rows = tx
        .query_all_raw(over(
            "SELECT r.enrollment_id, r.created_at, r.digest, r.answers, r.answered_at
             FROM json_each(?1) AS j CROSS JOIN replies AS r ON r.enrollment_id = j.value",
            enrollments,
        )?)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Reply {
                enrollment: EnrollmentId(int(row, 0)?),
                created_at: instant(row, 1)?,
                digest: int(row, 2)?,
                answers: small(row, 3, "replies")?,
                answered_at: instant(row, 4)?,
            })
        })
        .collect()
}

/// Writes replies, new or changed.
pub(super) async fn put(tx: &DatabaseTransaction, changed: &[Reply]) -> Result<(), Error> {
    if changed.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = changed
        .iter()
        .map(|one| {
            (
                one.enrollment,
                one.created_at,
                one.digest,
                one.answers,
                one.answered_at,
            )
        })
        .collect();
    tx.execute_raw(over(
        "INSERT OR REPLACE INTO replies (enrollment_id, created_at, digest, answers, answered_at)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4
         FROM json_each(?1)",
        &rows,
    )?)
    .await?;
    Ok(())
}

pub(super) async fn delete(
    tx: &DatabaseTransaction,
    enrollments: &[EnrollmentId],
) -> Result<(), Error> {
    if enrollments.is_empty() {
        return Ok(());
    }
    tx.execute_raw(over(
        "DELETE FROM replies WHERE enrollment_id IN (SELECT value FROM json_each(?1))",
        enrollments,
    )?)
    .await?;
    Ok(())
}
