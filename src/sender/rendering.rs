//! How each platform shows a message: the unified message, rendered.
//!
//! A message is written once, in WeChat's kinds; each platform's client turns it into what the platform
//! has, and says where that is something else. Here all of them can be asked without an account, for
//! `dripwheel preview`. Pure: files stand under their names, since ids come with an upload.

use serde_json::{Value, json};

use super::{line, telegram, webhook, wechat, wecom_kf};
use crate::journey::message::{Asset, Message};

/// A platform, as somebody who reads a message sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    Wechat,
    Line,
    Telegram,
    WecomKf,
    Webhook,
}

/// A message on a screen.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The call or the kind of message that brings it.
    pub call: String,
    /// What goes with it, but for whom it is for.
    pub body: Value,
    /// What is shown instead, where the platform lacks the kind.
    pub fallback: Option<&'static str>,
}

impl Screen {
    pub const ALL: [Self; 5] = [
        Self::Wechat,
        Self::Line,
        Self::Telegram,
        Self::WecomKf,
        Self::Webhook,
    ];

    /// The word that the configuration uses.
    pub fn word(self) -> &'static str {
        match self {
            Self::Wechat => "wechat",
            Self::Line => "line",
            Self::Telegram => "telegram",
            Self::WecomKf => "wecom-kf",
            Self::Webhook => "webhook",
        }
    }

    /// The platform of that name.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.word() == word)
    }

    /// What a message whose words are filled in becomes; `files_base` is where platforms can fetch our
    /// files.
    ///
    /// # Errors
    /// Why nothing of it can be shown.
    pub fn show(self, message: &Message, files_base: Option<&str>) -> Result<Shown, &'static str> {
        Ok(match self {
            Self::Wechat => Shown {
                call: message.kind().to_owned(),
                body: wechat::preview(message),
                fallback: None,
            },
            Self::Line => {
                let shown = line::render(message, files_base)?;
                Shown {
                    call: shown.message["type"].as_str().unwrap_or("").to_owned(),
                    body: shown.message,
                    fallback: shown.fallback,
                }
            }
            Self::Telegram => {
                let shown = telegram::render(message)?;
                let mut body = shown.fields;
                if let Some((field, asset)) = shown.file {
                    body[field] = json!(name(asset));
                }
                Shown {
                    call: shown.method.to_owned(),
                    body,
                    fallback: shown.fallback,
                }
            }
            Self::WecomKf => {
                let shown = wecom_kf::render(message)?;
                let file = shown.file.map(|(asset, _)| name(asset));
                let body = shown.filled(json!({}), file);
                Shown {
                    call: shown.msgtype.to_owned(),
                    body,
                    fallback: shown.fallback,
                }
            }
            Self::Webhook => Shown {
                call: "message.send".to_owned(),
                body: webhook::render(message, files_base),
                fallback: None,
            },
        })
    }
}

/// What stands for a file.
pub(super) fn name(asset: &Asset) -> &str {
    match asset {
        Asset::File { file, .. } => file,
        Asset::Url { url } => url,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journey::message::News;

    #[test]
    fn every_platform_shows_a_text_and_a_card_or_says_why_not() {
        let text = Message::Text("你好".into());
        let card = Message::News(News {
            title: "Pack".into(),
            description: "today".into(),
            url: "https://a.example".into(),
            picture: Some(Asset::File {
                file: "p.png".into(),
                sha256: "ab".into(),
            }),
        });
        for screen in Screen::ALL {
            assert_eq!(Screen::named(screen.word()), Some(screen));
            let shown = screen.show(&text, None).unwrap();
            assert!(shown.body.to_string().contains("你好"), "{screen:?}");
            assert_eq!(shown.fallback, None, "{screen:?}");
            let shown = screen.show(&card, Some("https://d.example/files")).unwrap();
            let body = shown.body.to_string();
            assert!(
                body.contains("Pack") && body.contains("https://a.example"),
                "{body}"
            );
            let picture = body.contains("p.png") || body.contains("https://d.example/files/ab");
            assert!(picture, "{screen:?} {body}");
        }
        assert!(Screen::Line.show(&card, None).is_err());
        let article = Message::Article("1".into());
        assert!(Screen::Wechat.show(&article, None).is_ok());
        assert!(Screen::Telegram.show(&article, None).is_err());
    }
}
