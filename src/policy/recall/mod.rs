//! Steps whose grant will not wait for them: when they should go instead.
//!
//! Two cases. Quiet hours moved a step past the night, and its grant ends before the morning: it goes
//! before the night. A step is planned after its grant closes, and the sequence has a `last_call` that
//! long: it goes at the last legal instant. A grant that opens later puts it back where it was
//! planned. Pure: no clock, no rows; `recall` is called whenever grants or passages have changed.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::clock::Timestamp;
use crate::journey::catalog::{Catalog, Version};
use crate::journey::enrollment::{Enrollment, State};
use crate::journey::plan;
use crate::journey::receive::{Passages, seed};
use crate::journey::sequence::{Quiet, Sequence};
use crate::policy::account::Account;
use crate::policy::grant::{Grants, Kind};
use crate::policy::profile::Profile;
use crate::policy::reserve;

/// How long before the last legal instant a step is sent, since nothing comes out of a queue at once.
pub const LEAD: Duration = Duration::from_secs(5);

/// What decides when a step wakes.
#[derive(Clone, Copy, Debug)]
pub struct Waking<'a> {
    pub profile: &'a Profile,
    pub grants: &'a Grants,
    pub sequence: &'a Sequence,
    pub zone: &'a TimeZone,
    pub enrollment: &'a Enrollment,
}

impl Waking<'_> {
    /// When the current step should wake: its planned instant, or an earlier one, never before `now`,
    /// never in quiet hours, and never when the grant is over.
    pub fn wake_at(&self, now: Timestamp) -> Timestamp {
        let planned = self.enrollment.due_at();
        if planned <= now || self.carried_at(planned) {
            return planned;
        }
        let earlier = [
            self.before_the_night(planned, now),
            self.last_call(planned, now),
        ];
        earlier.into_iter().flatten().max().unwrap_or(planned)
    }

    fn carried_at(&self, at: Timestamp) -> bool {
        self.grants.usable(self.profile, at).is_some()
    }

    /// The last legal instant before the night that moved the step.
    fn before_the_night(&self, planned: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let hours = self.sequence.quiet_hours.as_ref()?;
        let steps = &self.sequence.steps;
        let step = steps.get(usize::from(self.enrollment.step))?;
        let (enrolled_at, seed) = (self.enrollment.enrolled_at, seed(self.enrollment.id));
        let wanted = plan::wanted_at(self.sequence, step, enrolled_at, self.zone, seed);
        let (from, to) = plan::quiet_span(self.sequence, self.zone, wanted)?;
        let moved = to <= planned && planned <= to.plus(self.sequence.spread);
        let moved = hours.then == Quiet::Shift && moved && self.carried_at(wanted);
        moved.then(|| self.last_legal(from.minus(LEAD), now))?
    }

    /// The last legal instant of all, if that is not too early.
    fn last_call(&self, planned: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let allowed = self.sequence.last_call;
        let at = self
            .last_legal(planned, now)
            .filter(|_| !allowed.is_zero())?;
        (planned.since(at) <= allowed).then_some(at)
    }

    /// The last instant up to `latest` at which a grant carries a message outside of quiet hours, with
    /// the lead kept where there is room for it.
    fn last_legal(&self, latest: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let grants = self.grants.0.iter();
        let ends = grants
            .filter(|grant| grant.left() > 0 && grant.kind != Kind::Mass)
            .map(|grant| self.profile.ends_at(grant));
        let end = ends.max()?.minus(LEAD).min(latest);
        let at = match plan::quiet_span(self.sequence, self.zone, end) {
            Some((from, _)) => from.minus(LEAD),
            None => end,
        };
        let at = at.max(now);
        let quiet = plan::quiet_until(self.sequence, self.zone, at).is_some();
        (!quiet && self.carried_at(at)).then_some(at)
    }
}

/// Whether a step may go before its planned instant: it was pulled forward, and that is still right.
pub fn may_go_early(waking: Waking<'_>, now: Timestamp) -> bool {
    waking.enrollment.wake_at <= now && waking.wake_at(now) <= now
}

/// Wakes a follower's waiting steps when they should wake by the grants of now, and lets held steps go
/// for which there is a message again.
pub fn recall(
    passages: &mut Passages,
    grants: &Grants,
    account: &Account,
    catalog: &Catalog,
    now: Timestamp,
) {
    let profile = &*account.profile;
    let reachable = passages.follower.following && !passages.follower.muted;
    if profile.grants.is_empty() || !reachable {
        return;
    }
    for index in 0..passages.enrollments.len() {
        let enrollment = &passages.enrollments[index];
        if enrollment.in_flight {
            continue;
        }
        let Some(version) = catalog.version(enrollment.version) else {
            continue;
        };
        match enrollment.state {
            State::Held => {
                let source = reserve::source(version);
                let usable =
                    reserve::usable(grants, passages, catalog, profile, source, now).is_some();
                if usable {
                    passages.enrollments[index].release(now);
                }
            }
            State::Active => {
                if let Some(at) = moved(version, account, grants, enrollment, now) {
                    passages.enrollments[index].rearm(at);
                }
            }
            State::Completed | State::Cancelled => {}
        }
    }
}

/// The new instant of a step that only waits for its planned one; `None` leaves it as it is. What waits
/// longer waits for something else: a gap, the morning, another attempt.
fn moved(
    version: &Version,
    account: &Account,
    grants: &Grants,
    enrollment: &Enrollment,
    now: Timestamp,
) -> Option<Timestamp> {
    let waits = enrollment.entry == 0 && enrollment.attempt == 0;
    if !waits || enrollment.wake_at > enrollment.due_at() {
        return None;
    }
    let waking = Waking {
        profile: &account.profile,
        grants,
        sequence: &version.sequence,
        zone: version.zone(&account.journey),
        enrollment,
    };
    let at = waking.wake_at(now);
    let stays = at == enrollment.wake_at || (at <= now && enrollment.wake_at <= now);
    (!stays).then_some(at)
}

#[cfg(test)]
mod tests;
