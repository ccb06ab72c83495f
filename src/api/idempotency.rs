//! Idempotency keys: the same request sent twice, to whichever node, acts once and is answered the
//! same.
//!
//! Answers are rows, for 24 hours. Where a process is killed between the act and its row, the
//! sequence's own `reenter` rule is what keeps a repeated request from acting twice.

use std::sync::Arc;
use std::time::Duration;

use poem_openapi::types::{ParseFromJSON, ToJSON};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::api::keys::Caller;
use crate::api::problem::{Code, Refusal};
use crate::clock::{Clock, SystemClock};
use crate::store::Store;
use crate::store::replays::{self, Known, Request};

/// Longest key, in bytes.
const KEY_MAX: usize = 255;

/// Longest wait for somebody who makes the answer, and between two looks at it.
const WAIT_MAX: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How often an answer is written that cannot be.
const WRITES_MAX: u32 = 20;
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// The answers that are remembered.
#[derive(Debug)]
pub(super) struct Replays {
    store: Arc<Store>,
}

impl Replays {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    /// Runs `act` unless this caller used `key` before: then the earlier answer is given again.
    /// Requests that come at the same time wait for the first. An answer that says that nothing
    /// was written is not remembered.
    ///
    /// # Errors
    /// What `act` refuses; a key that is malformed or was used for another request.
    pub(super) async fn once<T: ToJSON + ParseFromJSON>(
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
        let request = Request {
            // Keys of two callers never meet.
            key: hash(&[&caller.name, key]),
            request: hash(request),
            claim: claim()?,
        };
        if let Some(answer) = self.earlier(&request).await? {
            return read(&answer);
        }
        let answer = act.await;
        let written = match &answer {
            Err(Refusal::Internal(_) | Refusal::Busy(_)) => None,
            Err(refusal) => Some(json!({ "refused": refusal.kept() })),
            Ok(answer) => Some(json!({ "answered": answer.to_json() })),
        };
        self.remember(&request, written.as_ref()).await;
        answer
    }

    /// The answer that was given before; `None` when it is ours to make.
    async fn earlier(&self, request: &Request) -> Result<Option<Value>, Refusal> {
        let give_up_at = tokio::time::Instant::now() + WAIT_MAX;
        loop {
            let now = SystemClock.now();
            let (known, asked) = replays::claim(&self.store, request, now).await?;
            if asked != request.request {
                return Err(Refusal::new(
                    Code::KeyReused,
                    "this idempotency key was used for another request: use a new one",
                ));
            }
            match known {
                Known::New => return Ok(None),
                Known::Answered(answer) => {
                    return Ok(Some(serde_json::from_str(&answer).unwrap_or_default()));
                }
                Known::BeingMade if tokio::time::Instant::now() >= give_up_at => {
                    let words = "the first request with this key is still being answered";
                    return Err(Refusal::new(Code::Busy, words));
                }
                Known::BeingMade => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// An act whose answer is not remembered would be done again.
    async fn remember(&self, request: &Request, answer: Option<&Value>) {
        for _ in 0..WRITES_MAX {
            let answer = answer.map(Value::to_string);
            match replays::answer(&self.store, request, answer).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "an answer is not remembered yet"),
            }
            tokio::time::sleep(WRITE_AGAIN).await;
        }
    }
}

fn read<T: ParseFromJSON>(answer: &Value) -> Result<T, Refusal> {
    if let Some(refusal) = answer.get("refused").and_then(Refusal::from_kept) {
        return Err(refusal);
    }
    let answered = answer.get("answered").cloned();
    T::parse_from_json(answered).map_err(|error| {
        tracing::error!(
            error = error.message(),
            "a remembered answer cannot be read"
        );
        Refusal::new(Code::Internal, "the log says what happened")
    })
}

fn claim() -> Result<String, Refusal> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "the system has no random bytes");
        Refusal::new(Code::Internal, "the log says what happened")
    })?;
    Ok(hex(&bytes))
}

/// A hash over parts, each with its length, so that no two lists of parts read the same.
fn hash(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
