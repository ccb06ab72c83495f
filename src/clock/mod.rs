//! The time: `Clock` is the only place that asks the machine what time it is.
//!
//! Everything else takes `now` as an argument or holds a clock. Three clocks exist: the system's,
//! a manual one for tests, and a scaled one that plays 48 hours in minutes for the demo. A fourth,
//! the steady one, stands before another and doubts its large steps.
//! Deliberately absent: time zones (`journey::plan`) and timers (`scheduler`).

mod course;
mod steady;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use steady::SteadyClock;

/// An instant in UTC, as milliseconds since 1970.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The instant of a platform's `CreateTime`, which counts seconds; absurd values are clamped.
    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Whole seconds since 1970, rounded down.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// How long `self` is after `earlier`; zero when it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The instant `span` later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// The instant `span` earlier.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }

    /// The same instant for APIs and pages.
    pub fn to_chrono(self) -> chrono::DateTime<chrono::Utc> {
        chrono::DateTime::from_timestamp_millis(self.0).unwrap_or_default()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_chrono().format("%Y-%m-%dT%H:%M:%S%.3fZ").fmt(f)
    }
}

/// A span in whole milliseconds, for columns and arithmetic; longer than 292 million years is cut.
pub fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// A future that a clock hands out.
pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// What time it is, and how to wait for a later one.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The current instant.
    fn now(&self) -> Timestamp;

    /// Whether it shows the time that everybody else goes by.
    fn is_wall(&self) -> bool {
        false
    }

    /// Ends once `now` is at least `at`, or a little earlier when the clock is stepped: callers
    /// look at `now` again after every wake.
    fn sleep_until(&self, at: Timestamp) -> Sleep<'_>;

    /// How much time has passed since some beginning by a count that nobody sets, the machine's
    /// sleep included; in this clock's own time.
    fn elapsed(&self) -> Duration;

    /// How often time has gone on by a great deal at once: then much is overdue, and nothing of it
    /// is in a hurry. A clock that does not look for that has seen none.
    fn leaps(&self) -> u64 {
        0
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        C::now(self)
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep<'_> {
        C::sleep_until(self, at)
    }

    fn elapsed(&self) -> Duration {
        C::elapsed(self)
    }

    fn leaps(&self) -> u64 {
        C::leaps(self)
    }
}

/// Shortest wait of a loop that only looks after things, however fast the clock runs.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Waits for the next look of a loop that looks after things every `span`: by the clock, and a
/// moment of the machine's time, so that a clock that runs fast does not make it spin.
pub async fn next_look(clock: &dyn Clock, span: Duration) {
    let next = clock.now().plus(span);
    tokio::join!(clock.sleep_until(next), tokio::time::sleep(LOOK_PAUSE));
}

/// Longest real wait, so that a wall clock that is set is noticed within a second.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The machine's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that asks the machine"
)]
fn wall_now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(millis(since))
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        wall_now()
    }

    fn is_wall(&self) -> bool {
        true
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep<'_> {
        let wait = at.since(wall_now()).min(WAIT_MAX);
        Box::pin(tokio::time::sleep(wait))
    }

    fn elapsed(&self) -> Duration {
        Uptime::now().0
    }
}

/// How long the machine has been up, its sleep included. Nobody sets it, so what must end by itself,
/// whatever the wall clock says, ends by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uptime(Duration);

impl Uptime {
    /// As of now.
    pub fn now() -> Self {
        // `Instant` stands still while the machine sleeps.
        #[cfg(target_os = "linux")]
        const ID: rustix::time::ClockId = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        const ID: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
        let time = rustix::time::clock_gettime(ID);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
        Self(Duration::new(seconds, nanos))
    }

    /// The moment `span` later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// How long `self` is after `earlier`; zero when it is not.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    /// What it shows, and how much time has passed: a correction lets none pass.
    shown: watch::Sender<(Timestamp, Duration)>,
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        Self {
            shown: watch::Sender::new((now, Duration::ZERO)),
        }
    }

    /// Lets time pass, and wakes everybody who waits.
    pub fn advance(&self, span: Duration) {
        self.shown.send_modify(|(now, passed)| {
            *now = now.plus(span);
            *passed = passed.saturating_add(span);
        });
    }

    /// Sets the clock, also backwards, as an administrator's correction would: no time passes.
    pub fn set(&self, to: Timestamp) {
        self.shown.send_modify(|(now, _)| *now = to);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.shown.borrow().0
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep<'_> {
        let mut changes = self.shown.subscribe();
        Box::pin(async move {
            // Wakes on every move, so that a waiter sees a jump in either direction.
            if changes.borrow_and_update().0 < at {
                changes.changed().await.ok();
            }
        })
    }

    fn elapsed(&self) -> Duration {
        self.shown.borrow().1
    }
}

/// A wall clock that runs `speed` times as fast from a fixed origin.
///
/// The origin is kept by whoever starts it (the demo writes it beside its database), so that a
/// restart goes on in the same time.
#[derive(Debug)]
pub struct ScaledClock {
    /// Real instant at which both clocks showed `origin.virtual_at`.
    origin: Origin,
    /// Latest instant shown; never goes back even if the wall clock does.
    shown: AtomicI64,
}

/// Where a scaled clock started and how fast it runs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// Real time of the start.
    pub real_at: Timestamp,
    /// Time shown at the start.
    pub virtual_at: Timestamp,
    /// Shown seconds per real second, at least 1.
    pub speed: u32,
}

impl Origin {
    /// An origin for a clock that shows the real time now and runs `speed` times as fast.
    pub fn starting_now(speed: u32) -> Self {
        let now = wall_now();
        Self {
            real_at: now,
            virtual_at: now,
            speed: speed.max(1),
        }
    }

    /// The time this origin shows now.
    pub fn now(&self) -> Timestamp {
        let real = wall_now().0.saturating_sub(self.real_at.0).max(0);
        Timestamp(
            self.virtual_at
                .0
                .saturating_add(real.saturating_mul(i64::from(self.speed))),
        )
    }

    /// The same shown time from now on at another speed.
    #[must_use]
    pub fn at_speed(&self, speed: u32) -> Self {
        Self {
            real_at: wall_now(),
            virtual_at: self.now(),
            speed: speed.max(1),
        }
    }
}

impl ScaledClock {
    /// A clock that runs from `origin`.
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            shown: AtomicI64::new(0),
        }
    }
}

impl Clock for ScaledClock {
    fn now(&self) -> Timestamp {
        let now = self.origin.now().0;
        Timestamp(self.shown.fetch_max(now, Ordering::Relaxed).max(now))
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep<'_> {
        let wait = (at.since(self.now()) / self.origin.speed.max(1)).min(WAIT_MAX);
        Box::pin(tokio::time::sleep(wait))
    }

    fn elapsed(&self) -> Duration {
        Uptime::now().0.saturating_mul(self.origin.speed.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_instants_neither_overflow_nor_panic() {
        for seconds in [i64::MIN, -1, 0, i64::MAX] {
            let at = Timestamp::from_seconds(seconds);
            assert!(at.plus(Duration::MAX) >= at.minus(Duration::MAX));
            assert!(!at.to_string().is_empty());
        }
    }

    #[test]
    fn a_scaled_clock_keeps_its_time_when_its_speed_changes() {
        let slow = Origin {
            real_at: wall_now().minus(Duration::from_secs(100)),
            virtual_at: Timestamp(0),
            speed: 10,
        };
        let fast = slow.at_speed(60);
        assert!(fast.virtual_at >= Timestamp(1_000_000));
        assert!(ScaledClock::new(fast).now() >= fast.virtual_at);
    }
}
