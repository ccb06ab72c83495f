//! The program as a value: every part built once and joined. `App::start` is what the commands run
//! and what tests start.

mod companion;
mod component;
mod parts;
mod platforms;
mod server;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::alert::Alerts;
pub use crate::app::server::ByApiKeys;
use crate::app::server::Doorway;
use crate::broadcast::Broadcaster;
use crate::clock::Clock;
use crate::config::forecast::Target;
use crate::config::{Config, profiles};
use crate::inbound::callback::Doors;
use crate::inbound::click::ClickDoor;
use crate::inbound::spool::{Drain, Spool};
use crate::listener::Listener;
use crate::policy::profile::Profiles;
use crate::scheduler::Scheduler;
use crate::sender::quota::Quotas;
use crate::sender::wechat::http_client;
use crate::sender::{Sender, SenderSettings, Ways};
use crate::store::retention::Retention;
use crate::store::versions::NewVersion;
use crate::store::work::Armed;
use crate::store::{self, Store, StoreSettings, accounts, health, statistics, versions};
use crate::yaml::{Problem, render_all};

/// Deliveries on their way from the wheel to the sender; what does not fit is read from its rows.
const DUE_QUEUE_MAX: usize = 1024;

/// Longest wait for passive replies to be confirmed at shutdown: the platform comes again after 5 s.
const REPLIES_DRAIN_MAX: Duration = Duration::from_secs(8);

/// A running dripwheel.
#[derive(Debug)]
pub struct App {
    addr: SocketAddr,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    sequences: PathBuf,
    doors: Arc<Doors>,
    clicks: Arc<ClickDoor>,
    spool: Option<Arc<Spool>>,
    /// The rules that sequences are held against when they are published.
    targets: Vec<Target>,
    /// Stops taking callbacks and handing out work.
    stop: CancellationToken,
    tasks: Vec<(&'static str, JoinHandle<()>)>,
}

impl App {
    /// Builds and starts every part. `metrics` is what `/metrics` shows; `None` when nothing is
    /// counted, as in tests.
    ///
    /// # Errors
    /// Whatever keeps it from starting, in words that say what to change.
    pub async fn start(
        config: &Config,
        clock: Arc<dyn Clock>,
        metrics: Option<PrometheusHandle>,
    ) -> Result<Self, StartError> {
        let profiles = profiles::load(&config.profiles).map_err(StartError::Problems)?;
        let targets = parts::targets(config, &profiles)?;
        let loaded = parts::load_sequences(&config.sequences.dir, &targets)?;
        let (store, armed_rx) = open_store(config, &clock, &profiles, loaded).await?;
        let http = http_client(config.sender.connect_timeout).map_err(StartError::Http)?;
        let clients = parts::clients(config, &store, &clock, &http)?;
        let others = platforms::join(config, &store, &clock, &http)?;
        let (spool, drain) = parts::spool(&config.database, &store).await?.unzip();
        let doors = parts::doors(config, &store, &clock, &clients)?
            .with_gates(others.gates)
            .with_spool(spool.clone());
        let doors = Arc::new(doors);
        let joined = component::Joining {
            config,
            profiles: &profiles,
            store: &store,
            clock: &clock,
            clients: &clients,
            http: &http,
        };
        let joined = joined.components().await?;
        let (component_doors, registrars) = component::doors(joined, &doors);

        let stop = CancellationToken::new();
        let (due_tx, due_rx) = mpsc::channel(DUE_QUEUE_MAX);
        let scheduler = Scheduler::new(
            Arc::clone(&store),
            Arc::clone(&clock),
            parts::wheel(config),
            armed_rx,
            due_tx,
        );
        let quotas = Arc::new(Quotas::new(
            Arc::clone(&store),
            Arc::clone(&clients),
            Arc::clone(&clock),
            config.sender.ask_quota_every,
        ));
        let mut sender = Sender::new(
            Arc::clone(&store),
            Arc::clone(&clock),
            SenderSettings {
                in_flight_max: config.sender.in_flight,
                queue_max: config.wheel.ring_entries,
            },
            Arc::new(Ways::new(Arc::clone(&clients), others.ways)),
            due_rx,
        );
        let reconciler = parts::reconciler(config, &store, &clock, clients);
        let unknown = sender.recover().await?;
        let alerts = parts::alerts(config, &store, &clock)?;
        tell_unknown(alerts.as_deref(), unknown).await?;
        let listener = listen(config.server.listen).await?;
        let addr = listener.addr().unwrap_or(config.server.listen);
        let clicks = Arc::new(ClickDoor::new(Arc::clone(&store), Arc::clone(&clock)));
        let doorway = Doorway {
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            doors: Arc::clone(&doors),
            component_doors: Arc::new(component_doors),
            clicks: Arc::clone(&clicks),
            quotas: Arc::clone(&quotas),
            alerts: alerts.clone(),
            spool: spool.clone(),
            metrics: metrics.unwrap_or_else(|| PrometheusBuilder::new().build_recorder().handle()),
            stop: stop.clone(),
        };
        let routes = server::routes(config, &doorway);
        let serve = server::serve(listener, doorway, routes, server::tls(config));
        let mut tasks = vec![
            ("server", tokio::spawn(serve)),
            ("scheduler", tokio::spawn(scheduler.run(stop.clone()))),
            ("sender", tokio::spawn(sender.run(stop.clone()))),
            ("reconciler", tokio::spawn(reconciler.run(stop.clone()))),
            (
                "quotas",
                tokio::spawn(Arc::clone(&quotas).run(stop.clone())),
            ),
        ];
        tasks.extend(look_after_rows(config, &store, &clock, drain, &stop));
        for registrar in registrars {
            let run = registrar.run(stop.clone());
            tasks.push(("registrar", tokio::spawn(run)));
        }
        if let Some(alerts) = alerts {
            let telling = alerts.run(Arc::clone(&quotas), stop.clone());
            let telling = tokio::spawn(telling.map_err(StartError::Http)?);
            tasks.push(("alerts", telling));
        }
        tracing::info!(%addr, accounts = config.accounts.len(), "started");
        Ok(Self {
            addr,
            store,
            clock,
            sequences: config.sequences.dir.clone(),
            doors,
            clicks,
            spool,
            targets,
            stop,
            tasks,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Publishes the sequences directory as it is now. Followers inside stay on their versions.
    ///
    /// # Errors
    /// When a file has a problem: then nothing changes.
    pub async fn reload(&self) -> Result<(), StartError> {
        let loaded = parts::load_sequences(&self.sequences, &self.targets)?;
        Ok(versions::publish(&self.store, loaded, self.clock.now()).await?)
    }

    /// Ends when a part has ended that should not have: then the process must go, since a server
    /// that takes callbacks without sending, or the other way round, is worse than a restart.
    pub async fn failed(&mut self) -> &'static str {
        let writer = self.store.writer().clone();
        let parts = self.tasks.iter_mut().map(|(name, task)| {
            Box::pin(async move {
                drop(task.await);
                *name
            })
        });
        tokio::select! {
            (name, ..) = futures_util::future::select_all(parts) => name,
            () = writer.ended() => "writer",
        }
    }

    /// Stops in order: no new callbacks and turns, attempts under way are finished and settled, the
    /// store is closed.
    pub async fn stop(self) {
        // Replies that were given a moment ago are confirmed by the platform's not coming again, so
        // the door stays open until then.
        let drained = tokio::time::timeout(REPLIES_DRAIN_MAX, self.doors.drain());
        if drained.await.is_err() {
            tracing::warn!("passive replies were not confirmed at shutdown: they count as unknown");
        }
        self.stop.cancel();
        for (name, task) in self.tasks {
            // One that has ended was noticed by `failed` already.
            if !task.is_finished()
                && let Err(error) = task.await
            {
                tracing::error!(%error, part = name, "ended badly");
            }
        }
        self.clicks.drain().await;
        if let Err(error) = health::flush(&self.store).await {
            tracing::warn!(%error, "the last counts of accounts are lost");
        }
        if let Some(spool) = &self.spool {
            spool.close().await;
        }
        self.store.close().await;
        tracing::info!("stopped");
    }
}

/// What feeds, counts, hands over and clears away beside the way of a message.
fn look_after_rows(
    config: &Config,
    store: &Arc<Store>,
    clock: &Arc<dyn Clock>,
    drain: Option<Drain>,
    stop: &CancellationToken,
) -> Vec<(&'static str, JoinHandle<()>)> {
    let counts = health::keep(Arc::clone(store), Arc::clone(clock), stop.clone());
    let sums = statistics::keep(Arc::clone(store), stop.clone());
    let keep = config.database.keep_outcomes;
    let retention = Retention::new(Arc::clone(store), Arc::clone(clock), keep);
    let broadcaster = Broadcaster::new(Arc::clone(store), Arc::clone(clock));
    let mut tasks = vec![
        ("broadcaster", tokio::spawn(broadcaster.run(stop.clone()))),
        ("health", tokio::spawn(counts)),
        ("retention", tokio::spawn(retention.run(stop.clone()))),
        ("statistics", tokio::spawn(sums)),
    ];
    if let Some(drain) = drain {
        tasks.push(("spool", tokio::spawn(drain.run(stop.clone()))));
    }
    tasks
}

/// The store with the configured accounts and the sequences in it.
async fn open_store(
    config: &Config,
    clock: &Arc<dyn Clock>,
    profiles: &Profiles,
    loaded: Vec<NewVersion>,
) -> Result<(Arc<Store>, mpsc::Receiver<Armed>), StartError> {
    let settings = StoreSettings {
        node: config
            .node
            .name
            .clone()
            .unwrap_or_else(|| node_name(config)),
        lease: config.node.lease,
        ..StoreSettings::at(config.database.url.clone(), config.wheel.lead)
    };
    let (store, armed_rx) = Store::open(&settings, Arc::clone(clock)).await?;
    let known = config.accounts.iter();
    let known = known.map(|one| parts::account(one, config, profiles));
    accounts::configure(&store, known.collect::<Result<_, _>>()?).await?;
    let public_url = config.server.public_url.as_deref();
    store.knowledge().set_public_url(public_url.unwrap_or(""));
    versions::publish(&store, loaded, clock.now()).await?;
    Ok((store, armed_rx))
}

/// Which node we are: nobody else listens here on this machine.
fn node_name(config: &Config) -> String {
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_string_lossy();
    format!("{machine}:{}", config.server.listen.port())
}

/// Says of how many sends the last run left no answer.
async fn tell_unknown(alerts: Option<&Alerts>, unknown: usize) -> Result<(), StartError> {
    if unknown == 0 {
        return Ok(());
    }
    tracing::warn!(sends = unknown, "the last run left sends without an answer");
    match alerts {
        Some(alerts) => Ok(alerts.started_with_unknown_sends(unknown).await?),
        None => Ok(()),
    }
}

async fn listen(addr: SocketAddr) -> Result<Listener, StartError> {
    let listener = Listener::bind(addr).await;
    listener.map_err(|source| StartError::Listen { addr, source })
}

/// Why dripwheel does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Files with problems; nothing was changed.
    #[error("{}", render_all(.0, false))]
    Problems(Vec<Problem>),
    #[error("account `{account}`: {what}")]
    Setting { account: String, what: String },
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("listen on {addr}: {source}; choose another address in server.listen")]
    Listen {
        addr: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("alerts.secret: is no signing secret; write `whsec_` and the base64 of 24 to 64 bytes")]
    AlertSecret,
    #[error("the HTTP client cannot be built")]
    Http(#[source] reqwest::Error),
}
