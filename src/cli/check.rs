//! `dripwheel check`: every problem of a directory of sequences, with its place and its mend; and what
//! the platform's rules make of each step.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::cli::print;
use crate::config::forecast::{Forecast, Outlook, Target, between, forecast, targets};
use crate::config::{Config, default_rules, directory, profiles};
use crate::policy::profile::Profiles;
use crate::yaml::{Problem, print_span, render_all};

#[derive(clap::Args, Debug)]
pub(super) struct CheckArgs {
    /// Directory of sequence files; the configuration's when one is given.
    dir: Option<PathBuf>,
    /// Holds each sequence against the rules of the accounts that it runs on.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Holds every sequence against these rules instead.
    #[arg(long)]
    profile: Option<String>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Exit code 1 when there is a problem or a step that is never sent; warnings are none.
pub(super) fn run(args: &CheckArgs) -> Result<ExitCode> {
    let config = match &args.config {
        Some(path) => Config::load(path).map_err(|found| anyhow!(render_all(&found, false)))?,
        None => Config::default(),
    };
    let profiles = profiles::load(&config.profiles);
    let profiles = profiles.map_err(|found| anyhow!(render_all(&found, false)))?;
    let targets = rules(args, &config, &profiles)?;
    let dir = args.dir.as_ref().unwrap_or(&config.sequences.dir);
    let loaded = directory::load_dir(dir);
    let found = forecast(&loaded.sequences, &targets);
    let report = Report {
        problems: &loaded.problems,
        forecast: &found,
        sequences: loaded.sequences.len(),
        steps: loaded.steps(),
        overridden: profiles.overridden(),
    };
    if args.json {
        print(&serde_json::to_string_pretty(&report.json())?)?;
    } else {
        print(&report.text(&dir.display().to_string()))?;
    }
    let fine = loaded.problems.is_empty() && found.errors.is_empty();
    Ok(if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The rules to hold the sequences against.
fn rules(args: &CheckArgs, config: &Config, profiles: &Profiles) -> Result<Vec<Target>> {
    let of_accounts = targets(config, profiles)
        .map_err(|(account, what)| anyhow!("account `{account}`: {what}"))?;
    if args.profile.is_none() && !of_accounts.is_empty() {
        return Ok(of_accounts);
    }
    let (preset, zone) = default_rules();
    let name = args.profile.as_deref().unwrap_or(&preset);
    let Some(profile) = profiles.named(name) else {
        let names = profiles.names().join(", ");
        bail!("there is no profile `{name}`: use one of {names}");
    };
    Ok(vec![Target {
        accounts: Vec::new(),
        passive: profile.passive_by_default(),
        profile,
        zone: TimeZone::get(&zone).unwrap_or(TimeZone::UTC),
        track_links: true,
        public: true,
    }])
}

struct Report<'a> {
    problems: &'a [Problem],
    forecast: &'a Forecast,
    sequences: usize,
    steps: usize,
    overridden: Vec<&'a str>,
}

impl Report<'_> {
    fn json(&self) -> Value {
        let outlooks = self.forecast.outlooks.iter().map(|outlook| {
            let steps = outlook.steps.iter().map(|step| {
                json!({
                    "id": step.id,
                    "earliest": print_span(step.earliest),
                    "latest": print_span(step.latest),
                    "standing": step.standing.word(),
                    "carried_by": step.carried_by,
                })
            });
            json!({
                "sequence": outlook.sequence,
                "file": outlook.file,
                "profile": outlook.profile,
                "accounts": outlook.accounts,
                "steps": steps.collect::<Vec<_>>(),
            })
        });
        let all = self.problems.iter().chain(&self.forecast.errors);
        json!({
            "sequences": self.sequences,
            "steps": self.steps,
            "problems": all.map(listed).collect::<Vec<_>>(),
            "warnings": self.forecast.warnings.iter().map(listed).collect::<Vec<_>>(),
            "outlooks": outlooks.collect::<Vec<_>>(),
            "overridden_profiles": self.overridden,
        })
    }

    fn text(&self, dir: &str) -> String {
        let color = std::io::IsTerminal::is_terminal(&std::io::stdout());
        let mut text = String::new();
        for name in &self.overridden {
            text.push_str(&format!(
                "your own profile `{name}` goes before the shipped one\n\n"
            ));
        }
        for outlook in &self.forecast.outlooks {
            text.push_str(&table(outlook));
        }
        for warning in &self.forecast.warnings {
            text.push_str(&warning.render_warning(color));
            text.push_str("\n\n");
        }
        text.push_str(&render_all(self.problems, color));
        text.push_str(&render_all(&self.forecast.errors, color));
        let problems = self.problems.len() + self.forecast.errors.len();
        let count = |count: usize, one: &str| match count {
            0 => format!("no {one}s"),
            1 => format!("1 {one}"),
            many => format!("{many} {one}s"),
        };
        text.push_str(&format!(
            "{dir}: {}, {}, {}, {}\n",
            count(self.sequences, "sequence"),
            count(self.steps, "step"),
            count(problems, "problem"),
            count(self.forecast.warnings.len(), "warning")
        ));
        text
    }
}

fn listed(one: &Problem) -> Value {
    json!({
        "file": one.file,
        "line": one.line,
        "column": one.column,
        "message": one.message,
        "fix": one.fix,
    })
}

/// One line for each step, in columns; a step's further ways stand below the first.
fn table(outlook: &Outlook) -> String {
    let accounts = match outlook.accounts.as_slice() {
        [] => String::new(),
        some if some.len() <= 5 => format!(" for {}", some.join(", ")),
        [first, rest @ ..] => format!(" for {first} and {} more", rest.len()),
    };
    let mut text = format!("{} under {}{accounts}\n", outlook.sequence, outlook.profile);
    let rows: Vec<_> = outlook
        .steps
        .iter()
        .map(|step| {
            let after = between(step.earliest, step.latest);
            (step.id.as_str(), after, &step.carried_by)
        })
        .collect();
    let ids = rows.iter().map(|(id, ..)| id.len()).max().unwrap_or(0);
    let spans = rows
        .iter()
        .map(|(_, span, _)| span.len())
        .max()
        .unwrap_or(0);
    for (id, after, ways) in rows {
        for (n, way) in ways.iter().enumerate() {
            let (id, after, or) = match n {
                0 => (id, after.as_str(), ""),
                _ => ("", "", "or "),
            };
            text.push_str(&format!("  {id:ids$}  {after:spans$}  {or}{way}\n"));
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(profile: &str) -> (Forecast, Vec<Problem>) {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sequences");
        let loaded = directory::load_dir(&dir);
        let args = CheckArgs {
            dir: None,
            config: None,
            profile: Some(profile.to_owned()),
            json: false,
        };
        let rules = rules(&args, &Config::default(), &Profiles::default()).unwrap();
        (forecast(&loaded.sequences, &rules), loaded.problems)
    }

    fn report<'a>(found: &'a (Forecast, Vec<Problem>)) -> Report<'a> {
        Report {
            problems: &found.1,
            forecast: &found.0,
            sequences: 2,
            steps: 6,
            overridden: vec!["wechat-2023"],
        }
    }

    #[test]
    fn the_table_tells_each_step_in_its_line_and_counts_at_the_end() {
        let text = report(&checked("wechat-2023")).text("sequences");
        let line = |start: &str| {
            let line = text
                .lines()
                .find(|line| line.trim_start().starts_with(start));
            line.unwrap_or_else(|| panic!("no {start} in {text}"))
                .to_owned()
        };
        assert!(line("hello").ends_with("0s           the answer to the event itself"));
        assert!(line("guide").contains("10m to 9h    only if the follower writes a message"));
        assert!(text.starts_with("your own profile `wechat-2023` goes before"));
        assert!(
            text.ends_with("2 sequences, 6 steps, no problems, 5 warnings\n"),
            "{text}"
        );
    }

    #[test]
    fn the_report_for_programs_says_the_same() {
        let found = checked("wechat-48h");
        let json = report(&found).json();
        assert_eq!(json["problems"], json!([]));
        assert_eq!(json["warnings"], json!([]));
        let welcome = &json["outlooks"][1];
        assert_eq!(welcome["profile"], "wechat-48h");
        let offer = &welcome["steps"][3];
        assert_eq!(
            (&offer["earliest"], &offer["latest"]),
            (&json!("23h"), &json!("1d8h"))
        );
        assert_eq!(offer["standing"], "carried");
    }

    #[test]
    fn warnings_leave_the_exit_code_alone_and_an_unknown_profile_is_told() {
        let mut args = CheckArgs {
            dir: Some(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sequences")),
            config: None,
            profile: Some("wechat-2023".to_owned()),
            json: true,
        };
        let code = run(&args).unwrap();
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
        args.profile = Some("wechat".to_owned());
        assert!(run(&args).unwrap_err().to_string().contains("wecom-kf"));
    }
}
