//! Checks what a step says: lengths, links, files, templates.

use super::raw::{RawMessage, RawMsgMenu, RawNews, RawSay, RawVideo, language_like};
use super::{AssetFacts, Reader};
use crate::journey::link::check_address;
use crate::journey::message::{
    Asset, MenuItem, Message, MiniProgramPage, MsgMenu, News, Say, TEXT_MAX, Video,
};
use crate::journey::template::{self, Refusal};
use crate::yaml::{At, Place};

/// Most choices of a menu, and the longest of them in characters.
const ITEMS_MAX: usize = 20;
const ITEM_MAX: usize = 64;
/// Longest title and description, in characters.
const TITLE_MAX: usize = 64;
const DESCRIPTION_MAX: usize = 512;
/// Longest link, in bytes.
const URL_MAX: usize = 2048;

const MB: u64 = 1024 * 1024;

/// What a file may be where it is used. The limits are WeChat's for temporary media; pictures of
/// cards go through `media/uploadimg`, which takes less.
struct Allowed {
    what: &'static str,
    endings: &'static [&'static str],
    most: u64,
    most_text: &'static str,
}

const IMAGE: Allowed = Allowed {
    what: "an image",
    endings: &["png", "jpg", "jpeg", "gif"],
    most: 10 * MB,
    most_text: "10 MB",
};
const VOICE: Allowed = Allowed {
    what: "a voice message",
    endings: &["amr", "mp3"],
    most: 2 * MB,
    most_text: "2 MB",
};
const VIDEO: Allowed = Allowed {
    what: "a video",
    endings: &["mp4"],
    most: 10 * MB,
    most_text: "10 MB",
};
const THUMB: Allowed = Allowed {
    what: "a cover picture",
    endings: &["jpg", "jpeg"],
    most: 64 * 1024,
    most_text: "64 KB",
};
const PICTURE: Allowed = Allowed {
    what: "the picture of a card",
    endings: &["png", "jpg", "jpeg"],
    most: MB,
    most_text: "1 MB",
};

impl Reader<'_> {
    pub(super) fn say(&mut self, at: &At<RawSay>) -> Option<Say> {
        match &at.value {
            RawSay::Bare => {
                self.note(
                    at.place,
                    "this message does not say what kind it is",
                    "write `say: { text: … }`",
                );
                None
            }
            RawSay::One(raw) => Some(Say {
                default: self.message(raw)?,
                by_language: std::collections::BTreeMap::new(),
            }),
            RawSay::Languages(list) => {
                let mut default = None;
                let mut by_language = std::collections::BTreeMap::new();
                let mut complete = true;
                for (language, raw) in list {
                    if !language_like(&language.value) {
                        self.note(
                            language.place,
                            format!("`{}` is no language", language.value),
                            "use a tag such as zh_CN or en, or `default`",
                        );
                    }
                    match self.message(raw) {
                        Some(message) if language.value == "default" => default = Some(message),
                        Some(message) => {
                            by_language.insert(language.value.clone(), message);
                        }
                        None => complete = false,
                    }
                }
                if !list.iter().any(|(language, _)| language.value == "default") {
                    self.note(
                        list.first().map_or(at.place, |(first, _)| first.place),
                        "there is no message for other languages",
                        "add `default:` with a message",
                    );
                }
                default.filter(|_| complete).map(|default| Say {
                    default,
                    by_language,
                })
            }
        }
    }

    fn message(&mut self, raw: &RawMessage) -> Option<Message> {
        Some(match raw {
            RawMessage::Text(text) => Message::Text(self.text(text, "a text")?),
            RawMessage::Image(file) => Message::Image(self.asset(file, &IMAGE)?),
            RawMessage::Voice(file) => Message::Voice(self.asset(file, &VOICE)?),
            RawMessage::Video(video) => self.video(video)?,
            RawMessage::News(news) => self.news(news)?,
            RawMessage::MsgMenu(menu) => self.menu(menu)?,
            RawMessage::MiniProgramPage(page) => {
                let title = self.line(&page.title, "a title", TITLE_MAX, false);
                let app_id = self.app_id(&page.app_id);
                let path = self.line(&page.path, "a path", 1024, false);
                let thumb = self.asset(&page.thumb, &THUMB);
                Message::MiniProgramPage(MiniProgramPage {
                    title: title?,
                    app_id: app_id?,
                    path: path?,
                    thumb: thumb?,
                })
            }
            RawMessage::Article(id) => {
                self.plain(id, "an article id")?;
                Message::Article(self.line(id, "an article id", 128, false)?)
            }
        })
    }

    fn video(&mut self, video: &RawVideo) -> Option<Message> {
        let file = self.asset(&video.file, &VIDEO);
        let thumb = self.asset(&video.thumb, &THUMB);
        let title = self.line(&video.title, "a title", TITLE_MAX, false);
        let description = self.optional(video.description.as_ref());
        Some(Message::Video(Video {
            file: file?,
            thumb: thumb?,
            title: title?,
            description: description?,
        }))
    }

    fn news(&mut self, news: &RawNews) -> Option<Message> {
        let title = self.line(&news.title, "a title", TITLE_MAX, false);
        let description = self.optional(news.description.as_ref());
        let url = self.link(&news.url);
        let picture = match &news.picture {
            Some(file) => Some(self.asset(file, &PICTURE)?),
            None => None,
        };
        Some(Message::News(News {
            title: title?,
            description: description?,
            url: url?,
            picture,
        }))
    }

    fn menu(&mut self, menu: &RawMsgMenu) -> Option<Message> {
        let count = menu.items.value.len();
        if !(1..=ITEMS_MAX).contains(&count) {
            self.note(
                menu.items.place,
                format!("this menu has {count} choices"),
                format!("give it 1 to {ITEMS_MAX}"),
            );
        }
        let head = self.line(&menu.head, "the head of a menu", DESCRIPTION_MAX, false);
        let tail = self.optional(menu.tail.as_ref());
        let mut items: Vec<MenuItem> = Vec::new();
        for raw in &menu.items.value {
            self.plain(&raw.id, "the id of a choice");
            let id = self.line(&raw.id, "the id of a choice", ITEM_MAX, false);
            let text = self.line(&raw.text, "a choice", ITEM_MAX, false);
            if let (Some(id), Some(text)) = (id, text) {
                if items.iter().any(|item| item.id == id) {
                    self.note(
                        raw.id.place,
                        format!("the choice `{id}` is here twice"),
                        "give every choice an id of its own",
                    );
                }
                items.push(MenuItem { id, text });
            }
        }
        Some(Message::MsgMenu(MsgMenu {
            head: head?,
            items,
            tail: tail?,
        }))
    }

    /// A text of a message, in bytes as the platform counts it.
    fn text(&mut self, at: &At<String>, what: &str) -> Option<String> {
        let text = at.value.trim_end();
        let fixed = self.template(&at.with(text.to_owned()))?;
        if text.is_empty() {
            self.note(at.place, format!("{what} is empty"), "write something");
            return None;
        }
        if fixed > TEXT_MAX {
            self.note(
                at.place,
                format!("{what} has {fixed} bytes, and the platform takes {TEXT_MAX}"),
                "make it shorter, or two steps of it; a Chinese character has 3 bytes",
            );
            return None;
        }
        Some(text.to_owned())
    }

    fn optional(&mut self, at: Option<&At<String>>) -> Option<String> {
        match at {
            Some(at) => self.line(at, "a description", DESCRIPTION_MAX, true),
            None => Some(String::new()),
        }
    }

    /// A text of at most `most` characters.
    pub(super) fn line(
        &mut self,
        at: &At<String>,
        what: &str,
        most: usize,
        empty: bool,
    ) -> Option<String> {
        self.template(at)?;
        let length = at.value.trim().chars().count();
        if length == 0 && !empty {
            self.note(at.place, format!("{what} is empty"), "write something");
            return None;
        }
        if length > most && !template::is_template(&at.value) {
            self.note(
                at.place,
                format!("{what} has {length} characters"),
                format!("use at most {most}"),
            );
            return None;
        }
        Some(at.value.trim().to_owned())
    }

    /// Text that no template may stand in.
    pub(super) fn plain(&mut self, at: &At<String>, what: &str) -> Option<()> {
        if template::is_template(&at.value) {
            let message = format!("{what} is the same for everybody");
            self.note(at.place, message, "write it without `{{ … }}`");
            return None;
        }
        Some(())
    }

    pub(super) fn app_id(&mut self, at: &At<String>) -> Option<String> {
        let ok = at.value.strip_prefix("wx").is_some_and(|rest| {
            rest.len() == 16 && rest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        let result = if ok {
            Ok(at.value.clone())
        } else {
            Err("is no app id".to_owned())
        };
        let fix = "an app id is `wx` and 16 digits or letters a to f";
        self.problems.keep(at, result, fix)
    }

    pub(super) fn link(&mut self, at: &At<String>) -> Option<String> {
        self.template(at)?;
        let result = if at.value.len() > URL_MAX {
            Err(format!("has more than {URL_MAX} bytes"))
        } else {
            check_address(&at.value).map(|()| at.value.clone())
        };
        let fix = "write a link such as https://example.com/offer";
        self.problems.keep(at, result, fix)
    }

    /// Checks a template; gives the bytes of it that are the same for everybody.
    fn template(&mut self, at: &At<String>) -> Option<usize> {
        match template::check(&at.value) {
            Ok(fixed) => Some(fixed),
            Err(refusal) => {
                self.refuse(at, &refusal);
                None
            }
        }
    }

    /// Notes what a template or condition is refused for, where it stands in the file.
    ///
    /// The file may hold the text folded, indented or escaped, so the offset of the refused word
    /// is found by counting the same words before it; where that fails, the text as a whole is
    /// named.
    pub(super) fn refuse(&mut self, at: &At<String>, refusal: &Refusal) {
        let source = self.problems.source();
        let place = at
            .value
            .get(refusal.at.clone())
            .filter(|word| !word.is_empty())
            .and_then(|word| {
                let before = at.value.get(..refusal.at.start)?.matches(word).count();
                let written = source.get(at.place.start..)?;
                let (offset, _) = written.match_indices(word).nth(before)?;
                let start = at.place.start + offset;
                let end = start + word.len();
                (at.place.end == at.place.start || end <= at.place.end)
                    .then(|| Place::of(source, start, end))
            })
            .unwrap_or(at.place);
        let message = refusal.message.as_str();
        match &refusal.fix {
            Some(fix) => self.note(place, message, fix.as_str()),
            None => self.problems.note(place, message),
        }
    }

    fn asset(&mut self, at: &At<String>, allowed: &Allowed) -> Option<Asset> {
        self.plain(at, "a file")?;
        let written = at.value.trim();
        if written.contains("://") {
            let fix = "write a link such as https://example.com/a.png, or a path";
            let url =
                self.problems
                    .keep(at, check_address(written).map(|()| written.to_owned()), fix)?;
            return Some(Asset::Url { url });
        }
        let found = path_problem(written, allowed)
            .map_or(Ok(()), Err)
            .and_then(|()| (self.assets)(written))
            .and_then(|facts| fits(facts, allowed));
        let fix = format!(
            "name {} ({}) of at most {} beside this file, such as assets/a.{}",
            allowed.what,
            allowed.endings.join(", "),
            allowed.most_text,
            allowed.endings[0]
        );
        let facts = self.problems.keep(at, found, &fix)?;
        if !self.files.iter().any(|file| file == written) {
            self.files.push(written.to_owned());
        }
        Some(Asset::File {
            file: written.to_owned(),
            sha256: facts.sha256,
        })
    }
}

fn fits(facts: AssetFacts, allowed: &Allowed) -> Result<AssetFacts, String> {
    if facts.size == 0 {
        Err("is empty".to_owned())
    } else if facts.size > allowed.most {
        Err(format!(
            "has {} bytes, more than {}",
            facts.size, allowed.most_text
        ))
    } else {
        Ok(facts)
    }
}

/// Why a path cannot be used: it has to stay below the directory of its file on every system.
fn path_problem(path: &str, allowed: &Allowed) -> Option<String> {
    let bad_part = |part: &str| part.is_empty() || part == "." || part == "..";
    if path.is_empty() || path.len() > 255 {
        return Some("is no path".to_owned());
    }
    if path.contains(['\\', ':', '\0', '%', '*', '?', '"', '<', '>', '|'])
        || path.chars().any(char::is_control)
    {
        return Some("has a character that no path here may have".to_owned());
    }
    if path.starts_with(['/', '~']) || path.split('/').any(bad_part) {
        return Some("leads out of the directory of this file".to_owned());
    }
    let ending = path
        .rsplit_once('.')
        .map(|(_, ending)| ending.to_ascii_lowercase())
        .unwrap_or_default();
    if !allowed.endings.contains(&ending.as_str()) {
        return Some(format!("cannot be {}", allowed.what));
    }
    None
}
