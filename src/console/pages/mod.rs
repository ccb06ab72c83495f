//! The pages: each reads what it shows, and fills in its template. What all of them share is here.

mod account;
mod broadcasts;
mod follower;
mod followers;
mod numbers;
mod overview;
mod sequence;

use std::sync::Arc;

use askama::Template;
use poem::Response;
use poem::http::StatusCode;
use poem::web::Data;

use crate::console::ConsoleState;
use crate::console::files;
use crate::console::session::Seat;
use crate::console::shown::Pill;
use crate::console::text::{Text, text};
use crate::journey::follower::Follower;
use crate::story::Lang;

pub(super) use account::{AccountNotice, show_account};
pub(super) use broadcasts::{BroadcastNotice, show_broadcast, show_broadcasts};
pub(super) use follower::{Notice, show_follower};
pub(super) use followers::{search, show_followers};
pub(super) use overview::show_overview;
pub(super) use sequence::show_sequence;

type State<'a> = Data<&'a Arc<ConsoleState>>;

/// What every page has.
struct Frame {
    t: &'static Text,
    lang: Lang,
    title: String,
    seat: Option<Seat>,
    /// Where changes of this page are told; empty for none.
    events: String,
    stamp: &'static str,
}

impl Frame {
    fn new(lang: Lang, title: impl Into<String>, seat: Option<&Seat>) -> Self {
        Self {
            t: text(lang),
            lang,
            title: title.into(),
            seat: seat.cloned(),
            events: String::new(),
            stamp: files::stamp(),
        }
    }

    fn may_write(&self) -> bool {
        self.seat.as_ref().is_some_and(|seat| seat.visitor.write)
    }

    fn token(&self) -> &str {
        self.seat.as_ref().map_or("", |seat| &seat.token)
    }

    fn other_lang(&self) -> &'static str {
        match self.lang {
            Lang::En => "zh",
            Lang::Zh => "en",
        }
    }
}

fn page(template: &impl Template, status: StatusCode) -> Response {
    match template.render() {
        Ok(html) => Response::builder()
            .status(status)
            .content_type("text/html; charset=utf-8")
            .body(html),
        Err(error) => {
            tracing::error!(%error, "page cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into()
        }
    }
}

/// An error inside; the door logs it and shows a page for it.
pub(in crate::console) fn failed(error: crate::store::Error) -> poem::Error {
    poem::Error::new(error, StatusCode::INTERNAL_SERVER_ERROR)
}

/// One segment of an address.
fn segment(text: &str) -> String {
    // A form's `+` would be a plus in a path.
    let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    encoded.replace('+', "%20")
}

/// The address of an account's page.
pub(in crate::console) fn account_path(key: &str) -> String {
    format!("/accounts/{}", segment(key))
}

/// The address of a follower's page.
pub(in crate::console) fn follower_path(key: &str, openid: &str) -> String {
    format!("/accounts/{}/followers/{}", segment(key), segment(openid))
}

fn follower_pill(follower: &Follower, t: &'static Text) -> Pill {
    let (word, label) = match (follower.following, follower.muted) {
        (false, _) => ("cancelled", t.gone),
        (true, true) => ("held", t.muted),
        (true, false) => ("sent", t.follows),
    };
    Pill { word, label }
}

fn live_pill(live: bool, t: &'static Text) -> Pill {
    match live {
        true => Pill {
            word: "sent",
            label: t.live,
        },
        false => Pill {
            word: "skipped",
            label: t.retired,
        },
    }
}

/// The page that asks for a key.
pub(super) struct Login {
    /// Where it leads afterwards.
    pub(super) next: String,
    /// The key just given is nobody's.
    pub(super) wrong: bool,
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    f: Frame,
    login: &'a Login,
}

pub(super) fn login(lang: Lang, login: &Login, status: StatusCode) -> Response {
    let f = Frame::new(lang, text(lang).sign_in, None);
    page(&LoginPage { f, login }, status)
}

/// What an error page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Nothing,
    Refused,
    Failed,
}

#[derive(Template)]
#[template(path = "wrong.html")]
struct WrongPage {
    f: Frame,
    hint: &'static str,
}

/// An error page.
pub(super) fn wrong(lang: Lang, wrong: Wrong) -> Response {
    let t = text(lang);
    let (status, title, hint) = match wrong {
        Wrong::Nothing => (StatusCode::NOT_FOUND, t.not_found, t.no_such_page),
        Wrong::Refused => (StatusCode::FORBIDDEN, t.refused, t.refused_hint),
        Wrong::Failed => (StatusCode::INTERNAL_SERVER_ERROR, t.failed, t.failed_hint),
    };
    let f = Frame::new(lang, title, None);
    page(&WrongPage { f, hint }, status)
}
