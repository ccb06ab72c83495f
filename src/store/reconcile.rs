//! What the platform's own list says of people, taken in as events that we missed.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::journey::event::{Arrival, Event};
use crate::journey::ids::{AccountId, FollowerId};
use crate::journey::receive::Source;
use crate::store::batch::Batch;
use crate::store::receipts::ReceiptKey;
use crate::store::tables::Tables;
use crate::store::{Error, tags};

/// What the platform says of one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub openid: String,
    pub standing: Listed,
}

/// How a person stands on the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    Follows {
        /// When the follow was, by the platform's clock.
        since: Timestamp,
        scene: Option<String>,
        language: Option<String>,
        /// Names; `None` when they could not be learned.
        tags: Option<Vec<String>>,
        /// Whether the follow is one that we missed, so that sequences may begin.
        enrolls: bool,
    },
    /// Does not follow, as of this instant.
    Gone { at: Timestamp },
}

/// What changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Who follows and was not known to.
    pub found: u32,
    /// Who was known to follow and does not.
    pub gone: u32,
    /// Passages begun.
    pub enrolled: u32,
}

/// The event that one of these people stands for.
struct Missed<'a> {
    key: ReceiptKey,
    arrival: Arrival,
    enrolls: bool,
    found: &'a Found,
}

impl<T: Tables> Batch<'_, T> {
    /// Takes in what the platform says: a follow or an unfollow of which we knew nothing becomes an
    /// event of its own, and of the others language and tags are brought up to date.
    pub(super) async fn reconcile(
        &mut self,
        account: AccountId,
        found: &[Found],
    ) -> Result<Reconciled, Error> {
        let mut missed = Vec::new();
        for one in found {
            let id = self.people.id_of(account, &one.openid);
            let following = id
                .and_then(|id| self.people.by_id.get(&id))
                .is_some_and(|person| person.passages.follower.following);
            let (event, created_at, language, enrolls) = match &one.standing {
                Listed::Follows {
                    since,
                    scene,
                    language,
                    enrolls,
                    ..
                } if !following => {
                    let scene = scene.clone();
                    (
                        Event::Followed { scene },
                        *since,
                        language.clone(),
                        *enrolls,
                    )
                }
                Listed::Gone { at } if following => (Event::Unfollowed, *at, None, false),
                Listed::Follows { .. } | Listed::Gone { .. } => continue,
            };
            let arrival = Arrival {
                openid: one.openid.clone(),
                created_at,
                digest: digest(account, &one.openid, &event, created_at),
                event,
                language,
            };
            let key = ReceiptKey {
                account,
                follower: self.follower_of(account, &arrival),
                created_at,
                digest: arrival.digest,
            };
            missed.push(Missed {
                key,
                arrival,
                enrolls,
                found: one,
            });
        }
        let reconciled = self.take_missed(account, &missed).await?;
        self.freshen(account, found).await?;
        Ok(reconciled)
    }

    async fn take_missed(
        &mut self,
        account: AccountId,
        missed: &[Missed<'_>],
    ) -> Result<Reconciled, Error> {
        let mut reconciled = Reconciled::default();
        if missed.is_empty() {
            return Ok(reconciled);
        }
        let rows: Vec<_> = missed.iter().map(|one| (one.key, &one.arrival)).collect();
        let source = Source::Found { enrolls: false };
        let now = self.moment.now;
        let mut fresh = self.tables.take_receipts(&rows, source, now).await?;
        for one in missed {
            let fresh = fresh.remove(&one.key);
            let source = Source::Found {
                enrolls: one.enrolls,
            };
            let taken = self.receive(account, &one.arrival, source, fresh);
            reconciled.enrolled += u32::try_from(taken.enrolled).unwrap_or(u32::MAX);
            let follows = self
                .people
                .by_id
                .get(&one.key.follower)
                .is_some_and(|person| person.passages.follower.following);
            match &one.found.standing {
                Listed::Follows { .. } if fresh && follows => reconciled.found += 1,
                Listed::Gone { .. } if fresh && !follows => reconciled.gone += 1,
                Listed::Follows { .. } | Listed::Gone { .. } => {}
            }
        }
        Ok(reconciled)
    }

    /// Brings language and tags of those who follow up to date. A tag whose change is still on its
    /// way to the platform stays as it was asked for.
    async fn freshen(&mut self, account: AccountId, found: &[Found]) -> Result<(), Error> {
        let mut said: HashMap<FollowerId, (&Option<String>, &[String])> = HashMap::new();
        for one in found {
            let id = self.people.id_of(account, &one.openid);
            if let (Some(id), Listed::Follows { language, tags, .. }) = (id, &one.standing)
                && let Some(tags) = tags
            {
                said.insert(id, (language, tags));
            }
        }
        let ids: Vec<_> = said.keys().copied().collect();
        let mut pending = self.tables.pending_tags(account, &ids).await?;
        for (id, (language, tags)) in said {
            let Some(person) = self.people.by_id.get_mut(&id) else {
                continue;
            };
            let follower = &mut person.passages.follower;
            if !follower.following {
                continue;
            }
            let mut tags = tags.to_vec();
            for (tag, present) in pending.remove(&id).unwrap_or_default() {
                tags::set(&mut tags, &tag, present);
            }
            if !same(&follower.tags, &tags) {
                follower.tags = tags;
            }
            if language.is_some() {
                follower.language.clone_from(language);
            }
        }
        Ok(())
    }
}

fn same(ours: &[String], theirs: &[String]) -> bool {
    ours.len() == theirs.len() && theirs.iter().all(|tag| ours.contains(tag))
}

/// The key by which a follow that we found is known again when it is found a second time.
fn digest(account: AccountId, openid: &str, event: &Event, at: Timestamp) -> i64 {
    let mut sha = Sha256::new();
    for part in [
        "found",
        event.word(),
        &account.to_string(),
        openid,
        &at.0.to_string(),
    ] {
        sha.update(part.len().to_be_bytes());
        sha.update(part.as_bytes());
    }
    let digest: [u8; 32] = sha.finalize().into();
    let (first, _) = digest.split_at(8);
    first
        .iter()
        .fold(0i64, |number, byte| (number << 8) | i64::from(*byte))
}
