//! Retention: the days that outcomes fall into, and the end of what is older than is kept.
//!
//! Where the database has partitions, each day is a table that is made a week ahead and dropped whole;
//! everything else goes a few rows at a time, and rests ten times as long as that took. Enrollments
//! stay: they are what keeps a returning person from being greeted twice. So the sums of those that are
//! older than what is kept cannot be proven any more, and the audit says from when on it counts.
//!
//! Whoever holds the server's own shard does it. What two do at once is done once.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate};
use sea_orm::{ConnectionTrait, DatabaseConnection};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::journey::ids::AccountId;
use crate::store::sql::{self, Rows, instant, int, text};
use crate::store::{Error, Store};

/// How often it is looked what there is to do.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Days that are made ahead, beside the present one.
const DAYS_AHEAD: i64 = 7;

const DAY_MS: i64 = 86_400_000;

/// Rows that one look passes over, and rows that one commit deletes.
const WINDOW: i64 = 20_000;
const CHUNK: usize = 2_000;

/// A rest is at least this long, and so many times as long as the work before it.
const REST_MIN: Duration = Duration::from_millis(100);
const REST_TIMES: u32 = 10;

/// Rows without a day that are counted, at most.
const STRAY_MAX: i64 = 100_000;

/// Longest that others wait for us while a day is made or dropped.
const IN_THE_WAY: &str = "SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '3s'";

/// The account of the server itself: whoever holds its shard sees to what is nobody's.
const SERVER: AccountId = AccountId(0);

/// Since when everything is kept; zero when nothing was deleted yet.
///
/// # Errors
/// When it cannot be read.
pub async fn kept_from(read: &DatabaseConnection) -> Result<Timestamp, Error> {
    let row = sql::first(read, "SELECT outcomes_from FROM retention WHERE id = 1", []).await?;
    row.map_or(Ok(Timestamp::default()), |row| instant(&row, 0))
}

/// Makes days ahead, and deletes what is older than is kept.
#[derive(Debug)]
pub struct Retention {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    /// `None` for ever.
    keep: Option<Duration>,
}

/// Rows that are deleted by their keys: in their table's order, as integers.
struct Swept {
    table: &'static str,
    key: &'static [&'static str],
    /// When a row was written.
    at: &'static str,
}

const RECEIPTS: Swept = Swept {
    table: "receipts",
    key: &["account_id", "follower_id", "created_at", "digest"],
    at: "taken_at",
};

const CLICKS: Swept = Swept {
    table: "clicks",
    key: &["enrollment_id", "step", "link"],
    at: "last_at",
};

impl Retention {
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>, keep: Option<Duration>) -> Self {
        Self { store, clock, keep }
    }

    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let looked = tokio::select! {
                () = stop.cancelled() => return,
                looked = self.look() => looked,
            };
            match looked {
                Ok(()) | Err(Error::Away | Error::Stopped) => {}
                Err(error) => tracing::warn!(%error, cause = ?error, "retention is put off"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Does what there is to do now, unless another node does.
    ///
    /// # Errors
    /// When the database refuses: everything is looked at again the next time.
    pub async fn look(&self) -> Result<(), Error> {
        if !self.is_ours() {
            return Ok(());
        }
        if self.has_days() {
            self.make_days().await?;
            self.count_strays().await?;
        }
        let Some(keep) = self.keep else {
            return Ok(());
        };
        let until = Timestamp(day_of(self.clock.now().minus(keep)) * DAY_MS);
        if until <= swept_to(self.store.read()).await? {
            return Ok(());
        }
        // Before anything is gone, so that no audit misses what it still counts.
        self.note("outcomes_from", until).await?;
        if self.has_days() {
            self.drop_days(until).await?;
        }
        let all = self.sweep(&self.outcomes(), until).await?
            && self.sweep(&RECEIPTS, until).await?
            && self.sweep(&CLICKS, until).await?;
        if all {
            self.note("swept_to", until).await?;
        }
        Ok(())
    }

    fn is_ours(&self) -> bool {
        self.store.leases().hold(SERVER)
    }

    fn has_days(&self) -> bool {
        sql::has_other_writers(self.store.read())
    }

    /// Outcomes that no day has, which on SQLite are all.
    fn outcomes(&self) -> Swept {
        Swept {
            table: sql::dialect(self.store.read(), "outcomes", "outcomes_other"),
            key: &["enrollment_id", "step", "entry"],
            at: "at",
        }
    }

    async fn make_days(&self) -> Result<(), Error> {
        let today = day_of(self.clock.now());
        let known = days(self.store.read()).await?;
        for day in today..=today + DAYS_AHEAD {
            if known.contains(&day) {
                continue;
            }
            let (name, from, to) = (name_of(day), day * DAY_MS, (day + 1) * DAY_MS);
            let create = format!(
                "{IN_THE_WAY}; CREATE TABLE IF NOT EXISTS {name} PARTITION OF outcomes
                 FOR VALUES FROM ({from}) TO ({to})"
            );
            if let Err(error) = self.alter(create).await {
                if !matches!(error, Error::Database(_)) {
                    return Err(error);
                }
                // Somebody else was quicker or in the way, or rows of that day are among the others.
                let there = days(self.store.read()).await?.contains(&day);
                if !there {
                    tracing::warn!(%error, name, "a day for outcomes was not made");
                }
            }
        }
        Ok(())
    }

    /// Rows for which there was no day: they are right, but cannot be dropped with one.
    #[expect(clippy::cast_precision_loss, reason = "gauges take floats")]
    async fn count_strays(&self) -> Result<(), Error> {
        let strays = sql::first(
            self.store.read(),
            "SELECT count(*) FROM (SELECT 1 FROM outcomes_other LIMIT ?1) AS strays",
            [STRAY_MAX.into()],
        )
        .await?;
        let strays = strays.map_or(Ok(0), |row| int(&row, 0))?;
        metrics::gauge!("dripwheel_outcomes_without_day").set(strays as f64);
        if strays > 0 {
            tracing::warn!(
                rows = strays,
                "outcomes stand in `outcomes_other`, without a day"
            );
        }
        Ok(())
    }

    /// Drops the days that ended by `until`.
    async fn drop_days(&self, until: Timestamp) -> Result<(), Error> {
        for day in days(self.store.read()).await? {
            if (day + 1) * DAY_MS > until.0 {
                continue;
            }
            let name = name_of(day);
            self.alter(format!("{IN_THE_WAY}; DROP TABLE IF EXISTS {name}"))
                .await?;
            metrics::counter!("dripwheel_outcome_days_dropped_total").increment(1);
            tracing::info!(name, "a day of outcomes was dropped");
        }
        Ok(())
    }

    async fn alter(&self, sql: String) -> Result<(), Error> {
        let alter = self.store.writer().cold(move |tx| {
            Box::pin(async move { Ok(tx.execute_unprepared(&sql).await.map(drop)?) })
        });
        alter.await
    }

    /// Notes how far retention has come; an instant only grows.
    async fn note(&self, column: &'static str, until: Timestamp) -> Result<(), Error> {
        let note = format!(
            "INSERT INTO retention (id, outcomes_from, swept_to) VALUES (1, ?1, 0)
             ON CONFLICT (id) DO UPDATE SET {column} = CASE
                 WHEN retention.{column} < ?1 THEN ?1 ELSE retention.{column} END"
        );
        let write = self.store.writer().cold(move |tx| {
            Box::pin(async move { sql::run(tx, &note, [until.0.into()]).await.map(drop) })
        });
        write.await
    }

    /// Deletes the rows of a table that are older than `until`; false when the server's shard has gone
    /// to another node meanwhile.
    async fn sweep(&self, swept: &Swept, until: Timestamp) -> Result<bool, Error> {
        let mut after = vec![i64::MIN; swept.key.len()];
        loop {
            if !self.is_ours() {
                return Ok(false);
            }
            let (old, last) = self.window(swept, &after, until).await?;
            for chunk in old.chunks(CHUNK) {
                let began = Instant::now();
                self.delete(swept, chunk.to_vec(), until).await?;
                sleep(REST_MIN.max(began.elapsed() * REST_TIMES)).await;
            }
            match last {
                Some(last) => after = last,
                None => return Ok(true),
            }
        }
    }

    /// The keys of old rows among the next ones, and the last of all; `None` when there are no more.
    async fn window(
        &self,
        swept: &Swept,
        after: &[i64],
        until: Timestamp,
    ) -> Result<(Vec<Vec<i64>>, Option<Vec<i64>>), Error> {
        let Swept { table, key, at } = swept;
        let columns = key.join(", ");
        let places: Vec<_> = (1..=key.len()).map(|n| format!("?{n}")).collect();
        let window = format!(
            "SELECT {columns}, {at} FROM {table} WHERE ({columns}) > ({places})
             ORDER BY {columns} LIMIT {WINDOW}",
            places = places.join(", "),
        );
        let values = after.iter().map(|part| (*part).into());
        let rows = sql::all(self.store.read(), &window, values).await?;
        let (mut old, mut last) = (Vec::new(), None);
        for row in &rows {
            let parts = (0..key.len()).map(|index| int(row, index));
            let parts: Vec<_> = parts.collect::<Result<_, _>>()?;
            if instant(row, key.len())? < until {
                old.push(parts.clone());
            }
            last = Some(parts);
        }
        Ok((old, last))
    }

    async fn delete(
        &self,
        swept: &Swept,
        keys: Vec<Vec<i64>>,
        until: Timestamp,
    ) -> Result<(), Error> {
        let Swept { table, key, at } = *swept;
        let delete = format!(
            "DELETE FROM {table} WHERE {at} < ?1 AND ({columns}) IN (SELECT {columns} FROM {{rows}})",
            columns = key.join(", "),
        );
        let deleted = self.store.writer().cold(move |tx| {
            Box::pin(async move {
                let mut rows = Rows::of(&keys);
                for (index, name) in key.iter().enumerate() {
                    rows = rows.int(name, |parts| parts[index]);
                }
                let deleted = sql::run_over(tx, &delete, rows, [until.0.into()]).await?;
                metrics::counter!("dripwheel_retention_deleted_total", "table" => table)
                    .increment(deleted);
                Ok(())
            })
        });
        deleted.await
    }
}

async fn swept_to(read: &DatabaseConnection) -> Result<Timestamp, Error> {
    let row = sql::first(read, "SELECT swept_to FROM retention WHERE id = 1", []).await?;
    row.map_or(Ok(Timestamp::default()), |row| instant(&row, 0))
}

/// The days that have a table.
async fn days(read: &DatabaseConnection) -> Result<Vec<i64>, Error> {
    let rows = sql::all(
        read,
        "SELECT CAST(c.relname AS TEXT) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
         WHERE i.inhparent = to_regclass('outcomes') ORDER BY 1",
        [],
    )
    .await?;
    let names = rows.iter().map(|row| text(row, 0));
    let names: Vec<_> = names.collect::<Result<_, _>>()?;
    Ok(names.iter().filter_map(|name| day_named(name)).collect())
}

/// Days since 1970, UTC.
fn day_of(at: Timestamp) -> i64 {
    at.0.div_euclid(DAY_MS)
}

fn name_of(day: i64) -> String {
    let date = DateTime::from_timestamp_millis(day * DAY_MS).unwrap_or_default();
    format!("outcomes_{}", date.format("%Y%m%d"))
}

fn day_named(name: &str) -> Option<i64> {
    let date = NaiveDate::parse_from_str(name.strip_prefix("outcomes_")?, "%Y%m%d").ok()?;
    let midnight = date.and_hms_opt(0, 0, 0)?.and_utc();
    Some(day_of(Timestamp(midnight.timestamp_millis())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_named_by_its_date() {
        let day = day_of(Timestamp(1_772_416_800_000));
        assert_eq!(name_of(day), "outcomes_20260302");
        assert_eq!(day_named("outcomes_20260302"), Some(day));
        assert_eq!(day_named("outcomes_other"), None);
        assert_eq!(day_of(Timestamp(-1)), -1);
    }
}
