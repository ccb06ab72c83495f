//! `dripwheel preview`, as a person or a script runs it.

use std::process::{Command, Output};

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dripwheel"));
    let sequences = format!("{ROOT}/sequences");
    command.args(["preview", &sequences]).args(arguments);
    command.output().unwrap()
}

#[test]
fn each_platform_and_language_of_a_step_is_shown_with_what_stands_in_for_it() {
    let output = run(&["--step", "question", "--json"]);
    assert!(output.status.success());
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    let messages = shown["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 10, "two languages on five platforms");
    let of = |platform: &str, language: &str| {
        let mut found = messages
            .iter()
            .filter(|one| one["platform"] == platform && one["language"] == language);
        found.next().unwrap().clone()
    };
    let telegram = of("telegram", "zh_CN");
    let button = &telegram["body"]["reply_markup"]["inline_keyboard"][0][0];
    assert_eq!(button["callback_data"], "start");
    assert!(telegram["fallback"].is_string());
    let line = of("line", "default");
    let replies = line["body"]["quickReply"]["items"].as_array().unwrap();
    assert_eq!(replies.len(), 3);
    assert!(of("wechat", "default")["fallback"].is_null());
}

#[test]
fn what_a_platform_cannot_show_is_said_and_is_a_failure() {
    let output = run(&["--step", "guide", "--platform", "line"]);
    assert!(!output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("not sent") && said.contains("public_url"),
        "{said}"
    );
    let output = run(&["--step", "guide", "--platform", "telegram"]);
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("sendPhoto") && said.contains("guide.png"),
        "{said}"
    );
    let output = run(&["--platform", "pager"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("pager") && said.contains("telegram"),
        "{said}"
    );
}
