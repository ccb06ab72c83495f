//! A message as a method of the Bot API and its fields.
//!
//! | kind | method | fallback |
//! |---|---|---|
//! | text | `sendMessage`, HTML where it has links | |
//! | image | `sendPhoto`; a GIF by `sendDocument`, for a photo would stand still | |
//! | voice | `sendAudio` for MP3; else `sendDocument` | a file, for Telegram plays no AMR |
//! | video | `sendVideo` with title and description as its caption | |
//! | news | `sendPhoto`, or `sendMessage` without a picture; the page behind a button | a picture with a caption |
//! | msgmenu | `sendMessage` with a keyboard of buttons | |
//! | miniprogrampage | `sendMessage` with its title | its title |
//! | article | none | |
//!
//! Pure. Lengths are bound by the sequence's check: a text of 2048 bytes fits 4096 characters, a title
//! and a description of 64 and 512 fit a caption of 1024.

use serde_json::{Value, json};

use crate::journey::message::{Asset, Message, MsgMenu, News};
use crate::sender::prose::{self, Piece, escaped, pieces, shortened};

/// Longest `callback_data`, in bytes.
const CALLBACK_DATA_MAX: usize = 64;

/// Characters of a caption that are used; the platform takes 1024 after its markup is read.
const CAPTION_MAX: usize = 1000;

/// A call, but for whom it is for.
#[derive(Clone, Debug)]
pub struct Rendered<'m> {
    pub method: &'static str,
    pub fields: Value,
    /// The field and the file that goes in it, where it is no URL.
    pub file: Option<(&'static str, &'m Asset)>,
    /// What is shown instead, where Telegram lacks the kind.
    pub fallback: Option<&'static str>,
}

impl<'m> Rendered<'m> {
    fn new(method: &'static str, fields: Value) -> Self {
        Self {
            method,
            fields,
            file: None,
            fallback: None,
        }
    }

    fn with(mut self, field: &'static str, asset: &'m Asset) -> Self {
        match asset {
            Asset::Url { url } => self.fields[field] = json!(url),
            Asset::File { .. } => self.file = Some((field, asset)),
        }
        self
    }

    fn instead(self, fallback: &'static str) -> Self {
        Self {
            fallback: Some(fallback),
            ..self
        }
    }
}

/// The call for a message.
///
/// # Errors
/// Why Telegram cannot show anything of it.
pub fn render(message: &Message) -> Result<Rendered<'_>, &'static str> {
    Ok(match message {
        Message::Text(words) => Rendered::new("sendMessage", text(words)),
        Message::Image(asset) => match ending(asset).as_str() {
            "gif" => Rendered::new("sendDocument", json!({})).with("document", asset),
            _ => Rendered::new("sendPhoto", json!({})).with("photo", asset),
        },
        Message::Voice(asset) => match ending(asset).as_str() {
            "mp3" => Rendered::new("sendAudio", json!({})).with("audio", asset),
            _ => Rendered::new("sendDocument", json!({}))
                .with("document", asset)
                .instead("a file: Telegram plays no AMR"),
        },
        Message::Video(video) => {
            let caption = shortened(&prose::video(video), CAPTION_MAX);
            Rendered::new("sendVideo", json!({ "caption": caption })).with("video", &video.file)
        }
        Message::News(card) => news(card),
        Message::MsgMenu(choices) => menu(choices),
        Message::MiniProgramPage(page) => {
            Rendered::new("sendMessage", json!({ "text": page.title }))
                .instead("its title: Telegram opens no mini programs of WeChat")
        }
        Message::Article(_) => return Err("Telegram has no articles of WeChat: write a news card"),
    })
}

fn text(words: &str) -> Value {
    let linked = pieces(words)
        .iter()
        .any(|piece| matches!(piece, Piece::Link { .. }));
    match linked {
        true => json!({ "text": prose::html(words), "parse_mode": "HTML" }),
        false => json!({ "text": words }),
    }
}

fn news(card: &News) -> Rendered<'_> {
    let title = format!("<b>{}</b>", escaped(&card.title));
    let words = match card.description.as_str() {
        "" => title,
        description => format!(
            "{title}\n{}",
            escaped(&shortened(description, CAPTION_MAX / 2))
        ),
    };
    let button = json!({ "inline_keyboard": [[
        { "text": shortened(&card.title, 64), "url": card.url },
    ]] });
    match &card.picture {
        Some(picture) => {
            let fields = json!({ "caption": words, "parse_mode": "HTML", "reply_markup": button });
            Rendered::new("sendPhoto", fields)
                .with("photo", picture)
                .instead("a picture with a caption, and the page behind a button")
        }
        None => {
            let fields = json!({ "text": words, "parse_mode": "HTML", "reply_markup": button });
            Rendered::new("sendMessage", fields).instead("a text, and the page behind a button")
        }
    }
}

fn menu(choices: &MsgMenu) -> Rendered<'_> {
    let fits = choices
        .items
        .iter()
        .all(|item| item.id.len() <= CALLBACK_DATA_MAX);
    if !fits {
        return Rendered::new("sendMessage", json!({ "text": prose::menu(choices) }))
            .instead("a list: an id of a choice is longer than a button's 64 bytes");
    }
    let rows = choices
        .items
        .iter()
        .map(|item| json!([{ "text": item.text, "callback_data": item.id }]));
    let fields = json!({
        "text": prose::menu_words(choices),
        "reply_markup": { "inline_keyboard": rows.collect::<Vec<_>>() },
    });
    Rendered::new("sendMessage", fields).instead("a keyboard of buttons")
}

/// The ending of a file's name, in small letters.
fn ending(asset: &Asset) -> String {
    let name = match asset {
        Asset::File { file, .. } => file.as_str(),
        Asset::Url { url } => url.split(['?', '#']).next().unwrap_or(""),
    };
    let ending = name
        .rsplit('/')
        .next()
        .and_then(|name| name.rsplit_once('.'));
    ending.map_or_else(String::new, |(_, ending)| ending.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journey::message::MenuItem;

    fn file(name: &str) -> Asset {
        Asset::File {
            file: name.into(),
            sha256: "00".into(),
        }
    }

    fn url(url: &str) -> Asset {
        Asset::Url { url: url.into() }
    }

    #[test]
    fn a_text_has_markup_only_where_it_has_links() {
        let plain = Message::Text("1 < 2 & so on".into());
        assert_eq!(
            render(&plain).unwrap().fields,
            json!({ "text": "1 < 2 & so on" })
        );
        let linked = Message::Text("<a href=\"https://a.example\">x</a> & y".into());
        let fields = render(&linked).unwrap().fields;
        assert_eq!(fields["parse_mode"], "HTML");
        assert_eq!(
            fields["text"],
            "<a href=\"https://a.example\">x</a> &amp; y"
        );
    }

    #[test]
    fn a_file_goes_by_its_url_or_as_a_file_by_the_method_of_its_kind() {
        let by = |message: Message| {
            let rendered = render(&message).unwrap();
            let field = rendered.file.map(|(field, _)| field);
            (rendered.method, field, rendered.fallback.is_some())
        };
        assert_eq!(
            by(Message::Image(file("a.png"))),
            ("sendPhoto", Some("photo"), false)
        );
        assert_eq!(
            by(Message::Image(file("a.GIF"))),
            ("sendDocument", Some("document"), false)
        );
        assert_eq!(
            by(Message::Voice(file("a.amr"))),
            ("sendDocument", Some("document"), true)
        );
        let image = Message::Image(url("https://a.example/b.jpg?x=1"));
        let rendered = render(&image).unwrap();
        assert_eq!(
            (rendered.method, rendered.file.is_none()),
            ("sendPhoto", true)
        );
        assert_eq!(rendered.fields["photo"], "https://a.example/b.jpg?x=1");
    }

    #[test]
    fn a_card_is_a_photo_with_a_caption_and_a_button() {
        let card = Message::News(News {
            title: "A & B".into(),
            description: "until <noon>".into(),
            url: "https://a.example".into(),
            picture: Some(url("https://a.example/p.png")),
        });
        let rendered = render(&card).unwrap();
        assert_eq!(rendered.method, "sendPhoto");
        assert_eq!(
            rendered.fields["caption"],
            "<b>A &amp; B</b>\nuntil &lt;noon&gt;"
        );
        let button = &rendered.fields["reply_markup"]["inline_keyboard"][0][0];
        assert_eq!(button["url"], "https://a.example");
        assert!(rendered.fallback.is_some());
    }

    #[test]
    fn a_menu_is_a_keyboard_unless_an_id_is_too_long() {
        let menu = |id: &str| {
            Message::MsgMenu(MsgMenu {
                head: "Which?".into(),
                items: vec![MenuItem {
                    id: id.into(),
                    text: "One".into(),
                }],
                tail: String::new(),
            })
        };
        let fits = menu("one");
        let rendered = render(&fits).unwrap();
        let button = &rendered.fields["reply_markup"]["inline_keyboard"][0][0];
        assert_eq!(button["callback_data"], "one");
        let long = menu(&"字".repeat(22));
        let rendered = render(&long).unwrap();
        assert_eq!(rendered.fields, json!({ "text": "Which?\n- One" }));
        assert!(render(&Message::Article("1".into())).is_err());
    }
}
