//! Operations on nodes: which ones share the database, and who sees to which account.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use crate::api::accounts::named;
use crate::api::keys::Presented;
use crate::api::problem::Refusal;
use crate::api::{ApiState, Group};
use crate::config::Scope;
use crate::store::nodes::{self, Node};
use crate::store::shards::Sharding;

#[derive(Debug)]
pub(super) struct NodesApi;

/// One of the processes that share the database.
#[derive(Clone, Debug, Object)]
struct NodeView {
    id: i64,
    /// From the configuration, or the machine's name and the port.
    name: String,
    /// Of its binary.
    version: String,
    started_at: DateTime<Utc>,
    /// When it last noted that it runs, by its own clock; absent before the first time.
    seen_at: Option<DateTime<Utc>>,
    /// `running`; `gone`, when its lease has ended or it has left.
    standing: String,
    /// How long its lease lasts unless it is renewed, in milliseconds; absent where one node has
    /// everything for good.
    lease_ms: Option<u64>,
    /// How many shards of the accounts are its own, of 256, or of 1 in an embedded store. Another node
    /// takes those of one that is gone.
    shards: u32,
    /// How many accounts are in them.
    accounts: u32,
    /// Whether it is the one that answers.
    answers: bool,
}

impl NodeView {
    fn of(node: Node, answering: i64) -> Self {
        Self {
            standing: if node.lives() { "running" } else { "gone" }.to_owned(),
            lease_ms: node
                .lease
                .map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            shards: u32::try_from(node.shards.len()).unwrap_or(u32::MAX),
            answers: node.id == answering,
            id: node.id,
            name: node.name,
            version: node.version,
            started_at: node.started_at.to_chrono(),
            seen_at: (node.seen_at.0 > 0).then(|| node.seen_at.to_chrono()),
            accounts: node.accounts,
        }
    }
}

#[OpenApi]
impl NodesApi {
    /// Lists the nodes that ever shared the database, by name
    ///
    /// Every node takes callbacks of all accounts; what is sent for an account is sent by the one
    /// that has its shard.
    #[oai(
        path = "/nodes",
        method = "get",
        tag = "Group::Nodes",
        operation_id = "list_nodes"
    )]
    async fn list(
        &self,
        presented: Presented,
        state: Data<&Arc<ApiState>>,
        /// Only the node that sends for this account; none while another one is taking it over.
        account: Query<Option<String>>,
    ) -> Result<Json<Vec<NodeView>>, Refusal> {
        presented.caller().may(Scope::Read)?;
        let account = match &account.0 {
            Some(key) => Some(named(&state, key).await?.id),
            None => None,
        };
        let read = state.store.read();
        let sharding = Sharding::of(read);
        let mut nodes = nodes::all(read).await?;
        nodes.retain(|node| account.is_none_or(|account| node.holds(sharding, account)));
        let answering = state.store.node();
        let views = nodes.into_iter();
        let views = views.map(|node| NodeView::of(node, answering));
        Ok(Json(views.collect()))
    }
}
