//! What the platform tells later: reports on messages that it took, and consents.

use std::collections::{BTreeSet, HashMap};

use crate::clock::Timestamp;
use crate::journey::event::{Event, Report};
use crate::journey::ids::{AccountId, FollowerId, VersionId};
use crate::journey::outcome::{Outcome, OutcomeEntry};
use crate::journey::sequence::Fallback;
use crate::policy::consent::Consents;
use crate::store::Error;
use crate::store::awaited::{Awaited, REFERENCE_BYTES_MAX};
use crate::store::batch::Batch;
use crate::store::load::People;
use crate::store::tables::Tables;
use crate::store::work::{Act, Work};

/// The messages that a commit's reports are about.
pub(super) type Reports = HashMap<(AccountId, String), Vec<Awaited>>;

/// Loads the messages that `works` report on.
pub(super) async fn load(
    tables: &impl Tables,
    works: &[Work],
    people: &People,
) -> Result<Reports, Error> {
    let references = works.iter().flat_map(|work| reported(work, people));
    // Each once: a report may come twice in one commit.
    let references: BTreeSet<_> = references.collect();
    let references: Vec<_> = references.into_iter().collect();
    let mut awaited = Reports::new();
    for one in tables.awaited(&references).await? {
        let key = (one.account, one.reference.clone());
        awaited.entry(key).or_default().push(one);
    }
    Ok(awaited)
}

fn reported(work: &Work, people: &People) -> Vec<(AccountId, String)> {
    let Work::Receive {
        account, arrival, ..
    } = work
    else {
        return Vec::new();
    };
    let Event::Reported(report) = &arrival.event else {
        return Vec::new();
    };
    let follower = people.id_of(*account, &arrival.openid);
    let names = names(report, follower).into_iter();
    names.map(|name| (*account, name)).collect()
}

/// The names under which a report's message may be known, the platform's own id first.
fn names(report: &Report, follower: Option<FollowerId>) -> Vec<String> {
    let mut names = Vec::with_capacity(2);
    if report.reference.len() <= REFERENCE_BYTES_MAX {
        names.push(report.reference.clone());
    }
    if let (Some(template), Some(follower)) = (&report.template, follower) {
        names.push(notice_name(follower, template));
    }
    names
}

/// What a notice goes by, since the platform names it only when it reports on it: a follower and a
/// template have one on its way at a time, nearly always.
fn notice_name(follower: FollowerId, template: &str) -> String {
    format!("{} {template}", follower.0)
}

/// Whether any of `works` changes consents.
pub(super) fn changes_consents(works: &[Work]) -> bool {
    works.iter().any(|work| match work {
        Work::Receive { arrival, .. } => match &arrival.event {
            Event::ConsentsChanged { .. } => true,
            Event::Reported(report) => report.template.is_some(),
            _ => false,
        },
        Work::Act { act, .. } => matches!(act, Act::Allow { .. }),
        _ => false,
    })
}

/// What an event says of consents. `ours` when the notice that it reports on was sent by us, whose
/// intent has spent the consent already.
pub(super) fn apply_consents(consents: &mut Consents, event: &Event, ours: bool) {
    match event {
        Event::ConsentsChanged { templates } => {
            for (template, given) in templates {
                if *given {
                    consents.give(template);
                } else {
                    consents.withdraw(template);
                }
            }
        }
        Event::Reported(Report {
            template: Some(template),
            delivered: Some(true),
            ..
        }) if !ours => consents.spend(template),
        _ => {}
    }
}

impl<T: Tables> Batch<'_, T> {
    /// Adds a report to the history of the steps that it is about; says whether there are any.
    pub(super) fn report(
        &mut self,
        account: AccountId,
        follower: Option<FollowerId>,
        report: &Report,
    ) -> bool {
        let mut names = names(report, follower).into_iter();
        let found = names.find_map(|name| {
            let key = (account, name);
            let awaited = self.awaited.remove(&key)?;
            Some((key, awaited))
        });
        let Some((key, awaited)) = found else {
            return false;
        };
        for one in &awaited {
            let outcome = match report.delivered {
                Some(true) => Outcome::Delivered,
                Some(false) => Outcome::Undelivered,
                // Counts of a whole audience say nothing of one follower.
                None => continue,
            };
            self.entries.push((
                account,
                one.version,
                entry(one, outcome, report, self.moment.now),
            ));
        }
        self.reported.push(key);
        true
    }
}

fn entry(one: &Awaited, outcome: Outcome, report: &Report, at: Timestamp) -> OutcomeEntry {
    OutcomeEntry {
        enrollment: one.enrollment,
        step: one.step,
        entry: one.entry,
        outcome,
        steps: 0,
        due_at: one.due_at,
        at,
        carrier: Some(one.carrier),
        code: None,
        detail: report.detail.clone(),
    }
}

/// The message to wait for a report on, when `entry` says that it was taken.
pub(super) fn awaited(
    account: AccountId,
    version: VersionId,
    entry: &OutcomeEntry,
    (reference, fallback): (Option<&str>, Option<&Fallback>),
) -> Option<Awaited> {
    let given = reference.filter(|id| id.len() <= REFERENCE_BYTES_MAX);
    let reference = match (given, fallback) {
        (Some(given), _) => given.to_owned(),
        (None, Some(Fallback::SubscriptionNotice(form))) => {
            notice_name(entry.enrollment.follower(), &form.template)
        }
        (None, _) => return None,
    };
    // One that ended unknown may have been taken all the same.
    let sent = match entry.outcome {
        Outcome::Sent => true,
        Outcome::Unknown => entry.steps > 0,
        _ => false,
    };
    Some(Awaited {
        account,
        reference,
        enrollment: entry.enrollment,
        version,
        step: entry.step,
        entry: entry.entry.checked_add(1)?,
        carrier: entry.carrier.filter(|_| sent)?,
        due_at: entry.due_at,
        sent_at: entry.at,
    })
}
