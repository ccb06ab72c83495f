//! How late the others are while one account has a great many steps due in one second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

use crate::cli::bench::engine::{Engine, until};
use crate::cli::bench::place::Place;
use crate::cli::bench::report::{Figure, percentile};
use crate::cli::bench::rig::{Rig, at_once, followed, one_step};
use crate::clock::{Clock, Timestamp};
use crate::journey::ids::AccountId;
use crate::sender::platform::{Answer, AnswerClass, Call, Parcel, Platform};

/// Accounts beside the one with the burst.
const OTHERS: usize = 999;

/// Messages of each of them.
const MESSAGES: usize = 60;

/// Over which their messages are spread; the burst's second lies in the middle.
const OVER: Duration = Duration::from_secs(30);

/// Follows per second that this takes for granted while it makes the people.
const PEOPLE_PER_SECOND: usize = 8_000;

/// What arrives, of all accounts.
#[derive(Debug)]
struct Arrivals {
    clock: Arc<dyn Clock>,
    start: Timestamp,
    late_ms: Mutex<Vec<i64>>,
    of_burst: AtomicUsize,
}

/// The platform of one account.
#[derive(Debug)]
struct Watch {
    account: AccountId,
    has_burst: bool,
    arrivals: Arc<Arrivals>,
}

impl Platform for Watch {
    fn account(&self) -> AccountId {
        self.account
    }

    fn send<'a>(&'a self, parcel: &'a Parcel) -> Call<'a, Answer> {
        let arrivals = &self.arrivals;
        if self.has_burst {
            arrivals.of_burst.fetch_add(1, Ordering::Relaxed);
        } else {
            let n = parcel.openid.get(17..).and_then(|n| n.parse().ok());
            let due_at = due(arrivals.start, n.unwrap_or(0));
            let late_ms = arrivals.clock.now().0 - due_at.0;
            let all = arrivals.late_ms.lock();
            all.unwrap_or_else(PoisonError::into_inner).push(late_ms);
        }
        Box::pin(async { Answer::without_code(AnswerClass::Accepted, "ok") })
    }
}

/// Due instant of the others' `n`th message: evenly spread, each account's all over the time.
fn due(start: Timestamp, n: usize) -> Timestamp {
    let all = OTHERS * MESSAGES;
    let place = n.wrapping_mul(31_337) % all;
    let offset = u64::try_from(OVER.as_millis() * place as u128 / all as u128).unwrap_or(0);
    start.plus(Duration::from_millis(offset))
}

/// Lateness of 999 accounts' messages over 30 s, in whose middle one account has `count` due.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of seconds")]
pub(super) async fn burst(place: &Place, count: usize) -> Result<Vec<Figure>> {
    let rig = Rig::new(place, "burst", &one_step("1h")).await?;
    let accounts = rig.add_accounts("other", OTHERS).await?;
    let people = count + OTHERS * MESSAGES;
    let ahead = u64::try_from(people / PEOPLE_PER_SECOND).unwrap_or(0) + 5;
    let start = rig.clock.now().plus(Duration::from_secs(ahead));
    make_people(&rig, &accounts, count, start).await?;
    let arrivals = Arc::new(Arrivals {
        clock: Arc::clone(&rig.clock),
        start,
        late_ms: Mutex::default(),
        of_burst: AtomicUsize::new(0),
    });
    let big = rig.account;
    let platforms: HashMap<_, _> = accounts
        .iter()
        .chain([&big])
        .map(|&account| {
            let watch = Watch {
                account,
                has_burst: account == big,
                arrivals: Arc::clone(&arrivals),
            };
            (account, Arc::new(watch) as Arc<dyn Platform>)
        })
        .collect();
    let engine = Engine::start_with(rig, Arc::new(platforms));
    let seen = || {
        let all = arrivals.late_ms.lock();
        all.unwrap_or_else(PoisonError::into_inner).len()
    };
    until(|| seen() >= OTHERS * MESSAGES).await;
    let sent = arrivals.of_burst.load(Ordering::Relaxed);
    engine.stop().await?.remove().await?;
    let all = arrivals.late_ms.lock();
    let mut all = all.unwrap_or_else(PoisonError::into_inner).clone();
    let ran = format!(
        "{OTHERS} accounts' {} messages over 30 s, one more account with {count} due in one second \
         ({sent} sent by then)",
        OTHERS * MESSAGES
    );
    Ok([(0.5, "p50"), (0.99, "p99"), (1.0, "max")]
        .into_iter()
        .map(|(share, name)| {
            let late_ms = percentile(&mut all, share) as f64;
            let what = format!("others' lateness in a burst, {name}");
            Figure::new(&what, late_ms, "ms", ran.clone())
        })
        .collect())
}

/// Takes everybody's follow in, one hour before their step is due.
async fn make_people(
    rig: &Rig,
    accounts: &[AccountId],
    count: usize,
    start: Timestamp,
) -> Result<()> {
    const HOUR: Duration = Duration::from_secs(3600);
    let middle = start.plus(OVER / 2);
    let burst_at = move |n: usize| {
        let offset = u64::try_from(n % 1000).unwrap_or(0);
        middle.plus(Duration::from_millis(offset)).minus(HOUR)
    };
    rig.follow(0, count, 2000, burst_at).await?;
    let writer = rig.store.writer().clone();
    at_once(0..OTHERS * MESSAGES, 2000, |n| {
        let account = accounts[n % accounts.len()];
        let (writer, arrival) = (writer.clone(), followed(n, due(start, n).minus(HOUR)));
        async move { writer.receive(account, arrival).await.map(drop) }
    })
    .await
}
