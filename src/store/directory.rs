//! Who authorized a third-party platform of ours, in memory: where each account's callbacks go, and in
//! which order authorizations changed.
//!
//! A cache of `authorizers`' rows, and changed with them only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::store::authorizers::Authorizer;

/// When an account's authorization last changed, as places in the order of all changes.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    changed: u64,
    withdrawn: u64,
}

#[derive(Debug, Default)]
struct Order {
    last: u64,
    marks: HashMap<(String, String), Marks>,
}

/// Where callbacks of authorized accounts go, by app id.
#[derive(Debug, Default)]
pub struct Directory {
    known: RwLock<HashMap<String, Arc<Authorizer>>>,
    order: Mutex<Order>,
    /// Held while rows and what is known change together.
    pub(super) change: tokio::sync::Mutex<()>,
}

impl Directory {
    /// The authorization of one of our accounts.
    pub fn get(&self, app_id: &str) -> Option<Arc<Authorizer>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(app_id).cloned()
    }

    pub(super) fn put(&self, authorizer: Authorizer) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(authorizer.app_id.clone(), Arc::new(authorizer));
    }

    /// The latest change: what was asked of the platform now does not know of later ones.
    pub fn moment(&self) -> u64 {
        self.order
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .last
    }

    pub(super) fn mark(&self, component: &str, app_id: &str, withdrawn: bool) {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        order.last += 1;
        let last = order.last;
        let key = (component.to_owned(), app_id.to_owned());
        let marks = order.marks.entry(key).or_default();
        marks.changed = last;
        if withdrawn {
            marks.withdrawn = last;
        }
    }

    fn marks(&self, component: &str, app_id: &str) -> Marks {
        let order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (component.to_owned(), app_id.to_owned());
        order.marks.get(&key).copied().unwrap_or_default()
    }

    /// Whether the authorization was taken back after `moment`.
    pub fn withdrawn_since(&self, component: &str, app_id: &str, moment: u64) -> bool {
        self.marks(component, app_id).withdrawn > moment
    }

    /// Whether anything about the authorization changed after `moment`.
    pub fn changed_since(&self, component: &str, app_id: &str, moment: u64) -> bool {
        self.marks(component, app_id).changed > moment
    }
}
