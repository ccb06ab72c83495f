//! The program as a value: every part built once and joined. `App::start` is what the commands run
//! and what tests start.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use metrics_exporter_prometheus::PrometheusHandle;
use poem::{EndpointExt, Route, Server};
use secrecy::ExposeSecret;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{self, CallbackMode, Config, directory};
use crate::inbound::callback::{self, Doors, Entrance};
use crate::inbound::cipher::Cipher;
use crate::inbound::envelope::{Door, Mode, TIMESTAMP_WINDOW};
use crate::journey;
use crate::journey::ids::AccountId;
use crate::listener::Listener;
use crate::policy::account::Account;
use crate::policy::limiter::Rate;
use crate::policy::profile;
use crate::scheduler::{Scheduler, SchedulerSettings};
use crate::sender::platform::Platform;
use crate::sender::shelf::StoreShelf;
use crate::sender::wechat::{WechatClient, WechatSettings, http_client};
use crate::sender::{Sender, SenderSettings};
use crate::store::accounts::{self, NewAccount};
use crate::store::assets::Asset;
use crate::store::versions::{self, NewVersion};
use crate::store::{self, Store, StoreSettings};
use crate::yaml::{Problem, render_all};

/// Deliveries on their way from the wheel to the sender; what does not fit is read from its rows.
const DUE_QUEUE_MAX: usize = 1024;

/// Connections that send nothing for so long are closed.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Longest wait for requests under way at shutdown: a callback's own deadline.
const REQUESTS_DRAIN_MAX: Duration = Duration::from_secs(6);

/// A running dripwheel.
#[derive(Debug)]
pub struct App {
    addr: SocketAddr,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    sequences: std::path::PathBuf,
    /// Stops taking callbacks and handing out work.
    stop: CancellationToken,
    tasks: Vec<(&'static str, JoinHandle<()>)>,
}

impl App {
    /// Builds and starts every part.
    ///
    /// # Errors
    /// Whatever keeps it from starting, in words that say what to change.
    pub async fn start(
        config: &Config,
        clock: Arc<dyn Clock>,
        metrics: Option<PrometheusHandle>,
    ) -> Result<Self, StartError> {
        let loaded = load_sequences(&config.sequences.dir)?;
        let settings = StoreSettings {
            url: config.database.url.clone(),
            lead: config.wheel.lead,
        };
        let (store, armed_rx) = Store::open(&settings, Arc::clone(&clock)).await?;
        let known = config.accounts.iter().map(|one| account(one, config));
        accounts::configure(&store, known.collect::<Result<_, _>>()?).await?;
        versions::publish(&store, loaded, clock.now()).await?;
        let doors = Arc::new(doors(config, &store, &clock)?);
        let platforms = platforms(config, &store, &clock)?;

        let stop = CancellationToken::new();
        let (due_tx, due_rx) = mpsc::channel(DUE_QUEUE_MAX);
        let scheduler = Scheduler::new(
            Arc::clone(&store),
            Arc::clone(&clock),
            SchedulerSettings {
                ring_entries: config.wheel.ring_entries,
                lead: config.wheel.lead,
                sweep_every: config.wheel.sweep_every,
                promote_max: config.wheel.promote_max,
            },
            armed_rx,
            due_tx,
        );
        let sender = Sender::new(
            Arc::clone(&store),
            Arc::clone(&clock),
            SenderSettings {
                in_flight_max: config.sender.in_flight,
                queue_max: config.wheel.ring_entries,
            },
            platforms,
            due_rx,
        );
        let unknown = sender.recover().await?;
        if unknown > 0 {
            tracing::warn!(sends = unknown, "the last run left sends without an answer");
        }
        let listener = Listener::bind(config.server.listen)
            .await
            .map_err(|source| StartError::Listen {
                addr: config.server.listen,
                source,
            })?;
        let addr = listener.addr().unwrap_or(config.server.listen);
        let routes = Route::new().nest("/callback", callback::routes(doors));
        let tasks = vec![
            (
                "server",
                tokio::spawn(serve(listener, routes, stop.clone())),
            ),
            ("scheduler", tokio::spawn(scheduler.run(stop.clone()))),
            ("sender", tokio::spawn(sender.run(stop.clone()))),
        ];
        tracing::info!(%addr, accounts = config.accounts.len(), epoch = store.epoch(), "started");
        Ok(Self {
            addr,
            store,
            clock,
            sequences: config.sequences.dir.clone(),
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
        let loaded = load_sequences(&self.sequences)?;
        Ok(versions::publish(&self.store, loaded, self.clock.now()).await?)
    }

    /// Stops in order: no new callbacks and turns, attempts under way are finished and settled, the
    /// store is closed.
    pub async fn stop(self) {
        self.stop.cancel();
        for (name, task) in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, part = name, "ended badly");
            }
        }
        self.store.close().await;
        tracing::info!("stopped");
    }
}

async fn serve(listener: Listener, routes: Route, stop: CancellationToken) {
    let served = Server::new_with_acceptor(listener)
        .name("dripwheel")
        .idle_timeout(IDLE_MAX)
        .run_with_graceful_shutdown(
            routes.catch_all_error(problem),
            stop.cancelled(),
            Some(REQUESTS_DRAIN_MAX),
        )
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "server ended");
    }
}

/// Errors of the router itself, such as an unknown path.
async fn problem(error: poem::Error) -> poem::Response {
    error.into_response()
}

/// Reads and checks the sequences directory.
fn load_sequences(dir: &std::path::Path) -> Result<Vec<NewVersion>, StartError> {
    let loaded = directory::load_dir(dir);
    if !loaded.problems.is_empty() {
        return Err(StartError::Problems(loaded.problems));
    }
    loaded.sequences.iter().map(new_version).collect()
}

fn new_version(source: &directory::Source) -> Result<NewVersion, StartError> {
    let files = source.assets.iter().map(|asset| {
        let bytes = asset
            .read()
            .map_err(|why| StartError::Problems(vec![Problem::of_file(&source.file, why)]))?;
        Ok(Asset {
            sha256: asset.sha256.clone(),
            name: asset.file.clone(),
            mime: asset.mime.to_owned(),
            bytes,
        })
    });
    Ok(NewVersion {
        sequence: source.sequence.name.clone(),
        hash: source.hash.clone(),
        source: source.text.clone(),
        assets: source.asset_hashes(),
        files: files.collect::<Result<_, StartError>>()?,
    })
}

fn account(account: &config::Account, config: &Config) -> Result<NewAccount, StartError> {
    let known = || {
        let names = profile::shipped().iter().map(|one| one.name.clone());
        names.collect::<Vec<_>>().join(", ")
    };
    let profile = profile::named(&account.profile).ok_or_else(|| StartError::Setting {
        account: account.key.clone(),
        what: format!(
            "there is no profile `{}`: use one of {}",
            account.profile,
            known()
        ),
    })?;
    let zone = TimeZone::get(&account.timezone).map_err(|error| StartError::Setting {
        account: account.key.clone(),
        what: format!("timezone: {error}"),
    })?;
    Ok(NewAccount {
        account: Account {
            journey: journey::account::Account {
                id: AccountId(0),
                key: account.key.clone(),
                name: account.name.clone(),
                zone,
            },
            profile,
            rate: Rate {
                per_second: Some(account.rate.per_second),
                per_minute: Some(account.rate.per_minute),
                per_day: Some(account.rate.per_day),
            },
            in_flight_max: account
                .in_flight
                .unwrap_or(config.sender.per_account_in_flight),
        },
        platform: "wechat".to_owned(),
        app_id: account.app_id.clone(),
    })
}

fn doors(config: &Config, store: &Arc<Store>, clock: &Arc<dyn Clock>) -> Result<Doors, StartError> {
    let mut entrances = HashMap::new();
    for account in &config.accounts {
        let known = store.knowledge().account_named(&account.key);
        let Some(known) = known else { continue };
        let keys: Vec<_> = [
            &account.encoding_aes_key,
            &account.encoding_aes_key_previous,
        ]
        .into_iter()
        .flatten()
        .map(ExposeSecret::expose_secret)
        .collect();
        let cipher = if keys.is_empty() {
            None
        } else {
            let cipher = Cipher::new(&account.app_id, &keys);
            Some(cipher.map_err(|error| StartError::Setting {
                account: account.key.clone(),
                what: format!("encoding_aes_key: {error}"),
            })?)
        };
        let door = Door {
            token: account.token.clone(),
            previous_token: None,
            cipher,
            mode: match account.mode {
                CallbackMode::Safe => Mode::Safe,
                CallbackMode::Compat => Mode::Compat,
                CallbackMode::Plain => Mode::Plain,
            },
            timestamp_window: TIMESTAMP_WINDOW,
        };
        let entrance = Entrance {
            account: known.journey.id,
            door,
        };
        entrances.insert(account.key.clone(), entrance);
    }
    Ok(Doors::new(
        entrances,
        Arc::clone(store),
        Arc::clone(clock),
        config.server.callback_body_max,
    ))
}

fn platforms(
    config: &Config,
    store: &Arc<Store>,
    clock: &Arc<dyn Clock>,
) -> Result<Vec<Arc<dyn Platform>>, StartError> {
    let http = http_client(config.sender.connect_timeout).map_err(StartError::Http)?;
    let shelf = Arc::new(StoreShelf(Arc::clone(store)));
    let mut platforms: Vec<Arc<dyn Platform>> = Vec::new();
    for account in &config.accounts {
        let Some(known) = store.knowledge().account_named(&account.key) else {
            continue;
        };
        let api_base = account.api_base.parse().map_err(|_| StartError::Setting {
            account: account.key.clone(),
            what: format!("api_base: `{}` is no URL", account.api_base),
        })?;
        let settings = WechatSettings {
            account: known.journey.id,
            app_id: account.app_id.clone(),
            app_secret: account.app_secret.clone(),
            api_base,
            attempt_timeout: config.sender.attempt_timeout,
            connect_timeout: config.sender.connect_timeout,
            allow_private_media: false,
        };
        let (shelf, clock) = (shelf.clone(), Arc::clone(clock));
        platforms.push(Arc::new(WechatClient::new(
            settings,
            shelf,
            clock,
            http.clone(),
        )));
    }
    Ok(platforms)
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
    #[error("the HTTP client cannot be built")]
    Http(#[source] reqwest::Error),
}
