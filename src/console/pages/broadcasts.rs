//! Broadcasts: all of them, and one with its bar, its counts and what may be done with it.

use askama::Template;
use poem::http::StatusCode;
use poem::web::{Data, Path, Query};
use poem::{Response, Result, handler};
use serde::Deserialize;

use super::{Frame, State, account_path, failed, follower_path, page};
use crate::console::session::Seat;
use crate::console::shown::{Pill, When, when};
use crate::console::text::{Text, text};
use crate::journey::ids::BroadcastId;
use crate::store::broadcasts::{self, Broadcast, Progress, State as Stands};
use crate::store::overview;
use crate::store::recipients::{self, Recipient, Standing};
use crate::story::voice::plain;
use crate::story::{Lang, Voice};

/// Broadcasts on one page.
const BROADCASTS_MAX: u32 = 30;

/// Recipients of each standing that are shown; the API lists all.
const SHOWN_MAX: usize = 20;

/// Done, before a page of a broadcast is shown again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::console) enum BroadcastNotice {
    Changed,
    NotNow,
}

impl BroadcastNotice {
    pub(in crate::console) fn word(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::NotNow => "not-now",
        }
    }

    fn said(word: Option<&str>, t: &'static Text) -> &'static str {
        match word {
            Some("changed") => t.broadcast_changed,
            Some("not-now") => t.broadcast_not_now,
            _ => "",
        }
    }
}

/// A broadcast in a few words.
struct Card {
    id: i64,
    title: String,
    pill: Pill,
    total: i64,
    ended: i64,
    progress: Progress,
    left: Option<String>,
    starts: Option<When>,
    created: When,
    created_by: String,
}

impl Card {
    fn of(one: &Broadcast, progress: Progress, voice: &Voice, t: &'static Text) -> Self {
        let left = progress.left().filter(|_| one.state == Stands::Sending);
        Self {
            id: one.id.0,
            title: one.title.clone(),
            pill: pill(one.state, t),
            total: progress.total,
            ended: progress.ended(),
            progress,
            left: left.map(crate::yaml::print_span),
            starts: (one.start_at.0 > 0).then(|| when(one.start_at, voice)),
            created: when(one.created_at, voice),
            created_by: one.created_by.clone(),
        }
    }
}

fn pill(state: Stands, t: &'static Text) -> Pill {
    let (word, label) = match state {
        Stands::NotStarted => ("planned", t.broadcast_not_started),
        Stands::Sending => ("sending", t.broadcast_sending),
        Stands::Interrupted => ("held", t.broadcast_interrupted),
        Stands::Completed => ("completed", t.completed),
    };
    Pill { word, label }
}

fn voice(state: &State<'_>, lang: Lang) -> Voice {
    Voice {
        lang,
        zone: jiff::tz::TimeZone::UTC,
        now: state.clock.now(),
    }
}

#[derive(Template)]
#[template(path = "broadcasts.html")]
struct BroadcastsPage {
    f: Frame,
    rows: Vec<Card>,
    next: Option<i64>,
}

#[derive(Deserialize)]
pub(in crate::console) struct Before {
    before: Option<i64>,
}

#[handler]
pub(in crate::console) async fn show_broadcasts(
    state: State<'_>,
    Data(lang): Data<&Lang>,
    seat: Data<&Seat>,
    Query(Before { before }): Query<Before>,
) -> Result<Response> {
    let (t, voice) = (text(*lang), voice(&state, *lang));
    let read = state.store.read();
    let found = broadcasts::list(read, before, BROADCASTS_MAX).await;
    let found = found.map_err(failed)?;
    let full = found.len() >= usize::try_from(BROADCASTS_MAX).unwrap_or(usize::MAX);
    let next = found.last().filter(|_| full).map(|one| one.id.0);
    let mut rows = Vec::new();
    for one in &found {
        let progress = broadcasts::progress(read, one.id).await.map_err(failed)?;
        rows.push(Card::of(one, progress, &voice, t));
    }
    let mut f = Frame::new(*lang, t.broadcasts, Some(&seat));
    f.events = "/events?broadcast=0".to_owned();
    Ok(page(&BroadcastsPage { f, rows, next }, StatusCode::OK))
}

/// Somebody whom it did not reach, and why.
struct Missed {
    path: String,
    openid: String,
    why: String,
}

#[derive(Template)]
#[template(path = "broadcast.html")]
struct BroadcastPage {
    f: Frame,
    card: Card,
    notice: &'static str,
    accounts: Vec<(String, String)>,
    counts: Vec<(&'static str, i64)>,
    missed: Vec<(&'static str, Vec<Missed>)>,
    repeats: String,
    parent: Option<i64>,
    source: String,
    may_start: bool,
    may_interrupt: bool,
    may_resume: bool,
    may_retry: bool,
}

#[derive(Deserialize)]
pub(in crate::console) struct Done {
    done: Option<String>,
}

#[handler]
pub(in crate::console) async fn show_broadcast(
    state: State<'_>,
    Data(lang): Data<&Lang>,
    seat: Data<&Seat>,
    Path(id): Path<i64>,
    Query(Done { done }): Query<Done>,
) -> Result<Response> {
    let t = text(*lang);
    let read = state.store.read();
    let one = broadcasts::of(read, BroadcastId(id))
        .await
        .map_err(failed)?;
    let one = one.ok_or(StatusCode::NOT_FOUND)?;
    let progress = broadcasts::progress(read, one.id).await.map_err(failed)?;
    let standings = overview::accounts(read).await.map_err(failed)?;
    let parts = broadcasts::parts(read, one.id).await.map_err(failed)?;
    let mut accounts = Vec::new();
    for part in &parts {
        if let Some(known) = standings.iter().find(|known| known.id == part.account) {
            accounts.push((known.key.clone(), account_path(&known.key)));
        }
    }
    let key_of = |one: &Recipient| {
        let known = standings.iter().find(|known| known.id == one.account);
        known.map_or_else(String::new, |known| known.key.clone())
    };
    let mut missed = Vec::new();
    for (label, standing, count) in [
        (t.broadcast_failed, Standing::Failed, progress.failed),
        (t.unknown, Standing::Unknown, progress.unknown),
        (t.broadcast_skipped, Standing::Skipped, progress.skipped),
    ] {
        if count == 0 {
            continue;
        }
        let found = recipients::page(read, one.id, Some(standing), recipients::FIRST, SHOWN_MAX);
        let (found, _) = found.await.map_err(failed)?;
        let people = found.iter().map(|one| Missed {
            path: follower_path(&key_of(one), &one.openid),
            openid: plain(&one.openid),
            why: match one.code {
                Some(code) => format!("{code} {}", plain(&one.detail)),
                None => plain(&one.detail),
            },
        });
        missed.push((label, people.collect()));
    }
    let catalog = state.store.knowledge().catalog();
    let version = catalog.version(one.version);
    let say = version.and_then(|version| {
        let step = version.sequence.steps.first()?;
        serde_json::to_string_pretty(&step.say).ok()
    });
    let counts = vec![
        (t.broadcast_planned, progress.planned()),
        (t.broadcast_sending, progress.sending),
        (t.broadcast_sent, progress.sent),
        (t.broadcast_failed, progress.failed),
        (t.broadcast_skipped, progress.skipped),
        (t.unknown, progress.unknown),
    ];
    let mut f = Frame::new(*lang, format!("{} {id}", t.broadcast), Some(&seat));
    f.events = format!("/events?broadcast={id}");
    let (stands, writes) = (one.state, f.may_write());
    let repeats = match one.cron.as_str() {
        "" => String::new(),
        cron => format!("{cron} {}", one.zone),
    };
    let template = BroadcastPage {
        card: Card::of(&one, progress, &voice(&state, *lang), t),
        notice: BroadcastNotice::said(done.as_deref(), t),
        accounts,
        counts,
        missed,
        may_start: writes && stands == Stands::NotStarted && repeats.is_empty(),
        may_interrupt: writes
            && (stands == Stands::Sending || stands == Stands::NotStarted && one.start_at.0 > 0),
        may_resume: writes && stands == Stands::Interrupted,
        may_retry: writes && stands == Stands::Completed && progress.failed + progress.unknown > 0,
        repeats,
        parent: one.parent.map(|parent| parent.0),
        source: say.unwrap_or_default(),
        f,
    };
    Ok(page(&template, StatusCode::OK))
}
