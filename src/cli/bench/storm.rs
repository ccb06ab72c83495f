//! Followers who leave in crowds while their steps wait.

use std::time::Instant;

use anyhow::Result;

use crate::cli::bench::place::Place;
use crate::cli::bench::report::Figure;
use crate::cli::bench::rig::{FIVE_STEPS, Rig, at_once, followed};
use crate::journey::event::{Arrival, Event};

/// Unfollows per second: each ends a passage and takes its timer off the wheel.
pub(super) async fn unfollows(place: &Place, count: usize) -> Result<Figure> {
    let rig = Rig::new(place, "unfollows", FIVE_STEPS).await?;
    let now = rig.clock.now();
    rig.follow(0, count, 2000, move |_| now).await?;
    let (writer, account) = (rig.store.writer().clone(), rig.account);
    let later = now.plus(std::time::Duration::from_secs(1));
    let from = Instant::now();
    at_once(0..count, 2000, |n| {
        let arrival = Arrival {
            event: Event::Unfollowed,
            digest: 2,
            ..followed(n, later)
        };
        let writer = writer.clone();
        async move { writer.receive(account, arrival).await.map(drop) }
    })
    .await?;
    let took = from.elapsed();
    let what = format!(
        "{count} followers with 5 steps ahead leave, 2000 at once, {}",
        place.words()
    );
    rig.remove().await?;
    Ok(Figure::rate("unfollows/s", count, took, what))
}
