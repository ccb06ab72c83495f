//! A token that several nodes use: one of them fetches it, the others find it in its row.
//!
//! Two that fetched each their own would end each other's. Whoever fetches has the row to itself for
//! some seconds; should its process be killed meanwhile, the next one fetches.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::not_stored;
use crate::sender::platform::{Answer, AnswerClass};
use crate::sender::wechat::source::{Asking, Granted, Source};
use crate::store::{Store, tokens};

/// Longest that others wait for one that fetches: a renewal with all that it may have to ask before.
const FETCHED_WITHIN: Duration = Duration::from_secs(20);

/// Wait between two looks at what another node fetches.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A token whose rest of life is shorter is not worth taking.
const LIFE_MIN: Duration = Duration::from_secs(30);

/// A source whose tokens are in rows.
#[derive(Debug)]
pub(super) struct Pooled<S> {
    source: S,
    store: Arc<Store>,
    name: String,
}

/// A source for a token with this name: pooled where nodes share the store, else as it is.
pub(super) fn pooled(
    source: impl Source + 'static,
    store: &Arc<Store>,
    name: String,
) -> Arc<dyn Source> {
    if !store.leases().are_shared() {
        return Arc::new(source);
    }
    let store = Arc::clone(store);
    Arc::new(Pooled {
        source,
        store,
        name,
    })
}

impl<S: Source> Pooled<S> {
    async fn obtain(&self, held: Option<&SecretString>) -> Result<Granted, Answer> {
        let claim = claim()?;
        let give_up_at = Instant::now() + FETCHED_WITHIN;
        while Instant::now() < give_up_at {
            if let Some(found) = self.found(held).await? {
                return Ok(found);
            }
            let claimed = tokens::claim(&self.store, &self.name, &claim, FETCHED_WITHIN).await;
            if claimed.map_err(|error| not_stored(&error))? {
                return self.fetch(held, &claim).await;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let words = "another node fetches the token, and has not got it yet";
        Err(Answer::without_code(AnswerClass::RetrySoon, words))
    }

    /// The row's token, if it is another one than ours and worth taking.
    async fn found(&self, held: Option<&SecretString>) -> Result<Option<Granted>, Answer> {
        let found = tokens::held(self.store.read(), &self.name).await;
        let found = found.map_err(|error| not_stored(&error))?;
        let other = |token: &SecretString| {
            held.is_none_or(|held| held.expose_secret() != token.expose_secret())
        };
        let found = found.filter(|(token, lifetime)| other(token) && *lifetime >= LIFE_MIN);
        Ok(found.map(|(value, lifetime)| Granted { value, lifetime }))
    }

    async fn fetch(&self, held: Option<&SecretString>, claim: &str) -> Result<Granted, Answer> {
        // Somebody may have put one there between our looking and our claim.
        let fetched = match self.found(held).await {
            Ok(None) => self.source.ask(held).await,
            Ok(Some(found)) => {
                self.end_claim(claim, None).await;
                return Ok(found);
            }
            Err(answer) => Err(answer),
        };
        let granted = fetched.as_ref().ok();
        let granted = granted.map(|granted| (&granted.value, granted.lifetime));
        self.end_claim(claim, granted).await;
        fetched
    }

    /// What cannot be written ends by itself: others fetch anew.
    async fn end_claim(&self, claim: &str, fetched: Option<(&SecretString, Duration)>) {
        let ended = tokens::end_claim(&self.store, &self.name, claim, fetched).await;
        if let Err(error) = ended {
            tracing::warn!(%error, "a token that nodes have in common was not written");
        }
    }
}

/// Letters that nobody else has.
pub(super) fn claim() -> Result<String, Answer> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| {
        let words = "the system has no random bytes";
        Answer::without_code(AnswerClass::RetrySoon, words)
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl<S: Source> Source for Pooled<S> {
    fn ask<'a>(&'a self, held: Option<&'a SecretString>) -> Asking<'a> {
        Box::pin(self.obtain(held))
    }

    fn app_id(&self) -> &str {
        self.source.app_id()
    }

    fn seed(&self) -> i64 {
        self.source.seed()
    }
}
