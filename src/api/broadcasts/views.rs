//! What is said of broadcasts, and asked for.

use chrono::{DateTime, Utc};
use poem_openapi::{Enum, Object};
use serde_json::{Map, Value};

use crate::api::broadcasts::instant;
use crate::api::cursor;
use crate::api::problem::{Code, Refusal};
use crate::api::views::date_or_never;
use crate::broadcast::audience::Audience;
use crate::broadcast::compose::{By, Draft};
use crate::broadcast::forecast::Forecast;
use crate::journey::carrier::Carrier;
use crate::journey::outcome::Outcome;
use crate::journey::sequence::Kind;
use crate::store::broadcasts::{Broadcast, Progress, State};
use crate::store::recipients;
use crate::yaml::parse_span;

/// Followers who get it: those who meet every condition, all who follow when there is none.
#[derive(Clone, Debug, Default, Object)]
#[oai(deny_unknown_fields)]
pub(super) struct AudienceBody {
    /// Followers that are named one by one, and no others.
    listed: Option<bool>,
    tag: Option<String>,
    /// Of the latest QR code; `*` stands for any run of characters.
    scene: Option<String>,
    /// A tag such as `zh_CN`, or its first part.
    language: Option<String>,
    followed_from: Option<DateTime<Utc>>,
    followed_before: Option<DateTime<Utc>>,
    /// Inside this sequence: a step is still planned.
    in_sequence: Option<String>,
    not_in_sequence: Option<String>,
    /// Acted so recently, such as `48h`.
    active_within: Option<String>,
}

/// How a broadcast travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub(super) enum Way {
    /// Each follower by the cheapest carrier that takes the message then.
    Cheapest,
    /// By mass send alone.
    MassSend,
}

/// A broadcast to be made. What it says is written as in a sequence's step.
#[derive(Clone, Debug, Object)]
#[oai(deny_unknown_fields)]
pub(super) struct BroadcastBody {
    /// Name for people, at most 64 characters.
    title: String,
    /// Keys of the accounts.
    accounts: Vec<String>,
    audience: Option<AudienceBody>,
    /// `cheapest` when left out.
    by: Option<Way>,
    /// One message, or one for each language and a `default`. Files are named by URL.
    say: Value,
    /// Condition such as `'vip' not in follower.tags`.
    when: Option<String>,
    /// What happens to whom the platform grants no message: `skip` when left out.
    closed: Option<Value>,
    /// What happens after a send whose answer was lost: `resend` (when left out) or `skip`.
    on_unknown: Option<String>,
    /// How long a message may wait for its turn; `24h` when left out.
    expire_after: Option<String>,
    /// Hours of the day in which nothing is sent.
    quiet_hours: Option<Value>,
    /// Least time between two messages to one follower; `2s` when left out.
    min_gap: Option<String>,
    /// Recipients a second, beside the accounts' limits.
    per_second: Option<u32>,
    /// Recipients come evenly over this time, such as `2h`.
    spread: Option<String>,
    /// When it begins by itself.
    start_at: Option<DateTime<Utc>>,
    /// When it is sent again and again, such as `0 9 * * MON`; each time is a broadcast of its own.
    cron: Option<String>,
    /// Of `cron` and of quiet hours, such as `Asia/Shanghai`.
    timezone: Option<String>,
}

impl BroadcastBody {
    pub(super) fn into_draft(self) -> Result<Draft, Refusal> {
        let wrong = |what: String| Refusal::new(Code::BadRequest, what);
        let span = |name: &str, text: Option<String>| {
            let span = text.map(|text| parse_span(&text).map_err(|why| (text, why)));
            let span = span.transpose();
            span.map_err(|(text, why)| wrong(format!("`{name}: {text}` {why}")))
        };
        let asked = self.audience.unwrap_or_default();
        let audience = Audience {
            listed: asked.listed.unwrap_or(false),
            tag: asked.tag,
            scene: asked.scene,
            language: asked.language,
            followed_from: asked.followed_from.map(instant),
            followed_before: asked.followed_before.map(instant),
            in_sequence: asked.in_sequence,
            not_in_sequence: asked.not_in_sequence,
            active_within: span("active_within", asked.active_within)?.map(|span| span.as_secs()),
        };
        let step = [
            ("say", Some(self.say)),
            ("when", self.when.map(Value::from)),
            ("closed", self.closed),
            ("on_unknown", self.on_unknown.map(Value::from)),
            ("expire_after", self.expire_after.map(Value::from)),
        ];
        let rules = [
            ("quiet_hours", self.quiet_hours),
            ("min_gap", self.min_gap.map(Value::from)),
            ("timezone", self.timezone.clone().map(Value::from)),
        ];
        Ok(Draft {
            title: self.title,
            accounts: self.accounts,
            audience,
            by: match self.by {
                Some(Way::MassSend) => By::MassSend,
                Some(Way::Cheapest) | None => By::Cheapest,
            },
            step: given(step),
            rules: given(rules),
            per_second: self.per_second,
            spread: span("spread", self.spread)?,
            start_at: self.start_at.map(instant),
            cron: self.cron,
            zone: self.timezone,
        })
    }
}

fn given<const N: usize>(all: [(&str, Option<Value>); N]) -> Map<String, Value> {
    let given = all.into_iter();
    given
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
}

/// How a broadcast stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub(super) enum StateView {
    NotStarted,
    Sending,
    Interrupted,
    Completed,
}

impl From<State> for StateView {
    fn from(state: State) -> Self {
        match state {
            State::NotStarted => Self::NotStarted,
            State::Sending => Self::Sending,
            State::Interrupted => Self::Interrupted,
            State::Completed => Self::Completed,
        }
    }
}

/// How many recipients stand where.
#[derive(Clone, Debug, PartialEq, Eq, Object)]
struct ProgressView {
    /// Whether `total` is all of them.
    frozen: bool,
    total: i64,
    /// Their turn has not come.
    planned: i64,
    /// Due, being sent, tried again or held.
    sending: i64,
    sent: i64,
    /// Refused by the platform, or given up.
    failed: i64,
    /// Nothing was sent: no grant was open, or the follower had left.
    skipped: i64,
    /// The answer was lost.
    unknown: i64,
}

/// A broadcast.
#[derive(Clone, Debug, PartialEq, Eq, Object)]
pub(super) struct BroadcastView {
    id: i64,
    title: String,
    state: StateView,
    accounts: Vec<String>,
    by: Option<Way>,
    progress: ProgressView,
    /// How long the rest takes at the measured rate.
    seconds_left: Option<u64>,
    per_second: Option<u32>,
    /// Over so many seconds recipients are spread.
    spread_seconds: Option<u64>,
    /// When it begins by itself the next time.
    starts_at: Option<DateTime<Utc>>,
    cron: Option<String>,
    timezone: Option<String>,
    /// Of one that was made by another's `cron`: that one.
    parent: Option<i64>,
    created_at: Option<DateTime<Utc>>,
    created_by: String,
    started_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
}

impl BroadcastView {
    pub(super) fn of(
        one: Broadcast,
        kind: Option<Kind>,
        accounts: Vec<String>,
        progress: Progress,
    ) -> Self {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let sending = one.state == State::Sending;
        Self {
            id: one.id.0,
            title: one.title,
            state: one.state.into(),
            accounts,
            by: kind.map(|kind| match kind {
                Kind::MassBroadcast => Way::MassSend,
                Kind::Broadcast | Kind::Sequence => Way::Cheapest,
            }),
            progress: ProgressView {
                frozen: progress.frozen,
                total: progress.total,
                planned: progress.planned(),
                sending: progress.sending,
                sent: progress.sent,
                failed: progress.failed,
                skipped: progress.skipped,
                unknown: progress.unknown,
            },
            seconds_left: progress
                .left()
                .filter(|_| sending)
                .map(|left| left.as_secs()),
            per_second: one.pace.per_second,
            spread_seconds: one.pace.spread.map(|span| span.as_secs()),
            starts_at: date_or_never(one.start_at),
            cron: some(one.cron),
            timezone: some(one.zone),
            parent: one.parent.map(|parent| parent.0),
            created_at: date_or_never(one.created_at),
            created_by: one.created_by,
            started_at: date_or_never(one.started_at),
            ended_at: date_or_never(one.ended_at),
        }
    }

    /// Whether it changes by itself.
    pub(super) fn is_sending(&self) -> bool {
        self.state == StateView::Sending || self.progress.sending > 0
    }
}

/// One page of broadcasts.
#[derive(Clone, Debug, Object)]
pub(super) struct BroadcastsPage {
    pub(super) items: Vec<BroadcastView>,
    pub(super) next: Option<String>,
}

/// Followers by name.
#[derive(Clone, Debug, Object)]
pub(super) struct Listed {
    /// The account that they follow.
    pub(super) account: String,
    /// At most 1,000.
    pub(super) openids: Vec<String>,
}

/// What became of them.
#[derive(Clone, Debug, Object)]
pub(super) struct ListedView {
    /// Recipients that were none before.
    pub(super) added: i64,
    /// Whom the account does not know, or who do not follow it.
    pub(super) strangers: Vec<String>,
}

/// Where a recipient stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub(super) enum RecipientStanding {
    Planned,
    Sending,
    Sent,
    Failed,
    Skipped,
    Unknown,
}

impl From<RecipientStanding> for recipients::Standing {
    fn from(standing: RecipientStanding) -> Self {
        match standing {
            RecipientStanding::Planned => Self::Planned,
            RecipientStanding::Sending => Self::Sending,
            RecipientStanding::Sent => Self::Sent,
            RecipientStanding::Failed => Self::Failed,
            RecipientStanding::Skipped => Self::Skipped,
            RecipientStanding::Unknown => Self::Unknown,
        }
    }
}

impl From<recipients::Standing> for RecipientStanding {
    fn from(standing: recipients::Standing) -> Self {
        match standing {
            recipients::Standing::Planned => Self::Planned,
            recipients::Standing::Sending => Self::Sending,
            recipients::Standing::Sent => Self::Sent,
            recipients::Standing::Failed => Self::Failed,
            recipients::Standing::Skipped => Self::Skipped,
            recipients::Standing::Unknown => Self::Unknown,
        }
    }
}

/// A recipient, and what came of the message.
#[derive(Clone, Debug, Object)]
pub(super) struct RecipientView {
    account: String,
    openid: String,
    language: Option<String>,
    standing: RecipientStanding,
    /// When it ended.
    at: Option<DateTime<Utc>>,
    /// The outcome that ended it, such as `sent`, `refused` or `cancelled`.
    outcome: Option<String>,
    carrier: Option<String>,
    /// The platform's errcode.
    code: Option<i64>,
    /// Why it was not sent.
    reason: Option<String>,
}

impl RecipientView {
    pub(super) fn of(one: recipients::Recipient, account: String) -> Self {
        Self {
            account,
            openid: one.openid,
            language: one.language,
            standing: one.standing.into(),
            at: date_or_never(one.at),
            outcome: one.outcome.map(Outcome::word).map(str::to_owned),
            carrier: one.carrier.map(Carrier::word).map(str::to_owned),
            code: one.code,
            reason: Some(one.detail).filter(|detail| !detail.is_empty()),
        }
    }
}

/// One page of recipients.
#[derive(Clone, Debug, Object)]
pub(super) struct RecipientsPage {
    pub(super) items: Vec<RecipientView>,
    pub(super) next: Option<String>,
}

/// How many, of one kind.
#[derive(Clone, Debug, Object)]
struct DryRunShare {
    /// A carrier, or a language; an empty one is not known.
    of: String,
    count: usize,
}

/// Why some of the audience would not get it, or not now.
#[derive(Clone, Debug, Object)]
struct OthersView {
    reason: String,
    count: usize,
    /// One of them.
    openid: String,
}

/// What a dry run found.
#[derive(Clone, Debug, Object)]
pub(super) struct DryRunView {
    /// Followers who were looked at.
    looked_at: usize,
    /// Who would get it, by carrier.
    carriers: Vec<DryRunShare>,
    /// The same, by language.
    languages: Vec<DryRunShare>,
    others: Vec<OthersView>,
    next: Option<String>,
}

impl From<Forecast> for DryRunView {
    fn from(found: Forecast) -> Self {
        let carriers = found
            .carriers
            .into_iter()
            .map(|(carrier, count)| DryRunShare {
                of: carrier.word().to_owned(),
                count,
            });
        let languages = found.languages.into_iter();
        let languages = languages.map(|(of, count)| DryRunShare { of, count });
        let others = found.others.into_iter();
        let others = others.map(|(reason, (count, openid))| OthersView {
            reason,
            count,
            openid,
        });
        Self {
            looked_at: found.looked_at,
            carriers: carriers.collect(),
            languages: languages.collect(),
            others: others.collect(),
            next: found
                .next
                .map(|(account, openid)| cursor::write_place(account.0, &openid)),
        }
    }
}
