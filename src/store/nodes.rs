//! Tables `nodes` and `shard_leases`: who runs, and whose each shard is.
//!
//! A node has one lease, renewed by the database's clock; its shards are its own as long as it lasts.
//! A shard of a node whose lease has ended may be taken by any other: by a higher epoch, which waits
//! for the transactions of the old holder and lets no later one of its pass (`fence`).

use std::collections::HashMap;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult};

use crate::clock::Timestamp;
use crate::journey::ids::AccountId;
use crate::store::leases::Held;
use crate::store::shards::Sharding;
use crate::store::sql::{self, Rows, instant, int, small, text};
use crate::store::{Error, StoreSettings, accounts};

/// The database's clock, in milliseconds since 1970.
const NOW: &str = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";

/// A node as everybody sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: i64,
    pub name: String,
    /// Version of its binary.
    pub version: String,
    pub started_at: Timestamp,
    /// When it was last noted to run, by its own clock.
    pub seen_at: Timestamp,
    /// How long its lease still lasts, by the database's clock: zero once it has ended, `None` where
    /// one node has everything for good.
    pub lease: Option<Duration>,
    /// The shards that are its own, or were when its lease ended.
    pub shards: Vec<u16>,
    /// How many accounts are in them.
    pub accounts: u32,
}

impl Node {
    /// Whether its lease lasts.
    pub fn lives(&self) -> bool {
        self.lease.is_none_or(|left| left > Duration::ZERO)
    }

    /// Whether it sees to an account of a store that is divided like this.
    pub fn holds(&self, sharding: Sharding, account: AccountId) -> bool {
        self.lives() && self.shards.contains(&sharding.shard(account))
    }
}

/// Which node we are. Of two processes under one name the earlier one is nobody any more: its start's
/// number is not the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: i64,
    /// Counts the starts under this name.
    pub(super) start: i64,
}

/// Bits of a commit's number that count the commits of one start; those above are the start's own.
const COMMIT_BITS: u32 = 40;

impl Member {
    /// Of a store that has one node.
    pub(super) const ALONE: Self = Self { id: 1, start: 0 };

    /// The number that this start's commits come after.
    pub(super) fn first_number(self) -> i64 {
        self.start << COMMIT_BITS
    }
}

/// A shard as its row has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) shard: u16,
    /// Whose it is; zero for nobody.
    pub(super) node: i64,
    pub(super) epoch: i64,
}

/// Makes this node known and gives it a lease. Whoever ran under the same name has gone: its shards
/// become nobody's.
pub(super) async fn join(
    connection: &DatabaseConnection,
    settings: &StoreSettings,
    now: Timestamp,
) -> Result<Member, Error> {
    let row = sql::first(
        connection,
        &format!(
            "INSERT INTO nodes (name, version, started_at, seen_at, lease_until)
             VALUES (?1, ?2, ?3, 0, {NOW} + ?4)
             ON CONFLICT (name) DO UPDATE SET version = excluded.version,
                 started_at = excluded.started_at, lease_until = excluded.lease_until
             RETURNING id"
        ),
        [
            settings.node.clone().into(),
            env!("CARGO_PKG_VERSION").into(),
            now.0.into(),
            crate::clock::millis(settings.lease).into(),
        ],
    )
    .await?;
    let id = row.map_or(Ok(0), |row| int(&row, 0))?;
    // Commits of an earlier start, should it still run, are refused from here on (`fence::sign`).
    let sql = format!(
        "INSERT INTO node_commits (node_id, number) VALUES (?1, 0)
         ON CONFLICT (node_id) DO UPDATE
             SET number = ((node_commits.number >> {COMMIT_BITS}) + 1) << {COMMIT_BITS}
         RETURNING number >> {COMMIT_BITS}"
    );
    let row = sql::first(connection, &sql, [id.into()]).await?;
    let start = row.map_or(Ok(0), |row| int(&row, 0))?;
    let member = Member { id, start };
    release(connection, member).await?;
    Ok(member)
}

/// Whether a statement's `?1` and `?2` are still the node and its latest start.
fn is_latest() -> String {
    format!(
        "EXISTS (SELECT 1 FROM node_commits AS c
             WHERE c.node_id = ?1 AND c.number >> {COMMIT_BITS} = ?2)"
    )
}

/// Makes the lease last `lease_ms` from now on; false when it has ended already.
pub(super) async fn renew(
    on: &impl ConnectionTrait,
    member: Member,
    lease_ms: i64,
) -> Result<bool, Error> {
    let latest = is_latest();
    let sql = format!(
        "UPDATE nodes SET lease_until = {NOW} + ?3
         WHERE id = ?1 AND lease_until > {NOW} AND {latest}"
    );
    let values = [member.id.into(), member.start.into(), lease_ms.into()];
    Ok(sql::run(on, &sql, values).await? > 0)
}

/// Begins a lease anew, with no shards: what was held under the last one may have been begun by
/// others, and is told from what we begin by its epoch. False when another process runs under our
/// name.
pub(super) async fn rejoin(
    on: &impl ConnectionTrait,
    member: Member,
    lease_ms: i64,
) -> Result<bool, Error> {
    release(on, member).await?;
    let latest = is_latest();
    let sql = format!("UPDATE nodes SET lease_until = {NOW} + ?3 WHERE id = ?1 AND {latest}");
    let values = [member.id.into(), member.start.into(), lease_ms.into()];
    Ok(sql::run(on, &sql, values).await? > 0)
}

/// Ends a node's lease and makes its shards nobody's.
pub(super) async fn leave(on: &impl ConnectionTrait, member: Member) -> Result<(), Error> {
    release(on, member).await?;
    let latest = is_latest();
    let sql = format!("UPDATE nodes SET lease_until = 0 WHERE id = ?1 AND {latest}");
    sql::run(on, &sql, [member.id.into(), member.start.into()]).await?;
    Ok(())
}

async fn release(on: &impl ConnectionTrait, member: Member) -> Result<(), Error> {
    let latest = is_latest();
    let sql = format!(
        "UPDATE shard_leases SET node_id = 0, epoch = epoch + 1 WHERE node_id = ?1 AND {latest}"
    );
    sql::run(on, &sql, [member.id.into(), member.start.into()]).await?;
    Ok(())
}

/// Every shard; the ids of the nodes whose lease lasts.
pub(super) async fn look(on: &impl ConnectionTrait) -> Result<(Vec<Lease>, Vec<i64>), Error> {
    let rows = sql::all(
        on,
        "SELECT shard, node_id, epoch FROM shard_leases ORDER BY shard",
        [],
    )
    .await?;
    let lease = |row: &QueryResult| {
        Ok(Lease {
            shard: small(row, 0, "shard_leases")?,
            node: int(row, 1)?,
            epoch: int(row, 2)?,
        })
    };
    let leases = rows.iter().map(lease).collect::<Result<_, Error>>()?;
    let sql = format!("SELECT id FROM nodes WHERE lease_until > {NOW}");
    let rows = sql::all(on, &sql, []).await?;
    let live = rows.iter().map(|row| int(row, 0));
    Ok((leases, live.collect::<Result<_, _>>()?))
}

/// Takes shards that nobody holds any more; says which of them are ours now. Those that a transaction
/// of their last holder still holds are left for the next beat: it may be a process that stands still.
pub(super) async fn claim(
    on: &impl ConnectionTrait,
    id: i64,
    wanted: &[Lease],
) -> Result<Vec<Held>, Error> {
    let rows = Rows::of(wanted)
        .int("shard", |one| i64::from(one.shard))
        .int("epoch", |one| one.epoch);
    let sql = format!(
        "UPDATE shard_leases SET node_id = ?1, epoch = shard_leases.epoch + 1
         WHERE shard IN (SELECT l.shard
             FROM {{rows}} JOIN shard_leases AS l ON l.shard = r.shard AND l.epoch = r.epoch
             WHERE NOT EXISTS (SELECT 1 FROM nodes AS n
                 WHERE n.id = l.node_id AND n.lease_until > {NOW})
             FOR UPDATE OF l SKIP LOCKED)
         RETURNING shard_leases.shard, shard_leases.epoch"
    );
    let rows = sql::all_over(on, &sql, rows, [id.into()]).await?;
    rows.iter()
        .map(|row| {
            Ok(Held {
                shard: small(row, 0, "shard_leases")?,
                epoch: int(row, 1)?,
            })
        })
        .collect()
}

/// Gives shards to other nodes, each with its new holder, where nothing of them is being sent any more.
pub(super) async fn hand_over(
    on: &impl ConnectionTrait,
    given: &[(Held, i64)],
) -> Result<(), Error> {
    let rows = Rows::of(given)
        .int("shard", |(held, _)| i64::from(held.shard))
        .int("epoch", |(held, _)| held.epoch)
        .int("node_id", |(_, node)| *node);
    sql::run_over(
        on,
        "UPDATE shard_leases SET node_id = r.node_id, epoch = shard_leases.epoch + 1
         FROM {rows} WHERE shard_leases.shard = r.shard AND shard_leases.epoch = r.epoch
             AND NOT EXISTS (SELECT 1 FROM deliveries AS d
                 WHERE d.shard = r.shard AND d.state = 1)",
        rows,
        [],
    )
    .await?;
    Ok(())
}

/// Every node that ever ran, by name.
pub async fn all(read: &DatabaseConnection) -> Result<Vec<Node>, Error> {
    let sql = sql::dialect(
        read,
        "SELECT id, name, version, started_at, seen_at, NULL FROM nodes ORDER BY name",
        "SELECT id, name, version, started_at, seen_at, greatest(lease_until
             - CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT), 0)
         FROM nodes ORDER BY name",
    );
    let rows = sql::all(read, sql, []).await?;
    let node = |row: &QueryResult| {
        let lease_ms: Option<i64> = row.try_get_by_index(5)?;
        Ok(Node {
            id: int(row, 0)?,
            name: text(row, 1)?,
            version: text(row, 2)?,
            started_at: instant(row, 3)?,
            seen_at: instant(row, 4)?,
            lease: lease_ms.map(|ms| Duration::from_millis(ms.unsigned_abs())),
            shards: Vec::new(),
            accounts: 0,
        })
    };
    let mut nodes: Vec<Node> = rows.iter().map(node).collect::<Result<_, Error>>()?;
    let sharding = Sharding::of(read);
    let accounts = accounts::standings(read).await?;
    let mut by_shard: HashMap<u16, u32> = HashMap::new();
    for account in accounts {
        *by_shard.entry(sharding.shard(account.id)).or_default() += 1;
    }
    let sql = "SELECT shard, node_id FROM shard_leases ORDER BY shard";
    for row in &sql::all(read, sql, []).await? {
        let (shard, holder) = (small(row, 0, "shard_leases")?, int(row, 1)?);
        if let Some(node) = nodes.iter_mut().find(|node| node.id == holder) {
            node.shards.push(shard);
            node.accounts += by_shard.get(&shard).copied().unwrap_or(0);
        }
    }
    Ok(nodes)
}

/// How far the database's clock is ahead of `now`, in milliseconds.
pub(super) async fn clock_ahead_ms(
    on: &impl ConnectionTrait,
    now: Timestamp,
) -> Result<i64, Error> {
    let row = sql::first(on, &format!("SELECT {NOW}"), []).await?;
    let database = row.map_or(Ok(now.0), |row| int(&row, 0))?;
    Ok(database - now.0)
}

/// Counts the start of an embedded store's one node, and takes its one shard under a new epoch.
pub(super) async fn start_alone(
    connection: &DatabaseConnection,
    settings: &StoreSettings,
    now: Timestamp,
) -> Result<Held, Error> {
    sql::run(
        connection,
        "INSERT INTO nodes (id, epoch, started_at, name, version) VALUES (1, 1, ?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET epoch = nodes.epoch + 1, started_at = ?1, name = ?2,
             version = ?3",
        [
            now.0.into(),
            settings.node.clone().into(),
            env!("CARGO_PKG_VERSION").into(),
        ],
    )
    .await?;
    let sql =
        "UPDATE shard_leases SET node_id = 1, epoch = epoch + 1 WHERE shard = 0 RETURNING epoch";
    let row = sql::first(connection, sql, []).await?;
    let epoch = row.map_or(Ok(1), |row| int(&row, 0))?;
    Ok(Held { shard: 0, epoch })
}
