//! Operations on accounts, sequences and unknown sends.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;

use crate::api::keys::Presented;
use crate::api::problem::{Code, Refusal};
use crate::api::views::{
    AccountView, PassagesView, SequenceView, UnknownView, VersionView, VersionsPage,
};
use crate::api::{ApiState, Group, cursor};
use crate::config::Scope;
use crate::store::accounts::Standing;
use crate::store::overview;
use crate::store::versions::StoredVersion;

/// Versions of one page: each carries its source.
const VERSIONS_MAX: u32 = 20;

/// Unknown sends in one answer.
const UNKNOWN_MAX: u32 = 100;

#[derive(Debug)]
pub(super) struct AccountsApi;

type State<'a> = Data<&'a Arc<ApiState>>;

#[OpenApi]
impl AccountsApi {
    /// Lists the accounts, by key
    #[oai(
        path = "/accounts",
        method = "get",
        tag = "Group::Accounts",
        operation_id = "list_accounts"
    )]
    async fn list(
        &self,
        presented: Presented,
        state: State<'_>,
    ) -> Result<Json<Vec<AccountView>>, Refusal> {
        presented.caller().may(Scope::Read)?;
        let mut views = Vec::new();
        for standing in overview::accounts(state.store.read()).await? {
            views.push(view(&state, standing).await?);
        }
        Ok(Json(views))
    }

    /// Shows one account
    #[oai(
        path = "/accounts/:key",
        method = "get",
        tag = "Group::Accounts",
        operation_id = "get_account"
    )]
    async fn get(
        &self,
        presented: Presented,
        state: State<'_>,
        /// The operator's name for the account.
        key: Path<String>,
    ) -> Result<Json<AccountView>, Refusal> {
        presented.caller().may(Scope::Read)?;
        let standing = named(&state, &key.0).await?;
        Ok(Json(view(&state, standing).await?))
    }

    /// Lists the newest sends whose answer was lost
    ///
    /// They may or may not have arrived. At most 100, newest first.
    #[oai(
        path = "/unknown-sends",
        method = "get",
        tag = "Group::Accounts",
        operation_id = "list_unknown_sends"
    )]
    async fn unknown(
        &self,
        presented: Presented,
        state: State<'_>,
        /// Only those of this account.
        account: Query<Option<String>>,
    ) -> Result<Json<Vec<UnknownView>>, Refusal> {
        presented.caller().may(Scope::Read)?;
        let account = match &account.0 {
            Some(key) => Some(named(&state, key).await?.id),
            None => None,
        };
        let keys = overview::accounts(state.store.read()).await?;
        let catalog = state.store.knowledge().catalog();
        let unknown = overview::unknown(state.store.read(), account, UNKNOWN_MAX).await?;
        let views = unknown.into_iter().map(|one| {
            let key = keys.iter().find(|standing| standing.id == one.account);
            let key = key.map_or_else(String::new, |standing| standing.key.clone());
            let version = catalog.version(one.version).cloned();
            UnknownView::of(one, key, version.as_deref())
        });
        Ok(Json(views.collect()))
    }

    /// Lists the sequences, by name
    #[oai(
        path = "/sequences",
        method = "get",
        tag = "Group::Sequences",
        operation_id = "list_sequences"
    )]
    async fn sequences(
        &self,
        presented: Presented,
        state: State<'_>,
    ) -> Result<Json<Vec<SequenceView>>, Refusal> {
        presented.caller().may(Scope::Read)?;
        let catalog = state.store.knowledge().catalog();
        let tally = overview::tally(state.store.read()).await?;
        let sequences = overview::sequences(state.store.read()).await?;
        let view = |one: StoredVersion| {
            let known = catalog.version(one.id);
            let mut passages = PassagesView {
                complete: tally.complete,
                ..PassagesView::default()
            };
            for (version, states) in &tally.by_version {
                let of = catalog.version(*version);
                if of.is_some_and(|of| of.sequence.name == one.sequence) {
                    for (state, n) in states {
                        passages.add(*state, *n);
                    }
                }
            }
            SequenceView {
                title: known.map_or_else(|| one.sequence.clone(), |v| v.sequence.title.clone()),
                steps: known.map_or_else(Vec::new, |v| {
                    v.sequence
                        .steps
                        .iter()
                        .map(|step| step.id.clone())
                        .collect()
                }),
                name: one.sequence,
                live: one.live,
                hash: one.hash,
                published_at: one.published_at.to_chrono(),
                passages,
            }
        };
        Ok(Json(sequences.into_iter().map(view).collect()))
    }

    /// Lists the versions of a sequence, newest first, with their sources
    #[oai(
        path = "/sequences/:name/versions",
        method = "get",
        tag = "Group::Sequences",
        operation_id = "list_versions"
    )]
    async fn versions(
        &self,
        presented: Presented,
        state: State<'_>,
        /// Name of the sequence.
        name: Path<String>,
        /// `next` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<VersionsPage>, Refusal> {
        presented.caller().may(Scope::Read)?;
        let before = cursor::read(cursor.0.as_deref())?;
        let page = overview::versions(state.store.read(), &name.0, before, VERSIONS_MAX).await?;
        if page.items.is_empty() && before.is_none() {
            return Err(Refusal::new(
                Code::NoSuchSequence,
                "no sequence has this name",
            ));
        }
        Ok(Json(VersionsPage {
            items: page.items.into_iter().map(VersionView::from).collect(),
            next: page.next.map(cursor::write),
        }))
    }
}

/// The account with a key.
pub(super) async fn named(state: &ApiState, key: &str) -> Result<Standing, Refusal> {
    let standing = overview::account(state.store.read(), key).await?;
    standing.ok_or_else(|| Refusal::new(Code::NoSuchAccount, "no account has this key"))
}

async fn view(state: &ApiState, standing: Standing) -> Result<AccountView, Refusal> {
    let known = state.store.knowledge().account(standing.id);
    let due = overview::due(state.store.read(), standing.id).await?;
    let now = state.clock.now();
    Ok(AccountView::of(standing, known.as_deref(), due, now))
}
