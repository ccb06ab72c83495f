//! Table `enrollments`.

use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult};

use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::journey::enrollment::{Enrollment, State};
use crate::journey::ids::{AccountId, EnrollmentId, FollowerId, VersionId};
use crate::policy::fare::Fare;
use crate::policy::grant::Kind;
use crate::store::Error;
use crate::store::sql::{self, Rows, flag, instant, int, small, text};

/// The columns of an enrollment under the name `e`, in the order that `enrollment` reads.
pub const COLUMNS: &str = "e.id, e.version_id, e.enrolled_at, e.plan, e.step, e.wake_at,
    e.generation, e.state, e.attempt, e.entry, e.resent";

/// The delivery of an enrollment under the name `d`, if it is being sent.
pub fn sending(on: &impl ConnectionTrait) -> &'static str {
    sql::dialect(
        on,
        "LEFT JOIN deliveries AS d ON d.shard = 0 AND d.account_id = e.account_id
             AND d.due_at = e.wake_at AND d.enrollment_id = e.id AND d.state = 1",
        // The shard stands in the follower's id (`shards`).
        "LEFT JOIN deliveries AS d ON d.shard = (e.id >> 16) & 255
             AND d.account_id = e.account_id AND d.due_at = e.wake_at
             AND d.enrollment_id = e.id AND d.state = 1",
    )
}

/// An enrollment from a row of `COLUMNS` followed by `d.intent_at`.
pub fn enrollment(row: &QueryResult) -> Result<Enrollment, Error> {
    let bad = |what: &str| Error::Row {
        table: "enrollments",
        what: what.to_owned(),
    };
    let enrolled_at = instant(row, 2)?;
    let called_at: Option<i64> = row.try_get_by_index(11)?;
    Ok(Enrollment {
        id: EnrollmentId(int(row, 0)?),
        version: VersionId(int(row, 1)?),
        enrolled_at,
        plan: read_plan(&text(row, 3)?, enrolled_at).ok_or_else(|| bad("plan"))?,
        step: small(row, 4, "enrollments")?,
        wake_at: instant(row, 5)?,
        generation: small(row, 6, "enrollments")?,
        state: State::from_number(int(row, 7)?).ok_or_else(|| bad("state"))?,
        attempt: small(row, 8, "enrollments")?,
        entry: small(row, 9, "enrollments")?,
        resent: flag(row, 10)?,
        in_flight: called_at.is_some(),
        called_at: Timestamp(called_at.unwrap_or_default()),
    })
}

/// A plan as it is stored: seconds after the enrollment, `0,600,82800.25`. Short, since every
/// follower who waits has one, and readable with any SQLite shell.
pub(crate) fn write_plan(plan: &[Timestamp], enrolled_at: Timestamp) -> String {
    let offsets = plan.iter().map(|due_at| {
        let offset_ms = due_at.0 - enrolled_at.0;
        let (seconds, ms) = (offset_ms.div_euclid(1000), offset_ms.rem_euclid(1000));
        match ms {
            0 => seconds.to_string(),
            ms => format!("{seconds}.{ms:03}"),
        }
    });
    offsets.collect::<Vec<_>>().join(",")
}

fn read_plan(stored: &str, enrolled_at: Timestamp) -> Option<Vec<Timestamp>> {
    stored
        .split(',')
        .map(|offset| {
            let (seconds, ms) = offset.split_once('.').unwrap_or((offset, "0"));
            let seconds: i64 = seconds.parse().ok()?;
            let offset_ms = seconds.checked_mul(1000)?.checked_add(ms.parse().ok()?)?;
            Some(Timestamp(enrolled_at.0.checked_add(offset_ms)?))
        })
        .collect()
}

/// All enrollments of these followers, in the order of their numbers, with the fares of those that
/// are being sent.
pub(super) async fn of(
    tx: &DatabaseTransaction,
    followers: &[FollowerId],
) -> Result<Vec<(Enrollment, Option<Fare>)>, Error> {
    let sending = sending(tx);
    let theirs = sql::each(tx, "enrollments", "e", "e.id BETWEEN r.first AND r.last");
    let sql = format!(
        "SELECT {COLUMNS}, d.intent_at, d.carrier, d.grant_kind, d.fallback
         FROM {{rows}} {theirs} {sending}"
    );
    let ranges = Rows::of(followers)
        .int("first", |follower| EnrollmentId::range(*follower).0.0)
        .int("last", |follower| EnrollmentId::range(*follower).1.0);
    let rows = sql::all_over(tx, &sql, ranges, []).await?;
    rows.iter()
        .map(|row| {
            let enrollment = enrollment(row)?;
            let fare = if enrollment.in_flight {
                Some(fare(row)?)
            } else {
                None
            };
            Ok((enrollment, fare))
        })
        .collect()
}

/// What an intent spends, behind the columns of its enrollment.
fn fare(row: &QueryResult) -> Result<Fare, Error> {
    let fallback: u8 = small(row, 14, "deliveries")?;
    Ok(Fare {
        carrier: Carrier::from_number(int(row, 12)?).unwrap_or(Carrier::CustomerMessage),
        grant: Kind::from_number(int(row, 13)?),
        fallback: fallback.checked_sub(1),
    })
}

/// What every write of an enrollment may change.
fn changing<'a, T>(items: &'a [T], one: impl Fn(&T) -> &Enrollment + Copy) -> Rows<'a, T> {
    Rows::of(items)
        .int("id", move |item| one(item).id.0)
        .int("step", move |item| i64::from(one(item).step))
        .int("wake_at", move |item| one(item).wake_at.0)
        .int("generation", move |item| i64::from(one(item).generation))
        .int("state", move |item| one(item).state.number())
        .int("attempt", move |item| i64::from(one(item).attempt))
        .int("entry", move |item| i64::from(one(item).entry))
        .int("resent", move |item| i64::from(one(item).resent))
}

pub(super) async fn insert(
    tx: &DatabaseTransaction,
    new: &[(AccountId, &Enrollment)],
) -> Result<(), Error> {
    let rows = changing(new, |(_, one)| one)
        .int("account_id", |(account, _)| account.0)
        .int("version_id", |(_, one)| one.version.0)
        .int("enrolled_at", |(_, one)| one.enrolled_at.0)
        .text("plan", |(_, one)| write_plan(&one.plan, one.enrolled_at));
    sql::run_over(
        tx,
        "INSERT INTO enrollments (id, account_id, version_id, enrolled_at, plan, step, wake_at,
             generation, state, attempt, entry, resent)
         SELECT r.id, r.account_id, r.version_id, r.enrolled_at, r.plan, r.step, r.wake_at,
             r.generation, r.state, r.attempt, r.entry, r.resent
         FROM {rows}",
        rows,
        [],
    )
    .await?;
    Ok(())
}

pub(super) async fn update(tx: &DatabaseTransaction, changed: &[&Enrollment]) -> Result<(), Error> {
    sql::run_over(
        tx,
        "UPDATE enrollments SET step = r.step, wake_at = r.wake_at, generation = r.generation,
             state = r.state, attempt = r.attempt, entry = r.entry, resent = r.resent
         FROM {rows} WHERE enrollments.id = r.id",
        changing(changed, |one| one),
        [],
    )
    .await?;
    Ok(())
}

/// Writes the plans that `late: shift` moved.
pub(super) async fn replan(tx: &DatabaseTransaction, moved: &[&Enrollment]) -> Result<(), Error> {
    let rows = Rows::of(moved)
        .int("id", |one| one.id.0)
        .text("plan", |one| write_plan(&one.plan, one.enrolled_at));
    let sql = "UPDATE enrollments SET plan = r.plan FROM {rows} WHERE enrollments.id = r.id";
    sql::run_over(tx, sql, rows, []).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_plan_is_read_as_it_was_written(
            enrolled_at in 0i64..4_000_000_000_000,
            offsets in prop::collection::vec(-5_000i64..10_000_000_000, 1..50),
        ) {
            let enrolled_at = Timestamp(enrolled_at);
            let plan: Vec<_> = offsets.iter().map(|ms| Timestamp(enrolled_at.0 + ms)).collect();
            let stored = write_plan(&plan, enrolled_at);
            prop_assert_eq!(read_plan(&stored, enrolled_at), Some(plan));
        }
    }

    #[test]
    fn a_damaged_plan_is_not_guessed_at() {
        for stored in ["", "1,,2", "1.5.2", "x", "99999999999999999999"] {
            assert_eq!(read_plan(stored, Timestamp(0)), None, "{stored}");
        }
    }
}
