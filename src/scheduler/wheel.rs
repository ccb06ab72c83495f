//! The wheel's near part: which timers are due, second by second.
//!
//! A ring of one-second slots behind the cursor, filled from the rows up to `loaded_until`. It is a
//! cache: the rows in `store::timers` are the truth, so losing the whole ring costs lateness, never
//! a message. A hard cap bounds it whatever the followers do; what lies behind `loaded_until` is
//! simply not known here yet.
//!
//! Deliberately absent: clocks, I/O, async, locks. `now` comes in as a number; the loop in
//! `scheduler` owns everything else.

use std::collections::VecDeque;

/// One timer: 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// Milliseconds since 1970.
    pub due_ms: i64,
    pub enrollment: i64,
}

impl Entry {
    /// Before every entry.
    pub const FIRST: Self = Self {
        due_ms: i64::MIN,
        enrollment: i64::MIN,
    };

    /// The last key before this one.
    fn before(self) -> Self {
        match self.enrollment.checked_sub(1) {
            Some(enrollment) => Self { enrollment, ..self },
            None => Self {
                due_ms: self.due_ms.saturating_sub(1),
                enrollment: i64::MAX,
            },
        }
    }

    /// The last key that is due before an instant.
    fn last_before(due_ms: i64) -> Self {
        Self {
            due_ms: due_ms.saturating_sub(1),
            enrollment: i64::MAX,
        }
    }
}

const SLOT_MS: i64 = 1000;

/// How many seconds the ring spans at most, so that one far timer does not stretch it.
pub const SPAN_S: usize = 3600;

/// Timers of the near future, at most `cap` of them.
#[derive(Debug)]
pub struct Wheel {
    /// Index 0 is the slot `cursor`; unsorted within a slot until it is taken.
    slots: VecDeque<Vec<Entry>>,
    /// The slot that is handed out next; everything due before it has been.
    cursor: i64,
    /// Every row with a key up to here has been offered to the ring.
    loaded_until: Entry,
    len: usize,
    cap: usize,
}

fn slot_of(due_ms: i64) -> i64 {
    due_ms.div_euclid(SLOT_MS)
}

impl Wheel {
    /// An empty ring that knows of no row, at the second of `now_ms`.
    pub fn new(now_ms: i64, cap: usize) -> Self {
        Self {
            slots: VecDeque::new(),
            cursor: slot_of(now_ms),
            loaded_until: Entry::FIRST,
            len: 0,
            cap: cap.max(1),
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every row with a key up to here has been offered; rows behind it are still to be loaded.
    pub fn loaded_until(&self) -> Entry {
        self.loaded_until
    }

    /// Whether another page should be read: there is room for half a ring.
    pub fn wants_more(&self) -> bool {
        self.len <= self.cap / 2
    }

    /// Room for so many more.
    pub fn room(&self) -> usize {
        self.cap.saturating_sub(self.len)
    }

    /// First instant that lies beyond the ring's span.
    pub fn span_ends_ms(&self) -> i64 {
        let span = i64::try_from(SPAN_S).unwrap_or(i64::MAX);
        self.cursor.saturating_add(span).saturating_mul(SLOT_MS)
    }

    /// Takes in a page of rows that follow `loaded_until` in key order. `end` says that there was
    /// nothing more before the given instant.
    pub fn load(&mut self, page: &[Entry], end: Option<i64>) {
        for entry in page {
            if self.len >= self.cap {
                // Full: the rest of the page counts as not loaded.
                return;
            }
            self.put(*entry);
            self.loaded_until = self.loaded_until.max(*entry);
        }
        if let Some(end_ms) = end {
            self.loaded_until = self.loaded_until.max(Entry::last_before(end_ms));
        }
    }

    /// Adds a timer that was just written. One behind `loaded_until` will be found by a page; a
    /// full ring gives up its farthest slot first, which will be loaded again.
    pub fn arm(&mut self, entry: Entry) {
        if entry > self.loaded_until {
            return;
        }
        if self.len >= self.cap {
            self.give_up_farthest();
            if entry > self.loaded_until {
                return;
            }
        }
        self.put(entry);
    }

    /// Forgets the farthest timers and pulls `loaded_until` back before them. When all are in one
    /// slot, its later half goes.
    fn give_up_farthest(&mut self) {
        while self.slots.back().is_some_and(Vec::is_empty) {
            self.slots.pop_back();
        }
        let Some(last) = self.slots.back_mut() else {
            return;
        };
        last.sort_unstable();
        let keep = if last.len() == self.len {
            last.len() / 2
        } else {
            0
        };
        let first_lost = last.get(keep).copied();
        self.len -= last.len() - keep;
        last.truncate(keep);
        if let Some(lost) = first_lost {
            self.loaded_until = lost.before();
        }
    }

    fn put(&mut self, entry: Entry) {
        // A timer before the cursor is due at the next tick, never lost and never in the past.
        let offset = slot_of(entry.due_ms).saturating_sub(self.cursor).max(0);
        let index = usize::try_from(offset).unwrap_or(usize::MAX).min(SPAN_S);
        while self.slots.len() <= index {
            self.slots.push_back(Vec::new());
        }
        if let Some(slot) = self.slots.get_mut(index) {
            slot.push(entry);
            self.len += 1;
        }
    }

    /// Hands out at most `limit` timers due at or before `now_ms`, earliest first. The cursor moves
    /// on only past slots that are handed out whole, and never back.
    pub fn take_due(&mut self, now_ms: i64, limit: usize) -> Vec<Entry> {
        let mut due = Vec::new();
        let now_slot = slot_of(now_ms);
        while due.len() < limit {
            let Some(first) = self.slots.front_mut() else {
                self.cursor = self.cursor.max(now_slot);
                break;
            };
            first.sort_unstable();
            let ready = first.partition_point(|entry| entry.due_ms <= now_ms);
            let ready = ready.min(limit - due.len());
            due.extend(first.drain(..ready));
            if !first.is_empty() || self.cursor >= now_slot {
                break;
            }
            let spare = self.slots.pop_front();
            self.cursor += 1;
            drop(spare);
        }
        self.len -= due.len();
        due
    }

    /// Gives up whatever is due before an instant: those rows are no longer the ring's, which goes
    /// on from there. Says after which key they are to be read; `None` when there are none.
    pub fn pass_over(&mut self, until_ms: i64) -> Option<Entry> {
        let last = Entry::last_before(until_ms);
        let mut first: Option<Entry> = None;
        let mut kept = Vec::new();
        let target = slot_of(until_ms);
        loop {
            let Some(slot) = self.slots.front_mut() else {
                self.cursor = self.cursor.max(target);
                break;
            };
            let before = slot.len();
            let passed = slot.iter().filter(|entry| **entry <= last).min();
            first = [first, passed.copied()].into_iter().flatten().min();
            slot.retain(|entry| *entry > last);
            self.len -= before - slot.len();
            if self.cursor >= target {
                break;
            }
            self.len -= slot.len();
            kept.append(slot);
            self.slots.pop_front();
            self.cursor += 1;
        }
        for entry in kept {
            self.put(entry);
        }
        let unread = (self.loaded_until < last).then_some(self.loaded_until);
        self.loaded_until = self.loaded_until.max(last);
        let first = first.map(Entry::before);
        [first, unread].into_iter().flatten().min()
    }

    /// Memory that the slots have taken, in bytes.
    pub fn bytes(&self) -> usize {
        let entries: usize = self.slots.iter().map(Vec::capacity).sum();
        entries * size_of::<Entry>() + self.slots.capacity() * size_of::<Vec<Entry>>()
    }

    /// Due instant of the earliest timer that the ring holds.
    pub fn next_due_ms(&self) -> Option<i64> {
        let slot = self.slots.iter().find(|slot| !slot.is_empty())?;
        slot.iter().map(|entry| entry.due_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write { after_ms: i64 },
        Tick { pass_ms: i64, limit: usize },
        PassOver { back_ms: i64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let write = (-5_000i64..200_000).prop_map(|after_ms| Step::Write { after_ms });
        let tick =
            (0i64..9_000, 1usize..50).prop_map(|(pass_ms, limit)| Step::Tick { pass_ms, limit });
        let pass = (0i64..20_000).prop_map(|back_ms| Step::PassOver { back_ms });
        prop::collection::vec(prop_oneof![9 => write, 3 => tick, 1 => pass], 1..400)
    }

    /// Loads pages from the model's rows, as the scheduler does from the table.
    fn refill(wheel: &mut Wheel, rows: &BTreeSet<Entry>) {
        while wheel.wants_more() {
            let until = wheel.span_ends_ms();
            let after = wheel.loaded_until();
            let room = wheel.room().min(16);
            let page: Vec<_> = rows
                .range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded))
                .take_while(|entry| entry.due_ms < until)
                .take(room)
                .copied()
                .collect();
            let end = (page.len() < room).then_some(until);
            wheel.load(&page, end);
            if end.is_some() {
                break;
            }
        }
    }

    proptest! {
        /// Against a sorted set as model: nothing early, nothing lost, nothing twice, in order
        /// within a tick, and never more than the cap. What is passed over is found after the key
        /// that is named for it, and is not handed out any more.
        #[test]
        fn hands_out_what_a_sorted_set_would(steps in steps(), cap in 4usize..64) {
            let mut now = 1_000_000i64;
            let mut wheel = Wheel::new(now, cap);
            let mut rows = BTreeSet::new();
            let mut next = 0i64;
            for step in steps {
                match step {
                    Step::Write { after_ms } => {
                        next += 1;
                        let entry = Entry { due_ms: now + after_ms, enrollment: next };
                        rows.insert(entry);
                        wheel.arm(entry);
                    }
                    Step::Tick { pass_ms, limit } => {
                        now += pass_ms;
                        refill(&mut wheel, &rows);
                        let due = wheel.take_due(now, limit);
                        for entry in &due {
                            prop_assert!(entry.due_ms <= now, "early");
                            prop_assert!(rows.remove(entry), "twice or unknown");
                        }
                    }
                    Step::PassOver { back_ms } => {
                        let until_ms = now - back_ms;
                        let after = wheel.pass_over(until_ms);
                        let old = rows.range(..Entry { due_ms: until_ms, enrollment: i64::MIN });
                        let old: Vec<_> = old.copied().collect();
                        prop_assert!(old.iter().all(|entry| Some(*entry) > after), "unnamed");
                        prop_assert!(after.is_some() || old.is_empty(), "passed over in silence");
                        rows.retain(|entry| entry.due_ms >= until_ms);
                    }
                }
                prop_assert!(wheel.len() <= cap, "over the cap");
            }
            // Given time, everything comes out.
            now += 10_000_000;
            for _ in 0..2_000 {
                refill(&mut wheel, &rows);
                for entry in wheel.take_due(now, 100) {
                    prop_assert!(rows.remove(&entry), "twice or unknown");
                }
            }
            prop_assert!(rows.is_empty(), "lost: {rows:?}");
        }
    }

    #[test]
    fn one_giant_slot_cannot_break_the_cap() {
        let mut wheel = Wheel::new(0, 100);
        wheel.load(&[], Some(3_600_000));
        for enrollment in 0..10_000 {
            wheel.arm(Entry {
                due_ms: 5_500,
                enrollment,
            });
            assert!(wheel.len() <= 100);
        }
        assert!(!wheel.is_empty());
    }

    #[test]
    fn a_clock_that_jumps_back_hands_nothing_out_twice() {
        let mut wheel = Wheel::new(10_000, 100);
        wheel.load(
            &[Entry {
                due_ms: 10_500,
                enrollment: 1,
            }],
            Some(60_000),
        );
        assert_eq!(wheel.take_due(11_000, 10).len(), 1);
        assert_eq!(wheel.take_due(2_000, 10), []);
        wheel.arm(Entry {
            due_ms: 3_000,
            enrollment: 2,
        });
        assert_eq!(wheel.take_due(3_000, 10).len(), 1);
    }
}
