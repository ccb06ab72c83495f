//! What every measurement stands on: a real store in a fresh folder, published sequences, and a
//! platform that answers at once.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::cli::bench::place::Place;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::journey;
use crate::journey::event::{Arrival, Event};
use crate::journey::ids::AccountId;
use crate::policy::account::Account;
use crate::policy::limiter::Rate;
use crate::policy::profile;
use crate::sender::platform::{Answer, AnswerClass, Call, Cohort, Parcel, Platform};
use crate::store::accounts::{self, NewAccount};
use crate::store::versions::{self, NewVersion};
use crate::store::work::Armed;
use crate::store::{Store, StoreSettings};

/// A store under measurement.
pub(super) struct Rig {
    pub(super) store: Arc<Store>,
    armed_rx: mpsc::Receiver<Armed>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) account: AccountId,
    settings: StoreSettings,
    dir: PathBuf,
}

/// Five steps over two days, the first at once.
pub(super) const FIVE_STEPS: &str = "
sequence: bench
trigger: { follow: {} }
min_gap: 0s
steps:
  - { id: one, after: 0s, say: { text: welcome } }
  - { id: two, after: 10m, say: { text: guide } }
  - { id: three, after: 3h, say: { text: tips } }
  - { id: four, after: 23h, say: { text: offer } }
  - { id: five, after: 47h, say: { text: last call } }
";

/// One step of about 110 bytes, `after` the follow.
pub(super) fn one_step(after: &str) -> String {
    let text = "x".repeat(110);
    format!(
        "
sequence: bench
trigger: {{ follow: {{}} }}
reenter: always
min_gap: 0s
steps:
  - {{ id: only, after: {after}, late: {{ after: 47h, then: send }}, say: {{ text: {text} }} }}
"
    )
}

impl Rig {
    /// A fresh store with one account and one sequence.
    pub(super) async fn new(place: &Place, name: &str, sequence: &str) -> Result<Self> {
        let (url, dir) = place.fresh(name).await?;
        Self::at(url, dir, sequence).await
    }

    /// The same store again, as after a restart.
    pub(super) async fn reopen(self, sequence: &str) -> Result<Self> {
        self.store.close().await;
        let (url, dir) = (self.settings.url.clone(), self.dir.clone());
        drop(self);
        Self::at(url, dir, sequence).await
    }

    /// Another node on the same database.
    pub(super) async fn another(&self, node: &str, sequence: &str) -> Result<Self> {
        let settings = StoreSettings {
            node: node.to_owned(),
            ..self.settings.clone()
        };
        Self::with(settings, self.dir.clone(), sequence).await
    }

    /// Opens the store at a URL, making it if it is not there; `dir` is its own folder.
    pub(super) async fn at(url: String, dir: PathBuf, sequence: &str) -> Result<Self> {
        let settings = StoreSettings::at(url, Duration::from_secs(2));
        Self::with(settings, dir, sequence).await
    }

    async fn with(settings: StoreSettings, dir: PathBuf, sequence: &str) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (store, armed_rx) = Store::open(&settings, Arc::clone(&clock)).await?;
        let account = Account {
            journey: journey::account::Account {
                id: AccountId(0),
                key: "bench".into(),
                name: "bench".into(),
                zone: TimeZone::UTC,
            },
            profile: profile::named("wechat-48h").context("shipped profile")?,
            sends: true,
            passive_reply: false,
            erase_on_unfollow: true,
            track_links: false,
            rate: Rate::default(),
            quota_reset: Default::default(),
            in_flight_max: 4096,
        };
        let account = NewAccount {
            account,
            platform: "wechat".into(),
            app_id: "wxbench".into(),
        };
        accounts::configure(&store, vec![account]).await?;
        let version = NewVersion {
            sequence: "bench".into(),
            hash: format!("{:x?}", Sha256::digest(sequence)),
            source: sequence.to_owned(),
            assets: BTreeMap::new(),
            files: Vec::new(),
        };
        versions::publish(&store, vec![version], clock.now()).await?;
        let known = store.knowledge().account_named("bench");
        let account = known.context("account was configured")?.journey.id;
        Ok(Self {
            store,
            armed_rx,
            clock,
            account,
            settings,
            dir,
        })
    }

    /// Adds accounts like the rig's own.
    pub(super) async fn add_accounts(&self, prefix: &str, count: usize) -> Result<Vec<AccountId>> {
        let knowledge = self.store.knowledge();
        let own = knowledge.account(self.account).context("rig's account")?;
        let named = |key: &str| {
            let mut account = Account::clone(&own);
            account.journey.key = key.to_owned();
            NewAccount {
                account,
                platform: "wechat".into(),
                app_id: format!("wx{key}"),
            }
        };
        let keys: Vec<_> = (0..count).map(|n| format!("{prefix}-{n}")).collect();
        let mut all = vec![named(&own.journey.key)];
        all.extend(keys.iter().map(|key| named(key)));
        accounts::configure(&self.store, all).await?;
        let ids = keys.iter().map(|key| {
            let account = knowledge.account_named(key).context("was configured")?;
            Ok(account.journey.id)
        });
        ids.collect()
    }

    /// Hands what the store arms to whoever works on it.
    pub(super) fn take_armed(&mut self) -> mpsc::Receiver<Armed> {
        std::mem::replace(&mut self.armed_rx, mpsc::channel(1).1)
    }

    /// Closes the store and removes its folder.
    pub(super) async fn remove(self) -> Result<()> {
        self.store.close().await;
        if self.dir.exists() {
            std::fs::remove_dir_all(&self.dir)?;
        }
        Ok(())
    }

    /// Closes the store and leaves its folder.
    pub(super) async fn close(self) {
        self.store.close().await;
    }

    /// Takes in follows `from..to`, the `n`th at `at(n)`, from `callers` at once, each of whom
    /// waits for its own acknowledgement.
    pub(super) async fn follow(
        &self,
        from: usize,
        to: usize,
        callers: usize,
        at: impl Fn(usize) -> Timestamp + Send + Sync + 'static,
    ) -> Result<()> {
        let (writer, account, at) = (self.store.writer().clone(), self.account, Arc::new(at));
        at_once(from..to, callers, move |n| {
            let (writer, arrival) = (writer.clone(), followed(n, at(n)));
            async move { writer.receive(account, arrival).await.map(drop) }
        })
        .await
    }
}

/// Does `work` for every number of a range, `callers` at once, each taking the next when done.
pub(super) async fn at_once<F, E>(
    range: Range<usize>,
    callers: usize,
    work: impl Fn(usize) -> F,
) -> Result<()>
where
    F: Future<Output = Result<(), E>>,
    E: std::error::Error + Send + Sync + 'static,
{
    let mut calls = futures_util::stream::iter(range)
        .map(work)
        .buffer_unordered(callers);
    while let Some(done) = calls.next().await {
        done?;
    }
    Ok(())
}

/// A follow of the `n`th follower, with an openid of the usual length.
pub(super) fn followed(n: usize, at: Timestamp) -> Arrival {
    // Scattered as real openids are, so that the index is measured as it will be.
    let mixed = u64::try_from(n)
        .unwrap_or(0)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Arrival {
        openid: format!("o{mixed:016x}{n:011}"),
        created_at: at,
        digest: 1,
        event: Event::Followed { scene: None },
        language: Some("zh_CN".into()),
    }
}

/// A platform that takes everything at once and notes when.
#[derive(Debug)]
pub(super) struct Instantly {
    pub(super) account: AccountId,
    pub(super) taken: AtomicUsize,
}

impl Platform for Instantly {
    fn account(&self) -> AccountId {
        self.account
    }

    fn send<'a>(&'a self, _: &'a Parcel) -> Call<'a, Answer> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Answer::without_code(AnswerClass::Accepted, "ok") })
    }

    fn send_to_many<'a>(&'a self, cohort: &'a Cohort) -> Call<'a, Answer> {
        self.taken
            .fetch_add(cohort.openids.len(), Ordering::Relaxed);
        Box::pin(async { Answer::without_code(AnswerClass::Accepted, "ok") })
    }
}
