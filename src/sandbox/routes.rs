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
    #[serde(flatten)]
    action: Action,
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

/// Answers one request under `/sandbox/`.
pub(super) async fn answer(world: &Arc<World>, request: Request) -> Response {
    let control = Control::new(Arc::clone(world));
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').skip(1).collect();
    let method = request.method().clone();
    let found = match (&method, parts.as_slice()) {
        (&Method::GET, ["trap"]) => {
            world.trapped.fetch_add(1, Ordering::Relaxed);
            Ok(StatusCode::NOT_FOUND.into())
        }
        (&Method::POST, ["trap"]) => {
            world.trapped.fetch_add(1, Ordering::Relaxed);
            Ok(StatusCode::NOT_FOUND.into())
        }
        (&Method::GET, ["media", id]) => Ok(media(&control, id)),
        (&Method::GET, ["api", "state"]) => Ok(ok(&control.state())),
        (&Method::GET, ["api", "sent"]) => sent(&control, &request),
        (&Method::GET, ["api", "messages", account, openid]) => control
            .messages(account, openid)
            .map(|lines| ok(&lines))
            .map_err(refuse),
        (&Method::GET, ["api", "followers", account, openid]) => control
            .follower(account, openid)
            .map(|follower| ok(&follower))
            .map_err(refuse),
        (&Method::GET, ["api", "faults"]) => Ok(ok(&control.faults())),
        (&Method::DELETE, ["api", "faults"]) => {
            control.clear_faults();
            Ok(ok(&control.faults()))
        }
        (&Method::POST, ["api", operation]) => post(&control, operation, request).await,
        _ => Ok(problem(StatusCode::NOT_FOUND, "no such address")),
    };
    found.unwrap_or_else(|refusal| refusal)
}

async fn post(control: &Control, operation: &str, request: Request) -> Result<Response, Response> {
    match operation {
        "followers" => {
            let new: NewFollowers = body(request).await?;
            control
                .add_followers(&new)
                .map(|added| ok(&added))
                .map_err(refuse)
        }
        "act" => {
            let act: Act = body(request).await?;
            let pushed = control.act(&act.account, &act.openid, act.action).await;
            pushed.map(|pushed| ok(&pushed)).map_err(refuse)
        }
        "faults" => {
            let new: NewFaults = body(request).await?;
            if new.clear {
                control.clear_faults();
            }
            control.add_faults(new.faults).map_err(refuse)?;
            Ok(ok(&control.faults()))
        }
        "burst" => {
            let burst: Burst = body(request).await?;
            control
                .burst(&burst)
                .await
                .map(|report| ok(&report))
                .map_err(refuse)
        }
        "handshake" => {
            let wanted: Handshake = body(request).await?;
            let attempt = control.handshake(&wanted.account).await;
            attempt.map(|attempt| ok(&attempt)).map_err(refuse)
        }
        _ => Ok(problem(StatusCode::NOT_FOUND, "no such address")),
    }
}

fn sent(control: &Control, request: &Request) -> Result<Response, Response> {
    let query: SentQuery = request
        .params()
        .map_err(|_| problem(StatusCode::BAD_REQUEST, "after and max are numbers"))?;
    let max = query.max.unwrap_or(1_000).min(SENT_MAX);
    let account = query
        .account
        .as_deref()
        .filter(|account| !account.is_empty());
    let openid = query.openid.as_deref().filter(|openid| !openid.is_empty());
    Ok(ok(&control.sent(account, openid, query.after, max)))
}

/// A file, with nothing a browser could run in it.
fn media(control: &Control, id: &str) -> Response {
    let Some(media) = control.media(id) else {
        return problem(StatusCode::NOT_FOUND, "no such file, or it expired");
    };
    Response::builder()
        .content_type(media.mime)
        .header(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; sandbox",
        )
        .header(header::CACHE_CONTROL, "private, max-age=3600")
        .body(media.bytes.clone())
}

/// The JSON body, bounded.
async fn body<T: DeserializeOwned>(mut request: Request) -> Result<T, Response> {
    let is_json = request
        .content_type()
        .is_some_and(|kind| kind.split(';').next().map(str::trim) == Some("application/json"));
    if !is_json {
        let reason = "send application/json";
        return Err(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
    }
    let bytes = request.take_body().into_bytes_limit(BODY_BYTES_MAX).await;
    let bytes =
        bytes.map_err(|_| problem(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| problem(StatusCode::BAD_REQUEST, &error.to_string()))
}

fn ok(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(body) => Response::builder()
            .content_type("application/json")
            .body(body),
        Err(error) => {
            tracing::error!(%error, "an answer of the control API is no JSON");
            problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the answer could not be written",
            )
        }
    }
}

fn refuse(error: ControlError) -> Response {
    let status = match error {
        ControlError::NoAccount | ControlError::NoFollower => StatusCode::NOT_FOUND,
        ControlError::AlreadyFollowing | ControlError::NotFollowing | ControlError::NotAdded => {
            StatusCode::CONFLICT
        }
        ControlError::NoPicture | ControlError::Invalid(_) => StatusCode::BAD_REQUEST,
    };
    problem(status, &error.to_string())
}

fn problem(status: StatusCode, detail: &str) -> Response {
    Response::builder()
        .status(status)
        .content_type("application/json")
        .body(json!({"error": detail}).to_string())
}
