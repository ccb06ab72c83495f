//! Reads the links of a step's messages, and checks what `clicked(…)` names.
//!
//! Their order gives them the numbers by which clicks are known for as long as the version is: it must
//! stay as it is.

use super::Reader;
use super::raw::{RawMessage, RawSay, RawSequence};
use crate::journey::link::{self, LINKS_MAX, Link, Name, Text};
use crate::journey::message::{Message, Say};
use crate::journey::sequence::Step;
use crate::journey::template::{Condition, Refusal};
use crate::yaml::{At, nearest};

impl Reader<'_> {
    /// The links of a step; what was written for us goes from its texts.
    pub(super) fn links(&mut self, raw: &At<RawSay>, say: &mut Say) -> Vec<Link> {
        let mut links = Vec::new();
        match &raw.value {
            RawSay::Bare => {}
            RawSay::One(raw) => self.links_of(None, raw, &mut say.default, &mut links),
            RawSay::Languages(list) => {
                for (language, raw) in list {
                    let language = Some(language.value.as_str()).filter(|one| *one != "default");
                    let message = match language {
                        None => Some(&mut say.default),
                        Some(language) => say.by_language.get_mut(language),
                    };
                    if let Some(message) = message {
                        self.links_of(language, raw, message, &mut links);
                    }
                }
            }
        }
        if links.len() > LINKS_MAX {
            let message = format!("this step has {} links", links.len());
            self.note(raw.place, message, format!("use at most {LINKS_MAX}"));
        }
        links
    }

    fn links_of(
        &mut self,
        language: Option<&str>,
        raw: &RawMessage,
        message: &mut Message,
        links: &mut Vec<Link>,
    ) {
        let language = language.map(str::to_owned);
        if let (RawMessage::News(raw), Message::News(news)) = (raw, &*message) {
            let id = raw.link.as_ref().filter(|id| {
                let checked = link::check_id(&id.value, 0..id.value.len());
                checked.map_err(|refusal| self.refuse(id, &refusal)).is_ok()
            });
            links.push(Link {
                language,
                text: Text::Page,
                at: 0..news.url.len(),
                position: 1,
                id: id.map(|id| id.value.clone()),
                target: news.url.clone(),
                tracked: raw.track.unwrap_or(true),
            });
            return;
        }
        let sources = sources(raw);
        let first = links.len();
        for ((text, source), written) in link::texts(message).into_iter().zip(sources) {
            let refusing = written.map(|at| at.with(source.clone()));
            let found = match link::find(source) {
                Ok(found) => found,
                Err(refusal) => {
                    if let Some(at) = refusing {
                        self.refuse(&at, &refusal);
                    }
                    continue;
                }
            };
            *source = found.text;
            for one in found.links {
                let mut known = links[first..].iter();
                if let (Some(id), Some(at)) = (&one.id, &refusing)
                    && known.any(|link| link.id.as_ref() == Some(id))
                {
                    let message = format!("the link `{id}` is here twice");
                    let refusal = Refusal::new(one.id_at.clone(), message);
                    self.refuse(at, &refusal.fix("give every link a name of its own"));
                }
                links.push(Link {
                    language: language.clone(),
                    text,
                    at: one.at,
                    position: links.len() - first + 1,
                    id: one.id,
                    target: one.target,
                    tracked: one.tracked,
                });
            }
        }
    }

    /// Checks that every `clicked(…)` names a link that there is.
    pub(super) fn clicked(&mut self, raw: &RawSequence, steps: &[Step]) {
        for at in &raw.steps.value {
            let Some(when) = &at.value.when else { continue };
            let before = steps.iter().take_while(|step| step.id != at.value.id.value);
            let before: Vec<_> = before.collect();
            let clicked = Condition::clicked_in(&when.value).unwrap_or_default();
            for (name, place) in clicked {
                let name = Name::read(&name);
                if before.len() < steps.len()
                    && steps.iter().skip(before.len()).any(|s| s.id == name.step)
                {
                    let message = format!("`{}` is not sent before this step", name.step);
                    let fix = "ask for a link of an earlier step: nobody can have clicked this one";
                    self.refuse(when, &Refusal::new(place, message).fix(fix));
                    continue;
                }
                if let Some((message, fix)) = unknown(&name, &before) {
                    self.refuse(when, &Refusal::new(place, message).fix(fix));
                }
            }
        }
        let all: Vec<_> = steps.iter().collect();
        for event in raw.exit_on.as_deref().unwrap_or_default() {
            let word = &event.word;
            let clicked = Condition::clicked_in(&word.value).unwrap_or_default();
            for (name, place) in clicked {
                if let Some((message, fix)) = unknown(&Name::read(&name), &all) {
                    self.refuse(word, &Refusal::new(place, message).fix(fix));
                }
            }
        }
    }
}

/// Why a name leads to no link, and what to do.
fn unknown(name: &Name, steps: &[&Step]) -> Option<(String, String)> {
    let Some(step) = steps.iter().find(|step| step.id == name.step) else {
        let ids: Vec<_> = steps.iter().map(|step| step.id.as_str()).collect();
        let cut: String = name.step.chars().take(40).collect();
        let fix = match nearest(&name.step, &ids) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "write the id of a step, and of its link: `clicked('offer.buy')`".to_owned(),
        };
        return Some((format!("there is no step `{cut}` to be clicked"), fix));
    };
    let mut tracked = step.links.iter().filter(|link| link.tracked);
    if tracked.clone().any(|link| name.fits(step, link)) {
        return None;
    }
    if step.links.iter().any(|link| name.fits(step, link)) {
        let message = format!("clicks on `{name}` are not counted");
        return Some((message, "take `track=\"no\"` off the link".to_owned()));
    }
    let names: Vec<_> = tracked.by_ref().map(Link::name).collect();
    let message = match &name.link {
        None => format!("the step `{}` has no link", name.step),
        Some(link) => {
            let cut: String = link.chars().take(40).collect();
            format!("the step `{}` has no link `{cut}`", name.step)
        }
    };
    let fix = match names.is_empty() {
        true => "give it a link: `<a href=\"https://…\" link=\"buy\">`, or `link: buy` of a card"
            .to_owned(),
        false => format!("its links are {}", names.join(", ")),
    };
    Some((message, fix))
}

/// The places of a message's texts in the file, as `link::texts` has them.
fn sources(raw: &RawMessage) -> Vec<Option<&At<String>>> {
    match raw {
        RawMessage::Text(text) => vec![Some(text)],
        RawMessage::MsgMenu(menu) => {
            let mut sources = vec![Some(&menu.head)];
            sources.extend(menu.items.value.iter().map(|item| Some(&item.text)));
            sources.push(menu.tail.as_ref());
            sources
        }
        _ => Vec::new(),
    }
}
