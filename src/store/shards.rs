//! Shards: which part of a shared store an account belongs to.
//!
//! Several nodes share a PostgreSQL by shards of accounts; an embedded store has one. A follower's
//! id carries the account's shard in its low bits there, so that a timer in memory is still two
//! integers, and its row is found without asking whose it is.

use sea_orm::ConnectionTrait;

use crate::journey::ids::{AccountId, EnrollmentId, FollowerId};
use crate::store::sql;

/// Shards of a store that several nodes share. Stored in ids: it can never change.
pub const SHARDS: u16 = 256;

/// Bits of a follower's id that name the shard.
const SHARD_BITS: u32 = 8;

/// The shard of an account where several nodes share the store.
///
/// Account ids are counted up, and a multiplication by the golden ratio spreads neighbours.
pub fn of_account(account: AccountId) -> u16 {
    let spread = account
        .0
        .cast_unsigned()
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    u16::try_from(spread >> (64 - SHARD_BITS)).unwrap_or_default()
}

/// How a store divides its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharding {
    /// One shard, which is ours: an embedded store.
    One,
    /// `SHARDS` of them, to be shared by nodes.
    Many,
}

impl Sharding {
    /// That of the store behind a connection.
    pub(super) fn of(on: &impl ConnectionTrait) -> Self {
        if sql::has_other_writers(on) {
            Self::Many
        } else {
            Self::One
        }
    }

    /// The shard of an account.
    pub fn shard(self, account: AccountId) -> u16 {
        match self {
            Self::One => 0,
            Self::Many => of_account(account),
        }
    }

    /// The shard of an enrollment, as its follower's id tells it.
    pub fn shard_of(self, enrollment: EnrollmentId) -> u16 {
        match self {
            Self::One => 0,
            Self::Many => {
                let low = enrollment.follower().0 & i64::from(SHARDS - 1);
                u16::try_from(low).unwrap_or_default()
            }
        }
    }

    /// The id of the `number`th follower, who belongs to `account`.
    pub(super) fn follower(self, number: i64, account: AccountId) -> FollowerId {
        match self {
            Self::One => FollowerId(number),
            Self::Many => FollowerId((number << SHARD_BITS) | i64::from(of_account(account))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_id_tells_the_shard_of_its_account() {
        for account in (1..5_000).map(AccountId) {
            let follower = Sharding::Many.follower(account.0 * 7, account);
            let enrollment = EnrollmentId::new(follower, 3);
            let shard = Sharding::Many.shard(account);
            assert_eq!(Sharding::Many.shard_of(enrollment), shard);
            assert!(shard < SHARDS);
            assert_eq!(Sharding::One.shard_of(enrollment), 0);
        }
    }

    #[test]
    fn neighbouring_accounts_are_spread_over_all_shards() {
        let shards: std::collections::HashSet<_> =
            (1..=1000).map(|id| of_account(AccountId(id))).collect();
        assert!(shards.len() > 240, "{}", shards.len());
    }
}
