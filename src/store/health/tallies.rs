//! Counts that are not written yet, and what is known of accounts only while we run.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::journey::ids::AccountId;
use crate::policy::fit::Tally;
use crate::policy::profile::Profile;
use crate::store::health::{Counts, Key, Kind, Sum, hour_of};

/// Why an account rests as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRest {
    /// `breaker`, `minute_used_up`, `day_used_up` or `needs_attention`.
    pub why: &'static str,
    pub since: Timestamp,
    pub until: Timestamp,
    /// What the platform said.
    pub detail: String,
}

/// Counts that are not written yet, and what is only known while we run.
#[derive(Debug, Default)]
pub struct Tallies(Mutex<Pending>);

#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) counts: HashMap<(i64, Key), u64>,
    accepted_at: HashMap<AccountId, Timestamp>,
    rests: HashMap<AccountId, AccountRest>,
    /// What accounts' answers say about their profiles.
    fits: HashMap<AccountId, Tally>,
}

impl Tallies {
    pub(super) fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::store) fn add(&self, counts: Counts, now: Timestamp) {
        if counts.sums.is_empty() {
            return;
        }
        let mut pending = self.pending();
        for (account, surprise) in counts.surprises {
            pending.fits.entry(account).or_default().note(surprise);
        }
        for (key, n) in counts.sums {
            if key.kind == Kind::Accepted {
                if key.part == Carrier::CustomerMessage.number() {
                    let tally = pending.fits.entry(key.account).or_default();
                    (0..n).for_each(|_| tally.note_accepted());
                }
                pending.accepted_at.insert(key.account, now);
                if pending
                    .rests
                    .get(&key.account)
                    .is_some_and(|rest| rest.until <= now)
                {
                    pending.rests.remove(&key.account);
                }
            }
            *pending.counts.entry((hour_of(now), key)).or_default() += n;
        }
    }

    /// An account rests as a whole.
    pub fn rests(&self, account: AccountId, rest: AccountRest) {
        self.pending().rests.insert(account, rest);
    }

    /// The rest that an account takes at `now`.
    pub fn rest(&self, account: AccountId, now: Timestamp) -> Option<AccountRest> {
        let pending = self.pending();
        let rest = pending.rests.get(&account);
        rest.filter(|rest| rest.until > now).cloned()
    }

    /// Ends the rest of an account.
    pub fn rests_no_more(&self, account: AccountId) {
        self.pending().rests.remove(&account);
    }

    /// When the platform took a message of an account last, since this start.
    pub fn accepted_at(&self, account: AccountId) -> Option<Timestamp> {
        self.pending().accepted_at.get(&account).copied()
    }

    /// The shipped profile that explains what the platform refuses although `current` allows it, and
    /// how many of how many answers were such refusals; `None` while there is no reason to change.
    pub fn better_profile(
        &self,
        account: AccountId,
        current: &Profile,
    ) -> Option<(&'static str, u32, u32)> {
        let pending = self.pending();
        let tally = pending.fits.get(&account)?;
        let (refused, answers) = tally.counts();
        Some((tally.better(current)?, refused, answers))
    }

    pub(super) fn unwritten(&self, account: AccountId) -> Vec<Sum> {
        let pending = self.pending();
        let of = pending.counts.iter();
        of.filter(|((_, key), _)| key.account == account)
            .map(|((hour, key), n)| Sum {
                hour: *hour,
                key: *key,
                n: *n,
            })
            .collect()
    }
}
