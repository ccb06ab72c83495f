//! Table `consents`.

use sea_orm::DatabaseTransaction;

use crate::journey::ids::FollowerId;
use crate::policy::consent::Consent;
use crate::store::Error;
use crate::store::sql::{self, Rows, int, small, text};

/// The consents of these followers.
pub(super) async fn of(
    tx: &DatabaseTransaction,
    followers: &[FollowerId],
) -> Result<Vec<(FollowerId, Consent)>, Error> {
    let rows = sql::all_over(
        tx,
        "SELECT c.follower_id, c.template, c.\"left\"
         FROM {rows} CROSS JOIN consents AS c WHERE c.follower_id = r.follower_id",
        Rows::of(followers).int("follower_id", |id| id.0),
        [],
    )
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
    let rows = Rows::of(changed)
        .int("follower_id", |(follower, _)| follower.0)
        .text("template", |(_, consent)| consent.template.clone())
        .int("remaining", |(_, consent)| i64::from(consent.left));
    sql::run_over(
        tx,
        "INSERT INTO consents (follower_id, template, \"left\")
         SELECT r.follower_id, r.template, r.remaining FROM {rows} WHERE true
         ON CONFLICT (follower_id, template) DO UPDATE SET \"left\" = excluded.\"left\"",
        rows,
        [],
    )
    .await?;
    Ok(())
}
