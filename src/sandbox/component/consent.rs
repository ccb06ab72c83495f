//! Accounts under components, and their consent: granted, changed, taken back.
//!
//! What is told of it, and when, is decided by the caller.

use std::sync::{Arc, PoisonError};

use secrecy::SecretString;

use super::push::Event;
use super::settings::ComponentAccount;
use super::{Authorization, Component};
use crate::clock::Timestamp;
use crate::sandbox::accounts::NotAdded;
use crate::sandbox::control::ControlError;
use crate::sandbox::rules::AccountRules;
use crate::sandbox::settings::{Format, Mode, SandboxAccount};
use crate::sandbox::{Account, World, lock, random};

/// Permission sets of one consent.
const SETS_MAX: usize = 100;

impl World {
    /// custom/send calls made with tokens exchanged for `code`, and with the account's other ones.
    pub(in crate::sandbox) fn sends_by_code(&self, account: usize, code: &str) -> (u64, u64) {
        self.components.tokens.sends(account, code)
    }

    /// Adds an account that has no server of its own.
    pub(in crate::sandbox) fn add_account(
        &self,
        new: &ComponentAccount,
    ) -> Result<&Account, ControlError> {
        if new.app_id.is_empty() || new.app_id.len() > 64 || new.name.len() > 128 {
            return Err(ControlError::Invalid("name or app id is too long"));
        }
        let settings = SandboxAccount {
            app_id: new.app_id.clone(),
            // Nobody knows these: the account is reached through a component only.
            app_secret: SecretString::from(random::text(40)),
            token: SecretString::from(random::text(32)),
            encoding_aes_key: SecretString::from(key()),
            mode: Mode::Safe,
            format: Format::Xml,
            original_id: (new.original_id.clone()).unwrap_or_else(|| format!("gh_{}", hex(12))),
            callback_url: format!("http://{}/", self.addr),
            profile: new.profile,
            name: new.name.clone(),
            menu: Vec::new(),
            rules: AccountRules::default(),
        };
        let app_id = settings.app_id.clone();
        let now = self.clock.now();
        let make = |index| {
            Account::new(index, settings, self.limits, now).map(|account| Account {
                kind: new.kind,
                has_own_server: false,
                ..account
            })
        };
        self.accounts
            .add(&app_id, make)
            .map_err(|error| match error {
                NotAdded::Taken => ControlError::Invalid("an account has this app id already"),
                NotAdded::Full => ControlError::Invalid("the sandbox has no room for it"),
                NotAdded::Made(_) => ControlError::Invalid("no account can have this app id"),
            })
    }

    /// Enters an account's consent: the event that tells of it.
    pub(in crate::sandbox) fn consent(
        &self,
        component: &Component,
        account: &Account,
        sets: &[u32],
        pre_auth_code: &str,
    ) -> Result<(Event, Arc<str>, Timestamp), ControlError> {
        if sets.is_empty() || sets.len() > SETS_MAX {
            return Err(ControlError::Invalid("grant 1 to 100 permission sets"));
        }
        let now = self.clock.now();
        let mut sets = sets.to_vec();
        sets.sort_unstable();
        sets.dedup();
        let components = &self.components;
        let mut authorized = components
            .authorized
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let before = authorized.get(&account.index);
        if before.is_some_and(|before| before.component != component.index) {
            return Err(ControlError::Invalid(
                "the account authorized another component: take that back first",
            ));
        }
        let serial = before.map_or_else(|| self.next_serial(), |before| before.serial);
        let is_update = before.is_some();
        let authorization = Authorization {
            component: component.index,
            account: account.index,
            serial,
            sets,
            // Who authorizes again makes the old one invalid, says the page of api_query_auth.
            refresh_token: super::made_up("refreshtoken", 60).into(),
            at: now,
        };
        authorized.insert(account.index, Arc::new(authorization));
        drop(authorized);
        self.touch();
        let rules = &component.settings.rules;
        let (code, end) = lock(&component.held).new_code(account.index, serial, rules, now);
        let event = Event::Authorized {
            app_id: Arc::clone(&account.app_id),
            code: Arc::clone(&code),
            code_expires_at: end,
            pre_auth_code: pre_auth_code.to_owned(),
            is_update,
        };
        Ok((event, code, end))
    }

    /// Removes an account's consent: the event that tells of it.
    pub(in crate::sandbox) fn take_back(
        &self,
        component: &Component,
        account: &Account,
    ) -> Result<Event, ControlError> {
        let components = &self.components;
        let mut authorized = components
            .authorized
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let found = authorized.get(&account.index);
        if found.is_none_or(|one| one.component != component.index) {
            return Err(ControlError::Invalid("the account did not authorize it"));
        }
        authorized.remove(&account.index);
        drop(authorized);
        self.touch();
        Ok(Event::Unauthorized {
            app_id: Arc::clone(&account.app_id),
        })
    }
}

/// `length` random hexadecimal digits, as in app ids.
pub(super) fn hex(length: usize) -> String {
    let digit = |_| char::from(b"0123456789abcdef"[usize::from(random::bytes::<1>()[0] & 15)]);
    (0..length).map(digit).collect()
}

/// A key of letters and digits.
fn key() -> String {
    random::text(43).replace(['-', '_'], "A")
}
