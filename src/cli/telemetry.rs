//! Logs and metrics of the process: set up once, by the program and never by the library.

use std::time::Duration;

use anyhow::Result;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Upper bounds of lateness, in seconds.
const LATENESS_S: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0, 3600.0, 86_400.0,
];

/// Upper bounds of what a commit, and a turn of the wheel, may take, in seconds.
const WORK_S: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

/// Upper bounds of what one commit does.
const WORKS: [f64; 8] = [1.0, 5.0, 20.0, 50.0, 100.0, 250.0, 500.0, 1000.0];

/// How often histograms are tidied.
const UPKEEP: Duration = Duration::from_secs(5);

/// Logs to standard error; `RUST_LOG` chooses what, `info` by default.
pub(super) fn start_logs(json: bool) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,sea_orm_migration=warn"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second start, as in tests, keeps the first one's settings.
    let started = if json {
        logs.json().try_init()
    } else {
        logs.try_init()
    };
    drop(started);
}

/// Starts counting; the handle renders what `/metrics` shows.
pub(super) fn start_metrics() -> Result<PrometheusHandle> {
    let lateness = Matcher::Full("dripwheel_lateness_seconds".to_owned());
    let works = Matcher::Full("dripwheel_commit_works".to_owned());
    let commits = Matcher::Full("dripwheel_commit_seconds".to_owned());
    let promotions = Matcher::Full("dripwheel_promotion_seconds".to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(lateness, &LATENESS_S)?
        .set_buckets_for_metric(works, &WORKS)?
        .set_buckets_for_metric(commits, &WORK_S)?
        .set_buckets_for_metric(promotions, &WORK_S)?
        .install_recorder()?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}
