//! Every class of mistake, with its line, its column and its fix.

mod closed;
mod links;
mod messages;
mod rules;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::journey::message::{Asset, Message};
use crate::journey::sequence::{Due, ExitOn, Pattern, Trigger};

const HEAD: &str = "sequence: a\ntrigger: api\n";
const SKETCH: &str = r#"
sequence: welcome
title: 新粉欢迎
trigger: { follow: {} }              # follow | scan | message | click | tag | api
reenter: after 30d                   # never | always | after <duration>
exit_on: [message]                   # unfollow always exits
quiet_hours: { from: "23:00", to: "08:00", timezone: account, then: shift }
closed: hold
steps:
  - id: hello
    after: 0s
    say: { text: "欢迎关注！回复 1 领取新手礼包" }
  - id: guide
    after: 10m
    say: { image: assets/guide.png }
  - id: offer
    after: 23h
    when: "'vip' not in follower.tags"
    say:
      zh_CN: { news: { title: 限时礼包, description: 今晚截止, url: "https://example.com/offer", picture: assets/offer.png } }
      default: { text: "Your starter pack: https://example.com/offer" }
"#;

fn found(_: &str) -> Result<AssetFacts, String> {
    Ok(AssetFacts {
        sha256: "ab".to_owned(),
        size: 10,
    })
}

fn read(text: &str) -> Result<Sequence, Vec<Problem>> {
    parse(text, "a.yaml", &found).map(|parsed| parsed.sequence)
}

/// The one problem of a text, as `line:column message / fix`.
fn only_problem(text: &str) -> String {
    let problems = read(text).expect_err(text);
    assert_eq!(problems.len(), 1, "{text}\n{problems:#?}");
    let problem = &problems[0];
    let fix = problem.fix.as_deref().unwrap_or("-");
    format!(
        "{}:{} {} / {fix}",
        problem.line, problem.column, problem.message
    )
}

fn check(text: &str, place: &str, message: &str, fix: &str) {
    let problem = only_problem(text);
    let (at, rest) = problem.split_once(' ').unwrap();
    let (said, advised) = rest.split_once(" / ").unwrap();
    assert_eq!(at, place, "{text}\n{problem}");
    assert!(said.contains(message), "{text}\n{problem}");
    assert!(advised.contains(fix), "{text}\n{problem}");
}

fn step(body: &str) -> String {
    format!("{HEAD}steps:\n  - id: x\n    after: 0s\n    {body}\n")
}

#[test]
fn the_sketch_of_the_design_is_a_sequence() {
    let parsed = parse(SKETCH, "welcome.yaml", &found).unwrap();
    assert_eq!(parsed.files, ["assets/guide.png", "assets/offer.png"]);
    let sequence = parsed.sequence;
    assert_eq!(sequence.name, "welcome");
    assert_eq!(sequence.title, "新粉欢迎");
    assert_eq!(sequence.trigger, Trigger::Follow { scene: None });
    assert_eq!(
        sequence.reenter,
        Reenter::After(Duration::from_secs(30 * 86_400))
    );
    assert_eq!(sequence.exit_on, [ExitOn::Message(None)]);
    assert_eq!(sequence.timezone, None);
    assert_eq!(sequence.horizon, HORIZON_DEFAULT);
    assert_eq!(sequence.min_gap, Duration::from_secs(2));
    assert_eq!(sequence.spread, Duration::ZERO);
    assert_eq!(sequence.quiet_hours.unwrap().then, Quiet::Shift);
    let [hello, guide, offer] = &sequence.steps[..] else {
        panic!("three steps");
    };
    assert_eq!(hello.due, Due::After(Duration::ZERO));
    assert_eq!(hello.late.after, Duration::from_secs(3_600));
    assert_eq!(hello.late.then, LateThen::Send);
    assert_eq!(
        (hello.closed.clone(), hello.on_unknown),
        (Closed::only(ClosedThen::Hold), OnUnknown::Resend)
    );
    assert_eq!(hello.expire_after, Duration::from_secs(48 * 3_600));
    let picture = Asset::File {
        file: "assets/guide.png".to_owned(),
        sha256: "ab".to_owned(),
    };
    assert_eq!(guide.say.to("en"), &Message::Image(picture));
    assert!(offer.when.is_some());
    assert_eq!(offer.say.to("zh_CN").kind(), "news");
    assert_eq!(offer.say.to("en").kind(), "text");
}

#[test]
fn a_stored_text_is_read_again_without_its_files() {
    let mut hashes = BTreeMap::from([("assets/guide.png".to_owned(), "11".to_owned())]);
    let problems = parse_stored(SKETCH, &hashes).unwrap_err();
    assert!(
        problems[0]
            .message
            .contains("is not stored with this version")
    );
    hashes.insert("assets/offer.png".to_owned(), "22".to_owned());
    let sequence = parse_stored(SKETCH, &hashes).unwrap();
    let Message::News(news) = sequence.steps[2].say.to("zh_CN") else {
        panic!("a card");
    };
    let Some(Asset::File { sha256, .. }) = &news.picture else {
        panic!("a file");
    };
    assert_eq!(sha256, "22");
}

#[test]
fn what_a_step_leaves_out_is_the_sequences() {
    let text = "sequence: a\ntrigger: { click: { key: \"menu-*\" } }\nreenter: always\n\
        min_gap: 5s\nspread: 10m\nlate: { after: 2h, then: skip }\nclosed: skip\n\
        on_unknown: skip\nexpire_after: 6h\nhorizon: 5d\ntimezone: Europe/Berlin\n\
        exit_on: [{ message: { text: \"停*\" } }, { click: { key: X } }, scan]\n\
        quiet_hours: { from: \"22:00\", to: \"07:30\", timezone: Europe/Berlin, then: skip }\n\
        steps:\n  - { id: x, after: 1h, say: { text: hi } }\n  \
        - { id: y, at: { day: 2, time: \"09:00\" }, late: { then: shift }, closed: hold, \
        on_unknown: resend, expire_after: 1h, say: { text: ho } }\n";
    let sequence = read(text).unwrap();
    let pattern = |text: &str| Some(Pattern(text.to_owned()));
    assert_eq!(
        sequence.trigger,
        Trigger::Click {
            key: pattern("menu-*")
        }
    );
    assert_eq!(
        sequence.exit_on,
        [
            ExitOn::Message(pattern("停*")),
            ExitOn::Click(pattern("X")),
            ExitOn::Scan(None)
        ]
    );
    assert_eq!(sequence.timezone.as_deref(), Some("Europe/Berlin"));
    let [x, y] = &sequence.steps[..] else {
        panic!("two steps");
    };
    assert_eq!(
        (x.closed.clone(), x.on_unknown),
        (Closed::only(ClosedThen::Skip), OnUnknown::Skip)
    );
    assert_eq!(x.late.then, LateThen::Skip);
    assert_eq!(y.late.then, LateThen::Shift);
    assert_eq!(y.late.after, Duration::from_secs(2 * 3_600));
    assert_eq!(
        (y.closed.clone(), y.on_unknown),
        (Closed::only(ClosedThen::Hold), OnUnknown::Resend)
    );
    assert_eq!(
        (x.expire_after, y.expire_after),
        (seconds(6 * 3_600), seconds(3_600))
    );
    let nine = Time::constant(9, 0, 0, 0);
    assert_eq!(y.due, Due::At { day: 2, time: nine });
}

#[test]
fn a_file_of_the_wrong_shape_names_the_key_and_what_fits() {
    check(
        "sequence: a\ntitel: x\n",
        "2:1",
        "unknown key `titel`",
        "did you mean `title`?",
    );
    check(
        "sequence: a\ntrigger: api\n",
        "2:1",
        "`steps` is missing",
        "add `steps:`",
    );
    check(
        "sequence: a\nsequence: b\n",
        "2:1",
        "`sequence` is here twice",
        "keep one",
    );
    check("sequence: [", "1:11", "expected text here", "-");
    check("sequence:\n  - a\n", "2:3", "expected text here", "-");
    check("", "1:1", "ends too early", "-");
    check(
        "sequence: a\n trigger: api\n",
        "2:9",
        "not allowed in this context",
        "-",
    );
    check(
        &step("say: { text: a }\n    closed: hol"),
        "7:13",
        "unknown word `hol`",
        "`hold`",
    );
    check(
        &step("say: { text: a, image: a.png }"),
        "6:10",
        "one kind only",
        "-",
    );
    check(
        &step("say: { txt: a }"),
        "6:12",
        "unknown word `txt`",
        "did you mean `text`?",
    );
    check(
        &step("say: { en: { txt: a } }"),
        "6:18",
        "unknown word `txt`",
        "`text`",
    );
    check(
        &step("say: hello"),
        "6:10",
        "does not say what kind",
        "say: { text: … }",
    );
    check(&step("say: [hello]"), "6:5", "expected a message", "-");
    check(&step("say: { text: [a] }"), "6:18", "expected text", "-");
    let day =
        "sequence: a\ntrigger: api\nsteps:\n  - id: x\n    at: { day: -1, time: \"09:00\" }\n";
    check(
        &format!("{day}    say: {{ text: a }}\n"),
        "5:16",
        "no whole number",
        "-",
    );
}

#[test]
fn yaml_that_makes_small_files_big_is_refused() {
    check(
        "sequence: &name a\n",
        "1:17",
        "anchors and aliases",
        "write the value out",
    );
    check(
        "sequence: *name\n",
        "1:11",
        "anchors and aliases",
        "write the value out",
    );
    check(
        "<<: { sequence: a }\n",
        "1:1",
        "merge keys",
        "write the keys out",
    );
    let deep = format!("{HEAD}steps: {}{}", "[".repeat(40), "]".repeat(40));
    assert!(read(&deep).is_err());
    check(&"#".repeat(300_000), "0:0", "300000 bytes", "-");
    let two = format!("{}---\nsequence: b\n", step("say: { text: a }"));
    check(&two, "7:1", "a second document", "keep one document");
    let many = "  - { id: x, after: 0s, say: { text: a } }\n".repeat(4_000);
    check(
        &format!("{HEAD}steps:\n{many}"),
        "2225:21",
        "more than is read",
        "split it",
    );
}

#[test]
fn one_look_finds_every_mistake_in_the_order_of_the_file() {
    let text = "sequence: A\ntrigger: api\nhorizon: x\nsteps:\n  - id: Y\n    after: 1\n    say: { text: \"{{ a }}\" }\n";
    let problems = read(text).unwrap_err();
    let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [1, 3, 5, 6, 7]);
}

#[test]
fn a_problem_is_printed_with_its_line_and_a_caret() {
    let problems =
        read("sequence: a\ntrigger: folow\nsteps:\n  - { id: x, after: 0s, say: { text: a } }\n");
    let expected = "\
error: unknown event `folow`
 --> a.yaml:2:10
  |
2 | trigger: folow
  |          ^^^^^
  |
  = help: did you mean `follow`? allowed here: follow, scan, message, click, api";
    assert_eq!(problems.unwrap_err()[0].render(false), expected);
}

proptest! {
    /// Whatever happens to a file, reading it ends with a sequence or with problems inside it.
    #[test]
    fn damaged_files_are_refused_in_an_orderly_way(
        cuts in proptest::collection::vec((0_usize..SKETCH.len(), 0_usize..20), 1..4),
        put in proptest::sample::select(vec![
            "", " ", "\n", ":", "- ", "\t", "{", "}", "[", "]", "\"", "'", "|", "&a", "*a", "!!int ",
            "<<: ", "---\n", "#", "{{", "%}", "好", "\u{0}", "\u{feff}", "99999999999999999999",
        ]),
    ) {
        let mut text = SKETCH.to_owned();
        for (from, length) in cuts {
            let start = (0..=from.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
            let start = start.unwrap_or(0);
            let end = (start + length).min(text.len());
            let end = (end..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
            text.replace_range(start..end, put);
        }
        if let Err(problems) = read(&text) {
            prop_assert!(!problems.is_empty());
            let lines = text.lines().count() + 1;
            for problem in problems {
                prop_assert!(problem.line <= lines, "{text}\n{problem}");
                prop_assert!(!problem.render(false).is_empty());
            }
        }
    }
}
