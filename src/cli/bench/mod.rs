//! `dripwheel bench`: measures this machine, and says with each figure what it ran.
//!
//! Every figure is of the real parts on a real disk; nothing is asserted. Load and server share
//! the machine's cores, so figures over HTTP include the cost of making the load.

mod alternatives;
mod broadcast;
mod burst;
mod engine;
mod hold;
mod http;
mod lateness;
mod nodes;
mod place;
mod report;
mod rig;
mod storm;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::cli::bench::place::Place;
use crate::cli::bench::report::{Figure, Report};
use crate::cli::print;

/// What to measure, and on how much.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Folder for the databases: on the disk that should be measured. Emptied afterwards.
    #[arg(long, default_value = "data/bench")]
    dir: PathBuf,
    /// A PostgreSQL database to measure instead of SQLite files. It is emptied before each
    /// measurement; its name has to begin with `bench`.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Measure only these; all when left out, but `nodes` without a database.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<What>,
    /// Followers of each throughput measurement.
    #[arg(long, default_value_t = 100_000)]
    count: usize,
    /// Followers whose next step is hours away, for memory, disk and restart: one run for each.
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 2_000_000])]
    pending: Vec<usize>,
    /// Followers who wait beside the 1,000 a second whose lateness is measured.
    #[arg(long, default_value_t = 1_000_000)]
    beside: usize,
    /// Most nodes that share the database.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Steps of one account that are due in one second, beside 999 quiet accounts.
    #[arg(long, default_value_t = 1_000_000)]
    burst: usize,
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
    Unfollows,
    FirePath,
    Callbacks,
    Sends,
    Lateness,
    Beside,
    Burst,
    Broadcast,
    Nodes,
    Pending,
}

/// Runs the measurements and prints them.
pub async fn run(args: BenchArgs) -> Result<()> {
    let place = Place::new(args.dir.clone(), args.database.clone())?;
    if let Some(dir) = &args.hold {
        return print(&hold::hold(&place, dir).await?);
    }
    if let Some(dir) = &args.alternatives.alternatives {
        return alternatives::run(dir, &args.alternatives).await;
    }
    std::fs::create_dir_all(&args.dir)?;
    let mut report = Report::of_machine(&args.dir)?;
    let progress = report::progress();
    let wanted = |what: What| {
        let possible = what != What::Nodes || place.postgres().is_some();
        args.only.contains(&what) || args.only.is_empty() && possible
    };
    for what in What::value_variants() {
        if wanted(*what) {
            progress.set_message(format!("{what:?}"));
            report.figures.extend(measure(*what, &place, &args).await?);
        }
    }
    progress.finish_and_clear();
    print(&if args.json {
        serde_json::to_string_pretty(&report)?
    } else {
        report.table()
    })
}

async fn measure(what: What, place: &Place, args: &BenchArgs) -> Result<Vec<Figure>> {
    let count = args.count;
    Ok(match what {
        What::Follows => vec![engine::follows(place, count, 2000).await?],
        What::OneByOne => vec![engine::follows(place, count, 50).await?],
        What::Bulk => vec![engine::bulk(place, count).await?],
        What::Unfollows => vec![storm::unfollows(place, count).await?],
        What::FirePath => vec![engine::fires(place, count).await?],
        What::Callbacks => vec![http::callbacks(place, count / 2).await?],
        What::Sends => vec![http::sends(place, count / 2).await?],
        What::Lateness => lateness::lateness(place, lateness::ALONE, 0).await?,
        What::Beside => lateness::lateness(place, lateness::BESIDE, args.beside).await?,
        What::Burst => burst::burst(place, args.burst).await?,
        What::Broadcast => broadcast::broadcasts(place, count).await?,
        What::Nodes => {
            let mut figures = Vec::new();
            for nodes in 1..=args.nodes {
                figures.extend(nodes::nodes(place, nodes, count).await?);
            }
            figures
        }
        What::Pending => {
            let mut figures = Vec::new();
            for pending in &args.pending {
                figures.extend(hold::pending(place, *pending).await?);
            }
            figures
        }
    })
}
