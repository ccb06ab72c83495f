//! What became of a sequence's steps and links, as charts: drawn here, whole without JavaScript.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::console::text::Text;
use crate::store::statistics::{self as sums, Asked};
use crate::store::{Error, Store};
use crate::story::statistics::{self, By, Line, LinkLine};
use crate::story::{Lang, phrases};

/// Days that a page may be about; the first unless it says otherwise. 0 is for all.
const SPANS: [i64; 3] = [30, 7, 0];

/// Days of a link's own chart.
const SPARK_DAYS: i64 = 30;
const SPARK_HEIGHT: i64 = 20;
/// Width of a day in it.
const SPARK_STEP: i64 = 4;

/// Height of a step's row, and how wide the widest bar is.
const ROW: i64 = 44;
const BARS: i64 = 430;
/// Where bars begin.
const LEFT: i64 = 150;

/// Longest name that is written beside a bar, in characters.
const NAME_MAX: usize = 18;

/// The charts of one sequence.
pub(super) struct Numbers {
    pub(super) spans: Vec<Span>,
    pub(super) steps: Vec<StepRow>,
    pub(super) height: i64,
    pub(super) links: Vec<LinkRow>,
    pub(super) spark_width: i64,
}

/// A choice of days.
pub(super) struct Span {
    pub(super) days: i64,
    pub(super) label: String,
    pub(super) chosen: bool,
}

/// A step: how many were planned, were sent, and clicked.
pub(super) struct StepRow {
    pub(super) name: String,
    /// All of it in words, for whoever points at it or cannot see it.
    pub(super) title: String,
    pub(super) name_y: i64,
    pub(super) bar_y: i64,
    pub(super) planned: i64,
    pub(super) sent: i64,
    pub(super) clicked: i64,
    pub(super) label: String,
    pub(super) label_x: i64,
    /// What else became of it.
    pub(super) others: String,
    pub(super) others_y: i64,
}

/// A link and its clicks by day.
pub(super) struct LinkRow {
    pub(super) step: String,
    pub(super) name: String,
    pub(super) language: String,
    pub(super) target: String,
    pub(super) clicked: i64,
    pub(super) clicks: i64,
    pub(super) days: Vec<DayBar>,
}

pub(super) struct DayBar {
    pub(super) x: i64,
    pub(super) y: i64,
    pub(super) height: i64,
    pub(super) label: String,
}

impl Numbers {
    /// Reads and draws; `None` while nothing is known of the sequence, or too much to be shown.
    pub(super) async fn of(
        store: &Store,
        sequence: &str,
        days: Option<i64>,
        now: Timestamp,
        (lang, t): (Lang, &'static Text),
    ) -> Result<Option<Self>, Error> {
        let days = days.filter(|days| SPANS.contains(days));
        let days = days.unwrap_or(SPANS[0]);
        // A day ahead of UTC is somewhere always.
        let last = sums::day_of(now, &jiff::tz::TimeZone::UTC) + 1;
        let asked = |days: i64| Asked {
            sequence: Some(sequence.to_owned()),
            days: (days > 0).then_some((last - days, last)),
            ..Asked::default()
        };
        let by = By {
            step: true,
            ..By::default()
        };
        let lines = statistics::lines(store, asked(days), by).await?;
        let links = statistics::links(store, asked(days), false).await?;
        let daily = statistics::links(store, asked(SPARK_DAYS), true).await?;
        let (Some(lines), Some(links), Some(daily)) = (lines, links, daily) else {
            return Ok(None);
        };
        let spans = SPANS.iter().map(|span| Span {
            days: *span,
            label: match span {
                0 => t.all_days.to_owned(),
                span => format!("{span} {}", t.days),
            },
            chosen: *span == days,
        });
        let steps = steps(&lines, lang, t);
        Ok(Some(Self {
            height: ROW * i64::try_from(steps.len()).unwrap_or_default() + 4,
            spans: spans.collect(),
            links: link_rows(links, &daily, last),
            spark_width: SPARK_STEP * (SPARK_DAYS + 1),
            steps,
        }))
    }
}

fn steps(lines: &[Line], lang: Lang, t: &'static Text) -> Vec<StepRow> {
    let most = lines
        .iter()
        .map(|line| line.numbers.planned.max(line.numbers.sent));
    let most = most.max().unwrap_or_default().max(1);
    let rows = lines.iter().zip(0..).map(|(line, at)| {
        let numbers = &line.numbers;
        let wide = |n: i64| (n * BARS + most - 1) / most;
        let share = |n: i64, of: i64| match of {
            0 => String::new(),
            of => format!(" ({} %)", (n * 100 + of / 2) / of),
        };
        let id = line.step.clone().unwrap_or_default();
        let short: String = match id.chars().count() > NAME_MAX {
            true => id.chars().take(NAME_MAX - 1).chain(['…']).collect(),
            false => id.clone(),
        };
        let (planned, sent, clicked) = (numbers.planned, numbers.sent, numbers.clicked);
        let mut label = format!("{sent}{}", share(sent, planned));
        if clicked > 0 {
            label.push_str(&format!(
                " · {} {clicked}{}",
                t.clicked,
                share(clicked, sent)
            ));
        }
        let others = [
            ("refused", numbers.refused),
            ("expired", numbers.expired),
            ("skipped", numbers.skipped),
            ("cancelled", numbers.cancelled),
            ("failed", numbers.failed),
            ("unknown", numbers.unknown),
            ("delivered", numbers.delivered),
            ("undelivered", numbers.undelivered),
        ];
        let others = others.into_iter().filter(|(_, n)| *n > 0);
        let others = others.map(|(word, n)| format!("{} {n}", phrases::state(word, lang)));
        let mut others: Vec<_> = others.collect();
        if numbers.left > 0 {
            others.push(format!("{} {}", t.left_within_hour, numbers.left));
        }
        let others = others.join(" · ");
        let top = at * ROW;
        StepRow {
            title: format!(
                "{id}: {} {planned}, {} {label}. {others}",
                t.planned, t.was_sent
            ),
            name: short,
            name_y: top + 18,
            bar_y: top + 6,
            planned: wide(planned),
            sent: wide(sent),
            clicked: wide(clicked),
            label,
            label_x: LEFT + wide(planned.max(sent)) + 8,
            others,
            others_y: top + 35,
        }
    });
    rows.collect()
}

fn link_rows(links: Vec<LinkLine>, daily: &[LinkLine], last: i64) -> Vec<LinkRow> {
    let first = last - SPARK_DAYS;
    let mut by_day: BTreeMap<_, i64> = BTreeMap::new();
    let place = |line: &LinkLine| {
        let (step, link) = (line.step.clone(), line.link.clone());
        (step, link, line.language.clone(), line.target.clone())
    };
    for line in daily {
        *by_day.entry((place(line), line.day)).or_default() += line.clicks;
    }
    let most = by_day.values().max().copied().unwrap_or_default().max(1);
    // Of a link that is in several versions there is one row.
    let mut rows: BTreeMap<_, (i64, i64)> = BTreeMap::new();
    let mut order = Vec::new();
    for line in links {
        let place = place(&line);
        if !rows.contains_key(&place) {
            order.push(place.clone());
        }
        let (clicked, clicks) = rows.entry(place).or_default();
        *clicked += line.clicked;
        *clicks += line.clicks;
    }
    let row = |place: (String, String, Option<String>, String)| {
        let (clicked, clicks) = rows[&place];
        let bar = |day: i64| {
            let date = sums::date_of(day);
            let n = by_day.get(&(place.clone(), Some(date))).copied()?;
            let height = (n * SPARK_HEIGHT + most - 1) / most;
            Some(DayBar {
                x: (day - first) * SPARK_STEP,
                y: SPARK_HEIGHT - height,
                height,
                label: format!("{date}: {n}"),
            })
        };
        let days = (first..=last).filter_map(bar).collect();
        let (step, name, language, target) = place;
        LinkRow {
            step,
            name,
            language: language.unwrap_or_default(),
            target,
            clicked,
            clicks,
            days,
        }
    };
    order.into_iter().map(row).collect()
}
