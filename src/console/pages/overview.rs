//! The first page: where everything stands.

use askama::Template;
use poem::http::StatusCode;
use poem::web::Data;
use poem::{Response, Result, handler};

use super::{Frame, State, failed, follower_path, live_pill, page};
use crate::console::session::Seat;
use crate::console::shown::{self, Bar, CHART_HEIGHT, Pill, When, bars, pill, when};
use crate::console::text::{Text, text};
use crate::journey::enrollment::State as Stand;
use crate::store::accounts::Standing;
use crate::store::overview::{Count, Happened};
use crate::store::syncs::{Phase, State as SyncState, Sync};
use crate::story::voice::plain;
use crate::story::{Lang, Voice, why};

struct AccountRow {
    key: String,
    platform: String,
    profile: String,
    standing: Pill,
    reason: String,
    due: String,
    /// How the followers compare with the platform's list; empty when they never were.
    sync: String,
}

struct HappenedRow {
    when: When,
    path: String,
    openid: String,
    place: String,
    pill: Pill,
    detail: String,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    f: Frame,
    due: String,
    waking: String,
    bars: Vec<Bar>,
    chart_height: u32,
    held: u32,
    active: u32,
    completed: u32,
    cancelled: u32,
    complete: bool,
    accounts: Vec<AccountRow>,
    sequences: Vec<SequenceLine>,
    latest: Vec<HappenedRow>,
    unknown: Vec<HappenedRow>,
}

struct SequenceLine {
    name: String,
    title: String,
    pill: Pill,
    steps: usize,
    states: [u32; 4],
}

fn counted(count: Count, t: &Text) -> String {
    if count.more {
        format!("{} {}", t.more_than, count.n)
    } else {
        count.n.to_string()
    }
}

/// One line on an account's latest sync.
fn compared(sync: &Sync, voice: &Voice, t: &'static Text) -> String {
    let waits = sync.resume_at > voice.now;
    let came = format!("+{} −{}", sync.found, sync.gone);
    match sync.state {
        SyncState::Never => String::new(),
        SyncState::Running if waits => {
            let until = voice.when(sync.resume_at);
            format!("{} → {until}: {}", t.comparing, plain(&sync.detail))
        }
        SyncState::Running => {
            let done = match sync.phase {
                Phase::Refreshing => sync.refreshed,
                Phase::Listing | Phase::Sweeping => sync.listed,
            };
            format!("{} {done}/{} ({came})", t.comparing, sync.total)
        }
        SyncState::Completed => format!("{} {} ({came})", t.compared, voice.when(sync.ended_at)),
        SyncState::Failed => format!("{}: {}", t.not_compared, plain(&sync.detail)),
        SyncState::Cancelled => t.compare_cancelled.to_owned(),
    }
}

fn standing(one: &Standing, voice: &Voice, t: &'static Text) -> (Pill, String) {
    let reason = plain(&one.pause_reason);
    if one.attention {
        let label = t.attention;
        (
            Pill {
                word: "failed",
                label,
            },
            reason,
        )
    } else if one.paused_until > voice.now {
        let until = voice.when(one.paused_until);
        let label = t.paused;
        (
            Pill {
                word: "held",
                label,
            },
            format!("{reason} → {until}"),
        )
    } else {
        let label = t.sending;
        (
            Pill {
                word: "sent",
                label,
            },
            String::new(),
        )
    }
}

#[handler]
pub(in crate::console) async fn show_overview(
    state: State<'_>,
    Data(lang): Data<&Lang>,
    seat: Data<&Seat>,
) -> Result<Response> {
    let seen = state.live.overview().await.map_err(failed)?;
    let t = text(*lang);
    let voice = |zone| Voice {
        lang: *lang,
        zone,
        now: seen.now,
    };
    let catalog = state.store.knowledge().catalog();
    let account = |(one, due): &(Standing, Count)| {
        let known = state.store.knowledge().account(one.id);
        let voice = voice(shown::zone(&state.store, one.id));
        let (pill, reason) = match state.store.knowledge().pause(one.id) {
            Some(pause) => {
                let pill = Pill {
                    word: "held",
                    label: t.paused,
                };
                let said = format!("{} · {}", plain(&pause.by), plain(&pause.reason));
                (pill, said)
            }
            None => standing(one, &voice, t),
        };
        AccountRow {
            key: one.key.clone(),
            platform: one.platform.clone(),
            profile: known.map_or_else(String::new, |known| known.profile.name.clone()),
            standing: pill,
            reason,
            due: counted(*due, t),
            sync: seen
                .syncs
                .get(&one.id)
                .map_or_else(String::new, |sync| compared(sync, &voice, t)),
        }
    };
    let happened = |one: &Happened| {
        let voice = voice(shown::zone(&state.store, one.account));
        let key = seen.key(one.account);
        let version = catalog.version(one.version);
        let step = version.and_then(|v| v.sequence.steps.get(usize::from(one.entry.step)));
        let place = match (version, step) {
            (Some(version), Some(step)) => format!("{} / {}", version.sequence.name, step.id),
            _ => format!("#{} / {}", one.version, one.entry.step + 1),
        };
        HappenedRow {
            when: when(one.entry.at, &voice),
            path: follower_path(&key, &one.openid),
            openid: plain(&one.openid),
            place,
            pill: pill(one.entry.outcome.word(), *lang),
            detail: why::cause(&one.entry, &voice),
        }
    };
    let due = seen
        .accounts
        .iter()
        .fold(Count::default(), |sum, (_, due)| Count {
            n: sum.n.saturating_add(due.n),
            more: sum.more || due.more,
        });
    let first_zone = seen
        .accounts
        .first()
        .map(|(one, _)| shown::zone(&state.store, one.id));
    let chart = voice(first_zone.unwrap_or(jiff::tz::TimeZone::UTC));
    let mut f = Frame::new(*lang, t.overview, Some(&seat));
    f.events = "/events".to_owned();
    let template = OverviewPage {
        due: counted(due, t),
        waking: counted(seen.waking, t),
        bars: bars(&seen.minutes, seen.now, &chart),
        chart_height: CHART_HEIGHT,
        held: seen.total(Stand::Held),
        active: seen.total(Stand::Active),
        completed: seen.total(Stand::Completed),
        cancelled: seen.total(Stand::Cancelled),
        complete: seen.complete,
        accounts: seen.accounts.iter().map(account).collect(),
        sequences: seen
            .sequences
            .iter()
            .map(|row| sequence_line(row, t))
            .collect(),
        latest: seen.latest.iter().map(happened).collect(),
        unknown: seen.unknown.iter().map(happened).collect(),
        f,
    };
    Ok(page(&template, StatusCode::OK))
}

fn sequence_line(row: &shown::SequenceRow, t: &'static Text) -> SequenceLine {
    let of = |state: Stand| row.passages.get(&state.number()).copied().unwrap_or(0);
    SequenceLine {
        name: row.name.clone(),
        title: plain(&row.title),
        pill: live_pill(row.live, t),
        steps: row.steps,
        states: Stand::ALL.map(of),
    }
}
