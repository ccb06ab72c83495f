//! The fence: what every transaction of a shared store asks first and writes last.
//!
//! First, whether the shards that it is about are still ours, and whether what we know is still true;
//! both answers hold until it ends, since who would change them has to wait. Last, its own number: when
//! the answer to its commit is lost, the number tells whether it took place.

use std::collections::BTreeSet;

use sea_orm::{DatabaseConnection, DatabaseTransaction};

use crate::store::leases::{Held, Holding};
use crate::store::sql::{self, Rows, int, small};
use crate::store::work::Work;
use crate::store::{Error, Knowledge};

/// What the fence says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fence {
    /// All is as we believe, until the transaction ends.
    Holds,
    /// These shards are another node's by now.
    Lost(Vec<u16>),
    /// Another node has changed what we keep in memory.
    Outdated,
}

/// Asks the fence about what `works` touch and we believe to hold.
pub(super) async fn ask(
    tx: &DatabaseTransaction,
    works: &[Work],
    holding: &Holding,
    knowledge: &Knowledge,
) -> Result<Fence, Error> {
    let wanted = shards(works, holding);
    if wanted.is_empty() {
        // About other nodes' accounts, or nobody's: what we know has to be true all the same.
        let row = sql::first(tx, "SELECT number FROM revisions FOR SHARE", []).await?;
        let number = row.map_or(Ok(0), |row| int(&row, 0))?;
        return Ok(if number == knowledge.revision() {
            Fence::Holds
        } else {
            Fence::Outdated
        });
    }
    let rows = Rows::of(&wanted)
        .int("shard", |held| i64::from(held.shard))
        .int("epoch", |held| held.epoch);
    let rows = sql::all_over(
        tx,
        "SELECT l.shard, v.number FROM {rows}
         JOIN shard_leases AS l ON l.shard = r.shard AND l.epoch = r.epoch
         CROSS JOIN revisions AS v FOR SHARE OF l, v",
        rows,
        [],
    )
    .await?;
    let mut lost: BTreeSet<u16> = wanted.iter().map(|held| held.shard).collect();
    let mut outdated = false;
    for row in &rows {
        lost.remove(&small(row, 0, "shard_leases")?);
        outdated |= int(row, 1)? != knowledge.revision();
    }
    Ok(if !lost.is_empty() {
        Fence::Lost(lost.into_iter().collect())
    } else if outdated {
        Fence::Outdated
    } else {
        Fence::Holds
    })
}

/// The shards that works are about, as far as they are ours.
fn shards(works: &[Work], holding: &Holding) -> Vec<Held> {
    let mut concerned = BTreeSet::new();
    let sharding = holding.sharding();
    for work in works {
        match work {
            Work::Receive { account, .. }
            | Work::Act { account, .. }
            | Work::Reconcile { account, .. }
            | Work::Admit { account, .. } => {
                concerned.insert(sharding.shard(*account));
            }
            Work::Settle { key, .. } | Work::Confirm { key, .. } => {
                concerned.insert(sharding.shard(key.account));
            }
            Work::Intend { keys, .. } => {
                concerned.extend(keys.iter().map(|key| sharding.shard(key.account)));
            }
            Work::Click { clicked, .. } => {
                concerned.insert(sharding.shard_of(clicked.enrollment));
            }
            Work::Promote { keys, .. } => {
                concerned.extend(keys.iter().map(|key| sharding.shard_of(key.enrollment)));
            }
        }
    }
    let held = holding.held().into_iter();
    held.filter(|held| concerned.contains(&held.shard))
        .collect()
}

/// Writes the number of a node's transaction, the last of its statements.
///
/// # Errors
/// `Error::Replaced` when another process runs under this node's name.
pub(super) async fn sign(tx: &DatabaseTransaction, node: i64, number: i64) -> Result<(), Error> {
    let sql = "UPDATE node_commits SET number = ?2 WHERE node_id = ?1 AND number < ?2";
    match sql::run(tx, sql, [node.into(), number.into()]).await? {
        0 => Err(Error::Replaced),
        _ => Ok(()),
    }
}

/// The number of a node's latest commit. Waits for one that is still on its way.
pub(super) async fn latest(tx: &DatabaseTransaction, node: i64) -> Result<i64, Error> {
    let sql = "SELECT number FROM node_commits WHERE node_id = ?1 FOR UPDATE";
    let row = sql::first(tx, sql, [node.into()]).await?;
    row.map_or(Ok(0), |row| int(&row, 0))
}

/// What tells the other nodes that what they keep in memory has changed: sequences, pauses,
/// authorizations.
pub(super) const OUTDATE: &str = "UPDATE revisions SET number = number + 1";

/// The number of the latest change of what nodes keep in memory.
pub(super) async fn revision(connection: &DatabaseConnection) -> Result<i64, Error> {
    let row = sql::first(connection, "SELECT number FROM revisions", []).await?;
    row.map_or(Ok(0), |row| int(&row, 0))
}
