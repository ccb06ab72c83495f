//! A message as a message object of the Messaging API.
//!
//! | kind | object | fallback |
//! |---|---|---|
//! | text | text; a link's address stands behind its label | |
//! | image | image | |
//! | voice | text with the file's address, for an audio object needs its length | a link |
//! | video | video with its cover | |
//! | news | flex: one bubble with picture, words and a button | |
//! | msgmenu | text with quick replies, at most 13 | quick replies |
//! | miniprogrampage | text with its title | its title |
//! | article | none | |
//!
//! Pure. Files have to be at an HTTPS address from which LINE fetches them.
//!
//! Source: <https://developers.line.biz/en/reference/messaging-api/#message-objects>

use serde_json::{Value, json};

use crate::journey::message::{Asset, Message, MsgMenu, News};
use crate::sender::prose::{self, shortened};

/// Quick replies of one message.
const CHOICES_MAX: usize = 13;
/// Characters of a button's label, of a flex message's words for old clients, and of postback data.
const LABEL_MAX: usize = 20;
const ALT_TEXT_MAX: usize = 400;
const DATA_MAX: usize = 300;

/// A message object.
#[derive(Clone, Debug)]
pub struct Rendered {
    pub message: Value,
    /// What is shown instead, where LINE lacks the kind.
    pub fallback: Option<&'static str>,
}

impl Rendered {
    fn whole(message: Value) -> Self {
        let fallback = None;
        Self { message, fallback }
    }

    fn instead(message: Value, fallback: &'static str) -> Self {
        let fallback = Some(fallback);
        Self { message, fallback }
    }
}

/// The object for a message; `files_base` is where LINE can fetch our files.
///
/// # Errors
/// Why LINE cannot show anything of it.
pub fn render(message: &Message, files_base: Option<&str>) -> Result<Rendered, &'static str> {
    let text = |words: String| json!({ "type": "text", "text": words });
    Ok(match message {
        Message::Text(words) => Rendered::whole(text(prose::plain(words))),
        Message::Image(asset) => {
            let url = address(asset, files_base)?;
            Rendered::whole(json!({
                "type": "image", "originalContentUrl": url, "previewImageUrl": url,
            }))
        }
        Message::Voice(asset) => {
            let url = address(asset, files_base)?;
            Rendered::instead(
                text(url),
                "a link: LINE wants to know how long a recording is",
            )
        }
        Message::Video(video) => {
            let film = json!({
                "type": "video",
                "originalContentUrl": address(&video.file, files_base)?,
                "previewImageUrl": address(&video.thumb, files_base)?,
            });
            match prose::video(video).as_str() {
                "" => Rendered::whole(film),
                _ => Rendered::instead(film, "the film without title and description"),
            }
        }
        Message::News(card) => news(card, files_base)?,
        Message::MsgMenu(choices) => menu(choices),
        Message::MiniProgramPage(page) => Rendered::instead(
            text(page.title.clone()),
            "its title: LINE opens no mini programs of WeChat",
        ),
        Message::Article(_) => return Err("LINE has no articles of WeChat: write a news card"),
    })
}

/// Where LINE fetches a file.
fn address(asset: &Asset, files_base: Option<&str>) -> Result<String, &'static str> {
    match asset {
        Asset::Url { url } => Ok(url.clone()),
        Asset::File { sha256, .. } => files_base
            .map(|base| format!("{base}/{sha256}"))
            .ok_or("LINE fetches files from us: set `server.public_url`"),
    }
}

fn news(card: &News, files_base: Option<&str>) -> Result<Rendered, &'static str> {
    let mut words = vec![json!({
        "type": "text", "text": card.title, "weight": "bold", "size": "lg", "wrap": true,
    })];
    if !card.description.is_empty() {
        words.push(json!({ "type": "text", "text": card.description, "wrap": true }));
    }
    let open =
        json!({ "type": "uri", "label": shortened(&card.title, LABEL_MAX), "uri": card.url });
    let mut bubble = json!({
        "type": "bubble",
        "body": { "type": "box", "layout": "vertical", "contents": words, "action": open },
        "footer": { "type": "box", "layout": "vertical", "contents": [
            { "type": "button", "style": "link", "action": open },
        ] },
    });
    if let Some(picture) = &card.picture {
        bubble["hero"] = json!({
            "type": "image", "url": address(picture, files_base)?, "size": "full",
            "aspectMode": "cover", "aspectRatio": "20:13", "action": open,
        });
    }
    Ok(Rendered::whole(json!({
        "type": "flex", "altText": shortened(&prose::news(card), ALT_TEXT_MAX), "contents": bubble,
    })))
}

fn menu(choices: &MsgMenu) -> Rendered {
    let fits = choices.items.len() <= CHOICES_MAX
        && choices
            .items
            .iter()
            .all(|item| item.id.chars().count() <= DATA_MAX);
    if !fits {
        let list = json!({ "type": "text", "text": prose::menu(choices) });
        return Rendered::instead(list, "a list: LINE shows at most 13 quick replies");
    }
    let items = choices.items.iter().map(|item| {
        json!({ "type": "action", "action": {
            "type": "postback", "label": shortened(&item.text, LABEL_MAX), "data": item.id,
            "displayText": item.text,
        } })
    });
    let message = json!({
        "type": "text",
        "text": prose::menu_words(choices),
        "quickReply": { "items": items.collect::<Vec<_>>() },
    });
    Rendered::instead(message, "quick replies, which go with the next message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journey::message::MenuItem;

    const BASE: Option<&str> = Some("https://drip.example/files");

    fn picture() -> Asset {
        Asset::File {
            file: "a.png".into(),
            sha256: "ab12".into(),
        }
    }

    #[test]
    fn a_file_needs_an_address_of_ours() {
        let image = Message::Image(picture());
        let shown = render(&image, BASE).unwrap().message;
        assert_eq!(
            shown["originalContentUrl"],
            "https://drip.example/files/ab12"
        );
        assert!(render(&image, None).unwrap_err().contains("public_url"));
    }

    #[test]
    fn a_card_is_a_flex_bubble() {
        let card = Message::News(News {
            title: "A very long title of a card".into(),
            description: "today".into(),
            url: "https://a.example".into(),
            picture: Some(picture()),
        });
        let rendered = render(&card, BASE).unwrap();
        assert_eq!(rendered.fallback, None);
        let bubble = &rendered.message["contents"];
        assert_eq!(bubble["hero"]["url"], "https://drip.example/files/ab12");
        let action = &bubble["footer"]["contents"][0]["action"];
        assert_eq!(action["uri"], "https://a.example");
        assert_eq!(action["label"].as_str().unwrap().chars().count(), LABEL_MAX);
    }

    #[test]
    fn a_menu_is_quick_replies_and_a_long_one_a_list() {
        let menu = |count: usize| {
            let items = (0..count).map(|at| MenuItem {
                id: format!("i{at}"),
                text: format!("choice {at}"),
            });
            Message::MsgMenu(MsgMenu {
                head: "Which?".into(),
                items: items.collect(),
                tail: String::new(),
            })
        };
        let short = render(&menu(13), None).unwrap().message;
        assert_eq!(short["quickReply"]["items"][12]["action"]["data"], "i12");
        let long = render(&menu(14), None).unwrap();
        assert!(long.message.get("quickReply").is_none());
        assert!(
            long.message["text"]
                .as_str()
                .unwrap()
                .contains("- choice 13")
        );
        assert!(render(&Message::Article("1".into()), BASE).is_err());
    }
}
