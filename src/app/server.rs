//! The HTTP server: every door on one port.

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use poem::{EndpointExt, Route, Server, get};
use tokio_util::sync::CancellationToken;

use crate::alert::Alerts;
use crate::api::keys::{Caller, Keyring};
use crate::api::ops::{self, OpsState};
use crate::api::{self, ApiState, SecurityHeaders};
use crate::clock::Clock;
use crate::config::{Config, Console};
use crate::console::{self, Access, ConsoleState, Visitor};
use crate::inbound::callback::{self, Doors};
use crate::inbound::click::{self, ClickDoor};
use crate::inbound::component::{self, ComponentDoors};
use crate::inbound::files;
use crate::inbound::spool::Spool;
use crate::listener::Listener;
use crate::sender::quota::Quotas;
use crate::store::Store;

/// Connections that send nothing for so long are closed.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Longest wait for requests under way at shutdown: a callback's own deadline.
const REQUESTS_DRAIN_MAX: Duration = Duration::from_secs(6);

/// What the doors lead to.
#[derive(Debug)]
pub(super) struct Doorway {
    pub(super) store: Arc<Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) doors: Arc<Doors>,
    pub(super) component_doors: Arc<ComponentDoors>,
    pub(super) clicks: Arc<ClickDoor>,
    pub(super) quotas: Arc<Quotas>,
    pub(super) alerts: Option<Arc<Alerts>>,
    pub(super) spool: Option<Arc<Spool>>,
    pub(super) metrics: PrometheusHandle,
    pub(super) stop: CancellationToken,
}

/// Serves callbacks, API, console and the operators' paths until `doorway.stop`.
pub(super) async fn serve(listener: Listener, doorway: Doorway, routes: Route, tls: bool) {
    let catching_up = tokio::spawn(Arc::clone(&doorway.doors).catch_up());
    let served = Server::new_with_acceptor(listener)
        .name("dripwheel")
        .idle_timeout(IDLE_MAX)
        .run_with_graceful_shutdown(
            routes.with(SecurityHeaders { tls }),
            doorway.stop.cancelled(),
            Some(REQUESTS_DRAIN_MAX),
        )
        .await;
    // What it has not read by now is read with the next event.
    catching_up.abort();
    if let Err(error) = served {
        tracing::error!(%error, "server ended");
    }
}

/// Whether the world reaches the server by TLS, through a proxy in front of it.
pub(super) fn tls(config: &Config) -> bool {
    let url = config.server.public_url.as_deref().unwrap_or("");
    url.starts_with("https://")
}

/// Every path of the server.
pub(super) fn routes(config: &Config, doorway: &Doorway) -> Route {
    let (store, clock) = (&doorway.store, &doorway.clock);
    let keys = Arc::new(Keyring::new(&config.server.api_keys));
    let access = match config.server.console {
        Console::Open => Access::Open,
        Console::Key => {
            let keys = Arc::clone(&keys);
            Access::Keys(Arc::new(ByApiKeys(keys)))
        }
    };
    let api = ApiState::new(Arc::clone(store), Arc::clone(clock), keys)
        .with_quotas(Arc::clone(&doorway.quotas))
        .with_alerts(doorway.alerts.clone());
    let stop = doorway.stop.clone();
    let pages = ConsoleState::new(
        Arc::clone(store),
        Arc::clone(clock),
        access,
        tls(config),
        stop,
    )
    .with_quotas(Arc::clone(&doorway.quotas));
    let ops = OpsState::new(Arc::clone(store), doorway.metrics.clone(), Vec::new())
        .with_spool(doorway.spool.clone());
    let routes = Route::new()
        .nest("/callback", callback::routes(Arc::clone(&doorway.doors)))
        .nest(
            "/component",
            component::routes(Arc::clone(&doorway.component_doors)),
        )
        .nest("/c", click::routes(Arc::clone(&doorway.clicks)))
        .nest("/files", files::routes(Arc::clone(store)))
        .nest("/api/v1", api::routes(Arc::new(api)))
        .at("/docs", get(api::docs()))
        .nest("/", console::routes(Arc::new(pages)));
    ops::mount(routes, Arc::new(ops))
}

/// The API's keys, which open the console too.
#[derive(Debug)]
pub struct ByApiKeys(pub Arc<Keyring>);

impl console::Keys for ByApiKeys {
    fn admit(&self, presented: &str) -> Option<(Visitor, String)> {
        let visitor = visitor(self.0.admit(presented)?)?;
        Some((visitor, Keyring::mark(presented)))
    }

    fn marked(&self, mark: &str) -> Option<Visitor> {
        visitor(self.0.marked(mark)?)
    }
}

fn visitor(caller: &Caller) -> Option<Visitor> {
    caller.read.then(|| Visitor {
        name: caller.name.clone(),
        write: caller.write,
    })
}
