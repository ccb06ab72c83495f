//! Events about a third-party platform itself: its ticket, and who authorizes it or takes that back.
//!
//! Each is in durable storage before `success`; what has to be asked of the platform comes after. An
//! event older than the newest one of the same account changes nothing, so a repeated or overtaken
//! one is harmless.
//!
//! Source: the platform's page "authorization events" (授权事件推送).

use poem::http::StatusCode;
use secrecy::SecretString;

use crate::clock::Timestamp;
use crate::inbound::callback::{ANSWER_WITHIN, refuse};
use crate::inbound::component::{Answered, ComponentDoors, ComponentEntrance};
use crate::inbound::component_check;
use crate::inbound::envelope::{self, Doubt, Query, Refusal};
use crate::inbound::xml::{Fields, Format, ReadError};
use crate::store::components::{self, Ticket};
use crate::store::{Error, authorizers};

/// Longest ticket or code taken, in bytes; real ones have some 100.
const SECRET_BYTES_MAX: usize = 512;
/// Longest app id taken, in bytes; real ones have 18.
const APP_ID_BYTES_MAX: usize = 64;

const WITHDRAWN: &str = "its owner took the authorization back: ask them to authorize again";

/// What an event says.
enum News {
    Ticket(SecretString),
    /// Authorized, or authorized anew with other permission sets.
    Authorized {
        app_id: String,
        code: SecretString,
    },
    Unauthorized {
        app_id: String,
    },
    Other,
}

/// Takes one event in; the answer's status and text.
pub(super) async fn take(
    doors: &ComponentDoors,
    key: &str,
    query: &Query,
    body: &[u8],
) -> Answered {
    let Some(component) = doors.components.get(key) else {
        return (StatusCode::NOT_FOUND, "no such component".to_owned());
    };
    let now = doors.doors.clock.now();
    let opened = open(component, query, body, now);
    let (news, pushed_at) = match opened {
        Ok(opened) => opened,
        Err(refusal) => return refuse(key, &refusal),
    };
    let noted = note(doors, component, news, pushed_at);
    match tokio::time::timeout(ANSWER_WITHIN, noted).await {
        Ok(Ok(())) => (StatusCode::OK, "success".to_owned()),
        Ok(Err(error)) => {
            if !matches!(error, Error::Stopped) {
                tracing::error!(%error, component = key, "event not stored");
            }
            (StatusCode::SERVICE_UNAVAILABLE, "try again".to_owned())
        }
        Err(_) => {
            tracing::error!(component = key, "event not stored in time");
            (StatusCode::SERVICE_UNAVAILABLE, "try again".to_owned())
        }
    }
}

fn open(
    component: &ComponentEntrance,
    query: &Query,
    body: &[u8],
    now: Timestamp,
) -> Result<(News, Timestamp), Refusal> {
    let unsealed = envelope::unseal(&component.door, query, body, now)?;
    let fields = &unsealed.fields;
    let ours = |fields: &Fields| fields.get("AppId").is_some_and(|id| id == component.app_id);
    let outer = Fields::read(body, Format::of(body)?)?;
    if !ours(fields) || (outer.get("AppId").is_some() && !ours(&outer)) {
        return Err(Doubt::OtherComponent.into());
    }
    let seconds = fields.get("CreateTime").and_then(read_seconds);
    let seconds = seconds.ok_or(ReadError::Malformed("no CreateTime in seconds"))?;
    // Nothing happens after it was told.
    let pushed_at = Timestamp::from_seconds(seconds).min(now);
    Ok((read(fields)?, pushed_at))
}

fn read(fields: &Fields) -> Result<News, ReadError> {
    let kind = fields.get("InfoType").unwrap_or("").trim();
    let app_id = || {
        let app_id = fields.get("AuthorizerAppid").unwrap_or("");
        let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let fits = (1..=APP_ID_BYTES_MAX).contains(&app_id.len()) && app_id.bytes().all(letter);
        fits.then(|| app_id.to_owned())
            .ok_or(ReadError::Malformed("no AuthorizerAppid"))
    };
    let secret = |name: &str| {
        let text = fields.get(name).unwrap_or("");
        let fits = (1..=SECRET_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| SecretString::from(text))
            .ok_or(ReadError::Malformed("a ticket or code that is none"))
    };
    Ok(match kind.to_ascii_lowercase().as_str() {
        "" => return Err(ReadError::Malformed("no InfoType")),
        "component_verify_ticket" => News::Ticket(secret("ComponentVerifyTicket")?),
        "authorized" | "updateauthorized" => News::Authorized {
            app_id: app_id()?,
            code: secret("AuthorizationCode")?,
        },
        "unauthorized" => News::Unauthorized { app_id: app_id()? },
        _ => News::Other,
    })
}

fn read_seconds(text: &str) -> Option<i64> {
    let digits = text.trim();
    let fits = (1..=12).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| digits.parse().ok()).flatten()
}

/// Writes down what an event says, then wakes whoever acts on it.
async fn note(
    doors: &ComponentDoors,
    component: &ComponentEntrance,
    news: News,
    pushed_at: Timestamp,
) -> Result<(), Error> {
    let store = &doors.doors.store;
    let now = doors.doors.clock.now();
    let own = component.app_id.as_str();
    let word = match news {
        News::Ticket(value) => {
            components::keep_ticket(store, own, Ticket { value, pushed_at }).await?;
            component.desk.look_at_ticket();
            "ticket"
        }
        News::Authorized { app_id, code } if component_check::by_app_id(&app_id).is_some() => {
            component.desk.note_test_code(&app_id, code);
            "test_account"
        }
        News::Authorized { app_id, code } => {
            authorizers::announce(store, (own, &app_id), &code, pushed_at, now).await?;
            component.desk.look();
            "authorized"
        }
        News::Unauthorized { app_id } => {
            let key = (own, app_id.as_str());
            let ended = authorizers::withdraw(store, key, Some(pushed_at), WITHDRAWN, now).await?;
            if ended {
                tracing::warn!(
                    authorizer = app_id,
                    "authorization taken back: it sends no more"
                );
            }
            "unauthorized"
        }
        News::Other => "other",
    };
    metrics::counter!("dripwheel_component_events_total", "event" => word).increment(1);
    Ok(())
}
