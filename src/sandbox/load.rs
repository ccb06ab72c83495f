//! Load: many followers acting at once, and how long their callbacks took.
//!
//! A tool for benchmarks; what each follower does is the same as one by one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::control::{Control, ControlError, NewFollowers};
use super::event::Action;

/// Callbacks on their way at once.
const CONCURRENCY_MAX: usize = 1_024;
/// Followers acting in one burst; their openids are held in memory meanwhile.
const COUNT_MAX: usize = 1_000_000;

/// What everybody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BurstAction {
    /// New people are added and follow.
    Follow,
    /// Those who follow write one message.
    Text,
    /// Those who follow leave.
    Unfollow,
}

/// Many followers acting at once.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// App id.
    pub account: String,
    pub action: BurstAction,
    /// How many act.
    pub count: usize,
    /// How many callbacks are on their way at once.
    #[serde(default = "some")]
    pub concurrency: usize,
    /// The account is told nothing, as while the platform cannot reach it.
    #[serde(default)]
    pub silent: bool,
}

fn some() -> usize {
    64
}

/// How a burst went; all spans are real time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BurstReport {
    pub count: usize,
    pub accepted: usize,
    /// Callbacks posted, repetitions included.
    pub attempts: usize,
    pub duration_ms: u64,
    pub per_second: u64,
    pub p50_us: u64,
    pub p95_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
    /// Statuses of last attempts; `none` where no answer came. Empty for a silent burst.
    pub statuses: BTreeMap<String, usize>,
}

impl Control {
    /// Lets many followers act and waits for all of them.
    pub async fn burst(&self, burst: &Burst) -> Result<BurstReport, ControlError> {
        if burst.count == 0 || burst.count > COUNT_MAX {
            return Err(ControlError::Invalid("count must be 1 to 1000000"));
        }
        if burst.concurrency == 0 || burst.concurrency > CONCURRENCY_MAX {
            return Err(ControlError::Invalid("concurrency must be 1 to 1024"));
        }
        let openids = Arc::new(self.actors(burst)?);
        let next = Arc::new(AtomicUsize::new(0));
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..burst.concurrency.min(openids.len()) {
            let walk = Walk {
                control: self.clone(),
                account: burst.account.clone(),
                action: burst.action,
                silent: burst.silent,
                openids: Arc::clone(&openids),
                next: Arc::clone(&next),
            };
            tasks.spawn(walk.run());
        }
        let mut report = BurstReport::default();
        let mut spans = Vec::with_capacity(openids.len());
        while let Some(walked) = tasks.join_next().await {
            let Ok((part, part_spans)) = walked else {
                continue;
            };
            report.count += part.count;
            report.accepted += part.accepted;
            report.attempts += part.attempts;
            for (status, count) in part.statuses {
                *report.statuses.entry(status).or_default() += count;
            }
            spans.extend(part_spans);
        }
        report.duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        report.per_second = report.count as u64 * 1000 / report.duration_ms.max(1);
        spans.sort_unstable();
        let at = |per_mille: usize| {
            let index = spans.len().saturating_sub(1) * per_mille / 1000;
            spans.get(index).copied().unwrap_or(0)
        };
        (report.p50_us, report.p95_us) = (at(500), at(950));
        (report.p99_us, report.max_us) = (at(990), at(1000));
        Ok(report)
    }

    fn actors(&self, burst: &Burst) -> Result<Vec<Arc<str>>, ControlError> {
        if burst.action != BurstAction::Follow {
            return self.following(&burst.account, burst.count);
        }
        let mut openids = Vec::with_capacity(burst.count);
        while openids.len() < burst.count {
            // An answer names 10,000 at most.
            let count = (burst.count - openids.len()).min(10_000);
            let new = NewFollowers {
                account: burst.account.clone(),
                count: Some(count),
                ..NewFollowers::default()
            };
            openids.extend(self.add_followers(&new)?.openids);
        }
        Ok(openids)
    }
}

/// One of the walkers that share the list of followers.
struct Walk {
    control: Control,
    account: String,
    action: BurstAction,
    silent: bool,
    openids: Arc<Vec<Arc<str>>>,
    next: Arc<AtomicUsize>,
}

impl Walk {
    async fn run(self) -> (BurstReport, Vec<u64>) {
        let mut report = BurstReport::default();
        let mut spans = Vec::new();
        while let Some(openid) = self.openids.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let action = match self.action {
                BurstAction::Follow => Action::Follow { scene: None },
                BurstAction::Text => Action::Text {
                    text: "你好".to_owned(),
                },
                BurstAction::Unfollow => Action::Unfollow,
            };
            let started = Instant::now();
            if self.silent {
                let acted = self.control.act_silently(&self.account, openid, action);
                report.count += usize::from(acted.is_ok());
                continue;
            }
            let Ok(pushed) = self.control.act(&self.account, openid, action).await else {
                continue;
            };
            spans.push(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
            report.count += 1;
            report.accepted += usize::from(pushed.accepted);
            report.attempts += pushed.attempts.len();
            let status = pushed.attempts.last().and_then(|attempt| attempt.status);
            let status = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
            *report.statuses.entry(status).or_default() += 1;
        }
        (report, spans)
    }
}
