//! The door that tracked links lead to: `GET /c/{token}`.
//!
//! Where a link leads stands in the version that the token names, never in the request, so the door
//! opens to nowhere else. A reader is sent on within a moment, whatever the database does: the click is
//! written beside it, through the one writer, and tried again while a shared database is away. Machines
//! that fetch ahead of a person are sent on and not counted. Deliberately absent: cookies, and whatever
//! the request says of the reader.

use std::sync::Arc;
use std::time::Duration;

use poem::http::{HeaderMap, Method, StatusCode, header};
use poem::web::{Data, Path};
use poem::{Request, Response, Route, handler};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::journey::ids::EnrollmentId;
use crate::journey::link::token::Link;
use crate::journey::template::Facts;
use crate::store::clicks::{self, Clicked};
use crate::store::{Error, Store};

/// How long a reader waits for what is beside the way: the click's commit, and a value in an address.
const MOMENT: Duration = Duration::from_millis(250);

/// Clicks that may wait to be written. Beyond it readers are sent on and not counted.
const WAITING_MAX: usize = 20_000;

/// Rest between two tries to write a click while the database is away.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Longest wait at a shutdown for clicks that are still to be written.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// Parts of what machines call themselves that look at links before people do. `bot` alone would be a
/// maker of telephones too.
const MACHINES: [&str; 12] = [
    "bot/",
    "bot;",
    "bot)",
    "bot-",
    "slackbot",
    "crawler",
    "spider",
    "preview",
    "facebookexternalhit",
    "whatsapp/",
    "line-poker",
    "headlesschrome",
];

/// The door.
#[derive(Debug)]
pub struct ClickDoor {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    waiting: Arc<Semaphore>,
    writing: TaskTracker,
}

impl ClickDoor {
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            writing: TaskTracker::new(),
        }
    }

    /// Waits until the clicks that were taken are written, or for as long as a shutdown may last.
    pub async fn drain(&self) {
        self.writing.close();
        if timeout(DRAIN_MAX, self.writing.wait()).await.is_err() {
            let lost = self.writing.len();
            tracing::warn!(clicks = lost, "the database is away: clicks are lost");
        }
    }

    /// Where a link leads; `None` for one that is not ours.
    async fn target(&self, link: &Link) -> Option<String> {
        let catalog = self.store.knowledge().catalog();
        let version = catalog.version(link.version)?;
        let step = version.sequence.steps.get(usize::from(link.step))?;
        let index = usize::from(link.link).checked_sub(1)?;
        let found = step.links.get(index)?;
        let mut facts = Facts {
            language: found.language.clone().unwrap_or_default(),
            scene: None,
            tags: Vec::new(),
            followed_at: self.clock.now(),
            account_key: String::new(),
            account_name: String::new(),
            sequence_name: version.sequence.name.clone(),
            step_id: step.id.clone(),
            now: self.clock.now(),
            zone: version.zone.clone().unwrap_or(jiff::tz::TimeZone::UTC),
            clicked: Vec::new(),
        };
        if found.is_template() {
            self.learn(link.enrollment, &mut facts).await;
        }
        match found.leads_to(&facts) {
            Ok(target) => Some(target),
            Err(error) => {
                tracing::error!(%error, sequence = version.sequence.name, step = step.id,
                    "a link leads nowhere");
                None
            }
        }
    }

    /// What values in an address say of the follower; empty when the database does not answer.
    async fn learn(&self, enrollment: EnrollmentId, facts: &mut Facts) {
        let known = clicks::visitor(self.store.read(), enrollment);
        let Ok(Ok(Some(follower))) = timeout(MOMENT, known).await else {
            return;
        };
        facts.language = follower.language.unwrap_or_default();
        facts.scene = follower.scene;
        facts.tags = follower.tags;
        facts.followed_at = follower.followed_at;
        if let Some(account) = self.store.knowledge().account(follower.account) {
            facts.account_key.clone_from(&account.journey.key);
            facts.account_name.clone_from(&account.journey.name);
        }
    }

    /// Has a click written, and waits for it no longer than a moment.
    async fn count(&self, link: &Link) {
        let Ok(place) = Arc::clone(&self.waiting).try_acquire_owned() else {
            counted("lost");
            return;
        };
        let clicked = Clicked {
            enrollment: link.enrollment,
            version: link.version,
            step: link.step,
            link: link.link,
            at: self.clock.now(),
        };
        let store = Arc::clone(&self.store);
        let written = self.writing.spawn(async move {
            let _place = place;
            loop {
                match store.writer().click(clicked).await {
                    Ok(true) => return counted("kept"),
                    Ok(false) => return counted("nobodys"),
                    Err(Error::Away | Error::Busy) => sleep(TRY_AGAIN).await,
                    Err(error) => {
                        tracing::error!(%error, "a click was not written");
                        return counted("lost");
                    }
                }
            }
        });
        timeout(MOMENT, written).await.ok();
    }
}

fn counted(became: &'static str) {
    metrics::counter!("dripwheel_clicks_total", "became" => became).increment(1);
}

/// Whether a person opens the link, as far as the request tells.
fn is_person(headers: &HeaderMap) -> bool {
    let says = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_ascii_lowercase()
    };
    let ahead = ["purpose", "sec-purpose", "x-purpose", "x-moz"].map(says);
    let ahead = ahead.iter().any(|why| {
        why.contains("prefetch") || why.contains("prerender") || why.contains("preview")
    });
    let agent = says("user-agent");
    !ahead && !MACHINES.iter().any(|machine| agent.contains(machine))
}

/// The route of links, at `/c`.
pub fn routes(door: Arc<ClickDoor>) -> impl poem::Endpoint {
    use poem::EndpointExt;
    Route::new().at("/:token", follow).data(door)
}

#[handler]
async fn follow(
    Path(token): Path<String>,
    request: &Request,
    door: Data<&Arc<ClickDoor>>,
) -> Response {
    let counts = match *request.method() {
        Method::GET => is_person(request.headers()),
        Method::HEAD => false,
        _ => return StatusCode::METHOD_NOT_ALLOWED.into(),
    };
    let Some(link) = door.store.knowledge().opened_link(&token) else {
        return nowhere();
    };
    let Some(target) = door.target(&link).await else {
        return nowhere();
    };
    match counts {
        true => door.count(&link).await,
        false => counted("machine"),
    }
    Response::builder()
        .status(StatusCode::FOUND)
        .header(header::LOCATION, target)
        .header(header::CACHE_CONTROL, "no-store")
        .header(header::REFERRER_POLICY, "no-referrer")
        .header("x-robots-tag", "noindex, nofollow")
        .finish()
}

/// The same for every link that is not ours, so that it tells nothing.
fn nowhere() -> Response {
    metrics::counter!("dripwheel_clicks_total", "became" => "refused").increment(1);
    Response::builder()
        .status(StatusCode::NOT_FOUND)
        .header(header::CACHE_CONTROL, "no-store")
        .content_type("text/plain; charset=utf-8")
        .body("not found")
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;

    fn person(name: &'static str, value: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        is_person(&headers)
    }

    #[test]
    fn machines_that_look_ahead_are_no_people() {
        for (name, value) in [
            ("purpose", "prefetch"),
            ("sec-purpose", "prefetch;prerender"),
            ("x-moz", "prefetch"),
            ("user-agent", "TelegramBot (like TwitterBot)"),
            (
                "user-agent",
                "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            ),
            ("user-agent", "facebookexternalhit/1.1;line-poker/1.0"),
            (
                "user-agent",
                "Baiduspider+(+http://www.baidu.com/search/spider.htm)",
            ),
        ] {
            assert!(!person(name, value), "{name}: {value}");
        }
    }

    #[test]
    fn readers_are_people() {
        for agent in [
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) MicroMessenger/8.0.50 NetType/WIFI",
            "Mozilla/5.0 (Linux; Android 14; CUBOT NOTE 50) AppleWebKit/537.36",
            "",
        ] {
            assert!(person("user-agent", agent), "{agent}");
        }
    }
}
