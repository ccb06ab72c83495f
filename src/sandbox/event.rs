//! What a follower does, and the callback body that tells the account of it.
//!
//! Bodies have the shapes of the platform's samples, as XML with CDATA or as JSON. Encryption and
//! delivery are in `callback`, the effects on the follower in `control`.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::grant::Cause;
use super::settings::Format;
use crate::clock::Timestamp;

/// What a follower does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Begins to follow; by a QR code when a scene is given.
    Follow {
        #[serde(default)]
        scene: Option<String>,
    },
    Unfollow,
    /// Writes a message.
    Text {
        text: String,
    },
    /// Sends a picture: one uploaded before, or the sandbox's own.
    Image {
        #[serde(default)]
        media_id: Option<String>,
    },
    /// Clicks a button of the menu.
    Click {
        key: String,
    },
    /// Scans a QR code; whoever does not follow yet begins to.
    Scan {
        scene: String,
    },
    /// Taps a choice of a msgmenu.
    Tap {
        id: String,
        text: String,
    },
}

impl Action {
    /// The grant it opens by the platform's rule; a tap counts as a menu click.
    pub(super) fn cause(&self) -> Option<Cause> {
        match self {
            Self::Follow { .. } => Some(Cause::Follow),
            Self::Unfollow => None,
            Self::Text { .. } | Self::Image { .. } => Some(Cause::Message),
            Self::Click { .. } | Self::Tap { .. } => Some(Cause::Click),
            Self::Scan { .. } => Some(Cause::Scan),
        }
    }

    /// What logs call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Follow { .. } => "follow",
            Self::Unfollow => "unfollow",
            Self::Text { .. } => "text",
            Self::Image { .. } => "image",
            Self::Click { .. } => "click",
            Self::Scan { .. } => "scan",
            Self::Tap { .. } => "tap",
        }
    }
}

/// One push: who did what when, to whom.
#[derive(Clone, Debug)]
pub(super) struct Push<'a> {
    pub(super) original_id: &'a str,
    pub(super) openid: &'a str,
    /// Its second is the `CreateTime`.
    pub(super) at: Timestamp,
    pub(super) action: &'a Action,
    /// Unique per message; events carry none.
    pub(super) msg_id: u64,
    /// Address of a picture the follower sent.
    pub(super) picture_url: &'a str,
    pub(super) media_id: &'a str,
}

enum Field {
    Text(String),
    Number(i64),
}

impl Push<'_> {
    /// The readable body.
    pub(super) fn body(&self, format: Format) -> String {
        match format {
            Format::Xml => format!("<xml>{}</xml>", self.xml_fields()),
            Format::Json => Value::Object(self.json_fields()).to_string(),
        }
    }

    /// The elements inside `<xml>`.
    pub(super) fn xml_fields(&self) -> String {
        let mut xml = String::with_capacity(512);
        for (name, field) in self.fields() {
            // Writing into a String cannot fail.
            let _ = match field {
                Field::Text(text) => write!(xml, "<{name}>{}</{name}>", cdata(&text)),
                Field::Number(number) => write!(xml, "<{name}>{number}</{name}>"),
            };
        }
        xml
    }

    /// The members of the JSON object.
    pub(super) fn json_fields(&self) -> Map<String, Value> {
        let member = |(name, field): (&str, Field)| {
            let value = match field {
                Field::Text(text) => Value::String(text),
                Field::Number(number) => Value::from(number),
            };
            (name.to_owned(), value)
        };
        self.fields().into_iter().map(member).collect()
    }

    fn fields(&self) -> Vec<(&'static str, Field)> {
        let text = |text: &str| Field::Text(text.to_owned());
        let mut fields = vec![
            ("ToUserName", text(self.original_id)),
            ("FromUserName", text(self.openid)),
            ("CreateTime", Field::Number(self.at.seconds())),
        ];
        let event = |name: &'static str, key: &str| {
            vec![
                ("MsgType", text("event")),
                ("Event", text(name)),
                ("EventKey", text(key)),
            ]
        };
        let msg_id = (
            "MsgId",
            Field::Number(i64::try_from(self.msg_id).unwrap_or(i64::MAX)),
        );
        match self.action {
            Action::Follow { scene: None } => fields.extend(event("subscribe", "")),
            Action::Follow { scene: Some(scene) } => {
                fields.extend(event("subscribe", &format!("qrscene_{scene}")));
                fields.push(("Ticket", text(&ticket(scene))));
            }
            Action::Unfollow => fields.extend(event("unsubscribe", "")),
            Action::Click { key } => fields.extend(event("CLICK", key)),
            Action::Scan { scene } => {
                fields.extend(event("SCAN", scene));
                fields.push(("Ticket", text(&ticket(scene))));
            }
            Action::Text { text: content } => {
                fields.extend([
                    ("MsgType", text("text")),
                    ("Content", text(content)),
                    msg_id,
                ]);
            }
            Action::Tap { id, text: content } => {
                fields.extend([
                    ("MsgType", text("text")),
                    ("Content", text(content)),
                    msg_id,
                ]);
                fields.push(("bizmsgmenuid", text(id)));
            }
            Action::Image { .. } => fields.extend([
                ("MsgType", text("image")),
                ("PicUrl", text(self.picture_url)),
                msg_id,
                ("MediaId", text(self.media_id)),
            ]),
        }
        fields
    }
}

/// A ticket that stays the same for one scene, as a permanent QR code's does.
fn ticket(scene: &str) -> String {
    use base64::Engine;
    let scene = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(scene);
    format!("gQH47joAAAAAAAAAASxodHRwOi8vd2VpeGluLnFxLmNvbS9xL2{scene}")
}

/// Text as CDATA; an end mark inside is split over two sections.
pub(super) fn cdata(text: &str) -> String {
    format!("<![CDATA[{}]]>", text.replace("]]>", "]]]]><![CDATA[>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(action: &Action, format: Format) -> String {
        let push = Push {
            original_id: "gh_1",
            openid: "oAnn",
            at: Timestamp(1_500_000_000_999),
            action,
            msg_id: 23_000_000_000_000_001,
            picture_url: "http://p",
            media_id: "m",
        };
        push.body(format)
    }

    #[test]
    fn bodies_have_the_shape_of_the_platforms_samples() {
        let follow = body(&Action::Follow { scene: None }, Format::Xml);
        assert_eq!(
            follow,
            "<xml><ToUserName><![CDATA[gh_1]]></ToUserName>\
             <FromUserName><![CDATA[oAnn]]></FromUserName><CreateTime>1500000000</CreateTime>\
             <MsgType><![CDATA[event]]></MsgType><Event><![CDATA[subscribe]]></Event>\
             <EventKey><![CDATA[]]></EventKey></xml>"
        );
        let scan = Action::Follow {
            scene: Some("123".into()),
        };
        assert!(body(&scan, Format::Xml).contains("<![CDATA[qrscene_123]]></EventKey><Ticket>"));
        let tap = Action::Tap {
            id: "101".into(),
            text: "满意".into(),
        };
        assert!(body(&tap, Format::Xml).contains(
            "<Content><![CDATA[满意]]></Content><MsgId>23000000000000001</MsgId>\
             <bizmsgmenuid><![CDATA[101]]></bizmsgmenuid>"
        ));
        let json: Value =
            serde_json::from_str(&body(&Action::Click { key: "K".into() }, Format::Json)).unwrap();
        assert_eq!(json["Event"], "CLICK");
        assert_eq!(json["CreateTime"], 1_500_000_000);
    }

    #[test]
    fn text_cannot_break_out_of_its_cdata() {
        let nasty = "a]]><Event>b";
        let xml = body(&Action::Text { text: nasty.into() }, Format::Xml);
        let mut reader = quick_xml::Reader::from_str(&xml);
        let mut content = String::new();
        let mut names = Vec::new();
        loop {
            match reader.read_event().unwrap() {
                quick_xml::events::Event::Start(tag) => names.push(tag.name().as_ref().to_owned()),
                quick_xml::events::Event::CData(data) if names.last().unwrap() == "Content" => {
                    content.push_str(&data);
                }
                quick_xml::events::Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!(content, nasty);
        assert!(!names.iter().any(|name| name == "Event"));
    }
}
