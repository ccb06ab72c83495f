//! Table `broadcast_chunks`: recipients that are neighbours, and their counts.
//!
//! Counts are taken anew from enrollments and outcomes while one of the recipients is on its way, and
//! never added to: so progress is a sum over few rows, exact and cheap with millions of recipients.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, QueryResult};

use crate::clock::Timestamp;
use crate::store::broadcasts::Part;
use crate::store::recipients::{CHUNK, limit_of};
use crate::store::sql::{self, Rows, int};
use crate::store::{Error, Store};

/// Chunks that are cut in one commit.
const CUT_AT_ONCE: usize = 40;

/// How far clocks of nodes may be apart: an outcome of a broadcast is not older than its start less this.
const SKEW_MS: i64 = 86_400_000;

/// Recipients that are neighbours, by the ids of the first and the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub first: i64,
    pub last: i64,
    pub counts: Counts,
}

/// How many recipients of a chunk stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Without an enrollment.
    pub waiting: i64,
    /// With one that has not ended.
    pub sending: i64,
    pub sent: i64,
    pub failed: i64,
    pub skipped: i64,
    pub unknown: i64,
}

impl Counts {
    pub fn ended(&self) -> i64 {
        self.sent + self.failed + self.skipped + self.unknown
    }
}

/// Cuts the next recipients of a part into chunks, and ends the cutting after the last.
pub async fn cut(store: &Store, part: &Part) -> Result<(), Error> {
    let key = [part.broadcast.0, part.account.0];
    let row = sql::first(
        store.read(),
        "SELECT coalesce(max(last_id), -1) FROM broadcast_chunks
         WHERE broadcast_id = ?1 AND account_id = ?2",
        key.map(Into::into),
    )
    .await?;
    let after = row.map_or(Ok(-1), |row| int(&row, 0))?;
    let limit = CHUNK * CUT_AT_ONCE;
    let rows = sql::all(
        store.read(),
        "SELECT follower_id FROM recipients
         WHERE broadcast_id = ?1 AND account_id = ?2 AND follower_id > ?3
         ORDER BY follower_id LIMIT ?4",
        [
            key[0].into(),
            key[1].into(),
            after.into(),
            limit_of(limit).into(),
        ],
    )
    .await?;
    let ids = rows.iter().map(|row| int(row, 0));
    let ids: Vec<i64> = ids.collect::<Result<_, _>>()?;
    let over = ids.len() < limit;
    let chunks: Vec<(i64, i64, i64)> = ids
        .chunks(CHUNK)
        .filter_map(|some| Some((*some.first()?, *some.last()?, limit_of(some.len()))))
        .collect();
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                sql::run_over(
                    tx,
                    "INSERT INTO broadcast_chunks (broadcast_id, account_id, first_id, last_id,
                         waiting, sending, sent, failed, skipped, unknown)
                     SELECT ?1, ?2, r.first, r.last, r.size, 0, 0, 0, 0, 0 FROM {rows} WHERE true
                     ON CONFLICT DO NOTHING",
                    Rows::of(&chunks)
                        .int("first", |(first, _, _)| *first)
                        .int("last", |(_, last, _)| *last)
                        .int("size", |(_, _, size)| *size),
                    key.map(Into::into),
                )
                .await?;
                if over {
                    let sql = "UPDATE broadcast_parts SET phase = 2
                        WHERE broadcast_id = ?1 AND account_id = ?2 AND phase = 1";
                    sql::run(tx, sql, key.map(Into::into)).await?;
                }
                Ok(())
            })
        })
        .await
}

/// The chunks of a part that have a recipient who waits or is being sent to, in order.
pub async fn open_chunks(read: &DatabaseConnection, part: &Part) -> Result<Vec<Chunk>, Error> {
    let sql = "SELECT first_id, last_id, waiting, sending, sent, failed, skipped, unknown
        FROM broadcast_chunks WHERE broadcast_id = ?1 AND account_id = ?2
            AND (waiting > 0 OR sending > 0) ORDER BY first_id";
    let rows = sql::all(read, sql, [part.broadcast.0.into(), part.account.0.into()]).await?;
    rows.iter().map(chunk).collect()
}

fn chunk(row: &QueryResult) -> Result<Chunk, Error> {
    Ok(Chunk {
        first: int(row, 0)?,
        last: int(row, 1)?,
        counts: Counts {
            waiting: int(row, 2)?,
            sending: int(row, 3)?,
            sent: int(row, 4)?,
            failed: int(row, 5)?,
            skipped: int(row, 6)?,
            unknown: int(row, 7)?,
        },
    })
}

/// What `count` says of a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub counts: Counts,
    /// Of those being sent to: whose message is due before the instant that was asked for.
    pub due: i64,
}

/// Counts chunks by enrollments and outcomes; `soon` is the instant for `due`. By first follower.
pub async fn count(
    on: &impl ConnectionTrait,
    part: &Part,
    chunks: &[Chunk],
    started_at: Timestamp,
    soon: Timestamp,
) -> Result<HashMap<i64, Counted>, Error> {
    let theirs = sql::each(
        on,
        "recipients",
        "p",
        "p.broadcast_id = ?1 AND p.account_id = ?2 AND p.follower_id BETWEEN r.first AND r.last",
    );
    let number = |test: &str| format!("CAST(sum(CASE WHEN {test} THEN 1 ELSE 0 END) AS BIGINT)");
    let columns = [
        "p.number < 0",
        "p.number >= 0 AND o.result IS NULL",
        "o.result = 1",
        "o.result IN (2, 6)",
        "o.result IN (3, 4, 5)",
        "o.result = 7",
        "o.result IS NULL AND e.state = 0 AND e.wake_at <= ?4",
    ]
    .map(number)
    .join(", ");
    // The instant names the days, where outcomes have some.
    let sql = format!(
        "SELECT r.first, {columns} FROM {{rows}} {theirs}
         LEFT JOIN enrollments AS e ON p.number >= 0 AND e.id = (p.follower_id << 16) + p.number
         LEFT JOIN outcomes AS o ON o.enrollment_id = e.id AND o.steps > 0 AND o.at >= ?3
         GROUP BY r.first"
    );
    let rows = Rows::of(chunks)
        .int("first", |chunk| chunk.first)
        .int("last", |chunk| chunk.last);
    let values = [
        part.broadcast.0.into(),
        part.account.0.into(),
        (started_at.0 - SKEW_MS).into(),
        soon.0.into(),
    ];
    let rows = sql::all_over(on, &sql, rows, values).await?;
    rows.iter()
        .map(|row| {
            let counts = Counts {
                waiting: int(row, 1)?,
                sending: int(row, 2)?,
                sent: int(row, 3)?,
                failed: int(row, 4)?,
                skipped: int(row, 5)?,
                unknown: int(row, 6)?,
            };
            let due = int(row, 7)?;
            Ok((int(row, 0)?, Counted { counts, due }))
        })
        .collect()
}

/// Writes counts down, and the rate: recipients that ended in 1000 s.
pub async fn note(
    store: &Store,
    part: &Part,
    counted: Vec<(i64, Counts)>,
    rate: i64,
) -> Result<(), Error> {
    let (broadcast, account) = (part.broadcast.0, part.account.0);
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                for (first, counts) in counted {
                    write(tx, broadcast, account, first, counts).await?;
                }
                let sql = "UPDATE broadcast_parts SET rate = ?3
                    WHERE broadcast_id = ?1 AND account_id = ?2";
                let values = [broadcast.into(), account.into(), rate.into()];
                sql::run(tx, sql, values).await?;
                Ok(())
            })
        })
        .await
}

async fn write(
    tx: &DatabaseTransaction,
    broadcast: i64,
    account: i64,
    first: i64,
    counts: Counts,
) -> Result<(), Error> {
    sql::run(
        tx,
        "UPDATE broadcast_chunks SET waiting = ?4, sending = ?5, sent = ?6, failed = ?7,
             skipped = ?8, unknown = ?9
         WHERE broadcast_id = ?1 AND account_id = ?2 AND first_id = ?3",
        [
            broadcast.into(),
            account.into(),
            first.into(),
            counts.waiting.into(),
            counts.sending.into(),
            counts.sent.into(),
            counts.failed.into(),
            counts.skipped.into(),
            counts.unknown.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Makes the failed recipients of the next chunk wait again; false when there is no such chunk left,
/// and the part is sending.
pub async fn reopen(store: &Store, part: &Part, started_at: Timestamp) -> Result<bool, Error> {
    let row = sql::first(
        store.read(),
        "SELECT first_id, last_id, waiting, sending, sent, failed, skipped, unknown
         FROM broadcast_chunks
         WHERE broadcast_id = ?1 AND account_id = ?2 AND first_id > ?3
             AND (failed > 0 OR unknown > 0 AND ?4 = 1)
         ORDER BY first_id LIMIT 1",
        [
            part.broadcast.0.into(),
            part.account.0.into(),
            part.retried_to.into(),
            i64::from(part.retries_unknown).into(),
        ],
    )
    .await?;
    let found = row.as_ref().map(chunk).transpose()?;
    let goes_on = found.is_some();
    let part = part.clone();
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                let key = [part.broadcast.0, part.account.0];
                let (phase, to) = match &found {
                    Some(chunk) => (3, chunk.first),
                    None => (2, part.retried_to),
                };
                let ours = sql::run(
                    tx,
                    "UPDATE broadcast_parts SET phase = ?3, retried_to = ?4
                     WHERE broadcast_id = ?1 AND account_id = ?2 AND phase = 3 AND retried_to = ?5",
                    [
                        key[0].into(),
                        key[1].into(),
                        phase.into(),
                        to.into(),
                        part.retried_to.into(),
                    ],
                )
                .await?;
                let Some(chunk) = found.filter(|_| ours > 0) else {
                    return Ok(());
                };
                reopen_chunk(tx, &part, &chunk).await?;
                let counted = count(tx, &part, &[chunk], started_at, Timestamp::default()).await?;
                if let Some(counted) = counted.get(&chunk.first) {
                    write(tx, key[0], key[1], chunk.first, counted.counts).await?;
                }
                Ok(())
            })
        })
        .await?;
    Ok(goes_on)
}

async fn reopen_chunk(tx: &DatabaseTransaction, part: &Part, chunk: &Chunk) -> Result<(), Error> {
    let unknown = if part.retries_unknown { 7 } else { 6 };
    sql::run(
        tx,
        "UPDATE recipients SET number = -1
         WHERE broadcast_id = ?1 AND account_id = ?2 AND follower_id BETWEEN ?3 AND ?4
             AND number >= 0 AND EXISTS (SELECT 1 FROM outcomes AS o
                 WHERE o.enrollment_id = (recipients.follower_id << 16) + recipients.number
                     AND o.steps > 0 AND o.result IN (2, 6, ?5))",
        [
            part.broadcast.0.into(),
            part.account.0.into(),
            chunk.first.into(),
            chunk.last.into(),
            i64::from(unknown).into(),
        ],
    )
    .await?;
    Ok(())
}
