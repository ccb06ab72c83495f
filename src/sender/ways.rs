//! Every account's way to its platform, whichever platform it is on.
//!
//! WeChat's accounts come and go while we run; those of other platforms stand in the configuration.

use std::collections::HashMap;
use std::sync::Arc;

use super::platform::{Learned, Platform, Platforms};
use super::wechat::Clients;
use crate::journey::ids::AccountId;

/// The ways of all accounts.
#[derive(Debug)]
pub struct Ways {
    wechat: Arc<Clients>,
    others: HashMap<AccountId, Arc<dyn Platform>>,
}

impl Ways {
    pub fn new(wechat: Arc<Clients>, others: Vec<Arc<dyn Platform>>) -> Self {
        let others = others.into_iter().map(|way| (way.account(), way));
        Self {
            wechat,
            others: others.collect(),
        }
    }
}

impl Platforms for Ways {
    fn of(&self, account: AccountId) -> Option<Arc<dyn Platform>> {
        let other = self.others.get(&account).cloned();
        other.or_else(|| self.wechat.of(account))
    }

    fn learned(&self) -> Vec<Learned> {
        self.wechat.learned()
    }
}
