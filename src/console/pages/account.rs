//! One account's page: how it is, what it has left, what a person has to do, and may do.

use std::time::Duration;

use askama::Template;
use poem::http::StatusCode;
use poem::web::{Data, Path, Query};
use poem::{Response, Result, handler};
use serde::Deserialize;

use super::{Frame, State, failed, page};
use crate::console::session::Seat;
use crate::console::shown::{self, Bar, CHART_HEIGHT, Pill, When, when};
use crate::console::text::{Text, text};
use crate::sender::budget::Seen;
use crate::sender::quota::CLEARS_A_MONTH;
use crate::sender::wechat::errcode;
use crate::story::health::{self, GrantSums, Health, Hour, Sends};
use crate::story::voice::plain;
use crate::story::{Lang, Voice};

/// What became of a form, as the page after it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::console) enum AccountNotice {
    Paused,
    Resumed,
    Nothing,
    Cleared,
    NoneLeft,
    NotCleared,
    Silent,
    NotConfirmed,
}

impl AccountNotice {
    const ALL: [Self; 8] = [
        Self::Paused,
        Self::Resumed,
        Self::Nothing,
        Self::Cleared,
        Self::NoneLeft,
        Self::NotCleared,
        Self::Silent,
        Self::NotConfirmed,
    ];

    pub(in crate::console) fn word(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Nothing => "nothing",
            Self::Cleared => "cleared",
            Self::NoneLeft => "none-left",
            Self::NotCleared => "not-cleared",
            Self::Silent => "silent",
            Self::NotConfirmed => "not-confirmed",
        }
    }

    fn said(self, t: &'static Text) -> &'static str {
        match self {
            Self::Paused => t.done_paused,
            Self::Resumed => t.done_resumed,
            Self::Nothing => t.done_unchanged,
            Self::Cleared => t.done_cleared,
            Self::NoneLeft => t.no_clear_left,
            Self::NotCleared => t.not_cleared,
            Self::Silent => t.clear_silent,
            Self::NotConfirmed => t.not_confirmed,
        }
    }

    fn is_bad(self) -> bool {
        matches!(
            self,
            Self::NoneLeft | Self::NotCleared | Self::Silent | Self::NotConfirmed
        )
    }
}

struct InterfaceRow {
    name: &'static str,
    used: String,
    left: String,
    rate: String,
    rest: String,
}

struct RefusalRow {
    code: String,
    words: &'static str,
    n: u64,
    reaction: &'static str,
}

struct ActRow {
    when: When,
    act: &'static str,
    by: String,
    detail: String,
}

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    f: Frame,
    key: String,
    pill: Pill,
    paused: bool,
    notice: &'static str,
    bad: bool,
    needs: Vec<String>,
    facts: Vec<(&'static str, String)>,
    /// What is left of the month's clears, as a sentence to agree to.
    clears: String,
    interfaces: Vec<InterfaceRow>,
    sends: Vec<(&'static str, Sends)>,
    refusals: Vec<RefusalRow>,
    bars: Vec<Bar>,
    chart_height: u32,
    grants: Vec<(&'static str, GrantSums)>,
    acts: Vec<ActRow>,
}

#[derive(Deserialize)]
struct Done {
    done: Option<String>,
}

#[handler]
pub(in crate::console) async fn show_account(
    state: State<'_>,
    Data(lang): Data<&Lang>,
    seat: Data<&Seat>,
    Path(key): Path<String>,
    Query(Done { done }): Query<Done>,
) -> Result<Response> {
    let now = state.clock.now();
    let quotas = state.quotas.as_deref();
    let health = health::load(&state.store, quotas, &key, now).await;
    let health = health.map_err(failed)?.ok_or(StatusCode::NOT_FOUND)?;
    let t = text(*lang);
    let voice = Voice {
        lang: *lang,
        zone: shown::zone(&state.store, health.standing.id),
        now,
    };
    let notice = done.and_then(|word| AccountNotice::ALL.into_iter().find(|n| n.word() == word));
    let mut f = Frame::new(*lang, key.clone(), Some(&seat));
    f.events = "/events".to_owned();
    let needs = health.needs.iter();
    let refusals = health.refusals.iter().map(|one| RefusalRow {
        code: match one.code {
            0 => "–".to_owned(),
            code => code.to_string(),
        },
        words: errcode::words(one.code)
            .filter(|_| one.code != 0)
            .unwrap_or(""),
        n: one.n,
        reaction: health::reaction(one.reaction, *lang),
    });
    let acts = health.acts.iter().map(|entry| ActRow {
        when: when(entry.at, &voice),
        act: entry.act.word(),
        by: plain(&entry.caller),
        detail: plain(&entry.detail),
    });
    let template = AccountPage {
        pill: standing(&health, t),
        paused: health.pause.is_some(),
        notice: notice.map_or("", |notice| notice.said(t)),
        bad: notice.is_some_and(AccountNotice::is_bad),
        needs: needs.map(|need| health::need(need, *lang)).collect(),
        facts: facts(&health, &voice, t),
        clears: format!("{} {}/{CLEARS_A_MONTH}", t.clears_left, health.clears_left),
        interfaces: health
            .interfaces
            .iter()
            .map(|seen| interface(seen, &voice, t))
            .collect(),
        sends: health
            .sends
            .iter()
            .map(|(carrier, sends)| (carrier.word(), *sends))
            .collect(),
        refusals: refusals.collect(),
        bars: refusal_bars(&health.hours, &voice),
        chart_height: CHART_HEIGHT,
        grants: health.grants.iter().map(|(k, s)| (*k, *s)).collect(),
        acts: acts.collect(),
        key,
        f,
    };
    Ok(page(&template, StatusCode::OK))
}

fn standing(health: &Health, t: &'static Text) -> Pill {
    let (word, label) = match health.word() {
        "sending" => ("sent", t.sending),
        "paused" => ("held", t.paused),
        "resting" => ("held", t.resting),
        "unauthorized" => ("failed", t.unauthorized),
        _ => ("failed", t.attention),
    };
    Pill { word, label }
}

fn facts(health: &Health, voice: &Voice, t: &'static Text) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        (t.platform, health.standing.platform.clone()),
        (t.app_id, plain(&health.standing.app_id)),
        (t.profile, health.profile.clone().unwrap_or_default()),
    ];
    if let Some(pause) = &health.pause {
        let said = format!(
            "{} · {} · {}",
            plain(&pause.by),
            voice.when(pause.at),
            plain(&pause.reason)
        );
        facts.push((t.paused, said));
    }
    if let Some(rest) = &health.rest {
        let said = format!(
            "{} → {} · {}",
            rest.why,
            voice.when(rest.until),
            plain(&rest.detail)
        );
        facts.push((t.resting, said));
    } else if health.standing.paused_until > health.now || health.standing.attention {
        facts.push((t.resting, plain(&health.standing.pause_reason)));
    }
    if let Some(token) = &health.token {
        let since = token.had_since.map(|since| voice.ago(since));
        let ends = token.ends_at.map(|at| voice.until(at));
        facts.push((t.token_age, since.unwrap_or_else(|| t.never.to_owned())));
        if let Some(ends) = ends {
            facts.push((t.token_ends, ends));
        }
        if let Some((at, words)) = &token.failed {
            facts.push((
                t.token_failed,
                format!("{} · {}", voice.when(*at), plain(words)),
            ));
        }
    }
    facts.push((t.unknown, health.unknown.to_string()));
    facts
}

fn interface(seen: &Seen, voice: &Voice, t: &'static Text) -> InterfaceRow {
    let day = seen.quota.as_ref().and_then(|quota| quota.day);
    let rate = seen.quota.as_ref().and_then(|quota| quota.rates.first());
    let unknown = || "–".to_owned();
    let mut rest = seen.rest.map_or_else(String::new, |rest| {
        format!("{} → {}", rest.why.word(), voice.when(rest.until))
    });
    if seen.pace < 1000 {
        let pace = format!("{} {} %", t.pace, seen.pace / 10);
        rest = if rest.is_empty() {
            pace
        } else {
            format!("{rest} · {pace}")
        };
    }
    InterfaceRow {
        name: seen.interface.name(),
        used: day.map_or_else(unknown, |day| {
            format!("{}/{} ({} %)", day.used, day.limit, day.used_percent())
        }),
        left: day.map_or_else(unknown, |day| day.left.to_string()),
        rate: rate.map_or_else(unknown, |rate| {
            format!("{} / {}", rate.calls, voice.span(rate.span))
        }),
        rest,
    }
}

/// Refusals by hour.
fn refusal_bars(hours: &[Hour], voice: &Voice) -> Vec<Bar> {
    let highest = hours.iter().map(|hour| hour.refused).max().unwrap_or(0);
    let bar = |(index, hour): (usize, &Hour)| {
        let scaled = hour.refused * u64::from(CHART_HEIGHT) / highest.max(1);
        let height = u32::try_from(scaled).unwrap_or(CHART_HEIGHT);
        let height = if hour.refused > 0 { height.max(1) } else { 0 };
        let end = hour.at.plus(Duration::from_secs(3_600));
        Bar {
            x: index * 4,
            y: CHART_HEIGHT - height,
            height,
            label: format!(
                "{} – {} · {}",
                voice.when(hour.at),
                voice.when(end),
                hour.refused
            ),
        }
    };
    hours.iter().enumerate().map(bar).collect()
}
