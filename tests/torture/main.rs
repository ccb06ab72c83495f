//! The crash test: the real program is killed again and again in the middle of its work, and a
//! platform that is never killed says what really arrived.
//!
//! `DRIPWHEEL_ROUNDS` says how often (200 unless told otherwise), `DRIPWHEEL_SEED` repeats a run's
//! choices. A SIGKILL loses nothing that the system was given; what a power cut would lose is tested
//! apart, by whoever may mount filesystems (`power`).

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]
#![expect(clippy::print_stdout, reason = "the summary is the point")]

mod broadcast;
#[path = "../it/support/cluster.rs"]
mod cluster;
mod crowd;
#[path = "../it/support/database.rs"]
#[expect(dead_code, reason = "rows are changed elsewhere")]
mod database;
mod dice;
mod nodes;
mod power;
mod relay;
mod server;
mod trio;
mod verdict;

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dripwheel::clock::SystemClock;
use dripwheel::sandbox::{
    AccountRules, CallQuota, Fault, FaultKind, Format, Mode, Profile, Running, Sandbox,
    SandboxAccount, SandboxSettings,
};

use crowd::Crowd;
use dice::Dice;
use server::{AES_KEY, APP_ID, APP_SECRET, IN_FLIGHT, Server, TOKEN, free_address};
use verdict::{Verdict, compare, unfinished};

const SEND: &str = "/cgi-bin/message/custom/send";

/// People who come in each round.
const PEOPLE: usize = 40;

/// How long a server may take to end after a SIGTERM.
const TERM_PATIENCE: Duration = Duration::from_secs(15);

/// A platform and a server that is not started yet, in a folder of their own.
struct Scene {
    platform: Running,
    server: Server,
    dice: Dice,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn set() -> Self {
        Self::with(Server::prepare).await
    }

    /// With a server that is made like this, in this folder, on this address, for this platform.
    async fn with(prepare: impl FnOnce(&Path, SocketAddr, SocketAddr) -> Server) -> Self {
        let dice = Dice(seed());
        let folder = tempfile::tempdir().unwrap();
        let addr = free_address();
        let platform = platform(addr, folder.path()).await;
        let server = prepare(folder.path(), addr, platform.addr);
        Self {
            platform,
            server,
            dice,
            folder,
        }
    }

    fn record(&self) -> PathBuf {
        record(self.folder.path())
    }

    /// Waits until nothing is left to do.
    async fn drained(&self) {
        let database = self.server.database();
        let mut waiting = 0;
        for _ in 0..600 {
            waiting = unfinished(database).await;
            if waiting == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("{waiting} rows still wait\n{}", self.server.log_end());
    }
}

/// What a run's choices follow from.
fn seed() -> u64 {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).unwrap();
    let seed = env::var("DRIPWHEEL_SEED").map_or(u64::from_le_bytes(seed), |seed| {
        seed.parse().expect("DRIPWHEEL_SEED is a number")
    });
    println!("DRIPWHEEL_SEED={seed}");
    seed
}

fn record(folder: &Path) -> PathBuf {
    folder.join("sent.jsonl")
}

async fn platform(server: SocketAddr, folder: &Path) -> Running {
    play(vec![account(APP_ID, server, "main")], folder, 60).await
}

/// An account whose callbacks go to `key`'s door of a server.
fn account(app_id: &str, server: SocketAddr, key: &str) -> SandboxAccount {
    let without_end = CallQuota {
        per_day: Some(u64::MAX),
        per_minute: None,
    };
    SandboxAccount {
        app_id: app_id.to_owned(),
        app_secret: APP_SECRET.into(),
        token: TOKEN.into(),
        encoding_aes_key: AES_KEY.into(),
        mode: Mode::Safe,
        format: Format::Xml,
        original_id: format!("gh_{app_id}"),
        callback_url: format!("http://{server}/callback/{key}"),
        profile: Profile::Wechat48h,
        name: "torture".to_owned(),
        menu: Vec::new(),
        rules: AccountRules {
            quotas: [(SEND.to_owned(), without_end)].into(),
            ..AccountRules::default()
        },
    }
}

/// The platform: it pushes an event three times as the real one does, though sooner, and answers
/// half of the calls so late, in milliseconds, so that a kill finds sends whose answer is on its way.
async fn play(accounts: Vec<SandboxAccount>, folder: &Path, late_ms: u64) -> Running {
    let mut settings = SandboxSettings::new(accounts);
    settings.record_file = Some(record(folder));
    settings.limits.callback_spacing_ms = 500;
    let platform = Sandbox::start(settings, Arc::new(SystemClock))
        .await
        .unwrap();
    let late = Fault {
        times: None,
        probability: Some(0.5),
        ..Fault::new(SEND, FaultKind::Delay { ms: late_ms }, 1)
    };
    platform.control().add_faults(vec![late]).unwrap();
    platform
}

fn print(rounds: u64, scene: &Scene, verdict: &Verdict) {
    let (starts, kills) = (scene.server.starts, scene.server.kills);
    println!("rounds                    {rounds:>8}");
    println!("starts, kills             {starts:>8} {kills:>8}");
    println!("followers                 {:>8}", verdict.people);
    println!("events acknowledged       {:>8}", verdict.acked);
    println!("messages received         {:>8}", verdict.received);
    println!("lost                      {:>8}", verdict.lost);
    println!("lost, ended as unknown    {:>8}", verdict.lost_as_unknown);
    println!("doubles, explained        {:>8}", verdict.doubles);
    println!("silent doubles            {:>8}", verdict.silent_doubles);
    println!("unknown sends             {:>8}", verdict.unknown);
    println!("bound                     {:>8}", verdict.bound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_nothing_and_doubles_nothing_in_silence() {
    let rounds = env::var("DRIPWHEEL_ROUNDS").map_or(200, |rounds| {
        rounds.parse().expect("DRIPWHEEL_ROUNDS is a number")
    });
    let mut scene = Scene::set().await;
    let control = scene.platform.control();
    let mut crowd = Crowd::default();
    scene.server.start();
    scene.server.ready().await;
    for round in 1..=rounds {
        crowd.join(&control, &mut scene.dice, APP_ID, (PEOPLE, 600));
        tokio::time::sleep(scene.dice.millis(30, 700)).await;
        scene.server.kill().await;
        scene.server.start();
        if scene.dice.one_in(6) {
            // In the middle of its start, while it settles what the last kill left.
            tokio::time::sleep(scene.dice.millis(0, 150)).await;
            scene.server.kill().await;
            scene.server.start();
        }
        scene.server.ready().await;
        let unknown = scene.server.audit().await;
        if round % 10 == 0 || round == rounds {
            println!("round {round} of {rounds}: audit clean, {unknown} unknown so far");
        }
    }
    let people = crowd.everybody().await;
    scene.drained().await;
    scene.server.audit().await;
    let ended = scene.server.terminate(TERM_PATIENCE).await;
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");

    let bound = scene.server.kills * IN_FLIGHT;
    let database = scene.server.database();
    let verdict = compare(&people, &scene.record(), database, bound).await;
    print(rounds, &scene, &verdict);
    verdict.assert_clean();
    assert_eq!(scene.server.complaints(), [""; 0]);
    scene.platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sigterm_under_load_leaves_no_send_unknown() {
    let rounds = 3;
    let mut scene = Scene::set().await;
    let control = scene.platform.control();
    let mut crowd = Crowd::default();
    for _ in 0..rounds {
        scene.server.start();
        scene.server.ready().await;
        crowd.join(&control, &mut scene.dice, APP_ID, (4 * PEOPLE, 600));
        tokio::time::sleep(scene.dice.millis(200, 1200)).await;
        let ended = scene.server.terminate(TERM_PATIENCE).await;
        let log = scene.server.log_end();
        let code = ended.map(|status| status.code());
        assert_eq!(
            code,
            Some(Some(0)),
            "{ended:?} within {TERM_PATIENCE:?}\n{log}"
        );
    }
    scene.server.start();
    scene.server.ready().await;
    let people = crowd.everybody().await;
    scene.drained().await;
    assert_eq!(scene.server.audit().await, 0);

    let database = scene.server.database();
    let verdict = compare(&people, &scene.record(), database, 0).await;
    print(rounds, &scene, &verdict);
    verdict.assert_clean();
    assert_eq!(scene.server.complaints(), [""; 0]);
    scene.server.kill().await;
    scene.platform.stop().await;
}
