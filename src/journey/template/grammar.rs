//! What may stand in a template, checked when the sequence is read.
//!
//! A template is text with `{{ value }}` and `{% if … %} {% elif … %} {% else %} {% endif %}`; a
//! value is a variable or text in quotes, with filters. A condition is values compared with `==`,
//! `!=`, `in`, `not in` and joined with `and`, `or`, `not` and parentheses. Loops, assignments,
//! macros, calls, arithmetic, subscripts and inclusion are not refused one by one: they are no
//! part of the grammar.

use std::ops::Range;

use super::words::{Tag, Word, Words, next_tag};
use crate::yaml::nearest;

/// Longest template or condition, in bytes.
const SOURCE_MAX: usize = 16 * 1024;
/// Deepest nesting of `if`, parentheses and `not`.
const DEPTH_MAX: usize = 8;

/// Why a template is refused, and which part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Bytes of the template.
    pub at: Range<usize>,
    /// A lower-case fragment.
    pub message: String,
    pub fix: Option<String>,
}

impl Refusal {
    pub(in crate::journey) fn new(at: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
            fix: None,
        }
    }

    pub(in crate::journey) fn whole(source: &str, message: impl Into<String>) -> Self {
        Self::new(0..source.len(), message)
    }

    pub(in crate::journey) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// What a value is, as far as it matters for what may be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    List,
    Moment,
    Flag,
}

const VARIABLES: [(&str, Kind); 9] = [
    ("follower.language", Kind::Text),
    ("follower.scene", Kind::Text),
    ("follower.tags", Kind::List),
    ("follower.followed_at", Kind::Moment),
    ("account.key", Kind::Text),
    ("account.name", Kind::Text),
    ("sequence.name", Kind::Text),
    ("step.id", Kind::Text),
    ("now", Kind::Moment),
];

/// What tells whether a link was clicked.
const CLICKED: &str = "clicked";

const FILTERS: [&str; 6] = ["default", "upper", "lower", "trim", "truncate", "date"];

/// Letters after `%` in the format of `date`.
const DATE_LETTERS: &str = "YymdeHMSjABabp%";

/// Whether a text has anything to fill in.
pub fn is_template(source: &str) -> bool {
    source.contains("{{") || source.contains("{%") || source.contains("{#")
}

/// Checks the text of a message; gives the number of its bytes that every follower gets.
///
/// # Errors
/// The first thing that is not allowed.
pub fn check(source: &str) -> Result<usize, Refusal> {
    if !is_template(source) {
        return Ok(source.len());
    }
    short_enough(source)?;
    let mut fixed = 0;
    // Where each open `if` began, and whether its `else` has come.
    let mut open: Vec<(Range<usize>, bool)> = Vec::new();
    let mut from = 0;
    while let Some((start, tag)) = next_tag(source, from) {
        if open.is_empty() {
            fixed += start - from;
        }
        let mut words = Words::new(source, start + 2, Some(tag))?;
        match tag {
            Tag::Print => {
                let (kind, at) = words.value()?;
                if kind != Kind::Text && kind != Kind::Moment {
                    return Err(Refusal::new(at, "this cannot be printed")
                        .fix("ask for it instead: `{% if 'vip' in follower.tags %}…{% endif %}`"));
                }
                words.end()?;
            }
            Tag::Statement => words.statement(start, &mut open)?,
        }
        from = words.after;
    }
    if open.is_empty() {
        fixed += source.len() - from;
    }
    if let Some((at, _)) = open.pop() {
        return Err(Refusal::new(at, "this `if` has no end").fix("add `{% endif %}`"));
    }
    Ok(fixed)
}

/// Checks a condition.
///
/// # Errors
/// The first thing that is not allowed in it.
pub(super) fn check_condition(source: &str) -> Result<(), Refusal> {
    if source.trim().is_empty() {
        return Err(Refusal::whole(source, "this condition is empty")
            .fix("write one such as `'vip' in follower.tags`, or leave it out"));
    }
    if is_template(source) {
        return Err(Refusal::whole(source, "a condition has no braces")
            .fix("write it as `'vip' in follower.tags`"));
    }
    short_enough(source)?;
    let mut words = Words::new(source, 0, None)?;
    words.condition(0)?;
    words.end()
}

/// What a condition that was checked asks by `clicked('…')`, each with its bytes.
pub(super) fn clicked_in(source: &str) -> Result<Vec<(String, Range<usize>)>, Refusal> {
    let mut words = Words::new(source, 0, None)?;
    let mut clicked = Vec::new();
    while let Some(word) = words.peek() {
        words.next += 1;
        if word == Word::Name(CLICKED) && words.take("(") {
            let at = words.here();
            if let Some(Word::Text(name)) = words.peek() {
                // Without the quotes.
                clicked.push((name.to_owned(), at.start + 1..at.end - 1));
            }
        }
    }
    Ok(clicked)
}

/// The one name of an event `clicked('…')`.
///
/// # Errors
/// When it is anything else.
pub(super) fn clicked_alone(source: &str) -> Result<String, Refusal> {
    let shape = || {
        Refusal::whole(source, "this names no link").fix("write it as `\"clicked('offer.buy')\"`")
    };
    let mut words = Words::new(source, 0, None).map_err(|_| shape())?;
    let (Kind::Flag, _) = words.clicked().map_err(|_| shape())? else {
        return Err(shape());
    };
    words.end().map_err(|_| shape())?;
    let clicked = clicked_in(source)?;
    clicked
        .into_iter()
        .next()
        .map(|(name, _)| name)
        .ok_or_else(shape)
}

fn short_enough(source: &str) -> Result<(), Refusal> {
    if source.len() > SOURCE_MAX {
        let message = format!("this has more than {SOURCE_MAX} bytes");
        return Err(Refusal::new(0..0, message));
    }
    Ok(())
}

impl Words<'_> {
    fn statement(
        &mut self,
        start: usize,
        open: &mut Vec<(Range<usize>, bool)>,
    ) -> Result<(), Refusal> {
        let at = self.here();
        let Some(Word::Name(name)) = self.peek() else {
            return Err(Refusal::new(at, "a statement is missing here")
                .fix("write `{% if … %}`, `{% elif … %}`, `{% else %}` or `{% endif %}`"));
        };
        let stray = || Refusal::new(at.clone(), format!("this `{name}` belongs to no `if`"));
        self.next += 1;
        match name {
            "if" => {
                if open.len() >= DEPTH_MAX {
                    return Err(Refusal::new(at, "this `if` is nested too deeply"));
                }
                open.push((start..self.after, false));
                self.condition(0)?;
            }
            "elif" => {
                match open.last() {
                    Some((_, false)) => {}
                    _ => return Err(stray()),
                }
                self.condition(0)?;
            }
            "else" => match open.last_mut() {
                Some((_, other @ false)) => *other = true,
                _ => return Err(stray()),
            },
            "endif" => {
                open.pop().ok_or_else(stray)?;
            }
            _ => {
                return Err(Refusal::new(
                    at.clone(),
                    format!("`{name}` is not allowed in messages"),
                )
                .fix("use `if`, `elif`, `else` and `endif`"));
            }
        }
        self.end()
    }

    fn condition(&mut self, depth: usize) -> Result<(), Refusal> {
        if depth > DEPTH_MAX {
            return Err(Refusal::new(self.here(), "this is nested too deeply"));
        }
        loop {
            let mut negations = 0;
            while self.take("not") {
                negations += 1;
                if negations > DEPTH_MAX {
                    return Err(Refusal::new(self.here(), "this is nested too deeply"));
                }
            }
            if self.take("(") {
                self.condition(depth + 1)?;
                if !self.take(")") {
                    return Err(Refusal::new(self.here(), "a `)` is missing here"));
                }
            } else {
                self.comparison()?;
            }
            if !(self.take("and") || self.take("or")) {
                return Ok(());
            }
        }
    }

    fn comparison(&mut self) -> Result<(), Refusal> {
        let (left, left_at) = self.value()?;
        if self.take("==") || self.take("!=") {
            let (right, right_at) = self.value()?;
            for (kind, at) in [(left, left_at), (right, right_at)] {
                if kind != Kind::Text {
                    return Err(Refusal::new(at, "only texts can be compared").fix(
                        "ask lists with `in`; turn an instant into text with `date(\"%H\")`",
                    ));
                }
            }
            return Ok(());
        }
        let inside = self.take("in") || {
            let before = self.next;
            let found = self.take("not") && self.take("in");
            if !found {
                self.next = before;
            }
            found
        };
        if inside {
            if left != Kind::Text {
                return Err(Refusal::new(left_at, "only a text can be looked for"));
            }
            let (right, right_at) = self.value()?;
            if right != Kind::List && right != Kind::Text {
                return Err(Refusal::new(right_at, "nothing can be looked for in this"));
            }
        }
        Ok(())
    }

    /// A variable, a text, `true` or `false`, and its filters.
    fn value(&mut self) -> Result<(Kind, Range<usize>), Refusal> {
        let at = self.here();
        let Some(word) = self.peek() else {
            return Err(Refusal::new(at, "a variable is missing here")
                .fix(format!("use one of {}", variable_names())));
        };
        let (mut kind, at) = match word {
            Word::Text(_) => {
                self.next += 1;
                (Kind::Text, at)
            }
            Word::Name("true" | "false") => {
                self.next += 1;
                (Kind::Flag, at)
            }
            Word::Name(CLICKED) => self.clicked()?,
            Word::Name(_) => self.variable()?,
            Word::Number(_) | Word::Sign(_) => return Err(self.unexpected(word)),
        };
        let mut filters = 0;
        while self.take("|") {
            filters += 1;
            if filters > DEPTH_MAX {
                return Err(Refusal::new(self.here(), "these are too many filters"));
            }
            kind = self.filter(kind)?;
        }
        Ok((kind, at))
    }

    /// `clicked('step.link')`, in conditions of sequences only: a message need not tell people what
    /// they did.
    fn clicked(&mut self) -> Result<(Kind, Range<usize>), Refusal> {
        let mut at = self.here();
        if self.in_tag {
            let fix = "ask it in the step's `when`, or in `exit_on`";
            return Err(Refusal::new(at, "`clicked` cannot stand in a message").fix(fix));
        }
        let opens = self.take(CLICKED) && self.take("(");
        let named = matches!(self.peek(), Some(Word::Text(name)) if !name.is_empty());
        if opens && named {
            self.next += 1;
            at.end = self.here().end;
            if self.take(")") {
                return Ok((Kind::Flag, at));
            }
        }
        Err(Refusal::new(at, "`clicked` needs the name of a link")
            .fix("write `clicked('offer.buy')`"))
    }

    fn variable(&mut self) -> Result<(Kind, Range<usize>), Refusal> {
        let mut at = self.here();
        let mut name = String::new();
        while let Some(Word::Name(part)) = self.peek() {
            name.push_str(part);
            at.end = self.here().end;
            self.next += 1;
            if self.peek() != Some(Word::Sign(".")) {
                break;
            }
            name.push('.');
            at.end = self.here().end;
            self.next += 1;
        }
        match VARIABLES.iter().find(|(known, _)| *known == name) {
            Some((_, kind)) => Ok((*kind, at)),
            None => {
                let cut: String = name.chars().take(60).collect();
                let names: Vec<&str> = VARIABLES.iter().map(|(known, _)| *known).collect();
                let fix = match nearest(&name, &names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("use one of {}", variable_names()),
                };
                Err(Refusal::new(at, format!("unknown variable `{cut}`")).fix(fix))
            }
        }
    }

    fn filter(&mut self, kind: Kind) -> Result<Kind, Refusal> {
        let at = self.here();
        let name = match self.peek() {
            Some(Word::Name(name)) if FILTERS.contains(&name) => name,
            Some(Word::Name(name)) => {
                let cut: String = name.chars().take(40).collect();
                let list = FILTERS.join(", ");
                let fix = match nearest(name, &FILTERS) {
                    Some(near) => format!("did you mean `{near}`? there are {list}"),
                    None => format!("there are {list}"),
                };
                return Err(Refusal::new(at, format!("unknown filter `{cut}`")).fix(fix));
            }
            _ => return Err(Refusal::new(at, "the name of a filter is missing here")),
        };
        self.next += 1;
        let wanted = if name == "date" {
            Kind::Moment
        } else {
            Kind::Text
        };
        if kind != wanted {
            let message = match wanted {
                Kind::Moment => "`date` is for instants: now and follower.followed_at".to_owned(),
                _ => format!("`{name}` is for texts"),
            };
            return Err(Refusal::new(at, message));
        }
        match name {
            "default" => self.argument(&at, Argument::Text)?,
            "truncate" => self.argument(&at, Argument::Count)?,
            "date" => self.argument(&at, Argument::Format)?,
            _ => {}
        }
        Ok(Kind::Text)
    }

    /// The one argument of a filter.
    fn argument(&mut self, filter: &Range<usize>, wanted: Argument) -> Result<(), Refusal> {
        if self.take("(")
            && let Some(word) = self.peek()
        {
            let fits = match (wanted, word) {
                (Argument::Text, Word::Text(_)) => true,
                (Argument::Count, Word::Number(digits)) => digits.len() <= 4,
                (Argument::Format, Word::Text(format)) => date_format(format),
                _ => false,
            };
            self.next += 1;
            if fits && self.take(")") {
                return Ok(());
            }
        }
        let name = &self.source[filter.clone()];
        let example = match wanted {
            Argument::Text => "(\"friend\")",
            Argument::Count => "(20)",
            Argument::Format => "(\"%Y-%m-%d %H:%M\")",
        };
        let message = format!("`{name}` needs one argument of its kind");
        Err(Refusal::new(filter.clone(), message).fix(format!("write `{name}{example}`")))
    }
}

/// What a filter takes in its parentheses.
#[derive(Clone, Copy)]
enum Argument {
    Text,
    Count,
    Format,
}

fn date_format(format: &str) -> bool {
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            continue;
        }
        // `%-d` is the day without a leading zero.
        let mut next = letters.next();
        if next == Some('-') {
            next = letters.next();
        }
        if !next.is_some_and(|next| DATE_LETTERS.contains(next)) {
            return false;
        }
    }
    format.len() <= 64
}

fn variable_names() -> String {
    VARIABLES.map(|(name, _)| name).join(", ")
}
