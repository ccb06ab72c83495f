//! Table `followers`.

use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult};

use crate::journey::follower::Follower;
use crate::journey::ids::{AccountId, FollowerId};
use crate::store::Error;
use crate::store::erasure::Pseudonyms;
use crate::store::sql::{self, Rows, flag, instant, int, text, text_or_none};

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
    let names: Vec<_> = names
        .iter()
        .map(|(account, openid)| (*account, *openid, pseudonyms.of(*account, openid)))
        .collect();
    let rows = Rows::of(&names)
        .int("account_id", |(account, _, _)| account.0)
        .text("openid", |(_, openid, _)| (*openid).to_owned())
        .text("pseudonym", |(_, _, pseudonym)| pseudonym.clone());
    // PostgreSQL makes an OR of an IN over columns, and an OR finds nothing in an index.
    let either = sql::dialect(
        connection,
        "IN (r.openid, r.pseudonym)",
        "= ANY(ARRAY[r.openid, r.pseudonym])",
    );
    let sql = format!(
        "SELECT {COLUMNS}, r.openid FROM {{rows}} CROSS JOIN followers AS f
         WHERE f.account_id = r.account_id AND f.openid {either}"
    );
    let rows = sql::all_over(connection, &sql, rows, []).await?;
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

/// The followers with these ids. Where others write too, nobody else changes them, nor what belongs to
/// them, until this transaction ends.
pub(super) async fn by_id(
    tx: &DatabaseTransaction,
    ids: &[FollowerId],
) -> Result<Vec<Follower>, Error> {
    let locked = sql::dialect(tx, "", "ORDER BY f.id FOR UPDATE OF f");
    let sql = format!(
        "SELECT {COLUMNS} FROM {{rows}} CROSS JOIN followers AS f WHERE f.id = r.id {locked}"
    );
    let rows = Rows::of(ids).int("id", |id| id.0);
    let rows = sql::all_over(tx, &sql, rows, []).await?;
    rows.iter().map(follower).collect()
}

/// The highest id in use; new ones are counted up from there.
pub(super) async fn highest_id(connection: &impl ConnectionTrait) -> Result<i64, Error> {
    let row = sql::first(connection, "SELECT coalesce(max(id), 0) FROM followers", []).await?;
    row.map_or(Ok(0), |row| int(&row, 0))
}

fn changing<'a>(changed: &'a [&Follower]) -> Rows<'a, &'a Follower> {
    Rows::of(changed)
        .int("id", |one| one.id.0)
        .int("following", |one| i64::from(one.following))
        .int("muted", |one| i64::from(one.muted))
        .int("followed_at", |one| one.followed_at.0)
        .int("last_event_at", |one| one.last_event_at.0)
        .int("last_sent_at", |one| one.last_sent_at.0)
        .text_or_none("language", |one| one.language.clone())
        .text_or_none("scene", |one| one.scene.clone())
        .text_or_none("tags", |one| {
            (!one.tags.is_empty()).then(|| serde_json::to_string(&one.tags).unwrap_or_default())
        })
        .int("left_at", |one| one.left_at.0)
}

pub(super) async fn insert(tx: &DatabaseTransaction, new: &[&Follower]) -> Result<(), Error> {
    let mut new = new.to_vec();
    if sql::has_other_writers(tx) {
        // Two nodes may meet the same new people. In one order they wait for each other, but never both.
        new.sort_unstable_by(|a, b| (a.account, &a.openid).cmp(&(b.account, &b.openid)));
    }
    let rows = changing(&new)
        .int("account_id", |one| one.account.0)
        .text("openid", |one| one.openid.clone());
    sql::run_over(
        tx,
        "INSERT INTO followers (id, account_id, openid, following, muted, followed_at,
             last_event_at, last_sent_at, language, scene, tags, left_at)
         SELECT r.id, r.account_id, r.openid, r.following, r.muted, r.followed_at,
             r.last_event_at, r.last_sent_at, r.language, r.scene, r.tags, r.left_at
         FROM {rows}",
        rows,
        [],
    )
    .await?;
    Ok(())
}

pub(super) async fn update(tx: &DatabaseTransaction, changed: &[&Follower]) -> Result<(), Error> {
    sql::run_over(
        tx,
        "UPDATE followers SET following = r.following, muted = r.muted,
             followed_at = r.followed_at, last_event_at = r.last_event_at,
             last_sent_at = r.last_sent_at, language = r.language, scene = r.scene,
             tags = r.tags, left_at = r.left_at
         FROM {rows} WHERE followers.id = r.id",
        changing(changed),
        [],
    )
    .await?;
    Ok(())
}

/// Gives followers other names: a pseudonym, or the openid of somebody who has come back. A
/// statement of its own, because every other update leaves the index alone.
pub(super) async fn rename(tx: &DatabaseTransaction, renamed: &[&Follower]) -> Result<(), Error> {
    let rows = Rows::of(renamed)
        .int("id", |one| one.id.0)
        .text("openid", |one| one.openid.clone());
    let sql = "UPDATE followers SET openid = r.openid FROM {rows} WHERE followers.id = r.id";
    sql::run_over(tx, sql, rows, []).await?;
    Ok(())
}
