//! Measurements over HTTP: server, sandbox and load in one process, on one machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::app::App;
use crate::cli::bench::engine::until;
use crate::cli::bench::place::Place;
use crate::cli::bench::report::Figure;
use crate::cli::bench::rig::{FIVE_STEPS, at_once};
use crate::cli::sandbox;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::sandbox::{Burst, BurstAction, BurstReport, CallQuota, Running, Sandbox};
use crate::store::work::Act;
use crate::yaml::render_all;

const APP_ID: &str = "wx0123456789abcdef";

/// Entered by hand, so that many followers are due at one time.
const BY_HAND: &str = "
sequence: hand
trigger: api
min_gap: 0s
steps:
  - { id: only, after: 10s, say: { text: hello } }
";

/// Server and sandbox, talking to each other.
struct Pair {
    app: App,
    sandbox: Running,
    dir: PathBuf,
}

impl Pair {
    async fn start(place: &Place, name: &str, sequence: &str) -> Result<Self> {
        let (url, dir) = place.fresh(name).await?;
        std::fs::create_dir_all(dir.join("sequences"))?;
        std::fs::write(dir.join("sequences/bench.yaml"), sequence)?;
        std::fs::write(dir.join("sequences/hand.yaml"), BY_HAND)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        // Each must know the other's address before it starts.
        let (server, api) = (free_addr()?, free_addr()?);
        let config = config(&url, &dir, server, api)?;
        let mut settings = sandbox::settings(&config, None)?;
        settings.listen = api;
        for account in &mut settings.accounts {
            let without_end = CallQuota {
                per_day: Some(u64::MAX),
                per_minute: None,
            };
            account
                .rules
                .quotas
                .insert("/cgi-bin/message/custom/send".to_owned(), without_end);
        }
        let sandbox = Sandbox::start(settings, Arc::clone(&clock)).await?;
        let app = App::start(&config, clock, None).await?;
        Ok(Self { app, sandbox, dir })
    }

    /// Lets `count` people follow through encrypted callbacks.
    async fn follow(&self, count: usize) -> Result<BurstReport> {
        let burst = Burst {
            account: APP_ID.to_owned(),
            action: BurstAction::Follow,
            count,
            concurrency: 64,
            silent: false,
        };
        let report = self.sandbox.control().burst(&burst).await?;
        ensure!(
            report.accepted == count,
            "callbacks were refused: {report:?}"
        );
        Ok(report)
    }

    /// Messages that the sandbox has taken so far.
    fn taken(&self) -> u64 {
        let state = self.sandbox.control().state();
        state
            .accounts
            .iter()
            .map(|account| account.verdicts.get(&0).copied().unwrap_or(0))
            .sum()
    }

    async fn stop(self) -> Result<()> {
        self.app.stop().await;
        self.sandbox.stop().await;
        Ok(std::fs::remove_dir_all(&self.dir)?)
    }
}

fn free_addr() -> Result<SocketAddr> {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(probe.local_addr()?)
}

fn config(url: &str, dir: &Path, server: SocketAddr, api: SocketAddr) -> Result<Config> {
    let quoted = |text: String| serde_json::to_string(&text);
    let text = format!(
        "server: {{ listen: \"{server}\" }}
database: {{ url: {url} }}
sequences: {{ dir: {sequences} }}
sender: {{ in_flight: 256, per_account_in_flight: 256 }}
accounts:
  - key: bench
    app_id: {APP_ID}
    app_secret: 0123456789abcdef0123456789abcdef
    token: benchtoken
    encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG
    api_base: http://{api}
    rate: {{ per_second: 100000, per_minute: 6000000, per_day: 1000000000 }}
",
        url = quoted(url.to_owned())?,
        sequences = quoted(dir.join("sequences").display().to_string())?,
    );
    Config::from_text(&text, "bench configuration", &|_| None)
        .map_err(|problems| anyhow!(render_all(&problems, false)))
}

/// Encrypted follows per second through the callback door, each durable before its answer.
pub(super) async fn callbacks(place: &Place, count: usize) -> Result<Figure> {
    let pair = Pair::start(
        place,
        "callbacks",
        &FIVE_STEPS.replace("after: 0s", "after: 5m"),
    )
    .await?;
    let from = Instant::now();
    pair.follow(count).await?;
    let took = from.elapsed();
    pair.stop().await?;
    Ok(Figure::rate(
        "callbacks/s over HTTP, AES",
        count,
        took,
        format!(
            "{count} follows encrypted and posted by the sandbox over 64 connections, {}",
            place.words()
        ),
    ))
}

/// Sends per second through the real client to the sandbox.
pub(super) async fn sends(place: &Place, count: usize) -> Result<Figure> {
    let pair = Pair::start(
        place,
        "sends",
        &FIVE_STEPS.replace("after: 0s", "after: 5m"),
    )
    .await?;
    pair.follow(count).await?;
    let (store, control) = (pair.app.store(), pair.sandbox.control());
    let account = store.knowledge().account_named("bench");
    let account = account.context("account was configured")?.journey.id;
    let openids = control.openids(APP_ID, count)?;
    let from = Instant::now();
    at_once(0..count, 2000, |n| {
        let (writer, openid) = (store.writer().clone(), openids[n].to_string());
        let act = Act::Enroll {
            sequence: "hand".into(),
        };
        async move { writer.act(account, openid, act).await.map(drop) }
    })
    .await?;
    let wanted = u64::try_from(count)?;
    until(|| pair.taken() >= wanted).await;
    let took = from.elapsed().saturating_sub(Duration::from_secs(10));
    pair.stop().await?;
    Ok(Figure::rate(
        "sends/s end to end over HTTP",
        count,
        took,
        format!(
            "{count} messages due within a few seconds, real client to the sandbox, {}",
            place.words()
        ),
    ))
}
