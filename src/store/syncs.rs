//! Table `syncs`: how far the comparison of an account's followers with the platform's list has
//! come. Everything it needs to go on after a crash is here.

use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult};

use crate::clock::Timestamp;
use crate::journey::ids::{AccountId, FollowerId};
use crate::store::shards::Sharding;
use crate::store::sql::{self, Rows, flag, instant, int, small, text};
use crate::store::{Error, Store, followers, receipts};

/// Rows that one look for unlisted or outdated followers passes over: it reads everybody's, so that no
/// index has to be kept up with every follow.
const WINDOW: i64 = 200_000;

/// Longest detail that is kept, in bytes.
const DETAIL_BYTES_MAX: usize = 300;

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $one:ident = $number:literal, $word:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $one = $number),* }

        impl $name {
            fn from_number(number: i64) -> Result<Self, Error> {
                match number {
                    $($number => Ok(Self::$one),)*
                    _ => Err(Error::Row {
                        table: "syncs",
                        what: format!("{} {number}", stringify!($name)),
                    }),
                }
            }

            /// The word that API and pages use.
            pub fn word(self) -> &'static str {
                match self { $(Self::$one => $word),* }
            }
        }
    };
}

numbered! {
    /// How a sync stands. The numbers are stored.
    State {
        /// None was ever begun.
        Never = 0, "never";
        Running = 1, "running";
        Completed = 2, "completed";
        /// A person has to act.
        Failed = 3, "failed";
        Cancelled = 4, "cancelled";
    }
}

numbered! {
    /// What a sync is doing. The numbers are stored.
    Phase {
        /// Reads the platform's list and takes in whom we missed.
        Listing = 1, "listing";
        /// Asks for those whom the list did not have.
        Sweeping = 2, "sweeping";
        /// Asks for everybody's language and tags.
        Refreshing = 3, "refreshing";
    }
}

numbered! {
    /// Why a sync was begun. The numbers are stored.
    Reason {
        /// By API, console or command.
        Asked = 0, "asked";
        /// The server had been down.
        Downtime = 1, "downtime";
        Daily = 2, "daily";
    }
}

/// The latest sync of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    pub account: AccountId,
    /// Since when the account is ours.
    pub known_since: Timestamp,
    pub number: i64,
    pub state: State,
    pub phase: Phase,
    pub reason: Reason,
    pub refresh: bool,
    /// Where the next page of the list begins; empty for the first.
    pub next_openid: String,
    /// Follower up to whom the present phase has come.
    pub after_id: i64,
    pub total: u32,
    pub listed: u32,
    pub found: u32,
    pub gone: u32,
    pub enrolled: u32,
    pub refreshed: u32,
    /// Calls that failed in a row.
    pub failures: u32,
    /// Nothing is asked before this instant.
    pub resume_at: Timestamp,
    /// Why it waits, or how it ended.
    pub detail: String,
    pub started_at: Timestamp,
    /// When something was last written down.
    pub changed_at: Timestamp,
    /// Zero while it runs.
    pub ended_at: Timestamp,
}

impl Sync {
    /// Of an account that had none.
    pub fn never(account: AccountId) -> Self {
        let never = Timestamp::default();
        Self {
            account,
            known_since: never,
            number: 0,
            state: State::Never,
            phase: Phase::Listing,
            reason: Reason::Asked,
            refresh: false,
            next_openid: String::new(),
            after_id: 0,
            total: 0,
            listed: 0,
            found: 0,
            gone: 0,
            enrolled: 0,
            refreshed: 0,
            failures: 0,
            resume_at: never,
            detail: String::new(),
            started_at: never,
            changed_at: never,
            ended_at: never,
        }
    }
}

const COLUMNS: &str = "account_id, known_since, number, state, phase, reason, refresh, next_openid,
    after_id, total, listed, found, gone, enrolled, refreshed, failures, resume_at, detail,
    started_at, changed_at, ended_at";

fn sync(row: &QueryResult) -> Result<Sync, Error> {
    Ok(Sync {
        account: AccountId(int(row, 0)?),
        known_since: instant(row, 1)?,
        number: int(row, 2)?,
        state: State::from_number(int(row, 3)?)?,
        phase: Phase::from_number(int(row, 4)?)?,
        reason: Reason::from_number(int(row, 5)?)?,
        refresh: flag(row, 6)?,
        next_openid: text(row, 7)?,
        after_id: int(row, 8)?,
        total: small(row, 9, "syncs")?,
        listed: small(row, 10, "syncs")?,
        found: small(row, 11, "syncs")?,
        gone: small(row, 12, "syncs")?,
        enrolled: small(row, 13, "syncs")?,
        refreshed: small(row, 14, "syncs")?,
        failures: small(row, 15, "syncs")?,
        resume_at: instant(row, 16)?,
        detail: text(row, 17)?,
        started_at: instant(row, 18)?,
        changed_at: instant(row, 19)?,
        ended_at: instant(row, 20)?,
    })
}

/// The latest sync of every account.
pub async fn all(read: &DatabaseConnection) -> Result<Vec<Sync>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM syncs");
    let rows = sql::all(read, &sql, []).await?;
    rows.iter().map(sync).collect()
}

/// The latest sync of an account; `None` before the account was first run with.
pub async fn of(
    connection: &impl ConnectionTrait,
    account: AccountId,
) -> Result<Option<Sync>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM syncs WHERE account_id = ?1");
    let row = sql::first(connection, &sql, [account.0.into()]).await?;
    row.as_ref().map(sync).transpose()
}

fn account_rows(accounts: &[AccountId]) -> Rows<'_, AccountId> {
    Rows::of(accounts).int("account", |account| account.0)
}

/// Notes since when these accounts are ours; those that were noted before stay as they are.
pub async fn know(store: &Store, accounts: Vec<AccountId>, now: Timestamp) -> Result<(), Error> {
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                let sql = format!(
                    "INSERT INTO syncs ({COLUMNS})
                     SELECT r.account, ?1, 0, 0, 1, 0, 0, '', 0, 0, 0, 0, 0, 0, 0, 0, 0, '', 0, 0, 0
                     FROM {{rows}} WHERE true ON CONFLICT DO NOTHING"
                );
                sql::run_over(tx, &sql, account_rows(&accounts), [now.0.into()]).await?;
                Ok(())
            })
        })
        .await
}

/// Begins a sync of each account, unless one is running: then that one goes on, and takes the
/// refresh with it if it was asked for.
pub async fn begin(
    store: &Store,
    accounts: Vec<AccountId>,
    reason: Reason,
    refresh: bool,
    now: Timestamp,
) -> Result<(), Error> {
    know(store, accounts.clone(), now).await?;
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                let refresh = i64::from(refresh);
                sql::run_over(
                    tx,
                    "UPDATE syncs SET refresh = CASE WHEN refresh < ?1 THEN ?1 ELSE refresh END
                     WHERE account_id IN (SELECT r.account FROM {rows}) AND state = 1",
                    account_rows(&accounts),
                    [refresh.into()],
                )
                .await?;
                sql::run_over(
                    tx,
                    "UPDATE syncs SET number = number + 1, state = 1, phase = 1, reason = ?2,
                         refresh = ?1, next_openid = '', after_id = 0, total = 0, listed = 0,
                         found = 0, gone = 0, enrolled = 0, refreshed = 0, failures = 0,
                         resume_at = 0, detail = '', started_at = ?3, changed_at = ?3, ended_at = 0
                     WHERE account_id IN (SELECT r.account FROM {rows}) AND state <> 1",
                    account_rows(&accounts),
                    [refresh.into(), (reason as i64).into(), now.0.into()],
                )
                .await?;
                Ok(())
            })
        })
        .await?;
    store.ask_to_reconcile();
    Ok(())
}

/// Ends a sync that is running; what it has found stays.
pub async fn cancel(store: &Store, account: AccountId, now: Timestamp) -> Result<(), Error> {
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                sql::run(
                    tx,
                    "UPDATE syncs SET state = 4, next_openid = '', detail = '', changed_at = ?2,
                         ended_at = ?2
                     WHERE account_id = ?1 AND state = 1",
                    [account.0.into(), now.0.into()],
                )
                .await?;
                Ok(())
            })
        })
        .await
}

fn openid_rows(openids: &[String]) -> Rows<'_, String> {
    Rows::of(openids).text("openid", String::clone)
}

/// Which of a page's people are news: unknown to us, or not known to follow.
pub async fn news(
    read: &DatabaseConnection,
    account: AccountId,
    openids: &[String],
) -> Result<Vec<String>, Error> {
    let rows = sql::all_over(
        read,
        // One look for each: a join could walk all of the account's followers for a page of them.
        "SELECT r.openid FROM {rows}
         WHERE coalesce((SELECT f.following FROM followers AS f
             WHERE f.account_id = ?1 AND f.openid = r.openid), 0) <> 1",
        openid_rows(openids),
        [account.0.into()],
    )
    .await?;
    rows.iter().map(|row| text(row, 0)).collect()
}

/// Writes down how far a sync has come, unless it was ended meanwhile or is another one by now;
/// answers the row as it stands then.
///
/// `known_at` is when it was last written down, as far as we know: another node may go on with it.
pub async fn advance(
    store: &Store,
    sync: &Sync,
    known_at: Timestamp,
) -> Result<Option<Sync>, Error> {
    let sync = sync.clone();
    let (account, number) = (sync.account, sync.number);
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                let detail = receipts::cut(&sync.detail, DETAIL_BYTES_MAX);
                sql::run(
                    tx,
                    "UPDATE syncs SET state = ?3, phase = ?4, next_openid = ?5, after_id = ?6,
                         total = ?7, listed = ?8, found = ?9, gone = ?10, enrolled = ?11,
                         refreshed = ?12, failures = ?13, resume_at = ?14, detail = ?15,
                         changed_at = ?16, ended_at = ?17
                     WHERE account_id = ?1 AND number = ?2 AND state = 1 AND changed_at = ?18",
                    [
                        account.0.into(),
                        number.into(),
                        (sync.state as i64).into(),
                        (sync.phase as i64).into(),
                        sync.next_openid.as_str().into(),
                        sync.after_id.into(),
                        i64::from(sync.total).into(),
                        i64::from(sync.listed).into(),
                        i64::from(sync.found).into(),
                        i64::from(sync.gone).into(),
                        i64::from(sync.enrolled).into(),
                        i64::from(sync.refreshed).into(),
                        i64::from(sync.failures).into(),
                        sync.resume_at.0.into(),
                        detail.into(),
                        sync.changed_at.0.into(),
                        sync.ended_at.0.into(),
                        known_at.0.into(),
                    ],
                )
                .await?;
                Ok(())
            })
        })
        .await?;
    of(store.read(), account).await
}

/// Notes that a sync has found these people in the list. Somebody who was forgotten stands under
/// the pseudonym and needs no mark.
pub async fn mark(store: &Store, sync: &Sync, listed: Vec<String>) -> Result<(), Error> {
    let (account, number) = (sync.account, sync.number);
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                sql::run_over(
                    tx,
                    "UPDATE followers SET listed_in = ?2 WHERE id IN
                         (SELECT f.id FROM {rows} CROSS JOIN followers AS f
                          WHERE f.account_id = ?1 AND f.openid = r.openid)",
                    openid_rows(&listed),
                    [account.0.into(), number.into()],
                )
                .await?;
                Ok(())
            })
        })
        .await
}

/// Some of an account's followers, by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub followers: Vec<(FollowerId, String)>,
    /// Where the next stretch begins; `None` after the last.
    pub next: Option<i64>,
}

/// The followers that come next in a sync's phase, at most `limit`: while it sweeps, those whom it
/// has not found in the list. An act since the sync began shows
/// that somebody follows, whatever an older page of the list says.
pub async fn stretch(read: &DatabaseConnection, sync: &Sync, limit: u32) -> Result<Stretch, Error> {
    let unlisted = sync.phase == Phase::Sweeping;
    let highest = followers::highest_id(read).await?;
    let window = Sharding::of(read).follower(WINDOW, AccountId::default()).0;
    let until = sync.after_id.saturating_add(window).min(highest);
    // `+` keeps the planner from walking the account's whole index and sorting it.
    let rows = sql::all(
        read,
        "SELECT f.id, f.openid FROM followers AS f
         WHERE f.id > ?1 AND f.id <= ?2 AND +f.account_id = ?3 AND f.following = 1
             AND (?4 = 0 OR f.listed_in <> ?5 AND f.last_event_at < ?6)
         ORDER BY f.id LIMIT ?7",
        [
            sync.after_id.into(),
            until.into(),
            sync.account.0.into(),
            i64::from(unlisted).into(),
            sync.number.into(),
            sync.started_at.0.into(),
            i64::from(limit).into(),
        ],
    )
    .await?;
    let mut followers = Vec::with_capacity(rows.len());
    for row in &rows {
        followers.push((FollowerId(int(row, 0)?), text(row, 1)?));
    }
    let full = followers.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let next = match followers.last() {
        Some((last, _)) if full => Some(last.0),
        _ => (until < highest).then_some(until),
    };
    Ok(Stretch { followers, next })
}

/// Notes that the machine runs, so that the next start knows how long it was away.
pub async fn beat(store: &Store, now: Timestamp) -> Result<(), Error> {
    let node = store.node();
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                let sql = "UPDATE nodes SET seen_at = ?1 WHERE id = ?2";
                sql::run(tx, sql, [now.0.into(), node.into()]).await?;
                Ok(())
            })
        })
        .await
}

/// When a node was last noted to run; zero for never.
pub async fn last_beat(read: &DatabaseConnection) -> Result<Timestamp, Error> {
    let row = sql::first(read, "SELECT coalesce(max(seen_at), 0) FROM nodes", []).await?;
    row.map_or(Ok(Timestamp::default()), |row| instant(&row, 0))
}
