//! What the pages show: rows and stories, put into words for a language.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::clock::Timestamp;
use crate::journey::enrollment::State;
use crate::journey::ids::AccountId;
use crate::store::accounts::Standing;
use crate::store::overview::{self, Count, Happened};
use crate::store::syncs::{self, Sync};
use crate::store::{Error, Store};
use crate::story::phrases;
use crate::story::voice::{plain, utc};
use crate::story::{Lang, Passage, Stage, Story, Voice, What, why};

/// Outcomes on the first page.
const LATEST_MAX: u32 = 20;

/// Unknown sends on the first page.
const UNKNOWN_MAX: u32 = 20;

/// Minutes of the chart of what is ahead.
const MINUTES: i64 = 60;

/// Moments of a story that are shown at once; older ones are folded away.
const MOMENTS_MAX: usize = 60;

/// How many passages of one sequence stand where.
pub(super) type Passages = BTreeMap<i64, u32>;

/// What the first page shows, in no language yet.
#[derive(Debug)]
pub(super) struct Overview {
    pub(super) now: Timestamp,
    pub(super) accounts: Vec<(Standing, Count)>,
    /// The latest comparison with the platform's list, by account.
    pub(super) syncs: BTreeMap<AccountId, Sync>,
    /// Timers due by minute from now.
    pub(super) minutes: Vec<u32>,
    pub(super) waking: Count,
    pub(super) sequences: Vec<SequenceRow>,
    /// Whether the passages are all there are.
    pub(super) complete: bool,
    pub(super) latest: Vec<Happened>,
    pub(super) unknown: Vec<Happened>,
}

/// One sequence of the first page.
#[derive(Debug)]
pub(super) struct SequenceRow {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) live: bool,
    pub(super) steps: usize,
    pub(super) passages: Passages,
}

impl Overview {
    pub(super) async fn read(store: &Store, now: Timestamp) -> Result<Self, Error> {
        let read = store.read();
        let mut accounts = Vec::new();
        for standing in overview::accounts(read).await? {
            let due = overview::due(read, standing.id).await?;
            accounts.push((standing, due));
        }
        let syncs = syncs::all(read).await?;
        let hour = Duration::from_secs(3600);
        let (instants, waking) = overview::waking(read, now.plus(hour)).await?;
        let mut minutes = vec![0; 60];
        for at in instants {
            // What is overdue wakes in this minute.
            let minute = ((at.0 - now.0) / 60_000).clamp(0, MINUTES - 1);
            if let Some(bar) = usize::try_from(minute)
                .ok()
                .and_then(|m| minutes.get_mut(m))
            {
                *bar += 1;
            }
        }
        let tally = overview::tally(read).await?;
        let catalog = store.knowledge().catalog();
        let mut sequences = Vec::new();
        for one in overview::sequences(read).await? {
            let mut passages = Passages::new();
            for (version, states) in &tally.by_version {
                let known = catalog.version(*version);
                if known.is_some_and(|known| known.sequence.name == one.sequence) {
                    for (state, n) in states {
                        *passages.entry(state.number()).or_default() += n;
                    }
                }
            }
            let known = catalog.version(one.id);
            sequences.push(SequenceRow {
                title: known.map_or_else(|| one.sequence.clone(), |v| v.sequence.title.clone()),
                steps: known.map_or(0, |v| v.sequence.steps.len()),
                name: one.sequence,
                live: one.live,
                passages,
            });
        }
        Ok(Self {
            now,
            accounts,
            syncs: syncs.into_iter().map(|one| (one.account, one)).collect(),
            minutes,
            waking,
            sequences,
            complete: tally.complete,
            latest: overview::latest(read, LATEST_MAX).await?,
            unknown: overview::unknown(read, None, UNKNOWN_MAX).await?,
        })
    }

    /// A number that changes with what is shown, except that time passes.
    pub(super) fn mark(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let shown = (
            &self.accounts,
            &self.syncs,
            self.waking,
            &self.sequences,
            &self.latest,
            &self.unknown,
        );
        format!("{shown:?}").hash(&mut hasher);
        hasher.finish()
    }

    /// Passages in a state, over all sequences.
    pub(super) fn total(&self, state: State) -> u32 {
        let of = |row: &SequenceRow| row.passages.get(&state.number()).copied();
        self.sequences.iter().filter_map(of).sum()
    }

    /// The key of an account.
    pub(super) fn key(&self, id: AccountId) -> String {
        let standing = self.accounts.iter().find(|(standing, _)| standing.id == id);
        standing.map_or_else(String::new, |(standing, _)| standing.key.clone())
    }
}

/// An instant, in the account's zone and in UTC.
#[derive(Debug)]
pub(super) struct When {
    pub(super) local: String,
    pub(super) utc: String,
}

/// An instant on a page.
pub(super) fn when(at: Timestamp, voice: &Voice) -> When {
    When {
        local: voice.when(at),
        utc: utc(at),
    }
}

/// The zone of an account's instants.
pub(super) fn zone(store: &Store, account: AccountId) -> TimeZone {
    let known = store.knowledge().account(account);
    known.map_or(TimeZone::UTC, |account| account.journey.zone.clone())
}

/// A state or an outcome: its word names its colour, its label is for people.
#[derive(Debug)]
pub(super) struct Pill {
    pub(super) word: &'static str,
    pub(super) label: &'static str,
}

/// The pill of a state or an outcome.
pub(super) fn pill(word: &'static str, lang: Lang) -> Pill {
    Pill {
        word,
        label: phrases::state(word, lang),
    }
}

/// One bar of a chart, in the units of its picture.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) x: usize,
    pub(super) y: u32,
    pub(super) height: u32,
    pub(super) label: String,
}

/// Height of the chart in its own units.
pub(super) const CHART_HEIGHT: u32 = 32;

/// Bars of four units' pitch; what is not nothing is at least one unit high.
pub(super) fn bars(counts: &[u32], now: Timestamp, voice: &Voice) -> Vec<Bar> {
    let highest = counts.iter().copied().max().unwrap_or(0).max(1);
    let bar = |(index, count): (usize, &u32)| {
        let scaled = u64::from(*count) * u64::from(CHART_HEIGHT) / u64::from(highest);
        let height = u32::try_from(scaled).unwrap_or(CHART_HEIGHT);
        let height = if *count > 0 { height.max(1) } else { 0 };
        let minutes = u64::try_from(index).unwrap_or(0);
        let at = now.plus(Duration::from_secs(minutes * 60));
        Bar {
            x: index * 4,
            y: CHART_HEIGHT - height,
            height,
            label: format!("{} · {count}", &voice.when(at)),
        }
    };
    counts.iter().enumerate().map(bar).collect()
}

/// One step of a passage.
#[derive(Debug)]
pub(super) struct StepRow {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) due: When,
    pub(super) pill: Pill,
    pub(super) why: String,
}

/// One passage.
#[derive(Debug)]
pub(super) struct PassageCard {
    pub(super) sequence: String,
    pub(super) title: String,
    pub(super) enrolled: When,
    pub(super) pill: Pill,
    /// A person may end it.
    pub(super) unfinished: bool,
    pub(super) steps: Vec<StepRow>,
}

/// A story's passages, newest first.
pub(super) fn passages(story: &Story, voice: &Voice) -> Vec<PassageCard> {
    let card = |passage: &Passage| {
        let row = |stage: &Stage| StepRow {
            id: stage.id.clone(),
            kind: stage.kind,
            due: when(stage.due_at, voice),
            pill: pill(stage.state.word(), voice.lang),
            why: why::step(story, passage, stage, voice),
        };
        PassageCard {
            sequence: passage.sequence(),
            title: plain(&passage.title()),
            enrolled: when(passage.enrollment.enrolled_at, voice),
            pill: pill(passage.enrollment.state.word(), voice.lang),
            unfinished: !passage.enrollment.is_finished(),
            steps: passage.steps.iter().map(row).collect(),
        }
    };
    story.passages.iter().rev().map(card).collect()
}

/// One line of a time line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) when: When,
    /// `event`, `enrolled`, `now`, or a state or outcome.
    pub(super) kind: &'static str,
    pub(super) label: &'static str,
    pub(super) head: String,
    pub(super) why: String,
}

/// A story's time line: what is folded away, and what is shown, each in the order of time.
pub(super) fn lines(story: &Story, voice: &Voice) -> (Vec<Line>, Vec<Line>) {
    let mut lines = Vec::new();
    let mut now_shown = false;
    let now_line = |lines: &mut Vec<Line>| {
        lines.push(Line {
            when: when(story.now, voice),
            kind: "now",
            label: voice.lang.pick("now", "现在"),
            head: String::new(),
            why: String::new(),
        });
    };
    for moment in story.moments() {
        if !now_shown && !moment.is_past(story.now) {
            now_shown = true;
            now_line(&mut lines);
        }
        let at = when(moment.at, voice);
        lines.push(line(story, moment.what, at, voice));
    }
    if !now_shown {
        now_line(&mut lines);
    }
    let folded = lines.len().saturating_sub(MOMENTS_MAX);
    let shown = lines.split_off(folded);
    (lines, shown)
}

fn line(story: &Story, what: What<'_>, when: When, voice: &Voice) -> Line {
    let place = |passage: &Passage, stage: &Stage| format!("{} / {}", passage.sequence(), stage.id);
    match what {
        What::Event(receipt) => Line {
            when,
            kind: "event",
            label: voice.lang.pick("event", "事件"),
            head: why::event(receipt, voice),
            why: String::new(),
        },
        What::Enrolled(passage) => Line {
            when,
            kind: "enrolled",
            label: voice.lang.pick("enrolled", "进入"),
            head: passage.sequence(),
            why: String::new(),
        },
        What::Entry(passage, stage, entry) => {
            let pill = pill(entry.outcome.word(), voice.lang);
            Line {
                when,
                kind: pill.word,
                label: pill.label,
                head: place(passage, stage),
                why: why::entry(stage, entry, voice),
            }
        }
        What::Ahead(passage, stage) => {
            let pill = pill(stage.state.word(), voice.lang);
            Line {
                when,
                kind: pill.word,
                label: pill.label,
                head: place(passage, stage),
                why: why::step(story, passage, stage, voice),
            }
        }
    }
}
