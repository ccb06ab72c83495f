//! The people: who exists, who follows, and what grant they gave, per account.
//!
//! Sharded by openid, so that sends to different followers do not wait for each other; no lock is
//! held longer than a look at one follower. People are added and change, never removed: an openid
//! that left is still a valid openid.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::errcode::Refusal;
use super::grant::{Cause, Grant, Rule};
use super::lock;
use crate::clock::Timestamp;

/// A power of two well above the number of cores.
const SHARDS: usize = 64;

/// One person, as one account knows them.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Follower {
    /// Position in the order of creation.
    #[serde(skip)]
    pub(super) ordinal: usize,
    /// How the phone calls them; the platform does not tell the account.
    pub name: Box<str>,
    /// `zh_CN`, `en`, …
    pub language: Box<str>,
    pub following: bool,
    /// When they last began to follow.
    pub followed_at: Option<Timestamp>,
    /// Scene of the QR code they came by.
    pub scene: Option<Box<str>>,
    /// What they allow the account; may have ended.
    pub grant: Option<Grant>,
    /// Subscription notices they agreed to and have not received yet, by template.
    #[serde(default)]
    pub consents: BTreeMap<Box<str>, u32>,
    /// They let nothing of this account through (拒收).
    #[serde(default)]
    pub muted: bool,
    /// Number of a calendar month, and the mass messages received in it.
    #[serde(default)]
    pub(super) mass: (i64, u32),
}

/// What a mass message finds behind an openid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MassFate {
    /// Nobody of this account.
    Stranger,
    /// Somebody who does not follow.
    Left,
    /// They let nothing through, or had enough in this month.
    Filtered,
    Received(Arc<str>),
}

/// Everybody of one account.
#[derive(Debug)]
pub(super) struct Followers {
    shards: Vec<Mutex<HashMap<Arc<str>, Follower>>>,
    hasher: RandomState,
    order: RwLock<Vec<Arc<str>>>,
    following: AtomicU64,
    max: usize,
}

impl Followers {
    pub(super) fn new(max: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            order: RwLock::default(),
            following: AtomicU64::new(0),
            max,
        }
    }

    fn shard(&self, openid: &str) -> &Mutex<HashMap<Arc<str>, Follower>> {
        let hash = self.hasher.hash_one(openid);
        let index = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        &self.shards[index]
    }

    /// Adds a person who does not follow yet; `None` when the openid is taken or no more fit.
    pub(super) fn add(&self, openid: &str, name: &str, language: &str) -> Option<Arc<str>> {
        let openid: Arc<str> = openid.into();
        let mut order = self.order.write().unwrap_or_else(PoisonError::into_inner);
        let mut shard = lock(self.shard(&openid));
        if order.len() >= self.max || shard.contains_key(&openid) {
            return None;
        }
        let follower = Follower {
            ordinal: order.len(),
            name: name.into(),
            language: language.into(),
            following: false,
            followed_at: None,
            scene: None,
            grant: None,
            consents: BTreeMap::new(),
            muted: false,
            mass: (0, 0),
        };
        shard.insert(Arc::clone(&openid), follower);
        order.push(Arc::clone(&openid));
        Some(openid)
    }

    /// A copy of one person, and the shared form of their openid.
    pub(super) fn get(&self, openid: &str) -> Option<(Arc<str>, Follower)> {
        let shard = lock(self.shard(openid));
        let (openid, follower) = shard.get_key_value(openid)?;
        Some((Arc::clone(openid), follower.clone()))
    }

    /// Takes one message from the follower's grant, or says what the platform answers:
    /// 40003 for a stranger, 43004 for one who never followed, 45015 for one who left or whose
    /// grant ended, 48002 for one who muted the account, 45047 for a spent grant.
    pub(super) fn spend(&self, openid: &str, now: Timestamp) -> Result<Arc<str>, Refusal> {
        let mut shard = lock(self.shard(openid));
        let (key, _) = shard.get_key_value(openid).ok_or(Refusal::OPENID)?;
        let key = Arc::clone(key);
        let follower = shard.get_mut(openid).ok_or(Refusal::OPENID)?;
        if !follower.following {
            return Err(match follower.followed_at {
                None => Refusal::REQUIRE_FOLLOW,
                Some(_) => Refusal::GRANT_CLOSED,
            });
        }
        if follower.muted {
            return Err(Refusal::MUTED);
        }
        follower
            .grant
            .as_mut()
            .ok_or(Refusal::GRANT_CLOSED)?
            .spend(now)?;
        Ok(key)
    }

    /// Changes one person; `None` for a stranger.
    pub(super) fn with<T>(
        &self,
        openid: &str,
        change: impl FnOnce(&mut Follower) -> T,
    ) -> Option<T> {
        lock(self.shard(openid)).get_mut(openid).map(change)
    }

    /// Takes one consent to notices of a template: 40003 for a stranger, 43101 without consent.
    pub(super) fn spend_consent(&self, openid: &str, template: &str) -> Result<Arc<str>, Refusal> {
        let (key, _) = self.get(openid).ok_or(Refusal::OPENID)?;
        let spent = self.with(openid, |follower| {
            let left = follower.consents.get_mut(template)?;
            *left = left.saturating_sub(1);
            if *left == 0 {
                follower.consents.remove(template);
            }
            Some(())
        });
        spent.flatten().map(|()| key).ok_or(Refusal::NO_CONSENT)
    }

    /// Lets a mass message in, at most `max` of them in one month. One that does not arrive after
    /// all is not counted.
    pub(super) fn take_mass(&self, openid: &str, month: i64, max: u32, arrives: bool) -> MassFate {
        let Some((key, _)) = self.get(openid) else {
            return MassFate::Stranger;
        };
        let fate = self.with(openid, |follower| {
            if !follower.following {
                return MassFate::Left;
            }
            if follower.mass.0 != month {
                follower.mass = (month, 0);
            }
            if follower.muted || follower.mass.1 >= max {
                return MassFate::Filtered;
            }
            follower.mass.1 += u32::from(arrives);
            MassFate::Received(key)
        });
        fate.unwrap_or(MassFate::Stranger)
    }

    /// Begins to follow at `at`; whether that is news.
    pub(super) fn follow(
        &self,
        openid: &str,
        rule: Rule,
        scene: Option<&str>,
        at: Timestamp,
    ) -> bool {
        let mut shard = lock(self.shard(openid));
        let Some(follower) = shard.get_mut(openid) else {
            return false;
        };
        let is_new = !follower.following;
        if is_new {
            self.following.fetch_add(1, Ordering::Relaxed);
            follower.following = true;
            follower.followed_at = Some(at);
            follower.scene = scene.map(Into::into);
            // What was allowed before an unfollow is gone.
            follower.grant = Some(rule.open(None, Cause::Follow, at));
        }
        is_new
    }

    /// Stops following; whether that is news.
    pub(super) fn unfollow(&self, openid: &str) -> bool {
        let mut shard = lock(self.shard(openid));
        let Some(follower) = shard.get_mut(openid).filter(|follower| follower.following) else {
            return false;
        };
        self.following.fetch_sub(1, Ordering::Relaxed);
        follower.following = false;
        follower.grant = None;
        true
    }

    /// Opens a grant of a person who follows.
    pub(super) fn allow(&self, openid: &str, rule: Rule, cause: Cause, at: Timestamp) {
        let mut shard = lock(self.shard(openid));
        if let Some(follower) = shard.get_mut(openid).filter(|follower| follower.following) {
            follower.grant = Some(rule.open(follower.grant, cause, at));
        }
    }

    /// How many exist and how many follow.
    pub(super) fn counts(&self) -> (usize, u64) {
        let order = self.order.read().unwrap_or_else(PoisonError::into_inner);
        (order.len(), self.following.load(Ordering::Relaxed))
    }

    /// The openids of at most `max` followers after `after` in order of creation; `None` when
    /// `after` is nobody.
    pub(super) fn page(&self, after: Option<&str>, max: usize) -> Option<Vec<Arc<str>>> {
        let start = match after {
            None => 0,
            Some(openid) => self.get(openid)?.1.ordinal + 1,
        };
        let order = self.order.read().unwrap_or_else(PoisonError::into_inner);
        let rest = order.get(start..).unwrap_or_default();
        let is_following = |openid: &&Arc<str>| {
            let shard = lock(self.shard(openid));
            shard
                .get(&***openid)
                .is_some_and(|follower| follower.following)
        };
        Some(
            rest.iter()
                .filter(is_following)
                .take(max)
                .cloned()
                .collect(),
        )
    }

    /// The newest people, followers or not, newest first.
    pub(super) fn newest(&self, max: usize) -> Vec<(Arc<str>, Follower)> {
        let order = self.order.read().unwrap_or_else(PoisonError::into_inner);
        order
            .iter()
            .rev()
            .take(max)
            .filter_map(|openid| self.get(openid))
            .collect()
    }

    /// Everybody in order of creation.
    pub(super) fn all(&self) -> Vec<(Arc<str>, Follower)> {
        self.newest(usize::MAX).into_iter().rev().collect()
    }

    /// Takes in who existed before a restart, in order of creation. They stay even where the limit
    /// is lower by now.
    pub(super) fn restore(&self, kept: Vec<(Arc<str>, Follower)>) {
        let mut order = self.order.write().unwrap_or_else(PoisonError::into_inner);
        for (openid, mut follower) in kept {
            let mut shard = lock(self.shard(&openid));
            if shard.contains_key(&openid) {
                continue;
            }
            follower.ordinal = order.len();
            let following = u64::from(follower.following);
            self.following.fetch_add(following, Ordering::Relaxed);
            shard.insert(Arc::clone(&openid), follower);
            order.push(openid);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::rules::Stacking;
    use super::super::settings::Profile;
    use super::*;

    const START: Timestamp = Timestamp(1_700_000_000_000);

    fn rule(profile: Profile) -> Rule {
        Rule {
            profile,
            stacking: Stacking::Max,
            last_instant_counts: false,
        }
    }

    fn people(names: &[&str]) -> Followers {
        let followers = Followers::new(10);
        for name in names {
            followers.add(name, name, "zh_CN").unwrap();
        }
        followers
    }

    #[test]
    fn a_send_to_somebody_who_does_not_follow_is_refused_by_what_they_are() {
        let followers = people(&["ann", "bob"]);
        assert_eq!(followers.spend("eve", START), Err(Refusal::OPENID));
        assert_eq!(followers.spend("ann", START), Err(Refusal::REQUIRE_FOLLOW));
        assert!(followers.follow("bob", rule(Profile::Wechat2023), None, START));
        assert!(followers.spend("bob", START).is_ok());
        assert!(followers.unfollow("bob"));
        assert_eq!(followers.spend("bob", START), Err(Refusal::GRANT_CLOSED));
    }

    #[test]
    fn following_again_begins_with_a_fresh_grant() {
        let followers = people(&["ann"]);
        followers.follow("ann", rule(Profile::Wechat2023), None, START);
        followers.allow("ann", rule(Profile::Wechat2023), Cause::Message, START);
        followers.unfollow("ann");
        let later = START.plus(Duration::from_secs(10));
        followers.follow("ann", rule(Profile::Wechat2023), Some("7"), later);
        let grant = followers.get("ann").unwrap().1.grant.unwrap();
        assert_eq!(
            (grant.left, grant.closes_at),
            (3, later.plus(Duration::from_secs(60)))
        );
    }

    #[test]
    fn pages_hold_followers_only_and_go_on_after_the_last() {
        let followers = people(&["a", "b", "c", "d"]);
        for openid in ["a", "b", "d"] {
            followers.follow(openid, rule(Profile::Wechat48h), None, START);
        }
        let page = |after| followers.page(after, 2).map(|page| page.join(","));
        assert_eq!(page(None).as_deref(), Some("a,b"));
        assert_eq!(page(Some("b")).as_deref(), Some("d"));
        assert_eq!(page(Some("d")).as_deref(), Some(""));
        assert_eq!(page(Some("x")), None);
    }

    #[test]
    fn nobody_is_added_twice_or_beyond_the_limit() {
        let followers = Followers::new(1);
        assert!(followers.add("a", "", "en").is_some());
        assert!(followers.add("a", "", "en").is_none());
        assert!(followers.add("b", "", "en").is_none());
    }

    #[test]
    fn one_consent_is_one_notice() {
        let followers = people(&["ann"]);
        followers.with("ann", |ann| ann.consents.insert("t".into(), 2));
        for wanted in [true, true, false] {
            let spent = followers.spend_consent("ann", "t");
            assert_eq!(spent.is_ok(), wanted, "{spent:?}");
        }
        assert_eq!(
            followers.spend_consent("ann", "u"),
            Err(Refusal::NO_CONSENT)
        );
        assert_eq!(followers.spend_consent("eve", "t"), Err(Refusal::OPENID));
    }

    #[test]
    fn a_month_takes_so_many_mass_messages() {
        let followers = people(&["ann", "bob"]);
        followers.follow("ann", rule(Profile::Wechat48h), None, START);
        let mut fates = [1, 1, 1, 2]
            .map(|month| followers.take_mass("ann", month, 2, true))
            .into_iter();
        let received = MassFate::Received("ann".into());
        assert_eq!(fates.next(), Some(received.clone()));
        assert_eq!(fates.next(), Some(received.clone()));
        assert_eq!(fates.next(), Some(MassFate::Filtered));
        assert_eq!(fates.next(), Some(received));
        assert_eq!(followers.take_mass("bob", 1, 2, true), MassFate::Left);
        assert_eq!(followers.take_mass("eve", 1, 2, true), MassFate::Stranger);
    }
}
