//! Operations on the keys that tracked links are sealed with.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use crate::api::keys::Presented;
use crate::api::problem::{Code, Refusal};
use crate::api::{ApiState, Group};
use crate::config::Scope;
use crate::store::clicks;

#[derive(Debug)]
pub(super) struct LinksApi;

/// A key that links are sealed with; never its secret.
#[derive(Clone, Debug, Object)]
struct LinkKeyView {
    id: u8,
    /// Absent for the one that the installation began with.
    made_at: Option<DateTime<Utc>>,
    /// Whether new links are sealed with it. Links of the others still lead to their pages.
    seals: bool,
}

#[OpenApi]
impl LinksApi {
    /// Lists the keys that links are sealed with, newest first
    #[oai(
        path = "/link-keys",
        method = "get",
        tag = "Group::Links",
        operation_id = "list_link_keys"
    )]
    async fn list(
        &self,
        presented: Presented,
        state: Data<&Arc<ApiState>>,
    ) -> Result<Json<Vec<LinkKeyView>>, Refusal> {
        presented.caller().may(Scope::Read)?;
        listed(&state).await
    }

    /// Makes a key for the links of messages that are sent from now on
    ///
    /// Links that were sent before lead to their pages as long as their key is not forgotten.
    #[oai(
        path = "/link-keys",
        method = "post",
        tag = "Group::Links",
        operation_id = "rotate_link_keys"
    )]
    async fn rotate(
        &self,
        presented: Presented,
        state: Data<&Arc<ApiState>>,
    ) -> Result<Json<Vec<LinkKeyView>>, Refusal> {
        presented.caller().may(Scope::Write)?;
        clicks::rotate(&state.store, state.clock.now()).await?;
        listed(&state).await
    }

    /// Forgets a key
    ///
    /// Links that were sealed with it lead nowhere from now on. The last key stays.
    #[oai(
        path = "/link-keys/:id",
        method = "delete",
        tag = "Group::Links",
        operation_id = "forget_link_key"
    )]
    async fn forget(
        &self,
        presented: Presented,
        state: Data<&Arc<ApiState>>,
        /// Of the key.
        id: Path<u8>,
    ) -> Result<Json<Vec<LinkKeyView>>, Refusal> {
        presented.caller().may(Scope::Write)?;
        if !clicks::forget_key(&state.store, id.0).await? {
            let what = "there is no such key, or no other one that could seal";
            return Err(Refusal::new(Code::NoSuchLinkKey, what));
        }
        listed(&state).await
    }
}

async fn listed(state: &ApiState) -> Result<Json<Vec<LinkKeyView>>, Refusal> {
    let keys = clicks::listed_keys(state.store.read()).await?;
    let keys = keys
        .into_iter()
        .enumerate()
        .map(|(place, (id, made_at))| LinkKeyView {
            id,
            made_at: (made_at.0 > 0).then(|| made_at.to_chrono()),
            seals: place == 0,
        });
    Ok(Json(keys.collect()))
}
