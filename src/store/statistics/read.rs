//! The sums as they are told.

use std::collections::BTreeMap;

use sea_orm::DatabaseConnection;

use super::{COLUMNS, Kind};
use crate::journey::ids::{AccountId, VersionId};
use crate::store::Error;
use crate::store::sql::{self, int, small, text};

/// What is asked of the sums.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Only of versions of this sequence.
    pub sequence: Option<String>,
    pub version: Option<VersionId>,
    pub account: Option<AccountId>,
    pub language: Option<String>,
    /// Days since 1970, both inclusive.
    pub days: Option<(i64, i64)>,
    /// Whether each account, language, day and step is told apart; versions always are.
    pub by_account: bool,
    pub by_language: bool,
    pub by_day: bool,
    pub by_step: bool,
    /// Only clicks, and of each link.
    pub by_link: bool,
}

/// A sum, of all that was not told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    pub version: VersionId,
    pub account: Option<AccountId>,
    pub language: Option<String>,
    pub day: Option<i64>,
    pub step: Option<u16>,
    /// Number in its step.
    pub link: Option<u16>,
    pub kind: Kind,
    /// The platform's errcode of what it refused; 0 for none.
    pub code: i64,
    pub n: i64,
}

/// Most sums of one answer.
pub const ADDED_MAX: usize = 50_000;

/// The sums as of now: what was taken together and what is newer, in one statement and so of one
/// instant. `None` when there are more than `ADDED_MAX`.
///
/// # Errors
/// When they cannot be read.
pub async fn read(read: &DatabaseConnection, asked: &Asked) -> Result<Option<Vec<Added>>, Error> {
    let mut values: Vec<sea_orm::Value> = Vec::new();
    let mut wanted = vec![
        if asked.by_link {
            "link > 0"
        } else {
            "link = 0"
        }
        .to_owned(),
    ];
    let mut only = |condition: &str, value: sea_orm::Value| {
        values.push(value);
        wanted.push(condition.replace('?', &format!("?{}", values.len())));
    };
    if let Some(sequence) = &asked.sequence {
        let versions = "version_id IN (SELECT id FROM sequence_versions WHERE sequence = ?)";
        only(versions, sequence.clone().into());
    }
    if let Some(version) = asked.version {
        only("version_id = ?", version.0.into());
    }
    if let Some(account) = asked.account {
        only("account_id = ?", account.0.into());
    }
    if let Some(language) = &asked.language {
        only("language = ?", sql::storable(language).into_owned().into());
    }
    if let Some((first, last)) = asked.days {
        only("day >= ?", first.into());
        only("day <= ?", last.into());
    }
    let apart = [
        ("account_id", asked.by_account),
        ("language", asked.by_language),
        ("day", asked.by_day),
        ("step", asked.by_step || asked.by_link),
        ("link", asked.by_link),
    ];
    let mut columns = vec!["version_id", "kind", "code"];
    columns.extend(apart.iter().filter(|(_, by)| *by).map(|(name, _)| *name));
    let (columns, wanted) = (columns.join(", "), wanted.join(" AND "));
    let select = format!(
        "SELECT {columns}, CAST(sum(n) AS BIGINT) FROM (
             SELECT {COLUMNS}, n FROM statistics WHERE {wanted}
             UNION ALL SELECT {COLUMNS}, n FROM statistics_fresh WHERE {wanted}) AS both_tables
         GROUP BY {columns} ORDER BY {columns} LIMIT {limit}",
        limit = ADDED_MAX + 1
    );
    let rows = sql::all(read, &select, values).await?;
    if rows.len() > ADDED_MAX {
        return Ok(None);
    }
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let number = int(row, 1)?;
        let Some(kind) = Kind::from_number(number) else {
            let what = format!("unknown kind {number}");
            let table = "statistics";
            return Err(Error::Row { table, what });
        };
        let mut place = 3;
        let mut next = |by: bool| {
            place += usize::from(by);
            by.then(|| place - 1)
        };
        let [account, language, day, step, link] = apart.map(|(_, by)| next(by));
        found.push(Added {
            version: VersionId(int(row, 0)?),
            account: account.map(|at| int(row, at).map(AccountId)).transpose()?,
            language: language.map(|at| text(row, at)).transpose()?,
            day: day.map(|at| int(row, at)).transpose()?,
            step: step.map(|at| small(row, at, "statistics")).transpose()?,
            link: link.map(|at| small(row, at, "statistics")).transpose()?,
            kind,
            code: int(row, 2)?,
            n: int(row, place)?,
        });
    }
    Ok(Some(found))
}

/// The names of accounts, by id.
///
/// # Errors
/// When they cannot be read.
pub async fn account_keys(read: &DatabaseConnection) -> Result<BTreeMap<AccountId, String>, Error> {
    let rows = sql::all(read, "SELECT id, key FROM accounts", []).await?;
    let key = |row| Ok((AccountId(int(row, 0)?), text(row, 1)?));
    rows.iter().map(key).collect()
}
