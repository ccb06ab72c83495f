//! An account, as far as sequences need it.

use jiff::tz::TimeZone;

use crate::journey::ids::AccountId;

/// An Official Account or channel.
#[derive(Clone, Debug)]
pub struct Account {
    pub id: AccountId,
    /// The operator's name for it.
    pub key: String,
    /// For followers to read, in templates.
    pub name: String,
    /// For times of day that a sequence leaves to the account.
    pub zone: TimeZone,
}
