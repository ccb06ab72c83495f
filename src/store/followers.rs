//! Table `followers`.

use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult};

use crate::clock::Timestamp;
use crate::journey::follower::Follower;
use crate::journey::ids::{AccountId, FollowerId};
use crate::store::Error;
use crate::store::erasure::Pseudonyms;
use crate::store::statement::{flag, instant, int, over, statement, text, text_or_none};

/// The columns of a follower under the name `f`.
pub(super) const COLUMNS: &str =
    "f.id, f.account_id, f.openid, f.following, f.muted, f.followed_at,
    f.last_event_at, f.last_sent_at, f.language, f.scene, f.tags, f.left_at";

/// A follower from a row that begins with `COLUMNS`.
pub(super) fn follower(row: &QueryResult) -> Result<Follower, Error> {
    let tags = text_or_none(row, 10)?;
    Ok(Follower {
        id: FollowerId(int(row, 0)?),
        account: AccountId(int(row, 1)?),
        openid: text(row, 2)?,
        following: flag(row, 3)?,
        muted: flag(row, 4)?,
        followed_at: instant(row, 5)?,
        last_event_at: instant(row, 6)?,
        last_sent_at: instant(row, 7)?,
        language: text_or_none(row, 8)?,
        scene: text_or_none(row, 9)?,
        tags: tags
            .and_then(|tags| serde_json::from_str(&tags).ok())
            .unwrap_or_default(),
        left_at: instant(row, 11)?,
    })
}

/// The followers known under these names, each with the name that was asked for: somebody who was
/// forgotten is found by the pseudonym.
pub(super) async fn by_openid(
    connection: &impl ConnectionTrait,
    pseudonyms: &Pseudonyms,
    names: &[(AccountId, &str)],
) -> Result<Vec<(Follower, String)>, Error> {
    let sql = format!(
        "SELECT {COLUMNS}, j.value ->> 1 FROM json_each(?1) AS j CROSS JOIN followers AS f
         ON f.account_id = j.value ->> 0 AND f.openid IN (j.value ->> 1, j.value ->> 2)"
    );
    let names: Vec<_> = names
        .iter()
        .map(|(account, openid)| (account, openid, pseudonyms.of(*account, openid)))
        .collect();
    let rows = connection.query_all_raw(over(&sql, &names)?).await?;
    rows.iter()
        .map(|row| Ok((follower(row)?, text(row, 12)?)))
        .collect()
}

/// The one follower known under a name, if any.
pub(super) async fn named(
    connection: &impl ConnectionTrait,
    account: AccountId,
    openid: &str,
) -> Result<Option<Follower>, Error> {
    let pseudonyms = Pseudonyms::find(connection).await?.unwrap_or_default();
    let found = by_openid(connection, &pseudonyms, &[(account, openid)]).await?;
    Ok(found.into_iter().next().map(|(follower, _)| follower))
}

/// The followers with these ids.
pub(super) async fn by_id(
    tx: &DatabaseTransaction,
    ids: &[FollowerId],
) -> Result<Vec<Follower>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM json_each(?1) AS j CROSS JOIN followers AS f ON f.id = j.value"
    );
    let rows = tx.query_all_raw(over(&sql, ids)?).await?;
    rows.iter().map(follower).collect()
}

/// The highest id in use; new ones are counted up from there.
pub(super) async fn highest_id(connection: &impl ConnectionTrait) -> Result<i64, Error> {
    let row = connection
        .query_one_raw(statement("SELECT coalesce(max(id), 0) FROM followers", []))
        .await?;
    row.map_or(Ok(0), |row| int(&row, 0))
}

type Row<'a> = (
    FollowerId,
    AccountId,
    &'a str,
    u8,
    u8,
    Timestamp,
    Timestamp,
    Timestamp,
    Option<&'a str>,
    Option<&'a str>,
    (Option<String>, Timestamp),
);

fn row(follower: &Follower) -> Row<'_> {
    let tags = (!follower.tags.is_empty())
        .then(|| serde_json::to_string(&follower.tags).unwrap_or_default());
    (
        follower.id,
        follower.account,
        &follower.openid,
        u8::from(follower.following),
        u8::from(follower.muted),
        follower.followed_at,
        follower.last_event_at,
        follower.last_sent_at,
        follower.language.as_deref(),
        follower.scene.as_deref(),
        (tags, follower.left_at),
    )
}

pub(super) async fn insert(tx: &DatabaseTransaction, new: &[&Follower]) -> Result<(), Error> {
    if new.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = new.iter().map(|follower| row(follower)).collect();
    tx.execute_raw(over(
        "INSERT INTO followers (id, account_id, openid, following, muted, followed_at,
             last_event_at, last_sent_at, language, scene, tags, left_at)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
             value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> '$[10][0]',
             value ->> '$[10][1]'
         FROM json_each(?1)",
        &rows,
    )?)
    .await?;
    Ok(())
}

pub(super) async fn update(tx: &DatabaseTransaction, changed: &[&Follower]) -> Result<(), Error> {
    if changed.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = changed.iter().map(|follower| row(follower)).collect();
    tx.execute_raw(over(
        "UPDATE followers SET following = j.value ->> 3, muted = j.value ->> 4,
             followed_at = j.value ->> 5, last_event_at = j.value ->> 6,
             last_sent_at = j.value ->> 7, language = j.value ->> 8, scene = j.value ->> 9,
             tags = j.value ->> '$[10][0]', left_at = j.value ->> '$[10][1]'
         FROM json_each(?1) AS j WHERE followers.id = j.value ->> 0",
        &rows,
    )?)
    .await?;
    Ok(())
}

/// Gives followers other names: a pseudonym, or the openid of somebody who has come back. A
/// statement of its own, because every other update leaves the index alone.
pub(super) async fn rename(tx: &DatabaseTransaction, renamed: &[&Follower]) -> Result<(), Error> {
    if renamed.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = renamed.iter().map(|one| (one.id, &one.openid)).collect();
    tx.execute_raw(over(
        "UPDATE followers SET openid = j.value ->> 1
         FROM json_each(?1) AS j WHERE followers.id = j.value ->> 0",
        &rows,
    )?)
    .await?;
    Ok(())
}
