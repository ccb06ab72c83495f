//! The truth: every message that reached the platform, by whatever carrier, in order.
//!
//! A call is one entry, a mass send one for each follower it was accepted for, and a passive reply
//! one for each attempt of its callback that brought it.
//!
//! Crash tests hold what the product believes against this. A call is here, and in the record file
//! as far as the operating system is concerned, before it is answered. Memory is bounded: the
//! oldest entries go first, bodies sooner than entries; the file keeps everything, and its numbers
//! go on when it is opened again.

use std::collections::VecDeque;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::carrier::Carrier;
use super::lock;
use crate::clock::Timestamp;

/// Bytes of all remembered bodies together.
const BODIES_BYTES_MAX: usize = 64 << 20;

/// The end of a file that is searched for its last line: longer than any line, since bodies are
/// bounded and an escape takes six bytes.
const LAST_LINE_BYTES_MAX: u64 = 256 * 1024;

/// One call, without its body.
#[derive(Clone, Debug, Serialize)]
pub struct Sent {
    /// Counts from 1 without gaps, in the order in which calls were judged.
    pub seq: u64,
    pub at: Timestamp,
    /// App id; empty when the token named none.
    pub account: Arc<str>,
    /// As in the body; empty when it named none.
    pub openid: Arc<str>,
    pub carrier: Carrier,
    /// Of a passive reply: which attempt of its callback it answered, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// What the platform's result will be called by, where the carrier has results.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub msg_id: Option<u64>,
    pub msgtype: Box<str>,
    /// The platform's verdict; what the caller heard of it is up to `fault`.
    pub errcode: i32,
    /// Whether the message is on the follower's phone.
    pub received: bool,
    /// Kind of the fault that disturbed the answer.
    pub fault: Option<&'static str>,
    /// Equal for equal bodies within one run; tells a message sent twice from two messages.
    pub digest: u64,
}

/// One call with what it carried.
#[derive(Clone, Debug, Serialize)]
pub struct SentWithBody {
    #[serde(flatten)]
    pub sent: Sent,
    /// `None` once newer bodies took its place.
    pub body: Option<Arc<str>>,
}

/// Calls and the file they are written to.
#[derive(Debug)]
pub(super) struct Record {
    inner: Mutex<Inner>,
    entries_max: usize,
    bodies_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    last_seq: u64,
    entries: VecDeque<Sent>,
    /// Bodies of the newest entries, oldest first.
    bodies: VecDeque<Arc<str>>,
    bodies_bytes: usize,
    file: Option<File>,
}

/// A call as it is handed in.
#[derive(Debug)]
pub(super) struct Received<'a> {
    pub(super) at: Timestamp,
    pub(super) account: Arc<str>,
    pub(super) openid: Arc<str>,
    pub(super) carrier: Carrier,
    pub(super) attempt: Option<u32>,
    pub(super) msg_id: Option<u64>,
    pub(super) msgtype: &'a str,
    pub(super) errcode: i32,
    pub(super) received: bool,
    pub(super) fault: Option<&'static str>,
    pub(super) body: &'a [u8],
}

impl Record {
    /// Opens the record file for appending.
    pub(super) fn open(
        path: Option<&Path>,
        entries_max: usize,
        bodies_max: usize,
    ) -> io::Result<Self> {
        let mut last_seq = 0;
        let file = match path {
            None => None,
            Some(path) => {
                let mut options = File::options();
                let mut file = options.create(true).append(true).read(true).open(path)?;
                last_seq = seq_at_end(&mut file)?;
                Some(file)
            }
        };
        Ok(Self {
            inner: Mutex::new(Inner {
                file,
                last_seq,
                ..Inner::default()
            }),
            entries_max,
            bodies_max,
        })
    }

    /// The number of the last call.
    pub(super) fn last_seq(&self) -> u64 {
        lock(&self.inner).last_seq
    }

    /// Goes on after number `seq` unless the file is further already.
    pub(super) fn restore(&self, seq: u64) {
        let mut inner = lock(&self.inner);
        inner.last_seq = inner.last_seq.max(seq);
    }

    /// Keeps a call and gives its number. An error means that the file did not take it.
    pub(super) fn keep(&self, call: Received<'_>) -> io::Result<u64> {
        let body: Arc<str> = String::from_utf8_lossy(call.body).into();
        let mut hasher = DefaultHasher::new();
        call.body.hash(&mut hasher);
        let mut sent = Sent {
            seq: 0,
            at: call.at,
            account: call.account,
            openid: call.openid,
            carrier: call.carrier,
            attempt: call.attempt,
            msg_id: call.msg_id,
            msgtype: call.msgtype.into(),
            errcode: call.errcode,
            received: call.received,
            fault: call.fault,
            digest: hasher.finish(),
        };
        let mut inner = lock(&self.inner);
        inner.last_seq += 1;
        sent.seq = inner.last_seq;
        let written = match inner.file.as_mut() {
            None => Ok(()),
            Some(file) => write_line(file, &sent, &body),
        };
        inner.bodies_bytes += body.len();
        inner.bodies.push_back(body);
        inner.entries.push_back(sent);
        while inner.entries.len() > self.entries_max {
            inner.entries.pop_front();
        }
        while inner.bodies.len() > self.bodies_max || inner.bodies_bytes > BODIES_BYTES_MAX {
            let Some(oldest) = inner.bodies.pop_front() else {
                break;
            };
            inner.bodies_bytes -= oldest.len();
        }
        written.map(|()| inner.last_seq)
    }

    /// Up to `max` calls after number `after` that `wanted` takes, in order.
    pub(super) fn after(
        &self,
        after: u64,
        max: usize,
        wanted: impl Fn(&Sent) -> bool,
    ) -> Vec<SentWithBody> {
        let inner = lock(&self.inner);
        let start = inner.entries.partition_point(|sent| sent.seq <= after);
        let found = inner.entries.range(start..).filter(|sent| wanted(sent));
        found.take(max).map(|sent| inner.with_body(sent)).collect()
    }

    /// The newest calls of one account, newest first.
    pub(super) fn newest(&self, account: &str, max: usize) -> Vec<Sent> {
        /// How far back a page looks.
        const LOOK_BACK: usize = 2_000;
        let inner = lock(&self.inner);
        let newest = inner.entries.iter().rev().take(LOOK_BACK);
        newest
            .filter(|sent| &*sent.account == account)
            .take(max)
            .cloned()
            .collect()
    }
}

impl Inner {
    fn with_body(&self, sent: &Sent) -> SentWithBody {
        let first = self.last_seq + 1 - self.bodies.len() as u64;
        let index = sent
            .seq
            .checked_sub(first)
            .and_then(|index| usize::try_from(index).ok());
        let body = index.and_then(|index| self.bodies.get(index)).cloned();
        SentWithBody {
            sent: sent.clone(),
            body,
        }
    }
}

/// One line, one write, so that a kill tears nothing and the system has it when this returns.
fn write_line(file: &mut File, sent: &Sent, body: &str) -> io::Result<()> {
    #[derive(Serialize)]
    struct Line<'a> {
        #[serde(flatten)]
        sent: &'a Sent,
        body: &'a str,
    }
    let mut line = serde_json::to_vec(&Line { sent, body })?;
    line.push(b'\n');
    file.write_all(&line)
}

/// The number in the last line of a record file; 0 for an empty one.
fn seq_at_end(file: &mut File) -> io::Result<u64> {
    #[derive(Deserialize)]
    struct Numbered {
        seq: u64,
    }
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_LINE_BYTES_MAX)))?;
    let mut end = Vec::new();
    file.take(LAST_LINE_BYTES_MAX).read_to_end(&mut end)?;
    let mut lines = end.rsplit(|byte| *byte == b'\n');
    let last = lines.find_map(|line| serde_json::from_slice::<Numbered>(line).ok());
    Ok(last.map_or(0, |last| last.seq))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(record: &Record, openid: &str, body: &str) {
        let call = Received {
            at: Timestamp(1),
            account: "wx".into(),
            openid: openid.into(),
            carrier: Carrier::CustomerMessage,
            attempt: None,
            msg_id: None,
            msgtype: "text",
            errcode: 0,
            received: true,
            fault: None,
            body: body.as_bytes(),
        };
        record.keep(call).unwrap();
    }

    #[test]
    fn the_oldest_go_first_and_bodies_sooner_than_entries() {
        let record = Record::open(None, 3, 2).unwrap();
        for n in 1..=5 {
            keep(&record, "ann", &format!("body {n}"));
        }
        let kept = record.after(0, 10, |_| true);
        let seen: Vec<_> = kept
            .iter()
            .map(|kept| (kept.sent.seq, kept.body.as_deref()))
            .collect();
        assert_eq!(seen, [(3, None), (4, Some("body 4")), (5, Some("body 5"))]);
    }

    #[test]
    fn a_reader_goes_on_where_it_stopped() {
        let record = Record::open(None, 10, 10).unwrap();
        for openid in ["ann", "bob", "ann"] {
            keep(&record, openid, "x");
        }
        let ann = |after| record.after(after, 1, |sent| &*sent.openid == "ann");
        assert_eq!(ann(0)[0].sent.seq, 1);
        assert_eq!(ann(1)[0].sent.seq, 3);
        assert!(ann(3).is_empty());
    }

    #[test]
    fn every_call_is_one_line_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sent.jsonl");
        let record = Record::open(Some(&path), 1, 1).unwrap();
        keep(&record, "ann", "{\n\"a\": 1}");
        keep(&record, "bob", "second");
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["body"], "{\n\"a\": 1}");
        assert_eq!(lines[1]["openid"], "bob");
    }

    #[test]
    fn a_file_that_is_opened_again_goes_on_counting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sent.jsonl");
        let long = "x".repeat(20_000);
        for n in 0..15 {
            let record = Record::open(Some(&path), 1, 1).unwrap();
            assert_eq!(record.last_seq(), n);
            keep(&record, "ann", &long);
        }
        let record = Record::open(Some(&path), 1, 1).unwrap();
        record.restore(3);
        assert_eq!(record.last_seq(), 15);
        record.restore(20);
        keep(&record, "ann", "x");
        assert_eq!(record.after(0, 9, |_| true)[0].sent.seq, 21);
    }
}
