//! A clock that is not led astray when somebody sets the machine's: see `course`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::course::{Course, News};
use crate::clock::{Clock, Sleep, Timestamp};

/// The two counts are read so close together; or else once more, since we may be held up between.
const TOGETHER: Duration = Duration::from_millis(100);

const READINGS_MAX: usize = 5;

/// Another clock, whose large steps are believed only when they last.
#[derive(Debug)]
pub struct SteadyClock<C> {
    inner: C,
    course: Mutex<Course>,
    leaps: AtomicU64,
}

impl<C: Clock> SteadyClock<C> {
    /// Believes what `inner` shows now.
    pub fn new(inner: C) -> Self {
        let course = Course::new(inner.now(), inner.elapsed());
        Self {
            inner,
            course: Mutex::new(course),
            leaps: AtomicU64::new(0),
        }
    }

    /// The time to live by, and what the wall clock shows.
    fn read(&self) -> (Timestamp, Timestamp) {
        let mut course = self.course.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut wall, mut elapsed) = (self.inner.now(), self.inner.elapsed());
        for _ in 0..READINGS_MAX {
            wall = self.inner.now();
            let before = std::mem::replace(&mut elapsed, self.inner.elapsed());
            if elapsed.saturating_sub(before) < TOGETHER {
                break;
            }
        }
        let (now, news) = course.read(wall, elapsed);
        drop(course);
        if let Some(news) = news {
            self.tell(news, wall, now);
        }
        (now, wall)
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges take floats")]
    fn tell(&self, news: News, wall: Timestamp, now: Timestamp) {
        let drift_ms = wall.0.saturating_sub(now.0);
        metrics::gauge!("dripwheel_clock_drift_seconds").set(drift_ms as f64 / 1000.0);
        let jumped = |direction: &'static str| {
            metrics::counter!("dripwheel_clock_jumps_total", "direction" => direction).increment(1);
        };
        match news {
            News::SeemsAhead(by) => {
                tracing::warn!(
                    ?by,
                    "the machine's clock was set ahead: waiting whether it stays so"
                );
            }
            News::SeemsBack(by) => {
                jumped("back");
                tracing::warn!(?by, "the machine's clock was set back: going on without it");
            }
            News::Ahead(by) => {
                jumped("ahead");
                self.leaps.fetch_add(1, Ordering::Release);
                tracing::warn!(
                    ?by,
                    "the machine's clock was set ahead: what is overdue by it is sent"
                );
            }
            News::Back(by) => {
                tracing::warn!(
                    ?by,
                    "the machine's clock stays set back: living by it from now on"
                );
            }
            News::Right => tracing::info!("the machine's clock is right again"),
            News::Asleep(span) => {
                self.leaps.fetch_add(1, Ordering::Release);
                tracing::warn!(?span, "nothing ran meanwhile: what is overdue is sent");
            }
        }
    }
}

impl<C: Clock> Clock for SteadyClock<C> {
    fn now(&self) -> Timestamp {
        self.read().0
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep<'_> {
        let (now, wall) = self.read();
        // While the wall clock is not believed, it shows another time when `at` comes.
        let at = if wall < now {
            at.minus(now.since(wall))
        } else {
            at.plus(wall.since(now))
        };
        self.inner.sleep_until(at)
    }

    fn elapsed(&self) -> Duration {
        self.inner.elapsed()
    }

    fn leaps(&self) -> u64 {
        self.leaps.load(Ordering::Acquire)
    }
}
