//! Table `consents`.

use sea_orm::{ConnectionTrait, DatabaseTransaction};

use crate::journey::ids::FollowerId;
use crate::policy::consent::Consent;
use crate::store::Error;
use crate::store::statement::{int, over, small, text};

/// The consents of these followers.
pub(super) async fn of(
    tx: &DatabaseTransaction,
    followers: &[FollowerId],
) -> Result<Vec<(FollowerId, Consent)>, Error> {
    let rows = tx
        .query_all_raw(over(
            "SELECT c.follower_id, c.template, c.left
             FROM json_each(?1) AS j CROSS JOIN consents AS c ON c.follower_id = j.value",
            followers,
        )?)
        .await?;
    rows.iter()
        .map(|row| {
            let consent = Consent {
                template: text(row, 1)?,
                left: small(row, 2, "consents")?,
            };
            Ok((FollowerId(int(row, 0)?), consent))
        })
        .collect()
}

/// Writes consents, new or changed.
pub(super) async fn put(
    tx: &DatabaseTransaction,
    changed: &[(FollowerId, &Consent)],
) -> Result<(), Error> {
    if changed.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = changed
        .iter()
        .map(|(follower, consent)| (*follower, &consent.template, consent.left))
        .collect();
    tx.execute_raw(over(
        "INSERT OR REPLACE INTO consents (follower_id, template, left)
         SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?1)",
        &rows,
    )?)
    .await?;
    Ok(())
}
