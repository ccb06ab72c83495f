//! What the platform told us, in the past tense and free of any platform's spelling.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// One thing that a follower did, or that the platform did to us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// Began to follow; `scene` is the value of the QR code that led here, without any prefix.
    Followed { scene: Option<String> },
    /// Stopped following.
    Unfollowed,
    /// Scanned a QR code of the account while already following.
    Scanned { scene: String },
    /// Clicked a menu item that reports to us; `key` is the operator's name for it.
    Clicked { key: String },
    /// Wrote, spoke or sent something. `text` is empty unless `message_kind` is `text`.
    MessageReceived { message_kind: String, text: String },
    /// Let templates send subscription notices, or took that back: template ids, and whether they
    /// may. Each permission is for one notice.
    ConsentsChanged { templates: Vec<(String, bool)> },
    /// The platform reports on a message that it took earlier.
    Reported(Report),
    /// Anything else. Kept and counted, never guessed at.
    Other { name: String },
}

/// What became of a message after the platform had taken it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The platform's id of the message.
    pub reference: String,
    /// Whether it reached the follower; `None` where the platform only counts.
    pub delivered: Option<bool>,
    /// The template that a subscription notice used up.
    pub template: Option<String>,
    /// The platform's words.
    pub detail: String,
}

impl Event {
    /// The word under which the event is stored, counted and shown.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Followed { .. } => "followed",
            Self::Unfollowed => "unfollowed",
            Self::Scanned { .. } => "scanned",
            Self::Clicked { .. } => "clicked",
            Self::MessageReceived { .. } => "message",
            Self::ConsentsChanged { .. } => "consents",
            Self::Reported(_) => "report",
            Self::Other { .. } => "other",
        }
    }

    /// Whether the person took back what allowed us to know of them: the platform's event
    /// `user_authorization_revoke`, after which their data has to be deleted.
    pub fn withdraws_data(&self) -> bool {
        matches!(self, Self::Other { name } if name == "user_authorization_revoke")
    }

    /// What distinguishes this event from others of its kind: scene, key, text or name.
    pub fn detail(&self) -> &str {
        match self {
            Self::Followed { scene } => scene.as_deref().unwrap_or(""),
            Self::Unfollowed => "",
            Self::Scanned { scene } => scene,
            Self::Clicked { key } => key,
            Self::MessageReceived { text, message_kind } if text.is_empty() => message_kind,
            Self::MessageReceived { text, .. } => text,
            Self::ConsentsChanged { templates } => {
                templates.first().map_or("", |(template, _)| template)
            }
            Self::Reported(report) => &report.reference,
            Self::Other { name } => name,
        }
    }
}

/// An event as it came in: whose, when, and under which key it is recognized if it comes again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// The follower's id on the platform. Empty for events that are about no follower.
    pub openid: String,
    /// When it happened, by the platform's clock.
    pub created_at: Timestamp,
    /// De-duplication key within account, follower and `created_at`.
    pub digest: i64,
    pub event: Event,
    /// Language of the follower, where the platform says it.
    pub language: Option<String>,
}
