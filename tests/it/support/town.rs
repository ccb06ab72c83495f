//! A town: followers, accounts, and a dripwheel that can crash and come back.
//!
//! The engine is the real one over a real database file, in a runtime of its own, so that a crash
//! takes every task with it at whatever point it is; only time and the platform are scripted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use dripwheel::clock::{Clock, ManualClock, Timestamp, millis};
use dripwheel::journey;
use dripwheel::journey::event::{Arrival, Event};
use dripwheel::journey::ids::AccountId;
use dripwheel::journey::outcome::Outcome;
use dripwheel::journey::parse;
use dripwheel::policy::account::Account;
use dripwheel::policy::limiter::Rate;
use dripwheel::policy::profile;
use dripwheel::scheduler::{Scheduler, SchedulerSettings};
use dripwheel::sender::platform::Platform;
use dripwheel::sender::{Sender, SenderSettings};
use dripwheel::store::accounts::{self, NewAccount};
use dripwheel::store::audit::{self, Audit};
use dripwheel::store::versions::{self, NewVersion};
use dripwheel::store::work::{Act, Acted, Armed, Taken};
use dripwheel::store::{Store, StoreSettings};
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::eventually;
use super::line::{Heard, Line, Phone};

/// When every town begins: 2 March 2026, 10:00 in Shanghai.
pub const START: Timestamp = Timestamp(1_772_416_800_000);

/// A little less than `eventually` has, so that a failure can show the rows.
const PATIENCE_WITH_ROWS: Duration = Duration::from_secs(18);

/// What is due so soon is armed as a delivery at once.
const LEAD: Duration = Duration::from_secs(2);

/// A town that is still to be opened.
#[derive(Clone, Debug)]
pub struct TownPlan {
    accounts: Vec<String>,
    profile: String,
    zone: String,
    rate: Rate,
    per_account_in_flight: usize,
    in_flight: usize,
    ring: usize,
    memory: usize,
    /// Most news in the channels between the parts; what is beyond is lost, as when they are full.
    channels: Option<usize>,
}

impl TownPlan {
    /// Another account beside `main`.
    #[must_use]
    pub fn account(mut self, key: &str) -> Self {
        self.accounts.push(key.to_owned());
        self
    }

    #[must_use]
    pub fn profile(mut self, name: &str) -> Self {
        name.clone_into(&mut self.profile);
        self
    }

    #[must_use]
    pub fn per_second(mut self, limit: u32) -> Self {
        self.rate.per_second = Some(limit);
        self
    }

    /// Sends at the same time: of one account, and of all.
    #[must_use]
    pub fn in_flight(mut self, one: usize, all: usize) -> Self {
        (self.per_account_in_flight, self.in_flight) = (one, all);
        self
    }

    /// Entries of the ring.
    #[must_use]
    pub fn ring(mut self, entries: usize) -> Self {
        self.ring = entries;
        self
    }

    /// Due deliveries that the sender holds in memory.
    #[must_use]
    pub fn memory(mut self, deliveries: usize) -> Self {
        self.memory = deliveries;
        self
    }

    #[must_use]
    pub fn channels(mut self, room: usize) -> Self {
        self.channels = Some(room);
        self
    }

    pub async fn open(self, sequences: &[&str]) -> Town {
        let clock = Arc::new(ManualClock::at(START));
        let mut town = Town {
            dir: TempDir::new().unwrap(),
            line: Arc::new(Line::new(Arc::clone(&clock))),
            clock,
            plan: self,
            sequences: sequences.iter().map(|&text| text.to_owned()).collect(),
            life: None,
            events: AtomicI64::new(1),
        };
        town.start().await;
        town
    }
}

/// One run of the program, from start to crash.
struct Life {
    store: Arc<Store>,
    stop: CancellationToken,
    parts: Vec<tokio::task::JoinHandle<()>>,
    runtime: Runtime,
}

pub struct Town {
    dir: TempDir,
    pub clock: Arc<ManualClock>,
    pub line: Arc<Line>,
    plan: TownPlan,
    sequences: Vec<String>,
    life: Option<Life>,
    events: AtomicI64,
}

impl Town {
    /// A town with one account, `main`, under the classic rule and without limits.
    pub fn plan() -> TownPlan {
        TownPlan {
            accounts: vec!["main".to_owned()],
            profile: "wechat-48h".to_owned(),
            zone: "Asia/Shanghai".to_owned(),
            rate: Rate::default(),
            per_account_in_flight: 64,
            in_flight: 256,
            ring: 10_000,
            memory: 10_000,
            channels: None,
        }
    }

    pub async fn open(sequences: &[&str]) -> Self {
        Self::plan().open(sequences).await
    }

    // The program's life ---------------------------------------------------------------------

    /// Starts the program over the town's database.
    pub async fn start(&mut self) {
        assert!(self.life.is_none(), "runs already");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (plan, line) = (self.plan.clone(), Arc::clone(&self.line));
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        let path = self.dir.path().join("town.db");
        let url = format!("sqlite://{}", path.display());
        let versions: Vec<_> = self.sequences.iter().map(|text| version(text)).collect();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let started = runtime.spawn(async move {
            let settings = StoreSettings { url, lead: LEAD };
            let (store, armed_rx) = Store::open(&settings, Arc::clone(&clock)).await.unwrap();
            let accounts = plan.accounts.iter().map(|key| account(key, &plan));
            accounts::configure(&store, accounts.collect())
                .await
                .unwrap();
            versions::publish(&store, versions, clock.now())
                .await
                .unwrap();
            let accounts = store.knowledge().accounts();
            let platforms = accounts.keys().map(|&account| {
                let line = Arc::clone(&line);
                let phone: Arc<dyn Platform> = Arc::new(Phone { account, line });
                phone
            });
            let platforms = platforms.collect();
            let (armed_rx, due_room) = match plan.channels {
                None => (armed_rx, 1024),
                Some(room) => (narrowed(armed_rx, room, &store), room),
            };
            let (due_tx, due_rx) = mpsc::channel(due_room);
            let scheduler = Scheduler::new(
                Arc::clone(&store),
                Arc::clone(&clock),
                SchedulerSettings {
                    ring_entries: plan.ring,
                    lead: LEAD,
                    sweep_every: Duration::from_secs(45),
                    promote_max: 20_000,
                },
                armed_rx,
                due_tx,
            );
            let sender = Sender::new(
                Arc::clone(&store),
                clock,
                SenderSettings {
                    in_flight_max: plan.in_flight,
                    queue_max: plan.memory,
                },
                platforms,
                due_rx,
            );
            sender.recover().await.unwrap();
            let parts = vec![
                tokio::spawn(scheduler.run(stopped.clone())),
                tokio::spawn(sender.run(stopped)),
            ];
            (store, parts)
        });
        let (store, parts) = started.await.unwrap();
        self.life = Some(Life {
            store,
            stop,
            parts,
            runtime,
        });
    }

    /// Ends the program at once, whatever it is doing.
    pub async fn crash(&mut self) {
        let life = self.life.take().unwrap();
        for part in &life.parts {
            part.abort();
        }
        let store = Arc::downgrade(&life.store);
        drop(life.store);
        let runtime = life.runtime;
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(10)))
            .await
            .unwrap();
        eventually("the crashed program let its database go", || async {
            store.strong_count() == 0
        })
        .await;
    }

    /// Ends the program at once and starts it again.
    pub async fn restart(&mut self) {
        self.crash().await;
        self.start().await;
    }

    /// Stops the program in order; fails when it does not end.
    pub async fn stop(&mut self) {
        let life = self.life.take().unwrap();
        life.stop.cancel();
        for part in life.parts {
            let ended = tokio::time::timeout(Duration::from_secs(30), part).await;
            ended.expect("ends after a stop").expect("ends well");
        }
        life.store.close().await;
        drop(life.store);
        let runtime = life.runtime;
        tokio::task::spawn_blocking(move || drop(runtime))
            .await
            .unwrap();
    }

    /// The end of every test: the rows must prove themselves.
    pub async fn end(mut self) {
        self.prove().await;
        self.stop().await;
    }

    /// Audits, and fails with what is violated.
    pub async fn prove(&self) {
        let audit = self.audit().await;
        let broken: Vec<_> = audit.checks.iter().filter(|c| c.violations > 0).collect();
        assert!(audit.is_clean(), "{broken:#?}\n{}", self.dump().await);
    }

    pub async fn audit(&self) -> Audit {
        let catalog = self.store().knowledge().catalog();
        audit::audit(self.store().read(), &catalog).await.unwrap()
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.life.as_ref().expect("runs").store
    }

    /// Publishes these sequences and no others.
    pub async fn publish(&mut self, sequences: &[&str]) {
        self.sequences = sequences.iter().map(|&text| text.to_owned()).collect();
        let versions = sequences.iter().map(|text| version(text)).collect();
        versions::publish(self.store(), versions, self.now())
            .await
            .unwrap();
    }

    // Time -----------------------------------------------------------------------------------

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Jumps over a span of time, as downtime does or a machine that was asleep.
    pub fn advance(&self, span: Duration) {
        self.clock.advance(span);
    }

    /// Lets time pass from one due instant to the next, as it does for a program that runs.
    pub async fn pass(&self, span: Duration) {
        let until = self.now().plus(span);
        loop {
            self.quiet().await;
            let next = self
                .number(
                    "SELECT min(due_at) FROM (SELECT due_at FROM timers WHERE due_at > ?1
                     UNION ALL SELECT due_at FROM deliveries WHERE due_at > ?1)",
                    [self.now().0.into()],
                )
                .await;
            match next {
                Some(due_at) if due_at <= until.0 => self.clock.set(Timestamp(due_at)),
                _ => break,
            }
        }
        self.clock.set(until);
        self.quiet().await;
    }

    /// Waits until nothing that is due is left to do.
    pub async fn quiet(&self) {
        let what = "everything due is done";
        let asked = eventually(what, || async { self.due().await == 0 });
        if tokio::time::timeout(PATIENCE_WITH_ROWS, asked)
            .await
            .is_err()
        {
            panic!("{what}: never\n{}", self.dump().await);
        }
    }

    /// Waits until every call so far has its answer written down.
    pub async fn answered(&self) {
        let sending = "SELECT count(*) FROM deliveries WHERE state = 1";
        eventually("every call is answered", || async {
            self.number(sending, []).await == Some(0)
        })
        .await;
    }

    /// Timers and deliveries whose instant has come.
    pub async fn due(&self) -> i64 {
        self.number(
            "SELECT (SELECT count(*) FROM timers WHERE due_at <= ?1)
                 + (SELECT count(*) FROM deliveries WHERE due_at <= ?1)",
            [self.now().0.into()],
        )
        .await
        .unwrap()
    }

    // Followers ------------------------------------------------------------------------------

    pub async fn follow(&self, who: &str) -> Taken {
        self.event(who, Event::Followed { scene: None }).await
    }

    pub async fn unfollow(&self, who: &str) -> Taken {
        self.event(who, Event::Unfollowed).await
    }

    pub async fn says(&self, who: &str, text: &str) -> Taken {
        self.event(who, message(text)).await
    }

    pub async fn event(&self, who: &str, event: Event) -> Taken {
        self.take("main", self.arrival(who, event)).await
    }

    /// An event of now, by the platform's clock that counts seconds.
    pub fn arrival(&self, who: &str, event: Event) -> Arrival {
        Arrival {
            openid: who.to_owned(),
            created_at: Timestamp::from_seconds(self.now().seconds()),
            digest: self.events.fetch_add(1, Ordering::Relaxed),
            event,
            language: None,
        }
    }

    /// Takes in an event that happened `ago`.
    pub async fn late_event(&self, who: &str, event: Event, ago: Duration) -> Taken {
        let mut arrival = self.arrival(who, event);
        arrival.created_at = arrival.created_at.minus(ago);
        self.take("main", arrival).await
    }

    pub async fn take(&self, account: &str, arrival: Arrival) -> Taken {
        let account = self.account(account);
        let writer = self.store().writer();
        writer.receive(account, arrival).await.unwrap()
    }

    pub async fn enroll(&self, who: &str, sequence: &str) -> Acted {
        let sequence = sequence.to_owned();
        let (writer, act) = (self.store().writer(), Act::Enroll { sequence });
        let main = self.account("main");
        writer.act(main, who.to_owned(), act).await.unwrap()
    }

    pub fn account(&self, key: &str) -> AccountId {
        let account = self.store().knowledge().account_named(key);
        account.expect("an account of the town").journey.id
    }

    // What came of it ------------------------------------------------------------------------

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
                 JOIN followers AS f ON f.id = o.enrollment_id >> 16 WHERE f.openid = ?1
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
             WHERE f.openid = ?1",
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
        let path = self.dir.path().join("town.db");
        let url = format!("sqlite://{}", path.display());
        let connection = sea_orm::Database::connect(url).await.unwrap();
        connection.execute_unprepared(sql).await.unwrap();
        connection.close().await.unwrap();
    }

    async fn rows(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Vec<Vec<Option<i64>>> {
        let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
        let rows = self.store().read().query_all_raw(statement).await.unwrap();
        rows.iter()
            .map(|row| {
                let columns = row.column_names().len();
                let column = |index| row.try_get_by_index::<Option<i64>>(index).unwrap();
                (0..columns).map(column).collect()
            })
            .collect()
    }

    /// The rows that matter, for a test that failed.
    async fn dump(&self) -> String {
        let mut text = format!("now {}\n", self.now().0 - START.0);
        let tables = [
            ("timers", "due_at - ?1, enrollment_id, generation"),
            (
                "deliveries",
                "due_at - ?1, enrollment_id, generation, state, epoch",
            ),
            (
                "enrollments",
                "id, step, wake_at - ?1, generation, state, attempt, entry",
            ),
            (
                "outcomes",
                "enrollment_id, step, entry, result, steps, at - ?1",
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

/// A text message.
pub fn message(text: &str) -> Event {
    Event::MessageReceived {
        message_kind: "text".to_owned(),
        text: text.to_owned(),
    }
}

fn account(key: &str, plan: &TownPlan) -> NewAccount {
    NewAccount {
        account: Account {
            journey: journey::account::Account {
                id: AccountId(0),
                key: key.to_owned(),
                name: key.to_owned(),
                zone: jiff::tz::TimeZone::get(&plan.zone).unwrap(),
            },
            profile: profile::named(&plan.profile).unwrap(),
            rate: plan.rate,
            in_flight_max: plan.per_account_in_flight,
        },
        platform: "wechat".to_owned(),
        app_id: "wx".to_owned(),
    }
}

fn version(text: &str) -> NewVersion {
    let none = BTreeMap::new();
    let sequence = parse::parse_stored(text, &none).expect("the sequence of a test is right");
    NewVersion {
        sequence: sequence.name,
        hash: text.to_owned(),
        source: text.to_owned(),
        assets: none,
        files: Vec::new(),
    }
}

/// The writer's news through a channel with so little room that most of it is lost.
fn narrowed(
    mut armed_rx: mpsc::Receiver<Armed>,
    room: usize,
    store: &Arc<Store>,
) -> mpsc::Receiver<Armed> {
    let (narrow_tx, narrow_rx) = mpsc::channel(room);
    let store = Arc::downgrade(store);
    tokio::spawn(async move {
        let mut count = 0;
        while let Some(armed) = armed_rx.recv().await {
            count += 1;
            let lost = count % 3 != 0 || narrow_tx.try_send(armed).is_err();
            if let (true, Some(store)) = (lost, store.upgrade()) {
                store.lose_hint();
            }
        }
    });
    narrow_rx
}
