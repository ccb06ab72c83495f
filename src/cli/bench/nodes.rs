//! Several nodes on one PostgreSQL, in one process: what sharing a database costs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;

use crate::cli::bench::engine::{Engine, until};
use crate::cli::bench::place::Place;
use crate::cli::bench::report::Figure;
use crate::cli::bench::rig::{Rig, at_once, followed, one_step};
use crate::clock::Timestamp;
use crate::journey::ids::AccountId;
use crate::sender::platform::{Answer, AnswerClass, Call, Parcel, Platform};
use crate::store::shards::SHARDS;

/// Accounts that the nodes share.
const ACCOUNTS: usize = 240;

/// A platform that takes everything at once, and counts.
#[derive(Debug)]
struct Counter {
    account: AccountId,
    taken: Arc<AtomicUsize>,
}

impl Platform for Counter {
    fn account(&self) -> AccountId {
        self.account
    }

    fn send<'a>(&'a self, _: &'a Parcel) -> Call<'a, Answer> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Answer::without_code(AnswerClass::Accepted, "ok") })
    }
}

/// Follows per second through all doors, and due steps per second, with `nodes` of them.
pub(super) async fn nodes(place: &Place, nodes: usize, count: usize) -> Result<Vec<Figure>> {
    ensure!(place.postgres().is_some(), "several nodes need --database");
    let sequence = one_step("1h");
    let first = Rig::new(place, "nodes", &sequence).await?;
    let accounts = first.add_accounts("shared", ACCOUNTS).await?;
    let mut rigs = vec![first];
    for number in 1..nodes {
        let rig = rigs[0]
            .another(&format!("node-{number}"), &sequence)
            .await?;
        rig.add_accounts("shared", ACCOUNTS).await?;
        rigs.push(rig);
    }
    balanced(&rigs).await;
    let past = rigs[0].clock.now().minus(Duration::from_secs(3601));
    let each = count / nodes;
    let from = Instant::now();
    let takings = rigs.iter().enumerate();
    let takings = takings.map(|(place, rig)| take(rig, &accounts, place * each, each, past));
    try_join_all(takings).await?;
    let (followed, taken) = (from.elapsed(), Arc::new(AtomicUsize::new(0)));
    let from = Instant::now();
    let engines: Vec<_> = rigs
        .into_iter()
        .map(|rig| {
            let platform = |account: &AccountId| {
                let counter = Counter {
                    account: *account,
                    taken: Arc::clone(&taken),
                };
                (*account, Arc::new(counter) as Arc<dyn Platform>)
            };
            let platforms: HashMap<_, _> = accounts.iter().map(platform).collect();
            Engine::start_with(rig, Arc::new(platforms))
        })
        .collect();
    until(|| taken.load(Ordering::Relaxed) >= each * nodes).await;
    let fired = from.elapsed();
    for engine in engines {
        engine.stop().await?.close().await;
    }
    let ran = format!("{count} followers of {ACCOUNTS} accounts, one process, one PostgreSQL");
    let rate = |what: &str, took| {
        let what = format!("{what}, {nodes} nodes");
        Figure::rate(&what, each * nodes, took, ran.clone())
    };
    Ok(vec![
        rate("follows/s", followed),
        rate("durable fire path, rows/s", fired),
    ])
}

/// Waits until every node has its share of the shards.
async fn balanced(rigs: &[Rig]) {
    let share = usize::from(SHARDS) / rigs.len();
    let held = |rig: &Rig| rig.store.leases().holding().held().len();
    until(|| rigs.iter().all(|rig| held(rig).abs_diff(share) <= 1)).await;
}

async fn take(
    rig: &Rig,
    accounts: &[AccountId],
    from: usize,
    count: usize,
    at: Timestamp,
) -> Result<()> {
    let writer = rig.store.writer();
    at_once(from..from + count, 2000, |n| {
        let account = accounts[n % accounts.len()];
        let (writer, arrival) = (writer.clone(), followed(n, at));
        async move { writer.receive(account, arrival).await.map(drop) }
    })
    .await
}
