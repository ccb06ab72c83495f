//! Table `health`: what became of each account's sends, by hour; and what is known of accounts only
//! while we run.
//!
//! Commits count into memory, and every few seconds one write adds the sums to the rows: the way of
//! a message pays nothing for it, and a crash loses at most those seconds of counts. Nothing is
//! decided by these rows; `outcomes` holds the truth about each step.

mod tallies;

use std::collections::HashMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, SystemClock, Timestamp, next_look};
use crate::journey::answer::{Answer, AnswerClass};
use crate::journey::carrier::Carrier;
use crate::journey::event::Event;
use crate::journey::ids::AccountId;
use crate::journey::outcome::Outcome;
use crate::policy::fare::Fare;
use crate::policy::fit::Surprise;
use crate::policy::grant::Kind as GrantKind;
use crate::policy::profile::{Combine, Profile};
use crate::policy::settle::{AccountNews, Settled};
use crate::store::sql::{self, Rows, int};
use crate::store::{Error, Store, replays, sessions};

pub use tallies::{AccountRest, Tallies};

/// How often counts are written.
const FLUSH_EVERY: Duration = Duration::from_secs(5);

/// How many hours of sums are kept.
const HOURS_KEPT: i64 = 31 * 24;

const HOUR_MS: i64 = 3_600_000;

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$what:meta])* $variant:ident = $number:literal $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$what])* $variant = $number),* }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The number it is stored under.
            pub fn number(self) -> i64 {
                i64::from(self as u8)
            }

            /// The one stored under `number`.
            pub fn from_number(number: i64) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.number() == number)
            }

            /// The word that API and metrics use.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    };
}

numbered! {
    /// What is counted.
    Kind {
        /// Sends that the platform took.
        Accepted = 1 "accepted",
        /// Calls that it refused, uploads and tokens for them included.
        Refused = 2 "refused",
        /// Sends whose answer was lost.
        Unknown = 3 "unknown",
        /// Steps that will be tried again.
        Retried = 4 "retried",
        GrantOpened = 5 "grant_opened",
        /// Messages that a grant paid for, where the platform may have taken them.
        GrantSpent = 6 "grant_spent",
    }
}

numbered! {
    /// What was done about a refusal.
    Reaction {
        /// The step is tried again.
        TriedAgain = 1 "tried_again",
        /// The step waits for the follower to act.
        Held = 2 "held",
        /// The step ended refused.
        Ended = 3 "ended",
        /// The step ended failed: it was tried too often, or cannot be sent.
        GivenUp = 4 "given_up",
        /// The account rests to the next minute, and sends slower.
        RestedMinute = 5 "rested_minute",
        /// The account rests until its calls are counted anew.
        RestedDay = 6 "rested_day",
        /// A person has to act.
        Attention = 7 "needs_attention",
        /// The interface rests; the account goes on.
        InterfaceRested = 8 "interface_rested",
        /// The follower counts as gone: every passage ended.
        FollowerLeft = 9 "follower_left",
    }
}

/// What a sum is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub account: AccountId,
    pub kind: Kind,
    /// Number of a carrier or of a kind of grant.
    pub part: i64,
    /// The platform's code of a refusal; 0 for none.
    pub code: i64,
    pub reaction: Option<Reaction>,
}

/// A sum of one hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sum {
    /// Hours since 1970.
    pub hour: i64,
    pub key: Key,
    pub n: u64,
}

/// The hour that an instant lies in, counted since 1970.
pub fn hour_of(at: Timestamp) -> i64 {
    at.0.div_euclid(HOUR_MS)
}

/// What one commit adds.
#[derive(Debug, Default)]
pub(super) struct Counts {
    sums: HashMap<Key, u64>,
    /// Messages that were refused although the profile allows them.
    surprises: Vec<(AccountId, Surprise)>,
}

impl Counts {
    fn add(&mut self, account: AccountId, kind: Kind, part: i64) {
        let key = Key {
            account,
            kind,
            part,
            code: 0,
            reaction: None,
        };
        *self.sums.entry(key).or_default() += 1;
    }

    /// An event may have opened grants.
    pub(super) fn event(&mut self, account: AccountId, profile: &Profile, event: &Event) {
        for rule in profile.grants.iter().filter(|rule| rule.opens(event)) {
            // Under the kind that it is spent under.
            let kind = match profile.combine {
                Combine::Widest => profile.widest_kind().unwrap_or(rule.kind),
                Combine::SideBySide => rule.kind,
            };
            self.add(account, Kind::GrantOpened, kind.number());
        }
    }

    /// An answer was settled.
    pub(super) fn settled(
        &mut self,
        account: AccountId,
        fare: Fare,
        answer: &Answer,
        settled: &Settled,
    ) {
        let carrier = fare.carrier.number();
        let surprise = settled.surprise.map(|surprise| (account, surprise));
        self.surprises.extend(surprise);
        let entry = settled.entries.first().map(|entry| entry.outcome);
        if entry == Some(Outcome::Retried) || answer.class == AnswerClass::Unknown {
            let again = settled.entries.iter().all(|entry| entry.steps == 0);
            if again {
                self.add(account, Kind::Retried, carrier);
            }
        }
        let kind = match answer.class {
            AnswerClass::Accepted => Kind::Accepted,
            AnswerClass::Unknown => Kind::Unknown,
            AnswerClass::NotCarried => return,
            AnswerClass::NotBefore(_) if answer.code.is_none() => return,
            _ => {
                let key = Key {
                    account,
                    kind: Kind::Refused,
                    part: carrier,
                    code: answer.code.unwrap_or(0),
                    reaction: reaction(answer.class, settled.news, entry),
                };
                *self.sums.entry(key).or_default() += 1;
                return;
            }
        };
        self.add(account, kind, carrier);
        if let Some(grant) = fare.grant {
            self.add(account, Kind::GrantSpent, grant.number());
        }
    }
}

fn reaction(class: AnswerClass, news: AccountNews, entry: Option<Outcome>) -> Option<Reaction> {
    let by_news = match news {
        AccountNews::MinuteUsedUp => Some(Reaction::RestedMinute),
        AccountNews::DayUsedUp => Some(Reaction::RestedDay),
        AccountNews::NeedsAttention => Some(Reaction::Attention),
        AccountNews::None => None,
    };
    let by_class = match class {
        AnswerClass::NotBefore(_) => Some(Reaction::InterfaceRested),
        AnswerClass::Unsubscribed => Some(Reaction::FollowerLeft),
        _ => None,
    };
    let by_entry = entry.and_then(|outcome| match outcome {
        Outcome::Retried => Some(Reaction::TriedAgain),
        Outcome::Held => Some(Reaction::Held),
        Outcome::Refused => Some(Reaction::Ended),
        Outcome::Failed => Some(Reaction::GivenUp),
        _ => None,
    });
    by_news.or(by_class).or(by_entry)
}

/// Writes counts every few seconds until `stop`. What is counted after that, `flush` writes.
pub async fn keep(
    store: std::sync::Arc<Store>,
    clock: std::sync::Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut pruned_in = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = next_look(clock.as_ref(), FLUSH_EVERY) => {}
        }
        let now = clock.now();
        if let Err(error) = flush(&store).await {
            tracing::warn!(%error, "counts of accounts not written: they are kept for later");
        }
        if hour_of(now) != pruned_in && store.leases().hold_server() {
            pruned_in = hour_of(now);
            if let Err(error) = prune(&store, now).await {
                tracing::warn!(%error, "old counts of accounts not deleted");
            }
        }
    }
}

/// Adds what was counted to the rows, in one write, and to the metrics.
///
/// # Errors
/// When it cannot be written: then it is counted on.
pub async fn flush(store: &Store) -> Result<(), Error> {
    let counts = std::mem::take(&mut store.health().pending().counts);
    if counts.is_empty() {
        return Ok(());
    }
    let mut rows: Vec<_> = counts
        .iter()
        .map(|(&(hour, key), &n)| (hour, key, i64::try_from(n).unwrap_or(i64::MAX)))
        .collect();
    // All nodes in one order: two that add to the same rows wait for each other, and never both.
    rows.sort_unstable_by_key(|&(hour, key, _)| (hour, key));
    let written = store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                sql::run_over(
                    tx,
                    "INSERT INTO health (account_id, hour, kind, part, code, reaction, n)
                     SELECT r.account_id, r.hour, r.kind, r.part, r.code, r.reaction, r.n
                     FROM {rows} WHERE true
                     ON CONFLICT (account_id, hour, kind, part, code, reaction)
                     DO UPDATE SET n = health.n + excluded.n",
                    Rows::of(&rows)
                        .int("account_id", |(_, key, _)| key.account.0)
                        .int("hour", |(hour, ..)| *hour)
                        .int("kind", |(_, key, _)| key.kind.number())
                        .int("part", |(_, key, _)| key.part)
                        .int("code", |(_, key, _)| key.code)
                        .int("reaction", |(_, key, _)| {
                            key.reaction.map_or(0, Reaction::number)
                        })
                        .int("n", |(.., n)| *n),
                    [],
                )
                .await?;
                Ok(())
            })
        })
        .await;
    match written {
        Ok(()) => {
            for ((_, key), n) in counts {
                measure(store, key, n);
            }
            Ok(())
        }
        Err(error) => {
            let mut pending = store.health().pending();
            for (key, n) in counts {
                *pending.counts.entry(key).or_default() += n;
            }
            Err(error)
        }
    }
}

fn measure(store: &Store, key: Key, n: u64) {
    let account = store.knowledge().account(key.account);
    let account = account.map_or_else(|| key.account.to_string(), |one| one.journey.key.clone());
    match key.kind {
        Kind::Accepted | Kind::Refused | Kind::Unknown => {
            let carrier = Carrier::from_number(key.part).map_or("", Carrier::word);
            metrics::counter!("dripwheel_sends_total", "account" => account.clone(),
                "carrier" => carrier, "result" => key.kind.word())
            .increment(n);
            if key.kind == Kind::Refused {
                let reaction = key.reaction.map_or("", Reaction::word);
                metrics::counter!("dripwheel_refusals_total", "account" => account,
                    "code" => key.code.to_string(), "reaction" => reaction)
                .increment(n);
            }
        }
        Kind::Retried => {
            metrics::counter!("dripwheel_retries_total", "account" => account).increment(n);
        }
        Kind::GrantOpened | Kind::GrantSpent => {
            let kind = GrantKind::from_number(key.part).map_or("", GrantKind::word);
            metrics::counter!("dripwheel_grants_total", "account" => account, "kind" => kind,
                "act" => key.kind.word())
            .increment(n);
        }
    }
}

async fn prune(store: &Store, now: Timestamp) -> Result<(), Error> {
    let before = hour_of(now) - HOURS_KEPT;
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                let sql = "DELETE FROM health WHERE hour < ?1";
                sql::run(tx, sql, [before.into()]).await?;
                let wall = SystemClock.now();
                replays::prune(tx, wall).await?;
                sessions::prune(tx, wall).await
            })
        })
        .await
}

/// An account's sums from an hour on, what is not written yet included; in order.
pub async fn since(store: &Store, account: AccountId, hour: i64) -> Result<Vec<Sum>, Error> {
    // The rows first: what is written between the two looks is missed for a moment, never doubled.
    let rows = sql::all(
        store.read(),
        "SELECT hour, kind, part, code, reaction, n FROM health
         WHERE account_id = ?1 AND hour >= ?2",
        [account.0.into(), hour.into()],
    )
    .await?;
    let mut sums = store.health().unwritten(account);
    sums.retain(|sum| sum.hour >= hour);
    for row in &rows {
        let Some(kind) = Kind::from_number(int(row, 1)?) else {
            continue;
        };
        let key = Key {
            account,
            kind,
            part: int(row, 2)?,
            code: int(row, 3)?,
            reaction: Reaction::from_number(int(row, 4)?),
        };
        let (hour, n) = (int(row, 0)?, u64::try_from(int(row, 5)?).unwrap_or(0));
        match sums
            .iter_mut()
            .find(|sum| sum.hour == hour && sum.key == key)
        {
            Some(sum) => sum.n += n,
            None => sums.push(Sum { hour, key, n }),
        }
    }
    sums.sort_unstable();
    Ok(sums)
}

/// How many sends ended unknown from an instant on, by account.
pub async fn unknown_by_account(
    read: &sea_orm::DatabaseConnection,
    from: Timestamp,
) -> Result<Vec<(AccountId, u32)>, Error> {
    let rows = sql::all(
        read,
        "SELECT account_id, count(*) FROM outcomes WHERE result = 7 AND at >= ?1
         GROUP BY account_id",
        [from.0.into()],
    )
    .await?;
    rows.iter()
        .map(|row| {
            let n = u32::try_from(int(row, 1)?).unwrap_or(u32::MAX);
            Ok((AccountId(int(row, 0)?), n))
        })
        .collect()
}

/// How many sends of an account ended unknown from an instant on, counted up to `limit`.
///
/// `7` is written out so that the planner can use the index over just these rows.
pub async fn unknown_since(
    read: &sea_orm::DatabaseConnection,
    account: AccountId,
    from: Timestamp,
    limit: u32,
) -> Result<u32, Error> {
    let row = sql::first(
        read,
        "SELECT count(*) FROM (SELECT 1 FROM outcomes
             WHERE result = 7 AND at >= ?2 AND account_id = ?1 LIMIT ?3) AS newest",
        [account.0.into(), from.0.into(), limit.into()],
    )
    .await?;
    let n = row.map_or(Ok(0), |row| int(&row, 0))?;
    Ok(u32::try_from(n).unwrap_or(limit))
}
