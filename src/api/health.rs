//! Operations on an account's health: how it is, pausing and resuming it, clearing its quotas.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use poem::web::Data;
use poem_openapi::param::{Header, Path};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use crate::api::accounts::named;
use crate::api::keys::Presented;
use crate::api::problem::{Code, Refusal};
use crate::api::{ApiState, Group};
use crate::clock::Timestamp;
use crate::config::Scope;
use crate::journey::carrier::Carrier;
use crate::sender::budget::Seen;
use crate::sender::quota::{CLEARS_A_MONTH, Cleared};
use crate::store::health::Reaction;
use crate::store::pauses::{self, Pause, REASON_BYTES_MAX};
use crate::story::Lang;
use crate::story::health::{self, Health};

#[derive(Debug)]
pub(super) struct HealthApi;

type State<'a> = Data<&'a Arc<ApiState>>;

fn date(at: Timestamp) -> DateTime<Utc> {
    at.to_chrono()
}

/// How an account is.
#[derive(Clone, Debug, Object)]
struct HealthView {
    key: String,
    /// `sending`, `resting`, `needs_attention`, `paused` or `unauthorized`.
    standing: String,
    /// Name of the platform's rules; absent for an account that is not configured any more.
    profile: Option<String>,
    /// What a person has to do; empty when nothing.
    needs: Vec<String>,
    /// A person's pause.
    pause: Option<PauseView>,
    /// The account rests as a whole.
    rest: Option<RestView>,
    /// The access token; absent before the first one was asked for.
    token: Option<TokenView>,
    /// The interfaces that the account uses.
    interfaces: Vec<InterfaceView>,
    /// Sends of the last 24 hours, by carrier. What a crash loses of these counts are the last few
    /// seconds before it.
    sends: Vec<SendsView>,
    /// Refusals of the last 24 hours, most frequent first.
    refusals: Vec<RefusalsView>,
    /// Grants of the last 24 hours, by kind.
    grants: Vec<GrantsView>,
    /// The last 24 hours, oldest first.
    hours: Vec<HourView>,
    /// Sends of the last 24 hours whose answer was lost, counted up to 10,000.
    unknown_sends: u32,
    /// Clears of quotas that are left this month, as far as this server knows.
    clears_left: u32,
    /// What people did to the account in the last month, newest first.
    acts: Vec<ActView>,
}

/// A pause by a person.
#[derive(Clone, Debug, Object)]
struct PauseView {
    reason: String,
    by: String,
    at: DateTime<Utc>,
}

/// A rest.
#[derive(Clone, Debug, Object)]
struct RestView {
    /// `breaker`, `minute_used_up`, `day_used_up` or `needs_attention`.
    why: String,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    /// What the platform said.
    detail: Option<String>,
}

/// How the access token stands; never the token.
#[derive(Clone, Debug, Object)]
struct TokenView {
    had_since: Option<DateTime<Utc>>,
    ends_at: Option<DateTime<Utc>>,
    /// When asking for one failed last, unless it has not failed since.
    failed_at: Option<DateTime<Utc>>,
    failure: Option<String>,
}

/// What an interface has left.
#[derive(Clone, Debug, Object)]
struct InterfaceView {
    /// The platform's path without `/cgi-bin/`.
    interface: String,
    /// Calls per day, as the platform says; every system that uses the account spends them.
    day_limit: Option<u64>,
    day_used: Option<u64>,
    day_left: Option<u64>,
    /// Calls per span, as the platform says.
    rate_calls: Option<u32>,
    rate_seconds: Option<u64>,
    asked_at: Option<DateTime<Utc>>,
    /// Which share of its limits is used, in percent: fewer after refusals.
    pace_percent: u32,
    rest: Option<RestView>,
}

impl From<&Seen> for InterfaceView {
    fn from(seen: &Seen) -> Self {
        let day = seen.quota.as_ref().and_then(|quota| quota.day);
        let rate = seen.quota.as_ref().and_then(|quota| quota.rates.first());
        Self {
            interface: seen.interface.name().to_owned(),
            day_limit: day.map(|day| day.limit),
            day_used: day.map(|day| day.used),
            day_left: day.map(|day| day.left),
            rate_calls: rate.map(|rate| rate.calls),
            rate_seconds: rate.map(|rate| rate.span.as_secs()),
            asked_at: seen.asked_at.map(date),
            pace_percent: seen.pace / 10,
            rest: seen.rest.map(|rest| RestView {
                why: rest.why.word().to_owned(),
                since: date(rest.since),
                until: date(rest.until),
                detail: None,
            }),
        }
    }
}

/// Sends by one carrier.
#[derive(Clone, Debug, Object)]
struct SendsView {
    carrier: String,
    accepted: u64,
    refused: u64,
    /// The answer was lost.
    unknown: u64,
    /// Steps that are tried again.
    retried: u64,
}

/// Refusals of one kind.
#[derive(Clone, Debug, Object)]
struct RefusalsView {
    /// The platform's code; absent where it gave none.
    errcode: Option<i64>,
    /// What was done: `tried_again`, `held`, `ended`, `given_up`, `rested_minute`, `rested_day`,
    /// `needs_attention`, `interface_rested` or `follower_left`.
    reaction: Option<String>,
    count: u64,
}

/// Grants of one kind.
#[derive(Clone, Debug, Object)]
struct GrantsView {
    kind: String,
    opened: u64,
    /// Messages that they paid for.
    spent: u64,
}

/// One hour.
#[derive(Clone, Debug, Object)]
struct HourView {
    at: DateTime<Utc>,
    accepted: u64,
    refused: u64,
    unknown: u64,
}

/// What a person did.
#[derive(Clone, Debug, Object)]
struct ActView {
    at: DateTime<Utc>,
    /// `pause`, `resume`, `clear_quota` or `clear_quota_refused`.
    act: String,
    /// Name of the API key, or of who signed in.
    by: String,
    detail: String,
}

impl From<Health> for HealthView {
    fn from(health: Health) -> Self {
        let sends = |(carrier, sends): (&Carrier, &health::Sends)| SendsView {
            carrier: carrier.word().to_owned(),
            accepted: sends.accepted,
            refused: sends.refused,
            unknown: sends.unknown,
            retried: sends.retried,
        };
        let refusals = |one: &health::Refusals| RefusalsView {
            errcode: (one.code != 0).then_some(one.code),
            reaction: one
                .reaction
                .map(|reaction| Reaction::word(reaction).to_owned()),
            count: one.n,
        };
        Self {
            key: health.standing.key.clone(),
            standing: health.word().to_owned(),
            profile: health.profile.clone(),
            needs: health
                .needs
                .iter()
                .map(|need| health::need(need, Lang::En))
                .collect(),
            pause: health.pause.map(|pause| PauseView {
                reason: pause.reason,
                by: pause.by,
                at: date(pause.at),
            }),
            rest: health.rest.map(|rest| RestView {
                why: rest.why.to_owned(),
                since: date(rest.since),
                until: date(rest.until),
                detail: Some(rest.detail),
            }),
            token: health.token.map(|token| TokenView {
                had_since: token.had_since.map(date),
                ends_at: token.ends_at.map(date),
                failed_at: token.failed.as_ref().map(|(at, _)| date(*at)),
                failure: token.failed.map(|(_, words)| words),
            }),
            interfaces: health.interfaces.iter().map(InterfaceView::from).collect(),
            sends: health.sends.iter().map(sends).collect(),
            refusals: health.refusals.iter().map(refusals).collect(),
            grants: health
                .grants
                .iter()
                .map(|(kind, sums)| GrantsView {
                    kind: (*kind).to_owned(),
                    opened: sums.opened,
                    spent: sums.spent,
                })
                .collect(),
            hours: health
                .hours
                .iter()
                .map(|hour| HourView {
                    at: date(hour.at),
                    accepted: hour.accepted,
                    refused: hour.refused,
                    unknown: hour.unknown,
                })
                .collect(),
            unknown_sends: health.unknown,
            clears_left: health.clears_left,
            acts: health
                .acts
                .into_iter()
                .map(|entry| ActView {
                    at: date(entry.at),
                    act: entry.act.word().to_owned(),
                    by: entry.caller,
                    detail: entry.detail,
                })
                .collect(),
        }
    }
}

/// Why an account is paused.
#[derive(Clone, Debug, Object)]
struct PauseRequest {
    /// For whoever finds it paused.
    #[oai(default, validator(max_length = 300))]
    reason: String,
}

/// Whether an account is paused now, and whether this request made it so.
#[derive(Clone, Debug, Object)]
struct PausedView {
    paused: bool,
    changed: bool,
}

/// A message is on its way.
#[derive(Clone, Debug, Object)]
struct TestedView {
    /// Its `webhook-id`.
    id: String,
}

/// Quotas were cleared.
#[derive(Clone, Debug, Object)]
pub(super) struct ClearedView {
    /// Clears that are left this month, as far as this server knows: those asked for in the
    /// platform's console are not counted.
    pub(super) clears_left: u32,
    pub(super) clears_a_month: u32,
}

#[OpenApi]
impl HealthApi {
    /// Tells how an account is
    ///
    /// Token, quotas, sends, refusals with what was done about them, rests, and what a person has
    /// to do.
    #[oai(
        path = "/accounts/:key/health",
        method = "get",
        tag = "Group::Accounts",
        operation_id = "get_health"
    )]
    async fn health(
        &self,
        presented: Presented,
        state: State<'_>,
        /// The operator's name for the account.
        key: Path<String>,
    ) -> Result<Json<HealthView>, Refusal> {
        presented.caller().may(Scope::Read)?;
        let now = state.clock.now();
        let quotas = state.quotas.as_deref();
        let health = health::load(&state.store, quotas, &key.0, now).await?;
        let health =
            health.ok_or_else(|| Refusal::new(Code::NoSuchAccount, "no account has this key"))?;
        Ok(Json(health.into()))
    }

    /// Keeps an account from sending, until it is resumed
    ///
    /// Holds over restarts. Doing it twice changes nothing: the first reason stays.
    #[oai(
        path = "/accounts/:key/pause",
        method = "post",
        tag = "Group::Accounts",
        operation_id = "pause_account"
    )]
    async fn pause(
        &self,
        presented: Presented,
        state: State<'_>,
        /// The operator's name for the account.
        key: Path<String>,
        body: Json<PauseRequest>,
    ) -> Result<Json<PausedView>, Refusal> {
        let caller = presented.caller();
        caller.may(Scope::Write)?;
        let account = named(&state, &key.0).await?.id;
        if body.0.reason.len() > REASON_BYTES_MAX {
            return Err(Refusal::new(
                Code::BadRequest,
                "a reason has at most 300 bytes",
            ));
        }
        let pause = Pause {
            reason: body.0.reason,
            by: caller.name.clone(),
            at: state.clock.now(),
        };
        let changed = pauses::pause(&state.store, account, pause).await?;
        Ok(Json(PausedView {
            paused: true,
            changed,
        }))
    }

    /// Lets a paused account send again
    #[oai(
        path = "/accounts/:key/resume",
        method = "post",
        tag = "Group::Accounts",
        operation_id = "resume_account"
    )]
    async fn resume(
        &self,
        presented: Presented,
        state: State<'_>,
        /// The operator's name for the account.
        key: Path<String>,
    ) -> Result<Json<PausedView>, Refusal> {
        let caller = presented.caller();
        caller.may(Scope::Write)?;
        let account = named(&state, &key.0).await?.id;
        let now = state.clock.now();
        let changed = pauses::resume(&state.store, account, &caller.name, now).await?;
        Ok(Json(PausedView {
            paused: false,
            changed,
        }))
    }

    /// Sends a test message the way that alerts go
    ///
    /// It is signed and tried again like an alert; whether it was taken, the other side knows.
    #[oai(
        path = "/alerts/test",
        method = "post",
        tag = "Group::Alerts",
        operation_id = "test_alerts"
    )]
    async fn test_alerts(
        &self,
        presented: Presented,
        state: State<'_>,
    ) -> Result<Json<TestedView>, Refusal> {
        let caller = presented.caller();
        caller.may(Scope::Write)?;
        let alerts = state.alerts.as_ref().ok_or_else(|| {
            let detail = "write `alerts` into dripwheel.yaml first";
            Refusal::new(Code::NoAlerts, detail)
        })?;
        let id = alerts.test(&caller.name).await?;
        Ok(Json(TestedView { id }))
    }

    /// Has the platform count all of an account's calls anew
    ///
    /// The platform does it ten times a month, shared with its own console. It is asked once; an
    /// answer that was lost counts as done. With an `Idempotency-Key`, a request that is sent again
    /// within 24 hours acts once.
    #[oai(
        path = "/accounts/:key/clear-quota",
        method = "post",
        tag = "Group::Accounts",
        operation_id = "clear_quota"
    )]
    async fn clear_quota(
        &self,
        presented: Presented,
        state: State<'_>,
        /// The operator's name for the account.
        key: Path<String>,
        /// 1 to 255 visible ASCII characters, fresh for each request.
        #[oai(name = "Idempotency-Key")]
        idempotency_key: Header<Option<String>>,
    ) -> Result<Json<ClearedView>, Refusal> {
        let caller = presented.caller().clone();
        caller.may(Scope::Write)?;
        let state = Arc::clone(&state);
        // A task of its own: a caller that hangs up must not keep the answer from being remembered.
        let cleared = tokio::spawn(async move {
            let clear = clear(&state, &key.0, &caller.name);
            let request = ["clear_quota", &key.0];
            let idempotency_key = idempotency_key.0.as_deref();
            state
                .replays
                .once(&caller, idempotency_key, &request, clear)
                .await
        })
        .await
        .map_err(|_| Refusal::new(Code::Internal, "the log says what happened"))?;
        Ok(Json(cleared?))
    }
}

async fn clear(state: &ApiState, key: &str, by: &str) -> Result<ClearedView, Refusal> {
    let account = named(state, key).await?.id;
    let no_platform = || {
        let detail = "the account is not configured, or this server does not send";
        Refusal::new(Code::NoPlatform, detail)
    };
    let quotas = state.quotas.as_ref().ok_or_else(no_platform)?;
    match quotas.clear(account, by).await? {
        Cleared::Done => Ok(ClearedView {
            clears_left: quotas.clears_left(account).await?,
            clears_a_month: CLEARS_A_MONTH,
        }),
        Cleared::NoneLeft => Err(Refusal::new(
            Code::NoClearLeft,
            "the platform clears quotas ten times a month, its console included, and these are \
             used up (48006): wait for the next month, or for the day's reset",
        )),
        Cleared::Refused(words) => Err(Refusal::new(Code::PlatformRefused, words)),
        Cleared::Unknown(words) => Err(Refusal::new(
            Code::PlatformSilent,
            format!("{words}; the quotas may or may not be cleared: look at the account's health"),
        )),
        Cleared::NoPlatform => Err(no_platform()),
    }
}
