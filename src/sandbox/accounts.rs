//! Every account of the platform: those of the settings, and those that appear later.
//!
//! Accounts are added and never removed, so an index names one for good and a reference stays valid
//! without a lock. Deliberately absent: what an account is (`Account`).

use std::collections::HashMap;
use std::ops::Index;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};

use super::{Account, lock};

/// Accounts by index and by app id.
#[derive(Debug)]
pub(super) struct Accounts {
    slots: Box<[OnceLock<Box<Account>>]>,
    count: AtomicUsize,
    by_app_id: RwLock<HashMap<String, usize>>,
    /// Held while one is added.
    adding: Mutex<()>,
}

/// Why an account was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotAdded<E> {
    Taken,
    Full,
    Made(E),
}

impl Accounts {
    /// Room for `max` accounts.
    pub(super) fn new(max: usize) -> Self {
        Self {
            slots: (0..max).map(|_| OnceLock::new()).collect(),
            count: AtomicUsize::new(0),
            by_app_id: RwLock::default(),
            adding: Mutex::default(),
        }
    }

    /// Adds the account that `make` makes for the next index.
    pub(super) fn add<E>(
        &self,
        app_id: &str,
        make: impl FnOnce(usize) -> Result<Account, E>,
    ) -> Result<&Account, NotAdded<E>> {
        let _adding = lock(&self.adding);
        if self.index_of(app_id).is_some() {
            return Err(NotAdded::Taken);
        }
        let index = self.count.load(Ordering::Acquire);
        let slot = self.slots.get(index).ok_or(NotAdded::Full)?;
        let account = make(index).map_err(NotAdded::Made)?;
        let added = slot.get_or_init(|| Box::new(account));
        self.count.store(index + 1, Ordering::Release);
        self.by_app_id
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(app_id.to_owned(), index);
        Ok(added)
    }

    /// Where the account with this app id is.
    pub(super) fn index_of(&self, app_id: &str) -> Option<usize> {
        let by_app_id = self
            .by_app_id
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        by_app_id.get(app_id).copied()
    }

    pub(super) fn get(&self, index: usize) -> Option<&Account> {
        self.slots.get(index)?.get().map(|account| &**account)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Account> {
        self.slots
            .get_mut(index)?
            .get_mut()
            .map(|account| &mut **account)
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Account> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl Index<usize> for Accounts {
    type Output = Account;

    fn index(&self, index: usize) -> &Account {
        self.slots[index]
            .get()
            .expect("an index names an account that was added")
    }
}
