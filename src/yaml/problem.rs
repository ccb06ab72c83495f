//! What is wrong with a file: where, why, and how to put it right.

use std::fmt;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Error, MessageFormatter, UserMessageFormatter};

use crate::yaml::{At, Place};

/// Longest part of a source line that is shown, in characters.
const EXCERPT_MAX: usize = 160;
/// Most problems that are told of one file.
const PROBLEMS_MAX: usize = 200;

/// One thing that is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    /// From 1; 0 when the problem is the file as a whole.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// A lower-case fragment.
    pub message: String,
    /// What to do about it.
    pub fix: Option<String>,
    /// The line it is on, cut to a printable length; empty when there is none to show.
    pub excerpt: String,
    /// How many characters of `excerpt` the caret underlines, from `column` on.
    pub width: usize,
}

impl Problem {
    /// A problem at a place of `source`.
    pub fn new(source: &str, file: &str, place: Place, message: impl Into<String>) -> Self {
        let line = place
            .line
            .checked_sub(1)
            .and_then(|index| source.lines().nth(index))
            .unwrap_or("");
        let excerpt: String = line
            .chars()
            .take(EXCERPT_MAX)
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect();
        let room = excerpt
            .chars()
            .count()
            .saturating_sub(place.column.saturating_sub(1));
        let width = source
            .get(place.start..place.end)
            .and_then(|text| text.lines().next())
            .map_or(1, |text| text.trim_end().chars().count());
        Self {
            file: file.to_owned(),
            line: place.line,
            column: place.column,
            message: message.into(),
            fix: None,
            excerpt,
            width: width.clamp(1, room.max(1)),
        }
    }

    /// A problem with a key at the top of a file that has been read already.
    pub fn at_key(source: &str, file: &str, key: &str, message: impl Into<String>) -> Self {
        let place = source
            .lines()
            .position(|line| {
                line.strip_prefix(key)
                    .is_some_and(|rest| rest.starts_with(':'))
            })
            .map_or_else(Place::default, |line| Place {
                line: line + 1,
                column: 1,
                ..Place::default()
            });
        Self::new(source, file, place, message)
    }

    /// A problem with a file as a whole.
    pub fn of_file(file: &str, message: impl Into<String>) -> Self {
        Self::new("", file, Place::default(), message)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// The problem as a compiler would print it, with the line and a caret; `color` for terminals.
    pub fn render(&self, color: bool) -> String {
        self.render_as(Level::ERROR, color)
    }

    /// The same for what is allowed and unwise.
    pub fn render_warning(&self, color: bool) -> String {
        self.render_as(Level::WARNING, color)
    }

    fn render_as(&self, level: Level<'_>, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let title = level.primary_title(self.message.as_str());
        let start = byte_of(&self.excerpt, self.column.saturating_sub(1));
        let end = byte_of(&self.excerpt, self.column.saturating_sub(1) + self.width);
        let mut group = if self.line == 0 || self.excerpt.is_empty() {
            title.element(annotate_snippets::Origin::path(self.origin()))
        } else {
            title.element(
                Snippet::source(self.excerpt.as_str())
                    .line_start(self.line)
                    .path(self.file.as_str())
                    .annotation(AnnotationKind::Primary.span(start..end)),
            )
        };
        if let Some(fix) = &self.fix {
            group = group.element(Level::HELP.message(fix.as_str()));
        }
        renderer.render(&[group])
    }

    fn origin(&self) -> String {
        if self.line == 0 {
            self.file.clone()
        } else {
            format!("{}:{}:{}", self.file, self.line, self.column)
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin(), self.message)?;
        match &self.fix {
            Some(fix) => write!(f, " ({fix})"),
            None => Ok(()),
        }
    }
}

/// All problems, rendered one below the other.
pub fn render_all(problems: &[Problem], color: bool) -> String {
    let mut text = String::new();
    for problem in problems {
        text.push_str(&problem.render(color));
        text.push_str("\n\n");
    }
    text
}

fn byte_of(text: &str, index: usize) -> usize {
    text.char_indices()
        .nth(index)
        .map_or(text.len(), |(byte, _)| byte)
}

/// Collects the problems of one file.
#[derive(Debug)]
pub struct Problems<'a> {
    source: &'a str,
    file: &'a str,
    found: Vec<Problem>,
}

impl<'a> Problems<'a> {
    /// None so far.
    pub fn new(source: &'a str, file: &'a str) -> Self {
        Self {
            source,
            file,
            found: Vec::new(),
        }
    }

    /// Notes a problem at a place.
    pub fn note(&mut self, place: Place, message: impl Into<String>) {
        let problem = Problem::new(self.source, self.file, place, message);
        self.add(problem);
    }

    /// Notes a problem at a place, and how to put it right.
    pub fn note_with(&mut self, place: Place, message: impl Into<String>, fix: impl Into<String>) {
        let problem = Problem::new(self.source, self.file, place, message).fix(fix);
        self.add(problem);
    }

    /// Notes a problem with a value that must not be shown, as its line would.
    pub fn note_hidden(
        &mut self,
        place: Place,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let mut problem = Problem::new(self.source, self.file, place, message).fix(fix);
        problem.excerpt.clear();
        self.add(problem);
    }

    fn add(&mut self, problem: Problem) {
        // Nobody reads more, and a hostile file could have thousands.
        if self.found.len() < PROBLEMS_MAX {
            self.found.push(problem);
        }
    }

    /// Notes what `result` refuses, with its text in front; gives back what it accepts.
    pub fn keep<T>(&mut self, at: &At<String>, result: Result<T, String>, fix: &str) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(why) => {
                let message = format!("`{}` {why}", self.written(at));
                self.note_with(at.place, message, fix);
                None
            }
        }
    }

    /// A value as it stands in the file, so that no message shows what a variable was replaced by.
    pub fn written(&self, at: &At<String>) -> String {
        let text = self
            .source
            .get(at.place.start..at.place.end)
            .map(|text| text.trim().trim_matches(['"', '\'']))
            .filter(|text| !text.is_empty())
            .unwrap_or(at.value.as_str());
        let mut cut: String = text
            .chars()
            .take(60)
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect();
        if cut.len() < text.len() {
            cut.push('…');
        }
        cut
    }

    /// The text of the file.
    pub fn source(&self) -> &'a str {
        self.source
    }

    /// Whether nothing has been noted.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Everything that was noted, in the order of the file.
    pub fn into_vec(mut self) -> Vec<Problem> {
        self.found
            .sort_by_key(|problem| (problem.line, problem.column));
        self.found
    }
}

/// The problem behind an error of the YAML reader.
pub(super) fn explain(error: &Error, source: &str, file: &str) -> Problem {
    let mut error = error;
    while let Error::WithSnippet { error: inner, .. } | Error::AliasError { error: inner, .. } =
        error
    {
        error = inner;
    }
    let place = error.location().map_or_else(Place::default, Place::from);
    let (message, fix) = words(error, source.get(place.start..place.end).unwrap_or(""));
    let problem = Problem::new(source, file, place, message);
    let in_braces = problem.excerpt.contains("${") && is_syntax(error);
    let fix = fix.or_else(|| {
        in_braces
            .then(|| "a variable cannot stand in `{ … }`: give it a line of its own".to_owned())
    });
    match fix {
        Some(fix) => problem.fix(fix),
        None => problem,
    }
}

/// Whether it is the text that is no YAML, not a value that does not fit.
fn is_syntax(error: &Error) -> bool {
    matches!(error, Error::Message { .. } | Error::ExternalMessage { .. })
}

/// What an error says; `written` is what stands at its place. Where variables are replaced, the
/// reader says "an interpolated value" for any value, so the file's own words are better.
fn words(error: &Error, written: &str) -> (String, Option<String>) {
    match error {
        Error::SerdeUnknownField {
            field, expected, ..
        } => (
            format!("unknown key `{}`", printable(field)),
            Some(suggest(field, expected)),
        ),
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => {
            let word = written.trim().trim_matches(['"', '\'']);
            let word = if word.is_empty() { variant } else { word };
            (
                format!("unknown word `{}`", printable(word)),
                Some(suggest(word, expected)),
            )
        }
        Error::SerdeMissingField { field, .. } => (
            format!("`{field}` is missing here"),
            Some(format!("add `{field}:`")),
        ),
        Error::DuplicateMappingKey { key, .. } => (
            match key {
                Some(key) => format!("the key `{}` is here twice", printable(key)),
                None => "a key is here twice".to_owned(),
            },
            Some("keep one of them".to_owned()),
        ),
        Error::MergeKeyNotAllowed { .. } => (
            "merge keys (`<<`) are not read".to_owned(),
            Some("write the keys out".to_owned()),
        ),
        Error::MultipleDocuments { .. } => (
            "a second document begins here".to_owned(),
            Some("keep one document per file".to_owned()),
        ),
        Error::SerdeInvalidType {
            unexpected,
            expected,
            ..
        }
        | Error::SerdeInvalidValue {
            unexpected,
            expected,
            ..
        } => (
            format!("expected {expected}, found {}", printable(unexpected)),
            None,
        ),
        Error::Unexpected { expected, .. } => (
            match *expected {
                "mapping start" => "expected `key: value` here".to_owned(),
                "sequence start" => "expected a list here".to_owned(),
                "string scalar" => "expected text here".to_owned(),
                other => format!("expected {other} here"),
            },
            None,
        ),
        Error::InvalidScalar { ty, .. } if ty.starts_with(['u', 'i']) => {
            ("this is no whole number, or too large".to_owned(), None)
        }
        Error::UnexpectedValueForUnitEnumVariant { .. }
        | Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. } => {
            ("this does not belong here".to_owned(), None)
        }
        Error::Eof { .. } => ("this file ends too early".to_owned(), None),
        Error::UnresolvedProperty { name, .. } => (
            format!("the environment variable `{name}` is not set"),
            Some(format!(
                "set {name}, or write `${{{name}:-…}}` with a default"
            )),
        ),
        Error::UnknownAnchor { .. } => breach_words(&BudgetBreach::Aliases { aliases: 1 }),
        Error::Budget { breach, .. } => breach_words(breach),
        other => (
            UserMessageFormatter.format_message(other).into_owned(),
            None,
        ),
    }
}

fn breach_words(breach: &BudgetBreach) -> (String, Option<String>) {
    let (message, fix) = match breach {
        BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } => (
            "anchors and aliases (`&name`, `*name`) are not read",
            "write the value out, or quote it if it is text that begins with `&` or `*`",
        ),
        BudgetBreach::Depth { .. } => ("this is nested too deeply", "use fewer levels"),
        BudgetBreach::Documents { .. } => (
            "a second document begins here",
            "keep one document per file",
        ),
        BudgetBreach::MergeKeys { .. } => ("merge keys (`<<`) are not read", "write the keys out"),
        _ => (
            "this file holds more than is read",
            "split it into several files",
        ),
    };
    (message.to_owned(), Some(fix.to_owned()))
}

/// Text of a file, fit for a message: cut and without control characters.
fn printable(text: &str) -> String {
    text.chars()
        .take(80)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

fn suggest(word: &str, allowed: &[&'static str]) -> String {
    let list = allowed.join(", ");
    match nearest(word, allowed) {
        Some(near) => format!("did you mean `{near}`? allowed here: {list}"),
        None if allowed.is_empty() => "nothing is allowed here".to_owned(),
        None => format!("allowed here: {list}"),
    }
}

/// The allowed word that `word` was probably meant to be: at most a third of its letters differ.
pub fn nearest<'w>(word: &str, allowed: &[&'w str]) -> Option<&'w str> {
    let word: String = word.chars().take(64).collect::<String>().to_lowercase();
    allowed
        .iter()
        .map(|candidate| (distance(&word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words, where swapping two neighbours is one edit.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    let mut last = None;
    for (row, letter) in left.chars().enumerate() {
        let mut line = vec![row + 1];
        for (column, other) in right.iter().enumerate() {
            let mut best = (above[column] + usize::from(letter != *other))
                .min(above[column + 1] + 1)
                .min(line[column] + 1);
            if column > 0 && last == Some(*other) && right[column - 1] == letter {
                best = best.min(before[column - 1] + 1);
            }
            line.push(best);
        }
        before = above;
        above = line;
        last = Some(letter);
    }
    above.last().copied().unwrap_or(0)
}
