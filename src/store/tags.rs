//! Table `tag_changes`: tags on their way to the platform.

use std::collections::{BTreeMap, HashMap};

use sea_orm::{DatabaseConnection, DatabaseTransaction};

use crate::clock::Timestamp;
use crate::journey::ids::{AccountId, FollowerId};
use crate::store::sql::{self, Rows, flag, int, small, text};
use crate::store::{Error, Store};

/// Changes that are read at once.
const DUE_MAX: u32 = 1_000;

/// A tag to put on a follower, or to take off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) account: AccountId,
    pub(crate) follower: FollowerId,
    pub(crate) tag: String,
    pub(crate) present: bool,
}

/// A change that the platform has not been told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub account: AccountId,
    pub tag: String,
    pub present: bool,
    pub follower: FollowerId,
    pub openid: String,
    /// Which change of this tag on this follower it is.
    pub number: i64,
    /// Calls that failed.
    pub attempts: u16,
    /// A call for several was refused because of one of them: this one is tried alone.
    pub alone: bool,
}

/// Puts a tag into a list, or takes it out.
pub(super) fn set(tags: &mut Vec<String>, tag: &str, present: bool) {
    tags.retain(|one| one != tag);
    if present {
        tags.push(tag.to_owned());
    }
}

/// Keeps changes for the platform; each takes the place of an earlier one of the same tag.
pub(super) async fn put(tx: &DatabaseTransaction, changes: &[Change]) -> Result<(), Error> {
    // PostgreSQL refuses a statement that writes one row twice.
    let latest: BTreeMap<_, _> = changes
        .iter()
        .map(|one| ((one.account, &one.tag, one.follower), one.present))
        .collect();
    let latest: Vec<_> = latest.into_iter().collect();
    let rows = Rows::of(&latest)
        .int("account", |((account, _, _), _)| account.0)
        .text("tag", |((_, tag, _), _)| (*tag).clone())
        .int("follower", |((_, _, follower), _)| follower.0)
        .int("present", |(_, present)| i64::from(*present));
    sql::run_over(
        tx,
        "INSERT INTO tag_changes (account_id, tag, follower_id, present, number, attempts, alone, next_at)
         SELECT r.account, r.tag, r.follower, r.present, 1, 0, 0, 0 FROM {rows}
         WHERE true
         ON CONFLICT (account_id, tag, follower_id) DO UPDATE SET present = excluded.present,
             number = tag_changes.number + 1, attempts = 0, alone = 0, next_at = 0",
        rows,
        [],
    )
    .await?;
    Ok(())
}

/// The changes of these followers that the platform has not been told of.
pub(super) async fn pending(
    tx: &DatabaseTransaction,
    account: AccountId,
    followers: &[FollowerId],
) -> Result<HashMap<FollowerId, Vec<(String, bool)>>, Error> {
    let mut pending: HashMap<_, Vec<_>> = HashMap::new();
    if followers.is_empty() {
        return Ok(pending);
    }
    // The table holds only what is on its way: a walk over the account's part of it is short.
    let sql = "SELECT follower_id, tag, present FROM tag_changes WHERE account_id = ?1";
    let rows = sql::all(tx, sql, [account.0.into()]).await?;
    for row in &rows {
        let change = (text(row, 1)?, flag(row, 2)?);
        pending
            .entry(FollowerId(int(row, 0)?))
            .or_default()
            .push(change);
    }
    Ok(pending)
}

fn account_rows(accounts: &[AccountId]) -> Rows<'_, AccountId> {
    Rows::of(accounts).int("account", |account| account.0)
}

/// Changes of these accounts whose time has come, those that can travel together side by side.
pub async fn due(
    read: &DatabaseConnection,
    accounts: &[AccountId],
    now: Timestamp,
) -> Result<Vec<Due>, Error> {
    let rows = sql::all_over(
        read,
        "SELECT c.account_id, c.tag, c.present, c.follower_id, f.openid, c.number, c.attempts,
             c.alone
         FROM {rows} CROSS JOIN tag_changes AS c CROSS JOIN followers AS f
         WHERE c.account_id = r.account AND f.id = c.follower_id AND c.next_at <= ?1
         ORDER BY c.account_id, c.tag, c.present, c.alone LIMIT ?2",
        account_rows(accounts),
        [now.0.into(), i64::from(DUE_MAX).into()],
    )
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Due {
                account: AccountId(int(row, 0)?),
                tag: text(row, 1)?,
                present: flag(row, 2)?,
                follower: FollowerId(int(row, 3)?),
                openid: text(row, 4)?,
                number: int(row, 5)?,
                attempts: small(row, 6, "tag_changes")?,
                alone: flag(row, 7)?,
            })
        })
        .collect()
}

/// When the next change of these accounts may be tried; `None` when there is none.
pub async fn next_at(
    read: &DatabaseConnection,
    accounts: &[AccountId],
) -> Result<Option<Timestamp>, Error> {
    let rows = sql::all_over(
        read,
        "SELECT min(c.next_at) FROM {rows} JOIN tag_changes AS c ON c.account_id = r.account",
        account_rows(accounts),
        [],
    )
    .await?;
    let row = rows.first();
    let next_at: Option<i64> = row.map_or(Ok(None), |row| row.try_get_by_index(0))?;
    Ok(next_at.map(Timestamp))
}

fn rows(changes: &[Due]) -> Rows<'_, Due> {
    Rows::of(changes)
        .int("account", |one| one.account.0)
        .text("tag", |one| one.tag.clone())
        .int("follower", |one| one.follower.0)
        .int("number", |one| one.number)
}

/// Forgets changes that the platform knows of now; newer ones of the same tags stay.
pub async fn done(store: &Store, changes: &[Due]) -> Result<(), Error> {
    let changes = changes.to_vec();
    let write = store.writer().cold(move |tx| {
        Box::pin(async move {
            sql::run_over(
                tx,
                "DELETE FROM tag_changes WHERE (account_id, tag, follower_id, number) IN
                     (SELECT r.account, r.tag, r.follower, r.number FROM {rows})",
                rows(&changes),
                [],
            )
            .await?;
            Ok(())
        })
    });
    write.await
}

/// Lets changes wait until `next_at`, after a call that failed; from then on each is tried `alone`
/// or, if it was not set apart before, with the others.
pub async fn put_off(
    store: &Store,
    changes: &[Due],
    next_at: Timestamp,
    alone: bool,
) -> Result<(), Error> {
    let changes = changes.to_vec();
    let write = store.writer().cold(move |tx| {
        Box::pin(async move {
            sql::run_over(
                tx,
                "UPDATE tag_changes SET
                     attempts = CASE WHEN attempts < 1000 THEN attempts + 1 ELSE 1000 END,
                     alone = CASE WHEN alone < ?2 THEN ?2 ELSE alone END, next_at = ?1
                 FROM {rows}
                 WHERE account_id = r.account AND tag_changes.tag = r.tag
                     AND follower_id = r.follower AND tag_changes.number = r.number",
                rows(&changes),
                [next_at.0.into(), i64::from(alone).into()],
            )
            .await?;
            Ok(())
        })
    });
    write.await
}

/// Lets all changes of an account wait until `next_at`, because none of them can be told before.
pub async fn put_off_all(
    store: &Store,
    account: AccountId,
    next_at: Timestamp,
) -> Result<(), Error> {
    let write = store.writer().cold(move |tx| {
        Box::pin(async move {
            let sql = "UPDATE tag_changes SET next_at = ?2 WHERE account_id = ?1 AND next_at < ?2";
            sql::run(tx, sql, [account.0.into(), next_at.0.into()]).await?;
            Ok(())
        })
    });
    write.await
}
