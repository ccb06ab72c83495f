//! Idempotency keys: the same request sent twice acts once and is answered the same.
//!
//! Kept in memory, for 24 hours and 10,000 keys: after a restart the sequence's own `reenter` rule
//! is what keeps a repeated request from acting twice.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use sha2::{Digest, Sha256};

use crate::api::keys::Caller;
use crate::api::problem::{Code, Refusal};

const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);
const REMEMBERED_MAX: u64 = 10_000;

/// Longest key, in bytes.
const KEY_MAX: usize = 255;

/// What was asked for and what was answered.
#[derive(Clone, Debug)]
struct Replay<T> {
    request: [u8; 32],
    answer: Result<T, Refusal>,
}

/// The answers that are remembered.
#[derive(Debug)]
pub(super) struct Replays<T: Clone + Send + Sync + 'static> {
    /// By a hash over caller and key: keys of two callers never meet.
    cache: Cache<[u8; 32], Arc<Replay<T>>>,
}

impl<T: Clone + Send + Sync + 'static> Default for Replays<T> {
    fn default() -> Self {
        let cache = Cache::builder()
            .max_capacity(REMEMBERED_MAX)
            .time_to_live(REMEMBERED_FOR)
            .build();
        Self { cache }
    }
}

impl<T: Clone + Send + Sync + 'static> Replays<T> {
    /// Runs `act` unless this caller used `key` before: then the earlier answer is given again.
    /// Requests that come at the same time wait for the first. An answer that says that nothing
    /// was written is not remembered.
    ///
    /// # Errors
    /// What `act` refuses; a key that is malformed or was used for another request.
    pub(super) async fn once(
        &self,
        caller: &Caller,
        key: Option<&str>,
        request: &[&str],
        act: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let Some(key) = key else {
            return act.await;
        };
        if key.is_empty() || key.len() > KEY_MAX || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Refusal::new(
                Code::BadKey,
                "an idempotency key has 1 to 255 visible ASCII characters",
            ));
        }
        let request = hash(request);
        let replay = self
            .cache
            .try_get_with(hash(&[&caller.name, key]), async {
                let answer = act.await;
                match answer {
                    Err(failed @ (Refusal::Internal(_) | Refusal::Busy(_))) => Err(failed),
                    answer => Ok(Arc::new(Replay { request, answer })),
                }
            })
            .await
            .map_err(|failed| (*failed).clone())?;
        if replay.request != request {
            return Err(Refusal::new(
                Code::KeyReused,
                "this idempotency key was used for another request: use a new one",
            ));
        }
        replay.answer.clone()
    }
}

/// A hash over parts, each with its length, so that no two lists of parts read the same.
fn hash(parts: &[&str]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().into()
}
