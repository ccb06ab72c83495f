//! Reads for pages and API about many followers at once.
//!
//! With ten million rows a plain count takes seconds, so nothing here counts to the end: counts
//! stop at a cap and say so, and states are tallied over the newest passages only. A page of
//! followers looks at a bounded window of rows, so it may hold fewer than asked for while more
//! follow.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, DatabaseConnection, EntityTrait, QueryFilter, QueryOrder, QueryResult, QuerySelect,
};

use crate::clock::Timestamp;
use crate::journey::enrollment::State;
use crate::journey::follower::Follower;
use crate::journey::ids::{AccountId, VersionId};
use crate::journey::outcome::OutcomeEntry;
use crate::journey::sequence::Kind;
use crate::store::accounts::Standing;
use crate::store::entity::{account, sequence_version};
use crate::store::erasure::Pseudonyms;
use crate::store::shards::{SHARDS, Sharding};
use crate::store::sql::{self, int, small, text};
use crate::store::timers::TimerKey;
use crate::store::versions::StoredVersion;
use crate::store::{Error, deliveries, followers, timeline, timers};

/// Where counts stop.
pub const COUNT_MAX: u32 = 10_000;

/// How many of the newest passages are tallied by state.
pub const TALLIED_MAX: u32 = 20_000;

/// Rows that one page of followers looks at.
const WINDOW: i64 = 50_000;

/// Rows from which the newest outcomes are taken.
const OUTCOMES_WINDOW: u32 = 1_000;

/// Accounts or versions in one answer.
const LIST_MAX: u64 = 1_000;

/// A count that stops at a cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub n: u32,
    /// There are more than `n`.
    pub more: bool,
}

impl Count {
    fn capped(n: i64, cap: u32) -> Self {
        let n = u32::try_from(n).unwrap_or(cap);
        Self {
            n: n.min(cap),
            more: n > cap,
        }
    }
}

/// How many of the newest passages stand where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub by_version: HashMap<VersionId, HashMap<State, u32>>,
    /// Whether these are all the passages there are.
    pub complete: bool,
}

/// An entry of a step's history, with whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    pub account: AccountId,
    pub version: VersionId,
    pub openid: String,
    pub entry: OutcomeEntry,
}

fn stored(row: sequence_version::Model) -> StoredVersion {
    StoredVersion {
        id: VersionId(row.id),
        sequence: row.sequence,
        hash: row.hash,
        source: row.source,
        published_at: Timestamp(row.published_at),
        live: row.live != 0,
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<i64>,
}

/// One account by the operator's name for it.
pub async fn account(read: &DatabaseConnection, key: &str) -> Result<Option<Standing>, Error> {
    let row = account::Entity::find()
        .filter(account::Column::Key.eq(sql::storable(key)))
        .one(read)
        .await?;
    Ok(row.map(Standing::from))
}

/// Every account, by key.
pub async fn accounts(read: &DatabaseConnection) -> Result<Vec<Standing>, Error> {
    let rows = account::Entity::find()
        .order_by_asc(account::Column::Key)
        .limit(LIST_MAX)
        .all(read)
        .await?;
    Ok(rows.into_iter().map(Standing::from).collect())
}

/// Deliveries of an account that are due or being sent.
pub async fn due(read: &DatabaseConnection, account: AccountId) -> Result<Count, Error> {
    let n = deliveries::count(read, account, COUNT_MAX + 1).await?;
    Ok(Count::capped(n, COUNT_MAX))
}

/// Instants before `until` at which timers wake, at most `COUNT_MAX`, and how many they are.
pub async fn waking(
    read: &DatabaseConnection,
    until: Timestamp,
) -> Result<(Vec<Timestamp>, Count), Error> {
    // Of every shard, whoever holds it.
    let shards: Vec<_> = (0..SHARDS).collect();
    let keys = timers::page(read, &shards, TimerKey::FIRST, until, COUNT_MAX + 1).await?;
    let count = Count::capped(i64::try_from(keys.len()).unwrap_or(i64::MAX), COUNT_MAX);
    Ok((keys.iter().map(|key| key.due_at).collect(), count))
}

/// Tallies the newest passages.
pub async fn tally(read: &DatabaseConnection) -> Result<Tally, Error> {
    let rows = sql::all(
        read,
        "SELECT version_id, state, count(*) FROM
             (SELECT version_id, state FROM enrollments ORDER BY id DESC LIMIT ?1) AS newest
         GROUP BY version_id, state",
        [TALLIED_MAX.into()],
    )
    .await?;
    let mut tally = Tally::default();
    let mut total = 0;
    for row in &rows {
        let Some(state) = State::from_number(int(row, 1)?) else {
            continue;
        };
        let n: u32 = small(row, 2, "enrollments")?;
        total += n;
        let version = VersionId(int(row, 0)?);
        tally
            .by_version
            .entry(version)
            .or_default()
            .insert(state, n);
    }
    tally.complete = total < TALLIED_MAX;
    Ok(tally)
}

/// What `timeline::entry` reads, and whose it is.
const HAPPENED: &str = "o.enrollment_id, o.step, o.entry, o.result, o.steps, o.due_at, o.at,
    o.code, o.detail, o.carrier, o.account_id, o.version_id, f.openid";

fn happened(row: &QueryResult) -> Result<Happened, Error> {
    Ok(Happened {
        entry: timeline::entry(row)?,
        account: AccountId(int(row, 10)?),
        version: VersionId(int(row, 11)?),
        openid: text(row, 12)?,
    })
}

/// The latest outcomes of the newest followers, newest first.
///
/// The rows lie in the order of followers, not of time; an order of time would cost an index on
/// the hot path.
pub async fn latest(read: &DatabaseConnection, limit: u32) -> Result<Vec<Happened>, Error> {
    let sql = format!(
        "SELECT {HAPPENED} FROM
             (SELECT * FROM outcomes ORDER BY enrollment_id DESC, step DESC, entry DESC LIMIT ?1)
             AS o
         CROSS JOIN followers AS f WHERE f.id = o.enrollment_id >> 16
         ORDER BY o.at DESC, o.enrollment_id DESC, o.step DESC, o.entry DESC LIMIT ?2"
    );
    let rows = sql::all(read, &sql, [OUTCOMES_WINDOW.into(), limit.into()]).await?;
    rows.iter().map(happened).collect()
}

/// The newest sends whose answer was lost, newest first.
///
/// `7` is written out so that the planner can use a partial index over just these rows.
pub async fn unknown(
    read: &DatabaseConnection,
    account: Option<AccountId>,
    limit: u32,
) -> Result<Vec<Happened>, Error> {
    let sql = format!(
        "SELECT {HAPPENED} FROM outcomes AS o CROSS JOIN followers AS f
         WHERE f.id = o.enrollment_id >> 16
             AND o.result = 7 AND (?1 IS NULL OR o.account_id = ?1)
         ORDER BY o.at DESC LIMIT ?2"
    );
    let account = account.map(|id| id.0);
    let rows = sql::all(read, &sql, [account.into(), limit.into()]).await?;
    rows.iter().map(happened).collect()
}

/// Followers of an account with ids below `before`, newest first.
///
/// Looks at about `WINDOW` rows at most: ids are counted up without large gaps, but for the shard in
/// them, and an account whose followers are few among those of others must not cost a walk over all
/// of them.
pub async fn followers(
    read: &DatabaseConnection,
    account: AccountId,
    before: Option<i64>,
    limit: u32,
) -> Result<Page<Follower>, Error> {
    let after_newest = followers::highest_id(read).await?.saturating_add(1);
    let before = before.map_or(after_newest, |before| before.min(after_newest));
    let window = Sharding::of(read).follower(WINDOW, account).0;
    let floor = before.saturating_sub(window).max(1);
    // `+` keeps the planner from walking the account's whole index and sorting it.
    let rows = sql::all(
        read,
        &format!(
            "SELECT {} FROM followers AS f
             WHERE f.id >= ?1 AND f.id < ?2 AND +f.account_id = ?3
             ORDER BY f.id DESC LIMIT ?4",
            followers::COLUMNS
        ),
        [
            floor.into(),
            before.into(),
            account.0.into(),
            (limit + 1).into(),
        ],
    )
    .await?;
    let mut items: Vec<_> = rows
        .iter()
        .map(followers::follower)
        .collect::<Result<_, Error>>()?;
    let next = if items.len() > usize::try_from(limit).unwrap_or(usize::MAX) {
        items.pop();
        items.last().map(|last| last.id.0)
    } else {
        (floor > 1).then_some(floor)
    };
    Ok(Page { items, next })
}

/// One follower.
pub async fn follower_named(
    read: &DatabaseConnection,
    account: AccountId,
    openid: &str,
) -> Result<Option<Follower>, Error> {
    followers::named(read, account, openid).await
}

/// The accounts among `accounts` that know, or knew, a follower by exactly this name.
pub async fn who_knows(
    read: &DatabaseConnection,
    accounts: &[AccountId],
    openid: &str,
) -> Result<Vec<AccountId>, Error> {
    let pseudonyms = Pseudonyms::find(read).await?.unwrap_or_default();
    let names: Vec<_> = accounts.iter().map(|account| (*account, openid)).collect();
    let found = followers::by_openid(read, &pseudonyms, &names).await?;
    Ok(found.into_iter().map(|(one, _)| one.account).collect())
}

/// The live version of each sequence, and of sequences without one the newest; by name.
pub async fn sequences(read: &DatabaseConnection) -> Result<Vec<StoredVersion>, Error> {
    let rows = sequence_version::Entity::find()
        .filter(sequence_version::Column::Kind.eq(Kind::Sequence.number()))
        .order_by_asc(sequence_version::Column::Sequence)
        .order_by_desc(sequence_version::Column::Live)
        .order_by_desc(sequence_version::Column::Id)
        .limit(LIST_MAX)
        .all(read)
        .await?;
    let mut all: Vec<StoredVersion> = rows.into_iter().map(stored).collect();
    all.dedup_by(|later, first| later.sequence == first.sequence);
    Ok(all)
}

/// Versions of a sequence with ids below `before`, newest first.
pub async fn versions(
    read: &DatabaseConnection,
    sequence: &str,
    before: Option<i64>,
    limit: u32,
) -> Result<Page<StoredVersion>, Error> {
    let rows = sequence_version::Entity::find()
        .filter(sequence_version::Column::Sequence.eq(sql::storable(sequence)))
        .filter(sequence_version::Column::Kind.eq(Kind::Sequence.number()))
        .filter(sequence_version::Column::Id.lt(before.unwrap_or(i64::MAX)))
        .order_by_desc(sequence_version::Column::Id)
        .limit(u64::from(limit) + 1)
        .all(read)
        .await?;
    let mut items: Vec<StoredVersion> = rows.into_iter().map(stored).collect();
    let more = items.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    if more {
        items.pop();
    }
    let next = items.last().filter(|_| more).map(|last| last.id.0);
    Ok(Page { items, next })
}
