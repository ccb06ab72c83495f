//! The simulator: the product's own decisions in a world that a number decides.
//!
//! Commits, policy, wheel and turns are the product's; store, platform, clocks and machines are
//! models that fail. After every step the invariants of the design are checked, and at the end,
//! without faults, no step may be left. A run is one thread without waiting: the same seed does the
//! same. Deliberately absent: SQL, HTTP and the loops' waiting, which other tests run for real.

mod check;
mod commit;
pub mod conformance;
mod dice;
mod draft;
mod lines;
mod model;
mod node;
mod notes;
mod platform;
mod steps;
mod wish;
mod world;

use std::fmt;

use check::Violation;
use world::World;

/// What a run may be told to do wrong, so that it is known to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The store takes commits under a number that another node's took the place of.
    IgnoreEpoch,
    /// Nobody looks for timers that the ring missed.
    SkipSweep,
    /// A commit that fails leaves a part of itself.
    TearBatch,
    /// Nobody settles what an earlier holder left behind.
    SkipRecovery,
    /// `success` is said before the commit.
    AnswerEarly,
    /// A lost answer is followed by another call at once.
    RepeatCalls,
    /// Calls are made whether or not the lease is still held.
    CallWithoutLease,
}

impl Sabotage {
    pub const ALL: [Self; 7] = [
        Self::IgnoreEpoch,
        Self::SkipSweep,
        Self::TearBatch,
        Self::SkipRecovery,
        Self::AnswerEarly,
        Self::RepeatCalls,
        Self::CallWithoutLease,
    ];
}

/// How long a run is, and whether it is right.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Steps before everything has to come to rest.
    pub steps: usize,
    pub sabotage: Option<Sabotage>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            steps: 600,
            sabotage: None,
        }
    }
}

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub events: u64,
    pub commits: u64,
    pub failed_commits: u64,
    /// Commits that were written and said to have failed.
    pub unknown_commits: u64,
    /// Commits of nodes that did not hold the shard any more.
    pub fenced: u64,
    pub takeovers: u64,
    pub crashes: u64,
    pub intents: u64,
    pub calls: u64,
    pub lost_answers: u64,
    /// Messages that reached a phone by a call, and as the answer to a callback.
    pub shown: u64,
    pub passive: u64,
}

impl Counts {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.events, other.events),
            (&mut self.commits, other.commits),
            (&mut self.failed_commits, other.failed_commits),
            (&mut self.unknown_commits, other.unknown_commits),
            (&mut self.fenced, other.fenced),
            (&mut self.takeovers, other.takeovers),
            (&mut self.crashes, other.crashes),
            (&mut self.intents, other.intents),
            (&mut self.calls, other.calls),
            (&mut self.lost_answers, other.lost_answers),
            (&mut self.shown, other.shown),
            (&mut self.passive, other.passive),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
    }
}

/// An invariant that did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    pub seed: u64,
    /// Which step of the run it was; `None` for the rest after it.
    pub step: Option<usize>,
    /// Number of the invariant; zero for what goes beside the list.
    pub invariant: u8,
    pub what: String,
    /// What led to it, as far as it has to do with it.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        let (seed, what) = (self.seed, &self.what);
        match self.step {
            Some(step) => write!(f, "seed {seed}, step {step}: ")?,
            None => write!(f, "seed {seed}, at rest: ")?,
        }
        match self.invariant {
            0 => write!(f, "{what}"),
            number => write!(f, "invariant {number}: {what}"),
        }
    }
}

/// Most lines of a trace.
const TRACE_MAX: usize = 60;

/// Runs the world of a seed.
///
/// # Errors
/// The first violation, with its trace.
pub fn run(seed: u64, settings: Settings) -> Result<Counts, Box<Failure>> {
    let mut world = World::new(seed, settings.sabotage, false);
    let Err((step, violation)) = play(&mut world, settings.steps) else {
        return Ok(world.counts);
    };
    // Once more, to read along: the same seed does the same.
    let mut world = World::new(seed, settings.sabotage, true);
    play(&mut world, settings.steps).ok();
    let trace = world.trace.unwrap_or_default();
    let about =
        |of: &Option<_>| of.is_none() || violation.follower.is_none() || *of == violation.follower;
    let mut trace: Vec<_> = trace
        .into_iter()
        .filter(|(of, _)| about(of))
        .map(|(_, line)| line)
        .collect();
    trace.drain(..trace.len().saturating_sub(TRACE_MAX));
    Err(Box::new(Failure {
        seed,
        step,
        invariant: violation.invariant,
        what: violation.what,
        trace,
    }))
}

fn play(world: &mut World, steps: usize) -> Result<(), (Option<usize>, Violation)> {
    for step in 0..steps {
        world.step().map_err(|violation| (Some(step), violation))?;
    }
    world.come_to_rest().map_err(|violation| (None, violation))
}
