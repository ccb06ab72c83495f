//! What came of it: what followers heard, and what the rows say.

use std::time::Duration;

use dripwheel::clock::millis;
use dripwheel::journey::outcome::Outcome;
use dripwheel::story::{self, Lang, words};
use sea_orm::Value;

use super::line::Heard;
use super::town::{PATIENCE_WITH_ROWS, START, Town};
use super::{database, eventually};

impl Town {
    /// The messages that arrived at somebody, in order.
    pub fn heard(&self, who: &str) -> Vec<String> {
        let calls = self.calls(who).into_iter().filter(Heard::arrived);
        calls.map(|call| call.text).collect()
    }

    /// When they arrived, after the town's beginning.
    pub fn heard_after(&self, who: &str) -> Vec<Duration> {
        let calls = self.calls(who).into_iter().filter(Heard::arrived);
        calls.map(|call| call.at.since(START)).collect()
    }

    /// Every call for somebody, whatever the platform said.
    pub fn calls(&self, who: &str) -> Vec<Heard> {
        let calls = self.line.calls().into_iter();
        calls.filter(|call| call.openid == who).collect()
    }

    /// What `explain` tells of somebody.
    pub async fn story(&self, who: &str) -> String {
        let told = story::load_live(self.store(), "main", who, self.now()).await;
        words::words(&told.unwrap().unwrap(), Lang::En)
    }

    /// Waits until there were so many calls for somebody.
    pub async fn called(&self, who: &str, times: usize) {
        let what = format!("call {times} for {who}");
        let asked = eventually(&what, || async { self.calls(who).len() >= times });
        if tokio::time::timeout(PATIENCE_WITH_ROWS, asked)
            .await
            .is_err()
        {
            panic!("{what}: never\n{}", self.dump().await);
        }
    }

    /// The entries of somebody's history: enrollment's number, step, outcome, steps that it ends.
    pub async fn history(&self, who: &str) -> Vec<(i64, i64, Outcome, i64)> {
        let rows = self
            .rows(
                "SELECT o.enrollment_id & 65535, o.step, o.result, o.steps FROM outcomes AS o
                 JOIN followers AS f ON f.id = o.enrollment_id >> 16 WHERE f.openid = $1
                 ORDER BY o.enrollment_id, o.step, o.entry",
                [who.into()],
            )
            .await;
        rows.iter()
            .map(|row| {
                let outcome = Outcome::from_number(row[2].unwrap()).unwrap();
                (row[0].unwrap(), row[1].unwrap(), outcome, row[3].unwrap())
            })
            .collect()
    }

    /// How somebody's steps ended and what came before, in order.
    pub async fn outcomes(&self, who: &str) -> Vec<Outcome> {
        let history = self.history(who).await.into_iter();
        history.map(|(_, _, outcome, _)| outcome).collect()
    }

    /// How many passages somebody has begun.
    pub async fn passages(&self, who: &str) -> i64 {
        self.number(
            "SELECT count(*) FROM enrollments AS e JOIN followers AS f ON f.id = e.id >> 16
             WHERE f.openid = $1",
            [who.into()],
        )
        .await
        .unwrap()
    }

    /// How many rows a table has.
    pub async fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        self.number(&sql, []).await.unwrap()
    }

    pub async fn number(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Option<i64> {
        let rows = self.rows(sql, values).await;
        rows.first()?.first().copied().flatten()
    }

    /// Changes rows behind the program's back, between two lives, as a broken disk would.
    pub async fn tamper(&self, sql: &str) {
        assert!(self.life.is_none(), "only between two lives");
        self.database.tamper(sql).await;
    }

    async fn rows(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Vec<Vec<Option<i64>>> {
        let rows = database::rows(self.store().read(), sql, values).await;
        rows.iter()
            .map(|row| {
                let columns = row.column_names().len();
                let column = |index| row.try_get_by_index::<Option<i64>>(index).unwrap();
                (0..columns).map(column).collect()
            })
            .collect()
    }

    /// The rows that matter, for a test that failed.
    pub(super) async fn dump(&self) -> String {
        let mut text = format!("now {}\n", self.now().0 - START.0);
        let tables = [
            ("timers", "due_at - $1, enrollment_id, generation"),
            (
                "deliveries",
                "due_at - $1, enrollment_id, generation, state, epoch",
            ),
            (
                "enrollments",
                "id, step, wake_at - $1, generation, state, attempt, entry",
            ),
            (
                "outcomes",
                "enrollment_id, step, entry, result, steps, at - $1",
            ),
        ];
        for (table, columns) in tables {
            let sql = format!("SELECT {columns} FROM {table} LIMIT 30");
            let rows = self.rows(&sql, [START.0.into()]).await;
            text.push_str(&format!("{table} ({columns})\n"));
            for row in rows {
                let cells: Vec<_> = row.iter().map(|cell| cell.unwrap_or(-1)).collect();
                text.push_str(&format!("  {cells:?}\n"));
            }
        }
        for call in self.line.calls().iter().rev().take(30) {
            let after = millis(call.at.since(START));
            text.push_str(&format!(
                "call {after} {} {} {:?}\n",
                call.openid, call.text, call.reply
            ));
        }
        text
    }
}
