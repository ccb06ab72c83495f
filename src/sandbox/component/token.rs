//! Access tokens of authorizers: by them a component calls the platform for an account.
//!
//! A token lives 7200 s; a new one ends its predecessor after `overlap_seconds`. Where a token came
//! from is kept, so that a check can say which one a message was sent with.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::AUTHORIZER_PREFIX;
use crate::clock::Timestamp;
use crate::sandbox::errcode::Refusal;
use crate::sandbox::quota::Api;
use crate::sandbox::random;

pub(super) const LIFE: Duration = Duration::from_secs(7200);
/// Tokens remembered, dead ones included, before the dead are forgotten.
const REMEMBERED_MAX: usize = 50_000;

/// One authorizer access token.
#[derive(Debug)]
pub(super) struct AuthorizerToken {
    pub(super) component: usize,
    pub(super) account: usize,
    /// Of the authorization it was issued under.
    pub(super) serial: u64,
    /// The code it was exchanged for; a refresh token's has none.
    code: Option<Arc<str>>,
    expires_at: Timestamp,
    dies_at: AtomicI64,
    killed: AtomicI32,
    /// custom/send calls made with it.
    sends: AtomicU64,
}

impl AuthorizerToken {
    pub(super) fn check(&self, now: Timestamp) -> Result<(), Refusal> {
        match self.killed.load(Ordering::Relaxed) {
            0 if now.0 < self.dies_at.load(Ordering::Relaxed) => Ok(()),
            0 if now < self.expires_at => Err(Refusal::TOKEN_NOT_LATEST),
            0 => Err(Refusal::TOKEN_EXPIRED),
            code => Err(Refusal(code)),
        }
    }

    pub(super) fn count(&self, path: &str) {
        if path == Api::Send.path() {
            self.sends.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whom a new token is for.
#[derive(Clone, Debug)]
pub(super) struct Bearer {
    pub(super) component: usize,
    pub(super) account: usize,
    pub(super) serial: u64,
    pub(super) code: Option<Arc<str>>,
}

/// Every authorizer token.
#[derive(Debug, Default)]
pub(super) struct AuthorizerTokens {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<Arc<str>, Arc<AuthorizerToken>>,
    /// The newest one of each account.
    newest: HashMap<usize, Arc<AuthorizerToken>>,
}

impl AuthorizerTokens {
    pub(super) fn get(&self, token: &str) -> Option<Arc<AuthorizerToken>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.known.get(token).cloned()
    }

    /// A new token; its predecessor ends after `overlap`.
    pub(super) fn issue(&self, bearer: Bearer, overlap: Duration, now: Timestamp) -> Arc<str> {
        let text: Arc<str> = format!("{AUTHORIZER_PREFIX}{}", random::text(140)).into();
        let account = bearer.account;
        let token = Arc::new(AuthorizerToken {
            component: bearer.component,
            account,
            serial: bearer.serial,
            code: bearer.code,
            expires_at: now.plus(LIFE),
            dies_at: AtomicI64::new(now.plus(LIFE).0),
            killed: AtomicI32::new(0),
            sends: AtomicU64::new(0),
        });
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if inner.known.len() >= REMEMBERED_MAX {
            inner
                .known
                .retain(|_, token| now.0 < token.dies_at.load(Ordering::Relaxed));
        }
        if let Some(before) = inner.newest.insert(account, Arc::clone(&token)) {
            let end = now.plus(overlap).0;
            before.dies_at.fetch_min(end, Ordering::Relaxed);
        }
        inner.known.insert(Arc::clone(&text), token);
        text
    }

    /// Lets the tokens that `which` names be refused with `code`; how many that are.
    pub(super) fn kill(&self, code: i32, which: impl Fn(&AuthorizerToken) -> bool) -> usize {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let named = inner.known.values().filter(|token| which(token));
        named
            .map(|token| token.killed.store(code, Ordering::Relaxed))
            .count()
    }

    /// custom/send calls made with tokens that were exchanged for `code`, and with all others of
    /// the account.
    pub(super) fn sends(&self, account: usize, code: &str) -> (u64, u64) {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let mut sends = (0, 0);
        for token in inner
            .known
            .values()
            .filter(|token| token.account == account)
        {
            let count = token.sends.load(Ordering::Relaxed);
            match token.code.as_deref() {
                Some(of) if of == code => sends.0 += count,
                _ => sends.1 += count,
            }
        }
        sends
    }
}
