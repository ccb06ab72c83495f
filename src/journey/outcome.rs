//! What became of a step: the entries of its history, and the one that ends it.

use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::journey::ids::EnrollmentId;

/// What one entry of a step's history says. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Outcome {
    /// Taken by the platform.
    Sent = 1,
    /// Refused by the platform for good.
    Refused = 2,
    /// Its time passed while no message was granted.
    Expired = 3,
    /// Left out by its own rules: `when`, `late`, quiet hours, `closed: skip`.
    Skipped = 4,
    /// Ended by an unfollow, an exit rule, a new passage or a person.
    Cancelled = 5,
    /// Given up after too many definite failures, or it could not be rendered.
    Failed = 6,
    /// The answer was lost: it may or may not have arrived.
    Unknown = 7,
    /// Not an end: an attempt failed for certain and another follows.
    Retried = 8,
    /// Not an end: waits for the follower's next event.
    Held = 9,
    /// After the end: the platform reports that it reached the follower.
    Delivered = 10,
    /// After the end: the platform reports that it did not reach the follower.
    Undelivered = 11,
}

impl Outcome {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Sent,
        Self::Refused,
        Self::Expired,
        Self::Skipped,
        Self::Cancelled,
        Self::Failed,
        Self::Unknown,
        Self::Retried,
        Self::Held,
        Self::Delivered,
        Self::Undelivered,
    ];

    /// The number it is stored under.
    pub fn number(self) -> i64 {
        i64::from(self as u8)
    }

    /// The outcome stored under `number`.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.number() == number)
    }

    /// The word that tables, API, pages and metrics use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Retried => "retried",
            Self::Held => "held",
            Self::Delivered => "delivered",
            Self::Undelivered => "undelivered",
        }
    }
}

/// One entry of a step's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeEntry {
    pub enrollment: EnrollmentId,
    pub step: u16,
    /// Running number within the step, so that no entry can be written twice.
    pub entry: u16,
    pub outcome: Outcome,
    /// How many steps it ends, counted from `step`: 0 when the step goes on.
    pub steps: u16,
    pub due_at: Timestamp,
    pub at: Timestamp,
    /// How it travelled; `None` when nothing was sent.
    pub carrier: Option<Carrier>,
    /// The platform's errcode.
    pub code: Option<i64>,
    /// For people. Never a secret, never the text of a message.
    pub detail: String,
}
