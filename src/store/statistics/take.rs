//! The pass that takes sums together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::COLUMNS;
use crate::journey::ids::AccountId;
use crate::store::sql::{self, int};
use crate::store::{Error, Store};

/// How often sums are taken together, and how many rows at once.
const TAKE_EVERY: Duration = Duration::from_secs(5);
const TAKE_ROWS: u64 = 2_000;

/// The account of the server itself: whoever holds its shard sees to what is nobody's.
const SERVER: AccountId = AccountId(0);

/// Takes rows of `statistics_fresh` together until `stop`, where the server's own shard is ours.
pub async fn keep(store: Arc<Store>, stop: CancellationToken) {
    loop {
        match take_all(&store).await {
            Ok(()) | Err(Error::Away | Error::Stopped) => {}
            Err(error) => tracing::warn!(%error, cause = ?error, "sums are taken together later"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(TAKE_EVERY) => {}
        }
    }
}

/// Takes together what there is.
///
/// # Errors
/// When the database refuses: what is left is taken the next time.
pub async fn take_all(store: &Store) -> Result<(), Error> {
    while store.leases().hold(SERVER) && take(store).await? >= TAKE_ROWS {}
    Ok(())
}

/// Takes some rows together; says how many. Where others write too, they go in the statement that adds
/// them up: no row can be seen by two.
async fn take(store: &Store) -> Result<u64, Error> {
    let next = format!("SELECT id FROM statistics_fresh ORDER BY id LIMIT {TAKE_ROWS}");
    let waiting = format!("SELECT count(*) FROM ({next}) AS waiting");
    let row = sql::first(store.read(), &waiting, []).await?;
    if row.map_or(Ok(0), |row| int(&row, 0))? == 0 {
        return Ok(0);
    }
    let add_up = |from: &str| {
        format!(
            "INSERT INTO statistics ({COLUMNS}, n)
             SELECT {COLUMNS}, CAST(sum(n) AS BIGINT) FROM {from} GROUP BY {COLUMNS}
             ORDER BY {COLUMNS}
             ON CONFLICT ({COLUMNS}) DO UPDATE SET n = statistics.n + excluded.n"
        )
    };
    let together = format!(
        "WITH gone AS (DELETE FROM statistics_fresh WHERE id IN ({next}) RETURNING {COLUMNS}, n),
         kept AS ({add} RETURNING 1) SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM kept)",
        add = add_up("gone")
    );
    let alone = [
        add_up(&format!("statistics_fresh WHERE id IN ({next})")),
        format!("DELETE FROM statistics_fresh WHERE id IN ({next})"),
    ];
    let taken = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&taken);
    let write = store.writer().cold(move |tx| {
        Box::pin(async move {
            if sql::has_other_writers(tx) {
                let row = sql::first(tx, &together, []).await?;
                let rows = row.map_or(Ok(0), |row| int(&row, 0))?;
                told.store(rows.unsigned_abs(), Ordering::Relaxed);
            } else {
                sql::run(tx, &alone[0], []).await?;
                told.store(sql::run(tx, &alone[1], []).await?, Ordering::Relaxed);
            }
            Ok(())
        })
    });
    write.await?;
    Ok(taken.load(Ordering::Relaxed))
}
