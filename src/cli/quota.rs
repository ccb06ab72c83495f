//! `dripwheel clear-quota`: asks a running server to have an account's calls counted anew.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use crate::cli::print;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Longer than the server waits for the platform.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(clap::Args, Debug)]
pub(super) struct ClearQuotaArgs {
    /// Key of the account.
    account: String,
    /// The server, as `http://127.0.0.1:8080`.
    #[arg(long)]
    server: Url,
    /// An API key with the scope `write`.
    #[arg(long, env = "DRIPWHEEL_API_KEY", hide_env_values = true)]
    api_key: SecretString,
}

pub(super) async fn run(args: ClearQuotaArgs) -> Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let mut url = args.server.clone();
    url.path_segments_mut()
        .map_err(|()| anyhow::anyhow!("--server is an address such as http://127.0.0.1:8080"))?
        .pop_if_empty()
        .extend(["api", "v1", "accounts", &args.account, "clear-quota"]);
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .build()
        .context("build the HTTP client")?;
    let answer = http
        .post(url)
        .bearer_auth(args.api_key.expose_secret())
        .send()
        .await
        .map_err(reqwest::Error::without_url)
        .context("no answer from the server: look at the account's page before asking again")?;
    let status = answer.status();
    let said = read(answer).await?;
    if !status.is_success() {
        let detail = said["detail"].as_str().unwrap_or("no words");
        bail!("{status}: {detail}");
    }
    print(&format!(
        "quotas of {} cleared; {} of {} clears are left this month, as far as this server knows",
        args.account, said["clears_left"], said["clears_a_month"]
    ))
}

async fn read(mut answer: reqwest::Response) -> Result<Value> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            bail!("the answer is not the API's: is --server right?");
        }
        bytes.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&bytes).context("the answer is not the API's: is --server right?")
}
