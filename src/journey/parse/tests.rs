//! Every class of mistake, with its line, its column and its fix.

use std::collections::BTreeMap;
use std::time::Duration;

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
        (hello.closed, hello.on_unknown),
        (Closed::Hold, OnUnknown::Resend)
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
    assert_eq!((x.closed, x.on_unknown), (Closed::Skip, OnUnknown::Skip));
    assert_eq!(x.late.then, LateThen::Skip);
    assert_eq!(y.late.then, LateThen::Shift);
    assert_eq!(y.late.after, Duration::from_secs(2 * 3_600));
    assert_eq!((y.closed, y.on_unknown), (Closed::Hold, OnUnknown::Resend));
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
fn messages_stay_within_the_platforms_limits() {
    let text = |length: usize| step(&format!("say: {{ text: \"{}\" }}", "a".repeat(length)));
    assert!(read(&text(2048)).is_ok());
    check(&text(2049), "6:18", "2049 bytes", "shorter");
    check(
        &step("say: { text: \"  \" }"),
        "6:18",
        "is empty",
        "write something",
    );
    let long = format!("say: {{ text: \"{{{{ step.id }}}}{}\" }}", "a".repeat(2049));
    check(&step(&long), "6:18", "2049 bytes", "shorter");
    let news = |title: &str, url: &str| {
        step(&format!(
            "say: {{ news: {{ title: {title}, url: \"{url}\" }} }}"
        ))
    };
    assert!(read(&news("a", "https://example.com/{{ sequence.name }}")).is_ok());
    check(
        &news("a", "javascript:alert(1)"),
        "6:35",
        "does not begin with https",
        "https://",
    );
    check(
        &news("a", "https://user@example.com"),
        "6:35",
        "a user name",
        "https://",
    );
    check(
        &news("a", "https://a.example{{ follower.scene }}"),
        "6:35",
        "in its host",
        "https://",
    );
    check(
        &news("a", "{{ follower.scene }}"),
        "6:35",
        "is no link",
        "https://",
    );
    check(&news("a", "https://a b"), "6:35", "has a space", "https://");
    check(
        &news(&"好".repeat(65), "https://a.example/"),
        "6:27",
        "65 characters",
        "at most 64",
    );
    let menu = |items: &str| {
        step(&format!(
            "say: {{ msgmenu: {{ head: a, items: [{items}] }} }}"
        ))
    };
    check(&menu(""), "6:39", "has 0 choices", "1 to 20");
    check(
        &menu("{ id: a, text: x }, { id: a, text: y }"),
        "6:66",
        "twice",
        "of its own",
    );
    let page = step("say: { miniprogrampage: { title: a, app_id: gh_1, path: p, thumb: t.jpg } }");
    check(&page, "6:49", "is no app id", "`wx`");
    check(
        &step("say: { en: { text: a } }"),
        "6:12",
        "no message for other languages",
        "default",
    );
    check(
        &step("say: { default: { text: a }, text: b }"),
        "6:10",
        "among languages",
        "-",
    );
    check(
        &step("say: { default: { text: a }, English: { text: b } }"),
        "6:34",
        "no language",
        "zh_CN",
    );
}

#[test]
fn templates_are_refused_where_they_are_wrong() {
    check(
        &step("say: { text: \"你好 {{ follower.name }}\" }"),
        "6:25",
        "unknown variable `follower.name`",
        "follower.tags",
    );
    let block = "say:\n      text: |\n        Hello\n        {{ step.id }} and {{ follower.scen }}";
    check(
        &step(block),
        "9:30",
        "unknown variable `follower.scen`",
        "`follower.scene`",
    );
    check(
        &step("say: { text: \"{% for a in b %}\" }"),
        "6:22",
        "`for` is not allowed",
        "use `if`",
    );
    check(
        &step("when: \"'vip' on follower.tags\"\n    say: { text: a }"),
        "6:18",
        "`on` is not allowed",
        "not, and, or",
    );
    check(
        &step("when: \"\"\n    say: { text: a }"),
        "6:11",
        "is empty",
        "leave it out",
    );
    check(
        &step("say: { image: \"{{ step.id }}.png\" }"),
        "6:19",
        "same for everybody",
        "without",
    );
}

#[test]
fn files_stay_below_the_directory_and_are_what_they_should_be() {
    let image = |file: &str| step(&format!("say: {{ image: \"{file}\" }}"));
    for file in [
        "/etc/passwd.png",
        "../a.png",
        "a/../../b.png",
        "a/./b.png",
        "~/a.png",
        "a//b.png",
    ] {
        check(
            &image(file),
            "6:19",
            "leads out of the directory",
            "beside this file",
        );
    }
    for file in [
        "..\\\\a.png",
        "C:a.png",
        "%2e%2e/a.png",
        "a\\u0000.png",
        "a*.png",
        "a\\n.png",
    ] {
        check(
            &image(file),
            "6:19",
            "a character that no path",
            "beside this file",
        );
    }
    check(
        &image("a.bmp"),
        "6:19",
        "cannot be an image",
        "png, jpg, jpeg, gif",
    );
    check(&image("a"), "6:19", "cannot be an image", "at most 10 MB");
    check(
        &image("ftp://a.example/a.png"),
        "6:19",
        "does not begin with https",
        "https://",
    );
    assert!(read(&image("https://a.example/a.png")).is_ok());
    check(
        &step("say: { voice: a.png }"),
        "6:19",
        "cannot be a voice message",
        "amr, mp3",
    );
    let large = |_: &str| {
        Ok(AssetFacts {
            sha256: String::new(),
            size: 11 << 20,
        })
    };
    let problems = parse(&image("a.png"), "a.yaml", &large).unwrap_err();
    assert_eq!(
        problems[0].message,
        "`a.png` has 11534336 bytes, more than 10 MB"
    );
    let gone = |_: &str| Err("does not exist".to_owned());
    let problems = parse(&image("a.png"), "a.yaml", &gone).unwrap_err();
    assert_eq!(problems[0].message, "`a.png` does not exist");
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
