//! The names of things: newtypes, so that an account is never taken for a follower.
//!
//! Ids are the rows' integer keys; keys that people write (`AccountKey`, step and sequence names)
//! are strings where they occur.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// One Official Account or channel: the key of its row.
    AccountId
);
id!(
    /// One follower of one account: the key of its row.
    FollowerId
);
id!(
    /// One published version of a sequence: the key of its row.
    VersionId
);
id!(
    /// One message to many followers: the key of its row.
    BroadcastId
);
id!(
    /// One passage of a follower through a version: the follower's id and a number, in one integer,
    /// so that a follower's enrollments are one range of keys and need no index of their own.
    EnrollmentId
);

/// Bits of an enrollment id that count a follower's enrollments: 65,536 each.
const NUMBER_BITS: u32 = 16;

/// From this number on an enrollment is in a broadcast: a delivery's key tells what it brings, so that
/// sequences go first without anybody's asking the rows.
pub const BROADCASTS_FROM: u16 = 1 << 15;

impl EnrollmentId {
    /// The `number`th enrollment of a follower.
    pub fn new(follower: FollowerId, number: u16) -> Self {
        Self((follower.0 << NUMBER_BITS) | i64::from(number))
    }

    /// Whose enrollment it is.
    pub fn follower(self) -> FollowerId {
        FollowerId(self.0 >> NUMBER_BITS)
    }

    /// Which of the follower's enrollments it is, from 0.
    pub fn number(self) -> u16 {
        u16::try_from(self.0 & 0xffff).unwrap_or(u16::MAX)
    }

    /// Whether it is a recipient's of a broadcast, and none in a sequence.
    pub fn is_broadcast(self) -> bool {
        self.number() >= BROADCASTS_FROM
    }

    /// First and last possible enrollment of a follower, both inclusive.
    pub fn range(follower: FollowerId) -> (Self, Self) {
        (Self::new(follower, 0), Self::new(follower, u16::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enrollment_names_its_follower() {
        for (follower, number) in [(1, 0), (7, 65_535), (1 << 46, 3), (2, 32_767), (3, 32_768)] {
            let id = EnrollmentId::new(FollowerId(follower), number);
            assert_eq!((id.follower().0, id.number()), (follower, number));
            let (first, last) = EnrollmentId::range(FollowerId(follower));
            assert!(first <= id && id <= last);
            assert_eq!(id.is_broadcast(), number >= 32_768);
        }
    }
}
