//! `dripwheel explain`: one follower's whole story in words.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::{ConfigArg, demo, print};
use crate::store::{self, versions};
use crate::story::{self, Known, Lang, words};

#[derive(clap::Args, Debug)]
pub(super) struct ExplainArgs {
    /// Key of the account.
    account: String,
    /// The follower.
    openid: String,
    #[command(flatten)]
    config: ConfigArg,
    /// Database to read instead of the configured one, as `sqlite://path` or
    /// `postgres://…`.
    #[arg(long)]
    database: Option<String>,
    /// `en` or `zh`.
    #[arg(long, default_value = "en")]
    lang: String,
}

/// Exit code 1 when there is no such follower.
pub(super) async fn run(args: &ExplainArgs) -> Result<ExitCode> {
    let lang = Lang::of_tag(&args.lang).context("--lang is en or zh")?;
    let url = match &args.database {
        Some(url) => url.clone(),
        None => args.config.load()?.database.url,
    };
    let read = store::open_to_read(&url).await?;
    let catalog = versions::load_catalog(&read).await?;
    let known = Known {
        catalog: &catalog,
        account: None,
    };
    let now = demo::clock_of(&url)?.now();
    let story = story::load(&read, known, &args.account, &args.openid, now).await?;
    match story {
        Some(story) => {
            print(&words::words(&story, lang))?;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            print(&format!("no follower {} of {}", args.openid, args.account))?;
            Ok(ExitCode::FAILURE)
        }
    }
}
