//! One peer under the workload: undisturbed, or with its consumer killed midway.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::memory::pss_bytes;
use crate::peers::{How, Peer, Place};
use crate::server::{Server, Tools};
use crate::workload::{Fired, Firing, Message, messages, now_ms, save};

/// How much, how long, and with what.
#[derive(Clone, Debug)]
pub struct Settings {
    pub messages: usize,
    pub over: Duration,
    /// Time for handing over before the first is due.
    pub ahead: Duration,
    pub callers: usize,
    pub tools: Tools,
    pub dripwheel: PathBuf,
}

/// What was seen.
#[derive(Debug)]
pub struct Seen {
    pub accepted_per_second: f64,
    /// Of the first firing of each message, ascending.
    pub late_ms: Vec<i64>,
    pub lost: usize,
    pub again: usize,
    /// Highest of the samples: server and consumer, with what the latter is fed from.
    pub memory_bytes: u64,
    /// After a kill: from the consumer's return until what was due by then had fired; `None` where
    /// nothing of it did.
    pub backlog_ms: Option<i64>,
}

/// Callers of dripwheel's batch: its client has none, so a crowd shares commits.
const CROWD: usize = 2000;

/// How long the consumer is away.
const AWAY: Duration = Duration::from_secs(5);

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Longer than any peer's poll.
const MOMENT: Duration = Duration::from_millis(1500);

/// Silence after which what has not fired is lost: longer than Redis and reservations take.
const SILENCE_MS: i64 = 15_000;

/// Hands over in a batch and waits until everything has fired.
pub async fn undisturbed(peer: Peer, settings: &Settings) -> Result<Seen> {
    Trial::begin(peer, settings, How::Batch).await?.end().await
}

/// Hands over one by one, kills the consumer midway while it fires, and starts it again.
pub async fn killed(peer: Peer, settings: &Settings) -> Result<Seen> {
    let how = How::OneByOne(settings.callers);
    let mut trial = Trial::begin(peer, settings, how).await?;
    let midway = trial.first_due_ms + millis(settings.over) / 2;
    trial.watch(|trial| trial.now_ms >= midway).await?;
    trial.until_one_fires();
    trial.consumer.kill().await.context("kill the consumer")?;
    let back_ms = now_ms() + millis(AWAY);
    trial.watch(|trial| trial.now_ms >= back_ms).await?;
    (trial.consumer, _) =
        consumer(peer, settings, trial.server.as_ref(), &trial.folder, None).await?;
    trial.back_ms = Some(now_ms());
    trial.end().await
}

struct Trial<'a> {
    settings: &'a Settings,
    folder: PathBuf,
    server: Option<Server>,
    consumer: Child,
    messages: Vec<Message>,
    first_due_ms: i64,
    took: Duration,
    fired: Fired,
    now_ms: i64,
    back_ms: Option<i64>,
    memory_bytes: u64,
}

impl<'a> Trial<'a> {
    async fn begin(peer: Peer, settings: &'a Settings, how: How) -> Result<Self> {
        let folder = settings.tools.dir.join(format!("{}-{how:?}", peer.name()));
        std::fs::create_dir(&folder)?;
        let server = match peer.place() {
            Place::Server(kind) | Place::Consumer(Some(kind)) => {
                Some(Server::start(kind, peer, &settings.tools, &folder).await?)
            }
            Place::Consumer(None) => None,
        };
        let first_due_ms = now_ms() + millis(settings.ahead);
        let messages = messages(settings.messages, first_due_ms, settings.over);
        save(&messages, &folder.join("messages"))?;
        let inside = matches!(peer.place(), Place::Consumer(_)).then_some(how);
        let (consumer, said) = consumer(peer, settings, server.as_ref(), &folder, inside).await?;
        let took = match &server {
            Some(server) if inside.is_none() => peer.hand_over(&server.url, &messages, how).await?,
            _ => taken_in(&said)?,
        };
        ensure!(
            now_ms() < first_due_ms,
            "handing over took {took:?}: give more time with --ahead"
        );
        Ok(Self {
            settings,
            folder,
            server,
            consumer,
            messages,
            first_due_ms,
            took,
            fired: Fired::default(),
            now_ms: now_ms(),
            back_ms: None,
            memory_bytes: 0,
        })
    }

    /// Looks again and again until `enough`.
    async fn watch(&mut self, enough: impl Fn(&Self) -> bool) -> Result<()> {
        loop {
            self.now_ms = now_ms();
            self.fired.read_on(&self.folder.join("fired"))?;
            let mut bytes = 0;
            let server = self.server.as_ref().map(Server::pid);
            for pid in self.consumer.id().into_iter().chain(server) {
                bytes += pss_bytes(pid)?;
            }
            self.memory_bytes = self.memory_bytes.max(bytes);
            if enough(self) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits for the next firing, for a moment at most. Who polls is idle nearly always: a kill at
    /// any other time would show nothing of what one amid the work does.
    fn until_one_fires(&self) {
        let path = self.folder.join("fired");
        let length = || path.metadata().map_or(0, |file| file.len());
        let (from, before) = (Instant::now(), length());
        while length() == before && from.elapsed() < MOMENT {
            std::thread::yield_now();
        }
    }

    /// Waits until everything has fired or nothing more does, and counts.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    async fn end(mut self) -> Result<Seen> {
        let last_due_ms = self.first_due_ms + millis(self.settings.over);
        self.watch(|trial| {
            let moved_ms = trial.fired.last_ms.max(last_due_ms);
            trial.fired.first.len() == trial.messages.len() || trial.now_ms - moved_ms > SILENCE_MS
        })
        .await?;
        // What fires a second time comes late.
        let until_ms = now_ms() + self.back_ms.map_or(500, |_| 3000);
        self.watch(|trial| trial.now_ms >= until_ms).await?;
        let ended = self.consumer.try_wait()?;
        ensure!(ended.is_none(), "the consumer ended by itself: {ended:?}");
        self.consumer.kill().await.ok();
        self.messages.sort_by_key(|message| message.id);
        let due = |firing: &Firing| self.messages[usize::try_from(firing.id).unwrap_or(0)].due_ms;
        let first = &self.fired.first;
        let mut late_ms: Vec<_> = first.iter().map(|m| m.at_ms - due(m)).collect();
        late_ms.sort_unstable();
        let backlog_ms = self.back_ms.and_then(|back_ms| {
            let waited = first
                .iter()
                .filter(|m| due(m) < back_ms && m.at_ms >= back_ms);
            waited.map(|m| m.at_ms - back_ms).max()
        });
        std::fs::remove_dir_all(&self.folder).ok();
        Ok(Seen {
            accepted_per_second: self.messages.len() as f64 / self.took.as_secs_f64(),
            lost: self.messages.len() - first.len(),
            again: self.fired.again,
            memory_bytes: self.memory_bytes,
            late_ms,
            backlog_ms,
        })
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Starts a consumer and reads its first line, if it has one to say: after a restart a consumer
/// that keeps its messages itself has not.
async fn consumer(
    peer: Peer,
    settings: &Settings,
    server: Option<&Server>,
    folder: &Path,
    hand_over: Option<How>,
) -> Result<(Child, String)> {
    let mut command = if peer.is_dripwheel() {
        let mut command = Command::new(&settings.dripwheel);
        command.arg("bench").arg("--alternatives").arg(folder);
        command
    } else {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["consume", &peer.name()]).arg(folder);
        command
    };
    if let Some(server) = server {
        command.args(["--url", &server.url]);
    }
    if let Some(how) = hand_over {
        let callers = match how {
            How::OneByOne(callers) => callers,
            How::Batch if peer.is_dripwheel() => CROWD,
            How::Batch => 1,
        };
        command.args(["--callers", &callers.to_string()]);
    }
    // It ends when this program does, however that comes: its standard input ends then.
    let mut child = command
        .env("RUST_LOG", "warn")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {}", peer.name()))?;
    let says = hand_over.is_some() || matches!(peer.place(), Place::Server(_));
    let mut said = String::new();
    if says {
        let out = child.stdout.take().context("its output is piped")?;
        BufReader::new(out).read_line(&mut said).await?;
        ensure!(!said.is_empty(), "{} ended at its start", peer.name());
    }
    Ok((child, said))
}

/// `{"messages":20000,"seconds":1.5}`
fn taken_in(said: &str) -> Result<Duration> {
    let said: serde_json::Value = serde_json::from_str(said)?;
    let seconds = said["seconds"].as_f64().context("it says its seconds")?;
    Ok(Duration::try_from_secs_f64(seconds)?)
}
