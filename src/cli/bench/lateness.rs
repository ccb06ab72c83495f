//! How late single messages are: the workload of a delay queue.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

use crate::cli::bench::engine::{Engine, until};
use crate::cli::bench::report::{Figure, percentile};
use crate::cli::bench::rig::{Rig, one_step};
use crate::clock::{Clock, Timestamp};
use crate::journey::ids::AccountId;
use crate::sender::platform::{Answer, AnswerClass, Call, Parcel, Platform};

const MESSAGES: usize = 50_000;

const OVER: Duration = Duration::from_secs(30);

/// Time for taking the follows in before the first is due.
const AHEAD: Duration = Duration::from_secs(12);

/// Notes how late each message comes.
#[derive(Debug)]
struct Watch {
    account: AccountId,
    clock: Arc<dyn Clock>,
    /// Due instant of the first message.
    start: Timestamp,
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
        let late_ms = now.0 - due(self.start, n.unwrap_or(0)).0;
        if late_ms < 0 {
            self.early.fetch_add(1, Ordering::Relaxed);
        }
        let mut all = self.late_ms.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(late_ms);
        Box::pin(async { Answer::without_code(AnswerClass::Accepted, "ok") })
    }
}

/// Due instant of the `n`th message: evenly spread, in an order that is not that of the follows.
fn due(start: Timestamp, n: usize) -> Timestamp {
    let place = n.wrapping_mul(31_337) % MESSAGES;
    let span_ms = OVER.as_millis();
    let offset = u64::try_from(span_ms * place as u128 / MESSAGES as u128).unwrap_or(0);
    start.plus(Duration::from_millis(offset))
}

/// Lateness of 50,000 single messages due over 30 s, from due instant to the platform's door.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of seconds")]
pub(super) async fn lateness(base: &Path) -> Result<Vec<Figure>> {
    let rig = Rig::new(base, "lateness", &one_step("1h")).await?;
    let start = rig.clock.now().plus(AHEAD);
    let watch = Arc::new(Watch {
        account: rig.account,
        clock: Arc::clone(&rig.clock),
        start,
        late_ms: Mutex::new(Vec::new()),
        early: AtomicUsize::new(0),
    });
    let followed = move |n| due(start, n).minus(Duration::from_secs(3600));
    rig.follow(0, MESSAGES, 2000, followed).await?;
    let engine = Engine::start(rig, Arc::clone(&watch) as Arc<dyn Platform>);
    let seen = || {
        let all = watch.late_ms.lock().unwrap_or_else(PoisonError::into_inner);
        all.len()
    };
    until(|| seen() >= MESSAGES).await;
    engine.stop().await?.remove().await?;
    let mut all = watch
        .late_ms
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let early = watch.early.load(Ordering::Relaxed);
    let ran = format!("{MESSAGES} messages due over 30 s, engine without HTTP; {early} early");
    Ok(
        [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "max")]
            .into_iter()
            .map(|(share, name)| {
                let late_ms = percentile(&mut all, share) as f64;
                Figure::new(&format!("lateness {name}"), late_ms, "ms", ran.clone())
            })
            .collect(),
    )
}
