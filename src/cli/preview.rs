//! `dripwheel preview`: each message of the sequences as each platform shows it, in every language it is
//! written in, with what is shown instead where a platform lacks the kind.
//!
//! Nothing is sent and no database is opened. The words are filled in for a made-up follower.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::cli::print;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::directory::Source;
use crate::config::{Config, default_rules, directory};
use crate::journey::message::Message;
use crate::journey::sequence::Step;
use crate::journey::template::{self, Facts};
use crate::sender::rendering::Screen;
use crate::yaml::render_all;

#[derive(clap::Args, Debug)]
pub(super) struct PreviewArgs {
    /// Directory of sequence files; the configuration's when one is given.
    dir: Option<PathBuf>,
    /// Shows the platforms of the accounts in this file, and not all of them.
    #[arg(long)]
    config: Option<PathBuf>,
    /// One sequence only, by its name.
    #[arg(long)]
    sequence: Option<String>,
    /// One step only, by its id.
    #[arg(long)]
    step: Option<String>,
    /// One platform only: wechat, line, telegram, wecom-kf or webhook.
    #[arg(long)]
    platform: Option<String>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// One message on one platform.
#[derive(Debug)]
struct View {
    sequence: String,
    step: String,
    /// `default`, or a language's tag.
    language: String,
    kind: &'static str,
    platform: &'static str,
    /// The call, its body and what it stands in for; or why nothing is sent.
    shown: Result<(String, Value, Option<&'static str>), String>,
}

/// Exit code 1 when some message cannot be shown on some platform.
pub(super) fn run(args: &PreviewArgs) -> Result<ExitCode> {
    let config = match &args.config {
        Some(path) => Config::load(path).map_err(|found| anyhow!(render_all(&found, false)))?,
        None => Config::default(),
    };
    let screens = screens(args, &config)?;
    let dir = args.dir.as_ref().unwrap_or(&config.sequences.dir);
    let loaded = directory::load_dir(dir);
    if !loaded.problems.is_empty() {
        bail!(render_all(&loaded.problems, false));
    }
    let files_base = config.server.public_url.as_ref();
    let files_base = files_base.map(|url| format!("{url}/files"));
    let now = SystemClock.now();
    let mut views = Vec::new();
    for source in &loaded.sequences {
        let wanted = args
            .sequence
            .as_ref()
            .is_none_or(|name| *name == source.sequence.name);
        let steps = source.sequence.steps.iter().filter(|_| wanted);
        for step in steps.filter(|step| args.step.as_ref().is_none_or(|id| *id == step.id)) {
            views.extend(of_step(source, step, &screens, files_base.as_deref(), now));
        }
    }
    if views.is_empty() {
        bail!(
            "no message of {} is meant: look at --sequence and --step",
            dir.display()
        );
    }
    match args.json {
        true => print(&serde_json::to_string_pretty(&listed(&views))?)?,
        false => print(&told(&views))?,
    }
    Ok(match views.iter().all(|view| view.shown.is_ok()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The platforms to show: the one that is named, those of the accounts, or all.
fn screens(args: &PreviewArgs, config: &Config) -> Result<Vec<Screen>> {
    if let Some(word) = &args.platform {
        let names = Screen::ALL.map(Screen::word).join(", ");
        let screen = Screen::named(word);
        return Ok(vec![screen.ok_or_else(|| {
            anyhow!("there is no platform `{word}`: use one of {names}")
        })?]);
    }
    let theirs = |screen: &Screen| {
        let mut accounts = config.accounts.iter();
        accounts.any(|account| account.access.platform().word() == screen.word())
    };
    let of_accounts: Vec<_> = Screen::ALL.into_iter().filter(theirs).collect();
    Ok(match of_accounts.is_empty() {
        true => Screen::ALL.to_vec(),
        false => of_accounts,
    })
}

fn of_step(
    source: &Source,
    step: &Step,
    screens: &[Screen],
    files_base: Option<&str>,
    now: Timestamp,
) -> Vec<View> {
    let default = ("default", &step.say.default);
    let others = step.say.by_language.iter();
    let written = others.map(|(tag, message)| (tag.as_str(), message));
    let mut views = Vec::new();
    for (language, message) in written.chain([default]) {
        let filled = template::render(message, &facts(source, step, language, now));
        for screen in screens {
            let shown = match &filled {
                Ok(message) => shown(*screen, message, files_base),
                Err(error) => Err(format!("template: {error}")),
            };
            views.push(View {
                sequence: source.sequence.name.clone(),
                step: step.id.clone(),
                language: language.to_owned(),
                kind: message.kind(),
                platform: screen.word(),
                shown,
            });
        }
    }
    views
}

fn shown(
    screen: Screen,
    message: &Message,
    files_base: Option<&str>,
) -> Result<(String, Value, Option<&'static str>), String> {
    let shown = screen.show(message, files_base).map_err(str::to_owned)?;
    Ok((shown.call, shown.body, shown.fallback))
}

/// A follower who has just come.
fn facts(source: &Source, step: &Step, language: &str, now: Timestamp) -> Facts {
    let (_, zone) = default_rules();
    Facts {
        language: if language == "default" {
            "en"
        } else {
            language
        }
        .to_owned(),
        scene: None,
        tags: Vec::new(),
        followed_at: now,
        account_key: "preview".to_owned(),
        account_name: "Preview".to_owned(),
        sequence_name: source.sequence.name.clone(),
        step_id: step.id.clone(),
        now,
        zone: TimeZone::get(&zone).unwrap_or(TimeZone::UTC),
        clicked: Vec::new(),
    }
}

fn told(views: &[View]) -> String {
    let mut text = String::new();
    let mut above = (String::new(), String::new());
    for view in views {
        let head = format!("{} · {}", view.sequence, view.step);
        if above.0 != head {
            text.push_str(&format!("\n{head}\n"));
        }
        let language = format!("  {} ({})", view.language, view.kind);
        if above.0 != head || above.1 != language {
            text.push_str(&format!("{language}\n"));
        }
        above = (head, language);
        let line = match &view.shown {
            Ok((call, body, None)) => format!("{call} {body}"),
            Ok((call, body, Some(fallback))) => {
                format!("{call} {body}\n{:16}instead: {fallback}", "")
            }
            Err(why) => format!("not sent: {why}"),
        };
        text.push_str(&format!("    {:10}  {line}\n", view.platform));
    }
    text.trim_start().to_owned()
}

fn listed(views: &[View]) -> Value {
    let views = views.iter().map(|view| {
        let mut listed = json!({
            "sequence": view.sequence,
            "step": view.step,
            "language": view.language,
            "kind": view.kind,
            "platform": view.platform,
        });
        match &view.shown {
            Ok((call, body, fallback)) => {
                listed["call"] = json!(call);
                listed["body"] = body.clone();
                listed["fallback"] = json!(fallback);
            }
            Err(why) => listed["not_sent"] = json!(why),
        }
        listed
    });
    json!({ "messages": views.collect::<Vec<_>>() })
}
