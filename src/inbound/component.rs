//! The HTTP doors of third-party platforms (components), below `/component/{component}`.
//!
//! Events about authorizations, callbacks of all authorized accounts, and the pages on which an owner
//! authorizes. The token and the key are the platform's own, and so is the app id that every message
//! is encrypted for. A callback of an account goes the same way as one of an own account, by
//! `callback::Doors`; its URL names the account, and what is written inside must agree.
//!
//! Deliberately absent: calls to the platform, which are the `Desk`'s.
//!
//! Source: the platform's pages "authorization events" and "message push" of third-party platforms.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use poem::http::StatusCode;
use poem::web::{Data, Path};
use poem::{Body, EndpointExt, Request, Response, Route, get, handler, post};
use secrecy::SecretString;

use crate::inbound::callback::{BODY_WITHIN, Doors, Entrance, plain, random, refuse};
use crate::inbound::component_check::{self, Wanted};
use crate::inbound::component_pages::{self, Visits};
use crate::inbound::envelope::{self, Door, Query, Reply};
use crate::inbound::{component_events, xml};
use crate::store::authorizers::State;

pub use crate::inbound::component_check::{TEST_ACCOUNTS, TestAccount};

/// How long a tester's code is remembered, so that a repeated callback is not answered twice.
const CODE_SEEN_FOR: Duration = Duration::from_secs(600);

/// A call to the platform under way.
pub type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What doors and pages ask of whoever speaks to the platform.
pub trait Desk: Send + Sync + fmt::Debug {
    /// An announced authorization was written down.
    fn look(&self);

    /// A ticket was written down.
    fn look_at_ticket(&self);

    /// The platform speaks of an account that is not known here.
    fn look_for_missed(&self);

    /// A code to begin an authorization with; `None` when the platform gives none.
    fn pre_auth_code(&self) -> Work<Option<String>>;

    /// Takes the account in that an authorization code is for.
    fn exchange(&self, code: SecretString) -> Work<Exchanged>;

    /// The code that came with the announcement of a test account.
    fn note_test_code(&self, app_id: &str, code: SecretString);

    /// Answers the platform's check by the API: exchanges `code`, and sends it back to `openid`.
    fn answer_check(&self, app_id: &str, openid: &str, code: SecretString);
}

/// What became of an authorization code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchanged {
    /// The account, and why it does not send, if it does not.
    Taken { name: String, reason: String },
    /// With the platform's code, where it gave one.
    Refused(Option<i64>),
}

/// One component's ways in.
#[derive(Debug)]
pub struct ComponentEntrance {
    pub app_id: String,
    /// Of all its callbacks and events.
    pub door: Arc<Door>,
    pub desk: Arc<dyn Desk>,
    /// Where owners authorize, on a computer and in WeChat; without a slash at the end.
    pub login_base: String,
    pub mobile_login_base: String,
    /// Where the platform sends them afterwards.
    pub back: String,
}

/// Every component's ways in, by key.
#[derive(Debug)]
pub struct ComponentDoors {
    pub(super) components: HashMap<String, ComponentEntrance>,
    pub(super) doors: Arc<Doors>,
    pub(super) visits: Visits,
    codes_seen: Cache<String, ()>,
}

impl ComponentDoors {
    /// Doors whose accounts' callbacks go on through `doors`.
    pub fn new(components: HashMap<String, ComponentEntrance>, doors: Arc<Doors>) -> Self {
        Self {
            components,
            doors,
            visits: Visits::default(),
            codes_seen: Cache::builder()
                .max_capacity(1_000)
                .time_to_live(CODE_SEEN_FOR)
                .build(),
        }
    }

    /// Takes a callback of an account in.
    async fn take(&self, key: &str, app_id: &str, query: &Query, body: &[u8]) -> Answered {
        let Some(component) = self.components.get(key) else {
            return (StatusCode::NOT_FOUND, "no such component".to_owned());
        };
        if component_check::by_app_id(app_id).is_some() {
            return self.answer_check(component, app_id, query, body);
        }
        let known = self.doors.store.knowledge().authorizers().get(app_id);
        let Some(known) = known.filter(|known| known.component == component.app_id) else {
            return self.take_unknown(component, app_id, query, body).await;
        };
        let Some(account) = known.account else {
            return (StatusCode::NOT_FOUND, "no such account".to_owned());
        };
        let entrance = Entrance {
            account,
            door: Arc::clone(&component.door),
            original_id: (!known.original_id.is_empty()).then(|| known.original_id.clone()),
        };
        self.doors
            .take_through(app_id, &entrance, query, body)
            .await
    }

    /// A callback for an account that is none of ours (yet). Nothing is told to whoever cannot sign.
    async fn take_unknown(
        &self,
        component: &ComponentEntrance,
        app_id: &str,
        query: &Query,
        body: &[u8],
    ) -> Answered {
        let now = self.doors.clock.now();
        let unsealed = match envelope::unseal(&component.door, query, body, now) {
            Ok(unsealed) => unsealed,
            Err(refusal) => return refuse(app_id, &refusal),
        };
        if let Some(test) = component_check::addressed(&unsealed.fields) {
            return self.answer_check(component, test.app_id, query, body);
        }
        // Not served while another platform of ours did, which it has left by now.
        let elsewhere = self.doors.store.knowledge().authorizers().get(app_id);
        let left = elsewhere.is_some_and(|known| known.state == State::Withdrawn);
        let read = self.doors.store.read();
        let row = crate::store::authorizers::get(read, &component.app_id, app_id).await;
        if let Ok(Some(row)) = row
            && row.state == State::NotServed
            && !left
        {
            // The platform would only come again, and its people would see an error.
            return (StatusCode::OK, "success".to_owned());
        }
        // It authorized a moment ago, or while nobody listened: the platform comes again.
        component.desk.look_for_missed();
        tracing::warn!(authorizer = app_id, "a callback of an unknown account");
        (StatusCode::SERVICE_UNAVAILABLE, "try again".to_owned())
    }

    /// Answers the platform's check; keeps nothing of it.
    fn answer_check(
        &self,
        component: &ComponentEntrance,
        app_id: &str,
        query: &Query,
        body: &[u8],
    ) -> Answered {
        let now = self.doors.clock.now();
        let unsealed = match envelope::unseal(&component.door, query, body, now) {
            Ok(unsealed) => unsealed,
            Err(refusal) => return refuse(app_id, &refusal),
        };
        let fields = &unsealed.fields;
        let text = match component_check::wanted(fields) {
            Wanted::Nothing => return (StatusCode::OK, "success".to_owned()),
            Wanted::ByApi(code) => {
                let openid = fields.get("FromUserName").unwrap_or("");
                // The platform may come again for the same question.
                if self
                    .codes_seen
                    .entry(code.to_owned())
                    .or_insert(())
                    .is_fresh()
                {
                    let code = SecretString::from(code);
                    component.desk.answer_check(app_id, openid, code);
                }
                return (StatusCode::OK, String::new());
            }
            Wanted::Reply(text) => text,
        };
        let text = component_check::reply(fields, &text, now.seconds());
        let reply = Reply {
            text: &text,
            sent_at: now,
            nonce: query.nonce.as_deref().unwrap_or(""),
            random: random(),
        };
        let format = xml::Format::Xml;
        let sealed = envelope::seal(&component.door, unsealed.key_index, format, &reply);
        (StatusCode::OK, sealed)
    }
}

/// An answer's status and text.
pub(super) type Answered = (StatusCode, String);

/// The routes of components, below `/component`.
pub fn routes(doors: Arc<ComponentDoors>) -> impl poem::Endpoint {
    Route::new()
        .at("/:component/events", post(take_event))
        // The rest of the path, because some consoles put a slash or a backslash before the app id.
        .at("/:component/callback/*app_id", post(take_callback))
        .at("/:component/authorize", get(component_pages::authorize))
        .at("/:component/authorized", get(component_pages::authorized))
        .data(doors)
}

/// A body that came in time and is not too long.
async fn read(doors: &ComponentDoors, body: Body) -> Result<Vec<u8>, Response> {
    let read = body.into_bytes_limit(doors.doors.body_bytes_max);
    match tokio::time::timeout(BODY_WITHIN, read).await {
        Ok(Ok(body)) => Ok(body.into()),
        Ok(Err(_)) => Err(plain(StatusCode::PAYLOAD_TOO_LARGE, "too large")),
        Err(_) => Err(plain(StatusCode::REQUEST_TIMEOUT, "too slow")),
    }
}

/// Runs to its end even if the platform hangs up.
async fn finish(work: impl Future<Output = Answered> + Send + 'static) -> Response {
    match tokio::spawn(work).await {
        Ok((status, text)) => plain(status, text),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "try again"),
    }
}

/// One callback of an authorized account.
#[handler]
async fn take_callback(
    Path((key, app_id)): Path<(String, String)>,
    request: &Request,
    body: Body,
    doors: Data<&Arc<ComponentDoors>>,
) -> Response {
    let Ok(query) = request.params::<Query>() else {
        return plain(StatusCode::BAD_REQUEST, "malformed");
    };
    let body = match read(&doors, body).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    let app_id = app_id.trim_matches(['/', '\\']).to_owned();
    let doors = Arc::clone(&doors);
    finish(async move { doors.take(&key, &app_id, &query, &body).await }).await
}

/// One event about a ticket or an authorization.
#[handler]
async fn take_event(
    Path(key): Path<String>,
    request: &Request,
    body: Body,
    doors: Data<&Arc<ComponentDoors>>,
) -> Response {
    let Ok(query) = request.params::<Query>() else {
        return plain(StatusCode::BAD_REQUEST, "malformed");
    };
    let body = match read(&doors, body).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    let doors = Arc::clone(&doors);
    finish(async move { component_events::take(&doors, &key, &query, &body).await }).await
}
