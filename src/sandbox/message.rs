//! A custom/send body: read, checked as strictly as the platform checks, and made ready to show.
//!
//! Shapes and refusals follow the platform's page on customer-service messages. Whether the
//! follower may be written to is not asked here (`followers`), nor is anything recorded (`send`).

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::errcode::Refusal;
use super::event::Action;
use super::media::{MediaKind, Shelf};
use crate::clock::Timestamp;

/// What a phone shows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Shown {
    Text {
        content: String,
    },
    Image {
        media_id: String,
    },
    Voice {
        media_id: String,
    },
    Video {
        media_id: String,
        thumb_media_id: String,
        title: String,
        description: String,
    },
    Music {
        title: String,
        description: String,
        url: String,
    },
    News {
        title: String,
        description: String,
        url: String,
        picurl: String,
    },
    Article {
        article_id: String,
    },
    Menu {
        head: String,
        choices: Vec<Choice>,
        tail: String,
    },
    Card {
        card_id: String,
    },
    MiniProgram {
        title: String,
        appid: String,
        pagepath: String,
        thumb_media_id: String,
    },
    /// A template with its values: a template message or a subscription notice.
    Template {
        template_id: String,
        title: String,
        /// Names and values.
        rows: Vec<(String, String)>,
        url: String,
    },
    /// What the follower did other than writing.
    Did {
        action: Action,
    },
    /// The platform's complaint that the account gave no valid answer.
    Unavailable,
}

/// One choice of a msgmenu.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Choice {
    pub id: String,
    pub content: String,
}

/// A body that is JSON of the right shape.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Call {
    pub(super) touser: String,
    pub(super) msgtype: String,
    text: Option<Text>,
    image: Option<File>,
    voice: Option<File>,
    video: Option<Video>,
    music: Option<Music>,
    news: Option<News>,
    mpnews: Option<File>,
    mpnewsarticle: Option<Article>,
    msgmenu: Option<Menu>,
    wxcard: Option<Card>,
    miniprogrampage: Option<MiniProgram>,
}

#[derive(Debug, Deserialize)]
struct Text {
    #[serde(default)]
    content: String,
}

#[derive(Debug, Deserialize)]
struct File {
    #[serde(default)]
    media_id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Video {
    media_id: String,
    thumb_media_id: String,
    title: String,
    description: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Music {
    title: String,
    description: String,
    thumb_media_id: String,
    musicurl: String,
}

#[derive(Debug, Deserialize)]
struct News {
    /// Any JSON, since a wrong type has a code of its own.
    #[serde(default)]
    articles: Value,
}

#[derive(Debug, Deserialize)]
struct Article {
    #[serde(default)]
    article_id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Menu {
    head_content: String,
    list: Vec<MenuChoice>,
    tail_content: String,
}

#[derive(Debug, Deserialize)]
struct MenuChoice {
    /// The platform takes numbers and strings.
    #[serde(default)]
    id: Value,
    #[serde(default)]
    content: String,
}

#[derive(Debug, Deserialize)]
struct Card {
    #[serde(default)]
    card_id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MiniProgram {
    title: String,
    appid: String,
    pagepath: String,
    thumb_media_id: String,
}

/// Reads a call's body: 44002 when empty, 47001 when it is not the JSON asked for, 40033 when it escapes
/// Chinese characters instead of writing them.
pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    if body.is_empty() {
        return Err(Refusal::EMPTY_POST);
    }
    // serde would also read a struct from an array.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Refusal::JSON);
    }
    let call = serde_json::from_slice(body).map_err(|_| Refusal::JSON)?;
    if has_escaped_characters(body) {
        return Err(Refusal::CHARSET);
    }
    Ok(call)
}

/// Whether a `\uXXXX` stands for a character from CJK upwards (surrogates included).
fn has_escaped_characters(body: &[u8]) -> bool {
    let mut rest = body;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        // The body is valid JSON, so an escape has its second half.
        let escape = &rest[at + 1..];
        if escape.first() == Some(&b'u') {
            let digits = escape
                .get(1..5)
                .and_then(|digits| std::str::from_utf8(digits).ok());
            let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
            if code.is_some_and(|code| code >= 0x2e80) {
                return true;
            }
        }
        rest = escape.get(1..).unwrap_or_default();
    }
    false
}

/// The account that sends, what it uploaded, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) account: usize,
    pub(super) shelf: &'a Shelf,
    pub(super) now: Timestamp,
    /// By the account's rules.
    pub(super) text_bytes_max: usize,
}

impl Context<'_> {
    fn media(&self, id: String, kinds: &[MediaKind]) -> Result<String, Refusal> {
        self.shelf.check(self.account, &id, kinds, self.now)?;
        Ok(id)
    }

    fn thumb(&self, id: String) -> Result<String, Refusal> {
        self.media(id, &[MediaKind::Thumb, MediaKind::Image])
    }
}

impl Call {
    /// What the phone will show, or the refusal of the content.
    pub(super) fn into_shown(self, context: Context<'_>) -> Result<Shown, Refusal> {
        match self.msgtype.as_str() {
            "text" => text(self.text, context.text_bytes_max),
            "image" => {
                let file = self.image.ok_or(Refusal::MEDIA_ID)?;
                let media_id = context.media(file.media_id, &[MediaKind::Image])?;
                Ok(Shown::Image { media_id })
            }
            "voice" => {
                let file = self.voice.ok_or(Refusal::MEDIA_ID)?;
                let media_id = context.media(file.media_id, &[MediaKind::Voice])?;
                Ok(Shown::Voice { media_id })
            }
            "video" => {
                let video = self.video.ok_or(Refusal::MEDIA_ID)?;
                Ok(Shown::Video {
                    media_id: context.media(video.media_id, &[MediaKind::Video])?,
                    thumb_media_id: context.thumb(video.thumb_media_id)?,
                    title: video.title,
                    description: video.description,
                })
            }
            "music" => {
                let music = self.music.ok_or(Refusal::EMPTY_CONTENT)?;
                context.thumb(music.thumb_media_id)?;
                Ok(Shown::Music {
                    title: music.title,
                    description: music.description,
                    url: music.musicurl,
                })
            }
            "news" => news(&self.news.ok_or(Refusal::EMPTY_NEWS)?.articles),
            // No article is ever uploaded here, so no media id can name one.
            "mpnews" => self
                .mpnews
                .map_or(Err(Refusal::EMPTY_NEWS), |_| Err(Refusal::MEDIA_ID)),
            "mpnewsarticle" => {
                let article_id = self.mpnewsarticle.map(|article| article.article_id);
                let article_id = article_id.filter(|id| !id.is_empty());
                Ok(Shown::Article {
                    article_id: article_id.ok_or(Refusal::EMPTY_NEWS)?,
                })
            }
            "msgmenu" => menu(self.msgmenu.ok_or(Refusal::EMPTY_CONTENT)?),
            "wxcard" => {
                let card_id = self
                    .wxcard
                    .map(|card| card.card_id)
                    .filter(|id| !id.is_empty());
                Ok(Shown::Card {
                    card_id: card_id.ok_or(Refusal::EMPTY_CONTENT)?,
                })
            }
            "miniprogrampage" => {
                let page = self.miniprogrampage.ok_or(Refusal::EMPTY_CONTENT)?;
                if page.appid.is_empty() {
                    return Err(Refusal::APP_ID);
                }
                Ok(Shown::MiniProgram {
                    thumb_media_id: context.thumb(page.thumb_media_id)?,
                    title: page.title,
                    appid: page.appid,
                    pagepath: page.pagepath,
                })
            }
            _ => Err(Refusal::MESSAGE_TYPE),
        }
    }
}

fn text(text: Option<Text>, bytes_max: usize) -> Result<Shown, Refusal> {
    let content = text.map(|text| text.content).unwrap_or_default();
    if content.is_empty() {
        return Err(Refusal::EMPTY_CONTENT);
    }
    if content.len() > bytes_max {
        return Err(Refusal::CONTENT_SIZE);
    }
    Ok(Shown::Text { content })
}

/// One article: since 2018-10-12 more are refused with 45008.
fn news(articles: &Value) -> Result<Shown, Refusal> {
    let articles = articles.as_array().ok_or(Refusal::ARTICLES_TYPE)?;
    let article = match articles.as_slice() {
        [] => return Err(Refusal::EMPTY_NEWS),
        [article] => article,
        _ => return Err(Refusal::ARTICLE_COUNT),
    };
    let field = |name: &str| match article.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(Refusal::JSON),
    };
    if !article.is_object() {
        return Err(Refusal::JSON);
    }
    Ok(Shown::News {
        title: field("title")?,
        description: field("description")?,
        url: field("url")?,
        picurl: field("picurl")?,
    })
}

fn menu(menu: Menu) -> Result<Shown, Refusal> {
    let choice = |choice: MenuChoice| {
        let id = match choice.id {
            Value::String(id) => id,
            Value::Number(id) => id.to_string(),
            _ => String::new(),
        };
        if id.is_empty() || choice.content.is_empty() {
            return Err(Refusal::EMPTY_CONTENT);
        }
        Ok(Choice {
            id,
            content: choice.content,
        })
    };
    let choices = menu
        .list
        .into_iter()
        .map(choice)
        .collect::<Result<Vec<_>, _>>()?;
    if choices.is_empty() {
        return Err(Refusal::EMPTY_CONTENT);
    }
    Ok(Shown::Menu {
        head: menu.head_content,
        choices,
        tail: menu.tail_content,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str) -> Result<Shown, Refusal> {
        let shelf = Shelf::new(0);
        let context = Context {
            account: 0,
            shelf: &shelf,
            now: Timestamp(0),
            text_bytes_max: 2048,
        };
        json::<Call>(body.as_bytes())?.into_shown(context)
    }

    #[test]
    fn each_fault_of_a_body_has_its_code() {
        let long = format!(
            r#"{{"msgtype":"text","text":{{"content":"{}"}}}}"#,
            "长".repeat(683)
        );
        let cases: [(&str, i32); 13] = [
            ("", 44002),
            ("{", 47001),
            ("[]", 47001),
            (r#"{"msgtype":1}"#, 47001),
            (r#"{"msgtype":"poem"}"#, 40008),
            (r#"{"msgtype":"text"}"#, 44004),
            (r#"{"msgtype":"text","text":{"content":"\u4f60"}}"#, 40033),
            (&long, 45002),
            (r#"{"msgtype":"image","image":{"media_id":"x"}}"#, 40007),
            (
                r#"{"msgtype":"news","news":{"articles":{"title":"t"}}}"#,
                45162,
            ),
            (r#"{"msgtype":"news","news":{"articles":[]}}"#, 44003),
            (r#"{"msgtype":"news","news":{"articles":[{},{}]}}"#, 45008),
            (
                r#"{"msgtype":"msgmenu","msgmenu":{"list":[{"id":"1"}]}}"#,
                44004,
            ),
        ];
        for (body, code) in cases {
            assert_eq!(check(body), Err(Refusal(code)), "{body}");
        }
    }

    #[test]
    fn escapes_of_plain_characters_are_no_fault() {
        let shown = check(r#"{"msgtype":"text","text":{"content":"a\u0026b\\u4f60\"\n"}}"#);
        let content = "a&b\\u4f60\"\n".to_owned();
        assert_eq!(shown, Ok(Shown::Text { content }));
    }

    #[test]
    fn a_text_of_2048_bytes_is_taken() {
        let content = format!("{}ab", "长".repeat(682));
        let body = serde_json::json!({"msgtype": "text", "text": {"content": content}});
        assert_eq!(check(&body.to_string()), Ok(Shown::Text { content }));
    }

    #[test]
    fn numbers_serve_as_ids_of_choices() {
        let body = r#"{"msgtype":"msgmenu","msgmenu":{"head_content":"h","list":[{"id":101,"content":"好"}]}}"#;
        let Ok(Shown::Menu { choices, .. }) = check(body) else {
            panic!("not a menu");
        };
        assert_eq!(choices[0].id, "101");
    }
}
