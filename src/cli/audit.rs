//! `dripwheel audit`: the invariants, held against a store.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{ConfigArg, print};
use crate::store::audit::{Audit, audit};
use crate::store::{self, versions};

#[derive(clap::Args, Debug)]
pub(super) struct AuditArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Database to audit instead of the configured one, as `sqlite://path` or
    /// `postgres://…`.
    #[arg(long)]
    database: Option<String>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Exit code 1 when an invariant is violated.
pub(super) async fn run(args: &AuditArgs) -> Result<ExitCode> {
    let url = match &args.database {
        Some(url) => url.clone(),
        None => args.config.load()?.database.url,
    };
    let read = store::open_to_read(&url).await?;
    let catalog = versions::load_catalog(&read).await?;
    let found = audit(&read, &catalog).await?;
    if args.json {
        print(&serde_json::to_string_pretty(&found)?)?;
    } else {
        print(&words(&found))?;
    }
    Ok(if found.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn words(found: &Audit) -> String {
    let mut text = String::new();
    for check in &found.checks {
        let mark = if check.violations == 0 { "ok " } else { "BAD" };
        let (invariant, says, rows) = (check.invariant, check.says, check.rows);
        writeln!(
            text,
            "{mark} {invariant}  {says}: {rows} rows, {} violations",
            check.violations
        )
        .ok();
        if check.violations > 0 {
            writeln!(text, "      enrollments {:?}", check.examples).ok();
        }
    }
    if let Some(from) = found.counts_from {
        let from = from.to_chrono().format("%Y-%m-%d");
        write!(
            text,
            "\nolder outcomes were deleted: steps are counted of enrollments since {from}, UTC\n"
        )
        .ok();
    }
    writeln!(
        text,
        "\n{:<36} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8} {:>9} {:>7} {:>8}",
        "version.step",
        "planned",
        "still",
        "sent",
        "refused",
        "expired",
        "skipped",
        "cancelled",
        "failed",
        "unknown"
    )
    .ok();
    for one in &found.steps {
        let name = format!("{}#{}.{}", one.sequence, one.version, one.step);
        writeln!(
            text,
            "{name:<36} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8} {:>9} {:>7} {:>8}",
            one.planned,
            one.still_planned,
            one.sent,
            one.refused,
            one.expired,
            one.skipped,
            one.cancelled,
            one.failed,
            one.unknown
        )
        .ok();
    }
    let verdict = if found.is_clean() {
        "clean"
    } else {
        "NOT CLEAN"
    };
    writeln!(
        text,
        "\nsends whose answer was lost: {}",
        found.unknown_sends
    )
    .ok();
    write!(text, "audit: {verdict}").ok();
    text
}
