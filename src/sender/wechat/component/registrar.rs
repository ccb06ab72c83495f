//! Takes accounts in when they authorize a component, and lets them go.
//!
//! An announced authorization is a row before it is anything else, so a restart goes on with it. What
//! was missed while we were away is found by `compare`.
//!
//! Source: the platform's page "authorization events"; permission sets are those of its page
//! "permission set list".

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::authorizer::AuthorizerToken;
use super::pooled::{claim, pooled};
use super::{AuthorizerInfo, Component, Granted, not_stored};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::journey::ids::AccountId;
use crate::policy::account::Account;
use crate::sender::platform::{Answer, AnswerClass};
use crate::sender::wechat::{Clients, Shelf, WechatClient, WechatSettings};
use crate::store::Store;
use crate::store::adopted;
use crate::store::authorizers::{self, Authorizer, Decision, State};
use crate::store::replays::{self, Known, Request};

/// 消息管理: without it nothing may be sent.
const MESSAGES: i64 = 1;

/// Pause after an exchange that failed.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// How often it is looked for what other nodes have taken in, or leave to us.
pub(super) const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// Accounts that are asked about at the same time.
pub(super) const AT_ONCE: usize = 8;

/// Exchanged codes that are remembered, and how long: longer than a code lives.
const CODES_MAX: u64 = 10_000;
const CODES_FOR: Duration = Duration::from_secs(1800);

/// Longest that a code is waited for that another node exchanges, and between two looks.
const EXCHANGED_WITHIN: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What a registrar works with.
#[derive(Debug)]
pub struct RegistrarSettings {
    /// What every account of the component is like; id, key and name are its own.
    pub like: Account,
    /// App ids of the server's own accounts, which are never taken in a second time.
    pub own_accounts: HashSet<String>,
    /// App ids that are never accounts: those of the platform's check.
    pub test_accounts: HashSet<String>,
    pub api_base: Url,
    pub attempt_timeout: Duration,
    pub connect_timeout: Duration,
}

/// What became of an authorization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub app_id: String,
    pub name: String,
    /// Why it does not send; empty when it does.
    pub reason: String,
}

/// Keeps the accounts of one component.
pub struct Registrar {
    pub(super) component: Component,
    pub(super) settings: RegistrarSettings,
    pub(super) store: Arc<Store>,
    pub(super) clock: Arc<dyn Clock>,
    clients: Arc<Clients>,
    shelf: Arc<dyn Shelf>,
    http: reqwest::Client,
    /// Codes that were exchanged; whoever comes with one of them is told the same.
    exchanged: moka::future::Cache<String, Taken>,
    /// Codes that came with the announcements of test accounts, by app id.
    pub(super) test_codes: moka::sync::Cache<String, SecretString>,
    announced: Notify,
    pub(super) ticket: Notify,
}

impl fmt::Debug for Registrar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar")
            .field("component", &self.component)
            .finish_non_exhaustive()
    }
}

impl Registrar {
    /// A registrar that puts the accounts' clients into `clients`.
    pub fn new(
        component: Component,
        settings: RegistrarSettings,
        clients: Arc<Clients>,
        shelf: Arc<dyn Shelf>,
        http: reqwest::Client,
    ) -> Self {
        let codes = |max| moka::sync::Cache::builder().max_capacity(max);
        Self {
            store: Arc::clone(&component.0.store),
            clock: Arc::clone(&component.0.clock),
            component,
            settings,
            clients,
            shelf,
            http,
            exchanged: moka::future::Cache::builder()
                .max_capacity(CODES_MAX)
                .time_to_live(CODES_FOR)
                .build(),
            test_codes: codes(64).time_to_live(CODES_FOR).build(),
            announced: Notify::new(),
            ticket: Notify::new(),
        }
    }

    /// The component's calls.
    pub fn component(&self) -> &Component {
        &self.component
    }

    /// Makes the accounts known that were here before the start.
    ///
    /// # Errors
    /// When the rows cannot be read or written.
    pub async fn load(&self) -> Result<usize, crate::store::Error> {
        let like = &self.settings.like;
        let is_other = |app_id: &str| self.is_other(app_id);
        let app_id = self.component.app_id();
        let loaded = adopted::load(&self.store, app_id, like, is_other).await?;
        loaded.iter().for_each(|one| self.let_in(one));
        Ok(loaded.len())
    }

    fn let_in(&self, one: &Authorizer) {
        if let Some(id) = one.account {
            self.clients.put(self.new_client(id, &one.app_id));
        }
    }

    /// Lets those in whom other nodes have taken in.
    async fn follow_forever(&self) {
        let knowledge = self.store.knowledge();
        // Whoever came between the start and now is looked for at once.
        let mut seen = None;
        while self.store.leases().are_shared() {
            let revision = knowledge.revision();
            if seen != Some(revision) {
                let is_other = |app_id: &str| self.is_other(app_id);
                let (app_id, like) = (self.component.app_id(), &self.settings.like);
                let ready = |one: &Authorizer| self.let_in(one);
                match adopted::follow(&self.store, app_id, like, is_other, ready).await {
                    Ok(()) => seen = Some(revision),
                    Err(error) => {
                        tracing::warn!(%error, "accounts of other nodes could not be read");
                    }
                }
            }
            tokio::time::sleep(FOLLOW_EVERY).await;
        }
    }

    fn is_other(&self, app_id: &str) -> bool {
        self.settings.own_accounts.contains(app_id) || self.settings.test_accounts.contains(app_id)
    }

    fn new_client(&self, account: AccountId, app_id: &str) -> Arc<WechatClient> {
        let settings = WechatSettings {
            account,
            app_id: app_id.to_owned(),
            // Its owner's secret is never ours.
            app_secret: SecretString::from(""),
            api_base: self.settings.api_base.clone(),
            attempt_timeout: self.settings.attempt_timeout,
            connect_timeout: self.settings.connect_timeout,
            allow_private_media: false,
        };
        let source = AuthorizerToken {
            component: self.component.clone(),
            account,
            app_id: app_id.to_owned(),
        };
        let (shelf, clock) = (Arc::clone(&self.shelf), Arc::clone(&self.clock));
        let name = authorizers::token_name(self.component.app_id(), app_id);
        let source = pooled(source, &self.store, name);
        Arc::new(WechatClient::with_source(
            &settings,
            source,
            shelf,
            clock,
            self.http.clone(),
        ))
    }

    /// Notes that an announcement was written.
    pub fn look(&self) {
        self.announced.notify_one();
    }

    /// Notes that a ticket came.
    pub fn look_at_ticket(&self) {
        self.ticket.notify_one();
        self.announced.notify_one();
    }

    /// Notes that the platform speaks of an account that is not known here.
    pub fn look_for_missed(&self) {
        self.component.0.missed.notify_one();
    }

    /// Remembers the code that came with the announcement of a test account.
    pub fn note_test_code(&self, app_id: &str, code: SecretString) {
        self.test_codes.insert(app_id.to_owned(), code);
    }

    /// Exchanges an authorization code and takes its account in. The same code again is told the same.
    ///
    /// # Errors
    /// The platform's refusal, or why there is no answer.
    pub async fn exchange(self: &Arc<Self>, code: SecretString) -> Result<Taken, Answer> {
        let this = Arc::clone(self);
        // In a task of its own: a code works once, so a visitor who leaves must not lose it.
        let exchanging = tokio::spawn(async move {
            let key = code.expose_secret().to_owned();
            let taken = this
                .exchanged
                .try_get_with(key, this.take_in_once(&code))
                .await;
            taken.map_err(|answer| Answer::clone(&answer))
        });
        exchanging.await.unwrap_or_else(|_| {
            let words = "the exchange of an authorization code was stopped";
            Err(Answer::without_code(AnswerClass::RetrySoon, words))
        })
    }

    /// Takes an account in, unless another node does with the same code: then what became of it there
    /// is told here.
    async fn take_in_once(&self, code: &SecretString) -> Result<Taken, Answer> {
        if !self.store.leases().are_shared() {
            return self.take_in(code).await;
        }
        let request = self.request(code)?;
        let give_up_at = Instant::now() + EXCHANGED_WITHIN;
        loop {
            let known = replays::claim(&self.store, &request, SystemClock.now()).await;
            match known.map_err(|error| not_stored(&error))?.0 {
                Known::New => break,
                Known::Answered(kept) => match serde_json::from_str(&kept) {
                    Ok(taken) => return Ok(taken),
                    Err(_) => break,
                },
                Known::BeingMade if Instant::now() >= give_up_at => {
                    let words = "another node exchanges the code, and is not done yet";
                    return Err(Answer::without_code(AnswerClass::RetrySoon, words));
                }
                Known::BeingMade => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
        let taken = self.take_in(code).await;
        let kept = taken.as_ref().ok();
        let kept = kept.and_then(|taken| serde_json::to_string(taken).ok());
        if let Err(error) = replays::answer(&self.store, &request, kept).await {
            tracing::warn!(%error, "other nodes are not told of an exchanged code");
        }
        taken
    }

    /// How nodes speak of a code, which is a secret.
    fn request(&self, code: &SecretString) -> Result<Request, Answer> {
        let hash = Sha256::new()
            .chain_update("exchange ")
            .chain_update(self.component.app_id())
            .chain_update(" ")
            .chain_update(code.expose_secret());
        let key = hash.finalize();
        Ok(Request {
            key: key.iter().map(|byte| format!("{byte:02x}")).collect(),
            request: String::new(),
            claim: claim()?,
        })
    }

    async fn take_in(&self, code: &SecretString) -> Result<Taken, Answer> {
        let moment = self.store.knowledge().authorizers().moment();
        let authorization = self.component.query_auth(code.expose_secret()).await?;
        let app_id = authorization.app_id;
        if self.settings.test_accounts.contains(&app_id) {
            return Ok(Taken {
                app_id,
                name: String::new(),
                reason: "a test account of the platform".to_owned(),
            });
        }
        let key = (self.component.app_id(), app_id.as_str());
        let now = self.clock.now();
        // The refresh token is in its row before anything else is asked.
        let kept = authorizers::keep(&self.store, key, &authorization.refresh_token, now).await;
        kept.map_err(|error| not_stored(&error))?;
        let info = self.component.info(&app_id).await;
        let info = info.map_err(|answer| {
            tracing::warn!(
                authorizer = app_id,
                reason = answer.detail,
                "account not described"
            );
        });
        let permissions = authorization.permissions;
        let about = (app_id.as_str(), permissions, info.ok());
        self.decide(about, now, moment, Some(authorization.token))
            .await
    }

    /// Who is taken in, and who may send.
    pub(super) async fn decide(
        &self,
        (app_id, permissions, info): (&str, Vec<i64>, Option<AuthorizerInfo>),
        authorized_at: Timestamp,
        moment: u64,
        token: Option<Granted>,
    ) -> Result<Taken, Answer> {
        let component = self.component.app_id();
        let before = authorizers::get(self.store.read(), component, app_id).await;
        let before = before.map_err(|error| not_stored(&error))?;
        let known = self.store.knowledge().authorizers().get(app_id);
        let other = known.filter(|known| known.component != component);
        // The client of another platform asks for tokens with that platform's authorization.
        let moves = other.is_some();
        let served = other.filter(|other| other.state != State::Withdrawn);
        let not_served = if self.settings.own_accounts.contains(app_id) {
            Some("it is one of the configured accounts: take it out of the configuration first")
        } else if served.is_some() {
            Some("it belongs to another third-party platform of this server")
        } else if info.as_ref().is_some_and(|info| info.is_mini_program) {
            Some("it is a mini program: only Official Accounts are served")
        } else {
            None
        };
        let reason = match not_served {
            Some(reason) => reason,
            None if permissions.contains(&MESSAGES) => "",
            None => {
                "permission set 1 (消息管理) is not granted: ask its owner to authorize again with it"
            }
        };
        let (name, original_id) = match info {
            Some(info) => (info.name, info.original_id),
            None => before.map_or_else(Default::default, |row| (row.name, row.original_id)),
        };
        let decision = Decision {
            component: component.to_owned(),
            app_id: app_id.to_owned(),
            name,
            original_id,
            permissions,
            state: match not_served {
                Some(_) => State::NotServed,
                None => State::Authorized,
            },
            reason: reason.to_owned(),
            authorized_at,
            moment,
        };
        let ready = |id: AccountId| {
            let client = self.clients.client(id).filter(|_| !moves);
            let client = client.unwrap_or_else(|| self.new_client(id, app_id));
            if let Some(token) = token {
                client.tokens.keep(token);
            }
            self.clients.put(client);
        };
        let (like, now) = (&self.settings.like, self.clock.now());
        let decided = authorizers::decide(&self.store, decision, like, now, ready).await;
        let decided = decided.map_err(|error| not_stored(&error))?;
        let Some(row) = decided else {
            let words = format!("{app_id} took its authorization back meanwhile");
            return Err(Answer::without_code(AnswerClass::NeedsAttention, words));
        };
        tracing::info!(
            authorizer = app_id,
            account.id = row.account.map_or(0, |id| id.0),
            standing = row.state.word(),
            reason = row.reason,
            "authorization taken in"
        );
        Ok(Taken {
            app_id: row.app_id.clone(),
            name: row.name.clone(),
            reason: row.reason.clone(),
        })
    }

    /// Keeps the accounts until stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let work = async {
            tokio::join!(
                self.exchange_forever(),
                self.reconcile_forever(),
                self.follow_forever(),
            )
        };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = work => {}
        }
    }

    async fn exchange_forever(self: &Arc<Self>) {
        loop {
            // A code works once: one node exchanges them all.
            let left = self.store.leases().hold_server() && self.exchange_announced().await;
            let again_at = self.clock.now().plus(TRY_AGAIN);
            let told_by_others = self.store.leases().are_shared() && !left;
            tokio::select! {
                () = self.announced.notified() => {}
                () = self.clock.sleep_until(again_at), if left => {}
                () = tokio::time::sleep(FOLLOW_EVERY), if told_by_others => {}
            }
        }
    }

    /// Exchanges the codes that wait; says whether some still do.
    async fn exchange_announced(self: &Arc<Self>) -> bool {
        let component = self.component.app_id();
        let announced = match authorizers::announced(self.store.read(), component).await {
            Ok(announced) => announced,
            Err(error) => {
                tracing::error!(%error, "announced authorizations could not be read");
                return true;
            }
        };
        let exchanged = stream::iter(announced).map(async |(app_id, code)| {
            let waits = match self.exchange(code.clone()).await {
                Ok(_) => false,
                Err(answer) => {
                    tracing::warn!(
                        authorizer = app_id,
                        reason = answer.detail,
                        "authorization code not exchanged"
                    );
                    // Without a code of the platform's, or with one that passes, it is tried again.
                    let passing = [AnswerClass::RetrySoon, AnswerClass::NextMinute];
                    passing.contains(&answer.class) || answer.class == AnswerClass::NextDay
                }
            };
            if waits {
                return true;
            }
            let key = (component, app_id.as_str());
            let forgotten = authorizers::forget_code(&self.store, key, &code).await;
            // A code that brought nothing may have been exchanged before a restart.
            let here = self.store.knowledge().authorizers().get(&app_id);
            if here.is_none_or(|here| here.state != State::Authorized) {
                self.component.0.missed.notify_one();
            }
            forgotten.is_err()
        });
        let waiting: Vec<bool> = exchanged.buffer_unordered(AT_ONCE).collect().await;
        waiting.contains(&true)
    }
}
