//! What became of messages, in numbers: by sequence, version, step, account, language and day.

use std::collections::BTreeMap;

use jiff::civil::Date;

use crate::journey::catalog::Catalog;
use crate::journey::ids::{AccountId, VersionId};
use crate::journey::outcome::Outcome;
use crate::store::statistics::{self, Added, Asked, Kind};
use crate::store::{Error, Store};

/// What is told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct By {
    pub version: bool,
    pub step: bool,
    pub account: bool,
    pub language: bool,
    pub day: bool,
}

/// What became of so many steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// By the day on which the passage began; everything else by the day on which it happened.
    pub planned: i64,
    pub sent: i64,
    pub refused: i64,
    /// By the platform's errcode.
    pub refused_by: BTreeMap<i64, i64>,
    pub expired: i64,
    pub skipped: i64,
    pub cancelled: i64,
    pub failed: i64,
    pub unknown: i64,
    /// As far as the platform reports it.
    pub delivered: i64,
    pub undelivered: i64,
    /// Passages in which a link of the step was clicked, by the day of the first click.
    pub clicked: i64,
    /// Clicks, by that day too.
    pub clicks: i64,
    /// Unfollows within an hour of the step.
    pub left: i64,
}

impl Numbers {
    /// Clicked of sent; `None` while nothing was sent.
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more")]
    pub fn click_rate(&self) -> Option<f64> {
        (self.sent > 0).then(|| self.clicked as f64 / self.sent as f64)
    }

    fn add(&mut self, kind: Kind, code: i64, n: i64) {
        let place = match kind {
            Kind::Enrolled => &mut self.planned,
            Kind::Clicked => &mut self.clicked,
            Kind::Clicks => &mut self.clicks,
            Kind::Left => &mut self.left,
            Kind::Outcome(outcome) => match outcome {
                Outcome::Sent => &mut self.sent,
                Outcome::Refused => {
                    *self.refused_by.entry(code).or_default() += n;
                    &mut self.refused
                }
                Outcome::Expired => &mut self.expired,
                Outcome::Skipped => &mut self.skipped,
                Outcome::Cancelled => &mut self.cancelled,
                Outcome::Failed => &mut self.failed,
                Outcome::Unknown => &mut self.unknown,
                Outcome::Delivered => &mut self.delivered,
                Outcome::Undelivered => &mut self.undelivered,
                // No ends: what becomes of the step is still to come.
                Outcome::Retried | Outcome::Held => return,
            },
        };
        *place += n;
    }
}

/// One line of statistics: what it is about, as far as that was told apart, and its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub sequence: String,
    pub version: Option<VersionId>,
    pub step: Option<String>,
    /// Key of the account.
    pub account: Option<String>,
    /// Of the follower, as it was known then; empty where it was not.
    pub language: Option<String>,
    pub day: Option<Date>,
    pub numbers: Numbers,
}

/// A link and how often it was clicked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkLine {
    pub sequence: String,
    pub version: VersionId,
    pub step: String,
    /// The author's name for it, or its position.
    pub link: String,
    /// Of its message; `None` for the default one.
    pub language: Option<String>,
    pub target: String,
    pub day: Option<Date>,
    pub clicked: i64,
    pub clicks: i64,
}

/// The numbers, in the order of sequences, versions, steps as they are sent, and days. `None` when there
/// are too many to be told at once.
///
/// # Errors
/// When they cannot be read.
pub async fn lines(store: &Store, asked: Asked, by: By) -> Result<Option<Vec<Line>>, Error> {
    let asked = Asked {
        by_account: by.account,
        by_language: by.language,
        by_day: by.day,
        by_step: by.step,
        by_link: false,
        ..asked
    };
    let Some(added) = statistics::read(store.read(), &asked).await? else {
        return Ok(None);
    };
    let accounts = statistics::account_keys(store.read()).await?;
    Ok(Some(laid_out(
        &store.knowledge().catalog(),
        &accounts,
        &added,
        by,
    )))
}

/// What makes a line one, in its order.
type Key = (
    String,
    Option<VersionId>,
    Option<String>,
    Option<i64>,
    Option<String>,
    Option<String>,
);

fn laid_out(
    catalog: &Catalog,
    accounts: &BTreeMap<AccountId, String>,
    added: &[Added],
    by: By,
) -> Vec<Line> {
    // With the place of the step in its sequence, which its name does not tell.
    let mut lines: BTreeMap<Key, (usize, Numbers)> = BTreeMap::new();
    for one in added {
        let Some(version) = catalog.version(one.version) else {
            continue;
        };
        let sequence = &version.sequence;
        let account = one.account.map(|id| accounts.get(&id).cloned());
        let key = |step: Option<String>| {
            (
                sequence.name.clone(),
                by.version.then_some(one.version),
                step,
                one.day,
                account.clone().map(Option::unwrap_or_default),
                one.language.clone(),
            )
        };
        let mut add = |step: Option<usize>, n: i64| {
            let id = step.map(|index| match sequence.steps.get(index) {
                Some(step) => step.id.clone(),
                None => format!("{}", index + 1),
            });
            let (place, numbers) = lines.entry(key(id)).or_default();
            *place = (*place).max(step.unwrap_or_default());
            numbers.add(one.kind, one.code, n);
        };
        match (one.kind, one.step) {
            // Whoever begins a passage has every step of it planned.
            (Kind::Enrolled, Some(_)) => {
                (0..sequence.steps.len()).for_each(|index| add(Some(index), one.n));
            }
            (Kind::Enrolled, None) => {
                let steps = i64::try_from(sequence.steps.len()).unwrap_or(i64::MAX);
                add(None, one.n.saturating_mul(steps));
            }
            (_, step) => add(step.map(usize::from), one.n),
        }
    }
    let mut lines: Vec<_> = lines.into_iter().collect();
    lines.sort_by(
        |((sequence, version, ..), (place, _)), (other, (behind, _))| {
            (sequence, version, place).cmp(&(&other.0, &other.1, behind))
        },
    );
    let line = |((sequence, version, step, day, account, language), (_, numbers)): (
        Key,
        (usize, Numbers),
    )| Line {
        sequence,
        version,
        step,
        account,
        language,
        day: day.map(statistics::date_of),
        numbers,
    };
    lines.into_iter().map(line).collect()
}

/// The links of the versions that anything is known of, also those that nobody has clicked. `None` when
/// there are too many to be told at once.
///
/// # Errors
/// When they cannot be read.
pub async fn links(
    store: &Store,
    asked: Asked,
    by_day: bool,
) -> Result<Option<Vec<LinkLine>>, Error> {
    let known = Asked {
        by_link: false,
        ..asked.clone()
    };
    let asked = Asked {
        by_day,
        by_link: true,
        ..asked
    };
    let known = statistics::read(store.read(), &known).await?;
    let added = statistics::read(store.read(), &asked).await?;
    let (Some(known), Some(added)) = (known, added) else {
        return Ok(None);
    };
    let mut clicks: BTreeMap<_, (i64, i64)> = BTreeMap::new();
    for one in added {
        let place = (one.version, one.step, one.link, one.day);
        let (clicked, total) = clicks.entry(place).or_default();
        match one.kind {
            Kind::Clicked => *clicked += one.n,
            Kind::Clicks => *total += one.n,
            Kind::Enrolled | Kind::Outcome(_) | Kind::Left => {}
        }
    }
    let mut versions: Vec<_> = known.iter().map(|one| one.version).collect();
    versions.sort_unstable();
    versions.dedup();
    let catalog = store.knowledge().catalog();
    let mut lines = Vec::new();
    for version in versions.iter().filter_map(|id| catalog.version(*id)) {
        for (index, step) in version.sequence.steps.iter().enumerate() {
            for (number, link) in step.links.iter().enumerate() {
                if !link.tracked {
                    continue;
                }
                let numbers = (u16::try_from(index).ok(), u16::try_from(number + 1).ok());
                let from = (version.id, numbers.0, numbers.1, None);
                let until = (version.id, numbers.0, numbers.1, Some(i64::MAX));
                let line = |day: Option<i64>, (clicked, clicks): (i64, i64)| LinkLine {
                    sequence: version.sequence.name.clone(),
                    version: version.id,
                    step: step.id.clone(),
                    link: link.name(),
                    language: link.language.clone(),
                    target: link.target.clone(),
                    day: day.map(statistics::date_of),
                    clicked,
                    clicks,
                };
                let before = lines.len();
                let found = clicks.range(from..=until);
                lines.extend(found.map(|((.., day), counts)| line(*day, *counts)));
                if lines.len() == before && !by_day {
                    lines.push(line(None, (0, 0)));
                }
            }
        }
    }
    Ok(Some(lines))
}
