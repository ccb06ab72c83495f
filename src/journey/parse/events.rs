//! Checks the events of a sequence: what enrolls a follower, and what ends a passage early.

use super::Reader;
use super::raw::{EVENTS, RawEvent};
use crate::journey::link::Name;
use crate::journey::sequence::{ExitOn, Pattern, Trigger};
use crate::journey::template::Condition;
use crate::yaml::{At, nearest};

/// Most events that end one sequence.
const EXITS_MAX: usize = 20;

impl Reader<'_> {
    pub(super) fn trigger(&mut self, event: &RawEvent) -> Option<Trigger> {
        Some(match event.word.value.as_str() {
            "follow" => Trigger::Follow {
                scene: self.filter(event, "scene"),
            },
            "scan" => Trigger::Scan {
                scene: self.filter(event, "scene"),
            },
            "message" => Trigger::Message {
                text: self.filter(event, "text"),
            },
            "click" => Trigger::Click {
                key: self.filter(event, "key"),
            },
            "api" => {
                self.filter(event, "");
                Trigger::Api
            }
            _ => {
                self.unknown_event(&event.word, &EVENTS);
                return None;
            }
        })
    }

    pub(super) fn exit_on(&mut self, events: &[RawEvent]) -> Vec<ExitOn> {
        if let Some(beyond) = events.get(EXITS_MAX) {
            self.note(
                beyond.word.place,
                format!("{} events end this sequence", events.len()),
                format!("use at most {EXITS_MAX}; `*` in a pattern stands for any text"),
            );
            return Vec::new();
        }
        let mut exits = Vec::new();
        for event in events {
            exits.push(match event.word.value.as_str() {
                "message" => ExitOn::Message(self.filter(event, "text")),
                "click" => ExitOn::Click(self.filter(event, "key")),
                "scan" => ExitOn::Scan(self.filter(event, "scene")),
                word if word.starts_with("clicked") => {
                    match Condition::clicked_alone(word) {
                        Ok(name) => ExitOn::Clicked(Name::read(&name)),
                        Err(refusal) => {
                            self.refuse(&event.word, &refusal);
                            continue;
                        }
                    }
                }
                "follow" | "unfollow" | "api" => {
                    self.note(
                        event.word.place,
                        format!("`{}` cannot be chosen to end a passage", event.word.value),
                        "use message, click, scan or `clicked('step.link')`; an unfollow always ends it",
                    );
                    continue;
                }
                _ => {
                    self.unknown_event(&event.word, &["message", "click", "scan", "clicked('step.link')"]);
                    continue;
                }
            });
        }
        exits
    }

    fn unknown_event(&mut self, word: &At<String>, allowed: &[&str]) {
        let cut: String = word.value.chars().take(40).collect();
        let list = allowed.join(", ");
        let fix = match nearest(&word.value, allowed) {
            Some(near) => format!("did you mean `{near}`? allowed here: {list}"),
            None => format!("allowed here: {list}"),
        };
        self.note(word.place, format!("unknown event `{cut}`"), fix);
    }

    /// The filter `allowed` of an event; notes every other one.
    fn filter(&mut self, event: &RawEvent, allowed: &str) -> Option<Pattern> {
        let filter = &event.filter;
        let mut pattern = None;
        for (key, at) in [
            ("scene", &filter.scene),
            ("text", &filter.text),
            ("key", &filter.key),
        ] {
            let Some(at) = at else { continue };
            if key == allowed {
                pattern = self.short_text(at, key).map(Pattern);
                continue;
            }
            let fix = if allowed.is_empty() {
                "leave it out".to_owned()
            } else {
                format!("the filter of this event is `{allowed}`")
            };
            self.note(at.place, format!("this event has no `{key}`"), fix);
        }
        pattern
    }
}
