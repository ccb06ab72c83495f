//! The platform's check before 全网发布: what its testers write is answered exactly, and only theirs.
//!
//! The test accounts are nobody's: they are looked for before any account is, and nothing of what
//! they bring is kept. Deliberately absent: the one answer that goes by the API (`Desk`).
//!
//! Source: the platform's page 全网发布接入检测说明 (releases instructions); the answer to events is
//! from its copies before 2018.

use crate::inbound::xml::Fields;

/// One of the platform's test accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestAccount {
    pub app_id: &'static str,
    /// `ToUserName` of what is written to it.
    pub original_id: &'static str,
}

const fn test(app_id: &'static str, original_id: &'static str) -> TestAccount {
    TestAccount {
        app_id,
        original_id,
    }
}

/// Five groups, of which the platform picks one at random; of each the Official Account and the mini
/// program. Groups 2 to 5 exist since 2021-01-18.
pub const TEST_ACCOUNTS: [TestAccount; 10] = [
    test("wx570bc396a51b8ff8", "gh_3c884a361561"),
    test("wxd101a85aa106f53e", "gh_8dad206e9538"),
    test("wx9252c5e0bb1836fc", "gh_c0f28a78b318"),
    test("wxc39235c15087f6f3", "gh_905ae9d01059"),
    test("wx8e1097c5bc82cde9", "gh_3f222ed8d140"),
    test("wx7720d01d4b2a4500", "gh_393666f1fdf4"),
    test("wx14550af28c71a144", "gh_26128078e9ab"),
    test("wx05d483572dcd5d8b", "gh_39abb5d4e1b7"),
    test("wxa35b9c23cfe664eb", "gh_2b3713f184a6"),
    test("wx5910277cae6fd970", "gh_7818dcb60240"),
];

const TEXT: &str = "TESTCOMPONENT_MSG_TYPE_TEXT";
const CODE: &str = "QUERY_AUTH_CODE:";

/// Longest text that is answered, in bytes: a code and its prefix.
const TEXT_BYTES_MAX: usize = 1024;

/// The test account with an app id.
pub(super) fn by_app_id(app_id: &str) -> Option<&'static TestAccount> {
    TEST_ACCOUNTS.iter().find(|one| one.app_id == app_id)
}

/// The test account that a message is written to.
pub(super) fn addressed(fields: &Fields) -> Option<&'static TestAccount> {
    let to = fields.get("ToUserName")?;
    TEST_ACCOUNTS.iter().find(|one| one.original_id == to)
}

/// What the check wants to see.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted<'a> {
    /// This text at once, as the answer to the callback.
    Reply(String),
    /// An empty answer, then this code exchanged and answered by the API.
    ByApi(&'a str),
    /// `success`: it is no question of the check.
    Nothing,
}

/// What a tester's message asks for.
pub(super) fn wanted(fields: &Fields) -> Wanted<'_> {
    let kind = fields.get("MsgType").unwrap_or("");
    if kind.eq_ignore_ascii_case("event") {
        let event = fields.get("Event").unwrap_or("");
        let plain = (1..=64).contains(&event.len()) && event.bytes().all(|b| b.is_ascii_graphic());
        return if plain {
            Wanted::Reply(format!("{event}from_callback"))
        } else {
            Wanted::Nothing
        };
    }
    let content = fields.get("Content").unwrap_or("");
    if !kind.eq_ignore_ascii_case("text") || content.len() > TEXT_BYTES_MAX {
        return Wanted::Nothing;
    }
    // The code may have colons of its own: only the first prefix is taken off.
    match content.strip_prefix(CODE) {
        Some(code) if code.bytes().all(|b| b.is_ascii_graphic()) && !code.is_empty() => {
            Wanted::ByApi(code)
        }
        Some(_) => Wanted::Nothing,
        None if content == TEXT => Wanted::Reply(format!("{TEXT}_callback")),
        None => Wanted::Nothing,
    }
}

/// A text reply to the writer of `fields`.
pub(super) fn reply(fields: &Fields, text: &str, seconds: i64) -> String {
    let part = |name: &str| cdata(fields.get(name).unwrap_or(""));
    format!(
        "<xml><ToUserName>{to}</ToUserName><FromUserName>{from}</FromUserName>\
         <CreateTime>{seconds}</CreateTime><MsgType><![CDATA[text]]></MsgType>\
         <Content>{text}</Content></xml>",
        to = part("FromUserName"),
        from = part("ToUserName"),
        text = cdata(text),
    )
}

fn cdata(text: &str) -> String {
    format!("<![CDATA[{}]]>", text.replace("]]>", "]]]]><![CDATA[>"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::xml::Format;

    fn fields(rest: &str) -> Fields {
        let xml = format!(
            "<xml><ToUserName><![CDATA[gh_3c884a361561]]></ToUserName>\
             <FromUserName><![CDATA[ozy]]></FromUserName>{rest}</xml>"
        );
        Fields::read(xml.as_bytes(), Format::Xml).unwrap()
    }

    fn text(content: &str) -> Fields {
        fields(&format!(
            "<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[{content}]]></Content>"
        ))
    }

    #[test]
    fn each_question_has_its_answer_and_nothing_else_has_one() {
        let reply = |text: &str| Wanted::Reply(text.to_owned());
        assert_eq!(
            wanted(&text("TESTCOMPONENT_MSG_TYPE_TEXT")),
            reply("TESTCOMPONENT_MSG_TYPE_TEXT_callback")
        );
        let code = "queryauthcode@@@EI_g:QUERY_AUTH_CODE:x";
        let asked = text(&format!("QUERY_AUTH_CODE:{code}"));
        assert_eq!(wanted(&asked), Wanted::ByApi(code));
        let location = fields("<MsgType>event</MsgType><Event>LOCATION</Event>");
        assert_eq!(wanted(&location), reply("LOCATIONfrom_callback"));
        for other in [
            "",
            "hello",
            "TESTCOMPONENT_MSG_TYPE_TEXT ",
            "QUERY_AUTH_CODE:",
        ] {
            assert_eq!(wanted(&text(other)), Wanted::Nothing, "{other}");
        }
        assert_eq!(wanted(&fields("<MsgType>image</MsgType>")), Wanted::Nothing);
    }

    #[test]
    fn the_ten_accounts_are_ten() {
        let distinct: std::collections::HashSet<_> = TEST_ACCOUNTS
            .iter()
            .flat_map(|one| [one.app_id, one.original_id])
            .collect();
        assert_eq!(distinct.len(), 20);
        let addressed = addressed(&text("x")).unwrap();
        assert_eq!(Some(addressed), by_app_id("wx570bc396a51b8ff8"));
    }
}
