//! `dripwheel serve`: runs until it is told to stop; publishes anew on SIGHUP.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::app::App;
use crate::cli::{ConfigArg, telemetry};
use crate::clock::{SteadyClock, SystemClock};

pub(super) async fn run(args: &ConfigArg) -> Result<()> {
    let config = args.load()?;
    let metrics = telemetry::start_metrics()?;
    let clock = Arc::new(SteadyClock::new(SystemClock));
    let mut app = App::start(&config, clock, Some(metrics)).await?;
    let ended = until_stopped(&mut app).await;
    app.stop().await;
    ended
}

/// Waits for SIGTERM or SIGINT; SIGHUP publishes the sequences directory as it is then.
///
/// # Errors
/// When a part has ended on its own: whoever started us should start us again.
pub(super) async fn until_stopped(app: &mut App) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            part = app.failed() => bail!("the {part} has ended: stopping, to be started again"),
            _ = hangup.recv() => match app.reload().await {
                Ok(()) => tracing::info!("sequences published"),
                Err(error) => tracing::error!("sequences not published, nothing changed:\n{error}"),
            },
        }
    }
}
