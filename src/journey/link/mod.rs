//! Links of messages: which there are, how they are named, and how an address of ours takes the place
//! of each while clicks are counted.
//!
//! A link is an `<a href="…">` of a text or a menu, an address that stands bare in one, or the page of
//! a card. `link="buy"` names it, else its position does; `track="no"` leaves it alone. Both are for us:
//! followers get the message without them. Deliberately absent: pages behind template messages and mini
//! programs, which open by the platform's own means, and mass sends, whose words are one for everybody.

mod find;
#[cfg(test)]
mod tests;
pub mod token;

use std::fmt;
use std::ops::Range;

pub use find::{check_address, find};

use crate::clock::Timestamp;
use crate::journey::ids::{EnrollmentId, VersionId};
use crate::journey::message::Message;
use crate::journey::sequence::Step;
use crate::journey::template::{self, Facts, Refusal};
use token::{Keyring, Link as Sealed};

/// Most links of one step, in all of its languages: a token has a byte for its number.
pub const LINKS_MAX: usize = 200;

/// One link of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The language of its message; `None` for the default one.
    pub language: Option<String>,
    /// In which text of the message it stands.
    pub text: Text,
    /// Its bytes there.
    pub at: Range<usize>,
    /// Place among the links of its message, from 1.
    pub position: usize,
    /// The author's name for it.
    pub id: Option<String>,
    /// Where it leads: a template of a whole address.
    pub target: String,
    /// Whether clicks on it may be counted.
    pub tracked: bool,
}

impl Link {
    /// The author's name for it, or its position.
    pub fn name(&self) -> String {
        self.id.clone().unwrap_or_else(|| self.position.to_string())
    }

    /// Whether `word` names it, by name or by position.
    pub fn is_named(&self, word: &str) -> bool {
        self.id.as_deref() == Some(word) || self.position.to_string() == word
    }

    /// Whether its address is filled in for each follower.
    pub fn is_template(&self) -> bool {
        template::is_template(&self.target)
    }

    /// The address that it leads a follower to.
    ///
    /// # Errors
    /// As `template::render`; and when what comes out is no address of the web.
    pub fn leads_to(&self, facts: &Facts) -> Result<String, template::TemplateError> {
        let filled = template::link(&self.target, facts)?;
        let url = url::Url::parse(&filled).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        url.map(String::from)
            .ok_or(template::TemplateError::Failed {
                field: "link",
                reason: "it leads nowhere".to_owned(),
            })
    }
}

/// A text of a message that may have links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// The text itself, or the head of a menu.
    Main,
    /// A choice of a menu, from 0.
    Item(usize),
    /// Below the choices of a menu.
    Tail,
    /// The page of a card.
    Page,
}

/// The number that stands for any link of a step.
pub const ANY: u16 = 0;

/// How often a link was clicked in a passage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Click {
    pub enrollment: EnrollmentId,
    /// Index of the step.
    pub step: u16,
    /// Number of the link in its step, from 1; `ANY` for all of them together.
    pub link: u16,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub count: u32,
}

/// What `clicked` knows of a passage through `steps`: each link that was clicked, by every name it has.
pub fn clicked_names(clicks: &[Click], enrollment: EnrollmentId, steps: &[Step]) -> Vec<String> {
    let mut names = Vec::new();
    for click in clicks.iter().filter(|one| one.enrollment == enrollment) {
        let Some(step) = steps.get(usize::from(click.step)) else {
            continue;
        };
        let link = usize::from(click.link).checked_sub(1);
        match link.map(|index| step.links.get(index)) {
            None => names.push(step.id.clone()),
            Some(None) => {}
            Some(Some(link)) => {
                names.push(format!("{}.{}", step.id, link.position));
                names.extend(link.id.iter().map(|id| format!("{}.{id}", step.id)));
            }
        }
    }
    names
}

/// `clicked('offer.buy')`: a link of a step, or with `clicked('offer')` any link of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub step: String,
    /// A link's name or position; `None` for any.
    pub link: Option<String>,
}

impl Name {
    /// Reads what stands between the quotes.
    pub fn read(text: &str) -> Self {
        match text.split_once('.') {
            Some((step, link)) => Self {
                step: step.to_owned(),
                link: Some(link.to_owned()),
            },
            None => Self {
                step: text.to_owned(),
                link: None,
            },
        }
    }

    /// Whether it names a link of a step.
    pub fn fits(&self, step: &Step, link: &Link) -> bool {
        let fits = |word: &String| link.is_named(word);
        self.step == step.id && self.link.as_ref().is_none_or(fits)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.link {
            Some(link) => write!(f, "{}.{link}", self.step),
            None => f.write_str(&self.step),
        }
    }
}

/// Whether a word can be an author's name for a link: as other names, and no mere number.
///
/// # Errors
/// Why not.
pub(super) fn check_id(id: &str, at: Range<usize>) -> Result<(), Refusal> {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
    let numbers = id.bytes().all(|b| b.is_ascii_digit());
    if (1..=64).contains(&id.len()) && id.bytes().all(letter) && !numbers {
        return Ok(());
    }
    let cut: String = id.chars().take(40).collect();
    let fix =
        "use 1 to 64 small letters, digits, `-` and `_`, not digits alone: those are positions";
    Err(Refusal::new(at, format!("`{cut}` is no name of a link")).fix(fix))
}

/// Every text of a message in which links are looked for.
pub(super) fn texts(message: &mut Message) -> Vec<(Text, &mut String)> {
    match message {
        Message::Text(text) => vec![(Text::Main, text)],
        Message::MsgMenu(menu) => {
            let mut texts = vec![(Text::Main, &mut menu.head)];
            let items = menu.items.iter_mut().enumerate();
            texts.extend(items.map(|(at, item)| (Text::Item(at), &mut item.text)));
            texts.push((Text::Tail, &mut menu.tail));
            texts
        }
        Message::News(news) => vec![(Text::Page, &mut news.url)],
        Message::Image(_)
        | Message::Voice(_)
        | Message::Video(_)
        | Message::MiniProgramPage(_)
        | Message::Article(_) => Vec::new(),
    }
}

/// How addresses of ours are made, where clicks are counted.
#[derive(Clone, Debug, Default)]
pub struct Tracking {
    /// How the world reaches us, without a slash at the end; empty for not at all.
    pub base: String,
    pub keys: Keyring,
}

impl Tracking {
    /// What a step says in a language, its links leading to us.
    pub fn tracked(&self, step: &Step, spot: &Spot<'_>) -> Message {
        let mut message = step.say.to(spot.language).clone();
        let variant = step.say.variant(spot.language);
        for (which, text) in texts(&mut message) {
            // From the end, so that what is replaced moves no place before it.
            for (index, link) in step.links.iter().enumerate().rev() {
                let ours =
                    link.tracked && link.text == which && link.language.as_deref() == variant;
                let address = ours.then(|| self.address(spot, index)).flatten();
                if let Some(address) = address
                    && text.get(link.at.clone()).is_some()
                {
                    text.replace_range(link.at.clone(), &address);
                }
            }
        }
        message
    }

    fn address(&self, spot: &Spot<'_>, index: usize) -> Option<String> {
        let link = Sealed {
            enrollment: spot.enrollment,
            version: spot.version,
            step: spot.step,
            link: u16::try_from(index + 1).ok()?,
        };
        let token = self.keys.seal(&link)?;
        Some(format!("{}/c/{token}", self.base))
    }
}

/// Whose message it is.
#[derive(Clone, Copy, Debug)]
pub struct Spot<'a> {
    pub enrollment: EnrollmentId,
    pub version: VersionId,
    /// Index of the step.
    pub step: u16,
    pub language: &'a str,
}
