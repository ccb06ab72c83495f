//! `dripwheel conformance`: the platform's check before 全网发布, against a running server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
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
    /// The configuration file of the server to check; tells its address and its component.
    #[arg(long, env = "DRIPWHEEL_CONFIG")]
    config: Option<PathBuf>,
    /// Address and port to play the platform on: the server's `api_base` must point here.
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Key of the component in the configuration; needed only where it has several.
    #[arg(long, requires = "config")]
    component: Option<String>,
    /// App id of the third-party platform (component), instead of the configuration's.
    #[arg(long, env = "DRIPWHEEL_COMPONENT_APP_ID")]
    app_id: Option<String>,
    /// Its app secret; better in the environment than on the command line.
    #[arg(long, env = "DRIPWHEEL_COMPONENT_SECRET", hide_env_values = true)]
    secret: Option<SecretString>,
    /// 消息校验Token
    #[arg(long, env = "DRIPWHEEL_COMPONENT_TOKEN", hide_env_values = true)]
    token: Option<SecretString>,
    /// 消息加解密Key, 43 characters.
    #[arg(long, env = "DRIPWHEEL_COMPONENT_AES_KEY", hide_env_values = true)]
    aes_key: Option<SecretString>,
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
    let config = match &args.config {
        None => None,
        Some(path) => {
            let config = Config::load(path);
            Some(config.map_err(|problems| anyhow::anyhow!(render_all(&problems, false)))?)
        }
    };
    let base = config.as_ref().map(|config| {
        let listen = format!("http://{}", config.server.listen);
        config.server.public_url.clone().unwrap_or(listen)
    });
    let components = config.as_ref().map_or(&[][..], |config| &config.components);
    let known = match &args.component {
        Some(key) => {
            let found = components.iter().find(|one| one.key == *key);
            Some(found.with_context(|| format!("the configuration has no component `{key}`"))?)
        }
        None if components.len() > 1 => bail!("say which component: give --component"),
        None => components.first(),
    };
    let given = |given: &Option<SecretString>, known: Option<&SecretString>, flag: &str| {
        let one = given.as_ref().or(known);
        one.cloned()
            .with_context(|| format!("give {flag}, or --config of a server with a component"))
    };
    let url = |given: &Option<String>, path: &str, flag: &str| match (given, &base) {
        (Some(url), _) => Ok(url.clone()),
        (None, Some(base)) => Ok(format!("{}{path}", base.trim_end_matches('/'))),
        (None, None) => bail!("say where the server listens: give {flag}, or --config"),
    };
    let app_id = args.app_id.as_ref().or(known.map(|known| &known.app_id));
    let app_id = app_id.context("give --app-id, or --config of a server with a component")?;
    let key = known.map_or(app_id.as_str(), |known| &known.key);
    let event_url = url(
        &args.event_url,
        &format!("/component/{key}/events"),
        "--event-url",
    )?;
    let message_url = url(
        &args.message_url,
        &format!("/component/{key}/callback/$APPID$"),
        "--message-url",
    )?;
    let mut component = SandboxComponent::new(
        app_id,
        given(
            &args.secret,
            known.map(|known| &known.app_secret),
            "--secret",
        )?,
        given(&args.token, known.map(|known| &known.token), "--token")?,
        given(
            &args.aes_key,
            known.map(|known| &known.encoding_aes_key),
            "--aes-key",
        )?,
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
    fn a_configuration_says_all_that_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dripwheel.yaml");
        let one = |key: &str, n: u8| {
            format!(
                "  - {{ key: {key}, app_id: wx00000000000000c{n}, token: componenttoken,
      app_secret: 0123456789abcdef0123456789abcdef,
      encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG }}\n"
            )
        };
        let server = "server: { public_url: 'http://drip.example.com' }\ncomponents:\n";
        let write = |text: String| std::fs::write(&path, text).unwrap();
        let checked = |more: &[&str]| {
            let fixed = ["x", "--config", path.to_str().unwrap()];
            let line = Line::try_parse_from(fixed.iter().chain(more)).unwrap();
            component(&line.args).map_err(|error| error.to_string())
        };
        write(format!("{server}{}", one("pro", 0)));
        let found = checked(&[]).unwrap();
        assert_eq!(found.app_id, "wx00000000000000c0");
        let events = "http://drip.example.com/component/pro/events";
        assert_eq!(found.event_url, events);
        let callback = "http://drip.example.com/component/pro/callback/$APPID$";
        assert_eq!(found.message_url, callback);
        write(format!("{server}{}{}", one("pro", 0), one("two", 1)));
        assert!(checked(&[]).unwrap_err().contains("--component"));
        let found = checked(&["--component", "two"]).unwrap();
        assert_eq!(found.app_id, "wx00000000000000c1");
        assert!(
            checked(&["--component", "three"])
                .unwrap_err()
                .contains("three")
        );
    }

    #[test]
    fn groups_are_checked_once_each_and_in_order() {
        assert_eq!(options(&parsed(&[])).groups, [1, 2, 3, 4, 5]);
        let picked = parsed(&["--group", "4", "--group", "2", "--group", "4"]);
        assert_eq!(options(&picked).groups, [2, 4]);
    }
}
