//! Table `awaited_reports`: messages on which the platform will report, by its own id of them.

use std::collections::BTreeMap;

use sea_orm::DatabaseTransaction;

use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::journey::ids::{AccountId, EnrollmentId, VersionId};
use crate::store::Error;
use crate::store::sql::{self, Rows, instant, int, small, text};

/// Longest id of the platform's that is kept, in bytes; they have up to 20 digits.
pub(super) const REFERENCE_BYTES_MAX: usize = 64;

/// One message that was taken and not reported on yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Awaited {
    pub(crate) account: AccountId,
    /// The platform's id. Messages that travelled together share one.
    pub(crate) reference: String,
    pub(crate) enrollment: EnrollmentId,
    pub(crate) version: VersionId,
    pub(crate) step: u16,
    /// Number of the report's own entry in the step's history.
    pub(crate) entry: u16,
    pub(crate) carrier: Carrier,
    pub(crate) due_at: Timestamp,
    pub(crate) sent_at: Timestamp,
}

/// The messages known under these ids.
pub(super) async fn by_reference(
    tx: &DatabaseTransaction,
    references: &[(AccountId, String)],
) -> Result<Vec<Awaited>, Error> {
    let rows = sql::all_over(
        tx,
        "SELECT b.account_id, b.reference, b.enrollment_id, b.version_id, b.step, b.entry,
             b.carrier, b.due_at, b.sent_at
         FROM {rows} CROSS JOIN awaited_reports AS b
         WHERE b.account_id = r.account AND b.reference = r.reference",
        Rows::of(references)
            .int("account", |(account, _)| account.0)
            .text("reference", |(_, reference)| reference.clone()),
        [],
    )
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
    // A platform that gives one id twice must not keep the outcome from being written, and PostgreSQL
    // refuses a statement that writes one row twice.
    let latest: BTreeMap<_, _> = new
        .iter()
        .map(|one| ((one.account, &one.reference, one.enrollment), one))
        .collect();
    let latest: Vec<_> = latest.into_values().collect();
    let rows = Rows::of(&latest)
        .int("account", |one| one.account.0)
        .text("reference", |one| one.reference.clone())
        .int("enrollment", |one| one.enrollment.0)
        .int("version", |one| one.version.0)
        .int("step", |one| i64::from(one.step))
        .int("entry", |one| i64::from(one.entry))
        .int("carrier", |one| one.carrier.number())
        .int("due_at", |one| one.due_at.0)
        .int("sent_at", |one| one.sent_at.0);
    sql::run_over(
        tx,
        "INSERT INTO awaited_reports (account_id, reference, enrollment_id, version_id, step,
             entry, carrier, due_at, sent_at)
         SELECT r.account, r.reference, r.enrollment, r.version, r.step, r.entry, r.carrier,
             r.due_at, r.sent_at
         FROM {rows} WHERE true
         ON CONFLICT (account_id, reference, enrollment_id) DO UPDATE SET
             version_id = excluded.version_id, step = excluded.step, entry = excluded.entry,
             carrier = excluded.carrier, due_at = excluded.due_at, sent_at = excluded.sent_at",
        rows,
        [],
    )
    .await?;
    Ok(())
}

/// Forgets messages that were reported on.
pub(super) async fn delete(
    tx: &DatabaseTransaction,
    account: AccountId,
    reference: &str,
) -> Result<(), Error> {
    let sql = "DELETE FROM awaited_reports WHERE account_id = ?1 AND reference = ?2";
    sql::run(tx, sql, [account.0.into(), reference.into()]).await?;
    Ok(())
}
