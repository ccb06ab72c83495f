//! Tables `broadcasts` and `broadcast_parts`: one message to many followers, its state, and how far its
//! part with each account has come. Whom it is for is a JSON that only the stage `broadcast` reads.

mod change;

use std::time::Duration;

use sea_orm::{DatabaseConnection, QueryResult};

use crate::clock::Timestamp;
use crate::journey::ids::{AccountId, BroadcastId, VersionId};
use crate::journey::sequence::Kind;
use crate::store::Error;
use crate::store::sql::{self, flag, instant, int, small, text};

pub use change::{begin, begin_run, complete, create, obey};

/// How a broadcast stands. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    NotStarted = 0,
    Sending = 1,
    /// By a person, until a person resumes it.
    Interrupted = 2,
    Completed = 3,
}

impl State {
    const ALL: [Self; 4] = [
        Self::NotStarted,
        Self::Sending,
        Self::Interrupted,
        Self::Completed,
    ];

    /// The word that API and pages use.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::Sending => "sending",
            Self::Interrupted => "interrupted",
            Self::Completed => "completed",
        }
    }
}

/// What is done with a part while its broadcast is sending. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The audience is read and frozen.
    Reading = 0,
    /// It is cut into chunks.
    Cutting = 1,
    Sending = 2,
    /// Recipients that failed are made to wait again.
    Reopening = 3,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Reading, Self::Cutting, Self::Sending, Self::Reopening];
}

/// Which recipients a retry is for. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Retry {
    Failed = 1,
    /// Those as well whose answer was lost: some of them get the message twice.
    UnknownToo = 2,
}

/// How fast a broadcast goes, beside the limits of its accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Recipients; `None` for as many as the limits let through.
    pub per_second: Option<u32>,
    /// Recipients come evenly over this span.
    pub spread: Option<Duration>,
}

/// When a broadcast begins by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begins {
    /// When somebody starts it.
    Asked,
    At(Timestamp),
    /// Again and again: each time is a broadcast of its own.
    Cron {
        cron: String,
        zone: String,
        next: Timestamp,
    },
}

/// A broadcast to be made.
#[derive(Clone, Debug)]
pub struct NewBroadcast {
    pub title: String,
    pub accounts: Vec<AccountId>,
    pub kind: Kind,
    /// A sequence of one step, as YAML.
    pub source: String,
    /// SHA-256 over the source.
    pub hash: String,
    /// JSON.
    pub audience: String,
    pub pace: Pace,
    pub begins: Begins,
    /// Name of the API key, or of who signed in.
    pub by: String,
}

/// A broadcast as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broadcast {
    pub id: BroadcastId,
    pub title: String,
    pub version: VersionId,
    pub audience: String,
    pub state: State,
    pub pace: Pace,
    /// When it begins by itself; zero for never.
    pub start_at: Timestamp,
    /// When it repeats; empty for one that does not.
    pub cron: String,
    pub zone: String,
    /// Of a run: the broadcast that repeats.
    pub parent: Option<BroadcastId>,
    pub created_at: Timestamp,
    pub created_by: String,
    /// Zero before.
    pub started_at: Timestamp,
    /// Zero before.
    pub ended_at: Timestamp,
}

/// A broadcast's part with one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub broadcast: BroadcastId,
    pub account: AccountId,
    pub phase: Phase,
    /// Openid up to which followers have been asked.
    pub read_to: String,
    /// Recipients so far.
    pub total: i64,
    /// Whether a retry takes those too whose answer was lost.
    pub retries_unknown: bool,
    /// First follower of the chunk up to which recipients were opened again.
    pub retried_to: i64,
}

/// What a person asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Start,
    Interrupt,
    /// One that repeats goes on at this instant.
    Resume(Option<Timestamp>),
    Retry(Retry),
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obeyed {
    Done,
    NoSuch,
    /// It stands so, and that does not go with it.
    NotNow(State),
}

const COLUMNS: &str = "b.id, b.title, b.version_id, b.audience, b.state, b.per_second, b.spread_ms,
    b.start_at, b.cron, b.zone, b.parent_id, b.created_at, b.created_by, b.started_at, b.ended_at";

const PART_COLUMNS: &str = "p.broadcast_id, p.account_id, p.phase, p.read_to, p.total, p.retry,
    p.retried_to";

fn broadcast(row: &QueryResult) -> Result<Broadcast, Error> {
    let parent: Option<i64> = row.try_get_by_index(10)?;
    let (per_second, spread_ms): (u32, u64) =
        (small(row, 5, "broadcasts")?, small(row, 6, "broadcasts")?);
    Ok(Broadcast {
        id: BroadcastId(int(row, 0)?),
        title: text(row, 1)?,
        version: VersionId(int(row, 2)?),
        audience: text(row, 3)?,
        state: state(row, 4)?,
        pace: Pace {
            per_second: (per_second > 0).then_some(per_second),
            spread: (spread_ms > 0).then_some(Duration::from_millis(spread_ms)),
        },
        start_at: instant(row, 7)?,
        cron: text(row, 8)?,
        zone: text(row, 9)?,
        parent: parent.map(BroadcastId),
        created_at: instant(row, 11)?,
        created_by: text(row, 12)?,
        started_at: instant(row, 13)?,
        ended_at: instant(row, 14)?,
    })
}

fn state(row: &QueryResult, index: usize) -> Result<State, Error> {
    let number = int(row, index)?;
    let known = State::ALL.into_iter().find(|one| *one as i64 == number);
    known.ok_or_else(|| bad(format!("state {number}")))
}

fn part(row: &QueryResult, first: usize) -> Result<Part, Error> {
    let number = int(row, first + 2)?;
    let phase = Phase::ALL.into_iter().find(|one| *one as i64 == number);
    Ok(Part {
        broadcast: BroadcastId(int(row, first)?),
        account: AccountId(int(row, first + 1)?),
        phase: phase.ok_or_else(|| bad(format!("phase {number}")))?,
        read_to: text(row, first + 3)?,
        total: int(row, first + 4)?,
        retries_unknown: int(row, first + 5)? == Retry::UnknownToo as i64,
        retried_to: int(row, first + 6)?,
    })
}

fn bad(what: String) -> Error {
    Error::Row {
        table: "broadcasts",
        what,
    }
}

/// The broadcasts that were to begin by themselves by now.
pub async fn due(read: &DatabaseConnection, now: Timestamp) -> Result<Vec<Broadcast>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM broadcasts AS b
         WHERE b.state = 0 AND b.start_at > 0 AND b.start_at <= ?1 ORDER BY b.start_at"
    );
    let rows = sql::all(read, &sql, [now.0.into()]).await?;
    rows.iter().map(broadcast).collect()
}

/// Every part that there is something to do for: its broadcast is sending, or was interrupted while
/// messages were on their way.
pub async fn at_work(read: &DatabaseConnection) -> Result<Vec<(Broadcast, Part)>, Error> {
    let sql = format!(
        "SELECT {COLUMNS}, {PART_COLUMNS} FROM broadcasts AS b
         JOIN broadcast_parts AS p ON p.broadcast_id = b.id
         WHERE b.state = 1 OR b.state = 2 AND EXISTS (SELECT 1 FROM broadcast_chunks AS c
             WHERE c.broadcast_id = p.broadcast_id AND c.account_id = p.account_id
                 AND c.sending > 0)
         ORDER BY b.id, p.account_id"
    );
    let rows = sql::all(read, &sql, []).await?;
    rows.iter()
        .map(|row| Ok((broadcast(row)?, part(row, 15)?)))
        .collect()
}

/// A part and its broadcast as they are now.
pub async fn part_now(
    read: &DatabaseConnection,
    id: BroadcastId,
    account: AccountId,
) -> Result<Option<(Broadcast, Part)>, Error> {
    let sql = format!(
        "SELECT {COLUMNS}, {PART_COLUMNS} FROM broadcasts AS b
         JOIN broadcast_parts AS p ON p.broadcast_id = b.id
         WHERE b.id = ?1 AND p.account_id = ?2"
    );
    let row = sql::first(read, &sql, [id.0.into(), account.0.into()]).await?;
    row.map(|row| Ok((broadcast(&row)?, part(&row, 15)?)))
        .transpose()
}

/// One broadcast, and its accounts.
pub async fn of(read: &DatabaseConnection, id: BroadcastId) -> Result<Option<Broadcast>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM broadcasts AS b WHERE b.id = ?1");
    let row = sql::first(read, &sql, [id.0.into()]).await?;
    row.as_ref().map(broadcast).transpose()
}

/// The parts of a broadcast, by account.
pub async fn parts(read: &DatabaseConnection, id: BroadcastId) -> Result<Vec<Part>, Error> {
    let sql = format!(
        "SELECT {PART_COLUMNS} FROM broadcast_parts AS p WHERE p.broadcast_id = ?1
         ORDER BY p.account_id"
    );
    let rows = sql::all(read, &sql, [id.0.into()]).await?;
    rows.iter().map(|row| part(row, 0)).collect()
}

/// At most `limit` broadcasts with ids below `before`, newest first.
pub async fn list(
    read: &DatabaseConnection,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<Broadcast>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM broadcasts AS b WHERE b.id < ?1 ORDER BY b.id DESC LIMIT ?2"
    );
    let before = before.unwrap_or(i64::MAX);
    let rows = sql::all(read, &sql, [before.into(), i64::from(limit).into()]).await?;
    rows.iter().map(broadcast).collect()
}

/// How far a broadcast has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether `total` is all of them.
    pub frozen: bool,
    pub total: i64,
    /// Recipients with a message on its way.
    pub sending: i64,
    pub sent: i64,
    pub failed: i64,
    pub skipped: i64,
    pub unknown: i64,
    /// Recipients that ended in 1000 s, as measured last.
    pub rate: i64,
}

impl Progress {
    /// Recipients with whom all is over.
    pub fn ended(&self) -> i64 {
        self.sent + self.failed + self.skipped + self.unknown
    }

    /// Recipients whose turn has not come.
    pub fn planned(&self) -> i64 {
        self.total - self.ended() - self.sending
    }

    /// How long the rest takes at the measured rate.
    pub fn left(&self) -> Option<Duration> {
        let rest = u64::try_from(self.total - self.ended()).ok()?;
        let rate = u64::try_from(self.rate).ok().filter(|rate| *rate > 0)?;
        Some(Duration::from_secs(
            rest.saturating_mul(1000).div_ceil(rate),
        ))
    }
}

/// Counts a broadcast's recipients by its chunks.
pub async fn progress(read: &DatabaseConnection, id: BroadcastId) -> Result<Progress, Error> {
    let row = sql::first(
        read,
        "SELECT CASE WHEN p.reading = 0 THEN 1 ELSE 0 END, p.total, p.rate, c.sending, c.sent,
             c.failed, c.skipped, c.unknown
         FROM (SELECT CAST(coalesce(sum(CASE WHEN phase < 2 THEN 1 ELSE 0 END), 0) AS BIGINT)
                 AS reading,
                 CAST(coalesce(sum(total), 0) AS BIGINT) AS total,
                 CAST(coalesce(sum(rate), 0) AS BIGINT) AS rate
             FROM broadcast_parts WHERE broadcast_id = ?1) AS p
         CROSS JOIN (SELECT CAST(coalesce(sum(sending), 0) AS BIGINT) AS sending,
                 CAST(coalesce(sum(sent), 0) AS BIGINT) AS sent,
                 CAST(coalesce(sum(failed), 0) AS BIGINT) AS failed,
                 CAST(coalesce(sum(skipped), 0) AS BIGINT) AS skipped,
                 CAST(coalesce(sum(unknown), 0) AS BIGINT) AS unknown
             FROM broadcast_chunks WHERE broadcast_id = ?1) AS c",
        [id.0.into()],
    )
    .await?;
    let Some(row) = row else {
        return Ok(Progress::default());
    };
    Ok(Progress {
        frozen: flag(&row, 0)?,
        total: int(&row, 1)?,
        rate: int(&row, 2)?,
        sending: int(&row, 3)?,
        sent: int(&row, 4)?,
        failed: int(&row, 5)?,
        skipped: int(&row, 6)?,
        unknown: int(&row, 7)?,
    })
}
