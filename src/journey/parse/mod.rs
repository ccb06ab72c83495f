//! Reads a sequence from its YAML: everything that can be refused is refused here.
//!
//! The shape is read first (`raw`); a file with the right shape is then checked as a whole, and all
//! that is wrong with it is reported together. Pure: files that messages name are looked up through
//! a function, so the same text can be read again from the store without them.

mod closed;
mod events;
mod links;
pub(crate) mod raw;
mod say;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::Time;

use crate::journey::sequence::{
    Closed, ClosedThen, HORIZON_DEFAULT, Kind, Late, LateThen, OnUnknown, Quiet, QuietHours,
    Reconcile, Reenter, Sequence,
};
use crate::yaml::{self, At, Place, Problem, Problems, parse_span};
use raw::{RawLate, RawLateThen, RawOnUnknown, RawQuiet, RawQuietHours, RawReconcile, RawSequence};

/// Longest horizon: a year and a day.
const HORIZON_MAX: Duration = Duration::from_secs(366 * 86_400);
/// Longest spread.
const SPREAD_MAX: Duration = Duration::from_secs(3_600);
/// Longest name, key, pattern or title, in characters.
const NAME_MAX: usize = 64;
const SPAN_FIX: &str = "write a time such as 30s, 10m, 23h, 1h30m or 2d";

/// What is known of a file that a message names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetFacts {
    /// Lower-case hex of its bytes.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
}

/// Finds a file by its path as written: what is known of it, or why it cannot be used.
pub type Assets<'a> = &'a dyn Fn(&str) -> Result<AssetFacts, String>;

/// A sequence and the files it names.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub sequence: Sequence,
    /// Paths as written, each once, in the order of the file.
    pub files: Vec<String>,
}

/// Reads one sequence; `file` is only for messages.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file; never an empty list.
pub fn parse(source: &str, file: &str, assets: Assets<'_>) -> Result<Parsed, Vec<Problem>> {
    let raw: RawSequence = yaml::read(source, file).map_err(|problem| vec![*problem])?;
    let mut reader = Reader {
        problems: Problems::new(source, file),
        assets,
        files: Vec::new(),
    };
    let sequence = reader.sequence(&raw);
    match sequence {
        Some(sequence) if reader.problems.is_empty() => Ok(Parsed {
            sequence,
            files: reader.files,
        }),
        _ => Err(reader.problems.into_vec()),
    }
}

/// Reads a sequence again from its stored text and the hashes of its files, by path as written.
///
/// # Errors
/// As `parse`; and a file that is not among `assets`.
pub fn parse_stored(
    text: &str,
    assets: &BTreeMap<String, String>,
) -> Result<Sequence, Vec<Problem>> {
    let find = |file: &str| {
        assets
            .get(file)
            .map(|sha256| AssetFacts {
                sha256: sha256.clone(),
                size: 1,
            })
            .ok_or_else(|| "is not stored with this version".to_owned())
    };
    parse(text, "stored version", &find).map(|parsed| parsed.sequence)
}

/// Where the steps of a sequence that has been read before stand in its text, in their order.
pub fn step_places(text: &str) -> Vec<Place> {
    let raw: Result<RawSequence, _> = yaml::read(text, "");
    let steps = raw.map(|raw| raw.steps.value).unwrap_or_default();
    steps.iter().map(|step| step.value.id.place).collect()
}

/// One reading of one file.
struct Reader<'a> {
    problems: Problems<'a>,
    assets: Assets<'a>,
    files: Vec<String>,
}

/// What a step does when it says nothing else.
struct StepDefaults {
    late: Late,
    closed: Closed,
    on_unknown: OnUnknown,
    expire_after: Duration,
}

impl Reader<'_> {
    fn sequence(&mut self, raw: &RawSequence) -> Option<Sequence> {
        let name = self.name(&raw.sequence);
        let title = match &raw.title {
            Some(title) => self.short_text(title, "title"),
            None => name.clone(),
        };
        let horizon = self.span_within(raw.horizon.as_ref(), HORIZON_DEFAULT, HORIZON_MAX);
        let min_gap = self.span_within(raw.min_gap.as_ref(), seconds(2), seconds(86_400));
        let spread = self.span_within(raw.spread.as_ref(), Duration::ZERO, SPREAD_MAX);
        let last_call = self.span_within(raw.last_call.as_ref(), Duration::ZERO, HORIZON_MAX);
        let defaults = self.defaults(raw);
        let (quiet_hours, quiet_zone) = match &raw.quiet_hours {
            Some(hours) => self.quiet_hours(hours),
            None => (None, None),
        };
        let timezone = self.timezone(raw.timezone.as_ref(), quiet_zone.as_ref());
        let trigger = self.trigger(&raw.trigger);
        let reenter = self.reenter(raw.reenter.as_ref());
        let exit_on = self.exit_on(raw.exit_on.as_deref().unwrap_or_default());
        let accounts = self.accounts(raw.accounts.as_ref());
        let steps = self.steps(&raw.steps, &defaults, horizon);
        self.clicked(raw, &steps);
        Some(Sequence {
            kind: Kind::Sequence,
            name: name?,
            title: title?,
            accounts,
            trigger: trigger?,
            reenter: reenter?,
            exit_on,
            quiet_hours,
            timezone,
            horizon,
            min_gap,
            spread,
            last_call,
            reconcile: raw.reconcile.map_or(Reconcile::Enroll, reconcile),
            track_links: raw.track_links,
            steps,
        })
    }

    fn defaults(&mut self, raw: &RawSequence) -> StepDefaults {
        let late = Late {
            after: seconds(3_600),
            then: LateThen::Send,
        };
        StepDefaults {
            late: self.late(raw.late.as_ref(), late),
            closed: match &raw.closed {
                Some(raw) => self.closed(raw),
                None => Closed::only(ClosedThen::Hold),
            },
            on_unknown: raw.on_unknown.map_or(OnUnknown::Resend, on_unknown),
            expire_after: self.span_within(
                raw.expire_after.as_ref(),
                seconds(48 * 3_600),
                HORIZON_MAX,
            ),
        }
    }

    /// `[a-z0-9_-]{1,64}`, for sequences, steps and accounts.
    fn name(&mut self, at: &At<String>) -> Option<String> {
        let ok = !at.value.is_empty()
            && at.value.len() <= NAME_MAX
            && at
                .value
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'));
        let result = if ok {
            Ok(at.value.clone())
        } else {
            Err("is not a name".to_owned())
        };
        let fix = "use 1 to 64 small letters, digits, `-` and `_`";
        self.problems.keep(at, result, fix)
    }

    fn short_text(&mut self, at: &At<String>, what: &str) -> Option<String> {
        let length = at.value.trim().chars().count();
        if (1..=NAME_MAX).contains(&length) {
            return Some(at.value.trim().to_owned());
        }
        let message = format!("`{what}` has {length} characters");
        let fix = format!("write 1 to {NAME_MAX} characters");
        self.problems.note_with(at.place, message, fix);
        None
    }

    fn span(&mut self, at: &At<String>) -> Option<Duration> {
        self.problems.keep(at, parse_span(&at.value), SPAN_FIX)
    }

    fn span_within(
        &mut self,
        at: Option<&At<String>>,
        default: Duration,
        most: Duration,
    ) -> Duration {
        let Some(at) = at else { return default };
        match self.span(at) {
            Some(span) if span > most => {
                let most = yaml::print_span(most);
                self.problems.note_with(
                    at.place,
                    format!("`{}` is too long", at.value),
                    format!("use at most {most}"),
                );
                default
            }
            Some(span) => span,
            None => default,
        }
    }

    fn late(&mut self, raw: Option<&RawLate>, default: Late) -> Late {
        let Some(raw) = raw else { return default };
        Late {
            after: self.span_within(raw.after.as_ref(), default.after, HORIZON_MAX),
            then: match raw.then {
                None => default.then,
                Some(RawLateThen::Send) => LateThen::Send,
                Some(RawLateThen::Skip) => LateThen::Skip,
                Some(RawLateThen::Shift) => LateThen::Shift,
            },
        }
    }

    fn time(&mut self, at: &At<String>) -> Option<Time> {
        let parsed = at
            .value
            .split_once(':')
            .filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2)
            .and_then(|(hour, minute)| {
                let number = |text: &str| -> Option<i8> {
                    text.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
                    text.parse().ok()
                };
                Time::new(number(hour)?, number(minute)?, 0, 0).ok()
            })
            .ok_or_else(|| "is not a time of day".to_owned());
        let fix = "write hours and minutes in quotes, from \"00:00\" to \"23:59\"";
        self.problems.keep(at, parsed, fix)
    }

    fn quiet_hours(&mut self, raw: &RawQuietHours) -> (Option<QuietHours>, Option<At<String>>) {
        let (from, to) = (self.time(&raw.from), self.time(&raw.to));
        if from.is_some() && from == to {
            self.problems.note_with(
                raw.to.place,
                "quiet hours end when they begin",
                "give `from` and `to` different times",
            );
        }
        let then = match raw.then {
            None | Some(RawQuiet::Shift) => Quiet::Shift,
            Some(RawQuiet::Skip) => Quiet::Skip,
        };
        let hours = from.zip(to).map(|(from, to)| QuietHours { from, to, then });
        (hours, raw.timezone.clone())
    }

    /// The zone of the sequence, which may stand at the top or within the quiet hours.
    fn timezone(&mut self, top: Option<&At<String>>, quiet: Option<&At<String>>) -> Option<String> {
        if let (Some(top), Some(quiet)) = (top, quiet)
            && top.value != quiet.value
        {
            self.problems.note_with(
                quiet.place,
                format!(
                    "quiet hours are in `{}`, the sequence in `{}`",
                    quiet.value, top.value
                ),
                "name one zone only, as `timezone:` of the sequence",
            );
        }
        let at = top.or(quiet)?;
        if at.value == "account" {
            return None;
        }
        let known = jiff::tz::TimeZone::get(&at.value)
            .map(|_| at.value.clone())
            .map_err(|_| "is no time zone".to_owned());
        let fix = "use a name such as Asia/Shanghai, or `account`";
        self.problems.keep(at, known, fix)
    }

    fn accounts(&mut self, raw: Option<&At<Vec<At<String>>>>) -> Vec<String> {
        let Some(list) = raw else { return Vec::new() };
        if list.value.is_empty() {
            self.problems.note_with(
                list.place,
                "`accounts` is empty",
                "name an account, or leave `accounts` out for all",
            );
        }
        let mut keys: Vec<String> = Vec::new();
        for at in &list.value {
            if let Some(key) = self.name(at) {
                if keys.contains(&key) {
                    let message = format!("the account `{key}` is here twice");
                    self.problems
                        .note_with(at.place, message, "keep one of them");
                } else {
                    keys.push(key);
                }
            }
        }
        keys
    }

    fn reenter(&mut self, raw: Option<&At<String>>) -> Option<Reenter> {
        let Some(at) = raw else {
            return Some(Reenter::Never);
        };
        let words: Vec<&str> = at.value.split_whitespace().collect();
        let result = match words.as_slice() {
            ["never"] => Ok(Reenter::Never),
            ["always"] => Ok(Reenter::Always),
            ["after", span] => parse_span(span).map(Reenter::After),
            _ => Err("is no rule for entering again".to_owned()),
        };
        let fix = "write `never`, `always` or `after 30d`";
        self.problems.keep(at, result, fix)
    }

    fn note(&mut self, place: Place, message: impl Into<String>, fix: impl Into<String>) {
        self.problems.note_with(place, message, fix);
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn reconcile(raw: RawReconcile) -> Reconcile {
    match raw {
        RawReconcile::Enroll => Reconcile::Enroll,
        RawReconcile::Record => Reconcile::Record,
    }
}

fn on_unknown(raw: RawOnUnknown) -> OnUnknown {
    match raw {
        RawOnUnknown::Resend => OnUnknown::Resend,
        RawOnUnknown::Skip => OnUnknown::Skip,
    }
}
