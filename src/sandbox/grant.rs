//! When an account may write to a follower: the platform's rule of grants, as it enforces it.
//!
//! Written from the platform's published tables (until 2021-05-31, and since 2023-06-12) and on
//! purpose not shared with the product's own policy, so that a misreading there shows here. What a
//! new grant makes of an open one, and whether the last instant counts, no document says for
//! official accounts: `rules::AccountRules` decides. As it stands by default grants do not add up: a
//! new one lifts the rest to its quota and the end to its own if that is later, as the platform
//! documents for mini programs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::errcode::Refusal;
use super::rules::Stacking;
use super::settings::Profile;
use crate::clock::Timestamp;

/// What a follower did that lets the account answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Follow,
    Scan,
    /// A menu click, or a tap on a choice of a msgmenu, which the platform counts as one.
    Click,
    Message,
}

const TWO_DAYS: Duration = Duration::from_secs(48 * 3600);
const MINUTE: Duration = Duration::from_secs(60);

/// How many messages `cause` allows, and for how long.
fn allowance(profile: Profile, cause: Cause) -> (u32, Duration) {
    match (profile, cause) {
        (Profile::Wechat48h, _) => (20, TWO_DAYS),
        (Profile::Wechat2023, Cause::Message) => (5, TWO_DAYS),
        (Profile::Wechat2023, Cause::Follow | Cause::Scan | Cause::Click) => (3, MINUTE),
    }
}

/// What a follower allows an account now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Grant {
    /// The latest thing the follower did.
    pub cause: Cause,
    /// Instant of that event.
    pub opened_at: Timestamp,
    /// First instant at which a send is refused.
    pub closes_at: Timestamp,
    /// Messages left.
    pub left: u32,
}

/// The rule of one account.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) profile: Profile,
    pub(super) stacking: Stacking,
    pub(super) last_instant_counts: bool,
}

impl Rule {
    /// The grant after `cause` happened at `at`, on top of what was left of `before`.
    pub(super) fn open(self, before: Option<Grant>, cause: Cause, at: Timestamp) -> Grant {
        let (quota, span) = allowance(self.profile, cause);
        // The instant that counts is a whole second.
        let edge = Duration::from_secs(u64::from(self.last_instant_counts));
        let fresh = Grant {
            cause,
            opened_at: at,
            closes_at: at.plus(span).plus(edge),
            left: quota,
        };
        let Some(before) = before.filter(|before| before.is_open(at)) else {
            return fresh;
        };
        let left = match self.stacking {
            Stacking::Replace => return fresh,
            Stacking::Max => before.left.max(fresh.left),
            Stacking::Add => before.left.saturating_add(fresh.left),
        };
        Grant {
            closes_at: before.closes_at.max(fresh.closes_at),
            left,
            ..fresh
        }
    }
}

impl Grant {
    /// Whether a send at `now` falls into the window.
    pub(super) fn is_open(&self, now: Timestamp) -> bool {
        now < self.closes_at
    }

    /// Takes one message, or says why not: 45015 after the end, 45047 when none is left.
    pub(super) fn spend(&mut self, now: Timestamp) -> Result<(), Refusal> {
        if !self.is_open(now) {
            return Err(Refusal::GRANT_CLOSED);
        }
        self.left = self.left.checked_sub(1).ok_or(Refusal::GRANT_SPENT)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_700_000_000_000);

    fn rule(profile: Profile) -> Rule {
        Rule {
            profile,
            stacking: Stacking::Max,
            last_instant_counts: false,
        }
    }

    fn after(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_follow_closes_after_a_minute_today_and_after_two_days_before() {
        for (profile, seconds, quota) in [
            (Profile::Wechat2023, 60, 3),
            (Profile::Wechat48h, 172_800, 20),
        ] {
            let grant = rule(profile).open(None, Cause::Follow, START);
            assert_eq!(grant.left, quota);
            assert!(grant.is_open(after(seconds - 1)));
            assert!(!grant.is_open(after(seconds)));
            assert!(!grant.is_open(after(seconds + 1)));
        }
    }

    #[test]
    fn a_click_shortens_nothing_and_lifts_what_was_spent() {
        let mut grant = rule(Profile::Wechat2023).open(None, Cause::Message, START);
        for _ in 0..5 {
            grant.spend(after(1)).unwrap();
        }
        assert_eq!(grant.spend(after(1)), Err(Refusal::GRANT_SPENT));
        let grant = rule(Profile::Wechat2023).open(Some(grant), Cause::Click, after(10));
        assert_eq!((grant.left, grant.closes_at), (3, after(172_800)));
    }

    #[test]
    fn a_closed_grant_leaves_nothing_to_the_next() {
        let old = rule(Profile::Wechat2023).open(None, Cause::Message, START);
        let new = rule(Profile::Wechat2023).open(Some(old), Cause::Click, after(172_800));
        assert_eq!((new.left, new.closes_at), (3, after(172_860)));
    }

    #[test]
    fn a_closed_grant_refuses_before_a_spent_one() {
        let mut grant = rule(Profile::Wechat2023).open(None, Cause::Click, START);
        grant.left = 0;
        assert_eq!(grant.spend(after(59)), Err(Refusal::GRANT_SPENT));
        assert_eq!(grant.spend(after(60)), Err(Refusal::GRANT_CLOSED));
    }

    #[test]
    fn the_rules_decide_what_a_new_grant_makes_of_an_open_one() {
        for (stacking, left, closes) in [
            (Stacking::Max, 4, 172_800),
            (Stacking::Replace, 3, 70),
            (Stacking::Add, 7, 172_800),
        ] {
            let rule = Rule {
                stacking,
                ..rule(Profile::Wechat2023)
            };
            let mut grant = rule.open(None, Cause::Message, START);
            grant.spend(after(1)).unwrap();
            let grant = rule.open(Some(grant), Cause::Click, after(10));
            assert_eq!((grant.left, grant.closes_at), (left, after(closes)));
        }
    }

    #[test]
    fn the_last_second_counts_where_the_rules_say_so() {
        let rule = Rule {
            last_instant_counts: true,
            ..rule(Profile::Wechat2023)
        };
        let mut grant = rule.open(None, Cause::Follow, START);
        assert_eq!(grant.spend(after(60)), Ok(()));
        assert_eq!(grant.spend(after(61)), Err(Refusal::GRANT_CLOSED));
    }
}
