//! What followers cost who only wait: memory, disk, and the time to come back after a restart.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::cli::bench::engine::{Engine, until};
use crate::cli::bench::place::Place;
use crate::cli::bench::report::Figure;
use crate::cli::bench::rig::{Instantly, Rig};
use crate::sender::platform::Platform;

/// What a process says that holds a store open.
#[derive(Debug, Deserialize, Serialize)]
struct Held {
    rss_bytes: u64,
    /// From the start of the process's work to its first send.
    first_fire_ms: u64,
}

/// Five steps over two days, the first so far away that nothing is due before everybody is there.
const LATER: &str = "
sequence: bench
trigger: { follow: {} }
min_gap: 0s
steps:
  - { id: one, after: 4h, say: { text: welcome } }
  - { id: two, after: 5h, say: { text: guide } }
  - { id: three, after: 7h, say: { text: tips } }
  - { id: four, after: 23h, say: { text: offer } }
  - { id: five, after: 47h, say: { text: last call } }
";

/// How long a held store runs before its memory is read: the ring is full by then.
const SETTLE: Duration = Duration::from_secs(3);

/// Fills a store with `count` followers whose first step is hours away and one
/// whose step is due, then opens it in a process of its own.
#[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
pub(super) async fn pending(place: &Place, count: usize) -> Result<Vec<Figure>> {
    let name = "pending";
    let rig = Rig::new(place, name, LATER).await?;
    let now = rig.clock.now();
    let spread = move |n: usize| {
        let seconds = u64::try_from(n % 1200).unwrap_or(0);
        now.minus(Duration::from_secs(seconds))
    };
    rig.follow(0, count, 2000, spread).await?;
    let due = now.minus(Duration::from_secs(4 * 3600 + 1));
    rig.follow(count, count + 1, 1, move |_| due).await?;
    let bytes = rig.store.disk_bytes().await?;
    rig.close().await;
    let dir = place.dir().join(name);
    let program = std::env::current_exe().context("find this program")?;
    let output = tokio::process::Command::new(program)
        .args(["bench", "--hold"])
        .arg(&dir)
        .args(place.postgres().map(|url| format!("--database={url}")))
        .env("RUST_LOG", "warn")
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let held: Held = serde_json::from_str(said.trim()).with_context(|| {
        let error = String::from_utf8_lossy(&output.stderr);
        format!("the holding process said: {said} {error}")
    })?;
    std::fs::remove_dir_all(&dir)?;
    let ran = format!(
        "{count} followers who wait for the first of 5 steps, process of its own, {}",
        place.words()
    );
    let size = |what: &str, value: f64, unit| {
        Figure::new(
            &format!("{what}, {count} pending"),
            value,
            unit,
            ran.clone(),
        )
    };
    Ok(vec![
        size("RSS", held.rss_bytes as f64 / 1e6, "MB"),
        size("disk per follower", bytes as f64 / count as f64, "bytes"),
        size("restart to first fire", held.first_fire_ms as f64, "ms"),
    ])
}

/// Opens the store of a folder, waits for its first fire, and says what that took.
pub(super) async fn hold(place: &Place, dir: &Path) -> Result<String> {
    let from = Instant::now();
    let rig = Rig::at(place.url(dir), dir.to_owned(), LATER).await?;
    let platform = Arc::new(Instantly {
        account: rig.account,
        taken: AtomicUsize::new(0),
    });
    let engine = Engine::start(rig, Arc::clone(&platform) as Arc<dyn Platform>);
    until(|| platform.taken.load(Ordering::Relaxed) >= 1).await;
    let first_fire_ms = u64::try_from(from.elapsed().as_millis()).unwrap_or(u64::MAX);
    tokio::time::sleep(SETTLE).await;
    let rss_bytes = rss_bytes()?;
    engine.stop().await?.close().await;
    Ok(serde_json::to_string(&Held {
        rss_bytes,
        first_fire_ms,
    })?)
}

/// Memory of this process, as the kernel counts it.
fn rss_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    Ok(kilobytes.context("no VmRSS in /proc/self/status")? * 1024)
}
