//! A town: followers, accounts, and a dripwheel that can crash and come back.
//!
//! The engine is the real one over a real database, in a runtime of its own, so that a crash
//! takes every task with it at whatever point it is; only time and the platform are scripted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use dripwheel::clock::{Clock, ManualClock, SteadyClock, Timestamp};
use dripwheel::journey;
use dripwheel::journey::ids::AccountId;
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
use dripwheel::store::work::Armed;
use dripwheel::store::{Store, StoreSettings};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::database::Fresh;
use super::eventually;
use super::line::{Line, Phone};

/// When every town begins: 2 March 2026, 10:00 in Shanghai.
pub const START: Timestamp = Timestamp(1_772_416_800_000);

/// A little less than `eventually` has, so that a failure can show the rows.
pub(super) const PATIENCE_WITH_ROWS: Duration = Duration::from_secs(40);

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
    steady: bool,
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

    /// A program that doubts large steps of the town's clock, as `serve` does.
    #[must_use]
    pub fn steady(mut self) -> Self {
        self.steady = true;
        self
    }

    pub async fn open(self, sequences: &[&str]) -> Town {
        let clock = Arc::new(ManualClock::at(START));
        let mut town = Town {
            database: Fresh::new(),
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
pub(super) struct Life {
    store: Arc<Store>,
    stop: CancellationToken,
    parts: Vec<tokio::task::JoinHandle<()>>,
    runtime: Runtime,
}

pub struct Town {
    pub(super) database: Fresh,
    pub clock: Arc<ManualClock>,
    pub line: Arc<Line>,
    plan: TownPlan,
    sequences: Vec<String>,
    pub(super) life: Option<Life>,
    pub(super) events: AtomicI64,
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
            steady: false,
        }
    }

    pub async fn open(sequences: &[&str]) -> Self {
        Self::plan().open(sequences).await
    }

    /// Starts the program over the town's database.
    pub async fn start(&mut self) {
        assert!(self.life.is_none(), "runs already");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (plan, line) = (self.plan.clone(), Arc::clone(&self.line));
        let clock = Arc::clone(&self.clock);
        let clock: Arc<dyn Clock> = match plan.steady {
            true => Arc::new(SteadyClock::new(clock)),
            false => clock,
        };
        let url = self.database.url.clone();
        let versions: Vec<_> = self.sequences.iter().map(|text| version(text)).collect();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let started = runtime.spawn(async move {
            let settings = StoreSettings::at(url, LEAD);
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
                (account, phone)
            });
            let platforms: HashMap<_, _> = platforms.collect();
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
            let mut sender = Sender::new(
                Arc::clone(&store),
                clock,
                SenderSettings {
                    in_flight_max: plan.in_flight,
                    queue_max: plan.memory,
                },
                Arc::new(platforms),
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
}

/// An account as a plan has them.
pub fn account(key: &str, plan: &TownPlan) -> NewAccount {
    NewAccount {
        account: Account {
            journey: journey::account::Account {
                id: AccountId(0),
                key: key.to_owned(),
                name: key.to_owned(),
                zone: jiff::tz::TimeZone::get(&plan.zone).unwrap(),
            },
            profile: profile::named(&plan.profile).unwrap(),
            sends: true,
            passive_reply: false,
            // These tests look people up by name in the rows.
            erase_on_unfollow: false,
            track_links: false,
            rate: plan.rate,
            quota_reset: Default::default(),
            in_flight_max: plan.per_account_in_flight,
        },
        platform: "wechat".to_owned(),
        app_id: "wx".to_owned(),
    }
}

/// A sequence to be published.
pub fn version(text: &str) -> NewVersion {
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
