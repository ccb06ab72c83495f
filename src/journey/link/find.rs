//! Finds the links of a text: `<a href="…">`, and addresses that stand bare.
//!
//! The text is a template, so a link may have `{{ … }}` in it. Whatever is not understood is left as it
//! is and is no link: a text may say `<a` and mean nothing by it.

use std::ops::Range;

use super::check_id;
use crate::journey::template::{self, Refusal};

/// A text without what was written in it for us, and its links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub text: String,
    pub links: Vec<One>,
}

/// One link of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct One {
    /// Bytes of its address in the text.
    pub at: Range<usize>,
    pub id: Option<String>,
    /// Bytes of its name in the text as it was written.
    pub id_at: Range<usize>,
    pub target: String,
    pub tracked: bool,
}

/// The links of a text.
///
/// # Errors
/// What is wrong with a name, or with a wish to count what cannot be counted.
pub fn find(source: &str) -> Result<Found, Refusal> {
    let mut found = Found {
        text: String::with_capacity(source.len()),
        links: Vec::new(),
    };
    let mut at = 0;
    while let Some(letter) = source[at..].chars().next() {
        let rest = &source[at..];
        let length = if let Some(tag) = template_tag(rest) {
            found.text.push_str(&rest[..tag]);
            tag
        } else if let Some(anchor) = Anchor::read(source, at) {
            found.anchor(source, at, &anchor)?;
            anchor.end - at
        } else if let Some(length) = bare(rest) {
            found.bare(&rest[..length]);
            length
        } else {
            found.text.push(letter);
            letter.len_utf8()
        };
        at += length;
    }
    Ok(found)
}

impl Found {
    fn bare(&mut self, address: &str) {
        let at = self.text.len()..self.text.len() + address.len();
        self.text.push_str(address);
        if is_address(address) {
            self.links.push(One {
                at,
                id: None,
                id_at: 0..0,
                target: address.to_owned(),
                tracked: true,
            });
        }
    }

    fn anchor(&mut self, source: &str, from: usize, anchor: &Anchor) -> Result<(), Refusal> {
        let value = |name: &str| {
            let mut attributes = anchor.attributes.iter();
            attributes.find(|one| source[one.name.clone()].eq_ignore_ascii_case(name))
        };
        let (href, id, track) = (value("href"), value("link"), value("track"));
        let tracked = match track.map(|one| &source[one.value.clone()]) {
            None | Some("yes") => true,
            Some("no") => false,
            Some(_) => {
                let at = track.map_or(0..0, |one| one.value.clone());
                let fix = "write `track=\"no\"` to leave the link alone";
                return Err(Refusal::new(at, "this is neither `yes` nor `no`").fix(fix));
            }
        };
        let target = href.map(|one| source[one.value.clone()].trim());
        // A page of a mini program opens by the platform's own means; its address is for old phones.
        let page = value("data-miniprogram-appid").is_some();
        let leads = target.is_some_and(is_address) && !page;
        if let Some(named) = id.or(track).filter(|_| !leads) {
            let fix =
                "only a link to a page of the web, such as https://example.com/offer, is counted";
            return Err(Refusal::new(named.name.clone(), "this link cannot be counted").fix(fix));
        }
        if let Some(id) = id {
            check_id(&source[id.value.clone()], id.value.clone())?;
        }
        // What is for us is left out, with the space before it.
        let mut copied = from;
        for one in &anchor.attributes {
            if [id, track].into_iter().flatten().any(|ours| ours == one) {
                self.text
                    .push_str(source[copied..one.name.start].trim_end());
                copied = one.end;
            } else if Some(one) == href {
                self.text.push_str(&source[copied..one.value.start]);
                let at = self.text.len()..self.text.len() + one.value.len();
                self.text.push_str(&source[one.value.clone()]);
                copied = one.value.end;
                if let Some(target) = target.filter(|_| leads) {
                    self.links.push(One {
                        at,
                        id: id.map(|id| source[id.value.clone()].to_owned()),
                        id_at: id.map_or(0..0, |id| id.value.clone()),
                        // As a browser reads it.
                        target: target.replace("&amp;", "&"),
                        tracked,
                    });
                }
            }
        }
        self.text.push_str(&source[copied..anchor.end]);
        Ok(())
    }
}

/// An `<a …>` with everything up to its `</a>`.
#[derive(Debug)]
struct Anchor {
    attributes: Vec<Attribute>,
    end: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Attribute {
    name: Range<usize>,
    /// Without its quotes; empty where there is none.
    value: Range<usize>,
    end: usize,
}

impl Anchor {
    /// The one that begins at `from`, if there is one.
    fn read(source: &str, from: usize) -> Option<Self> {
        let tag = &source.as_bytes()[from..];
        if !matches!(tag, [b'<', b'a' | b'A', space, ..] if space.is_ascii_whitespace()) {
            return None;
        }
        let mut attributes = Vec::new();
        let mut at = from + 2;
        loop {
            at += leading(&source[at..], |b| b.is_ascii_whitespace());
            if source[at..].starts_with('>') {
                at += 1;
                break;
            }
            let attribute = Attribute::read(source, at)?;
            at = attribute.end;
            attributes.push(attribute);
        }
        // Its words are no addresses of their own.
        let inner = source[at..].to_ascii_lowercase();
        let end = inner.find("</a>").map_or(at, |closing| at + closing);
        Some(Self { attributes, end })
    }
}

impl Attribute {
    fn read(source: &str, from: usize) -> Option<Self> {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b':');
        let mut at = from + leading(&source[from..], is_name);
        if at == from {
            return None;
        }
        let name = from..at;
        let equals = at + leading(&source[at..], |b| b.is_ascii_whitespace());
        let Some(rest) = source[equals..].strip_prefix('=') else {
            return Some(Self {
                name,
                value: at..at,
                end: at,
            });
        };
        at = source.len() - rest.trim_start().len();
        let quote = source[at..].chars().next()?;
        let quoted = matches!(quote, '"' | '\'');
        at += usize::from(quoted);
        let begins = at;
        loop {
            let letter = source[at..].chars().next()?;
            let ends = match quoted {
                true => letter == quote,
                false => letter == '>' || letter.is_ascii_whitespace(),
            };
            if ends {
                break;
            }
            at += template_tag(&source[at..]).unwrap_or(letter.len_utf8());
        }
        Some(Self {
            name,
            value: begins..at,
            end: at + usize::from(quoted),
        })
    }
}

fn leading(text: &str, fits: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|b| fits(*b)).count()
}

/// Length of the `{{ … }}` or `{% … %}` that a text begins with.
fn template_tag(text: &str) -> Option<usize> {
    let close = match text.as_bytes() {
        [b'{', b'{', ..] => "}}",
        [b'{', b'%', ..] => "%}",
        _ => return None,
    };
    let mut at = 2;
    loop {
        let letter = text[at..].chars().next()?;
        if text[at..].starts_with(close) {
            return Some(at + 2);
        }
        at += match letter {
            '"' | '\'' => 2 + text[at + 1..].find(letter)?,
            _ => letter.len_utf8(),
        };
    }
}

/// Length of the address that a text begins with.
fn bare(text: &str) -> Option<usize> {
    let scheme = |name: &str| {
        let head = text.get(..name.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(name))
    };
    if !scheme("http://") && !scheme("https://") {
        return None;
    }
    let mut end = 0;
    // Behind a value: a comma that it ends with is its own.
    let mut value_ends = 0;
    while let Some(letter) = text[end..].chars().next() {
        if text[end..].starts_with("{{") {
            end += template_tag(&text[end..])?;
            value_ends = end;
            continue;
        }
        // It would go on with what a condition chooses.
        if text[end..].starts_with("{%") {
            return None;
        }
        if !letter.is_ascii_graphic() || "<>\"'\\^`{|}".contains(letter) {
            break;
        }
        end += 1;
    }
    let trimmed = text[value_ends..end].trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']']);
    Some(value_ends + trimmed.len())
}

fn is_address(text: &str) -> bool {
    check_address(text).is_ok() && template::check(text).is_ok()
}

/// Whether a text is a whole address of the web, the same host for everybody.
///
/// # Errors
/// Why it is none.
pub fn check_address(link: &str) -> Result<(), String> {
    let fixed = link.split(['{', ' ']).next().unwrap_or("");
    if !template::is_template(link) && link.contains(char::is_whitespace) {
        return Err("has a space in it".to_owned());
    }
    web_address(fixed).and_then(|()| whole_host(fixed, link))
}

fn web_address(text: &str) -> Result<(), String> {
    let url = url::Url::parse(text).map_err(|_| "is no link".to_owned())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("does not begin with https:// or http://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name in it".to_owned());
    }
    match url.host_str() {
        Some(host) if !host.is_empty() => Ok(()),
        _ => Err("has no host".to_owned()),
    }
}

/// A value in a link must not be able to go on with the host: the host ends before the first one.
fn whole_host(fixed: &str, link: &str) -> Result<(), String> {
    let rest = fixed.split_once("://").map_or("", |(_, rest)| rest);
    if fixed.len() == link.len() || rest.contains(['/', '?', '#']) {
        Ok(())
    } else {
        Err("has a value in its host".to_owned())
    }
}
