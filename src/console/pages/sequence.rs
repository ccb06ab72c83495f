//! A sequence's page: its versions, as published.

use askama::Template;
use poem::http::StatusCode;
use poem::web::{Data, Path};
use poem::{Response, Result, handler};

use super::{Frame, State, failed, live_pill, page};
use crate::console::session::Seat;
use crate::console::shown::{Pill, When, when};
use crate::console::text::text;
use crate::store::overview;
use crate::story::{Lang, Voice};

/// Versions on a sequence's page.
const VERSIONS_MAX: u32 = 10;

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
    versions: Vec<VersionCard>,
}

#[handler]
pub(in crate::console) async fn show_sequence(
    state: State<'_>,
    Data(lang): Data<&Lang>,
    seat: Data<&Seat>,
    Path(name): Path<String>,
) -> Result<Response> {
    let found = overview::versions(state.store.read(), &name, None, VERSIONS_MAX).await;
    let found = found.map_err(failed)?.items;
    if found.is_empty() {
        return Err(StatusCode::NOT_FOUND.into());
    }
    let t = text(*lang);
    let voice = Voice {
        lang: *lang,
        zone: jiff::tz::TimeZone::UTC,
        now: state.clock.now(),
    };
    let versions = found.into_iter().map(|one| VersionCard {
        id: one.id.0,
        hash: one.hash.chars().take(12).collect(),
        pill: live_pill(one.live, t),
        published: when(one.published_at, &voice),
        source: one.source,
    });
    let template = SequencePage {
        versions: versions.collect(),
        f: Frame::new(*lang, format!("{} · {name}", t.sequence), Some(&seat)),
        name,
    };
    Ok(page(&template, StatusCode::OK))
}
