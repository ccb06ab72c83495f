//! The token of an account that authorized a component.
//!
//! The refresh token is read from its row each time, and the one that the platform gives back is in
//! the row before the new token is used. One that the platform does not take any more is looked up
//! in the platform's own list.
//!
//! Source: the platform's pages "get/refresh authorizer access token" and "get authorizer list".

use secrecy::{ExposeSecret, SecretString};

use super::{Component, Refreshed, not_stored};
use crate::journey::ids::AccountId;
use crate::sender::platform::{Answer, AnswerClass};
use crate::sender::wechat::source::{Asking, Granted, Source, refusal};
use crate::store::authorizers;

/// `refresh_token is invalid`.
const REFRESH_TOKEN_REFUSED: i64 = 61023;
/// `component is not authorized by this account`.
pub(super) const NOT_AUTHORIZED: i64 = 61003;

#[derive(Debug)]
pub(super) struct AuthorizerToken {
    pub(super) component: Component,
    pub(super) account: AccountId,
    pub(super) app_id: String,
}

impl AuthorizerToken {
    async fn obtain(&self) -> Result<Granted, Answer> {
        let store = &self.component.0.store;
        let key = (self.component.app_id(), self.app_id.as_str());
        let used = authorizers::refresh_token(store.read(), key).await;
        let Some(used) = used.map_err(|error| not_stored(&error))? else {
            // Nobody is asked for an authorization that was taken back.
            let withdrawn = store.knowledge().authorizers().get(&self.app_id);
            return match withdrawn.filter(|known| !known.sends()) {
                Some(known) => Err(self.attention(&known.reason)),
                None => self.recover(None, None).await,
            };
        };
        match self.component.refresh(&self.app_id, &used).await {
            Ok(refreshed) => self.keep(&used, refreshed).await,
            Err(answer) if answer.code == Some(REFRESH_TOKEN_REFUSED) => {
                self.recover(Some(&used), Some(answer)).await
            }
            Err(answer) => {
                if answer.code == Some(NOT_AUTHORIZED) {
                    // Taken back without our hearing of it: the platform's list settles that.
                    self.component.0.missed.notify_one();
                }
                Err(answer)
            }
        }
    }

    /// Makes what came durable, then lets it be used.
    async fn keep(&self, used: &SecretString, refreshed: Refreshed) -> Result<Granted, Answer> {
        let Refreshed { token, next } = refreshed;
        if next.expose_secret() != used.expose_secret() {
            let key = (self.component.app_id(), self.app_id.as_str());
            let kept = authorizers::keep_next(&self.component.0.store, key, used, &next).await;
            kept.map_err(|error| not_stored(&error))?;
        }
        Ok(token)
    }

    /// Tries the refresh token of the platform's list instead of `lost`.
    async fn recover(
        &self,
        lost: Option<&SecretString>,
        refused: Option<Answer>,
    ) -> Result<Granted, Answer> {
        let component = &self.component;
        let found = component.listed_token(&self.app_id, lost).await?;
        let Some(found) = found else {
            let words = "its refresh token is lost, and the platform's list has no other: \
                         ask its owner to authorize again";
            return Err(match refused {
                Some(refused) => Answer {
                    class: AnswerClass::NeedsAttention,
                    detail: format!("{}: {words}", refused.detail),
                    ..refused
                },
                None => self.attention(words),
            });
        };
        let key = (component.app_id(), self.app_id.as_str());
        let store = &component.0.store;
        // The row first: a token that comes for it may bring yet another one.
        let kept = match lost {
            Some(lost) => authorizers::keep_next(store, key, lost, &found).await,
            None => authorizers::keep(store, key, &found, component.0.clock.now()).await,
        };
        kept.map_err(|error| not_stored(&error))?;
        tracing::warn!(
            account.id = self.account.0,
            "a refresh token was lost, and recovered from the platform's list"
        );
        let refreshed = component.refresh(&self.app_id, &found).await?;
        self.keep(&found, refreshed).await
    }

    fn attention(&self, why: &str) -> Answer {
        let words = format!("access token of {}: {why}", self.app_id);
        Answer::without_code(AnswerClass::NeedsAttention, words)
    }
}

impl Source for AuthorizerToken {
    fn ask<'a>(&'a self, _: Option<&'a SecretString>) -> Asking<'a> {
        Box::pin(async {
            let obtained = self.obtain().await;
            // The message is never at fault for a token that cannot be had.
            obtained.map_err(|failure| Answer {
                class: failure.code.map_or(failure.class, refusal),
                ..failure
            })
        })
    }

    fn app_id(&self) -> &str {
        &self.app_id
    }

    fn seed(&self) -> i64 {
        self.account.0
    }
}
