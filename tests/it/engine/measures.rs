//! What operators see of a program that works: `/metrics`.

use std::sync::{Arc, OnceLock};

use dripwheel::api::ops::{self, OpsState};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use poem::{Endpoint, Request, Route};

use super::sequence;
use crate::support::{Town, eventually, hours, minutes};

/// Everything in this process is counted in one place.
fn counted() -> PrometheusHandle {
    static COUNTED: OnceLock<PrometheusHandle> = OnceLock::new();
    let install = || PrometheusBuilder::new().install_recorder();
    COUNTED.get_or_init(|| install().unwrap()).clone()
}

async fn scrape(town: &Town) -> String {
    let state = OpsState::new(Arc::clone(town.store()), counted(), Vec::new());
    let route = ops::mount(Route::new(), Arc::new(state));
    let request = Request::builder().uri_str("/metrics").finish();
    let response = route.call(request).await.unwrap();
    response.into_body().into_string().await.unwrap()
}

/// The value of one line, by its name and labels.
fn value(scraped: &str, name: &str) -> Option<f64> {
    let line = scraped.lines().find_map(|line| line.strip_prefix(name));
    line?.trim().parse().ok()
}

#[tokio::test]
async fn operators_see_the_wheel_the_queues_and_the_commits() {
    counted();
    let steps = sequence("", &[("1m", "hello"), ("20h", "offer")]);
    let town = Town::plan().account("crowded").per_second(1).steady();
    let town = town.open(&[&steps]).await;
    for n in 0..30 {
        let event = dripwheel::journey::event::Event::Followed { scene: None };
        town.take("crowded", town.arrival(&format!("f{n}"), event))
            .await;
    }
    town.advance(minutes(1));
    let queue = "dripwheel_queue_deliveries{account=\"crowded\"}";
    eventually("the account's queue is seen", || async {
        town.advance(std::time::Duration::from_millis(100));
        value(&scrape(&town).await, queue).is_some_and(|depth| depth > 0.0)
    })
    .await;
    let scraped = scrape(&town).await;
    for name in [
        "dripwheel_ring_entries",
        "dripwheel_ring_bytes",
        "dripwheel_ring_lag_seconds",
        "dripwheel_intake_waiting",
    ] {
        assert!(value(&scraped, &format!("{name} ")).is_some(), "{name}");
    }
    for name in ["promotion_seconds", "commit_seconds", "commit_works"] {
        let count = value(&scraped, &format!("dripwheel_{name}_count "));
        assert!(count > Some(0.0), "{name}");
    }
    let embedded = town.store().wal_bytes().is_some();
    let wal = value(&scraped, "dripwheel_wal_bytes ");
    assert_eq!(wal.is_some_and(|bytes| bytes > 0.0), embedded);
    // A clock that is set is an alarm.
    town.clock.set(town.now().minus(hours(1)));
    let set_back = "dripwheel_clock_jumps_total{direction=\"back\"}";
    eventually("the jump is seen", || async {
        value(&scrape(&town).await, set_back) >= Some(1.0)
    })
    .await;
    town.clock.set(town.now().plus(hours(1)));
    let mut town = town;
    town.stop().await;
}
