//! Profiles: a platform's rules as data, chosen per account.
//!
//! `parse` reads one from its file. Some are part of the program; an operator's own stand beside
//! them and go before one of the same name.

pub mod parse;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Deserialize;

use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::journey::event::Event;
use crate::journey::message::Message;
use crate::policy::grant::{Grant, Kind, Opener};

/// A platform's rules; by default none at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    pub name: String,
    pub title: String,
    /// Whose rules they are: profiles of one platform can stand in for each other.
    pub platform: Option<String>,
    /// What an event permits. No rules at all means that the platform has no such window.
    pub grants: Vec<GrantRule>,
    pub combine: Combine,
    /// Codes by which the platform refuses because the count is used up while the window lasts.
    pub spent_codes: Vec<i64>,
    pub carriers: Carriers,
    /// Who is served first when a follower's quota is short.
    pub priority: Vec<Source>,
}

/// How grants of different kinds go together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "combine")]
pub enum Combine {
    /// Each kind has a quota and an end of its own.
    SideBySide,
    /// There is one window: an event lifts what is left of it to its quota and moves its end to its
    /// own, unless there is more already.
    #[default]
    Widest,
}

/// Where a message comes from, for who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "source")]
pub enum Source {
    /// A step that answers the follower's event itself.
    PassiveReply,
    /// A step of a sequence that an event began.
    Drip,
    /// One message to many at once.
    Broadcast,
    /// A step of a sequence that a person or a program began.
    Operator,
}

/// One line of a profile: these events open that grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRule {
    pub kind: Kind,
    pub opened_by: Vec<Opener>,
    /// Messages that the grant allows.
    pub quota: u16,
    /// From the instant of the event, by the platform's clock.
    pub lasts: Duration,
    /// How long before the end nothing is sent any more: a call on its way must not come too late.
    pub margin: Duration,
}

/// What a platform carries messages by; what is absent it does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carriers {
    pub customer_message: Option<Interface>,
    pub passive_reply: Option<PassiveReply>,
    pub subscription_notice: Option<Interface>,
    pub template: Option<Interface>,
    pub mass_send: Option<MassSend>,
}

/// The limits of one interface; `None` where the platform has none, or does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Calls of one account.
    pub per_day: Option<u32>,
    pub per_minute: Option<u32>,
    /// How long the platform remembers our id of a message, so that a second call sends nothing.
    pub once_within: Option<Duration>,
    /// Longest text, in bytes of UTF-8.
    pub text_max: Option<usize>,
}

/// The answer to the follower's own event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassiveReply {
    /// From the callback's arrival.
    pub within: Duration,
    /// Whether the platform counts it as one of a grant's messages.
    pub spends_grant: bool,
    /// Whether accounts use it unless they say otherwise.
    pub by_default: bool,
    /// Longest text, in bytes of UTF-8.
    pub text_max: Option<usize>,
}

impl PassiveReply {
    /// Whether a passive reply can hold this kind of message: text, image, voice, video and news
    /// (page "passive user reply message").
    pub fn can_hold(message: &Message) -> bool {
        match message {
            Message::Text(_)
            | Message::Image(_)
            | Message::Voice(_)
            | Message::Video(_)
            | Message::News(_) => true,
            Message::MsgMenu(_) | Message::MiniProgramPage(_) | Message::Article(_) => false,
        }
    }
}

/// One call for many followers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MassSend {
    /// Messages that one follower takes in one calendar month.
    pub per_month: u16,
    /// Followers in one call.
    pub chunk_least: usize,
    pub chunk_most: usize,
    /// Steps wait for the next instant that is a multiple of this, so that they share a call.
    pub gather: Duration,
    pub interface: Interface,
}

impl MassSend {
    /// The first instant from `at` on at which mass sends go out.
    pub fn gathers_at(&self, at: Timestamp) -> Timestamp {
        let span = crate::clock::millis(self.gather).max(1);
        let passed = at.0.rem_euclid(span);
        match passed {
            0 => at,
            passed => Timestamp(at.0.saturating_add(span - passed)),
        }
    }
}

impl Carriers {
    /// Whether the platform has a carrier.
    pub fn has(&self, carrier: Carrier) -> bool {
        match carrier {
            Carrier::CustomerMessage => self.customer_message.is_some(),
            Carrier::PassiveReply => self.passive_reply.is_some(),
            Carrier::SubscriptionNotice => self.subscription_notice.is_some(),
            Carrier::Template => self.template.is_some(),
            Carrier::MassSend => self.mass_send.is_some(),
        }
    }
}

impl GrantRule {
    /// Whether `event` opens the grant.
    pub fn opens(&self, event: &Event) -> bool {
        self.opened_by.contains(&Opener::of(event))
    }
}

impl Profile {
    /// Whether accounts answer followers' events with a due step, unless they say otherwise.
    pub fn passive_by_default(&self) -> bool {
        let passive = self.carriers.passive_reply;
        passive.is_some_and(|passive| passive.by_default)
    }

    /// What an opener opens, the longest first.
    pub fn opened_by(&self, opener: Opener) -> Vec<&GrantRule> {
        let rules = self.grants.iter();
        let mut rules: Vec<_> = rules
            .filter(|rule| rule.opened_by.contains(&opener))
            .collect();
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.lasts));
        rules
    }

    /// How long before its end nothing is sent on a grant any more: the margin of the rule that made
    /// it as long as it is.
    pub fn margin(&self, grant: &Grant) -> Duration {
        let length = grant.closes_at.since(grant.opens_at);
        let rules = self.grants.iter();
        let as_long = rules.filter(|rule| rule.lasts >= length);
        let rule = as_long.min_by_key(|rule| rule.lasts);
        let widest = || self.grants.iter().map(|rule| rule.margin).max();
        rule.map(|rule| rule.margin)
            .or_else(widest)
            .unwrap_or_default()
    }

    /// First instant at which nothing is sent on a grant any more.
    pub fn ends_at(&self, grant: &Grant) -> Timestamp {
        grant.closes_at.minus(self.margin(grant))
    }

    /// The kind under which a profile with one window keeps it: that of its longest rule.
    pub fn widest_kind(&self) -> Option<Kind> {
        let longest = self.grants.iter().max_by_key(|rule| rule.lasts);
        longest.map(|rule| rule.kind)
    }

    /// Whether `source` gives way to `other` when quota is short. A source that the profile does not
    /// name gives way to every one that it does.
    pub fn gives_way(&self, source: Source, other: Source) -> bool {
        let rank = |source| self.priority.iter().position(|one| *one == source);
        rank(other).unwrap_or(usize::MAX) < rank(source).unwrap_or(usize::MAX)
    }
}

/// The shipped profile of that name; `None` when there is none.
pub fn named(name: &str) -> Option<Arc<Profile>> {
    shipped()
        .iter()
        .find(|profile| profile.name == name)
        .cloned()
}

/// Every profile that is part of the program.
pub fn shipped() -> &'static [Arc<Profile>] {
    static SHIPPED: OnceLock<Vec<Arc<Profile>>> = OnceLock::new();
    SHIPPED.get_or_init(|| {
        [
            include_str!("../profiles/wechat-48h.yaml"),
            include_str!("../profiles/wechat-2023.yaml"),
            include_str!("../profiles/wecom-kf.yaml"),
            include_str!("../profiles/line.yaml"),
            include_str!("../profiles/telegram.yaml"),
            include_str!("../profiles/webhook.yaml"),
        ]
        .into_iter()
        .map(|text| {
            let profile = parse::parse(text, "shipped profile");
            Arc::new(profile.expect("the embedded profiles parse: a test reads them"))
        })
        .collect()
    })
}

/// The profiles that accounts may choose: the shipped ones, and the operator's own before them.
#[derive(Clone, Debug, Default)]
pub struct Profiles {
    own: Vec<Arc<Profile>>,
}

impl Profiles {
    /// With the operator's own, whose names differ from each other.
    pub fn new(own: Vec<Arc<Profile>>) -> Self {
        Self { own }
    }

    /// The profile of that name.
    pub fn named(&self, name: &str) -> Option<Arc<Profile>> {
        let own = self.own.iter().find(|one| one.name == name);
        own.cloned().or_else(|| named(name))
    }

    /// Every name, the shipped ones first.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = shipped().iter().map(|one| one.name.as_str()).collect();
        for own in &self.own {
            if !names.contains(&own.name.as_str()) {
                names.push(&own.name);
            }
        }
        names
    }

    /// Names of shipped profiles that an own one goes before.
    pub fn overridden(&self) -> Vec<&str> {
        let own = self.own.iter().map(|one| one.name.as_str());
        own.filter(|name| named(name).is_some()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_profiles_say_what_the_platform_says() {
        let today = named("wechat-2023").expect("is shipped");
        let opened = |opener| -> Vec<_> {
            let rules = today.opened_by(opener).into_iter();
            rules
                .map(|rule| (rule.quota, rule.lasts.as_secs()))
                .collect()
        };
        assert_eq!(opened(Opener::Followed), [(3, 60)]);
        assert_eq!(opened(Opener::Message), [(5, 48 * 3600)]);
        assert_eq!(opened(Opener::Other), []);
        let kf = named("wecom-kf").expect("is shipped");
        assert!(kf.opened_by(Opener::Followed).is_empty());
        assert!(!kf.carriers.has(Carrier::MassSend));
        assert!(named("wechat-48h").is_some());
        assert_eq!(named("wechat"), None);
    }

    #[test]
    fn mass_sends_go_out_at_common_instants() {
        let profile = named("wechat-48h").expect("is shipped");
        let mass = profile.carriers.mass_send.expect("has mass sends");
        for (at, next) in [
            (0, 0),
            (1, 600_000),
            (599_999, 600_000),
            (600_000, 600_000),
            (-1, 0),
        ] {
            assert_eq!(mass.gathers_at(Timestamp(at)), Timestamp(next), "{at}");
        }
    }

    #[test]
    fn a_source_gives_way_only_to_those_before_it() {
        let profile = named("wechat-48h").expect("is shipped");
        assert!(profile.gives_way(Source::Operator, Source::Drip));
        assert!(!profile.gives_way(Source::Drip, Source::Operator));
        assert!(!profile.gives_way(Source::Drip, Source::Drip));
    }

    #[test]
    fn an_own_profile_goes_before_the_shipped_one_of_its_name() {
        let own = Profile {
            title: "Ours".into(),
            ..(*named("wechat-2023").expect("is shipped")).clone()
        };
        let other = Profile {
            name: "ours".into(),
            ..own.clone()
        };
        let profiles = Profiles::new(vec![Arc::new(own), Arc::new(other)]);
        let title = |name| profiles.named(name).map(|one| one.title.clone());
        assert_eq!(title("wechat-2023").as_deref(), Some("Ours"));
        assert_eq!(profiles.overridden(), ["wechat-2023"]);
        assert_eq!(
            profiles.names(),
            [
                "wechat-48h",
                "wechat-2023",
                "wecom-kf",
                "line",
                "telegram",
                "webhook",
                "ours"
            ]
        );
    }
}
