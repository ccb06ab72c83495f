//! Numbers of new followers: counted by us alone, or taken in blocks where nodes share a store.

use std::collections::VecDeque;
use std::ops::Range;

use sea_orm::DatabaseConnection;

use crate::journey::ids::{AccountId, FollowerId};
use crate::store::shards::Sharding;
use crate::store::{Error, followers, sql};

/// Numbers that the sequence `follower_numbers` gives at once.
const BLOCK: i64 = 1024;

/// Numbers that nobody else will use.
#[derive(Debug)]
pub(crate) struct Numbers {
    sharding: Sharding,
    blocks: VecDeque<Range<i64>>,
}

impl Numbers {
    /// All numbers behind the highest in use, or none yet where they are taken in blocks.
    pub(super) async fn load(connection: &DatabaseConnection) -> Result<Self, Error> {
        let sharding = Sharding::of(connection);
        if sharding == Sharding::One {
            let highest = followers::highest_id(connection).await?;
            return Ok(Self::of(sharding, highest + 1..i64::MAX));
        }
        let blocks = VecDeque::new();
        Ok(Self { sharding, blocks })
    }

    /// These numbers.
    pub(crate) fn of(sharding: Sharding, numbers: Range<i64>) -> Self {
        Self {
            sharding,
            blocks: VecDeque::from([numbers]),
        }
    }

    /// Makes sure that `count` more can be given. What is taken and not used is lost, and never missed.
    pub(super) async fn reserve(
        &mut self,
        connection: &DatabaseConnection,
        count: usize,
    ) -> Result<(), Error> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let left: i64 = self
            .blocks
            .iter()
            .map(|block| block.end - block.start)
            .sum();
        if left >= count {
            return Ok(());
        }
        let missing = (count - left + BLOCK - 1) / BLOCK;
        let rows = sql::all(
            connection,
            "SELECT nextval('follower_numbers') FROM generate_series(1, ?1)",
            [missing.into()],
        )
        .await?;
        for row in &rows {
            let first = sql::int(row, 0)?;
            self.blocks.push_back(first..first + BLOCK);
        }
        Ok(())
    }

    /// The id of a new follower of an account. `reserve` has been asked for as many before.
    pub(super) fn next(&mut self, account: AccountId) -> FollowerId {
        let mut number = 0;
        while let Some(block) = self.blocks.front_mut() {
            if let Some(first) = block.next() {
                number = first;
                break;
            }
            self.blocks.pop_front();
        }
        debug_assert!(number > 0, "numbers were not reserved");
        self.sharding.follower(number, account)
    }
}
