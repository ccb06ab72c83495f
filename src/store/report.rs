//! What the platform tells later: reports on messages that it took, and consents.

use std::collections::HashMap;

use sea_orm::DatabaseTransaction;

use crate::clock::Timestamp;
use crate::journey::event::{Event, Report};
use crate::journey::ids::{AccountId, VersionId};
use crate::journey::outcome::{Outcome, OutcomeEntry};
use crate::policy::consent::Consents;
use crate::store::Error;
use crate::store::awaited::{self, Awaited, REFERENCE_BYTES_MAX};
use crate::store::batch::Batch;
use crate::store::work::Work;

/// The messages that a commit's reports are about.
pub(super) type Reports = HashMap<(AccountId, String), Vec<Awaited>>;

/// Loads the messages that `works` report on.
pub(super) async fn load(tx: &DatabaseTransaction, works: &[Work]) -> Result<Reports, Error> {
    let references: Vec<_> = works.iter().filter_map(reported).collect();
    let mut awaited = Reports::new();
    for one in awaited::by_reference(tx, &references).await? {
        let key = (one.account, one.reference.clone());
        awaited.entry(key).or_default().push(one);
    }
    Ok(awaited)
}

fn reported(work: &Work) -> Option<(AccountId, &str)> {
    match work {
        Work::Receive {
            account, arrival, ..
        } => match &arrival.event {
            Event::Reported(report) if report.reference.len() <= REFERENCE_BYTES_MAX => {
                Some((*account, report.reference.as_str()))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Whether any of `works` changes consents.
pub(super) fn changes_consents(works: &[Work]) -> bool {
    works.iter().any(|work| match work {
        Work::Receive { arrival, .. } => match &arrival.event {
            Event::ConsentsChanged { .. } => true,
            Event::Reported(report) => report.template.is_some(),
            _ => false,
        },
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

impl Batch<'_> {
    /// Adds a report to the history of the steps that it is about; says whether there are any.
    pub(super) fn report(&mut self, account: AccountId, report: &Report) -> bool {
        let key = (account, report.reference.clone());
        let Some(awaited) = self.awaited.remove(&key) else {
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
    reference: Option<&str>,
) -> Option<Awaited> {
    let reference = reference.filter(|id| id.len() <= REFERENCE_BYTES_MAX)?;
    let sent = entry.outcome == Outcome::Sent;
    Some(Awaited {
        account,
        reference: reference.to_owned(),
        enrollment: entry.enrollment,
        version,
        step: entry.step,
        entry: entry.entry.checked_add(1)?,
        carrier: entry.carrier.filter(|_| sent)?,
        due_at: entry.due_at,
        sent_at: entry.at,
    })
}
