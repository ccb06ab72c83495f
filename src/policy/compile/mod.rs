//! The compiler: what a profile makes of a sequence before anybody is in it.
//!
//! It lets one follower go through the sequence who does nothing but what the trigger asks, for every
//! time of day at which that makes a difference, and asks [`judge`](crate::policy::judge) at every
//! step, as the server would: so the two cannot disagree. Every `when:` is taken to hold, consents to
//! be given, and mass sends to be left; what rests on that is said. Pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::clock::{Timestamp, millis};
use crate::journey::account::Account as JourneyAccount;
use crate::journey::carrier::Carrier;
use crate::journey::catalog::{Catalog, Version};
use crate::journey::enrollment::{Enrollment, Entry};
use crate::journey::event::{Arrival, Event};
use crate::journey::follower::Follower;
use crate::journey::ids::{AccountId, EnrollmentId, FollowerId, VersionId};
use crate::journey::outcome::Outcome;
use crate::journey::plan;
use crate::journey::receive::Passages;
use crate::journey::sequence::{ClosedThen, Due, Fallback, Sequence, Trigger};
use crate::policy::account::Account;
use crate::policy::consent::{Consent, Consents};
use crate::policy::grant::{Grants, Opener};
use crate::policy::learned::QuotaReset;
use crate::policy::limiter::Rate;
use crate::policy::profile::Profile;
use crate::policy::recall::recall;
use crate::policy::{Case, Verdict, judge};

/// How often one step may be put off before the compiler gives up on it; far more than any rule can.
const WAITS_MAX: usize = 64;

/// How far apart the starts lie that are tried where the time of day matters.
const START_EVERY: Duration = Duration::from_secs(15 * 60);

/// What a profile makes of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// One for each step.
    pub steps: Vec<Carriage>,
}

/// How one step is carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carriage {
    /// After the start, over every time of day, as planned or pulled forward.
    pub earliest: Duration,
    pub latest: Duration,
    /// Every way that some time of day leads to, each once, the commonest first.
    pub ways: Vec<Way>,
}

/// One way in which a step ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// By the answer to the event, by a customer message on the grant of that event, or on a platform
    /// without grants.
    Carried {
        carrier: Carrier,
        grant: Option<Opener>,
        /// It goes before its planned instant, since its grant does not last.
        pulled: bool,
    },
    /// By another carrier of its `closed` list.
    Fallback(Carrier),
    /// Only if the follower does one of these first; the second is why.
    Acts(Vec<Opener>, Shortage),
    /// Whatever the follower does.
    Never(String),
}

/// Why a follower has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shortage {
    /// The trigger opens nothing.
    NothingOpened,
    /// What it opened has closed by then.
    Closed,
    /// What it opened has been spent on the steps before.
    Spent,
    /// A step before it waits for the follower.
    Behind,
}

impl Carriage {
    /// Why the step is never carried; `None` when some start carries it.
    pub fn never(&self) -> Option<&str> {
        let mut reasons = self.ways.iter().map(|way| match way {
            Way::Never(why) => Some(why.as_str()),
            Way::Carried { .. } | Way::Fallback(_) | Way::Acts(..) => None,
        });
        let first = reasons.next()??;
        reasons.all(|reason| reason.is_some()).then_some(first)
    }

    /// What the follower would have to do, if some start needs it.
    pub fn acts(&self) -> Option<(&[Opener], Shortage)> {
        self.ways.iter().find_map(|way| match way {
            Way::Acts(openers, shortage) => Some((openers.as_slice(), *shortage)),
            Way::Carried { .. } | Way::Fallback(_) | Way::Never(_) => None,
        })
    }
}

/// What a sequence compiles to on an account with this profile and zone. `passive` says whether the
/// account answers events with due steps.
pub fn compile(
    sequence: &Sequence,
    profile: &Arc<Profile>,
    zone: &TimeZone,
    passive: bool,
) -> Compiled {
    let mut all_wanted = sequence.clone();
    for step in &mut all_wanted.steps {
        step.when = None;
    }
    let named = sequence.timezone.as_deref();
    let named = named.and_then(|name| TimeZone::get(name).ok());
    let version = Arc::new(Version {
        id: VersionId(1),
        sequence: all_wanted,
        zone: named,
    });
    let mut catalog = Catalog::default();
    catalog.add(Arc::clone(&version), true);
    let account = Account {
        journey: JourneyAccount {
            id: AccountId(1),
            key: "check".to_owned(),
            name: "check".to_owned(),
            zone: zone.clone(),
        },
        profile: Arc::clone(profile),
        sends: true,
        passive_reply: passive,
        rate: Rate::default(),
        erase_on_unfollow: true,
        track_links: false,
        quota_reset: QuotaReset::default(),
        in_flight_max: 1,
    };
    let trial = Trial {
        version: &version,
        catalog: &catalog,
        account: &account,
    };
    let mut steps: Vec<Tried> = sequence.steps.iter().map(|_| Tried::default()).collect();
    for start in starts(sequence) {
        for jitter in jitters(sequence) {
            for (step, (after, way)) in steps.iter_mut().zip(trial.run(start, jitter)) {
                step.add(after, way);
            }
        }
    }
    Compiled {
        steps: steps.into_iter().map(Tried::carriage).collect(),
    }
}

/// What the starts have made of one step.
#[derive(Default)]
struct Tried {
    span: Option<(Duration, Duration)>,
    ways: Vec<(Way, usize)>,
}

impl Tried {
    fn add(&mut self, after: Duration, way: Way) {
        let (earliest, latest) = self.span.unwrap_or((after, after));
        self.span = Some((earliest.min(after), latest.max(after)));
        match self.ways.iter_mut().find(|(other, _)| *other == way) {
            Some((_, count)) => *count += 1,
            None => self.ways.push((way, 1)),
        }
    }

    fn carriage(mut self) -> Carriage {
        self.ways
            .sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let (earliest, latest) = self.span.unwrap_or_default();
        Carriage {
            earliest,
            latest,
            ways: self.ways.into_iter().map(|(way, _)| way).collect(),
        }
    }
}

/// A Monday in 2026 without a change of clocks near it, and, where the time of day decides, the rest
/// of its day.
fn starts(sequence: &Sequence) -> Vec<Timestamp> {
    const MONDAY: Timestamp = Timestamp(1_780_272_000_000);
    let by_day = sequence.quiet_hours.is_some()
        || sequence
            .steps
            .iter()
            .any(|step| matches!(step.due, Due::At { .. }));
    let count = if by_day {
        86_400 / START_EVERY.as_secs()
    } else {
        1
    };
    (0..count)
        .map(|n| MONDAY.plus(START_EVERY * u32::try_from(n).unwrap_or(0)))
        .collect()
}

/// The least and the greatest part of `spread`, in milliseconds.
fn jitters(sequence: &Sequence) -> Vec<i64> {
    match millis(sequence.spread) {
        0 => vec![0],
        spread => vec![0, spread - 1],
    }
}

/// One follower's way through the sequence.
struct Trial<'a> {
    version: &'a Arc<Version>,
    catalog: &'a Catalog,
    account: &'a Account,
}

impl Trial<'_> {
    /// For each step how long after the start it goes, and how.
    fn run(&self, start: Timestamp, jitter: i64) -> Vec<(Duration, Way)> {
        let sequence = &self.version.sequence;
        let zone = self.version.zone(&self.account.journey);
        let id = EnrollmentId::new(FollowerId(1), 0);
        let plan = plan::plan_at(sequence, start, zone, jitter);
        let event = trigger(&sequence.trigger);
        let mut grants = Grants::default();
        if let Some(event) = &event {
            grants.open(&self.account.profile, event, start);
        }
        let mut passages = Passages {
            follower: follower(start, event),
            enrollments: vec![Enrollment::new(id, VersionId(1), start, plan)],
        };
        let mut consents = self.consents();
        let mut behind = false;
        let mut ends = Vec::new();
        let mut clock = start;
        while !passages.enrollments[0].is_finished() {
            recall(&mut passages, &grants, self.account, self.catalog, clock);
            let (now, mut way) = self.step(start, &mut passages, &mut grants, &mut consents);
            let step = &sequence.steps[usize::from(passages.enrollments[0].step)];
            if behind && matches!(way, Way::Fallback(_) | Way::Carried { .. }) {
                way = self.acts(Shortage::Behind);
            }
            behind |= matches!(way, Way::Acts(..)) && step.closed.then == ClosedThen::Hold;
            let sent = matches!(way, Way::Carried { .. } | Way::Fallback(_));
            let (outcome, next) = match sent {
                true => (Outcome::Sent, now.plus(sequence.min_gap)),
                false => (Outcome::Skipped, now),
            };
            passages.enrollments[0].end_step(Entry::new(outcome, now, ""), next);
            ends.push((now.since(start), way));
            clock = now;
        }
        ends
    }

    /// Judges the current step until it is decided; spends what it takes.
    fn step(
        &self,
        start: Timestamp,
        passages: &mut Passages,
        grants: &mut Grants,
        consents: &mut Consents,
    ) -> (Timestamp, Way) {
        let mut now = passages.enrollments[0].wake_at;
        for _ in 0..WAITS_MAX {
            let enrollment = &passages.enrollments[0];
            let step = &self.version.sequence.steps[usize::from(enrollment.step)];
            let case = Case {
                account: self.account,
                passages,
                index: 0,
                grants,
                consents,
                clicks: &[],
                catalog: self.catalog,
                version: self.version,
                step,
                passive: now == start && trigger(&self.version.sequence.trigger).is_some(),
            };
            let fare = match judge(&case, now) {
                Verdict::Wait(until, _) => {
                    now = until;
                    passages.enrollments[0].rearm(until);
                    continue;
                }
                Verdict::Hold(..) => return (now, self.acts(shortage(grants, now))),
                Verdict::Drop(Outcome::Skipped, why) if why.starts_with("closed: skip") => {
                    return (now, self.acts(shortage(grants, now)));
                }
                Verdict::Drop(_, why) => return (now, Way::Never(self.why(&why))),
                Verdict::Cancel => return (now, Way::Never("the follower left".to_owned())),
                Verdict::Send(fare) => fare,
            };
            let way = match fare.fallback {
                Some(_) => Way::Fallback(fare.carrier),
                None => Way::Carried {
                    carrier: fare.carrier,
                    grant: fare
                        .grant
                        .and_then(|kind| grants.of(kind).map(|grant| grant.opened_by)),
                    pulled: now < enrollment.due_at(),
                },
            };
            if let Some(Fallback::SubscriptionNotice(form)) = fare.fallback_of(step) {
                consents.spend(&form.template);
            }
            fare.take(grants, self.account, now);
            passages.follower.last_sent_at = now;
            return (now, way);
        }
        let why = "its rules put it off again and again".to_owned();
        (now, Way::Never(why))
    }

    /// What the follower would have to do.
    fn acts(&self, shortage: Shortage) -> Way {
        let profile = &self.account.profile;
        if profile.carriers.customer_message.is_none() {
            let what = "the profile has no customer messages, and no other carrier takes this step";
            return Way::Never(what.to_owned());
        }
        // Who follows cannot follow once more without leaving first, which ends the passage.
        let openers: Vec<_> = [Opener::Message, Opener::Clicked, Opener::Scanned]
            .into_iter()
            .filter(|opener| !profile.opened_by(*opener).is_empty())
            .collect();
        if openers.is_empty() {
            return Way::Never("nothing that a follower can do opens a grant for it".to_owned());
        }
        Way::Acts(openers, shortage)
    }

    fn why(&self, why: &str) -> String {
        match why {
            "quiet hours" => "it always falls into quiet hours, which leave it out".to_owned(),
            "due too long ago" | "held until its deadline: no grant was opened" => {
                "its `expire_after` is over before it can be sent".to_owned()
            }
            other => other.to_owned(),
        }
    }

    fn consents(&self) -> Consents {
        let steps = self.version.sequence.steps.iter();
        let carriers = steps.flat_map(|step| &step.closed.carriers);
        let templates = carriers.filter_map(|carrier| match carrier {
            Fallback::SubscriptionNotice(form) => Some(form.template.clone()),
            Fallback::Template(_) | Fallback::MassSend => None,
        });
        let consents = templates.map(|template| Consent {
            template,
            left: u16::MAX,
        });
        Consents(consents.collect())
    }
}

fn shortage(grants: &Grants, now: Timestamp) -> Shortage {
    let open = grants.0.iter().any(|grant| now < grant.closes_at);
    match (grants.0.is_empty(), open) {
        (true, _) => Shortage::NothingOpened,
        (false, true) if grants.0.iter().all(|grant| grant.left() == 0) => Shortage::Spent,
        (false, _) => Shortage::Closed,
    }
}

/// The event that begins the sequence; `None` where a person or a program does.
fn trigger(trigger: &Trigger) -> Option<Event> {
    let text = String::new;
    Some(match trigger {
        Trigger::Follow { .. } => Event::Followed { scene: None },
        Trigger::Scan { .. } => Event::Scanned { scene: text() },
        Trigger::Click { .. } => Event::Clicked { key: text() },
        Trigger::Message { .. } => Event::MessageReceived {
            message_kind: "text".to_owned(),
            text: text(),
        },
        Trigger::Api => return None,
    })
}

fn follower(start: Timestamp, event: Option<Event>) -> Follower {
    let arrival = Arrival {
        openid: "check".to_owned(),
        created_at: start,
        digest: 0,
        event: event.unwrap_or(Event::Followed { scene: None }),
        language: None,
    };
    let mut follower = Follower::new(FollowerId(1), AccountId(1), &arrival);
    follower.following = true;
    follower
}

#[cfg(test)]
mod tests;
