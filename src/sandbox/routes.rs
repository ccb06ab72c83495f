//! The control API over HTTP: the operations of `control` as JSON under `/sandbox/`.
//!
//! Every POST must be JSON, which no foreign page can send without asking; `guard` has already
//! looked at where a request comes from.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use poem::http::{Method, StatusCode, header};
use poem::{Request, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::World;
use super::component::ComponentAct;
use super::control::{Control, ControlError, NewFollowers};
use super::event::Action;
use super::fault::Fault;
use super::load::Burst;

/// Largest body of a control request.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Calls per answer of `sent`.
const SENT_MAX: usize = 10_000;

#[derive(Deserialize)]
struct Act {
    account: String,
    openid: String,
    /// The account is told nothing.
    #[serde(default)]
    silent: bool,
    #[serde(flatten)]
    action: Action,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mute {
    account: String,
    openid: String,
    muted: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewFaults {
    #[serde(default)]
    faults: Vec<Fault>,
    /// Removes those set before.
    #[serde(default)]
    clear: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Handshake {
    account: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SentQuery {
    account: Option<String>,
    openid: Option<String>,
    after: u64,
    max: Option<usize>,
}

/// A refused request.
struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, detail: &str) -> Self {
        let detail = detail.to_owned();
        Self { status, detail }
    }

    fn no_address() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no such address")
    }

    fn into_response(self) -> Response {
        Response::builder()
            .status(self.status)
            .content_type("application/json")
            .body(json!({"error": self.detail}).to_string())
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let status = match error {
            ControlError::NoAccount | ControlError::NoComponent | ControlError::NoFollower => {
                StatusCode::NOT_FOUND
            }
            ControlError::AlreadyFollowing
            | ControlError::NotFollowing
            | ControlError::NotAdded => StatusCode::CONFLICT,
            ControlError::NoPicture | ControlError::Invalid(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, &error.to_string())
    }
}

/// Answers one request under `/sandbox/`.
pub(super) async fn answer(world: &Arc<World>, request: Request) -> Response {
    let control = Control::new(Arc::clone(world));
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').skip(1).collect();
    let answered = match (request.method().clone(), parts.as_slice()) {
        // Whatever comes here followed a redirect that it should not have.
        (_, ["trap"]) => {
            world.trapped.fetch_add(1, Ordering::Relaxed);
            Err(Problem::no_address())
        }
        (Method::GET, parts) => get(&control, parts, &request),
        (Method::DELETE, ["api", "faults"]) => {
            control.clear_faults();
            json_of(&control.faults())
        }
        (Method::POST, ["api", operation]) => post(&control, operation, request).await,
        _ => Err(Problem::no_address()),
    };
    answered.unwrap_or_else(Problem::into_response)
}

fn get(control: &Control, parts: &[&str], request: &Request) -> Result<Response, Problem> {
    match parts {
        ["media", id] => media(control, id),
        ["api", "state"] => json_of(&control.state()),
        ["api", "sent"] => sent(control, request),
        ["api", "messages", account, openid] => json_of(&control.messages(account, openid)?),
        ["api", "followers", account, openid] => json_of(&control.follower(account, openid)?),
        ["api", "faults"] => json_of(&control.faults()),
        ["api", "component", app_id] => json_of(&control.component(app_id)?),
        ["api", "component", app_id, account] => json_of(&control.authorizer(app_id, account)?),
        _ => Err(Problem::no_address()),
    }
}

async fn post(control: &Control, operation: &str, request: Request) -> Result<Response, Problem> {
    match operation {
        "followers" => {
            let new: NewFollowers = body(request).await?;
            json_of(&control.add_followers(&new)?)
        }
        "act" => {
            let act: Act = body(request).await?;
            if act.silent {
                control.act_silently(&act.account, &act.openid, act.action)?;
                return json_of(&control.follower(&act.account, &act.openid)?);
            }
            json_of(&control.act(&act.account, &act.openid, act.action).await?)
        }
        "mute" => {
            let mute: Mute = body(request).await?;
            control.mute(&mute.account, &mute.openid, mute.muted)?;
            json_of(&control.follower(&mute.account, &mute.openid)?)
        }
        "faults" => {
            let new: NewFaults = body(request).await?;
            if new.clear {
                control.clear_faults();
            }
            control.add_faults(new.faults)?;
            json_of(&control.faults())
        }
        "burst" => {
            let burst: Burst = body(request).await?;
            json_of(&control.burst(&burst).await?)
        }
        "component" => {
            let asked: ComponentAct = body(request).await?;
            json_of(&control.act_on_component(asked).await?)
        }
        "handshake" => {
            let wanted: Handshake = body(request).await?;
            json_of(&control.handshake(&wanted.account).await?)
        }
        _ => Err(Problem::no_address()),
    }
}

fn sent(control: &Control, request: &Request) -> Result<Response, Problem> {
    let query: SentQuery = request
        .params()
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "after and max are numbers"))?;
    let max = query.max.unwrap_or(1_000).min(SENT_MAX);
    let account = query
        .account
        .as_deref()
        .filter(|account| !account.is_empty());
    let openid = query.openid.as_deref().filter(|openid| !openid.is_empty());
    json_of(&control.sent(account, openid, query.after, max))
}

/// A file, with nothing a browser could run in it.
fn media(control: &Control, id: &str) -> Result<Response, Problem> {
    let gone = || Problem::new(StatusCode::NOT_FOUND, "no such file, or it expired");
    let media = control.media(id).ok_or_else(gone)?;
    Ok(Response::builder()
        .content_type(media.mime)
        .header(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; sandbox",
        )
        .header(header::CACHE_CONTROL, "private, max-age=3600")
        .body(media.bytes.clone()))
}

/// The JSON body, bounded.
async fn body<T: DeserializeOwned>(mut request: Request) -> Result<T, Problem> {
    let is_json = request
        .content_type()
        .is_some_and(|kind| kind.split(';').next().map(str::trim) == Some("application/json"));
    if !is_json {
        let detail = "send application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let bytes = request.take_body().into_bytes_limit(BODY_BYTES_MAX).await;
    let too_large = |_| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large");
    serde_json::from_slice(&bytes.map_err(too_large)?)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, &error.to_string()))
}

fn json_of(value: &impl Serialize) -> Result<Response, Problem> {
    let body = serde_json::to_string(value).map_err(|error| {
        tracing::error!(%error, "an answer of the control API is no JSON");
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the answer could not be written",
        )
    })?;
    Ok(Response::builder()
        .content_type("application/json")
        .body(body))
}
