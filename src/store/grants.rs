//! Table `grants`.

use sea_orm::{ConnectionTrait, DatabaseTransaction};

use crate::journey::ids::FollowerId;
use crate::policy::grant::{Grant, Kind, Opener};
use crate::store::Error;
use crate::store::statement::{instant, int, over, small};

/// The grants of these followers.
pub(super) async fn of(
    tx: &DatabaseTransaction,
    followers: &[FollowerId],
) -> Result<Vec<(FollowerId, Grant)>, Error> {
    let rows = tx
        .query_all_raw(over(
            "SELECT g.follower_id, g.kind, g.opens_at, g.closes_at, g.quota, g.spent, g.opened_by
             FROM json_each(?1) AS j CROSS JOIN grants AS g ON g.follower_id = j.value",
            followers,
        )?)
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
    if changed.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = changed
        .iter()
        .map(|(follower, grant)| {
            (
                *follower,
                grant.kind.number(),
                grant.opens_at,
                grant.closes_at,
                grant.quota,
                grant.spent,
                grant.opened_by.number(),
            )
        })
        .collect();
    tx.execute_raw(over(
        "INSERT OR REPLACE INTO grants (follower_id, kind, opens_at, closes_at, quota, spent,
             opened_by)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
             value ->> 6
         FROM json_each(?1)",
        &rows,
    )?)
    .await?;
    Ok(())
}
