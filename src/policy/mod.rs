//! May it be sent now? `judge` holds a due step against the follower, the sequence's own rules and
//! the grants, and says what to do. Pure: no I/O, no clock.

pub mod account;
pub mod consent;
pub mod fare;
pub mod grant;
pub mod learned;
pub mod limiter;
pub mod profile;
pub mod retries;
pub mod settle;

use std::time::Duration;

use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::journey::catalog::{Catalog, Version};
use crate::journey::enrollment::{Enrollment, State};
use crate::journey::follower::Follower;
use crate::journey::outcome::Outcome;
use crate::journey::plan;
use crate::journey::receive::Passages;
use crate::journey::sequence::{ClosedThen, Fallback, LateThen, Quiet, QuietHours, Step};
use crate::journey::template::Facts;
use crate::policy::account::Account;
use crate::policy::consent::Consents;
use crate::policy::fare::Fare;
use crate::policy::grant::Grants;

/// How long a step that answers the follower's act is still that, and may disturb the night.
const STILL_AN_ANSWER: Duration = Duration::from_secs(300);

/// What policy says of a due step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it, so.
    Send(Fare),
    /// Not before this instant, and why.
    Wait(Timestamp, &'static str),
    /// Not before the follower acts, at most until the step's deadline.
    Hold(Timestamp, &'static str),
    /// Not at all; the step ends so, and why.
    Drop(Outcome, String),
    /// The follower left: the whole passage ends.
    Cancel,
}

/// What a verdict is about.
#[derive(Debug)]
pub struct Case<'a> {
    pub account: &'a Account,
    /// The follower with every passage of theirs: quota may be kept for others.
    pub passages: &'a Passages,
    /// Place of the enrollment among them.
    pub index: usize,
    pub grants: &'a Grants,
    pub consents: &'a Consents,
    pub catalog: &'a Catalog,
    pub version: &'a Version,
    pub step: &'a Step,
    /// Whether a callback of the follower's waits for its answer, so that a passive reply is
    /// possible.
    pub passive: bool,
}

impl Case<'_> {
    fn follower(&self) -> &Follower {
        &self.passages.follower
    }

    fn enrollment(&self) -> &Enrollment {
        &self.passages.enrollments[self.index]
    }
}

/// Judges one due step at `now`.
///
/// The order matters: what ends a step for good comes before what makes it wait, so that nothing
/// waits for a message that will never be sent.
pub fn judge(case: &Case<'_>, now: Timestamp) -> Verdict {
    let (step, enrollment) = (case.step, case.enrollment());
    if !case.follower().following {
        return Verdict::Cancel;
    }
    let deadline = enrollment.due_at().plus(step.expire_after);
    if now >= deadline {
        return Verdict::Drop(Outcome::Expired, waited(enrollment));
    }
    let late = now.since(enrollment.due_at());
    // Only the first attempt can be late by our fault; a held or repeated step is late on purpose.
    let fresh = enrollment.entry == 0;
    if fresh && late >= step.late.after && step.late.then == LateThen::Skip {
        return Verdict::Drop(Outcome::Skipped, format!("late by {}", words(late)));
    }
    if let Some(drop) = unwanted(case, now) {
        return drop;
    }
    let gap_ends_at = case
        .follower()
        .last_sent_at
        .plus(case.version.sequence.min_gap);
    // A send that seems to lie ahead was made by a clock that has been set back since.
    let sent_before = case.follower().last_sent_at.0 > 0 && case.follower().last_sent_at <= now;
    if sent_before && gap_ends_at > now {
        return Verdict::Wait(gap_ends_at, "min_gap");
    }
    if let Some(quiet) = quiet(case, now) {
        return quiet;
    }
    if case.follower().muted {
        return closed(step, deadline, "the follower blocks messages");
    }
    if let Some(fare) = passive(case) {
        return Verdict::Send(fare);
    }
    if case.account.profile.grants.is_empty() {
        return Verdict::Send(Fare::customer_message(None));
    }
    if let Some(kind) = case.grants.usable(&case.account.profile, now) {
        return Verdict::Send(Fare::customer_message(Some(kind)));
    }
    match fallback(case) {
        Some(fare) => Verdict::Send(fare),
        None => closed(step, deadline, "no grant is open"),
    }
}

/// Whether a step that is sent at `now` moves the rest of its plan.
pub fn shifts(step: &Step, enrollment: &Enrollment, now: Timestamp) -> bool {
    let late = now.since(enrollment.due_at());
    enrollment.entry == 0 && step.late.then == LateThen::Shift && late >= step.late.after
}

/// The passive reply, where one is possible and allowed.
fn passive(case: &Case<'_>) -> Option<Fare> {
    let possible = case.passive && case.account.passive_reply;
    possible.then_some(Fare {
        carrier: Carrier::PassiveReply,
        grant: None,
        fallback: None,
    })
}

/// The first of the step's other carriers that can take it.
fn fallback(case: &Case<'_>) -> Option<Fare> {
    let mut carriers = case.step.closed.carriers.iter().enumerate();
    carriers.find_map(|(at, fallback)| {
        let possible = match fallback {
            Fallback::SubscriptionNotice(form) => case.consents.permits(&form.template),
            Fallback::Template(_) => true,
            Fallback::MassSend => false,
        };
        possible.then_some(Fare {
            carrier: fallback.carrier(),
            grant: None,
            fallback: Some(u8::try_from(at).ok()?),
        })
    })
}

fn closed(step: &Step, deadline: Timestamp, why: &'static str) -> Verdict {
    match step.closed.then {
        ClosedThen::Hold => Verdict::Hold(deadline, why),
        ClosedThen::Skip => Verdict::Drop(Outcome::Skipped, format!("closed: skip, {why}")),
    }
}

fn unwanted(case: &Case<'_>, now: Timestamp) -> Option<Verdict> {
    let condition = case.step.when.as_ref()?;
    match condition.holds(&facts(case, now)) {
        Ok(true) => None,
        Ok(false) => Some(Verdict::Drop(Outcome::Skipped, "when: is false".into())),
        Err(error) => Some(Verdict::Drop(Outcome::Failed, format!("when: {error}"))),
    }
}

fn quiet(case: &Case<'_>, now: Timestamp) -> Option<Verdict> {
    let sequence = &case.version.sequence;
    let QuietHours { then, .. } = sequence.quiet_hours.as_ref()?;
    let late = now.since(case.enrollment().due_at());
    if case.step.answers() && late < STILL_AN_ANSWER {
        return None;
    }
    let zone = case.version.zone(&case.account.journey);
    let ends_at = plan::quiet_until(sequence, zone, now)?;
    Some(match then {
        Quiet::Shift => Verdict::Wait(ends_at, "quiet hours"),
        Quiet::Skip => Verdict::Drop(Outcome::Skipped, "quiet hours".into()),
    })
}

fn waited(enrollment: &Enrollment) -> String {
    match enrollment.state {
        State::Held => "held until its deadline: no grant was opened".into(),
        State::Active | State::Completed | State::Cancelled => "due too long ago".into(),
    }
}

fn words(span: Duration) -> String {
    format!("{} s", span.as_secs())
}

/// What templates and conditions may know of a case.
pub fn facts(case: &Case<'_>, now: Timestamp) -> Facts {
    let (follower, account) = (case.follower(), &case.account.journey);
    Facts {
        language: follower.language.clone().unwrap_or_default(),
        scene: follower.scene.clone(),
        tags: follower.tags.clone(),
        followed_at: follower.followed_at,
        account_key: account.key.clone(),
        account_name: account.name.clone(),
        sequence_name: case.version.sequence.name.clone(),
        step_id: case.step.id.clone(),
        now,
        zone: case.version.zone(account).clone(),
    }
}
