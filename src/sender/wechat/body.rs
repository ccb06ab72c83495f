//! A message as the JSON that the customer-service interface takes.
//!
//! Pure. The text stays raw UTF-8: the platform refuses `\u` escapes of Chinese (40033).
//! Deliberately absent: lengths and kinds that the platform would refuse; the sequence's check
//! knows them before anything is due.
//!
//! Shapes: the platform's page "send customer message", as its SDKs' tests hold them.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;

use super::media::MediaKind;
use crate::journey::message::{Asset, Message};

/// The uploads that a message needs, in the order in which `encode` takes their ids.
///
/// A picture of a card that is a URL already is not uploaded: the card takes any picture's URL.
pub(super) fn uploads(message: &Message) -> Vec<(&Asset, MediaKind)> {
    match message {
        Message::Image(asset) => vec![(asset, MediaKind::Image)],
        Message::Voice(asset) => vec![(asset, MediaKind::Voice)],
        Message::Video(video) => vec![
            (&video.file, MediaKind::Video),
            (&video.thumb, MediaKind::Thumb),
        ],
        Message::News(news) => match &news.picture {
            Some(file @ Asset::File { .. }) => vec![(file, MediaKind::Picture)],
            Some(Asset::Url { .. }) | None => Vec::new(),
        },
        // The cover of a mini program's card is media of the type image, not thumb.
        Message::MiniProgramPage(page) => vec![(&page.thumb, MediaKind::Image)],
        Message::Text(_) | Message::MsgMenu(_) | Message::Article(_) => Vec::new(),
    }
}

/// The request's body. `ids` are the uploads' media ids (or, for a picture, its URL).
pub(super) fn encode(openid: &str, message: &Message, ids: &[String]) -> Vec<u8> {
    let envelope = Envelope {
        openid,
        message,
        ids,
    };
    serde_json::to_vec(&envelope).expect("strings and string keys always serialize")
}

struct Envelope<'a> {
    openid: &'a str,
    message: &'a Message,
    ids: &'a [String],
}

impl Serialize for Envelope<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let id = |at: usize| self.ids.get(at).map(String::as_str).unwrap_or_default();
        let content = match self.message {
            Message::Text(text) => json!({ "content": text }),
            Message::Image(_) | Message::Voice(_) => json!({ "media_id": id(0) }),
            Message::Video(video) => json!({
                "media_id": id(0),
                "thumb_media_id": id(1),
                "title": video.title,
                "description": video.description,
            }),
            Message::News(news) => {
                let mut article = json!({
                    "title": news.title,
                    "description": news.description,
                    "url": news.url,
                });
                match &news.picture {
                    Some(Asset::File { .. }) => article["picurl"] = json!(id(0)),
                    Some(Asset::Url { url }) => article["picurl"] = json!(url),
                    None => {}
                }
                json!({ "articles": [article] })
            }
            Message::MsgMenu(menu) => {
                let choices = menu.items.iter();
                let list: Vec<_> = choices
                    .map(|item| json!({ "id": item.id, "content": item.text }))
                    .collect();
                json!({ "head_content": menu.head, "list": list, "tail_content": menu.tail })
            }
            Message::MiniProgramPage(page) => json!({
                "title": page.title,
                "appid": page.app_id,
                "pagepath": page.path,
                "thumb_media_id": id(0),
            }),
            Message::Article(article_id) => json!({ "article_id": article_id }),
        };
        let kind = match self.message {
            Message::Article(_) => "mpnewsarticle",
            other => other.kind(),
        };
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("touser", self.openid)?;
        map.serialize_entry("msgtype", kind)?;
        map.serialize_entry(kind, &content)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::journey::message::{MenuItem, MiniProgramPage, MsgMenu, News, Video};

    fn file() -> Asset {
        Asset::File {
            file: "a.png".into(),
            sha256: "00".into(),
        }
    }

    /// Holds a message against the platform's own sample.
    fn check(message: &Message, ids: &[&str], sample: &str) {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        assert_eq!(uploads(message).len(), ids.len(), "{sample}");
        let body = encode("OPENID", message, &ids);
        let ours: Value = serde_json::from_slice(&body).unwrap();
        let theirs: Value = serde_json::from_str(sample).unwrap();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn text_and_media_have_the_official_shapes() {
        check(
            &Message::Text("Hello".into()),
            &[],
            r#"{"touser":"OPENID","msgtype":"text","text":{"content":"Hello"}}"#,
        );
        check(
            &Message::Image(file()),
            &["MEDIA_ID"],
            r#"{"touser":"OPENID","msgtype":"image","image":{"media_id":"MEDIA_ID"}}"#,
        );
        check(
            &Message::Voice(file()),
            &["MEDIA_ID"],
            r#"{"touser":"OPENID","msgtype":"voice","voice":{"media_id":"MEDIA_ID"}}"#,
        );
        check(
            &Message::Video(Video {
                file: file(),
                thumb: file(),
                title: "TITLE".into(),
                description: "D".into(),
            }),
            &["M", "T"],
            r#"{"touser":"OPENID","msgtype":"video","video":{"media_id":"M","thumb_media_id":"T","title":"TITLE","description":"D"}}"#,
        );
        check(
            &Message::Article("ARTICLE_ID".into()),
            &[],
            r#"{"touser":"OPENID","msgtype":"mpnewsarticle","mpnewsarticle":{"article_id":"ARTICLE_ID"}}"#,
        );
    }

    #[test]
    fn cards_and_menus_have_the_official_shapes() {
        let news = |picture| {
            Message::News(News {
                title: "T".into(),
                description: "D".into(),
                url: "URL".into(),
                picture,
            })
        };
        let sample = r#"{"touser":"OPENID","msgtype":"news","news":{"articles":[{"title":"T","description":"D","url":"URL","picurl":"PIC_URL"}]}}"#;
        check(&news(Some(file())), &["PIC_URL"], sample);
        let url = "PIC_URL".to_owned();
        check(&news(Some(Asset::Url { url })), &[], sample);
        check(
            &news(None),
            &[],
            r#"{"touser":"OPENID","msgtype":"news","news":{"articles":[{"title":"T","description":"D","url":"URL"}]}}"#,
        );
        let item = |id: &str, text: &str| MenuItem {
            id: id.into(),
            text: text.into(),
        };
        check(
            &Message::MsgMenu(MsgMenu {
                head: "H".into(),
                items: vec![item("101", "满意"), item("102", "不满意")],
                tail: "T".into(),
            }),
            &[],
            r#"{"touser":"OPENID","msgtype":"msgmenu","msgmenu":{"head_content":"H","list":[{"id":"101","content":"满意"},{"id":"102","content":"不满意"}],"tail_content":"T"}}"#,
        );
        check(
            &Message::MiniProgramPage(MiniProgramPage {
                title: "t".into(),
                app_id: "appid".into(),
                path: "p".into(),
                thumb: file(),
            }),
            &["m"],
            r#"{"touser":"OPENID","msgtype":"miniprogrampage","miniprogrampage":{"title":"t","appid":"appid","pagepath":"p","thumb_media_id":"m"}}"#,
        );
    }

    #[test]
    fn chinese_and_emoji_are_not_escaped_and_quotes_are() {
        let text = "欢迎👋 \"<a href='https://x'>\"\n\u{0}";
        let body = encode("o1", &Message::Text(text.into()), &[]);
        let body = String::from_utf8(body).unwrap();
        assert!(body.starts_with(r#"{"touser":"o1","msgtype":"text","text":{"content":"欢迎👋"#));
        let back: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(back["text"]["content"], text);
    }
}
