//! The sandbox: the WeChat platform, played by us on a port of its own.
//!
//! It speaks the wire protocol from the server's side (tokens, every carrier of messages, media,
//! users and tags, quotas, error codes), pushes encrypted callbacks when a follower acts or a
//! message is done, enforces grants and permissions by its own reading of the rules, shows a phone
//! in the browser, and breaks on demand in every way a platform can. It plays its side toward
//! third-party platforms as well, and the check that they must pass. It remembers what really
//! arrived, so that tests can ask it instead of us.
//!
//! With a state file a restart goes on where it stopped (`snapshot` says with what); without one
//! it is a new platform. Deliberately absent: TLS, and any rule of the product's own `policy`.

mod accounts;
mod act;
mod answer;
mod callback;
mod carrier;
mod chat;
mod component;
mod conformance;
mod control;
mod errcode;
mod event;
mod fault;
mod fields;
mod followers;
mod grant;
mod guard;
mod keeper;
mod listener;
mod load;
mod mass;
mod media;
mod message;
mod notice;
mod once;
mod page;
mod platform;
mod quota;
mod random;
mod record;
mod reply;
mod result;
mod routes;
mod rules;
mod send;
mod service;
mod settings;
mod snapshot;
mod spoil;
mod tags;
mod tokens;
mod users;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::ExposeSecret;
use thiserror::Error;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use callback::{Attempt, Pushed};
pub use carrier::Carrier;
pub use chat::{Author, ChatLine};
pub use component::{
    AccountsAdded, Act, Authorized, AuthorizerKind, AuthorizerState, ComponentAccount,
    ComponentAct, ComponentRules, ComponentState, EventPushed, NewAccounts, SandboxComponent,
};
pub use conformance::{
    ConformanceOptions, ConformanceReport, ConformanceStep, ConformanceVerdict, GROUPS_MAX,
};
pub use control::{
    AccountState, Control, ControlError, FollowersAdded, NewFollowers, SandboxState,
};
pub use event::{Action, PopupAnswer};
pub use fault::{Fault, FaultKind, FaultState};
pub use followers::Follower;
pub use grant::{Cause, Grant};
pub use keeper::StateError;
pub use load::{Burst, BurstAction, BurstReport};
pub use media::Media;
pub use message::{Choice, Shown};
pub use platform::{
    Asked, PlatformAct, PlatformSandbox, PlatformSettings, Played, Received, SEND, Told,
};
pub use quota::QuotaState;
pub use record::{Sent, SentWithBody};
pub use rules::{AccountKind, AccountRules, CallQuota, Stacking, Template, TemplateKind};
pub use settings::{
    Format, MenuButton, Mode, Profile, SandboxAccount, SandboxLimits, SandboxSettings,
};

use crate::clock::{Clock, Timestamp};
use crate::inbound::cipher::{Cipher, KeyError};

/// How long open connections may go on after a stop.
const STOP_PATIENCE: Duration = Duration::from_millis(200);

/// Accounts that may be added under components while it runs.
const LATER_ACCOUNTS_MAX: usize = 10_000;

/// Why a sandbox did not start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("the sandbox needs at least one account or component")]
    NoAccount,
    #[error("two accounts of the sandbox have the app id {0}")]
    SameAppId(String),
    #[error("account {0} of the sandbox needs a callback URL that begins with http:// or https://")]
    CallbackUrl(String),
    #[error(
        "component {0} of the sandbox needs an event URL and a message URL that contains $APPID$"
    )]
    ComponentUrl(String),
    #[error("account {app_id} of the sandbox has rules that cannot be played: {problem}")]
    Rules { app_id: String, problem: String },
    #[error("{app_id} cannot encrypt in the sandbox")]
    Key { app_id: String, source: KeyError },
    #[error("open the sandbox's record file {}", path.display())]
    Record { path: PathBuf, source: io::Error },
    #[error("go on from the sandbox's state file")]
    State(#[from] StateError),
    #[error("listen on {addr}")]
    Listen { addr: SocketAddr, source: io::Error },
    #[error("prepare the sandbox's calls to callbacks")]
    Client(#[source] reqwest::Error),
}

/// The way to start one.
#[derive(Clone, Copy, Debug)]
pub struct Sandbox;

impl Sandbox {
    /// Starts a platform that lives in the time of `clock`. Needs a running tokio runtime.
    pub async fn start(
        settings: SandboxSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Running, StartError> {
        let connections = listener::Connections::default();
        let addr = settings.listen;
        let door = listener::Door::bind(addr, connections.clone()).await;
        let door = door.map_err(|source| StartError::Listen { addr, source })?;
        let addr = door.addr();
        let state_file = settings.state_file.clone();
        let mut world = World::new(settings, clock, addr, connections)?;
        let keeper = match state_file {
            None => None,
            Some(path) => Some(Arc::new(keeper::Keeper::open(&path, &mut world)?)),
        };
        let world = Arc::new(world);
        let keeper = keeper.map(|keeper| {
            let saving = tokio::spawn(Arc::clone(&keeper).run(Arc::clone(&world)));
            (keeper, saving)
        });
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let service = service::Service::new(Arc::clone(&world));
        let task = tokio::spawn(async move {
            poem::Server::new_with_acceptor(door)
                .run_with_graceful_shutdown(service, stopped.cancelled(), Some(STOP_PATIENCE))
                .await
        });
        component::keep_pushing_tickets(&world);
        tracing::info!(%addr, "the sandbox is open");
        Ok(Running {
            addr,
            world,
            keeper,
            stop,
            task,
        })
    }
}

/// A running sandbox.
#[derive(Debug)]
pub struct Running {
    /// Where it listens, with the real port.
    pub addr: SocketAddr,
    world: Arc<World>,
    /// What keeps the state, and the task that saves it now and then.
    keeper: Option<(Arc<keeper::Keeper>, JoinHandle<()>)>,
    stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl Running {
    /// The operations of the control API, in process.
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.world))
    }

    /// Closes the port and every connection, and saves what is to outlive it.
    pub async fn stop(self) {
        self.stop.cancel();
        self.world.closed.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the sandbox did not stop in order");
        }
        if let Some((keeper, saving)) = self.keeper {
            // A save that is under way ends first: nothing is written after this function.
            saving.await.ok();
            keeper.save_changes(&self.world).await;
        }
    }
}

/// Everything there is on this platform.
struct World {
    clock: Arc<dyn Clock>,
    addr: SocketAddr,
    accounts: accounts::Accounts,
    components: component::Components,
    limits: SandboxLimits,
    tokens: tokens::Tokens,
    shelf: media::Shelf,
    faults: fault::Faults,
    record: record::Record,
    chats: chat::Chats,
    client: reqwest::Client,
    connections: listener::Connections,
    /// Tells open pages whose phone changed.
    changes: broadcast::Sender<Change>,
    /// Callers that followed a redirect they should not have.
    trapped: AtomicU64,
    /// Something changed that the state file does not have yet.
    is_unsaved: AtomicBool,
    /// Cancelled when the sandbox stops, so that open event streams and endless tasks end.
    closed: CancellationToken,
}

/// One official account.
#[derive(Debug)]
struct Account {
    index: usize,
    app_id: Arc<str>,
    settings: SandboxAccount,
    callback_url: url::Url,
    cipher: Cipher,
    kind: AuthorizerKind,
    /// Without one, only a component can take its callbacks.
    has_own_server: bool,
    followers: followers::Followers,
    quotas: quota::Quotas,
    /// Names that callers gave to template messages.
    notices: once::Once,
    mass: mass::Mass,
    tags: tags::Tags,
    /// First characters of every openid, as on the platform.
    openid_prefix: String,
    next_msg_id: AtomicU64,
    /// Verdicts of custom/send by code.
    verdicts: Mutex<BTreeMap<i32, u64>>,
    /// The newest pushes, oldest first.
    pushes: Mutex<VecDeque<callback::PushLine>>,
}

/// Something happened on a phone.
#[derive(Clone, Debug)]
struct Change {
    account: usize,
    openid: Arc<str>,
}

impl fmt::Debug for World {
    /// Names the sandbox; what it holds are tokens and people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

impl World {
    fn new(
        settings: SandboxSettings,
        clock: Arc<dyn Clock>,
        addr: SocketAddr,
        connections: listener::Connections,
    ) -> Result<Self, StartError> {
        let limits = settings.limits;
        let now = clock.now();
        let components = component::Components::new(settings.components)?;
        if settings.accounts.is_empty() && components.is_empty() {
            return Err(StartError::NoAccount);
        }
        let later = if components.is_empty() {
            0
        } else {
            LATER_ACCOUNTS_MAX
        };
        let accounts_max = settings.accounts.len() + later;
        let accounts = accounts::Accounts::new(accounts_max);
        for account in settings.accounts {
            let app_id = account.app_id.clone();
            let make = |index| Account::new(index, account, limits, now);
            accounts.add(&app_id, make).map_err(|error| match error {
                accounts::NotAdded::Made(error) => error,
                _ => StartError::SameAppId(app_id.clone()),
            })?;
        }
        let record = record::Record::open(
            settings.record_file.as_deref(),
            limits.record_entries_max,
            limits.record_bodies_max,
        )
        .map_err(|source| StartError::Record {
            path: settings.record_file.unwrap_or_default(),
            source,
        })?;
        let world = Self {
            clock,
            addr,
            tokens: tokens::Tokens::new(accounts_max),
            accounts,
            components,
            limits,
            shelf: media::Shelf::new(limits.media_bytes_max),
            faults: fault::Faults::default(),
            record,
            chats: chat::Chats::new(limits.chat_lines_max),
            client: callback::client(limits).map_err(StartError::Client)?,
            connections,
            changes: broadcast::Sender::new(256),
            trapped: AtomicU64::new(0),
            is_unsaved: AtomicBool::new(false),
            closed: CancellationToken::new(),
        };
        for component in world.components.iter() {
            for account in &component.settings.accounts {
                let added = world.add_account(account);
                added.map_err(|_| StartError::SameAppId(account.app_id.clone()))?;
            }
        }
        Ok(world)
    }

    fn account(&self, app_id: &str) -> Option<&Account> {
        self.accounts.get(self.accounts.index_of(app_id)?)
    }

    /// Something changed that is to outlive a restart.
    fn touch(&self) {
        self.is_unsaved.store(true, Ordering::Release);
    }

    /// Something changed on a phone: tells open pages, if there are any.
    fn changed(&self, account: usize, openid: &Arc<str>) {
        self.touch();
        if self.changes.receiver_count() > 0 {
            let openid = Arc::clone(openid);
            // No receiver left in the meantime is no loss.
            self.changes.send(Change { account, openid }).ok();
        }
    }

    /// Where a caller lands who follows a redirect.
    fn trap_url(&self) -> String {
        format!("http://{}/sandbox/trap", self.addr)
    }
}

impl Account {
    fn new(
        index: usize,
        settings: SandboxAccount,
        limits: SandboxLimits,
        now: Timestamp,
    ) -> Result<Self, StartError> {
        let key = settings.encoding_aes_key.expose_secret();
        let cipher = Cipher::new(&settings.app_id, &[key]).map_err(|source| StartError::Key {
            app_id: settings.app_id.clone(),
            source,
        })?;
        let callback_url = url::Url::parse(&settings.callback_url)
            .ok()
            .filter(|url| ["http", "https"].contains(&url.scheme()))
            .ok_or_else(|| StartError::CallbackUrl(settings.app_id.clone()))?;
        if let Some(problem) = settings.rules.problem() {
            let app_id = settings.app_id;
            return Err(StartError::Rules { app_id, problem });
        }
        // The platform's message ids have 17 digits; these go on after a restart.
        let first_msg_id = u64::try_from(now.0).unwrap_or(1).saturating_mul(10_000);
        Ok(Self {
            index,
            app_id: settings.app_id.as_str().into(),
            callback_url,
            cipher,
            kind: AuthorizerKind::default(),
            has_own_server: true,
            followers: followers::Followers::new(limits.followers_max),
            quotas: quota::Quotas::new(&settings.rules),
            notices: once::Once::new(notice::CLIENT_ID_LIFE),
            mass: mass::Mass::new(),
            tags: tags::Tags::default(),
            openid_prefix: format!("o{}", random::text(6)),
            next_msg_id: AtomicU64::new(first_msg_id),
            verdicts: Mutex::default(),
            pushes: Mutex::default(),
            settings,
        })
    }

    /// Lets a call in: 48001 where the account may not call it, 45011 and 45009 where it called too
    /// often.
    fn admit(&self, api: quota::Api, now: Timestamp) -> Result<(), errcode::Refusal> {
        self.settings.rules.permit(api)?;
        self.quotas.spend(api, now)
    }

    /// How grants open here.
    fn grant_rule(&self) -> grant::Rule {
        grant::Rule {
            profile: self.settings.profile,
            stacking: self.settings.rules.stacking,
            last_instant_counts: self.settings.rules.last_instant_counts,
        }
    }

    /// An id that no message had before.
    fn msg_id(&self) -> u64 {
        self.next_msg_id.fetch_add(1, Ordering::Relaxed)
    }

    fn count_verdict(&self, code: i32) {
        *lock(&self.verdicts).entry(code).or_default() += 1;
    }
}

/// Locks without minding a panic elsewhere: every critical section here leaves whole values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
