//! What outlives a restart of components: the accounts that appeared under them, and who authorized
//! whom.
//!
//! Refresh tokens are kept, since a component would otherwise lose every account by our restart.
//! Not kept: tickets, access tokens, codes and counters; a component that asks with an old one is
//! told so and recovers as it must at any time.

use std::sync::{Arc, PoisonError};

use serde::{Deserialize, Serialize};

use super::Authorization;
use super::settings::ComponentAccount;
use crate::clock::Timestamp;
use crate::sandbox::World;

/// Accounts and consents as they outlive a restart, by app id.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(in crate::sandbox) struct KeptComponents {
    accounts: Vec<ComponentAccount>,
    authorized: Vec<KeptAuthorization>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct KeptAuthorization {
    component: String,
    account: Arc<str>,
    sets: Vec<u32>,
    refresh_token: Arc<str>,
    at: Timestamp,
}

impl World {
    pub(in crate::sandbox) fn kept_components(&self) -> KeptComponents {
        let without_server = self.accounts.iter().filter(|one| !one.has_own_server);
        let accounts = without_server.map(|account| ComponentAccount {
            app_id: account.app_id.to_string(),
            original_id: Some(account.settings.original_id.clone()),
            name: account.settings.name.clone(),
            kind: account.kind,
            profile: account.settings.profile,
        });
        let authorized = self.components.authorized.read();
        let authorized = authorized.unwrap_or_else(PoisonError::into_inner);
        let kept = authorized.values().map(|one| KeptAuthorization {
            component: self.components.list[one.component].settings.app_id.clone(),
            account: Arc::clone(&self.accounts[one.account].app_id),
            sets: one.sets.clone(),
            refresh_token: Arc::clone(&one.refresh_token),
            at: one.at,
        });
        KeptComponents {
            accounts: accounts.collect(),
            authorized: kept.collect(),
        }
    }

    /// Goes on from before a restart; what names a component that is gone is left out.
    pub(in crate::sandbox) fn restore_components(&self, kept: KeptComponents) {
        if self.components.is_empty() {
            return;
        }
        for account in &kept.accounts {
            // The settings may have created it already.
            self.add_account(account).ok();
        }
        let authorized = self.components.authorized.write();
        let mut authorized = authorized.unwrap_or_else(PoisonError::into_inner);
        for one in kept.authorized {
            let component = self.components.get(&one.component);
            let account = self.account(&one.account);
            if let (Some(component), Some(account)) = (component, account) {
                let authorization = Authorization {
                    component: component.index,
                    account: account.index,
                    serial: self.next_serial(),
                    sets: one.sets,
                    refresh_token: one.refresh_token,
                    at: one.at,
                };
                authorized.insert(account.index, Arc::new(authorization));
            }
        }
    }
}
