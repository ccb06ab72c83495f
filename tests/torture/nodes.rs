//! Several nodes on one PostgreSQL: each of them, and the database under all of them, is killed,
//! stopped, cut off and replaced while people come and go, and the platform's own record says what
//! really arrived.
//!
//! `DRIPWHEEL_SECONDS` says for how long faults go on (20 unless told otherwise).

use std::env;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::trio::{Trio, address_of};

fn seconds() -> Duration {
    let seconds = env::var("DRIPWHEEL_SECONDS").map_or(20, |seconds| {
        seconds.parse().expect("DRIPWHEEL_SECONDS is a number")
    });
    Duration::from_secs(seconds)
}

/// A moment without a fault, in which steps are on time.
const QUIET: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_fail_lose_nothing_and_write_nothing_stale() {
    let mut trio = Trio::start(Cluster::plan().durable()).await;
    let until = Instant::now() + seconds();
    let mut faults = 0;
    trio.crowd_for(QUIET).await;
    while Instant::now() < until {
        let node = usize::try_from(trio.dice.below(3)).unwrap();
        match faults % 4 {
            0 => trio.kill(node).await,
            1 => {
                let database = trio.database();
                trio.cluster.terminate_backends(&database);
            }
            2 => trio.freeze(node).await,
            _ => trio.cluster.restart(),
        }
        faults += 1;
        trio.crowd_for(QUIET).await;
    }
    println!("faults                    {faults:>8}");
    let (nodes, running) = trio.nodes[0].ask("nodes").await;
    assert!(running, "{nodes}");
    let verdict = trio.verdict().await;
    verdict.assert_clean();
    assert_eq!(
        (verdict.lost, verdict.silent_doubles, verdict.stale),
        (0, 0, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_replaced_one_by_one_without_a_refused_callback() {
    let mut trio = Trio::start(Cluster::plan().durable()).await;
    trio.crowd_for(QUIET).await;
    for node in 0..3 {
        trio.replace(node).await;
        trio.crowd_for(QUIET).await;
    }
    let verdict = trio.verdict().await;
    verdict.assert_clean();
    assert_eq!(verdict.refused, 0, "{}", trio.logs());
    assert_eq!(verdict.unknown, 0, "{}", trio.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_takes_over_knows_whatever_was_acknowledged() {
    let mut trio = Trio::start(Cluster::plan().durable()).await;
    let standby = trio.cluster.standby();
    let names = "ALTER SYSTEM SET synchronous_standby_names = '*'";
    trio.cluster.psql("postgres", names);
    trio.cluster.psql("postgres", "SELECT pg_reload_conf()");
    trio.crowd_for(2 * QUIET).await;
    trio.cluster.stop_immediate();
    trio.crowd_for(QUIET).await;
    standby.promote();
    let reset = "ALTER SYSTEM RESET synchronous_standby_names";
    standby.psql("postgres", reset);
    standby.psql("postgres", "SELECT pg_reload_conf()");
    trio.way.turn_to(address_of(&standby.url("postgres")));
    trio.crowd_for(2 * QUIET).await;
    let verdict = trio.verdict().await;
    verdict.assert_clean();
    assert_eq!(
        (verdict.lost, verdict.silent_doubles, verdict.stale),
        (0, 0, 0)
    );
}
