//! `dripwheel simulator`: seeded worlds in which stores, clocks and machines fail, by the thousand.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use crate::cli::print;
use crate::simulator::{self, Counts, Failure, Settings};

#[derive(clap::Args, Debug)]
pub(super) struct SimulatorArgs {
    /// How many seeds to run.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Steps of each world before it has to come to rest.
    #[arg(long, default_value_t = Settings::default().steps)]
    steps: usize,
}

/// What all threads add to.
#[derive(Default)]
struct Found {
    counts: Counts,
    failures: Vec<Failure>,
}

/// Failures that are told in full; of the others the seed is enough.
const TOLD_MAX: usize = 3;

/// Exit code 1 when an invariant did not hold.
pub(super) fn run(args: &SimulatorArgs) -> Result<ExitCode> {
    let settings = Settings {
        steps: args.steps,
        ..Settings::default()
    };
    let next = AtomicU64::new(args.from);
    let end = args.from.saturating_add(args.seeds);
    let found = Mutex::new(Found::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let done = simulator::run(seed, settings);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    match done {
                        Ok(counts) => found.counts.add(&counts),
                        Err(failure) => found.failures.push(*failure),
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.failures.sort_by_key(|failure| failure.seed);
    for failure in found.failures.iter().take(TOLD_MAX) {
        print(&format!("{failure}\n"))?;
    }
    print(&words(args.seeds, &found))?;
    Ok(match found.failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn words(seeds: u64, found: &Found) -> String {
    let counts = &found.counts;
    let mut text = format!(
        "{seeds} seeds: {} events, {} commits ({} failed, {} unknown, {} fenced off), {} crashes, \
         {} takeovers,\n{} intents, {} calls ({} answers lost), {} messages shown, {} of them as answers",
        counts.events,
        counts.commits,
        counts.failed_commits,
        counts.unknown_commits,
        counts.fenced,
        counts.crashes,
        counts.takeovers,
        counts.intents,
        counts.calls,
        counts.lost_answers,
        counts.shown + counts.passive,
        counts.passive,
    );
    if found.failures.is_empty() {
        text.push_str("\nevery invariant held");
    } else {
        let seeds = found.failures.iter().map(|one| one.seed.to_string());
        let seeds = seeds.collect::<Vec<_>>().join(" ");
        text.push_str("\nseeds that failed, to be kept in tests/it/simulator/seeds: ");
        text.push_str(&seeds);
    }
    text
}
