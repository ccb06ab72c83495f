//! Which profile fits an account: what the platform refuses although the profile allows it, held
//! against the shipped profiles.
//!
//! Pure: whoever watches an account's health keeps a [`Tally`] and asks it.

use std::time::Duration;

use crate::policy::grant::Opener;
use crate::policy::profile::{self, Profile};

/// Refusals below which nothing is concluded: a clock or a lost event explains a few.
const SURPRISES_MIN: u32 = 5;

/// Least part of the answers that are surprises, in percent, before anything is concluded.
const PERCENT_MIN: u32 = 5;

/// Least part of the surprises that a profile has to explain, in percent.
const EXPLAINED_MIN: u32 = 80;

/// Answers after which older ones begin to count less.
const MEMORY: u32 = 1000;

/// The platform refused, for its window or its count, what the profile allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surprise {
    /// What the follower did last to open the grant.
    pub opened_by: Opener,
    /// How old the grant was at the call.
    pub age: Duration,
    /// Messages that had been taken from it before.
    pub spent: u16,
}

impl Surprise {
    /// Whether under this profile the refusal is none.
    fn fits(&self, profile: &Profile) -> bool {
        if self.opened_by == Opener::Other {
            return false;
        }
        let rules = profile.opened_by(self.opened_by);
        rules
            .iter()
            .all(|rule| self.age >= rule.lasts || self.spent >= rule.quota)
    }
}

/// What an account's answers say about its profile, the latest ones most.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    answers: u32,
    surprises: u32,
    /// For each shipped profile how many surprises it explains.
    explained: Vec<u32>,
}

impl Tally {
    /// A message was taken.
    pub fn note_accepted(&mut self) {
        self.answers += 1;
        self.forget();
    }

    /// A message was refused that the profile allows.
    pub fn note(&mut self, surprise: Surprise) {
        self.explained.resize(profile::shipped().len(), 0);
        for (count, profile) in self.explained.iter_mut().zip(profile::shipped()) {
            *count += u32::from(surprise.fits(profile));
        }
        self.answers += 1;
        self.surprises += 1;
        self.forget();
    }

    /// How many refusals came unexpected, of how many answers, the latest ones counting most.
    pub fn counts(&self) -> (u32, u32) {
        (self.surprises, self.answers)
    }

    /// The shipped profile of the same platform that explains what `current` does not; `None` while
    /// there is no reason to change, or no profile that helps.
    pub fn better(&self, current: &Profile) -> Option<&'static str> {
        let enough = self.surprises >= SURPRISES_MIN
            && self.surprises * 100 >= self.answers * PERCENT_MIN
            && current.platform.is_some();
        if !enough {
            return None;
        }
        let candidates = profile::shipped().iter().zip(&self.explained);
        candidates
            .filter(|(other, count)| {
                let same = other.platform == current.platform && other.name != current.name;
                same && **count * 100 >= self.surprises * EXPLAINED_MIN
            })
            .max_by_key(|(_, count)| **count)
            .map(|(other, _)| other.name.as_str())
    }

    fn forget(&mut self) {
        if self.answers > MEMORY {
            self.answers /= 2;
            self.surprises /= 2;
            for count in &mut self.explained {
                *count /= 2;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::profile::named;

    fn surprise(opened_by: Opener, seconds: u64, spent: u16) -> Surprise {
        Surprise {
            opened_by,
            age: Duration::from_secs(seconds),
            spent,
        }
    }

    fn better(surprises: &[Surprise], accepted: u32, current: &str) -> Option<&'static str> {
        let mut tally = Tally::default();
        (0..accepted).for_each(|_| tally.note_accepted());
        surprises.iter().for_each(|one| tally.note(*one));
        tally.better(&named(current).expect("is shipped"))
    }

    #[test]
    fn refusals_a_minute_after_the_follow_name_the_rule_of_today() {
        let late = [surprise(Opener::Followed, 600, 1); 5];
        assert_eq!(better(&late, 50, "wechat-48h"), Some("wechat-2023"));
        let many = [surprise(Opener::Message, 600, 5); 9];
        assert_eq!(better(&many, 50, "wechat-48h"), Some("wechat-2023"));
    }

    #[test]
    fn a_few_rare_or_unexplained_refusals_name_nothing() {
        let late = surprise(Opener::Followed, 600, 1);
        assert_eq!(better(&[late; 4], 0, "wechat-48h"), None, "a few");
        assert_eq!(better(&[late; 5], 96, "wechat-48h"), None, "rare");
        let soon = surprise(Opener::Message, 5, 0);
        assert_eq!(better(&[soon; 50], 0, "wechat-48h"), None, "unexplained");
        let mixed = [[soon; 2], [late; 2], [late; 2]].concat();
        assert_eq!(better(&mixed, 0, "wechat-48h"), None, "two thirds");
        let lost = surprise(Opener::Other, 99_999, 30);
        assert_eq!(
            better(&[lost; 50], 0, "wechat-48h"),
            None,
            "by nobody knows what"
        );
    }

    #[test]
    fn what_the_current_profile_has_already_is_not_named_again() {
        let late = surprise(Opener::Followed, 600, 1);
        assert_eq!(better(&[late; 9], 0, "wechat-2023"), None);
        assert_eq!(better(&[late; 9], 0, "wecom-kf"), None, "another platform");
    }

    #[test]
    fn old_answers_are_forgotten() {
        let late = surprise(Opener::Followed, 600, 1);
        let current = named("wechat-48h").expect("is shipped");
        let mut tally = Tally::default();
        (0..9).for_each(|_| tally.note(late));
        assert!(tally.better(&current).is_some());
        (0..5000).for_each(|_| tally.note_accepted());
        assert_eq!(tally.better(&current), None);
        assert!(tally.counts().1 <= MEMORY);
        (0..100).for_each(|_| tally.note(late));
        assert!(tally.better(&current).is_some());
    }
}
