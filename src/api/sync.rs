//! Operations on syncs: comparing an account's followers with the platform's list.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};

use crate::api::accounts::named;
use crate::api::keys::Presented;
use crate::api::problem::{Code, Refusal};
use crate::api::views::date_or_never;
use crate::api::{ApiState, Group};
use crate::config::Scope;
use crate::journey::ids::AccountId;
use crate::store::syncs::{self, Phase, Reason, State, Sync};

#[derive(Debug)]
pub(super) struct SyncApi;

type StateOf<'a> = Data<&'a Arc<ApiState>>;

/// How a sync stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
enum Standing {
    /// None was ever begun.
    Never,
    Running,
    Completed,
    /// A person has to act; `detail` says what is wrong.
    Failed,
    Cancelled,
}

/// What a running sync is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
enum Doing {
    /// Reads the platform's list and takes in whom we missed.
    Listing,
    /// Asks for those whom the list did not have.
    Sweeping,
    /// Asks for everybody's language and tags.
    Refreshing,
}

/// Why a sync was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
enum Why {
    Asked,
    Downtime,
    Daily,
}

/// The latest sync of an account.
#[derive(Clone, Debug, Object)]
struct SyncView {
    account: String,
    /// Counts the account's syncs.
    number: i64,
    state: Standing,
    /// Absent unless it runs.
    phase: Option<Doing>,
    reason: Option<Why>,
    /// Whether everybody's language and tags are asked for too.
    refresh: bool,
    /// Followers, as the platform counts them; 0 before the first page.
    total: u32,
    /// Followers read from the platform's list.
    listed: u32,
    /// Who follows and was not known to.
    found: u32,
    /// Who was known to follow and does not.
    gone: u32,
    /// Passages begun.
    enrolled: u32,
    /// Followers whose language and tags were asked for.
    refreshed: u32,
    /// It waits until this instant, for a quota or after a failed call.
    waits_until: Option<DateTime<Utc>>,
    /// Why it waits, or why it failed.
    detail: Option<String>,
    started_at: Option<DateTime<Utc>>,
    /// When something was last written down.
    changed_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
}

impl SyncView {
    fn of(account: String, sync: Sync) -> Self {
        let begun = sync.state != State::Never;
        Self {
            account,
            number: sync.number,
            state: match sync.state {
                State::Never => Standing::Never,
                State::Running => Standing::Running,
                State::Completed => Standing::Completed,
                State::Failed => Standing::Failed,
                State::Cancelled => Standing::Cancelled,
            },
            phase: (sync.state == State::Running).then_some(match sync.phase {
                Phase::Listing => Doing::Listing,
                Phase::Sweeping => Doing::Sweeping,
                Phase::Refreshing => Doing::Refreshing,
            }),
            reason: begun.then_some(match sync.reason {
                Reason::Asked => Why::Asked,
                Reason::Downtime => Why::Downtime,
                Reason::Daily => Why::Daily,
            }),
            refresh: sync.refresh,
            total: sync.total,
            listed: sync.listed,
            found: sync.found,
            gone: sync.gone,
            enrolled: sync.enrolled,
            refreshed: sync.refreshed,
            waits_until: date_or_never(sync.resume_at),
            detail: Some(sync.detail).filter(|detail| !detail.is_empty()),
            started_at: date_or_never(sync.started_at),
            changed_at: date_or_never(sync.changed_at),
            ended_at: date_or_never(sync.ended_at),
        }
    }
}

#[derive(ApiResponse)]
enum Begun {
    /// It runs; ask for its progress.
    #[oai(status = 202)]
    Accepted(Json<SyncView>),
}

#[OpenApi]
impl SyncApi {
    /// Compares an account's followers with the platform's list
    ///
    /// Finds who followed or unfollowed while nobody could tell us. Goes on in the background,
    /// through restarts; one sync of an account runs at a time, and asking again does no harm.
    #[oai(
        path = "/accounts/:key/sync",
        method = "post",
        tag = "Group::Accounts",
        operation_id = "begin_sync"
    )]
    async fn begin(
        &self,
        presented: Presented,
        state: StateOf<'_>,
        /// The operator's name for the account.
        key: Path<String>,
        /// Ask for everybody's language and tags too.
        refresh: Query<Option<bool>>,
    ) -> Result<Begun, Refusal> {
        presented.caller().may(Scope::Write)?;
        let account = named(&state, &key.0).await?.id;
        if state.store.knowledge().account(account).is_none() {
            return Err(Refusal::new(
                Code::NoSuchAccount,
                "this account is not configured any more",
            ));
        }
        // Else it would run for ever: only WeChat's list of followers is read.
        let clients = state.quotas.as_ref().map(|quotas| quotas.clients());
        if clients.is_some_and(|clients| clients.client(account).is_none()) {
            let detail = "this account's platform has no list of followers that we read";
            return Err(Refusal::new(Code::NoPlatform, detail));
        }
        let now = state.clock.now();
        let refresh = refresh.0.unwrap_or(false);
        syncs::begin(&state.store, vec![account], Reason::Asked, refresh, now).await?;
        Ok(Begun::Accepted(latest(&state, key.0, account).await?))
    }

    /// Tells how far an account's latest sync has come
    #[oai(
        path = "/accounts/:key/sync",
        method = "get",
        tag = "Group::Accounts",
        operation_id = "get_sync"
    )]
    async fn get(
        &self,
        presented: Presented,
        state: StateOf<'_>,
        /// The operator's name for the account.
        key: Path<String>,
    ) -> Result<Json<SyncView>, Refusal> {
        presented.caller().may(Scope::Read)?;
        let account = named(&state, &key.0).await?.id;
        latest(&state, key.0, account).await
    }

    /// Ends an account's sync
    ///
    /// What it has found stays.
    #[oai(
        path = "/accounts/:key/sync",
        method = "delete",
        tag = "Group::Accounts",
        operation_id = "cancel_sync"
    )]
    async fn cancel(
        &self,
        presented: Presented,
        state: StateOf<'_>,
        /// The operator's name for the account.
        key: Path<String>,
    ) -> Result<Json<SyncView>, Refusal> {
        presented.caller().may(Scope::Write)?;
        let account = named(&state, &key.0).await?.id;
        syncs::cancel(&state.store, account, state.clock.now()).await?;
        latest(&state, key.0, account).await
    }
}

async fn latest(
    state: &ApiState,
    key: String,
    account: AccountId,
) -> Result<Json<SyncView>, Refusal> {
    let sync = syncs::of(state.store.read(), account).await?;
    let sync = sync.unwrap_or_else(|| Sync::never(account));
    Ok(Json(SyncView::of(key, sync)))
}
