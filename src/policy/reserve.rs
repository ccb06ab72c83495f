//! What of a follower's quota is kept for steps that go first.
//!
//! A source may not take what the planned steps of sources before it will need while the grants last.
//! Pure: a function of passages, catalog and grants, so nothing has to be kept up to date.

use crate::clock::Timestamp;
use crate::journey::catalog::{Catalog, Version};
use crate::journey::enrollment::State;
use crate::journey::receive::Passages;
use crate::journey::sequence::Trigger;
use crate::policy::grant::{Grants, Kind};
use crate::policy::profile::{Profile, Source};

/// Where the steps of a sequence come from.
pub fn source(version: &Version) -> Source {
    match version.sequence.trigger {
        _ if version.sequence.kind.is_broadcast() => Source::Broadcast,
        Trigger::Api => Source::Operator,
        Trigger::Follow { .. }
        | Trigger::Scan { .. }
        | Trigger::Message { .. }
        | Trigger::Click { .. } => Source::Drip,
    }
}

/// The instants, in their order, at which steps are planned that go before `source`; those that are
/// overdue or held want a message at once.
pub fn wanted(
    passages: &Passages,
    catalog: &Catalog,
    profile: &Profile,
    source: Source,
    now: Timestamp,
) -> Vec<Timestamp> {
    let mut wanted = Vec::new();
    for enrollment in passages.enrollments.iter().filter(|one| !one.is_finished()) {
        let first = catalog
            .version(enrollment.version)
            .is_some_and(|version| profile.gives_way(source, self::source(version)));
        if !first {
            continue;
        }
        // What is being sent has spent its message already.
        let sent = usize::from(enrollment.step) + usize::from(enrollment.in_flight);
        let rest = enrollment.plan.iter().enumerate().skip(sent);
        wanted.extend(rest.map(|(step, due_at)| {
            let current = step == usize::from(enrollment.step);
            let waits = current && enrollment.state == State::Active;
            let at = if waits { enrollment.wake_at } else { *due_at };
            at.max(now)
        }));
    }
    wanted.sort_unstable();
    wanted
}

/// How many messages of each grant the steps at `wanted` will take, the grant that closes first
/// before the others.
pub fn reserved(grants: &Grants, profile: &Profile, wanted: &[Timestamp]) -> Vec<(Kind, u16)> {
    let mut left = grants.clone();
    for at in wanted {
        if let Some(kind) = left.usable(profile, *at) {
            left.spend(kind);
        }
    }
    let taken = grants.0.iter().zip(&left.0);
    taken
        .map(|(before, after)| (before.kind, before.left() - after.left()))
        .collect()
}

/// The grant that a message of `source` at `now` may spend, leaving what goes first its own.
pub fn usable(
    grants: &Grants,
    passages: &Passages,
    catalog: &Catalog,
    profile: &Profile,
    source: Source,
    now: Timestamp,
) -> Option<Kind> {
    let first = grants.usable(profile, now)?;
    let wanted = wanted(passages, catalog, profile, source, now);
    if wanted.is_empty() {
        return Some(first);
    }
    let reserved = reserved(grants, profile, &wanted);
    let spare = |kind: Kind, left: u16| {
        let kept = reserved.iter().find(|(other, _)| *other == kind);
        kept.is_none_or(|(_, kept)| left > *kept)
    };
    grants
        .0
        .iter()
        .filter(|grant| grant.carries(profile, now) && spare(grant.kind, grant.left()))
        .min_by_key(|grant| (grant.closes_at, grant.kind))
        .map(|grant| grant.kind)
}
