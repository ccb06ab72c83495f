//! The platform's own list of the accounts that authorized a component: what lost refresh tokens and
//! missed events are recovered from.
//!
//! Source: the platform's page "get authorizer list".

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Component, is_app_id, unreadable};
use crate::clock::Timestamp;
use crate::sender::platform::{Answer, AnswerClass};
use crate::sender::wechat::source::secret_in;

const PATH: &str = "/cgi-bin/component/api_get_authorizer_list";

/// Accounts per call. The platform gives up to 500; so many of the longest refresh tokens fit into
/// the longest answer that is read.
const PAGE: usize = 100;

/// Accounts read at most, so that a list without an end ends.
const LISTED_MAX: usize = 100_000;

/// Whoever finds what was lost in a reading this old needs no other.
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
    /// `store::directory::Directory::moment` from before it was read.
    pub(super) moment: u64,
    begun_at: Instant,
}

impl Component {
    /// A refresh token for an account other than `lost`. One reading at a time, shared by all who
    /// came before it began.
    pub(super) async fn listed_token(
        &self,
        app_id: &str,
        lost: Option<&SecretString>,
    ) -> Result<Option<SecretString>, Answer> {
        let other = |sweep: &Sweep| {
            let token = sweep.accounts.get(app_id)?.refresh_token.clone()?;
            let same = lost.is_some_and(|lost| lost.expose_secret() == token.expose_secret());
            (!same).then_some(token)
        };
        let came_at = Instant::now();
        let mut listed = self.0.listed.lock().await;
        if let Some(sweep) = listed.as_ref() {
            let found = other(sweep).filter(|_| sweep.begun_at.elapsed() < FRESH);
            if found.is_some() || sweep.begun_at >= came_at {
                return Ok(found);
            }
        }
        let sweep = self.read_list().await?;
        let found = other(&sweep);
        *listed = Some(sweep);
        Ok(found)
    }

    /// The list as it is from now on.
    pub(super) async fn list_anew(&self) -> Result<Sweep, Answer> {
        let mut listed = self.0.listed.lock().await;
        let sweep = self.read_list().await?;
        *listed = Some(sweep.clone());
        Ok(sweep)
    }

    /// Reads every page, or fails: a list in which somebody is missing is none.
    async fn read_list(&self) -> Result<Sweep, Answer> {
        let moment = self.0.store.knowledge().authorizers().moment();
        let begun_at = Instant::now();
        let mut accounts = HashMap::new();
        let mut seen = HashSet::new();
        let (mut offset, mut total) = (0, None);
        loop {
            let body = json!({
                "component_appid": self.app_id(),
                "offset": offset,
                "count": PAGE,
            });
            let reply = self.call(PATH, &body).await?;
            let page = reply.fields.get("list").and_then(Value::as_array);
            let page = page.ok_or_else(|| unreadable(PATH))?;
            let counted = reply.fields.get("total_count").and_then(Value::as_u64);
            let counted = counted.ok_or_else(|| unreadable(PATH))?;
            if total.is_some_and(|total| total != counted) {
                return Err(moved());
            }
            total = Some(counted);
            let app_ids = page.iter().filter_map(|one| one.get("authorizer_appid"));
            seen.extend(app_ids.filter_map(Value::as_str).map(str::to_owned));
            accounts.extend(page.iter().filter_map(listed));
            offset += page.len();
            let more = (offset as u64) < counted && !page.is_empty();
            if more && offset < LISTED_MAX {
                continue;
            }
            // Who slipped from one page to another while both were read is on neither.
            if seen.len() as u64 != counted {
                return Err(moved());
            }
            return Ok(Sweep {
                accounts: Arc::new(accounts),
                moment,
                begun_at,
            });
        }
    }
}

/// The pages do not make up one list: whoever is missing in them may be there all the same.
fn moved() -> Answer {
    let words = format!("{PATH}: it gave another number of accounts than it counts");
    Answer::without_code(AnswerClass::RetrySoon, words)
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
