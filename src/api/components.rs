//! Operations on third-party platforms: how each stands, and who authorized it.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use crate::api::keys::Presented;
use crate::api::problem::{Code, Refusal};
use crate::api::{ApiState, Group, PAGE_DEFAULT, PAGE_MAX};
use crate::config::Scope;
use crate::store::authorizers::{self, Authorizer, State as Consent};
use crate::store::components;

#[derive(Debug)]
pub(super) struct ComponentsApi;

type State<'a> = Data<&'a Arc<ApiState>>;

/// A third-party platform.
#[derive(Clone, Debug, Object)]
struct ComponentView {
    /// The operator's name for it.
    key: String,
    app_id: String,
    /// When the platform pushed the newest verify ticket, which is good for 12 hours; absent before
    /// the first one.
    ticket_at: Option<DateTime<Utc>>,
    /// When its accounts were last compared with the platform's list.
    reconciled_at: Option<DateTime<Utc>>,
    accounts: ConsentsView,
}

/// How many accounts stand how.
#[derive(Clone, Debug, Default, Object)]
struct ConsentsView {
    authorized: i64,
    /// Taken back by their owners.
    withdrawn: i64,
    /// Authorized, but none of ours: mini programs, and accounts that are configured by themselves.
    not_served: i64,
    /// Announced, and not exchanged yet.
    announced: i64,
}

/// An account that authorized a third-party platform.
#[derive(Clone, Debug, Object)]
struct AuthorizerView {
    /// Also the account's key, where it is one of ours.
    app_id: String,
    /// Absent while it is not known.
    name: Option<String>,
    original_id: Option<String>,
    /// `authorized`, `withdrawn`, `not_served` or `announced`.
    standing: String,
    /// Whether it may send.
    sends: bool,
    /// Why it does not.
    reason: Option<String>,
    /// Numbers of the granted permission sets; 1 is 消息管理, without which nothing is sent.
    permissions: Vec<i64>,
    authorized_at: Option<DateTime<Utc>>,
    changed_at: DateTime<Utc>,
}

/// Accounts of a third-party platform.
#[derive(Clone, Debug, Object)]
struct AuthorizersPage {
    items: Vec<AuthorizerView>,
    /// For the next page; absent on the last one.
    next: Option<String>,
}

#[OpenApi]
impl ComponentsApi {
    /// Lists the third-party platforms, by key
    #[oai(
        path = "/components",
        method = "get",
        tag = "Group::Components",
        operation_id = "list_components"
    )]
    async fn list(
        &self,
        presented: Presented,
        state: State<'_>,
    ) -> Result<Json<Vec<ComponentView>>, Refusal> {
        presented.caller().may(Scope::Read)?;
        let read = state.store.read();
        let mut views = Vec::new();
        for one in components::standings(read).await? {
            let mut accounts = ConsentsView::default();
            for (consent, count) in authorizers::tally(read, &one.app_id).await? {
                match consent {
                    Consent::Authorized => accounts.authorized = count,
                    Consent::Withdrawn => accounts.withdrawn = count,
                    Consent::NotServed => accounts.not_served = count,
                    Consent::Announced => accounts.announced = count,
                }
            }
            views.push(ComponentView {
                key: one.key,
                app_id: one.app_id,
                ticket_at: one.ticket_at.map(|at| at.to_chrono()),
                reconciled_at: one.reconciled_at.map(|at| at.to_chrono()),
                accounts,
            });
        }
        Ok(Json(views))
    }

    /// Lists the accounts that ever authorized a third-party platform, by app id
    #[oai(
        path = "/components/:component/accounts",
        method = "get",
        tag = "Group::Components",
        operation_id = "list_component_accounts"
    )]
    async fn accounts(
        &self,
        presented: Presented,
        state: State<'_>,
        /// The operator's name for the third-party platform.
        component: Path<String>,
        /// `next` of the page before.
        cursor: Query<Option<String>>,
        /// Most items of the page; 50 when left out.
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<Option<u32>>,
    ) -> Result<Json<AuthorizersPage>, Refusal> {
        presented.caller().may(Scope::Read)?;
        let after = match cursor.0.as_deref() {
            None => String::new(),
            Some(cursor) => read_cursor(cursor)?,
        };
        let limit = i64::from(limit.0.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX));
        let read = state.store.read();
        let known = components::standings(read).await?;
        let known = known.into_iter().find(|one| one.key == component.0);
        let known = known.ok_or_else(|| {
            let words = "no third-party platform has this key";
            Refusal::new(Code::NoSuchComponent, words)
        })?;
        let mut rows = authorizers::page(read, &known.app_id, &after, limit + 1).await?;
        let more = i64::try_from(rows.len()).unwrap_or(i64::MAX) > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let last = rows.last().filter(|_| more);
        let next = last.map(|row| URL_SAFE_NO_PAD.encode(&row.app_id));
        Ok(Json(AuthorizersPage {
            items: rows.into_iter().map(AuthorizerView::from).collect(),
            next,
        }))
    }
}

impl From<Authorizer> for AuthorizerView {
    fn from(row: Authorizer) -> Self {
        let text = |text: String| (!text.is_empty()).then_some(text);
        Self {
            sends: row.sends(),
            standing: row.state.word().to_owned(),
            app_id: row.app_id,
            name: text(row.name),
            original_id: text(row.original_id),
            reason: text(row.reason),
            permissions: row.permissions,
            authorized_at: (row.authorized_at.0 > 0).then(|| row.authorized_at.to_chrono()),
            changed_at: row.changed_at.to_chrono(),
        }
    }
}

fn read_cursor(cursor: &str) -> Result<String, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.filter(|text| text.len() <= 64).ok_or_else(|| {
        let words = "the cursor is not one of ours: begin again without it";
        Refusal::new(Code::BadCursor, words)
    })
}
