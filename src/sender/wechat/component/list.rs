//! The platform's own list of the accounts that authorized a component: what lost refresh tokens and
//! missed events are recovered from.
//!
//! Source: the platform's page "get authorizer list".

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Component, is_app_id, unreadable};
use crate::clock::Timestamp;
use crate::sender::platform::Answer;
use crate::sender::wechat::source::secret_in;

const PATH: &str = "/cgi-bin/component/api_get_authorizer_list";

/// Accounts per call. The platform gives up to 500; so many of the longest refresh tokens fit into
/// the longest answer that is read.
const PAGE: usize = 100;

/// Accounts read at most, so that a list without an end ends.
const LISTED_MAX: usize = 100_000;

/// Whoever misses a refresh token within this time of a reading shares it.
const FRESH: Duration = Duration::from_secs(30);

/// One account as listed.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) refresh_token: Option<SecretString>,
    pub(super) authorized_at: Timestamp,
}

/// The whole list as it was read.
#[derive(Clone, Debug)]
pub(super) struct Sweep {
    pub(super) accounts: Arc<HashMap<String, Listed>>,
    /// `store::authorizers::Directory::moment` from before it was read.
    pub(super) moment: u64,
    read_at: Instant,
}

impl Component {
    /// The list, read now or a moment ago; one reading at a time.
    pub(super) async fn list(&self) -> Result<Sweep, Answer> {
        let mut listed = self.0.listed.lock().await;
        if let Some(sweep) = listed.as_ref().filter(|one| one.read_at.elapsed() < FRESH) {
            return Ok(sweep.clone());
        }
        let sweep = self.read_list().await?;
        *listed = Some(sweep.clone());
        Ok(sweep)
    }

    /// The list as it is from now on.
    pub(super) async fn list_anew(&self) -> Result<Sweep, Answer> {
        let mut listed = self.0.listed.lock().await;
        let sweep = self.read_list().await?;
        *listed = Some(sweep.clone());
        Ok(sweep)
    }

    async fn read_list(&self) -> Result<Sweep, Answer> {
        let moment = self.0.store.knowledge().authorizers().moment();
        let mut accounts = HashMap::new();
        let mut offset = 0;
        loop {
            let body = json!({
                "component_appid": self.app_id(),
                "offset": offset,
                "count": PAGE,
            });
            let reply = self.call(PATH, &body).await?;
            let page = reply.fields.get("list").and_then(Value::as_array);
            let page = page.ok_or_else(|| unreadable(PATH))?;
            accounts.extend(page.iter().filter_map(listed));
            offset += page.len();
            let total = reply.fields.get("total_count").and_then(Value::as_u64);
            let all = total.is_some_and(|total| offset as u64 >= total);
            if page.len() < PAGE || all || offset >= LISTED_MAX {
                return Ok(Sweep {
                    accounts: Arc::new(accounts),
                    moment,
                    read_at: Instant::now(),
                });
            }
        }
    }
}

fn listed(one: &Value) -> Option<(String, Listed)> {
    let app_id = one.get("authorizer_appid")?.as_str()?;
    let at = one.get("auth_time").and_then(Value::as_i64).unwrap_or(0);
    is_app_id(app_id).then(|| {
        let listed = Listed {
            refresh_token: secret_in(one, "refresh_token"),
            authorized_at: Timestamp::from_seconds(at),
        };
        (app_id.to_owned(), listed)
    })
}
