//! Profiles: a platform's rules as data, chosen per account.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Deserialize;

use crate::journey::event::Event;
use crate::policy::grant::Kind;

/// A platform's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub name: String,
    pub title: String,
    /// What an event permits. No rules at all means that the platform has no such window.
    pub grants: Vec<GrantRule>,
    /// Whether accounts answer followers' events with a due step, unless they say otherwise.
    pub passive_reply: bool,
}

/// One line of a profile: these events open that grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRule {
    pub kind: Kind,
    opened_by: Vec<String>,
    /// Messages that the grant allows.
    pub quota: u16,
    /// From the instant of the event, by the platform's clock.
    pub lasts: Duration,
}

impl GrantRule {
    /// Whether `event` opens the grant.
    pub fn opens(&self, event: &Event) -> bool {
        self.opened_by.iter().any(|word| word == event.word())
    }

    /// The words of the events that open it.
    pub fn opened_by(&self) -> &[String] {
        &self.opened_by
    }
}

/// The profile of that name; `None` when there is none.
pub fn named(name: &str) -> Option<Arc<Profile>> {
    shipped()
        .iter()
        .find(|profile| profile.name == name)
        .cloned()
}

/// Every profile there is.
pub fn shipped() -> &'static [Arc<Profile>] {
    static SHIPPED: OnceLock<Vec<Arc<Profile>>> = OnceLock::new();
    SHIPPED.get_or_init(|| {
        let book: Book = serde_saphyr::from_str(include_str!("profiles.yaml"))
            .expect("the embedded profiles parse: a test reads them");
        book.profiles.into_iter().map(Arc::new).collect()
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    #[serde(deserialize_with = "profiles")]
    profiles: Vec<Profile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    name: String,
    title: String,
    #[serde(default)]
    passive_reply: bool,
    grants: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    kind: Kind,
    opened_by: Vec<String>,
    quota: u16,
    lasts: String,
}

fn profiles<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<Profile>, D::Error> {
    let raw = Vec::<RawProfile>::deserialize(input)?;
    raw.into_iter()
        .map(|profile| {
            let grants = profile.grants.into_iter().map(|rule| {
                let lasts = span(&rule.lasts).ok_or_else(|| {
                    serde::de::Error::custom(format!("`{}` is no span such as 48h", rule.lasts))
                })?;
                Ok(GrantRule {
                    kind: rule.kind,
                    opened_by: rule.opened_by,
                    quota: rule.quota,
                    lasts,
                })
            });
            Ok(Profile {
                name: profile.name,
                title: profile.title,
                passive_reply: profile.passive_reply,
                grants: grants.collect::<Result<_, D::Error>>()?,
            })
        })
        .collect()
}

/// `48h`, `1m` or `30s`.
fn span(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_profiles_say_what_the_platform_says() {
        let today = named("wechat-2023").expect("is shipped");
        let follow = Event::Followed { scene: None };
        let written = Event::MessageReceived {
            message_kind: "text".into(),
            text: "1".into(),
        };
        let opened = |event: &Event| -> Vec<_> {
            let rules = today.grants.iter().filter(|rule| rule.opens(event));
            rules
                .map(|rule| (rule.quota, rule.lasts.as_secs()))
                .collect()
        };
        assert_eq!(opened(&follow), [(3, 60)]);
        assert_eq!(opened(&written), [(5, 48 * 3600)]);
        assert_eq!(opened(&Event::Unfollowed), []);
        assert!(named("wechat-48h").is_some());
        assert_eq!(named("wechat"), None);
    }
}
