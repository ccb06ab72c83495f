//! Quotas: asked of the platform for each account and interface, and cleared when a person says so.
//!
//! Asked at the start (spread over accounts), then regularly, and after a refusal that speaks of
//! quotas; only about interfaces that the account uses. An answer that cannot be had changes
//! nothing: limits by hand and refusals still hold. Clearing is never done on our own account: the
//! platform allows it ten times a month, shared with its console.
//!
//! Sources: the platform's pages "get API call quota" and "clear API call quota".

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp, next_look};
use crate::journey::ids::AccountId;
use crate::policy::learned::{CallRate, DayQuota, Quota};
use crate::sender::budget::Interface;
use crate::sender::platform::{Answer, AnswerClass, Learned};
use crate::sender::wechat::{Clients, Question, WechatClient};
use crate::store::audit_log::{self, Act, Entry};
use crate::store::{Error, Store};

const GET: &str = "/cgi-bin/openapi/quota/get";
const CLEAR: &str = "/cgi-bin/clear_quota";

/// How often a month the platform clears an account's quotas.
pub const CLEARS_A_MONTH: u32 = 10;

/// The month's clears are used up (page "return codes").
const NO_CLEAR_LEFT: i64 = 48_006;

/// How often accounts are looked through for questions that are due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Questions at the same time, of all accounts.
const QUESTIONS_MAX: usize = 16;

/// The first questions wait so long, so that a start is not slowed by them…
const FIRST_AFTER: Duration = Duration::from_secs(2);

/// … and are spread over so long, at most.
const SPREAD_MAX_S: u64 = 300;

/// Longest look back for clears of this month.
const MONTH: Duration = Duration::from_secs(32 * 86_400);

/// The quotas of all accounts.
#[derive(Debug)]
pub struct Quotas {
    store: Arc<Store>,
    clients: Arc<Clients>,
    clock: Arc<dyn Clock>,
    every: Duration,
}

/// What became of a wish to clear an account's quotas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cleared {
    Done,
    /// The platform will not clear them again this month, whoever asked for the others.
    NoneLeft,
    /// The platform refused, in its own words.
    Refused(String),
    /// The answer was lost: they may or may not be cleared.
    Unknown(String),
    /// There is no way to the account's platform.
    NoPlatform,
}

impl Quotas {
    /// Asks `every` so often.
    pub fn new(
        store: Arc<Store>,
        clients: Arc<Clients>,
        clock: Arc<dyn Clock>,
        every: Duration,
    ) -> Self {
        Self {
            store,
            clients,
            clock,
            every,
        }
    }

    /// Every account's client.
    pub fn clients(&self) -> &Arc<Clients> {
        &self.clients
    }

    /// Asks what is due until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut met = HashSet::new();
        let mut act = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = next_look(self.clock.as_ref(), LOOK_EVERY) => {}
            }
            if self.store.leases().are_shared() {
                self.follow_clears(&mut act).await;
            }
            let due = self.due(&mut met);
            let asked = stream::iter(due).for_each_concurrent(QUESTIONS_MAX, |(client, about)| {
                let this = &self;
                async move { this.ask(&client, about).await }
            });
            tokio::select! {
                () = stop.cancelled() => return,
                () = asked => {}
            }
        }
    }

    /// Ends the rests of our accounts whose quotas were cleared through another node, since `act`.
    async fn follow_clears(&self, act: &mut Option<i64>) {
        match audit_log::clears_after(self.store.read(), *act).await {
            Ok((cleared, latest)) => {
                *act = Some(latest);
                let clients = cleared.into_iter().filter_map(|id| self.clients.client(id));
                clients.for_each(|client| self.lift(&client));
            }
            Err(error) => tracing::warn!(%error, "clears by other nodes cannot be read"),
        }
    }

    /// Lets an account go on whose calls are counted anew.
    fn lift(&self, client: &WechatClient) {
        let account = client.account_id();
        client.budgets().cleared();
        self.store.health().rests_no_more(account);
        self.clients.tell(Learned {
            account,
            quota: Quota::default(),
            lifts: true,
        });
    }

    /// What is to be asked now; `met` are the accounts that were here before.
    fn due(&self, met: &mut HashSet<AccountId>) -> Vec<(Arc<WechatClient>, Interface)> {
        let clients = self.clients.all();
        let spread = u64::try_from(clients.len()).unwrap_or(SPREAD_MAX_S);
        let spread = spread.clamp(1, SPREAD_MAX_S);
        let mut due = Vec::new();
        for client in clients {
            let id = client.account_id();
            let knowledge = self.store.knowledge();
            let account = knowledge.account(id).filter(|account| account.sends);
            let Some(account) = account.filter(|_| self.store.leases().hold(id)) else {
                // Whose it is by now asks; should it come back, it is new to us.
                met.remove(&id);
                continue;
            };
            client.budgets().set_reset(&account.quota_reset);
            if met.insert(id) {
                let wait = FIRST_AFTER + Duration::from_secs(id.0.unsigned_abs() % spread);
                client.budgets().ask_not_before(self.clock.now().plus(wait));
            }
            let about = client.budgets().ask_about(self.every).into_iter();
            due.extend(about.map(|interface| (Arc::clone(&client), interface)));
        }
        due
    }

    async fn ask(&self, client: &WechatClient, about: Interface) {
        let account = client.account_id();
        let body = json!({ "cgi_path": about.path() });
        let question = Question::Post {
            path: GET,
            body: &body,
        };
        let quota = match client.ask(question).await {
            Ok(answer) => read(&answer),
            Err(answer) => {
                // Some interfaces have no quota to tell, and some accounts may not ask.
                tracing::debug!(
                    account.id = account.0,
                    interface = about.name(),
                    reason = answer.detail,
                    "quota not told"
                );
                return;
            }
        };
        let lifts = client.budgets().learn(about, &quota);
        if lifts {
            tracing::info!(
                account.id = account.0,
                interface = about.name(),
                "the platform says that calls are left: the rest ends"
            );
        }
        if about == Interface::CustomerMessage {
            if lifts {
                self.store.health().rests_no_more(account);
            }
            self.clients.tell(Learned {
                account,
                quota: quota.clone(),
                lifts,
            });
        }
        self.measure(account, about, &quota);
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges take floats")]
    fn measure(&self, account: AccountId, about: Interface, quota: &Quota) {
        let known = self.store.knowledge().account(account);
        if let (Some(day), Some(known)) = (quota.day, known) {
            let key = known.journey.key.clone();
            metrics::gauge!("dripwheel_quota_limit", "account" => key.clone(),
                "interface" => about.name())
            .set(day.limit as f64);
            metrics::gauge!("dripwheel_quota_left", "account" => key, "interface" => about.name())
                .set(day.left as f64);
        }
    }

    /// Has the platform clear all quotas of an account, because a person says so. Never tried
    /// twice: each clear that the platform took counts.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub async fn clear(&self, account: AccountId, by: &str) -> Result<Cleared, Error> {
        let Some(client) = self.clients.client(account) else {
            return Ok(Cleared::NoPlatform);
        };
        let body = json!({ "appid": client.app_id() });
        let question = Question::Post {
            path: CLEAR,
            body: &body,
        };
        let cleared = match client.ask(question).await {
            Ok(_) => Cleared::Done,
            Err(Answer {
                code: Some(NO_CLEAR_LEFT),
                ..
            }) => Cleared::NoneLeft,
            Err(answer) if answer.code.is_some() || answer.class == AnswerClass::NeedsAttention => {
                Cleared::Refused(answer.detail)
            }
            Err(answer) => Cleared::Unknown(answer.detail),
        };
        let (act, detail) = match &cleared {
            Cleared::Done => (Act::ClearQuota, String::new()),
            Cleared::Unknown(words) => (Act::ClearQuota, words.clone()),
            Cleared::Refused(words) => (Act::ClearQuotaRefused, words.clone()),
            Cleared::NoneLeft | Cleared::NoPlatform => {
                (Act::ClearQuotaRefused, NO_CLEAR_LEFT.to_string())
            }
        };
        tracing::warn!(
            account.id = account.0,
            by,
            ?cleared,
            "clear of quotas asked for"
        );
        let entry = Entry {
            account,
            act,
            at: self.clock.now(),
            caller: by.to_owned(),
            detail,
        };
        audit_log::note(&self.store, entry).await?;
        if cleared == Cleared::Done {
            self.lift(&client);
        }
        Ok(cleared)
    }

    /// How many of the month's clears are left, as far as we know: those asked for in the
    /// platform's console are not counted.
    pub async fn clears_left(&self, account: AccountId) -> Result<u32, Error> {
        clears_left(&self.store, account, self.clock.now()).await
    }
}

/// As `Quotas::clears_left`, at an instant.
pub async fn clears_left(store: &Store, account: AccountId, now: Timestamp) -> Result<u32, Error> {
    let known = store.knowledge().account(account);
    let reset = known.map_or_else(Default::default, |known| known.quota_reset.clone());
    let month = reset.month(now);
    let acts = audit_log::since(store.read(), account, now.minus(MONTH), 1_000).await?;
    let this_month = acts.iter().filter(|entry| reset.month(entry.at) == month);
    let mut used = 0;
    for entry in this_month {
        match entry.act {
            Act::ClearQuota => used += 1,
            // Others used them: the platform knows better than our count.
            Act::ClearQuotaRefused if entry.detail == NO_CLEAR_LEFT.to_string() => {
                used = CLEARS_A_MONTH;
            }
            _ => {}
        }
    }
    Ok(CLEARS_A_MONTH.saturating_sub(used))
}

/// What an answer says. A limit of 0 says nothing: an interface that may not be called at all
/// refuses with a code of its own.
fn read(answer: &Value) -> Quota {
    let number = |value: Option<&Value>| match value {
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    let quota = answer.get("quota");
    let field = |name: &str| number(quota.and_then(|quota| quota.get(name)));
    let day = field("daily_limit")
        .filter(|limit| *limit > 0)
        .map(|limit| {
            let used = field("used").unwrap_or(0);
            // What is left may have been granted beside the limit.
            let left = field("remain").unwrap_or_else(|| limit.saturating_sub(used));
            DayQuota { limit, used, left }
        });
    let rate = |name: &str| {
        let rate = answer.get(name)?;
        let calls = number(rate.get("call_count")).filter(|calls| *calls > 0)?;
        let seconds = number(rate.get("refresh_second")).filter(|seconds| *seconds > 0)?;
        Some(CallRate {
            calls: u32::try_from(calls).unwrap_or(u32::MAX),
            span: Duration::from_secs(seconds.min(86_400)),
        })
    };
    // The other one is of calls that a component makes for the account.
    let rates = rate("rate_limit").or_else(|| rate("component_rate_limit"));
    Quota {
        day,
        rates: rates.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_official_answer_is_read() {
        let answer = json!({
            "errcode": 0, "errmsg": "ok",
            "quota": { "daily_limit": 500_000, "used": 499_000, "remain": 1_000 },
            "rate_limit": { "call_count": 2_000, "refresh_second": 60 },
            "component_rate_limit": { "call_count": 10, "refresh_second": 60 },
        });
        let quota = read(&answer);
        let day = DayQuota {
            limit: 500_000,
            used: 499_000,
            left: 1_000,
        };
        assert_eq!(quota.day, Some(day));
        assert_eq!(day.used_percent(), 99);
        let rate = CallRate {
            calls: 2_000,
            span: Duration::from_secs(60),
        };
        assert_eq!(quota.rates, [rate]);
    }

    #[test]
    fn an_answer_that_says_nothing_limits_nothing() {
        for answer in [
            json!({}),
            json!({ "quota": { "daily_limit": 0, "used": 0, "remain": 0 } }),
            json!({ "quota": [], "rate_limit": { "call_count": 0, "refresh_second": 60 } }),
            json!({ "quota": { "daily_limit": -1 }, "rate_limit": { "call_count": 5 } }),
        ] {
            assert_eq!(read(&answer), Quota::default(), "{answer}");
        }
    }
}
