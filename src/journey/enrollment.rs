//! An enrollment: one follower's passage through one version of a sequence, and its states.
//!
//! An unfinished enrollment always has exactly one row elsewhere that will wake it at `wake_at`: a
//! timer, or the delivery made from it. Whoever changes `wake_at` or `state` here changes which row
//! that is; the store writes both in one transaction by comparing before and after.

use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::journey::ids::{EnrollmentId, VersionId};
use crate::journey::outcome::{Outcome, OutcomeEntry};

/// One passage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrollment {
    pub id: EnrollmentId,
    pub version: VersionId,
    pub enrolled_at: Timestamp,
    /// Due instant of every step, in order. Fixed at the enrollment; only `late: shift` moves it.
    pub plan: Vec<Timestamp>,
    /// Index of the step that is next; the number of steps once completed.
    pub step: u16,
    /// When it wakes: the step's due instant, a retry, or a hold's deadline.
    pub wake_at: Timestamp,
    /// Grows with every change of `wake_at` and at the end, so that an older delivery is void.
    pub generation: u32,
    pub state: State,
    /// Calls made for the current step.
    pub attempt: u16,
    /// Entries written for the current step.
    pub entry: u16,
    /// An unknown send of the current step has been repeated once.
    pub resent: bool,
    /// An intent is committed and its answer is not in: only that answer may end this step.
    pub in_flight: bool,
    /// When that intent was committed; without meaning while nothing is in flight.
    pub called_at: Timestamp,
}

/// Where a passage stands. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Waits for a step's instant, or its step is being sent.
    Active = 0,
    /// Its step is due and no message is granted; wakes at the step's deadline.
    Held = 1,
    /// Every step has ended.
    Completed = 2,
    /// Ended early: the remaining steps were cancelled.
    Cancelled = 3,
}

impl State {
    pub const ALL: [Self; 4] = [Self::Active, Self::Held, Self::Completed, Self::Cancelled];

    /// The number it is stored under.
    pub fn number(self) -> i64 {
        i64::from(self as u8)
    }

    /// The state stored under `number`.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.number() == number)
    }

    /// The word that API and pages use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Held => "held",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a change of an enrollment adds to its history.
#[derive(Clone, Debug)]
pub struct Entry {
    pub outcome: Outcome,
    pub at: Timestamp,
    pub carrier: Option<Carrier>,
    pub code: Option<i64>,
    pub detail: String,
}

impl Entry {
    pub fn new(outcome: Outcome, at: Timestamp, detail: impl Into<String>) -> Self {
        Self {
            outcome,
            at,
            carrier: None,
            code: None,
            detail: detail.into(),
        }
    }
}

impl Enrollment {
    /// A fresh passage; `plan` has an instant for each step and at least one.
    pub fn new(
        id: EnrollmentId,
        version: VersionId,
        enrolled_at: Timestamp,
        plan: Vec<Timestamp>,
    ) -> Self {
        let wake_at = plan.first().copied().unwrap_or(enrolled_at);
        Self {
            id,
            version,
            enrolled_at,
            plan,
            step: 0,
            wake_at,
            generation: 0,
            state: State::Active,
            attempt: 0,
            entry: 0,
            resent: false,
            in_flight: false,
            called_at: Timestamp::default(),
        }
    }

    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Completed | State::Cancelled)
    }

    /// The row that wakes it, by key; `None` when there is none.
    pub fn armed_at(&self) -> Option<Timestamp> {
        (!self.is_finished()).then_some(self.wake_at)
    }

    /// Due instant of the current step.
    pub fn due_at(&self) -> Timestamp {
        let planned = self.plan.get(usize::from(self.step)).copied();
        planned.unwrap_or(self.wake_at)
    }

    fn steps_left(&self) -> u16 {
        let planned = u16::try_from(self.plan.len()).unwrap_or(u16::MAX);
        planned.saturating_sub(self.step)
    }

    fn write(&mut self, entry: Entry, steps: u16) -> OutcomeEntry {
        let written = OutcomeEntry {
            enrollment: self.id,
            step: self.step,
            entry: self.entry,
            outcome: entry.outcome,
            steps,
            due_at: self.due_at(),
            at: entry.at,
            carrier: entry.carrier,
            code: entry.code,
            detail: entry.detail,
        };
        self.entry = self.entry.saturating_add(1);
        written
    }

    /// Wakes it at `at` instead.
    pub fn rearm(&mut self, at: Timestamp) {
        self.wake_at = at;
        self.generation = self.generation.wrapping_add(1);
        self.in_flight = false;
    }

    /// Ends the current step and arms the next one, not before `earliest`, or completes.
    pub fn end_step(&mut self, entry: Entry, earliest: Timestamp) -> OutcomeEntry {
        let written = self.write(entry, 1);
        // An enrollment that was cancelled while its last send was under way stays cancelled.
        self.in_flight = false;
        if self.is_finished() {
            return written;
        }
        self.step += 1;
        self.attempt = 0;
        self.entry = 0;
        self.resent = false;
        if usize::from(self.step) < self.plan.len() {
            self.state = State::Active;
            self.rearm(self.due_at().max(earliest));
        } else {
            self.finish(State::Completed);
        }
        written
    }

    /// Adds to the history of a step that goes on at `at`.
    pub fn go_on(&mut self, entry: Entry, at: Timestamp) -> OutcomeEntry {
        let written = self.write(entry, 0);
        if !self.is_finished() {
            self.state = State::Active;
            self.rearm(at);
        }
        self.in_flight = false;
        written
    }

    /// Holds the current step until the follower acts, at most until `deadline`.
    pub fn hold(&mut self, entry: Entry, deadline: Timestamp) -> OutcomeEntry {
        let written = self.write(entry, 0);
        self.in_flight = false;
        if !self.is_finished() {
            self.state = State::Held;
            self.rearm(deadline);
        }
        written
    }

    /// Lets a held step go at `at`.
    pub fn release(&mut self, at: Timestamp) {
        if self.state == State::Held {
            self.state = State::Active;
            self.rearm(at);
        }
    }

    /// Ends the passage; every step that is left counts as cancelled, except one that is being
    /// sent, which its answer will end.
    pub fn cancel(&mut self, at: Timestamp, why: &str) -> Option<OutcomeEntry> {
        if self.is_finished() {
            return None;
        }
        let entry = Entry::new(Outcome::Cancelled, at, why);
        let written = if self.in_flight {
            let rest = self.steps_left().saturating_sub(1);
            (rest > 0).then(|| OutcomeEntry {
                enrollment: self.id,
                step: self.step + 1,
                entry: 0,
                outcome: entry.outcome,
                steps: rest,
                due_at: self
                    .plan
                    .get(usize::from(self.step) + 1)
                    .copied()
                    .unwrap_or(at),
                at,
                carrier: None,
                code: None,
                detail: entry.detail,
            })
        } else {
            let rest = self.steps_left();
            Some(self.write(entry, rest))
        };
        self.finish(State::Cancelled);
        written
    }

    /// Moves the rest of the plan, the current step included, by what the current step is late.
    pub fn shift(&mut self, now: Timestamp) {
        let late = now.since(self.due_at());
        for due_at in self.plan.iter_mut().skip(usize::from(self.step)) {
            *due_at = due_at.plus(late);
        }
    }

    fn finish(&mut self, state: State) {
        self.state = state;
        self.generation = self.generation.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journey::ids::FollowerId;

    fn passage(steps: i64) -> Enrollment {
        let plan = (0..steps).map(|n| Timestamp(n * 1000)).collect();
        let id = EnrollmentId::new(FollowerId(1), 0);
        Enrollment::new(id, VersionId(1), Timestamp(0), plan)
    }

    fn ended(entries: &[OutcomeEntry]) -> u16 {
        entries.iter().map(|entry| entry.steps).sum()
    }

    #[test]
    fn every_step_ends_once_however_the_passage_goes() {
        let mut one = passage(4);
        let now = Timestamp(10);
        let entries = [
            one.go_on(Entry::new(Outcome::Retried, now, ""), Timestamp(20)),
            one.end_step(Entry::new(Outcome::Sent, now, ""), now),
            one.hold(Entry::new(Outcome::Held, now, ""), Timestamp(99)),
            one.cancel(now, "unfollowed").expect("was unfinished"),
        ];
        assert_eq!(ended(&entries), 4);
        assert_eq!(one.state, State::Cancelled);
        assert_eq!(one.armed_at(), None);
        assert_eq!(one.cancel(now, "again"), None);
    }

    #[test]
    fn a_step_that_is_being_sent_is_ended_by_its_answer_and_not_by_a_cancel() {
        for steps in [1, 2, 5] {
            let mut one = passage(steps);
            one.in_flight = true;
            let mut entries: Vec<_> = one.cancel(Timestamp(5), "exit").into_iter().collect();
            entries.push(one.end_step(Entry::new(Outcome::Sent, Timestamp(6), ""), Timestamp(6)));
            assert_eq!(i64::from(ended(&entries)), steps);
            assert_eq!(one.state, State::Cancelled);
            let mut keys: Vec<_> = entries.iter().map(|e| (e.step, e.entry)).collect();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), entries.len());
        }
    }

    #[test]
    fn a_shift_keeps_the_distances_of_the_rest() {
        let mut one = passage(3);
        one.end_step(Entry::new(Outcome::Sent, Timestamp(0), ""), Timestamp(0));
        one.shift(Timestamp(5000));
        assert_eq!(one.plan, [Timestamp(0), Timestamp(5000), Timestamp(6000)]);
    }
}
