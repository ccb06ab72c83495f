//! What may be written, what is refused, and what comes out.

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::journey::message::Asset;

fn facts() -> Facts {
    Facts {
        language: "zh_CN".to_owned(),
        scene: Some("spring & {{ 7*7 }}".to_owned()),
        tags: vec!["vip".to_owned(), "new".to_owned()],
        followed_at: Timestamp(1_767_225_600_000),
        account_key: "main".to_owned(),
        account_name: "小店".to_owned(),
        sequence_name: "welcome".to_owned(),
        step_id: "hello".to_owned(),
        now: Timestamp(1_772_326_800_000),
        zone: jiff::tz::TimeZone::get("Asia/Shanghai").unwrap(),
        clicked: vec!["offer".to_owned(), "offer.buy".to_owned()],
    }
}

fn fill(source: &str) -> Result<String, TemplateError> {
    match render(&Message::Text(source.to_owned()), &facts())? {
        Message::Text(text) => Ok(text),
        other => panic!("{other:?}"),
    }
}

/// Both the check and the program that runs it know a template.
fn prints(source: &str, expected: &str) {
    check(source).expect(source);
    assert_eq!(fill(source).as_deref(), Ok(expected), "{source}");
}

fn refused(source: &str, word: &str, message: &str) {
    let refusal = check(source).expect_err(source);
    assert_eq!(&source[refusal.at.clone()], word, "{source} {refusal:?}");
    assert!(refusal.message.contains(message), "{source} {refusal:?}");
    assert!(
        matches!(fill(source), Err(TemplateError::Failed { .. })),
        "{source}"
    );
}

#[test]
fn a_condition_knows_what_was_clicked() {
    let holds = |source: &str| Condition::new(source).expect(source).holds(&facts());
    assert_eq!(
        holds("clicked('offer.buy') and not clicked('offer.help')"),
        Ok(true)
    );
    assert_eq!(
        holds("clicked('offer') or 'vip' in follower.tags"),
        Ok(true)
    );
    assert_eq!(holds("clicked('hello')"), Ok(false));
    for source in [
        "clicked",
        "clicked()",
        "clicked('')",
        "clicked(follower.scene)",
        "clicked('a') == 'b'",
    ] {
        assert!(Condition::new(source).is_err(), "{source}");
    }
    assert!(check("{{ clicked_links }}").is_err());
}

#[test]
fn variables_and_filters_print() {
    prints("no braces } at { all %}", "no braces } at { all %}");
    prints("{{ account.name }}·{{ step.id|upper }}", "小店·HELLO");
    prints("{{- follower.language | lower -}}", "zh_cn");
    prints("{{ ' a ' | trim }}{{ 'abcd' | truncate(2) }}", "aab");
    prints("{{ '' | default('friend') }}", "friend");
    prints("{{ now }}", "2026-03-01 09:00");
    prints("{{ now | date('%-m月%-d日 %H点') }}", "3月1日 09点");
    prints(
        "{{ follower.followed_at | date(\"%Y\") | truncate(2) }}",
        "20",
    );
    prints("{{ '}}' }}{{ \"%}\" }}", "}}%}");
}

#[test]
fn ifs_choose() {
    let source = "{% if 'vip' in follower.tags %}A{% elif follower.language == 'en' %}B{% else %}C{% endif %}";
    prints(source, "A");
    prints(
        "{% if not (follower.scene and account.key != 'x') %}A{% else %}B{% endif %}",
        "B",
    );
    prints(
        "a {%- if true %} {% if false %}x{% endif %}y{% endif -%} ",
        "a y",
    );
    refused("{% if true %}", "{% if true %}", "has no end");
    refused("{% endif %}", "endif", "belongs to no `if`");
    refused(
        "{% if true %}{% else %}{% else %}{% endif %}",
        "else",
        "belongs to no",
    );
    refused(
        "{% if true %}{% else %}{% elif true %}{% endif %}",
        "elif",
        "belongs to no",
    );
    refused("{% if %}a{% endif %}", " ", "variable is missing");
    refused("{% %}", " ", "statement is missing");
}

#[test]
fn a_value_is_printed_and_never_run() {
    prints("{{ follower.scene }}", "spring & {{ 7*7 }}");
}

#[test]
fn a_value_in_a_link_stays_one_part_of_it() {
    let news = Message::News(News {
        title: "{{ account.name }}".to_owned(),
        description: String::new(),
        url: "https://a.example/?from={{ follower.scene }}&x=1".to_owned(),
        picture: Some(Asset::Url {
            url: "https://a.example/{{ no }}".to_owned(),
        }),
    });
    let Message::News(filled) = render(&news, &facts()).unwrap() else {
        panic!("a card");
    };
    assert_eq!(filled.title, "小店");
    assert_eq!(filled.description, "");
    assert_eq!(
        filled.url,
        "https://a.example/?from=spring%20%26%20%7B%7B%207%2A7%20%7D%7D&x=1"
    );
    let Message::News(news) = news else {
        unreachable!()
    };
    assert_eq!(filled.picture, news.picture);
}

#[test]
fn menus_and_pages_are_filled_in_everywhere() {
    let menu = Message::MsgMenu(MsgMenu {
        head: "{{ step.id }}?".to_owned(),
        items: vec![MenuItem {
            id: "a".to_owned(),
            text: "{{ account.key }}".to_owned(),
        }],
        tail: String::new(),
    });
    let Message::MsgMenu(menu) = render(&menu, &facts()).unwrap() else {
        panic!("a menu");
    };
    assert_eq!(
        (menu.head.as_str(), menu.items[0].text.as_str()),
        ("hello?", "main")
    );
    let page = Message::MiniProgramPage(MiniProgramPage {
        title: "{{ step.id }}".to_owned(),
        app_id: "wx0123456789abcdef".to_owned(),
        path: "p?s={{ account.name }}".to_owned(),
        thumb: Asset::Url {
            url: "https://a.example/t.jpg".to_owned(),
        },
    });
    let Message::MiniProgramPage(page) = render(&page, &facts()).unwrap() else {
        panic!("a page");
    };
    assert_eq!(page.path, "p?s=%E5%B0%8F%E5%BA%97");
}

#[test]
fn unknown_words_are_named() {
    refused("{{ nickmane }}", "nickmane", "unknown variable");
    refused("{{ follower }}", "follower", "unknown variable");
    refused(
        "{{ follower.openid }}",
        "follower.openid",
        "unknown variable",
    );
    refused("{{ follower.tags }}", "follower.tags", "cannot be printed");
    refused(
        "{{ follower.scene.x }}",
        "follower.scene.x",
        "unknown variable",
    );
    refused("{{ step.id | uper }}", "uper", "unknown filter");
    refused("{{ step.id | date('%Y') }}", "date", "is for instants");
    refused("{{ now | upper }}", "upper", "is for texts");
    refused("{{ now | date('%1000Y') }}", "date", "one argument");
    refused("{{ step.id | truncate }}", "truncate", "one argument");
    refused(
        "{{ step.id | truncate(99999) }}",
        "truncate",
        "one argument",
    );
    refused("{{ step.id | default(now) }}", "default", "one argument");
    refused("{{ step.id", "{{", "not closed");
    refused("{{ 'a }}", "'", "not closed");
    refused("{{ 'a\\n' }}", "'a\\n'", "backslash");
    refused("{# note #}", "{#", "comments are not read");
    refused("{{ }}", " ", "variable is missing");
}

/// The shapes that took gigabytes or seconds in an engine with fuel alone, and their relatives.
#[test]
fn hostile_templates_are_refused_before_they_run() {
    for (source, word) in [
        ("{% for a in range(1000000000) %}x{% endfor %}", "for"),
        (
            "{% for a in [1,2] recursive %}{{ loop([a]) }}{% endfor %}",
            "for",
        ),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "macro"),
        ("{% set a = 'x' %}{% set a = a ~ a %}{{ a }}", "set"),
        ("{{ 'x' * 1000000000 }}", "*"),
        ("{{ '%1000000000d' | format(1) }}", "format"),
        ("{{ 'a\nb' | indent(1000000) }}", "indent"),
        ("{{ 'aaaa' | replace('a', 'bbbb') }}", "replace"),
        ("{{ 'x' | center(1000000000) }}", "center"),
        ("{{ range(1000000000) }}", "range"),
        ("{% include 'x' %}", "include"),
        ("{% extends 'x' %}", "extends"),
        ("{% import 'x' as y %}", "import"),
        ("{% filter upper %}x{% endfilter %}", "filter"),
        ("{% call m() %}{% endcall %}", "call"),
        ("{% raw %}{{ x }}{% endraw %}", "raw"),
        ("{{ 'a' ~ 'b' }}", "~"),
        ("{{ follower['openid'] }}", "follower"),
        ("{{ [1,2,3] | join }}", "["),
        ("{{ 'a' if true else 'b' }}", "if"),
        ("{{ step.id.upper() }}", "step.id.upper"),
        ("{{ 1 + 1 }}", "1"),
    ] {
        let refusal = check(source).expect_err(source);
        assert_eq!(&source[refusal.at.clone()], word, "{source} {refusal:?}");
        assert!(fill(source).is_err(), "{source}");
    }
    let long = format!("{{{{ step.id }}}}{}", "x".repeat(17_000));
    assert!(check(&long).unwrap_err().message.contains("16384 bytes"));
    let deep = format!("{}x{}", "{% if true %}".repeat(9), "{% endif %}".repeat(9));
    assert!(
        check(&deep)
            .unwrap_err()
            .message
            .contains("nested too deeply")
    );
    let parens = format!("{}true{}", "(".repeat(5_000), ")".repeat(5_000));
    assert!(Condition::new(&parens).is_err());
    let nots = format!("{}true", "not ".repeat(900));
    assert!(Condition::new(&nots).is_err());
    let filters = format!("{{{{ step.id{} }}}}", "|trim".repeat(20));
    assert!(check(&filters).is_err());
}

#[test]
fn text_that_grows_too_long_or_comes_out_empty_is_an_error() {
    let mut facts = facts();
    facts.account_name = "好".repeat(700);
    let message = Message::Text("{{ account.name }}".to_owned());
    let too_long = TemplateError::TooLong {
        field: "text",
        limit: 2048,
    };
    assert_eq!(render(&message, &facts), Err(too_long));
    facts.account_name = "好".repeat(682);
    assert!(render(&message, &facts).is_ok());
    facts.scene = None;
    let message = Message::Text("{{ follower.scene }}".to_owned());
    let empty = TemplateError::Empty { field: "text" };
    assert_eq!(render(&message, &facts), Err(empty));
}

#[test]
fn the_bytes_that_everybody_gets_are_counted() {
    for (source, fixed) in [
        ("abc", 3),
        ("a{{ step.id }}bc", 3),
        ("好{% if true %}not these{% endif %}ab", 5),
    ] {
        assert_eq!(check(source).unwrap(), fixed, "{source}");
    }
}

#[test]
fn conditions_ask_for_tags_and_texts() {
    let facts = facts();
    for (source, expected) in [
        ("'vip' in follower.tags", true),
        ("'vip' not in follower.tags", false),
        ("not 'x' in follower.tags and step.id == 'hello'", true),
        (
            "follower.language == 'en' or (account.key != 'main')",
            false,
        ),
        ("follower.scene", true),
        ("now | date('%H') == '09'", true),
        ("'CN' in follower.language", true),
    ] {
        let condition = Condition::new(source).expect(source);
        assert_eq!(condition.holds(&facts), Ok(expected), "{source}");
        assert_eq!(condition.clone().source(), source);
        assert_eq!(format!("{condition:?}"), format!("Condition({source:?})"));
    }
    for (source, word, message) in [
        ("'vip' in follower.tag", "follower.tag", "unknown variable"),
        ("follower.tags == 'vip'", "follower.tags", "only texts"),
        ("now == '2026'", "now", "only texts"),
        ("'a' in now", "now", "looked for"),
        (
            "follower.tags in follower.tags",
            "follower.tags",
            "only a text",
        ),
        ("follower.language < 'x'", "<", "not allowed"),
        ("'a' in follower.tags; true", ";", "not allowed"),
        ("('a' in follower.tags", "s", "`)` is missing"),
        ("range(9)", "range", "unknown variable"),
        ("'a' and", "d", "missing here"),
        ("{{ true }}", "{{ true }}", "no braces"),
    ] {
        let refusal = Condition::new(source).expect_err(source);
        assert_eq!(&source[refusal.at.clone()], word, "{source} {refusal:?}");
        assert!(refusal.message.contains(message), "{source} {refusal:?}");
    }
}

proptest! {
    /// Whatever is thrown at it, the check ends with an answer, and what it allows can be run.
    #[test]
    fn what_the_check_allows_the_engine_runs(
        parts in proptest::collection::vec(proptest::sample::select(vec![
            "{{", "}}", "{%", "%}", "{#", "#}", "if", "elif", "else", "endif", "not", "in", "and",
            "or", "(", ")", "|", "upper", "date", "truncate", "(2)", "'a'", "\"b\"", "follower",
            ".", "tags", "scene", "now", "step.id", "==", "!=", "true", "-", "~", "*", "for", " ",
            " ", "好", "\n", "\\", "'", "%", "{", "}", "'%Y'",
        ]), 0..24),
    ) {
        let source = parts.concat();
        if check(&source).is_ok() {
            let filled = fill(&source);
            prop_assert!(!matches!(filled, Err(TemplateError::Failed { .. })), "{source:?} {filled:?}");
        }
        if let Ok(condition) = Condition::new(&source) {
            prop_assert!(condition.holds(&facts()).is_ok(), "{source:?}");
        }
    }

    #[test]
    fn any_text_is_checked_without_a_panic(source in "\\PC{0,60}") {
        let wrapped = format!("{{{{ {source} }}}}");
        for text in [source.as_str(), wrapped.as_str()] {
            if let Err(refusal) = check(text) {
                prop_assert!(text.get(refusal.at).is_some());
            }
        }
    }
}
