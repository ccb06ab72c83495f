//! Measurements of the engine alone, without HTTP.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cli::bench::place::Place;
use crate::cli::bench::report::Figure;
use crate::cli::bench::rig::{FIVE_STEPS, Instantly, Rig, at_once, followed, one_step};
use crate::scheduler::{Scheduler, SchedulerSettings};
use crate::sender::platform::{Platform, Platforms};
use crate::sender::{Sender, SenderSettings};
use crate::store::work::Act;

pub(super) const SCHEDULER: SchedulerSettings = SchedulerSettings {
    ring_entries: 262_144,
    lead: Duration::from_secs(2),
    sweep_every: Duration::from_secs(45),
    promote_max: 20_000,
};

/// Follows per second, each durable before its answer.
pub(super) async fn follows(place: &Place, count: usize, callers: usize) -> Result<Figure> {
    let rig = Rig::new(place, "follows", FIVE_STEPS).await?;
    let now = rig.clock.now();
    let from = Instant::now();
    rig.follow(0, count, callers, move |_| now).await?;
    let took = from.elapsed();
    rig.remove().await?;
    Ok(Figure::rate(
        &format!("follows/s, {callers} callers at once"),
        count,
        took,
        format!(
            "{count} new followers, 5-step sequence, {}, engine without HTTP",
            place.words()
        ),
    ))
}

/// Due steps per second through promotion, intent, outcome and the next timer.
pub(super) async fn fires(place: &Place, count: usize) -> Result<Figure> {
    let sequence = one_step("1h");
    let rig = Rig::new(place, "fires", &sequence).await?;
    // All due when the clock starts: one hour after follows of one hour and a second ago.
    let past = rig.clock.now().minus(Duration::from_secs(3601));
    rig.follow(0, count, 2000, move |_| past).await?;
    let rig = rig.reopen(&sequence).await?;
    let platform = Arc::new(Instantly {
        account: rig.account,
        taken: AtomicUsize::new(0),
    });
    let engine = Engine::start(rig, Arc::clone(&platform) as Arc<dyn Platform>);
    let from = Instant::now();
    until(|| platform.taken.load(Ordering::Relaxed) >= count).await;
    let took = from.elapsed();
    engine.stop().await?.remove().await?;
    Ok(Figure::rate(
        "durable fire path, rows/s",
        count,
        took,
        format!(
            "{count} due steps: promote, intent, outcome; a platform that answers at once; {}",
            place.words()
        ),
    ))
}

/// Enrollments per second of followers who are known already.
pub(super) async fn bulk(place: &Place, count: usize) -> Result<Figure> {
    let rig = Rig::new(place, "bulk", &one_step("1h")).await?;
    let now = rig.clock.now();
    rig.follow(0, count, 2000, move |_| now).await?;
    let (writer, account) = (rig.store.writer().clone(), rig.account);
    let from = Instant::now();
    at_once(0..count, 2000, |n| {
        let (writer, openid) = (writer.clone(), followed(n, now).openid);
        let act = Act::Enroll {
            sequence: "bench".into(),
        };
        async move { writer.act(account, openid, act).await.map(drop) }
    })
    .await?;
    let took = from.elapsed();
    rig.remove().await?;
    Ok(Figure::rate(
        "enrollments/s of known followers",
        count,
        took,
        format!(
            "{count} followers entered one more one-step sequence, 2000 callers, {}",
            place.words()
        ),
    ))
}

/// Scheduler and sender at work on a rig.
pub(super) struct Engine {
    rig: Rig,
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Engine {
    pub(super) fn start(rig: Rig, platform: Arc<dyn Platform>) -> Self {
        Self::start_with(
            rig,
            Arc::new(HashMap::from([(platform.account(), platform)])),
        )
    }

    /// The same with a platform for each of several accounts.
    pub(super) fn start_with(mut rig: Rig, platforms: Arc<dyn Platforms>) -> Self {
        let armed_rx = rig.take_armed();
        let stop = CancellationToken::new();
        let (due_tx, due_rx) = mpsc::channel(1024);
        let scheduler = Scheduler::new(
            Arc::clone(&rig.store),
            Arc::clone(&rig.clock),
            SCHEDULER,
            armed_rx,
            due_tx,
        );
        let sender = Sender::new(
            Arc::clone(&rig.store),
            Arc::clone(&rig.clock),
            SenderSettings {
                in_flight_max: 1024,
                queue_max: 262_144,
            },
            platforms,
            due_rx,
        );
        let tasks = vec![
            tokio::spawn(scheduler.run(stop.clone())),
            tokio::spawn(send(sender, stop.clone())),
        ];
        Self { rig, stop, tasks }
    }

    pub(super) async fn stop(self) -> Result<Rig> {
        self.stop.cancel();
        for task in self.tasks {
            task.await?;
        }
        Ok(self.rig)
    }
}

/// The sender's part from its start on. As when the server starts, what a killed run left without
/// an answer is settled first.
async fn send(mut sender: Sender, stop: CancellationToken) {
    match sender.recover().await {
        Ok(_) => sender.run(stop).await,
        Err(error) => tracing::error!(%error, "sends of an earlier run could not be settled"),
    }
}

/// Waits until something is so, looking every few milliseconds.
pub(super) async fn until(so: impl Fn() -> bool) {
    while !so() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
