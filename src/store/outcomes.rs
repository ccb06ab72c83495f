//! Table `outcomes`: what became of each step; append only.

use sea_orm::{ConnectionTrait, DatabaseTransaction};

use crate::journey::carrier::Carrier;
use crate::journey::ids::{AccountId, VersionId};
use crate::journey::outcome::OutcomeEntry;
use crate::store::Error;
use crate::store::receipts::cut;
use crate::store::statement::over;

/// Longest detail that is kept, in bytes.
const DETAIL_BYTES_MAX: usize = 300;

/// Appends entries. The primary key refuses a second entry of the same number, so a step can never
/// be ended twice unnoticed.
pub(super) async fn append(
    tx: &DatabaseTransaction,
    entries: &[(AccountId, VersionId, OutcomeEntry)],
) -> Result<(), Error> {
    if entries.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = entries
        .iter()
        .map(|(account, version, entry)| {
            let detail = cut(&entry.detail, DETAIL_BYTES_MAX);
            (
                entry.enrollment,
                entry.step,
                entry.entry,
                *account,
                *version,
                entry.outcome.number(),
                entry.steps,
                (
                    entry.due_at,
                    entry.at,
                    entry.code,
                    (!detail.is_empty()).then_some(detail),
                    entry.carrier.map(Carrier::number),
                ),
            )
        })
        .collect();
    tx.execute_raw(over(
        "INSERT INTO outcomes (enrollment_id, step, entry, account_id, version_id, result, steps,
             due_at, at, code, detail, carrier)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
             value ->> 6, value ->> '$[7][0]', value ->> '$[7][1]', value ->> '$[7][2]',
             value ->> '$[7][3]', value ->> '$[7][4]'
         FROM json_each(?1)",
        &rows,
    )?)
    .await?;
    Ok(())
}
