//! What a sequence's rules may be: events, names, spans, zones, and the order of its steps.

use super::*;

#[test]
fn events_have_their_own_filters() {
    let with = |trigger: &str| {
        format!(
            "sequence: a\ntrigger: {trigger}\nsteps:\n  - id: x\n    after: 0s\n    say: {{ text: a }}\n"
        )
    };
    check(
        &with("folow"),
        "2:10",
        "unknown event `folow`",
        "did you mean `follow`?",
    );
    check(
        &with("{ scna: {} }"),
        "2:12",
        "unknown event `scna`",
        "did you mean `scan`?",
    );
    check(
        &with("{ follow: { text: a } }"),
        "2:28",
        "has no `text`",
        "is `scene`",
    );
    check(
        &with("{ api: { key: a } }"),
        "2:24",
        "has no `key`",
        "leave it out",
    );
    check(
        &with("{ scan: { scen: a } }"),
        "2:20",
        "unknown key `scen`",
        "`scene`",
    );
    check(
        &with("{ scan: {}, follow: {} }"),
        "2:10",
        "only one event",
        "-",
    );
    check(
        &with("{ scan: { scene: \"\" } }"),
        "2:27",
        "0 characters",
        "1 to 64",
    );
    let exit = |exit: &str| format!("{}exit_on: [{exit}]\n", step("say: { text: a }"));
    check(
        &exit("unfollow"),
        "7:11",
        "cannot be chosen",
        "always ends it",
    );
    check(
        &exit("mesage"),
        "7:11",
        "unknown event `mesage`",
        "`message`",
    );
    assert!(read(&with("{ message: }")).is_ok());
}

#[test]
fn names_spans_times_and_zones_are_checked() {
    let top = |line: &str| {
        format!(
            "{line}\n{}",
            step("say: { text: a }").replacen("sequence: a\n", "", 1)
        )
    };
    check(
        &top("sequence: Willkommen"),
        "1:11",
        "is not a name",
        "small letters",
    );
    let line = |line: &str| format!("{}{line}\n", step("say: { text: a }"));
    check(
        &line("reenter: sometimes"),
        "7:10",
        "no rule for entering",
        "after 30d",
    );
    check(
        &line("reenter: after soon"),
        "7:10",
        "is not a span",
        "after 30d",
    );
    check(&line("horizon: 500d"), "7:10", "too long", "366d");
    check(&line("min_gap: 5"), "7:10", "has no unit", "30s");
    check(&line("spread: 2h"), "7:9", "too long", "1h");
    check(
        &line("timezone: Asia/Beijin"),
        "7:11",
        "no time zone",
        "Asia/Shanghai",
    );
    check(
        &line("accounts: []"),
        "7:11",
        "`accounts` is empty",
        "leave `accounts` out",
    );
    check(&line("accounts: [a, a]"), "7:15", "twice", "keep one");
    let quiet = |from: &str, to: &str| line(&format!("quiet_hours: {{ from: {from}, to: {to} }}"));
    check(
        &quiet("25:00", "\"08:00\""),
        "7:22",
        "not a time of day",
        "23:59",
    );
    check(
        &quiet("9:00", "\"08:00\""),
        "7:22",
        "not a time of day",
        "in quotes",
    );
    check(
        &quiet("08:00", "08:00"),
        "7:33",
        "end when they begin",
        "different",
    );
    let zones =
        "timezone: Asia/Tokyo\nquiet_hours: { from: \"23:00\", to: \"08:00\", timezone: UTC }";
    check(
        &line(zones),
        "8:54",
        "in `UTC`, the sequence in `Asia/Tokyo`",
        "one zone",
    );
}

#[test]
fn steps_go_forward_within_the_horizon() {
    let steps = |list: &[&str]| {
        let lines: Vec<String> = list
            .iter()
            .enumerate()
            .map(|(index, due)| format!("  - {{ id: s{index}, {due}, say: {{ text: a }} }}\n"))
            .collect();
        format!("{HEAD}steps:\n{}", lines.concat())
    };
    check(
        &format!("{HEAD}steps: []\n"),
        "3:8",
        "at least one step",
        "say:",
    );
    check(
        &steps(&["after: 3d"]),
        "4:22",
        "due up to 3d",
        "`horizon: 3d`",
    );
    check(
        &steps(&["at: { day: 2, time: \"09:00\" }"]),
        "4:19",
        "2d9h",
        "`horizon: 2d9h`",
    );
    check(
        &steps(&["after: 2h", "after: 1h"]),
        "5:22",
        "before the one above",
        "move it up",
    );
    check(
        &steps(&[
            "at: { day: 1, time: \"00:00\" }",
            "at: { day: 0, time: \"23:00\" }",
        ]),
        "5:19",
        "before the one above",
        "move it up",
    );
    check(
        &steps(&["after: 40h", "at: { day: 1, time: \"09:00\" }"]),
        "5:19",
        "before",
        "move",
    );
    assert!(read(&steps(&["at: { day: 1, time: \"09:00\" }", "after: 30h"])).is_ok());
    check(
        &steps(&["after: 0s, at: { day: 1, time: \"09:00\" }"]),
        "4:30",
        "either",
        "leave one",
    );
    check(
        &steps(&["closed: hold"]),
        "4:11",
        "when it is due",
        "add `after: 10m`",
    );
    let twice = steps(&["after: 1h", "after: 2h"]).replace("s1", "s0");
    check(
        &twice,
        "5:11",
        "the step `s0` is here twice",
        "name of its own",
    );
    let many: Vec<&str> = vec!["after: 1h"; 201];
    check(&steps(&many), "204:5", "has 201 steps", "at most 200");
    assert_eq!(read(&steps(&many[..200])).unwrap().steps.len(), 200);
}

#[test]
fn a_sequence_says_what_it_does_about_those_who_are_found_later() {
    let with = |rule: &str| {
        format!(
            "sequence: a\ntrigger: follow\n{rule}steps:\n  - id: x\n    after: 0s\n    say: {{ text: a }}\n"
        )
    };
    for (rule, meant) in [
        ("", Reconcile::Enroll),
        ("reconcile: enroll\n", Reconcile::Enroll),
        ("reconcile: record\n", Reconcile::Record),
    ] {
        let parsed = parse(&with(rule), "a.yaml", &found).unwrap();
        assert_eq!(parsed.sequence.reconcile, meant, "{rule}");
    }
    assert!(parse(&with("reconcile: both\n"), "a.yaml", &found).is_err());
}
