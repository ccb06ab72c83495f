//! Every account's client, for whoever has something to ask of the platform.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::WechatClient;
use crate::journey::ids::AccountId;
use crate::sender::platform::{Learned, Platform, Platforms};

/// The clients of all accounts; accounts come and go while we run.
#[derive(Debug, Default)]
pub struct Clients {
    clients: RwLock<HashMap<AccountId, Arc<WechatClient>>>,
    learned: Mutex<Vec<Learned>>,
}

impl Clients {
    /// The client of an account.
    pub fn client(&self, account: AccountId) -> Option<Arc<WechatClient>> {
        let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
        clients.get(&account).cloned()
    }

    /// The clients of all accounts, by account.
    pub fn all(&self) -> Vec<Arc<WechatClient>> {
        let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = clients.values().cloned().collect();
        all.sort_unstable_by_key(|client| client.account_id());
        all
    }

    /// Tells the sender what was learned of an account's limits.
    pub fn tell(&self, learned: Learned) {
        let mut all = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        // What an account's limits are is what was learned last.
        let lifts = all
            .iter()
            .any(|one| one.account == learned.account && one.lifts);
        all.retain(|one| one.account != learned.account);
        all.push(Learned {
            lifts: learned.lifts || lifts,
            ..learned
        });
    }

    /// Lets a client in, in the place of its account's earlier one.
    pub fn put(&self, client: Arc<WechatClient>) {
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        clients.insert(client.account_id(), client);
    }

    /// Forgets the client of an account.
    pub fn remove(&self, account: AccountId) {
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        clients.remove(&account);
    }
}

impl Platforms for Clients {
    fn of(&self, account: AccountId) -> Option<Arc<dyn Platform>> {
        let client = self.client(account)?;
        Some(client as Arc<dyn Platform>)
    }

    fn learned(&self) -> Vec<Learned> {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *learned)
    }
}
