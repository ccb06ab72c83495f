//! The table, in Markdown, with what has to be known to read it.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use crate::peers::Peer;
use crate::trial::{Seen, Settings};

/// One peer in both trials, or why there is nothing to say.
pub type Row = (Peer, Result<(Seen, Seen)>);

const HEAD: &str = "\
| peer | acknowledged is | accepted/s, batch | accepted/s, one by one | late ms p50 | p99 | max \
| memory MB | lost | doubled | killed: lost | killed: doubled | killed: backlog s |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
";

/// Everything that is printed at the end.
pub fn table(settings: &Settings, rows: &[Row]) -> Result<String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut text = format!(
        "{} messages of 110 bytes, due evenly over {} s, handed over in random order; one by one: \
         {} callers; {cores} cores; fdatasync p50 {:.2} ms\n\n{HEAD}",
        settings.messages,
        settings.over.as_secs(),
        settings.callers,
        fdatasync_p50_ms(&settings.tools.dir)?,
    );
    for (peer, seen) in rows {
        let start = format!("| {} | {} ", peer.name(), peer.acknowledged());
        match seen {
            Ok((calm, killed)) => {
                writeln!(text, "{start}{}", cells(calm, killed))?;
            }
            Err(error) => {
                let why = format!("{error:#}").replace(['|', '\n'], " ");
                writeln!(text, "{start}| failed: {why} {}|", "| ".repeat(10))?;
            }
        }
    }
    text.push_str(
        "\nLateness, memory, lost and doubled: handed over in a batch, undisturbed. Lateness is of \
         the first firing. Memory is the highest PSS of server and consumer together; the process \
         that hands over counts only where it is the consumer. Killed: handed over one by one, \
         the consumer killed (SIGKILL) at its first firing after half the time and started again \
         5 s later; backlog is the time from then until what was due had fired.\n\n",
    );
    let mut told = HashSet::new();
    let news = rows.iter().filter(|(peer, _)| told.insert(peer.settings()));
    for (peer, _) in news {
        writeln!(text, "- {}: {}.", peer.name(), peer.settings())?;
    }
    Ok(text)
}

#[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
fn cells(calm: &Seen, killed: &Seen) -> String {
    let late = |share| percentile(&calm.late_ms, share);
    // An early one would be a fault that hides in the percentiles.
    let early = |seen: &Seen| seen.late_ms.first().is_some_and(|first| *first < 0);
    let early = if early(calm) || early(killed) {
        " (some early)"
    } else {
        ""
    };
    let backlog = killed
        .backlog_ms
        .map_or_else(|| "-".to_owned(), |ms| format!("{:.1}", ms as f64 / 1000.0));
    format!(
        "| {:.0} | {:.0} | {} | {} | {}{early} | {:.0} | {} | {} | {} | {} | {backlog} |",
        calm.accepted_per_second,
        killed.accepted_per_second,
        late(0.5),
        late(0.99),
        late(1.0),
        calm.memory_bytes as f64 / 1e6,
        calm.lost,
        calm.again,
        killed.lost,
        killed.again,
    )
}

/// The value below which a share of the ascending values lies.
fn percentile(ascending: &[i64], share: f64) -> i64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index between 0 and the number of values"
    )]
    let index = (share * ascending.len() as f64) as usize;
    let last = ascending.len().saturating_sub(1);
    ascending.get(index.min(last)).copied().unwrap_or_default()
}

fn fdatasync_p50_ms(dir: &Path) -> Result<f64> {
    let path = dir.join("fdatasync");
    let mut file = std::fs::File::create(&path)?;
    let mut took = Vec::new();
    for _ in 0..200 {
        let from = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        took.push(from.elapsed());
    }
    std::fs::remove_file(path)?;
    took.sort_unstable();
    Ok(took[took.len() / 2].as_secs_f64() * 1000.0)
}
