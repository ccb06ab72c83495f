//! Sends that a stopped process or another node began, and whose answer nobody read.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::journey::answer::{Answer, AnswerClass};
use crate::sender::retries::Retries;
use crate::store::leases::Held;
use crate::store::{Error, Store, deliveries};

/// Wait after the database was away.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Settles what earlier holders of some shards left behind.
pub(super) struct Recovery {
    pub(super) store: Arc<Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) retries: Arc<Retries>,
    /// The shards, and since which number they are ours.
    pub(super) held: Vec<Held>,
}

impl Recovery {
    /// Settles them as unknown, however often the database goes away meanwhile, as long as the shards
    /// are ours; says how many there were.
    pub(super) async fn persist(self) -> usize {
        let mut recovered = 0;
        loop {
            match self.run(&mut recovered).await {
                Ok(()) | Err(Error::Stopped) => return recovered,
                Err(error) => {
                    tracing::warn!(%error, "sends that another node left are not settled yet");
                }
            }
            tokio::time::sleep(TRY_AGAIN).await;
            let holding = self.store.leases().holding().held();
            if !self.held.iter().any(|one| holding.contains(one)) {
                return recovered;
            }
        }
    }

    /// Settles them as unknown; counts them.
    ///
    /// # Errors
    /// When the database is away, or we are being stopped.
    pub(super) async fn run(&self, recovered: &mut usize) -> Result<(), Error> {
        let mut before = Vec::new();
        loop {
            let left = deliveries::left_behind(self.store.read(), &self.held, 500).await?;
            if left == before {
                // Nothing, or only rows that cannot be settled: they must not keep us from going on.
                return Ok(());
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
                        *recovered += 1;
                        self.retries.forgive(key.account, self.clock.now());
                    }
                    Err(error @ (Error::Stopped | Error::Away)) => return Err(error),
                    // Another node's again: it finds them.
                    Err(Error::NotHeld) => {}
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
