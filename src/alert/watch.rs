//! Watches accounts for what a person should know: each condition is one alert until it is over.
//!
//! Looks at rows and at what was learned; whatever sends knows nothing of it. What is not known
//! yet after a start (quotas, whether anything passes) ends no alert.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::alert::{Kind, message};
use crate::clock::{Clock, Timestamp, next_look};
use crate::journey::ids::AccountId;
use crate::policy::profile::Profile;
use crate::sender::budget::{Resting, Seen};
use crate::sender::quota::Quotas;
use crate::sender::wechat::advice;
use crate::store::accounts::{self, Standing};
use crate::store::alerts::{self, AlertKey, Change};
use crate::store::{Error, Store, health};

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Unknown sends are counted less often: it costs a walk over the day's.
const COUNT_EVERY: Duration = Duration::from_secs(30);

const DAY: Duration = Duration::from_secs(86_400);

/// Percent of a day's calls from which on somebody should know.
const HIGH_PERCENT: u64 = 80;

pub(super) struct Watch {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    quotas: Arc<Quotas>,
    unknown_max: u32,
}

/// Something that a person should know now.
struct Condition {
    key: AlertKey,
    kind: Kind,
    data: Value,
}

/// What one look has seen.
#[derive(Default)]
struct Look {
    conditions: Vec<Condition>,
    /// Alerts of which it is known that they are over, by what would be told.
    over: HashMap<AlertKey, (Option<Kind>, Value)>,
}

impl Look {
    /// Notes how something stands: `Some(true)` as a condition, `Some(false)` as over.
    fn note(
        &mut self,
        key: AlertKey,
        (kind, end): (Kind, Option<Kind>),
        holds: Option<bool>,
        data: Value,
    ) {
        match holds {
            Some(true) => self.conditions.push(Condition { key, kind, data }),
            Some(false) => drop(self.over.insert(key, (end, data))),
            None => {}
        }
    }
}

impl Watch {
    pub(super) fn new(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        quotas: Arc<Quotas>,
        unknown_max: u32,
    ) -> Self {
        Self {
            store,
            clock,
            quotas,
            unknown_max,
        }
    }

    pub(super) async fn run(self, stop: CancellationToken) {
        let mut counted_at = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = next_look(self.clock.as_ref(), LOOK_EVERY) => {}
            }
            let now = self.clock.now();
            let count = counted_at.is_none_or(|at| now.since(at) >= COUNT_EVERY || now < at);
            if count {
                counted_at = Some(now);
            }
            if let Err(error) = self.look(now, count).await {
                tracing::warn!(%error, "accounts cannot be watched");
            }
        }
    }

    async fn look(&self, now: Timestamp, count: bool) -> Result<(), Error> {
        let open: HashMap<_, _> = alerts::open(self.store.read()).await?.into_iter().collect();
        let mut standings = accounts::standings(self.store.read()).await?;
        // Only who sends for an account knows how it stands.
        standings.retain(|standing| self.store.leases().hold(standing.id));
        let mut look = Look::default();
        for standing in &standings {
            self.standing(standing, &open, &mut look);
            self.quotas(standing, &mut look);
        }
        if count {
            self.unknown(&standings, now, &mut look).await?;
        }
        for condition in look.conditions {
            if !open.contains_key(&condition.key) {
                let told = message(condition.kind, &condition.data, now);
                tracing::warn!(reason = condition.key.reason, data = %condition.data, "alert");
                alerts::change(&self.store, condition.key, Change::Raise, Some(told), now).await?;
            }
        }
        for (key, (kind, data)) in look.over {
            if open.contains_key(&key) {
                let told = kind.map(|kind| message(kind, &data, now));
                tracing::info!(reason = key.reason, data = %data, "alert is over");
                alerts::change(&self.store, key, Change::End, told, now).await?;
            }
        }
        Ok(())
    }

    fn standing(&self, one: &Standing, open: &HashMap<AlertKey, Timestamp>, look: &mut Look) {
        let key = |kind: Kind| AlertKey {
            account: one.id,
            reason: kind.word().to_owned(),
        };
        let attention = key(Kind::NeedsAttention);
        let holds = match (one.attention, open.get(&attention)) {
            (true, _) => Some(true),
            // A restart forgets that an account needs somebody; only a message that passes shows
            // that it does not.
            (false, Some(raised_at)) => {
                let accepted_at = self.store.health().accepted_at(one.id);
                accepted_at.filter(|at| at > raised_at).map(|_| false)
            }
            (false, None) => None,
        };
        let mut words = one.pause_reason.split_whitespace();
        let code = words.find_map(|word| word.parse::<i64>().ok());
        let what_to_do = code.and_then(advice).map(|(en, _)| en);
        let data = json!({
            "account": one.key,
            "errcode": code.filter(|_| one.attention),
            "detail": one.pause_reason,
            "what_to_do": what_to_do.filter(|_| one.attention),
        });
        let kinds = (Kind::NeedsAttention, Some(Kind::Recovered));
        look.note(attention, kinds, holds, data);

        let known = self.store.knowledge().account(one.id);
        if let Some(known) = &known {
            self.profile(one, &known.profile, key(Kind::ProfileDoesNotFit), look);
        }
        let withdrawn = known.map(|known| !known.sends);
        let what_to_do = advice(61_003).map(|(en, _)| en);
        let data = json!({ "account": one.key, "what_to_do": what_to_do });
        let kinds = (Kind::Unauthorized, Some(Kind::Authorized));
        look.note(key(Kind::Unauthorized), kinds, withdrawn, data);
    }

    fn profile(&self, one: &Standing, profile: &Profile, key: AlertKey, look: &mut Look) {
        let better = self.store.health().better_profile(one.id, profile);
        let data = match better {
            Some((name, refused, answers)) => json!({
                "account": one.key,
                "profile": profile.name,
                "fits": name,
                "refused": refused,
                "answers": answers,
                "what_to_do": format!("set `profile: {name}` for this account"),
            }),
            None => json!({ "account": one.key, "profile": profile.name }),
        };
        let kinds = (Kind::ProfileDoesNotFit, None);
        look.note(key, kinds, Some(better.is_some()), data);
    }

    fn quotas(&self, one: &Standing, look: &mut Look) {
        let Some(client) = self.quotas.clients().client(one.id) else {
            return;
        };
        for seen in client.budgets().seen() {
            let name = seen.interface.name();
            let day = seen.quota.as_ref().and_then(|quota| quota.day);
            let data = json!({
                "account": one.key,
                "interface": name,
                "limit": day.map(|day| day.limit),
                "used": day.map(|day| day.used),
                "left": day.map(|day| day.left),
            });
            for (kind, holds) in [
                (Kind::QuotaHigh, is_high(&seen)),
                (Kind::QuotaUsedUp, is_used_up(&seen)),
            ] {
                let key = AlertKey {
                    account: one.id,
                    reason: format!("{}:{name}", kind.word()),
                };
                look.note(key, (kind, None), holds, data.clone());
            }
        }
    }

    async fn unknown(
        &self,
        standings: &[Standing],
        now: Timestamp,
        look: &mut Look,
    ) -> Result<(), Error> {
        let counts = health::unknown_by_account(self.store.read(), now.minus(DAY)).await?;
        let counts: HashMap<AccountId, u32> = counts.into_iter().collect();
        for one in standings {
            let n = counts.get(&one.id).copied().unwrap_or(0);
            let key = AlertKey {
                account: one.id,
                reason: Kind::UnknownSends.word().to_owned(),
            };
            let data = json!({
                "account": one.key,
                "sends": n,
                "what_to_do": "their answers were lost: look at them, they may or may not have \
                    arrived",
            });
            let holds = Some(n > self.unknown_max);
            look.note(key, (Kind::UnknownSends, None), holds, data);
        }
        Ok(())
    }
}

/// Whether much of the day's calls is used; `None` before the platform has told.
fn is_high(seen: &Seen) -> Option<bool> {
    let day = seen.quota.as_ref()?.day?;
    Some(day.used_percent() >= HIGH_PERCENT)
}

/// Whether the day's calls are used up; `None` before the platform has told.
fn is_used_up(seen: &Seen) -> Option<bool> {
    if seen.rest.is_some_and(|rest| rest.why == Resting::Day) {
        return Some(true);
    }
    let day = seen.quota.as_ref()?.day?;
    Some(day.left == 0)
}
