//! Table `tag_changes`: tags on their way to the platform.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction};

use crate::clock::Timestamp;
use crate::journey::ids::{AccountId, FollowerId};
use crate::store::statement::{flag, int, over, over_with, small, statement, text};
use crate::store::{Error, Store};

/// Changes that are read at once.
const DUE_MAX: u32 = 1_000;

/// A tag to put on a follower, or to take off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) account: AccountId,
    pub(super) follower: FollowerId,
    pub(super) tag: String,
    pub(super) present: bool,
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
    if changes.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = changes
        .iter()
        .map(|one| (one.account, &one.tag, one.follower, u8::from(one.present)))
        .collect();
    tx.execute_raw(over(
        "INSERT INTO tag_changes (account_id, tag, follower_id, present, number, attempts, alone, next_at)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, 1, 0, 0, 0 FROM json_each(?1)
         WHERE true
         ON CONFLICT DO UPDATE SET present = excluded.present, number = number + 1, attempts = 0,
             alone = 0, next_at = 0",
        &rows,
    )?)
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
    let rows = tx
        .query_all_raw(statement(
            "SELECT follower_id, tag, present FROM tag_changes WHERE account_id = ?1",
            [account.0.into()],
        ))
        .await?;
    for row in &rows {
        let change = (text(row, 1)?, flag(row, 2)?);
        pending
            .entry(FollowerId(int(row, 0)?))
            .or_default()
            .push(change);
    }
    Ok(pending)
}

/// Changes whose time has come, those that can travel together side by side.
pub async fn due(read: &DatabaseConnection, now: Timestamp) -> Result<Vec<Due>, Error> {
    let rows = read
        .query_all_raw(statement(
            "SELECT c.account_id, c.tag, c.present, c.follower_id, f.openid, c.number, c.attempts,
                 c.alone
             FROM tag_changes AS c CROSS JOIN followers AS f ON f.id = c.follower_id
             WHERE c.next_at <= ?1 ORDER BY c.account_id, c.tag, c.present, c.alone LIMIT ?2",
            [now.0.into(), DUE_MAX.into()],
        ))
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

/// When the next change may be tried; `None` when there is none.
pub async fn next_at(read: &DatabaseConnection) -> Result<Option<Timestamp>, Error> {
    let row = read
        .query_one_raw(statement("SELECT min(next_at) FROM tag_changes", []))
        .await?;
    let next_at: Option<i64> = row.map_or(Ok(None), |row| row.try_get_by_index(0))?;
    Ok(next_at.map(Timestamp))
}

type Row = (AccountId, String, FollowerId, i64);

fn rows(changes: &[Due]) -> Vec<Row> {
    let row = |one: &Due| (one.account, one.tag.clone(), one.follower, one.number);
    changes.iter().map(row).collect()
}

/// Forgets changes that the platform knows of now; newer ones of the same tags stay.
pub async fn done(store: &Store, changes: &[Due]) -> Result<(), Error> {
    let rows = rows(changes);
    let write = store.writer().cold(move |tx| {
        Box::pin(async move {
            tx.execute_raw(over(
                "DELETE FROM tag_changes WHERE (account_id, tag, follower_id, number) IN
                     (SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3
                      FROM json_each(?1))",
                &rows,
            )?)
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
    let rows = rows(changes);
    let write = store.writer().cold(move |tx| {
        Box::pin(async move {
            let put_off = over_with(
                "UPDATE tag_changes SET attempts = min(attempts + 1, 1000),
                     alone = max(alone, ?3), next_at = ?2
                 FROM json_each(?1) AS j
                 WHERE account_id = j.value ->> 0 AND tag = j.value ->> 1
                     AND follower_id = j.value ->> 2 AND number = j.value ->> 3",
                &rows,
                [next_at.0.into(), i64::from(alone).into()],
            )?;
            tx.execute_raw(put_off).await?;
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
            tx.execute_raw(statement(
                "UPDATE tag_changes SET next_at = ?2 WHERE account_id = ?1 AND next_at < ?2",
                [account.0.into(), next_at.0.into()],
            ))
            .await?;
            Ok(())
        })
    });
    write.await
}
