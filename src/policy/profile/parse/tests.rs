//! Every mistake in a profile, with its place and its mend.

use super::*;

const OURS: &str = "\
profile: ours
title: Ours
combine: side_by_side
grants:
  - { kind: act, opened_by: [followed], quota: 3, lasts: 1m, margin: 5s }
spent_codes: [45047]
carriers:
  customer_message: { per_day: 5 }
  passive_reply: { within: 4s, spends: grant, by_default: true }
  mass_send: { per_month: 4, chunk: { least: 2, most: 9 }, gather: 5m }
priority: [operator, drip]
";

/// Checks the one problem of a change; it stands where `word` does.
fn refused(from: &str, to: &str, word: &str, message: &str, fix: &str) {
    let text = OURS.replacen(from, to, 1);
    let start = text.find(to).expect("is there") + to.find(word).expect("is in it");
    let place = yaml::Place::of(&text, start, start + word.len());
    let place = format!("{}:{}", place.line, place.column);
    let problems = parse(&text, "ours.yaml").expect_err(to);
    assert_eq!(problems.len(), 1, "{to}: {problems:#?}");
    let one = &problems[0];
    assert_eq!(format!("{}:{}", one.line, one.column), place, "{one}");
    assert!(one.message.contains(message), "{one}");
    assert!(one.fix.as_deref().unwrap_or("-").contains(fix), "{one}");
}

#[test]
fn a_profile_is_read_as_it_is_written() {
    let ours = parse(OURS, "ours.yaml").expect("is right");
    assert_eq!(ours.name, "ours");
    assert_eq!(ours.combine, Combine::SideBySide);
    assert_eq!(ours.grants[0].opened_by, [Opener::Followed]);
    assert_eq!(ours.grants[0].margin, Duration::from_secs(5));
    assert!(
        ours.carriers
            .passive_reply
            .is_some_and(|one| one.spends_grant)
    );
    assert_eq!(ours.carriers.template, None);
    assert_eq!(ours.priority, [Source::Operator, Source::Drip]);
    let plain = "profile: line\ntitle: LINE\ngrants: []\ncarriers: { customer_message: {} }\n";
    let plain = parse(plain, "line.yaml").expect("has no window");
    assert!(plain.grants.is_empty() && plain.priority.len() == 4);
}

#[test]
fn whatever_is_wrong_is_named_with_its_place_and_its_mend() {
    refused(
        "profile: ours",
        "profile: Ours",
        "Ours",
        "is not a name",
        "small letters",
    );
    refused("title: Ours", "title: \"\"", "\"\"", "0 characters", "200");
    refused(
        "side_by_side",
        "widdest",
        "widdest",
        "unknown word",
        "widest",
    );
    refused("kind: act", "kind: acts", "acts", "no kind", "message");
    refused(
        "[followed]",
        "[folowed]",
        "folowed",
        "opens no grant",
        "`followed`",
    );
    refused("[followed]", "[]", "[]", "nothing opens", "at least one");
    refused("quota: 3", "quota: 0", "0", "no such quota", "1 to 10000");
    refused("lasts: 1m", "lasts: 60", "60", "no unit", "from 1s");
    refused("margin: 5s", "margin: 1m", "1m", "too long", "59s999ms");
    refused(
        "per_day: 5",
        "per_day: 0",
        "0",
        "send nothing",
        "leave it out",
    );
    refused("within: 4s", "within: 2m", "2m", "too long", "1m");
    refused("least: 2", "least: 10", "10", "10 to 9", "`most`");
    refused("per_month: 4", "per_month: 0", "0", "sends none", "leave");
    refused("gather: 5m", "gather: 2d", "2d", "too long", "1d");
    refused(
        "[operator, drip]",
        "[drip, drip]",
        "[drip",
        "twice",
        "keep one",
    );
    refused(
        "priority:",
        "prioritys:",
        "prioritys",
        "unknown key",
        "`priority`",
    );
}

#[test]
fn the_schema_tells_what_every_key_is_for() {
    let schema = profile_schema();
    let properties = schema["properties"].as_object().expect("has keys");
    assert_eq!(properties.len(), 8);
    for (key, value) in properties {
        let told = value["description"].is_string() || key == "carriers";
        assert!(told, "{key}: {value}");
    }
    assert!(!schema.to_string().contains("Raw"));
}
