//! What a follower does, and the callback body that tells the account of it.
//!
//! Bodies have the shapes of the platform's samples. Encryption and delivery are in `callback`, the
//! effects on the follower in `act`, and events that no follower caused in `result`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fields::{self, Field, Fields};
use super::grant::Cause;
use super::result::Outcome;
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
    /// Answers a window that asks for consent to subscription notices.
    Popup {
        answers: Vec<PopupAnswer>,
        /// 1 on a page, 2 in an article.
        #[serde(default = "in_article")]
        scene: u8,
    },
    /// Withdraws consent to subscription notices where they are managed.
    Withdraw {
        template_ids: Vec<String>,
    },
}

fn in_article() -> u8 {
    2
}

/// What a follower answers about one template.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct PopupAnswer {
    pub template_id: String,
    pub accept: bool,
}

/// What the account is told.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A follower did something.
    Acted(Action),
    /// The platform is done with a message.
    Ended(Outcome),
}

impl Event {
    /// What logs and faults call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Acted(action) => action.name(),
            Self::Ended(outcome) => outcome.name(),
        }
    }
}

impl Action {
    /// The grant it opens by the platform's rule; a tap counts as a menu click.
    pub(super) fn cause(&self) -> Option<Cause> {
        match self {
            Self::Follow { .. } => Some(Cause::Follow),
            Self::Unfollow | Self::Popup { .. } | Self::Withdraw { .. } => None,
            Self::Text { .. } | Self::Image { .. } => Some(Cause::Message),
            Self::Click { .. } | Self::Tap { .. } => Some(Cause::Click),
            Self::Scan { .. } => Some(Cause::Scan),
        }
    }

    /// What logs and faults call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Follow { .. } => "follow",
            Self::Unfollow => "unfollow",
            Self::Text { .. } => "text",
            Self::Image { .. } => "image",
            Self::Click { .. } => "click",
            Self::Scan { .. } => "scan",
            Self::Tap { .. } => "tap",
            Self::Popup { .. } => "popup",
            Self::Withdraw { .. } => "withdraw",
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
    pub(super) event: &'a Event,
    /// Unique per message; events carry none.
    pub(super) msg_id: u64,
    /// Address of a picture the follower sent.
    pub(super) picture_url: &'a str,
    pub(super) media_id: &'a str,
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
        fields::xml(&self.fields())
    }

    /// The members of the JSON object.
    pub(super) fn json_fields(&self) -> Map<String, Value> {
        fields::json(&self.fields())
    }

    fn fields(&self) -> Fields {
        let mut fields = vec![
            ("ToUserName", Field::text(self.original_id)),
            ("FromUserName", Field::text(self.openid)),
            ("CreateTime", Field::Number(self.at.seconds())),
        ];
        fields.extend(match self.event {
            Event::Acted(action) => self.acted(action),
            Event::Ended(outcome) => outcome.fields(),
        });
        fields
    }

    fn acted(&self, action: &Action) -> Fields {
        let text = Field::text;
        let event = |name: &str, key: &str| {
            vec![
                ("MsgType", text("event")),
                ("Event", text(name)),
                ("EventKey", text(key)),
            ]
        };
        let scanned = |name: &str, key: &str, scene: &str| {
            let mut fields = event(name, key);
            fields.push(("Ticket", text(&ticket(scene))));
            fields
        };
        let listed = |name: &str, around: &'static str, entries| {
            vec![
                ("MsgType", text("event")),
                ("Event", text(name)),
                (around, Field::List(entries)),
            ]
        };
        let msg_id = ("MsgId", Field::number(self.msg_id));
        match action {
            Action::Follow { scene: None } => event("subscribe", ""),
            Action::Follow { scene: Some(scene) } => {
                scanned("subscribe", &format!("qrscene_{scene}"), scene)
            }
            Action::Unfollow => event("unsubscribe", ""),
            Action::Click { key } => event("CLICK", key),
            Action::Scan { scene } => scanned("SCAN", scene, scene),
            Action::Text { text: content } => vec![
                ("MsgType", text("text")),
                ("Content", text(content)),
                msg_id,
            ],
            Action::Tap { id, text: content } => vec![
                ("MsgType", text("text")),
                ("Content", text(content)),
                msg_id,
                ("bizmsgmenuid", text(id)),
            ],
            Action::Image { .. } => vec![
                ("MsgType", text("image")),
                ("PicUrl", text(self.picture_url)),
                msg_id,
                ("MediaId", text(self.media_id)),
            ],
            Action::Popup { answers, scene } => {
                let entry = |answer: &PopupAnswer| {
                    let status = if answer.accept { "accept" } else { "reject" };
                    vec![
                        ("TemplateId", text(&answer.template_id)),
                        ("SubscribeStatusString", text(status)),
                        ("PopupScene", Field::Number(i64::from(*scene))),
                    ]
                };
                let entries = answers.iter().map(entry).collect();
                listed(
                    "subscribe_msg_popup_event",
                    "SubscribeMsgPopupEvent",
                    entries,
                )
            }
            Action::Withdraw { template_ids } => {
                let entry = |id: &String| {
                    vec![
                        ("TemplateId", text(id)),
                        ("SubscribeStatusString", text("reject")),
                    ]
                };
                let entries = template_ids.iter().map(entry).collect();
                listed(
                    "subscribe_msg_change_event",
                    "SubscribeMsgChangeEvent",
                    entries,
                )
            }
        }
    }
}

/// A ticket that stays the same for one scene, as a permanent QR code's does.
fn ticket(scene: &str) -> String {
    use base64::Engine;
    let scene = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(scene);
    format!("gQH47joAAAAAAAAAASxodHRwOi8vd2VpeGluLnFxLmNvbS9xL2{scene}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(action: &Action, format: Format) -> String {
        body_of(&Event::Acted(action.clone()), format)
    }

    fn body_of(event: &Event, format: Format) -> String {
        let push = Push {
            original_id: "gh_1",
            openid: "oAnn",
            at: Timestamp(1_500_000_000_999),
            event,
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
    fn consent_and_results_have_the_shape_of_the_platforms_samples() {
        let answer = |template_id: &str, accept| PopupAnswer {
            template_id: template_id.to_owned(),
            accept,
        };
        let popup = Action::Popup {
            answers: vec![answer("VRR", true), answer("9nL", false)],
            scene: 2,
        };
        assert!(body(&popup, Format::Xml).ends_with(
            "<Event><![CDATA[subscribe_msg_popup_event]]></Event><SubscribeMsgPopupEvent>\
             <List><TemplateId><![CDATA[VRR]]></TemplateId><SubscribeStatusString>\
             <![CDATA[accept]]></SubscribeStatusString><PopupScene>2</PopupScene></List>\
             <List><TemplateId><![CDATA[9nL]]></TemplateId><SubscribeStatusString>\
             <![CDATA[reject]]></SubscribeStatusString><PopupScene>2</PopupScene></List>\
             </SubscribeMsgPopupEvent></xml>"
        ));
        let result = Event::Ended(Outcome::Template {
            msg_id: 200_163_836,
            status: "failed:user block".to_owned(),
        });
        assert!(body_of(&result, Format::Xml).ends_with(
            "<Event><![CDATA[TEMPLATESENDJOBFINISH]]></Event><MsgID>200163836</MsgID>\
             <Status><![CDATA[failed:user block]]></Status></xml>"
        ));
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
