//! What messages may hold: lengths, links, templates, files.

use super::*;

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
