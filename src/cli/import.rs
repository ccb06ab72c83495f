//! `dripwheel import`: takes followers or consents from a CSV file into a running server, part by part,
//! and reports every row that was refused.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::cli::print;
use crate::sender::wechat::http_client;

/// Rows and bytes of one request, at most: what the server takes, and a bit less.
const ROWS: usize = 500;
const BYTES: usize = 48 * 1024;

/// Longest one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Refused rows that are printed; all of them are counted.
const SHOWN_MAX: usize = 100;

#[derive(clap::Args, Debug)]
pub(super) struct ImportArgs {
    #[arg(value_enum)]
    what: What,
    /// The CSV file, with a line of column names; `-` for standard input.
    file: PathBuf,
    /// Key of the account.
    #[arg(long)]
    account: String,
    /// Where the server is.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    server: Url,
    /// A key of the API with the scope `write`.
    #[arg(long, env = "DRIPWHEEL_API_KEY", hide_env_values = true)]
    api_key: SecretString,
    /// One JSON object at the end instead of lines.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Columns: openid, followed_at, language, scene, tags.
    Followers,
    /// Columns: openid, template, left.
    Consents,
}

impl What {
    fn word(self) -> &'static str {
        match self {
            Self::Followers => "followers",
            Self::Consents => "consents",
        }
    }
}

/// A row that was not taken in.
#[derive(Debug, Deserialize, Serialize)]
struct Refused {
    /// In a request from 1; in the end of the file.
    #[serde(skip_serializing)]
    row: usize,
    line: u64,
    reason: String,
}

#[derive(Debug, Default, Deserialize, Serialize)]
struct Report {
    rows: u64,
    taken: u64,
    new: u64,
    refused: Vec<Refused>,
}

/// Exit code 1 when a row was refused.
pub(super) async fn run(args: &ImportArgs) -> Result<ExitCode> {
    let input: Box<dyn Read> = match args.file.to_str() {
        Some("-") => Box::new(std::io::stdin().lock()),
        _ => Box::new(
            File::open(&args.file).with_context(|| format!("open {}", args.file.display()))?,
        ),
    };
    let server = Server {
        client: http_client(TIMEOUT).context("make an HTTP client")?,
        url: address(&args.server, &args.account, args.what)?,
        api_key: args.api_key.clone(),
    };
    let shown = progress(args.json);
    // The other half of a line's end is trimmed: so lines are counted right.
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .terminator(csv::Terminator::Any(b'\n'))
        .trim(csv::Trim::All)
        .from_reader(input);
    let head = reader
        .byte_headers()
        .context("read the first line")?
        .clone();
    let mut report = Report::default();
    let (mut part, mut record) = (Part::new(&head)?, csv::ByteRecord::new());
    loop {
        let more = reader.read_byte_record(&mut record).context("read a row")?;
        let full = part.lines.len() >= ROWS || part.bytes() + record.as_slice().len() > BYTES;
        if (full || !more) && !part.lines.is_empty() {
            let sent = std::mem::replace(&mut part, Part::new(&head)?);
            server.send(sent, &mut report).await.with_context(|| {
                format!(
                    "{} rows were taken in; the same file can be imported again",
                    report.taken
                )
            })?;
            shown.set_position(report.rows);
            shown.set_message(format!("{} refused", report.refused.len()));
        }
        if !more {
            break;
        }
        part.add(&record)?;
    }
    shown.finish_and_clear();
    if args.json {
        print(&serde_json::to_string_pretty(&report)?)?;
    } else {
        print(&summary(args, &report))?;
    }
    Ok(match report.refused.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn summary(args: &ImportArgs, report: &Report) -> String {
    let mut text = String::new();
    for one in report.refused.iter().take(SHOWN_MAX) {
        text.push_str(&format!("line {}: {}\n", one.line, one.reason));
    }
    if let Some(more) = report
        .refused
        .len()
        .checked_sub(SHOWN_MAX)
        .filter(|more| *more > 0)
    {
        text.push_str(&format!("and {more} more: `--json` has all of them\n"));
    }
    let (account, what) = (&args.account, args.what.word());
    let Report {
        rows,
        taken,
        new,
        refused,
    } = report;
    let refused = refused.len();
    text.push_str(&format!(
        "{account}: {rows} rows of {what}, {taken} taken in ({new} new), {refused} refused"
    ));
    text
}

/// Rows on a terminal, nothing elsewhere.
fn progress(json: bool) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let terminal = std::io::stderr().is_terminal() && !json;
    bar.set_draw_target(match terminal {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    });
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} rows, {msg} ({per_sec})") {
        bar.set_style(style);
    }
    bar
}

fn address(server: &Url, account: &str, what: What) -> Result<Url> {
    let mut url = server.clone();
    url.set_query(None);
    let mut path = url
        .path_segments_mut()
        .ok()
        .context("--server is an address such as http://127.0.0.1:8080")?;
    path.pop_if_empty()
        .extend(["api", "v1", "accounts", account, "import", what.word()]);
    drop(path);
    Ok(url)
}

/// Rows of one request.
struct Part {
    writer: csv::Writer<Vec<u8>>,
    /// Of the file, by row.
    lines: Vec<u64>,
}

impl Part {
    fn new(head: &csv::ByteRecord) -> Result<Self> {
        let mut writer = csv::WriterBuilder::new()
            .flexible(true)
            .from_writer(Vec::new());
        writer.write_byte_record(head)?;
        Ok(Self {
            writer,
            lines: Vec::new(),
        })
    }

    fn add(&mut self, record: &csv::ByteRecord) -> Result<()> {
        self.lines
            .push(record.position().map_or(0, csv::Position::line));
        self.writer.write_byte_record(record)?;
        // So that its size is known.
        Ok(self.writer.flush()?)
    }

    fn bytes(&self) -> usize {
        self.writer.get_ref().len()
    }
}

struct Server {
    client: Client,
    url: Url,
    api_key: SecretString,
}

impl Server {
    async fn send(&self, part: Part, report: &mut Report) -> Result<()> {
        let lines = part.lines;
        let body = part.writer.into_inner().context("write a part")?;
        let request = self
            .client
            .post(self.url.clone())
            .header("Content-Type", "text/csv")
            .bearer_auth(self.api_key.expose_secret())
            .timeout(TIMEOUT)
            .body(body);
        let response = request.send().await.context("ask the server")?;
        let status = response.status();
        let body: serde_json::Value = response.json().await.context("read the answer")?;
        if status != StatusCode::OK {
            let detail = body.get("detail").and_then(|detail| detail.as_str());
            bail!("{status}: {}", detail.unwrap_or("no reason given"));
        }
        let said: Report = serde_json::from_value(body).context("read the answer")?;
        report.rows += said.rows;
        report.taken += said.taken;
        report.new += said.new;
        report.refused.extend(said.refused.into_iter().map(|one| {
            let line = one.row.checked_sub(1).and_then(|row| lines.get(row));
            let line = line.copied().unwrap_or(one.line);
            Refused { line, ..one }
        }));
        Ok(())
    }
}
