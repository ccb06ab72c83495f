//! Access tokens: issued, renewed, superseded and expired as the platform does it.
//!
//! Two independent issuers per account, `token` and `stable_token`. A token lives 7200 s; a renewed
//! one leaves its predecessor five minutes, a forced one kills it at once. Whether the caller knows
//! the secret is checked in `wire`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use super::errcode::Refusal;
use super::quota::beijing_day;
use super::{lock, random};
use crate::clock::Timestamp;

const LIFE: Duration = Duration::from_secs(7200);
/// How long old and new token are valid side by side.
const OVERLAP: Duration = Duration::from_secs(300);
/// Forced renewals: at most this many a day, this far apart.
const FORCES_MAX: u32 = 20;
const FORCE_SPACING: Duration = Duration::from_secs(30);
/// Tokens remembered, dead ones included, before the oldest dead are forgotten.
const REMEMBERED_MAX: usize = 20_000;
/// Every token starts with this, so that a string of another make is told apart.
const PREFIX: &str = "sandbox_";

#[derive(Debug)]
struct Token {
    account: usize,
    expires_at: Timestamp,
    /// Earlier than `expires_at` once a successor exists.
    dies_at: AtomicI64,
    /// Refusal that a fault put on it; 0 when none.
    killed: AtomicI32,
}

/// Which of the two calls issued a token.
#[derive(Clone, Copy, Debug)]
pub(super) enum Issuer {
    Plain,
    /// With `force_refresh`.
    Stable(bool),
}

#[derive(Debug, Default)]
struct Issued {
    plain: Option<(Arc<str>, Arc<Token>)>,
    stable: Option<(Arc<str>, Arc<Token>)>,
    forced_at: Option<Timestamp>,
    forced_day: i64,
    forces: u32,
}

/// Every token of the platform.
#[derive(Debug)]
pub(super) struct Tokens {
    known: RwLock<HashMap<Arc<str>, Arc<Token>>>,
    issued: Vec<Mutex<Issued>>,
}

impl Tokens {
    pub(super) fn new(accounts: usize) -> Self {
        Self {
            known: RwLock::default(),
            issued: (0..accounts).map(|_| Mutex::default()).collect(),
        }
    }

    /// The account a token belongs to, or why it is not taken.
    pub(super) fn check(&self, token: Option<&str>, now: Timestamp) -> Result<usize, Refusal> {
        let token = token.filter(|token| !token.is_empty());
        let token = token.ok_or(Refusal::TOKEN_MISSING)?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = known.get(token) else {
            return Err(if token.starts_with(PREFIX) {
                Refusal::TOKEN_NOT_LATEST
            } else {
                Refusal::TOKEN_SHAPE
            });
        };
        match found.killed.load(Ordering::Relaxed) {
            0 if now.0 < found.dies_at.load(Ordering::Relaxed) => Ok(found.account),
            0 if now < found.expires_at => Err(Refusal::TOKEN_NOT_LATEST),
            0 => Err(Refusal::TOKEN_EXPIRED),
            code => Err(Refusal(code)),
        }
    }

    /// A valid token of `account` and the seconds it has left.
    ///
    /// Forcing too often is refused with 45009 (20 a day) or 45011 (30 s apart).
    pub(super) fn issue(
        &self,
        account: usize,
        issuer: Issuer,
        now: Timestamp,
    ) -> Result<(Arc<str>, i64), Refusal> {
        let mut issued = lock(&self.issued[account]);
        if let Issuer::Stable(true) = issuer {
            issued.count_force(now)?;
        }
        let slot = match issuer {
            Issuer::Plain => &mut issued.plain,
            Issuer::Stable(_) => &mut issued.stable,
        };
        if let Some((text, token)) = slot.as_ref() {
            let left = token.expires_at.since(now);
            let is_alive = token.killed.load(Ordering::Relaxed) == 0;
            match issuer {
                Issuer::Stable(false) if is_alive && left > OVERLAP => {
                    let left = i64::try_from(left.as_secs()).unwrap_or(0);
                    return Ok((Arc::clone(text), left));
                }
                Issuer::Stable(true) => token.dies_at.store(now.0, Ordering::Relaxed),
                Issuer::Stable(false) | Issuer::Plain => {
                    let end = token.expires_at.min(now.plus(OVERLAP));
                    token.dies_at.fetch_min(end.0, Ordering::Relaxed);
                }
            }
        }
        let text: Arc<str> = format!("{PREFIX}{}", random::text(120)).into();
        let token = Arc::new(Token {
            account,
            expires_at: now.plus(LIFE),
            dies_at: AtomicI64::new(now.plus(LIFE).0),
            killed: AtomicI32::new(0),
        });
        *slot = Some((Arc::clone(&text), Arc::clone(&token)));
        self.remember(Arc::clone(&text), token, now);
        Ok((text, i64::try_from(LIFE.as_secs()).unwrap_or(0)))
    }

    fn remember(&self, text: Arc<str>, token: Arc<Token>, now: Timestamp) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX {
            known.retain(|_, token| now.0 < token.dies_at.load(Ordering::Relaxed));
        }
        known.insert(text, token);
    }

    /// Lets every token of `account` be refused with `code` from now on, as an incident on the
    /// platform would; the next request for a token brings a new one.
    pub(super) fn kill(&self, account: usize, code: i32) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        for token in known.values().filter(|token| token.account == account) {
            token.killed.store(code, Ordering::Relaxed);
        }
    }
}

impl Issued {
    fn count_force(&mut self, now: Timestamp) -> Result<(), Refusal> {
        if self.forced_day != beijing_day(now) {
            (self.forced_day, self.forces) = (beijing_day(now), 0);
        }
        if self.forces >= FORCES_MAX {
            return Err(Refusal::DAILY_LIMIT);
        }
        if self
            .forced_at
            .is_some_and(|at| now.since(at) < FORCE_SPACING)
        {
            return Err(Refusal::MINUTE_LIMIT);
        }
        self.forces += 1;
        self.forced_at = Some(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_700_000_000_000);

    fn after(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_stable_token_stays_the_same_until_five_minutes_before_its_end() {
        let tokens = Tokens::new(1);
        let stable = |at| tokens.issue(0, Issuer::Stable(false), at).unwrap();
        let (first, _) = stable(START);
        assert_eq!(stable(after(6899)), (Arc::clone(&first), 301));
        let (second, left) = stable(after(6900));
        assert_ne!(first, second);
        assert_eq!(left, 7200);
        assert_eq!(tokens.check(Some(&first), after(7199)), Ok(0));
        assert_eq!(
            tokens.check(Some(&first), after(7200)),
            Err(Refusal::TOKEN_EXPIRED)
        );
        assert_eq!(tokens.check(Some(&second), after(7200)), Ok(0));
    }

    #[test]
    fn a_forced_token_kills_its_predecessor_and_is_rationed() {
        let tokens = Tokens::new(1);
        let force = |at| tokens.issue(0, Issuer::Stable(true), at);
        let (first, _) = force(START).unwrap();
        assert_eq!(force(after(29)), Err(Refusal::MINUTE_LIMIT));
        force(after(30)).unwrap();
        assert_eq!(
            tokens.check(Some(&first), after(30)),
            Err(Refusal::TOKEN_NOT_LATEST)
        );
        for n in 2..20 {
            force(after(n * 30)).unwrap();
        }
        assert_eq!(force(after(600)), Err(Refusal::DAILY_LIMIT));
    }

    #[test]
    fn plain_tokens_overlap_five_minutes_and_leave_stable_ones_alone() {
        let tokens = Tokens::new(1);
        let (stable, _) = tokens.issue(0, Issuer::Stable(false), START).unwrap();
        let (first, _) = tokens.issue(0, Issuer::Plain, START).unwrap();
        tokens.issue(0, Issuer::Plain, after(10)).unwrap();
        assert_eq!(tokens.check(Some(&first), after(309)), Ok(0));
        assert_eq!(
            tokens.check(Some(&first), after(310)),
            Err(Refusal::TOKEN_NOT_LATEST)
        );
        assert_eq!(tokens.check(Some(&stable), after(310)), Ok(0));
    }

    #[test]
    fn each_kind_of_bad_token_has_its_code() {
        let tokens = Tokens::new(2);
        let (token, _) = tokens.issue(1, Issuer::Stable(false), START).unwrap();
        assert_eq!(tokens.check(None, START), Err(Refusal::TOKEN_MISSING));
        assert_eq!(tokens.check(Some(""), START), Err(Refusal::TOKEN_MISSING));
        assert_eq!(tokens.check(Some("x"), START), Err(Refusal::TOKEN_SHAPE));
        assert_eq!(
            tokens.check(Some("sandbox_x"), START),
            Err(Refusal::TOKEN_NOT_LATEST)
        );
        tokens.kill(1, 40014);
        assert_eq!(tokens.check(Some(&token), START), Err(Refusal(40014)));
        let (next, _) = tokens.issue(1, Issuer::Stable(false), START).unwrap();
        assert_eq!(tokens.check(Some(&next), START), Ok(1));
    }
}
