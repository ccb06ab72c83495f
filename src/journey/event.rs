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
    /// Anything else. Kept and counted, never guessed at.
    Other { name: String },
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
            Self::Other { .. } => "other",
        }
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
            Self::Other { name } => name,
        }
    }
}

/// An event as it came in: whose, when, and under which key it is recognized if it comes again.
#[derive(Clone, Debug, PartialEq, Eq)]
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
