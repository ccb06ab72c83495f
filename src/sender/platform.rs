//! The seam to the platforms: one trait, and what an adapter must promise.
//!
//! An adapter makes exactly one call per `send` that could reach the follower, classifies what came
//! back, and never retries a call whose answer it did not read: only the engine decides that.

use std::fmt;

pub use crate::journey::answer::{Answer, AnswerClass};
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

    /// The language a follower reads, where the platform tells it only when asked. Asked once per
    /// follower, and only for steps that are written in several languages. `None` when it is not
    /// known; ends as `send` does.
    fn language<'a>(&'a self, openid: &'a str) -> Call<'a, Option<String>> {
        let _ = openid;
        Box::pin(async { None })
    }
}
