//! Table `grants`.

use sea_orm::DatabaseTransaction;

use crate::journey::ids::FollowerId;
use crate::policy::grant::{Grant, Kind, Opener};
use crate::store::Error;
use crate::store::sql::{self, Rows, instant, int, small};

/// The grants of these followers.
pub(super) async fn of(
    tx: &DatabaseTransaction,
    followers: &[FollowerId],
) -> Result<Vec<(FollowerId, Grant)>, Error> {
    let rows = sql::all_over(
        tx,
        "SELECT g.follower_id, g.kind, g.opens_at, g.closes_at, g.quota, g.spent, g.opened_by
         FROM {rows} CROSS JOIN grants AS g WHERE g.follower_id = r.follower_id",
        Rows::of(followers).int("follower_id", |id| id.0),
        [],
    )
    .await?;
    let mut grants = Vec::with_capacity(rows.len());
    for row in &rows {
        // A kind of a later release: leave it alone.
        let Some(kind) = Kind::from_number(int(row, 1)?) else {
            continue;
        };
        let grant = Grant {
            kind,
            opens_at: instant(row, 2)?,
            closes_at: instant(row, 3)?,
            quota: small(row, 4, "grants")?,
            spent: small(row, 5, "grants")?,
            opened_by: Opener::from_number(int(row, 6)?),
        };
        grants.push((FollowerId(int(row, 0)?), grant));
    }
    Ok(grants)
}

/// Writes grants, new or changed.
pub(super) async fn put(
    tx: &DatabaseTransaction,
    changed: &[(FollowerId, Grant)],
) -> Result<(), Error> {
    let rows = Rows::of(changed)
        .int("follower_id", |(follower, _)| follower.0)
        .int("kind", |(_, grant)| grant.kind.number())
        .int("opens_at", |(_, grant)| grant.opens_at.0)
        .int("closes_at", |(_, grant)| grant.closes_at.0)
        .int("quota", |(_, grant)| i64::from(grant.quota))
        .int("spent", |(_, grant)| i64::from(grant.spent))
        .int("opened_by", |(_, grant)| grant.opened_by.number());
    sql::run_over(
        tx,
        "INSERT INTO grants (follower_id, kind, opens_at, closes_at, quota, spent, opened_by)
         SELECT r.follower_id, r.kind, r.opens_at, r.closes_at, r.quota, r.spent, r.opened_by
         FROM {rows} WHERE true
         ON CONFLICT (follower_id, kind) DO UPDATE SET opens_at = excluded.opens_at,
             closes_at = excluded.closes_at, quota = excluded.quota, spent = excluded.spent,
             opened_by = excluded.opened_by",
        rows,
        [],
    )
    .await?;
    Ok(())
}
