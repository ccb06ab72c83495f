//! The seam to the platforms: one trait, and what an adapter must promise.
//!
//! An adapter makes exactly one call per `send` that could reach the follower, classifies what came
//! back, and never retries a call whose answer it did not read: only the engine decides that.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

pub use crate::journey::answer::{Answer, AnswerClass};
use crate::journey::ids::AccountId;
use crate::journey::message::{Form, Message};
use crate::policy::learned::Quota;

/// One rendered message for one follower.
#[derive(Clone, Debug)]
pub struct Parcel {
    pub openid: String,
    pub content: Content,
    /// Ours, the same for every attempt at one step: where the platform knows such ids, a second
    /// call with it sends nothing twice. At most 32 characters of `[0-9a-zA-Z_-]`.
    pub message_id: String,
}

/// What a parcel holds, by the carrier it takes. Every template in it is already filled in.
#[derive(Clone, Debug)]
pub enum Content {
    /// For a customer message.
    Message(Message),
    SubscriptionNotice(Form),
    Template(Form),
}

/// One rendered message for many followers.
#[derive(Clone, Debug)]
pub struct Cohort {
    /// At least two; at most what the account's profile says.
    pub openids: Vec<String>,
    pub message: Message,
    /// As in a parcel: the same for every call that must not be made twice.
    pub message_id: String,
}

/// A future an adapter hands out.
pub type Call<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One account's way to its platform.
pub trait Platform: Send + Sync + fmt::Debug {
    /// Which account's.
    fn account(&self) -> AccountId;

    /// Brings one parcel to one follower. Ends within the adapter's own
    /// deadline (8 s by default) whatever the network does, and never panics.
    fn send<'a>(&'a self, parcel: &'a Parcel) -> Call<'a, Answer>;

    /// Hands one message for many followers over, where the platform can do that.
    fn send_to_many<'a>(&'a self, cohort: &'a Cohort) -> Call<'a, Answer> {
        let _ = cohort;
        let what = "this platform has no mass send";
        Box::pin(async move { Answer::without_code(AnswerClass::Dropped, what) })
    }

    /// The language a follower reads, where the platform tells it only when asked. Asked once per
    /// follower, and only for steps that are written in several languages. `None` when it is not
    /// known; ends as `send` does.
    fn language<'a>(&'a self, openid: &'a str) -> Call<'a, Option<String>> {
        let _ = openid;
        Box::pin(async { None })
    }
}

/// Every account's way to its platform as of now: accounts come and go while we run.
pub trait Platforms: Send + Sync + fmt::Debug {
    /// The way of an account; `None` when there is none.
    fn of(&self, account: AccountId) -> Option<Arc<dyn Platform>>;

    /// What was learned of accounts' limits since this was asked last.
    fn learned(&self) -> Vec<Learned> {
        Vec::new()
    }
}

/// What a platform said of an account's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    pub account: AccountId,
    pub quota: Quota,
    /// The day's calls are not used up (any more), whatever was refused before.
    pub lifts: bool,
}

impl Platforms for HashMap<AccountId, Arc<dyn Platform>> {
    fn of(&self, account: AccountId) -> Option<Arc<dyn Platform>> {
        self.get(&account).cloned()
    }
}
