//! What lies behind the ring: rows that are overdue, read from the table in the order of their keys.
//!
//! The ring holds what is near; what it could not hand out in time it passes over, so that a
//! million overdue timers never stand before a fresh one. They are walked through here, page by
//! page, with what the fresh ones leave of each turn. Pure: which rows to ask for, never asking.

use crate::scheduler::wheel::Entry;

/// Why rows behind the ring are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The ring passed over them: the program was down, the clock was set, or they are too many.
    Overdue,
    /// To find what everybody missed.
    Sweep,
}

/// A walk through the rows between a key and an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Rows up to here are done.
    pub after: Entry,
    /// Rows from this instant on are the ring's; milliseconds since 1970.
    pub until_ms: i64,
    pub why: Why,
}

/// At most one walk at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backlog {
    walk: Option<Walk>,
}

impl Backlog {
    /// The walk under way.
    pub fn walk(&self) -> Option<Walk> {
        self.walk
    }

    /// Adds the rows after a key and before an instant. A walk under way goes on to that instant, or
    /// begins again where it has missed something.
    pub fn add(&mut self, after: Entry, until_ms: i64, why: Why) {
        self.walk = Some(match self.walk {
            None => Walk {
                after,
                until_ms,
                why,
            },
            Some(walk) => Walk {
                after: walk.after.min(after),
                until_ms: walk.until_ms.max(until_ms),
                // A walk that overdue rows have joined finds them rightly.
                why: if why == Why::Overdue { why } else { walk.why },
            },
        });
    }

    /// A page of the walk was read up to `last`; `whole` says that nothing follows.
    pub fn walked(&mut self, last: Option<Entry>, whole: bool) {
        match (&mut self.walk, last) {
            (Some(walk), Some(last)) if !whole => walk.after = walk.after.max(last),
            (Some(_), None) if !whole => {}
            _ => self.walk = None,
        }
    }

    /// How far the oldest rows of the walk lie behind `now_ms`, in milliseconds: as far as is known.
    pub fn lag_ms(&self, now_ms: i64) -> Option<i64> {
        let walk = self.walk.filter(|walk| walk.why == Why::Overdue)?;
        let from = match walk.after {
            Entry::FIRST => walk.until_ms,
            after => after.due_ms,
        };
        Some(now_ms.saturating_sub(from).max(0))
    }
}
