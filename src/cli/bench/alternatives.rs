//! dripwheel's part in `benches/alternatives`: takes single messages in, and writes down when each
//! comes to the platform's door.
//!
//! A process of its own that may be killed at any time and started again on the same database. It
//! measures how fast messages are taken in and nothing else: lateness, losses and doubles are the
//! same question for every contestant, and are read from what was written down.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use crate::cli::bench::engine::Engine;
use crate::cli::bench::rig::{Rig, at_once, followed, one_step};
use crate::cli::print;
use crate::clock::{Clock, Timestamp};
use crate::journey::ids::AccountId;
use crate::sender::platform::{Answer, AnswerClass, Call, Parcel, Platform};

/// For `benches/alternatives` alone, and hidden therefore.
#[derive(Args, Debug)]
pub(super) struct AlternativesArgs {
    /// Folder with the file `messages`; each send is appended to the file `fired` there. Runs until
    /// its standard input ends.
    #[arg(long, hide = true)]
    pub(super) alternatives: Option<PathBuf>,
    /// Database; a SQLite file in the folder when left out.
    #[arg(long, hide = true, requires = "alternatives")]
    url: Option<String>,
    /// Takes `messages` in from so many callers at once. Left out when started again: what the
    /// database holds is all there is.
    #[arg(long, hide = true, requires = "alternatives")]
    callers: Option<usize>,
}

/// What the process says when everything is taken in.
#[derive(Debug, Serialize)]
struct TakenIn {
    messages: usize,
    seconds: f64,
}

/// A message is a step so long after its follow.
const AFTER: Duration = Duration::from_secs(3600);

/// A platform that appends follower and instant to a file: `17 1700000000000` is number 17.
#[derive(Debug)]
struct Recorder {
    account: AccountId,
    clock: Arc<dyn Clock>,
    fired: Mutex<File>,
}

impl Platform for Recorder {
    fn account(&self) -> AccountId {
        self.account
    }

    fn send<'a>(&'a self, parcel: &'a Parcel) -> Call<'a, Answer> {
        let now = self.clock.now();
        // The number is the end of what `followed` makes.
        let n = parcel.openid.get(17..).and_then(|n| n.parse::<u64>().ok());
        let line = format!("{} {}\n", n.unwrap_or(u64::MAX), now.0);
        let mut fired = self.fired.lock().unwrap_or_else(PoisonError::into_inner);
        // One write, so that a kill leaves whole lines.
        let class = match fired.write_all(line.as_bytes()) {
            Ok(()) => AnswerClass::Accepted,
            Err(_) => AnswerClass::Dropped,
        };
        Box::pin(async move { Answer::without_code(class, "written down") })
    }
}

/// Takes the messages in, says how long that took, and sends until standard input ends.
pub(super) async fn run(folder: &Path, args: &AlternativesArgs) -> Result<()> {
    let file = format!("sqlite://{}", folder.join("bench.db").display());
    let url = args.url.clone().unwrap_or(file);
    let rig = Rig::at(url, folder.to_owned(), &one_step("1h")).await?;
    let fired = folder.join("fired");
    let fired = File::options().create(true).append(true).open(fired)?;
    let recorder = Arc::new(Recorder {
        account: rig.account,
        clock: Arc::clone(&rig.clock),
        fired: Mutex::new(fired),
    });
    let (writer, account) = (rig.store.writer().clone(), rig.account);
    let engine = Engine::start(rig, recorder);
    if let Some(callers) = args.callers {
        let messages = messages(&folder.join("messages"))?;
        let from = Instant::now();
        at_once(0..messages.len(), callers, |at| {
            let (n, due) = messages[at];
            let (writer, arrival) = (writer.clone(), followed(n, due.minus(AFTER)));
            async move { writer.receive(account, arrival).await.map(drop) }
        })
        .await?;
        let taken_in = TakenIn {
            messages: messages.len(),
            seconds: from.elapsed().as_secs_f64(),
        };
        print(&serde_json::to_string(&taken_in)?)?;
    }
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await??;
    engine.stop().await?.close().await;
    Ok(())
}

/// The lines of a file, `number due`, in the order in which they are taken in; due in milliseconds
/// UTC.
fn messages(path: &Path) -> Result<Vec<(usize, Timestamp)>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    text.lines()
        .map(|line| {
            let (n, due) = line.split_once(' ').context("a line is: number due")?;
            Ok((n.parse()?, Timestamp(due.parse()?)))
        })
        .collect()
}
