//! Worlds that fail by a seed, and the store that they stand on: that the engine keeps its
//! invariants there, that the simulator notices when it does not, and that its model store does
//! what the databases do.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use dripwheel::simulator::{Counts, Sabotage, Settings, conformance, run};

use crate::support::database::Fresh;

/// Seeds of each run of the suite; `dripwheel simulator` runs more.
const SEEDS: u64 = 200;

/// The seeds that once failed.
fn kept() -> Vec<u64> {
    let lines = include_str!("seeds").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.split(' ').next().unwrap().parse().unwrap())
        .collect()
}

fn hold(seeds: &[u64]) -> Counts {
    let mut counts = Counts::default();
    for seed in seeds {
        match run(*seed, Settings::default()) {
            Ok(more) => counts.add(&more),
            Err(failure) => panic!("keep this seed in tests/it/simulator/seeds:\n{failure}"),
        }
    }
    counts
}

#[test]
fn whatever_fails_the_invariants_hold_and_every_step_ends() {
    hold(&kept());
    let all: Vec<u64> = (1..=SEEDS).collect();
    let (first, second) = all.split_at(all.len() / 2);
    let counts = std::thread::scope(|scope| {
        let other = scope.spawn(|| hold(second));
        let mut counts = hold(first);
        counts.add(&other.join().unwrap());
        counts
    });
    // A world in which nothing goes wrong would prove nothing.
    let seen = [
        counts.failed_commits,
        counts.unknown_commits,
        counts.fenced,
        counts.takeovers,
        counts.crashes,
        counts.lost_answers,
        counts.passive,
        counts.shown,
    ];
    assert!(seen.iter().all(|count| *count > 10), "{counts:?}");
}

#[test]
fn a_seed_does_the_same_whenever_it_is_run() {
    for seed in 1..=10 {
        let counts = [(); 2].map(|()| run(seed, Settings::default()).unwrap());
        assert_eq!(counts[0], counts[1], "seed {seed}");
    }
}

#[test]
fn every_sabotage_is_noticed() {
    for sabotage in Sabotage::ALL {
        let settings = Settings {
            sabotage: Some(sabotage),
            ..Settings::default()
        };
        let noticed = (1..=SEEDS).find_map(|seed| run(seed, settings).err());
        let failure = noticed.unwrap_or_else(|| panic!("{sabotage:?} goes unnoticed"));
        assert!(!failure.trace.is_empty(), "{sabotage:?}: {failure}");
    }
}

async fn conforms(seeds: u64, fresh: impl Fn() -> Fresh) {
    for seed in 1..=seeds {
        let database = fresh();
        let compared = conformance::compare(&database.url, seed, 120).await;
        if let Err(difference) = compared {
            panic!("{difference}");
        }
    }
}

#[tokio::test]
async fn the_model_store_does_what_sqlite_does() {
    conforms(6, Fresh::file).await;
}

#[tokio::test]
async fn the_model_store_does_what_postgresql_does() {
    conforms(3, Fresh::on_server).await;
}
