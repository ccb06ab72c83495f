//! What the platform said to one attempt, classified.

use crate::clock::Timestamp;

/// An attempt's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub class: AnswerClass,
    /// The platform's own code, where it gave one.
    pub code: Option<i64>,
    /// For people: the platform's words and request id, or what went wrong. Never a secret, a
    /// token or a URL with one.
    pub detail: String,
    /// The platform's id of the message, by which it reports on it later.
    pub reference: Option<String>,
}

/// The classes of answers, each with its own reaction in `journey::settle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnswerClass {
    /// Taken by the platform.
    Accepted,
    /// Definitely not taken; worth another attempt soon (busy, connect failure before the body).
    RetrySoon,
    /// The access token was refused even after one refresh. Definite.
    TokenStale,
    /// The minute's calls are used up: wait for the next minute.
    NextMinute,
    /// The day's calls are used up: wait for the platform's next day.
    NextDay,
    /// Refused for good: this message will never reach this follower.
    Dropped,
    /// This carrier cannot take it after all, and nothing was asked: another one takes over.
    NotCarried,
    /// Not now, and nothing is wrong with step or account: what this message needs is used up until
    /// this instant.
    NotBefore(Timestamp),
    /// It could not be put into words or files: nothing was asked of the platform.
    Unsendable,
    /// The follower does not follow (any more).
    Unsubscribed,
    /// The follower, or the account's owner, blocks messages until further notice.
    Muted,
    /// The platform grants no message now; the follower has to act first.
    GrantClosed,
    /// Nothing of this account will pass until a person acts.
    NeedsAttention,
    /// The answer was lost or unreadable: the message may or may not have been taken.
    Unknown,
}

impl AnswerClass {
    /// Its name, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::RetrySoon => "RetrySoon",
            Self::TokenStale => "TokenStale",
            Self::NextMinute => "NextMinute",
            Self::NextDay => "NextDay",
            Self::Dropped => "Dropped",
            Self::NotCarried => "NotCarried",
            Self::NotBefore(_) => "NotBefore",
            Self::Unsendable => "Unsendable",
            Self::Unsubscribed => "Unsubscribed",
            Self::Muted => "Muted",
            Self::GrantClosed => "GrantClosed",
            Self::NeedsAttention => "NeedsAttention",
            Self::Unknown => "Unknown",
        }
    }
}

impl Answer {
    /// An answer without a code of the platform's.
    pub fn without_code(class: AnswerClass, detail: impl Into<String>) -> Self {
        Self {
            class,
            code: None,
            detail: detail.into(),
            reference: None,
        }
    }
}
