//! Sends that a stopped process or another node began, and whose answer nobody read.

use std::sync::Arc;

use crate::clock::Clock;
use crate::journey::answer::{Answer, AnswerClass};
use crate::sender::retries::Retries;
use crate::store::leases::Held;
use crate::store::{Error, Store, deliveries};

/// Settles what earlier holders of some shards left behind.
pub(super) struct Recovery {
    pub(super) store: Arc<Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) retries: Arc<Retries>,
    /// The shards, and since which number they are ours.
    pub(super) held: Vec<Held>,
}

impl Recovery {
    /// Settles them as unknown; says how many there were.
    ///
    /// # Errors
    /// When the database went meanwhile, or we are stopped: some may be left.
    pub(super) async fn run(&self) -> Result<usize, Error> {
        let (mut recovered, mut before) = (0, Vec::new());
        loop {
            let left = deliveries::left_behind(self.store.read(), &self.held, 500).await?;
            if left == before {
                // Nothing, or only rows that cannot be settled: they must not keep us from going on.
                return Ok(recovered);
            }
            let settled = left.iter().map(|key| {
                let what = "dripwheel stopped between the intent and the answer";
                let answer = Answer::without_code(AnswerClass::Unknown, what);
                self.store.writer().settle(*key, answer)
            });
            let settled = futures_util::future::join_all(settled).await;
            for (key, settled) in left.iter().zip(settled) {
                match settled {
                    Ok(_) => {
                        recovered += 1;
                        self.retries.forgive(key.account, self.clock.now());
                    }
                    Err(error @ (Error::Stopped | Error::Away | Error::NotHeld)) => {
                        return Err(error);
                    }
                    Err(error) => {
                        tracing::error!(%error, enrollment.id = key.enrollment.0,
                            "an unknown send could not be settled");
                    }
                }
            }
            before = left;
        }
    }
}
