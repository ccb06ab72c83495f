//! Followers with everything that policy looks at, read beside the writer: what would become of a message
//! that nobody has asked for yet.

use std::collections::{HashMap, HashSet};

use sea_orm::{DatabaseConnection, TransactionTrait};

use crate::journey::follower::Follower;
use crate::journey::ids::{AccountId, BroadcastId, FollowerId};
use crate::journey::receive::Passages;
use crate::policy::consent::Consents;
use crate::policy::grant::Grants;
use crate::store::Error;
use crate::store::sql::{self, Rows, int};
use crate::store::tables::{Tables, Wanted};

/// A follower who might get a message.
#[derive(Debug)]
pub struct Prospect {
    pub passages: Passages,
    pub grants: Grants,
    pub consents: Consents,
}

/// These followers with what belongs to them, in their order.
pub async fn of(
    read: &DatabaseConnection,
    followers: Vec<Follower>,
) -> Result<Vec<Prospect>, Error> {
    let ids: Vec<_> = followers.iter().map(|one| one.id).collect();
    let mut places = HashMap::new();
    let mut prospects = Vec::with_capacity(followers.len());
    for follower in followers {
        places.insert(follower.id, prospects.len());
        prospects.push(Prospect {
            passages: Passages {
                follower,
                enrollments: Vec::new(),
            },
            grants: Grants::default(),
            consents: Consents::default(),
        });
    }
    // One state of the rows for all of it.
    let tx = read.begin().await?;
    // Its one step asks for no clicks: none has been sent before it.
    let wanted = Wanted {
        consents: true,
        clicks: false,
    };
    let belongings = tx.belongings(&ids, wanted).await?;
    tx.rollback().await?;
    for (enrollment, _) in belongings.enrollments {
        if let Some(place) = places.get(&enrollment.id.follower()) {
            prospects[*place].passages.enrollments.push(enrollment);
        }
    }
    for (follower, grant) in belongings.grants {
        if let Some(place) = places.get(&follower) {
            prospects[*place].grants.0.push(grant);
        }
    }
    for (follower, consent) in belongings.consents {
        if let Some(place) = places.get(&follower) {
            prospects[*place].consents.0.push(consent);
        }
    }
    for one in &mut prospects {
        one.passages.enrollments.sort_by_key(|one| one.id);
    }
    Ok(prospects)
}

/// Which of these followers are recipients of a broadcast.
pub async fn named(
    read: &DatabaseConnection,
    broadcast: BroadcastId,
    account: AccountId,
    followers: &[FollowerId],
) -> Result<HashSet<FollowerId>, Error> {
    let rows = sql::all_over(
        read,
        "SELECT p.follower_id FROM {rows} CROSS JOIN recipients AS p
         WHERE p.broadcast_id = ?1 AND p.account_id = ?2 AND p.follower_id = r.follower",
        Rows::of(followers).int("follower", |follower| follower.0),
        [broadcast.0.into(), account.0.into()],
    )
    .await?;
    rows.iter()
        .map(|row| Ok(FollowerId(int(row, 0)?)))
        .collect()
}
