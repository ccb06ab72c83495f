//! Tells operators how much waits in memory, of the accounts that have most.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::journey::ids::AccountId;
use crate::store::Knowledge;

/// Accounts that are told of at once.
const TOLD_MAX: usize = 50;

const TELL_EVERY: Duration = Duration::from_secs(1);

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Depths {
    told_at: Timestamp,
    told: HashSet<Arc<str>>,
}

impl Depths {
    /// Tells the depths of the longest queues, and that those told before have become empty or
    /// shorter than these.
    #[expect(clippy::cast_precision_loss, reason = "gauges take floats")]
    pub(super) fn show(
        &mut self,
        depths: impl Iterator<Item = (AccountId, usize)>,
        knowledge: &Knowledge,
        now: Timestamp,
    ) {
        if now.since(self.told_at) < TELL_EVERY && now >= self.told_at {
            return;
        }
        self.told_at = now;
        let mut depths: Vec<_> = depths.collect();
        depths.sort_unstable_by_key(|(id, depth)| (std::cmp::Reverse(*depth), *id));
        depths.truncate(TOLD_MAX);
        let mut told = HashSet::new();
        for (id, depth) in depths {
            if let Some(account) = knowledge.account(id) {
                let key: Arc<str> = account.journey.key.as_str().into();
                metrics::gauge!("dripwheel_queue_deliveries", "account" => Arc::clone(&key))
                    .set(depth as f64);
                told.insert(key);
            }
        }
        for gone in self.told.difference(&told) {
            metrics::gauge!("dripwheel_queue_deliveries", "account" => Arc::clone(gone)).set(0.0);
        }
        self.told = told;
    }
}
