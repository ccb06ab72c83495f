//! Live pages: a stream that says "changed", at most once a second.
//!
//! Whoever listens is told only that something changed, and asks for the page again. One look at
//! the store a second serves everybody who listens to the same thing; the number of listeners and
//! the length of a stream are bounded.

use std::collections::hash_map::DefaultHasher;
use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use moka::future::Cache;
use poem::http::StatusCode;
use poem::web::sse::{Event, SSE};
use poem::web::{Data, Query};
use poem::{IntoResponse, Response, handler};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::console::ConsoleState;
use crate::console::shown::Overview;
use crate::journey::ids::BroadcastId;
use crate::store::{Store, broadcasts, timeline};

/// How often the store is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks that are shared; the least used give way.
const LOOKS_MAX: u64 = 256;

/// Streams at the same time.
const STREAMS_MAX: usize = 128;

/// Looks after which a stream ends; a browser opens the next one by itself.
const STREAM_LOOKS_MAX: u32 = 600;

/// Broadcasts that the list of them shows.
const NEWEST: u32 = 30;

/// Keeps proxies from closing a quiet stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a browser waits before it opens a stream again.
const RETRY_MS: u64 = 2000;

/// What a page shows: everything, one follower, or one broadcast; 0 for the newest of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub(super) struct Topic {
    account: Option<String>,
    openid: Option<String>,
    broadcast: Option<i64>,
}

/// Who listens, and what was seen last.
#[derive(Debug)]
pub(super) struct Live {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    streams: Arc<Semaphore>,
    marks: Cache<Topic, Option<u64>>,
    overview: Cache<(), Arc<Overview>>,
}

impl Live {
    pub(super) fn new(store: Arc<Store>, clock: Arc<dyn Clock>, stop: CancellationToken) -> Self {
        Self {
            store,
            clock,
            stop,
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            marks: Cache::builder()
                .max_capacity(LOOKS_MAX)
                .time_to_live(LOOK_EVERY)
                .build(),
            overview: Cache::builder().time_to_live(LOOK_EVERY).build(),
        }
    }

    /// What the first page shows; one look serves everybody for a second.
    pub(super) async fn overview(&self) -> Result<Arc<Overview>, crate::store::Error> {
        if let Some(seen) = self.overview.get(&()).await {
            return Ok(seen);
        }
        let seen = Arc::new(Overview::read(&self.store, self.clock.now()).await?);
        self.overview.insert((), Arc::clone(&seen)).await;
        Ok(seen)
    }

    /// States and counts of one broadcast, or of the newest.
    async fn broadcasts(&self, id: i64) -> Result<Seen, crate::store::Error> {
        let read = self.store.read();
        let all = match id {
            0 => broadcasts::list(read, None, NEWEST).await?,
            id => broadcasts::of(read, BroadcastId(id))
                .await?
                .into_iter()
                .collect(),
        };
        let mut seen = Vec::with_capacity(all.len());
        for one in all {
            let progress = broadcasts::progress(read, one.id).await?;
            let counts = (progress.total, progress.sending, progress.ended());
            seen.push((one.id.0, one.state.word(), counts.0, counts.1, counts.2));
        }
        Ok(seen)
    }

    /// A number that changes with what a page shows; `None` when it cannot be read.
    async fn mark(&self, topic: &Topic) -> Option<u64> {
        self.marks
            .get_with_by_ref(topic, async {
                let mut hasher = DefaultHasher::new();
                match (&topic.account, &topic.openid, topic.broadcast) {
                    (_, _, Some(broadcast)) => {
                        self.broadcasts(broadcast).await.ok()?.hash(&mut hasher);
                    }
                    (Some(account), Some(openid), None) => {
                        let mark = timeline::mark(self.store.read(), account, openid).await;
                        mark.ok()?.hash(&mut hasher);
                    }
                    _ => self.overview().await.ok()?.mark().hash(&mut hasher),
                }
                Some(hasher.finish())
            })
            .await
    }
}

/// What of broadcasts a page shows that changes by itself.
type Seen = Vec<(i64, &'static str, i64, i64, i64)>;

/// One listener.
struct Listener {
    state: Arc<ConsoleState>,
    topic: Topic,
    ticks: Interval,
    seen: Option<u64>,
    looks: u32,
    _permit: OwnedSemaphorePermit,
}

impl Listener {
    /// Waits for the next change; `None` when the stream ends.
    async fn changed(&mut self) -> Option<Event> {
        while self.looks < STREAM_LOOKS_MAX {
            tokio::select! {
                _ = self.ticks.tick() => {}
                () = self.state.live.stop.cancelled() => return None,
            }
            self.looks += 1;
            let mark = self.state.live.mark(&self.topic).await?;
            match self.seen.replace(mark) {
                // From here on nothing is missed, which a listener may want to know.
                None => return Some(Event::retry(RETRY_MS)),
                Some(seen) if seen != mark => return Some(Event::message("changed")),
                Some(_) => {}
            }
        }
        None
    }
}

fn changes(listener: Listener) -> impl Stream<Item = Event> + Send {
    stream::unfold(listener, |mut listener| async {
        let event = listener.changed().await?;
        Some((event, listener))
    })
}

#[handler]
pub(super) async fn events(
    state: Data<&Arc<ConsoleState>>,
    Query(topic): Query<Topic>,
) -> Result<Response, Infallible> {
    let Ok(permit) = Arc::clone(&state.live.streams).try_acquire_owned() else {
        return Ok(StatusCode::SERVICE_UNAVAILABLE.into());
    };
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What the page shows is older than the stream: the first look is what later ones differ from,
    // and the page asks once more when the stream opens.
    let listener = Listener {
        state: Arc::clone(&state),
        topic,
        ticks,
        seen: None,
        looks: 0,
        _permit: permit,
    };
    Ok(SSE::new(changes(listener))
        .keep_alive(KEEP_ALIVE)
        .into_response())
}
