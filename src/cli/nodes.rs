//! `dripwheel nodes`: which processes share a database, and who sees to an account.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::cli::{ConfigArg, print};
use crate::store::nodes::{self, Node};
use crate::store::shards::Sharding;
use crate::store::{self, overview};

#[derive(clap::Args, Debug)]
pub(super) struct NodesArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Database to look into instead of the configured one, as `postgres://…` or `sqlite://path`.
    #[arg(long)]
    database: Option<String>,
    /// Only the node that sends for the account with this key.
    #[arg(long)]
    account: Option<String>,
    /// One JSON array instead of a table.
    #[arg(long)]
    json: bool,
}

/// Exit code 1 when no node runs that was asked for.
pub(super) async fn run(args: &NodesArgs) -> Result<ExitCode> {
    let url = match &args.database {
        Some(url) => url.clone(),
        None => args.config.load()?.database.url,
    };
    let read = store::open_to_read(&url).await?;
    let mut found = nodes::all(&read).await?;
    if let Some(key) = &args.account {
        let account = overview::account(&read, key).await?;
        let account = account.with_context(|| format!("no account has the key `{key}`"))?;
        let sharding = Sharding::of(&read);
        found.retain(|node| node.holds(sharding, account.id));
    }
    if args.json {
        let views: Vec<_> = found.iter().map(view).collect();
        print(&serde_json::to_string_pretty(&views)?)?;
    } else {
        print(&table(&found))?;
    }
    Ok(if found.iter().any(Node::lives) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn view(node: &Node) -> serde_json::Value {
    json!({
        "id": node.id,
        "name": node.name,
        "version": node.version,
        "started_at": node.started_at.to_string(),
        "seen_at": (node.seen_at.0 > 0).then(|| node.seen_at.to_string()),
        "standing": standing(node),
        "lease_ms": node.lease.map(|left| left.as_millis()),
        "shards": node.shards.len(),
        "accounts": node.accounts,
    })
}

fn standing(node: &Node) -> &'static str {
    if node.lives() { "running" } else { "gone" }
}

fn table(nodes: &[Node]) -> String {
    let names = nodes.iter().map(|node| node.name.chars().count());
    let width = names.max().unwrap_or(0).max(4);
    let mut text = format!(
        "{:<width$}  {:<8} {:<8} {:<24} {:>7} {:>6} {:>8}",
        "node", "standing", "version", "started", "lease", "shards", "accounts"
    );
    for node in nodes {
        let lease = node.lease.map_or_else(|| "-".to_owned(), seconds);
        write!(
            text,
            "\n{:<width$}  {:<8} {:<8} {:<24} {lease:>7} {:>6} {:>8}",
            node.name,
            standing(node),
            node.version,
            node.started_at.to_string(),
            node.shards.len(),
            node.accounts
        )
        .ok();
    }
    text
}

fn seconds(left: Duration) -> String {
    format!("{:.1} s", left.as_secs_f64())
}
