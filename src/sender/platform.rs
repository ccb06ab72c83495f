//! The seam to the platforms: one trait, and what an adapter must promise.
//!
//! An adapter makes exactly one call per `send` that could reach the follower, classifies what came
//! back, and never retries a call whose answer it did not read: only the engine decides that.

use std::fmt;
use std::time::Duration;

use crate::journey::ids::AccountId;
use crate::journey::message::Message;

/// One rendered message for one follower.
#[derive(Clone, Debug)]
pub struct Parcel {
    pub openid: String,
    /// Every template in it is already filled in.
    pub message: Message,
}

/// A future an adapter hands out.
pub type Call<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One account's way to its platform.
pub trait Platform: Send + Sync + fmt::Debug {
    /// Which account's.
    fn account(&self) -> AccountId;

    /// Brings one message to one follower by a customer message. Ends within the adapter's own
    /// deadline (8 s by default) whatever the network does, and never panics.
    fn send<'a>(&'a self, parcel: &'a Parcel) -> Call<'a, Answer>;
}

/// What the platform said to one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub class: AnswerClass,
    /// The platform's own code, where it gave one.
    pub code: Option<i64>,
    /// For people: the platform's words and request id, or what went wrong. Never a secret, a
    /// token or a URL with one.
    pub detail: String,
}

/// The classes of answers, each with its own reaction in `sender::react`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl Answer {
    /// An answer without a code of the platform's.
    pub fn without_code(class: AnswerClass, detail: impl Into<String>) -> Self {
        Self {
            class,
            code: None,
            detail: detail.into(),
        }
    }
}

/// How long one attempt may take, from the first byte to the answer, in real time.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(8);
