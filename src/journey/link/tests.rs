//! Which links are found in a text, what followers get of them, and where they lead.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::journey::message::MsgMenu;
use crate::journey::parse::parse_stored;

/// What is found: the text as followers get it, and each link as name, address and whether it counts.
fn found(source: &str) -> (String, Vec<(Option<String>, String, bool)>) {
    let found = find(source).unwrap_or_else(|refusal| panic!("{source}: {refusal:?}"));
    for link in &found.links {
        let address = found.text[link.at.clone()].replace("&amp;", "&");
        assert_eq!(address.trim(), link.target, "{source}");
    }
    let links = found.links.into_iter();
    let links = links.map(|one| (one.id, one.target, one.tracked));
    (found.text, links.collect())
}

fn addresses(source: &str) -> Vec<String> {
    let (text, links) = found(source);
    assert_eq!(text, source, "nothing is for us in it");
    links.into_iter().map(|(_, target, _)| target).collect()
}

#[test]
fn what_is_written_for_us_does_not_reach_followers() {
    let (text, links) = found(
        "看<a href=\"https://a.example/x\" link=\"buy\">这里</a> or \
         <A link='help' HREF='https://b.example/?a=1&amp;b=2' track='no' class=x>there</A>",
    );
    assert_eq!(
        text,
        "看<a href=\"https://a.example/x\">这里</a> or \
         <A HREF='https://b.example/?a=1&amp;b=2' class=x>there</A>"
    );
    let buy = (
        Some("buy".to_owned()),
        "https://a.example/x".to_owned(),
        true,
    );
    let help = "https://b.example/?a=1&b=2".to_owned();
    assert_eq!(links, [buy, (Some("help".to_owned()), help, false)]);
}

#[test]
fn addresses_that_stand_bare_are_links_up_to_where_a_sentence_goes_on() {
    for (source, expected) in [
        ("go to https://a.example.", "https://a.example"),
        ("(https://a.example/x?y=1)", "https://a.example/x?y=1"),
        ("领取：https://a.example/x，谢谢", "https://a.example/x"),
        ("HTTP://a.example/x!", "HTTP://a.example/x"),
        (
            "https://a.example/?s={{ follower.scene | default(\"a }} b\") }}&t=1",
            "https://a.example/?s={{ follower.scene | default(\"a }} b\") }}&t=1",
        ),
    ] {
        assert_eq!(addresses(source), [expected], "{source}");
    }
    assert_eq!(
        addresses("https://a.example https://b.example"),
        ["https://a.example", "https://b.example"]
    );
}

#[test]
fn what_is_no_link_is_left_as_it_is() {
    for source in [
        "a <b and <a and <abbr title=\"https\">",
        "<a href=\"weixin://bizmsgmenu?msgmenucontent=1\">1</a>",
        "<a data-miniprogram-appid=\"wx1\" href=\"https://a.example\">page</a>",
        "https://{{ follower.scene }}.example/",
        "https://a.example/{% if follower.scene %}x{% endif %}",
        "<a href=\"{% if now %}https://a.example{% endif %}\">x</a>",
        "https://name:word@a.example/",
        "https://",
        "http: //a.example",
    ] {
        assert_eq!(addresses(source), [""; 0], "{source}");
    }
    // The words of a link are no other one.
    let words = "<a href=\"https://a.example/x\">https://b.example</a>";
    assert_eq!(addresses(words), ["https://a.example/x"]);
}

#[test]
fn what_cannot_be_counted_is_not_promised() {
    for (source, at) in [
        ("<a href=\"weixin://x\" link=\"buy\">x</a>", "link"),
        ("<a link=\"buy\">x</a>", "link"),
        (
            "<a href=\"https://a.example\" link=\"Buy now\">x</a>",
            "Buy now",
        ),
        ("<a href=\"https://a.example\" link=\"2\">x</a>", "2"),
        ("<a href=\"https://a.example\" track=\"off\">x</a>", "off"),
    ] {
        let refusal = find(source).expect_err(source);
        assert_eq!(&source[refusal.at], at, "{source}");
    }
}

proptest! {
    /// Whatever stands in a text, looking for links ends, and changes nothing but our own words.
    #[test]
    fn every_text_can_be_looked_through(
        parts in prop::collection::vec(prop_oneof![
            Just("<a ".to_owned()), Just("href=".to_owned()), Just("\"".to_owned()),
            Just("https://a.example/".to_owned()), Just("{{ now }}".to_owned()),
            Just("{%".to_owned()), Just("</a>".to_owned()), Just(">".to_owned()),
            Just("'".to_owned()), "\\PC{0,4}",
        ], 0..24)
    ) {
        let source = parts.concat();
        if let Ok(found) = find(&source) {
            prop_assert_eq!(&found.text, &source);
            for link in found.links {
                prop_assert_eq!(found.text.get(link.at).map(str::trim), Some(link.target.as_str()));
            }
        }
    }
}

fn sequence(steps: &str) -> crate::journey::sequence::Sequence {
    let text = format!("sequence: a\ntrigger: follow\nsteps:\n{steps}");
    parse_stored(&text, &BTreeMap::new()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[test]
fn every_link_leads_to_us_in_the_follower_s_language_and_the_others_stay() {
    let sequence = sequence(
        r#"
  - id: offer
    after: 0s
    say:
      zh_CN:
        msgmenu:
          head: '看 https://a.example/1'
          items: [{ id: "1", text: '<a href="https://a.example/2" link="two">二</a>' }]
          tail: 'https://a.example/3 和 <a href="https://a.example/4" track="no">四</a>'
      default: { news: { title: t, url: "https://a.example/5", link: card } }
"#,
    );
    let step = &sequence.steps[0];
    let names: Vec<_> = step.links.iter().map(Link::name).collect();
    assert_eq!(names, ["1", "two", "3", "4", "card"]);
    let tracking = Tracking {
        base: "https://go.example".to_owned(),
        keys: Keyring::new([(1, &[7; 32][..])]),
    };
    let spot = |language| Spot {
        enrollment: EnrollmentId(65_536),
        version: VersionId(2),
        step: 0,
        language,
    };
    let link_of = |address: &str| {
        let token = address
            .strip_prefix("https://go.example/c/")
            .expect("is ours");
        tracking.keys.open(token).expect("is ours").link
    };
    let Message::MsgMenu(MsgMenu { head, items, tail }) = tracking.tracked(step, &spot("zh_CN"))
    else {
        panic!("is a menu");
    };
    assert_eq!(link_of(head.strip_prefix("看 ").unwrap()), 1);
    let item = items[0].text.strip_prefix("<a href=\"").unwrap();
    assert_eq!(link_of(item.strip_suffix("\">二</a>").unwrap()), 2);
    let (third, rest) = tail.split_once(' ').unwrap();
    assert_eq!(link_of(third), 3);
    assert_eq!(rest, "和 <a href=\"https://a.example/4\">四</a>");
    let Message::News(news) = tracking.tracked(step, &spot("en")) else {
        panic!("is a card");
    };
    assert_eq!(link_of(&news.url), 5);
    // The same message said twice is the same.
    assert_eq!(tracking.tracked(step, &spot("en")), Message::News(news));
    let reads = |name: &str| {
        step.links
            .iter()
            .any(|link| Name::read(name).fits(step, link))
    };
    assert!(reads("offer") && reads("offer.two") && reads("offer.2") && reads("offer.card"));
    assert!(!reads("offer.5") && !reads("other") && !reads("offer.none"));
}
