//! What sending one message costs: the carrier it takes, and what it spends.

use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::journey::sequence::{Fallback, Step};
use crate::policy::account::Account;
use crate::policy::grant::{Grants, Kind};

/// How a message travels, decided with its intent and kept with it until it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fare {
    pub carrier: Carrier,
    /// The grant it spends, where the platform counts messages.
    pub grant: Option<Kind>,
    /// Which of the step's `closed` carriers it is; `None` for the step's own message.
    pub fallback: Option<u8>,
}

impl Fare {
    /// By customer message.
    pub fn customer_message(grant: Option<Kind>) -> Self {
        Self {
            carrier: Carrier::CustomerMessage,
            grant,
            fallback: None,
        }
    }

    /// Spends its message of the grants.
    pub fn take(&self, grants: &mut Grants, account: &Account, now: Timestamp) {
        match (self.grant, account.profile.carriers.mass_send) {
            (Some(Kind::Mass), Some(mass)) => {
                grants.spend_mass(&mass, &account.journey.zone, now);
            }
            (Some(kind), _) => grants.spend(kind),
            (None, _) => {}
        }
    }

    /// The carrier of the step's `closed` list that it is.
    pub fn fallback_of<'s>(&self, step: &'s Step) -> Option<&'s Fallback> {
        step.closed.carriers.get(usize::from(self.fallback?))
    }
}
