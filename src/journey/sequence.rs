//! A sequence: what an operator wrote, checked and ready to plan with.
//!
//! `parse` makes these from YAML; `plan` turns one into due instants. A sequence that exists as
//! this type is valid: everything that can be refused has been refused by then.

use std::time::Duration;

use crate::journey::carrier::Carrier;
use crate::journey::link::{Link, Name};
use crate::journey::message::{Form, Say};
use crate::journey::template::Condition;

/// Platforms forget a follower's grant after two days at most: steps beyond that need `horizon:`.
pub const HORIZON_DEFAULT: Duration = Duration::from_secs(48 * 3600);

/// What a version is for. The numbers are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Followers go through it step by step.
    #[default]
    Sequence = 0,
    /// One message to many followers, by the cheapest carrier.
    Broadcast = 1,
    /// One message to many followers, by mass send and nothing else.
    MassBroadcast = 2,
}

impl Kind {
    /// The number it is stored under.
    pub fn number(self) -> i64 {
        i64::from(self as u8)
    }

    /// The kind stored under `number`.
    pub fn from_number(number: i64) -> Option<Self> {
        let all = [Self::Sequence, Self::Broadcast, Self::MassBroadcast];
        all.into_iter().find(|one| one.number() == number)
    }

    /// Whether it is one message to many.
    pub fn is_broadcast(self) -> bool {
        self != Self::Sequence
    }
}

/// An ordered list of steps and the rules for going through them.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// What it is for; nobody writes it, the row of the version says it.
    pub kind: Kind,
    /// Unique among the sequences of a directory: `[a-z0-9_-]{1,64}`.
    pub name: String,
    /// For people; the name when none is given.
    pub title: String,
    /// Keys of the accounts it runs on; empty means all.
    pub accounts: Vec<String>,
    pub trigger: Trigger,
    pub reenter: Reenter,
    pub exit_on: Vec<ExitOn>,
    pub quiet_hours: Option<QuietHours>,
    /// Zone of `at:` and quiet hours; `None` means the account's.
    pub timezone: Option<String>,
    /// How far after the enrollment a step may be due.
    pub horizon: Duration,
    /// Least time between two messages to one follower.
    pub min_gap: Duration,
    /// Steps of many followers that fall on one instant are spread over this span.
    pub spread: Duration,
    /// How much earlier than its instant a step may be sent when its grant would close before it;
    /// zero for never.
    pub last_call: Duration,
    /// Whether it takes in those whose follow we were never told of.
    pub reconcile: Reconcile,
    /// Whether clicks on its links are counted; `None` leaves it to the account.
    pub track_links: Option<bool>,
    /// In the order in which they are sent; never empty.
    pub steps: Vec<Step>,
}

/// One message of a sequence.
#[derive(Clone, Debug)]
pub struct Step {
    /// Stable across edits: `[a-z0-9_-]{1,64}`, unique in its sequence.
    pub id: String,
    pub due: Due,
    /// Decided when the step is about to be sent; false skips it.
    pub when: Option<Condition>,
    pub say: Say,
    /// Of all its messages; a link's number is its place here, from 1.
    pub links: Vec<Link>,
    pub late: Late,
    pub closed: Closed,
    pub on_unknown: OnUnknown,
    /// How long after its due instant a held step is still worth sending.
    pub expire_after: Duration,
}

impl Sequence {
    /// Whether it asks anywhere what a follower clicked.
    pub fn asks_for_clicks(&self) -> bool {
        let mut steps = self.steps.iter();
        let mut exits = self.exit_on.iter();
        let when = |step: &Step| step.when.as_ref().is_some_and(Condition::asks_for_clicks);
        steps.any(when) || exits.any(|one| matches!(one, ExitOn::Clicked(_)))
    }
}

impl Step {
    /// Whether it answers the act that enrolled the follower. Quiet hours do not keep such a step:
    /// somebody who follows at midnight is awake, and waits for the answer.
    pub fn answers(&self) -> bool {
        self.due == Due::After(Duration::ZERO)
    }
}

/// When a step is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// So long after the enrollment.
    After(Duration),
    /// At a time of day, `day` days after the day of the enrollment (0 is the same day).
    At { day: u16, time: jiff::civil::Time },
}

/// Which event enrolls a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A new follow; with `scene`, only one that came through such a QR code.
    Follow { scene: Option<Pattern> },
    /// A scan by somebody who already follows.
    Scan { scene: Option<Pattern> },
    /// A message of any kind; with `text`, only a text that matches.
    Message { text: Option<Pattern> },
    /// A click on a menu item.
    Click { key: Option<Pattern> },
    /// Only by hand or through the API.
    Api,
}

/// Text to compare with: `*` stands for any run of characters; case and outer spaces are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(pub String);

impl Pattern {
    /// Whether the whole of `text` fits.
    pub fn matches(&self, text: &str) -> bool {
        let text = text.trim().to_lowercase();
        let pattern = self.0.trim().to_lowercase();
        let mut parts = pattern.split('*');
        let Some(mut rest) = parts.next().and_then(|head| text.strip_prefix(head)) else {
            return false;
        };
        let Some(tail) = pattern
            .contains('*')
            .then(|| parts.next_back().unwrap_or(""))
        else {
            return rest.is_empty();
        };
        // The earliest place for each inner part leaves the most room for those behind it.
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(tail)
    }
}

/// Whether a follower who has been in the sequence may enter again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reenter {
    Never,
    /// Also while still inside: the earlier passage is ended first.
    Always,
    /// So long after the last entry.
    After(Duration),
}

/// What a sequence does about somebody who followed while we could not be told, and was found later
/// in the platform's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconcile {
    /// Enrolled as of the instant of the follow, while a step could still be sent.
    Enroll,
    /// Only known from then on.
    Record,
}

/// What ends a passage early. An unfollow always does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitOn {
    Message(Option<Pattern>),
    Click(Option<Pattern>),
    Scan(Option<Pattern>),
    /// A click on a link of the passage's own messages.
    Clicked(Name),
}

/// Hours in which nothing is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuietHours {
    /// First quiet minute of the day.
    pub from: jiff::civil::Time,
    /// First minute that is not quiet; earlier than `from` when the span crosses midnight.
    pub to: jiff::civil::Time,
    pub then: Quiet,
}

/// What happens to a step that falls into quiet hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// Sent when they end.
    Shift,
    /// Left out.
    Skip,
}

/// What happens to a step that comes much too late, as after downtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// From this lateness on.
    pub after: Duration,
    pub then: LateThen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateThen {
    /// Sent all the same.
    Send,
    /// Left out.
    Skip,
    /// Sent, and the rest of the plan moves by as much.
    Shift,
}

/// What happens to a due step when the platform grants no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Other carriers, in the order in which they are tried.
    pub carriers: Vec<Fallback>,
    /// What happens when none of them can take it.
    pub then: ClosedThen,
}

impl Closed {
    /// Without other carriers.
    pub fn only(then: ClosedThen) -> Self {
        Self {
            carriers: Vec::new(),
            then,
        }
    }
}

/// What happens to a due step that nothing can carry now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedThen {
    /// Waits for the follower's next event, until it expires.
    Hold,
    Skip,
}

/// Another carrier for a step, with what it says there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    SubscriptionNotice(Form),
    Template(Form),
    /// What the step says anyway, sent to everybody who has come to this step, together.
    MassSend,
}

impl Fallback {
    pub fn carrier(&self) -> Carrier {
        match self {
            Self::SubscriptionNotice(_) => Carrier::SubscriptionNotice,
            Self::Template(_) => Carrier::Template,
            Self::MassSend => Carrier::MassSend,
        }
    }
}

/// What happens after a send whose answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// Sent once more: an unsent message is the greater loss.
    Resend,
    /// Left alone.
    Skip,
}
