//! Table `deliveries`: what is due, by account, and what is being sent. A row in state 1 is the
//! intent.

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction};

use crate::clock::Timestamp;
use crate::journey::ids::{AccountId, EnrollmentId};
use crate::policy::fare::Fare;
use crate::policy::grant::Kind;
use crate::store::Error;
use crate::store::statement::{int, over, statement};
use crate::store::timers;
use crate::store::work::DeliveryKey;

/// At most `limit` due deliveries of an account after a key, in order.
pub async fn page(
    read: &DatabaseConnection,
    account: AccountId,
    after: (Timestamp, EnrollmentId),
    limit: u32,
) -> Result<Vec<DeliveryKey>, Error> {
    let rows = read
        .query_all_raw(statement(
            "SELECT account_id, due_at, enrollment_id, generation FROM deliveries
             WHERE shard = 0 AND account_id = ?1 AND (due_at, enrollment_id) > (?2, ?3)
                 AND state = 0
             ORDER BY due_at, enrollment_id LIMIT ?4",
            [
                account.0.into(),
                after.0.0.into(),
                after.1.0.into(),
                limit.into(),
            ],
        ))
        .await?;
    rows.iter().map(timers::key).collect()
}

/// The intents of earlier starts: sends of which nobody read the answer.
pub async fn left_behind(
    read: &DatabaseConnection,
    epoch: i64,
    limit: u32,
) -> Result<Vec<DeliveryKey>, Error> {
    let rows = read
        .query_all_raw(statement(
            "SELECT account_id, due_at, enrollment_id, generation FROM deliveries
             WHERE state = 1 AND epoch < ?1 LIMIT ?2",
            [epoch.into(), limit.into()],
        ))
        .await?;
    rows.iter().map(timers::key).collect()
}

/// How many deliveries an account has, counted up to `limit`.
pub async fn count(
    read: &DatabaseConnection,
    account: AccountId,
    limit: u32,
) -> Result<i64, Error> {
    let row = read
        .query_one_raw(statement(
            "SELECT count(*) FROM (SELECT 1 FROM deliveries
             WHERE shard = 0 AND account_id = ?1 LIMIT ?2)",
            [account.0.into(), limit.into()],
        ))
        .await?;
    row.map_or(Ok(0), |row| int(&row, 0))
}

pub(super) async fn insert(tx: &DatabaseTransaction, new: &[DeliveryKey]) -> Result<(), Error> {
    if new.is_empty() {
        return Ok(());
    }
    tx.execute_raw(over(
        "INSERT INTO deliveries
             (shard, account_id, due_at, enrollment_id, generation, state, epoch, intent_at)
         SELECT 0, value ->> 0, value ->> 1, value ->> 2, value ->> 3, 0, 0, 0
         FROM json_each(?1)",
        new,
    )?)
    .await?;
    Ok(())
}

/// Deletes deliveries; `sending` says whether only intents or only what is merely due.
pub(super) async fn delete(
    tx: &DatabaseTransaction,
    keys: &[DeliveryKey],
    sending: bool,
) -> Result<(), Error> {
    if keys.is_empty() {
        return Ok(());
    }
    let sql = if sending {
        "DELETE FROM deliveries WHERE state = 1 AND (shard, account_id, due_at, enrollment_id) IN
             (SELECT 0, value ->> 0, value ->> 1, value ->> 2
              FROM json_each(?1))"
    } else {
        "DELETE FROM deliveries WHERE state = 0 AND (shard, account_id, due_at, enrollment_id) IN
             (SELECT 0, value ->> 0, value ->> 1, value ->> 2
              FROM json_each(?1))"
    };
    tx.execute_raw(over(sql, keys)?).await?;
    Ok(())
}

/// Deletes deliveries that are merely due and that nobody waits for. Only of the generations named:
/// a newer one may have taken the place.
pub(super) async fn delete_void(
    tx: &DatabaseTransaction,
    keys: &[DeliveryKey],
) -> Result<(), Error> {
    if keys.is_empty() {
        return Ok(());
    }
    let sql = "DELETE FROM deliveries WHERE state = 0
             AND (shard, account_id, due_at, enrollment_id) IN
                 (SELECT 0, value ->> 0, value ->> 1, value ->> 2 FROM json_each(?1))
             AND generation IN (SELECT value ->> 3 FROM json_each(?1))";
    tx.execute_raw(over(sql, keys)?).await?;
    Ok(())
}

/// Commits intents: from here on only an answer ends them.
pub(super) async fn intend(
    tx: &DatabaseTransaction,
    intents: &[(DeliveryKey, Fare)],
    epoch: i64,
    now: Timestamp,
) -> Result<(), Error> {
    let mut kinds: Vec<Fare> = Vec::new();
    for (_, fare) in intents {
        if !kinds.contains(fare) {
            kinds.push(*fare);
        }
    }
    // Few kinds, many intents: one statement for each kind keeps the sets plain keys.
    for kind in kinds {
        let alike = intents.iter().filter(|(_, fare)| *fare == kind);
        let keys: Vec<_> = alike.map(|(key, _)| *key).collect();
        mark(tx, &keys, 1, epoch, now, kind).await?;
    }
    Ok(())
}

/// Writes intents of deliveries that were due at once and have no row yet.
pub(super) async fn insert_intents(
    tx: &DatabaseTransaction,
    intents: &[(DeliveryKey, Fare)],
    epoch: i64,
    now: Timestamp,
) -> Result<(), Error> {
    let keys: Vec<_> = intents.iter().map(|(key, _)| *key).collect();
    insert(tx, &keys).await?;
    intend(tx, intents, epoch, now).await
}

/// Makes intents merely due again.
pub(super) async fn give_back(tx: &DatabaseTransaction, keys: &[DeliveryKey]) -> Result<(), Error> {
    let fare = Fare::customer_message(None);
    mark(tx, keys, 0, 0, Timestamp(0), fare).await
}

async fn mark(
    tx: &DatabaseTransaction,
    keys: &[DeliveryKey],
    state: i64,
    epoch: i64,
    at: Timestamp,
    fare: Fare,
) -> Result<(), Error> {
    if keys.is_empty() {
        return Ok(());
    }
    // Not UPDATE … FROM: SQLite would walk the whole table once for each key.
    let mut marked = over(
        "UPDATE deliveries SET state = ?2, epoch = ?3, intent_at = ?4, carrier = ?5,
             grant_kind = ?6, fallback = ?7
         WHERE (shard, account_id, due_at, enrollment_id) IN
             (SELECT 0, value ->> 0, value ->> 1, value ->> 2
              FROM json_each(?1))",
        keys,
    )?;
    if let Some(values) = &mut marked.values {
        values.0.extend([
            state.into(),
            epoch.into(),
            at.0.into(),
            fare.carrier.number().into(),
            fare.grant.map_or(0, Kind::number).into(),
            fare.fallback.map_or(0, |at| i64::from(at) + 1).into(),
        ]);
    }
    tx.execute_raw(marked).await?;
    Ok(())
}
