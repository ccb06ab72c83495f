//! `dripwheel bench`: measures this machine, and says with each figure what it ran.
//!
//! Every figure is of the real parts on a real disk; nothing is asserted. Load and server share
//! the machine's cores, so figures over HTTP include the cost of making the load.

mod alternatives;
mod engine;
mod hold;
mod http;
mod lateness;
mod report;
mod rig;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::cli::bench::report::{Figure, Report};
use crate::cli::print;

/// What to measure, and on how much.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Folder for the databases: on the disk that should be measured. Emptied afterwards.
    #[arg(long, default_value = "data/bench")]
    dir: PathBuf,
    /// Measure only these; all when left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<What>,
    /// Followers of each throughput measurement.
    #[arg(long, default_value_t = 100_000)]
    count: usize,
    /// Followers whose next step is hours away, for memory, disk and restart: one run for each.
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 2_000_000])]
    pending: Vec<usize>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// For `pending` itself: opens the database of this folder, waits for the first fire, reports.
    #[arg(long, hide = true)]
    hold: Option<PathBuf>,
    #[command(flatten)]
    alternatives: alternatives::AlternativesArgs,
}

/// The measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    Follows,
    OneByOne,
    Bulk,
    FirePath,
    Callbacks,
    Sends,
    Lateness,
    Pending,
}

/// Runs the measurements and prints them.
pub async fn run(args: BenchArgs) -> Result<()> {
    if let Some(dir) = &args.hold {
        return print(&hold::hold(dir).await?);
    }
    if let Some(dir) = &args.alternatives.alternatives {
        return alternatives::run(dir, &args.alternatives).await;
    }
    std::fs::create_dir_all(&args.dir)?;
    let mut report = Report::of_machine(&args.dir)?;
    let progress = report::progress();
    let wanted = |what: What| args.only.is_empty() || args.only.contains(&what);
    for what in What::value_variants() {
        if wanted(*what) {
            progress.set_message(format!("{what:?}"));
            report.figures.extend(measure(*what, &args).await?);
        }
    }
    progress.finish_and_clear();
    print(&if args.json {
        serde_json::to_string_pretty(&report)?
    } else {
        report.table()
    })
}

async fn measure(what: What, args: &BenchArgs) -> Result<Vec<Figure>> {
    let (dir, count) = (&args.dir, args.count);
    Ok(match what {
        What::Follows => vec![engine::follows(dir, count, 2000).await?],
        What::OneByOne => vec![engine::follows(dir, count, 50).await?],
        What::Bulk => vec![engine::bulk(dir, count).await?],
        What::FirePath => vec![engine::fires(dir, count).await?],
        What::Callbacks => vec![http::callbacks(dir, count / 2).await?],
        What::Sends => vec![http::sends(dir, count / 2).await?],
        What::Lateness => lateness::lateness(dir).await?,
        What::Pending => {
            let mut figures = Vec::new();
            for pending in &args.pending {
                figures.extend(hold::pending(dir, *pending).await?);
            }
            figures
        }
    })
}
