//! `dripwheel bench`: measures this machine, and says with each figure what it ran.

mod engine;
mod report;
mod rig;

use anyhow::Result;
use clap::Args;

/// What to measure.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Folder for the databases; on the disk that should be measured.
    #[arg(long, default_value = "data/bench")]
    dir: std::path::PathBuf,
    #[arg(long, default_value_t = 100_000)]
    count: usize,
}

/// Runs the measurements.
pub async fn run(args: BenchArgs) -> Result<()> {
    for callers in [50, 2000] {
        let f = engine::follows(&args.dir, args.count, callers).await?;
        eprintln!("{} {:.0} {}", f.what, f.value, f.ran);
    }
    let f = engine::fires(&args.dir, args.count).await?;
    eprintln!("{} {:.0} {}", f.what, f.value, f.ran);
    Ok(())
}
