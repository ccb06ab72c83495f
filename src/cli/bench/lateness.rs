//! How late single messages are: the workload of a delay queue.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

use crate::cli::bench::engine::{Engine, until};
use crate::cli::bench::place::Place;
use crate::cli::bench::report::{Figure, percentile};
use crate::cli::bench::rig::{Rig, one_step};
use crate::clock::{Clock, Timestamp};
use crate::journey::ids::AccountId;
use crate::sender::platform::{Answer, AnswerClass, Call, Parcel, Platform};

/// So many messages, due evenly over so long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    messages: usize,
    over: Duration,
}

/// The workload of `benches/alternatives`.
pub(super) const ALONE: Load = Load {
    messages: 50_000,
    over: Duration::from_secs(30),
};

/// 1,000 a second, beside many that wait.
pub(super) const BESIDE: Load = Load {
    messages: 60_000,
    over: Duration::from_secs(60),
};

/// Time for taking the follows in before the first is due.
const AHEAD: Duration = Duration::from_secs(12);

/// Notes how late each message comes.
#[derive(Debug)]
struct Watch {
    account: AccountId,
    clock: Arc<dyn Clock>,
    /// Due instant of the first message.
    start: Timestamp,
    load: Load,
    late_ms: Mutex<Vec<i64>>,
    early: AtomicUsize,
}

impl Platform for Watch {
    fn account(&self) -> AccountId {
        self.account
    }

    fn send<'a>(&'a self, parcel: &'a Parcel) -> Call<'a, Answer> {
        let now = self.clock.now();
        let n = parcel.openid.get(17..).and_then(|n| n.parse().ok());
        let late_ms = now.0 - self.load.due(self.start, n.unwrap_or(0)).0;
        if late_ms < 0 {
            self.early.fetch_add(1, Ordering::Relaxed);
        }
        let mut all = self.late_ms.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(late_ms);
        Box::pin(async { Answer::without_code(AnswerClass::Accepted, "ok") })
    }
}

impl Load {
    /// Due instant of the `n`th message: evenly spread, in an order that is not that of the follows.
    fn due(self, start: Timestamp, n: usize) -> Timestamp {
        let place = n.wrapping_mul(31_337) % self.messages;
        let offset = self.over.as_millis() * place as u128 / self.messages as u128;
        start.plus(Duration::from_millis(u64::try_from(offset).unwrap_or(0)))
    }
}

/// Lateness of single messages, from due instant to the platform's door, while `pending` others wait
/// for theirs, which are due over the two days after.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of seconds")]
pub(super) async fn lateness(place: &Place, load: Load, pending: usize) -> Result<Vec<Figure>> {
    const DAYS_S: usize = 47 * 3600;
    let rig = Rig::new(place, "lateness", &one_step("1h")).await?;
    let now = rig.clock.now();
    let others = move |n: usize| {
        let after = u64::try_from(n.wrapping_mul(7_919) % DAYS_S).unwrap_or(0);
        now.plus(Duration::from_secs(after))
    };
    let first = load.messages;
    rig.follow(first, first + pending, 2000, others).await?;
    let start = rig.clock.now().plus(AHEAD);
    let watch = Arc::new(Watch {
        account: rig.account,
        clock: Arc::clone(&rig.clock),
        start,
        load,
        late_ms: Mutex::new(Vec::new()),
        early: AtomicUsize::new(0),
    });
    let followed = move |n| load.due(start, n).minus(Duration::from_secs(3600));
    rig.follow(0, load.messages, 2000, followed).await?;
    let engine = Engine::start(rig, Arc::clone(&watch) as Arc<dyn Platform>);
    let seen = || {
        let all = watch.late_ms.lock().unwrap_or_else(PoisonError::into_inner);
        all.len()
    };
    until(|| seen() >= load.messages).await;
    engine.stop().await?.remove().await?;
    let mut all = watch
        .late_ms
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let early = watch.early.load(Ordering::Relaxed);
    let ran = format!(
        "{} messages due over {} s beside {pending} more pending, engine without HTTP, {}; {early} \
         early",
        load.messages,
        load.over.as_secs(),
        place.words()
    );
    let beside = if pending > 0 { " beside others" } else { "" };
    Ok(
        [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "max")]
            .into_iter()
            .map(|(share, name)| {
                let late_ms = percentile(&mut all, share) as f64;
                Figure::new(
                    &format!("lateness{beside} {name}"),
                    late_ms,
                    "ms",
                    ran.clone(),
                )
            })
            .collect(),
    )
}
