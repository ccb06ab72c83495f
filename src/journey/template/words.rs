//! Cuts tags and conditions into words, and knows where each of them stands.

use std::ops::Range;

use super::grammar::Refusal;

/// Most words and signs of one tag.
const WORDS_MAX: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    Print,
    Statement,
}

/// The next `{{` or `{%`, and where. A comment is left to `Words`, which refuses it.
pub(super) fn next_tag(source: &str, from: usize) -> Option<(usize, Tag)> {
    let rest = source.get(from..)?;
    let start = ["{{", "{%", "{#"]
        .iter()
        .filter_map(|open| rest.find(open))
        .min()?
        + from;
    let tag = if source[start..].starts_with("{{") {
        Tag::Print
    } else {
        Tag::Statement
    };
    Some((start, tag))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word<'s> {
    Name(&'s str),
    Text(&'s str),
    Number(&'s str),
    Sign(&'s str),
}

/// The words of one tag, or of one condition.
pub(super) struct Words<'s> {
    pub(super) source: &'s str,
    list: Vec<(Word<'s>, Range<usize>)>,
    pub(super) next: usize,
    /// Where the tag's words end, for "something is missing here".
    end: usize,
    /// First byte behind the tag.
    pub(super) after: usize,
    /// Whether they are of a message's tag and not of a condition.
    pub(super) in_tag: bool,
}

impl<'s> Words<'s> {
    pub(super) fn new(source: &'s str, from: usize, tag: Option<Tag>) -> Result<Self, Refusal> {
        let mut words = Self {
            source,
            list: Vec::new(),
            next: 0,
            end: source.len(),
            after: source.len(),
            in_tag: tag.is_some(),
        };
        if source[..from].ends_with("{#") {
            return Err(
                Refusal::new(from - 2..from, "comments are not read in messages")
                    .fix("use a YAML comment (`# …`) beside the message"),
            );
        }
        let close = match tag {
            Some(Tag::Print) => "}}",
            Some(Tag::Statement) => "%}",
            None => "",
        };
        let mut at = from;
        if tag.is_some() && source[at..].starts_with('-') {
            at += 1;
        }
        loop {
            let rest = &source[at..];
            let Some(letter) = rest.chars().next() else {
                if tag.is_none() {
                    return Ok(words);
                }
                return Err(Refusal::new(from - 2..from, "this is not closed")
                    .fix(format!("add `{close}`")));
            };
            if tag.is_some() {
                let trimmed = rest.strip_prefix('-').unwrap_or(rest);
                if trimmed.starts_with(close) {
                    words.end = at;
                    words.after = source.len() - trimmed.len() + close.len();
                    return Ok(words);
                }
            }
            if words.list.len() >= WORDS_MAX {
                return Err(Refusal::new(at..at + letter.len_utf8(), "this is too long"));
            }
            if letter.is_whitespace() {
                at += letter.len_utf8();
                continue;
            }
            let (word, length) = word(rest, at)?;
            words.list.push((word, at..at + length));
            at += length;
        }
    }

    pub(super) fn peek(&self) -> Option<Word<'s>> {
        self.list.get(self.next).map(|(word, _)| *word)
    }

    pub(super) fn here(&self) -> Range<usize> {
        self.list.get(self.next).map_or_else(
            || {
                let start = self.end.saturating_sub(1);
                if self.source.is_char_boundary(start) {
                    start..self.end
                } else {
                    self.end..self.end
                }
            },
            |(_, at)| at.clone(),
        )
    }

    pub(super) fn take(&mut self, sign: &str) -> bool {
        let found =
            matches!(self.peek(), Some(Word::Sign(word) | Word::Name(word)) if word == sign);
        if found {
            self.next += 1;
        }
        found
    }

    pub(super) fn end(&self) -> Result<(), Refusal> {
        match self.peek() {
            None => Ok(()),
            Some(word) => Err(self.unexpected(word)),
        }
    }

    pub(super) fn unexpected(&self, word: Word<'_>) -> Refusal {
        let text = match word {
            Word::Name(text) | Word::Text(text) | Word::Number(text) | Word::Sign(text) => text,
        };
        let cut: String = text.chars().take(40).collect();
        Refusal::new(self.here(), format!("`{cut}` is not allowed here")).fix(
            "messages have variables, filters and `if`; conditions have ==, !=, in, not, and, or",
        )
    }
}

/// The first word of `rest` and its length; `at` is for the refusal.
fn word(rest: &str, at: usize) -> Result<(Word<'_>, usize), Refusal> {
    let letter = rest.chars().next().unwrap_or(' ');
    let run = |fits: fn(&u8) -> bool| rest.bytes().take_while(fits).count();
    if letter.is_ascii_alphabetic() || letter == '_' {
        let length = run(|b| b.is_ascii_alphanumeric() || *b == b'_');
        return Ok((Word::Name(&rest[..length]), length));
    }
    if letter.is_ascii_digit() {
        let length = run(|b| b.is_ascii_alphanumeric() || *b == b'_');
        let number = &rest[..length];
        if number.bytes().all(|b| b.is_ascii_digit()) {
            return Ok((Word::Number(number), length));
        }
        return Err(Refusal::new(at..at + length, "this is no number"));
    }
    if matches!(letter, '"' | '\'') {
        let Some(length) = rest[1..].find(letter) else {
            return Err(Refusal::new(at..at + 1, "this text is not closed").fix("add a quote"));
        };
        let text = &rest[1..=length];
        if text.contains('\\') {
            return Err(Refusal::new(
                at..at + length + 2,
                "a backslash cannot stand here",
            ));
        }
        return Ok((Word::Text(text), length + 2));
    }
    let length = if rest.starts_with("==") || rest.starts_with("!=") {
        2
    } else {
        letter.len_utf8()
    };
    Ok((Word::Sign(&rest[..length]), length))
}
