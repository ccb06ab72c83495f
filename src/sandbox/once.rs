//! Names that a caller gives to a message, so that it goes out once however often it is asked for.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lock;
use crate::clock::Timestamp;

/// The messages of the newest names, each remembered for a while.
#[derive(Debug)]
pub(super) struct Once {
    life: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    seen: HashMap<String, Seen>,
    /// Names in the order of their messages.
    order: VecDeque<(Timestamp, String)>,
}

/// A message that has this name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) msg_id: u64,
    /// When it was last asked for.
    pub(super) asked_at: Timestamp,
}

/// One name as it outlives a restart.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct KeptName {
    name: String,
    msg_id: u64,
    at: Timestamp,
    asked_at: Timestamp,
}

impl Once {
    pub(super) fn new(life: Duration) -> Self {
        Self {
            life,
            inner: Mutex::default(),
        }
    }

    /// Gives a message its name, or finds the one that has it.
    pub(super) fn take(&self, name: &str, msg_id: u64, now: Timestamp) -> Result<(), Seen> {
        let mut inner = lock(&self.inner);
        inner.forget(now, self.life);
        if let Some(seen) = inner.seen.get_mut(name) {
            let before = *seen;
            seen.asked_at = now;
            return Err(before);
        }
        inner.put(name.to_owned(), msg_id, now, now);
        Ok(())
    }

    /// Every name that is still remembered.
    pub(super) fn kept(&self) -> Vec<KeptName> {
        let inner = lock(&self.inner);
        let kept = |(at, name): &(Timestamp, String)| {
            let seen = inner.seen.get(name)?;
            Some(KeptName {
                name: name.clone(),
                msg_id: seen.msg_id,
                at: *at,
                asked_at: seen.asked_at,
            })
        };
        inner.order.iter().filter_map(kept).collect()
    }

    /// Takes in the names of before a restart.
    pub(super) fn restore(&self, kept: Vec<KeptName>) {
        let mut inner = lock(&self.inner);
        for kept in kept {
            inner.put(kept.name, kept.msg_id, kept.at, kept.asked_at);
        }
    }
}

impl Inner {
    fn put(&mut self, name: String, msg_id: u64, at: Timestamp, asked_at: Timestamp) {
        self.seen.insert(name.clone(), Seen { msg_id, asked_at });
        self.order.push_back((at, name));
    }

    fn forget(&mut self, now: Timestamp, life: Duration) {
        while let Some((at, _)) = self.order.front()
            && now >= at.plus(life)
        {
            if let Some((_, name)) = self.order.pop_front() {
                self.seen.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_until_its_time_is_over() {
        let once = Once::new(Duration::from_secs(600));
        let at = |seconds: i64| Timestamp::from_seconds(1_700_000_000 + seconds);
        assert_eq!(once.take("a", 1, at(0)), Ok(()));
        assert_eq!(once.take("b", 2, at(1)), Ok(()));
        let seen = |asked_at| Seen {
            msg_id: 1,
            asked_at,
        };
        assert_eq!(once.take("a", 3, at(599)), Err(seen(at(0))));
        let after = Once::new(Duration::from_secs(600));
        after.restore(once.kept());
        assert_eq!(after.take("a", 4, at(599)), Err(seen(at(599))));
        assert_eq!(after.take("a", 5, at(600)), Ok(()));
        assert_eq!(
            after.take("b", 6, at(600)).map_err(|seen| seen.msg_id),
            Err(2)
        );
    }
}
