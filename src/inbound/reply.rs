//! A passive reply: one message as the answer to the follower's own event.
//!
//! Pure. Source: the platform's page "passive user reply message". Deliberately absent: encryption
//! (`inbound::envelope`), and kinds that only a customer message can carry.

use std::borrow::Cow;

use crate::clock::Timestamp;
use crate::journey::message::{Asset, Message};

/// Who writes to whom, and when.
#[derive(Clone, Copy, Debug)]
pub struct Address<'a> {
    /// The follower's openid.
    pub to: &'a str,
    /// The account's original id, as the event named it.
    pub from: &'a str,
    pub at: Timestamp,
}

/// The reply's XML; `None` for a kind that no reply can carry. `media` are the ids of the message's
/// uploads, in their order; for a picture its address.
pub fn write(message: &Message, media: &[String], address: Address<'_>) -> Option<String> {
    let id = |at: usize| media.get(at).map(String::as_str).unwrap_or_default();
    let content = match message {
        Message::Text(text) => element("Content", text),
        Message::Image(_) => within("Image", &element("MediaId", id(0))),
        Message::Voice(_) => within("Voice", &element("MediaId", id(0))),
        Message::Video(video) => {
            let parts = [
                element("MediaId", id(0)),
                element("Title", &video.title),
                element("Description", &video.description),
            ];
            within("Video", &parts.concat())
        }
        Message::News(news) => {
            let picture = match &news.picture {
                Some(Asset::File { .. }) => id(0),
                Some(Asset::Url { url }) => url,
                None => "",
            };
            let parts = [
                element("Title", &news.title),
                element("Description", &news.description),
                element("PicUrl", picture),
                element("Url", &news.url),
            ];
            // One article: more have been cut off since 2018-10-12.
            let articles = within("Articles", &within("item", &parts.concat()));
            format!("<ArticleCount>1</ArticleCount>{articles}")
        }
        Message::MsgMenu(_) | Message::MiniProgramPage(_) | Message::Article(_) => return None,
    };
    let head = [
        element("ToUserName", address.to),
        element("FromUserName", address.from),
        format!("<CreateTime>{}</CreateTime>", address.at.seconds()),
        element("MsgType", message.kind()),
    ];
    Some(format!("<xml>{}{content}</xml>", head.concat()))
}

fn element(name: &str, text: &str) -> String {
    format!("<{name}><![CDATA[{}]]></{name}>", cdata(text))
}

fn within(name: &str, inner: &str) -> String {
    format!("<{name}>{inner}</{name}>")
}

/// Text that cannot end the section it stands in.
fn cdata(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    if text.contains("]]>") {
        text = Cow::Owned(text.replace("]]>", "]]]]><![CDATA[>"));
    }
    if text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        let harmless = |c: &char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
        text = Cow::Owned(text.chars().filter(harmless).collect());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journey::message::{News, Video};

    fn address() -> Address<'static> {
        Address {
            to: "toUser",
            from: "fromUser",
            at: Timestamp::from_seconds(12_345_678),
        }
    }

    fn file() -> Asset {
        Asset::File {
            file: "a.png".into(),
            sha256: String::new(),
        }
    }

    fn written(message: &Message) -> String {
        write(message, &["media_id".into()], address()).expect("a reply can carry it")
    }

    #[test]
    fn replies_have_the_official_shapes() {
        let head = |kind: &str| {
            format!(
                "<xml><ToUserName><![CDATA[toUser]]></ToUserName>\
                 <FromUserName><![CDATA[fromUser]]></FromUserName>\
                 <CreateTime>12345678</CreateTime><MsgType><![CDATA[{kind}]]></MsgType>"
            )
        };
        assert_eq!(
            written(&Message::Text("你好".into())),
            head("text") + "<Content><![CDATA[你好]]></Content></xml>"
        );
        assert_eq!(
            written(&Message::Image(file())),
            head("image") + "<Image><MediaId><![CDATA[media_id]]></MediaId></Image></xml>"
        );
        let video = Message::Video(Video {
            file: file(),
            thumb: file(),
            title: "title".into(),
            description: "description".into(),
        });
        assert_eq!(
            written(&video),
            head("video")
                + "<Video><MediaId><![CDATA[media_id]]></MediaId><Title><![CDATA[title]]></Title>\
                   <Description><![CDATA[description]]></Description></Video></xml>"
        );
        let news = Message::News(News {
            title: "title1".into(),
            description: "description1".into(),
            url: "url".into(),
            picture: Some(Asset::Url {
                url: "picurl".into(),
            }),
        });
        assert_eq!(
            written(&news),
            head("news")
                + "<ArticleCount>1</ArticleCount><Articles><item><Title><![CDATA[title1]]></Title>\
                   <Description><![CDATA[description1]]></Description>\
                   <PicUrl><![CDATA[picurl]]></PicUrl><Url><![CDATA[url]]></Url></item></Articles></xml>"
        );
    }

    #[test]
    fn a_text_cannot_break_out_of_its_section() {
        let text = written(&Message::Text("a]]><b/>\u{0}\n".into()));
        assert!(
            text.contains("<![CDATA[a]]]]><![CDATA[><b/>\n]]>"),
            "{text}"
        );
    }

    #[test]
    fn kinds_that_only_a_customer_message_has_are_not_written() {
        let article = Message::Article("ARTICLE_ID".into());
        assert_eq!(write(&article, &[], address()), None);
    }
}
