//! From what an operator writes to a broadcast: its message becomes a sequence of one step, checked as
//! every sequence is, and whatever is wrong is said before anything is stored.

use std::time::Duration;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::broadcast::audience::Audience;
use crate::broadcast::repeat;
use crate::clock::Timestamp;
use crate::journey::ids::BroadcastId;
use crate::journey::parse;
use crate::journey::sequence::Kind;
use crate::store::broadcasts::{self, Begins, NewBroadcast, Pace};
use crate::store::{Error, Store};

/// Most accounts of one broadcast.
const ACCOUNTS_MAX: usize = 1_000;

/// Longest span over which recipients are spread, and least that makes sense.
const SPREAD_MAX: Duration = Duration::from_secs(30 * 86_400);

/// Longest condition on followers, in characters.
const CONDITION_MAX: usize = 128;

/// A recipient whose message could not leave within this is left out, unless it is said otherwise.
const EXPIRES_AFTER: &str = "24h";

/// How a broadcast travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Each follower by the cheapest carrier that takes the message then.
    #[default]
    Cheapest,
    /// By mass send alone.
    MassSend,
}

/// A broadcast as it is asked for.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    pub title: String,
    /// Operators' names of the accounts.
    pub accounts: Vec<String>,
    pub audience: Audience,
    pub by: By,
    /// What a sequence's step says, by the keys of its YAML: `say`, `closed`, `on_unknown`, `when`,
    /// `expire_after`, `late`.
    pub step: Map<String, Value>,
    /// Beside the step: `quiet_hours`, `timezone`, `min_gap`.
    pub rules: Map<String, Value>,
    pub per_second: Option<u32>,
    pub spread: Option<Duration>,
    pub start_at: Option<Timestamp>,
    /// Again and again, in the time zone that `zone` names.
    pub cron: Option<String>,
    pub zone: Option<String>,
}

/// Why a broadcast is not made.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// What the operator wrote, and what to write instead.
    #[error("{0}")]
    Wrong(String),
    #[error("no account has the key `{0}`")]
    NoSuchAccount(String),
    #[error(transparent)]
    Store(#[from] Error),
}

fn wrong(what: impl Into<String>) -> Refused {
    Refused::Wrong(what.into())
}

/// Makes a broadcast; it begins when it is started, or by itself where the draft says when.
///
/// # Errors
/// What is wrong with the draft: then nothing is stored.
pub async fn create(
    store: &Store,
    draft: Draft,
    by: &str,
    now: Timestamp,
) -> Result<BroadcastId, Refused> {
    let new = check(store, draft, by, now)?;
    Ok(broadcasts::create(store, new, now).await?)
}

fn check(store: &Store, draft: Draft, by: &str, now: Timestamp) -> Result<NewBroadcast, Refused> {
    let begins = begins(&draft, now)?;
    check_audience(&draft.audience, &begins)?;
    let mut accounts = Vec::new();
    let mut keys = draft.accounts.clone();
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() || keys.len() > ACCOUNTS_MAX {
        return Err(wrong(format!("name 1 to {ACCOUNTS_MAX} accounts")));
    }
    for key in &keys {
        let known = store.knowledge().account_named(key);
        let known = known.ok_or_else(|| Refused::NoSuchAccount(key.clone()))?;
        if draft.by == By::MassSend && known.profile.carriers.mass_send.is_none() {
            return Err(wrong(format!(
                "the account `{key}` has no mass sends: leave `by` out"
            )));
        }
        accounts.push(known.journey.id);
    }
    if draft
        .spread
        .is_some_and(|span| span > SPREAD_MAX || span.is_zero())
    {
        return Err(wrong("`spread` is a span of at most 30 days"));
    }
    if draft.per_second == Some(0) {
        return Err(wrong("`per_second` is at least 1"));
    }
    let pace = Pace {
        per_second: draft.per_second,
        spread: draft.spread,
    };
    let kind = match draft.by {
        By::Cheapest => Kind::Broadcast,
        By::MassSend => Kind::MassBroadcast,
    };
    let (title, audience) = (draft.title.trim().to_owned(), draft.audience.write());
    let source = source(draft, &keys)?;
    let hash = Sha256::digest(source.as_bytes());
    Ok(NewBroadcast {
        title,
        accounts,
        kind,
        hash: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        source,
        audience,
        pace,
        begins,
        by: by.to_owned(),
    })
}

fn begins(draft: &Draft, now: Timestamp) -> Result<Begins, Refused> {
    match (&draft.cron, draft.start_at) {
        (Some(_), Some(_)) => Err(wrong("`start_at` and `cron` do not go together")),
        (Some(cron), None) => {
            let zone = draft.zone.as_deref();
            let zone = zone.ok_or_else(|| wrong("`cron` needs a `timezone`"))?;
            let next = repeat::next(cron, zone, now).map_err(Refused::Wrong)?;
            let next = next.ok_or_else(|| wrong(format!("`{cron}` never comes")))?;
            Ok(Begins::Cron {
                cron: cron.clone(),
                zone: zone.to_owned(),
                next,
            })
        }
        (None, Some(at)) if at <= now => {
            Err(wrong("`start_at` is past: leave it out and start it"))
        }
        (None, Some(at)) => Ok(Begins::At(at)),
        (None, None) => Ok(Begins::Asked),
    }
}

fn check_audience(audience: &Audience, begins: &Begins) -> Result<(), Refused> {
    let Audience {
        listed,
        tag,
        scene,
        language,
        in_sequence,
        not_in_sequence,
        ..
    } = audience;
    for text in [tag, scene, language, in_sequence, not_in_sequence]
        .into_iter()
        .flatten()
    {
        if !(1..=CONDITION_MAX).contains(&text.chars().count()) {
            let what = format!("a condition on followers has 1 to {CONDITION_MAX} characters");
            return Err(wrong(what));
        }
    }
    let only_listed = Audience {
        listed: true,
        ..Audience::default()
    };
    if *listed && *audience != only_listed {
        return Err(wrong(
            "followers who are named one by one meet no other conditions",
        ));
    }
    if *listed && matches!(begins, Begins::Cron { .. }) {
        return Err(wrong(
            "what repeats is for who fits then: `listed` does not go with `cron`",
        ));
    }
    Ok(())
}

/// The sequence of one step that carries the message.
fn source(draft: Draft, accounts: &[String]) -> Result<String, Refused> {
    let mut step = draft.step;
    if draft.by == By::MassSend {
        if step.contains_key("closed") {
            return Err(wrong(
                "by mass send there is no other carrier: leave `closed` out",
            ));
        }
        step.insert("closed".into(), json!(["mass_send", "skip"]));
    }
    let otherwise = [
        ("id", json!("message")),
        ("after", json!("0s")),
        ("closed", json!("skip")),
        ("expire_after", json!(EXPIRES_AFTER)),
    ];
    for (key, value) in otherwise {
        step.entry(key).or_insert(value);
    }
    let mut sequence = draft.rules;
    sequence.insert("sequence".into(), json!("broadcast"));
    sequence.insert("title".into(), json!(draft.title));
    sequence.insert("accounts".into(), json!(accounts));
    sequence.insert("trigger".into(), json!("api"));
    sequence.insert("reenter".into(), json!("always"));
    sequence.insert("steps".into(), json!([step]));
    // JSON is YAML.
    let source = serde_json::to_string_pretty(&sequence).unwrap_or_default();
    let no_files = |_: &str| Err("is a file: a broadcast's are named by URL".to_owned());
    match parse::parse(&source, "broadcast", &no_files) {
        Ok(_) => Ok(source),
        Err(problems) => {
            let told = problems.iter().map(|problem| match &problem.fix {
                Some(fix) => format!("{}: {fix}", problem.message),
                None => problem.message.clone(),
            });
            let told: Vec<_> = told.collect();
            Err(wrong(told.join("; ")))
        }
    }
}
