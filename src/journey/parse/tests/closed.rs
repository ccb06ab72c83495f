//! What `closed:` may say: a word, or carriers with their own content.

use super::*;
use crate::journey::message::Form;
use crate::journey::sequence::Fallback;

fn closed(list: &str) -> String {
    step(&format!("say: {{ text: a }}\n    closed: {list}"))
}

fn notice(form: &str) -> String {
    closed(&format!("[{{ subscription_notice: {form} }}]"))
}

fn read_closed(list: &str) -> Closed {
    let mut sequence = read(&closed(list)).expect(list);
    sequence.steps.remove(0).closed
}

#[test]
fn a_word_is_what_it_always_was() {
    assert_eq!(read_closed("hold"), Closed::only(ClosedThen::Hold));
    assert_eq!(read_closed("skip"), Closed::only(ClosedThen::Skip));
    assert_eq!(read_closed("[skip]"), Closed::only(ClosedThen::Skip));
}

#[test]
fn carriers_are_tried_in_their_order_and_each_says_its_own() {
    let form = "{ template: abc_-1, url: \"https://a.example/{{ step.id }}\", \
        mini_program: { app_id: wx0123456789abcdef, path: pages/index?a=b }, \
        data: { thing1: \"{{ account.name }}\", amount2: 12.50 } }";
    let read = read_closed(&format!(
        "[{{ subscription_notice: {form} }}, {{ template: {form} }}, mass_send, skip]"
    ));
    let [
        Fallback::SubscriptionNotice(first),
        Fallback::Template(second),
        Fallback::MassSend,
    ] = &read.carriers[..]
    else {
        panic!("{read:?}");
    };
    assert_eq!(read.then, ClosedThen::Skip);
    assert_eq!(first, second);
    let Form {
        template,
        url,
        mini_program,
        data,
    } = first;
    assert_eq!(template, "abc_-1");
    assert_eq!(url.as_deref(), Some("https://a.example/{{ step.id }}"));
    assert_eq!(mini_program.as_ref().unwrap().path, "pages/index?a=b");
    assert_eq!(data["thing1"], "{{ account.name }}");
    assert_eq!(data["amount2"], "12.50");
}

#[test]
fn the_sequences_list_is_for_steps_without_their_own() {
    let steps = "  - { id: x, after: 0s, say: { text: a } }\n  - { id: y, after: 1s, say: { text: a }, closed: skip }\n";
    let text = format!("{HEAD}closed: [mass_send]\nlast_call: 2h\nsteps:\n{steps}");
    let sequence = read(&text).unwrap();
    assert_eq!(sequence.steps[0].closed.carriers, [Fallback::MassSend]);
    assert_eq!(sequence.steps[0].closed.then, ClosedThen::Hold);
    assert_eq!(sequence.steps[1].closed, Closed::only(ClosedThen::Skip));
    assert_eq!(sequence.last_call, Duration::from_secs(7_200));
    let long = text.replace("last_call: 2h", "last_call: 400d");
    check(&long, "4:12", "too long", "at most 366d");
}

#[test]
fn lists_that_make_no_sense_are_refused_at_their_place() {
    for (list, place, message, fix) in [
        ("holdd", "7:13", "unknown word `holdd`", "`hold`"),
        ("mass_send", "7:13", "in no list", "[mass_send, hold]"),
        ("[]", "7:13", "empty list", "closed: hold"),
        (
            "[mas_send]",
            "7:14",
            "unknown word `mas_send`",
            "`mass_send`",
        ),
        (
            "[hold, mass_send]",
            "7:20",
            "nothing is tried",
            "to the end",
        ),
        ("[mass_send, mass_send]", "7:25", "twice", "keep one"),
        ("[template]", "7:14", "does not say", "template: ID"),
        ("[{ sms: {} }]", "7:16", "unknown key `sms`", "template"),
        ("[[hold]]", "7:14", "a list cannot stand", "-"),
        (
            "{ template: { template: a, data: { a: b } } }",
            "7:15",
            "in no list",
            "closed: [",
        ),
        (
            "[hold, hold, hold, hold, hold, hold, hold, hold, hold]",
            "7:13",
            "lists 9 carriers",
            "at most 8",
        ),
    ] {
        check(&closed(list), place, message, fix);
    }
}

/// Checks one problem of a form; it stands where `word` does.
fn refused(form: &str, word: &str, message: &str, fix: &str) {
    let text = notice(form);
    let line = text.lines().nth(6).unwrap();
    let before = &line[..line.find(form).unwrap() + form.find(word).unwrap()];
    let place = format!("7:{}", before.chars().count() + 1);
    check(&text, &place, message, fix);
}

#[test]
fn templates_are_checked_like_every_other_text() {
    let data = |data: &str| format!("{{ template: t, data: {{ {data} }} }}");
    refused(
        "{ template: t }",
        "template",
        "`data` is missing",
        "add `data:`",
    );
    refused(
        "{ template: \"t u\", data: { a: b } }",
        "\"t u\"",
        "no id",
        "console",
    );
    refused("{ template: t, data: {} }", "{}", "has 0 fields", "1 to 20");
    refused(&data("a-b: c"), "a-b", "no name of a field", "console");
    refused(&data("a: \" \""), "\" \"", "a field is empty", "write");
    refused(&data("a: \"{{ xyz }}\""), "xyz", "xyz", "follower");
    let url = "{ template: t, url: ftp://x, data: { a: b } }";
    refused(url, "ftp", "does not begin with https", "https://");
    let page = |app_id: &str, path: &str| {
        let page = format!("{{ app_id: {app_id}, path: {path} }}");
        format!("{{ template: t, mini_program: {page}, data: {{ a: b }} }}")
    };
    refused(&page("wx1", "x"), "wx1", "no app id", "16 digits");
    let filled = page("wx0123456789abcdef", "\"{{ step.id }}\"");
    refused(&filled, "\"{{ step", "same for everybody", "without");
    let long = data(&format!("a: {}", "好".repeat(201)));
    refused(&long, "好", "201 characters", "at most 200");
    let many: String = (0..21).map(|n| format!("f{n}: a, ")).collect();
    refused(&data(&many), "{ f0", "has 21 fields", "1 to 20");
}

#[test]
fn a_mass_send_brings_only_what_is_the_same_for_everybody() {
    let with = |say: &str| step(&format!("closed: [mass_send]\n    say: {say}"));
    assert!(read(&with("{ image: a.png }")).is_ok());
    assert!(read(&with("{ voice: a.mp3 }")).is_ok());
    check(
        &with("{ text: \"{{ step.id }}\" }"),
        "6:14",
        "the same to everybody",
        "leave `mass_send` out",
    );
    let news = "{ default: { text: a }, en: { news: { title: a, url: https://a.example } } }";
    check(&with(news), "6:14", "texts, images and voice", "leave");
    let whole = format!("{}closed: [mass_send]\n", step(&format!("say: {news}")));
    check(&whole, "6:10", "texts, images and voice", "of its own");
}
