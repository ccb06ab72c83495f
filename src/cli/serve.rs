//! `dripwheel serve`: runs until it is told to stop; publishes anew on SIGHUP.

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::app::App;
use crate::cli::{ConfigArg, telemetry};
use crate::clock::SystemClock;

pub(super) async fn run(args: &ConfigArg) -> Result<()> {
    let config = args.load()?;
    let metrics = telemetry::start_metrics()?;
    let app = App::start(&config, Arc::new(SystemClock), Some(metrics)).await?;
    until_stopped(&app).await?;
    app.stop().await;
    Ok(())
}

/// Waits for SIGTERM or SIGINT; SIGHUP publishes the sequences directory as it is then.
pub(super) async fn until_stopped(app: &App) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => match app.reload().await {
                Ok(()) => tracing::info!("sequences published"),
                Err(error) => tracing::error!("sequences not published, nothing changed:\n{error}"),
            },
        }
    }
}
