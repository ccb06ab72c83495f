//! Measurements of broadcasts: how fast an audience is frozen and sent to, beside the naive way of doing
//! the first.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sea_orm::{ConnectionTrait, Statement};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::broadcast::Broadcaster;
use crate::broadcast::compose::{self, By, Draft};
use crate::cli::bench::engine::Engine;
use crate::cli::bench::place::Place;
use crate::cli::bench::report::Figure;
use crate::cli::bench::rig::{Instantly, Rig, one_step};
use crate::journey::ids::BroadcastId;
use crate::store::Store;
use crate::store::broadcasts::{self, Order, Progress, State};

/// Rows of one page of the naive way.
const PAGE: usize = 500;

/// How often progress is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Recipients per second: frozen, sent one by one, and sent by mass send.
pub(super) async fn broadcasts(place: &Place, count: usize) -> Result<Vec<Figure>> {
    let rig = Rig::new(place, "broadcast", &one_step("47h")).await?;
    let now = rig.clock.now();
    rig.follow(0, count, 2000, move |_| now).await?;
    let naive = naive(&rig.store, count).await?;
    let (store, clock) = (Arc::clone(&rig.store), Arc::clone(&rig.clock));
    let platform = Arc::new(Instantly {
        account: rig.account,
        taken: AtomicUsize::new(0),
    });
    let engine = Engine::start(rig, Arc::clone(&platform) as _);
    let stop = CancellationToken::new();
    let broadcaster = Broadcaster::new(Arc::clone(&store), Arc::clone(&clock));
    let broadcaster = tokio::spawn(broadcaster.run(stop.clone()));
    let words = place.words();
    let mut figures = vec![Figure::rate(
        "frozen recipients/s, naive",
        count,
        naive,
        format!("{count} followers by OFFSET, then one UPDATE for each; {words}"),
    )];
    for (by, carrier) in [
        (By::Cheapest, "customer message"),
        (By::MassSend, "mass send"),
    ] {
        let id = begin(&store, by).await?;
        let from = Instant::now();
        reached(&store, id, |progress, _| progress.frozen).await?;
        let frozen = from.elapsed();
        if by == By::Cheapest {
            let what = format!("{count} followers by pages of their keys; {words}");
            figures.push(Figure::rate("frozen recipients/s", count, frozen, what));
        }
        let from = Instant::now();
        reached(&store, id, |_, state| state == State::Completed).await?;
        let what = format!("{count} recipients, a platform that answers at once; {words}");
        let name = format!("recipients/s by {carrier}");
        figures.push(Figure::rate(&name, count, from.elapsed(), what));
    }
    stop.cancel();
    broadcaster.await?;
    drop(store);
    engine.stop().await?.remove().await?;
    Ok(figures)
}

async fn begin(store: &Store, by: By) -> Result<BroadcastId> {
    let mut draft = Draft {
        title: "bench".into(),
        accounts: vec!["bench".into()],
        by,
        ..Draft::default()
    };
    draft
        .step
        .insert("say".into(), json!({ "text": "x".repeat(110) }));
    draft.rules.insert("min_gap".into(), json!("0s"));
    let now = crate::clock::Clock::now(&crate::clock::SystemClock);
    let id = compose::create(store, draft, "bench", now).await?;
    broadcasts::obey(store, id, Order::Start, now).await?;
    Ok(id)
}

async fn reached(
    store: &Store,
    id: BroadcastId,
    so: impl Fn(&Progress, State) -> bool,
) -> Result<()> {
    loop {
        let one = broadcasts::of(store.read(), id).await?;
        let state = one.context("was made")?.state;
        if so(&broadcasts::progress(store.read(), id).await?, state) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What many programs do: pages by OFFSET, and a statement for each row, though here with one commit for
/// each page.
async fn naive(store: &Store, count: usize) -> Result<Duration> {
    let cold = store.writer();
    cold.cold(|tx| {
        Box::pin(async move {
            let make = "CREATE TABLE naive (follower_id BIGINT PRIMARY KEY, state BIGINT NOT NULL)";
            Ok(tx.execute_unprepared(make).await.map(drop)?)
        })
    })
    .await?;
    let from = Instant::now();
    for offset in (0..count).step_by(PAGE) {
        let page = format!(
            "SELECT id FROM followers WHERE following = 1 ORDER BY openid LIMIT {PAGE} OFFSET {offset}"
        );
        let backend = store.read().get_database_backend();
        let rows = store
            .read()
            .query_all_raw(Statement::from_string(backend, page))
            .await?;
        let ids = rows.iter().map(|row| row.try_get_by_index::<i64>(0));
        let ids: Vec<i64> = ids.collect::<Result<_, _>>()?;
        cold.cold(move |tx| {
            Box::pin(async move {
                for id in ids {
                    let insert = format!("INSERT INTO naive VALUES ({id}, 0)");
                    tx.execute_unprepared(&insert).await?;
                    let update = format!("UPDATE naive SET state = 1 WHERE follower_id = {id}");
                    tx.execute_unprepared(&update).await?;
                }
                Ok(())
            })
        })
        .await?;
    }
    Ok(from.elapsed())
}
