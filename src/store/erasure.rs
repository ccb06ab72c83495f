//! Who has left is forgotten: a pseudonym takes the place of the openid, and what we knew goes.
//!
//! The platform's page "receive event pushes" (关注/取消关注事件) demands that all data of somebody
//! who unfollows is deleted. What stays is what keeps a returning person from being greeted twice
//! and what counts need: passages and outcomes under a number, and a pseudonym that only somebody
//! with both the salt and the openid can find again.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction};
use sha2::Sha256;

use crate::journey::follower::Follower;
use crate::journey::ids::{AccountId, EnrollmentId, FollowerId};
use crate::journey::receive::Effects;
use crate::store::batch::Batch;
use crate::store::load::Before;
use crate::store::shards::Sharding;
use crate::store::sql::{self, Rows, int, text};
use crate::store::tables::Tables;
use crate::store::{Error, followers};

/// What every pseudonym begins with. No openid does: the platform's have no spaces, and callbacks
/// with any are refused.
const PREFIX: &str = "erased ";

/// Bytes of the HMAC that are kept: a chance of one in 2^64 that two of 2^32 people meet.
const KEPT_BYTES: usize = 16;

const SALT_BYTES: usize = 32;

/// Makes pseudonyms: HMAC-SHA256 over account and openid, under the store's own salt.
#[derive(Clone)]
pub(crate) struct Pseudonyms {
    /// Has read the salt already.
    keyed: Hmac<Sha256>,
}

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonyms")
    }
}

impl Default for Pseudonyms {
    /// Those of a store that never forgot anybody.
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Pseudonyms {
    fn new(salt: &[u8]) -> Self {
        let keyed = Hmac::new_from_slice(salt).expect("HMAC takes a key of any length");
        Self { keyed }
    }

    /// The pseudonym of a person on an account.
    pub(crate) fn of(&self, account: AccountId, openid: &str) -> String {
        let mut keyed = self.keyed.clone();
        keyed.update(&account.0.to_be_bytes());
        keyed.update(openid.as_bytes());
        let hash = keyed.finalize().into_bytes();
        let mut name = PREFIX.to_owned();
        URL_SAFE_NO_PAD.encode_string(&hash[..KEPT_BYTES], &mut name);
        name
    }

    /// The store's own; made with the first use.
    pub(super) async fn load(connection: &impl ConnectionTrait) -> Result<Self, Error> {
        if let Some(known) = Self::find(connection).await? {
            return Ok(known);
        }
        let mut salt = [0u8; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|error| Error::Io {
            what: "ask the system for random bytes".to_owned(),
            source: std::io::Error::other(error.to_string()),
        })?;
        sql::run(
            connection,
            "INSERT INTO erasure (id, salt) VALUES (1, ?1) ON CONFLICT DO NOTHING",
            [salt.to_vec().into()],
        )
        .await?;
        Ok(Self::find(connection)
            .await?
            .unwrap_or_else(|| Self::new(&salt)))
    }

    /// The store's own, where there is one.
    pub(super) async fn find(connection: &impl ConnectionTrait) -> Result<Option<Self>, Error> {
        let row = sql::first(connection, "SELECT salt FROM erasure WHERE id = 1", []).await?;
        let Some(row) = row else { return Ok(None) };
        let salt: Vec<u8> = row.try_get_by_index(0)?;
        Ok(Some(Self::new(&salt)))
    }
}

/// Whether it stands for somebody who was forgotten.
pub fn is_pseudonym(openid: &str) -> bool {
    openid.starts_with(PREFIX)
}

/// Somebody to forget, and the name to forget.
#[derive(Clone, Debug)]
pub(crate) struct Forgotten {
    pub(crate) follower: FollowerId,
    pub(crate) account: AccountId,
    /// Empty when it is not known any more.
    pub(crate) openid: String,
}

/// Deletes what the rows beside the follower's own say of these people: what they wrote, where they
/// came from, what they allowed, and their name wherever the platform's words repeat it.
pub(super) async fn erase(tx: &DatabaseTransaction, forgotten: &[Forgotten]) -> Result<(), Error> {
    if forgotten.is_empty() {
        return Ok(());
    }
    for sql in [
        "UPDATE receipts SET detail = NULL FROM {rows}
         WHERE receipts.account_id = r.account_id AND receipts.follower_id = r.follower_id
             AND receipts.detail IS NOT NULL",
        "DELETE FROM grants WHERE follower_id IN (SELECT r.follower_id FROM {rows})",
        "DELETE FROM consents WHERE follower_id IN (SELECT r.follower_id FROM {rows})",
        "DELETE FROM clicks WHERE enrollment_id IN (SELECT c.enrollment_id FROM {rows}
             JOIN clicks AS c ON c.enrollment_id BETWEEN r.first AND r.last)",
        "DELETE FROM tag_changes WHERE (account_id, follower_id) IN
             (SELECT r.account_id, r.follower_id FROM {rows})",
        "UPDATE outcomes SET detail = replace(outcomes.detail, r.openid, '…') FROM {rows}
         WHERE outcomes.enrollment_id BETWEEN r.first AND r.last
             AND r.openid <> '' AND replace(outcomes.detail, r.openid, '') <> outcomes.detail",
        // The list is read again from its beginning: what is known already costs little.
        "UPDATE syncs SET next_openid = '' WHERE next_openid <> '' AND (account_id, next_openid) IN
             (SELECT r.account_id, r.openid FROM {rows})",
    ] {
        sql::run_over(tx, sql, rows(forgotten), []).await?;
    }
    overwrite(tx, false).await
}

fn rows(forgotten: &[Forgotten]) -> Rows<'_, Forgotten> {
    Rows::of(forgotten)
        .int("account_id", |one| one.account.0)
        .int("follower_id", |one| one.follower.0)
        .text("openid", |one| one.openid.clone())
        .int("first", |one| EnrollmentId::range(one.follower).0.0)
        .int("last", |one| EnrollmentId::range(one.follower).1.0)
}

/// Before the rows of these people change: from here until `erase` has ended, bytes of the file that
/// are freed are overwritten, on SQLite. Not always, because every other deletion would pay for it.
pub(super) async fn begin(tx: &DatabaseTransaction, forgotten: &[Forgotten]) -> Result<(), Error> {
    if forgotten.is_empty() {
        return Ok(());
    }
    overwrite(tx, true).await
}

async fn overwrite(tx: &DatabaseTransaction, on: bool) -> Result<(), Error> {
    // PostgreSQL has no such switch: vacuum and WAL, which let go of old bytes, are the operator's.
    if sql::has_other_writers(tx) {
        return Ok(());
    }
    let sql = match on {
        true => "PRAGMA secure_delete = ON",
        false => "PRAGMA secure_delete = OFF",
    };
    sql::all(tx, sql, []).await?;
    Ok(())
}

/// Rows that one look for people who left passes over, and people of one answer.
const WINDOW: i64 = 50_000;
const LEFT_MAX: u32 = 500;

/// Some who left and were not forgotten, with ids after `after`, by account; and where to go on.
pub async fn left(
    read: &DatabaseConnection,
    after: i64,
) -> Result<(BTreeMap<AccountId, Vec<String>>, Option<i64>), Error> {
    let highest = followers::highest_id(read).await?;
    let window = Sharding::of(read).follower(WINDOW, AccountId::default()).0;
    let until = after.saturating_add(window).min(highest);
    let rows = sql::all(
        read,
        "SELECT id, account_id, openid FROM followers
         WHERE id > ?1 AND id <= ?2 AND following = 0 AND left_at > 0
             AND substr(openid, 1, length(?3)) <> ?3
         ORDER BY id LIMIT ?4",
        [after.into(), until.into(), PREFIX.into(), LEFT_MAX.into()],
    )
    .await?;
    let mut left: BTreeMap<AccountId, Vec<String>> = BTreeMap::new();
    let mut last = None;
    for row in &rows {
        last = Some(int(row, 0)?);
        left.entry(AccountId(int(row, 1)?))
            .or_default()
            .push(text(row, 2)?);
    }
    let full = u32::try_from(rows.len()).is_ok_and(|rows| rows >= LEFT_MAX);
    let next = match last.filter(|_| full) {
        Some(last) => Some(last),
        None => (until < highest).then_some(until),
    };
    Ok((left, next))
}

impl<T: Tables> Batch<'_, T> {
    /// Puts pseudonyms in the place of the names of those who left, and says of whom everything
    /// else is to be deleted: they, and whoever was forgotten before and has had an event since.
    pub(super) fn forget(&mut self) -> Vec<Forgotten> {
        let leaves = |follower: &Follower, before: Option<&Before>| {
            let account = self.knowledge.account(follower.account);
            // Somebody of whom only other events are known may well follow.
            let left = follower.left_at.0 > 0 || before.is_some_and(|b| b.follower.following);
            let erases = account.is_some_and(|account| account.erase_on_unfollow);
            left && erases || self.erasing.contains(&follower.id)
        };
        let mut forgotten = Vec::new();
        for person in self.people.by_id.values_mut() {
            let follower = &mut person.passages.follower;
            let known = !is_pseudonym(&follower.openid);
            if follower.following || known && !leaves(follower, person.before.as_ref()) {
                continue;
            }
            let mut openid = String::new();
            if known {
                let pseudonyms = self.knowledge.pseudonyms();
                let pseudonym = pseudonyms.of(follower.account, &follower.openid);
                openid = std::mem::replace(&mut follower.openid, pseudonym);
            }
            follower.language = None;
            follower.scene = None;
            follower.tags.clear();
            forgotten.push(Forgotten {
                follower: follower.id,
                account: follower.account,
                openid,
            });
        }
        forgotten
    }

    /// Forgets somebody who may still follow: their passages end, and only an act of theirs that is
    /// newer than this instant makes them known again.
    pub(super) fn erase(&mut self, id: FollowerId) {
        let now = self.moment.now;
        let Some(person) = self.people.by_id.get_mut(&id) else {
            return;
        };
        let follower = &mut person.passages.follower;
        follower.following = false;
        follower.last_event_at = follower.last_event_at.max(now);
        let mut effects = Effects::default();
        person.passages.cancel_all(now, "erased", &mut effects);
        self.erasing.insert(id);
        self.record(id, effects);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pseudonym_is_the_same_for_one_person_and_no_openid() {
        let names = Pseudonyms::new(b"salt");
        let one = names.of(AccountId(1), "o6_bmjrPTlm6_2sgVt7hMZOPfL2M");
        assert_eq!(one, names.of(AccountId(1), "o6_bmjrPTlm6_2sgVt7hMZOPfL2M"));
        assert!(is_pseudonym(&one) && !one.contains("bmjr"));
        assert_ne!(one, names.of(AccountId(2), "o6_bmjrPTlm6_2sgVt7hMZOPfL2M"));
        let salted = Pseudonyms::new(b"other");
        assert_ne!(one, salted.of(AccountId(1), "o6_bmjrPTlm6_2sgVt7hMZOPfL2M"));
        assert!(!is_pseudonym("o6_bmjrPTlm6_2sgVt7hMZOPfL2M"));
    }
}
