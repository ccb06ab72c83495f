//! May it be sent now? `judge` holds a due step against the follower, the sequence's own rules and
//! the grants, and says what to do. Pure: no I/O, no clock.

pub mod account;
pub mod compile;
pub mod consent;
pub mod fare;
pub mod fit;
pub mod grant;
pub mod learned;
pub mod limiter;
pub mod lint;
pub mod profile;
pub mod recall;
pub mod reserve;
pub mod retries;
pub mod settle;

use std::time::Duration;

use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::journey::catalog::{Catalog, Version};
use crate::journey::enrollment::{Enrollment, State};
use crate::journey::follower::Follower;
use crate::journey::link::{Click, clicked_names};
use crate::journey::outcome::Outcome;
use crate::journey::plan;
use crate::journey::receive::Passages;
use crate::journey::sequence::{
    ClosedThen, Fallback, Kind as VersionKind, LateThen, Quiet, QuietHours, Step,
};
use crate::journey::template::Facts;
use crate::policy::account::Account;
use crate::policy::consent::Consents;
use crate::policy::fare::Fare;
use crate::policy::grant::{Grants, Kind};
use crate::policy::profile::PassiveReply;

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
    /// What the follower clicked; only there if a sequence asks for it.
    pub clicks: &'a [Click],
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
    let early = now < enrollment.due_at();
    if early && !recall::may_go_early(waking(case), now) {
        return Verdict::Wait(enrollment.due_at(), "not due yet");
    }
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
    let why = match own(case, now) {
        Ok(fare) => return Verdict::Send(fare),
        Err(why) => why,
    };
    if early {
        return Verdict::Wait(enrollment.due_at(), "not due yet");
    }
    match fallback(case, now, deadline) {
        Some(verdict) => verdict,
        None => closed(step, deadline, why),
    }
}

/// What decides when a case's step wakes.
fn waking<'a>(case: &'a Case<'_>) -> recall::Waking<'a> {
    recall::Waking {
        profile: &case.account.profile,
        grants: case.grants,
        sequence: &case.version.sequence,
        zone: case.version.zone(&case.account.journey),
        enrollment: case.enrollment(),
    }
}

/// The step's own message by the cheapest carrier that takes it now, or why none does.
fn own(case: &Case<'_>, now: Timestamp) -> Result<Fare, &'static str> {
    let profile = &case.account.profile;
    if case.version.sequence.kind == VersionKind::MassBroadcast {
        return Err("no mass send to this follower is left this month");
    }
    if let Some(fare) = passive(case, now) {
        return Ok(fare);
    }
    if profile.carriers.customer_message.is_none() {
        return Err("the account has no customer messages");
    }
    if profile.grants.is_empty() {
        return Ok(Fare::customer_message(None));
    }
    let source = reserve::source(case.version);
    let kind = reserve::usable(
        case.grants,
        case.passages,
        case.catalog,
        profile,
        source,
        now,
    );
    match kind {
        Some(kind) => Ok(Fare::customer_message(Some(kind))),
        None if case.grants.usable(profile, now).is_some() => {
            Err("the grant is kept for steps that go first")
        }
        None => Err("no grant is open"),
    }
}

/// Whether a step that is sent at `now` moves the rest of its plan.
pub fn shifts(step: &Step, enrollment: &Enrollment, now: Timestamp) -> bool {
    let late = now.since(enrollment.due_at());
    enrollment.entry == 0 && step.late.then == LateThen::Shift && late >= step.late.after
}

/// The passive reply, where one is possible and allowed.
fn passive(case: &Case<'_>, now: Timestamp) -> Option<Fare> {
    let carrier = case.account.profile.carriers.passive_reply?;
    if !case.passive || !case.account.passive_reply {
        return None;
    }
    let language = case.follower().language.as_deref().unwrap_or_default();
    if !PassiveReply::can_hold(case.step.say.to(language)) {
        return None;
    }
    let grant = match carrier.spends_grant {
        true => Some(case.grants.usable(&case.account.profile, now)?),
        false => None,
    };
    Some(Fare {
        carrier: Carrier::PassiveReply,
        grant,
        fallback: None,
    })
}

/// What the first of the step's other carriers that can take it does.
fn fallback(case: &Case<'_>, now: Timestamp, deadline: Timestamp) -> Option<Verdict> {
    let has = &case.account.profile.carriers;
    let mut carriers = case.step.closed.carriers.iter().enumerate();
    carriers.find_map(|(at, fallback)| {
        if !has.has(fallback.carrier()) {
            return None;
        }
        let mut fare = Fare {
            carrier: fallback.carrier(),
            grant: None,
            fallback: Some(u8::try_from(at).ok()?),
        };
        let mass = match (fallback, has.mass_send) {
            (Fallback::MassSend, Some(mass)) => mass,
            (Fallback::SubscriptionNotice(form), _) if !case.consents.permits(&form.template) => {
                return None;
            }
            _ => return Some(Verdict::Send(fare)),
        };
        fare.grant = Some(Kind::Mass);
        let together_at = mass.gathers_at(now);
        // Whoever woke at a common instant is in company, however late the turn came.
        let woke_at = case.enrollment().wake_at;
        let common = mass.gathers_at(woke_at) == woke_at;
        // A broadcast's recipients come together; whoever of them found no company waits as others do.
        let sequence = &case.version.sequence;
        let together = sequence.kind.is_broadcast() && woke_at == case.enrollment().due_at();
        let gathered = woke_at <= now && (common || together);
        if !case.grants.permits_mass(&mass, now) {
            None
        } else if gathered || together_at == now {
            Some(Verdict::Send(fare))
        } else if together_at < deadline {
            Some(Verdict::Wait(together_at, "gathers for a mass send"))
        } else {
            None
        }
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
    let answers = case.step.answers() && !sequence.kind.is_broadcast();
    if answers && late < STILL_AN_ANSWER {
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
        clicked: clicked_names(
            case.clicks,
            case.enrollment().id,
            &case.version.sequence.steps,
        ),
    }
}

#[cfg(test)]
mod tests;
