//! Tables `nodes` and `shard_leases`: who runs, and whose each shard is.
//!
//! A node has one lease, renewed by the database's clock; its shards are its own as long as it lasts.
//! A shard of a node whose lease has ended may be taken by any other: by a higher epoch, which waits
//! for the transactions of the old holder and lets no later one of its pass (`fence`).

use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult};

use crate::clock::Timestamp;
use crate::store::leases::Held;
use crate::store::shards::Sharding;
use crate::store::sql::{self, Rows, instant, int, small, text};
use crate::store::{Error, StoreSettings};

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
    /// Milliseconds that its lease still lasts, by the database's clock; zero once it has ended.
    pub lease_ms: i64,
    /// How many shards are its own.
    pub shards: u32,
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
) -> Result<i64, Error> {
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
    sql::run(
        connection,
        "INSERT INTO node_commits (node_id, number) VALUES (?1, 0) ON CONFLICT DO NOTHING",
        [id.into()],
    )
    .await?;
    sql::run(
        connection,
        "UPDATE shard_leases SET node_id = 0, epoch = epoch + 1 WHERE node_id = ?1",
        [id.into()],
    )
    .await?;
    Ok(id)
}

/// Makes the lease last `lease_ms` from now on.
pub(super) async fn renew(on: &impl ConnectionTrait, id: i64, lease_ms: i64) -> Result<(), Error> {
    let sql = format!("UPDATE nodes SET lease_until = {NOW} + ?2 WHERE id = ?1");
    sql::run(on, &sql, [id.into(), lease_ms.into()]).await?;
    Ok(())
}

/// Ends a node's lease and makes its shards nobody's.
pub(super) async fn leave(on: &impl ConnectionTrait, id: i64) -> Result<(), Error> {
    let sql = "UPDATE shard_leases SET node_id = 0, epoch = epoch + 1 WHERE node_id = ?1";
    sql::run(on, sql, [id.into()]).await?;
    sql::run(
        on,
        "UPDATE nodes SET lease_until = 0 WHERE id = ?1",
        [id.into()],
    )
    .await?;
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

/// Takes shards that nobody holds any more; says which of them are ours now.
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
         FROM {{rows}} WHERE shard_leases.shard = r.shard AND shard_leases.epoch = r.epoch
             AND NOT EXISTS (SELECT 1 FROM nodes AS n WHERE n.id = shard_leases.node_id
                 AND n.lease_until > {NOW})
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
        "SELECT n.id, n.name, n.version, n.started_at, n.seen_at, 0, count(l.shard)
         FROM nodes AS n LEFT JOIN shard_leases AS l ON l.node_id = n.id
         GROUP BY n.id ORDER BY n.name",
        "SELECT n.id, n.name, n.version, n.started_at, n.seen_at,
             greatest(n.lease_until
                 - CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT), 0),
             count(l.shard)
         FROM nodes AS n LEFT JOIN shard_leases AS l ON l.node_id = n.id
         GROUP BY n.id ORDER BY n.name",
    );
    let rows = sql::all(read, sql, []).await?;
    rows.iter()
        .map(|row| {
            Ok(Node {
                id: int(row, 0)?,
                name: text(row, 1)?,
                version: text(row, 2)?,
                started_at: instant(row, 3)?,
                seen_at: instant(row, 4)?,
                lease_ms: int(row, 5)?,
                shards: small(row, 6, "shard_leases")?,
            })
        })
        .collect()
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

/// The number of a node's latest commit; zero where there is one node.
pub(super) async fn latest_commit(connection: &DatabaseConnection, id: i64) -> Result<i64, Error> {
    if Sharding::of(connection) == Sharding::One {
        return Ok(0);
    }
    let sql = "SELECT number FROM node_commits WHERE node_id = ?1";
    let row = sql::first(connection, sql, [id.into()]).await?;
    row.map_or(Ok(0), |row| int(&row, 0))
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
