//! Writes to broadcasts as wholes: made, begun by their instants, changed by people, completed. Each is a
//! transaction of its own that asks the row whether it may.

use std::sync::{Arc, OnceLock};

use sea_orm::DatabaseTransaction;

use crate::clock::{Timestamp, millis};
use crate::journey::ids::{AccountId, BroadcastId};
use crate::store::broadcasts::{Begins, Broadcast, NewBroadcast, Obeyed, Order, State, bad, state};
use crate::store::sql::{self, Rows, int};
use crate::store::{Error, Store, fence, versions};

/// Makes a broadcast: its version, and a part for each account.
pub async fn create(
    store: &Store,
    new: NewBroadcast,
    now: Timestamp,
) -> Result<BroadcastId, Error> {
    let made = Arc::new(OnceLock::new());
    let told = Arc::clone(&made);
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                let id = insert(tx, &new, now).await?;
                insert_parts(tx, id, &new.accounts).await?;
                sql::run(tx, fence::OUTDATE, []).await?;
                told.set(id).ok();
                Ok(())
            })
        })
        .await?;
    let catalog = versions::load_catalog(store.read()).await?;
    store.knowledge().set_catalog(catalog);
    made.get().copied().ok_or(Error::Stopped)
}

async fn insert(
    tx: &DatabaseTransaction,
    new: &NewBroadcast,
    now: Timestamp,
) -> Result<BroadcastId, Error> {
    let (start_at, cron, zone) = match &new.begins {
        Begins::Asked => (Timestamp::default(), "", ""),
        Begins::At(at) => (*at, "", ""),
        Begins::Cron { cron, zone, next } => (*next, cron.as_str(), zone.as_str()),
    };
    let spread_ms = new.pace.spread.map_or(0, millis);
    let row = sql::first(
        tx,
        "INSERT INTO broadcasts (title, version_id, audience, state, per_second, spread_ms,
             start_at, cron, zone, created_at, created_by, started_at, ended_at)
         VALUES (?1, 0, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, 0) RETURNING id",
        [
            new.title.as_str().into(),
            new.audience.as_str().into(),
            i64::from(new.pace.per_second.unwrap_or_default()).into(),
            spread_ms.into(),
            start_at.0.into(),
            cron.into(),
            zone.into(),
            now.0.into(),
            new.by.as_str().into(),
        ],
    )
    .await?;
    let row = row.ok_or_else(|| bad("a new row has no id".to_owned()))?;
    let id = BroadcastId(int(&row, 0)?);
    // No sequence can be called so.
    let name = format!("broadcast:{id}");
    let row = sql::first(
        tx,
        "INSERT INTO sequence_versions (sequence, hash, source, assets, published_at, live, kind)
         VALUES (?1, ?2, ?3, '{}', ?4, 0, ?5) RETURNING id",
        [
            name.into(),
            new.hash.as_str().into(),
            new.source.as_str().into(),
            now.0.into(),
            new.kind.number().into(),
        ],
    )
    .await?;
    let row = row.ok_or_else(|| bad("a new version has no id".to_owned()))?;
    let sql = "UPDATE broadcasts SET version_id = ?2 WHERE id = ?1";
    sql::run(tx, sql, [id.0.into(), int(&row, 0)?.into()]).await?;
    Ok(id)
}

async fn insert_parts(
    tx: &DatabaseTransaction,
    id: BroadcastId,
    accounts: &[AccountId],
) -> Result<(), Error> {
    sql::run_over(
        tx,
        "INSERT INTO broadcast_parts (broadcast_id, account_id, phase, read_to, total, retry,
             retried_to, rate)
         SELECT ?1, r.account, 0, '', 0, 0, 0, 0 FROM {rows}",
        Rows::of(accounts).int("account", |account| account.0),
        [id.0.into()],
    )
    .await?;
    Ok(())
}

/// Obeys a person, if the broadcast's state allows it.
pub async fn obey(
    store: &Store,
    id: BroadcastId,
    order: Order,
    now: Timestamp,
) -> Result<Obeyed, Error> {
    let answer = Arc::new(OnceLock::new());
    let told = Arc::clone(&answer);
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                let changed = change(tx, id, order, now).await?;
                if changed && let Order::Retry(retry) = order {
                    sql::run(
                        tx,
                        "UPDATE broadcast_parts SET phase = 3, retry = ?2, retried_to = ?3
                         WHERE broadcast_id = ?1 AND phase = 2",
                        [id.0.into(), (retry as i64).into(), i64::MIN.into()],
                    )
                    .await?;
                }
                let obeyed = match changed {
                    true => Obeyed::Done,
                    false => {
                        let sql = "SELECT state FROM broadcasts WHERE id = ?1";
                        match sql::first(tx, sql, [id.0.into()]).await? {
                            None => Obeyed::NoSuch,
                            Some(row) => Obeyed::NotNow(state(&row, 0)?),
                        }
                    }
                };
                told.set(obeyed).ok();
                Ok(())
            })
        })
        .await?;
    let obeyed = answer.get().copied().ok_or(Error::Stopped)?;
    if obeyed == Obeyed::Done {
        tracing::info!(broadcast.id = id.0, ?order, "broadcast changed by hand");
        store.ask_to_broadcast();
    }
    Ok(obeyed)
}

async fn change(
    tx: &DatabaseTransaction,
    id: BroadcastId,
    order: Order,
    now: Timestamp,
) -> Result<bool, Error> {
    let (sql, at) = match order {
        Order::Start => (
            "UPDATE broadcasts SET state = 1, started_at = ?2, start_at = 0
             WHERE id = ?1 AND state = 0 AND cron = ''",
            now,
        ),
        // One that waits for its instant is kept from beginning.
        Order::Interrupt => (
            "UPDATE broadcasts SET state = 2
             WHERE id = ?1 AND (state = 1 OR state = 0 AND start_at > 0 AND ?2 > 0)",
            now,
        ),
        Order::Resume(None) => (
            "UPDATE broadcasts SET state = CASE WHEN started_at > 0 THEN 1 ELSE 0 END
             WHERE id = ?1 AND state = 2 AND cron = '' AND ?2 > 0",
            now,
        ),
        Order::Resume(Some(next)) => (
            "UPDATE broadcasts SET state = 0, start_at = ?2
             WHERE id = ?1 AND state = 2 AND cron <> ''",
            next,
        ),
        Order::Retry(_) => (
            "UPDATE broadcasts SET state = 1, ended_at = 0
             WHERE id = ?1 AND state = 3 AND ?2 > 0",
            now,
        ),
    };
    Ok(sql::run(tx, sql, [id.0.into(), at.0.into()]).await? > 0)
}

/// Begins one whose instant has come, unless another node has, or a person has changed it.
pub async fn begin(store: &Store, one: &Broadcast, now: Timestamp) -> Result<(), Error> {
    let (id, start_at) = (one.id.0, one.start_at.0);
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                sql::run(
                    tx,
                    "UPDATE broadcasts SET state = 1, started_at = ?3, start_at = 0
                     WHERE id = ?1 AND state = 0 AND start_at = ?2",
                    [id.into(), start_at.into(), now.0.into()],
                )
                .await?;
                Ok(())
            })
        })
        .await
}

/// Makes the run of one that repeats, and sets its next instant; `None` when there is none any more.
/// Nothing happens where another node has done it, or a person has changed it.
pub async fn begin_run(
    store: &Store,
    parent: &Broadcast,
    next: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Error> {
    let (id, run_at) = (parent.id.0, parent.start_at.0);
    let (state, next) = match next {
        Some(next) => (State::NotStarted, next),
        None => (State::Completed, Timestamp::default()),
    };
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                let sql = "UPDATE broadcasts SET start_at = ?3, state = ?4
                    WHERE id = ?1 AND state = 0 AND start_at = ?2";
                let values = [
                    id.into(),
                    run_at.into(),
                    next.0.into(),
                    (state as i64).into(),
                ];
                if sql::run(tx, sql, values).await? == 0 {
                    return Ok(());
                }
                let row = sql::first(
                    tx,
                    "INSERT INTO broadcasts (title, version_id, audience, state, per_second,
                         spread_ms, start_at, cron, zone, parent_id, run_at, created_at,
                         created_by, started_at, ended_at)
                     SELECT title, version_id, audience, 1, per_second, spread_ms, 0, '', '', id,
                         ?2, ?3, created_by, ?3, 0
                     FROM broadcasts WHERE id = ?1
                     ON CONFLICT DO NOTHING RETURNING id",
                    [id.into(), run_at.into(), now.0.into()],
                )
                .await?;
                let Some(row) = row else { return Ok(()) };
                sql::run(
                    tx,
                    "INSERT INTO broadcast_parts (broadcast_id, account_id, phase, read_to, total,
                         retry, retried_to, rate)
                     SELECT ?2, account_id, 0, '', 0, 0, 0, 0 FROM broadcast_parts
                     WHERE broadcast_id = ?1",
                    [id.into(), int(&row, 0)?.into()],
                )
                .await?;
                Ok(())
            })
        })
        .await
}

/// Completes every broadcast that has no recipient left to send to.
pub async fn complete(store: &Store, now: Timestamp) -> Result<(), Error> {
    let ready = "SELECT b.id FROM broadcasts AS b WHERE b.state = 1
        AND NOT EXISTS (SELECT 1 FROM broadcast_parts AS p
            WHERE p.broadcast_id = b.id AND p.phase <> 2)
        AND NOT EXISTS (SELECT 1 FROM broadcast_chunks AS c
            WHERE c.broadcast_id = b.id AND (c.waiting > 0 OR c.sending > 0))";
    if sql::first(store.read(), ready, []).await?.is_none() {
        return Ok(());
    }
    let complete = format!(
        "UPDATE broadcasts SET state = 3, ended_at = ?1 WHERE state = 1 AND id IN ({ready})"
    );
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                sql::run(tx, &complete, [now.0.into()]).await?;
                Ok(())
            })
        })
        .await
}
