//! `dripwheel sandbox`: the platforms, played for the accounts of a configuration. WeChat has one port for
//! all of its accounts; each account of another platform has the next free number behind it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use secrecy::SecretString;
use sha2::{Digest, Sha256};

use crate::cli::ConfigArg;
use crate::clock::{Clock, SystemClock};
use crate::config::{Access, CallbackMode, Config, directory};
use crate::journey::sequence::Trigger;
use crate::sandbox::{
    AccountRules, Format, MenuButton, Mode, PlatformSandbox, PlatformSettings, Played, Profile,
    Sandbox, SandboxAccount, SandboxSettings,
};
use crate::yaml;

#[derive(clap::Args, Debug)]
pub(super) struct SandboxArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Address and port to play the platform on: set `api_base` of the accounts to it.
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// The rules to enforce, whatever profile the accounts believe in.
    #[arg(long)]
    profile: Option<String>,
    /// How to treat every account: kind, limits, templates, and what the platform's documents leave
    /// open, as YAML.
    #[arg(long)]
    rules: Option<PathBuf>,
    /// Appends every received message to this file, one JSON object a line.
    #[arg(long)]
    record: Option<PathBuf>,
    /// Keeps followers and phones in this file across restarts.
    #[arg(long)]
    state: Option<PathBuf>,
}

pub(super) async fn run(args: SandboxArgs) -> Result<()> {
    let config = args.config.load()?;
    let mut settings = settings(&config, args.profile.as_deref())?;
    if let Some(path) = &args.rules {
        let rules = rules(path)?;
        for account in &mut settings.accounts {
            account.rules = rules.clone();
        }
    }
    settings.listen = args.listen;
    settings.record_file = args.record;
    settings.state_file = args.state;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut others = Vec::new();
    for (number, (key, mut settings)) in (1..).zip(others_of(&config)) {
        settings.listen.set_ip(args.listen.ip());
        let port = args.listen.port().checked_add(number);
        settings
            .listen
            .set_port(port.context("--listen leaves no ports for every account")?);
        let running = PlatformSandbox::start(settings, Arc::clone(&clock)).await?;
        let addr = running.addr;
        tracing::info!("phone of `{key}` at http://{addr}/: its API is at the same address");
        others.push(running);
    }
    let wechat = match settings.accounts.is_empty() {
        true => None,
        false => Some(Sandbox::start(settings, clock).await?),
    };
    if let Some(running) = &wechat {
        tracing::info!("sandbox phone at http://{}/", running.addr);
    }
    tokio::signal::ctrl_c().await.context("listen for SIGINT")?;
    for running in others {
        running.stop().await;
    }
    if let Some(running) = wechat {
        running.stop().await;
    }
    Ok(())
}

/// Where a server's callbacks begin.
fn callbacks(config: &Config) -> String {
    let base = match &config.server.public_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => format!("http://{}", config.server.listen),
    };
    format!("{base}/callback")
}

/// The platform of every configured account that is not on WeChat, by the account's key. Each listens
/// on a port of its own.
fn others_of(config: &Config) -> Vec<(String, PlatformSettings)> {
    let base = callbacks(config);
    let others = config.accounts.iter().filter_map(|account| {
        let played = match &account.access {
            Access::Wechat(_) => return None,
            Access::Line(line) => Played::Line {
                channel_secret: line.channel_secret.clone(),
                channel_access_token: line.channel_access_token.clone(),
            },
            Access::Telegram(bot) => Played::Telegram {
                bot_token: bot.bot_token.clone(),
                secret_token: bot.secret_token.clone(),
            },
            Access::WecomKf(kf) => Played::WecomKf {
                corp_id: kf.corp_id.clone(),
                corp_secret: kf.corp_secret.clone(),
                open_kfid: kf.open_kfid.clone(),
                token: kf.token.clone(),
                encoding_aes_key: kf.encoding_aes_key.clone(),
            },
            Access::Webhook(webhook) => Played::Webhook {
                secret: webhook.secret.clone(),
            },
        };
        let callback_url = format!("{base}/{}", account.key);
        let mut settings = PlatformSettings::new(played, callback_url);
        settings.callback_pause = Duration::from_secs(1);
        Some((account.key.clone(), settings))
    });
    others.collect()
}

fn rules(path: &Path) -> Result<AccountRules> {
    let file = path.display().to_string();
    let text = directory::read_text(path, yaml::FILE_MAX);
    let text = text.map_err(|error| anyhow!("{file} {error}"))?;
    yaml::read(&text, &file).map_err(|problem| anyhow!(problem.render(false)))
}

/// The platform's side of every configured account.
pub(super) fn settings(config: &Config, profile: Option<&str>) -> Result<SandboxSettings> {
    let base = callbacks(config);
    let menu = menu(config);
    let mut accounts = Vec::new();
    for account in &config.accounts {
        let Some(access) = account.access.wechat() else {
            continue;
        };
        let rules = profile.unwrap_or(&account.profile);
        let profile = [Profile::Wechat48h, Profile::Wechat2023]
            .into_iter()
            .find(|one| one.name() == rules);
        let Some(profile) = profile else {
            bail!("the sandbox does not play `{rules}`: use wechat-48h or wechat-2023");
        };
        let original: String = Sha256::digest(&access.app_id)
            .iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        accounts.push(SandboxAccount {
            app_id: access.app_id.clone(),
            app_secret: access.app_secret.clone(),
            token: access.token.clone(),
            encoding_aes_key: access
                .encoding_aes_key
                .clone()
                .unwrap_or_else(|| SecretString::from("A".repeat(43))),
            mode: match access.mode {
                CallbackMode::Safe => Mode::Safe,
                CallbackMode::Compat => Mode::Compat,
                CallbackMode::Plain => Mode::Plain,
            },
            format: Format::Xml,
            original_id: format!("gh_{original}"),
            callback_url: format!("{base}/{}", account.key),
            profile,
            name: account.name.clone(),
            menu: menu.clone(),
            rules: AccountRules::default(),
        });
    }
    if config.accounts.is_empty() {
        bail!("the configuration has no accounts: the sandbox would have nobody to play for");
    }
    Ok(SandboxSettings::new(accounts))
}

/// A button for each menu click that a sequence waits for.
fn menu(config: &Config) -> Vec<MenuButton> {
    let loaded = directory::load_dir(&config.sequences.dir);
    loaded
        .sequences
        .iter()
        .filter_map(|source| match &source.sequence.trigger {
            Trigger::Click { key: Some(key) } if !key.0.contains('*') => Some(MenuButton {
                label: source.sequence.title.clone(),
                key: key.0.clone(),
            }),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<AccountRules> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), text)?;
        rules(file.path())
    }

    #[test]
    fn rules_are_read_from_yaml_and_a_mistake_is_named_with_its_place() {
        let read_rules = read(
            "kind: subscription\n\
             stacking: add\n\
             quotas:\n  /cgi-bin/user/get: { per_day: 10 }\n\
             templates:\n  - { id: lesson, kind: subscription, keys: [thing1] }\n",
        )
        .unwrap();
        assert_eq!(read_rules.quotas["/cgi-bin/user/get"].per_day, Some(10));
        assert_eq!(read_rules.templates[0].keys, ["thing1"]);
        assert!(read_rules.verified);
        let told = read("verified: true\nstaking: add\n")
            .unwrap_err()
            .to_string();
        assert!(told.contains("staking") && told.contains(":2:"), "{told}");
    }
}
