//! What operators' tools ask for: `/healthz`, `/readyz` and `/metrics`.
//!
//! `/readyz` says 200 while every callback that comes here is taken durably, by the database or by
//! this node's spool, and 503 otherwise. So a node whose database is away keeps its callbacks; that
//! the console and the API have nothing to show then is in the body (`database`), not in the status.

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use moka::future::Cache;
use poem::http::StatusCode;
use poem::{Response, Route, endpoint, get};

use crate::inbound::spool::{Refused, Spool, Standing};
use crate::store::{Store, accounts, overview};

/// A writer that does not answer for so long is not ready.
const WRITER_ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// One look at the writer serves everybody who asks within this time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the tools are told from.
#[derive(Debug)]
pub struct OpsState {
    store: Arc<Store>,
    metrics: PrometheusHandle,
    /// What is wrong with accounts as configured; then the server is not ready.
    problems: Vec<String>,
    /// Takes callbacks while a shared database is away.
    spool: Option<Arc<Spool>>,
    looks: Cache<(), bool>,
}

impl OpsState {
    pub fn new(store: Arc<Store>, metrics: PrometheusHandle, problems: Vec<String>) -> Self {
        Self {
            store,
            metrics,
            problems,
            spool: None,
            looks: Cache::builder().time_to_live(LOOK_EVERY).build(),
        }
    }

    /// Tells of a spool too.
    #[must_use]
    pub fn with_spool(mut self, spool: Option<Arc<Spool>>) -> Self {
        self.spool = spool;
        self
    }

    /// Whether the writer answers: an empty transaction stands behind what it has to do.
    async fn writer_answers(&self) -> bool {
        let look = self.store.writer().cold(|_| Box::pin(async { Ok(()) }));
        let look = async {
            matches!(
                tokio::time::timeout(WRITER_ANSWERS_WITHIN, look).await,
                Ok(Ok(()))
            )
        };
        self.looks.get_with((), look).await
    }

    async fn ready(&self) -> Response {
        let spool = self.spool.as_ref().map(|spool| spool.standing());
        // A writer whose database is known to be away need not be waited for.
        let away = spool.is_some_and(|spool| !spool.reachable);
        let writer = !away && self.writer_answers().await;
        let takes = match spool {
            Some(spool) => {
                let reachable = spool.reachable && writer;
                Standing { reachable, ..spool }.takes_callbacks()
            }
            None => writer,
        };
        let ready = takes && self.problems.is_empty();
        let mut body = serde_json::json!({
            "ready": ready,
            "writer": if writer { "answers" } else { "does not answer" },
            "callbacks": match (takes, writer) {
                (true, true) => "stored",
                (true, false) => "kept in the spool",
                (false, _) => "answered 503",
            },
            "problems": self.problems,
        });
        if let Some(spool) = spool {
            body["database"] = if spool.reachable { "reachable" } else { "away" }.into();
            body["spool"] = serde_json::json!({
                "events": spool.events,
                "events_max": spool.events_max,
                "set_aside": spool.aside,
                "refuses": spool.refuses.map(Refused::word),
            });
        }
        let status = if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        Response::builder()
            .status(status)
            .content_type("application/json")
            .body(body.to_string())
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges take floats")]
    async fn metrics(&self) -> Response {
        if let Ok(bytes) = self.store.disk_bytes().await {
            metrics::gauge!("dripwheel_disk_bytes").set(bytes as f64);
        }
        if let Some(bytes) = self.store.wal_bytes() {
            metrics::gauge!("dripwheel_wal_bytes").set(bytes as f64);
        }
        let waiting = self.store.writer().waiting();
        metrics::gauge!("dripwheel_intake_waiting").set(waiting as f64);
        // A scrape that cannot read still tells what is counted in memory.
        for one in accounts::standings(self.store.read())
            .await
            .unwrap_or_default()
        {
            let paused = self.store.knowledge().pause(one.id).is_some();
            let needs =
                metrics::gauge!("dripwheel_account_attention", "account" => one.key.clone());
            needs.set(f64::from(u8::from(one.attention)));
            metrics::gauge!("dripwheel_account_paused", "account" => one.key)
                .set(f64::from(u8::from(paused)));
        }
        for account in self.store.knowledge().accounts().values() {
            if let Ok(due) = overview::due(self.store.read(), account.journey.id).await {
                let key = account.journey.key.clone();
                metrics::gauge!("dripwheel_due_deliveries", "account" => key).set(f64::from(due.n));
            }
        }
        Response::builder()
            .content_type("text/plain; version=0.0.4; charset=utf-8")
            .body(self.metrics.render())
    }
}

/// Adds the three paths to the server's.
pub fn mount(route: Route, state: Arc<OpsState>) -> Route {
    let (ready, measured) = (Arc::clone(&state), state);
    let alive = endpoint::make_sync(|_| "ok\n");
    let ready = endpoint::make(move |_| {
        let state = Arc::clone(&ready);
        async move { state.ready().await }
    });
    let measured = endpoint::make(move |_| {
        let state = Arc::clone(&measured);
        async move { state.metrics().await }
    });
    route
        .at("/healthz", get(alive))
        .at("/readyz", get(ready))
        .at("/metrics", get(measured))
}
