//! The workload, the same for every peer: messages with due instants evenly spread, in random
//! order, and what was written down of their firings.
//!
//! Instants are milliseconds UTC of the one machine that everything runs on.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

/// One message: its number, from 0 on, and when it is due.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    pub id: i64,
    pub due_ms: i64,
}

/// What every message carries.
pub fn payload() -> String {
    "x".repeat(110)
}

/// The clock that due instants and firings are read from.
#[expect(
    clippy::disallowed_methods,
    reason = "the product's Clock is not part of this package"
)]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, millis_of)
}

fn millis_of(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// `count` messages due from `first_due_ms` on over `over`, in the order in which they are handed
/// over; the same order every time.
pub fn messages(count: usize, first_due_ms: i64, over: Duration) -> Vec<Message> {
    let (count_of, over_ms) = (i64::try_from(count).unwrap_or(i64::MAX), millis_of(over));
    let mut messages: Vec<_> = (0..count_of)
        .map(|id| Message {
            id,
            due_ms: first_due_ms + over_ms * id / count_of.max(1),
        })
        .collect();
    fastrand::Rng::with_seed(7).shuffle(&mut messages);
    messages
}

/// Writes one line for each message, `id due`, for peers that take them in by themselves.
pub fn save(messages: &[Message], path: &Path) -> Result<()> {
    let lines = messages.iter().map(|m| format!("{} {}\n", m.id, m.due_ms));
    std::fs::write(path, lines.collect::<String>())
        .with_context(|| format!("write {}", path.display()))
}

/// Reads what `save` wrote.
pub fn load(path: &Path) -> Result<Vec<Message>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    text.lines()
        .map(|line| {
            let (id, due_ms) = pair(line)?;
            Ok(Message { id, due_ms })
        })
        .collect()
}

fn pair(line: &str) -> Result<(i64, i64)> {
    let (id, ms) = line.split_once(' ').context("a line is: number instant")?;
    Ok((id.parse()?, ms.parse()?))
}

/// All that a consumer does with a message: it appends number and instant to a file.
#[derive(Debug)]
pub struct Recorder(Mutex<File>);

impl Recorder {
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        Ok(Self(Mutex::new(file)))
    }

    /// In one write, so that a kill leaves whole lines.
    pub fn fired(&self, id: i64) -> Result<()> {
        let line = format!("{id} {}\n", now_ms());
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(file.write_all(line.as_bytes())?)
    }
}

/// A message that fired.
#[derive(Clone, Copy, Debug)]
pub struct Firing {
    pub id: i64,
    pub at_ms: i64,
}

/// What has been written down so far, read again and again while it grows.
#[derive(Debug, Default)]
pub struct Fired {
    file: Option<File>,
    /// The begin of a line whose end was not there yet.
    rest: String,
    ids: HashSet<i64>,
    /// The first firing of each message, in their order.
    pub first: Vec<Firing>,
    pub again: usize,
    pub last_ms: i64,
}

impl Fired {
    pub fn read_on(&mut self, path: &Path) -> Result<()> {
        if self.file.is_none() && path.exists() {
            self.file = Some(File::open(path)?);
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.read_to_string(&mut self.rest)?;
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let rest = self.rest.split_off(whole);
        for line in self.rest.lines() {
            let (id, at_ms) = pair(line)?;
            self.last_ms = at_ms;
            if self.ids.insert(id) {
                self.first.push(Firing { id, at_ms });
            } else {
                self.again += 1;
            }
        }
        self.rest = rest;
        Ok(())
    }
}
