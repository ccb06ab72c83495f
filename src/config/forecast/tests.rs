//! What `check` says of the shipped sequences, and of what nobody should ship.

use std::path::Path;

use super::*;
use crate::config::directory;
use crate::policy::profile::named;

fn target(name: &str) -> Target {
    let profile = named(name).unwrap();
    Target {
        accounts: vec!["main".to_owned()],
        passive: profile.passive_by_default(),
        track_links: false,
        public: true,
        profile,
        zone: TimeZone::get("Asia/Shanghai").unwrap(),
    }
}

fn shipped(profile: &str) -> Forecast {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("sequences");
    let loaded = directory::load_dir(&dir);
    assert_eq!(loaded.problems, []);
    forecast(&loaded.sequences, &[target(profile)])
}

fn of(text: &str, profile: &str) -> Forecast {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.yaml"), text).unwrap();
    let loaded = directory::load_dir(dir.path());
    assert_eq!(loaded.problems, []);
    forecast(&loaded.sequences, &[target(profile)])
}

#[test]
fn the_shipped_sequences_are_clean_under_the_classic_rule() {
    let forecast = shipped("wechat-48h");
    assert_eq!((forecast.errors, forecast.warnings), (vec![], vec![]));
    let mut steps = forecast.outlooks.iter().flat_map(|one| &one.steps);
    assert!(steps.all(|step| step.standing == Standing::Carried));
}

#[test]
fn under_the_rule_of_today_the_steps_are_named_that_need_the_follower() {
    let forecast = shipped("wechat-2023");
    assert_eq!(forecast.errors, []);
    let welcome = &forecast.outlooks[1];
    assert_eq!(
        (welcome.sequence.as_str(), &*welcome.accounts),
        ("welcome", &["main".to_owned()][..])
    );
    let needing: Vec<_> = welcome
        .steps
        .iter()
        .filter(|step| step.standing == Standing::NeedsFollower)
        .map(|step| step.id.as_str())
        .collect();
    assert_eq!(needing, ["guide", "question", "offer"]);
    let guide = forecast
        .warnings
        .iter()
        .find(|one| one.message.starts_with("step `guide`"));
    let guide = guide.unwrap();
    for part in [
        "writes a message (5 in 2d)",
        "3 messages for 1m",
        "wechat-2023",
        "due 10m to 9h",
    ] {
        assert!(guide.message.contains(part), "{}", guide.message);
    }
    assert!(guide.file.ends_with("welcome.yaml"));
    assert!(guide.excerpt.contains("guide"), "{}", guide.excerpt);
    let fix = guide.fix.as_deref().unwrap();
    assert!(fix.contains("within 55s") && fix.contains(", or "), "{fix}");
    let wholly = forecast
        .warnings
        .iter()
        .filter(|one| one.message.contains("depend wholly"));
    assert_eq!(wholly.count(), 1);
}

const HEAD: &str = "sequence: a\ntrigger: follow\n";

#[test]
fn a_step_that_can_never_go_is_an_error_with_its_place_and_two_ways_out() {
    let text = format!(
        "{HEAD}expire_after: 0s\nsteps:\n  - id: x\n    after: 0s\n    say: {{ text: a }}\n"
    );
    let forecast = of(&text, "wechat-48h");
    assert_eq!(forecast.errors.len(), 1);
    let error = &forecast.errors[0];
    assert_eq!((error.line, error.column), (5, 9));
    assert!(
        error.message.contains("`x` is never sent under wechat-48h"),
        "{error}"
    );
    assert!(error.fix.as_deref().unwrap().contains(", or "), "{error}");
}

#[test]
fn bait_is_noticed_whatever_the_rules() {
    let text =
        format!("{HEAD}steps:\n  - {{ id: x, after: 0s, say: {{ text: 回复 1 领取红包 }} }}\n");
    let forecast = of(&text, "wechat-48h");
    assert_eq!(forecast.errors, []);
    assert!(forecast.warnings[0].message.contains("回复 1 领取红包"));
    assert_eq!(forecast.warnings[0].line, 4);
}

#[test]
fn a_sequence_is_held_against_the_rules_of_its_own_accounts_only() {
    let text = format!(
        "{HEAD}accounts: [other]\nsteps:\n  - {{ id: x, after: 10m, say: {{ text: a }} }}\n"
    );
    assert!(of(&text, "wechat-2023").outlooks.is_empty());
    let own = text.replace("[other]", "[main]");
    let forecast = of(&own, "wechat-2023");
    assert_eq!(forecast.outlooks.len(), 1);
    assert_eq!(forecast.warnings.len(), 1, "one step makes no tail");
}

#[test]
fn a_text_that_the_profile_does_not_take_is_an_error() {
    let text = format!("{HEAD}steps:\n  - {{ id: x, after: 0s, say: {{ text: abcdef }} }}\n");
    let mut short = target("wechat-48h");
    let mut profile = (*short.profile).clone();
    profile.carriers.customer_message.as_mut().unwrap().text_max = Some(5);
    short.profile = Arc::new(profile);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.yaml"), text).unwrap();
    let forecast = forecast(&directory::load_dir(dir.path()).sequences, &[short]);
    assert!(forecast.errors[0].message.contains("6 bytes"));
}
