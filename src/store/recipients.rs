//! Table `recipients`: the frozen audience of a broadcast. A recipient's state is that of an enrollment,
//! whose number is written down when there is one, and nothing later.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use sea_orm::{DatabaseConnection, DatabaseTransaction};

use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::journey::follower::Follower;
use crate::journey::ids::{AccountId, BroadcastId, EnrollmentId, FollowerId};
use crate::journey::outcome::Outcome;
use crate::store::broadcasts::Part;
use crate::store::chunks::Chunk;
use crate::store::sql::{self, Rows, int, text, text_or_none};
use crate::store::{Error, Store, followers};

/// Recipients of one commit and of one chunk.
pub const CHUNK: usize = 500;

/// A follower who became a recipient with an enrollment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    pub broadcast: BroadcastId,
    pub account: AccountId,
    pub enrollment: EnrollmentId,
}

/// The next followers of an account by openid, at most `limit`.
pub async fn followers_after(
    read: &DatabaseConnection,
    account: AccountId,
    openid: &str,
    limit: usize,
) -> Result<Vec<Follower>, Error> {
    let sql = format!(
        "SELECT {} FROM followers AS f WHERE f.account_id = ?1 AND f.openid > ?2
         ORDER BY f.openid LIMIT ?3",
        followers::COLUMNS
    );
    let values = [account.0.into(), openid.into(), limit_of(limit).into()];
    let rows = sql::all(read, &sql, values).await?;
    rows.iter().map(followers::follower).collect()
}

/// Which of these followers are inside a sequence now.
pub async fn inside(
    read: &DatabaseConnection,
    followers: &[FollowerId],
    sequence: &str,
) -> Result<HashSet<FollowerId>, Error> {
    let theirs = sql::each(read, "enrollments", "e", "e.id BETWEEN r.first AND r.last");
    let sql = format!(
        "SELECT DISTINCT r.id FROM {{rows}} {theirs}
         JOIN sequence_versions AS v ON v.id = e.version_id
         WHERE e.state < 2 AND v.kind = 0 AND v.sequence = ?1"
    );
    let rows = Rows::of(followers)
        .int("id", |id| id.0)
        .int("first", |id| EnrollmentId::range(*id).0.0)
        .int("last", |id| EnrollmentId::range(*id).1.0);
    let found = sql::all_over(read, &sql, rows, [sequence.into()]).await?;
    found
        .iter()
        .map(|row| Ok(FollowerId(int(row, 0)?)))
        .collect()
}

/// Freezes followers as recipients and writes down up to whom the audience has been read; `over` says
/// that this was the last page. False when another node goes on with the part by now.
pub async fn freeze(
    store: &Store,
    part: &Part,
    mut found: Vec<FollowerId>,
    read_to: String,
    over: bool,
) -> Result<bool, Error> {
    let part = part.clone();
    found.sort_unstable();
    let ours = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ours);
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                let goes_on = sql::run(
                    tx,
                    "UPDATE broadcast_parts SET read_to = ?3, phase = ?4
                     WHERE broadcast_id = ?1 AND account_id = ?2 AND phase = 0 AND read_to = ?5",
                    [
                        part.broadcast.0.into(),
                        part.account.0.into(),
                        read_to.as_str().into(),
                        i64::from(over).into(),
                        part.read_to.as_str().into(),
                    ],
                )
                .await?;
                if goes_on > 0 {
                    add(tx, part.broadcast, part.account, &found).await?;
                    told.store(true, Ordering::Release);
                }
                Ok(())
            })
        })
        .await?;
    Ok(ours.load(Ordering::Acquire))
}

/// Adds recipients to a part; says how many are new.
async fn add(
    tx: &DatabaseTransaction,
    broadcast: BroadcastId,
    account: AccountId,
    found: &[FollowerId],
) -> Result<u64, Error> {
    let new = sql::run_over(
        tx,
        "INSERT INTO recipients (broadcast_id, account_id, follower_id, number)
         SELECT ?1, ?2, r.follower, -1 FROM {rows} WHERE true ON CONFLICT DO NOTHING",
        Rows::of(found).int("follower", |follower| follower.0),
        [broadcast.0.into(), account.0.into()],
    )
    .await?;
    let total = i64::try_from(new).unwrap_or(i64::MAX);
    if total > 0 {
        sql::run(
            tx,
            "UPDATE broadcast_parts SET total = total + ?3
             WHERE broadcast_id = ?1 AND account_id = ?2",
            [broadcast.0.into(), account.0.into(), total.into()],
        )
        .await?;
    }
    Ok(new)
}

/// Adds followers by name to a broadcast that has not begun; says how many are new recipients, and whom
/// the account does not know or who do not follow it. `None` when it has begun.
pub async fn add_listed(
    store: &Store,
    broadcast: BroadcastId,
    account: AccountId,
    openids: &[String],
) -> Result<Option<(i64, Vec<String>)>, Error> {
    let names: Vec<_> = openids.iter().map(|one| (account, one.as_str())).collect();
    let known = followers::by_openid(store.read(), store.knowledge().pseudonyms(), &names).await?;
    let known = known.into_iter().filter(|(one, _)| one.following);
    let known: HashMap<String, FollowerId> = known.map(|(one, asked)| (asked, one.id)).collect();
    let mut found: Vec<_> = known.values().copied().collect();
    found.sort_unstable();
    let strangers = openids.iter().filter(|one| !known.contains_key(*one));
    let strangers: Vec<_> = strangers.cloned().collect();
    let new = Arc::new(AtomicI64::new(-1));
    let told = Arc::clone(&new);
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                // Locks the row: it cannot begin meanwhile.
                let sql = "UPDATE broadcasts SET state = 0 WHERE id = ?1 AND state = 0";
                if sql::run(tx, sql, [broadcast.0.into()]).await? > 0 {
                    let added = add(tx, broadcast, account, &found).await?;
                    let added = i64::try_from(added).unwrap_or(i64::MAX);
                    told.store(added, Ordering::Release);
                }
                Ok(())
            })
        })
        .await?;
    let new = new.load(Ordering::Acquire);
    Ok((new >= 0).then_some((new, strangers)))
}

/// At most `limit` recipients of a chunk who have no enrollment.
pub async fn waiting(
    read: &DatabaseConnection,
    part: &Part,
    chunk: &Chunk,
    limit: usize,
) -> Result<Vec<FollowerId>, Error> {
    let rows = sql::all(
        read,
        "SELECT follower_id FROM recipients
         WHERE broadcast_id = ?1 AND account_id = ?2 AND follower_id BETWEEN ?3 AND ?4
             AND number < 0
         ORDER BY follower_id LIMIT ?5",
        [
            part.broadcast.0.into(),
            part.account.0.into(),
            chunk.first.into(),
            chunk.last.into(),
            limit_of(limit).into(),
        ],
    )
    .await?;
    rows.iter()
        .map(|row| Ok(FollowerId(int(row, 0)?)))
        .collect()
}

/// Those of these recipients who still have no enrollment; `None` when the broadcast is not sending.
/// Nobody changes that before the transaction ends.
pub(super) async fn still_waiting(
    tx: &DatabaseTransaction,
    broadcast: BroadcastId,
    account: AccountId,
    followers: &[FollowerId],
) -> Result<Option<HashSet<FollowerId>>, Error> {
    let lock = sql::dialect(tx, "", "FOR SHARE");
    let sql = format!("SELECT state FROM broadcasts WHERE id = ?1 {lock}");
    let row = sql::first(tx, &sql, [broadcast.0.into()]).await?;
    if row.map_or(Ok(0), |row| int(&row, 0))? != 1 {
        return Ok(None);
    }
    let rows = sql::all_over(
        tx,
        "SELECT p.follower_id FROM {rows} CROSS JOIN recipients AS p
         WHERE p.broadcast_id = ?1 AND p.account_id = ?2 AND p.follower_id = r.follower
             AND p.number < 0",
        Rows::of(followers).int("follower", |follower| follower.0),
        [broadcast.0.into(), account.0.into()],
    )
    .await?;
    let ids = rows.iter().map(|row| Ok(FollowerId(int(row, 0)?)));
    ids.collect::<Result<_, Error>>().map(Some)
}

/// Writes down which enrollments recipients have.
pub(super) async fn mark(tx: &DatabaseTransaction, admissions: &[Admission]) -> Result<(), Error> {
    let mut alike: HashMap<(BroadcastId, AccountId, u16), Vec<FollowerId>> = HashMap::new();
    for one in admissions {
        let key = (one.broadcast, one.account, one.enrollment.number());
        alike
            .entry(key)
            .or_default()
            .push(one.enrollment.follower());
    }
    // Most have the same number, and one statement for each keeps the sets plain keys.
    for ((broadcast, account, number), followers) in alike {
        sql::run_over(
            tx,
            "UPDATE recipients SET number = ?3
             WHERE (broadcast_id, account_id, follower_id) IN
                 (SELECT ?1, ?2, r.follower FROM {rows})",
            Rows::of(&followers).int("follower", |follower| follower.0),
            [
                broadcast.0.into(),
                account.0.into(),
                i64::from(number).into(),
            ],
        )
        .await?;
    }
    Ok(())
}

pub(super) fn limit_of(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Where a recipient stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The turn has not come.
    Planned,
    /// Due, being sent, tried again or held.
    Sending,
    Sent,
    /// Refused by the platform, or given up.
    Failed,
    /// Nothing was sent: no grant was open, or the follower had left.
    Skipped,
    /// The answer was lost.
    Unknown,
}

impl Standing {
    /// The chunks' column that counts it.
    fn column(self) -> &'static str {
        match self {
            Self::Planned => "waiting",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Unknown => "unknown",
        }
    }

    /// By the outcome that ended the message.
    fn of(outcome: Option<Outcome>, admitted: bool) -> Self {
        match outcome {
            Some(Outcome::Sent) => Self::Sent,
            Some(Outcome::Refused | Outcome::Failed) => Self::Failed,
            Some(Outcome::Unknown) => Self::Unknown,
            Some(Outcome::Expired | Outcome::Skipped | Outcome::Cancelled) => Self::Skipped,
            _ if admitted => Self::Sending,
            _ => Self::Planned,
        }
    }
}

/// A recipient, and what came of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    pub account: AccountId,
    pub follower: FollowerId,
    pub openid: String,
    pub language: Option<String>,
    pub standing: Standing,
    /// When it ended; zero before.
    pub at: Timestamp,
    pub outcome: Option<Outcome>,
    pub carrier: Option<Carrier>,
    pub code: Option<i64>,
    pub detail: String,
}

/// Account and follower: a recipient's place among those of a broadcast.
pub type Place = (i64, i64);

/// Before every recipient.
pub const FIRST: Place = (i64::MIN, i64::MIN);

/// Chunks that one page looks at.
const LOOKED_AT: u32 = 8;

/// At most `limit` recipients behind a place, in order, and where the next page begins. Of one standing
/// only the chunks are read that have some: a page may hold fewer, even none, while others follow.
pub async fn page(
    read: &DatabaseConnection,
    broadcast: BroadcastId,
    standing: Option<Standing>,
    after: Place,
    limit: usize,
) -> Result<(Vec<Recipient>, Option<Place>), Error> {
    let some = standing.map_or(String::new(), |one| format!("AND {} > 0", one.column()));
    let sql = format!(
        "SELECT account_id, first_id, last_id FROM broadcast_chunks
         WHERE broadcast_id = ?1 AND (account_id > ?2 OR account_id = ?2 AND last_id > ?3) {some}
         ORDER BY account_id, first_id LIMIT ?4"
    );
    let values = [
        broadcast.0.into(),
        after.0.into(),
        after.1.into(),
        i64::from(LOOKED_AT).into(),
    ];
    let chunks = sql::all(read, &sql, values).await?;
    let (mut found, mut next) = (Vec::new(), None);
    for chunk in &chunks {
        let (account, first, last) = (int(chunk, 0)?, int(chunk, 1)?, int(chunk, 2)?);
        let from = if account == after.0 {
            after.1
        } else {
            i64::MIN
        };
        let from = from.max(first.saturating_sub(1));
        for one in within(read, broadcast, AccountId(account), (from, last)).await? {
            if standing.is_none_or(|standing| standing == one.standing) {
                if found.len() >= limit {
                    return Ok((found, next));
                }
                next = Some((account, one.follower.0));
                found.push(one);
            }
        }
        next = Some((account, last));
    }
    let more = chunks.len() >= usize::try_from(LOOKED_AT).unwrap_or(usize::MAX);
    Ok((found, next.filter(|_| more)))
}

/// The recipients of an account behind one follower and up to another.
async fn within(
    read: &DatabaseConnection,
    broadcast: BroadcastId,
    account: AccountId,
    (after, last): (i64, i64),
) -> Result<Vec<Recipient>, Error> {
    let rows = sql::all(
        read,
        "SELECT p.follower_id, p.number, f.openid, f.language, o.result, o.at, o.carrier, o.code,
             o.detail
         FROM recipients AS p JOIN followers AS f ON f.id = p.follower_id
         LEFT JOIN outcomes AS o ON p.number >= 0 AND o.steps > 0
             AND o.enrollment_id = (p.follower_id << 16) + p.number
         WHERE p.broadcast_id = ?1 AND p.account_id = ?2
             AND p.follower_id > ?3 AND p.follower_id <= ?4
         ORDER BY p.follower_id",
        [
            broadcast.0.into(),
            account.0.into(),
            after.into(),
            last.into(),
        ],
    )
    .await?;
    rows.iter()
        .map(|row| {
            let result: Option<i64> = row.try_get_by_index(4)?;
            let outcome = result.and_then(Outcome::from_number);
            let (at, carrier): (Option<i64>, Option<i64>) =
                (row.try_get_by_index(5)?, row.try_get_by_index(6)?);
            Ok(Recipient {
                account,
                follower: FollowerId(int(row, 0)?),
                openid: text(row, 2)?,
                language: text_or_none(row, 3)?,
                standing: Standing::of(outcome, int(row, 1)? >= 0),
                at: Timestamp(at.unwrap_or_default()),
                outcome,
                carrier: carrier.and_then(Carrier::from_number),
                code: row.try_get_by_index(7)?,
                detail: text_or_none(row, 8)?.unwrap_or_default(),
            })
        })
        .collect()
}
