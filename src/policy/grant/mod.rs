//! Grants: what a follower's act permits, opened by events and spent by sends.
//!
//! A profile says whether kinds stand side by side or are one window. What the platform refuses
//! corrects the ledger, since the platform is the truth.

use jiff::tz::TimeZone;

use crate::clock::Timestamp;
use crate::journey::event::Event;
use crate::policy::profile::{Combine, GrantRule, MassSend, Profile};

/// Which grant it is: a follower has one of each kind at most. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A follow, a scan, a click.
    Act = 1,
    /// A message of the follower's.
    Message = 2,
    /// A calendar month of mass sends, which no event opens.
    Mass = 3,
}

impl Kind {
    /// The number it is stored under.
    pub fn number(self) -> i64 {
        i64::from(self as u8)
    }

    /// The kind stored under `number`.
    pub fn from_number(number: i64) -> Option<Self> {
        [Self::Act, Self::Message, Self::Mass]
            .into_iter()
            .find(|kind| kind.number() == number)
    }

    /// The word that profiles, API and pages use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Act => "act",
            Self::Message => "message",
            Self::Mass => "mass",
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
        Self::named(event.word()).unwrap_or(Self::Other)
    }

    /// The opener of that word; `None` where nothing can be opened by it.
    pub fn named(word: &str) -> Option<Self> {
        let one = Self::ALL.into_iter().find(|one| one.word() == word);
        one.filter(|one| *one != Self::Other)
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
        self.left() > 0 && self.opens_at <= now && now < self.closes_at
    }

    /// Messages that are left of the quota.
    pub fn left(&self) -> u16 {
        self.quota.saturating_sub(self.spent)
    }

    /// Whether a message may be sent on it at `now`: as it permits, and not so close to its end that
    /// the call could come too late.
    pub fn carries(&self, profile: &Profile, now: Timestamp) -> bool {
        self.kind != Kind::Mass && self.permits(now) && now < profile.ends_at(self)
    }
}

/// The grants of one follower.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(pub Vec<Grant>);

impl Grants {
    /// Opens what `event` opens at `at`, as the profile combines it with what is there.
    pub fn open(&mut self, profile: &Profile, event: &Event, at: Timestamp) {
        let opener = Opener::of(event);
        for rule in profile.opened_by(opener) {
            self.open_by(profile, rule, opener, at);
        }
    }

    fn open_by(&mut self, profile: &Profile, rule: &GrantRule, opener: Opener, at: Timestamp) {
        let mut fresh = Grant {
            kind: rule.kind,
            opened_by: opener,
            opens_at: at,
            closes_at: at.plus(rule.lasts),
            quota: rule.quota,
            spent: 0,
        };
        if profile.combine == Combine::Widest {
            fresh.kind = profile.widest_kind().unwrap_or(rule.kind);
        }
        let same = |one: &&mut Grant| {
            let one_window = profile.combine == Combine::Widest && one.kind != Kind::Mass;
            one.kind == fresh.kind || one_window
        };
        if let Some(newer) = self.0.iter_mut().filter(same).find(|one| one.opens_at > at) {
            // An event that was overtaken by a later one: what was spent between the two is not
            // known, so it moves the end only; and not one that the platform has spoken of since.
            let shortest = profile.opened_by(newer.opened_by).pop();
            let cut = shortest.is_none_or(|rule| newer.closes_at < newer.opens_at.plus(rule.lasts));
            if !cut {
                newer.closes_at = newer.closes_at.max(fresh.closes_at);
            }
            return;
        }
        for one in self.0.iter_mut().filter(same) {
            if at < one.closes_at {
                fresh.closes_at = fresh.closes_at.max(one.closes_at);
                if profile.combine == Combine::Widest {
                    fresh.quota = fresh.quota.max(one.left());
                }
            }
            // Rows of other kinds, as another profile left them, end with this one.
            one.closes_at = one.closes_at.min(at);
        }
        match self.0.iter_mut().find(|one| one.kind == fresh.kind) {
            Some(one) => *one = fresh,
            None => self.0.push(fresh),
        }
    }

    /// The grant that a message at `now` would spend: the one that closes first, so that the
    /// longer one is left for later.
    pub fn usable(&self, profile: &Profile, now: Timestamp) -> Option<Kind> {
        self.0
            .iter()
            .filter(|grant| grant.carries(profile, now))
            .min_by_key(|grant| (grant.closes_at, grant.kind))
            .map(|grant| grant.kind)
    }

    /// The grant of a kind.
    pub fn of(&self, kind: Kind) -> Option<&Grant> {
        self.0.iter().find(|grant| grant.kind == kind)
    }

    /// Takes one message from a grant.
    pub fn spend(&mut self, kind: Kind) {
        if let Some(grant) = self.0.iter_mut().find(|grant| grant.kind == kind) {
            grant.spent = grant.spent.saturating_add(1).min(grant.quota);
        }
    }

    /// Whether one more mass send may reach the follower in this calendar month.
    pub fn permits_mass(&self, mass: &MassSend, now: Timestamp) -> bool {
        let this_month = self.of(Kind::Mass).filter(|month| now < month.closes_at);
        this_month.is_none_or(|month| month.spent < mass.per_month)
    }

    /// Takes one mass send from the calendar month of the account's zone; the first one of a month
    /// opens it.
    pub fn spend_mass(&mut self, mass: &MassSend, zone: &TimeZone, now: Timestamp) {
        let running = self.of(Kind::Mass).is_some_and(|one| now < one.closes_at);
        if !running {
            let (opens_at, closes_at) = month(zone, now);
            self.0.retain(|one| one.kind != Kind::Mass);
            self.0.push(Grant {
                kind: Kind::Mass,
                opened_by: Opener::Other,
                opens_at,
                closes_at,
                quota: mass.per_month,
                spent: 0,
            });
        }
        self.spend(Kind::Mass);
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
        for grant in self.opened_before(called_at) {
            grant.closes_at = grant.closes_at.min(now);
        }
    }

    /// The platform says that a call of `called_at` was one too many while the window lasts: nothing
    /// is left of it, but what opens next may keep its end.
    pub fn exhaust(&mut self, called_at: Timestamp) {
        for grant in self.opened_before(called_at) {
            grant.spent = grant.quota;
        }
    }

    fn opened_before(&mut self, called_at: Timestamp) -> impl Iterator<Item = &mut Grant> {
        let grants = self.0.iter_mut();
        grants.filter(move |one| one.kind != Kind::Mass && one.opens_at <= called_at)
    }
}

/// First and last instant of a calendar month; the last is the next month's.
fn month(zone: &TimeZone, now: Timestamp) -> (Timestamp, Timestamp) {
    let whole = || {
        let today = jiff::Timestamp::from_millisecond(now.0).ok()?;
        let first = zone.to_datetime(today).date().first_of_month();
        let next = first.last_of_month().tomorrow().ok()?;
        let instant = |day: jiff::civil::Date| {
            let start = zone.to_ambiguous_timestamp(day.to_datetime(jiff::civil::Time::midnight()));
            start.compatible().ok().map(|at| at.as_millisecond())
        };
        Some((Timestamp(instant(first)?), Timestamp(instant(next)?)))
    };
    // Years that no calendar has: a span that is never too short.
    let long = std::time::Duration::from_secs(31 * 86_400);
    whole().unwrap_or((now, now.plus(long)))
}

#[cfg(test)]
mod tests;
