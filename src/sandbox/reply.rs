//! The answer to a callback: nothing, `success`, or a passive reply for the phone.
//!
//! Reads what the platform reads and refuses what makes it complain to the follower. Bodies come
//! bounded from `callback`, signatures and encryption are handled there too.

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::Event;
use serde_json::Value;

use super::message::Shown;

/// Elements in one reply; real ones have fewer than twenty.
const ELEMENTS_MAX: usize = 100;

/// A reply as a list of element paths (joined by `/`, root omitted) and their texts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    fields: Vec<(String, String)>,
}

impl Reply {
    /// Reads XML or JSON, whichever it looks like; `None` when it is neither.
    pub(super) fn parse(body: &str) -> Option<Self> {
        let body = body.trim();
        if body.starts_with('{') {
            return Self::parse_json(body);
        }
        Self::parse_xml(body)
    }

    fn parse_json(body: &str) -> Option<Self> {
        let mut reply = Self::default();
        collect(&serde_json::from_str(body).ok()?, "", &mut reply.fields)?;
        Some(reply)
    }

    fn parse_xml(body: &str) -> Option<Self> {
        let mut reader = Reader::from_str(body);
        let mut reply = Self::default();
        let mut path: Vec<String> = Vec::new();
        let mut text = String::new();
        let mut is_closed = false;
        loop {
            match reader.read_event().ok()? {
                Event::Start(tag) => {
                    if is_closed || reply.fields.len() > ELEMENTS_MAX || path.len() > 8 {
                        return None;
                    }
                    path.push(tag.name().as_ref().to_owned());
                    text.clear();
                }
                Event::End(_) => {
                    let name = path.get(1..).unwrap_or_default().join("/");
                    reply.fields.push((name, std::mem::take(&mut text)));
                    path.pop();
                    is_closed = path.is_empty();
                }
                Event::CData(data) => text.push_str(&data),
                Event::Text(data) => text.push_str(&data),
                Event::GeneralRef(name) => match name.resolve_char_ref().ok()? {
                    Some(character) => text.push(character),
                    None => text.push_str(resolve_xml_entity(&name)?),
                },
                Event::DocType(_) => return None,
                Event::Eof => break,
                Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            }
        }
        is_closed.then_some(reply)
    }

    /// The text of one element.
    pub(super) fn get(&self, path: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(name, _)| name == path);
        found.map(|(_, text)| text.as_str())
    }

    /// What the phone shows; `Some(None)` for a hand-over to an agent, which shows nothing, and
    /// `None` for a reply the platform does not know.
    pub(super) fn into_shown(self) -> Option<Option<Shown>> {
        let text = |path: &str| self.get(path).unwrap_or_default().to_owned();
        Some(Some(match self.get("MsgType")? {
            "text" => Shown::Text {
                content: self.get("Content")?.to_owned(),
            },
            "image" => Shown::Image {
                media_id: self.get("Image/MediaId")?.to_owned(),
            },
            "voice" => Shown::Voice {
                media_id: self.get("Voice/MediaId")?.to_owned(),
            },
            "video" => Shown::Video {
                media_id: self.get("Video/MediaId")?.to_owned(),
                thumb_media_id: text("Video/ThumbMediaId"),
                title: text("Video/Title"),
                description: text("Video/Description"),
            },
            "music" => Shown::Music {
                title: text("Music/Title"),
                description: text("Music/Description"),
                url: text("Music/MusicUrl"),
            },
            "news" => Shown::News {
                title: self.get("Articles/item/Title")?.to_owned(),
                description: text("Articles/item/Description"),
                url: text("Articles/item/Url"),
                picurl: text("Articles/item/PicUrl"),
            },
            "transfer_customer_service" => return Some(None),
            _ => return None,
        }))
    }
}

/// Flattens JSON the way XML elements nest; the items of a list share one path.
fn collect(value: &Value, path: &str, fields: &mut Vec<(String, String)>) -> Option<()> {
    if fields.len() > ELEMENTS_MAX {
        return None;
    }
    let inner = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}/{name}"),
    };
    match value {
        Value::Object(members) => members
            .iter()
            .try_for_each(|(name, value)| collect(value, &inner(name), fields)),
        Value::Array(items) => items
            .iter()
            .try_for_each(|value| collect(value, &inner("item"), fields)),
        Value::String(text) => {
            fields.push((path.to_owned(), text.clone()));
            Some(())
        }
        other => {
            fields.push((path.to_owned(), other.to_string()));
            Some(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_become_what_the_phone_shows() {
        let xml = "<xml><MsgType><![CDATA[text]]></MsgType>\n<Content>a &amp; <![CDATA[<b>]]>&#33;\
                   </Content></xml>";
        let shown = Reply::parse(xml).and_then(Reply::into_shown);
        assert_eq!(
            shown,
            Some(Some(Shown::Text {
                content: "a & <b>!".into()
            }))
        );
        let json = r#"{"MsgType":"news","Articles":[{"Title":"t","Url":"u"}]}"#;
        let Some(Some(Shown::News { title, url, .. })) =
            Reply::parse(json).and_then(Reply::into_shown)
        else {
            panic!("not news");
        };
        assert_eq!((title.as_str(), url.as_str()), ("t", "u"));
    }

    #[test]
    fn junk_is_no_reply() {
        let junk = [
            "<html>oops",
            "<xml><MsgType>text</MsgType>",
            "<!DOCTYPE x [<!ENTITY a 'b'>]><xml><MsgType>text</MsgType></xml>",
            "<xml><MsgType>&a;</MsgType></xml>",
            "<xml><MsgType>poem</MsgType></xml>",
            "{\"ok\":true}",
            "[1]",
            "hello",
        ];
        for body in junk {
            assert_eq!(
                Reply::parse(body).and_then(Reply::into_shown),
                None,
                "{body}"
            );
        }
    }
}
