//! How an account is: what was counted of its last day, what it has left, why it rests, and what a
//! person has to do. One reading for API and console.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::policy::grant::Kind as GrantKind;
use crate::sender::budget::Seen;
use crate::sender::quota::{self, Quotas};
use crate::sender::wechat::{TokenState, advice};
use crate::store::accounts::Standing;
use crate::store::audit_log::{self, Entry};
use crate::store::health::{self, AccountRest, Kind, Reaction, Sum, hour_of};
use crate::store::pauses::Pause;
use crate::store::{Error, Store, overview};
use crate::story::phrases::Lang;

/// Hours that are told of.
pub const HOURS: usize = 24;

const DAY: Duration = Duration::from_secs(86_400);

/// Unknown sends are counted up to this.
pub const UNKNOWN_MAX: u32 = 10_000;

/// Acts of people that are told of.
const ACTS_MAX: u32 = 20;

/// Acts are told of for so long.
const ACTS_FOR: Duration = Duration::from_secs(31 * 86_400);

/// What became of an hour's sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hour {
    /// When it began.
    pub at: Timestamp,
    pub accepted: u64,
    pub refused: u64,
    pub unknown: u64,
}

/// What became of a carrier's sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sends {
    pub accepted: u64,
    pub refused: u64,
    pub unknown: u64,
    pub retried: u64,
}

/// Refusals of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusals {
    /// The platform's code; 0 where it gave none.
    pub code: i64,
    pub reaction: Option<Reaction>,
    pub n: u64,
}

/// Grants of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrantSums {
    pub opened: u64,
    pub spent: u64,
}

/// Something that a person has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// The platform stops the account with this code; 0 where it gave none.
    Refused(i64),
    /// The authorization was withdrawn.
    Unauthorized,
    /// Sends may or may not have arrived.
    UnknownSends(u32),
    /// A person paused the account.
    Paused,
}

/// How an account is.
#[derive(Clone, Debug)]
pub struct Health {
    pub now: Timestamp,
    pub standing: Standing,
    /// Name of the platform's rules; `None` for an account that is not configured any more.
    pub profile: Option<String>,
    /// Whether it may send at all.
    pub authorized: bool,
    pub pause: Option<Pause>,
    pub rest: Option<AccountRest>,
    pub token: Option<TokenState>,
    pub interfaces: Vec<Seen>,
    /// The last hours, oldest first, this one included.
    pub hours: Vec<Hour>,
    pub sends: BTreeMap<Carrier, Sends>,
    /// Most frequent first.
    pub refusals: Vec<Refusals>,
    pub grants: BTreeMap<&'static str, GrantSums>,
    /// Of the last 24 hours.
    pub unknown: u32,
    /// Clears of quotas that are left this month, as far as we know.
    pub clears_left: u32,
    /// What people did, newest first.
    pub acts: Vec<Entry>,
    pub needs: Vec<Need>,
}

/// Reads how an account is; `None` when there is none of this key. What the platform told is only
/// there with `quotas`, in the process that asks for it.
///
/// # Errors
/// When the store cannot be read.
pub async fn load(
    store: &Store,
    quotas: Option<&Quotas>,
    key: &str,
    now: Timestamp,
) -> Result<Option<Health>, Error> {
    let Some(standing) = overview::account(store.read(), key).await? else {
        return Ok(None);
    };
    let id = standing.id;
    let known = store.knowledge().account(id);
    let client = quotas.and_then(|quotas| quotas.clients().client(id));
    let first = hour_of(now) - i64::try_from(HOURS).unwrap_or(0) + 1;
    let sums = health::since(store, id, first).await?;
    let mut health = Health {
        now,
        profile: known.as_ref().map(|known| known.profile.name.clone()),
        authorized: known.as_ref().is_none_or(|known| known.sends),
        pause: store.knowledge().pause(id),
        rest: store.health().rest(id, now),
        token: client.as_ref().map(|client| client.token_state()),
        interfaces: client.map_or_else(Vec::new, |client| client.budgets().seen()),
        hours: hours(&sums, first),
        sends: BTreeMap::new(),
        refusals: Vec::new(),
        grants: BTreeMap::new(),
        unknown: health::unknown_since(store.read(), id, now.minus(DAY), UNKNOWN_MAX).await?,
        clears_left: quota::clears_left(store, id, now).await?,
        acts: audit_log::since(store.read(), id, now.minus(ACTS_FOR), ACTS_MAX).await?,
        needs: Vec::new(),
        standing,
    };
    health.add_up(&sums);
    health.needs = needs(&health);
    Ok(Some(health))
}

fn hours(sums: &[Sum], first: i64) -> Vec<Hour> {
    let hours = (first..).take(HOURS).map(|hour| {
        let of = |kind| {
            let of = sums.iter();
            of.filter(|sum| sum.hour == hour && sum.key.kind == kind)
                .map(|sum| sum.n)
                .sum()
        };
        Hour {
            at: Timestamp(hour * 3_600_000),
            accepted: of(Kind::Accepted),
            refused: of(Kind::Refused),
            unknown: of(Kind::Unknown),
        }
    });
    hours.collect()
}

impl Health {
    fn add_up(&mut self, sums: &[Sum]) {
        for sum in sums {
            let (key, n) = (sum.key, sum.n);
            let carrier = Carrier::from_number(key.part).unwrap_or(Carrier::CustomerMessage);
            let sends = match key.kind {
                Kind::GrantOpened | Kind::GrantSpent => {
                    let kind = GrantKind::from_number(key.part).map_or("", GrantKind::word);
                    let grants = self.grants.entry(kind).or_default();
                    match key.kind {
                        Kind::GrantOpened => grants.opened += n,
                        _ => grants.spent += n,
                    }
                    continue;
                }
                _ => self.sends.entry(carrier).or_default(),
            };
            match key.kind {
                Kind::Accepted => sends.accepted += n,
                Kind::Unknown => sends.unknown += n,
                Kind::Retried => sends.retried += n,
                _ => {
                    sends.refused += n;
                    let same = self.refusals.iter_mut();
                    let mut same =
                        same.filter(|one| (one.code, one.reaction) == (key.code, key.reaction));
                    match same.next() {
                        Some(same) => same.n += n,
                        None => self.refusals.push(Refusals {
                            code: key.code,
                            reaction: key.reaction,
                            n,
                        }),
                    }
                }
            }
        }
        self.refusals
            .sort_by_key(|one| (std::cmp::Reverse(one.n), one.code));
    }

    /// One word for how it is.
    pub fn word(&self) -> &'static str {
        if !self.authorized {
            "unauthorized"
        } else if self.pause.is_some() {
            "paused"
        } else if self.standing.attention {
            "needs_attention"
        } else if self.rest.is_some() || self.standing.paused_until > self.now {
            "resting"
        } else {
            "sending"
        }
    }
}

fn needs(health: &Health) -> Vec<Need> {
    let mut needs = Vec::new();
    if !health.authorized {
        needs.push(Need::Unauthorized);
    }
    if health.standing.attention {
        let stopped = health.refusals.iter();
        let stopped = stopped.filter(|one| one.reaction == Some(Reaction::Attention));
        let mut codes: Vec<_> = stopped.map(|one| one.code).collect();
        if codes.is_empty() {
            codes.push(0);
        }
        needs.extend(codes.into_iter().map(Need::Refused));
    }
    if health.pause.is_some() {
        needs.push(Need::Paused);
    }
    if health.unknown > 0 {
        needs.push(Need::UnknownSends(health.unknown));
    }
    needs
}

/// What to do about it.
pub fn need(need: &Need, lang: Lang) -> String {
    let code = match need {
        Need::Refused(code) => *code,
        Need::Unauthorized => 61_003,
        Need::Paused => {
            let words = lang.pick(
                "A person paused the account: resume it when it may send again.",
                "账号已被人工暂停：可以发送时请恢复。",
            );
            return words.to_owned();
        }
        Need::UnknownSends(n) => {
            let words = lang.pick(
                "sends ended without an answer: look at them, they may or may not have arrived.",
                "条发送没有应答：请核对，可能送达，也可能没有。",
            );
            return format!("{n} {words}");
        }
    };
    match advice(code) {
        Some((en, zh)) => lang.pick(en, zh).to_owned(),
        None => lang
            .pick(
                "The platform refuses all calls: read its words beside the account's standing.",
                "平台拒绝所有调用：请查看账号状态旁的原因。",
            )
            .to_owned(),
    }
}

/// What was done about a refusal, for people.
pub fn reaction(reaction: Option<Reaction>, lang: Lang) -> &'static str {
    let Some(reaction) = reaction else {
        return lang.pick("noted", "已记录");
    };
    match reaction {
        Reaction::TriedAgain => lang.pick("tried again later", "稍后重试"),
        Reaction::Held => lang.pick("the step waits for the follower", "步骤等待粉丝互动"),
        Reaction::Ended => lang.pick("the step ended refused", "步骤被拒绝"),
        Reaction::GivenUp => lang.pick("the step was given up", "步骤已放弃"),
        Reaction::RestedMinute => {
            lang.pick("rested for the minute, slower since", "暂停一分钟并降速")
        }
        Reaction::RestedDay => lang.pick("rested until the reset", "暂停至额度重置"),
        Reaction::Attention => lang.pick("stopped for a person", "停止，等待人工"),
        Reaction::InterfaceRested => lang.pick(
            "the interface rested, others went on",
            "该接口暂停，其余继续",
        ),
        Reaction::FollowerLeft => lang.pick("counts as unfollowed", "视为取消关注"),
    }
}
