//! Table `receipts`: proof that an event was taken in, and the history of what a follower did.

use std::collections::HashSet;

use sea_orm::DatabaseTransaction;

use crate::clock::Timestamp;
use crate::journey::event::{Arrival, Event};
use crate::journey::ids::{AccountId, FollowerId};
use crate::journey::receive::Source;
use crate::store::Error;
use crate::store::sql::{self, Rows, instant, int};

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
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
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

/// What is kept of an event: its kind's number, and what distinguishes it from others of its kind.
pub(crate) fn kept(event: &Event, source: Source) -> (usize, Option<&str>) {
    let detail = cut(event.detail(), DETAIL_BYTES_MAX);
    (
        kind_of(event, source),
        Some(detail).filter(|one| !one.is_empty()),
    )
}

/// Takes events in; returns the keys of those that were not known yet.
pub(super) async fn insert(
    tx: &DatabaseTransaction,
    arrivals: &[(ReceiptKey, &Arrival)],
    source: Source,
    now: Timestamp,
) -> Result<HashSet<ReceiptKey>, Error> {
    let rows = Rows::of(arrivals)
        .int("account_id", |(key, _)| key.account.0)
        .int("follower_id", |(key, _)| key.follower.0)
        .int("created_at", |(key, _)| key.created_at.0)
        .int("digest", |(key, _)| key.digest)
        .int("kind", |(_, arrival)| {
            i64::try_from(kept(&arrival.event, source).0).unwrap_or_default()
        })
        .text_or_none("detail", |(_, arrival)| {
            kept(&arrival.event, source).1.map(str::to_owned)
        });
    let fresh = sql::all_over(
        tx,
        "INSERT INTO receipts
             (account_id, follower_id, created_at, digest, kind, detail, taken_at)
         SELECT r.account_id, r.follower_id, r.created_at, r.digest, r.kind, r.detail, ?1
         FROM {rows} WHERE true
         ON CONFLICT DO NOTHING
         RETURNING account_id, follower_id, created_at, digest",
        rows,
        [now.0.into()],
    )
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
