//! `dripwheel conformance`: the platform's check before 全网发布, against a running server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use secrecy::SecretString;

use crate::cli::print;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::sandbox::{
    ConformanceOptions, ConformanceReport, ConformanceVerdict, GROUPS_MAX, Sandbox,
    SandboxComponent, SandboxSettings,
};
use crate::yaml::render_all;

#[derive(clap::Args, Debug)]
pub(super) struct ConformanceArgs {
    /// The configuration file of the server to check; tells its address.
    #[arg(long, env = "DRIPWHEEL_CONFIG")]
    config: Option<PathBuf>,
    /// Address and port to play the platform on: the server's `api_base` must point here.
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// App id of the third-party platform (component).
    #[arg(long, env = "DRIPWHEEL_COMPONENT_APP_ID")]
    app_id: String,
    /// Its app secret; better in the environment than on the command line.
    #[arg(long, env = "DRIPWHEEL_COMPONENT_SECRET", hide_env_values = true)]
    secret: SecretString,
    /// 消息校验Token
    #[arg(long, env = "DRIPWHEEL_COMPONENT_TOKEN", hide_env_values = true)]
    token: SecretString,
    /// 消息加解密Key, 43 characters.
    #[arg(long, env = "DRIPWHEEL_COMPONENT_AES_KEY", hide_env_values = true)]
    aes_key: SecretString,
    /// 授权事件接收URL
    #[arg(long, env = "DRIPWHEEL_COMPONENT_EVENT_URL")]
    event_url: Option<String>,
    /// 消息与事件接收URL, with `$APPID$` where the account's app id goes.
    #[arg(long, env = "DRIPWHEEL_COMPONENT_MESSAGE_URL")]
    message_url: Option<String>,
    /// Checks this group of test accounts only, 1 to 5; may be given more than once.
    #[arg(long = "group", value_parser = clap::value_parser!(u8).range(1..=i64::from(GROUPS_MAX)))]
    groups: Vec<u8>,
    /// Leaves out the mini programs, as when 小程序客服消息 is not selected.
    #[arg(long)]
    no_mini_programs: bool,
    /// Leaves out the official accounts, as when 公众号消息管理 is not selected.
    #[arg(long)]
    no_official_accounts: bool,
    /// Leaves out the event that the platform pushed before 2018.
    #[arg(long)]
    no_legacy: bool,
    /// Seconds from the empty answer to the message by the API.
    #[arg(long, default_value_t = 10)]
    send_within: u64,
    /// One JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

/// Exit code 1 when a step fails.
pub(super) async fn run(args: ConformanceArgs) -> Result<ExitCode> {
    let component = component(&args)?;
    let app_id = component.app_id.clone();
    let options = options(&args);
    let mut settings = SandboxSettings::new(Vec::new());
    settings.listen = args.listen;
    settings.components = vec![component];
    let running = Sandbox::start(settings, Arc::new(SystemClock)).await?;
    if !args.json {
        print(&format!(
            "The platform is at http://{}: the server's api_base must be that.\n\n{}",
            running.addr,
            row("GROUP", "ACCOUNT", "STEP", "VERDICT", "MS")
        ))?;
    }
    let show = |verdict: &ConformanceVerdict| {
        if !args.json {
            // A reader that went away does not end the check: its exit code still counts.
            print(&line(verdict)).ok();
        }
    };
    let control = running.control();
    let report = control.conformance(&app_id, &options, show).await;
    running.stop().await;
    let report = report?;
    print(&if args.json {
        serde_json::to_string_pretty(&report)?
    } else {
        summary(&report)
    })?;
    Ok(if report.passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The component as the server knows it: the one place that joins arguments and configuration.
fn component(args: &ConformanceArgs) -> Result<SandboxComponent> {
    let base = match &args.config {
        None => None,
        Some(path) => {
            let config = Config::load(path);
            let config =
                config.map_err(|problems| anyhow::anyhow!(render_all(&problems, false)))?;
            let listen = format!("http://{}", config.server.listen);
            Some(config.server.public_url.unwrap_or(listen))
        }
    };
    let url = |given: &Option<String>, path: &str, flag: &str| match (given, &base) {
        (Some(url), _) => Ok(url.clone()),
        (None, Some(base)) => Ok(format!("{}{path}", base.trim_end_matches('/'))),
        (None, None) => bail!("say where the server listens: give {flag}, or --config"),
    };
    let app_id = &args.app_id;
    let event_url = url(
        &args.event_url,
        &format!("/component/{app_id}/events"),
        "--event-url",
    )?;
    let message_url = url(
        &args.message_url,
        &format!("/component/{app_id}/callback/$APPID$"),
        "--message-url",
    )?;
    let mut component = SandboxComponent::new(
        app_id,
        args.secret.clone(),
        args.token.clone(),
        args.aes_key.clone(),
        [&event_url, &message_url],
    );
    // The check pushes its own tickets.
    component.rules.ticket_interval_seconds = 0;
    Ok(component)
}

fn options(args: &ConformanceArgs) -> ConformanceOptions {
    let mut options = ConformanceOptions {
        official_accounts: !args.no_official_accounts,
        mini_programs: !args.no_mini_programs,
        legacy: !args.no_legacy,
        send_within: Duration::from_secs(args.send_within),
        ..ConformanceOptions::default()
    };
    if !args.groups.is_empty() {
        options.groups.clone_from(&args.groups);
        options.groups.sort_unstable();
        options.groups.dedup();
    }
    options
}

fn row(group: &str, account: &str, step: &str, verdict: &str, ms: &str) -> String {
    format!("{group:<6} {account:<19} {step:<15} {verdict:<8} {ms:>6}")
}

fn line(verdict: &ConformanceVerdict) -> String {
    let told = if verdict.passed { "pass" } else { "FAIL" };
    let line = row(
        &verdict.group.to_string(),
        verdict.account.unwrap_or("-"),
        verdict.step.name(),
        told,
        &verdict.elapsed_ms.to_string(),
    );
    if verdict.passed {
        return line;
    }
    let (expected, seen) = (&verdict.expected, &verdict.seen);
    format!("{line}\n       expected {expected}\n       seen     {seen}")
}

fn summary(report: &ConformanceReport) -> String {
    let all = report.verdicts.len();
    let failed = report.verdicts.iter().filter(|one| !one.passed).count();
    match failed {
        0 => format!("\nAll {all} steps pass."),
        failed => format!("\n{failed} of {all} steps fail."),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ConformanceArgs,
    }

    fn parsed(more: &[&str]) -> ConformanceArgs {
        let fixed = [
            "x",
            "--app-id",
            "wx1",
            "--secret",
            "s",
            "--token",
            "t",
            "--aes-key",
            "k",
        ];
        Line::try_parse_from(fixed.iter().chain(more)).unwrap().args
    }

    #[test]
    fn addresses_come_from_the_arguments_or_the_configuration() {
        let given = parsed(&[
            "--event-url",
            "http://s/e",
            "--message-url",
            "http://s/$APPID$",
        ]);
        let found = component(&given).unwrap();
        assert_eq!(found.event_url, "http://s/e");
        assert_eq!(found.message_url, "http://s/$APPID$");
        let error = component(&parsed(&[])).unwrap_err().to_string();
        assert!(error.contains("--event-url"), "{error}");
    }

    #[test]
    fn groups_are_checked_once_each_and_in_order() {
        assert_eq!(options(&parsed(&[])).groups, [1, 2, 3, 4, 5]);
        let picked = parsed(&["--group", "4", "--group", "2", "--group", "4"]);
        assert_eq!(options(&picked).groups, [2, 4]);
    }
}
