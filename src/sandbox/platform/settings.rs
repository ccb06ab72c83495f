//! What a played platform is told when it starts, and what it tells of itself.

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;

use crate::clock::Timestamp;

/// Which platform is played, and what account and platform know each other by.
#[derive(Clone, Debug)]
pub enum Played {
    Line {
        channel_secret: SecretString,
        channel_access_token: SecretString,
    },
    Telegram {
        bot_token: SecretString,
        secret_token: SecretString,
    },
    /// The other end of a webhook: `whsec_` and base64.
    Webhook { secret: SecretString },
    /// One service account.
    WecomKf {
        corp_id: String,
        corp_secret: SecretString,
        open_kfid: String,
        token: SecretString,
        encoding_aes_key: SecretString,
    },
}

/// One account's platform.
#[derive(Clone, Debug)]
pub struct PlatformSettings {
    pub listen: SocketAddr,
    pub played: Played,
    /// Where the account takes callbacks.
    pub callback_url: String,
    /// Messages that are taken in one second; no limit when absent.
    pub per_second: Option<u32>,
    /// What a refusal for the rate asks to wait, in seconds.
    pub retry_after: u32,
    /// Tries to tell the account's server of one event, and the real pause between two.
    pub callback_attempts: u32,
    pub callback_pause: Duration,
}

impl PlatformSettings {
    /// A platform on any free port, without a limit.
    pub fn new(played: Played, callback_url: String) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            played,
            callback_url,
            per_second: None,
            retry_after: 3,
            callback_attempts: 3,
            callback_pause: Duration::from_millis(50),
        }
    }
}

/// What a person does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlatformAct {
    Follow,
    /// Blocks the account, of which it is told.
    Unfollow,
    Write(String),
    /// Taps a choice of a menu, by its id.
    Tap(String),
}

/// A message on somebody's phone.
#[derive(Clone, Debug)]
pub struct Received {
    pub at: Timestamp,
    /// As the platform was given it.
    pub message: Value,
}

/// What became of one event that the account was to be told.
#[derive(Clone, Debug)]
pub struct Told {
    /// Answered 2xx.
    pub accepted: bool,
    pub status: Option<u16>,
    pub answer: String,
}

/// One call that wanted to bring a message, whatever came of it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub at: Timestamp,
    /// The platform's answer, before any fault.
    pub status: u16,
    /// The key by which the platform would know the same call again, where it has one.
    pub key: Option<String>,
    pub body: Value,
}
