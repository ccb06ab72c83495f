//! The console: pages that show what the store knows and let a person enroll, cancel, pause and
//! resume.
//!
//! Rendered here, in English and Chinese, whole without JavaScript; with it a page renews itself
//! when something has changed. Nothing is loaded from elsewhere. Deliberately absent: settings,
//! which are files, and any rule, which journey and policy have.

mod account_acts;
mod acts;
mod broadcast_acts;
mod door;
mod files;
mod live;
mod pages;
mod session;
mod shown;
mod text;

use std::fmt;
use std::sync::Arc;

use poem::middleware::{CatchPanic, CookieJarManager};
use poem::{Endpoint, EndpointExt, Response, Route, get, post};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::sender::quota::Quotas;
use crate::store::Store;

use door::Door;
use live::Live;
use session::Sessions;

/// Who may come in.
#[derive(Clone)]
pub enum Access {
    /// Whoever reaches it, under a loopback name; may do everything.
    Open,
    /// Whoever presents a key that is on this ring.
    Keys(Arc<dyn Keys>),
}

/// The keys that open the console.
pub trait Keys: Send + Sync {
    /// Whose key it is, and the mark to know it by later; `None` for nobody's.
    fn admit(&self, presented: &str) -> Option<(Visitor, String)>;

    /// Whose key has this mark; `None` once it is nobody's any more.
    fn marked(&self, mark: &str) -> Option<Visitor>;
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Keys(_) => "Keys",
        })
    }
}

/// Who looks at the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// The operator's name for the key; empty in an open console.
    pub name: String,
    /// May enroll and cancel.
    pub write: bool,
}

/// What the console works with.
#[derive(Debug)]
pub struct ConsoleState {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    sessions: Sessions,
    live: Live,
    /// `None` where nothing is sent.
    quotas: Option<Arc<Quotas>>,
}

impl ConsoleState {
    /// `tls` says whether the world reaches us by TLS: then cookies are only sent so. `stop` ends
    /// the streams that wait for changes.
    pub fn new(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        access: Access,
        tls: bool,
        stop: CancellationToken,
    ) -> Self {
        let live = Live::new(Arc::clone(&store), Arc::clone(&clock), stop);
        Self {
            clock,
            sessions: Sessions::new(Arc::clone(&store), access, tls),
            store,
            live,
            quotas: None,
        }
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

/// The pages, to be mounted at `/` behind everything else.
pub fn routes(state: Arc<ConsoleState>) -> impl Endpoint<Output = Response> + 'static {
    let follower = "/accounts/:key/followers/:openid";
    Route::new()
        .at("/", get(pages::show_overview))
        .at("/accounts/:key", get(pages::show_account))
        .at("/accounts/:key/pause", post(account_acts::pause))
        .at("/accounts/:key/resume", post(account_acts::resume))
        .at(
            "/accounts/:key/clear-quota",
            post(account_acts::clear_quota),
        )
        .at("/accounts/:key/followers", get(pages::show_followers))
        .at(follower, get(pages::show_follower))
        .at(format!("{follower}/enroll"), post(acts::enroll))
        .at(format!("{follower}/cancel"), post(acts::cancel))
        .at("/broadcasts", get(pages::show_broadcasts))
        .at("/broadcasts/:id", get(pages::show_broadcast))
        .at("/broadcasts/:id/:order", post(broadcast_acts::order))
        .at("/sequences/:name", get(pages::show_sequence))
        .at("/search", get(pages::search))
        .at("/events", get(live::events))
        .at("/login", get(acts::login_page).post(acts::login))
        .at("/logout", post(acts::logout))
        .at("/assets/console.css", get(files::style()))
        .at("/assets/console.js", get(files::script()))
        .at("/favicon.ico", get(files::icon()))
        .with(CatchPanic::new())
        .with(Door)
        .with(CookieJarManager::new())
        .data(state)
}
