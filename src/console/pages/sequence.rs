//! A sequence's page: what became of its messages, and its versions as published.

use askama::Template;
use poem::http::StatusCode;
use poem::web::{Data, Path, Query};
use poem::{Response, Result, handler};
use serde::Deserialize;

use super::numbers::Numbers;
use super::{Frame, State, failed, live_pill, page};
use crate::console::session::Seat;
use crate::console::shown::{Pill, When, when};
use crate::console::text::text;
use crate::store::overview;
use crate::story::{Lang, Voice};

/// Versions on a sequence's page.
const VERSIONS_MAX: u32 = 10;

/// What the address says beside the name.
#[derive(Deserialize)]
pub(in crate::console) struct Chosen {
    /// So many days back; all of them for 0.
    days: Option<i64>,
}

struct VersionCard {
    id: i64,
    hash: String,
    pill: Pill,
    published: When,
    source: String,
}

#[derive(Template)]
#[template(path = "sequence.html")]
struct SequencePage {
    f: Frame,
    name: String,
    numbers: Option<Numbers>,
    versions: Vec<VersionCard>,
}

#[handler]
pub(in crate::console) async fn show_sequence(
    state: State<'_>,
    Data(lang): Data<&Lang>,
    seat: Data<&Seat>,
    Path(name): Path<String>,
    Query(chosen): Query<Chosen>,
) -> Result<Response> {
    let found = overview::versions(state.store.read(), &name, None, VERSIONS_MAX).await;
    let found = found.map_err(failed)?.items;
    if found.is_empty() {
        return Err(StatusCode::NOT_FOUND.into());
    }
    let t = text(*lang);
    let now = state.clock.now();
    let numbers = Numbers::of(&state.store, &name, chosen.days, now, (*lang, t)).await;
    let voice = Voice {
        lang: *lang,
        zone: jiff::tz::TimeZone::UTC,
        now,
    };
    let versions = found.into_iter().map(|one| VersionCard {
        id: one.id.0,
        hash: one.hash.chars().take(12).collect(),
        pill: live_pill(one.live, t),
        published: when(one.published_at, &voice),
        source: one.source,
    });
    let template = SequencePage {
        numbers: numbers.map_err(failed)?,
        versions: versions.collect(),
        f: Frame::new(*lang, format!("{} · {name}", t.sequence), Some(&seat)),
        name,
    };
    Ok(page(&template, StatusCode::OK))
}
