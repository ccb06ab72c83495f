//! The followers of an account, page by page, and the search for one.

use askama::Template;
use poem::http::StatusCode;
use poem::web::{Data, Path, Query};
use poem::{Response, Result, handler};
use serde::Deserialize;

use super::{Frame, State, failed, follower_path, follower_pill, page};
use crate::console::door::see_other;
use crate::console::session::Seat;
use crate::console::shown::{self, Pill, When, when};
use crate::console::text::text;
use crate::journey::follower::Follower;
use crate::store::overview;
use crate::story::voice::plain;
use crate::story::{Lang, Voice};

/// Followers on one page.
const FOLLOWERS_MAX: u32 = 50;

struct FollowerRow {
    path: String,
    openid: String,
    pill: Pill,
    followed: When,
    last_event: Option<When>,
    last_sent: Option<When>,
}

#[derive(Template)]
#[template(path = "followers.html")]
struct FollowersPage {
    f: Frame,
    key: String,
    rows: Vec<FollowerRow>,
    first: bool,
    next: Option<i64>,
}

#[derive(Deserialize)]
struct After {
    after: Option<i64>,
}

#[handler]
pub(in crate::console) async fn show_followers(
    state: State<'_>,
    Data(lang): Data<&Lang>,
    seat: Data<&Seat>,
    Path(key): Path<String>,
    Query(After { after }): Query<After>,
) -> Result<Response> {
    let read = state.store.read();
    let account = overview::account(read, &key).await.map_err(failed)?;
    let account = account.ok_or(StatusCode::NOT_FOUND)?;
    let found = overview::followers(read, account.id, after, FOLLOWERS_MAX);
    let found = found.await.map_err(failed)?;
    let t = text(*lang);
    let voice = Voice {
        lang: *lang,
        zone: shown::zone(&state.store, account.id),
        now: state.clock.now(),
    };
    let row = |one: &Follower| FollowerRow {
        path: follower_path(&key, &one.openid),
        openid: plain(&one.openid),
        pill: follower_pill(one, t),
        followed: when(one.followed_at, &voice),
        last_event: (one.last_event_at.0 > 0).then(|| when(one.last_event_at, &voice)),
        last_sent: (one.last_sent_at.0 > 0).then(|| when(one.last_sent_at, &voice)),
    };
    let mut f = Frame::new(*lang, format!("{} · {key}", t.followers), Some(&seat));
    if after.is_none() {
        f.events = "/events".to_owned();
    }
    let template = FollowersPage {
        rows: found.items.iter().map(row).collect(),
        first: after.is_none(),
        next: found.next,
        key: account.key,
        f,
    };
    Ok(page(&template, StatusCode::OK))
}

#[derive(Template)]
#[template(path = "search.html")]
struct SearchPage {
    f: Frame,
    openid: String,
    found: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Sought {
    #[serde(default)]
    openid: String,
}

#[handler]
pub(in crate::console) async fn search(
    state: State<'_>,
    Data(lang): Data<&Lang>,
    seat: Data<&Seat>,
    Query(Sought { openid }): Query<Sought>,
) -> Result<Response> {
    let openid = openid.trim();
    let read = state.store.read();
    let accounts = overview::accounts(read).await.map_err(failed)?;
    let ids: Vec<_> = accounts.iter().map(|one| one.id).collect();
    let knowing = overview::who_knows(read, &ids, openid)
        .await
        .map_err(failed)?;
    let found: Vec<_> = accounts
        .into_iter()
        .filter(|one| knowing.contains(&one.id))
        .map(|one| (follower_path(&one.key, openid), one.key))
        .collect();
    if let [(path, _)] = found.as_slice() {
        return Ok(see_other(path));
    }
    let status = if found.is_empty() {
        StatusCode::NOT_FOUND
    } else {
        StatusCode::OK
    };
    let template = SearchPage {
        f: Frame::new(*lang, text(*lang).find, Some(&seat)),
        openid: plain(openid),
        found,
    };
    Ok(page(&template, status))
}
