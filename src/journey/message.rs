//! What a step says: the content of one message, before and after rendering.
//!
//! The same type serves both: templates sit in its text fields until `template` fills them in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Longest text that WeChat takes, in bytes of UTF-8; beyond it answers 45002.
pub const TEXT_MAX: usize = 2048;

/// One message, as the platform's message kinds allow. In YAML the kind is the key:
/// `{ text: "…" }`, `{ image: assets/guide.png }`, `{ news: { title: … } }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Message {
    /// Plain text; links as `<a href="…">` are allowed by WeChat. At most 2048 bytes of UTF-8.
    Text(String),
    Image(Asset),
    Voice(Asset),
    Video(Video),
    /// A card with a picture that opens a page.
    News(News),
    /// Text with choices that the follower can tap.
    MsgMenu(MsgMenu),
    MiniProgramPage(MiniProgramPage),
    /// A published article of the account, by its `article_id`.
    Article(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Video {
    pub file: Asset,
    /// Cover picture, JPG of at most 64 KB.
    pub thumb: Asset,
    pub title: String,
    pub description: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    pub title: String,
    pub description: String,
    pub url: String,
    pub picture: Option<Asset>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MsgMenu {
    pub head: String,
    pub items: Vec<MenuItem>,
    pub tail: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MenuItem {
    /// Comes back to us with the follower's tap.
    pub id: String,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MiniProgramPage {
    pub title: String,
    pub app_id: String,
    pub path: String,
    pub thumb: Asset,
}

/// A message on a template that the platform approved: a subscription notice or a template message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// The template's id, as the platform's console shows it.
    pub template: String,
    /// Page that a tap opens.
    pub url: Option<String>,
    /// Mini program that a tap opens instead, where the follower's client can.
    pub mini_program: Option<MiniProgram>,
    /// The template's fields by name, such as `thing1`.
    pub data: BTreeMap<String, String>,
}

/// A page of a mini program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MiniProgram {
    pub app_id: String,
    pub path: String,
}

/// A file that belongs to a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Asset {
    /// A file of the sequences directory, held in the store under the SHA-256 of its bytes.
    File {
        /// Path as written in the YAML, relative to the sequence's file.
        file: String,
        /// Lower-case hex; empty until the file has been read.
        sha256: String,
    },
    /// Fetched when it is first needed.
    Url { url: String },
}

impl Message {
    /// The YAML key of this kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Image(_) => "image",
            Self::Voice(_) => "voice",
            Self::Video(_) => "video",
            Self::News(_) => "news",
            Self::MsgMenu(_) => "msgmenu",
            Self::MiniProgramPage(_) => "miniprogrampage",
            Self::Article(_) => "article",
        }
    }

    /// Every asset of the message.
    pub fn assets(&self) -> Vec<&Asset> {
        match self {
            Self::Image(asset) | Self::Voice(asset) => vec![asset],
            Self::Video(video) => vec![&video.file, &video.thumb],
            Self::News(news) => news.picture.iter().collect(),
            Self::MiniProgramPage(page) => vec![&page.thumb],
            Self::Text(_) | Self::MsgMenu(_) | Self::Article(_) => Vec::new(),
        }
    }
}

/// What a step says, in each language it was written in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Say {
    /// For every language that has no message of its own.
    pub default: Message,
    /// By the platform's language tag, such as `zh_CN` or `en`.
    pub by_language: BTreeMap<String, Message>,
}

impl Say {
    /// The message for a follower who reads `language`: exact tag, then its first part
    /// (`en` for `en_US`), then the default.
    pub fn to(&self, language: &str) -> &Message {
        let variant = self.variant(language);
        variant.map_or(&self.default, |tag| &self.by_language[tag])
    }

    /// The tag of that message; `None` for the default.
    pub fn variant(&self, language: &str) -> Option<&str> {
        let short = language.split(['_', '-']).next().unwrap_or(language);
        let found = self.by_language.get_key_value(language);
        let found = found.or_else(|| self.by_language.get_key_value(short));
        found.map(|(tag, _)| tag.as_str())
    }
}
