//! A message as the body of `kf/send_msg`.
//!
//! | kind | msgtype | fallback |
//! |---|---|---|
//! | text | text | |
//! | image, voice, video | the same, by media id; a voice as AMR | title and description of a video |
//! | news | link, which needs a picture; else text | text with the address |
//! | msgmenu | msgmenu; at most 10 choices of 64 and 128 bytes | a list |
//! | miniprogrampage | miniprogram | |
//! | article | none | |
//!
//! Pure. Source: <https://developer.work.weixin.qq.com/document/path/94677>.

use serde_json::{Value, json};

use crate::journey::message::{Asset, Message, MsgMenu, News};
use crate::sender::prose;
use crate::sender::wechat::MediaKind;

/// Choices of a menu, and bytes of their ids and words.
const CHOICES_MAX: usize = 10;
const CHOICE_ID_MAX: usize = 64;
const CHOICE_MAX: usize = 128;

/// A body, but for whom it is for and the id of its file.
#[derive(Clone, Debug)]
pub struct Rendered<'m> {
    pub msgtype: &'static str,
    pub content: Value,
    /// The file, whose id goes into the content's field.
    pub file: Option<(&'m Asset, MediaKind)>,
    field: &'static str,
    /// What is shown instead, where 微信客服 lacks the kind.
    pub fallback: Option<&'static str>,
}

impl<'m> Rendered<'m> {
    fn new(msgtype: &'static str, content: Value) -> Self {
        Self {
            msgtype,
            content,
            file: None,
            field: "media_id",
            fallback: None,
        }
    }

    fn with(mut self, field: &'static str, asset: &'m Asset, kind: MediaKind) -> Self {
        self.field = field;
        self.file = Some((asset, kind));
        self
    }

    fn instead(mut self, fallback: &'static str) -> Self {
        self.fallback = Some(fallback);
        self
    }

    /// The whole body, over what every body has.
    pub(in crate::sender) fn filled(&self, mut body: Value, media: Option<&str>) -> Value {
        let mut content = self.content.clone();
        if let Some(id) = media {
            content[self.field] = json!(id);
        }
        body["msgtype"] = json!(self.msgtype);
        body[self.msgtype] = content;
        body
    }
}

/// The body for a message.
///
/// # Errors
/// Why 微信客服 cannot show anything of it.
pub fn render(message: &Message) -> Result<Rendered<'_>, &'static str> {
    let text = |words: String| Rendered::new("text", json!({ "content": words }));
    Ok(match message {
        Message::Text(words) => text(words.clone()),
        Message::Image(asset) => {
            Rendered::new("image", json!({})).with("media_id", asset, MediaKind::Image)
        }
        Message::Voice(asset) => {
            Rendered::new("voice", json!({})).with("media_id", asset, MediaKind::Voice)
        }
        Message::Video(video) => {
            let film = Rendered::new("video", json!({}));
            let film = film.with("media_id", &video.file, MediaKind::Video);
            match prose::video(video).as_str() {
                "" => film,
                _ => film.instead("the film without title and description"),
            }
        }
        Message::News(card) => news(card),
        Message::MsgMenu(choices) => menu(choices),
        Message::MiniProgramPage(page) => {
            let content = json!({
                "appid": page.app_id, "title": page.title, "pagepath": page.path,
            });
            let page_of = Rendered::new("miniprogram", content);
            page_of.with("thumb_media_id", &page.thumb, MediaKind::Image)
        }
        Message::Article(_) => return Err("微信客服 has no articles: write a news card"),
    })
}

fn news(card: &News) -> Rendered<'_> {
    match &card.picture {
        Some(picture @ Asset::File { .. }) => {
            let content = json!({
                "title": card.title, "desc": card.description, "url": card.url,
            });
            Rendered::new("link", content).with("thumb_media_id", picture, MediaKind::Image)
        }
        Some(Asset::Url { .. }) | None => {
            Rendered::new("text", json!({ "content": prose::news(card) }))
                .instead("a text with the address: a link needs a picture of ours")
        }
    }
}

fn menu(choices: &MsgMenu) -> Rendered<'_> {
    let fits = choices.items.len() <= CHOICES_MAX
        && choices
            .items
            .iter()
            .all(|item| item.id.len() <= CHOICE_ID_MAX && item.text.len() <= CHOICE_MAX);
    if !fits {
        return Rendered::new("text", json!({ "content": prose::menu(choices) }))
            .instead("a list: 微信客服 takes 10 choices with ids of 64 bytes");
    }
    let list = choices
        .items
        .iter()
        .map(|item| json!({ "type": "click", "click": { "id": item.id, "content": item.text } }));
    let content = json!({
        "head_content": choices.head,
        "list": list.collect::<Vec<_>>(),
        "tail_content": choices.tail,
    });
    Rendered::new("msgmenu", content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_with_a_picture_is_a_link_and_one_without_is_words() {
        let card = |picture| {
            Message::News(News {
                title: "t".into(),
                description: "d".into(),
                url: "https://a.example".into(),
                picture,
            })
        };
        let file = Asset::File {
            file: "p.png".into(),
            sha256: "ab".into(),
        };
        let shown = card(Some(file));
        let body = render(&shown)
            .unwrap()
            .filled(json!({ "touser": "w" }), Some("m1"));
        assert_eq!(body["msgtype"], "link");
        assert_eq!(body["link"]["thumb_media_id"], "m1");
        let bare = card(None);
        let rendered = render(&bare).unwrap();
        assert_eq!(rendered.content["content"], "t\nd\nhttps://a.example");
        assert!(rendered.fallback.is_some());
        assert!(render(&Message::Article("1".into())).is_err());
    }
}
