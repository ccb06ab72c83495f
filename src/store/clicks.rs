//! Table `clicks`: what followers clicked in which passage; and `link_keys`, which links are sealed with.

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction};

use crate::clock::Timestamp;
use crate::journey::enrollment::Enrollment;
use crate::journey::follower::Follower;
use crate::journey::ids::{AccountId, EnrollmentId, FollowerId, VersionId};
use crate::journey::link::token::{Keyring, SECRET_BYTES};
use crate::journey::link::{ANY, Click};
use crate::journey::receive::Effects;
use crate::store::batch::Batch;
use crate::store::erasure::is_pseudonym;
use crate::store::sql::{self, Rows, instant, int, small};
use crate::store::tables::Tables;
use crate::store::{Error, Store, fence, followers};

/// A click that somebody made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clicked {
    pub enrollment: EnrollmentId,
    pub version: VersionId,
    /// Index of the step.
    pub step: u16,
    /// Number of the link in its step, from 1.
    pub link: u16,
    pub at: Timestamp,
}

/// A row to write: with the account and the version of its passage.
pub(crate) type Row = (AccountId, VersionId, Click);

/// What these followers clicked.
pub(super) async fn of(
    tx: &DatabaseTransaction,
    followers: &[FollowerId],
) -> Result<Vec<Click>, Error> {
    let rows = Rows::of(followers)
        .int("first", |id| EnrollmentId::range(*id).0.0)
        .int("last", |id| EnrollmentId::range(*id).1.0);
    let joined = sql::each(
        tx,
        "clicks",
        "c",
        "c.enrollment_id BETWEEN r.first AND r.last",
    );
    let select = format!(
        "SELECT c.enrollment_id, c.step, c.link, c.first_at, c.last_at, c.count FROM {{rows}} {joined}"
    );
    let found = sql::all_over(tx, &select, rows, []).await?;
    let click = |row| {
        Ok(Click {
            enrollment: EnrollmentId(int(row, 0)?),
            step: small(row, 1, "clicks")?,
            link: small(row, 2, "clicks")?,
            first_at: instant(row, 3)?,
            last_at: instant(row, 4)?,
            count: small(row, 5, "clicks")?,
        })
    };
    found.iter().map(click).collect()
}

/// Writes rows, new or changed.
pub(super) async fn put(tx: &DatabaseTransaction, changed: &[Row]) -> Result<(), Error> {
    let rows = Rows::of(changed)
        .int("enrollment_id", |(_, _, one)| one.enrollment.0)
        .int("step", |(_, _, one)| i64::from(one.step))
        .int("link", |(_, _, one)| i64::from(one.link))
        .int("account_id", |(account, ..)| account.0)
        .int("version_id", |(_, version, _)| version.0)
        .int("first_at", |(_, _, one)| one.first_at.0)
        .int("last_at", |(_, _, one)| one.last_at.0)
        .int("count", |(_, _, one)| i64::from(one.count));
    sql::run_over(
        tx,
        "INSERT INTO clicks (enrollment_id, step, link, account_id, version_id, first_at, last_at,
             count)
         SELECT r.enrollment_id, r.step, r.link, r.account_id, r.version_id, r.first_at, r.last_at,
             r.count FROM {rows} WHERE true
         ON CONFLICT (enrollment_id, step, link) DO UPDATE
             SET last_at = excluded.last_at, count = excluded.count",
        rows,
        [],
    )
    .await?;
    Ok(())
}

impl<T: Tables> Batch<'_, T> {
    /// Counts a click; true unless it is about nobody any more.
    pub(super) fn click(&mut self, clicked: &Clicked) -> bool {
        let now = self.moment.now;
        let id = clicked.enrollment.follower();
        let Some(person) = self.people.by_id.get_mut(&id) else {
            return false;
        };
        let ours =
            |one: &Enrollment| one.id == clicked.enrollment && one.version == clicked.version;
        // Of somebody who was forgotten nothing new is kept.
        let known = !is_pseudonym(&person.passages.follower.openid);
        if !known || !person.passages.enrollments.iter().any(ours) {
            return false;
        }
        for link in [ANY, clicked.link] {
            let mut clicks = person.clicks.iter_mut();
            let counted = clicks.find(|one| {
                one.enrollment == clicked.enrollment && (one.step, one.link) == (clicked.step, link)
            });
            match counted {
                Some(one) => {
                    one.count = one.count.saturating_add(1);
                    one.last_at = one.last_at.max(clicked.at);
                }
                None => person.clicks.push(Click {
                    enrollment: clicked.enrollment,
                    step: clicked.step,
                    link,
                    first_at: clicked.at,
                    last_at: clicked.at,
                    count: 1,
                }),
            }
        }
        let mut effects = Effects::default();
        let catalog = self.knowledge.catalog();
        let place = (clicked.enrollment, clicked.step, clicked.link);
        person.passages.clicked(place, &catalog, now, &mut effects);
        let account = self.knowledge.account(person.passages.follower.account);
        if let Some(account) = account.filter(|_| !effects.entries.is_empty()) {
            person.recall(&account, &catalog, now);
        }
        self.record(id, effects);
        true
    }
}

/// What is known of the follower of a passage, to fill in the address of a link with.
///
/// # Errors
/// When it cannot be read.
pub async fn visitor(
    read: &DatabaseConnection,
    enrollment: EnrollmentId,
) -> Result<Option<Follower>, Error> {
    let columns = followers::COLUMNS;
    let select = format!("SELECT {columns} FROM followers AS f WHERE f.id = ?1");
    let row = sql::first(read, &select, [enrollment.follower().0.into()]).await?;
    row.as_ref().map(followers::follower).transpose()
}

/// The keys of this installation; the first one is made when it is first asked for.
pub(super) async fn load_keys(connection: &impl ConnectionTrait) -> Result<Keyring, Error> {
    let known = keys(connection).await?;
    if !known.is_empty() {
        return Ok(known);
    }
    add_key(connection, 1, Timestamp::default()).await?;
    keys(connection).await
}

/// The keys that there are, newest first.
pub(super) async fn keys(connection: &impl ConnectionTrait) -> Result<Keyring, Error> {
    let select = "SELECT id, secret FROM link_keys ORDER BY made_at DESC, id DESC";
    let mut keys = Vec::new();
    for row in sql::all(connection, select, []).await? {
        let secret: Vec<u8> = row.try_get_by_index(1)?;
        keys.push((small(&row, 0, "link_keys")?, secret));
    }
    Ok(Keyring::new(keys.iter().map(
        |(id, secret): &(u8, Vec<u8>)| (*id, secret.as_slice()),
    )))
}

async fn add_key(connection: &impl ConnectionTrait, id: u8, now: Timestamp) -> Result<(), Error> {
    let mut secret = [0u8; SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(|error| Error::Io {
        what: "ask the system for random bytes".to_owned(),
        source: std::io::Error::other(error.to_string()),
    })?;
    let insert = "INSERT INTO link_keys (id, secret, made_at) VALUES (?1, ?2, ?3)
        ON CONFLICT DO NOTHING";
    let values = [i64::from(id).into(), secret.to_vec().into(), now.0.into()];
    sql::run(connection, insert, values).await.map(drop)
}

/// When each key was made, newest first: zero for the installation's first.
///
/// # Errors
/// When they cannot be read.
pub async fn listed_keys(read: &DatabaseConnection) -> Result<Vec<(u8, Timestamp)>, Error> {
    let select = "SELECT id, made_at FROM link_keys ORDER BY made_at DESC, id DESC";
    let rows = sql::all(read, select, []).await?;
    let key = |row| Ok((small(row, 0, "link_keys")?, instant(row, 1)?));
    rows.iter().map(key).collect()
}

/// Makes a key that seals from now on; the others still open what they have sealed.
///
/// # Errors
/// `Error::Busy` when there are as many keys as there can be: forget one first.
pub async fn rotate(store: &Store, now: Timestamp) -> Result<(), Error> {
    let write = store.writer().cold(move |tx| {
        Box::pin(async move {
            let select = "SELECT id FROM link_keys ORDER BY made_at DESC, id DESC";
            let rows = sql::all(tx, select, []).await?;
            let taken = rows.iter().map(|row| small(row, 0, "link_keys"));
            let taken: Vec<u8> = taken.collect::<Result<_, _>>()?;
            let last = taken.first().copied().unwrap_or_default();
            let next = (1..=u8::MAX).map(|n| last.wrapping_add(n));
            let next = next.into_iter().find(|id| !taken.contains(id));
            add_key(tx, next.ok_or(Error::Busy)?, now).await?;
            sql::run(tx, fence::OUTDATE, []).await.map(drop)
        })
    });
    write.await?;
    take_in(store).await
}

/// Forgets a key: what it has sealed leads nowhere from now on. False when there is no such key, or no
/// other one.
///
/// # Errors
/// When it cannot be written.
pub async fn forget_key(store: &Store, id: u8) -> Result<bool, Error> {
    let before = listed_keys(store.read()).await?;
    if before.len() < 2 || !before.iter().any(|(known, _)| *known == id) {
        return Ok(false);
    }
    let write = store.writer().cold(move |tx| {
        Box::pin(async move {
            let delete = "DELETE FROM link_keys WHERE id = ?1
                AND (SELECT count(*) FROM link_keys) > 1";
            sql::run(tx, delete, [i64::from(id).into()]).await?;
            sql::run(tx, fence::OUTDATE, []).await.map(drop)
        })
    });
    write.await?;
    take_in(store).await?;
    Ok(true)
}

async fn take_in(store: &Store) -> Result<(), Error> {
    store.knowledge().set_link_keys(keys(store.read()).await?);
    Ok(())
}
