//! What is asked of a writer, kept so that it can be asked again: works themselves carry the way
//! back to their caller.

use tokio::sync::oneshot;

use crate::journey::carrier::Carrier;
use crate::journey::event::Arrival;
use crate::journey::ids::AccountId;
use crate::store::clicks::Clicked;
use crate::store::reconcile::Found;
use crate::store::shards::Sharding;
use crate::store::timers::TimerKey;
use crate::store::work::{Act, DeliveryKey, Ended, Offer, Work};

/// One request to a writer.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    Receive {
        account: AccountId,
        arrival: Arrival,
        offer: Offer,
    },
    Act {
        account: AccountId,
        openid: String,
        act: Act,
    },
    Reconcile {
        account: AccountId,
        found: Vec<Found>,
    },
    Settle {
        key: DeliveryKey,
        ended: Ended,
    },
    Confirm(DeliveryKey),
    Intend {
        keys: Vec<DeliveryKey>,
        only: Option<Carrier>,
    },
    Promote(Vec<TimerKey>),
    Click(Clicked),
}

impl Wish {
    /// As the writer knows it; nobody waits for the answer.
    pub(super) fn work(&self) -> Work {
        match self.clone() {
            Self::Receive {
                account,
                arrival,
                offer,
            } => Work::Receive {
                account,
                arrival: Box::new(arrival),
                offer,
                reply: oneshot::channel().0,
            },
            Self::Act {
                account,
                openid,
                act,
            } => Work::Act {
                account,
                openid,
                act,
                reply: oneshot::channel().0,
            },
            Self::Reconcile { account, found } => Work::Reconcile {
                account,
                found,
                reply: oneshot::channel().0,
            },
            Self::Settle { key, ended } => Work::Settle {
                key,
                ended: Box::new(ended),
                reply: oneshot::channel().0,
            },
            Self::Confirm(key) => Work::Confirm {
                key,
                reply: oneshot::channel().0,
            },
            Self::Intend { keys, only } => Work::Intend {
                keys,
                only,
                reply: oneshot::channel().0,
            },
            Self::Promote(keys) => Work::Promote {
                keys,
                reply: oneshot::channel().0,
            },
            Self::Click(clicked) => Work::Click {
                clicked,
                reply: oneshot::channel().0,
            },
        }
    }

    /// The shards that it is about.
    pub(super) fn shards(&self, sharding: Sharding) -> Vec<u16> {
        match self {
            Self::Receive { account, .. }
            | Self::Act { account, .. }
            | Self::Reconcile { account, .. } => vec![sharding.shard(*account)],
            Self::Settle { key, .. } | Self::Confirm(key) => vec![sharding.shard(key.account)],
            Self::Intend { keys, .. } => {
                let shards = keys.iter().map(|key| sharding.shard(key.account));
                shards.collect()
            }
            Self::Click(clicked) => vec![sharding.shard_of(clicked.enrollment)],
            Self::Promote(keys) => {
                let shards = keys.iter().map(|key| sharding.shard_of(key.enrollment));
                shards.collect()
            }
        }
    }
}
