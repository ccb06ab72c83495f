//! Every account's client, for whoever has something to ask of the platform.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::WechatClient;
use crate::journey::ids::AccountId;
use crate::sender::platform::{Platform, Platforms};

/// The clients of all accounts; accounts come and go while we run.
#[derive(Debug, Default)]
pub struct Clients(RwLock<HashMap<AccountId, Arc<WechatClient>>>);

impl Clients {
    /// The client of an account.
    pub fn client(&self, account: AccountId) -> Option<Arc<WechatClient>> {
        let clients = self.0.read().unwrap_or_else(PoisonError::into_inner);
        clients.get(&account).cloned()
    }

    /// Lets a client in, in the place of its account's earlier one.
    pub fn put(&self, client: Arc<WechatClient>) {
        let mut clients = self.0.write().unwrap_or_else(PoisonError::into_inner);
        clients.insert(client.account(), client);
    }

    /// Forgets the client of an account.
    pub fn remove(&self, account: AccountId) {
        let mut clients = self.0.write().unwrap_or_else(PoisonError::into_inner);
        clients.remove(&account);
    }
}

impl Platforms for Clients {
    fn of(&self, account: AccountId) -> Option<Arc<dyn Platform>> {
        let client = self.client(account)?;
        Some(client as Arc<dyn Platform>)
    }
}
