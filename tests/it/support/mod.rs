//! What the tests of the engine stand on: a town of followers, and a platform that says what it is
//! told to. Time moves by hand; nothing here waits for a span of real time to see what happens.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

pub mod cluster;
pub mod database;
mod days;
mod line;
mod seen;
mod town;

use std::time::Duration;

use tokio::time::Instant;

pub use line::{Heard, Reply};
pub use town::{START, Town, account, version};

/// Longest real time in which something that must happen happens on a busy machine.
const PATIENCE: Duration = Duration::from_secs(45);

/// Asks until the answer is yes; never when it must have been no all along.
pub async fn eventually<F, Fut>(what: &str, mut check: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let give_up_at = Instant::now() + PATIENCE;
    while !check().await {
        assert!(Instant::now() < give_up_at, "never came about: {what}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

pub const fn hours(count: u64) -> Duration {
    Duration::from_secs(3600 * count)
}
