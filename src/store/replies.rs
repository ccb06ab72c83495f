//! Table `replies`: passive replies on their way, and the callbacks that they answer.

use sea_orm::DatabaseTransaction;

use crate::clock::Timestamp;
use crate::journey::ids::EnrollmentId;
use crate::store::Error;
use crate::store::sql::{self, Rows, instant, int, small};

/// One passive reply whose end is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) enrollment: EnrollmentId,
    /// The receipt of the callback that it answers, within the follower's.
    pub(crate) created_at: Timestamp,
    pub(crate) digest: i64,
    /// How often the platform was given it.
    pub(crate) answers: u16,
    /// The last time.
    pub(crate) answered_at: Timestamp,
}

/// The replies of these enrollments.
pub(super) async fn of(
    tx: &DatabaseTransaction,
    enrollments: &[EnrollmentId],
) -> Result<Vec<Reply>, Error> {
    let rows = sql::all_over(
        tx,
        "SELECT p.enrollment_id, p.created_at, p.digest, p.answers, p.answered_at
         FROM {rows} CROSS JOIN replies AS p WHERE p.enrollment_id = r.enrollment_id",
        Rows::of(enrollments).int("enrollment_id", |id| id.0),
        [],
    )
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
    let rows = Rows::of(changed)
        .int("enrollment_id", |one| one.enrollment.0)
        .int("created_at", |one| one.created_at.0)
        .int("digest", |one| one.digest)
        .int("answers", |one| i64::from(one.answers))
        .int("answered_at", |one| one.answered_at.0);
    sql::run_over(
        tx,
        "INSERT INTO replies (enrollment_id, created_at, digest, answers, answered_at)
         SELECT r.enrollment_id, r.created_at, r.digest, r.answers, r.answered_at
         FROM {rows} WHERE true
         ON CONFLICT (enrollment_id) DO UPDATE SET created_at = excluded.created_at,
             digest = excluded.digest, answers = excluded.answers,
             answered_at = excluded.answered_at",
        rows,
        [],
    )
    .await?;
    Ok(())
}

pub(super) async fn delete(
    tx: &DatabaseTransaction,
    enrollments: &[EnrollmentId],
) -> Result<(), Error> {
    sql::run_over(
        tx,
        "DELETE FROM replies WHERE enrollment_id IN (SELECT r.enrollment_id FROM {rows})",
        Rows::of(enrollments).int("enrollment_id", |id| id.0),
        [],
    )
    .await?;
    Ok(())
}
