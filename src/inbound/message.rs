//! What a callback says, in our words: fields become an arrival.
//!
//! `MsgType` and `Event` are compared without regard to case, since the platform mixes it. What is
//! not known is kept as `Other`, never refused: the platform adds events without notice. Texts are
//! cut to what is stored; ids must be printable ASCII.
//!
//! Deliberately absent: signatures and decryption (`inbound::envelope`), de-duplication itself
//! (the receipts in `store`; here is only its key).

use std::fmt;

use super::digest::digest;
use super::report;
use super::xml::{Fields, Format, ReadError};
use crate::clock::Timestamp;
use crate::journey::event::{Arrival, Event};

/// Longest id of a follower or an account, in bytes. Real ones have 15 to 32.
pub(super) const ID_BYTES_MAX: usize = 128;
/// Longest scene, menu key or menu item id kept, in bytes. The platform's own limit is 128 (keys)
/// and 64 (scenes).
pub(super) const KEY_BYTES_MAX: usize = 256;
/// Longest name of an unknown event kept, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 64;
/// Longest text kept of what a follower wrote, in bytes.
pub(super) const TEXT_BYTES_MAX: usize = 4 * 1024;
/// Last second of the year 9999: later instants have no usual form.
const SECONDS_MAX: i64 = 253_402_300_799;

/// Events that the platform itself causes: their `FromUserName` is some system account.
const SYSTEM_EVENTS: [&str; 11] = [
    "annual_renew",
    "card_not_pass_check",
    "card_pass_check",
    "card_sku_remind",
    "naming_verify_fail",
    "naming_verify_success",
    "poi_check_notify",
    "publishjobfinish",
    "qualification_verify_fail",
    "qualification_verify_success",
    "verify_expired",
];

/// An arrival and the account it came to.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// `ToUserName`: the account's original id (`gh_…`), to be compared with the account addressed.
    pub to_user_name: String,
    pub arrival: Arrival,
}

impl fmt::Debug for Message {
    /// Shows neither follower nor text, as logs must not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("to_user_name", &self.to_user_name)
            .field("event", &self.arrival.event.word())
            .field("created_at", &self.arrival.created_at)
            .finish_non_exhaustive()
    }
}

/// Reads a message as the platform wrote it, after any decryption.
pub fn read(body: &[u8], format: Format) -> Result<Message, ReadError> {
    interpret(&Fields::read(body, format)?)
}

/// Reads the meaning of the fields.
///
/// Fails when what every message has is missing or absurd: kind, account, `CreateTime`, and the
/// follower where the event is about one.
pub fn interpret(fields: &Fields) -> Result<Message, ReadError> {
    let kind = lower(fields, "MsgType").ok_or(ReadError::Malformed("no MsgType"))?;
    let seconds = fields.get("CreateTime").and_then(read_seconds);
    let seconds = seconds.ok_or(ReadError::Malformed("no CreateTime in seconds"))?;
    let to_user_name = id(fields, "ToUserName")?.ok_or(ReadError::Malformed("no ToUserName"))?;
    let event = if kind == "event" {
        let name = lower(fields, "Event").ok_or(ReadError::Malformed("no Event"))?;
        read_event(&name, fields)
    } else {
        read_message(&kind, fields)
    };
    Ok(Message {
        to_user_name,
        arrival: Arrival {
            openid: follower(&event, fields)?,
            created_at: Timestamp::from_seconds(seconds),
            digest: digest(fields),
            event,
            language: None,
        },
    })
}

fn read_event(name: &str, fields: &Fields) -> Event {
    let event_key = fields.get("EventKey").unwrap_or("");
    match name {
        // Other keys of a follow are no QR scene: `last_trade_no_…` after a payment, `scanbarcode|…`.
        "subscribe" => Event::Followed {
            scene: event_key
                .strip_prefix("qrscene_")
                .map(|scene| clean(scene, KEY_BYTES_MAX))
                .filter(|scene| !scene.is_empty()),
        },
        "unsubscribe" => Event::Unfollowed,
        "scan" => Event::Scanned {
            scene: clean(event_key, KEY_BYTES_MAX),
        },
        // The three menu actions that the platform counts as a click: only they open a grant.
        "click" | "scancode_push" | "scancode_waitmsg" => Event::Clicked {
            key: clean(event_key, KEY_BYTES_MAX),
        },
        _ => report::read(name, fields).unwrap_or_else(|| other(name)),
    }
}

fn read_message(kind: &str, fields: &Fields) -> Event {
    let menu_item = fields.get("bizmsgmenuid").filter(|id| !id.is_empty());
    match (kind, menu_item) {
        // A tap on an item of a menu message comes as text, but counts as a menu click: it does
        // not open the 48 hours (客服消息 page, special note).
        ("text", Some(item)) => Event::Clicked {
            key: clean(item, KEY_BYTES_MAX),
        },
        ("text", None) => Event::MessageReceived {
            message_kind: kind.to_owned(),
            text: clean(fields.get("Content").unwrap_or(""), TEXT_BYTES_MAX),
        },
        ("image" | "voice" | "video" | "shortvideo" | "location" | "link", _) => {
            Event::MessageReceived {
                message_kind: kind.to_owned(),
                text: String::new(),
            }
        }
        _ => other(kind),
    }
}

/// An event that we only count, under its lower-case name.
pub(super) fn other(name: &str) -> Event {
    Event::Other {
        name: clean(name, NAME_BYTES_MAX),
    }
}

/// The follower whom the event is about; empty for events about none.
fn follower(event: &Event, fields: &Fields) -> Result<String, ReadError> {
    if let Event::Reported(_) = event {
        let name = lower(fields, "Event").unwrap_or_default();
        if report::is_about_nobody(&name) {
            return Ok(String::new());
        }
    }
    let Event::Other { name } = event else {
        return id(fields, "FromUserName")?.ok_or(ReadError::Malformed("no FromUserName"));
    };
    if SYSTEM_EVENTS.contains(&name.as_str()) || name.starts_with("wxa_") {
        return Ok(String::new());
    }
    // `user_authorization_revoke` and its like come from a system account and name the follower
    // in `OpenID`.
    let named = match id(fields, "OpenID")? {
        Some(openid) => Some(openid),
        None => id(fields, "FromUserName")?,
    };
    Ok(named.unwrap_or_default())
}

/// A time in whole seconds since 1970, cut at the year 9999.
fn read_seconds(text: &str) -> Option<i64> {
    let digits = text.trim();
    if digits.is_empty() || digits.len() > 18 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = digits.parse().ok()?;
    Some(seconds.min(SECONDS_MAX))
}

/// A field in lower case; `None` when it is missing or empty.
pub(super) fn lower(fields: &Fields, name: &str) -> Option<String> {
    let text = fields.get(name)?.trim();
    (!text.is_empty()).then(|| text.to_ascii_lowercase())
}

/// An id of the platform; `None` when it is missing or empty.
fn id(fields: &Fields, name: &str) -> Result<Option<String>, ReadError> {
    let id = fields.get(name).unwrap_or("");
    if id.len() > ID_BYTES_MAX || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ReadError::Malformed("an id that is no id"));
    }
    Ok((!id.is_empty()).then(|| id.to_owned()))
}

/// The text without control characters (line ends and tabs stay), cut to `bytes_max` bytes between
/// two characters.
pub(super) fn clean(text: &str, bytes_max: usize) -> String {
    let kept =
        |character: &char| !character.is_control() || matches!(character, '\n' | '\r' | '\t');
    let mut clean: String = text.chars().filter(kept).collect();
    clean.truncate(clean.floor_char_boundary(bytes_max));
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message from `o1` to `gh_1` at second 1395658920, with the given further elements.
    fn xml(rest: &str) -> String {
        format!(
            "<xml><ToUserName><![CDATA[gh_1]]></ToUserName>\
             <FromUserName><![CDATA[o1]]></FromUserName><CreateTime>1395658920</CreateTime>\n{rest}</xml>"
        )
    }

    fn event_xml(name: &str, rest: &str) -> String {
        xml(&format!(
            "<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[{name}]]></Event>{rest}"
        ))
    }

    fn keyed(name: &str, key: &str) -> String {
        event_xml(name, &format!("<EventKey><![CDATA[{key}]]></EventKey>"))
    }

    fn text(content: &str) -> String {
        let kind = "<MsgType><![CDATA[text]]></MsgType>";
        xml(&format!(
            "{kind}<Content><![CDATA[{content}]]></Content><MsgId>7</MsgId>"
        ))
    }

    fn arrival(body: &str) -> Arrival {
        read(body.as_bytes(), Format::Xml).expect(body).arrival
    }

    fn event(body: &str) -> Event {
        arrival(body).event
    }

    fn followed(scene: &str) -> Event {
        let scene = Some(scene.to_owned()).filter(|scene| !scene.is_empty());
        Event::Followed { scene }
    }

    #[test]
    fn a_follow_carries_its_scene_only_if_a_qr_code_led_to_it() {
        assert_eq!(event(&event_xml("subscribe", "")), followed(""));
        for (key, scene) in [
            ("", ""),
            ("qrscene_123123", "123123"),
            ("qrscene_", ""),
            ("qrscene_qrscene_a", "qrscene_a"),
            ("qrscene_春节", "春节"),
            ("last_trade_no_4008072001201701105817415015", ""),
            ("scanbarcode|keystandard|keystr", ""),
            ("QRSCENE_1", ""),
        ] {
            assert_eq!(event(&keyed("subscribe", key)), followed(scene), "{key}");
        }
    }

    #[test]
    fn the_real_looking_follow_is_read_whole() {
        let body = "<xml><ToUserName><![CDATA[gh_b629c48b653e]]></ToUserName>\
            <FromUserName><![CDATA[ollB4jv7LA3tydjviJp5V9qTU_kA]]></FromUserName>\
            <CreateTime>1372307736</CreateTime><MsgType><![CDATA[event]]></MsgType>\
            <Event><![CDATA[subscribe]]></Event><EventKey><![CDATA[]]></EventKey></xml>";
        let message = read(body.as_bytes(), Format::Xml).unwrap();
        assert_eq!(message.to_user_name, "gh_b629c48b653e");
        assert_eq!(message.arrival.openid, "ollB4jv7LA3tydjviJp5V9qTU_kA");
        assert_eq!(
            message.arrival.created_at,
            Timestamp::from_seconds(1_372_307_736)
        );
        assert!(!format!("{message:?}").contains("ollB4"));
    }

    #[test]
    fn the_platforms_samples_have_their_meaning_in_any_case() {
        let scanned = |scene: &str| Event::Scanned {
            scene: scene.to_owned(),
        };
        let clicked = |key: &str| Event::Clicked {
            key: key.to_owned(),
        };
        let info = "<EventKey>6</EventKey><ScanCodeInfo><ScanType>qrcode</ScanType>\
                    <ScanResult><![CDATA[2]]></ScanResult></ScanCodeInfo>";
        for (body, meaning) in [
            (keyed("unsubscribe", ""), Event::Unfollowed),
            (keyed("UNSUBSCRIBE", ""), Event::Unfollowed),
            (keyed("SCAN", "SCENE_VALUE"), scanned("SCENE_VALUE")),
            (keyed("scan", "qrscene_kept"), scanned("qrscene_kept")),
            (keyed("CLICK", "EVENTKEY"), clicked("EVENTKEY")),
            (keyed("Click", "中文"), clicked("中文")),
            (event_xml("scancode_push", info), clicked("6")),
            (event_xml("scancode_waitmsg", info), clicked("6")),
        ] {
            assert_eq!(event(&body), meaning, "{body}");
        }
    }

    #[test]
    fn a_tap_on_a_menu_message_counts_as_a_click_and_not_as_a_message() {
        let tap = xml(
            "<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[满意]]></Content>\
             <MsgId>1234567890123456</MsgId><bizmsgmenuid>101</bizmsgmenuid>",
        );
        assert_eq!(
            event(&tap),
            Event::Clicked {
                key: "101".to_owned()
            }
        );
    }

    #[test]
    fn every_kind_of_message_is_received_and_only_text_has_text() {
        for kind in "text image voice video shortvideo location link".split(' ') {
            let body = xml(&format!(
                "<MsgType>{}</MsgType><Content>hi</Content><MsgId>1</MsgId>",
                kind.to_uppercase()
            ));
            let text = if kind == "text" { "hi" } else { "" }.to_owned();
            let message_kind = kind.to_owned();
            assert_eq!(event(&body), Event::MessageReceived { message_kind, text });
        }
    }

    #[test]
    fn other_events_are_kept_by_name_and_those_about_nobody_have_no_follower() {
        let list = "<SubscribeMsgPopupEvent><List><TemplateId>T1</TemplateId></List>\
                    <List><TemplateId>T2</TemplateId></List></SubscribeMsgPopupEvent>";
        let urls = "<ArticleUrlResult><Count>1</Count><ResultList><item><ArticleIdx>1</ArticleIdx>\
                    </item></ResultList></ArticleUrlResult>";
        for (name, rest, openid) in [
            ("LOCATION", "<Latitude>23.137466</Latitude>", "o1"),
            ("VIEW", "<EventKey><![CDATA[www.qq.com]]></EventKey>", "o1"),
            ("subscribe_msg_popup_event", list, "o1"),
            (
                "pic_weixin",
                "<SendPicsInfo><Count>1</Count></SendPicsInfo>",
                "o1",
            ),
            ("card_sku_remind", urls, ""),
            ("PUBLISHJOBFINISH", "", ""),
            ("wxa_nickname_audit", "", ""),
            ("user_authorization_revoke", "<OpenID>o2</OpenID>", "o2"),
            ("never_heard_of", "<New><Thing/></New>", "o1"),
        ] {
            let arrival = arrival(&event_xml(name, rest));
            let name = name.to_lowercase();
            assert_eq!(
                (arrival.event, arrival.openid.as_str()),
                (Event::Other { name }, openid)
            );
        }
        let unknown = xml("<MsgType>hologram</MsgType>");
        assert_eq!(
            event(&unknown),
            Event::Other {
                name: "hologram".to_owned()
            }
        );
    }

    #[test]
    fn the_same_callback_has_the_same_digest_in_xml_and_json() {
        let json = r#"{"ToUserName":"gh_1","FromUserName":"o1","CreateTime":1395658920,
                       "MsgType":"event","Event":"subscribe","EventKey":"qrscene_1"}"#;
        let json = read(json.as_bytes(), Format::Json).unwrap();
        assert_eq!(json.arrival, arrival(&keyed("subscribe", "qrscene_1")));
        // Fixed, since digests are stored: a change would take in again what is already in.
        assert_eq!(json.arrival.digest, -3_404_346_341_340_523_831);
    }

    #[test]
    fn events_that_the_official_keys_confuse_have_digests_of_their_own() {
        let list = |template| format!("<E><List><TemplateId>{template}</TemplateId></List></E>");
        let mut bodies = vec![
            text("a"),
            text("a").replace("o1", "o2"),
            text("a").replace("gh_1", "gh_2"),
            text("a").replace("1395658920", "1395658921"),
            text("a").replace("<MsgId>7", "<MsgId>8"),
            keyed("CLICK", "a"),
            keyed("CLICK", "b"),
            keyed("SCAN", "a"),
            keyed("subscribe", ""),
            keyed("unsubscribe", ""),
            event_xml("user_get_card", "<UserCardCode>1</UserCardCode>"),
            event_xml("user_get_card", "<UserCardCode>2</UserCardCode>"),
            event_xml("subscribe_msg_popup_event", &list("T1")),
            event_xml("subscribe_msg_popup_event", &list("T2")),
            event_xml("TEMPLATESENDJOBFINISH", "<MsgID>1</MsgID>"),
            event_xml("TEMPLATESENDJOBFINISH", "<MsgID>2</MsgID>"),
        ];
        // Parts that run together alike must not count alike.
        bodies.push(keyed("CLICK", "1").replace("</xml>", "<MsgId>23</MsgId></xml>"));
        bodies.push(keyed("CLICK", "12").replace("</xml>", "<MsgId>3</MsgId></xml>"));
        let digests: std::collections::HashSet<_> =
            bodies.iter().map(|body| arrival(body).digest).collect();
        assert_eq!(digests.len(), bodies.len());
        assert_eq!(
            arrival(&keyed("click", "a")).digest,
            arrival(&keyed("CLICK", "a")).digest
        );
    }

    #[test]
    fn texts_are_cut_between_characters_and_lose_control_characters() {
        let kept = |content: &str| arrival(&text(content)).event.detail().to_owned();
        assert_eq!(kept(&"中".repeat(2_000)), "中".repeat(TEXT_BYTES_MAX / 3));
        assert_eq!(kept(&"x".repeat(TEXT_BYTES_MAX)).len(), TEXT_BYTES_MAX);
        assert_eq!(kept("a\u{8}b\u{7f}c\n\td\u{85}😀"), "abc\n\td😀");
        let scene = event(&keyed("SCAN", &"é".repeat(200)));
        assert_eq!(scene.detail(), "é".repeat(KEY_BYTES_MAX / 2));
    }

    #[test]
    fn instants_are_whole_seconds_within_the_calendar() {
        let at = |second: &str| {
            read(
                text("a").replace("1395658920", second).as_bytes(),
                Format::Xml,
            )
        };
        for (second, seconds) in [
            ("0", 0),
            (" 12 ", 12),
            ("<![CDATA[12]]>", 12),
            ("253402300800", SECONDS_MAX),
            ("999999999999999999", SECONDS_MAX),
        ] {
            let created_at = at(second).unwrap().arrival.created_at;
            assert_eq!(created_at, Timestamp::from_seconds(seconds), "{second}");
        }
        for second in [
            "",
            "-1",
            "+1",
            "1.5",
            "1e9",
            "abc",
            "１２",
            "9999999999999999999",
            "0x10",
        ] {
            assert!(at(second).is_err(), "{second}");
        }
    }

    #[test]
    fn what_every_message_has_must_be_there_and_ids_must_be_ids() {
        let whole = text("a");
        for name in ["ToUserName", "FromUserName", "CreateTime", "MsgType"] {
            let without = whole.replace(name, "Elsewhere");
            assert!(read(without.as_bytes(), Format::Xml).is_err(), "{name}");
        }
        assert!(read(xml("<MsgType>event</MsgType>").as_bytes(), Format::Xml).is_err());
        for id in ["", "o 1", "o\n1", "关注", &"o".repeat(ID_BYTES_MAX + 1)] {
            assert!(
                read(whole.replace("o1", id).as_bytes(), Format::Xml).is_err(),
                "{id}"
            );
            assert!(
                read(whole.replace("gh_1", id).as_bytes(), Format::Xml).is_err(),
                "{id}"
            );
        }
        let longest = whole.replace("o1", &"o".repeat(ID_BYTES_MAX));
        assert_eq!(arrival(&longest).openid.len(), ID_BYTES_MAX);
    }
}
