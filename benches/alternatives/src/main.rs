//! One delayed-message workload on dripwheel and on what people use without it: `run` beside
//! `Cargo.toml` installs the servers, builds both programs and starts this one.
//!
//! Every consumer is a process, because one that is killed is part of the workload. It writes
//! number and instant of what fires to a file, which all figures but the rates are read from.

mod memory;
mod peers;
mod server;
mod table;
mod trial;
mod workload;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::peers::{Peer, Place, timers};
use crate::server::Tools;
use crate::trial::{Settings, killed, undisturbed};
use crate::workload::{Recorder, load};

#[derive(Debug, Parser)]
#[command(about, version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    consume: Option<Consume>,
    #[command(flatten)]
    compare: Compare,
}

#[derive(Args, Debug)]
struct Compare {
    /// Messages of each trial.
    #[arg(long, default_value_t = 20_000)]
    messages: usize,
    /// Seconds over which they are due.
    #[arg(long, default_value_t = 20)]
    over: u64,
    /// Seconds for handing over before the first is due; enough for 5,000/s when left out.
    #[arg(long)]
    ahead: Option<u64>,
    /// Callers who hand over one by one.
    #[arg(long, default_value_t = 50)]
    callers: usize,
    /// Only these peers, in this order.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Peer::USUAL)]
    only: Vec<Peer>,
    /// An empty folder on the disk to be measured.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// The dripwheel program.
    #[arg(long, default_value = "dripwheel")]
    dripwheel: PathBuf,
    /// Where PostgreSQL's `initdb` and `postgres` are.
    #[arg(long, default_value = "/usr/lib/postgresql/15/bin")]
    postgres_bin: PathBuf,
    /// Where `rabbitmq-server` is that does not change to another user.
    #[arg(long, default_value = "/usr/lib/rabbitmq/bin")]
    rabbitmq_bin: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Consume {
    /// Consumes until standard input ends; started by the comparison itself.
    #[command(hide = true)]
    Consume {
        peer: Peer,
        folder: PathBuf,
        #[arg(long)]
        url: Option<String>,
        /// Hands the folder's messages over first: for peers that keep them in this process.
        #[arg(long)]
        callers: Option<usize>,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    if let Some(Consume::Consume {
        peer,
        folder,
        url,
        callers,
    }) = cli.consume
    {
        return consume(peer, &folder, url, callers).await;
    }
    let compare = cli.compare;
    let enough = 3 + u64::try_from(compare.messages / 5000)?;
    let ahead = compare.ahead.unwrap_or(enough);
    let settings = Settings {
        messages: compare.messages,
        over: Duration::from_secs(compare.over),
        ahead: Duration::from_secs(ahead),
        callers: compare.callers,
        tools: Tools {
            postgres_bin: compare.postgres_bin,
            rabbitmq_bin: compare.rabbitmq_bin,
            // Servers run in folders of their own.
            dir: compare.dir.canonicalize().context("--dir")?,
        },
        dripwheel: compare.dripwheel,
    };
    let mut rows = Vec::new();
    for peer in compare.only {
        let seen = both(peer, &settings).await;
        if let Err(error) = &seen {
            eprintln!("{}: {error:#}", peer.name());
        }
        rows.push((peer, seen));
    }
    println!("{}", table::table(&settings, &rows)?);
    let failed = rows.iter().filter(|(_, seen)| seen.is_err()).count();
    anyhow::ensure!(failed == 0, "{failed} of the peers failed");
    Ok(())
}

async fn both(peer: Peer, settings: &Settings) -> Result<(trial::Seen, trial::Seen)> {
    eprintln!("{}: undisturbed", peer.name());
    let calm = undisturbed(peer, settings).await.context("undisturbed")?;
    eprintln!("{}: consumer killed midway", peer.name());
    let killed = killed(peer, settings).await.context("killed")?;
    Ok((calm, killed))
}

async fn consume(
    peer: Peer,
    folder: &Path,
    url: Option<String>,
    callers: Option<usize>,
) -> Result<()> {
    let recorder = Arc::new(Recorder::open(&folder.join("fired"))?);
    // Ends with whoever started it, whatever it is at.
    std::thread::spawn(|| {
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
        std::process::exit(0);
    });
    if let Place::Server(_) = peer.place() {
        let url = url.context("a consumer of a server needs its --url")?;
        return peer.consume(&url, &recorder).await;
    }
    if let Some(callers) = callers {
        let messages = load(&folder.join("messages"))?;
        let took = timers::hand_over(&messages, callers, recorder).await?;
        let said = serde_json::json!({ "messages": messages.len(), "seconds": took.as_secs_f64() });
        println!("{said}");
    }
    std::future::pending().await
}
