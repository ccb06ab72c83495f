//! What a node keeps in memory of what its decisions need: published versions, accounts, pauses,
//! authorizations.
//!
//! The rows are the truth. Other nodes change them too: every transaction of a shared store asks first
//! whether what we know is still so (`fence`), and takes it in anew when it is not.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use sea_orm::DatabaseConnection;

use crate::journey::catalog::{Catalog, Version};
use crate::journey::ids::AccountId;
use crate::journey::link::Tracking;
use crate::journey::link::token::{Keyring, Link};
use crate::policy::account::Account;
use crate::store::authorizers::{self, Authorizer, State};
use crate::store::erasure::Pseudonyms;
use crate::store::pauses::{self, Pause};
use crate::store::{Error, clicks, directory, fence, versions};

/// What the writer decides with besides the rows: published versions and configured accounts.
#[derive(Debug, Default)]
pub struct Knowledge {
    catalog: RwLock<Arc<Catalog>>,
    accounts: RwLock<Arc<HashMap<AccountId, Arc<Account>>>>,
    pauses: RwLock<Arc<HashMap<AccountId, Pause>>>,
    account_changes: AtomicU64,
    /// Which change of all this, by any node, it is as of.
    revision: AtomicI64,
    /// The database cannot be reached.
    away: AtomicBool,
    pseudonyms: Pseudonyms,
    tracking: RwLock<Arc<Tracking>>,
    authorizers: directory::Directory,
    /// Held while all of it is read anew: of two readings the later one has to stay.
    reloading: tokio::sync::Mutex<()>,
}

impl Knowledge {
    pub(crate) fn new(pseudonyms: Pseudonyms) -> Self {
        Self {
            pseudonyms,
            ..Self::default()
        }
    }

    /// What forgotten followers are found by.
    pub(in crate::store) fn pseudonyms(&self) -> &Pseudonyms {
        &self.pseudonyms
    }

    /// Says how the world reaches us; without it no click is counted.
    pub fn set_public_url(&self, url: &str) {
        self.change_tracking(|tracking| url.clone_into(&mut tracking.base));
    }

    pub(in crate::store) fn set_link_keys(&self, keys: Keyring) {
        self.change_tracking(|tracking| tracking.keys = keys);
    }

    fn change_tracking(&self, change: impl FnOnce(&mut Tracking)) {
        let mut slot = match self.tracking.write() {
            Ok(slot) => slot,
            Err(poisoned) => poisoned.into_inner(),
        };
        change(Arc::make_mut(&mut slot));
    }

    /// How the links of a version lead to us on an account; `None` where no clicks are counted.
    pub(in crate::store) fn tracking(
        &self,
        account: &Account,
        version: &Version,
    ) -> Option<Arc<Tracking>> {
        let wanted = version.sequence.track_links.unwrap_or(account.track_links);
        let tracking = wanted.then(|| read(&self.tracking))?;
        (!tracking.base.is_empty()).then_some(tracking)
    }

    /// The link that a token of ours is for.
    pub fn opened_link(&self, token: &str) -> Option<Link> {
        read(&self.tracking).keys.open(token)
    }

    /// The versions as of now.
    pub fn catalog(&self) -> Arc<Catalog> {
        read(&self.catalog)
    }

    /// The accounts as of now.
    pub fn accounts(&self) -> Arc<HashMap<AccountId, Arc<Account>>> {
        read(&self.accounts)
    }

    /// Grows with every change of the accounts.
    pub fn account_changes(&self) -> u64 {
        self.account_changes.load(Ordering::Acquire)
    }

    /// Lets everybody look at the accounts anew who follows their changes.
    pub(in crate::store) fn note_account_change(&self) {
        self.account_changes.fetch_add(1, Ordering::Release);
    }

    /// Which change by any node this is as of; zero where there is one node.
    pub fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Whether the database cannot be reached.
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Acquire)
    }

    pub(in crate::store) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Release);
    }

    /// Takes in what other nodes have changed: sequences, pauses, and who may send.
    pub(in crate::store) async fn reload(
        &self,
        connection: &DatabaseConnection,
    ) -> Result<(), Error> {
        let _reloading = self.reloading.lock().await;
        // The number first: what changes meanwhile is read again.
        let revision = fence::revision(connection).await?;
        self.set_catalog(versions::load_catalog(connection).await?);
        self.set_pauses(pauses::all(connection).await?);
        self.set_link_keys(clicks::keys(connection).await?);
        self.refresh(authorizers::served(connection).await?);
        self.revision.store(revision, Ordering::Release);
        Ok(())
    }

    /// Takes in what other nodes have changed, if there is anything.
    pub(in crate::store) async fn catch_up(
        &self,
        connection: &DatabaseConnection,
    ) -> Result<(), Error> {
        if fence::revision(connection).await? == self.revision() {
            return Ok(());
        }
        self.reload(connection).await
    }

    /// Takes in what other nodes have learned of the accounts that we know.
    fn refresh(&self, served: Vec<Authorizer>) {
        let news = served.into_iter().filter(|row| {
            let known = self.authorizers.get(&row.app_id);
            known.is_some_and(|known| known.component == row.component && *known != *row)
        });
        let news: Vec<_> = news.collect();
        if news.is_empty() {
            return;
        }
        self.change_accounts(|accounts| {
            for row in &news {
                if let Some(known) = row.account.and_then(|id| accounts.get_mut(&id)) {
                    Arc::make_mut(known).sends = row.sends();
                }
            }
        });
        for row in news {
            // What was asked of the platform before may say otherwise.
            let withdrawn = row.state == State::Withdrawn;
            self.authorizers
                .mark(&row.component, &row.app_id, withdrawn);
            self.authorizers.put(row);
        }
    }

    /// One account.
    pub fn account(&self, id: AccountId) -> Option<Arc<Account>> {
        self.accounts().get(&id).cloned()
    }

    /// One account by the operator's name for it.
    pub fn account_named(&self, key: &str) -> Option<Arc<Account>> {
        let accounts = self.accounts();
        accounts.values().find(|a| a.journey.key == key).cloned()
    }

    /// The pause that a person put on an account, if there is one.
    pub fn pause(&self, id: AccountId) -> Option<Pause> {
        read(&self.pauses).get(&id).cloned()
    }

    /// Whether an account may send: it is authorized, and nobody has paused it.
    pub fn may_send(&self, account: &Account) -> bool {
        account.sends && !read(&self.pauses).contains_key(&account.journey.id)
    }

    pub(in crate::store) fn set_pauses(&self, pauses: HashMap<AccountId, Pause>) {
        self.change_pauses(|known| *known = pauses);
    }

    pub(crate) fn change_pauses<T>(
        &self,
        change: impl FnOnce(&mut HashMap<AccountId, Pause>) -> T,
    ) -> T {
        let mut slot = match self.pauses.write() {
            Ok(slot) => slot,
            Err(poisoned) => poisoned.into_inner(),
        };
        let changed = change(Arc::make_mut(&mut slot));
        self.note_account_change();
        changed
    }

    pub(crate) fn set_catalog(&self, catalog: Catalog) {
        write(&self.catalog, Arc::new(catalog));
    }

    /// Who authorized a third-party platform of ours.
    pub fn authorizers(&self) -> &directory::Directory {
        &self.authorizers
    }

    pub(crate) fn set_accounts(&self, accounts: HashMap<AccountId, Arc<Account>>) {
        self.change_accounts(|known| *known = accounts);
    }

    pub(in crate::store) fn change_accounts(
        &self,
        change: impl FnOnce(&mut HashMap<AccountId, Arc<Account>>),
    ) {
        let mut slot = match self.accounts.write() {
            Ok(slot) => slot,
            Err(poisoned) => poisoned.into_inner(),
        };
        change(Arc::make_mut(&mut slot));
        self.note_account_change();
    }
}

// A panic while one of these locks is held leaves a whole value behind, never half of one.
fn read<T: Clone>(lock: &RwLock<T>) -> T {
    match lock.read() {
        Ok(value) => value.clone(),
        Err(poisoned) => poisoned.into_inner().clone(),
    }
}

fn write<T>(lock: &RwLock<T>, value: T) {
    match lock.write() {
        Ok(mut slot) => *slot = value,
        Err(poisoned) => *poisoned.into_inner() = value,
    }
}
