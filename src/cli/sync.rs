//! `dripwheel sync`: has a running server compare an account's followers with the platform's list,
//! and shows how far it has come.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::{Client, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use crate::cli::print;
use crate::sender::wechat::http_client;

/// How often the server is asked.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Longest one question may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Questions in a row that may fail: a server that is started anew goes on with the sync.
const FAILURES_MAX: u32 = 120;

#[derive(clap::Args, Debug)]
pub(super) struct SyncArgs {
    /// Key of the account.
    account: String,
    /// Where the server is.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    server: Url,
    /// A key of the API with the scope `write`.
    #[arg(long, env = "DRIPWHEEL_API_KEY", hide_env_values = true)]
    api_key: SecretString,
    /// Ask for everybody's language and tags too.
    #[arg(long)]
    refresh: bool,
    /// One JSON object at the end instead of lines.
    #[arg(long)]
    json: bool,
}

/// What is needed of the server's answer.
#[derive(Debug, Deserialize)]
struct Seen {
    number: i64,
    state: String,
    phase: Option<String>,
    total: u64,
    listed: u64,
    refreshed: u64,
    found: u64,
    gone: u64,
    enrolled: u64,
    waits_until: Option<String>,
    detail: Option<String>,
}

/// Exit code 1 when the sync did not come to its end.
pub(super) async fn run(args: &SyncArgs) -> Result<ExitCode> {
    let server = Server {
        client: http_client(TIMEOUT).context("make an HTTP client")?,
        url: address(&args.server, &args.account)?,
        api_key: args.api_key.clone(),
    };
    let (mut seen, mut raw) = server.ask(Method::POST, args.refresh).await?;
    let number = seen.number;
    let mut shown = Shown::new(args.json);
    let mut failures = 0;
    while seen.state == "running" && seen.number == number {
        shown.show(&seen);
        tokio::time::sleep(ASK_EVERY).await;
        match server.ask(Method::GET, false).await {
            Ok(answer) => {
                (seen, raw) = answer;
                failures = 0;
            }
            Err(error) if failures >= FAILURES_MAX => return Err(error),
            Err(_) => failures += 1,
        }
    }
    shown.end();
    let completed = seen.state == "completed" || seen.number != number;
    if args.json {
        print(&serde_json::to_string_pretty(&raw)?)?;
    } else {
        print(&summary(&args.account, &seen))?;
    }
    Ok(if completed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn address(server: &Url, account: &str) -> Result<Url> {
    let mut url = server.clone();
    url.set_query(None);
    let mut path = url
        .path_segments_mut()
        .ok()
        .context("--server is an address such as http://127.0.0.1:8080")?;
    path.pop_if_empty()
        .extend(["api", "v1", "accounts", account, "sync"]);
    drop(path);
    Ok(url)
}

fn summary(account: &str, seen: &Seen) -> String {
    let said = format!(
        "{account}: {}; {} listed, {} found, {} gone, {} passages begun",
        seen.state, seen.listed, seen.found, seen.gone, seen.enrolled
    );
    match &seen.detail {
        Some(detail) => format!("{said}: {detail}"),
        None => said,
    }
}

struct Server {
    client: Client,
    url: Url,
    api_key: SecretString,
}

impl Server {
    async fn ask(&self, method: Method, refresh: bool) -> Result<(Seen, serde_json::Value)> {
        let request = self
            .client
            .request(method, self.url.clone())
            .query(&[("refresh", refresh)])
            .bearer_auth(self.api_key.expose_secret())
            .timeout(TIMEOUT);
        let response = request.send().await.context("ask the server")?;
        let status = response.status();
        let body: serde_json::Value = response.json().await.context("read the answer")?;
        if status != StatusCode::OK && status != StatusCode::ACCEPTED {
            let detail = body.get("detail").and_then(|detail| detail.as_str());
            bail!("{status}: {}", detail.unwrap_or("no reason given"));
        }
        let seen = serde_json::from_value(body.clone()).context("read the answer")?;
        Ok((seen, body))
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
        let style = "{msg} [{wide_bar}] {pos}/{len} ({eta} left)";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self {
            bar,
            lines: !terminal && !json,
            last: String::new(),
        }
    }

    fn show(&mut self, seen: &Seen) {
        let phase = seen.phase.as_deref().unwrap_or("running");
        let done = match phase {
            "refreshing" => seen.refreshed,
            _ => seen.listed,
        };
        let mut said = format!("{phase}, {} found, {} gone", seen.found, seen.gone);
        if let (Some(until), Some(why)) = (&seen.waits_until, &seen.detail) {
            said = format!("{said}, waits until {until}: {why}");
        }
        // Followers may come and go while the list is read.
        self.bar.set_length(seen.total.max(done));
        self.bar.set_position(done);
        self.bar.set_message(said.clone());
        let line = format!("{said}, {done}/{}", seen.total);
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
