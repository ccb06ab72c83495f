//! Outcomes on their way out of the house: page by page, in the order of their keys.

use sea_orm::DatabaseConnection;

use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::journey::ids::{AccountId, EnrollmentId, VersionId};
use crate::journey::outcome::{Outcome, OutcomeEntry};
use crate::store::Error;
use crate::store::sql::{self, instant, int, small, text, text_or_none};

/// Rows that one page passes over.
const WINDOW: i64 = 5_000;

/// Where a page begins: behind this key.
pub type Key = (i64, i64, i64);

/// Before all.
pub const FIRST: Key = (i64::MIN, 0, 0);

/// An outcome with what a table about it needs.
#[derive(Clone, Debug)]
pub struct Exported {
    pub account: AccountId,
    pub version: VersionId,
    /// A pseudonym of somebody who was forgotten.
    pub openid: String,
    /// As it is known now.
    pub language: Option<String>,
    pub entry: OutcomeEntry,
}

/// Which outcomes are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    pub account: Option<AccountId>,
    pub version: Option<VersionId>,
    /// From this instant on, and before that.
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// The wanted outcomes among the next ones behind `after`, and where to go on; `None` at the end.
///
/// # Errors
/// When they cannot be read.
pub async fn page(
    read: &DatabaseConnection,
    wanted: Wanted,
    after: Key,
) -> Result<(Vec<Exported>, Option<Key>), Error> {
    let (from, until) = (wanted.from.map_or(i64::MIN, |at| at.0), wanted.until);
    let until = until.map_or(i64::MAX, |at| at.0);
    let bounds = [from.into(), until.into()];
    let behind = "(enrollment_id, step, entry) > (?3, ?4, ?5) AND at >= ?1 AND at < ?2";
    let last = format!(
        "SELECT enrollment_id, step, entry FROM outcomes WHERE {behind}
         ORDER BY enrollment_id, step, entry LIMIT 1 OFFSET {WINDOW}"
    );
    let key = [after.0.into(), after.1.into(), after.2.into()];
    let values = bounds.iter().cloned().chain(key.iter().cloned());
    let last = sql::first(read, &last, values).await?;
    let last = last.map(|row| Ok::<_, Error>((int(&row, 0)?, int(&row, 1)?, int(&row, 2)?)));
    let last = last.transpose()?;
    let upto = last.unwrap_or((i64::MAX, i64::MAX, i64::MAX));
    let select = format!(
        "SELECT o.enrollment_id, o.step, o.entry, o.account_id, o.version_id, o.result, o.steps,
             o.due_at, o.at, o.code, o.detail, o.carrier, coalesce(f.openid, ''), f.language
         FROM (SELECT * FROM outcomes WHERE {behind}
             AND (enrollment_id, step, entry) <= (?6, ?7, ?8)) AS o
         LEFT JOIN followers AS f ON f.id = (o.enrollment_id >> 16)
         ORDER BY o.enrollment_id, o.step, o.entry"
    );
    let end = [upto.0.into(), upto.1.into(), upto.2.into()];
    let values = bounds.into_iter().chain(key).chain(end);
    let mut found = Vec::new();
    for row in &sql::all(read, &select, values).await? {
        let one = exported(row)?;
        let fits = wanted.account.is_none_or(|id| id == one.account)
            && wanted.version.is_none_or(|id| id == one.version);
        if fits {
            found.push(one);
        }
    }
    Ok((found, last))
}

fn exported(row: &sea_orm::QueryResult) -> Result<Exported, Error> {
    let bad = |what: &str| Error::Row {
        table: "outcomes",
        what: what.to_owned(),
    };
    let carrier: Option<i64> = row.try_get_by_index(11)?;
    Ok(Exported {
        account: AccountId(int(row, 3)?),
        version: VersionId(int(row, 4)?),
        openid: text(row, 12)?,
        language: text_or_none(row, 13)?,
        entry: OutcomeEntry {
            enrollment: EnrollmentId(int(row, 0)?),
            step: small(row, 1, "outcomes")?,
            entry: small(row, 2, "outcomes")?,
            outcome: Outcome::from_number(int(row, 5)?).ok_or_else(|| bad("result"))?,
            steps: small(row, 6, "outcomes")?,
            due_at: instant(row, 7)?,
            at: instant(row, 8)?,
            code: row.try_get_by_index(9)?,
            detail: text_or_none(row, 10)?.unwrap_or_default(),
            carrier: carrier.and_then(Carrier::from_number),
        },
    })
}
