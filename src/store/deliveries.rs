//! Table `deliveries`: what is due, by account, and what is being sent. A row in state 1 is the
//! intent.

use sea_orm::{DatabaseConnection, DatabaseTransaction};

use crate::clock::Timestamp;
use crate::journey::ids::{AccountId, EnrollmentId};
use crate::policy::fare::Fare;
use crate::policy::grant::Kind;
use crate::store::Error;
use crate::store::leases::Held;
use crate::store::shards::Sharding;
use crate::store::sql::{self, Rows, int};
use crate::store::timers;
use crate::store::work::DeliveryKey;

/// At most `limit` due deliveries of an account after a key, in order.
pub async fn page(
    read: &DatabaseConnection,
    account: AccountId,
    after: (Timestamp, EnrollmentId),
    limit: u32,
) -> Result<Vec<DeliveryKey>, Error> {
    let shard = Sharding::of(read).shard(account);
    let rows = sql::all(
        read,
        "SELECT account_id, due_at, enrollment_id, generation FROM deliveries
         WHERE shard = ?5 AND account_id = ?1 AND (due_at, enrollment_id) > (?2, ?3)
             AND state = 0
         ORDER BY due_at, enrollment_id LIMIT ?4",
        [
            account.0.into(),
            after.0.0.into(),
            after.1.0.into(),
            i64::from(limit).into(),
            i64::from(shard).into(),
        ],
    )
    .await?;
    rows.iter().map(timers::key).collect()
}

/// The intents in these shards of earlier holders: sends of which nobody read the answer.
pub async fn left_behind(
    read: &DatabaseConnection,
    held: &[Held],
    limit: u32,
) -> Result<Vec<DeliveryKey>, Error> {
    let rows = Rows::of(held)
        .int("shard", |one| i64::from(one.shard))
        .int("epoch", |one| one.epoch);
    let rows = sql::all_over(
        read,
        "SELECT d.account_id, d.due_at, d.enrollment_id, d.generation
         FROM {rows} CROSS JOIN deliveries AS d
         WHERE d.shard = r.shard AND d.state = 1 AND d.epoch < r.epoch LIMIT ?1",
        rows,
        [i64::from(limit).into()],
    )
    .await?;
    rows.iter().map(timers::key).collect()
}

/// How many deliveries an account has, counted up to `limit`.
pub async fn count(
    read: &DatabaseConnection,
    account: AccountId,
    limit: u32,
) -> Result<i64, Error> {
    let shard = Sharding::of(read).shard(account);
    let row = sql::first(
        read,
        "SELECT count(*) FROM (SELECT 1 FROM deliveries
         WHERE shard = ?3 AND account_id = ?1 LIMIT ?2) AS found",
        [
            account.0.into(),
            i64::from(limit).into(),
            i64::from(shard).into(),
        ],
    )
    .await?;
    row.map_or(Ok(0), |row| int(&row, 0))
}

/// The columns that name a delivery.
fn named<'a, T>(
    tx: &DatabaseTransaction,
    items: &'a [T],
    key: impl Fn(&T) -> DeliveryKey + Copy,
) -> Rows<'a, T> {
    let sharding = Sharding::of(tx);
    Rows::of(items)
        .int("shard", |item| i64::from(sharding.shard(key(item).account)))
        .int("account_id", |item| key(item).account.0)
        .int("due_at", |item| key(item).due_at.0)
        .int("enrollment_id", |item| key(item).enrollment.0)
        .int("generation", |item| i64::from(key(item).generation))
}

pub(super) async fn insert(tx: &DatabaseTransaction, new: &[DeliveryKey]) -> Result<(), Error> {
    sql::run_over(
        tx,
        "INSERT INTO deliveries
             (shard, account_id, due_at, enrollment_id, generation, state, epoch, intent_at)
         SELECT r.shard, r.account_id, r.due_at, r.enrollment_id, r.generation, 0, 0, 0
         FROM {rows}",
        named(tx, new, |key| *key),
        [],
    )
    .await?;
    Ok(())
}

/// Deletes deliveries; `sending` says whether only intents or only what is merely due.
pub(super) async fn delete(
    tx: &DatabaseTransaction,
    keys: &[DeliveryKey],
    sending: bool,
) -> Result<(), Error> {
    sql::run_over(
        tx,
        "DELETE FROM deliveries WHERE state = ?1
             AND (shard, account_id, due_at, enrollment_id) IN
                 (SELECT r.shard, r.account_id, r.due_at, r.enrollment_id FROM {rows})",
        named(tx, keys, |key| *key),
        [i64::from(sending).into()],
    )
    .await?;
    Ok(())
}

/// Deletes deliveries that are merely due and that nobody waits for. Only of the generations named:
/// a newer one may have taken the place.
pub(super) async fn delete_void(
    tx: &DatabaseTransaction,
    keys: &[DeliveryKey],
) -> Result<(), Error> {
    sql::run_over(
        tx,
        "DELETE FROM deliveries WHERE state = 0
             AND (shard, account_id, due_at, enrollment_id, generation) IN
                 (SELECT r.shard, r.account_id, r.due_at, r.enrollment_id, r.generation
                  FROM {rows})",
        named(tx, keys, |key| *key),
        [],
    )
    .await?;
    Ok(())
}

/// An intent as it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intent {
    pub(crate) key: DeliveryKey,
    pub(crate) fare: Fare,
    /// Under which its shard is held.
    pub(crate) epoch: i64,
}

/// Commits intents: from here on only an answer ends them.
pub(super) async fn intend(
    tx: &DatabaseTransaction,
    intents: &[Intent],
    now: Timestamp,
) -> Result<(), Error> {
    let mut kinds: Vec<(Fare, i64)> = Vec::new();
    for one in intents {
        if !kinds.contains(&(one.fare, one.epoch)) {
            kinds.push((one.fare, one.epoch));
        }
    }
    // Few kinds, many intents: one statement for each kind keeps the sets plain keys.
    for (fare, epoch) in kinds {
        let alike = intents.iter();
        let alike = alike.filter(|one| one.fare == fare && one.epoch == epoch);
        let keys: Vec<_> = alike.map(|one| one.key).collect();
        mark(tx, &keys, (1, epoch), now, fare).await?;
    }
    Ok(())
}

/// Writes intents of deliveries that were due at once and have no row yet.
pub(super) async fn insert_intents(
    tx: &DatabaseTransaction,
    intents: &[Intent],
    now: Timestamp,
) -> Result<(), Error> {
    let keys: Vec<_> = intents.iter().map(|one| one.key).collect();
    insert(tx, &keys).await?;
    intend(tx, intents, now).await
}

/// Makes intents merely due again.
pub(super) async fn give_back(tx: &DatabaseTransaction, keys: &[DeliveryKey]) -> Result<(), Error> {
    let fare = Fare::customer_message(None);
    mark(tx, keys, (0, 0), Timestamp(0), fare).await
}

async fn mark(
    tx: &DatabaseTransaction,
    keys: &[DeliveryKey],
    (state, epoch): (i64, i64),
    at: Timestamp,
    fare: Fare,
) -> Result<(), Error> {
    // Not UPDATE … FROM: SQLite would walk the whole table once for each key.
    sql::run_over(
        tx,
        "UPDATE deliveries SET state = ?1, epoch = ?2, intent_at = ?3, carrier = ?4,
             grant_kind = ?5, fallback = ?6
         WHERE (shard, account_id, due_at, enrollment_id) IN
             (SELECT r.shard, r.account_id, r.due_at, r.enrollment_id FROM {rows})",
        named(tx, keys, |key| *key),
        [
            state.into(),
            epoch.into(),
            at.0.into(),
            fare.carrier.number().into(),
            fare.grant.map_or(0, Kind::number).into(),
            fare.fallback.map_or(0, |at| i64::from(at) + 1).into(),
        ],
    )
    .await?;
    Ok(())
}
