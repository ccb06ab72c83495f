//! Names of links, and who asks whether they were clicked.

use super::*;

const STEPS: &str = r#"
  - id: offer
    after: 0s
    say: { text: 'a <a href="https://a.example" link="buy">b</a> https://b.example' }
  - id: help
    after: 1h
    say: { text: '<a href="https://a.example/help" track="no">b</a>' }
"#;

fn with(rule: &str, when: &str) -> String {
    format!(
        "sequence: a\ntrigger: follow\n{rule}steps:{STEPS}  - id: end\n    after: 2h\n    {when}\n    \
         say: {{ text: bye }}\n"
    )
}

#[test]
fn what_was_clicked_can_be_asked_in_conditions_and_ends_passages() {
    for name in ["offer", "offer.buy", "offer.1", "offer.2"] {
        let rule = format!("exit_on: [message, \"clicked('{name}')\"]\n");
        let when = format!("when: \"clicked('{name}') and not ('vip' in follower.tags)\"");
        let sequence = read(&with(&rule, &when)).unwrap();
        assert!(sequence.asks_for_clicks());
        assert_eq!(sequence.exit_on.len(), 2);
        let links: Vec<_> = sequence.steps[0]
            .links
            .iter()
            .map(|one| one.name())
            .collect();
        assert_eq!(links, ["buy", "2"]);
    }
    assert!(!read(&with("", "")).unwrap().asks_for_clicks());
}

#[test]
fn a_link_that_there_is_not_is_named_with_its_place() {
    let when = |name: &str| with("", &format!("when: \"clicked('{name}')\""));
    let line = |text: &str, word: &str| {
        let line = text.lines().position(|line| line.contains(word));
        line.expect("is there") + 1
    };
    let cases = [
        (
            "offer.bye",
            "the step `offer` has no link `bye`",
            "its links are buy, 2",
        ),
        (
            "ofer.buy",
            "there is no step `ofer`",
            "did you mean `offer`?",
        ),
        ("help.1", "clicks on `help.1` are not counted", "track"),
        (
            "end.1",
            "`end` is not sent before this step",
            "earlier step",
        ),
    ];
    for (name, message, fix) in cases {
        let text = when(name);
        let place = format!("{}:21", line(&text, "when:"));
        check(&text, &place, message, fix);
    }
    let unknown = "the step `offer` has no link `bye`";
    check(
        &with("exit_on: [\"clicked('offer.bye')\"]\n", ""),
        "3:21",
        unknown,
        "buy, 2",
    );
    for rule in [
        "\"clicked(offer)\"",
        "clicked",
        "\"clicked('offer.buy') and true\"",
    ] {
        let text = with(&format!("exit_on: [{rule}]\n"), "");
        let problem = only_problem(&text);
        assert!(problem.starts_with("3:1"), "{problem}");
        assert!(problem.contains("this names no link"), "{problem}");
    }
}

#[test]
fn names_of_links_are_checked_where_they_stand() {
    let text = with("", "");
    let other = "<a href=\"https://c.example\" link=\"buy\">c</a>";
    let twice = text.replace("https://b.example", other);
    let problem = only_problem(&twice);
    assert!(
        problem.contains("the link `buy` is here twice"),
        "{problem}"
    );
    let bad = text.replace("link=\"buy\"", "link=\"Buy\"");
    check(&bad, "6:55", "`Buy` is no name of a link", "small letters");
    let asked = "text: \"{% if clicked('offer') %}x{% endif %}\"";
    let problem = only_problem(&text.replace("text: bye", asked));
    assert!(
        problem.contains("`clicked` cannot stand in a message"),
        "{problem}"
    );
    let card = "sequence: a\ntrigger: follow\nsteps:\n  - id: x\n    after: 0s\n    say: { news: \
                { title: t, url: \"https://a.example\", link: \"3\" } }\n";
    let problem = only_problem(card);
    assert!(problem.contains("`3` is no name of a link"), "{problem}");
}
