//! Recipients within a commit: those of a broadcast who still wait become enrollments.
//!
//! What a chunk is was decided before; this asks the rows again, so that nobody becomes two, whatever
//! was killed or took the shard over meanwhile.

use crate::clock::Timestamp;
use crate::journey::ids::{AccountId, BroadcastId, FollowerId, VersionId};
use crate::journey::receive::Effects;
use crate::store::Error;
use crate::store::batch::Batch;
use crate::store::recipients::Admission;
use crate::store::tables::Tables;
use crate::store::work::Admitted;

impl<T: Tables> Batch<'_, T> {
    /// Makes enrollments of those of `followers` who have none in the broadcast.
    pub(super) async fn admit(
        &mut self,
        (broadcast, account, version): (BroadcastId, AccountId, VersionId),
        due_at: Option<Timestamp>,
        followers: &[FollowerId],
    ) -> Result<Admitted, Error> {
        let waiting = self
            .tables
            .waiting_recipients(broadcast, account, followers)
            .await?;
        let catalog = self.knowledge.catalog();
        let (Some(waiting), Some(version)) = (waiting, catalog.version(version)) else {
            return Ok(Admitted {
                sending: false,
                recipients: 0,
            });
        };
        let now = self.moment.now;
        let due_at = due_at.unwrap_or(now).max(now);
        let mut recipients = 0;
        for follower in followers.iter().filter(|one| waiting.contains(one)) {
            let Some(person) = self.people.by_id.get_mut(follower) else {
                continue;
            };
            let mut effects = Effects::default();
            let admitted = person.passages.admit(version, due_at, now, &mut effects);
            let Some(enrollment) = admitted else { continue };
            self.admissions.push(Admission {
                broadcast,
                account,
                enrollment,
            });
            recipients += 1;
            self.record(*follower, effects);
        }
        Ok(Admitted {
            sending: true,
            recipients,
        })
    }
}
