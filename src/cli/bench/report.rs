//! What a measurement says, and how it is printed.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::ProgressBar;
use serde::Serialize;

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figure {
    pub(super) what: String,
    pub(super) value: f64,
    pub(super) unit: &'static str,
    /// What was run to get it.
    pub(super) ran: String,
}

impl Figure {
    pub(super) fn new(what: &str, value: f64, unit: &'static str, ran: String) -> Self {
        Self {
            what: what.to_owned(),
            value,
            unit,
            ran,
        }
    }

    /// So many things in so much time.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(super) fn rate(what: &str, count: usize, took: Duration, ran: String) -> Self {
        Self::new(what, count as f64 / took.as_secs_f64(), "/s", ran)
    }
}

/// All figures, and the machine they are of.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: &'static str,
    cores: usize,
    /// Median of 4 KiB written and synced, on the measured disk.
    fdatasync_p50_ms: f64,
    pub(super) figures: Vec<Figure>,
}

impl Report {
    /// An empty report on this machine.
    pub(super) fn of_machine(dir: &Path) -> Result<Self> {
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            fdatasync_p50_ms: fdatasync_p50_ms(dir)?,
            figures: Vec::new(),
        })
    }

    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "dripwheel {}, {} cores, fdatasync p50 {:.2} ms\n\n",
            self.version, self.cores, self.fdatasync_p50_ms
        );
        for figure in &self.figures {
            let value = match figure.value {
                large if large >= 100.0 => format!("{large:.0}"),
                small => format!("{small:.1}"),
            };
            writeln!(
                text,
                "{:<44} {value:>10} {:<6} {}",
                figure.what, figure.unit, figure.ran
            )
            .ok();
        }
        text
    }
}

/// A bar that says what is under way, on standard error.
pub(super) fn progress() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn fdatasync_p50_ms(dir: &Path) -> Result<f64> {
    let path = dir.join("fdatasync");
    let mut file = std::fs::File::create(&path)?;
    let mut took = Vec::new();
    for _ in 0..200 {
        let from = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        took.push(from.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(percentile(&mut took, 0.5).as_secs_f64() * 1000.0)
}

/// The value below which a share of the values lies.
pub(super) fn percentile<T: Ord + Copy + Default>(values: &mut [T], share: f64) -> T {
    values.sort_unstable();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index between 0 and the number of values"
    )]
    let index = (share * values.len() as f64) as usize;
    values
        .get(index.min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}
