//! The platforms, and how they differ by their own documents.

use std::time::Duration;

use dripwheel::sandbox::{PlatformAct, Played};

use super::stage::APP_ID;
use crate::pair::{AES_KEY, APP_SECRET, TOKEN};

/// The platform that a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Wechat,
    Telegram,
    Line,
    Webhook,
    WecomKf,
}

const BOT_TOKEN: &str = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw";
pub const SECRET_TOKEN: &str = "a-secret-token-of-ours";
const LINE_SECRET: &str = "8c570fa6dd201bb328f1c1eac23a96d8";
const LINE_TOKEN: &str = "channel-access-token-0123456789";
pub const CORP_ID: &str = "ww0123456789abcdef";
const OPEN_KFID: &str = "wkAJ2GCAAASSm4_FhToWMFea0xAFfd3Q";
const SIGNING_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

impl Kind {
    /// Whether the platform knows a second call about one message, and does nothing.
    pub fn has_keys(self) -> bool {
        matches!(self, Self::Line | Self::Webhook | Self::WecomKf)
    }

    /// Whether the platform refuses a message for somebody who blocks the account; the others take it.
    pub fn tells_of_blocks(self) -> bool {
        !matches!(self, Self::Line | Self::WecomKf)
    }

    /// What somebody does who is to be sent messages: on WeCom only what they write allows any.
    pub(super) fn joining(self) -> Vec<PlatformAct> {
        match self {
            Self::WecomKf => vec![PlatformAct::Follow, PlatformAct::Write("hi".into())],
            _ => vec![PlatformAct::Follow],
        }
    }

    /// How long after `START` a message may be sent again that was refused there for the rate.
    pub fn rate_pause(self) -> Duration {
        match self {
            // What the platform asks for.
            Self::Telegram | Self::Webhook => Duration::from_secs(3),
            // It does not say; limits are counted by the minute, and START is 20 s into one.
            Self::Wechat | Self::Line | Self::WecomKf => Duration::from_secs(40),
        }
    }

    /// A refusal for good, as the platform codes it.
    pub fn refusal(self) -> i32 {
        match self {
            Self::Wechat | Self::WecomKf => 45002,
            Self::Telegram | Self::Line => 400,
            Self::Webhook => 422,
        }
    }

    pub(super) fn played(self) -> Option<Played> {
        Some(match self {
            Self::Wechat => return None,
            Self::Telegram => Played::Telegram {
                bot_token: BOT_TOKEN.into(),
                secret_token: SECRET_TOKEN.into(),
            },
            Self::Line => Played::Line {
                channel_secret: LINE_SECRET.into(),
                channel_access_token: LINE_TOKEN.into(),
            },
            Self::Webhook => Played::Webhook {
                secret: SIGNING_SECRET.into(),
            },
            Self::WecomKf => Played::WecomKf {
                corp_id: CORP_ID.into(),
                corp_secret: APP_SECRET.into(),
                open_kfid: OPEN_KFID.into(),
                token: TOKEN.into(),
                encoding_aes_key: AES_KEY.into(),
            },
        })
    }

    /// The account's part of the configuration.
    pub(super) fn account(self, platform: &str) -> String {
        match self {
            Self::Wechat => format!(
                "{{ key: main, app_id: {APP_ID}, app_secret: {APP_SECRET}, token: {TOKEN},
                  encoding_aes_key: {AES_KEY}, api_base: '{platform}', passive_reply: false }}"
            ),
            Self::Telegram => format!(
                "{{ key: main, platform: telegram, bot_token: '{BOT_TOKEN}',
                  secret_token: {SECRET_TOKEN}, api_base: '{platform}' }}"
            ),
            Self::Line => format!(
                "{{ key: main, platform: line, channel_id: '1234567890',
                  channel_secret: {LINE_SECRET}, channel_access_token: {LINE_TOKEN},
                  api_base: '{platform}' }}"
            ),
            Self::WecomKf => format!(
                "{{ key: main, platform: wecom-kf, corp_id: {CORP_ID}, corp_secret: {APP_SECRET},
                  open_kfid: {OPEN_KFID}, token: {TOKEN}, encoding_aes_key: {AES_KEY},
                  api_base: '{platform}' }}"
            ),
            Self::Webhook => format!(
                "{{ key: main, platform: webhook, url: '{platform}/in', secret: {SIGNING_SECRET} }}"
            ),
        }
    }
}
