//! The command line: arguments here, one module per command that does more than call one function.

mod audit;
pub mod bench;
mod broadcast;
mod check;
mod conformance;
mod demo;
mod explain;
mod import;
mod nodes;
mod preview;
mod quota;
mod sandbox;
mod serve;
mod simulator;
mod sync;
mod telemetry;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};

use crate::config::{self, Config};
use crate::journey::schema;
use crate::policy::profile::parse::profile_schema;
use crate::yaml::render_all;

/// Follow-sequence messaging: a follow becomes a conversation, on time and inside the platform's
/// rules.
#[derive(Debug, Parser)]
#[command(name = "dripwheel", version)]
pub struct Cli {
    /// Log lines as JSON.
    #[arg(long, global = true)]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Server and sandbox together, with the shipped sequences: the place to start.
    Demo(demo::DemoArgs),
    /// The server: callbacks, API, console and the engine.
    Serve(ConfigArg),
    /// Reads every sequence of a directory and names every problem with its place and its mend.
    Check(check::CheckArgs),
    /// Shows each message as each platform shows it, and what stands in where one lacks a kind.
    Preview(preview::PreviewArgs),
    /// The JSON Schema of sequence files, of the configuration or of profiles, for editors.
    Schema {
        #[arg(value_enum, default_value_t = SchemaOf::Sequence)]
        of: SchemaOf,
    },
    /// The configuration file with every key, its default and its reason.
    Config,
    /// The platforms of a configuration's accounts, played on ports of their own.
    Sandbox(sandbox::SandboxArgs),
    /// The platform's check of a third-party platform (全网发布检测), against a running server.
    Conformance(conformance::ConformanceArgs),
    /// Tells one follower's whole story in words.
    Explain(explain::ExplainArgs),
    /// Has a running server compare an account's followers with the platform's list.
    Sync(sync::SyncArgs),
    /// Takes followers or consents from a CSV file into a running server.
    Import(import::ImportArgs),
    /// Makes broadcasts on a running server, starts and interrupts them, and shows how far they have come.
    Broadcast(broadcast::BroadcastArgs),
    /// Checks the invariants on a store and prints the counts.
    Audit(audit::AuditArgs),
    /// Lists the processes that share a database, and who sees to an account.
    Nodes(nodes::NodesArgs),
    /// Has the platform count an account's calls anew, through a running server.
    ClearQuota(quota::ClearQuotaArgs),
    /// Runs the engine in worlds where stores, clocks and machines fail, and checks the invariants.
    Simulator(simulator::SimulatorArgs),
    /// Prints the OpenAPI document of the API.
    Openapi,
    /// Measures this machine.
    Bench(bench::BenchArgs),
}

/// Where the configuration is.
#[derive(clap::Args, Debug)]
pub struct ConfigArg {
    /// The configuration file.
    #[arg(long, env = "DRIPWHEEL_CONFIG", default_value = "dripwheel.yaml")]
    config: PathBuf,
}

impl ConfigArg {
    fn load(&self) -> Result<Config> {
        Config::load(&self.config).map_err(|problems| anyhow::anyhow!(render_all(&problems, false)))
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SchemaOf {
    Sequence,
    Config,
    Profile,
}

/// Runs a command; the exit code is 0 only if all is well.
pub async fn run(cli: Cli) -> ExitCode {
    telemetry::start_logs(cli.log_json);
    let done = match cli.command {
        Command::Demo(args) => demo::run(args).await.map(|()| ExitCode::SUCCESS),
        Command::Serve(args) => serve::run(&args).await.map(|()| ExitCode::SUCCESS),
        Command::Check(args) => check::run(&args),
        Command::Preview(args) => preview::run(&args),
        Command::Schema { of } => print_schema(of).map(|()| ExitCode::SUCCESS),
        Command::Config => print(config::DEFAULT_YAML).map(|()| ExitCode::SUCCESS),
        Command::Sandbox(args) => sandbox::run(args).await.map(|()| ExitCode::SUCCESS),
        Command::Conformance(args) => conformance::run(args).await,
        Command::Explain(args) => explain::run(&args).await,
        Command::Sync(args) => sync::run(&args).await,
        Command::Import(args) => import::run(&args).await,
        Command::Broadcast(args) => broadcast::run(args).await,
        Command::ClearQuota(args) => quota::run(args).await.map(|()| ExitCode::SUCCESS),
        Command::Openapi => print(&crate::api::spec()).map(|()| ExitCode::SUCCESS),
        Command::Simulator(args) => simulator::run(&args),
        Command::Audit(args) => audit::run(&args).await,
        Command::Nodes(args) => nodes::run(&args).await,
        Command::Bench(args) => bench::run(args).await.map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        let mut err = std::io::stderr().lock();
        writeln!(err, "error: {error:#}").ok();
        ExitCode::FAILURE
    })
}

fn print_schema(of: SchemaOf) -> Result<()> {
    let schema = match of {
        SchemaOf::Sequence => schema::sequence_schema(),
        SchemaOf::Config => config::config_schema(),
        SchemaOf::Profile => profile_schema(),
    };
    print(&serde_json::to_string_pretty(&schema)?)
}

/// Writes to standard output; a reader that went away, as `head` does, is no failure.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("write to standard output"),
    }
}
