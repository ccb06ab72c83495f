//! Table `outcomes`: what became of each step; append only.

use sea_orm::DatabaseTransaction;

use crate::journey::carrier::Carrier;
use crate::journey::ids::{AccountId, VersionId};
use crate::journey::outcome::OutcomeEntry;
use crate::store::Error;
use crate::store::receipts::cut;
use crate::store::sql::{self, Rows};

/// Longest detail that is kept, in bytes.
const DETAIL_BYTES_MAX: usize = 300;

/// Appends entries. The primary key refuses a second entry of the same number, so a step can never
/// be ended twice unnoticed.
pub(super) async fn append(
    tx: &DatabaseTransaction,
    entries: &[(AccountId, VersionId, OutcomeEntry)],
) -> Result<(), Error> {
    let rows = Rows::of(entries)
        .int("enrollment_id", |(_, _, entry)| entry.enrollment.0)
        .int("step", |(_, _, entry)| i64::from(entry.step))
        .int("entry", |(_, _, entry)| i64::from(entry.entry))
        .int("account_id", |(account, _, _)| account.0)
        .int("version_id", |(_, version, _)| version.0)
        .int("result", |(_, _, entry)| entry.outcome.number())
        .int("steps", |(_, _, entry)| i64::from(entry.steps))
        .int("due_at", |(_, _, entry)| entry.due_at.0)
        .int("at", |(_, _, entry)| entry.at.0)
        .int_or_none("code", |(_, _, entry)| entry.code)
        .text_or_none("detail", |(_, _, entry)| {
            let detail = cut(&entry.detail, DETAIL_BYTES_MAX);
            (!detail.is_empty()).then(|| detail.to_owned())
        })
        .int_or_none("carrier", |(_, _, entry)| {
            entry.carrier.map(Carrier::number)
        });
    sql::run_over(
        tx,
        "INSERT INTO outcomes (enrollment_id, step, entry, account_id, version_id, result, steps,
             due_at, at, code, detail, carrier)
         SELECT r.enrollment_id, r.step, r.entry, r.account_id, r.version_id, r.result, r.steps,
             r.due_at, r.at, r.code, r.detail, r.carrier
         FROM {rows}",
        rows,
        [],
    )
    .await?;
    Ok(())
}
