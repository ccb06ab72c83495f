//! One follower's page: the whole story, and what a person may do about it.

use askama::Template;
use poem::http::StatusCode;
use poem::web::{Data, Path, Query};
use poem::{Response, Result, handler};
use serde::Deserialize;

use super::{Frame, State, failed, follower_path, follower_pill, page};
use crate::console::session::Seat;
use crate::console::shown::{self, Line, PassageCard, Pill, When, when};
use crate::console::text::{Text, text};
use crate::journey::follower::Follower;
use crate::story::voice::plain;
use crate::story::{self, Lang, Voice};

/// What became of a form, as the page after it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::console) enum Notice {
    Enrolled,
    Cancelled,
    Nothing,
    NotAllowed,
    NotFollowing,
    NoSuchSequence,
}

impl Notice {
    const ALL: [Self; 6] = [
        Self::Enrolled,
        Self::Cancelled,
        Self::Nothing,
        Self::NotAllowed,
        Self::NotFollowing,
        Self::NoSuchSequence,
    ];

    pub(in crate::console) fn word(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Cancelled => "cancelled",
            Self::Nothing => "nothing",
            Self::NotAllowed => "not-allowed",
            Self::NotFollowing => "not-following",
            Self::NoSuchSequence => "no-such-sequence",
        }
    }

    fn said(self, t: &'static Text) -> &'static str {
        match self {
            Self::Enrolled => t.done_enrolled,
            Self::Cancelled => t.done_cancelled,
            Self::Nothing => t.done_nothing,
            Self::NotAllowed => t.not_allowed,
            Self::NotFollowing => t.not_following,
            Self::NoSuchSequence => t.no_such_sequence,
        }
    }
}

struct GrantRow {
    kind: &'static str,
    pill: Pill,
    left: u16,
    quota: u16,
    closes: When,
}

#[derive(Template)]
#[template(path = "follower.html")]
struct FollowerPage {
    f: Frame,
    key: String,
    openid: String,
    path: String,
    pill: Pill,
    facts: Vec<(&'static str, String)>,
    grants: Vec<GrantRow>,
    passages: Vec<PassageCard>,
    unfinished: bool,
    sequences: Vec<(String, String)>,
    earlier: Vec<Line>,
    lines: Vec<Line>,
    notice: &'static str,
}

#[derive(Deserialize)]
struct Done {
    done: Option<String>,
}

#[handler]
pub(in crate::console) async fn show_follower(
    state: State<'_>,
    Data(lang): Data<&Lang>,
    seat: Data<&Seat>,
    Path((key, openid)): Path<(String, String)>,
    Query(Done { done }): Query<Done>,
) -> Result<Response> {
    let now = state.clock.now();
    let told = story::load_live(&state.store, &key, &openid, now).await;
    let told = told.map_err(failed)?.ok_or(StatusCode::NOT_FOUND)?;
    let t = text(*lang);
    let voice = told.voice(*lang);
    let follower = &told.follower;
    let passages = shown::passages(&told, &voice);
    let (earlier, lines) = shown::lines(&told, &voice);
    let grants = told.grants.iter().map(|grant| GrantRow {
        kind: grant.kind.word(),
        pill: match grant.permits(now) {
            true => Pill {
                word: "sent",
                label: t.open,
            },
            false => Pill {
                word: "skipped",
                label: t.closed,
            },
        },
        left: grant.quota.saturating_sub(grant.spent),
        quota: grant.quota,
        closes: when(grant.closes_at, &voice),
    });
    let path = follower_path(&key, &openid);
    let catalog = state.store.knowledge().catalog();
    let account = state.store.knowledge().account(told.account.id);
    let may_enter = catalog.live().filter(|version| {
        let account = account.as_deref();
        account.is_some_and(|account| version.runs_on(&account.journey))
    });
    let notice = done.and_then(|word| Notice::ALL.into_iter().find(|one| one.word() == word));
    let mut f = Frame::new(*lang, format!("{} · {key}", plain(&openid)), Some(&seat));
    f.events = events_of(&key, &openid);
    let template = FollowerPage {
        pill: follower_pill(follower, t),
        facts: facts(follower, &voice, t),
        grants: grants.collect(),
        unfinished: passages.iter().any(|card| card.unfinished),
        passages,
        sequences: may_enter
            .map(|v| (v.sequence.name.clone(), plain(&v.sequence.title)))
            .collect(),
        earlier,
        lines,
        notice: notice.map_or("", |notice| notice.said(t)),
        openid: plain(&openid),
        key,
        path,
        f,
    };
    Ok(page(&template, StatusCode::OK))
}

fn events_of(key: &str, openid: &str) -> String {
    let topic = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("account", key)
        .append_pair("openid", openid)
        .finish();
    format!("/events?{topic}")
}

fn facts(follower: &Follower, voice: &Voice, t: &'static Text) -> Vec<(&'static str, String)> {
    let instant = |at: crate::clock::Timestamp| {
        if at.0 > 0 {
            voice.when(at)
        } else {
            t.never.to_owned()
        }
    };
    let mut facts = vec![
        (t.followed_at, instant(follower.followed_at)),
        (t.last_event_at, instant(follower.last_event_at)),
        (t.last_sent_at, instant(follower.last_sent_at)),
    ];
    let mut add = |name, value: Option<String>| {
        facts.extend(
            value
                .filter(|value| !value.is_empty())
                .map(|value| (name, value)),
        );
    };
    add(t.language, follower.language.as_deref().map(plain));
    add(t.scene, follower.scene.as_deref().map(plain));
    add(t.tags, Some(plain(&follower.tags.join(", "))));
    facts
}
