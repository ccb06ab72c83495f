//! What a commit adds to the sums.

use std::collections::HashMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use sea_orm::DatabaseTransaction;

use super::{COLUMNS, Kind, LEFT_WITHIN, Sum, day_of};
use crate::clock::Timestamp;
use crate::journey::ids::{AccountId, EnrollmentId, FollowerId, VersionId};
use crate::journey::link::Click;
use crate::journey::outcome::Outcome;
use crate::store::batch::Batch;
use crate::store::load::Person;
use crate::store::sql::{self, Rows, int, small};
use crate::store::tables::{Recorded, Tables};
use crate::store::{Error, Knowledge};

/// Longest that an answer is on its way: a send of an earlier intent cannot have ended since.
const CALL_MAX: Duration = Duration::from_secs(300);

/// A step that was sent, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sent {
    pub(crate) at: Timestamp,
    pub(crate) enrollment: EnrollmentId,
    pub(crate) step: u16,
    pub(crate) version: VersionId,
}

/// Somebody who left, and when.
pub(crate) type Leaving = (FollowerId, Timestamp);

/// What tells sums apart: version, day, account, step, link, kind, code and language.
type Key<'a> = (VersionId, i64, AccountId, u16, u16, i64, i64, &'a str);

/// Adds up what one commit writes.
struct Adding<'a> {
    knowledge: &'a Knowledge,
    zones: HashMap<AccountId, TimeZone>,
    sums: HashMap<Key<'a>, i64>,
}

impl<'a> Adding<'a> {
    fn day(&mut self, account: AccountId, at: Timestamp) -> i64 {
        let zone = self.zones.entry(account).or_insert_with(|| {
            let known = self.knowledge.account(account);
            known.map_or(TimeZone::UTC, |known| known.journey.zone.clone())
        });
        day_of(at, zone)
    }

    fn add(
        &mut self,
        person: &'a Person,
        (version, step, link): (VersionId, u16, u16),
        (kind, code, at): (Kind, i64, Timestamp),
        n: i64,
    ) {
        let follower = &person.passages.follower;
        let day = self.day(follower.account, at);
        let language = follower.language.as_deref().unwrap_or_default();
        let key = (
            version,
            day,
            follower.account,
            step,
            link,
            kind.number(),
            code,
            language,
        );
        *self.sums.entry(key).or_default() += n;
    }

    fn person(&mut self, person: &'a Person) {
        let before = person.before.as_ref();
        let known = before.map_or(0, |before| before.enrollments.len());
        for new in person.passages.enrollments.iter().skip(known) {
            let what = (Kind::Enrolled, 0, new.enrolled_at);
            self.add(person, (new.version, 0, 0), what, 1);
        }
        let clicked = before.map_or(&[][..], |before| &before.clicks[..]);
        for click in &person.clicks {
            let same = |one: &&Click| {
                (one.enrollment, one.step, one.link) == (click.enrollment, click.step, click.link)
            };
            let was = clicked.iter().find(same).map_or(0, |one| one.count);
            let mut passages = person.passages.enrollments.iter();
            let Some(of) = passages.find(|one| one.id == click.enrollment) else {
                continue;
            };
            let place = (of.version, click.step, click.link);
            let more = i64::from(click.count) - i64::from(was);
            if was == 0 {
                self.add(person, place, (Kind::Clicked, 0, click.first_at), 1);
            }
            if more > 0 {
                self.add(person, place, (Kind::Clicks, 0, click.first_at), more);
            }
        }
    }
}

impl<T: Tables> Batch<'_, T> {
    /// The sums of what this commit writes, in the order of their keys.
    ///
    /// # Errors
    /// When it cannot be read what those who left were sent.
    pub(in crate::store) async fn sums(&self) -> Result<Vec<Sum>, Error> {
        let left = self.left_after().await?;
        let mut adding = Adding {
            knowledge: self.knowledge,
            zones: HashMap::new(),
            sums: HashMap::new(),
        };
        for (_, version, entry) in &self.entries {
            let Some(person) = self.people.by_id.get(&entry.enrollment.follower()) else {
                continue;
            };
            let code = match entry.outcome {
                Outcome::Refused | Outcome::Failed => entry.code.unwrap_or_default(),
                _ => 0,
            };
            let what = (Kind::Outcome(entry.outcome), code, entry.at);
            for further in 0..entry.steps.max(1) {
                let place = (*version, entry.step.saturating_add(further), 0);
                adding.add(person, place, what, 1);
            }
        }
        self.people
            .by_id
            .values()
            .for_each(|one| adding.person(one));
        for (sent, at) in left {
            if let Some(person) = self.people.by_id.get(&sent.enrollment.follower()) {
                adding.add(person, (sent.version, sent.step, 0), (Kind::Left, 0, at), 1);
            }
        }
        let sums = adding.sums.into_iter();
        let sums = sums.map(
            |((version, day, account, step, link, kind, code, language), n)| Sum {
                version,
                day,
                account,
                step,
                link,
                kind,
                code,
                language: language.to_owned(),
                n,
            },
        );
        let mut sums: Vec<_> = sums.collect();
        sums.sort_unstable();
        Ok(sums)
    }

    /// What each of those who left had been sent last, if it was within the hour.
    async fn left_after(&self) -> Result<Vec<(Sent, Timestamp)>, Error> {
        let lately = |(id, at): &&Leaving| {
            let person = self.people.by_id.get(id);
            let asked_from = at.minus(LEFT_WITHIN + CALL_MAX);
            person.is_some_and(|one| one.passages.follower.last_sent_at >= asked_from)
        };
        let leaving: Vec<_> = self.left.iter().filter(lately).copied().collect();
        if leaving.is_empty() {
            return Ok(Vec::new());
        }
        let mut sent = self.tables.sent_before(&leaving).await?;
        sent.extend(self.entries.iter().filter_map(sent_now));
        let last = leaving.iter().filter_map(|(id, at)| {
            let before = |one: &&Sent| {
                one.enrollment.follower() == *id && one.at <= *at && one.at > at.minus(LEFT_WITHIN)
            };
            let last = sent.iter().filter(before).max()?;
            Some((*last, *at))
        });
        Ok(last.collect())
    }
}

fn sent_now((_, version, entry): &Recorded) -> Option<Sent> {
    (entry.outcome == Outcome::Sent).then_some(Sent {
        at: entry.at,
        enrollment: entry.enrollment,
        step: entry.step,
        version: *version,
    })
}

/// What was sent to people within the hour before they left.
pub(in crate::store) async fn sent_before(
    tx: &DatabaseTransaction,
    leaving: &[Leaving],
) -> Result<Vec<Sent>, Error> {
    // Both bounds once more for all: where outcomes stand by day, only those days are looked at.
    let first = leaving.iter().map(|(_, at)| *at).min();
    let last = leaving.iter().map(|(_, at)| *at).max();
    let first = first.unwrap_or_default().minus(LEFT_WITHIN);
    let rows = Rows::of(leaving)
        .int("first", |(id, _)| EnrollmentId::range(*id).0.0)
        .int("last", |(id, _)| EnrollmentId::range(*id).1.0)
        .int("since", |(_, at)| at.minus(LEFT_WITHIN).0)
        .int("until", |(_, at)| at.0);
    let found = "o.enrollment_id BETWEEN r.first AND r.last AND o.at > r.since AND o.at <= r.until
        AND o.at BETWEEN ?1 AND ?2";
    let joined = sql::each(tx, "outcomes", "o", found);
    let select = format!(
        "SELECT o.at, o.enrollment_id, o.step, o.version_id FROM {{rows}} {joined}
         WHERE o.result = 1"
    );
    let values = [first.0.into(), last.unwrap_or_default().0.into()];
    let rows = sql::all_over(tx, &select, rows, values).await?;
    let sent = |row| {
        Ok(Sent {
            at: sql::instant(row, 0)?,
            enrollment: EnrollmentId(int(row, 1)?),
            step: small(row, 2, "outcomes")?,
            version: VersionId(int(row, 3)?),
        })
    };
    rows.iter().map(sent).collect()
}

/// Adds a commit's sums.
pub(in crate::store) async fn append(tx: &DatabaseTransaction, sums: &[Sum]) -> Result<(), Error> {
    let rows = Rows::of(sums)
        .int("version_id", |sum| sum.version.0)
        .int("day", |sum| sum.day)
        .int("account_id", |sum| sum.account.0)
        .int("step", |sum| i64::from(sum.step))
        .int("link", |sum| i64::from(sum.link))
        .int("kind", |sum| sum.kind)
        .int("code", |sum| sum.code)
        .text("language", |sum| sum.language.clone())
        .int("n", |sum| sum.n);
    let insert = format!(
        "INSERT INTO statistics_fresh ({COLUMNS}, n)
         SELECT r.version_id, r.day, r.account_id, r.step, r.link, r.kind, r.code, r.language, r.n
         FROM {{rows}}"
    );
    sql::run_over(tx, &insert, rows, []).await.map(drop)
}
