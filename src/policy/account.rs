//! An account with the rules that hold for it.

use std::sync::Arc;

use crate::journey;
use crate::policy::learned::QuotaReset;
use crate::policy::limiter::Rate;
use crate::policy::profile::Profile;

/// An Official Account or channel, as far as sending needs it.
#[derive(Clone, Debug)]
pub struct Account {
    /// What journeys need of it.
    pub journey: journey::account::Account,
    pub profile: Arc<Profile>,
    /// Whether it may send at all: an authorization that was withdrawn makes it false.
    pub sends: bool,
    /// Whether a due step may answer the follower's event itself.
    pub passive_reply: bool,
    /// Whether somebody who unfollows is forgotten, but for a pseudonym.
    pub erase_on_unfollow: bool,
    /// Whether clicks on links are counted where a sequence does not say otherwise.
    pub track_links: bool,
    pub rate: Rate,
    /// When the platform counts the day's calls anew.
    pub quota_reset: QuotaReset,
    /// Most attempts that may be under way at once.
    pub in_flight_max: usize,
}
