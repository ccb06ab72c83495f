//! What each interface of an account has left: learned from the platform and from its refusals.
//!
//! A used-up interface rests alone. The customer message's own limits are kept by the account's
//! turns, before an intent is written; here stands what was learned of them. Everything is in
//! memory: after a restart the platform is asked again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::policy::learned::{Quota, QuotaReset};
use crate::policy::limiter::{Limiter, Rate};

/// An interface that the platform counts the calls of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Interface {
    CustomerMessage,
    Template,
    SubscriptionNotice,
    MassSend,
    Upload,
    UploadPicture,
    Follower,
    FollowerBatch,
    FollowerList,
    TagFollowers,
    UntagFollowers,
}

impl Interface {
    pub const ALL: [Self; 11] = [
        Self::CustomerMessage,
        Self::Template,
        Self::SubscriptionNotice,
        Self::MassSend,
        Self::Upload,
        Self::UploadPicture,
        Self::Follower,
        Self::FollowerBatch,
        Self::FollowerList,
        Self::TagFollowers,
        Self::UntagFollowers,
    ];

    /// Its path, as the platform's pages write it and "get API call quota" wants it.
    pub fn path(self) -> &'static str {
        match self {
            Self::CustomerMessage => "/cgi-bin/message/custom/send",
            Self::Template => "/cgi-bin/message/template/send",
            Self::SubscriptionNotice => "/cgi-bin/message/subscribe/bizsend",
            Self::MassSend => "/cgi-bin/message/mass/send",
            Self::Upload => "/cgi-bin/media/upload",
            Self::UploadPicture => "/cgi-bin/media/uploadimg",
            Self::Follower => "/cgi-bin/user/info",
            Self::FollowerBatch => "/cgi-bin/user/info/batchget",
            Self::FollowerList => "/cgi-bin/user/get",
            Self::TagFollowers => "/cgi-bin/tags/members/batchtagging",
            Self::UntagFollowers => "/cgi-bin/tags/members/batchuntagging",
        }
    }

    /// The path without what all of them begin with: short enough for pages and metrics.
    pub fn name(self) -> &'static str {
        let path = self.path();
        path.strip_prefix("/cgi-bin/").unwrap_or(path)
    }

    /// The interface behind a path.
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.path() == path)
    }
}

/// A day's calls are used up (page "return codes").
const DAY_USED_UP: i64 = 45_009;

/// A minute's calls are used up; slower, and not before the next minute.
pub(super) const MINUTE_USED_UP: i64 = 45_011;

/// The platform's counters may lag behind a refusal: what it says of calls that are left is
/// believed again after this time.
const REFUSAL_HOLDS: Duration = Duration::from_secs(300);

/// Why an interface rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resting {
    Minute,
    Day,
}

impl Resting {
    pub fn word(self) -> &'static str {
        match self {
            Self::Minute => "minute_used_up",
            Self::Day => "day_used_up",
        }
    }
}

/// A rest by the platform's refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    pub why: Resting,
    pub since: Timestamp,
    pub until: Timestamp,
}

#[derive(Debug)]
struct Budget {
    limiter: Limiter,
    quota: Option<Quota>,
    asked_at: Option<Timestamp>,
    /// When the platform is to be asked.
    ask_at: Timestamp,
    rest: Option<Rest>,
}

/// What is known of one interface, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub interface: Interface,
    /// `None` before the platform has told.
    pub quota: Option<Quota>,
    pub asked_at: Option<Timestamp>,
    pub rest: Option<Rest>,
    /// Which share of its limits is used, in thousandths: fewer after refusals.
    pub pace: u32,
}

/// The interfaces that one account uses.
#[derive(Debug)]
pub struct Budgets {
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    reset: QuotaReset,
    by_interface: HashMap<Interface, Budget>,
}

impl Known {
    fn budget(&mut self, interface: Interface, now: Timestamp) -> &mut Budget {
        self.by_interface
            .entry(interface)
            .or_insert_with(|| Budget {
                limiter: Limiter::new(Rate::default(), now),
                quota: None,
                asked_at: None,
                ask_at: now,
                rest: None,
            })
    }
}

impl Budgets {
    /// Nothing is known yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the account's day begins.
    pub fn set_reset(&self, reset: &QuotaReset) {
        let mut known = self.known();
        if known.reset != *reset {
            known.reset = reset.clone();
        }
    }

    /// Notes that the account uses an interface, so that the platform is asked about it.
    pub fn mark(&self, interface: Interface) {
        let now = self.clock.now();
        self.known().budget(interface, now);
    }

    /// Takes one call of an interface.
    ///
    /// # Errors
    /// Until when it rests, or has none left.
    pub fn take(&self, interface: Interface) -> Result<(), Timestamp> {
        let now = self.clock.now();
        let mut known = self.known();
        let budget = known.budget(interface, now);
        if let Some(rest) = budget.rest.filter(|rest| rest.until > now) {
            return Err(rest.until);
        }
        budget.limiter.take(now)
    }

    /// Notes what the platform answered to a call, by its code. Until when the interface rests
    /// because of it, if it does.
    pub fn answered(&self, interface: Interface, code: Option<i64>) -> Option<Timestamp> {
        let now = self.clock.now();
        let why = match code {
            Some(DAY_USED_UP) => Resting::Day,
            Some(MINUTE_USED_UP) => Resting::Minute,
            _ => return None,
        };
        let mut known = self.known();
        let until = match why {
            Resting::Day => known.reset.next(now),
            Resting::Minute => next_minute(now),
        };
        let budget = known.budget(interface, now);
        if why == Resting::Minute {
            budget.limiter.slow_down(now);
        }
        // One question serves all the calls that were refused together.
        let asked_lately = budget
            .asked_at
            .is_some_and(|asked| now.since(asked) < Duration::from_secs(60));
        if !asked_lately {
            budget.ask_at = now;
        }
        let same = budget.rest.filter(|rest| rest.until == until);
        budget.rest = Some(Rest {
            why,
            since: same.map_or(now, |rest| rest.since),
            until,
        });
        Some(until)
    }

    /// Interfaces that the platform is to be asked about now; each is named once, and again after
    /// `every`.
    pub fn ask_about(&self, every: Duration) -> Vec<Interface> {
        let now = self.clock.now();
        let mut known = self.known();
        let mut due: Vec<_> = known
            .by_interface
            .iter_mut()
            .filter(|(_, budget)| budget.ask_at <= now)
            .map(|(interface, budget)| {
                budget.ask_at = now.plus(every);
                budget.asked_at = Some(now);
                *interface
            })
            .collect();
        due.sort_unstable();
        due
    }

    /// Asks not before this instant about what has not been asked about yet.
    pub fn ask_not_before(&self, at: Timestamp) {
        for budget in self.known().by_interface.values_mut() {
            if budget.asked_at.is_none() {
                budget.ask_at = at;
            }
        }
    }

    /// Takes in what the platform says. Says whether a day's rest ends by it: somebody had the
    /// quota cleared, or more was granted.
    pub fn learn(&self, interface: Interface, quota: &Quota) -> bool {
        let now = self.clock.now();
        let mut known = self.known();
        let resets_at = known.reset.next(now);
        let budget = known.budget(interface, now);
        budget.limiter.learn(quota, resets_at);
        budget.quota = Some(quota.clone());
        let left = quota.day.is_none_or(|day| day.left > 0);
        let lifts = budget.rest.is_some_and(|rest| {
            left && rest.why == Resting::Day
                && rest.until > now
                && now.since(rest.since) >= REFUSAL_HOLDS
        });
        if lifts {
            budget.rest = None;
        }
        lifts
    }

    /// All quotas were cleared: nothing rests for them, and the platform is to be asked again.
    pub fn cleared(&self) {
        let now = self.clock.now();
        for budget in self.known().by_interface.values_mut() {
            budget.rest = budget.rest.filter(|rest| rest.why == Resting::Minute);
            budget.limiter.learn(&Quota::default(), now);
            budget.quota = None;
            budget.ask_at = now;
        }
    }

    /// What is known of each interface, in their order.
    pub fn seen(&self) -> Vec<Seen> {
        let now = self.clock.now();
        let mut known = self.known();
        let mut seen: Vec<_> = known
            .by_interface
            .iter_mut()
            .map(|(interface, budget)| Seen {
                interface: *interface,
                quota: budget.quota.clone(),
                asked_at: budget.asked_at.filter(|_| budget.quota.is_some()),
                rest: budget.rest.filter(|rest| rest.until > now),
                pace: budget.limiter.pace(now),
            })
            .collect();
        seen.sort_unstable_by_key(|one| one.interface);
        seen
    }
}

/// The beginning of the next minute.
pub(super) fn next_minute(now: Timestamp) -> Timestamp {
    Timestamp((now.0.div_euclid(60_000) + 1) * 60_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::policy::learned::DayQuota;

    const START: Timestamp = Timestamp(1_700_000_000_000);

    fn budgets() -> (Arc<ManualClock>, Budgets) {
        let clock = Arc::new(ManualClock::at(START));
        let budgets = Budgets::new(Arc::clone(&clock) as Arc<dyn Clock>);
        (clock, budgets)
    }

    fn quota(left: u64) -> Quota {
        let day = DayQuota {
            limit: 100,
            used: 100 - left,
            left,
        };
        Quota {
            day: Some(day),
            rates: Vec::new(),
        }
    }

    #[test]
    fn a_used_up_interface_rests_alone_until_the_reset() {
        let (clock, budgets) = budgets();
        let reset = QuotaReset::default().next(START);
        assert_eq!(budgets.answered(Interface::Upload, Some(0)), None);
        assert_eq!(
            budgets.answered(Interface::Upload, Some(DAY_USED_UP)),
            Some(reset)
        );
        assert_eq!(budgets.take(Interface::Upload), Err(reset));
        assert_eq!(budgets.take(Interface::Template), Ok(()));
        clock.set(reset);
        assert_eq!(budgets.take(Interface::Upload), Ok(()));
    }

    #[test]
    fn a_refusal_outweighs_a_counter_that_lags_behind() {
        let (clock, budgets) = budgets();
        budgets.answered(Interface::Upload, Some(DAY_USED_UP));
        assert!(!budgets.learn(Interface::Upload, &quota(50)));
        assert!(budgets.take(Interface::Upload).is_err());
        clock.advance(REFUSAL_HOLDS);
        assert!(!budgets.learn(Interface::Upload, &quota(0)));
        assert!(budgets.take(Interface::Upload).is_err());
        assert!(budgets.learn(Interface::Upload, &quota(50)));
        assert_eq!(budgets.take(Interface::Upload), Ok(()));
    }

    #[test]
    fn what_others_used_is_not_used_again() {
        let (_clock, budgets) = budgets();
        budgets.learn(Interface::Upload, &quota(2));
        assert_eq!(budgets.take(Interface::Upload), Ok(()));
        assert_eq!(budgets.take(Interface::Upload), Ok(()));
        let reset = QuotaReset::default().next(START);
        assert_eq!(budgets.take(Interface::Upload), Err(reset));
        budgets.cleared();
        assert_eq!(budgets.take(Interface::Upload), Ok(()));
    }

    #[test]
    fn each_interface_is_asked_about_once_per_span_and_after_refusals() {
        let (clock, budgets) = budgets();
        let every = Duration::from_secs(3_600);
        assert_eq!(budgets.ask_about(every), []);
        budgets.mark(Interface::Upload);
        budgets.mark(Interface::CustomerMessage);
        let both = [Interface::CustomerMessage, Interface::Upload];
        assert_eq!(budgets.ask_about(every), both);
        assert_eq!(budgets.ask_about(every), []);
        clock.advance(Duration::from_secs(61));
        budgets.answered(Interface::Upload, Some(MINUTE_USED_UP));
        assert_eq!(budgets.ask_about(every), [Interface::Upload]);
        // All that were refused together are one reason to ask.
        budgets.answered(Interface::Upload, Some(MINUTE_USED_UP));
        assert_eq!(budgets.ask_about(every), []);
        clock.advance(every);
        assert_eq!(budgets.ask_about(every), both);
    }

    #[test]
    fn every_interface_has_its_own_path() {
        for one in Interface::ALL {
            assert_eq!(Interface::of_path(one.path()), Some(one));
            assert!(!one.name().starts_with('/'));
        }
        assert_eq!(Interface::of_path("/cgi-bin/nothing"), None);
    }
}
