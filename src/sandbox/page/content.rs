//! One line of the chat as the page draws it.

use super::labels::Labels;
use super::text::{Piece, is_web, pieces};
use crate::sandbox::World;
use crate::sandbox::event::{Action, PopupAnswer};
use crate::sandbox::message::Shown;

/// What a line of the chat is drawn as.
pub(super) enum Content {
    Text(Vec<Piece>),
    Image(Option<String>),
    Voice(Option<String>),
    Video {
        file: Option<String>,
        poster: Option<String>,
        title: String,
        description: String,
    },
    Card(Card),
    Menu {
        head: Vec<Piece>,
        choices: Vec<(String, String)>,
        tail: Vec<Piece>,
    },
    Notice(String),
}

/// Everything that looks like a card: news, articles, music, mini programs, coupons.
pub(super) struct Card {
    pub(super) label: &'static str,
    pub(super) title: String,
    pub(super) description: String,
    /// Names and values of a template.
    pub(super) rows: Vec<(String, String)>,
    /// Absolute http or https.
    pub(super) url: Option<String>,
    pub(super) picture: Option<String>,
    /// Shown instead of a picture that lies elsewhere.
    pub(super) source: String,
}

impl Content {
    pub(super) fn new(world: &World, shown: &Shown, labels: &'static Labels) -> Self {
        let file = |id: &str| {
            let media = world.shelf.get(id, world.clock.now());
            media.map(|_| format!("/sandbox/media/{id}"))
        };
        let card = |label, title: &str, description: &str, url: &str, picture: Option<String>| {
            let host = url::Url::parse(url)
                .ok()
                .and_then(|url| url.host_str().map(str::to_owned));
            Self::Card(Card {
                label,
                title: title.to_owned(),
                description: description.to_owned(),
                rows: Vec::new(),
                url: is_web(url).then(|| url.to_owned()),
                picture,
                source: host.unwrap_or_default(),
            })
        };
        match shown {
            Shown::Text { content } => Self::Text(pieces(content)),
            Shown::Image { media_id } => Self::Image(file(media_id)),
            Shown::Voice { media_id } => Self::Voice(file(media_id)),
            Shown::Video {
                media_id,
                thumb_media_id,
                title,
                description,
            } => Self::Video {
                file: file(media_id),
                poster: file(thumb_media_id),
                title: title.clone(),
                description: description.clone(),
            },
            Shown::Music {
                title,
                description,
                url,
            } => card("♪", title, description, url, None),
            Shown::News {
                title,
                description,
                url,
                picurl,
            } => {
                // Pictures elsewhere are not fetched: the page loads nothing from outside.
                let own = format!("http://{}", world.addr);
                let picture = picurl
                    .strip_prefix(&own)
                    .and_then(|path| file(path.strip_prefix("/sandbox/media/")?));
                card(labels.read_more, title, description, url, picture)
            }
            Shown::Article { article_id } => card(labels.article, article_id, "", "", None),
            Shown::Card { card_id } => card(labels.card, card_id, "", "", None),
            Shown::MiniProgram {
                title,
                pagepath,
                thumb_media_id,
                ..
            } => card(
                labels.mini_program,
                title,
                pagepath,
                "",
                file(thumb_media_id),
            ),
            Shown::Menu {
                head,
                choices,
                tail,
            } => Self::Menu {
                head: pieces(head),
                choices: choices
                    .iter()
                    .map(|one| (one.id.clone(), one.content.clone()))
                    .collect(),
                tail: pieces(tail),
            },
            Shown::Template {
                template_id,
                title,
                rows,
                url,
            } => Self::Card(Card {
                label: labels.details,
                title: if title.is_empty() { template_id } else { title }.clone(),
                description: String::new(),
                rows: rows.clone(),
                url: is_web(url).then(|| url.clone()),
                picture: None,
                source: String::new(),
            }),
            Shown::Did { action } => Self::Notice(did(action, labels)),
            Shown::Unavailable => Self::Notice(labels.unavailable.to_owned()),
        }
    }
}

fn did(action: &Action, labels: &Labels) -> String {
    match action {
        Action::Follow { scene: None } => labels.did_follow.to_owned(),
        Action::Follow { scene: Some(scene) } => format!("{} {scene}", labels.did_follow_scene),
        Action::Unfollow => labels.did_unfollow.to_owned(),
        Action::Click { key } => format!("{} {key}", labels.did_click),
        Action::Scan { scene } => format!("{} {scene}", labels.did_scan),
        Action::Popup { answers, .. } => {
            let answer = |answer: &PopupAnswer| {
                let verb = if answer.accept {
                    labels.accept
                } else {
                    labels.reject
                };
                format!("{verb} {}", answer.template_id)
            };
            let answers: Vec<String> = answers.iter().map(answer).collect();
            format!("{} {}", labels.did_popup, answers.join(" · "))
        }
        Action::Withdraw { template_ids } => {
            format!("{} {}", labels.did_withdraw, template_ids.join(" · "))
        }
        Action::Text { .. } | Action::Image { .. } | Action::Tap { .. } => String::new(),
    }
}
