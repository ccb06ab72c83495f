//! Everything that is stored about one follower, read as one moment.
//!
//! Each read is bounded, because a follower of years may have more rows than a page can show: the
//! newest are kept. `story` makes sense of them; nothing is decided here.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, DatabaseConnection, DatabaseTransaction, EntityTrait, QueryFilter, QueryResult,
    TransactionTrait,
};

use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::journey::enrollment::Enrollment;
use crate::journey::follower::Follower;
use crate::journey::ids::{AccountId, EnrollmentId, FollowerId};
use crate::journey::outcome::{Outcome, OutcomeEntry};
use crate::policy::grant::Grant;
use crate::store::accounts::Standing;
use crate::store::entity::account;
use crate::store::erasure::Pseudonyms;
use crate::store::receipts::{KINDS, OTHER};
use crate::store::shards::Sharding;
use crate::store::sql::{self, flag, instant, int, small, text_or_none};
use crate::store::{Error, enrollments, followers, grants, overview};

/// Events of a follower that are read, newest first.
const EVENTS_MAX: u32 = 500;

/// Passages of a follower that are read, newest first.
const PASSAGES_MAX: u32 = 100;

/// History entries of those passages that are read.
const ENTRIES_MAX: u32 = 20_000;

/// An event that was taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// By the platform's clock.
    pub created_at: Timestamp,
    /// By ours.
    pub taken_at: Timestamp,
    /// One of `receipts::KINDS`.
    pub kind: &'static str,
    /// The beginning of what the follower wrote, or the scene or key.
    pub detail: Option<String>,
}

/// A delivery in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InHand {
    /// The intent is committed and its answer is not in.
    pub sending: bool,
    /// When the intent was committed; zero while it is merely due.
    pub intent_at: Timestamp,
}

/// What is stored about one follower.
#[derive(Clone, Debug)]
pub struct Rows {
    pub account: Standing,
    pub follower: Follower,
    pub grants: Vec<Grant>,
    /// Oldest first.
    pub receipts: Vec<Receipt>,
    /// Oldest first.
    pub enrollments: Vec<Enrollment>,
    /// By enrollment, step and entry.
    pub entries: Vec<OutcomeEntry>,
    pub in_hand: HashMap<EnrollmentId, InHand>,
}

/// Reads everything about a follower; `None` when account or follower is unknown.
pub async fn of(
    read: &DatabaseConnection,
    account_key: &str,
    openid: &str,
) -> Result<Option<Rows>, Error> {
    // One transaction is one snapshot: a step must not be both planned and ended.
    let tx = read.begin().await?;
    let rows = within(&tx, account_key, openid).await;
    tx.rollback().await?;
    rows
}

async fn within(
    tx: &DatabaseTransaction,
    account_key: &str,
    openid: &str,
) -> Result<Option<Rows>, Error> {
    let account = account::Entity::find()
        .filter(account::Column::Key.eq(sql::storable(account_key)))
        .one(tx)
        .await?;
    let Some(account) = account.map(Standing::from) else {
        return Ok(None);
    };
    let Some(follower) = followers::named(tx, account.id, openid).await? else {
        return Ok(None);
    };
    let granted = grants::of(tx, &[follower.id]).await?;
    let enrollments = passages(tx, follower.id).await?;
    let oldest = enrollments.first().map(|one| one.id);
    let entries = match oldest {
        Some(oldest) => entries(tx, oldest, follower.id).await?,
        None => Vec::new(),
    };
    Ok(Some(Rows {
        grants: granted.into_iter().map(|(_, grant)| grant).collect(),
        receipts: receipts(tx, account.id, follower.id).await?,
        in_hand: in_hand(tx, account.id, &enrollments).await?,
        account,
        follower,
        enrollments,
        entries,
    }))
}

async fn receipts(
    tx: &DatabaseTransaction,
    account: AccountId,
    follower: FollowerId,
) -> Result<Vec<Receipt>, Error> {
    let rows = sql::all(
        tx,
        "SELECT created_at, taken_at, kind, detail FROM receipts
         WHERE account_id = ?1 AND follower_id = ?2
         ORDER BY created_at DESC, digest DESC LIMIT ?3",
        [account.0.into(), follower.0.into(), EVENTS_MAX.into()],
    )
    .await?;
    rows.iter().rev().map(receipt).collect()
}

fn receipt(row: &QueryResult) -> Result<Receipt, Error> {
    let number: usize = small(row, 2, "receipts")?;
    // Kinds are counted from 1.
    let kind = KINDS.get(number.saturating_sub(1)).copied();
    Ok(Receipt {
        created_at: instant(row, 0)?,
        taken_at: instant(row, 1)?,
        kind: kind.unwrap_or(OTHER),
        detail: text_or_none(row, 3)?,
    })
}

async fn passages(
    tx: &DatabaseTransaction,
    follower: FollowerId,
) -> Result<Vec<Enrollment>, Error> {
    let (first, last) = EnrollmentId::range(follower);
    let sql = format!(
        "SELECT {}, d.intent_at FROM enrollments AS e {} WHERE e.id BETWEEN ?1 AND ?2
         ORDER BY e.id DESC LIMIT ?3",
        enrollments::COLUMNS,
        enrollments::sending(tx)
    );
    let values = [first.0.into(), last.0.into(), PASSAGES_MAX.into()];
    let rows = sql::all(tx, &sql, values).await?;
    rows.iter().rev().map(enrollments::enrollment).collect()
}

async fn entries(
    tx: &DatabaseTransaction,
    oldest: EnrollmentId,
    follower: FollowerId,
) -> Result<Vec<OutcomeEntry>, Error> {
    let (_, last) = EnrollmentId::range(follower);
    let rows = sql::all(
        tx,
        "SELECT enrollment_id, step, entry, result, steps, due_at, at, code, detail, carrier
         FROM outcomes WHERE enrollment_id BETWEEN ?1 AND ?2
         ORDER BY enrollment_id, step, entry LIMIT ?3",
        [oldest.0.into(), last.0.into(), ENTRIES_MAX.into()],
    )
    .await?;
    rows.iter().map(entry).collect()
}

/// An entry from `enrollment_id, step, entry, result, steps, due_at, at, code, detail,
/// carrier`.
pub(super) fn entry(row: &QueryResult) -> Result<OutcomeEntry, Error> {
    let result = int(row, 3)?;
    let outcome = Outcome::from_number(result).ok_or_else(|| Error::Row {
        table: "outcomes",
        what: format!("result {result}"),
    })?;
    Ok(OutcomeEntry {
        enrollment: EnrollmentId(int(row, 0)?),
        step: small(row, 1, "outcomes")?,
        entry: small(row, 2, "outcomes")?,
        outcome,
        steps: small(row, 4, "outcomes")?,
        due_at: instant(row, 5)?,
        at: instant(row, 6)?,
        code: row.try_get_by_index(7)?,
        detail: text_or_none(row, 8)?.unwrap_or_default(),
        carrier: row
            .try_get_by_index::<Option<i64>>(9)?
            .and_then(Carrier::from_number),
    })
}

async fn in_hand(
    tx: &DatabaseTransaction,
    account: AccountId,
    enrollments: &[Enrollment],
) -> Result<HashMap<EnrollmentId, InHand>, Error> {
    let shard = Sharding::of(tx).shard(account);
    let theirs = sql::each(
        tx,
        "deliveries",
        "d",
        "d.shard = ?2 AND d.account_id = ?1 AND d.due_at = r.due_at
             AND d.enrollment_id = r.enrollment_id",
    );
    let rows = sql::all_over(
        tx,
        &format!("SELECT d.enrollment_id, d.state, d.intent_at FROM {{rows}} {theirs}"),
        sql::Rows::of(enrollments)
            .int("due_at", |one| one.wake_at.0)
            .int("enrollment_id", |one| one.id.0),
        [account.0.into(), i64::from(shard).into()],
    )
    .await?;
    rows.iter()
        .map(|row| {
            let delivery = InHand {
                sending: flag(row, 1)?,
                intent_at: instant(row, 2)?,
            };
            Ok((EnrollmentId(int(row, 0)?), delivery))
        })
        .collect()
}

/// A few numbers that differ whenever something about a follower has changed; `None` when account
/// or follower is unknown. Much cheaper than reading everything.
pub async fn mark(
    read: &DatabaseConnection,
    account_key: &str,
    openid: &str,
) -> Result<Option<[i64; 5]>, Error> {
    let pseudonyms = Pseudonyms::find(read).await?.unwrap_or_default();
    let Some(account) = overview::account(read, account_key).await? else {
        return Ok(None);
    };
    let row = sql::first(
        read,
        "SELECT f.last_event_at, f.last_sent_at, f.following * 2 + f.muted,
             (SELECT CAST(coalesce(sum(e.generation * 64 + e.entry * 8 + e.state + 1), 0) AS BIGINT)
              FROM enrollments AS e WHERE e.id BETWEEN f.id << 16 AND (f.id << 16) | 65535),
             (SELECT max(r.taken_at) FROM receipts AS r
              WHERE r.account_id = f.account_id AND r.follower_id = f.id)
         FROM followers AS f WHERE f.account_id = ?1 AND f.openid IN (?2, ?3)",
        [
            account.id.0.into(),
            openid.into(),
            pseudonyms.of(account.id, openid).into(),
        ],
    )
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let taken_at: Option<i64> = row.try_get_by_index(4)?;
    Ok(Some([
        int(&row, 0)?,
        int(&row, 1)?,
        int(&row, 2)?,
        int(&row, 3)?,
        taken_at.unwrap_or_default(),
    ]))
}
