//! Table `receipts`: proof that an event was taken in, and the history of what a follower did.

use std::collections::HashSet;

use sea_orm::{ConnectionTrait, DatabaseTransaction};

use crate::clock::Timestamp;
use crate::journey::event::{Arrival, Event};
use crate::journey::ids::{AccountId, FollowerId};
use crate::journey::receive::Source;
use crate::store::Error;
use crate::store::statement::{instant, int, over};

/// What identifies an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct ReceiptKey {
    pub account: AccountId,
    pub follower: FollowerId,
    pub created_at: Timestamp,
    pub digest: i64,
}

/// The words of stored kinds; a kind's number is its place, counted from 1.
pub const KINDS: [&str; 10] = [
    "followed",
    "unfollowed",
    "scanned",
    "clicked",
    "message",
    OTHER,
    "consents",
    "report",
    FOUND,
    MISSED,
];

/// What is only counted.
pub const OTHER: &str = "other";

/// Found in the platform's list: a follow of which we were never told.
pub const FOUND: &str = "found";

/// Missed in the platform's list: an unfollow of which we were never told.
pub const MISSED: &str = "missed";

/// Longest detail that is kept, in bytes; what followers write is theirs, and a timeline needs no
/// more than its beginning.
const DETAIL_BYTES_MAX: usize = 64;

fn kind(word: &str) -> usize {
    let place = |word| KINDS.iter().position(|kind| *kind == word);
    place(word).or(place(OTHER)).map_or(0, |place| place + 1)
}

/// Cuts a text to at most `bytes_max` bytes at a character's border.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// The kind under which an event is kept.
fn kind_of(event: &Event, source: Source) -> usize {
    kind(match (event, source) {
        (Event::Followed { .. }, Source::Found { .. }) => FOUND,
        (Event::Unfollowed, Source::Found { .. }) => MISSED,
        (event, _) => event.word(),
    })
}

/// Takes events in; returns the keys of those that were not known yet.
pub(super) async fn insert(
    tx: &DatabaseTransaction,
    arrivals: &[(ReceiptKey, &Arrival)],
    source: Source,
    now: Timestamp,
) -> Result<HashSet<ReceiptKey>, Error> {
    let rows: Vec<_> = arrivals
        .iter()
        .map(|(key, arrival)| {
            let detail = cut(arrival.event.detail(), DETAIL_BYTES_MAX);
            let detail = (!detail.is_empty()).then_some(detail);
            let kind = kind_of(&arrival.event, source);
            (
                key.account,
                key.follower,
                key.created_at,
                key.digest,
                kind,
                detail,
                now,
            )
        })
        .collect();
    let fresh = tx
        .query_all_raw(over(
            "INSERT OR IGNORE INTO receipts
                 (account_id, follower_id, created_at, digest, kind, detail, taken_at)
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
                 value ->> 6
             FROM json_each(?1)
             RETURNING account_id, follower_id, created_at, digest",
            &rows,
        )?)
        .await?;
    fresh
        .iter()
        .map(|row| {
            Ok(ReceiptKey {
                account: AccountId(int(row, 0)?),
                follower: FollowerId(int(row, 1)?),
                created_at: instant(row, 2)?,
                digest: int(row, 3)?,
            })
        })
        .collect()
}
