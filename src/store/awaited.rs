//! Table `awaited_reports`: messages on which the platform will report, by its own id of them.

use sea_orm::{ConnectionTrait, DatabaseTransaction};

use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::journey::ids::{AccountId, EnrollmentId, VersionId};
use crate::store::Error;
use crate::store::statement::{instant, int, over, small, statement, text};

/// Longest id of the platform's that is kept, in bytes; they have up to 20 digits.
pub(super) const REFERENCE_BYTES_MAX: usize = 64;

/// One message that was taken and not reported on yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Awaited {
    pub(super) account: AccountId,
    /// The platform's id. Messages that travelled together share one.
    pub(super) reference: String,
    pub(super) enrollment: EnrollmentId,
    pub(super) version: VersionId,
    pub(super) step: u16,
    /// Number of the report's own entry in the step's history.
    pub(super) entry: u16,
    pub(super) carrier: Carrier,
    pub(super) due_at: Timestamp,
    pub(super) sent_at: Timestamp,
}

/// The messages known under these ids.
pub(super) async fn by_reference(
    tx: &DatabaseTransaction,
    references: &[(AccountId, String)],
) -> Result<Vec<Awaited>, Error> {
    if references.is_empty() {
        return Ok(Vec::new());
    }
    let rows = tx
        .query_all_raw(over(
            "SELECT b.account_id, b.reference, b.enrollment_id, b.version_id, b.step, b.entry,
                 b.carrier, b.due_at, b.sent_at
             FROM json_each(?1) AS j CROSS JOIN awaited_reports AS b
             ON b.account_id = j.value ->> 0 AND b.reference = j.value ->> 1",
            references,
        )?)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Awaited {
                account: AccountId(int(row, 0)?),
                reference: text(row, 1)?,
                enrollment: EnrollmentId(int(row, 2)?),
                version: VersionId(int(row, 3)?),
                step: small(row, 4, "awaited_reports")?,
                entry: small(row, 5, "awaited_reports")?,
                carrier: Carrier::from_number(int(row, 6)?).unwrap_or(Carrier::Template),
                due_at: instant(row, 7)?,
                sent_at: instant(row, 8)?,
            })
        })
        .collect()
}

pub(super) async fn insert(tx: &DatabaseTransaction, new: &[Awaited]) -> Result<(), Error> {
    if new.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = new
        .iter()
        .map(|one| {
            (
                one.account,
                &one.reference,
                one.enrollment,
                one.version,
                one.step,
                one.entry,
                one.carrier.number(),
                one.due_at,
                one.sent_at,
            )
        })
        .collect();
    // A platform that gives one id twice must not keep the outcome from being written.
    tx.execute_raw(over(
        "INSERT OR REPLACE INTO awaited_reports (account_id, reference, enrollment_id, version_id, step,
             entry, carrier, due_at, sent_at)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
             value ->> 6, value ->> 7, value ->> 8
         FROM json_each(?1)",
        &rows,
    )?)
    .await?;
    Ok(())
}

/// Forgets messages that were reported on.
pub(super) async fn delete(
    tx: &DatabaseTransaction,
    account: AccountId,
    reference: &str,
) -> Result<(), Error> {
    tx.execute_raw(statement(
        "DELETE FROM awaited_reports WHERE account_id = ?1 AND reference = ?2",
        [account.0.into(), reference.into()],
    ))
    .await?;
    Ok(())
}
