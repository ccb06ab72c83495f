//! Grants: what a follower's act permits, opened by events and spent by sends.

use serde::Deserialize;

use crate::clock::Timestamp;
use crate::journey::event::Event;
use crate::policy::profile::Profile;

/// Which grant it is: grants of one kind replace each other, different kinds stand side by side.
/// The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Kind {
    /// A follow, a scan, a click.
    Act = 1,
    /// A message of the follower's.
    Message = 2,
}

impl Kind {
    /// The number it is stored under.
    pub fn number(self) -> i64 {
        i64::from(self as u8)
    }

    /// The kind stored under `number`.
    pub fn from_number(number: i64) -> Option<Self> {
        [Self::Act, Self::Message]
            .into_iter()
            .find(|kind| kind.number() == number)
    }

    /// The word that profiles, API and pages use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Act => "act",
            Self::Message => "message",
        }
    }
}

/// What a follower did to open a grant. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opener {
    /// Not known: an event of a kind that was not recorded.
    Other = 0,
    Followed = 1,
    Scanned = 2,
    Clicked = 3,
    Message = 4,
}

impl Opener {
    pub const ALL: [Self; 5] = [
        Self::Other,
        Self::Followed,
        Self::Scanned,
        Self::Clicked,
        Self::Message,
    ];

    /// Which one an event is.
    pub fn of(event: &Event) -> Self {
        let word = event.word();
        let one = Self::ALL.into_iter().find(|one| one.word() == word);
        one.unwrap_or(Self::Other)
    }

    /// The number it is stored under.
    pub fn number(self) -> i64 {
        i64::from(self as u8)
    }

    /// The opener stored under `number`.
    pub fn from_number(number: i64) -> Self {
        let one = Self::ALL.into_iter().find(|one| one.number() == number);
        one.unwrap_or(Self::Other)
    }

    /// The event's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Followed => "followed",
            Self::Scanned => "scanned",
            Self::Clicked => "clicked",
            Self::Message => "message",
        }
    }
}

/// A permission to send `quota` messages within a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub kind: Kind,
    /// What the follower did.
    pub opened_by: Opener,
    pub opens_at: Timestamp,
    /// First instant at which it no longer holds.
    pub closes_at: Timestamp,
    pub quota: u16,
    /// Reserved by intents; given back when the platform definitely did not take the message.
    pub spent: u16,
}

impl Grant {
    /// Whether it permits a message at `now`.
    pub fn permits(&self, now: Timestamp) -> bool {
        self.spent < self.quota && self.opens_at <= now && now < self.closes_at
    }
}

/// The grants of one follower.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(pub Vec<Grant>);

impl Grants {
    /// Opens what `event` opens. A grant of the same kind starts again with its full quota and
    /// never closes earlier than it would have.
    pub fn open(&mut self, profile: &Profile, event: &Event, at: Timestamp) {
        for rule in profile.grants.iter().filter(|rule| rule.opens(event)) {
            let fresh = Grant {
                kind: rule.kind,
                opened_by: Opener::of(event),
                opens_at: at,
                closes_at: at.plus(rule.lasts),
                quota: rule.quota,
                spent: 0,
            };
            match self.0.iter_mut().find(|grant| grant.kind == rule.kind) {
                // An event that was overtaken by a later one of its kind opens nothing.
                Some(grant) if grant.opens_at > at => {}
                Some(grant) => {
                    *grant = Grant {
                        closes_at: fresh.closes_at.max(grant.closes_at),
                        ..fresh
                    };
                }
                None => self.0.push(fresh),
            }
        }
    }

    /// The grant that a message at `now` would spend: the one that closes first, so that the
    /// longer one is left for later.
    pub fn usable(&self, now: Timestamp) -> Option<Kind> {
        self.0
            .iter()
            .filter(|grant| grant.permits(now))
            .min_by_key(|grant| grant.closes_at)
            .map(|grant| grant.kind)
    }

    /// Takes one message from a grant.
    pub fn spend(&mut self, kind: Kind) {
        if let Some(grant) = self.0.iter_mut().find(|grant| grant.kind == kind) {
            grant.spent = grant.spent.saturating_add(1).min(grant.quota);
        }
    }

    /// Gives one message back that was taken at `called_at`: the platform definitely did not take
    /// it. A grant that was opened again since then has its full quota anyway.
    pub fn refund(&mut self, kind: Kind, called_at: Timestamp) {
        let grant = self.0.iter_mut().find(|grant| grant.kind == kind);
        if let Some(grant) = grant.filter(|grant| grant.opens_at <= called_at) {
            grant.spent = grant.spent.saturating_sub(1);
        }
    }

    /// The platform granted nothing to a call of `called_at` although we thought it would: it is
    /// right. What was opened after the call it has not spoken of.
    pub fn close(&mut self, called_at: Timestamp, now: Timestamp) {
        for grant in self.0.iter_mut().filter(|one| one.opens_at <= called_at) {
            grant.closes_at = grant.closes_at.min(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::profile::named;

    fn event(n: u8) -> Event {
        match n % 5 {
            0 => Event::Followed { scene: None },
            1 => Event::Scanned { scene: "s".into() },
            2 => Event::Clicked { key: "k".into() },
            3 => Event::Unfollowed,
            _ => Event::MessageReceived {
                message_kind: "text".into(),
                text: "1".into(),
            },
        }
    }

    #[test]
    fn a_follow_grants_three_messages_for_one_minute_today() {
        let profile = named("wechat-2023").expect("is shipped");
        let mut grants = Grants::default();
        grants.open(&profile, &event(0), Timestamp(0));
        for (at, usable) in [(-1, false), (0, true), (59_999, true), (60_000, false)] {
            assert_eq!(grants.usable(Timestamp(at)).is_some(), usable, "at {at} ms");
        }
        for _ in 0..3 {
            let kind = grants.usable(Timestamp(10)).expect("quota is left");
            grants.spend(kind);
        }
        assert_eq!(grants.usable(Timestamp(10)), None);
    }

    #[test]
    fn a_click_inside_a_running_message_grant_takes_nothing_from_it() {
        let profile = named("wechat-2023").expect("is shipped");
        let mut grants = Grants::default();
        grants.open(&profile, &event(4), Timestamp(0));
        grants.open(&profile, &event(2), Timestamp(1000));
        assert_eq!(grants.usable(Timestamp(1000)), Some(Kind::Act));
        let two_hours = Timestamp(0).plus(Duration::from_secs(7200));
        assert_eq!(grants.usable(two_hours), Some(Kind::Message));
    }

    proptest! {
        /// Whatever happens, each opening allows at most its quota, and only inside its window.
        #[test]
        fn never_more_than_the_profile_allows(steps in prop::collection::vec((0u8..5, 0i64..90_000), 1..60)) {
            for profile in crate::policy::profile::shipped() {
                let mut grants = Grants::default();
                let (mut now, mut allowed) = (Timestamp(0), 0u32);
                let mut sent = 0u32;
                for (n, pause) in &steps {
                    now = Timestamp(now.0 + pause);
                    let event = event(*n);
                    for rule in profile.grants.iter().filter(|rule| rule.opens(&event)) {
                        allowed += u32::from(rule.quota);
                    }
                    grants.open(profile, &event, now);
                    while let Some(kind) = grants.usable(now) {
                        let grant = grants.0.iter().find(|g| g.kind == kind).expect("named");
                        prop_assert!(grant.opens_at <= now && now < grant.closes_at);
                        grants.spend(kind);
                        sent += 1;
                    }
                }
                prop_assert!(sent <= allowed);
            }
        }
    }
}
