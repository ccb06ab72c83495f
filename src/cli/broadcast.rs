//! `dripwheel broadcast`: has a running server make, start, interrupt, resume or try a broadcast again,
//! and shows how far it has come. What runs goes on without this command.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::{Client, Method};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use crate::cli::print;
use crate::sender::wechat::http_client;
use crate::yaml;

/// How often the server is asked.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Longest one question may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Questions in a row that may fail: a server that is started anew goes on with the broadcast.
const FAILURES_MAX: u32 = 120;

/// Followers that are named in one request.
const LISTED_AT_ONCE: usize = 1_000;

/// Strangers among them that are told by name.
const STRANGERS_TOLD: usize = 10;

#[derive(Args, Debug)]
pub(super) struct BroadcastArgs {
    #[command(subcommand)]
    order: Order,
    /// Where the server is.
    #[arg(long, global = true, default_value = "http://127.0.0.1:8080")]
    server: Url,
    /// A key of the API with the scope `write`.
    #[arg(
        long,
        global = true,
        env = "DRIPWHEEL_API_KEY",
        hide_env_values = true,
        default_value = ""
    )]
    api_key: SecretString,
    /// One JSON object at the end instead of lines.
    #[arg(long, global = true)]
    json: bool,
}

/// What a file for `create` can hold; the API's description has every key.
const EXAMPLE: &str = "\
A file:
  title: Year-end sale
  accounts: [main]
  audience: { tag: vip, active_within: 48h }   # everybody when left out
  say: { text: \"Only tonight: https://example.com/sale\" }
  spread: 2h                                   # or per_second: 50
  start_at: 2026-12-31T10:00:00Z               # or cron: \"0 9 * * MON\" with timezone: Asia/Shanghai

Then `start` it, unless it starts by itself. Every key: POST /api/v1/broadcasts at /docs.";

#[derive(Debug, Subcommand)]
enum Order {
    /// Makes a broadcast from a YAML file with the keys of the API's request.
    #[command(after_help = EXAMPLE)]
    Create {
        /// The YAML file.
        file: PathBuf,
        /// A CSV of openids, one in each line: the audience.
        #[arg(long)]
        openids: Option<PathBuf>,
    },
    /// Tells who would get it if it were sent now, by which carrier, and who would not and why.
    DryRun { id: i64 },
    /// Starts it and shows how far it has come.
    Start(Followed),
    /// Lets nobody else's turn come.
    Interrupt { id: i64 },
    /// Goes on with those whose turn has not come.
    Resume(Followed),
    /// Sends it again to those with whom it failed.
    Retry {
        #[command(flatten)]
        followed: Followed,
        /// To those as well whose answer was lost: some of them get it twice.
        #[arg(long)]
        unknown: bool,
    },
    /// Shows how far it has come, until it ends.
    Status(Followed),
}

#[derive(Args, Debug)]
struct Followed {
    /// Number of the broadcast.
    id: i64,
    /// Do not wait for its end.
    #[arg(long)]
    detach: bool,
}

/// What is needed of the server's answer.
#[derive(Debug, Deserialize)]
struct Seen {
    id: i64,
    title: String,
    state: String,
    progress: Progress,
    seconds_left: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Progress {
    frozen: bool,
    total: u64,
    planned: u64,
    sending: u64,
    sent: u64,
    failed: u64,
    skipped: u64,
    unknown: u64,
}

impl Progress {
    fn ended(&self) -> u64 {
        self.sent + self.failed + self.skipped + self.unknown
    }
}

/// Exit code 1 when it was waited for and did not complete.
pub(super) async fn run(args: BroadcastArgs) -> Result<ExitCode> {
    let server = Server {
        client: http_client(TIMEOUT).context("make an HTTP client")?,
        url: args.server,
        api_key: args.api_key,
    };
    let (id, path, detach) = match args.order {
        Order::Create { file, openids } => {
            let answer = create(&server, &file, openids.as_ref()).await?;
            return show(&answer, args.json).map(|()| ExitCode::SUCCESS);
        }
        Order::DryRun { id } => {
            return dry_run(&server, id, args.json)
                .await
                .map(|()| ExitCode::SUCCESS);
        }
        Order::Interrupt { id } => (id, Some("interrupt"), true),
        Order::Start(one) => (one.id, Some("start"), one.detach),
        Order::Resume(one) => (one.id, Some("resume"), one.detach),
        Order::Retry { followed, unknown } => {
            let path = if unknown {
                "retry?unknown=true"
            } else {
                "retry"
            };
            (followed.id, Some(path), followed.detach)
        }
        Order::Status(one) => (one.id, None, one.detach),
    };
    let answer = match path {
        Some(path) => {
            let path = format!("broadcasts/{id}/{path}");
            server.ask(Method::POST, &path, None).await?
        }
        None => {
            server
                .ask(Method::GET, &format!("broadcasts/{id}"), None)
                .await?
        }
    };
    if detach {
        return show(&answer, args.json).map(|()| ExitCode::SUCCESS);
    }
    let (answer, completed) = follow(&server, id, answer, args.json).await?;
    show(&answer, args.json)?;
    Ok(if completed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn create(server: &Server, file: &PathBuf, openids: Option<&PathBuf>) -> Result<Value> {
    let told = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("read {told}"))?;
    let mut body: Value =
        yaml::read(&text, &told.to_string()).map_err(|problem| anyhow::anyhow!("{problem}"))?;
    let Some(openids) = openids else {
        return server.ask(Method::POST, "broadcasts", Some(&body)).await;
    };
    let account = match body["accounts"].as_array().map(Vec::as_slice) {
        Some([one]) => one.clone(),
        _ => bail!("{told}: name one account, whose followers the openids are"),
    };
    let csv = std::fs::read_to_string(openids);
    let csv = csv.with_context(|| format!("read {}", openids.display()))?;
    let listed = first_column(&csv);
    body["audience"] = json!({ "listed": true });
    let made = server.ask(Method::POST, "broadcasts", Some(&body)).await?;
    let id = made["id"].as_i64().context("read the answer")?;
    let mut strangers = Vec::new();
    for some in listed.chunks(LISTED_AT_ONCE) {
        let body = json!({ "account": account, "openids": some });
        let path = format!("broadcasts/{id}/listed");
        let answer = server.ask(Method::POST, &path, Some(&body)).await?;
        let told = answer["strangers"].as_array().cloned().unwrap_or_default();
        strangers.extend(told.iter().filter_map(Value::as_str).map(str::to_owned));
    }
    if !strangers.is_empty() {
        let some = strangers.iter().take(STRANGERS_TOLD).cloned();
        let some: Vec<_> = some.collect();
        let mut err = std::io::stderr().lock();
        writeln!(
            err,
            "{} of {} do not follow the account and get nothing: {}{}",
            strangers.len(),
            listed.len(),
            some.join(", "),
            if strangers.len() > some.len() {
                ", …"
            } else {
                ""
            }
        )
        .ok();
    }
    server
        .ask(Method::GET, &format!("broadcasts/{id}"), None)
        .await
}

/// What a dry run found, one part after the other.
#[derive(Debug, Default, Serialize)]
struct DryRun {
    looked_at: u64,
    carriers: BTreeMap<String, u64>,
    languages: BTreeMap<String, u64>,
    others: BTreeMap<String, u64>,
}

async fn dry_run(server: &Server, id: i64, json: bool) -> Result<()> {
    let (mut all, mut cursor) = (DryRun::default(), String::new());
    loop {
        let path = format!("broadcasts/{id}/dry-run{cursor}");
        let part = server.ask(Method::GET, &path, None).await?;
        all.looked_at += part["looked_at"].as_u64().unwrap_or(0);
        for (list, name, sums) in [
            ("carriers", "of", &mut all.carriers),
            ("languages", "of", &mut all.languages),
            ("others", "reason", &mut all.others),
        ] {
            for one in part[list].as_array().into_iter().flatten() {
                let name = one[name].as_str().unwrap_or_default().to_owned();
                *sums.entry(name).or_default() += one["count"].as_u64().unwrap_or(0);
            }
        }
        match part["next"].as_str() {
            Some(next) => cursor = format!("?cursor={next}"),
            None => break,
        }
    }
    if json {
        return print(&serde_json::to_string_pretty(&all)?);
    }
    let mut lines = vec![format!("{} followers looked at", all.looked_at)];
    for (heading, sums) in [
        ("would get it", &all.carriers),
        ("in their language", &all.languages),
        ("would not, or not now", &all.others),
    ] {
        if sums.is_empty() {
            continue;
        }
        lines.push(heading.to_owned());
        for (name, count) in sums {
            let name = if name.is_empty() { "not known" } else { name };
            lines.push(format!("  {count:>10} {name}"));
        }
    }
    print(&lines.join("\n"))
}

/// The first column of a CSV, without its heading and without quotes.
fn first_column(csv: &str) -> Vec<String> {
    let cells = csv.trim_start_matches('\u{feff}').lines();
    let cells = cells.map(|line| line.split([',', ';', '\t']).next().unwrap_or_default());
    cells
        .map(|cell| cell.trim().trim_matches('"').trim().to_owned())
        .filter(|cell| !cell.is_empty() && cell != "openid")
        .collect()
}

/// Shows a broadcast's progress until it is not sending; says whether it completed.
async fn follow(server: &Server, id: i64, first: Value, json: bool) -> Result<(Value, bool)> {
    let mut answer = first;
    let mut shown = Shown::new(json);
    let mut failures = 0;
    loop {
        let seen = read(&answer)?;
        let on_their_way = seen.state == "interrupted" && seen.progress.sending > 0;
        if seen.state != "sending" && !on_their_way {
            shown.end();
            return Ok((answer, seen.state == "completed"));
        }
        shown.show(&seen);
        tokio::time::sleep(ASK_EVERY).await;
        match server
            .ask(Method::GET, &format!("broadcasts/{id}"), None)
            .await
        {
            Ok(newer) => {
                answer = newer;
                failures = 0;
            }
            Err(error) if failures >= FAILURES_MAX => return Err(error),
            Err(_) => failures += 1,
        }
    }
}

fn read(answer: &Value) -> Result<Seen> {
    serde_json::from_value(answer.clone()).context("read the answer")
}

fn show(answer: &Value, json: bool) -> Result<()> {
    if json {
        return print(&serde_json::to_string_pretty(answer)?);
    }
    let Seen {
        id,
        title,
        state,
        progress,
        ..
    } = read(answer)?;
    let mut lines = vec![format!(
        "broadcast {id}, {title}: {}",
        state.replace('_', " ")
    )];
    let counts = [
        ("recipients", progress.total),
        ("planned", progress.planned),
        ("sending", progress.sending),
        ("sent", progress.sent),
        ("failed", progress.failed),
        ("skipped", progress.skipped),
        ("unknown", progress.unknown),
    ];
    lines.extend(counts.map(|(what, count)| format!("  {what:<10} {count:>10}")));
    print(&lines.join("\n"))
}

struct Server {
    client: Client,
    url: Url,
    api_key: SecretString,
}

impl Server {
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let base = self.url.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{base}/api/v1/{path}"))
            .context("--server is an address such as http://127.0.0.1:8080")?;
        let mut request = self.client.request(method, url).timeout(TIMEOUT);
        if !self.api_key.expose_secret().is_empty() {
            request = request.bearer_auth(self.api_key.expose_secret());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.context("ask the server")?;
        let status = response.status();
        let body: Value = response.json().await.context("read the answer")?;
        if !status.is_success() {
            let detail = body.get("detail").and_then(Value::as_str);
            bail!("{status}: {}", detail.unwrap_or("no reason given"));
        }
        Ok(body)
    }
}

/// Progress as a bar on a terminal, as lines elsewhere, not at all for JSON.
struct Shown {
    bar: ProgressBar,
    lines: bool,
    last: String,
}

impl Shown {
    fn new(json: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::new(0);
        bar.set_draw_target(if terminal && !json {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        });
        if let Ok(style) =
            ProgressStyle::with_template("{msg} [{wide_bar}] {human_pos}/{human_len}")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        Self {
            bar,
            lines: !terminal && !json,
            last: String::new(),
        }
    }

    fn show(&mut self, seen: &Seen) {
        let progress = &seen.progress;
        let mut said = match (seen.state.as_str(), progress.frozen) {
            ("sending", false) => "freezing the audience".to_owned(),
            (state, _) => state.to_owned(),
        };
        for (what, count) in [("failed", progress.failed), ("unknown", progress.unknown)] {
            if count > 0 {
                said = format!("{said}, {count} {what}");
            }
        }
        if let Some(left) = seen.seconds_left {
            said = format!(
                "{said}, {} left",
                yaml::print_span(Duration::from_secs(left))
            );
        }
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.ended());
        self.bar.set_message(said.clone());
        let line = format!("{said}, {}/{}", progress.ended(), progress.total);
        if self.lines && line != self.last {
            let mut err = std::io::stderr().lock();
            writeln!(err, "{line}").ok();
            self.last = line;
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openids_are_read_from_whatever_a_spreadsheet_writes() {
        let csv = "\u{feff}openid,name\r\n\"o1\",Ann\r\n o2 ;Bob\n\no3\n";
        assert_eq!(first_column(csv), ["o1", "o2", "o3"]);
        assert_eq!(first_column(""), [""; 0]);
    }
}
