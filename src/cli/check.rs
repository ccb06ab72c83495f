//! `dripwheel check`: every problem of a directory of sequences, with its place and its mend.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use crate::cli::print;
use crate::config::directory;
use crate::yaml::render_all;

#[derive(clap::Args, Debug)]
pub(super) struct CheckArgs {
    /// Directory of sequence files.
    #[arg(default_value = "sequences")]
    dir: PathBuf,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Exit code 1 when there is a problem.
pub(super) fn run(args: &CheckArgs) -> Result<ExitCode> {
    let loaded = directory::load_dir(&args.dir);
    let (sequences, steps) = (loaded.sequences.len(), loaded.steps());
    let problems = &loaded.problems;
    if args.json {
        let listed: Vec<_> = problems
            .iter()
            .map(|one| {
                json!({
                    "file": one.file,
                    "line": one.line,
                    "column": one.column,
                    "message": one.message,
                    "fix": one.fix,
                })
            })
            .collect();
        let report = json!({ "sequences": sequences, "steps": steps, "problems": listed });
        print(&serde_json::to_string_pretty(&report)?)?;
    } else if problems.is_empty() {
        let dir = args.dir.display();
        print(&format!(
            "{dir}: {sequences} sequences, {steps} steps, no problems"
        ))?;
    } else {
        let color = std::io::IsTerminal::is_terminal(&std::io::stdout());
        print(&render_all(problems, color))?;
        print(&format!(
            "\n{} problems; {sequences} sequences without any",
            problems.len()
        ))?;
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
