//! Each account's share of retries (`policy::retries`), for hands that go out side by side.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::clock::Timestamp;
use crate::journey::ids::AccountId;
use crate::policy::retries::RetryBudget;

/// The budgets of all accounts.
#[derive(Debug, Default)]
pub(super) struct Retries(Mutex<HashMap<AccountId, RetryBudget>>);

impl Retries {
    /// Lets the `attempt`th call for a step go, or says when it should ask again. The first call
    /// for a step always goes.
    pub(super) fn admit(
        &self,
        account: AccountId,
        attempt: u16,
        now: Timestamp,
    ) -> Result<(), Timestamp> {
        self.with(account, now, |budget| {
            if attempt <= 1 {
                budget.first();
                return Ok(());
            }
            budget.retry(now)
        })
    }

    /// Lets one retry of an account go that our own stop made necessary.
    pub(super) fn forgive(&self, account: AccountId, now: Timestamp) {
        self.with(account, now, |budget| budget.forgive(1));
    }

    fn with<T>(
        &self,
        account: AccountId,
        now: Timestamp,
        ask: impl FnOnce(&mut RetryBudget) -> T,
    ) -> T {
        let mut budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let budget = budgets.entry(account);
        ask(budget.or_insert_with(|| RetryBudget::new(now)))
    }
}
