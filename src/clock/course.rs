//! What a wall clock that is set means for those who live by it. Pure: readings come in as numbers.
//!
//! A clock that shows an absurd time for a moment must not end a thousand steps as "late", nor hold
//! them back for a day. So a large step is believed only when it lasts; until then time goes on as
//! the machine counts it, which nobody sets.

use std::time::Duration;

use crate::clock::{Timestamp, millis};

/// A wall clock and the machine's count may differ by so much between two readings: it is set
/// right little by little.
const TOLERANCE: Duration = Duration::from_secs(1);

/// A step forward up to here is believed at once: whatever it makes due is hardly late.
const FORWARD_MAX: Duration = Duration::from_secs(60);

/// How long a longer step forward must last to be believed.
const CONFIRM_FORWARD: Duration = Duration::from_secs(5);

/// How long a step back must last to be believed.
const CONFIRM_BACK: Duration = Duration::from_secs(60);

/// Nobody asked for the time for so long: the machine slept, or we were not let run.
const ASLEEP: Duration = Duration::from_secs(60);

/// What a reading showed beside the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The clock was set ahead by so much, and that is not believed yet.
    SeemsAhead(Duration),
    /// The clock was set back by so much, and that is not believed yet.
    SeemsBack(Duration),
    /// The clock was set ahead, and what became due by it is due.
    Ahead(Duration),
    /// The clock was set back, and we with it.
    Back(Duration),
    /// The clock is as it was before it seemed set.
    Right,
    /// Nobody looked for so long.
    Asleep(Duration),
}

/// A step that is not believed yet.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// By the machine's count.
    since: Duration,
    drift_ms: i64,
}

/// The time as it is lived by.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// The last time that was believed, and the machine's count then.
    believed: (Timestamp, Duration),
    /// The last time shown: it decreases only when a step back is believed.
    shown: Timestamp,
    read_at: Duration,
    doubt: Option<Doubt>,
}

impl Course {
    /// Begins with a wall clock that is believed, and the machine's count.
    pub fn new(wall: Timestamp, elapsed: Duration) -> Self {
        Self {
            believed: (wall, elapsed),
            shown: wall,
            read_at: elapsed,
            doubt: None,
        }
    }

    /// Takes one reading of the wall clock and of the machine's count; the time to live by.
    pub fn read(&mut self, wall: Timestamp, elapsed: Duration) -> (Timestamp, Option<News>) {
        let unseen = elapsed.saturating_sub(self.read_at);
        self.read_at = self.read_at.max(elapsed);
        let (at, count) = self.believed;
        let expected = at.plus(elapsed.saturating_sub(count));
        let drift_ms = wall.0.saturating_sub(expected.0);
        let drift = Duration::from_millis(drift_ms.unsigned_abs());
        if drift <= TOLERANCE || (drift_ms > 0 && drift <= FORWARD_MAX) {
            let news = match self.doubt {
                Some(_) => Some(News::Right),
                None if drift > TOLERANCE => Some(News::Ahead(drift)),
                None if unseen >= ASLEEP => Some(News::Asleep(unseen)),
                None => None,
            };
            self.believe(wall, elapsed);
            self.shown = self.shown.max(wall);
            return (self.shown, news);
        }
        let same = |doubt: &Doubt| doubt.drift_ms.abs_diff(drift_ms) <= tolerance_ms();
        let doubt = self.doubt.filter(same);
        let since = doubt.map_or(elapsed, |doubt| doubt.since);
        let lasted = elapsed.saturating_sub(since);
        let ahead = drift_ms > 0;
        let news = match (ahead, doubt) {
            (true, _) if lasted >= CONFIRM_FORWARD => Some(News::Ahead(drift)),
            (false, _) if lasted >= CONFIRM_BACK => Some(News::Back(drift)),
            (_, Some(_)) => None,
            (true, None) => Some(News::SeemsAhead(drift)),
            (false, None) => Some(News::SeemsBack(drift)),
        };
        if matches!(news, Some(News::Ahead(_) | News::Back(_))) {
            self.believe(wall, elapsed);
            self.shown = wall;
        } else {
            self.doubt = Some(Doubt { since, drift_ms });
            self.shown = self.shown.max(expected);
        }
        (self.shown, news)
    }

    fn believe(&mut self, wall: Timestamp, elapsed: Duration) {
        self.believed = (wall, elapsed);
        self.doubt = None;
    }
}

fn tolerance_ms() -> u64 {
    millis(TOLERANCE).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp(1_700_000_000_000);
    const HOUR: i64 = 3_600_000;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// The wall clock `off_ms` away from the right time, so long after the start.
    fn wall(elapsed: Duration, off_ms: i64) -> Timestamp {
        Timestamp(START.plus(elapsed).0 + off_ms)
    }

    #[test]
    fn a_clock_that_is_wrong_for_a_moment_is_not_believed() {
        for (off, seems) in [
            (24 * HOUR, News::SeemsAhead(seconds(86_400))),
            (-HOUR, News::SeemsBack(seconds(3_600))),
        ] {
            let mut course = Course::new(START, seconds(0));
            for ms in (100..4_000).step_by(100) {
                let elapsed = Duration::from_millis(ms);
                let (now, news) = course.read(wall(elapsed, off), elapsed);
                assert_eq!(now, wall(elapsed, 0));
                assert_eq!(news, (ms == 100).then_some(seems));
            }
            let elapsed = seconds(4);
            let right = (wall(elapsed, 0), Some(News::Right));
            assert_eq!(course.read(wall(elapsed, 0), elapsed), right);
        }
    }

    #[test]
    fn a_clock_that_stays_set_is_believed() {
        for (off, after, set) in [
            (HOUR, 5, News::Ahead(seconds(3_600))),
            (-HOUR, 60, News::Back(seconds(3_600))),
        ] {
            let mut course = Course::new(START, seconds(0));
            for second in 1..=after {
                let (now, news) = course.read(wall(seconds(second), off), seconds(second));
                assert_eq!(now, wall(seconds(second), 0));
                assert_eq!(news.is_some(), second == 1);
            }
            let elapsed = seconds(after + 1);
            let believed = (wall(elapsed, off), Some(set));
            assert_eq!(course.read(wall(elapsed, off), elapsed), believed);
        }
    }

    #[test]
    fn a_machine_that_slept_wakes_at_the_right_time() {
        let mut course = Course::new(START, seconds(0));
        let night = seconds(8 * 3_600);
        let woken = (wall(night, 0), Some(News::Asleep(night)));
        assert_eq!(course.read(wall(night, 0), night), woken);
    }

    proptest! {
        /// However the wall clock is set: time never goes back but to a time that lasted a minute,
        /// never runs further ahead of the machine's count than was believed, and is the wall
        /// clock's once that stands still.
        #[test]
        fn time_goes_back_only_to_what_lasted(
            acts in prop::collection::vec(
                (1u64..20_000, prop_oneof![
                    6 => Just(None),
                    1 => (-100_000_000i64..100_000_000).prop_map(Some),
                    1 => (-70_000i64..70_000).prop_map(Some),
                ]),
                1..200,
            ),
        ) {
            let mut course = Course::new(START, seconds(0));
            let (mut elapsed, mut off, mut off_since) = (seconds(0), 0, seconds(0));
            let mut last = START;
            for (pause_ms, set) in acts {
                elapsed += Duration::from_millis(pause_ms);
                if let Some(set) = set {
                    // As far as nobody would notice, it still stands where it stood.
                    if set.abs_diff(off) > tolerance_ms() {
                        off_since = elapsed;
                    }
                    off = set;
                }
                let stands = elapsed - off_since;
                let (now, news) = course.read(wall(elapsed, off), elapsed);
                if now < last {
                    prop_assert!(matches!(news, Some(News::Back(_))));
                    prop_assert!(stands >= CONFIRM_BACK);
                }
                let passed = last.plus(Duration::from_millis(pause_ms));
                let ahead = now.since(passed);
                if ahead > FORWARD_MAX {
                    prop_assert!(matches!(news, Some(News::Ahead(_))));
                    prop_assert!(stands >= CONFIRM_FORWARD);
                }
                last = now;
            }
            for _ in 0..70 {
                elapsed += seconds(1);
                last = course.read(wall(elapsed, off), elapsed).0;
            }
            // A small step back is waited for instead of made.
            prop_assert!(last.0 - wall(elapsed, off).0 <= 1_000);
            prop_assert!(last >= wall(elapsed, off));
        }
    }
}
