//! The API: `/api/v1`, its description and its page, and what operators' tools ask for.
//!
//! Every error is a `problem`; every list is cut into pages; a body is read up to a limit. The
//! description is generated from the code (`spec`), and a test holds the committed file to it.

mod accounts;
mod body;
mod broadcasts;
mod components;
mod csv;
mod cursor;
mod docs;
mod export;
mod followers;
mod headers;
mod health;
mod idempotency;
mod import;
pub mod keys;
mod links;
mod nodes;
pub mod ops;
mod problem;
mod statistics;
mod sync;
mod views;

use std::sync::Arc;

use poem::middleware::CatchPanic;
use poem::{Endpoint, EndpointExt};
use poem_openapi::{OpenApiService, Tags};

use crate::alert::Alerts;
use crate::clock::Clock;
use crate::sender::quota::Quotas;
use crate::store::Store;

pub use docs::docs;
pub use headers::SecurityHeaders;

use accounts::AccountsApi;
use body::BodyLimit;
use broadcasts::BroadcastsApi;
use components::ComponentsApi;
use export::ExportApi;
use followers::FollowersApi;
use health::HealthApi;
use idempotency::Replays;
use import::ImportApi;
use keys::Keyring;
use links::LinksApi;
use nodes::NodesApi;
use problem::Problems;
use statistics::StatisticsApi;
use sync::SyncApi;

/// Largest body of a request.
const BODY_MAX: usize = 64 * 1024;

/// Items of one page.
const PAGE_MAX: u32 = 200;

/// Items of a page when the caller names no limit.
const PAGE_DEFAULT: u32 = 50;

/// What the API works with.
#[derive(Debug)]
pub struct ApiState {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    keys: Arc<Keyring>,
    replays: Replays,
    /// `None` where nothing is sent.
    quotas: Option<Arc<Quotas>>,
    /// `None` when nobody is told.
    alerts: Option<Arc<Alerts>>,
}

impl ApiState {
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>, keys: Arc<Keyring>) -> Self {
        Self {
            clock,
            keys,
            replays: Replays::new(Arc::clone(&store)),
            store,
            quotas: None,
            alerts: None,
        }
    }

    /// Beside that, tries the way of alerts.
    #[must_use]
    pub fn with_alerts(self, alerts: Option<Arc<Alerts>>) -> Self {
        Self { alerts, ..self }
    }

    /// Beside what is written, tells of quotas and has them cleared.
    #[must_use]
    pub fn with_quotas(self, quotas: Arc<Quotas>) -> Self {
        Self {
            quotas: Some(quotas),
            ..self
        }
    }
}

/// Groups of operations on the API's page.
#[derive(Tags)]
enum Group {
    /// Accounts and what became of their sends.
    Accounts,
    /// Third-party platforms and who authorized them.
    Components,
    /// Sequences and their versions.
    Sequences,
    /// One message to many followers.
    Broadcasts,
    /// What people are told of.
    Alerts,
    /// Followers, their story and their passages.
    Followers,
    /// What became of messages, in numbers.
    Statistics,
    /// Links whose clicks are counted.
    Links,
    /// The processes that share the database.
    Nodes,
}

type Apis = (
    AccountsApi,
    HealthApi,
    ComponentsApi,
    FollowersApi,
    BroadcastsApi,
    SyncApi,
    StatisticsApi,
    LinksApi,
    ImportApi,
    ExportApi,
    NodesApi,
);

type Service = OpenApiService<Apis, ()>;

fn service() -> Service {
    OpenApiService::new(
        (
            AccountsApi,
            HealthApi,
            ComponentsApi,
            FollowersApi,
            BroadcastsApi,
            SyncApi,
            StatisticsApi,
            LinksApi,
            ImportApi,
            ExportApi,
            NodesApi,
        ),
        "dripwheel",
        env!("CARGO_PKG_VERSION"),
    )
    .summary("Follow-sequence messaging: a follow becomes a conversation")
    .description(
        "Lists come in pages: pass `next` of one page as `cursor` of the following one. A page \
         may hold fewer items than its limit, even none, while `next` is there. Instants are RFC \
         3339 in UTC. Errors are `application/problem+json`.",
    )
    .server("/api/v1")
}

/// The API, to be mounted at `/api/v1`.
pub fn routes(state: Arc<ApiState>) -> impl Endpoint<Output = poem::Response> + 'static {
    service()
        .data(state)
        .with(BodyLimit(BODY_MAX))
        .with(CatchPanic::new())
        .with(Problems)
}

/// The description of the API: OpenAPI as JSON, the same for the same code.
pub fn spec() -> String {
    let mut spec = service().spec();
    spec.push('\n');
    spec
}
