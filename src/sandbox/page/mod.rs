//! The phone page: a chat in the browser, with the followers beside it and what happened.
//!
//! Rendered on the server and usable without JavaScript; with it, changes appear as they happen.
//! Everything comes from this port, and all content is escaped by the template.

mod content;
mod labels;
mod text;
mod view;

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use futures_util::{Stream, stream};
use poem::http::{Method, StatusCode, header};
use poem::web::sse::{Event, SSE};
use poem::{IntoResponse, Request, Response};
use rust_embed::RustEmbed;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Interval, MissedTickBehavior};

use self::labels::Labels;
use self::view::{Asked, PhonePage};
use super::control::{Control, ControlError, NewFollowers};
use super::event::{Action, PopupAnswer};
use super::{Change, World};

/// Largest form.
const FORM_BYTES_MAX: usize = 16 * 1024;
/// How long a form waits for the callback before the page comes back; the push goes on.
const PATIENCE: Duration = Duration::from_millis(400);

#[derive(RustEmbed)]
#[folder = "src/sandbox/page/assets"]
struct Assets;

/// The picture that followers send.
pub(super) fn picture() -> Vec<u8> {
    Assets::get("picture.png")
        .map(|file| file.data.into_owned())
        .unwrap_or_default()
}

/// Which phone a page shows.
#[derive(Default, Deserialize)]
#[serde(default)]
struct PageQuery {
    account: String,
    follower: String,
    lang: Option<String>,
}

/// A form of the page.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Form {
    account: String,
    follower: String,
    lang: String,
    /// What to do.
    r#do: String,
    /// Text, key, scene or name, whichever it takes.
    value: String,
    /// Of a msgmenu's choice.
    id: String,
}

/// Answers `/` and what lies under `/page/`.
pub(super) async fn answer(world: &Arc<World>, request: Request) -> Response {
    let path = request.uri().path();
    match (request.method(), path) {
        (&Method::GET, "/") => phone(world, &request),
        (&Method::GET, "/page/events") => events(world, &request),
        (&Method::POST, "/page/do") => act(world, request).await,
        (&Method::GET, path) => asset(path.trim_start_matches("/page/")),
        _ => StatusCode::METHOD_NOT_ALLOWED.into(),
    }
}

fn asset(name: &str) -> Response {
    let content_type = match name.rsplit_once('.') {
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "png")) => "image/png",
        _ => return StatusCode::NOT_FOUND.into(),
    };
    match Assets::get(name) {
        None => StatusCode::NOT_FOUND.into(),
        Some(file) => Response::builder()
            .content_type(content_type)
            .header(header::CACHE_CONTROL, "no-cache")
            .body(file.data.into_owned()),
    }
}

fn phone(world: &Arc<World>, request: &Request) -> Response {
    if world.accounts.is_empty() {
        return Response::builder().body("No account exists yet: add one under a component.");
    }
    let query: PageQuery = request.params().unwrap_or_default();
    let accepted = request.header(header::ACCEPT_LANGUAGE);
    let page = PhonePage::new(
        world,
        &Asked {
            account: &query.account,
            openid: &query.follower,
            labels: Labels::choose(query.lang.as_deref(), accepted),
        },
    );
    match page.render() {
        Ok(html) => Response::builder()
            .content_type("text/html; charset=utf-8")
            .header(header::CACHE_CONTROL, "no-store")
            .body(html),
        Err(error) => {
            tracing::error!(%error, "the phone page did not render");
            StatusCode::INTERNAL_SERVER_ERROR.into()
        }
    }
}

/// Does what a form says and shows the page again.
async fn act(world: &Arc<World>, mut request: Request) -> Response {
    let body = request.take_body().into_bytes_limit(FORM_BYTES_MAX).await;
    let form = match body {
        Err(_) => return StatusCode::PAYLOAD_TOO_LARGE.into(),
        Ok(body) => read_form(&body),
    };
    let control = Control::new(Arc::clone(world));
    let done = if form.r#do == "add" {
        add(&control, &form)
    } else {
        perform(control, &form)
            .await
            .map(|()| form.follower.clone())
    };
    match done {
        Err(error) => Response::builder()
            .status(StatusCode::BAD_REQUEST)
            .content_type("text/plain; charset=utf-8")
            .body(error.to_string()),
        Ok(openid) => Response::builder()
            .status(StatusCode::SEE_OTHER)
            .header(
                header::LOCATION,
                view::link(&form.account, &openid, &form.lang),
            )
            .finish(),
    }
}

fn read_form(body: &[u8]) -> Form {
    let mut form = Form::default();
    for (name, value) in url::form_urlencoded::parse(body) {
        let field = match &*name {
            "account" => &mut form.account,
            "follower" => &mut form.follower,
            "lang" => &mut form.lang,
            "do" => &mut form.r#do,
            "value" => &mut form.value,
            "id" => &mut form.id,
            _ => continue,
        };
        *field = value.into_owned();
    }
    form
}

fn add(control: &Control, form: &Form) -> Result<String, ControlError> {
    let language = if form.lang == "en" { "en" } else { "zh_CN" };
    let added = control.add_followers(&NewFollowers {
        account: form.account.clone(),
        language: Some(language.to_owned()),
        name: Some(form.value.trim().to_owned()),
        ..NewFollowers::default()
    })?;
    Ok(added
        .openids
        .first()
        .map(|openid| openid.to_string())
        .unwrap_or_default())
}

/// The act goes on when the page does not wait for its end; mistakes show at once.
async fn perform(control: Control, form: &Form) -> Result<(), ControlError> {
    if ["mute", "unmute"].contains(&form.r#do.as_str()) {
        return control.mute(&form.account, &form.follower, form.r#do == "mute");
    }
    let value = form.value.clone();
    let action = match form.r#do.as_str() {
        "follow" if value.is_empty() => Action::Follow { scene: None },
        "follow" => Action::Follow { scene: Some(value) },
        "unfollow" => Action::Unfollow,
        // Browsers send line ends as CR LF.
        "text" => Action::Text {
            text: value.replace("\r\n", "\n"),
        },
        "image" => Action::Image { media_id: None },
        "click" => Action::Click { key: value },
        "scan" => Action::Scan { scene: value },
        "accept" | "reject" => Action::Popup {
            answers: vec![PopupAnswer {
                template_id: value,
                accept: form.r#do == "accept",
            }],
            scene: 2,
        },
        "withdraw" => Action::Withdraw {
            template_ids: vec![value],
        },
        "tap" => Action::Tap {
            id: form.id.clone(),
            text: value,
        },
        _ => return Err(ControlError::Invalid("no such action")),
    };
    let (account, openid) = (form.account.clone(), form.follower.clone());
    let acting = tokio::spawn(async move { control.act(&account, &openid, action).await });
    match tokio::time::timeout(PATIENCE, acting).await {
        Ok(Ok(Err(error))) => Err(error),
        _ => Ok(()),
    }
}

/// What an open page listens to: `changed` when its account saw something, `tick` every second.
fn events(world: &Arc<World>, request: &Request) -> Response {
    let query: PageQuery = request.params().unwrap_or_default();
    let account = world.account(&query.account).map(|account| account.index);
    let accepted = request.header(header::ACCEPT_LANGUAGE);
    let labels = Labels::choose(query.lang.as_deref(), accepted);
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let listener = Listener {
        changes: world.changes.subscribe(),
        world: Arc::clone(world),
        account,
        openid: query.follower,
        labels,
        seconds,
    };
    SSE::new(listener.stream()).into_response()
}

struct Listener {
    world: Arc<World>,
    changes: tokio::sync::broadcast::Receiver<Change>,
    account: Option<usize>,
    openid: String,
    labels: &'static Labels,
    seconds: Interval,
}

impl Listener {
    fn stream(self) -> impl Stream<Item = Event> + Send {
        stream::unfold(self, |mut listener| async move {
            let event = listener.next().await?;
            Some((event, listener))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            tokio::select! {
                () = self.world.closed.cancelled() => return None,
                _ = self.seconds.tick() => return Some(self.tick()),
                change = self.changes.recv() => match change {
                    Err(RecvError::Closed) => return None,
                    // The page looks at everything again anyway.
                    Err(RecvError::Lagged(_)) => return Some(changed(false)),
                    Ok(change) if Some(change.account) == self.account => {
                        return Some(changed(*change.openid == *self.openid));
                    }
                    Ok(_) => {}
                },
            }
        }
    }

    fn tick(&self) -> Event {
        let strip = view::strip(&self.world, self.account, &self.openid, self.labels);
        let data = serde_json::json!({"clock": strip.clock, "grant": strip.grant});
        Event::message(data.to_string()).event_type("tick")
    }
}

fn changed(is_mine: bool) -> Event {
    Event::message(if is_mine { "mine" } else { "other" }).event_type("changed")
}
